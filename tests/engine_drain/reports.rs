//! What is told of a drain adds up, whatever peers do.

use std::time::Duration;

use corewire::{Drain, DrainReport};

use crate::rng::Rng;
use crate::sim_bed::{Bed, Heard, News, read_frames};
use crate::sim_net::SimPeer;
use crate::sim_peer::{TEXT, close, message, upgrade_request};
use crate::watch::{Manners, Reading, millis, news, seeded};

const SEEDS: u64 = 300;

fn below(rng: &mut Rng, bound: u64) -> u64 {
    (rng.next_u64() >> 11) % bound
}

/// What peers do by themselves, now and then.
fn act(peer: &SimPeer, rng: &mut Rng) {
    match below(rng, 400) {
        0 => peer.write_all(&close(1000)),
        1 => peer.fin(),
        2 => peer.reset(),
        // Unmasked, which no server may take.
        3 => peer.write_all(b"\x81\x01a"),
        4..20 => peer.write_all(&message(TEXT, b"echo")),
        _ => {}
    }
}

fn run(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut bed = seeded(seed as u8, |_| {});
    let count = below(&mut rng, 40);
    let peers: Vec<_> = (0..count)
        .map(|_| {
            let manners = [
                Manners::Answers,
                Manners::Answers,
                Manners::IsSilent,
                Manners::HangsUp,
                Manners::Resets,
            ];
            let peer = bed.open();
            if below(&mut rng, 5) == 0 {
                peer.set_buffers(1 << 20, 100);
                peer.write_all(&message(TEXT, &[b'x'; 2000]));
            }
            (peer, manners[below(&mut rng, 5) as usize])
        })
        .collect();
    let drain = Drain {
        window: millis(below(&mut rng, 2) * below(&mut rng, 3000)),
        jitter: below(&mut rng, 3) as f64 / 2.0,
        grace: millis(below(&mut rng, 3000)),
        ..Drain::default()
    };
    bed.turns(3);
    let open = bed.reactor.usage().open as u64;
    let began = bed.sim.elapsed();
    bed.reactor.handle().drain(&drain).unwrap();
    let hastened = (below(&mut rng, 4) == 0).then(|| millis(below(&mut rng, 3000)));
    let (mut reading, mut now) = (Reading::default(), Duration::ZERO);
    while !bed.reactor.is_finished() {
        bed.turn();
        reading.read(&peers, now);
        peers.iter().for_each(|(peer, _)| act(peer, &mut rng));
        if hastened == Some(now) {
            bed.reactor.handle().shutdown(millis(50)).unwrap();
        }
        if below(&mut rng, 50) == 0 {
            refuse_one(&mut bed, seed);
        }
        bed.sim.advance(millis(1));
        now = bed.sim.elapsed() - began;
        assert!(now <= drain.window + drain.grace + millis(3), "seed {seed}: {now:?}");
    }
    check(&bed, open, seed);
}

/// Somebody who comes meanwhile.
fn refuse_one(bed: &mut Bed, seed: u64) {
    if let Some(peer) = bed.sim.connect_from(bed.address, ([9, 9, 9, 9], 9).into()) {
        peer.write_all(&upgrade_request("/", ""));
        bed.turns(2);
        let answer = peer.read_all();
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 503 "), "seed {seed}");
        peer.fin();
    }
}

fn check(bed: &Bed, open: u64, seed: u64) {
    let news = news(bed);
    let [(_, News::Draining(_)), (_, News::Shutdown), (end, News::Drained(report))] = &news[..]
    else {
        panic!("seed {seed}: {news:?}");
    };
    let DrainReport { connections, closed, left, failed, cut_off, .. } = *report;
    assert_eq!(connections, open, "seed {seed}");
    assert_eq!(closed + left + failed + cut_off, open, "seed {seed}: {report:?}");
    let log = bed.log.borrow();
    let summaries = log.iter().rev().filter_map(|entry| match &entry.heard {
        Heard::Close(summary) if entry.at + report.took >= *end => Some((entry.at, summary)),
        _ => None,
    });
    let own: Vec<_> = summaries.take(open as usize).collect();
    let bytes: u64 = own.iter().map(|(_, summary)| summary.unsent_bytes).sum();
    let messages: u64 = own.iter().map(|(_, summary)| summary.unsent_messages).sum();
    assert_eq!((report.unsent_bytes, report.unsent_messages), (bytes, messages), "seed {seed}");
    assert!(own.iter().all(|(at, _)| at <= end), "seed {seed}: the report is the last word");
    let counters = bed.reactor.counters();
    let counted =
        [counters.drain_closed, counters.drain_left, counters.drain_failed, counters.drain_cut_off];
    assert_eq!(counted, [closed, left, failed, cut_off], "seed {seed}");
    bed.assert_empty();
}

#[test]
fn report_adds_up_for_every_seed() {
    (0..SEEDS).for_each(run);
}

#[test]
fn report_tells_how_each_has_gone() {
    let mut bed = seeded(1, |_| {});
    let manners =
        [Manners::Answers, Manners::IsSilent, Manners::HangsUp, Manners::Resets, Manners::IsSilent];
    let peers: Vec<_> = manners.map(|manners| (bed.open(), manners)).into();
    bed.reactor.handle().drain(&Drain { jitter: 0.0, ..Drain::default() }).unwrap();
    bed.turn();
    // The last breaks a rule before it is told.
    peers[4].0.write_all(b"\x81\x01a");
    bed.turns(2);
    assert_eq!(read_frames(&peers[4].0)[0].close_code(), Some(1002));
    peers[4].0.fin();
    crate::watch::watch(&mut bed, &peers, Duration::from_secs(16));
    let (_, News::Drained(report)) = news(&bed)[2].clone() else { panic!("{:?}", news(&bed)) };
    let DrainReport { connections, closed, left, failed, cut_off, .. } = report;
    assert_eq!((connections, closed, left, failed, cut_off), (5, 1, 2, 1, 1));
}
