//! What is sent comes back.

use crate::client::{BINARY, Client, TEXT};
use crate::process::{corewire, serve, serve_as};

/// Around every length of a header, and around buffers.
const SIZES: [usize; 11] = [0, 1, 125, 126, 127, 4096, 16383, 16384, 65535, 65536, 300_000];

fn payload(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 7 % 251) as u8).collect()
}

fn echo_all_sizes(client: &mut Client) {
    for size in SIZES {
        client.echo(BINARY, &payload(size));
        client.echo(TEXT, "é".repeat(size / 2).as_bytes());
    }
}

#[test]
fn messages_of_all_sizes_come_back() {
    let server = serve(&[]);
    echo_all_sizes(&mut Client::open(server.port));
}

#[test]
fn messages_in_fragments_come_back_whole() {
    let server = serve(&[]);
    let mut client = Client::open(server.port);
    client.send_frame(0x01, b"one ");
    client.send_frame(0x00, b"two ");
    client.send_frame(0x80, b"three");
    assert_eq!(client.frame().payload, b"one two three");
}

#[test]
fn two_threads_share_the_connections() {
    let mut server = serve(&["--threads", "2", "--log", "debug"]);
    server.wait_for("threads: 2");
    // The kernel spreads by a hash of the addresses: all on one side is a chance in 2^63.
    let mut clients: Vec<_> = (0..64).map(|_| Client::open(server.port)).collect();
    for client in &mut clients {
        client.echo(TEXT, b"hello");
    }
    for shard in ["open as 0/", "open as 1/"] {
        server.wait_for(shard);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn pinned_threads_serve() {
    let mut server = serve(&["--threads", "2", "--pin", "--log", "debug"]);
    server.wait_for("runs on core");
    Client::open(server.port).echo(TEXT, b"hello");
}

#[test]
fn several_addresses_are_served() {
    let mut server = serve(&["--listen", "127.0.0.1:0"]);
    let second = server.wait_for("ws://");
    let port = second.split("ws://127.0.0.1:").nth(1).unwrap().split('/').next().unwrap();
    for port in [server.port, port.parse().unwrap()] {
        Client::open(port).echo(TEXT, b"hello");
    }
}

#[test]
fn streaming_echo_sends_pieces_before_the_message_has_ended() {
    let server = serve(&["--echo-streaming"]);
    let mut client = Client::open(server.port);
    client.send_frame(0x01, b"first");
    let first = client.frame();
    assert_eq!((first.fin, first.opcode, &first.payload[..]), (false, TEXT, &b"first"[..]));
    client.send_frame(0x80, b"last");
    let last = client.frame();
    assert_eq!((last.fin, last.opcode, &last.payload[..]), (true, 0, &b"last"[..]));
    // Messages that arrive at once go back at once; larger ones in pieces that make the whole.
    client.echo(BINARY, b"");
    client.echo(TEXT, b"whole");
    let large = payload(1 << 20);
    client.send(BINARY, &large);
    let mut joined = Vec::new();
    loop {
        let frame = client.frame();
        assert_eq!(frame.opcode, if joined.is_empty() { BINARY } else { 0 });
        joined.extend(frame.payload);
        if frame.fin {
            break;
        }
    }
    assert!(joined == large);
}

#[test]
fn reads_of_at_most_three_bytes_make_no_difference() {
    let mut command = corewire(&["serve", "--listen", "127.0.0.1:0"]);
    let server = serve_as(command.env("COREWIRE_TEST_READ_BYTES", "3"));
    let mut client = Client::open(server.port);
    echo_all_sizes(&mut client);
    // Many in one segment: what a read leaves behind is read without another event.
    for n in 0..100 {
        client.send(TEXT, format!("message {n}").as_bytes());
    }
    for n in 0..100 {
        assert_eq!(client.frame().payload, format!("message {n}").as_bytes());
    }
}
