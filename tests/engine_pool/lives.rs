//! From dialling to the end: checks, staleness, age and errors.

use std::time::Duration;

use corewire::{Acquired, CloseCause, Eviction, MemberState, Outcome};

use crate::back_end::{Closes, Pings};
use crate::bed::{Bed, Heard, MS, S, TICK};
use crate::naive::Frame;
use crate::sim_host::Reply;

#[test]
fn connection_that_was_free_for_long_is_asked_before_it_is_handed_out() {
    let mut bed = Bed::new(1);
    let pool = bed.pool(|pool| pool.min(1));
    bed.run_for(29 * S);
    let lease = bed.lease(pool);
    let connection = bed.leased(lease);
    bed.release(lease, Outcome::Good).unwrap();
    // The heartbeat's ping is not the pool's.
    bed.run_for(31 * S);
    let pings = bed.back_ends[0].pings;
    let ticket = bed.ticket(pool);
    let asked = bed.sim.elapsed();
    bed.settle();
    let [(told, Ok(lease))] = bed.leases()[..] else { panic!() };
    assert_eq!((told, bed.leased(lease)), (ticket, connection));
    assert_eq!((bed.back_ends[0].pings, bed.sim.elapsed()), (pings + 1, asked));
    assert_eq!(bed.back_ends[0].upgraded, 1);
}

#[test]
fn pong_that_comes_in_time_is_waited_for() {
    let mut bed = Bed::new(1);
    let pool = bed.pool(|pool| pool.min(1));
    bed.back_ends[0].manner.pings = Pings::AnswerAfter(900 * MS);
    bed.run_for(31 * S);
    let ticket = bed.ticket(pool);
    let asked = bed.sim.elapsed();
    bed.run_for(2 * S);
    let given: Vec<_> =
        bed.news().into_iter().filter(|(_, h)| matches!(h, Heard::Lease(..))).collect();
    let [(at, Heard::Lease(told, Ok(_)))] = given[..] else { panic!("{given:?}") };
    assert_eq!((told, at), (ticket, asked + 900 * MS));
}

#[test]
fn pong_that_is_late_or_never_comes_costs_the_connection_its_place() {
    for pings in [Pings::Ignore, Pings::AnswerAfter(1100 * MS)] {
        let mut bed = Bed::new(1);
        let pool = bed.pool(|pool| pool.min(1));
        bed.run_for(31 * S);
        bed.news();
        bed.back_ends[0].manner.pings = pings;
        let ticket = bed.ticket(pool);
        let asked = bed.sim.elapsed();
        bed.run_for(3 * S);
        let news = bed.news();
        let closed = news.iter().find_map(|(at, heard)| match heard {
            Heard::Close(_, None, CloseCause::Aborted) => Some(*at),
            _ => None,
        });
        let closed = closed.expect("it does not answer, so nobody says Close to it");
        assert!(closed >= asked + S && closed <= asked + S + TICK, "{closed:?}");
        let given = news.iter().find_map(|(at, heard)| match heard {
            Heard::Lease(told, Ok(lease)) => Some((*at, *told, *lease)),
            _ => None,
        });
        let (at, told, lease) = given.expect("another was dialled for him");
        assert!(told == ticket && at >= closed && at <= closed + TICK);
        assert!(bed.try_served(lease).is_some());
        let stats = bed.stats(pool);
        assert_eq!((stats.evicted(Eviction::NoPong), bed.back_ends[0].upgraded), (1, 2));
    }
}

#[test]
fn zero_asks_every_connection_and_no_time_asks_none() {
    for (check_after, pings) in [(Duration::ZERO, 1), (Duration::MAX, 0)] {
        let mut bed = Bed::new(1);
        let pool = bed.pool(|pool| pool.min(1).settings(|s| s.check_after = check_after));
        // Before the heartbeat says anything.
        bed.run_for(20 * S);
        let acquired = bed.acquire(pool).unwrap();
        assert_eq!(matches!(acquired, Acquired::Later(_)), pings == 1);
        bed.settle();
        assert_eq!(bed.back_ends[0].pings, pings);
    }
}

