//! T1, T10 and the close deadline, exact on a clock that moves only when told.

use std::time::Duration;

use corewire::{CloseCause, CloseCode, Config, Heartbeat, Role};

use super::server_with;
use super::support::endpoint::{Endpoint, Seen};
use super::support::naive::{Frame, PING};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// §5.5.2: "a keepalive [...] to verify that the remote endpoint is still responsive".
#[test]
fn a_ping_is_sent_every_thirty_seconds_traffic_or_not() {
    let mut server = Endpoint::server();
    for round in 0..100 {
        assert_eq!(server.due_in(), Some(30 * SECOND), "round {round}");
        server.advance(30 * SECOND - MILLI);
        assert_eq!(server.unsent(), []);
        server.receive_frames(&[Frame::text("traffic")]);
        assert_eq!(server.due_in(), Some(MILLI));
        server.advance(MILLI);
        let frames = server.write_frames();
        assert_eq!(frames.len(), 1);
        assert_eq!((frames[0].opcode, frames[0].payload.len()), (PING, 8));
    }
}

/// T1: dead exactly 90 s after the last sign of life, flushed pings or not.
#[test]
fn a_silent_peer_is_dropped_after_ninety_seconds() {
    for flush in [true, false] {
        let mut server = Endpoint::server();
        server.pass(7 * SECOND);
        server.receive_frames(&[Frame::text("the last sign of life")]);
        for due in [23, 30, 30] {
            assert_eq!(server.due_in(), Some(due * SECOND));
            server.advance(due * SECOND);
            if flush {
                assert_eq!(server.write_frames().len(), 1);
            }
        }
        assert_eq!(server.due_in(), Some(7 * SECOND));
        server.advance(7 * SECOND - Duration::from_micros(1));
        assert!(server.connection.is_open());
        server.advance(Duration::from_micros(1));
        assert!(server.connection.is_closed());
        assert_eq!(server.due_in(), None);
        let summary = server.finish();
        assert_eq!(
            (summary.code, summary.cause),
            (CloseCode::ABNORMAL, CloseCause::HeartbeatTimeout)
        );
    }
}

/// T1: any received byte is life, a part of a header too.
#[test]
fn any_received_byte_is_a_sign_of_life() {
    let mut server = Endpoint::server();
    let wire = server.wire(&Frame::text("drip"));
    for byte in wire {
        server.advance(89 * SECOND);
        assert!(server.connection.is_open());
        server.receive(&[byte]);
    }
    server.advance(89 * SECOND);
    server.receive(&[]);
    server.advance(SECOND);
    assert!(server.connection.is_closed(), "no byte is no life");
}

/// T1: the kernel taking bytes after it had refused some is life; taking the first is not.
#[test]
fn output_that_is_taken_after_a_refusal_is_a_sign_of_life() {
    let mut server = Endpoint::server();
    assert!(server.act(|t| t.send_binary(&[0; 1000])).is_taken());
    server.write(500);
    for _ in 0..5 {
        server.advance(89 * SECOND);
        assert!(server.connection.is_open());
        server.write(1);
    }
    server.advance(89 * SECOND);
    server.write(0);
    server.advance(SECOND);
    assert!(server.connection.is_closed(), "nothing was taken");

    let mut server = Endpoint::server();
    server.pass(SECOND);
    assert!(server.act(|t| t.send_binary(&[0; 1000])).is_taken());
    server.write_all();
    assert_eq!(server.due_in(), Some(29 * SECOND));
    server.advance(29 * SECOND);
    server.write_all();
    server.advance(60 * SECOND);
    assert!(server.connection.is_closed(), "the kernel's buffer is no peer");
}

/// Facts, "Timers": blocked output does not stall deadlines, nor do pings pile up behind it.
#[test]
fn blocked_output_neither_stalls_deadlines_nor_gathers_pings() {
    let mut server = Endpoint::server();
    assert!(server.act(|t| t.send_binary(&[0; 1000])).is_taken());
    server.write(1);
    let queued = server.connection.queued_bytes();
    for _ in 0..2 {
        server.advance(30 * SECOND);
        assert_eq!(server.connection.queued_bytes(), queued);
    }
    server.advance(30 * SECOND);
    assert!(server.connection.is_closed());
}

