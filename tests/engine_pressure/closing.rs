//! At Critical: nobody new is let in, and some have to go.

use std::time::Duration;

use corewire::{CloseCause, ConnectionId, Failure, PressureLevel};

use crate::bed::{KIB, bed, half, level, look, percent};
use crate::sim_bed::{Bed, read_frames};
use crate::sim_net::SimPeer;
use crate::sim_peer::{TEXT, answers, message, plain_request, upgrade_request};

const HEAVY: usize = 1000 * KIB;

fn answer(bed: &mut Bed, request: &[u8]) -> String {
    let peer = bed.sim.connect(bed.address);
    peer.write_all(request);
    bed.turns(3);
    String::from_utf8(peer.read_all()).unwrap()
}

// H20
#[test]
fn upgrades_are_refused_at_critical_alone_and_told_when_to_come_again() {
    let (mut bed, memory) = bed(|_| {});
    let upgrade = upgrade_request("/", "");
    assert_eq!(look(&mut bed, &memory, percent(79)), PressureLevel::High);
    assert!(answer(&mut bed, &upgrade).starts_with("HTTP/1.1 101 "));
    assert_eq!(look(&mut bed, &memory, percent(80)), PressureLevel::Critical);
    let refused = answer(&mut bed, &upgrade);
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(refused.contains("\r\nRetry-After: 5\r\n"), "{refused}");
    // Who asks how it goes is answered.
    let plain = answer(&mut bed, &plain_request("/healthz"));
    assert_eq!(answers(plain.as_bytes())[0].0, 200);
    let counters = bed.reactor.counters();
    assert_eq!((counters.refused_under_pressure, counters.refused_over_capacity), (1, 0));
    look(&mut bed, &memory, percent(70));
    bed.run_for(Duration::from_millis(1250));
    assert_eq!(level(&bed), PressureLevel::High);
    assert!(answer(&mut bed, &upgrade).starts_with("HTTP/1.1 101 "));
}

/// Connections that were opened a second after each other, the first an hour ago.
fn idle(bed: &mut Bed, count: usize) -> Vec<(SimPeer, ConnectionId)> {
    (0..count)
        .map(|_| {
            bed.run_for(Duration::from_secs(1));
            let peer = bed.open();
            (peer, bed.latest())
        })
        .collect()
}

fn closed(bed: &Bed, all: &[(SimPeer, ConnectionId)]) -> Vec<bool> {
    all.iter().map(|(_, id)| bed.closed(*id).is_some()).collect()
}

#[test]
fn idle_ones_go_first_the_oldest_in_front_until_enough_is_released() {
    let (mut bed, memory) = bed(|_| {});
    let idle = idle(&mut bed, 8);
    let active = bed.open();
    bed.run_for(Duration::from_secs(12));
    active.write_all(&message(TEXT, b"x"));
    bed.turn();
    let each = bed.reactor.pinned_bytes(idle[0].1).unwrap();
    // It holds too much by what two and a half of them hold.
    memory.set(percent(75) + 2 * each + each / 2);
    let samples = bed.reactor.counters().memory_samples;
    // 80 % begins it, and 75 % ends it: the threshold itself is out of reach of so few.
    while bed.reactor.counters().memory_samples == samples {
        bed.run_for(Duration::from_millis(250));
    }
    assert_eq!(level(&bed), PressureLevel::High);
    assert_eq!(closed(&bed, &idle), [false; 8]);
    look(&mut bed, &memory, percent(80));
    assert_eq!(closed(&bed, &idle), [true; 8]);
    assert!(!active.is_at_end());
    let counters = bed.reactor.counters();
    assert_eq!((counters.pressure_closed_idle, counters.pressure_closed_heavy), (8, 0));
    for (peer, id) in &idle {
        assert_eq!(bed.summary(*id).cause, CloseCause::Failed(Failure::MemoryPressure));
        assert_eq!(read_frames(peer).pop().unwrap().close_code(), Some(1013));
    }
    let order: Vec<_> = bed.log.borrow().iter().map(|entry| entry.id).collect();
    let closes = idle.iter().map(|(_, id)| order.iter().rposition(|it| it == id).unwrap());
    assert!(closes.collect::<Vec<_>>().is_sorted(), "the oldest goes first");
}

