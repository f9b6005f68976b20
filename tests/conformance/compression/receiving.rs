//! §6 and §7.2.2: which frames may be compressed, and what a peer's messages inflate to.

use corewire::{Opcode, ProtocolError};

use super::super::support::deflated::{Bfinal, Bits, Compressor, compressed, literally};
use super::super::support::naive::{CLOSE, PING, PONG};
use super::*;

/// §6, F2: "MUST NOT set the RSV1 bit of control frames and non-first fragments"; whoever does is
/// told so at the first byte.
#[test]
fn rsv1_may_stand_on_the_first_frame_of_a_message_alone() {
    for compression in both() {
        let server = || server(compression.clone());
        for (opcode, payload) in [(TEXT, HELLO), (BINARY, HELLO)] {
            let frame = Frame::new(opcode, payload).rsv(RSV1);
            assert_eq!(server().receive_frames(&[frame]).len(), 1, "allowed");
        }
        for opcode in [CONTINUATION, CLOSE, PING, PONG] {
            let frame = Frame::new(opcode, "").rsv(RSV1).masked(KEY).encode();
            let error = ProtocolError::ReservedBits { bits: RSV1 };
            assert_fails(server, &frame, error, 1002);
            assert_fails(server, &frame[..1], error, 1002);
        }
        // Within a message too, compressed or not.
        for first in [text(&HELLO[..3]), Frame::text("He")] {
            for opcode in [CONTINUATION, CLOSE, PING, PONG] {
                let mut server = server();
                assert_eq!(server.receive_frames(&[first.clone().open()]), []);
                let frame = Frame::new(opcode, "").rsv(RSV1).masked(KEY).encode();
                let error = ProtocolError::ReservedBits { bits: RSV1 };
                assert_eq!(server.receive(&frame[..1]), [failed(error)]);
                assert_failed(server, error, 1002);
            }
        }
    }
}

/// §6, F2: without an agreement RSV1 means nothing, for either end.
#[test]
fn rsv1_fails_a_connection_that_has_not_agreed_on_it() {
    let error = ProtocolError::ReservedBits { bits: RSV1 };
    assert_fails(Endpoint::server, &text(HELLO).masked(KEY).encode(), error, 1002);
    assert_fails(Endpoint::client, &text(HELLO).encode(), error, 1002);
    // That one would compress says nothing of its peer.
    let willing = || {
        let mut config = Config::new(Role::Server);
        config.compression = shared();
        Endpoint::new(config)
    };
    assert_fails(willing, &text(HELLO).masked(KEY).encode(), error, 1002);
}

/// RFC 6455 §5.2, F2: the other two are still nobody's; they alone are complained about where RSV1
/// is allowed.
#[test]
fn rsv2_and_rsv3_fail_the_connection_although_rsv1_is_agreed_on() {
    for compression in both() {
        for opcode in [CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG] {
            for rsv in [1, 2, 3, 5, 6, 7] {
                let allowed = if [TEXT, BINARY].contains(&opcode) { RSV1 } else { 0 };
                let error = ProtocolError::ReservedBits { bits: rsv & !allowed };
                let frame = Frame::new(opcode, "").rsv(rsv).masked(KEY).encode();
                assert_fails(|| server(compression.clone()), &frame, error, 1002);
                assert_fails(|| server(compression.clone()), &frame[..1], error, 1002);
            }
        }
    }
}

/// RFC 6455 §5.4 holds for compressed messages as well.
#[test]
fn a_compressed_message_is_not_interleaved_with_another() {
    for compression in both() {
        for (first, second) in [
            (text(&HELLO[..3]), text(HELLO)),
            (text(&HELLO[..3]), Frame::text("x")),
            (Frame::text("x"), text(HELLO)),
        ] {
            let mut server = server(compression.clone());
            let seen = server.receive_frames(&[first.open(), second]);
            let error = ProtocolError::ExpectedContinuation { opcode: Opcode::Text };
            assert_eq!(seen, [failed(error)]);
            assert_failed(server, error, 1002);
        }
    }
}

