//! Who gets which connection, and when.

use corewire::{Acquired, MemberState, Outcome, PoolError};

use crate::bed::{Bed, Heard, S, TICK};
use crate::sim_host::Reply;

#[test]
fn pool_is_warmed_up_in_the_background_to_its_minimum() {
    let mut bed = Bed::new(1);
    let pool = bed.pool(|pool| pool.min(10));
    assert_eq!((bed.back_ends[0].upgraded, bed.sim.sockets()), (10, 10));
    let stats = bed.stats(pool);
    assert_eq!((stats.members_in(MemberState::Idle), stats.acquired), (10, 0));
    let open = bed.news().into_iter().filter(|(_, heard)| matches!(heard, Heard::Open(_)));
    assert_eq!(open.count(), 10);
}

#[test]
fn idle_connection_is_handed_out_inside_the_callback_that_asks() {
    let mut bed = Bed::new(1);
    let pool = bed.pool(|pool| pool.min(2));
    let now = bed.sim.elapsed();
    let leases = bed.act(move |at, clients| {
        let mut acquire = || match clients.acquire(at, pool, S) {
            Ok(Acquired::Now(lease)) => lease,
            other => panic!("{other:?}"),
        };
        [acquire(), acquire()]
    });
    assert_eq!(bed.sim.elapsed(), now);
    let connections = leases.map(|lease| bed.leased(lease).unwrap());
    assert_ne!(connections[0], connections[1]);
    assert!(bed.leases().is_empty());
    for lease in leases {
        bed.release(lease, Outcome::Good).unwrap();
        assert_eq!(bed.release(lease, Outcome::Good), Err(PoolError::Revoked), "once");
    }
}

#[test]
fn lease_and_ticket_name_their_pool() {
    let mut bed = Bed::new(1);
    let pools = [bed.pool(|pool| pool.min(1).max(1)), bed.pool(|pool| pool.min(1).max(1))];
    for pool in pools {
        assert_eq!(bed.lease(pool).pool(), pool);
        assert_eq!(bed.ticket(pool).pool(), pool);
    }
}

#[test]
fn who_waits_is_served_in_order_and_told_once() {
    let mut bed = Bed::new(1);
    let pool = bed.pool(|pool| pool.max(1));
    let tickets: Vec<_> = (0..3).map(|_| bed.ticket(pool)).collect();
    for ticket in tickets {
        bed.settle();
        let [(told, Ok(lease))] = bed.leases()[..] else { panic!() };
        assert_eq!(told, ticket);
        bed.release(lease, Outcome::Good).unwrap();
    }
    assert_eq!(bed.back_ends[0].upgraded, 1);
    assert!(bed.leases().is_empty());
    let stats = bed.stats(pool);
    assert_eq!((stats.acquired, stats.reused, stats.waits), (3, 2, 3));
}

#[test]
fn waiting_ends_at_its_deadline_as_exhausted() {
    let mut bed = Bed::new(1);
    bed.back_ends[0].host.replies(Reply::Silence);
    let pool = bed.pool(|pool| pool.max(1));
    let ticket = bed.ticket(pool);
    let asked = bed.sim.elapsed();
    bed.run_for(10 * S);
    let ended: Vec<_> =
        bed.news().into_iter().filter(|(_, h)| matches!(h, Heard::Lease(..))).collect();
    let [(at, Heard::Lease(told, Err(PoolError::Exhausted)))] = &ended[..] else {
        panic!("{ended:?}")
    };
    assert_eq!(*told, ticket);
    assert!(*at >= asked + 5 * S && *at <= asked + 5 * S + TICK, "{at:?}");
    assert!(!bed.act(move |at, clients| clients.cancel(at, ticket)));
}

#[test]
fn ticket_that_is_cancelled_is_not_told() {
    let mut bed = Bed::new(1);
    let pool = bed.pool(|pool| pool.max(1));
    let [first, second] = [bed.ticket(pool), bed.ticket(pool)];
    assert!(bed.act(move |at, clients| clients.cancel(at, first)));
    assert!(!bed.act(move |at, clients| clients.cancel(at, first)));
    bed.settle();
    let [(told, Ok(_))] = bed.leases()[..] else { panic!() };
    assert_eq!(told, second);
}

