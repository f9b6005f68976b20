//! When memory is looked at, and what is told.

use std::time::Duration;

use corewire::{PressureLevel, PressureReactions};

use crate::bed::{BUDGET_BYTES, KIB, bed, half, level, look, percent};
use crate::sim_bed::{Bed, read_frames};
use crate::sim_peer::{BINARY, Frame, TEXT, message};

const MILLIS: Duration = Duration::from_millis(1);

#[test]
fn idle_loop_looks_ever_more_rarely_and_one_with_traffic_four_times_a_second() {
    let (mut bed, _) = bed(|_| {});
    let mut looks = Vec::new();
    let mut count = bed.reactor.counters().memory_samples;
    while bed.sim.elapsed() < Duration::from_secs(20) {
        bed.run_for(MILLIS);
        if bed.reactor.counters().memory_samples > count {
            count += 1;
            looks.push(bed.sim.elapsed().as_millis());
        }
    }
    assert_eq!(looks, [500, 1500, 3500, 7500, 11_500, 15_500, 19_500]);
    let turns = bed.reactor.counters().turns;
    let peer = bed.open();
    for _ in 0..80 {
        peer.write_all(&message(TEXT, b"x"));
        bed.run_for(50 * MILLIS);
    }
    // The first look after the traffic has begun comes as late as the last one has said.
    let looks = bed.reactor.counters().memory_samples - count;
    assert!((1..=3).contains(&looks), "{looks}");
    assert!(bed.reactor.counters().turns > turns);
    let count = bed.reactor.counters().memory_samples;
    for _ in 0..80 {
        peer.write_all(&message(TEXT, b"x"));
        bed.run_for(50 * MILLIS);
    }
    assert_eq!(bed.reactor.counters().memory_samples - count, 16);
}

#[test]
fn loop_that_is_not_told_to_does_not_look() {
    let mut bed = Bed::echo();
    let _peer = bed.open();
    bed.run_for(Duration::from_secs(20));
    assert_eq!(bed.reactor.counters().memory_samples, 0);
    assert!(bed.reactor.pressure().is_none() && bed.reactor.handle().pressure().is_none());
}

#[test]
fn handler_is_told_each_change_of_the_level_once() {
    let (mut bed, memory) = bed(|_| {});
    for used in [59, 60, 71, 72, 79, 80, 95, 75, 75] {
        look(&mut bed, &memory, percent(used));
    }
    assert_eq!(level(&bed), PressureLevel::Critical);
    memory.set(percent(10));
    bed.run_for(Duration::from_secs(20));
    use PressureLevel::{Critical, High, Moderate, Normal};
    let changes: Vec<_> = std::mem::take(&mut bed.reactor.handler().pressure);
    let told: Vec<_> = changes.iter().map(|it| (it.from, it.to, it.snapshot.percent)).collect();
    let expected = [
        (Normal, Moderate, 60),
        (Moderate, High, 72),
        (High, Critical, 80),
        (Critical, High, 10),
        (High, Moderate, 10),
        (Moderate, Normal, 10),
    ];
    assert_eq!(told, expected);
    // One level falls after another, each after a second of calm: the first look is the first of it.
    let fell: Vec<_> = changes[3..].iter().map(|change| change.snapshot.at).collect();
    assert_eq!([fell[1] - fell[0], fell[2] - fell[1]], [Duration::from_secs(1); 2]);
    let handle = bed.reactor.handle();
    assert_eq!(handle.pressure().as_ref(), bed.reactor.pressure());
    assert_eq!(bed.reactor.counters().pressure_changes, 6);
    let snapshot = handle.pressure().unwrap();
    assert_eq!(snapshot.budget_bytes, BUDGET_BYTES as u64);
    assert_eq!(snapshot.sample.rss_bytes, percent(10) as u64);
}

