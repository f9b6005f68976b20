//! §7.2.2: what is no deflate stream fails the connection with 1007 (F25).

use super::super::support::deflated::{Bfinal, Bits, Compressor, compressed, literally};
use super::owned::Crowd;
use super::*;

const CORRUPT: ProtocolError = ProtocolError::CorruptCompression;

/// Payloads that go wrong, and what they inflate to before.
fn corrupt() -> Vec<(&'static str, Vec<u8>, &'static [u8])> {
    let hello = || Bits::new().fixed(Bfinal::No).literals(b"Hello");
    let last = Bits::new().fixed(Bfinal::Yes).literals(b"Hello").end_of_block().bytes();
    vec![
        ("a reserved block type", Bits::new().block(Bfinal::No, 3).bytes(), b""),
        ("one behind a block", hello().end_of_block().block(Bfinal::No, 3).bytes(), b"Hello"),
        ("one in a last block", hello().end_of_block().block(Bfinal::Yes, 3).bytes(), b"Hello"),
        ("one behind a last block", [&last[..], &[0x06]].concat(), b"Hello"),
        ("a distance before the first byte", hello().copy(3, 6).message(), b"Hello"),
        ("one from a byte on", hello().copy(3, 5).copy(3, 9).message(), b"HelloHel"),
        ("a distance from nothing", Bits::new().fixed(Bfinal::No).copy(3, 1).message(), b""),
        ("the largest distance", hello().copy(3, 32_768).message(), b"Hello"),
        ("one behind a last block", behind(&last, 6), b"Hello"),
        ("a length that there is not", hello().symbol(286).message(), b"Hello"),
        ("another", hello().symbol(287).message(), b"Hello"),
        ("a distance that there is not", hello().symbol(257).number(0x0F, 5).message(), b"Hello"),
        (
            "lengths that do not fit",
            Bits::new().lying_stored(Bfinal::No, 2, 2, b"ab").message(),
            b"",
        ),
        (
            "tables of no codes",
            Bits::new().block(Bfinal::No, 2).number(0, 32).number(0, 28).message(),
            b"",
        ),
        (
            "tables of too many codes",
            Bits::new().block(Bfinal::No, 2).number(u32::MAX, 32).number(u32::MAX, 32).bytes(),
            b"",
        ),
        (
            "cut in a stored block",
            Bits::new().stored(Bfinal::No, b"Hello").bytes()[..8].to_vec(),
            b"Hel",
        ),
        ("cut behind a header", vec![0x00, 0x05], b""),
        ("cut in fixed codes", hello().literals(b"abc").bytes(), b"Helloabc"),
        ("junk behind the end", [&HELLO[..], &[0xFF]].concat(), b"Hello"),
        ("a flush that travels", [&HELLO[..], &[0, 0xFF, 0xFF]].concat(), b"Hello"),
        ("junk behind a last block", [&last[..], &[0xFF]].concat(), b"Hello"),
    ]
}

/// A block behind a last one that refers to what is in front of the message.
fn behind(last: &[u8], distance: u32) -> Vec<u8> {
    let block = Bits::new().fixed(Bfinal::No).copy(3, distance).end_of_block().message();
    [last, &block].concat()
}

/// F25: in one frame, in two, at once and byte by byte: 1007 and nothing else.
#[test]
fn a_corrupt_message_fails_with_1007() {
    for compression in both() {
        for (_, payload, _) in corrupt() {
            let server = || server(compression.clone());
            let wire = binary(&payload).masked(KEY).encode();
            assert_fails(server, &wire, CORRUPT, 1007);
            let half = payload.len() / 2;
            let mut wire = binary(&payload[..half]).open().masked(KEY).encode();
            wire.extend(Frame::new(CONTINUATION, &payload[half..]).masked(KEY).encode());
            assert_fails(server, &wire, CORRUPT, 1007);
            assert_fails(|| client(compression.clone()), &text(&payload).encode(), CORRUPT, 1007);
        }
    }
}

