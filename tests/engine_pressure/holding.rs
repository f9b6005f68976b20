//! From High on: those who hold the most are not read.

use std::time::Duration;

use corewire::{CloseCause, Failure, PressureLevel};

use crate::bed::{KIB, bed, half, last_byte, level, look, percent};
use crate::sim_bed::{Bed, Heard, read_frames};
use crate::sim_net::SimPeer;
use crate::sim_peer::{BINARY, Frame, TEXT, message};

const HEAVY: usize = 1000 * KIB;

fn is_echoed(bed: &mut Bed, peer: &SimPeer) -> bool {
    peer.write_all(&message(TEXT, b"there?"));
    bed.turns(2);
    read_frames(peer) == [Frame::new(TEXT, b"there?")]
}

#[test]
fn heavy_senders_wait_until_the_level_falls_and_lose_nothing() {
    let (mut bed, memory) = bed(|_| {});
    let light = bed.open();
    let (small, small_id) = half(&mut bed, 20 * KIB);
    let (heavy, heavy_id) = half(&mut bed, HEAVY);
    assert_eq!(look(&mut bed, &memory, percent(71)), PressureLevel::Moderate);
    assert_eq!(bed.reactor.counters().pressure_held, 0);
    assert_eq!(look(&mut bed, &memory, percent(72)), PressureLevel::High);
    assert_eq!(bed.reactor.counters().pressure_held, 1);
    // Everybody but the one who holds much is served.
    heavy.write_all(&last_byte(HEAVY));
    small.write_all(&last_byte(20 * KIB));
    assert!(is_echoed(&mut bed, &light));
    bed.run_for(Duration::from_secs(2));
    assert_eq!(bed.heard(small_id), [Heard::Binary(vec![7; 20 * KIB])]);
    assert_eq!(bed.heard(heavy_id), []);
    look(&mut bed, &memory, percent(66));
    bed.run_for(Duration::from_millis(1500));
    assert_eq!(level(&bed), PressureLevel::Moderate);
    assert_eq!(bed.heard(heavy_id), [Heard::Binary(vec![7; HEAVY])]);
    let resumed: u32 = bed.reactor.pressure_history().map(|record| record.released.resumed).sum();
    assert_eq!((bed.reactor.counters().pressure_held, resumed), (1, 1));
}

#[test]
fn only_as_many_wait_as_hold_together_what_is_too_much() {
    let (mut bed, memory) = bed(|_| {});
    let heavy: Vec<_> = [900, 800, 700, 600].map(|kib| half(&mut bed, kib * KIB)).into();
    // 72 % is 17 % above what leaves the lowest level: 1.7 MiB of 10.
    assert_eq!(look(&mut bed, &memory, percent(72)), PressureLevel::High);
    // Blocks come in powers of two, so these hold 1 MiB each; the first two in the table are it.
    for (peer, (_, kib)) in heavy.iter().zip([(0, 900), (1, 800), (2, 700), (3, 600)]) {
        peer.0.write_all(&last_byte(kib * KIB));
    }
    bed.turns(4);
    let heard = heavy.iter().map(|(_, id)| bed.heard(*id).len()).collect::<Vec<_>>();
    assert_eq!(heard, [0, 0, 1, 1]);
}

#[test]
fn who_waits_for_too_long_is_closed() {
    let (mut bed, memory) = bed(|_| {});
    let (heavy, id) = half(&mut bed, HEAVY);
    look(&mut bed, &memory, percent(72));
    let held_at = bed.sim.elapsed();
    let blocks = bed.reactor.usage().blocks;
    bed.run_for(Duration::from_millis(4_900));
    assert!(bed.closed(id).is_none());
    bed.run_for(Duration::from_millis(500));
    let (entry, summary) = bed.closed(id).expect("its time is over");
    assert_eq!(entry.at - held_at, Duration::from_secs(5));
    assert_eq!(summary.cause, CloseCause::Failed(Failure::MemoryPressure));
    let close = read_frames(&heavy).pop().unwrap();
    assert_eq!(close.close_code(), Some(1013));
    assert_eq!(&close.payload[2..], b"memory is scarce");
    assert_eq!((blocks, bed.reactor.usage().blocks), (1, 0));
    assert_eq!(bed.reactor.counters().pressure_closed_heavy, 1);
}

