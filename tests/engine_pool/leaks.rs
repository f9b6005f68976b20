//! Leases that are held too long.

use std::time::Duration;

use corewire::{
    Acquired, CloseCause, Eviction, LeakReport, LeakVerdict, Outcome, PoolError, PoolId,
};

use crate::back_end::Closes;
use crate::bed::{Bed, Heard, S, TICK};

fn leaks(bed: &mut Bed) -> Vec<(Duration, LeakReport)> {
    let news = bed.news().into_iter();
    news.filter_map(|(at, heard)| match heard {
        Heard::Leak(report) => Some((at, report)),
        _ => None,
    })
    .collect()
}

fn is_at(at: Duration, expected: Duration) -> bool {
    at >= expected && at <= expected + TICK
}

#[test]
fn lease_held_for_long_is_reported_with_its_site_then_revoked_and_replaced() {
    let mut bed = Bed::new(1);
    let pool = bed.pool(|pool| pool.min(1).max(1));
    let (line, acquired) = bed.act(move |at, clients| (line!(), clients.acquire(at, pool, S)));
    let Ok(Acquired::Now(lease)) = acquired else { panic!() };
    let (since, connection) = (bed.sim.elapsed(), bed.leased(lease).unwrap());
    bed.run_for(300 * S - TICK);
    let [(at, report)] = leaks(&mut bed)[..] else { panic!() };
    assert!(is_at(at, since + 30 * S), "{at:?}");
    assert_eq!((report.lease, report.verdict), (lease, LeakVerdict::Reported));
    assert_eq!((report.acquired_at.file(), report.acquired_at.line()), (file!(), line));
    assert!(is_at(report.held_for, 30 * S), "{report:?}");
    assert_eq!(bed.leased(lease), Ok(connection), "it is still good");
    bed.run_for(2 * TICK);
    let news = bed.news();
    let [(at, Heard::Leak(report)), (_, Heard::Close(closed, None, cause)), (_, Heard::Open(next))] =
        &news[..]
    else {
        panic!("{news:?}")
    };
    assert!(is_at(*at, since + 300 * S), "{at:?}");
    assert_eq!((report.lease, report.verdict), (lease, LeakVerdict::Revoked));
    assert_eq!((report.acquired_at.file(), report.acquired_at.line()), (file!(), line));
    assert_eq!((*closed, cause), (connection, &CloseCause::ClosingHandshake));
    assert_ne!(*next, connection);
    // Late use and late release.
    assert_eq!(bed.leased(lease), Err(PoolError::Revoked));
    assert_eq!(bed.act(move |at, clients| clients.peer(at, lease).err()), Some(PoolError::Revoked));
    assert_eq!(bed.release(lease, Outcome::Good), Err(PoolError::Revoked));
    let other = bed.lease(pool);
    assert_eq!(bed.leased(other), Ok(*next));
    assert_eq!(bed.release(lease, Outcome::Broken), Err(PoolError::Revoked));
    assert_eq!(bed.leased(other), Ok(*next), "the next one's lease is his alone");
    let stats = bed.stats(pool);
    assert_eq!((stats.leaks, stats.evicted(Eviction::Revoked)), (1, 1));
}

#[track_caller]
fn ask(bed: &mut Bed, pool: PoolId) -> corewire::LeaseTicket {
    bed.ticket(pool)
}

#[test]
fn revoked_lease_makes_room_for_who_waits_even_if_the_back_end_hangs() {
    let mut bed = Bed::new(1);
    let pool = bed
        .pool(|pool| pool.min(1).max(1).settings(|s| (s.leak_after, s.revoke_after) = (S, 2 * S)));
    let _lease = bed.lease(pool);
    bed.back_ends[0].manner.closes = Closes::Ignore;
    let ticket = bed.act(move |at, clients| clients.acquire(at, pool, 60 * S));
    bed.run_for(2 * S + 5 * S + 2 * S);
    let [(told, Ok(_))] = bed.leases()[..] else { panic!() };
    assert_eq!(Ok(Acquired::Later(told)), ticket);
    assert_eq!(bed.sim.0.borrow().sockets_peak, 1);
}

#[test]
fn lease_of_a_ticket_is_reported_with_the_site_that_asked() {
    let mut bed = Bed::new(1);
    let pool = bed.pool(|pool| pool.max(1));
    ask(&mut bed, pool);
    bed.settle();
    bed.news();
    bed.run_for(31 * S);
    let [(_, report)] = leaks(&mut bed)[..] else { panic!() };
    assert!(report.acquired_at.file().ends_with("bed.rs"), "{report:?}");
}

#[test]
fn release_in_time_is_no_leak_however_often() {
    let mut bed = Bed::new(1);
    let pool = bed.pool(|pool| pool.min(1));
    for _ in 0..20 {
        let lease = bed.lease(pool);
        bed.run_for(29 * S);
        bed.release(lease, Outcome::Good).unwrap();
    }
    assert_eq!(bed.stats(pool).leaks, 0);
}
