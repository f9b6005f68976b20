//! §5.1–§5.3: masking, reserved bits, opcodes and lengths of one frame.

use corewire::{Config, ProtocolError, Role};

use super::support::endpoint::{Endpoint, KEY, Seen};
use super::support::naive::{self, BINARY, Frame, LengthForm, TEXT};
use super::{assert_fails, assert_server_fails, server_with};

/// §5.7: the examples of the RFC itself.
#[test]
fn the_examples_of_the_rfc_are_understood() {
    let mut client = Endpoint::client();
    assert_eq!(client.receive(b"\x81\x05Hello"), [Seen::Text("Hello".into())]);
    assert_eq!(client.receive(b"\x01\x03Hel\x80\x02lo"), [Seen::Text("Hello".into())]);
    assert_eq!(client.receive(b"\x89\x05Hello"), [Seen::Ping(b"Hello".into())]);
    let mut server = Endpoint::server();
    let masked = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    assert_eq!(server.receive(masked), [Seen::Text("Hello".into())]);
    let pong = b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    assert_eq!(server.receive(pong), [Seen::Pong(b"Hello".into(), None)]);
    for bytes in [256, 65_536] {
        let mut wire = if bytes == 256 {
            b"\x82\x7e\x01\x00".to_vec()
        } else {
            b"\x82\x7f\0\0\0\0\0\x01\0\0".to_vec()
        };
        wire.extend(vec![7; bytes]);
        assert_eq!(client.receive(&wire), [Seen::Binary(vec![7; bytes])]);
    }
}

/// §5.1, F1: "The server MUST close the connection upon receiving a frame that is not masked."
#[test]
fn a_server_fails_on_an_unmasked_frame_and_takes_a_masked_one() {
    for opcode in [0x0, 0x1, 0x2, 0x8, 0x9, 0xA] {
        let wire = Frame::new(opcode, "").encode();
        assert_server_fails(&wire, ProtocolError::UnmaskedFrame, 1002);
    }
    let masked = Frame::text("x").masked([0; 4]).encode();
    assert_eq!(Endpoint::server().receive(&masked), [Seen::Text("x".into())]);
}

/// §5.1, F1: "A client MUST close a connection if it detects a masked frame."
#[test]
fn a_client_fails_on_a_masked_frame_and_takes_an_unmasked_one() {
    let wire = Frame::binary("x").masked(KEY).encode();
    for bytes in 2..=wire.len() {
        assert_fails(Endpoint::client, &wire[..bytes], ProtocolError::MaskedFrame, 1002);
    }
    assert_eq!(Endpoint::client().receive(b"\x82\x01x"), [Seen::Binary(b"x".into())]);
}

/// §5.2, F2: "MUST be 0 unless an extension is negotiated that defines meanings."
#[test]
fn reserved_bits_fail_the_connection_at_the_first_byte() {
    for opcode in [0x0, 0x1, 0x2, 0x8, 0x9, 0xA] {
        for bits in 1..8 {
            let frame = Frame::new(opcode, "").rsv(bits).masked(KEY).encode();
            assert_server_fails(&frame, ProtocolError::ReservedBits { bits }, 1002);
            assert_server_fails(&frame[..1], ProtocolError::ReservedBits { bits }, 1002);
        }
    }
}

/// §5.2, F3: "If an unknown opcode is received, the receiving endpoint MUST _Fail_."
#[test]
fn reserved_opcodes_fail_the_connection_at_the_first_byte() {
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        let frame = Frame::new(opcode, "abc").masked(KEY).encode();
        assert_server_fails(&frame, ProtocolError::ReservedOpcode { opcode }, 1002);
        assert_server_fails(&frame[..1], ProtocolError::ReservedOpcode { opcode }, 1002);
    }
}

/// §5.2, F5: "the minimal number of bytes MUST be used to encode the length".
#[test]
fn a_length_must_take_its_shortest_form() {
    for (length, form) in [
        (0, LengthForm::Bits16),
        (125, LengthForm::Bits16),
        (0, LengthForm::Bits64),
        (126, LengthForm::Bits64),
        (65_535, LengthForm::Bits64),
    ] {
        let frame = Frame::binary(vec![0; length]).masked(KEY).encode_as(form);
        assert_server_fails(&frame, ProtocolError::LengthNotMinimal, 1002);
    }
    for length in [0, 1, 125, 126, 127, 65_535, 65_536] {
        let payload = vec![3; length];
        let seen = Endpoint::server().receive_frames(&[Frame::binary(&payload)]);
        assert_eq!(seen, [Seen::Binary(payload)], "{length} bytes");
    }
}