/// §5.5.3: the round trip begins when the ping is flushed and ends with its exact payload.
#[test]
fn the_round_trip_runs_from_the_flush_to_the_exact_payload() {
    let mut server = Endpoint::server();
    server.advance(30 * SECOND);
    server.pass(2 * SECOND);
    let ping = server.write_frames().remove(0);
    server.pass(123 * MILLI);
    let mut wrong = ping.payload.clone();
    wrong[7] ^= 1;
    let pongs = [
        Frame::pong(&wrong),
        Frame::pong(&ping.payload[..7]),
        Frame::pong(""),
        Frame::pong(&ping.payload),
        Frame::pong(&ping.payload),
    ];
    let seen = server.receive_frames(&pongs);
    let trips: Vec<_> = seen
        .into_iter()
        .map(|seen| match seen {
            Seen::Pong(_, round_trip) => round_trip,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(trips, [None, None, None, Some(123 * MILLI), None]);
}

/// A ping is flushed with its last byte, behind what is queued before it.
#[test]
fn the_flush_of_a_ping_is_that_of_its_last_byte() {
    for behind in 0..10 {
        let mut server = Endpoint::server();
        assert!(server.act(|t| t.send_text("in front")).is_taken());
        server.advance(30 * SECOND);
        assert!(server.act(|t| t.send_text("behind")).is_taken());
        let mut written = server.write(10 + behind);
        server.pass(SECOND);
        written.extend(server.write(10 - behind));
        server.pass(4 * SECOND);
        let payload = written[12..20].to_vec();
        let seen = server.receive_frames(&[Frame::pong(&payload)]);
        assert_eq!(seen, [Seen::Pong(payload, Some(4 * SECOND))]);
    }
}

/// The moment of the flush is kept modulo 2^32 µs, which go by in 71 minutes and 35 seconds.
#[test]
fn the_round_trip_survives_the_wrap_of_its_clock() {
    let mut server = Endpoint::server();
    server.pass(4294 * SECOND);
    server.receive_frames(&[Frame::text("alive")]);
    server.advance(Duration::ZERO);
    let payload = server.write_frames().remove(0).payload;
    server.pass(2 * SECOND);
    let seen = server.receive_frames(&[Frame::pong(&payload)]);
    assert_eq!(seen, [Seen::Pong(payload, Some(2 * SECOND))]);
}

/// A pong that answers before the ping was flushed can only be guessed: no round trip.
#[test]
fn a_pong_to_a_ping_that_is_not_flushed_has_no_round_trip() {
    let mut server = Endpoint::server();
    server.advance(30 * SECOND);
    let payload = server.unsent()[2..].to_vec();
    let seen = server.receive_frames(&[Frame::pong(&payload)]);
    assert_eq!(seen, [Seen::Pong(payload, None)]);
}

/// The latest ping counts: a late pong to the one before has no round trip, the latest has.
#[test]
fn only_the_latest_ping_is_waited_for() {
    let mut server = Endpoint::server();
    server.advance(30 * SECOND);
    let first = server.write_frames().remove(0).payload;
    server.advance(30 * SECOND);
    let second = server.write_frames().remove(0).payload;
    assert_ne!(first, second);
    server.pass(SECOND);
    let seen = server.receive_frames(&[Frame::pong(&first), Frame::pong(&second)]);
    assert_eq!(seen, [Seen::Pong(first, None), Seen::Pong(second, Some(SECOND))]);
}

/// T10: after a jump of the clock one late sweep: one ping, no storm, and the next one in step.
#[test]
fn a_clock_that_jumps_brings_one_ping() {
    let mut server = Endpoint::server();
    server.pass(3600 * SECOND);
    server.receive_frames(&[Frame::text("what arrived is handled first")]);
    server.advance(Duration::ZERO);
    assert_eq!(server.write_frames().len(), 1);
    server.advance(Duration::ZERO);
    assert_eq!(server.unsent(), []);
    assert_eq!(server.due_in(), Some(30 * SECOND));
    assert!(server.connection.is_open());
}

/// T10: a peer that owes no pong when the clock jumps is asked before it counts as dead.
#[test]
fn a_clock_that_jumps_over_both_deadlines_brings_the_ping_first() {
    let mut server = Endpoint::server();
    server.advance(3600 * SECOND);
    assert!(server.connection.is_open());
    assert_eq!(server.write_frames().len(), 1);
    assert_eq!(server.due_in(), Some(30 * SECOND));
    server.advance(30 * SECOND);
    assert!(server.connection.is_open());
    server.advance(30 * SECOND);
    assert!(server.connection.is_closed(), "60 s after the ping, as without the jump");
}

/// T10: a peer that has not answered the ping before is dead at once, without another one.
#[test]
fn a_clock_that_jumps_finds_a_peer_dead_that_owes_a_pong() {
    let mut server = Endpoint::server();
    server.advance(30 * SECOND);
    assert_eq!(server.write_frames().len(), 1);
    server.advance(3600 * SECOND);
    assert!(server.connection.is_closed());
    assert_eq!(server.unsent(), []);
}

/// The heartbeat can be set and switched off.
#[test]
fn the_heartbeat_can_be_set_and_switched_off() {
    let mut server = server_with(|config| config.heartbeat = None);
    assert_eq!(server.due_in(), None);
    server.advance(Duration::from_secs(1 << 32));
    assert!(server.connection.is_open());
    assert_eq!(server.unsent(), []);
    let mut server = server_with(|config| {
        config.heartbeat = Some(Heartbeat { ping_every: 5 * MILLI, dead_after: 12 * MILLI });
    });
    server.advance(5 * MILLI);
    server.advance(5 * MILLI);
    assert_eq!(server.write_frames().len(), 2);
    assert_eq!(server.due_in(), Some(2 * MILLI));
    server.advance(2 * MILLI);
    assert!(server.connection.is_closed());
    let forever = Heartbeat { ping_every: Duration::MAX, dead_after: Duration::MAX };
    let server = server_with(|config| config.heartbeat = Some(forever));
    assert!(server.due_in() > Some(Duration::from_secs(1 << 40)));
}

/// A heartbeat without a pause would keep its caller busy for ever.
#[test]
fn a_heartbeat_of_zero_pings_once_a_millisecond() {
    let heartbeat = Heartbeat { ping_every: Duration::ZERO, ..Heartbeat::default() };
    let mut server = server_with(|config| config.heartbeat = Some(heartbeat));
    for _ in 0..3 {
        assert_eq!(server.due_in(), Some(MILLI));
        server.advance(MILLI);
        assert_eq!(server.write_frames().len(), 1);
    }
}

/// §7.1.1: the closing handshake has 5 s in all, whatever happens in between.
#[test]
fn the_closing_handshake_has_one_deadline_in_all() {
    for steps in 0..4 {
        let mut server = Endpoint::server();
        server.act(|t| t.close(CloseCode::NORMAL, "")).unwrap();
        assert_eq!(server.due_in(), Some(5 * SECOND));
        if steps > 0 {
            server.advance(4 * SECOND);
            server.write(1);
        }
        if steps > 1 {
            server.receive_frames(&[Frame::text("still talking")]);
            server.act(|t| t.close(CloseCode::NORMAL, "")).unwrap();
        }
        if steps > 2 {
            server.receive_frames(&[Frame::close(1000, "")]);
        }
        let left = if steps > 0 { SECOND } else { 5 * SECOND };
        assert_eq!(server.due_in(), Some(left));
        server.advance(left - Duration::from_micros(1));
        assert!(!server.connection.is_closed());
        server.advance(Duration::from_micros(1));
        assert!(server.connection.is_closed());
        assert_eq!(server.finish().cause, CloseCause::CloseTimeout);
    }
}

/// §7.1.7: the same holds when we fail the connection, or the peer begins to close it.
#[test]
fn a_failed_connection_ends_by_its_deadline() {
    for frame in [Frame::new(3, ""), Frame::close(1000, "")] {
        let mut config = Config::new(Role::Server);
        config.close_timeout = 2 * SECOND;
        let mut server = Endpoint::new(config);
        server.pass(SECOND);
        server.receive_frames(&[frame]);
        assert_eq!(server.due_in(), Some(2 * SECOND));
        server.advance(2 * SECOND);
        assert!(server.connection.is_closed());
        let summary = server.finish();
        assert!(!summary.is_clean());
        assert!(summary.unsent_bytes > 0);
    }
}
