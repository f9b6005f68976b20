//! The limit of messages holds for what they inflate to (F9, F24).

use corewire::{Failure, LoopLimits, Opcode, PoolsInUse};

use super::super::support::deflated::{Bfinal, Bits, Compressor, compressed, literally};
use super::super::support::naive::{LengthForm, header};
use super::owned::Crowd;
use super::*;

/// F9: exactly the limit passes, one byte more is 1009; in one frame and in fragments, whatever the
/// blocks are.
#[test]
fn a_message_may_inflate_to_the_limit_and_not_to_a_byte_more() {
    for limit_bytes in [0_u64, 1, 2, 511, 512, 513, 2048, 16_384, 16_385, 65_536] {
        let bytes = limit_bytes as usize;
        for payload in payloads(bytes) {
            for compression in both() {
                for fragment_bytes in [payload.len(), payload.len().div_ceil(3)] {
                    let frames = fragments(&payload, fragment_bytes);
                    let mut server =
                        agreed::endpoint(Role::Server, compression.clone(), bounded(limit_bytes));
                    let [Seen::Binary(message)] = &server.receive_frames(&frames)[..] else {
                        panic!("a message of {bytes} bytes did not pass")
                    };
                    assert_eq!(message.len(), bytes);
                    server.finish();
                }
            }
        }
        for payload in payloads(bytes + 1) {
            for compression in both() {
                for fragment_bytes in [payload.len(), payload.len().div_ceil(3)] {
                    let frames = fragments(&payload, fragment_bytes);
                    assert_too_large(compression.clone(), limit_bytes, &frames);
                }
            }
        }
    }
}

/// Payloads of messages of so many bytes: compressed well, badly, and not at all.
fn payloads(bytes: usize) -> Vec<Vec<u8>> {
    let stored: Vec<u8> = noise(5, bytes);
    let stored =
        stored.chunks(10_000).fold(Bits::new(), |stream, piece| stream.stored(Bfinal::No, piece));
    let mut payloads = vec![literally(&vec![b'x'; bytes]), stored.message()];
    if bytes > 0 {
        payloads.extend([compressed(&vec![0; bytes]), compressed(json(bytes).as_bytes())]);
    }
    payloads
}

/// The connection fails with 1009, and nothing is told before.
fn assert_too_large(compression: Compression, limit_bytes: u64, frames: &[Frame]) {
    let error = ProtocolError::MessageTooLarge { limit_bytes };
    let mut server = agreed::endpoint(Role::Server, compression, bounded(limit_bytes));
    assert_eq!(server.receive_frames(frames), [failed(error)]);
    assert_failed(server, error, 1009);
}

/// F9: in pieces exactly the limit's bytes are lent, then the connection fails.
#[test]
fn while_streaming_the_limits_bytes_are_lent_before_the_failure() {
    for limit_bytes in [1_u64, 2, 511, 512, 513, 16_384, 16_385, 65_536] {
        let bytes = limit_bytes as usize;
        for compression in both() {
            let server = || {
                agreed::endpoint(Role::Server, compression.clone(), |config| {
                    config.delivery = Delivery::Streaming;
                    config.limits.message_bytes_max = limit_bytes;
                })
            };
            for payload in payloads(bytes) {
                let seen = joined(server().receive_frames(&fragments(&payload, payload.len())));
                let [Seen::Chunk { payload, fin: true, .. }] = &seen[..] else {
                    panic!("{seen:?}")
                };
                assert_eq!(payload.len(), bytes);
            }
            for payload in payloads(bytes + 1) {
                for fragment_bytes in [payload.len(), payload.len().div_ceil(2)] {
                    let mut server = server();
                    let frames = fragments(&payload, fragment_bytes);
                    let seen = joined(server.receive_frames(&frames));
                    let [Seen::Chunk { payload, fin: false, .. }, failure] = &seen[..] else {
                        panic!("{seen:?}")
                    };
                    let error = ProtocolError::MessageTooLarge { limit_bytes };
                    assert_eq!((payload.len(), failure), (bytes, &failed(error)));
                    assert_failed(server, error, 1009);
                }
            }
        }
    }
}

