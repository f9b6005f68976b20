//! When who is told.

use corewire::{CloseCause, CloseCode, Command, Drain, PostError};

use crate::sim_bed::{Bed, News};
use crate::sim_peer::{BINARY, frames, message};
use crate::watch::{Manners, Told, millis, news, polite, seconds, seeded, watch};

fn exact() -> Drain {
    Drain { jitter: 0.0, ..Drain::default() }
}

#[test]
fn drain_is_spread_evenly_over_its_window() {
    let mut bed = seeded(1, |_| {});
    let peers = polite(&mut bed, 10);
    let began = bed.sim.elapsed();
    bed.reactor.handle().drain(&exact()).unwrap();
    let told = watch(&mut bed, &peers, seconds(10));
    let times: Vec<_> = told.iter().map(|told| told.at).collect();
    let middles: Vec<_> = (0..10).map(|part| millis(1000 * part + 500)).collect();
    assert_eq!(times, middles);
    assert!(told.iter().all(|told| told.code == 1012), "{told:?}");
    let mut order: Vec<_> = told.iter().map(|told| told.peer).collect();
    assert_ne!(order, (0..10).collect::<Vec<_>>(), "who came first goes first");
    order.sort_unstable();
    assert_eq!(order, (0..10).collect::<Vec<_>>());
    let [(first, News::Draining(drain)), (last, News::Shutdown), (end, News::Drained(report))] =
        &news(&bed)[..]
    else {
        panic!("{:?}", news(&bed));
    };
    assert_eq!((*first, *drain), (began, exact()));
    assert_eq!((*last - began, *end - began), (millis(9500), millis(9501)));
    // The last answer comes a millisecond later.
    assert_eq!((report.connections, report.closed, report.took), (10, 10, millis(9501)));
    assert!(bed.reactor.is_finished());
    bed.assert_empty();
}

#[test]
fn drain_with_jitter_has_one_close_in_each_part_of_its_window() {
    let drain = |seed| {
        let mut bed = seeded(seed, |_| {});
        let peers = polite(&mut bed, 20);
        bed.reactor.handle().drain(&Drain::default()).unwrap();
        let told = watch(&mut bed, &peers, seconds(10));
        for (part, Told { at, .. }) in told.iter().enumerate() {
            let part = part as u32;
            let within = millis(500) * part..=millis(500) * (part + 1) + millis(1);
            assert!(within.contains(at), "{at:?} in part {part}");
        }
        assert_eq!(told.len(), 20);
        told
    };
    assert_eq!(drain(1), drain(1));
    assert_ne!(drain(1), drain(2));
}

#[test]
fn each_has_its_grace_and_is_cut_off_behind_it() {
    let mut bed = seeded(1, |settings| settings.config.close_timeout = seconds(60));
    let opened: Vec<_> = (0..4).map(|_| (bed.open(), bed.latest())).collect();
    let (peers, ids): (Vec<_>, Vec<_>) =
        opened.into_iter().map(|(peer, id)| ((peer, Manners::IsSilent), id)).unzip();
    let began = bed.sim.elapsed();
    bed.reactor.handle().drain(&Drain { grace: seconds(3), ..exact() }).unwrap();
    let told = watch(&mut bed, &peers, seconds(15));
    assert!(bed.reactor.is_finished());
    for Told { at, peer, .. } in told {
        let (entry, summary) = bed.closed(ids[peer]).unwrap();
        assert_eq!(entry.at - began, at + seconds(3));
        let is_cut = matches!(summary.cause, CloseCause::CloseTimeout | CloseCause::LoopEnded);
        assert!(is_cut && summary.code == CloseCode::ABNORMAL, "{summary:?}");
    }
    let (end, News::Drained(report)) = news(&bed)[2].clone() else { panic!("{:?}", news(&bed)) };
    assert_eq!((end - began, report.cut_off), (millis(8750) + seconds(3), 4));
    bed.assert_empty();
}

