//! Delivery in pieces: their sum is the message, and nothing is kept.

use corewire::{Config, Delivery, Opcode, ProtocolError, Role};

use super::support::endpoint::{Endpoint, KEY, Seen};
use super::support::naive::{CONTINUATION, Frame};
use super::{assert_fails, server_with};

fn streaming() -> Endpoint {
    server_with(|config| config.delivery = Delivery::Streaming)
}

fn chunk(opcode: Opcode, payload: &[u8], offset: u64, fin: bool) -> Seen {
    Seen::Chunk { opcode, payload: payload.to_vec(), offset, fin }
}

#[test]
fn a_message_that_arrives_whole_is_one_piece() {
    let mut server = streaming();
    let seen = server.receive_frames(&[Frame::text("Hello"), Frame::binary("")]);
    assert_eq!(seen, [chunk(Opcode::Text, b"Hello", 0, true), chunk(Opcode::Binary, b"", 0, true)]);
}

/// The pieces joined are the message, their offsets without gaps, wherever it is cut.
#[test]
fn the_pieces_joined_are_the_message() {
    let payload: Vec<u8> = (0..=255).cycle().take(1000).collect();
    let frames = [
        Frame::binary(&payload[..300]).open(),
        Frame::new(CONTINUATION, &payload[300..301]).open(),
        Frame::new(CONTINUATION, "").open(),
        Frame::new(CONTINUATION, &payload[301..]),
    ];
    for piece_bytes in 1..400 {
        let mut server = streaming();
        let wire = server.wires(&frames);
        let mut joined = Vec::new();
        let mut ended = false;
        for piece in wire.chunks(piece_bytes) {
            for seen in server.receive(piece) {
                let Seen::Chunk { opcode: Opcode::Binary, payload, offset, fin } = seen else {
                    panic!("{seen:?} in a binary message")
                };
                assert!(!ended);
                assert!(fin || !payload.is_empty(), "only an end may be empty");
                assert_eq!(offset, joined.len() as u64);
                joined.extend(payload);
                ended = fin;
            }
        }
        assert!(ended && joined == payload);
        assert_eq!(server.pools.in_use().blocks, 0);
        server.finish();
    }
}

#[test]
fn an_empty_last_fragment_ends_the_message() {
    let mut server = streaming();
    let frames = [Frame::text("ab").open(), Frame::ping("p"), Frame::new(CONTINUATION, "")];
    assert_eq!(
        server.receive_frames(&frames),
        [
            chunk(Opcode::Text, b"ab", 0, false),
            Seen::Ping(b"p".into()),
            chunk(Opcode::Text, b"", 2, true)
        ]
    );
}

/// §5.6: a piece of text may end inside a character, the message may not.
#[test]
fn a_piece_of_text_may_end_inside_a_character() {
    let mut server = streaming();
    let wire = server.wire(&Frame::text("€"));
    assert_eq!(server.receive(&wire[..7]), [chunk(Opcode::Text, b"\xE2", 0, false)]);
    assert_eq!(server.receive(&wire[7..]), [chunk(Opcode::Text, b"\x82\xAC", 1, true)]);
}

/// §8.1: a message cut inside its last character is delivered in pieces but never ended.
#[test]
fn a_text_cut_within_its_last_character_is_never_ended() {
    for piece_bytes in 1..10 {
        let mut server = streaming();
        let wire = server.wire(&Frame::text(b"a\xE2\x82"));
        let seen: Vec<_> =
            wire.chunks(piece_bytes).flat_map(|piece| server.receive(piece)).collect();
        let (last, pieces) = seen.split_last().unwrap();
        assert_eq!(*last, super::failed(ProtocolError::InvalidUtf8));
        let mut joined = Vec::<u8>::new();
        for piece in pieces {
            let Seen::Chunk { payload, fin: false, .. } = piece else { panic!("{piece:?}") };
            joined.extend(payload);
        }
        assert_eq!(joined, b"a\xE2\x82");
    }
}

/// F9, F10 hold without assembling too.
#[test]
fn the_limits_hold_while_streaming() {
    let limit_bytes = 10;
    let server = || {
        let mut config = Config::new(Role::Server);
        config.delivery = Delivery::Streaming;
        config.limits.message_bytes_max = limit_bytes;
        Endpoint::new(config)
    };
    let error = ProtocolError::MessageTooLarge { limit_bytes };
    let above = Frame::binary([0; 11]).masked(KEY).encode();
    assert_fails(server, &above[..6], error, 1009);
    let mut endpoint = server();
    let seen = endpoint.receive_frames(&[Frame::binary([0; 10]).open()]);
    assert_eq!(seen, [chunk(Opcode::Binary, &[0; 10], 0, false)]);
    let seen = endpoint.receive_frames(&[Frame::new(CONTINUATION, "x")]);
    assert_eq!(seen, [super::failed(error)]);
}
