//! The end of a pool and of its loop.

use corewire::{CloseCause, Heartbeat, MemberState, Outcome, PoolError};

use crate::back_end::Closes;
use crate::bed::{Bed, Heard, S};
use crate::sim_host::Reply;

#[test]
fn pool_that_is_shut_down_closes_what_is_free_and_waits_for_what_is_lent() {
    let mut bed = Bed::new(1);
    let pool = bed.pool(|pool| pool.min(4).max(4));
    let lease = bed.lease(pool);
    bed.act(move |at, clients| clients.shut_down_pool(at, pool));
    bed.settle();
    assert_eq!(bed.sim.sockets(), 1);
    assert!(bed.try_served(lease).is_some(), "it still works");
    assert_eq!(bed.acquire(pool), Err(PoolError::ShutDown));
    assert_eq!(bed.act(move |at, clients| clients.try_acquire(at, pool)), Err(PoolError::ShutDown));
    bed.release(lease, Outcome::Good).unwrap();
    assert!(bed.reactor.handler().clients().pool_stats(pool).is_none());
    assert_eq!(bed.acquire(pool), Err(PoolError::ShutDown), "and so it is when it is gone");
    assert_eq!(bed.release(lease, Outcome::Good), Err(PoolError::Revoked));
    bed.assert_empty();
}

#[test]
fn who_waits_for_a_pool_that_is_shut_down_is_told() {
    let mut bed = Bed::new(1);
    bed.back_ends[0].host.replies(Reply::Silence);
    let pool = bed.pool(|pool| pool.max(2));
    let tickets = [bed.ticket(pool), bed.ticket(pool), bed.ticket(pool)];
    bed.act(move |at, clients| clients.shut_down_pool(at, pool));
    let told: Vec<_> = bed.leases();
    assert_eq!(told, tickets.map(|ticket| (ticket, Err(PoolError::ShutDown))));
    bed.settle();
    bed.assert_empty();
}

#[test]
fn loop_that_is_shut_down_tells_everybody_and_leaves_nothing() {
    let mut bed = Bed::new(2);
    let pool = bed.pool(|pool| pool.min(2).max(2));
    let leases = [bed.lease(pool), bed.lease(pool)];
    let ticket = bed.ticket(pool);
    bed.news();
    bed.reactor.handle().shutdown(10 * S).unwrap();
    bed.run_for(S);
    let news = bed.news();
    let told = news.iter().find_map(|(_, heard)| match heard {
        Heard::Lease(told, lease) => Some((*told, *lease)),
        _ => None,
    });
    assert_eq!(told, Some((ticket, Err(PoolError::ShutDown))));
    let closed = news.iter().filter_map(|(_, heard)| match heard {
        Heard::Close(_, Some(lease), CloseCause::ClosingHandshake) => Some(*lease),
        _ => None,
    });
    let mut closed: Vec<_> = closed.collect();
    closed.sort_by_key(|lease| format!("{lease:?}"));
    assert_eq!(closed, leases);
    assert!(bed.reactor.is_finished());
    assert_eq!(bed.back_ends.iter().map(|end| end.upgraded).sum::<u64>(), 2, "none is redialled");
    bed.assert_empty();
}

#[test]
fn loop_that_is_cut_off_ends_leases_and_dials_as_well() {
    let mut bed = Bed::new(2);
    bed.back_ends[1].host.replies(Reply::Silence);
    bed.back_ends[0].manner.closes = Closes::Ignore;
    let pool = bed.pool(|pool| pool.min(4).max(4));
    bed.run_for(3 * S);
    let lease = bed.lease(pool);
    assert!(bed.stats(pool).members_in(MemberState::Overdue) > 0);
    bed.news();
    bed.reactor.handle().shutdown(S).unwrap();
    bed.run_for(2 * S);
    let ends = bed.news().into_iter().filter(|(_, heard)| match heard {
        Heard::Close(_, ended, CloseCause::LoopEnded) => *ended == Some(lease),
        _ => false,
    });
    assert_eq!(ends.count(), 1);
    assert!(bed.reactor.is_finished());
    bed.assert_empty();
}

#[test]
fn heartbeat_that_times_out_ends_the_lease() {
    let mut bed = Bed::new(1);
    let mut silent = corewire::Client::builder("ws://192.0.2.1:80/");
    silent = silent.config(|config| {
        config.heartbeat = Some(Heartbeat { ping_every: 2 * S, dead_after: 6 * S });
    });
    let pool = corewire::Pool::builder().min(1).max(1).endpoint(silent.build().unwrap());
    let pool = pool.build().unwrap();
    let pool = bed.act(move |_, clients| clients.add_pool(pool));
    bed.settle();
    let lease = bed.lease(pool);
    bed.back_ends[0].manner.pings = crate::back_end::Pings::Ignore;
    bed.news();
    bed.run_for(7 * S);
    let is_end = |heard: &Heard| match heard {
        Heard::Close(_, ended, CloseCause::HeartbeatTimeout) => *ended == Some(lease),
        _ => false,
    };
    assert!(bed.news().iter().any(|(_, heard)| is_end(heard)));
    assert_eq!(bed.release(lease, Outcome::Good), Err(PoolError::Revoked));
}