/// §5.2, F6: "the most significant bit MUST be 0"; at the header, and nothing is allocated.
#[test]
fn a_length_of_63_bits_or_more_fails_at_the_header() {
    for (length, error, code) in [
        (1 << 63, ProtocolError::LengthOverflow, 1002),
        (u64::MAX, ProtocolError::LengthOverflow, 1002),
        ((1 << 63) - 1, ProtocolError::MessageTooLarge { limit_bytes: 1 << 20 }, 1009),
    ] {
        let wire = naive::header(0x82, Some(KEY), length, LengthForm::Bits64);
        assert_server_fails(&wire, error, code);
        let mut server = Endpoint::server();
        server.receive(&wire);
        assert_eq!((server.pools.in_use().assemblies, server.pools.in_use().blocks), (0, 0));
    }
}

/// §10.4, F6, F9: the limit, one below and one above, judged at the header.
#[test]
fn a_frame_over_the_message_limit_fails_at_its_header_with_nothing_allocated() {
    for limit_bytes in [0, 10, 125, 126, 65_535, 65_536, 1 << 20] {
        let server = || server_with(|config| config.limits.message_bytes_max = limit_bytes);
        let above = Frame::binary(vec![0; limit_bytes as usize + 1]).masked(KEY).encode();
        let header_bytes = above.len() - (limit_bytes as usize + 1);
        let error = ProtocolError::MessageTooLarge { limit_bytes };
        assert_fails(server, &above[..header_bytes], error, 1009);

        let mut endpoint = server();
        endpoint.receive(&above);
        assert_eq!(endpoint.pools.in_use().assemblies, 0);
        assert!(endpoint.pools.in_use().blocks == 0);

        for bytes in [limit_bytes.saturating_sub(1), limit_bytes] {
            let payload = vec![9; bytes as usize];
            let seen = server().receive_frames(&[Frame::binary(&payload)]);
            assert_eq!(seen, [Seen::Binary(payload)]);
        }
    }
}

/// §5.3: any key unmasks, also one of zeros, and a payload may arrive in any two pieces.
#[test]
fn payloads_are_unmasked_with_their_own_key_wherever_they_are_cut() {
    let payload: Vec<u8> = (0..=255).collect();
    for key in [[0; 4], [0xFF; 4], KEY] {
        let wire = Frame::binary(&payload).masked(key).encode();
        for cut in 0..wire.len() {
            let mut server = Endpoint::server();
            assert_eq!(server.receive(&wire[..cut]), []);
            assert_eq!(server.receive(&wire[cut..]), [Seen::Binary(payload.clone())], "{cut}");
        }
    }
}

/// §5.2: headers of every length come one byte at a time, in both roles.
#[test]
fn torn_headers_are_put_together() {
    for config in [Config::new(Role::Server), Config::new(Role::Client)] {
        let mut endpoint = Endpoint::new(config);
        for length in [0, 1, 125, 126, 65_536] {
            let wire = endpoint.wire(&Frame::binary(vec![5; length]));
            let seen: Vec<_> = wire.iter().flat_map(|byte| endpoint.receive(&[*byte])).collect();
            assert_eq!(seen, [Seen::Binary(vec![5; length])]);
        }
        assert_eq!(endpoint.pools.in_use().assemblies, 0);
    }
}

/// §5.2: a frame right behind the torn end of another is found.
#[test]
fn a_frame_behind_a_torn_one_in_the_same_input_is_heard() {
    let mut server = Endpoint::server();
    let wire = server.wires(&[Frame::text("one"), Frame::new(BINARY, "two"), Frame::ping("3")]);
    let whole = server.receive(&wire);
    for first in 0..wire.len() {
        for second in first..wire.len() {
            let mut server = Endpoint::server();
            let mut seen = server.receive(&wire[..first]);
            seen.extend(server.receive(&wire[first..second]));
            seen.extend(server.receive(&wire[second..]));
            assert_eq!(seen, whole, "cut at {first} and {second}");
        }
    }
}

/// F22: what was received before a malformed frame is delivered before the error.
#[test]
fn good_messages_before_a_bad_frame_in_one_read_are_delivered_first() {
    let mut server = Endpoint::server();
    let mut wire = server.wires(&[Frame::text("a"), Frame::ping("b"), Frame::binary("c")]);
    wire.extend(Frame::new(0xF, "").masked(KEY).encode());
    wire.extend(server.wire(&Frame::new(TEXT, "never")));
    let error = ProtocolError::ReservedOpcode { opcode: 0xF };
    assert_eq!(
        server.receive(&wire),
        [
            Seen::Text("a".into()),
            Seen::Ping(b"b".into()),
            Seen::Binary(b"c".into()),
            super::failed(error)
        ]
    );
    super::assert_failed(server, error, 1002);
}
