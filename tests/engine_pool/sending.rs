//! What is sent by leases: in batches, at the pool's rate, and what becomes of it when a connection
//! goes.

use std::time::Duration;

use corewire::{
    Client, ClientBuilder, Lease, Message, Outcome, PoolBuilder, PoolId, Submitted, UnsentReason,
};

use crate::back_end::Upgrades;
use crate::bed::{Bed, Heard, MS, S, TICK};

/// A pool to one back end, which is called as `change` says.
fn pool(
    bed: &mut Bed,
    change: impl FnOnce(ClientBuilder) -> ClientBuilder,
    of: impl FnOnce(PoolBuilder) -> PoolBuilder,
) -> PoolId {
    let to = Client::builder(&bed.back_ends[0].settings.uri().to_string());
    bed.back_ends[0].settings = change(to).build().unwrap();
    bed.pool(|pool| of(pool.settings(|it| it.check_after = Duration::MAX)))
}

fn send(bed: &mut Bed, lease: Lease, text: &str) -> Submitted {
    let text = text.to_owned();
    bed.act(move |at, clients| clients.send_leased(at, lease, Message::Text(&text)).unwrap())
}

fn said(bed: &Bed) -> Vec<&str> {
    bed.back_ends[0].said.iter().map(|(_, text)| &**text).collect()
}

fn unsent(bed: &mut Bed) -> Vec<(String, UnsentReason)> {
    let news = bed.news().into_iter();
    news.filter_map(|(_, heard)| match heard {
        Heard::Unsent(_, text, reason) => Some((text, reason)),
        _ => None,
    })
    .collect()
}

#[test]
fn messages_of_a_lease_gather_and_those_of_the_next_come_behind() {
    let mut bed = Bed::new(1);
    let pool = pool(&mut bed, |to| to.batch(|_| {}), |pool| pool.min(1).max(1));
    let first = bed.lease(pool);
    let start = bed.sim.elapsed();
    assert_eq!(send(&mut bed, first, "1"), Submitted::Held);
    bed.release(first, Outcome::Good).unwrap();
    let second = bed.lease(pool);
    assert_eq!(send(&mut bed, second, "2"), Submitted::Held);
    assert!(said(&bed).is_empty());
    bed.run_for(60 * MS);
    assert_eq!(said(&bed), ["1", "2"]);
    let at = bed.back_ends[0].said[0].0 - start;
    assert!(at >= 50 * MS && at <= 50 * MS + TICK, "{at:?}");
}

#[test]
fn what_gathers_goes_in_front_of_the_close_of_its_connection() {
    for end in ["old", "broken", "endpoint", "pool", "revoked"] {
        let mut bed = Bed::new(1);
        let pool = pool(
            &mut bed,
            |to| to.batch(|it| it.max_delay = 1000 * S),
            |pool| pool.min(1).settings(|it| it.age_max = 200 * S),
        );
        let lease = bed.lease(pool);
        if end == "old" {
            bed.run_for(201 * S);
        }
        assert_eq!(send(&mut bed, lease, "1"), Submitted::Held);
        match end {
            "old" => bed.release(lease, Outcome::Good).unwrap(),
            "broken" => bed.release(lease, Outcome::Broken).unwrap(),
            "endpoint" => bed.act(move |at, clients| {
                let (id, _) = clients.endpoints(pool)[0];
                clients.remove_endpoint(at, pool, id);
            }),
            "pool" => {
                bed.act(move |at, clients| clients.shut_down_pool(at, pool));
                bed.release(lease, Outcome::Good).unwrap();
            }
            _ => bed.run_for(301 * S),
        }
        bed.settle();
        let unsent = unsent(&mut bed);
        assert_eq!((said(&bed), unsent), (vec!["1"], vec![]), "{end}");
    }
}

#[test]
fn what_gathers_is_reported_when_its_connection_is_lost() {
    let mut bed = Bed::new(1);
    let pool = pool(&mut bed, |to| to.batch(|_| {}), |pool| pool.min(1));
    let lease = bed.lease(pool);
    for text in ["1", "2"] {
        assert_eq!(send(&mut bed, lease, text), Submitted::Held);
    }
    bed.back_ends[0].manner.upgrades = Upgrades::Ignore;
    bed.back_ends[0].served[0].server.peer.reset();
    bed.run_for(S);
    let lost = UnsentReason::ConnectionLost;
    assert_eq!(unsent(&mut bed), [("1".to_owned(), lost), ("2".to_owned(), lost)]);
    assert!(said(&bed).is_empty());
}

#[test]
fn leases_take_turns_at_the_rate_of_their_pool() {
    let mut bed = Bed::new(1);
    let pool = pool(
        &mut bed,
        |to| to,
        |pool| {
            pool.min(2).rate(|rate| {
                (rate.messages_per_second, rate.messages_burst) = (Some(10), Some(1));
            })
        },
    );
    let leases = [bed.lease(pool), bed.lease(pool)];
    let start = bed.sim.elapsed();
    for (lease, texts) in leases.into_iter().zip([["a1", "a2", "a3"], ["b1", "b2", "b3"]]) {
        for text in texts {
            assert_eq!(send(&mut bed, lease, text) == Submitted::Held, text != "a1");
        }
    }
    bed.run_for(S);
    assert_eq!(said(&bed), ["a1", "a2", "b1", "a3", "b2", "b3"]);
    for (place, (at, _)) in bed.back_ends[0].said.iter().enumerate() {
        let due = start + 100 * MS * place as u32;
        assert!(*at >= due && *at <= due + TICK, "{place}: {at:?}");
    }
}

#[test]
fn connection_that_goes_makes_way_in_the_line_of_its_pool() {
    let mut bed = Bed::new(1);
    let pool = pool(
        &mut bed,
        |to| to,
        |pool| {
            pool.min(2).rate(|rate| {
                (rate.messages_per_second, rate.messages_burst) = (Some(10), Some(1));
            })
        },
    );
    let leases = [bed.lease(pool), bed.lease(pool)];
    for (lease, text) in leases.into_iter().zip(["a", "b"]).cycle().take(6) {
        let _ = send(&mut bed, lease, text);
    }
    bed.release(leases[0], Outcome::Broken).unwrap();
    let lost = ("a".to_owned(), UnsentReason::ConnectionLost);
    assert_eq!(unsent(&mut bed), [lost.clone(), lost]);
    bed.run_for(S);
    assert_eq!(said(&bed), ["a", "b", "b", "b"]);
}