/// §7.2.3.1, §7.2.3.3 to §7.2.3.6: the payloads of the RFC's examples.
fn examples() -> [(&'static [u8], &'static str); 9] {
    [
        (&HELLO, "Hello"),
        // A block without compression.
        (&[0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48, 0x65, 0x6C, 0x6C, 0x6F, 0x00], "Hello"),
        // A block that calls itself the last one.
        (&[0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00], "Hello"),
        // Two blocks.
        (&[0xF2, 0x48, 0x05, 0, 0, 0, 0xFF, 0xFF, 0xCA, 0xC9, 0xC9, 0x07, 0x00], "Hello"),
        // Blocks that give nothing.
        (&[0x00], ""),
        (&[0x02, 0x00], ""),
        (&[0x01], ""),
        (&[0x03, 0x00], ""),
        // We choose: the empty block behind a last one may be missing.
        (&[0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00], "Hello"),
    ]
}

/// §7.2.3: in one frame and in fragments of every length, whole and in pieces, for both ends.
#[test]
fn the_examples_of_the_rfc_are_understood() {
    for compression in both() {
        for (payload, expected) in examples() {
            let expected = [Seen::Text(expected.into())];
            for fragment_bytes in 1..=payload.len() {
                let mut frames = fragments(payload, fragment_bytes);
                frames[0].opcode = TEXT;
                for mut end in [server(compression.clone()), client(compression.clone())] {
                    assert_eq!(end.receive_frames(&frames), expected, "{payload:02x?}");
                    let wire = end.wires(&frames);
                    let seen: Vec<_> = wire.chunks(1).flat_map(|byte| end.receive(byte)).collect();
                    assert_eq!(seen, expected, "{payload:02x?} byte by byte");
                    end.finish();
                }
            }
        }
    }
}

/// §7.2.3.6 has a byte for it; some peers send none.
#[test]
fn an_empty_payload_is_an_empty_message() {
    for compression in both() {
        for mut end in [server(compression.clone()), client(compression.clone())] {
            assert_eq!(end.receive_frames(&[text([])]), [Seen::Text(String::new())]);
            end.finish();
        }
    }
}

/// The same in pieces as they come.
#[test]
fn the_examples_of_the_rfc_are_understood_while_streaming() {
    for compression in both() {
        for (payload, expected) in examples() {
            for fragment_bytes in 1..=payload.len() {
                let mut server = streaming(compression.clone());
                let mut frames = fragments(payload, fragment_bytes);
                frames[0].opcode = TEXT;
                let expected = [pieces(Opcode::Text, expected, Fin::Yes)];
                assert_eq!(joined(server.receive_frames(&frames)), expected, "{payload:02x?}");
                let wire = server.wires(&frames);
                let seen = wire.chunks(1).flat_map(|byte| server.receive(byte)).collect();
                assert_eq!(joined(seen), expected, "{payload:02x?} byte by byte");
                server.finish();
            }
        }
    }
}

/// §7.2.3.2: with context takeover a message may refer to the one before it, without it not.
#[test]
fn a_second_message_refers_to_the_first_where_that_was_agreed_on() {
    let hello = Seen::Text("Hello".into());
    let frames = [text(HELLO), text(HELLO_AGAIN), text(HELLO_AGAIN), text(HELLO)];
    for mut end in [server(dedicated(15)), client(dedicated(15))] {
        assert_eq!(end.receive_frames(&frames), vec![hello.clone(); 4]);
        end.finish();
    }
    let mut server = streaming(dedicated(15));
    let hello_pieces = pieces(Opcode::Text, "Hello", Fin::Yes);
    assert_eq!(joined(server.receive_frames(&frames)), vec![hello_pieces; 4]);
    for mut end in [self::server(shared()), client(shared())] {
        let error = ProtocolError::CorruptCompression;
        assert_eq!(end.receive_frames(&frames), [hello.clone(), failed(error)]);
        assert_failed(end, error, 1007);
    }
}