/// In pieces what is right is lent first, whatever the split.
#[test]
fn while_streaming_what_is_right_is_lent_before_the_failure() {
    for compression in both() {
        for (what, payload, good) in corrupt() {
            let wire = text(&payload).masked(KEY).encode();
            for piece_bytes in 1..=wire.len() {
                let mut server = streaming(compression.clone());
                let pieces_of_wire = wire.chunks(piece_bytes);
                let seen = joined(pieces_of_wire.flat_map(|piece| server.receive(piece)).collect());
                let mut expected = vec![failed(CORRUPT)];
                if !good.is_empty() {
                    expected.insert(0, pieces(Opcode::Text, good, Fin::No));
                }
                assert_eq!(seen, expected, "{what}, in pieces of {piece_bytes}");
                assert_failed(server, CORRUPT, 1007);
            }
        }
    }
}

/// What the four bytes that do not travel make of a message that was cut is no part of it, though
/// some of that still had room below the limit.
#[test]
fn what_a_cut_message_makes_of_its_ending_is_not_lent() {
    let message = json(700);
    let payload = Bits::new().stored(Bfinal::No, message.as_bytes()).bytes();
    let cut = binary(&payload[..payload.len() - 100]);
    let good = &message.as_bytes()[..600];
    for room in 0..20 {
        for compression in both() {
            for delivery in [Delivery::Whole, Delivery::Streaming] {
                let mut server = agreed::endpoint(Role::Server, compression.clone(), |config| {
                    config.delivery = delivery;
                    config.limits.message_bytes_max = 600 + room;
                });
                let mut seen = joined(server.receive_frames(std::slice::from_ref(&cut)));
                // Where there is no room for it, it is too much before it is found to be wrong.
                let limit_bytes = 600 + room;
                let errors = [CORRUPT, ProtocolError::MessageTooLarge { limit_bytes }].map(failed);
                assert!(errors.contains(&seen.pop().expect("it fails")));
                let lent = match delivery {
                    Delivery::Whole => Vec::new(),
                    Delivery::Streaming => vec![pieces(Opcode::Binary, good, Fin::No)],
                };
                assert_eq!(seen, lent);
                assert_eq!(server.finish().incomplete_bytes, 600);
            }
        }
    }
}

/// F25: without context takeover a message cannot refer to an earlier one, even though the same
/// decompressor has inflated it; nor can it to that of another connection.
#[test]
fn without_context_takeover_earlier_messages_are_out_of_reach() {
    let far = Bits::new().fixed(Bfinal::No).copy(3, 1).end_of_block().message();
    let last = Bits::new().fixed(Bfinal::Yes).literals(b"a").end_of_block().bytes();
    for payload in [far.clone(), behind(&last, 2)] {
        for mut server in [server(shared()), streaming(shared())] {
            // A last block within it leaves a history, which is forgotten too.
            let cut = Bits::new().fixed(Bfinal::Yes).literals(b"Hello").end_of_block().bytes();
            let seen = joined(server.receive_frames(&[
                text(HELLO),
                binary(cut.repeat(2)),
                binary(literally(&[b'x'; 600])),
                binary(&payload),
            ]));
            assert_eq!(seen.last(), Some(&failed(CORRUPT)), "{seen:?}");
            assert_failed(server, CORRUPT, 1007);
        }
    }
    for compression in both() {
        let mut crowd = Crowd::new(Role::Server, &compression, 2);
        assert_eq!(crowd.receive(0, &text(HELLO)), [Seen::Text("Hello".into())]);
        assert_eq!(crowd.receive(1, &text(&far)), [failed(CORRUPT)]);
        assert_eq!(crowd.receive(0, &text(HELLO)), [Seen::Text("Hello".into())]);
        crowd.finish();
    }
}

