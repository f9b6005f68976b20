//! What we send, what becomes of it, and what back-pressure does (§5.1, §5.3, §5.4, T2, T3).

use corewire::{
    CloseCause, Config, DropReason, Failure, LoopLimits, Opcode, OverflowPolicy, Part,
    PreparedMessage, Role, SendOutcome,
};

use super::support::endpoint::{Endpoint, Seen};
use super::support::naive::{self, CLOSE, CONTINUATION, Frame};
use super::support::rng::Rng;

const DROPPED: SendOutcome = SendOutcome::Dropped(DropReason::Backpressure);

fn limited(bytes: usize, on_overflow: OverflowPolicy) -> Endpoint {
    let mut config = Config::new(Role::Server);
    config.limits.backpressure_bytes_max = bytes;
    config.on_overflow = on_overflow;
    Endpoint::new(config)
}

/// §5.2: every length in its shortest form; §5.1: a server masks nothing.
#[test]
fn a_server_sends_unmasked_frames_in_their_shortest_form() {
    let mut server = Endpoint::server();
    for length in [0, 1, 125, 126, 4095, 4096, 16_383, 16_384, 65_535, 65_536, 200_000] {
        let payload = vec![b'x'; length];
        let text = String::from_utf8(payload.clone()).unwrap();
        assert_eq!(server.act(|t| t.send_binary(&payload)), SendOutcome::Sent);
        assert_eq!(server.write_all(), Frame::binary(&payload).encode());
        assert_eq!(server.act(|t| t.send_text(&text)), SendOutcome::Sent);
        assert_eq!(server.write_all(), Frame::text(&payload).encode());
        assert_eq!(server.act(|t| t.send_bytes(payload.clone().into())), SendOutcome::Sent);
        assert_eq!(server.write_all(), Frame::binary(&payload).encode());
        for message in [PreparedMessage::binary(&payload), PreparedMessage::text(&text)] {
            let opcode = message.opcode() as u8;
            assert_eq!(server.act(|t| t.send_prepared(&message)), SendOutcome::Sent);
            assert_eq!(server.write_all(), Frame::new(opcode, &payload).encode());
        }
    }
    server.finish();
}

/// §5.1: "a client MUST mask all frames"; §5.3: with "a fresh masking key" each.
#[test]
fn a_client_masks_every_frame_with_a_fresh_key() {
    let mut client = Endpoint::client();
    for length in [0, 1, 125, 126, 4096, 16_384, 65_536, 100_001] {
        let payload = vec![b'x'; length];
        assert!(client.act(|t| t.send_binary(&payload)).is_taken());
        assert!(client.act(|t| t.send_bytes(payload.clone().into())).is_taken());
        assert!(client.act(|t| t.send_prepared(&PreparedMessage::binary(&payload))).is_taken());
    }
    assert!(client.act(|t| t.send_part(Opcode::Text, b"a", Part::First)).is_taken());
    assert!(client.act(|t| t.send_part(Opcode::Text, b"b", Part::Last)).is_taken());
    assert!(client.act(|t| t.send_ping(b"c")).is_taken());
    client.receive_frames(&[Frame::ping("d"), Frame::close(1000, "")]);
    let frames = client.write_frames();
    assert_eq!(frames.len(), 8 * 3 + 5);
    let mut keys: Vec<_> = frames.iter().map(|frame| frame.key.expect("masked")).collect();
    for frame in frames.iter().take(24) {
        assert!(frame.payload.iter().all(|byte| *byte == b'x'), "unmasking gives the payload");
    }
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), frames.len(), "no key comes twice");
}