/// F24: a bomb, which costs its sender a thousandth, is stopped at the limit: memory does not grow
/// beyond it and no more of the bomb is looked at.
#[test]
fn a_bomb_fails_at_the_limit() {
    let mut compressor = Compressor::new();
    let zeros = vec![0; 4 << 20];
    let first = compressor.flushed(&zeros);
    // Behind zeros, zeros are the same each time.
    let further = compressor.flushed(&zeros);
    assert_eq!(compressor.flushed(&zeros), further);
    let mut bomb = [first, further.repeat(63)].concat();
    bomb.truncate(bomb.len() - 4);
    assert!(bomb.len() < 300 << 10, "{} bytes for 256 MiB", bomb.len());
    let limit_bytes = 1 << 20;
    for compression in both() {
        for delivery in [Delivery::Whole, Delivery::Streaming] {
            for piece_bytes in [bomb.len() + 14, 1000] {
                let mut server = agreed::endpoint(Role::Server, compression.clone(), |config| {
                    config.delivery = delivery;
                });
                let before = server.pools.pinned_bytes();
                let wire = server.wire(&binary(&bomb));
                let mut lent_bytes = 0;
                let mut failures = Vec::new();
                for piece in wire.chunks(piece_bytes) {
                    for seen in server.receive(piece) {
                        match seen {
                            Seen::Chunk { payload, .. } => lent_bytes += payload.len() as u64,
                            other => failures.push(other),
                        }
                    }
                }
                let error = ProtocolError::MessageTooLarge { limit_bytes };
                assert_eq!(failures, [failed(error)]);
                let lent = if delivery == Delivery::Whole { 0 } else { limit_bytes };
                assert_eq!(lent_bytes, lent);
                let grown = server.pools.pinned_bytes() - before;
                assert!(grown < 5 << 19, "{grown} bytes");
                assert_failed(server, error, 1009);
            }
        }
    }
}

/// F24: a message that gives nothing does no harm however long it is, and is bounded as it travels.
#[test]
fn what_inflates_to_nothing_is_bounded_by_what_travels() {
    let limit_bytes = 10_000;
    // Empty blocks of fixed codes, of ten bits each, of which 4 make 5 bytes.
    let four = (0..4).fold(Bits::new(), |bits, _| bits.fixed(Bfinal::No).end_of_block()).bytes();
    assert_eq!(four.len(), 5);
    for compression in both() {
        let mut server = agreed::endpoint(Role::Server, compression.clone(), bounded(limit_bytes));
        let payload = [four.repeat(2000), vec![0]].concat();
        let seen = server.receive_frames(&fragments(&payload, 1000));
        assert_eq!(seen, [Seen::Binary(Vec::new())]);
        assert_too_large(compression, limit_bytes, &fragments(&four.repeat(3000), 1000));
    }
}

/// F6, F9: a frame far over the limit cannot be a message within it, compressed as it is: that is
/// known at its header. One that may be is looked into.
#[test]
fn a_compressed_length_far_over_the_limit_fails_at_the_header() {
    let limit_bytes = 1 << 20;
    let error = ProtocolError::MessageTooLarge { limit_bytes };
    for compression in both() {
        for length in [3 << 20, 1 << 40, (1 << 63) - 1] {
            let wire = header(0xC2, Some(KEY), length, LengthForm::Bits64);
            assert_fails(|| server(compression.clone()), &wire, error, 1009);
            let mut server = server(compression.clone());
            // The same for a message that has begun.
            assert_eq!(server.receive_frames(&[binary(HELLO).open()]), []);
            let wire = header(0x80, Some(KEY), length, LengthForm::Bits64);
            assert_eq!(server.receive(&wire), [failed(error)]);
            assert_failed(server, error, 1009);
        }
        let wire = header(0xC2, Some(KEY), 1 << 63, LengthForm::Bits64);
        assert_fails(|| server(compression.clone()), &wire, ProtocolError::LengthOverflow, 1002);
        // What does not compress gets longer, by the header of each block.
        let mut server = server(compression.clone());
        let message = noise(1, limit_bytes as usize);
        let blocks = message.chunks(1000);
        let payload = blocks.fold(Bits::new(), |bits, piece| bits.stored(Bfinal::No, piece));
        let payload = payload.message();
        assert!(payload.len() > message.len() + 5000);
        assert_eq!(server.receive_frames(&[binary(&payload)]), [Seen::Binary(message)]);
    }
}

/// A byte over the limit is too much whatever comes behind it, and in any split.
#[test]
fn what_comes_behind_a_byte_too_much_does_not_matter() {
    for limit_bytes in [0_u64, 1, 600] {
        let error = ProtocolError::MessageTooLarge { limit_bytes };
        let begun =
            || Bits::new().fixed(Bfinal::No).literals(&vec![b'x'; limit_bytes as usize + 1]);
        for payload in [
            begun().symbol(286).message(),
            begun().copy(3, 20_000).message(),
            begun().end_of_block().block(Bfinal::No, 3).bytes(),
            begun().end_of_block().lying_stored(Bfinal::No, 1, 1, b"").message(),
        ] {
            for compression in both() {
                let server =
                    || agreed::endpoint(Role::Server, compression.clone(), bounded(limit_bytes));
                assert_fails(server, &binary(&payload).masked(KEY).encode(), error, 1009);
            }
        }
    }
}

