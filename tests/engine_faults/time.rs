//! Deadlines and jumps of the clock (rows T1, T10, T11).

use std::time::Duration;

use corewire::{CloseCause, CloseCode, Heartbeat, SendOutcome};

use crate::sim_bed::{Bed, Heard, Occasion, echo, read_frames};
use crate::sim_peer::{BINARY, Frame, PING, TEXT, message};

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn t1_silent_peer_is_dropped_ninety_seconds_after_its_last_byte() {
    let mut bed = Bed::echo();
    let peer = bed.open();
    bed.run_for(Duration::from_millis(89_999));
    // One byte of a header is a sign of life.
    peer.write_all(&message(TEXT, b"hello")[..1]);
    bed.run_for(seconds(200));
    let (entry, summary) = bed.closed(bed.latest()).unwrap();
    assert_eq!(entry.at, Duration::from_millis(179_999));
    assert_eq!((summary.code, summary.cause), (CloseCode::ABNORMAL, CloseCause::HeartbeatTimeout));
    bed.assert_empty();
}

#[test]
fn t1_peer_that_answers_pings_lives_and_is_pinged_every_thirty_seconds() {
    let mut bed = Bed::echo();
    let peer = bed.open();
    for _ in 0..10 {
        bed.run_for(Duration::from_millis(29_999));
        assert_eq!(read_frames(&peer), [], "no ping before its time");
        bed.run_for(Duration::from_millis(1));
        let pings = read_frames(&peer);
        assert_eq!(pings.len(), 1);
        assert_eq!(pings[0].opcode, PING);
        peer.write_all(&message(crate::sim_peer::PONG, &pings[0].payload));
    }
    bed.run_for(seconds(1));
    assert_eq!(bed.closed(bed.latest()), None);
    let pongs = bed.heard(bed.latest());
    assert_eq!(pongs.len(), 10);
    assert!(
        pongs.iter().all(|heard| matches!(heard, Heard::Pong(_, Some(time)) if *time < seconds(1)))
    );
}

#[test]
fn t1_kernel_taking_output_is_a_sign_of_life_while_we_have_stopped_reading() {
    let mut bed = Bed::new(
        |_| {},
        |ctx, occasion| {
            if let Occasion::Message(_) = occasion {
                assert!(ctx.here().send_binary(&vec![7; 900 << 10]).is_taken());
            }
        },
    );
    let peer = bed.open();
    peer.set_buffers(4 << 20, 64 << 10);
    peer.write_all(&message(TEXT, b"go"));
    bed.turns(2);
    // Four times it reads what there is, each time just before it would count as dead.
    for _ in 0..4 {
        bed.run_for(Duration::from_millis(89_999));
        assert_eq!(peer.read_all().len(), 64 << 10);
    }
    bed.run_for(seconds(200));
    let (entry, summary) = bed.closed(bed.latest()).unwrap();
    assert_eq!(entry.at, Duration::from_millis(4 * 89_999 + 90_000));
    assert_eq!(summary.cause, CloseCause::HeartbeatTimeout);
    assert_eq!(summary.unsent_messages, 1);
    bed.assert_empty();
}

#[test]
fn t1_heartbeat_shorter_than_the_handshake_is_kept_from_the_start() {
    let heartbeat = Heartbeat { ping_every: seconds(1), dead_after: seconds(3) };
    let mut bed = Bed::new(|settings| settings.config.heartbeat = Some(heartbeat), echo);
    let peer = bed.open();
    bed.run_for(seconds(1));
    assert_eq!(read_frames(&peer).len(), 1, "the first ping comes after a second");
    bed.run_for(seconds(10));
    assert_eq!(bed.closed(bed.latest()).unwrap().0.at, seconds(3));
}

#[test]
fn t1_connection_without_heartbeat_lives_for_ever() {
    let mut bed = Bed::new(|settings| settings.config.heartbeat = None, echo);
    let peer = bed.open();
    bed.run_for(seconds(1_000_000));
    peer.write_all(&message(TEXT, b"still here"));
    bed.turn();
    assert_eq!(read_frames(&peer), [Frame::new(TEXT, b"still here")]);
}

#[test]
fn t1_paused_connection_is_not_taken_for_dead() {
    let mut bed = Bed::new(
        |_| {},
        |ctx, occasion| {
            if let Occasion::Message(_) = occasion {
                ctx.here().pause();
            }
        },
    );
    let peer = bed.open();
    peer.write_all(&message(TEXT, b"pause"));
    bed.run_for(seconds(1000));
    assert_eq!(bed.closed(bed.latest()), None);
}