#[test]
fn budget_that_is_configured_goes_before_what_the_source_says() {
    let (mut bed, memory) = bed(|pressure| pressure.budget_bytes = Some(1 << 40));
    assert_eq!(look(&mut bed, &memory, percent(99)), PressureLevel::Normal);
    assert_eq!(bed.reactor.pressure().unwrap().budget_bytes, 1 << 40);
}

#[test]
fn waiting_for_memory_is_pressure_too() {
    let (mut bed, memory) = bed(|_| {});
    memory.set_stall(20);
    assert_eq!(look(&mut bed, &memory, 0), PressureLevel::Moderate);
}

#[test]
fn what_is_taken_in_at_once_is_seen_before_the_time_for_a_look_has_come() {
    let (mut bed, _) = bed(|pressure| pressure.reactions = PressureReactions::none());
    let samples = bed.reactor.counters().memory_samples;
    let before = bed.sim.elapsed();
    let peers: Vec<_> = (0..9).map(|_| half(&mut bed, 1000 * KIB)).collect();
    assert_eq!(bed.sim.elapsed(), before, "no time has passed");
    assert_eq!(level(&bed), PressureLevel::Critical);
    // Half of what is left to the next level each time, and no less than a 256th of the budget.
    let looks = bed.reactor.counters().memory_samples - samples;
    assert!((6..=24).contains(&looks), "{looks}");
    drop(peers);
}

#[test]
fn moderate_gives_back_what_is_kept_for_the_next_message() {
    let (mut bed, memory) = bed(|_| {});
    let (peer, _) = half(&mut bed, 1000 * KIB);
    peer.write_all(&crate::bed::last_byte(1000 * KIB));
    bed.turns(4);
    assert_eq!(read_frames(&peer), [Frame::new(BINARY, &[7; 1000 * KIB])]);
    let kept = bed.reactor.usage();
    assert!(kept.retained_bytes >= 1000 * KIB, "{kept:?}");
    assert_eq!(look(&mut bed, &memory, percent(59)), PressureLevel::Normal);
    assert_eq!(bed.reactor.usage().retained_bytes, kept.retained_bytes);
    assert_eq!(look(&mut bed, &memory, percent(60)), PressureLevel::Moderate);
    let usage = bed.reactor.usage();
    assert_eq!((usage.retained_bytes, usage.blocks), (0, 0));
    let released = bed.reactor.counters().pressure_released_bytes;
    assert_eq!(released, (kept.pinned_bytes - usage.pinned_bytes) as u64);
    let record = *bed.reactor.pressure_history().last().unwrap();
    assert_eq!((record.released.bytes, record.effect_bytes()), (released, None));
    look(&mut bed, &memory, percent(50));
    let records: Vec<_> = bed.reactor.pressure_history().collect();
    let before_last = records[records.len() - 2];
    assert_eq!(before_last.released.bytes, released);
    assert_eq!(before_last.effect_bytes(), Some((percent(60) - percent(50)) as i64));
    // What is there goes on.
    peer.write_all(&message(TEXT, b"still"));
    bed.turn();
    assert_eq!(read_frames(&peer), [Frame::new(TEXT, b"still")]);
}

#[test]
fn reactions_that_are_switched_off_do_nothing() {
    let (mut bed, memory) = bed(|pressure| pressure.reactions = PressureReactions::none());
    let (peer, _) = half(&mut bed, 1000 * KIB);
    let before = bed.reactor.usage();
    assert_eq!(look(&mut bed, &memory, percent(99)), PressureLevel::Critical);
    bed.run_for(Duration::from_secs(30));
    assert_eq!(bed.reactor.usage(), before);
    // Read, accepted and kept.
    peer.write_all(&crate::bed::last_byte(1000 * KIB));
    let _other = bed.open();
    bed.turns(4);
    let frames = read_frames(&peer);
    assert_eq!(frames.last(), Some(&Frame::new(BINARY, &[7; 1000 * KIB])));
    let counters = bed.reactor.counters();
    assert_eq!(counters.pressure_released_bytes + counters.pressure_held, 0);
    assert_eq!(bed.reactor.handler().pressure.len(), 1);
}