/// `LoopLimits::inflate_bytes_max`: without memory for a decompressor, or for the window, the
/// connection that needed it fails with 1013; uncompressed messages still pass.
#[test]
fn without_memory_to_inflate_the_connection_fails_with_1013() {
    for compression in both() {
        let limits = inflating(0);
        let mut server = agreed::limited(Role::Server, compression, &limits, |_| {});
        assert_eq!(server.receive_frames(&[Frame::text("a")]), [Seen::Text("a".into())]);
        let wire = server.wire(&text(HELLO));
        assert_eq!(server.receive(&wire[..6]), [Seen::Failed(Failure::PoolExhausted)]);
        let frames = server.write_frames();
        assert_eq!(frames[0].payload[..2], 1013_u16.to_be_bytes());
        assert_eq!(server.finish().code.as_u16(), 1013);
    }
    // Enough for a decompressor and a part of a window.
    let limits = inflating(52 << 10);
    for delivery in [Delivery::Whole, Delivery::Streaming] {
        let mut server = agreed::limited(Role::Server, dedicated(15), &limits, |config| {
            config.delivery = delivery;
        });
        let frames = [binary(compressed(&[1; 1000])), binary(compressed(&[2; 10_000]))];
        let mut seen = joined(server.receive_frames(&frames));
        assert_eq!(seen.pop(), Some(Seen::Failed(Failure::PoolExhausted)), "{delivery:?}");
        let frames = server.write_frames();
        assert_eq!(frames[0].payload[..2], 1013_u16.to_be_bytes());
        server.finish();
    }
}

/// At the bound who needs more fails, and who needs none goes on. What is free is given up first.
#[test]
fn at_the_bound_of_memory_to_inflate_those_that_need_none_go_on() {
    // Room for a decompressor, a whole window, and half of another.
    let limits = inflating((48 + 32 + 16) << 10);
    let mut crowd = Crowd::limited(Role::Server, &dedicated(15), 3, &limits);
    let full = binary(compressed(&[1; 40_000]));
    assert!(matches!(crowd.receive(0, &full)[..], [Seen::Binary(_)]));
    assert_eq!(crowd.receive(1, &full), [Seen::Failed(Failure::PoolExhausted)]);
    for _ in 0..3 {
        assert!(matches!(crowd.receive(0, &full)[..], [Seen::Binary(_)]), "before 1 is finished");
    }
    let half = binary(compressed(&[1; 8_000]));
    assert!(matches!(crowd.receive(2, &half)[..], [Seen::Binary(_)]));
    crowd.finish();

    let limits = inflating((2 * 48 + 32 + 8) << 10);
    let mut crowd = Crowd::limited(Role::Server, &dedicated(15), 3, &limits);
    // Two under way at once, then none.
    let mut open = full.clone().open();
    open.payload.truncate(10);
    assert_eq!(crowd.receive(0, &open), []);
    assert_eq!(crowd.receive(1, &open), []);
    crowd.finish_one(0);
    crowd.finish_one(1);
    assert_eq!(crowd.in_use(), PoolsInUse::default());
    for _ in 0..2 {
        let number = crowd.push();
        assert!(
            matches!(crowd.receive(number, &full)[..], [Seen::Binary(_)]),
            "in place of a free decompressor"
        );
    }
    crowd.finish();
}

fn inflating(bytes_max: usize) -> LoopLimits {
    let mut limits = LoopLimits::default();
    limits.inflate_bytes_max = bytes_max;
    limits
}

/// Every MiB of a message that is lent in pieces goes by without memory for all of it.
#[test]
fn a_streamed_message_needs_memory_for_a_piece_alone() {
    for compression in both() {
        let mut server = agreed::endpoint(Role::Server, compression, |config| {
            config.delivery = Delivery::Streaming;
            config.limits.message_bytes_max = 8 << 20;
        });
        let payload = compressed(&vec![b'x'; 8 << 20]);
        let seen = joined(server.receive_frames(&[text(&payload)]));
        let [Seen::Chunk { opcode: Opcode::Text, payload, fin: true, .. }] = &seen[..] else {
            panic!("not one text")
        };
        assert!(payload.len() == 8 << 20 && payload.iter().all(|byte| *byte == b'x'));
        let pinned = server.pools.pinned_bytes();
        assert!(pinned < 512 << 10, "{pinned} bytes");
        assert_eq!(server.pools.in_use().blocks, 0);
        server.finish();
    }
}