/// §5.4 of RFC 6455, §6.1: control frames stand between the fragments, and are never compressed.
#[test]
fn control_frames_may_stand_between_compressed_fragments() {
    for compression in both() {
        let mut frames = Vec::new();
        for frame in fragments(&HELLO, 1) {
            frames.extend([Frame::ping("p"), frame, Frame::pong("q")]);
        }
        let mut server = server(compression.clone());
        let mut seen = server.receive_frames(&frames);
        let message = seen.iter().position(|seen| *seen == Seen::Binary(b"Hello".to_vec()));
        seen.remove(message.expect("the message is seen"));
        let controls = [Seen::Ping(b"p".to_vec()), Seen::Pong(b"q".to_vec(), None)];
        assert_eq!(seen, vec![controls; HELLO.len()].concat());
        let pongs = server.write_bare_frames();
        assert_eq!(pongs, vec![Frame::pong("p"); HELLO.len()]);
        server.finish();
        // RFC 6455 §5.5.1: so may a Close, and the message is never told.
        let mut server = self::server(compression);
        let frames = [text(&HELLO[..5]).open(), Frame::close(1000, "")];
        assert_eq!(server.receive_frames(&frames), [Seen::Close(Some((1000, String::new())))]);
        server.write_all();
        assert_eq!(server.finish().incomplete_bytes, 4, "what was inflated so far");
    }
}

/// The same in pieces: a fragment that gives nothing yet leaves what stands behind it alone.
#[test]
fn control_frames_may_stand_between_compressed_fragments_while_streaming() {
    for compression in both() {
        for cut in 0..=HELLO.len() {
            let frames = [
                text(&HELLO[..cut]).open(),
                Frame::ping("p"),
                Frame::new(CONTINUATION, "").open(),
                Frame::pong("q"),
                Frame::new(CONTINUATION, &HELLO[cut..]),
                Frame::close(3000, "why"),
            ];
            let mut server = streaming(compression.clone());
            let (mut hello, mut controls) = (Vec::new(), Vec::new());
            for seen in server.receive_frames(&frames) {
                match seen {
                    Seen::Chunk { payload, .. } => hello.extend(payload),
                    other => controls.push(other),
                }
            }
            assert_eq!(hello, b"Hello");
            let ping = Seen::Ping(b"p".to_vec());
            let pong = Seen::Pong(b"q".to_vec(), None);
            assert_eq!(controls, [ping, pong, Seen::Close(Some((3000, "why".into())))]);
            assert_eq!(server.write_frames(), [Frame::pong("p"), Frame::close(3000, "")]);
            server.finish();
        }
    }
}

/// §6: "compressed and uncompressed messages" may follow each other; §7.2.2: only compressed ones
/// enter the window.
#[test]
fn uncompressed_messages_do_not_enter_the_window() {
    for mut end in [server(dedicated(15)), client(dedicated(15)), streaming(dedicated(15))] {
        let frames = [
            text(HELLO),
            Frame::text("12345678"),
            Frame::text("abc").open(),
            Frame::new(CONTINUATION, "def"),
            text(HELLO_AGAIN),
            Frame::ping("ping"),
            binary([0x00]),
            text(HELLO_AGAIN),
        ];
        let seen = joined(end.receive_frames(&frames));
        let expected =
            ["Hello", "12345678", "abcdef", "Hello", "ping", "", "Hello"].map(str::as_bytes);
        let payloads: Vec<_> = seen.iter().map(payload).collect();
        assert_eq!(payloads, expected);
        end.finish();
    }
}

fn payload(seen: &Seen) -> &[u8] {
    match seen {
        Seen::Text(text) => text.as_bytes(),
        Seen::Binary(bytes) | Seen::Ping(bytes) => bytes,
        Seen::Chunk { payload, fin: true, .. } => payload,
        other => panic!("{other:?}"),
    }
}