#[test]
fn t1_reset_of_a_paused_connection_is_noticed_by_the_next_ping() {
    let mut bed = Bed::new(
        |_| {},
        |ctx, occasion| {
            if let Occasion::Message(_) = occasion {
                ctx.here().pause();
            }
        },
    );
    let peer = bed.open();
    peer.write_all(&message(TEXT, b"pause"));
    bed.run_for(seconds(1));
    peer.reset();
    bed.run_for(seconds(40));
    assert_eq!(bed.closed(bed.latest()).map(|(entry, _)| entry.at), Some(seconds(30)));
    bed.assert_empty();
}

#[test]
fn t10_jump_of_the_clock_makes_one_sweep_and_no_storm() {
    let mut bed = Bed::echo();
    let peers: Vec<_> = (0..100).map(|_| bed.open()).collect();
    bed.sim.advance(seconds(80));
    let before = bed.reactor.counters().turns;
    bed.run_for(seconds(1));
    assert!(bed.reactor.counters().turns - before < 20, "a jump is not many turns");
    for peer in &peers {
        let pings = read_frames(peer);
        assert_eq!(pings.len(), 1, "two were due, one is sent");
    }
    bed.sim.advance(seconds(3600));
    bed.turns(2);
    let log = bed.log.borrow();
    let closes: Vec<_> =
        log.iter().filter(|entry| matches!(entry.heard, Heard::Close(_))).collect();
    assert_eq!(closes.len(), 100);
    assert!(closes.iter().all(|entry| entry.turn == closes[0].turn), "one sweep");
    bed.assert_empty();
}

#[test]
fn t11_whoever_spoke_during_a_stall_is_heard_before_it_is_judged() {
    let mut bed = Bed::echo();
    let peers: Vec<_> = (0..100).map(|_| bed.open()).collect();
    // The kernel tells of half of them at a time, and the others are overdue all the same.
    bed.sim.0.borrow_mut().faults.partial_polls = 1000;
    bed.sim.advance(seconds(60));
    for peer in &peers {
        peer.write_all(&message(BINARY, b"alive"));
    }
    bed.sim.advance(seconds(60));
    bed.turn();
    assert_eq!(bed.reactor.usage().open, 100, "nobody who was alive is dropped");
    bed.turns(20);
    for peer in &peers {
        assert!(read_frames(peer).contains(&Frame::new(BINARY, b"alive")));
    }
}

#[test]
fn t11_peer_that_only_answers_pings_survives_a_stall_of_any_length() {
    let mut bed = Bed::echo();
    let peer = bed.open();
    let silent = bed.open();
    let silent_id = bed.latest();
    bed.run_for(seconds(30));
    let ping = read_frames(&peer).remove(0);
    peer.write_all(&message(crate::sim_peer::PONG, &ping.payload));
    bed.run_for(seconds(1));
    // In a stall nobody is pinged, so only those who owe an answer already are judged by it.
    bed.sim.advance(seconds(600));
    bed.turns(2);
    assert_eq!(bed.summary(silent_id).cause, CloseCause::HeartbeatTimeout);
    assert_eq!(bed.reactor.usage().open, 1);
    assert_eq!(read_frames(&peer).len(), 1, "the ping goes out late");
    // The 60 s between that ping and the deadline are still the peer's.
    bed.run_for(Duration::from_millis(59_990));
    assert_eq!(bed.reactor.usage().open, 1);
    bed.run_for(seconds(1));
    assert_eq!(bed.reactor.usage().open, 0);
    let _ = read_frames(&silent);
}

#[test]
fn closing_handshake_that_is_not_answered_ends_after_five_seconds() {
    let mut bed = Bed::new(
        |_| {},
        |ctx, occasion| {
            if let Occasion::Message(_) = occasion {
                ctx.close(CloseCode::NORMAL, "enough").unwrap();
                let late = ctx.send_text("too late");
                assert!(!late.is_taken(), "{late:?}");
                assert!(matches!(late, SendOutcome::Dropped(_)));
            }
        },
    );
    let peer = bed.open();
    peer.write_all(&message(TEXT, b"close"));
    bed.turn();
    let frames = read_frames(&peer);
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].close_code(), Some(1000));
    // Dripping does not extend it.
    for _ in 0..20 {
        bed.run_for(Duration::from_millis(400));
        peer.write(&message(TEXT, b"x")[..1]);
    }
    let (entry, summary) = bed.closed(bed.latest()).unwrap();
    assert_eq!((entry.at, summary.cause), (seconds(5), CloseCause::CloseTimeout));
    bed.run_for(seconds(1));
    bed.assert_empty();
}
