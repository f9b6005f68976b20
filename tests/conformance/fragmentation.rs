//! §5.4: messages in fragments, and the bounds of their size and number.

use corewire::{Delivery, ProtocolError};

use super::support::endpoint::{Endpoint, KEY, Seen};
use super::support::naive::{BINARY, CONTINUATION, Frame, TEXT};
use super::{assert_fails, assert_server_fails, failed, server_with};

fn fragments(opcode: u8, payloads: &[&[u8]]) -> Vec<Frame> {
    let last = payloads.len() - 1;
    let fragment = |(index, payload): (usize, &&[u8])| {
        let opcode = if index == 0 { opcode } else { CONTINUATION };
        let frame = Frame::new(opcode, payload);
        if index == last { frame } else { frame.open() }
    };
    payloads.iter().enumerate().map(fragment).collect()
}

/// §5.4: "A fragmented message consists of a single frame with FIN clear [...] followed by ..."
#[test]
fn fragments_are_joined_empty_ones_among_them() {
    let mut server = Endpoint::server();
    for payloads in
        [&[b"a".as_slice(), b"b"][..], &[b"", b""], &[b"", b"ab", b""], &[b"a", b"", b"", b"b"]]
    {
        let joined = payloads.concat();
        let seen = server.receive_frames(&fragments(BINARY, payloads));
        assert_eq!(seen, [Seen::Binary(joined.clone())]);
        let seen = server.receive_frames(&fragments(TEXT, payloads));
        assert_eq!(seen, [Seen::Text(String::from_utf8(joined).unwrap())]);
    }
    assert_eq!(server.pools.in_use().assemblies, 0);
    assert_eq!(server.pools.in_use().blocks, 0);
}

/// §5.4, §5.5: "Control frames [...] MAY be injected in the middle of a fragmented message."
#[test]
fn control_frames_between_fragments_are_heard_at_once() {
    let mut server = Endpoint::server();
    let frames = [
        Frame::text("Hel").open(),
        Frame::ping("1"),
        Frame::new(CONTINUATION, "l").open(),
        Frame::pong("2"),
        Frame::ping("3"),
        Frame::new(CONTINUATION, "o"),
    ];
    let whole = [
        Seen::Ping(b"1".into()),
        Seen::Pong(b"2".into(), None),
        Seen::Ping(b"3".into()),
        Seen::Text("Hello".into()),
    ];
    assert_eq!(server.receive_frames(&frames), whole);
    let wire = server.wires(&frames);
    let seen: Vec<_> = wire.iter().flat_map(|byte| server.receive(&[*byte])).collect();
    assert_eq!(seen, whole);
    let pongs = [Frame::pong("1"), Frame::pong("3"), Frame::pong("1"), Frame::pong("3")];
    assert_eq!(server.write_frames(), pongs);
}

/// §5.4, F8: a continuation continues something.
#[test]
fn a_continuation_without_a_message_fails_at_its_header() {
    for frame in [Frame::new(CONTINUATION, "abc"), Frame::new(CONTINUATION, "abc").open()] {
        let wire = frame.masked(KEY).encode();
        assert_server_fails(&wire, ProtocolError::UnexpectedContinuation, 1002);
        assert_server_fails(&wire[..6], ProtocolError::UnexpectedContinuation, 1002);
    }
    // Also when the message before it is complete.
    let mut server = Endpoint::server();
    let mut frames = fragments(TEXT, &[b"a", b"b"]);
    frames.push(Frame::new(CONTINUATION, "c"));
    let error = ProtocolError::UnexpectedContinuation;
    assert_eq!(server.receive_frames(&frames), [Seen::Text("ab".into()), failed(error)]);
}

/// §5.4, F8: "The fragments of one message MUST NOT be interleaved between the fragments of another."
#[test]
fn a_new_data_frame_inside_a_message_fails_at_its_header() {
    for (opcode, name) in [(TEXT, corewire::Opcode::Text), (BINARY, corewire::Opcode::Binary)] {
        for frame in [Frame::new(opcode, "x"), Frame::new(opcode, "x").open()] {
            let mut wire = Frame::text("a").open().masked(KEY).encode();
            wire.extend(&frame.masked(KEY).encode()[..6]);
            let error = ProtocolError::ExpectedContinuation { opcode: name };
            assert_server_fails(&wire, error, 1002);
        }
    }
}

