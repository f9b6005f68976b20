//! One thread that accepts for all loops, and counters that are asked for live.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use corewire::metrics::Counters;
use corewire::{
    Adoption, Command, Context, CountersError, Drain, Endpoint, Handler, Message, PostError,
    Server, ServerBuilder, Spread, TrustedProxies, UnixEndpoint,
};

use crate::client::{Client, request};
use crate::running::{Directory, Running, exists, refusal, server};

const PATIENCE: Duration = Duration::from_secs(20);

fn spread(threads: usize) -> ServerBuilder {
    server().threads(threads).spread(Spread::LeastLoaded)
}

fn local(threads: usize) -> ServerBuilder {
    spread(threads).listen((Ipv4Addr::LOCALHOST, 0))
}

fn address(running: &Running) -> SocketAddr {
    running.endpoints[0].socket_addr().unwrap()
}

/// An open client and the loop it is on.
fn open(address: SocketAddr) -> (Client, usize) {
    let mut client = Client::dial(address);
    client.upgrade("/");
    client.say("where");
    let shard = client.text().parse().unwrap();
    (client, shard)
}

fn loads(running: &Running) -> Vec<u32> {
    running.handle.loops().iter().map(|handle| handle.connections()).collect()
}

/// Waits until the loops have so many connections.
fn await_loads(running: &Running, wanted: &[u32]) {
    let began = Instant::now();
    while loads(running) != wanted {
        assert!(began.elapsed() < PATIENCE, "{:?} are not {wanted:?}", loads(running));
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn connections_are_spread_evenly_and_go_to_the_loop_that_others_have_left() {
    let running = Running::start(local(3));
    let address = address(&running);
    // All at once: those on their way count.
    let dialled: Vec<_> = (0..400).map(|_| Client::dial(address)).collect();
    let mut on_loop: [Vec<Client>; 3] = Default::default();
    for mut client in dialled {
        client.upgrade("/");
        client.say("where");
        let shard: usize = client.text().parse().unwrap();
        on_loop[shard].push(client);
    }
    let counts = on_loop.each_ref().map(|clients| clients.len() as u32);
    assert!(counts.iter().all(|count| (133..=134).contains(count)), "{counts:?}");
    assert_eq!(loads(&running), counts);
    on_loop[1].clear();
    await_loads(&running, &[counts[0], 0, counts[2]]);
    let back: Vec<_> = (0..100).map(|_| open(address)).collect();
    assert!(back.iter().all(|(_, shard)| *shard == 1), "they go where there are fewest");
    drop((on_loop, back));
    await_loads(&running, &[0, 0, 0]);
    let counters = running.stop();
    assert_eq!((counters.accepted, counters.adoptions_failed), (500, 0));
    assert_eq!((counters.handshakes_completed, counters.accept_pauses), (500, 0));
}

#[test]
fn settings_of_each_listener_hold_as_with_loops_that_accept() {
    let directory = Directory::new();
    let path = directory.path("socket");
    let proxies = TrustedProxies::new(["127.0.0.0/8"]).unwrap();
    let running = Running::start(
        local(2)
            .route("/chat/{room}", |_| {})
            .limits(|limits| limits.connections_per_address_max = Some(3))
            .listen_with((Ipv4Addr::LOCALHOST, 0), move |_, settings| {
                settings.proxy_protocol = Some(proxies);
                settings.config_mut().limits.message_bytes_max = 10;
            })
            .listen(UnixEndpoint::Path(path.clone())),
    );
    let plain = address(&running);
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = Client::dial(plain);
        client.upgrade("/chat/rust");
        client.say("who");
        assert_eq!(client.text(), "127.0.0.1 at 0");
        clients.push(client);
    }
    assert!(Client::dial(plain).ask("/", "").starts_with("HTTP/1.1 404 "));
    let mut proxied = Client::dial(running.endpoints[1].socket_addr().unwrap());
    proxied.0.write_all(b"PROXY TCP4 192.0.2.7 192.0.2.1 4000 80\r\n").unwrap();
    proxied.upgrade("/chat/rust");
    proxied.say("who");
    assert_eq!(proxied.text(), "192.0.2.7 at 1");
    proxied.say("eleven bytes");
    assert_eq!(proxied.frame().1[..2], 1009u16.to_be_bytes());
    assert!(matches!(&running.endpoints[2], Endpoint::Unix(UnixEndpoint::Path(at)) if *at == path));
    let mut unix = Client::over(UnixStream::connect(&path).unwrap());
    unix.upgrade("/chat/rust");
    unix.say("who");
    assert_eq!(unix.text(), "unix at 2");
    drop((clients, proxied, unix));
    await_loads(&running, &[0, 0]);
    // Each loop counts for itself, three on each.
    let _six: Vec<_> = (0..6)
        .map(|_| {
            let mut client = Client::dial(plain);
            client.upgrade("/chat/rust");
            client
        })
        .collect();
    let refused = Client::dial(plain).ask("/chat/rust", "");
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    running.stop();
    assert!(!exists(&path), "the file goes with the listener");
}

#[test]
fn shutdown_ends_accepting_first_and_tells_everybody() {
    // The loops wait for the answers longer than the test does.
    let long = 10 * PATIENCE;
    let running = Running::start(local(2).config(|config| config.close_timeout = long));
    let address = address(&running);
    let mut clients: Vec<_> = (0..6).map(|_| open(address).0).collect();
    running.handle.shutdown(long).unwrap();
    // The last client is not gone before it has read this.
    for client in &mut clients {
        assert_eq!(client.frame(), (8, 1001u16.to_be_bytes().to_vec()));
    }
    let began = Instant::now();
    // Whoever connected would wake it up: the address is free when it does not listen any more.
    while TcpListener::bind(address).is_err() {
        assert!(began.elapsed() < PATIENCE, "it listens still");
        thread::sleep(Duration::from_millis(1));
    }
    for client in &mut clients {
        client.send(8, &1001u16.to_be_bytes());
    }
    drop(clients);
    assert_eq!(running.stop().closed, 6);
}

#[test]
fn loop_that_is_shut_down_alone_gets_nobody_and_with_the_last_one_accepting_ends() {
    let running = Running::start(local(2));
    let address = address(&running);
    let mut clients: Vec<_> = (0..2).map(|_| open(address).0).collect();
    running.handle.loops()[0].shutdown(Duration::from_secs(3600)).unwrap();
    assert_eq!(clients[0].frame(), (8, 1001u16.to_be_bytes().to_vec()), "it is not answered");
    // The loop has fewer than the other one, and parts.
    for _ in 0..20 {
        let (client, shard) = open(address);
        assert_eq!(shard, 1);
        clients.push(client);
    }
    running.handle.loops()[1].shutdown(Duration::ZERO).unwrap();
    clients.clear();
    let counters = running.thread.join().unwrap().unwrap();
    assert_eq!((counters.accepted, counters.adoptions_failed), (22, 0));
}

#[test]
fn connections_wait_in_the_kernel_while_no_loop_has_a_place() {
    let full = |limits: &mut corewire::LoopLimits| {
        limits.connections_max = 0;
        limits.accept_pause = Duration::from_millis(1);
        limits.accept_pause_max = Duration::from_millis(20);
    };
    // With no connections at all there are 256 places a loop, for those who are told so.
    let running = Running::start(local(2).limits(full));
    let address = address(&running);
    let mut within: Vec<_> = (0..512).map(|_| Client::dial(address)).collect();
    await_loads(&running, &[256, 256]);
    let mut beyond = Client::dial(address);
    beyond.0.write_all(request("/", "").as_bytes()).unwrap();
    let counters = || running.handle.counters(PATIENCE).unwrap();
    let began = Instant::now();
    while counters().accept_pauses < 3 {
        assert!(began.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!((counters().accepted, loads(&running)), (512, vec![256, 256]));
    within.truncate(500);
    assert!(beyond.head().starts_with("HTTP/1.1 503 "), "its turn comes");
    drop((within, beyond));
    let counters = running.stop();
    assert_eq!((counters.accepted, counters.adoptions_failed), (513, 0));
}

#[test]
fn full_mailboxes_lose_no_connection() {
    // Before it runs nobody empties the mailboxes.
    let small = local(2)
        .limits(|limits| {
            limits.mailbox_commands_max = 1;
            limits.accept_pause = Duration::from_millis(1);
        })
        .build(|_shard| crate::running::Teller)
        .unwrap();
    let (address, handle) = (small.local_addresses()[0], small.handle());
    for loop_handle in handle.loops() {
        loop_handle.notify(()).unwrap();
    }
    let back = handle.adopt(Adoption::new(UnixStream::pair().unwrap().0, 0)).unwrap_err();
    drop(back);
    assert!(handle.loops().iter().all(|handle| handle.connections() == 0), "it is on no way");
    let clients: Vec<_> = (0..50).map(|_| Client::dial(address)).collect();
    let running = thread::spawn(move || small.run());
    for mut client in clients {
        client.upgrade("/");
        client.say("Hello");
        assert_eq!(client.text(), "Hello");
    }
    while handle.shutdown(Duration::from_millis(100)).is_err() {
        thread::yield_now();
    }
    let counters = running.join().unwrap().unwrap();
    assert_eq!((counters.accepted, counters.adoptions_failed), (50, 0));
}

#[test]
fn address_in_use_is_an_error_of_the_acceptor_too() {
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let error = refusal(spread(2).listen(other.local_addr().unwrap()));
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
}

#[test]
fn server_that_never_runs_closes_its_sockets() {
    let built = local(2).build(|_shard| crate::running::Teller).unwrap();
    let (address, handle) = (built.local_addresses()[0], built.handle());
    let mut waiting = TcpStream::connect(address).unwrap();
    drop(built);
    let end = waiting.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::ConnectionReset), "it was never accepted");
    assert!(TcpStream::connect(address).is_err());
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    handle.adopt(Adoption::new(theirs, 0)).unwrap();
    assert_eq!(ours.read(&mut [0]).unwrap(), 0, "as with any loop that is gone");
}

/// Panics, or blocks its loop, when asked to.
struct Moody {
    blocks: Sender<()>,
    goes_on: Arc<Mutex<Receiver<()>>>,
}

impl Handler for Moody {
    type Data = ();

    fn on_message(&mut self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
        match message {
            Message::Text("panic") => panic!("as you wish"),
            Message::Text("block") => {
                self.blocks.send(()).unwrap();
                self.goes_on.lock().unwrap().recv().unwrap();
            }
            message => {
                let _ = ctx.send(message);
            }
        }
    }
}

struct Moods {
    server: Server,
    blocks: Receiver<()>,
    go_on: Sender<()>,
}

fn moody() -> Moods {
    moods(local(2))
}

fn moods(builder: ServerBuilder) -> Moods {
    let ((blocking, blocks), (go_on, goes_on)) = (channel(), channel());
    let goes_on = Arc::new(Mutex::new(goes_on));
    let make = move |_| Moody { blocks: blocking.clone(), goes_on: goes_on.clone() };
    Moods { server: builder.build(make).unwrap(), blocks, go_on }
}

#[test]
fn panic_of_a_loop_ends_the_acceptor_with_the_others() {
    let server = moody().server;
    let address = server.local_addresses()[0];
    let running = thread::spawn(move || server.run());
    let mut clients = [(); 2].map(|()| Client::dial(address));
    clients.iter_mut().for_each(|client| client.upgrade("/"));
    clients[0].say("panic");
    assert_eq!(clients[1].frame(), (8, 1001u16.to_be_bytes().to_vec()));
    drop(clients);
    let payload = running.join().unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"as you wish"));
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn counters_are_told_live_and_are_those_of_the_end() {
    let Moods { server, blocks, go_on } = moody();
    let (address, handle) = (server.local_addresses()[0], server.handle());
    assert_eq!(handle.counters(Duration::from_millis(1)), Err(CountersError::TimedOut));
    let running = thread::spawn(move || server.run());
    let mut clients = [(); 4].map(|()| Client::dial(address));
    for client in &mut clients {
        client.upgrade("/");
        for _ in 0..10 {
            client.say("Hello");
            assert_eq!(client.text(), "Hello");
        }
    }
    let told = handle.counters(PATIENCE).unwrap();
    assert_eq!((told.handshakes_completed, told.messages_received), (4, 40));
    let each: Vec<_> =
        handle.loops().iter().map(|one| one.counters(PATIENCE).unwrap().messages_sent).collect();
    assert_eq!(each, [20, 20]);
    clients[0].say("block");
    blocks.recv().unwrap();
    assert_eq!(handle.counters(Duration::from_millis(50)), Err(CountersError::TimedOut));
    go_on.send(()).unwrap();
    assert_eq!(handle.counters(PATIENCE).unwrap().messages_received, 41);
    drop(clients);
    handle.shutdown(PATIENCE).unwrap();
    let Counters { messages_received, messages_sent, .. } = running.join().unwrap().unwrap();
    assert_eq!((messages_received, messages_sent), (41, 40));
    assert_eq!(handle.counters(PATIENCE), Err(CountersError::Ended));
}

