//! Requests under stress: drips, capacity, pipelining (rows H11, H20, H23, and failures of memory).

use std::net::SocketAddr;
use std::time::Duration;

use crate::sim_bed::{Bed, Heard, echo, read_frames};
use crate::sim_link::End;
use crate::sim_peer::{Frame, TEXT, answers, message, plain_request, split_head, upgrade_request};

#[test]
fn h11_dripping_head_is_answered_408_at_ten_seconds_sharp() {
    let mut bed = Bed::echo();
    let peer = bed.sim.connect(bed.address);
    let head = upgrade_request("/", "");
    for at in 0..99 {
        peer.write_all(&head[at..=at]);
        bed.run_for(Duration::from_millis(100));
        assert_eq!(peer.read_all(), b"", "not before its time");
    }
    bed.run_for(Duration::from_millis(100));
    assert_eq!(answers(&peer.read_all())[0].0, 408);
    assert_eq!(peer.end_seen(), End::Fin);
    peer.fin();
    bed.turn();
    bed.assert_empty();
    assert_eq!(bed.reactor.counters().handshake_timeouts, 1);
}

#[test]
fn h11_silent_peer_is_answered_408_at_ten_seconds_sharp() {
    let mut bed = Bed::echo();
    let peer = bed.sim.connect(bed.address);
    bed.run_for(Duration::from_millis(9_999));
    assert_eq!(peer.read_all(), b"");
    bed.run_for(Duration::from_millis(1));
    assert_eq!(answers(&peer.read_all())[0].0, 408);
}

#[test]
fn idle_plain_connection_is_closed_silently_after_five_seconds() {
    let mut bed = Bed::echo();
    let peer = bed.sim.connect(bed.address);
    peer.write_all(&plain_request("/a"));
    bed.turns(2);
    assert_eq!(answers(&peer.read_all()).len(), 1);
    bed.run_for(Duration::from_millis(4_999));
    assert_eq!(peer.end_seen(), End::None);
    bed.run_for(Duration::from_millis(1));
    assert_eq!((peer.read_all(), peer.end_seen()), (Vec::new(), End::Fin));
    bed.assert_empty();
}

#[test]
fn unfinished_head_costs_no_turns_while_it_waits() {
    let mut bed = Bed::echo();
    let peer = bed.sim.connect(bed.address);
    bed.run_for(Duration::from_millis(1));
    let before = bed.reactor.counters().turns;
    for byte in b"GET / HTTP/1.1\r\n" {
        peer.write_all(&[*byte]);
        bed.reactor.turn(Some(Duration::from_millis(1))).unwrap();
        let start = bed.sim.elapsed();
        bed.reactor.turn(Some(Duration::from_millis(1))).unwrap();
        assert!(bed.sim.elapsed() > start, "the second turn waits");
    }
    assert_eq!(bed.reactor.counters().turns - before, 32);
}

#[test]
fn h20_loop_at_its_capacity_answers_503_until_somebody_leaves() {
    let mut bed = Bed::new(|settings| settings.reactor.limits.connections_max = 2, echo);
    let first = bed.open();
    let _second = bed.open();
    let third = bed.sim.connect(bed.address);
    third.write_all(&upgrade_request("/", ""));
    bed.turns(2);
    let answer = third.read_all();
    let (head, _) = split_head(&answer).unwrap();
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("Retry-After: "), "{head}");
    assert_eq!(bed.reactor.counters().refused_over_capacity, 1);
    // Plain HTTP goes on: health checks and metrics are wanted most when it is crowded.
    let check = bed.sim.connect(bed.address);
    check.write_all(&plain_request("/healthz"));
    bed.turns(2);
    assert_eq!(answers(&check.read_all())[0].0, 200);
    first.reset();
    bed.turns(2);
    bed.open();
    assert_eq!(bed.reactor.usage().open, 2);
}

