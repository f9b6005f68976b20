//! Some of the connections go, the loop stays.

use corewire::{CloseCode, Drain};

use crate::sim_peer::{TEXT, frames, message};
use crate::watch::{millis, news, polite, seconds, seeded, watch};

fn exact() -> Drain {
    Drain { jitter: 0.0, ..Drain::default() }
}

#[test]
fn rebalancing_closes_its_fraction_over_its_window_and_no_more() {
    let mut bed = seeded(1, |_| {});
    let peers = polite(&mut bed, 40);
    bed.reactor.handle().rebalance(0.25, &exact()).unwrap();
    let told = watch(&mut bed, &peers, seconds(60));
    let times: Vec<_> = told.iter().map(|told| told.at).collect();
    assert_eq!(times, (0..10).map(|part| millis(1000 * part + 500)).collect::<Vec<_>>());
    assert!(told.iter().all(|told| told.code == 1012));
    assert_eq!((bed.reactor.usage().open, bed.reactor.counters().rebalanced), (30, 10));
    // The others are served, and whoever comes is taken.
    for (peer, _) in peers
        .iter()
        .enumerate()
        .filter_map(|(at, peer)| told.iter().all(|told| told.peer != at).then_some(peer))
    {
        peer.write_all(&message(TEXT, b"here"));
        bed.turns(2);
        assert_eq!(frames(&peer.read_all()).0[0].payload, b"here");
    }
    bed.open();
    assert!(news(&bed).is_empty() && !bed.reactor.is_finished());
}

#[test]
fn who_has_to_go_is_drawn() {
    let drawn = |seed| {
        let mut bed = seeded(seed, |_| {});
        let peers = polite(&mut bed, 100);
        bed.reactor.handle().rebalance(0.2, &exact()).unwrap();
        let mut drawn: Vec<_> =
            watch(&mut bed, &peers, seconds(10)).iter().map(|told| told.peer).collect();
        drawn.sort_unstable();
        drawn
    };
    let all: Vec<_> = (1..=8).map(drawn).collect();
    assert!(all.iter().all(|drawn| drawn.len() == 20), "{all:?}");
    assert_eq!(all[0], drawn(1));
    // Each is spared by a draw with a chance of 0.8, so by eight with one of 0.17.
    let mut ever: Vec<_> = all.concat();
    ever.sort_unstable();
    ever.dedup();
    assert!((70..=95).contains(&ever.len()), "{}", ever.len());
}

#[test]
fn fraction_of_few_connections_is_right_in_the_long_run() {
    let mut told = 0;
    for seed in 0..200 {
        let mut bed = seeded(seed, |_| {});
        let peers = polite(&mut bed, 3);
        bed.reactor.handle().rebalance(0.25, &Drain { window: millis(9), ..exact() }).unwrap();
        let now = watch(&mut bed, &peers, millis(10)).len();
        assert!(now <= 1, "0.75 of one are one at most");
        told += now;
    }
    // 150, with a deviation of 6.
    assert!((125..175).contains(&told), "{told}");
}

#[test]
fn fraction_outside_its_bounds_counts_as_the_nearer_one() {
    for (fraction, expected) in [(-1.0, 0), (f64::NAN, 0), (0.0, 0), (1.0, 5), (7.5, 5)] {
        let mut bed = seeded(1, |_| {});
        let peers = polite(&mut bed, 5);
        bed.reactor.handle().rebalance(fraction, &exact()).unwrap();
        let told = watch(&mut bed, &peers, seconds(10));
        assert_eq!(told.len(), expected, "{fraction}");
        assert!(!bed.reactor.is_finished());
        bed.open();
    }
}

#[test]
fn who_left_before_his_turn_is_replaced_by_nobody() {
    let mut bed = seeded(1, |_| {});
    let peers = polite(&mut bed, 10);
    bed.reactor.handle().rebalance(1.0, &exact()).unwrap();
    bed.turn();
    peers[..5].iter().for_each(|(peer, _)| peer.reset());
    let told = watch(&mut bed, &peers[5..], seconds(10));
    assert_eq!(told.len(), 5);
    assert_eq!(bed.reactor.counters().rebalanced, 5);
    let times = told.iter().map(|told| told.at.subsec_millis());
    assert!(times.into_iter().all(|millis| millis == 500), "{told:?}");
}

#[test]
fn another_rebalancing_takes_the_place_of_the_first() {
    let mut bed = seeded(1, |_| {});
    let peers = polite(&mut bed, 10);
    bed.reactor.handle().rebalance(1.0, &exact()).unwrap();
    assert_eq!(watch(&mut bed, &peers, seconds(2)).len(), 2);
    let code = CloseCode::TRY_AGAIN_LATER;
    bed.reactor.handle().rebalance(0.5, &Drain { code, ..exact() }).unwrap();
    let told = watch(&mut bed, &peers, seconds(60));
    assert_eq!(told.len(), 4);
    assert!(told.iter().all(|told| told.code == 1013), "{told:?}");
    assert_eq!(bed.reactor.usage().open, 4);
}

#[test]
fn drain_puts_an_end_to_a_rebalancing_and_none_begins_in_a_drain() {
    let mut bed = seeded(1, |_| {});
    let peers = polite(&mut bed, 10);
    let handle = bed.reactor.handle();
    handle.rebalance(0.5, &exact()).unwrap();
    assert_eq!(watch(&mut bed, &peers, seconds(2)).len(), 1);
    handle.drain(&Drain { window: seconds(90), ..exact() }).unwrap();
    handle.rebalance(1.0, &Drain { window: seconds(1), ..exact() }).unwrap();
    let told = watch(&mut bed, &peers, seconds(90));
    let times: Vec<_> = told.iter().map(|told| told.at).collect();
    assert_eq!(times, (0..9).map(|part| seconds(10 * part + 5)).collect::<Vec<_>>());
    assert_eq!(bed.reactor.counters().rebalanced, 1);
    assert!(bed.reactor.is_finished());
    bed.assert_empty();
}
