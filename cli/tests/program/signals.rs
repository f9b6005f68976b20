//! How the server ends.

use std::net::TcpStream;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::client::{BINARY, CLOSE, Client};
use crate::process::{PATIENCE, serve};

#[test]
fn signal_under_load_says_1001_to_all_and_the_exit_is_0() {
    const CLIENTS: usize = 20;
    let server = serve(&["--threads", "2"]);
    let port = server.port;
    let started = Barrier::new(CLIENTS + 1);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| load(port, &started))).collect();
        started.wait();
        server.signal(Signal::INT);
        for client in clients {
            assert_eq!(client.join().unwrap(), 1001);
        }
    });
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("closing all connections with 1001"), "{log}");
    assert!(log.contains(&format!("{CLIENTS} connections")), "{log}");
}

/// A client counts as loading the server when so many messages have come back.
const LOADED: u64 = 50;

/// Sends and reads until there is a Close, which is answered; gives its code. Echoes are in order
/// to the last.
fn load(port: u16, started: &Barrier) -> u16 {
    let mut client = Client::open(port);
    let mut sender = client.try_clone();
    thread::scope(|scope| {
        scope.spawn(move || {
            // Ends when the server has closed.
            (0u64..).try_for_each(|n| sender.try_send_frame(0x80 | BINARY, &n.to_be_bytes()))
        });
        let mut next = 0u64;
        loop {
            let frame = client.frame();
            if frame.opcode == CLOSE {
                let _ = client.try_send_frame(0x80 | CLOSE, &frame.payload);
                return u16::from_be_bytes(frame.payload[..2].try_into().unwrap());
            }
            assert_eq!(frame.payload, next.to_be_bytes());
            next += 1;
            if next == LOADED {
                started.wait();
            }
        }
    })
}

#[test]
fn interrupt_ends_an_idle_server_at_once() {
    let server = serve(&[]);
    let began = Instant::now();
    server.signal(Signal::INT);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(began.elapsed() < Duration::from_secs(5) && log.contains("SIGINT"), "{log}");
}

#[test]
fn client_that_answers_nothing_is_cut_off_at_the_deadline() {
    let server = serve(&["--drain-grace", "300ms"]);
    let mut client = Client::open(server.port);
    let began = Instant::now();
    server.signal(Signal::INT);
    assert_eq!(client.close_code(), 1001);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    let elapsed = began.elapsed();
    assert!((Duration::from_millis(250)..Duration::from_secs(4)).contains(&elapsed), "{elapsed:?}");
}

#[test]
fn second_signal_ends_at_once() {
    let mut server = serve(&["--drain-grace", "1h", "--close-timeout", "1h"]);
    let mut client = Client::open(server.port);
    server.signal(Signal::INT);
    assert_eq!(client.close_code(), 1001);
    server.wait_for("closing all connections");
    server.signal(Signal::INT);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("cutting off") && log.contains("1 were cut off"), "{log}");
}

/// What one client sees of a drain: when it was told, and what.
fn watch(port: u16, opened: &Barrier) -> (Instant, u16) {
    let mut client = Client::open(port);
    opened.wait();
    let code = client.close_code();
    client.send(CLOSE, &code.to_be_bytes());
    (Instant::now(), code)
}

#[test]
fn sigterm_spreads_the_closes_over_the_window_and_refuses_who_comes() {
    const CLIENTS: usize = 40;
    let args = ["--threads", "2", "--drain-window", "4s", "--close-timeout", "1h"];
    let mut server = serve(&args);
    let port = server.port;
    let opened = Barrier::new(CLIENTS + 1);
    let mut began = Instant::now();
    let mut told: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| watch(port, &opened))).collect();
        opened.wait();
        began = Instant::now();
        server.signal(Signal::TERM);
        server.wait_for("each has 5s to answer");
        // The loops are told one after the other, and each of them answers some of sixteen.
        let deadline = Instant::now() + PATIENCE;
        let mut in_turn = 0;
        while in_turn < 16 {
            in_turn = if health(port) == 503 { in_turn + 1 } else { 0 };
            assert!(Instant::now() < deadline, "it looks healthy");
        }
        let answer = Client::dial(port).upgrade("/", "");
        assert!(answer.status == 503 && answer.head.contains("Retry-After: 5"), "{answer:?}");
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("40 have answered, 0 left by themselves"), "{log}");
    assert!(told.iter().all(|(_, code)| *code == 1012), "{told:?}");
    // A busy machine makes each later, and none sooner: of each loop's one part of the window has one.
    told.sort_unstable();
    for (before, (at, _)) in told.iter().enumerate() {
        let due = CLIENTS as f64 * (*at - began).as_secs_f64() / 4.0;
        assert!(before as f64 <= due + 2.0, "{before} were told before {at:?}: {told:?}");
    }
}

/// The status of a health check on a connection of its own.
fn health(port: u16) -> u16 {
    let mut http = Client::dial(port);
    http.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    http.answer().status
}

