//! A server that drains, on real sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use corewire::{
    Context, Drain, DrainReport, Handler, Loop, Message, Server, ServerBuilder, Spread,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::client::{Client, frame, request};
use crate::running::Running;

const CLOSE: u8 = 8;
const READY: &str = "GET /ready HTTP/1.1\r\nHost: a\r\n\r\n";

/// Echoes, and keeps what it is told of a drain: the reports, and how many loops have begun.
struct Reporter(Arc<Mutex<Vec<DrainReport>>>, Arc<AtomicUsize>);

impl Handler for Reporter {
    type Data = ();

    fn on_message(&mut self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
        let _ = ctx.send(message);
    }

    fn on_draining(&mut self, _: &mut Loop<'_, ()>, _: &Drain) {
        self.1.fetch_add(1, Ordering::Relaxed);
    }

    fn on_drained(&mut self, _: &mut Loop<'_, ()>, report: &DrainReport) {
        self.0.lock().unwrap().push(*report);
    }
}

fn local() -> ServerBuilder {
    Server::builder().listen(([127, 0, 0, 1], 0))
}

/// Both ends of all connections are descriptors of this process.
fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

/// The head of the answer that comes next. Reading exactly goes on where a signal interrupts the wait.
fn read_head(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    String::from_utf8(head).unwrap()
}

/// An open WebSocket that is read without waiting.
fn open(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request("/", "").as_bytes()).unwrap();
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 101 "));
    stream.set_nonblocking(true).unwrap();
    stream
}

/// The head of the answer to a request on a connection of its own.
fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    read_head(&mut stream)
}

