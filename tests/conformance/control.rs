//! §5.5: pings, pongs and what control frames may look like.

use std::time::Duration;

use corewire::{DropReason, ProtocolError, SendOutcome};

use super::assert_server_fails;
use super::support::endpoint::{Endpoint, KEY, Seen};
use super::support::naive::{CLOSE, CONTINUATION, Frame, LengthForm, PING, PONG};

/// §5.5, F4: "All control frames MUST have a payload length of 125 bytes or less".
#[test]
fn a_control_frame_over_125_bytes_fails_at_its_header() {
    for opcode in [CLOSE, PING, PONG] {
        for length in [126, 127, 65_536] {
            let wire = Frame::new(opcode, vec![0; length]).masked(KEY).encode();
            assert_server_fails(&wire[..2], ProtocolError::ControlFrameTooLong, 1002);
        }
        // Neither does a longer form of a short length help.
        let wire = Frame::new(opcode, "x").masked(KEY).encode_as(LengthForm::Bits16);
        assert_server_fails(&wire, ProtocolError::ControlFrameTooLong, 1002);
    }
    for length in [0, 1, 124, 125] {
        let payload = vec![b'x'; length];
        let seen =
            Endpoint::server().receive_frames(&[Frame::ping(&payload), Frame::pong(&payload)]);
        assert_eq!(seen, [Seen::Ping(payload.clone()), Seen::Pong(payload, None)]);
    }
}

/// §5.5, F4: "... and MUST NOT be fragmented."
#[test]
fn a_fragmented_control_frame_fails_at_its_first_byte() {
    for opcode in [CLOSE, PING, PONG] {
        let wire = Frame::new(opcode, "").open().masked(KEY).encode();
        assert_server_fails(&wire[..1], ProtocolError::FragmentedControlFrame, 1002);
        assert_server_fails(&wire, ProtocolError::FragmentedControlFrame, 1002);
    }
}

/// §5.5.2, §5.5.3, F12: "MUST send a Pong [...] identical Application data".
#[test]
fn each_ping_gets_a_pong_with_its_payload() {
    for mut endpoint in [Endpoint::server(), Endpoint::client()] {
        let role = endpoint.role;
        for payload in [&b""[..], b"x", &[0xFE; 125]] {
            let seen = endpoint.receive_frames(&[Frame::ping(payload)]);
            assert_eq!(seen, [Seen::Ping(payload.to_vec())]);
            let frames = endpoint.write_frames();
            assert_eq!(frames.len(), 1);
            assert_eq!((frames[0].opcode, frames[0].payload.as_slice()), (PONG, payload));
            assert_eq!(frames[0].key.is_some(), role == corewire::Role::Client);
        }
    }
}

/// F12: ten pings in one read get ten pongs in order (Autobahn 2.10).
#[test]
fn ten_pings_in_one_read_get_ten_pongs_in_order() {
    let mut server = Endpoint::server();
    let pings: Vec<_> = (0..10_u8).map(|index| Frame::ping([index; 7])).collect();
    let pongs: Vec<_> = (0..10_u8).map(|index| Frame::pong([index; 7])).collect();
    server.receive_frames(&pings);
    assert_eq!(server.write_frames(), pongs);
    let wire = server.wires(&pings);
    for byte in wire {
        server.receive(&[byte]);
    }
    assert_eq!(server.write_frames(), pongs, "torn ones too");
    assert_eq!(server.pools.in_use().assemblies, 0);
}

/// F12: a ping is answered while a large message is being sent, behind what was sent before.
#[test]
fn a_ping_is_answered_behind_the_message_that_is_under_way() {
    let mut server = Endpoint::server();
    let message = vec![3; 100_000];
    assert_eq!(server.act(|transmit| transmit.send_binary(&message)), SendOutcome::Sent);
    let mut written = server.write(1000);
    server.receive_frames(&[Frame::ping("p")]);
    assert!(server.act(|transmit| transmit.send_text("after")).is_taken());
    written.extend(server.write_all());
    let frames = super::support::naive::parse_all(&written);
    assert_eq!(frames, [Frame::binary(&message), Frame::pong("p"), Frame::text("after")]);
}

/// F12: parts that we send are no obstacle to our pong (§5.4: control frames may stand between).
#[test]
fn a_pong_goes_between_the_parts_of_a_message() {
    use corewire::{Opcode, Part};
    let mut server = Endpoint::server();
    assert!(server.act(|t| t.send_part(Opcode::Text, b"a", Part::First)).is_taken());
    server.receive_frames(&[Frame::ping("p")]);
    assert!(server.act(|t| t.send_part(Opcode::Text, b"b", Part::Last)).is_taken());
    let continuation = Frame::new(CONTINUATION, "b");
    assert_eq!(server.write_frames(), [Frame::text("a").open(), Frame::pong("p"), continuation]);
}

/// §5.5.3, F14: "A response to an unsolicited Pong frame is not expected."
#[test]
fn an_unsolicited_pong_is_told_and_not_answered() {
    let mut server = Endpoint::server();
    let seen = server.receive_frames(&[Frame::pong("x"), Frame::pong([0; 8])]);
    assert_eq!(seen, [Seen::Pong(b"x".into(), None), Seen::Pong(vec![0; 8], None)]);
    assert_eq!(server.unsent(), []);
    // It is a sign of life all the same.
    server.advance(Duration::from_secs(60));
    server.receive_frames(&[Frame::pong("")]);
    server.advance(Duration::from_secs(89));
    assert!(server.connection.is_open());
}

/// §5.5.2: the application may ping, with up to 125 bytes.
#[test]
fn the_application_may_ping_with_up_to_125_bytes() {
    let mut client = Endpoint::client();
    assert_eq!(client.act(|t| t.send_ping(&[1; 125])), SendOutcome::Sent);
    let too_large = SendOutcome::Dropped(DropReason::TooLarge);
    assert_eq!(client.act(|t| t.send_ping(&[1; 126])), too_large);
    assert_eq!(client.write_bare_frames(), [Frame::ping([1; 125])]);
}

/// Facts, "Order": a Close behind a Ping does not swallow the Pong.
#[test]
fn the_pong_of_a_ping_in_front_of_a_close_is_sent() {
    let mut server = Endpoint::server();
    server.receive_frames(&[Frame::ping("p"), Frame::close(1000, "")]);
    assert_eq!(server.write_frames(), [Frame::pong("p"), Frame::close(1000, "")]);
}