#[test]
fn close_timeout_ends_who_has_more_grace() {
    let mut bed = seeded(1, |settings| settings.config.close_timeout = seconds(1));
    let peers = [(bed.open(), Manners::IsSilent)];
    let began = bed.sim.elapsed();
    bed.reactor.handle().drain(&Drain { grace: seconds(60), ..exact() }).unwrap();
    watch(&mut bed, &peers, seconds(7));
    let (entry, summary) = bed.closed(bed.latest()).unwrap();
    assert_eq!((entry.at - began, summary.cause), (seconds(6), CloseCause::CloseTimeout));
    assert!(bed.reactor.is_finished());
}

#[test]
fn drain_of_nobody_ends_at_once() {
    let mut bed = seeded(1, |_| {});
    bed.reactor.handle().drain(&Drain::default()).unwrap();
    bed.turn();
    assert!(bed.reactor.is_finished());
    bed.assert_empty();
}

#[test]
fn drain_ends_when_the_last_has_left_by_himself() {
    let mut bed = seeded(1, |_| {});
    let peers = polite(&mut bed, 3);
    let began = bed.sim.elapsed();
    bed.reactor.handle().drain(&Drain { window: seconds(3600), ..exact() }).unwrap();
    bed.turn();
    peers.iter().for_each(|(peer, _)| peer.reset());
    bed.turns(2);
    assert!(bed.reactor.is_finished());
    assert_eq!(bed.sim.elapsed(), began);
    let (_, News::Drained(report)) = news(&bed)[2].clone() else { panic!("{:?}", news(&bed)) };
    assert_eq!((report.connections, report.left), (3, 3));
}

#[test]
fn shutdown_hastens_a_drain_that_is_under_way() {
    let mut bed = seeded(1, |_| {});
    let peers = polite(&mut bed, 10);
    bed.reactor.handle().drain(&Drain { window: seconds(100), ..exact() }).unwrap();
    assert_eq!(watch(&mut bed, &peers, seconds(20)).len(), 2);
    bed.reactor.handle().shutdown(seconds(5)).unwrap();
    let told = watch(&mut bed, &peers, millis(1));
    assert_eq!(told.len(), 8);
    assert!(told.iter().all(|told| told.code == 1001), "{told:?}");
    assert!(bed.reactor.is_finished());
    let (_, News::Drained(report)) = news(&bed)[2].clone() else { panic!("{:?}", news(&bed)) };
    assert_eq!((report.connections, report.closed), (10, 10));
    bed.assert_empty();
}

#[test]
fn another_drain_changes_nothing_and_another_shutdown_only_brings_the_end_forward() {
    let mut bed = seeded(1, |settings| settings.config.close_timeout = seconds(600));
    let peers: Vec<_> = (0..2).map(|_| (bed.open(), Manners::IsSilent)).collect();
    let began = bed.sim.elapsed();
    let handle = bed.reactor.handle();
    handle.drain(&exact()).unwrap();
    handle.drain(&Drain { window: seconds(1), code: CloseCode::NORMAL, ..exact() }).unwrap();
    let told = watch(&mut bed, &peers, seconds(9));
    let told: Vec<_> = told.iter().map(|told| (told.at, told.code)).collect();
    assert_eq!(told, [(millis(2500), 1012), (millis(7500), 1012)]);
    // The end would be at 12.5 s.
    handle.shutdown(seconds(2)).unwrap();
    handle.shutdown(seconds(60)).unwrap();
    handle.drain(&exact()).unwrap();
    watch(&mut bed, &peers, seconds(4));
    let end = news(&bed).last().unwrap().0 - began;
    assert_eq!(end, seconds(11));
    assert_eq!(news(&bed).len(), 3, "each is told once: {:?}", news(&bed));
}

