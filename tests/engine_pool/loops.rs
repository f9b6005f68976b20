//! Several pools on a loop, several loops on a network.

use corewire::{Acquired, ClientState, MemberState, Outcome, Owner, PoolError};

use crate::bed::{Bed, S};
use crate::sim_net::SimNet;

#[test]
fn pool_that_is_added_inside_a_callback_connects_before_the_turn_ends() {
    let mut bed = Bed::new(1);
    let pool = bed.describe().min(2).build().unwrap();
    // Asked for in the same callback.
    let (id, ticket) = bed.act(move |at, clients| {
        let id = clients.add_pool(pool);
        assert!(clients.pool_stats(id).is_none(), "it has not begun");
        match clients.acquire(at, id, S) {
            Ok(Acquired::Later(ticket)) => (id, ticket),
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(bed.back_ends[0].host.tries(), 1);
    bed.settle();
    let [(told, Ok(_))] = bed.leases()[..] else { panic!() };
    assert_eq!((told, bed.stats(id).size()), (ticket, 2));
}

#[test]
fn pool_that_is_added_before_the_first_turn_connects_in_it() {
    let mut bed = Bed::new(1);
    let pool = bed.describe().min(3).build().unwrap();
    let id = bed.reactor.handler().clients().add_pool(pool);
    bed.settle();
    assert_eq!(bed.stats(id).members_in(MemberState::Idle), 3);
}

#[test]
fn two_pools_of_a_loop_have_nothing_in_common() {
    let mut bed = Bed::new(1);
    let one = bed.pool(|pool| pool.min(1).max(1));
    let two = bed.pool(|pool| pool.min(2).max(2));
    assert_eq!(bed.sim.sockets(), 3);
    let lease = bed.lease(one);
    let others = [bed.lease(two), bed.lease(two)];
    assert!(matches!(bed.acquire(one), Ok(Acquired::Later(_))));
    assert!(matches!(bed.acquire(two), Ok(Acquired::Later(_))));
    let mut connections = vec![bed.leased(lease).unwrap()];
    connections.extend(others.map(|lease| bed.leased(lease).unwrap()));
    for (at, connection) in connections.iter().enumerate() {
        assert!(!connections[..at].contains(connection));
        let owner = bed.reactor.handler().clients().owner(*connection);
        let expected = if at == 0 { one } else { two };
        assert!(matches!(owner, Some(Owner::Pool(pool, _)) if pool == expected), "{owner:?}");
    }
    bed.act(move |at, clients| clients.shut_down_pool(at, one));
    bed.release(lease, Outcome::Good).unwrap();
    assert_eq!(bed.leased(lease), Err(PoolError::Revoked));
    assert!(others.iter().all(|lease| bed.leased(*lease).is_ok()));
    // The name of the one that is gone is used again by nobody.
    let three = bed.pool(|pool| pool.min(1).max(1));
    assert_ne!(three, one);
    assert_eq!(bed.acquire(one), Err(PoolError::ShutDown));
    assert_eq!(bed.leased(lease), Err(PoolError::Revoked));
    assert_eq!(bed.sim.sockets(), 3);
}

#[test]
fn two_loops_have_pools_of_their_own() {
    let mut one = Bed::new(1);
    let mut two = Bed::on(SimNet::beside(&one.sim, 64 << 10), one.sim.clone(), 2, 0);
    let pool = one.describe().min(2).max(2).build().unwrap();
    let (first, second) = (pool.clone(), pool);
    let first = one.act(move |_, clients| clients.add_pool(first));
    let second = two.act(move |_, clients| clients.add_pool(second));
    let settle = |one: &mut Bed, two: &mut Bed| {
        (0..8).for_each(|_| {
            one.turn();
            two.turn();
        });
    };
    settle(&mut one, &mut two);
    assert_eq!((one.stats(first).size(), two.stats(second).size()), (2, 2));
    assert_eq!(one.back_ends[0].open(), 4);
    let _leases = [one.lease(first), one.lease(first)];
    let lease = two.lease(second);
    one.reactor.handle().shutdown(S).unwrap();
    settle(&mut one, &mut two);
    assert!(one.reactor.is_finished());
    assert_eq!(one.sim.sockets(), 2, "those of the other loop");
    assert!(two.leased(lease).is_ok());
    two.reactor.handle().shutdown(S).unwrap();
    settle(&mut one, &mut two);
    one.assert_empty();
    two.assert_empty();
}

#[test]
fn names_of_one_loop_are_a_miss_in_another() {
    let mut one = Bed::new(1);
    let mut two = Bed::on(SimNet::beside(&one.sim, 64 << 10), one.sim.clone(), 2, 0);
    // Both loops have gone through the same, so that their names differ by nothing else.
    let describe = one.describe().min(1).max(1);
    let settings = one.back_ends[0].settings.clone();
    let mut names = Vec::new();
    for bed in [&mut one, &mut two] {
        let (pool, settings) = (describe.clone().build().unwrap(), settings.clone());
        let (pool, client) =
            bed.act(move |_, clients| (clients.add_pool(pool), clients.add(settings)));
        names.push((pool, client));
    }
    (0..8).for_each(|_| {
        one.turn();
        two.turn();
    });
    let [(foreign, foreigner), (pool, client)] = names[..] else { panic!() };
    let (foreign_lease, foreign_ticket) = (one.lease(foreign), one.ticket(foreign));
    let (lease, ticket) = (two.lease(pool), two.ticket(pool));
    assert_eq!(format!("{foreign_lease:?}{foreign_ticket:?}"), format!("{lease:?}{ticket:?}"));

    assert_eq!(two.leased(foreign_lease), Err(PoolError::Revoked));
    assert_eq!(two.release(foreign_lease, Outcome::Good), Err(PoolError::Revoked));
    assert_eq!(two.acquire(foreign), Err(PoolError::ShutDown));
    two.act(move |at, clients| {
        assert!(!clients.cancel(at, foreign_ticket));
        assert!(clients.pool_stats(foreign).is_none());
        clients.shut_down_pool(at, foreign);
        assert!(clients.state(foreigner).is_none() && clients.connection(foreigner).is_none());
        clients.remove(foreigner);
    });
    two.settle();
    assert!(two.leased(lease).is_ok());
    two.act(move |at, clients| {
        assert_eq!(clients.state(client), Some(ClientState::Connected));
        assert!(clients.cancel(at, ticket));
    });
}