#[test]
fn connections_unused_for_long_are_closed_down_to_the_minimum() {
    let mut bed = Bed::new(1);
    let pool = bed.pool(|pool| pool.min(2).max(5));
    let leases: Vec<_> = (0..5).map(|_| bed.acquire(pool).unwrap()).collect();
    bed.settle();
    let given = bed.leases();
    let leases = leases.into_iter().filter_map(|acquired| match acquired {
        Acquired::Now(lease) => Some(lease),
        Acquired::Later(_) => None,
    });
    let leases: Vec<_> = leases.chain(given.into_iter().map(|(_, lease)| lease.unwrap())).collect();
    assert_eq!(leases.len(), 5);
    for lease in leases {
        bed.release(lease, Outcome::Good).unwrap();
    }
    let released = bed.sim.elapsed();
    bed.news();
    bed.run_for(299 * S);
    assert_eq!(bed.stats(pool).members_in(MemberState::Idle), 5);
    bed.run_for(S + TICK);
    let closed: Vec<_> =
        bed.news().into_iter().filter(|(_, h)| matches!(h, Heard::Close(..))).collect();
    assert_eq!(closed.len(), 3);
    for (at, heard) in closed {
        assert!(at >= released + 300 * S && at <= released + 300 * S + TICK, "{at:?}");
        assert!(matches!(heard, Heard::Close(_, None, CloseCause::ClosingHandshake)), "{heard:?}");
    }
    let stats = bed.stats(pool);
    assert_eq!((stats.evicted(Eviction::Stale), stats.size(), bed.sim.sockets()), (3, 2, 2));
    bed.run_for(600 * S);
    assert_eq!((bed.stats(pool).size(), bed.back_ends[0].upgraded), (2, 5), "the minimum stays");
}

#[test]
fn connections_reach_their_maximum_age_one_by_one() {
    let mut bed = Bed::new(1);
    let pool =
        bed.pool(|pool| pool.min(8).settings(|s| (s.age_max, s.age_jitter) = (100 * S, 40 * S)));
    bed.run_for(60 * S - TICK);
    assert_eq!(bed.stats(pool).evicted(Eviction::Aged), 0);
    bed.news();
    bed.run_for(40 * S + 2 * TICK);
    let closed = bed.news().into_iter().filter(|(_, h)| matches!(h, Heard::Close(..)));
    let mut times: Vec<_> = closed.map(|(at, _)| at).collect();
    assert_eq!(times.len(), 8);
    times.dedup_by_key(|at| at.as_secs());
    assert!(times.len() >= 4, "not together: {times:?}");
    let stats = bed.stats(pool);
    assert_eq!((stats.evicted(Eviction::Aged), stats.size()), (8, 8), "each is replaced");
}

#[test]
fn jitter_beyond_the_age_leaves_half_of_it() {
    let mut bed = Bed::new(1);
    let pool = bed.pool(|pool| pool.min(8).settings(|s| s.age_max = 20 * S));
    bed.run_for(10 * S - TICK);
    assert_eq!(bed.stats(pool).evicted(Eviction::Aged), 0);
    bed.run_for(10 * S + 2 * TICK);
    assert_eq!(bed.stats(pool).evicted(Eviction::Aged), 8);
}

#[test]
fn lease_outlives_the_age_of_its_connection() {
    let mut bed = Bed::new(1);
    let pool = bed.pool(|pool| {
        pool.min(1).settings(|s| (s.age_max, s.age_jitter) = (10 * S, Duration::ZERO))
    });
    let lease = bed.lease(pool);
    bed.run_for(20 * S);
    assert!(bed.leased(lease).is_ok());
    bed.release(lease, Outcome::Good).unwrap();
    bed.settle();
    assert_eq!(bed.stats(pool).evicted(Eviction::Aged), 1);
}

#[test]
fn third_message_that_cannot_be_understood_retires_the_connection() {
    let mut bed = Bed::new(1);
    let pool = bed.pool(|pool| pool.min(1));
    for count in 1..=3 {
        bed.back_ends[0].served[0].server.send(&Frame::binary([count]));
        bed.settle();
        assert_eq!(bed.stats(pool).undecodable, u64::from(count));
    }
    let stats = bed.stats(pool);
    assert_eq!((stats.evicted(Eviction::Errors), bed.back_ends[0].upgraded), (1, 2));
}