#[test]
fn five_hundred_connections_are_told_over_the_window_and_the_reports_add_up() {
    const CONNECTIONS: usize = 500;
    const WINDOW: Duration = Duration::from_secs(3);
    raise_descriptor_limit();
    let (reports, draining) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let (noted, begun) = (reports.clone(), draining.clone());
    let server = local().threads(2).readiness("/ready");
    let server = server.build(move |_| Reporter(noted.clone(), begun.clone())).unwrap();
    let (address, handle) = (server.local_addresses()[0], server.handle());
    let running = thread::spawn(move || server.run().unwrap());
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| Some(open(address))).collect();
    assert!(ask(address, READY).starts_with("HTTP/1.1 200 "));
    let began = Instant::now();
    let drain = Drain { window: WINDOW, grace: Duration::from_secs(1), ..Drain::default() };
    handle.drain(&drain).unwrap();
    // One in ten never answers.
    let (mut told, mut silent) = (Vec::new(), Vec::new());
    // The loops are told one after the other.
    while draining.load(Ordering::Relaxed) < 2 {
        assert!(began.elapsed() < Duration::from_secs(30), "nobody drains");
        thread::sleep(Duration::from_millis(1));
    }
    for _ in 0..5 {
        for request in [READY, &request("/", "")] {
            let answer = ask(address, request);
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            assert!(answer.contains("\r\nRetry-After: 5\r\n"), "{answer}");
        }
    }
    while clients.iter().any(Option::is_some) {
        assert!(began.elapsed() < Duration::from_secs(30), "{} are left", told.len());
        for (at, place) in clients.iter_mut().enumerate() {
            let Some(client) = place else { continue };
            let mut bytes = [0; 64];
            match client.read(&mut bytes) {
                Ok(count) => {
                    assert_eq!(bytes[..count], [0x88, 2, 0x03, 0xf4], "a Close with 1012");
                    told.push(began.elapsed());
                    if at % 10 == 0 {
                        silent.extend(place.take());
                    } else {
                        client.write_all(&frame(CLOSE, &bytes[2..4])).unwrap();
                        *place = None;
                    }
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
    let counters = running.join().unwrap();
    assert_eq!(told.len(), CONNECTIONS);
    // How evenly is for the simulation to say: a busy machine wakes nobody in time. But nobody sooner
    // either, and of each loop's one part of the window has one.
    for (before, at) in told.iter().enumerate() {
        let due = CONNECTIONS as f64 * at.as_secs_f64() / WINDOW.as_secs_f64();
        assert!(before as f64 <= due + 2.0, "{before} were told before {at:?}");
    }
    let reports = reports.lock().unwrap();
    let sum = |of: fn(&DrainReport) -> u64| reports.iter().map(of).sum::<u64>();
    assert_eq!((reports.len(), sum(|it| it.connections)), (2, CONNECTIONS as u64));
    assert_eq!((sum(|it| it.closed), sum(|it| it.cut_off)), (450, 50));
    assert_eq!((counters.drain_closed, counters.drain_cut_off), (450, 50));
    assert_eq!((counters.drain_left, counters.drain_failed, counters.refused_draining), (0, 0, 5));
    assert_eq!(silent.len(), 50);
}

#[test]
fn acceptor_goes_on_while_loops_drain_and_they_refuse_who_comes() {
    let (reports, draining) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let (noted, begun) = (reports.clone(), draining.clone());
    let server = local().threads(2).spread(Spread::LeastLoaded);
    let server = server.build(move |_| Reporter(noted.clone(), begun.clone())).unwrap();
    let (address, handle) = (server.local_addresses()[0], server.handle());
    let running = thread::spawn(move || server.run().unwrap());
    let clients = [(); 2].map(|()| open(address));
    let window = Duration::from_secs(3600);
    handle.drain(&Drain { window, ..Drain::default() }).unwrap();
    let began = Instant::now();
    while draining.load(Ordering::Relaxed) < 2 {
        assert!(began.elapsed() < Duration::from_secs(30), "nobody drains");
        thread::sleep(Duration::from_millis(1));
    }
    for _ in 0..20 {
        let answer = ask(address, &request("/", ""));
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("\r\nRetry-After: 5\r\n"), "{answer}");
    }
    drop(clients);
    // Both have left, and nobody was told.
    let counters = running.join().unwrap();
    assert_eq!((counters.accepted, counters.adoptions_failed), (22, 0));
    assert_eq!((counters.refused_draining, counters.drain_left), (20, 2));
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn rebalancing_closes_a_share_of_each_loop_and_takes_them_again() {
    let running = Running::start(local().threads(2));
    let address = running.endpoints[0].socket_addr().unwrap();
    let clients: Vec<_> = (0..100).map(|_| open(address)).collect();
    let window = Duration::from_millis(200);
    running.handle.rebalance(0.3, &Drain { window, ..Drain::default() }).unwrap();
    let began = Instant::now();
    let mut told = 0;
    while began.elapsed() < Duration::from_secs(1) || told < 29 {
        assert!(began.elapsed() < Duration::from_secs(30), "{told}");
        for mut client in &clients {
            let mut bytes = [0; 64];
            if let Ok(count) = client.read(&mut bytes)
                && count > 0
            {
                assert_eq!(bytes[..count], [0x88, 2, 0x03, 0xf4], "a Close with 1012");
                client.write_all(&frame(CLOSE, &bytes[2..4])).unwrap();
                told += 1;
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
    // Of two loops each may have one more.
    assert!((29..=31).contains(&told), "{told}");
    Client::dial(address).upgrade("/");
    assert_eq!(running.stop().rebalanced, told);
}

#[test]
fn who_comes_to_a_lent_socket_during_a_drain_waits_for_the_next_server() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let lent = listener.try_clone().unwrap();
    let running = Running::start(Server::builder().threads(1).listen(lent));
    let mut first = Client::dial(address);
    first.upgrade("/");
    first.say("who");
    assert_eq!(first.text(), "127.0.0.1 at 0");
    let window = Duration::from_secs(3600);
    running.handle.drain(&Drain { window, ..Drain::default() }).unwrap();
    // The loop has turned after what went before once this has come back behind it.
    let mut turn = || {
        for _ in 0..2 {
            first.say("who");
            assert_eq!(first.text(), "127.0.0.1 at 0");
        }
    };
    turn();
    let mut second = Client::dial(address);
    let asked = thread::spawn(move || {
        second.upgrade("/");
        second
    });
    turn();
    let next = Running::start(Server::builder().threads(1).listen(listener));
    let mut second = asked.join().unwrap();
    let counters = running.stop();
    assert_eq!((counters.accepted, counters.refused_draining), (1, 0));
    second.say("who");
    assert_eq!(second.text(), "127.0.0.1 at 0");
    assert_eq!(next.stop().accepted, 1);
}
