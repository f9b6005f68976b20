//! §6 and RFC 6455 §8.1: a compressed text is UTF-8 after inflating.

use corewire::Opcode;

use super::super::support::deflated::{Bfinal, Bits, compressed, literally};
use super::super::support::naive::{LengthForm, header, masked};
use super::*;

const INVALID_UTF8: ProtocolError = ProtocolError::InvalidUtf8;

/// What is not UTF-8, and the index of the first byte that cannot be right.
const INVALID: [(&[u8], usize); 9] = [
    (b"\x80", 0),
    (b"ab\xFF", 2),
    (b"\xC0\xAF", 0),
    (b"\xE0\x80\xAF", 1),
    (b"\xED\xA0\x80", 1),
    (b"\xF4\x90\x80\x80", 1),
    (b"\xE2\x82\x28", 2),
    (b"\xCE\xBA\xE1\xBD\xB9\xF0\x9D\x84x", 8),
    (b"\xE2\x82\xACabc\xBF", 6),
];

/// F11: whole and byte by byte, in one frame and in fragments.
#[test]
fn a_compressed_text_that_is_no_utf8_fails_with_1007() {
    for compression in both() {
        for (bytes, _) in INVALID {
            for payload in [literally(bytes), Bits::new().stored(Bfinal::No, bytes).message()] {
                let server = || server(compression.clone());
                assert_fails(server, &text(&payload).masked(KEY).encode(), INVALID_UTF8, 1007);
                for cut in 1..payload.len() {
                    let mut wire = text(&payload[..cut]).open().masked(KEY).encode();
                    wire.extend(Frame::new(CONTINUATION, &payload[cut..]).masked(KEY).encode());
                    assert_fails(server, &wire, INVALID_UTF8, 1007);
                }
                // Binary messages are anything.
                let seen = server().receive_frames(&[binary(&payload)]);
                assert_eq!(seen, [Seen::Binary(bytes.to_vec())]);
            }
        }
    }
}

/// F11: the failure comes with the first byte that cannot be right, not at the end; what follows is
/// not waited for.
#[test]
fn a_compressed_text_fails_at_the_first_bad_byte() {
    for compression in both() {
        for (bytes, bad) in INVALID {
            let stored = Bits::new().stored(Bfinal::No, &[bytes, &[b'x'; 900]].concat()).bytes();
            let good_bytes = 5 + bad;
            for piece_bytes in 1..=good_bytes {
                let mut server = server(compression.clone());
                let mut wire = header(0xC1, Some(KEY), 1000, LengthForm::Bits16);
                let header_bytes = wire.len();
                wire.extend(masked(&stored, Some(KEY)));
                let (good, rest) = wire.split_at(header_bytes + good_bytes);
                for piece in good.chunks(piece_bytes) {
                    assert_eq!(server.receive(piece), [], "{bytes:02x?}");
                }
                assert_eq!(server.receive(&rest[..1]), [failed(INVALID_UTF8)], "{bytes:02x?}");
                assert_failed(server, INVALID_UTF8, 1007);
            }
        }
    }
}

/// RFC 6455 §8.1: a text that ends within a character is none, wherever the end comes from.
#[test]
fn a_compressed_text_cut_within_its_last_character_fails_at_its_end() {
    for compression in both() {
        for bytes in [b"\xC3".as_slice(), b"ab\xE2\x82", b"\xF0\x9D\x84", b"\xF0"] {
            for payload in [
                literally(bytes),
                Bits::new().stored(Bfinal::No, bytes).message(),
                Bits::new().fixed(Bfinal::Yes).literals(bytes).end_of_block().bytes(),
            ] {
                let wire = text(&payload).masked(KEY).encode();
                assert_fails(|| server(compression.clone()), &wire, INVALID_UTF8, 1007);
                for piece_bytes in 1..=wire.len() {
                    let mut server = streaming(compression.clone());
                    let seen = wire.chunks(piece_bytes).flat_map(|piece| server.receive(piece));
                    let seen = joined(seen.collect());
                    let lent = pieces(Opcode::Text, bytes, Fin::No);
                    assert_eq!(seen, [lent, failed(INVALID_UTF8)]);
                    assert_failed(server, INVALID_UTF8, 1007);
                }
            }
        }
    }
}

/// In pieces what precedes the bad byte is lent, whatever the split.
#[test]
fn while_streaming_what_precedes_the_first_bad_byte_is_lent() {
    for compression in both() {
        for (bytes, bad) in INVALID {
            for payload in [literally(bytes), literally(&[bytes, &[b'x'; 50]].concat())] {
                let wire = text(&payload).masked(KEY).encode();
                for piece_bytes in 1..=wire.len() {
                    let mut server = streaming(compression.clone());
                    let seen = wire.chunks(piece_bytes).flat_map(|piece| server.receive(piece));
                    let seen = joined(seen.collect());
                    let mut expected = vec![failed(INVALID_UTF8)];
                    if bad > 0 {
                        expected.insert(0, pieces(Opcode::Text, &bytes[..bad], Fin::No));
                    }
                    assert_eq!(seen, expected, "{bytes:02x?}");
                    assert_failed(server, INVALID_UTF8, 1007);
                }
            }
        }
    }
}

/// What is wrong first is what is told: a bad byte in front of corrupt data or of the limit, and the
/// other way round.
#[test]
fn the_first_fault_is_told() {
    let fixed = || Bits::new().fixed(Bfinal::No);
    let corrupt = ProtocolError::CorruptCompression;
    let limit = ProtocolError::MessageTooLarge { limit_bytes: 20 };
    for (payload, error, code) in [
        (fixed().literals(b"ab\xFFc").copy(3, 9).message(), INVALID_UTF8, 1007),
        (fixed().literals(b"abc").copy(3, 9).literals(b"\xFF").message(), corrupt, 1007),
        (fixed().literals(b"\xFF").literals(&[b'x'; 30]).message(), INVALID_UTF8, 1007),
        (fixed().literals(&[b'x'; 19]).literals(b"\xFFy").message(), INVALID_UTF8, 1007),
        (fixed().literals(&[b'x'; 20]).literals(b"\xFF").message(), limit, 1009),
        (fixed().literals(&[b'x'; 18]).literals("€".as_bytes()).message(), limit, 1009),
        (fixed().literals(&[b'x'; 10]).copy(3, 11).literals(&[b'x'; 9]).message(), corrupt, 1007),
    ] {
        for compression in both() {
            let server = || agreed::endpoint(Role::Server, compression.clone(), bounded(20));
            assert_fails(server, &text(&payload).masked(KEY).encode(), error, code);
        }
    }
}

/// RFC 6455 §5.6: characters may be cut by fragments, by reads and by what is inflated at a time.
#[test]
fn characters_may_be_cut_anywhere() {
    let long = "aé€𝄞\u{7FF}\u{800}\u{FFFF}\u{10FFFF}".repeat(3000);
    for compression in both() {
        let payload = compressed(long.as_bytes());
        for fragment_bytes in [1 + payload.len() / 900, 100, payload.len()] {
            let mut frames = fragments(&payload, fragment_bytes);
            frames[0].opcode = TEXT;
            let seen = server(compression.clone()).receive_frames(&frames);
            assert!(seen == [Seen::Text(long.clone())]);
            let seen = joined(streaming(compression.clone()).receive_frames(&frames));
            assert!(seen == [pieces(Opcode::Text, &long, Fin::Yes)]);
        }
    }
}
