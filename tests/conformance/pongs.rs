//! §5.5.3, F13: "MAY elect to send a Pong frame for only the most recently processed Ping frame".

use corewire::{Config, Role, SendOutcome};

use super::support::endpoint::Endpoint;
use super::support::naive::{self, Frame, PONG};

fn numbered(number: u32) -> Frame {
    // Lengths differ, so that a pong which replaces another moves what stands behind it.
    let mut payload = number.to_be_bytes().to_vec();
    payload.resize(4 + (number as usize * 7) % 100, 0);
    Frame::ping(payload)
}

fn number(pong: &Frame) -> u32 {
    u32::from_be_bytes(pong.payload[..4].try_into().expect("four bytes"))
}

/// The pongs in `wire` are untorn, ascending, and the last answers the ping `latest`.
fn assert_subset(wire: &[u8], latest: u32) -> usize {
    let frames = naive::parse_all(wire);
    let pongs: Vec<_> = frames.iter().filter(|frame| frame.opcode == PONG).collect();
    for pong in &pongs {
        assert_eq!(pong.payload, numbered(number(pong)).payload, "the payload is the ping's own");
    }
    assert!(pongs.windows(2).all(|pair| number(pair[0]) < number(pair[1])), "in order");
    assert_eq!(number(pongs.last().expect("a pong")), latest);
    pongs.len()
}

#[test]
fn pongs_collapse_into_the_latest_once_output_is_refused() {
    for mut endpoint in [Endpoint::server(), Endpoint::client()] {
        assert_eq!(endpoint.act(|t| t.send_text("0123456789")), SendOutcome::Sent);
        let mut written = endpoint.write(5);
        for index in 0..1000 {
            endpoint.receive_frames(&[numbered(index)]);
            assert!(endpoint.connection.queued_bytes() < 200, "one pong waits");
        }
        written.extend(endpoint.write_all());
        assert_eq!(assert_subset(&written, 999), 1);
        endpoint.finish();
    }
}

#[test]
fn a_pong_that_is_partly_written_is_finished_and_the_next_one_follows() {
    for torn in 1..8 {
        let mut server = Endpoint::server();
        server.receive_frames(&[numbered(0)]);
        let mut written = server.write(1);
        server.receive_frames(&[numbered(1), numbered(2)]);
        let queued = server.connection.queued_bytes();
        let second = queued - numbered(2).encode().len();
        written.extend(server.write(second + torn));
        server.receive_frames(&[numbered(3), numbered(4)]);
        written.extend(server.write_all());
        assert_eq!(assert_subset(&written, 4), 3, "0, the torn 2, and 4");
    }
}

#[test]
fn a_collapsed_pong_keeps_its_place_between_messages() {
    let mut server = Endpoint::server();
    assert!(server.act(|t| t.send_text("one")).is_taken());
    let mut written = server.write(1);
    server.receive_frames(&[numbered(0)]);
    assert!(server.act(|t| t.send_text("two")).is_taken());
    server.receive_frames(&[numbered(1)]);
    written.extend(server.write_all());
    let pong = Frame { opcode: PONG, ..numbered(1) };
    assert_eq!(naive::parse_all(&written), [Frame::text("one"), pong, Frame::text("two")]);
    // With everything written, each ping gets its own again.
    server.receive_frames(&[numbered(2), numbered(3)]);
    assert_eq!(assert_subset(&server.write_all(), 3), 2);
}

/// 16 KiB of pongs in one read: only then may they collapse before anything was refused.
#[test]
fn pongs_collapse_at_the_bound_of_control_bytes() {
    let mut config = Config::new(Role::Server);
    config.limits.control_bytes_max = 1000;
    let mut server = Endpoint::new(config);
    let pings: Vec<_> = (0..5000).map(numbered).collect();
    server.receive_frames(&pings);
    assert!(server.connection.queued_bytes() <= 1000 + 127 + 127);
    let written = server.write_all();
    let count = assert_subset(&written, 4999);
    assert!((10..200).contains(&count));
    // The count starts anew with an empty queue.
    server.receive_frames(&pings[..5]);
    assert_eq!(assert_subset(&server.write_all(), 4), 5);
}

/// F13: 400,000 pings from a peer that reads a byte at times.
#[test]
fn a_flood_of_pings_pins_little_and_is_answered_in_order() {
    let mut server = Endpoint::server();
    let mut written = Vec::new();
    let mut latest = 0;
    for round in 0..400 {
        let first = round * 1000;
        let pings: Vec<_> = (first..first + 1000).map(numbered).collect();
        latest = first + 999;
        server.receive_frames(&pings);
        written.extend(server.write(usize::from(round % 3 == 0) * (round as usize % 40)));
        assert!(server.connection.queued_bytes() <= 17 * 1024);
        assert!(server.pools.pinned_bytes() <= 128 * 1024);
    }
    written.extend(server.write_all());
    assert_subset(&written, latest);
    server.finish();
}

/// A heartbeat's round trip is right although a pong in front of it is exchanged for a longer one.
#[test]
fn an_exchanged_pong_does_not_move_the_flush_of_our_ping() {
    use std::time::Duration;
    let second = Duration::from_secs(1);
    let mut config = Config::new(Role::Server);
    config.limits.control_bytes_max = 1;
    let mut server = Endpoint::new(config);
    // The second pong may be replaced, for it comes above the bound; nothing was refused.
    server.receive_frames(&[Frame::ping(""), Frame::ping("")]);
    server.advance(30 * second);
    server.receive_frames(&[Frame::ping([0; 125])]);
    let frames = naive::parse_all(&server.unsent());
    let index = frames.iter().position(|frame| frame.opcode == naive::PING).unwrap();
    let heartbeat = frames[index].clone();
    let end: usize = frames[..=index].iter().map(|frame| frame.encode().len()).sum();
    server.write(end - 1);
    server.pass(second);
    server.write_all();
    server.pass(2 * second);
    let seen = server.receive_frames(&[Frame::pong(&heartbeat.payload)]);
    let round_trip = Some(2 * second);
    assert_eq!(seen, [super::Seen::Pong(heartbeat.payload, round_trip)]);
}
