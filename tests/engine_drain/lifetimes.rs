//! Connections that have lived long enough.

use std::time::Duration;

use corewire::{
    CloseCause, CloseCode, Config, ConfigError, Drain, Lifetime, ListenOptions, ListenerSettings,
    Part, Role,
};

use crate::sim_bed::{Bed, Heard, Occasion, read_frames};
use crate::sim_peer::{BINARY, CLOSE, TEXT, close, frames, masked, message};
use crate::watch::{Manners, Reading, millis, polite, seconds, seeded, watch};

fn living(after: Duration, change: impl FnOnce(&mut Lifetime)) -> Bed {
    seeded(1, |settings| {
        let mut lifetime = Lifetime { jitter: 0.0, ..Lifetime::new(after) };
        change(&mut lifetime);
        settings.config.max_lifetime = Some(lifetime);
    })
}

/// The ends of lives are rounded up to so much, counted from the loop's beginning.
fn rounded(time: Duration) -> Duration {
    millis(time.as_millis().div_ceil(256) as u64 * 256)
}

#[test]
fn each_connection_ends_when_its_life_is_over_whenever_it_came() {
    let mut bed = living(seconds(60), |_| {});
    let mut opened = Vec::new();
    for _ in 0..5 {
        bed.run_for(millis(1234));
        opened.push((bed.open(), bed.sim.elapsed()));
    }
    let began = bed.sim.elapsed();
    let peers: Vec<_> = opened.iter().map(|(peer, _)| (peer.clone(), Manners::Answers)).collect();
    let told = watch(&mut bed, &peers, seconds(70));
    assert_eq!(told.len(), 5);
    for told in told {
        assert_eq!(told.at + began, rounded(opened[told.peer].1 + seconds(60)));
        assert_eq!(told.code, 1001);
    }
    assert_eq!(bed.reactor.counters().lifetimes_ended, 5);
    assert_eq!(bed.reactor.usage().timers, 0);
}

#[test]
fn without_a_bound_a_connection_lives_on() {
    let mut bed = seeded(1, |_| {});
    let peer = bed.open();
    bed.run_for(seconds(90 * 24 * 3600));
    assert!(read_frames(&peer).is_empty());
    assert_eq!(bed.reactor.usage().open, 1);
}

#[test]
fn jitter_spreads_those_who_came_together_and_nobody_lives_longer() {
    let mut bed = living(seconds(100), |lifetime| lifetime.jitter = 0.2);
    let peers = polite(&mut bed, 50);
    let told = watch(&mut bed, &peers, seconds(101));
    assert_eq!(told.len(), 50);
    assert!(told.iter().all(|told| (seconds(80)..=millis(100_256)).contains(&told.at)));
    // Fifty draws of four quarters: each has some.
    for quarter in 0..4 {
        let begin = seconds(80 + 5 * quarter);
        let within = told.iter().filter(|told| (begin..begin + seconds(5)).contains(&told.at));
        assert!((4..30).contains(&within.count()), "quarter {quarter}");
    }
}

#[test]
fn code_is_what_is_configured_and_the_peer_may_take_its_time_to_answer() {
    let mut bed = living(seconds(10), |lifetime| lifetime.code = CloseCode::SERVICE_RESTART);
    let peer = bed.open();
    bed.run_for(seconds(11));
    assert_eq!(read_frames(&peer)[0].close_code(), Some(1012));
    bed.run_for(seconds(2));
    peer.write_all(&close(1012));
    peer.fin();
    bed.turns(2);
    let (_, summary) = bed.closed(bed.latest()).unwrap();
    assert_eq!((summary.cause, summary.code.as_u16()), (CloseCause::ClosingHandshake, 1012));
    bed.run_for(seconds(1));
    assert_eq!(bed.sim.sockets(), 0);
}