#[test]
fn second_sigterm_cuts_off_and_the_exit_is_0() {
    let mut server = serve(&["--drain-window", "1h", "--drain-code", "1001"]);
    let mut client = Client::open(server.port);
    let began = Instant::now();
    server.signal(Signal::TERM);
    server.wait_for("closing all connections with 1001 going away, over 3600s");
    server.signal(Signal::TERM);
    // It is told, and not waited for.
    assert_eq!(client.close_code(), 1001);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(began.elapsed() < Duration::from_secs(10), "{log}");
}

#[test]
fn connection_ends_with_its_lifetime_and_the_server_goes_on() {
    let server = serve(&["--max-lifetime", "1s"]);
    let mut client = Client::open(server.port);
    let began = Instant::now();
    assert_eq!(client.close_code(), 1001);
    assert!((Duration::from_millis(800)..Duration::from_secs(8)).contains(&began.elapsed()));
    Client::open(server.port).echo(BINARY, b"another");
}

#[test]
fn draining_server_takes_no_new_connection() {
    let server = serve(&["--drain-grace", "1h", "--close-timeout", "1h"]);
    let mut client = Client::open(server.port);
    server.signal(Signal::INT);
    assert_eq!(client.close_code(), 1001);
    // The loops part one after the other.
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(("127.0.0.1", server.port)).is_ok() {
        assert!(Instant::now() < deadline, "somebody still listens");
    }
}

#[test]
fn health_of_a_draining_server_is_503_for_who_was_about_to_ask() {
    let mut server = serve(&["--threads", "1", "--drain-grace", "1h", "--close-timeout", "1h"]);
    let mut websocket = Client::open(server.port);
    let mut http = Client::dial(server.port);
    http.write(b"GET /healthz HTTP/1.1\r\n");
    // The loop accepts in one turn and reads in the next: after two round trips it has done both.
    websocket.echo(BINARY, b"one");
    websocket.echo(BINARY, b"two");
    server.signal(Signal::INT);
    assert_eq!(websocket.close_code(), 1001);
    server.wait_for("closing all connections");
    http.write(b"Host: a\r\n\r\n");
    let answer = http.answer();
    assert_eq!((answer.status, &answer.body[..]), (503, &b"draining\n"[..]));
}

#[test]
fn server_whose_log_nobody_reads_serves_and_ends_all_the_same() {
    let mut server = serve(&["--log", "debug"]);
    server.stop_reading();
    Client::open(server.port).echo(BINARY, b"unheard");
    server.signal(Signal::INT);
    let (status, _) = server.wait();
    assert_eq!(status.code(), Some(0));
}

/// Unlike a signal that is ignored, a stop interrupts calls that wait.
#[test]
fn server_that_is_stopped_and_continued_again_and_again_loses_nothing() {
    const STOPS_MIN: u32 = 200;
    let server = serve(&["--threads", "1"]);
    let port = server.port;
    let client = thread::spawn(move || {
        let mut client = Client::open(port);
        let payload: Vec<u8> = (0..4_000_000_u32).map(|at| (at * 7 % 251) as u8).collect();
        for round in 0..5 {
            // Stops come amid reading and writing, and then amid waiting.
            client.echo(BINARY, &payload[round..]);
            for _ in 0..20 {
                client.echo(BINARY, b"small");
                thread::sleep(Duration::from_millis(1));
            }
        }
        client
    });
    let mut stops = 0;
    while stops < STOPS_MIN || !client.is_finished() {
        server.signal(Signal::STOP);
        server.signal(Signal::CONT);
        stops += 1;
        thread::sleep(Duration::from_millis(2));
    }
    let mut client = client.join().unwrap();
    client.echo(BINARY, b"still here");
    server.signal(Signal::INT);
    assert_eq!(client.close_code(), 1001);
    client.send(CLOSE, &1001_u16.to_be_bytes());
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
}

/// Peers that go on sending while the server is stopped for longer than they may be silent.
#[test]
fn t11_nobody_who_spoke_while_the_server_was_stopped_is_dropped() {
    const CLIENTS: usize = 20;
    const STOPPED_FOR: Duration = Duration::from_secs(4);
    let mut server =
        serve(&["--threads", "1", "--ping-every", "1s", "--dead-after", "3s", "--log", "debug"]);
    let mut silent = Client::open(server.port);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::open(server.port)).collect();
    server.signal(Signal::STOP);
    let began = Instant::now();
    let mut sent = 0;
    while began.elapsed() < STOPPED_FOR {
        // First of all the signal is let through.
        thread::sleep(Duration::from_millis(200));
        clients.iter_mut().for_each(|client| client.send(BINARY, b"alive"));
        sent += 1;
    }
    server.signal(Signal::CONT);
    for client in &mut clients {
        let mut echoes = 0;
        while echoes < sent {
            let frame = client.frame();
            assert_ne!(frame.opcode, CLOSE);
            echoes += usize::from((frame.opcode, &frame.payload[..]) == (BINARY, b"alive"));
        }
    }
    // Who had nothing to say is dropped all the same.
    server.wait_for("HeartbeatTimeout");
    assert!(silent.is_ended());
}
