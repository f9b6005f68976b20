//! §6.1 and §7.2.1: what we compress, how, and what becomes of the window when a message is lost.

use corewire::{DropReason, LoopLimits, OverflowPolicy, Part, PreparedMessage, SendOutcome};

use super::super::support::deflated::Decompressor;
use super::owned::Crowd;
use super::*;

/// Sends by every way there is for whole messages, and what the peer shall see.
fn every_way(end: &mut Endpoint, message: &str) -> Vec<(u8, Vec<u8>)> {
    let bytes = message.as_bytes();
    let outcomes = [
        end.act(|transmit| transmit.send_text(message)),
        end.act(|transmit| transmit.send_binary(bytes)),
        end.act(|transmit| transmit.send_bytes(bytes.to_vec().into())),
        end.act(|transmit| transmit.send_prepared(&PreparedMessage::text(message))),
        end.act(|transmit| transmit.send_prepared(&PreparedMessage::binary(bytes))),
    ];
    assert_eq!(outcomes, [SendOutcome::Sent; 5]);
    [TEXT, BINARY, BINARY, TEXT, BINARY].map(|opcode| (opcode, bytes.to_vec())).to_vec()
}

/// What another implementation makes of frames: messages and whether they were compressed.
fn read(frames: &[Frame], compression: &Compression) -> Vec<(u8, Vec<u8>)> {
    let takeover = *compression != shared();
    let mut decompressor = Decompressor::new(15);
    let messages = frames.iter().map(|frame| {
        assert!(frame.fin && frame.opcode != CONTINUATION, "a whole message");
        if frame.rsv == 0 {
            return (frame.opcode, frame.payload.clone());
        }
        assert_eq!(frame.rsv, RSV1);
        if !takeover {
            decompressor = Decompressor::new(15);
        }
        (frame.opcode, decompressor.message(&frame.payload))
    });
    messages.collect()
}

/// §6.1: every way of sending compresses messages from the threshold on and none below; what is
/// sent is right either way.
#[test]
fn messages_are_compressed_from_the_threshold_on() {
    for compression in both() {
        for threshold_bytes in [0, 1, 128, 129, 5000] {
            let compression = compression.clone().threshold_bytes(threshold_bytes);
            for role in [Role::Server, Role::Client] {
                for bytes in [0, 1, 127, 128, 129, 4999, 5000, 5001, 70_000] {
                    let mut end = agreed::endpoint(role, compression.clone(), |_| {});
                    let message = "ab".repeat(bytes).split_off(bytes);
                    let sent = every_way(&mut end, &message);
                    let frames = end.write_bare_frames();
                    assert_eq!(read(&frames, &agreed_like(&compression)), sent);
                    let takeover = agreed_like(&compression) != shared();
                    // A message that does not get shorter goes as it is, unless it is referred to.
                    let is_worth_it = bytes >= threshold_bytes && (takeover || bytes > 100);
                    for frame in frames.iter().filter(|_| bytes > 100 || takeover) {
                        assert_eq!(frame.rsv == RSV1, is_worth_it, "{bytes}, {threshold_bytes}");
                    }
                }
            }
        }
    }
}

/// The settings without their threshold.
fn agreed_like(compression: &Compression) -> Compression {
    Compression::new(compression.mode()).expect("it was valid")
}

/// The default threshold is 128 bytes.
#[test]
fn short_messages_are_sent_uncompressed_by_default() {
    for compression in both() {
        for (bytes, rsv) in [(127, 0), (128, RSV1)] {
            let mut server = server(compression.clone());
            every_way(&mut server, &"a".repeat(bytes));
            for frame in server.write_frames() {
                assert_eq!(frame.rsv, rsv, "{bytes} bytes");
            }
        }
    }
}