/// §7.1.2, §7.2.1: with context takeover nothing before the agreed window can be referred to by a
/// later message.
#[test]
fn a_distance_before_the_window_of_earlier_messages_fails() {
    for window_bits in [9, 12, 15] {
        let window = 1 << window_bits;
        for filled in [1, 100, window - 1, window, window + 1, 2 * window + 7] {
            let reach = filled.min(window);
            for (distance, is_right) in [(reach, true), (reach + 1, false)] {
                if distance > 32_768 {
                    // There is no way to write it down.
                    continue;
                }
                for mut server in
                    [server(dedicated(window_bits)), streaming(dedicated(window_bits))]
                {
                    let first = noise(1, filled as usize);
                    let stream = first
                        .chunks(60_000)
                        .fold(Bits::new(), |stream, piece| stream.stored(Bfinal::No, piece));
                    let second =
                        Bits::new().fixed(Bfinal::No).copy(3, distance).end_of_block().message();
                    let frames = [binary(stream.message()), binary(second)];
                    let seen = joined(server.receive_frames(&frames));
                    let is_corrupt = seen.last() == Some(&failed(CORRUPT));
                    assert_eq!(is_corrupt, !is_right, "{window_bits}, {filled}, {distance}");
                    server.finish();
                }
            }
        }
    }
}

/// F25: every cut of good messages, and every bit of one turned, is either a message or 1007; then
/// nothing is left behind.
#[test]
fn cut_and_damaged_messages_are_messages_or_fail() {
    let message = json(900);
    let stored = Bits::new().stored(Bfinal::No, &message.as_bytes()[..200]).message();
    let last = Bits::new().fixed(Bfinal::Yes).literals(b"Hello").end_of_block().message();
    for payload in
        [compressed(message.as_bytes()), stored.clone(), literally(b"Hello, world"), last]
    {
        let cuts = (0..payload.len()).map(|bytes| payload[..bytes].to_vec());
        let turned = (0..payload.len() * 8).map(|bit| {
            let mut payload = payload.clone();
            payload[bit / 8] ^= 1 << (bit % 8);
            payload
        });
        for damaged in cuts.chain(turned) {
            for mut server in [server(dedicated(15)), streaming(shared())] {
                let seen = joined(server.receive_frames(&[binary(&damaged)]));
                match seen.last().expect("something comes of it") {
                    Seen::Binary(_) | Seen::Chunk { fin: true, .. } => {}
                    other => assert_eq!(*other, failed(CORRUPT)),
                }
                server.finish();
            }
        }
        // A cut is never taken for the whole. Of a stored block the beginning is an empty one, and
        // the four bytes that do not travel may be the last of its data.
        for cut in 1..payload.len() - 1 {
            if payload == stored && [1, payload.len() - 5].contains(&cut) {
                continue;
            }
            let seen = server(shared()).receive_frames(&[binary(&payload[..cut])]);
            assert_eq!(seen, [failed(CORRUPT)], "cut to {cut} of {}", payload.len());
        }
    }
}

/// F25: what one connection has broken is nothing to the others of its pools: their messages, also
/// those under way, come out right, and all memory goes back.
#[test]
fn other_connections_of_the_same_pools_go_on() {
    for compression in both() {
        let takeover = compression != shared();
        let mut crowd = Crowd::new(Role::Server, &compression, 8);
        let mut peers: Vec<_> = (0..8).map(|_| Compressor::new()).collect();
        let kinds = corrupt();
        for (index, (_, damaged, _)) in kinds.iter().enumerate() {
            let wrong = crowd.push();
            let message = json(3000 + index).into_bytes();
            let mut rests = Vec::new();
            for (number, peer) in peers.iter_mut().enumerate() {
                let payload = if takeover { peer.message(&message) } else { compressed(&message) };
                let mut halves = fragments(&payload, payload.len().div_ceil(2)).into_iter();
                let first = halves.next().expect("two halves");
                assert_eq!(crowd.receive(number, &first), []);
                rests.extend(halves);
            }
            assert_eq!(crowd.in_use().inflaters, 8);
            assert_eq!(crowd.receive(wrong, &text(damaged)), [failed(CORRUPT)]);
            for (number, rest) in rests.iter().enumerate() {
                let expected = [Seen::Binary(message.clone())];
                assert_eq!(crowd.receive(number, rest), expected);
            }
            crowd.finish_one(wrong);
            let windows = if takeover { 8 } else { 0 };
            let in_use = crowd.in_use();
            assert_eq!((in_use.inflaters, in_use.assemblies, in_use.blocks), (0, 0, 0));
            assert_eq!(in_use.windows, windows);
        }
        crowd.finish();
    }
}
