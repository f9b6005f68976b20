//! §7.1.5, F19–F21: how a connection ended, and what was lost.

use std::io::ErrorKind;

use corewire::{
    CloseCause, CloseCode, Config, Initiator, Opcode, OverflowPolicy, Part, PreparedMessage, Role,
};

use super::support::endpoint::Endpoint;
use super::support::naive::{self, Frame};
use super::support::rng::Rng;

/// F20: nothing waits to be sent.
#[test]
fn the_end_of_the_stream_without_a_close_is_1006_at_once() {
    for frames in [
        vec![],
        vec![Frame::text("a")],
        vec![Frame::text("ab").open()],
        vec![Frame::text("ab").open(), Frame::ping("")],
    ] {
        let mut server = Endpoint::server();
        let mut wire = server.wires(&frames);
        if frames.len() == 2 {
            wire.truncate(wire.len() - 1); // In mid-frame.
        }
        server.receive(&wire);
        server.connection.handle_end_of_stream(server.now, &server.pools);
        assert!(server.connection.is_closed());
        let summary = server.finish();
        assert_eq!((summary.code, &*summary.reason), (CloseCode::ABNORMAL, ""));
        assert_eq!(summary.cause, CloseCause::EndOfStream);
        assert_eq!(summary.initiator, Initiator::Peer);
        let is_incomplete = frames.first().is_some_and(|frame| !frame.fin);
        assert_eq!(summary.incomplete_bytes, if is_incomplete { 2 } else { 0 });
    }
}

/// F20: output that waits is written first; no Close is added, and none of it is lost.
#[test]
fn at_the_end_of_the_stream_what_waits_is_written_first() {
    let mut server = Endpoint::server();
    assert!(server.act(|t| t.send_text("answer")).is_taken());
    server.connection.handle_end_of_stream(server.now, &server.pools);
    assert!(!server.connection.is_closed());
    assert!(!server.act(|t| t.send_text("late")).is_taken());
    assert_eq!(server.write_frames(), [Frame::text("answer")]);
    assert!(server.connection.is_closed());
    let summary = server.finish();
    assert_eq!((summary.code, summary.cause), (CloseCode::ABNORMAL, CloseCause::EndOfStream));
    assert_eq!((summary.unsent_messages, summary.unsent_bytes), (0, 0));
}

/// F20: and if the peer takes none of it, the close deadline ends the wait.
#[test]
fn at_the_end_of_the_stream_the_deadline_ends_the_wait_for_output() {
    let mut server = Endpoint::server();
    assert!(server.act(|t| t.send_text("answer")).is_taken());
    server.connection.handle_end_of_stream(server.now, &server.pools);
    assert_eq!(server.due_in(), Some(std::time::Duration::from_secs(5)));
    server.advance(std::time::Duration::from_secs(5));
    assert!(server.connection.is_closed());
    let summary = server.finish();
    assert_eq!((summary.code, summary.cause), (CloseCode::ABNORMAL, CloseCause::EndOfStream));
    assert_eq!((summary.unsent_messages, summary.unsent_bytes), (1, 8));
}

/// §7.1.5: "If [...] no Close control frame was received" the code is 1006, though we sent one.
#[test]
fn a_close_of_ours_that_is_never_answered_ends_with_1006() {
    let closing = |written: usize| {
        let mut server = Endpoint::server();
        server.act(|t| t.close(CloseCode::NORMAL, "bye")).unwrap();
        server.write(written);
        server
    };
    for written in [0, 3, usize::MAX] {
        let mut server = closing(written);
        server.connection.handle_end_of_stream(server.now, &server.pools);
        server.write_all();
        assert_abnormal(server, CloseCause::EndOfStream);

        let mut server = closing(written);
        let reset = ErrorKind::ConnectionReset;
        server.connection.handle_transport_error(reset);
        assert_abnormal(server, CloseCause::Transport(reset));

        let mut server = closing(written);
        server.advance(std::time::Duration::from_secs(5));
        assert_abnormal(server, CloseCause::CloseTimeout);

        let mut server = closing(written);
        server.act(|t| t.abort());
        assert_abnormal(server, CloseCause::Aborted);
    }
}

fn assert_abnormal(server: Endpoint, cause: CloseCause) {
    assert!(server.connection.is_closed());
    let summary = server.finish();
    assert_eq!((summary.code, &*summary.reason), (CloseCode::ABNORMAL, ""));
    assert_eq!((summary.cause, summary.initiator), (cause, Initiator::Local));
}