/// What shall not be compressed is not, and does not enter the window (§7.2.1).
#[test]
fn uncompressed_sends_go_as_they_are_and_past_the_window() {
    for compression in both() {
        for role in [Role::Server, Role::Client] {
            let mut end = agreed::endpoint(role, compression.clone(), |_| {});
            let (first, secret) = (json(2000), json(2500));
            let mut sent = every_way(&mut end, &first);
            let prepared = PreparedMessage::text(&secret).uncompressed();
            for outcome in [
                end.act(|transmit| transmit.send_text_uncompressed(&secret)),
                end.act(|transmit| transmit.send_binary_uncompressed(secret.as_bytes())),
                end.act(|transmit| transmit.send_prepared(&prepared)),
            ] {
                assert_eq!(outcome, SendOutcome::Sent);
            }
            sent.extend([TEXT, BINARY, TEXT].map(|opcode| (opcode, secret.clone().into_bytes())));
            sent.extend(every_way(&mut end, &secret));
            let frames = end.write_bare_frames();
            let rsvs: Vec<_> = frames.iter().map(|frame| frame.rsv).collect();
            assert_eq!(rsvs[..5], [RSV1; 5]);
            assert_eq!(rsvs[5..8], [0; 3]);
            assert_eq!(rsvs[8..], [RSV1; 5]);
            assert_eq!(read(&frames, &compression), sent);
            end.finish();
        }
    }
}

/// §6.1: parts are frames of an uncompressed message, however long; the window knows nothing of
/// them.
#[test]
fn parts_are_never_compressed() {
    for compression in both() {
        for role in [Role::Server, Role::Client] {
            let mut end = agreed::endpoint(role, compression.clone(), |_| {});
            let long = json(3000);
            let mut sent = every_way(&mut end, &long);
            for part in [Part::First, Part::Middle, Part::Last] {
                let part =
                    end.act(|transmit| transmit.send_part(Opcode::Text, long.as_bytes(), part));
                assert!(part.is_taken());
            }
            sent.extend(every_way(&mut end, &long));
            let mut frames = end.write_bare_frames();
            let parts: Vec<_> = frames.drain(5..8).collect();
            assert_eq!(parts[0], Frame::text(&long).open());
            assert_eq!(parts[1], Frame::new(CONTINUATION, &long).open());
            assert_eq!(parts[2], Frame::new(CONTINUATION, &long));
            assert_eq!(read(&frames, &compression), sent);
        }
    }
}

/// Control frames are never compressed (§6.1).
#[test]
fn control_frames_are_never_compressed() {
    for compression in both() {
        let compression = compression.threshold_bytes(0);
        for role in [Role::Server, Role::Client] {
            let mut end = agreed::endpoint(role, compression.clone(), |_| {});
            assert!(end.act(|transmit| transmit.send_ping(&[b'a'; 125])).is_taken());
            end.receive_frames(&[Frame::ping([b'b'; 125])]);
            end.act(|transmit| transmit.close(corewire::CloseCode::NORMAL, &"c".repeat(120)))
                .expect("a valid Close");
            let frames = end.write_frames();
            assert_eq!(frames.len(), 3);
            assert!(frames.iter().all(|frame| frame.rsv == 0));
        }
    }
}

/// What does not get shorter goes as it is where nothing will refer to it; with context takeover
/// it enters the window, so it must be compressed.
#[test]
fn incompressible_messages_are_compressed_only_with_context_takeover() {
    for (compression, rsv) in [(shared(), 0), (dedicated(15), RSV1)] {
        for role in [Role::Server, Role::Client] {
            for bytes in [128, 1000, 20_000, 100_000] {
                let mut end = agreed::endpoint(role, compression.clone(), |_| {});
                let message = noise(bytes as u64, bytes);
                for outcome in [
                    end.act(|transmit| transmit.send_binary(&message)),
                    end.act(|transmit| transmit.send_bytes(message.clone().into())),
                    end.act(|transmit| transmit.send_prepared(&PreparedMessage::binary(&message))),
                ] {
                    assert_eq!(outcome, SendOutcome::Sent);
                }
                let frames = end.write_bare_frames();
                assert_eq!(frames[0].rsv, rsv);
                // Fixed codes, which the lowest level makes, take at most nine bits for a byte.
                let bytes_max = if rsv == 0 { bytes } else { bytes + bytes / 8 + 8 };
                assert!(frames.iter().all(|frame| frame.payload.len() <= bytes_max));
                let expected = vec![(BINARY, message); 3];
                assert_eq!(read(&frames, &compression), expected);
            }
        }
    }
}