#[test]
fn few_are_closed_in_each_turn() {
    let (mut bed, memory) = bed(|pressure| pressure.closes_per_turn = 3);
    let idle = idle(&mut bed, 8);
    bed.run_for(Duration::from_secs(12));
    look(&mut bed, &memory, percent(90));
    // `run_for` ends with a turn that does not wait.
    let mut turns: Vec<_> =
        idle.iter().map(|(_, id)| bed.closed(*id).map(|(entry, _)| entry.turn)).collect();
    bed.turns(3);
    turns = turns
        .iter()
        .zip(&idle)
        .map(|(_, (_, id))| bed.closed(*id).map(|(entry, _)| entry.turn))
        .collect();
    let first = turns[0].expect("the first is closed at once");
    let expected = [0, 0, 0, 1, 1, 1, 2, 2].map(|later| Some(first + later));
    assert_eq!(turns, expected);
}

#[test]
fn heaviest_go_behind_the_idle_ones_until_enough_is_released() {
    let (mut bed, memory) = bed(|pressure| pressure.reactions.hold_senders = false);
    let idle = idle(&mut bed, 2);
    bed.run_for(Duration::from_secs(12));
    let heavy: Vec<_> = (0..4).map(|_| half(&mut bed, HEAVY)).collect();
    let (light, light_id) = half(&mut bed, 100 * KIB);
    // 80 % is 5 % above what leaves the level: half a MiB.
    assert_eq!(look(&mut bed, &memory, percent(80)), PressureLevel::Critical);
    assert_eq!(closed(&bed, &idle), [true; 2]);
    assert_eq!(closed(&bed, &heavy), [true, false, false, false]);
    assert!(bed.closed(light_id).is_none());
    // What was released has left, and more has come: two and a half of them.
    look(&mut bed, &memory, percent(75));
    look(&mut bed, &memory, percent(100));
    assert_eq!(closed(&bed, &heavy), [true, true, true, true]);
    let close = read_frames(&heavy[0].0).pop().unwrap();
    assert_eq!((close.close_code(), &close.payload[2..]), (Some(1013), &b"memory is scarce"[..]));
    drop(light);
}

#[test]
fn closing_rests_when_what_it_frees_does_not_leave() {
    let (mut bed, memory) = bed(|pressure| pressure.reactions.hold_senders = false);
    let heavy: Vec<_> = (0..6).map(|_| half(&mut bed, HEAVY)).collect();
    let count = |bed: &Bed| closed(bed, &heavy).into_iter().filter(|is_closed| *is_closed).count();
    memory.set(percent(81));
    bed.run_for(Duration::from_millis(4_500));
    // The first look, and a second later for want of an effect; then two seconds later.
    let early = count(&bed);
    bed.run_for(Duration::from_secs(60));
    assert!((1..=3).contains(&early), "{early}");
    assert!(count(&bed) > early);
}

#[test]
fn stuck_queues_are_free_at_once() {
    let (mut bed, memory) = bed(|pressure| pressure.reactions.hold_senders = false);
    let (stuck, id) = half(&mut bed, 200 * KIB);
    stuck.set_buffers(8 * KIB * KIB, 10);
    stuck.write_all(&crate::bed::last_byte(200 * KIB));
    bed.turns(3);
    assert!(bed.reactor.usage().rings >= 12);
    look(&mut bed, &memory, percent(90));
    let summary = bed.summary(id);
    assert_eq!(summary.cause, CloseCause::Failed(Failure::MemoryPressure));
    assert_eq!((summary.unsent_messages, bed.reactor.usage().rings), (1, 0));
    bed.turn();
    assert_eq!(bed.reactor.usage().sockets, 0);
}

#[test]
fn unfinished_requests_are_ended_too() {
    let (mut bed, memory) = bed(|pressure| pressure.reactions.hold_senders = false);
    let mut request = upgrade_request("/", &format!("X: {}\r\n", "x".repeat(8000)));
    request.truncate(request.len() - 1);
    let peers: Vec<_> = (0..100).map(|_| bed.sim.connect(bed.address)).collect();
    peers.iter().for_each(|peer| peer.write_all(&request));
    bed.turns(3);
    assert_eq!(bed.reactor.usage().backlogs, 100);
    // Each holds 16 KiB at most, which is not much; the pressure is not theirs.
    look(&mut bed, &memory, percent(90));
    assert_eq!(bed.reactor.usage().backlogs, 100);
}