/// §5.3: the same wherever a short message comes to lie: in a ring of its own, behind others, at
/// the ring's edge and over it.
#[test]
fn a_client_masks_short_messages_wherever_they_lie() {
    let mut limits = LoopLimits::default();
    limits.ring_bytes = 256;
    for seed in 0..20 {
        let mut client = Endpoint::with_pools(Config::new(Role::Client), &limits, seed);
        let mut rng = Rng::new(seed.into());
        let (mut sent, mut written) = (Vec::new(), Vec::new());
        for length in (0..=140).chain(0..=140) {
            let payload = rng.bytes(length);
            assert!(client.act(|t| t.send_binary(&payload)).is_taken());
            sent.push(payload);
            // Whatever is refused is queued by the general way.
            let most = [0, rng.below(300), usize::MAX, usize::MAX][rng.below(4)];
            written.extend(client.write(most));
        }
        written.extend(client.write_all());
        let frames = naive::parse_all(&written);
        let payloads: Vec<_> = frames.iter().map(|frame| frame.payload.clone()).collect();
        assert!(payloads == sent, "seed {seed}");
        let mut keys: Vec<_> = frames.iter().map(|frame| frame.key.expect("masked")).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), frames.len(), "no key comes twice");
    }
}

/// §5.3: the keys come from the seed alone, and another seed gives others.
#[test]
fn masking_keys_follow_the_seed() {
    let key = |seed| {
        let config = Config::new(Role::Client);
        let mut client = Endpoint::with_pools(config, &LoopLimits::default(), seed);
        assert!(client.act(|t| t.send_text("x")).is_taken());
        client.write_frames()[0].key
    };
    assert_eq!(key(1), key(1));
    assert_ne!(key(1), key(2));
}

/// §5.4: parts are fragments: the first with the opcode, the others continuations.
#[test]
fn parts_are_fragments_of_one_message() {
    let mut server = Endpoint::server();
    let mut client = Endpoint::client();
    for (payload, part) in
        [(&b"He"[..], Part::First), (b"l", Part::Middle), (b"", Part::Middle), (b"lo", Part::Last)]
    {
        assert_eq!(server.act(|t| t.send_part(Opcode::Text, payload, part)), SendOutcome::Sent);
    }
    let wire = server.write_all();
    assert_eq!(
        naive::parse_all(&wire),
        [
            Frame::text("He").open(),
            Frame::new(CONTINUATION, "l").open(),
            Frame::new(CONTINUATION, "").open(),
            Frame::new(CONTINUATION, "lo")
        ]
    );
    assert_eq!(client.receive(&wire), [Seen::Text("Hello".into())]);
}

/// §5.4: the fragments of one message are not interleaved with another, whatever the application
/// asks for.
#[test]
fn parts_in_the_wrong_order_are_refused() {
    let mut server = Endpoint::server();
    let none = SendOutcome::Dropped(DropReason::NoMessageInProgress);
    let busy = SendOutcome::Dropped(DropReason::MessageInProgress);
    let part =
        |server: &mut Endpoint, part| server.act(|t| t.send_part(Opcode::Binary, b"x", part));
    assert_eq!(part(&mut server, Part::Middle), none);
    assert_eq!(part(&mut server, Part::Last), none);
    assert_eq!(part(&mut server, Part::First), SendOutcome::Sent);
    assert_eq!(part(&mut server, Part::First), busy);
    assert_eq!(server.act(|t| t.send_text("y")), busy);
    assert_eq!(server.act(|t| t.send_binary(b"y")), busy);
    assert_eq!(server.act(|t| t.send_bytes(vec![0; 9000].into())), busy);
    assert_eq!(server.act(|t| t.send_prepared(&PreparedMessage::text("y"))), busy);
    assert_eq!(server.act(|t| t.send_prepared(&PreparedMessage::text(&"y".repeat(9000)))), busy);
    assert_eq!(server.act(|t| t.send_ping(b"")), SendOutcome::Sent, "a control frame may");
    assert_eq!(part(&mut server, Part::Last), SendOutcome::Sent);
    assert_eq!(part(&mut server, Part::Last), none);
    assert_eq!(server.act(|t| t.send_text("y")), SendOutcome::Sent);
    let opcodes: Vec<_> = server.write_frames().iter().map(|frame| frame.opcode).collect();
    assert_eq!(opcodes, [2, 9, 0, 1]);
}

