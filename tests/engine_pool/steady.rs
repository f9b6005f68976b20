//! Long runs: what is reused, and what is left behind.

use std::cell::RefCell;
use std::rc::Rc;

use corewire::{Acquired, Eviction, Lease, Outcome};

use crate::bed::{Bed, Heard, MS};
use crate::rng::Rng;

const CONNECTIONS: usize = 100;

/// Every 100 ms each of 100 users takes a connection for 50 ms, for a minute; each second one of the
/// 100 connections is killed, in use or not.
#[test]
fn steady_load_reuses_99_of_100_connections_while_one_in_100_dies_each_second() {
    let mut bed = Bed::new(3);
    let pool = bed.pool(|pool| pool.min(100).max(100));
    assert_eq!(bed.sim.sockets(), CONNECTIONS);
    let held = Rc::new(RefCell::new(Vec::<Lease>::new()));
    let late = held.clone();
    bed.acts(move |_, _, heard| {
        if let Heard::Lease(_, lease) = heard {
            late.borrow_mut().push(lease.expect("nobody waits in vain"));
        }
    });
    let mut dice = Rng::new(7);
    for tenth in 0..600 {
        let kill_at = if tenth % 10 == 0 { dice.below(2) } else { 2 };
        let taken = held.clone();
        bed.act(move |at, clients| {
            for _ in 0..CONNECTIONS {
                if let Acquired::Now(lease) = clients.acquire(at, pool, 50 * MS).unwrap() {
                    taken.borrow_mut().push(lease);
                }
            }
        });
        if kill_at == 0 {
            kill(&mut bed, &mut dice);
        }
        bed.run_for(50 * MS);
        let given = std::mem::take(&mut *held.borrow_mut());
        assert_eq!(given.len(), CONNECTIONS, "in the tenth {tenth}");
        bed.act(move |at, clients| {
            let mut lost = 0;
            for lease in given {
                lost += usize::from(clients.release(at, lease, Outcome::Good).is_err());
            }
            assert_eq!(lost, usize::from(kill_at == 0));
        });
        if kill_at == 1 {
            kill(&mut bed, &mut dice);
        }
        bed.run_for(50 * MS);
    }
    let stats = bed.stats(pool);
    let first_uses = stats.acquired - stats.reused;
    println!(
        "reuse rate {:.5}: {first_uses} of {} leases were first uses",
        stats.reuse_rate(),
        stats.acquired
    );
    assert!(stats.reuse_rate() >= 0.99);
    assert_eq!((stats.acquired, first_uses), (60_000, 160));
    assert_eq!((stats.evicted(Eviction::Lost), stats.expired), (60, 0));
    assert_eq!(bed.sim.0.borrow().sockets_peak, CONNECTIONS);
}

fn kill(bed: &mut Bed, dice: &mut Rng) {
    let place = dice.below(bed.back_ends.len());
    let served = &bed.back_ends[place].served;
    served[dice.below(served.len())].server.peer.reset();
    bed.settle();
}

#[test]
fn ten_thousand_leases_leave_nothing_behind() {
    let mut bed = Bed::new(2);
    let pool = bed.pool(|pool| pool.min(4).max(4));
    let pairs = |bed: &mut Bed, count: u32| {
        for _ in 0..count {
            let user = count % 5;
            bed.act(move |at, clients| {
                for user in [None, Some(user)] {
                    let acquired = match user {
                        None => clients.acquire(at, pool, MS),
                        Some(user) => clients.acquire_for(at, pool, user, MS),
                    };
                    let Ok(Acquired::Now(lease)) = acquired else { panic!() };
                    clients.release(at, lease, Outcome::Good).unwrap();
                }
            });
        }
    };
    pairs(&mut bed, 100);
    let before = bed.reactor.usage();
    pairs(&mut bed, 5000);
    assert_eq!(bed.reactor.usage(), before);
    assert_eq!(bed.stats(pool).acquired, 10_200);
    assert_eq!((bed.stats(pool).size(), bed.sim.sockets()), (4, 4));
    // The same with those who wait, and those who give up.
    for _ in 0..1000 {
        bed.act(move |at, clients| {
            let leases = [(); 4].map(|()| clients.acquire(at, pool, MS));
            for _ in 0..2 {
                let Ok(Acquired::Later(ticket)) = clients.acquire(at, pool, MS) else { panic!() };
                assert!(clients.cancel(at, ticket));
            }
            let Ok(Acquired::Later(_)) = clients.acquire(at, pool, MS) else { panic!() };
            for lease in leases {
                let Ok(Acquired::Now(lease)) = lease else { panic!() };
                clients.release(at, lease, Outcome::Good).unwrap();
            }
        });
        let [(_, Ok(lease))] = bed.leases()[..] else { panic!() };
        bed.act(move |at, clients| clients.release(at, lease, Outcome::Good).unwrap());
    }
    assert_eq!((bed.stats(pool).waits, bed.stats(pool).acquired), (3000, 15_200));
    assert_eq!(bed.reactor.usage(), before);
}