#[test]
fn thread_that_waits_for_room_is_heard() {
    let server = moody().server;
    let (address, handle) = (server.local_addresses()[0], server.handle());
    let running = thread::spawn(move || server.run());
    let mut client = Client::dial(address);
    client.upgrade("/");
    let one = handle.loops()[0].clone();
    let posters = [(); 4].map(|()| {
        let one = one.clone();
        thread::spawn(move || {
            for _ in 0..1000 {
                let hello = corewire::Command::Broadcast(corewire::PreparedMessage::text("Hello"));
                one.post_timeout(hello, PATIENCE).unwrap();
            }
        })
    });
    (0..4000).for_each(|_| assert_eq!(client.text(), "Hello"));
    posters.into_iter().for_each(|poster| poster.join().unwrap());
    drop(client);
    handle.shutdown(PATIENCE).unwrap();
    running.join().unwrap().unwrap();
}

#[cfg(feature = "tls")]
#[test]
fn tls_is_that_of_the_loops() {
    let (mut client, tls) = crate::adoption::tls::parties();
    let running = Running::start(local(2).tls(tls));
    let mut socket = TcpStream::connect(address(&running)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut client = Client(rustls::Stream::new(&mut client, &mut socket));
    client.upgrade("/");
    client.say("who");
    assert_eq!(client.text(), "127.0.0.1 at 0");
    assert_eq!(running.handle.counters(PATIENCE).unwrap().tls_handshakes, 1);
    client.close();
    running.stop();
}

#[test]
fn panic_of_a_loop_reaches_the_others_also_where_a_mailbox_is_full() {
    let Moods { server, blocks, go_on } =
        moods(local(2).limits(|limits| limits.mailbox_commands_max = 1));
    let (address, handle) = (server.local_addresses()[0], server.handle());
    let running = thread::spawn(move || server.run());
    let mut clients = [(); 2].map(|()| {
        let mut client = Client::dial(address);
        client.upgrade("/");
        client
    });
    clients[0].say("block");
    blocks.recv().unwrap();
    // The first to come is on the first loop, which stands still now.
    while handle.loops()[0].notify(()).is_ok() {}
    clients[1].say("panic");
    // Its loop takes its connections with it, and tells the other.
    assert_eq!(clients[1].0.read(&mut [0]).unwrap_or(0), 0);
    thread::sleep(Duration::from_millis(50));
    go_on.send(()).unwrap();
    assert_eq!(clients[0].frame(), (8, 1001u16.to_be_bytes().to_vec()));
    drop(clients);
    let payload = running.join().unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"as you wish"));
}

#[test]
fn rebalancing_is_asked_of_all_loops_or_of_none() {
    let server = local(2).limits(|limits| limits.mailbox_commands_max = 1);
    let server = server.build(|_shard| crate::running::Teller).unwrap();
    let handle = server.handle();
    handle.loops()[1].notify(()).unwrap();
    let refused = handle.rebalance(0.5, &Drain::default());
    assert!(matches!(refused, Err(PostError::Full(Command::Rebalance(..)))), "{refused:?}");
    // Nothing is in the other's mailbox, which has room for one.
    handle.loops()[0].notify(()).unwrap();
    let code = corewire::CloseCode::ABNORMAL;
    let refused = handle.rebalance(0.5, &Drain { code, ..Drain::default() });
    assert!(matches!(refused, Err(PostError::InvalidClose(_))), "{refused:?}");
}