/// §5.2: a part can only be of a text or a binary message.
#[test]
fn parts_of_control_frames_are_refused() {
    let mut server = Endpoint::server();
    for opcode in [Opcode::Continuation, Opcode::Close, Opcode::Ping, Opcode::Pong] {
        for part in [Part::First, Part::Middle, Part::Last] {
            assert!(!server.act(|t| t.send_part(opcode, b"x", part)).is_taken());
        }
    }
    assert_eq!(server.unsent(), []);
    assert!(server.act(|t| t.send_text("y")).is_taken());
}

/// §5.4: a part that found no room may be sent again; the message is still under way.
#[test]
fn a_part_that_was_refused_may_be_tried_again() {
    let mut server = limited(100, OverflowPolicy::Refuse);
    assert!(server.act(|t| t.send_part(Opcode::Binary, &[1; 100], Part::First)).is_taken());
    assert_eq!(server.act(|t| t.send_part(Opcode::Binary, b"2", Part::Last)), DROPPED);
    let mut written = server.write_all();
    let busy = SendOutcome::Dropped(DropReason::MessageInProgress);
    assert_eq!(server.act(|t| t.send_text("y")), busy);
    assert!(server.act(|t| t.send_part(Opcode::Binary, b"2", Part::Last)).is_taken());
    written.extend(server.write_all());
    let last = Frame::new(CONTINUATION, "2");
    assert_eq!(naive::parse_all(&written), [Frame::binary([1; 100]).open(), last]);
    // A first part that found no room has begun nothing.
    assert!(server.act(|t| t.send_binary(&[1; 100])).is_taken());
    assert_eq!(server.act(|t| t.send_part(Opcode::Text, b"x", Part::First)), DROPPED);
    server.write_all();
    assert!(server.act(|t| t.send_text("y")).is_taken());
}

/// Design §6.2: what a send says, before and after output was refused.
#[test]
fn a_send_says_whether_output_before_it_is_held_up() {
    let mut server = Endpoint::server();
    assert_eq!(server.act(|t| t.send_text("12345678")), SendOutcome::Sent);
    assert_eq!(server.act(|t| t.send_text("corked, not refused")), SendOutcome::Sent);
    server.write(10);
    assert_eq!(server.act(|t| t.send_text("x")), SendOutcome::Queued { bytes: 21 });
    assert_eq!(server.act(|t| t.send_ping(b"x")), SendOutcome::Queued { bytes: 24 });
    server.write(1);
    let message = PreparedMessage::text("y");
    assert_eq!(server.act(|t| t.send_prepared(&message)), SendOutcome::Queued { bytes: 26 });
    server.write_all();
    assert_eq!(server.act(|t| t.send_text("free again")), SendOutcome::Sent);
}

/// T2: a message is refused only when the queue already holds the bound; by default that fails the
/// connection with 1013.
#[test]
fn a_message_that_meets_a_full_queue_fails_the_connection() {
    for bound in [99, 100, 101] {
        let mut server = limited(bound, OverflowPolicy::Fail);
        // Its frame has 100 bytes.
        assert_eq!(server.act(|t| t.send_binary(&[1; 98])), SendOutcome::Sent);
        if bound == 101 {
            assert_eq!(server.act(|t| t.send_binary(&[2; 5000])), SendOutcome::Sent, "overshoot");
        }
        assert_eq!(server.act(|t| t.send_text("x")), DROPPED);
        assert!(!server.connection.is_open());
        let closing = SendOutcome::Dropped(DropReason::Closing);
        assert_eq!(server.act(|t| t.send_text("x")), closing);
        let frames = server.write_frames();
        let close = frames.last().unwrap();
        assert_eq!((close.opcode, &close.payload[..2]), (CLOSE, &1013_u16.to_be_bytes()[..]));
        assert_eq!(frames.len(), if bound == 101 { 3 } else { 2 });
        let summary = server.finish();
        assert_eq!(summary.cause, CloseCause::Failed(Failure::Backpressure));
        assert_eq!(summary.code.as_u16(), 1013);
    }
}