#[test]
fn h20_draining_loop_answers_503_and_keeps_no_plain_connection() {
    let mut bed = Bed::echo();
    let heads = [upgrade_request("/", ""), plain_request("/x")];
    let peers = heads.map(|head| {
        let peer = bed.sim.connect(bed.address);
        peer.write_all(&head[..10]);
        bed.turns(3);
        (peer, head)
    });
    bed.reactor.handle().shutdown(Duration::from_secs(10)).unwrap();
    bed.turn();
    for ((peer, head), status) in peers.iter().zip([503, 200]) {
        peer.write_all(&head[10..]);
        bed.turns(2);
        let answer = peer.read_all();
        let (text, _) = split_head(&answer).unwrap();
        assert_eq!(answers(&answer)[0].0, status);
        assert!(text.to_ascii_lowercase().contains("connection: close"), "{text}");
        peer.fin();
    }
    bed.turns(2);
    assert!(bed.reactor.is_finished());
    bed.assert_empty();
}

#[test]
fn address_that_has_its_share_is_answered_503_and_others_are_not() {
    let mut bed =
        Bed::new(|settings| settings.reactor.limits.connections_per_address_max = Some(2), echo);
    let from = |last: u8, port: u16| SocketAddr::from(([10, 0, 1, last], port));
    let status = |bed: &mut Bed, address| {
        let peer = bed.sim.connect_from(bed.address, address).unwrap();
        peer.write_all(&upgrade_request("/", ""));
        bed.turns(2);
        (answers(&peer.read_all())[0].0, peer)
    };
    let first = status(&mut bed, from(1, 1));
    let second = status(&mut bed, from(1, 2));
    assert_eq!((first.0, second.0), (101, 101));
    assert_eq!(status(&mut bed, from(1, 3)).0, 503);
    assert_eq!(status(&mut bed, from(2, 1)).0, 101);
    second.1.reset();
    bed.turns(2);
    assert_eq!(status(&mut bed, from(1, 4)).0, 101);
    assert_eq!(status(&mut bed, from(1, 5)).0, 503);
}

#[test]
fn h23_three_pipelined_requests_and_an_upgrade_are_answered_in_order() {
    let mut script = Vec::new();
    for path in ["/a", "/b", "/c"] {
        script.extend(plain_request(path));
    }
    script.extend(upgrade_request("/", "Sec-WebSocket-Protocol: chat\r\n"));
    script.extend(message(TEXT, b"first"));
    for step in [1, 7, 100, usize::MAX] {
        let mut bed = Bed::echo();
        let peer = bed.sim.connect(bed.address);
        for piece in script.chunks(step) {
            peer.write_all(piece);
            bed.turns(2);
        }
        let bytes = peer.read_all();
        let answered = answers(&bytes);
        let bodies: Vec<_> = answered.iter().map(|(_, body)| body.as_slice()).collect();
        assert_eq!(bodies[..3], [b"answer to /a", b"answer to /b", b"answer to /c"]);
        assert_eq!(answered[3].0, 101);
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(text.matches("Sec-WebSocket-Protocol: chat").count(), 1);
        assert!(bytes.ends_with(b"\x81\x05first"), "{text}");
        peer.reset();
        bed.turn();
        bed.assert_empty();
    }
}

#[test]
fn h24_request_in_the_same_poll_as_its_connection_is_answered_with_the_next() {
    let mut bed = Bed::echo();
    let peer = bed.sim.connect(bed.address);
    peer.write_all(&plain_request("/healthz"));
    bed.turns(2);
    assert_eq!(answers(&peer.read_all()).len(), 1);
}

#[test]
fn hundredth_plain_request_is_the_last_on_its_connection() {
    let mut bed = Bed::echo();
    let peer = bed.sim.connect(bed.address);
    peer.write_all(&plain_request("/x").repeat(101));
    bed.turns(3);
    let bytes = peer.read_all();
    assert_eq!(answers(&bytes).len(), 100);
    assert_eq!(peer.end_seen(), End::Fin);
    assert_eq!(String::from_utf8_lossy(&bytes).matches("Connection: close").count(), 1);
}

fn large_request(connection: &str) -> Vec<u8> {
    format!("GET /large HTTP/1.1\r\nHost: example.com\r\nConnection: {connection}\r\n\r\n")
        .into_bytes()
}

