//! §5.6, §8.1: text is UTF-8, binary is anything.

use corewire::{Delivery, ProtocolError};

use super::support::endpoint::{Endpoint, KEY, Seen};
use super::support::naive::{CONTINUATION, Frame, LengthForm, header, masked};
use super::{assert_failed, assert_server_fails, failed, server_with};

/// What is not UTF-8, and the index of the first byte that cannot be right; the length of the text
/// where it is only the end that is missing (RFC 3629 §3, §4).
const INVALID: [(&[u8], usize); 16] = [
    (b"\x80", 0),
    (b"ab\xFF", 2),
    (b"ab\xFE", 2),
    (b"\xC0\xAF", 0),         // overlong /
    (b"\xC1\xBF", 0),         // overlong DEL
    (b"\xE0\x80\xAF", 1),     // overlong in three
    (b"\xE0\x9F\xBF", 1),     // the largest of them
    (b"\xF0\x8F\xBF\xBF", 1), // overlong in four
    (b"\xED\xA0\x80", 1),     // the first surrogate
    (b"a\xED\xBF\xBF", 2),    // the last
    (b"\xF4\x90\x80\x80", 1), // above U+10FFFF
    (b"\xF5\x80\x80\x80", 0), // far above
    (b"\xE2\x82\x28", 2),     // the third byte does not continue
    (b"\xC3(", 1),            // the second does not
    (b"\xCE\xBA\xE1\xBD\xB9\xF0\x9D\x84x", 8),
    (b"\xE2\x82\xACabc\xBF", 6), // a continuation byte alone
];

/// §8.1, F11: whole, in any two pieces, in any two fragments, byte by byte.
#[test]
fn invalid_utf8_fails_with_1007_in_any_split() {
    for (text, _) in INVALID {
        let whole = Frame::text(text).masked(KEY).encode();
        assert_server_fails(&whole, ProtocolError::InvalidUtf8, 1007);
        for cut in 0..=text.len() {
            let (first, second) = text.split_at(cut);
            let mut wire = Frame::text(first).open().masked(KEY).encode();
            wire.extend(Frame::new(CONTINUATION, second).masked(KEY).encode());
            assert_server_fails(&wire, ProtocolError::InvalidUtf8, 1007);
        }
    }
}

/// §8.1, F11: the failure comes with the first byte that cannot be right, not at the end.
#[test]
fn invalid_utf8_fails_at_the_first_bad_byte_of_an_unfinished_frame() {
    for (text, bad) in INVALID {
        for first_bytes in 1..=bad + 1 {
            let mut server = Endpoint::server();
            // The frame announces more than will ever come.
            let mut wire = header(0x81, Some(KEY), 1000, LengthForm::Bits16);
            let header_bytes = wire.len();
            wire.extend(masked(text, Some(KEY)));
            let (good, rest) = wire.split_at(header_bytes + bad);
            for piece in good.chunks(first_bytes) {
                assert_eq!(server.receive(piece), [], "{text:02x?}");
            }
            let seen = server.receive(&rest[..1]);
            assert_eq!(seen, [failed(ProtocolError::InvalidUtf8)], "{text:02x?}");
            assert_failed(server, ProtocolError::InvalidUtf8, 1007);
        }
    }
}

/// §8.1, F11: a text that ends within a character is not UTF-8.
#[test]
fn a_text_cut_within_its_last_character_fails_at_its_end() {
    for text in ["é", "ab€", "𝄞"] {
        for cut in 1..text.chars().last().unwrap().len_utf8() {
            let text = &text.as_bytes()[..text.len() - cut];
            let wire = Frame::text(text).masked(KEY).encode();
            assert_server_fails(&wire, ProtocolError::InvalidUtf8, 1007);
            let mut wire = Frame::text(text).open().masked(KEY).encode();
            wire.extend(Frame::new(CONTINUATION, "").masked(KEY).encode());
            assert_server_fails(&wire, ProtocolError::InvalidUtf8, 1007);
        }
    }
}

/// §5.6: "a particular text frame might include a partial UTF-8 sequence"; the message must not.
#[test]
fn characters_may_be_cut_by_fragments_and_reads() {
    let text = "aé€𝄞\u{0}\u{7F}\u{80}\u{7FF}\u{800}\u{D7FF}\u{E000}\u{FFFF}\u{10000}\u{10FFFF}";
    let bytes = text.as_bytes();
    for cut in 0..=bytes.len() {
        let frames = [Frame::text(&bytes[..cut]).open(), Frame::new(CONTINUATION, &bytes[cut..])];
        assert_eq!(Endpoint::server().receive_frames(&frames), [Seen::Text(text.into())]);
        let wire = Endpoint::server().wire(&Frame::text(bytes));
        let mut server = Endpoint::server();
        assert_eq!(server.receive(&wire[..6 + cut]).len(), usize::from(cut == bytes.len()));
        if cut < bytes.len() {
            assert_eq!(server.receive(&wire[6 + cut..]), [Seen::Text(text.into())]);
        }
    }
}

/// §5.6: the state of the validator does not leak into the next message.
#[test]
fn each_text_is_judged_by_itself() {
    let mut server = Endpoint::server();
    let frames = [
        Frame::text("\u{20AC}").open(),
        Frame::new(CONTINUATION, ""),
        Frame::text("b").open(),
        Frame::new(CONTINUATION, "c"),
    ];
    let seen = server.receive_frames(&frames);
    assert_eq!(seen, [Seen::Text("€".into()), Seen::Text("bc".into())]);
}

/// §5.6: "arbitrary binary data whose interpretation is solely up to the application layer".
#[test]
fn binary_messages_are_not_judged() {
    for (bytes, _) in INVALID {
        let mut server = Endpoint::server();
        let cut = bytes.len() / 2;
        let frames = [
            Frame::binary(bytes),
            Frame::binary(&bytes[..cut]).open(),
            Frame::new(CONTINUATION, &bytes[cut..]),
        ];
        let message = Seen::Binary(bytes.to_vec());
        assert_eq!(server.receive_frames(&frames), [message.clone(), message]);
    }
}

/// §8.1: streaming validates the same way; what comes before the bad byte is delivered.
#[test]
fn streaming_delivers_what_precedes_the_first_bad_byte_whatever_the_pieces() {
    for (text, bad) in INVALID {
        let wire = Frame::text(text).masked(KEY).encode();
        for piece_bytes in 1..=wire.len() {
            let mut server = server_with(|config| config.delivery = Delivery::Streaming);
            let mut delivered = Vec::new();
            let mut failures = 0;
            for piece in wire.chunks(piece_bytes) {
                for seen in server.receive(piece) {
                    match seen {
                        Seen::Chunk { payload, fin, .. } => {
                            assert!(!fin && failures == 0);
                            delivered.extend(payload);
                        }
                        other => {
                            assert_eq!(other, failed(ProtocolError::InvalidUtf8));
                            failures += 1;
                        }
                    }
                }
            }
            assert_eq!((delivered.as_slice(), failures), (&text[..bad], 1), "{text:02x?}");
        }
    }
}