/// §10.4, F9: fragments together stay within the limit; the excess is refused at its header.
#[test]
fn a_message_over_the_limit_in_fragments_fails_before_the_excess_is_taken() {
    let limit_bytes = 100;
    let server = || server_with(|config| config.limits.message_bytes_max = limit_bytes);
    for last in [39, 40] {
        let frames = fragments(BINARY, &[&[1; 60], &[], &vec![1; last]]);
        assert_eq!(server().receive_frames(&frames), [Seen::Binary(vec![1; 60 + last])]);
    }
    let mut wire = Frame::binary([1; 60]).open().masked(KEY).encode();
    let excess = Frame::new(CONTINUATION, [1; 41]).masked(KEY).encode();
    wire.extend(&excess[..6]);
    assert_fails(server, &wire, ProtocolError::MessageTooLarge { limit_bytes }, 1009);
    // An empty fragment at the limit is no excess, one byte more is.
    let mut endpoint = server();
    let full = [Frame::binary([1; 100]).open(), Frame::new(CONTINUATION, "").open()];
    assert_eq!(endpoint.receive_frames(&full), []);
    let seen = endpoint.receive_frames(&[Frame::new(CONTINUATION, "x")]);
    assert_eq!(seen, [failed(ProtocolError::MessageTooLarge { limit_bytes })]);
}

/// F10: 1,024 fragments and one more for each 16 payload bytes received so far.
#[test]
fn the_bound_of_fragments_is_exact() {
    for delivery in [Delivery::Whole, Delivery::Streaming] {
        for payload in [&b""[..], b"x", &[7; 15]] {
            let mut server = server_with(|config| config.delivery = delivery);
            let mut received = 0;
            let mut count = 0_u64;
            let error = loop {
                let opcode = if count == 0 { BINARY } else { CONTINUATION };
                let seen = server.receive_frames(&[Frame::new(opcode, payload).open()]);
                count += 1;
                let refused = seen.iter().find(|seen| matches!(seen, Seen::Failed(_)));
                let is_over = count > 1024 + received / 16;
                assert_eq!(refused.is_some(), is_over, "fragment {count}");
                received += payload.len() as u64;
                if refused.is_some() {
                    break ProtocolError::TooManyFragments { count: count as u32 };
                }
            };
            super::assert_failed(server, error, 1008);
        }
    }
}

/// F10: fragments that carry 16 bytes and more are never too many.
#[test]
fn fragments_of_sixteen_bytes_are_never_too_many() {
    let mut server = Endpoint::server();
    let mut frames = vec![Frame::binary([1; 16]).open()];
    frames.extend(vec![Frame::new(CONTINUATION, [1; 16]).open(); 20_000]);
    frames.push(Frame::new(CONTINUATION, ""));
    assert_eq!(server.receive_frames(&frames), [Seen::Binary(vec![1; 16 * 20_001])]);
}

/// F10: the number of reads that a frame comes in is no number of fragments.
#[test]
fn a_frame_in_many_reads_is_one_fragment() {
    let mut server = Endpoint::server();
    let wire = server.wire(&Frame::binary([1; 5000]));
    let seen: Vec<_> = wire.iter().flat_map(|byte| server.receive(&[*byte])).collect();
    assert_eq!(seen, [Seen::Binary(vec![1; 5000])]);
}

/// F7: memory grows with what has arrived, whatever was announced.
#[test]
fn connections_that_announce_the_limit_and_send_a_byte_pin_little() {
    let mut server = Endpoint::server();
    let config = || corewire::Config::new(corewire::Role::Server);
    let wire = Frame::binary(vec![1; 1 << 20]).masked(KEY).encode();
    let (now, pools) = (server.now, &mut server.pools);
    let mut connections: Vec<_> =
        (0..64).map(|_| corewire::Connection::new(config(), now, pools)).collect();
    for connection in &mut connections {
        let mut input = wire[..15].to_vec();
        assert!(connection.handle_input(&mut input, now, pools).next().is_none());
    }
    assert_eq!(pools.in_use().assemblies, 64);
    assert!(pools.pinned_bytes() <= 64 * 2048, "{} bytes", pools.pinned_bytes());
    for connection in connections {
        let summary = connection.finish(pools);
        assert_eq!(summary.incomplete_bytes, 1);
    }
    server.finish();
}

/// Design §4: a block never grows further than twice what has arrived.
#[test]
fn a_block_is_never_larger_than_twice_what_has_arrived() {
    let mut server = Endpoint::server();
    let wire = server.wire(&Frame::binary(vec![1; 1 << 20]));
    let mut arrived = 0;
    for piece in wire.chunks(999) {
        server.receive(piece);
        arrived += piece.len();
        // While it grows, the old block stands beside the new one, retained for the next message.
        let pinned = server.pools.pinned_bytes();
        assert!(pinned <= (4 * arrived).max(8192), "{pinned} bytes for {arrived}");
    }
}