/// §7.2.3.4: a block that calls itself the last one ends neither the message nor the window.
#[test]
fn the_window_outlives_a_last_block() {
    let last = Bits::new().fixed(Bfinal::Yes).literals(b"Hello").end_of_block().bytes();
    let again = Bits::new().fixed(Bfinal::Yes).copy(5, 5).end_of_block().bytes();
    let end = Bits::new().message();
    for compression in both() {
        for mut server in [server(compression.clone()), streaming(compression.clone())] {
            let message = [&last[..], &again, &again, &end].concat();
            for fragment_bytes in 1..=message.len() {
                let seen = joined(server.receive_frames(&fragments(&message, fragment_bytes)));
                assert_eq!(seen.iter().map(payload).collect::<Vec<_>>(), [b"HelloHelloHello"]);
            }
        }
    }
    for mut server in [server(dedicated(9)), streaming(dedicated(9))] {
        let frames = [
            binary([&last[..], &end].concat()),
            binary([&again[..], &end].concat()),
            binary(HELLO_AGAIN),
            binary([&again[..], &again, &again].concat()),
        ];
        let seen = joined(server.receive_frames(&frames));
        let payloads: Vec<_> = seen.iter().map(payload).collect();
        let fifteen = b"Hello".repeat(3);
        assert_eq!(payloads, [b"Hello", b"Hello", b"Hello", fifteen.as_slice()]);
    }
}

/// §7.2.1: all of the window may be referred to, from within a message and across many, also where
/// last blocks have cut it.
#[test]
fn the_whole_window_may_be_referred_to() {
    for window_bits in [9, 10, 15] {
        let window = 1_u32 << window_bits;
        for mut server in [server(dedicated(window_bits)), streaming(dedicated(window_bits))] {
            let text = noise(window_bits.into(), window as usize);
            // The window is filled by messages of which each is a part, then referred to.
            let mut frames: Vec<_> =
                text.chunks(300).map(|piece| binary(literally(piece))).collect();
            let count = frames.len();
            let far = Bits::new().fixed(Bfinal::No).copy(10, window).end_of_block().message();
            frames.extend([binary(&far), binary(&far)]);
            // Behind a last block too, which ends with what the window had next.
            let cut = Bits::new().fixed(Bfinal::Yes).copy(3, window).end_of_block().bytes();
            frames.push(binary([&cut[..], &cut, &far].concat()));
            let seen = joined(server.receive_frames(&frames));
            let all: Vec<u8> = seen.iter().flat_map(payload).copied().collect();
            assert_eq!(all.len(), text.len() + 10 + 10 + 3 + 3 + 10);
            assert_eq!(seen.len(), count + 3);
            assert_eq!(all[..text.len()], text);
            assert_eq!(all[text.len()..], text[..36]);
        }
    }
}

/// What another implementation compresses inflates, whatever is in the messages and between them,
/// to where they are much longer than the window.
#[test]
fn what_another_implementation_compresses_is_understood() {
    let sizes = [0, 1, 5, 127, 128, 1000, 0, 16_383, 16_384, 40_000, 200_000, 3, 33_000];
    for mut server in [server(dedicated(15)), streaming(dedicated(15))] {
        let mut compressor = Compressor::new();
        for (index, bytes) in sizes.into_iter().enumerate() {
            for message in [json(bytes).into_bytes(), noise(index as u64, bytes), vec![7; bytes]] {
                let payload = match bytes {
                    0 => vec![0x00],
                    _ => compressor.message(&message),
                };
                let seen =
                    joined(server.receive_frames(&fragments(&payload, 1 + payload.len() / 3)));
                assert_eq!(seen.iter().map(self::payload).collect::<Vec<_>>(), [message]);
            }
        }
        server.finish();
    }
    for mut server in [server(shared()), streaming(shared())] {
        for bytes in sizes.into_iter().filter(|bytes| *bytes > 0) {
            let message = json(bytes).into_bytes();
            let seen = joined(server.receive_frames(&[binary(compressed(&message))]));
            assert_eq!(seen.iter().map(payload).collect::<Vec<_>>(), [message]);
        }
        server.finish();
    }
}