#[test]
fn life_does_not_disturb_the_heartbeat_nor_the_heartbeat_a_life() {
    let mut bed = Bed::new(
        |settings| settings.config.max_lifetime = Some(Lifetime::new(seconds(200))),
        crate::sim_bed::echo,
    );
    let peer = bed.open();
    let (mut pings, mut end) = (0, None);
    for _ in 0..2100 {
        bed.run_for(millis(100));
        for frame in read_frames(&peer) {
            if frame.opcode == CLOSE {
                end = Some(bed.sim.elapsed());
                continue;
            }
            pings += 1;
            peer.write_all(&message(crate::sim_peer::PONG, &frame.payload));
        }
    }
    assert_eq!(pings, 6, "one each 30 s");
    let end = end.expect("its life was over");
    assert!((seconds(180)..seconds(201)).contains(&end), "{end:?}");
}

#[test]
fn message_of_the_peer_that_is_under_way_may_end_first() {
    let mut bed = living(seconds(10), |_| {});
    let peer = bed.open();
    bed.run_for(seconds(9));
    peer.write_all(&masked(TEXT, b"half "));
    bed.run_for(seconds(3));
    assert!(read_frames(&peer).is_empty());
    peer.write_all(&masked(0x80, b"and half"));
    bed.run_for(millis(200));
    let frames = read_frames(&peer);
    assert_eq!(frames[0].payload, b"half and half");
    assert_eq!(frames[1].close_code(), Some(1001));
    assert!(bed.heard(bed.latest()).contains(&Heard::Text("half and half".into())));
}

#[test]
fn torn_frame_may_end_first_too() {
    let mut bed = living(seconds(10), |_| {});
    let peer = bed.open();
    bed.run_for(seconds(9));
    let frame = message(BINARY, &[5; 1000]);
    peer.write_all(&frame[..1]);
    bed.run_for(seconds(3));
    assert!(read_frames(&peer).is_empty());
    peer.write_all(&frame[1..]);
    bed.run_for(millis(200));
    let frames = read_frames(&peer);
    assert_eq!((frames[0].payload.len(), frames[1].close_code()), (1000, Some(1001)));
}

#[test]
fn message_that_we_send_in_parts_may_end_first() {
    let mut bed = Bed::new(
        |settings| {
            settings.config.heartbeat = None;
            let lifetime = Lifetime { jitter: 0.0, ..Lifetime::new(seconds(10)) };
            settings.config.max_lifetime = Some(lifetime);
        },
        |ctx, occasion| {
            if let Occasion::Message(message) = occasion {
                let part = if message.payload() == b"begin" { Part::First } else { Part::Last };
                let sent = ctx.here().send_part(message.opcode(), message.payload(), part);
                assert!(sent.is_taken());
            }
        },
    );
    let peer = bed.open();
    peer.write_all(&message(TEXT, b"begin"));
    bed.run_for(seconds(12));
    let (mut heard, _) = frames(&peer.read_all());
    peer.write_all(&message(TEXT, b"end"));
    bed.run_for(millis(200));
    heard.extend(frames_of(&peer.read_all()));
    let heard: Vec<_> = heard.iter().map(|frame| (frame.fin, frame.opcode)).collect();
    assert_eq!(heard, [(false, TEXT), (true, 0), (true, CLOSE)]);
}

/// Those that stand behind a message's beginning.
fn frames_of(bytes: &[u8]) -> Vec<crate::sim_peer::Frame> {
    // A continuation alone is no message to the naive parser: it is given its beginning again.
    let whole = [&[TEXT, 0], bytes].concat();
    frames(&whole).0.split_off(1)
}

#[test]
fn message_that_does_not_end_is_waited_for_as_long_as_a_closing_handshake() {
    let mut bed = living(seconds(10), |_| {});
    let peer = bed.open();
    bed.run_for(seconds(9));
    peer.write_all(&masked(TEXT, b"half "));
    let began = bed.sim.elapsed();
    let (peers, mut reading) = ([(peer.clone(), Manners::IsSilent)], Reading::default());
    while reading.told.is_empty() {
        bed.run_for(millis(10));
        // Drop by drop.
        peer.write_all(&masked(0, b"x"));
        reading.read(&peers, bed.sim.elapsed() - began);
        assert!(bed.sim.elapsed() - began < seconds(10), "for ever");
    }
    let told = reading.told;
    // 1 s to the end, 5 s of patience, each rounded up to a quarter of a second.
    assert!((seconds(6)..millis(6600)).contains(&told[0].at), "{told:?}");
    assert_eq!(bed.reactor.counters().lifetimes_ended, 1);
}