/// T2, the other policy: the message is refused, the connection lives.
#[test]
fn a_message_that_meets_a_full_queue_may_be_refused_alone() {
    let mut server = limited(100, OverflowPolicy::Refuse);
    assert_eq!(server.act(|t| t.send_binary(&[1; 98])), SendOutcome::Sent);
    assert_eq!(server.act(|t| t.send_text("x")), DROPPED);
    assert_eq!(server.act(|t| t.send_ping(b"x")), DROPPED);
    assert_eq!(server.act(|t| t.send_bytes(vec![0; 5000].into())), DROPPED);
    assert!(server.connection.is_open());
    // What the protocol owes is answered all the same.
    server.receive_frames(&[Frame::ping("p")]);
    let mut written = server.write(1);
    assert_eq!(server.act(|t| t.send_text("y")), SendOutcome::Dropped(DropReason::Backpressure));
    written.extend(server.write(50));
    assert_eq!(server.act(|t| t.send_text("z")), SendOutcome::Queued { bytes: 52 });
    written.extend(server.write_all());
    let frames = [Frame::binary([1; 98]), Frame::pong("p"), Frame::text("z")];
    assert_eq!(naive::parse_all(&written), frames);
    server.finish();
}

/// T3: one byte at a time everything arrives, in order.
#[test]
fn a_peer_that_reads_one_byte_at_a_time_gets_everything_in_order() {
    let mut server = Endpoint::server();
    let mut client = Endpoint::client();
    let mut sent = Vec::new();
    let mut seen = Vec::new();
    for index in 0..300_usize {
        let payload = vec![index as u8; index * 7 % 500];
        assert!(server.act(|t| t.send_binary(&payload)).is_taken());
        sent.push(Seen::Binary(payload));
        for _ in 0..index {
            let byte = server.write(1);
            seen.extend(client.receive(&byte));
        }
    }
    while server.connection.queued_bytes() > 0 {
        let byte = server.write(1);
        seen.extend(client.receive(&byte));
    }
    assert_eq!(seen, sent);
}

/// Design §5: a pool at its limit fails the connection that needed it with 1013, and no other.
#[test]
fn exhausted_pools_fail_the_connection_that_needed_them() {
    let mut limits = LoopLimits::default();
    (limits.ring_bytes, limits.rings_max) = (1024, 2);
    let mut server = Endpoint::with_pools(Config::new(Role::Server), &limits, 0);
    let exhausted = SendOutcome::Dropped(DropReason::PoolExhausted);
    assert_eq!(server.act(|t| t.send_binary(&[0; 1000])), SendOutcome::Sent);
    assert_eq!(server.act(|t| t.send_binary(&[0; 1100])), exhausted);
    let frames = server.write_frames();
    assert_eq!(frames[0], Frame::binary([0; 1000]));
    assert_eq!((frames[1].opcode, &frames[1].payload[..2]), (CLOSE, &1013_u16.to_be_bytes()[..]));
    assert_eq!(server.finish().cause, CloseCause::Failed(Failure::PoolExhausted));

    limits.block_bytes_max = 4096;
    let mut server = Endpoint::with_pools(Config::new(Role::Server), &limits, 0);
    let wire = server.wire(&Frame::binary([0; 5000]));
    assert_eq!(server.receive(&wire[..2000]), []);
    assert_eq!(server.receive(&wire[2000..4900]), [Seen::Failed(Failure::PoolExhausted)]);
    let frames = server.write_frames();
    assert_eq!((frames[0].opcode, &frames[0].payload[..2]), (CLOSE, &1013_u16.to_be_bytes()[..]));
    server.finish();
}

/// Without a single ring even the Close cannot be queued: the connection ends without one.
#[test]
fn without_any_memory_the_connection_ends_without_a_close() {
    let mut limits = LoopLimits::default();
    limits.rings_max = 0;
    let mut server = Endpoint::with_pools(Config::new(Role::Server), &limits, 0);
    let exhausted = SendOutcome::Dropped(DropReason::PoolExhausted);
    assert_eq!(server.act(|t| t.send_text("x")), exhausted);
    assert!(server.connection.is_closed());
    assert_eq!(server.finish().cause, CloseCause::Failed(Failure::PoolExhausted));
    let mut server = Endpoint::with_pools(Config::new(Role::Server), &limits, 0);
    server.receive_frames(&[Frame::ping("x"), Frame::text("late")]);
    assert!(server.connection.is_closed());
    server.finish();
}