#[test]
fn lease_on_which_too_much_failed_is_kept_to_its_end_and_its_connection_goes_then() {
    let mut bed = Bed::new(1);
    let pool = bed.pool(|pool| pool.min(1).max(1));
    for _ in 0..2 {
        let lease = bed.lease(pool);
        bed.release(lease, Outcome::Failed).unwrap();
    }
    let lease = bed.lease(pool);
    bed.back_ends[0].served[0].server.send(&Frame::binary([0]));
    bed.settle();
    assert!(bed.leased(lease).is_ok());
    assert_eq!(bed.stats(pool).members_in(MemberState::Broken), 1);
    bed.release(lease, Outcome::Good).unwrap();
    let stats = bed.stats(pool);
    assert_eq!((stats.evicted(Eviction::Errors), bed.back_ends[0].upgraded), (1, 2));
}

#[test]
fn what_is_given_back_as_broken_is_closed_and_replaced() {
    let mut bed = Bed::new(1);
    let pool = bed.pool(|pool| pool.min(1).max(1));
    let lease = bed.lease(pool);
    bed.release(lease, Outcome::Broken).unwrap();
    let stats = bed.stats(pool);
    assert_eq!((stats.evicted(Eviction::Broken), bed.back_ends[0].upgraded), (1, 2));
    assert_eq!(stats.members_in(MemberState::Idle), 1);
}

#[test]
fn socket_that_lingers_after_its_close_keeps_its_place() {
    for (closes, time) in [(Closes::Linger, S), (Closes::Ignore, 5 * S)] {
        let mut bed = Bed::new(1);
        let pool = bed.pool(|pool| pool.min(1).max(1));
        bed.back_ends[0].manner.closes = closes;
        let lease = bed.lease(pool);
        bed.release(lease, Outcome::Broken).unwrap();
        bed.run_for(time - 10 * MS);
        assert_eq!((bed.back_ends[0].host.tries(), bed.sim.sockets()), (1, 1), "{closes:?}");
        bed.run_for(1100 * MS);
        assert_eq!((bed.back_ends[0].host.tries(), bed.sim.sockets()), (2, 1), "{closes:?}");
        assert_eq!(bed.sim.0.borrow().sockets_peak, 1);
    }
}

#[test]
fn dial_that_is_given_up_keeps_its_place_until_its_socket_is_closed() {
    let mut bed = Bed::new(2);
    bed.back_ends[0].host.replies(Reply::Silence);
    bed.back_ends[1].host.replies(Reply::Fail(crate::sim_errno::ECONNREFUSED));
    let pool = bed.pool(|pool| pool.min(0).max(1));
    let mut granted = 0;
    bed.ticket(pool);
    for _ in 0..20 {
        bed.run_for(S);
        bed.back_ends[1].host.replies(Reply::Accept);
        granted += bed.leases().iter().filter(|(_, lease)| lease.is_ok()).count();
    }
    assert_eq!((granted, bed.sim.0.borrow().sockets_peak), (1, 1));
    assert!(bed.stats(pool).evicted(Eviction::Overdue) >= 1);
}

#[test]
fn idle_connection_whose_close_is_stuck_is_given_to_nobody() {
    let mut bed = Bed::new(1);
    let pool = bed.pool(|pool| pool.min(1).max(2));
    bed.run_for(10 * S);
    let peer = bed.back_ends[0].served[0].server.peer.clone();
    // The kernel takes no more, so the answer to the Close has to wait.
    peer.set_buffers(1 << 20, 0);
    bed.back_ends[0].served[0].server.send(&Frame::close(1001, ""));
    bed.turn();
    let ticket = bed.ticket(pool);
    bed.settle();
    let [(told, Ok(lease))] = bed.leases()[..] else { panic!() };
    assert_eq!((told, bed.served(lease)), (ticket, (0, 1)));
    assert_eq!((bed.stats(pool).acquired, bed.stats(pool).evicted(Eviction::Lost)), (1, 1));
}
