//! Each flag that limits something has an effect, and its neighbours have none.

use std::time::{Duration, Instant};

use crate::client::{BINARY, Client, PING, TEXT};
use crate::process::{Server, serve};

fn origin_status(server: &Server, origin: &str) -> u16 {
    Client::dial(server.port).upgrade("/", &format!("Origin: {origin}\r\n")).status
}

#[test]
fn message_over_the_limit_fails_with_1009() {
    let server = serve(&["--max-message", "1KiB"]);
    Client::open(server.port).echo(BINARY, &[7; 1024]);
    let mut client = Client::open(server.port);
    client.send(BINARY, &[7; 1025]);
    assert_eq!(client.close_code(), 1009);
}

#[test]
fn default_limit_is_64_mib() {
    let server = serve(&[]);
    // The header alone decides: 64 MiB begin, one byte more is refused.
    let mut client = Client::open(server.port);
    client.write(&[0x82, 0xff, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]);
    client.write(b"the first bytes of many");
    assert!(client.is_silent_for(Duration::from_millis(100)));
    let mut client = Client::open(server.port);
    client.write(&[0x82, 0xff, 0, 0, 0, 0, 4, 0, 0, 1, 0, 0, 0, 0]);
    assert_eq!(client.close_code(), 1009);
}

#[test]
fn connection_over_the_limit_is_told_to_come_back() {
    for flag in ["--max-connections", "--max-connections-per-address"] {
        let server = serve(&["--threads", "1", flag, "2"]);
        let mut first = Client::open(server.port);
        let _second = Client::open(server.port);
        let answer = Client::dial(server.port).upgrade("/", "");
        assert_eq!(answer.status, 503, "{flag}");
        assert!(answer.head.contains("\r\nRetry-After: "), "{}", answer.head);
        first.echo(TEXT, b"unharmed");
        first.send(8, &1000u16.to_be_bytes());
        assert!(first.is_ended());
        Client::open(server.port).echo(TEXT, b"there is room again");
    }
}

#[test]
fn origins_are_same_any_or_listed() {
    let server = serve(&[]);
    assert_eq!(origin_status(&server, "http://127.0.0.1"), 101);
    assert_eq!(origin_status(&server, "http://example.com"), 403);
    let server = serve(&["--origin", "any"]);
    assert_eq!(origin_status(&server, "http://example.com"), 101);
    assert_eq!(origin_status(&server, "null"), 101);
    let server = serve(&["--origin", "https://a.example", "--origin", "https://b.example:8443"]);
    assert_eq!(origin_status(&server, "https://a.example"), 101);
    assert_eq!(origin_status(&server, "https://b.example:8443"), 101);
    assert_eq!(origin_status(&server, "https://b.example"), 403);
    assert_eq!(origin_status(&server, "http://127.0.0.1"), 403);
}

#[test]
fn silent_client_is_sent_away_at_the_handshake_timeout() {
    let server = serve(&["--handshake-timeout", "200ms"]);
    let began = Instant::now();
    let mut client = Client::dial(server.port);
    client.write(b"GET / HTTP/1.1\r\n");
    assert_eq!(client.answer().status, 408);
    assert!(began.elapsed() >= Duration::from_millis(200));
    assert!(client.is_ended());
}

#[test]
fn heartbeat_pings_and_gives_up_as_it_is_told() {
    let server = serve(&["--ping-every", "50ms", "--dead-after", "400ms"]);
    let mut client = Client::open(server.port);
    let began = Instant::now();
    assert_eq!(client.frame().opcode, PING);
    // It never says anything, so it is dropped.
    while client.try_frame().is_ok() {}
    let elapsed = began.elapsed();
    assert!(
        (Duration::from_millis(300)..Duration::from_secs(10)).contains(&elapsed),
        "{elapsed:?}"
    );
}

#[test]
fn closing_handshake_has_its_deadline() {
    let server = serve(&["--close-timeout", "200ms", "--drain-grace", "1h"]);
    let mut client = Client::open(server.port);
    let began = Instant::now();
    server.signal(rustix::process::Signal::INT);
    assert_eq!(client.close_code(), 1001);
    // Our end stays open and silent; the server does not wait for it longer than that.
    assert!(client.is_ended());
    let elapsed = began.elapsed();
    assert!((Duration::from_millis(190)..Duration::from_secs(4)).contains(&elapsed), "{elapsed:?}");
}

#[test]
fn slow_reader_is_waited_for_and_loses_nothing() {
    // Buffers below a segment of the loopback's 64 KiB would crawl from one delayed ACK to the next.
    let server =
        serve(&["--max-backpressure", "64KiB", "--sndbuf", "256KiB", "--rcvbuf", "256KiB"]);
    let mut client = Client::open(server.port);
    let mut sender = client.try_clone();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for n in 0..4000_u32 {
                sender.send(BINARY, &[n as u8; 1000]);
            }
        });
        std::thread::sleep(Duration::from_millis(300));
        for n in 0..4000_u32 {
            assert!(client.frame().payload == [n as u8; 1000], "message {n}");
        }
    });
}
