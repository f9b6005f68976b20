//! Twenty thousand connections, dropped at every stage: no descriptor stays behind (row T17).

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{BINARY, Client, upgrade_head};
use crate::process::{PATIENCE, corewire, serve_as};

const BATCHES: u8 = 80;
const BATCH: usize = 252;
const _: () = assert!(BATCHES as usize * BATCH >= 20_000);

/// A frame of so many bytes, masked with a key of zeros.
fn frame(payload_bytes: usize) -> Vec<u8> {
    let header = [0x80 | BINARY, 0x80 | 127];
    [&header[..], &(payload_bytes as u64).to_be_bytes(), &[0; 4], &vec![7; payload_bytes]].concat()
}

/// What the clients say before they go, and whether they read the answer first: who goes with an
/// answer unread resets.
fn stages() -> [(Vec<u8>, bool); 12] {
    let open = upgrade_head("/", "").into_bytes();
    let and = |rest: &[u8]| [&open, rest].concat();
    let page = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
    [
        (Vec::new(), false),
        (open[..20].to_vec(), false),
        (open.clone(), false),
        (open.clone(), true),
        (page.clone(), false),
        (page, true),
        (b"junk\r\n\r\n".to_vec(), true),
        (and(&[0x82]), true),
        (and(&frame(50_000)[..30_000]), true),
        (and(&frame(200_000)), true),
        (and(&[0x88, 0x80, 0, 0, 0, 0]), true),
        (and(&[0xF0, 0x80, 0, 0, 0, 0]), true),
    ]
}

#[test]
#[cfg(target_os = "linux")]
fn t17_twenty_thousand_connections_dropped_at_every_stage_leave_no_descriptor() {
    let mut command = corewire(&["serve", "--listen", "0.0.0.0:0", "--threads", "1"]);
    let server = serve_as(command.args(["--sndbuf", "8KiB"]));
    let descriptors = || {
        let path = format!("/proc/{}/fd", server.pid());
        std::fs::read_dir(path).unwrap().count()
    };
    let until = |what: &str, is_so: &dyn Fn(usize) -> bool| {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(descriptors()) {
            assert!(Instant::now() < deadline, "{what}: {} descriptors", descriptors());
            thread::sleep(Duration::from_millis(1));
        }
    };
    let stages = stages();
    // Its loop runs once it has answered: what that opens for itself is there.
    let mut first = Client::open(server.port);
    first.echo(BINARY, b"here");
    let before = descriptors();
    for batch in 0..BATCHES {
        // Each address has ports of its own.
        let address = Ipv4Addr::new(127, 0, 0, 1 + batch % 8);
        let mut clients = Vec::with_capacity(BATCH);
        for (script, reads) in stages.iter().cycle().take(BATCH) {
            let mut stream = TcpStream::connect((address, server.port)).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(script).unwrap();
            if *reads {
                stream.read_exact(&mut [0]).unwrap();
            }
            clients.push(stream);
        }
        if batch == 0 {
            // A peer that has got its last answer is parted from after a second.
            until("all but those who are over are held", &|count| count >= before + BATCH * 9 / 12);
        }
    }
    until("all are gone", &|count| count == before);
    Client::open(server.port).echo(BINARY, b"unharmed");
    drop(first);
}