#[test]
fn more_than_may_wait_are_refused() {
    let mut bed = Bed::new(1);
    bed.back_ends[0].host.replies(Reply::Silence);
    let pool = bed.pool(|pool| pool.max(1).settings(|s| s.waiters_max = 2));
    bed.ticket(pool);
    bed.ticket(pool);
    assert_eq!(bed.acquire(pool), Err(PoolError::TooManyWaiting));
    assert_eq!(bed.stats(pool).refused, 1);
}

#[test]
fn trying_gives_what_is_free_and_else_has_one_made_ready() {
    let mut bed = Bed::new(1);
    let pool = bed.pool(|pool| pool.max(2));
    let mut attempt = || bed.act(move |at, clients| clients.try_acquire(at, pool));
    assert_eq!(attempt(), Err(PoolError::Exhausted));
    bed.settle();
    let lease = bed.act(move |at, clients| clients.try_acquire(at, pool)).unwrap();
    assert!(bed.leased(lease).is_ok());
    assert!(bed.leases().is_empty());
    assert_eq!(bed.back_ends[0].upgraded, 1);
}

#[test]
fn user_who_only_tries_gets_his_connection_too() {
    let mut bed = Bed::new(2);
    let pool = bed.pool(|pool| pool.min(4));
    let attempt = |bed: &mut Bed, user: u32| {
        let lease = bed.act(move |at, clients| clients.try_acquire_for(at, pool, user)).unwrap();
        let connection = bed.leased(lease).unwrap();
        bed.act(move |_, clients| assert!(clients.endpoint_of(lease).is_ok()));
        (lease, connection)
    };
    let homes: Vec<_> = (0..4).map(|user| attempt(&mut bed, user)).collect();
    for (lease, _) in &homes {
        bed.release(*lease, Outcome::Good).unwrap();
    }
    for user in [2, 0, 3, 1, 0, 2] {
        let (lease, connection) = attempt(&mut bed, user);
        assert_eq!(connection, homes[user as usize].1, "user {user}");
        bed.release(lease, Outcome::Good).unwrap();
    }
}

#[test]
fn user_comes_back_to_his_connection() {
    let mut bed = Bed::new(2);
    let pool = bed.pool(|pool| pool.min(6));
    let mut homes = Vec::new();
    for user in 0..3 {
        let Ok(Acquired::Now(lease)) = bed.acquire_for(pool, user) else { panic!() };
        homes.push((bed.leased(lease).unwrap(), lease));
    }
    // He who comes while somebody else has it gets another at once.
    let Ok(Acquired::Now(second)) = bed.acquire_for(pool, 0) else { panic!() };
    assert_ne!(bed.leased(second), Ok(homes[0].0));
    bed.release(second, Outcome::Good).unwrap();
    for (_, lease) in &homes {
        bed.release(*lease, Outcome::Good).unwrap();
    }
    for user in [2, 0, 1, 0, 2] {
        let Ok(Acquired::Now(lease)) = bed.acquire_for(pool, user) else { panic!() };
        assert_eq!(bed.leased(lease), Ok(homes[user as usize].0), "user {user}");
        bed.release(lease, Outcome::Good).unwrap();
    }
}

#[test]
fn what_is_open_is_lent_until_it_is_over_and_what_is_over_to_nobody() {
    let mut bed = Bed::new(1);
    let pool = bed.pool(|pool| pool.max(1));
    let ticket = bed.ticket(pool);
    bed.settle();
    let [(_, Ok(lease))] = bed.leases()[..] else { panic!() };
    let waiting = bed.ticket(pool);
    // Its user closes the connection and gives it back: that is good for nobody.
    bed.act(move |at, clients| {
        let mut peer = clients.peer(at, lease).unwrap();
        peer.close(corewire::CloseCode::NORMAL, "").unwrap();
        clients.release(at, lease, Outcome::Good).unwrap();
    });
    assert_ne!(ticket, waiting);
    bed.settle();
    bed.run_for(S);
    let [(told, Ok(next))] = bed.leases()[..] else { panic!() };
    assert_eq!((told, bed.back_ends[0].upgraded), (waiting, 2));
    assert!(bed.try_served(next).is_some());
}