#[test]
fn slow_reader_gets_the_whole_of_a_large_answer() {
    for connection in ["close", "keep-alive"] {
        let mut bed = Bed::echo();
        let peer = bed.sim.connect(bed.address);
        peer.set_buffers(1 << 20, 10_000);
        peer.write_all(&large_request(connection));
        let mut bytes = Vec::new();
        for _ in 0..20 {
            bed.run_for(Duration::from_secs(3));
            bytes.extend(peer.read_all());
        }
        assert_eq!(answers(&bytes)[0].1.len(), 100_000, "{connection}");
        bed.run_for(Duration::from_secs(10));
        assert_eq!(peer.end_seen(), End::Fin);
        bed.assert_empty();
    }
}

#[test]
fn reader_that_stalls_in_the_midst_of_an_answer_is_given_five_seconds() {
    let mut bed = Bed::echo();
    let peer = bed.sim.connect(bed.address);
    peer.set_buffers(1 << 20, 10_000);
    peer.write_all(&large_request("close"));
    bed.turns(2);
    bed.run_for(Duration::from_secs(4));
    peer.read_all();
    bed.run_for(Duration::from_millis(4_990));
    assert_eq!(bed.reactor.usage().sockets, 1);
    bed.run_for(Duration::from_millis(20));
    bed.assert_empty();
}

#[test]
fn pipelining_peer_that_does_not_read_its_answers_is_not_kept() {
    let mut bed = Bed::echo();
    let peer = bed.sim.connect(bed.address);
    peer.set_buffers(1 << 20, 10_000);
    peer.write_all(&large_request("keep-alive").repeat(100));
    let mut most = 0;
    for _ in 0..10 {
        bed.turn();
        most = most.max(bed.reactor.usage().pinned_bytes);
    }
    assert!(most < (256 << 10) + 2 * 110_000, "{most} bytes pinned");
    bed.run_for(Duration::from_secs(4));
    assert_eq!(bed.reactor.usage().sockets, 1);
    bed.run_for(Duration::from_secs(2));
    bed.assert_empty();
    // One that reads in time gets the three that pass the high-water mark, and one more.
    let late = bed.sim.connect(bed.address);
    late.set_buffers(1 << 20, 10_000);
    late.write_all(&large_request("keep-alive").repeat(100));
    bed.turns(10);
    let mut bytes = Vec::new();
    for _ in 0..100 {
        bytes.extend(late.read_all());
        bed.turn();
    }
    assert_eq!(answers(&bytes).len(), 4);
    assert_eq!(late.end_seen(), End::Fin);
    // One that reads gets them all.
    let reader = bed.sim.connect(bed.address);
    reader.set_buffers(1 << 20, 20 << 20);
    reader.write_all(&large_request("keep-alive").repeat(100));
    bed.turns(5);
    assert_eq!(answers(&reader.read_all()).len(), 100);
}

#[test]
fn connection_whose_answer_finds_no_memory_is_dropped() {
    for request in [plain_request("/x"), upgrade_request("/", ""), b"nonsense\r\n\r\n".to_vec()] {
        let mut bed = Bed::new(
            |settings| {
                settings.reactor.limits.rings_max = 1;
                settings.reactor.limits.ring_bytes = 1024;
            },
            echo,
        );
        // Somebody holds the only ring.
        let hoarder = bed.open();
        hoarder.set_buffers(1 << 20, 10);
        hoarder.write_all(&message(TEXT, &[b'x'; 500]));
        bed.turn();
        let peer = bed.sim.connect(bed.address);
        let mut bytes = request.clone();
        bytes.extend(message(TEXT, b"x"));
        peer.write_all(&bytes);
        bed.turns(3);
        assert_eq!(peer.read_all(), b"", "nothing without its head");
        assert_ne!(peer.end_seen(), End::None);
        assert!(bed.reactor.counters().pool_exhausted > 0);
        let opened = bed.log.borrow().iter().filter(|entry| entry.heard == Heard::Open).count();
        assert_eq!(opened, 1, "nobody but the hoarder");
        hoarder.reset();
        bed.turns(2);
        bed.assert_empty();
        let next = bed.open();
        next.write_all(&message(TEXT, b"room again"));
        bed.turn();
        assert_eq!(read_frames(&next), [Frame::new(TEXT, b"room again")]);
    }
}