#[test]
fn who_leaves_while_waiting_is_read_to_the_end() {
    let (mut bed, memory) = bed(|_| {});
    let (gone, gone_id) = half(&mut bed, HEAVY);
    let (done, done_id) = half(&mut bed, HEAVY);
    assert_eq!(look(&mut bed, &memory, percent(75)), PressureLevel::High);
    assert_eq!(bed.reactor.counters().pressure_held, 2);
    gone.reset();
    done.write_all(&last_byte(HEAVY));
    done.fin();
    bed.turns(3);
    assert_eq!(bed.summary(gone_id).incomplete_bytes, HEAVY as u64 - 1);
    assert_eq!(bed.heard(done_id)[0], Heard::Binary(vec![7; HEAVY]));
    assert_eq!(bed.reactor.usage().blocks, 0);
    // Nobody is left to be resumed or to be closed.
    bed.run_for(Duration::from_secs(15));
    assert_eq!(bed.reactor.counters().pressure_closed_heavy, 0);
}

#[test]
fn who_waits_is_not_taken_for_dead() {
    let (mut bed, memory) = bed(|pressure| pressure.hold_timeout = Duration::from_secs(1000));
    let (_heavy, id) = half(&mut bed, HEAVY);
    look(&mut bed, &memory, percent(72));
    bed.run_for(Duration::from_secs(200));
    assert!(bed.closed(id).is_none());
}

#[test]
fn pause_of_the_application_outlives_the_pressure() {
    let (mut bed, memory) = bed(|_| {});
    let (heavy, id) = half(&mut bed, HEAVY);
    let other = bed.open();
    bed.reactor.handler().on_next_open(move |ctx| ctx.peer(id).pause());
    let _opened = bed.open();
    look(&mut bed, &memory, percent(72));
    heavy.write_all(&last_byte(HEAVY));
    memory.set(0);
    bed.run_for(Duration::from_secs(8));
    assert_eq!(level(&bed), PressureLevel::Normal);
    assert_eq!(bed.heard(id), []);
    bed.reactor.handler().on_next_open(move |ctx| ctx.peer(id).resume());
    let _opened = bed.open();
    bed.turns(4);
    assert_eq!(bed.heard(id), [Heard::Binary(vec![7; HEAVY])]);
    assert!(is_echoed(&mut bed, &other));
}

#[test]
fn queue_of_a_peer_that_does_not_read_counts_as_its_weight() {
    let (mut bed, memory) = bed(|_| {});
    let (stuck, id) = half(&mut bed, 200 * KIB);
    stuck.set_buffers(8 * KIB * KIB, 10);
    stuck.write_all(&last_byte(200 * KIB));
    bed.turns(3);
    let rings = bed.reactor.usage().rings;
    assert!(rings >= 12, "{rings}");
    assert!(bed.reactor.pinned_bytes(id).unwrap() >= rings * 16 * KIB);
    look(&mut bed, &memory, percent(72));
    assert_eq!(bed.reactor.counters().pressure_held, 1);
    stuck.write_all(&message(BINARY, b"x"));
    bed.turns(2);
    assert_eq!(bed.heard(id).len(), 1);
}

#[test]
fn what_was_waited_before_counts_until_there_is_enough_for_all() {
    let (mut bed, memory) = bed(|_| {});
    let (_heavy, id) = half(&mut bed, HEAVY);
    for _ in 0..2 {
        look(&mut bed, &memory, percent(72));
        bed.run_for(Duration::from_millis(1000));
        look(&mut bed, &memory, percent(60));
        bed.run_for(Duration::from_millis(1250));
        assert_eq!(level(&bed), PressureLevel::Moderate);
    }
    look(&mut bed, &memory, percent(72));
    let held_at = bed.sim.elapsed();
    bed.run_for(Duration::from_secs(4));
    let (entry, _) = bed.closed(id).expect("it had waited for some seconds already");
    assert!(entry.at - held_at < Duration::from_secs(2), "{:?}", entry.at - held_at);
}