#[test]
fn drain_without_grace_tells_everybody_before_it_cuts_them_off() {
    for seed in 0..50 {
        let mut bed = seeded(seed, |_| {});
        let peers: Vec<_> = (0..3).map(|_| (bed.open(), Manners::IsSilent)).collect();
        let (window, grace) = (millis(1), millis(0));
        bed.reactor.handle().drain(&Drain { window, grace, ..Drain::default() }).unwrap();
        let told = watch(&mut bed, &peers, millis(3));
        assert_eq!(told.len(), 3, "seed {seed}");
        let [_, (_, News::Shutdown), (_, News::Drained(report))] = &news(&bed)[..] else {
            panic!("seed {seed}: {:?}", news(&bed));
        };
        assert_eq!((report.connections, report.cut_off), (3, 3), "seed {seed}");
        assert!(bed.sim.connect_from(bed.address, ([1, 1, 1, 1], 1).into()).is_none());
    }
}

#[test]
fn loop_that_stands_still_for_the_window_and_longer_tells_everybody_and_ends() {
    let mut bed = Bed::echo();
    let peers = polite(&mut bed, 5);
    bed.reactor.handle().drain(&Drain::default()).unwrap();
    bed.turn();
    bed.sim.advance(seconds(3600));
    let told = watch(&mut bed, &peers, millis(3));
    assert!(bed.reactor.is_finished());
    assert!(told.len() == 5, "{told:?}");
    bed.assert_empty();
}

#[test]
fn code_that_may_not_be_sent_is_refused_to_the_caller() {
    let bed = Bed::echo();
    let drain = Drain { code: CloseCode::ABNORMAL, ..Drain::default() };
    let handle = bed.reactor.handle();
    let refused = [
        handle.drain(&drain),
        handle.rebalance(0.5, &drain),
        handle.post(Command::Drain(Box::new(drain))),
    ];
    for refused in refused {
        assert!(matches!(refused, Err(PostError::InvalidClose(_))), "{refused:?}");
    }
}

#[test]
fn drain_begun_by_a_callback_is_a_drain() {
    let mut bed = Bed::echo();
    bed.reactor.handler().on_next_open(|ctx| {
        assert!(!ctx.is_draining());
        ctx.handle().drain(&Drain::default()).unwrap();
    });
    let peers = polite(&mut bed, 1);
    let told = watch(&mut bed, &peers, seconds(10));
    assert_eq!((told.len(), told[0].code), (1, 1012));
    assert!(bed.reactor.is_finished());
}

#[test]
fn what_was_sent_before_leaves_in_front_of_the_close_within_the_grace() {
    let mut bed = seeded(1, |settings| settings.config.close_timeout = seconds(60));
    let peer = bed.open();
    peer.set_buffers(1 << 20, 1000);
    peer.write_all(&message(BINARY, &[7; 100_000]));
    bed.turns(2);
    bed.reactor.handle().drain(&Drain { grace: seconds(3), ..exact() }).unwrap();
    bed.run_for(seconds(5) + millis(2500));
    let mut bytes = peer.read_all();
    peer.set_buffers(1 << 20, 1 << 20);
    bed.turns(2);
    bytes.extend(peer.read_all());
    let (frames, _) = frames(&bytes);
    assert_eq!((frames[0].payload.len(), frames[1].close_code()), (100_000, Some(1012)));
    // And one who reads nothing is cut off, which is told.
    let mut bed = seeded(1, |_| {});
    let peer = bed.open();
    peer.set_buffers(1 << 20, 1000);
    peer.write_all(&message(BINARY, &[7; 100_000]));
    bed.turns(2);
    bed.reactor.handle().drain(&exact()).unwrap();
    bed.run_for(seconds(11));
    let (_, News::Drained(report)) = news(&bed)[2].clone() else { panic!("{:?}", news(&bed)) };
    assert_eq!((report.cut_off, report.unsent_messages), (1, 1));
    assert!((99_000..100_020).contains(&report.unsent_bytes), "{report:?}");
    let counters = bed.reactor.counters();
    assert_eq!(counters.drain_unsent_messages, 1);
    assert_eq!(counters.drain_unsent_bytes, report.unsent_bytes);
}