/// With context takeover later messages refer to earlier ones, also to prepared ones; without it
/// equal messages are equal frames.
#[test]
fn repeated_messages_get_shorter_with_context_takeover_alone() {
    let message = json(4000);
    for (compression, takeover) in [(shared(), false), (dedicated(15), true)] {
        let mut server = server(compression.clone());
        let sent = every_way(&mut server, &message);
        let frames = server.write_frames();
        assert_eq!(read(&frames, &compression), sent);
        for frame in &frames[1..] {
            if takeover {
                assert!(frame.payload.len() * 5 < frames[0].payload.len());
            } else {
                assert_eq!(frame.payload, frames[0].payload);
            }
        }
    }
}

/// A prepared message is compressed once for all connections without context takeover: they queue
/// one and the same frame, by reference where it is large.
#[test]
fn a_prepared_message_is_compressed_once_for_all_without_context_takeover() {
    let message = PreparedMessage::text(&json(200_000));
    let mut crowd = Crowd::new(Role::Server, &shared(), 50);
    assert!(crowd.act(0, |transmit| transmit.send_prepared(&message)).is_taken());
    let once = crowd.pinned_bytes();
    let clone = message.clone();
    for number in 1..50 {
        let message = if number % 2 == 0 { &message } else { &clone };
        assert!(crowd.act(number, |transmit| transmit.send_prepared(message)).is_taken());
    }
    assert!(crowd.pinned_bytes() - once < 20_000, "the frame is kept once");
    assert_eq!(crowd.in_use().rings, 0, "nothing was copied");
    let first = crowd.write_frames(0);
    assert_eq!(first[0].rsv, RSV1);
    assert_eq!(Decompressor::new(15).message(&first[0].payload), message.payload());
    for number in 1..50 {
        assert_eq!(crowd.write_frames(number), first);
    }
    crowd.finish();
}

/// It is made at the first need and never again: one that was made stays, even where there is no
/// memory to make it, and to connections with another level of compression.
#[test]
fn the_frame_of_a_prepared_message_is_made_once() {
    let message = PreparedMessage::binary(json(20_000).as_bytes());
    let mut server = server(shared());
    assert!(server.act(|transmit| transmit.send_prepared(&message)).is_taken());
    let frames = server.write_frames();
    let mut limits = LoopLimits::default();
    limits.deflate_bytes_max = 0;
    let mut poor = agreed::limited(Role::Server, shared(), &limits, |_| {});
    assert!(poor.act(|transmit| transmit.send_prepared(&message)).is_taken());
    assert_eq!(poor.write_frames(), frames);
    let fresh = PreparedMessage::binary(message.payload());
    assert!(poor.act(|transmit| transmit.send_prepared(&fresh)).is_taken());
    assert_eq!(poor.write_frames(), [Frame::binary(message.payload())]);
}

/// With context takeover each has its own, in the place that it has among that connection's
/// messages; a client's frames are its own in any case (RFC 6455 §5.3).
#[test]
fn a_prepared_message_is_compressed_for_each_with_context_takeover() {
    let message = PreparedMessage::text(&json(3000));
    for (role, compression) in
        [(Role::Server, dedicated(15)), (Role::Client, dedicated(15)), (Role::Client, shared())]
    {
        let mut crowd = Crowd::new(role, &compression, 4);
        for number in 0..4 {
            let mut sent = Vec::new();
            for own in 0..number {
                let own = format!("{own} of {number}: {}", json(300));
                assert!(crowd.act(number, |transmit| transmit.send_text(&own)).is_taken());
                sent.push((TEXT, own.into_bytes()));
                assert!(crowd.act(number, |transmit| transmit.send_prepared(&message)).is_taken());
                sent.push((TEXT, message.payload().to_vec()));
            }
            let frames = crowd.write_frames(number);
            assert!(frames.iter().all(|frame| frame.rsv == RSV1));
            assert_eq!(read(&frames, &compression), sent);
        }
        crowd.finish();
    }
}