#[test]
fn place_that_is_used_again_has_a_life_of_its_own() {
    let mut bed = living(seconds(10), |_| {});
    let first = bed.open();
    bed.run_for(seconds(6));
    first.reset();
    bed.turns(2);
    let second = bed.open();
    bed.run_for(seconds(9));
    assert!(read_frames(&second).is_empty(), "that would be the first one's");
    bed.run_for(millis(1300));
    assert_eq!(read_frames(&second)[0].close_code(), Some(1001));
}

#[test]
fn who_is_leaving_already_is_not_told_again() {
    let mut bed = seeded(1, |settings| {
        settings.config.max_lifetime = Some(Lifetime { jitter: 0.0, ..Lifetime::new(seconds(10)) });
        settings.config.close_timeout = seconds(60);
    });
    let peer = bed.open();
    bed.run_for(seconds(5));
    bed.reactor.handle().close(bed.latest(), CloseCode::NORMAL, "").unwrap();
    bed.run_for(seconds(20));
    let frames = read_frames(&peer);
    assert_eq!((frames.len(), frames[0].close_code()), (1, Some(1000)));
    assert_eq!(bed.reactor.counters().lifetimes_ended, 0);
}

#[test]
fn life_that_ends_in_a_drain_ends_as_ever_and_nobody_is_told_twice() {
    let mut bed = seeded(1, |settings| {
        settings.config.max_lifetime = Some(Lifetime { jitter: 0.0, ..Lifetime::new(seconds(4)) });
        settings.config.close_timeout = seconds(60);
    });
    let peers: Vec<_> = (0..4).map(|_| (bed.open(), Manners::IsSilent)).collect();
    bed.reactor.handle().drain(&Drain { jitter: 0.0, ..Drain::default() }).unwrap();
    let told = watch(&mut bed, &peers, seconds(16));
    let codes: Vec<_> = told.iter().map(|told| told.code).collect();
    // Two are told by the drain, at 1.25 s and 3.75 s.
    assert_eq!(codes, [1012, 1012, 1001, 1001]);
    assert!(bed.reactor.is_finished());
    let counters = bed.reactor.counters();
    assert_eq!((counters.lifetimes_ended, counters.drain_cut_off), (2, 4));
    bed.assert_empty();
}

#[test]
fn life_that_cannot_be_is_refused() {
    let fine = Lifetime::new(seconds(1));
    let cases = [
        Lifetime { after: Duration::ZERO, ..fine },
        Lifetime { jitter: 1.5, ..fine },
        Lifetime { jitter: f64::NAN, ..fine },
        Lifetime { code: CloseCode::ABNORMAL, ..fine },
    ];
    for lifetime in cases {
        let mut bed = Bed::echo();
        let mut config = Config::new(Role::Server);
        config.max_lifetime = Some(lifetime);
        let settings = ListenerSettings::new(config);
        let error = bed.reactor.listen(([10, 0, 0, 9], 1), &ListenOptions::default(), settings);
        let error = error.unwrap_err().into_inner().expect("it says why");
        assert_eq!(error.downcast_ref(), Some(&ConfigError::Lifetime), "{lifetime:?}");
    }
}

#[test]
fn longest_life_is_one_of_24_days() {
    let mut bed = living(Duration::MAX, |_| {});
    let peer = bed.open();
    bed.run_for(seconds(24 * 24 * 3600 - 60));
    assert!(read_frames(&peer).is_empty());
    bed.run_for(seconds(120));
    assert_eq!(read_frames(&peer)[0].close_code(), Some(1001));
}
