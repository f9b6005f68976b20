//! §5.5.1, §7: the closing handshake.

use corewire::{
    CloseCause, CloseCode, DropReason, Initiator, InvalidClose, Opcode, Part, PreparedMessage,
    ProtocolError, SendOutcome,
};

use super::support::endpoint::{Endpoint, KEY, Seen};
use super::support::naive::{CLOSE, CONTINUATION, Frame};
use super::{assert_server_fails, failed};

fn is_sendable(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// §5.5.1, §7.4, F15, F17: "When sending a Close frame in response, the endpoint typically echos the
/// status code it received"; what must not be in a frame fails the connection.
#[test]
fn every_close_code_is_echoed_or_fails_the_connection() {
    let reserved = [0xFFFF, 0x8000, 10_000, 20_000];
    for code in (0..=5100).chain(reserved) {
        let wire = Frame::close(code, "").masked(KEY).encode();
        if !is_sendable(code) {
            let mut server = Endpoint::server();
            let error = ProtocolError::InvalidCloseCode { code };
            assert_eq!(server.receive(&wire), [failed(error)], "{code}");
            super::assert_failed(server, error, 1002);
            continue;
        }
        let mut server = Endpoint::server();
        assert_eq!(server.receive(&wire), [Seen::Close(Some((code, String::new())))]);
        assert!(!server.connection.is_open());
        assert_eq!(server.write_frames(), [Frame::close(code, "")], "{code}");
        assert!(server.connection.is_closed());
        let summary = server.finish();
        assert!(summary.is_clean());
        assert_eq!((summary.code.as_u16(), summary.initiator), (code, Initiator::Peer));
        assert_eq!(summary.peer_code, Some(summary.code));
    }
}

/// §5.5.1, F17: an empty Close is answered with an empty one and counts as 1005 (§7.1.5).
#[test]
fn an_empty_close_is_answered_with_an_empty_one() {
    let mut client = Endpoint::client();
    assert_eq!(client.receive_frames(&[Frame::new(CLOSE, "")]), [Seen::Close(None)]);
    assert_eq!(client.write_bare_frames(), [Frame::new(CLOSE, "")]);
    assert!(client.connection.is_closed());
    let summary = client.finish();
    assert_eq!(
        (summary.code, summary.peer_code),
        (CloseCode::NO_STATUS, Some(CloseCode::NO_STATUS))
    );
}

/// §5.5.1, F15: "If there is a body, the first two bytes of the body MUST be a 2-byte integer".
#[test]
fn half_a_close_code_fails_the_connection() {
    let wire = Frame::new(CLOSE, "x").masked(KEY).encode();
    assert_server_fails(&wire, ProtocolError::TruncatedCloseCode, 1002);
}

/// §5.5.1, §8.1, F16: the reason is UTF-8.
#[test]
fn a_close_reason_must_be_utf8() {
    for reason in [&b"\xFF"[..], b"ok\xC3", b"\xED\xA0\x80"] {
        let wire = Frame::close(1000, reason).masked(KEY).encode();
        assert_server_fails(&wire, ProtocolError::InvalidCloseReason, 1007);
    }
    let reason = "é".repeat(61) + "x";
    let mut server = Endpoint::server();
    let seen = server.receive_frames(&[Frame::close(4999, &reason)]);
    assert_eq!(seen, [Seen::Close(Some((4999, reason.clone())))]);
    server.write_all();
    assert_eq!(&*server.finish().reason, reason);
}

/// §5.5.1, F18: what was received before the Close is delivered and answered before ours; what
/// follows is ignored (§1.4: "After receiving a control frame indicating the connection should be
/// closed, an endpoint discards any further data received").
#[test]
fn data_behind_a_close_is_ignored_and_answers_to_data_before_it_leave_first() {
    let mut server = Endpoint::server();
    let mut wire = server.wires(&[
        Frame::text("a"),
        Frame::binary("b"),
        Frame::close(1001, ""),
        Frame::text("c"),
        Frame::ping("d"),
    ]);
    wire.extend([0xFF; 100]);
    let seen = server.receive_with(&wire, |event, transmit| match event {
        corewire::Event::Text(text) => assert!(transmit.send_text(text).is_taken()),
        corewire::Event::Binary(bytes) => assert!(transmit.send_binary(bytes).is_taken()),
        _ => {}
    });
    let close = Seen::Close(Some((1001, String::new())));
    assert_eq!(seen, [Seen::Text("a".into()), Seen::Binary(b"b".into()), close]);
    assert_eq!(server.receive(&wire), []);
    let sent = [Frame::text("a"), Frame::binary("b"), Frame::close(1001, "")];
    assert_eq!(server.write_frames(), sent);
    assert!(server.connection.is_closed());
    assert_eq!(server.receive(&wire), []);
    assert_eq!(server.unsent(), []);
}

/// §5.4, F19: a Close in the middle of a fragmented message; what came of it is not delivered.
#[test]
fn a_close_between_fragments_ends_the_connection_and_the_summary_tells_what_is_missing() {
    let mut server = Endpoint::server();
    let frames =
        [Frame::text("abc").open(), Frame::close(1000, "enough"), Frame::new(CONTINUATION, "d")];
    let seen = server.receive_frames(&frames);
    assert_eq!(seen, [Seen::Close(Some((1000, "enough".into())))]);
    assert_eq!(server.write_frames(), [Frame::close(1000, "")]);
    let summary = server.finish();
    assert!(summary.is_clean());
    assert_eq!(summary.incomplete_bytes, 3);
}

/// §5.5.1: "The application MUST NOT send any more data frames after sending a Close frame."
#[test]
fn nothing_follows_our_close() {
    let mut server = Endpoint::server();
    assert!(server.act(|t| t.send_text("before")).is_taken());
    server.act(|t| t.close(CloseCode::NORMAL, "bye")).unwrap();
    let closing = SendOutcome::Dropped(DropReason::Closing);
    assert_eq!(server.act(|t| t.send_text("x")), closing);
    assert_eq!(server.act(|t| t.send_binary(&[0; 50_000])), closing);
    assert_eq!(server.act(|t| t.send_bytes(vec![0; 50_000].into())), closing);
    assert_eq!(server.act(|t| t.send_prepared(&PreparedMessage::text("x"))), closing);
    assert_eq!(server.act(|t| t.send_part(Opcode::Text, b"x", Part::First)), closing);
    assert_eq!(server.act(|t| t.send_ping(b"x")), closing);
    server.act(|t| t.close(CloseCode::GOING_AWAY, "again")).unwrap();
    // Pings are told but not answered any more; messages still count until the peer's Close.
    let seen = server.receive_frames(&[Frame::ping("p"), Frame::text("last")]);
    assert_eq!(seen, [Seen::Ping(b"p".into()), Seen::Text("last".into())]);
    assert_eq!(server.write_frames(), [Frame::text("before"), Frame::close(1000, "bye")]);
    assert!(!server.connection.is_closed(), "the peer's Close is awaited");
    let seen = server.receive_frames(&[Frame::close(1000, ""), Frame::text("ignored")]);
    assert_eq!(seen, [Seen::Close(Some((1000, String::new())))]);
    assert!(server.connection.is_closed());
    let summary = server.finish();
    assert!(summary.is_clean());
    assert_eq!(summary.initiator, Initiator::Local);
    assert_eq!((summary.code, &*summary.reason), (CloseCode::NORMAL, "bye"));
}

/// §5.5.1: parts of ours that are not finished are no obstacle to our Close.
#[test]
fn a_close_may_cut_our_own_message_in_parts() {
    let mut server = Endpoint::server();
    assert!(server.act(|t| t.send_part(Opcode::Binary, b"a", Part::First)).is_taken());
    server.act(|t| t.close(CloseCode::NORMAL, "")).unwrap();
    let closing = SendOutcome::Dropped(DropReason::Closing);
    assert_eq!(server.act(|t| t.send_part(Opcode::Binary, b"b", Part::Last)), closing);
    assert_eq!(server.act(|t| t.send_text("c")), closing);
    let frames = [Frame::binary("a").open(), Frame::close(1000, "")];
    assert_eq!(server.write_frames(), frames);
}

/// §7.1.4: the peer's answer may come before ours is written; ours is still written first.
#[test]
fn a_close_that_crosses_ours_ends_the_connection_when_ours_is_written() {
    let mut server = Endpoint::server();
    server.act(|t| t.close(CloseCode::NORMAL, "")).unwrap();
    server.receive_frames(&[Frame::close(1001, "")]);
    assert!(!server.connection.is_closed());
    assert_eq!(server.write_frames(), [Frame::close(1000, "")]);
    assert!(server.connection.is_closed());
    let summary = server.finish();
    assert!(summary.is_clean());
    assert_eq!((summary.code, summary.peer_code), (CloseCode::NORMAL, Some(CloseCode::GOING_AWAY)));
}

/// §7.1.7: a connection that is closing can still fail, but there is no second Close (§5.5.1).
#[test]
fn a_bad_frame_while_we_wait_for_the_peers_close_ends_the_connection() {
    let mut server = Endpoint::server();
    server.act(|t| t.close(CloseCode::NORMAL, "")).unwrap();
    assert_eq!(server.write_frames(), [Frame::close(1000, "")]);
    let error = ProtocolError::ReservedOpcode { opcode: 3 };
    assert_eq!(server.receive_frames(&[Frame::new(3, "")]), [failed(error)]);
    assert!(server.connection.is_closed());
    assert_eq!(server.unsent(), []);
    let summary = server.finish();
    assert_eq!((summary.cause, summary.peer_code), (CloseCause::Failed(error.into()), None));
}

/// §7.4.1, F23: 1005, 1006, 1015 and the rest "MUST NOT be set as a status code in a Close control
/// frame by an endpoint".
#[test]
fn codes_that_may_not_be_sent_are_refused_and_nothing_is_sent() {
    for code in (0..=5100).chain([u16::MAX]) {
        let mut server = Endpoint::server();
        let closed = server.act(|t| t.close(CloseCode::new(code), "why"));
        if is_sendable(code) {
            assert_eq!(closed, Ok(()));
            assert_eq!(server.write_frames(), [Frame::close(code, "why")]);
        } else {
            assert_eq!(closed, Err(InvalidClose::ReservedCode(CloseCode::new(code))));
            assert!(server.connection.is_open());
            assert_eq!(server.unsent(), []);
        }
    }
}

/// §5.5, F4 from our side: code and reason fit a control frame, or the caller hears of it.
#[test]
fn a_reason_of_123_bytes_is_sent_and_one_of_124_is_refused() {
    let mut server = Endpoint::server();
    let closed = server.act(|t| t.close(CloseCode::NORMAL, &"x".repeat(124)));
    assert_eq!(closed, Err(InvalidClose::ReasonTooLong { reason_bytes: 124 }));
    assert!(server.connection.is_open());
    server.act(|t| t.close(CloseCode::NORMAL, &"x".repeat(123))).unwrap();
    assert_eq!(server.write_frames(), [Frame::close(1000, "x".repeat(123))]);
}

/// §7.1.7: a torn control frame at the moment of failing is given back to the pools.
#[test]
fn a_torn_control_frame_goes_back_when_the_application_closes_the_connection() {
    for opcode in [0x8, 0x9, 0xA] {
        let mut server = Endpoint::server();
        let wire = server.wire(&Frame::new(opcode, "123456"));
        assert_eq!(server.receive(&wire[..9]), []);
        server.act(|transmit| transmit.abort());
        assert_eq!(server.receive(&wire[9..]), []);
        server.finish();

        let mut server = Endpoint::server();
        server.receive(&wire[..9]);
        server.connection.handle_transport_error(std::io::ErrorKind::ConnectionReset);
        server.receive(&wire[9..]);
        server.finish();
    }
}