/// §7.1.5: "the status code contained in the first Close control frame received", even if our answer
/// could not be written.
#[test]
fn a_close_that_was_received_keeps_its_code_when_our_answer_is_lost() {
    let reset = CloseCause::Transport(ErrorKind::BrokenPipe);
    for cause in [reset, CloseCause::CloseTimeout, CloseCause::Aborted] {
        let mut server = Endpoint::server();
        server.receive_frames(&[Frame::close(4000, "mine")]);
        match cause {
            CloseCause::Transport(error) => server.connection.handle_transport_error(error),
            CloseCause::CloseTimeout => server.advance(std::time::Duration::from_secs(5)),
            _ => server.act(|t| t.abort()),
        }
        assert!(server.connection.is_closed());
        let summary = server.finish();
        assert_eq!((summary.code.as_u16(), &*summary.reason), (4000, "mine"));
        assert_eq!((summary.cause, summary.initiator), (cause, Initiator::Peer));
        assert!(!summary.is_clean());
    }
}

/// F21: a reset at any point.
#[test]
fn a_reset_ends_the_connection_with_1006_and_leaks_nothing() {
    let frames = [Frame::text("ab").open(), Frame::ping("cd"), Frame::new(0, "ef")];
    let wire = Endpoint::server().wires(&frames);
    for cut in 0..=wire.len() {
        let mut server = Endpoint::server();
        server.receive(&wire[..cut]);
        assert!(server.act(|t| t.send_text("never")).is_taken());
        server.connection.handle_transport_error(ErrorKind::ConnectionReset);
        assert!(server.connection.is_closed());
        let unsent_bytes = server.connection.queued_bytes() as u64;
        let summary = server.finish();
        assert_eq!(summary.code, CloseCode::ABNORMAL);
        assert_eq!(summary.cause, CloseCause::Transport(ErrorKind::ConnectionReset));
        assert_eq!((summary.unsent_messages, summary.unsent_bytes), (1, unsent_bytes));
    }
}

/// Design §6.2: what was taken is written or counted: against a count of the frames on the wire.
#[test]
fn unsent_messages_and_bytes_are_those_that_are_not_on_the_wire() {
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let mut config = Config::new(if rng.one_in(2) { Role::Server } else { Role::Client });
        config.on_overflow = OverflowPolicy::Refuse;
        config.limits.backpressure_bytes_max = 100_000;
        let mut endpoint = Endpoint::new(config);
        let mut written = Vec::new();
        let (mut taken, mut in_parts) = (0, false);
        for _ in 0..rng.below(40) {
            let payload = {
                let length = rng.length();
                rng.bytes(length)
            };
            match rng.below(8) {
                0 => written.extend(endpoint.write(payload.len())),
                1 => written.extend(endpoint.write(rng.below(8))),
                2 => drop(endpoint.receive_frames(&[Frame::ping(&payload[..payload.len() % 126])])),
                3 => {
                    let part = [Part::First, Part::Middle, Part::Last][rng.below(3)];
                    let is_taken =
                        endpoint.act(|t| t.send_part(Opcode::Binary, &payload, part)).is_taken();
                    in_parts = if is_taken { part != Part::Last } else { in_parts };
                    taken += u64::from(is_taken && part == Part::Last);
                }
                4 => {
                    let message = PreparedMessage::binary(&payload);
                    taken += u64::from(endpoint.act(|t| t.send_prepared(&message)).is_taken());
                }
                5 => taken += u64::from(endpoint.act(|t| t.send_bytes(payload.into())).is_taken()),
                _ => taken += u64::from(endpoint.act(|t| t.send_binary(&payload)).is_taken()),
            }
        }
        let unsent = endpoint.unsent();
        let (frames, _) = naive::parse(&written);
        let on_the_wire = frames.iter().filter(|frame| frame.is_data() && frame.fin).count() as u64;
        let everything = naive::parse_all(&[written, unsent.clone()].concat());
        let sent = everything.iter().filter(|frame| frame.is_data() && frame.fin).count() as u64;
        assert_eq!(sent, taken, "seed {seed}");
        let summary = endpoint.finish();
        assert_eq!(summary.unsent_bytes, unsent.len() as u64, "seed {seed}");
        assert_eq!(summary.unsent_messages, taken - on_the_wire, "seed {seed}");
    }
}