/// §7.2.1: a message that was not taken is not in the window: the next one inflates all the same.
#[test]
fn a_message_that_was_dropped_does_not_enter_the_window() {
    for role in [Role::Server, Role::Client] {
        let mut end = agreed::endpoint(role, dedicated(15), |config| {
            config.limits.backpressure_bytes_max = 100;
            config.on_overflow = OverflowPolicy::Refuse;
        });
        let mut sent = Vec::new();
        let mut frames = Vec::new();
        for round in 0..10_u64 {
            let taken = String::from_utf8(noise(round, 400).iter().map(|b| b % 64 + 32).collect());
            let taken = taken.expect("ASCII");
            assert!(end.act(|transmit| transmit.send_text(&taken)).is_taken());
            sent.push((TEXT, taken.clone().into_bytes()));
            let lost = json(500 + round as usize);
            let dropped = SendOutcome::Dropped(DropReason::Backpressure);
            for outcome in [
                end.act(|transmit| transmit.send_text(&lost)),
                end.act(|transmit| transmit.send_bytes(lost.clone().into())),
                end.act(|transmit| transmit.send_prepared(&PreparedMessage::text(&lost))),
            ] {
                assert_eq!(outcome, dropped);
            }
            frames.extend(end.write_bare_frames());
            // While a message is sent in parts, others are refused.
            let first = end.act(|transmit| transmit.send_part(Opcode::Binary, b"1", Part::First));
            assert!(first.is_taken());
            let busy = SendOutcome::Dropped(DropReason::MessageInProgress);
            assert_eq!(end.act(|transmit| transmit.send_text(&lost)), busy);
            let last = end.act(|transmit| transmit.send_part(Opcode::Binary, b"2", Part::Last));
            assert!(last.is_taken());
            end.write_frames();
            // Now it is taken, and may refer to what was taken alone.
            assert!(end.act(|transmit| transmit.send_text(&lost)).is_taken());
            sent.push((TEXT, lost.into_bytes()));
            frames.extend(end.write_bare_frames());
        }
        assert_eq!(read(&frames, &dedicated(15)), sent);
        end.act(|transmit| transmit.close(corewire::CloseCode::NORMAL, "")).expect("a valid Close");
        let closing = SendOutcome::Dropped(DropReason::Closing);
        assert_eq!(end.act(|transmit| transmit.send_text(&json(500))), closing);
        assert_eq!(end.write_frames().len(), 1, "the Close alone");
        end.finish();
    }
}

/// `LoopLimits::deflate_bytes_max`: without memory for a compressor messages go as they are; those
/// with one go on compressing.
#[test]
fn without_memory_to_compress_messages_are_sent_uncompressed() {
    let mut limits = LoopLimits::default();
    limits.deflate_bytes_max = 0;
    for compression in both() {
        for role in [Role::Server, Role::Client] {
            let mut end = agreed::limited(role, compression.clone(), &limits, |_| {});
            let sent = every_way(&mut end, &json(3000));
            let frames = end.write_bare_frames();
            assert!(frames.iter().all(|frame| frame.rsv == 0));
            assert_eq!(read(&frames, &compression), sent);
            assert_eq!(end.pools.in_use().takeovers, 0);
            end.finish();
        }
    }
    // Memory for two compressors: the third connection gets one when the first gives its own back.
    limits.deflate_bytes_max = 800 << 10;
    let mut crowd = Crowd::limited(Role::Server, &dedicated(15), 3, &limits);
    let rsv = |crowd: &mut Crowd, number| {
        assert!(crowd.act(number, |transmit| transmit.send_text(&json(500))).is_taken());
        crowd.write_frames(number)[0].rsv
    };
    for _ in 0..2 {
        assert_eq!([0, 1, 2].map(|number| rsv(&mut crowd, number)), [RSV1, RSV1, 0]);
    }
    crowd.finish_one(0);
    assert_eq!([1, 2].map(|number| rsv(&mut crowd, number)), [RSV1, RSV1]);
    // It begins with a window of its own.
    assert!(crowd.act(2, |transmit| transmit.send_text(&json(600))).is_taken());
    crowd.finish();
}

/// A compressor that goes from one connection to the next refers to nothing of the first.
#[test]
fn a_compressor_that_is_handed_on_starts_anew() {
    for compression in both() {
        let mut crowd = Crowd::new(Role::Server, &compression, 0);
        for number in 0..20 {
            assert_eq!(crowd.push(), number);
            for _ in 0..2 {
                assert!(crowd.act(number, |transmit| transmit.send_text(&json(2000))).is_taken());
            }
            let frames = crowd.write_frames(number);
            let expected = vec![(TEXT, json(2000).into_bytes()); 2];
            assert_eq!(read(&frames, &compression), expected);
            crowd.finish_one(number);
        }
        crowd.finish();
    }
}
