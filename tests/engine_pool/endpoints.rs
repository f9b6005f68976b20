//! Several back ends: one that is dead, one that leaves, one that comes.

use std::time::Duration;

use corewire::{
    Acquired, Balance, Client, EndpointError, EndpointId, EndpointState, EndpointStats, Eviction,
    Heartbeat, Lease, MemberState, Message, Outcome, Owner, Pool, PoolError, PoolId, Submitted,
};

use crate::back_end::{Pings, Upgrades};
use crate::bed::{Bed, Heard, S, TICK};
use crate::naive::Frame;
use crate::sim_errno::{ECONNREFUSED, EMFILE, ENFILE, ENOBUFS, ENOMEM};
use crate::sim_host::Reply;

fn endpoints(bed: &mut Bed, pool: PoolId) -> Vec<(EndpointId, EndpointStats)> {
    bed.act(move |_, clients| clients.endpoints(pool))
}

/// Leases, some of which may have to be waited for.
fn take(bed: &mut Bed, pool: PoolId, count: usize) -> Vec<Lease> {
    bed.news();
    let acquired: Vec<_> = (0..count).map(|_| bed.acquire(pool).unwrap()).collect();
    bed.settle();
    let now = acquired.into_iter().filter_map(|acquired| match acquired {
        Acquired::Now(lease) => Some(lease),
        Acquired::Later(_) => None,
    });
    let now: Vec<_> = now.collect();
    let later = bed.leases().into_iter().map(|(_, lease)| lease.expect("it was waited for"));
    let leases: Vec<_> = now.into_iter().chain(later).collect();
    assert_eq!(leases.len(), count);
    leases
}

/// A back end that cannot be reached, or fails behind its port.
fn kill(bed: &mut Bed, how: usize) {
    let dead = &mut bed.back_ends[0];
    match how {
        0 => dead.host.replies(Reply::Fail(ECONNREFUSED)),
        1 => dead.host.replies(Reply::Silence),
        2 => dead.host.replies(Reply::AcceptAndReset(Duration::ZERO)),
        3 => dead.manner.upgrades = Upgrades::Ignore,
        _ => dead.manner.upgrades = Upgrades::Refuse,
    }
}

#[test]
fn dead_endpoint_never_blocks_a_living_one() {
    for how in 0..5 {
        for balance in [Balance::RoundRobin, Balance::LeastConnections, Balance::PowerOfTwoChoices]
        {
            let mut bed = Bed::new(2);
            kill(&mut bed, how);
            let pool = bed.pool(|pool| pool.max(4).balance(balance));
            let began = bed.sim.elapsed();
            let mut given = 0;
            for _ in 0..4 {
                let _ = bed.acquire(pool).unwrap();
            }
            while given < 4 && bed.sim.elapsed() < began + 3 * S {
                bed.turn_until(began + 3 * S);
                given += bed.leases().iter().filter(|(_, lease)| lease.is_ok()).count();
            }
            let time = bed.sim.elapsed() - began;
            // A dial that hangs is not counted on after a second.
            assert!(given == 4 && time <= S + 10 * TICK, "{how}, {balance:?}: {given} in {time:?}");
            assert_eq!(bed.back_ends[1].open(), 4);
            assert!(bed.sim.0.borrow().sockets_peak <= 4);
        }
    }
}

#[test]
fn endpoint_that_fails_is_tried_again_after_its_back_off() {
    for how in [0, 2, 4] {
        let mut bed = Bed::new(1);
        kill(&mut bed, how);
        let pool = bed.pool(|pool| pool.min(1).no_ejection());
        let mut tries = vec![bed.sim.elapsed()];
        let mut seen = bed.back_ends[0].host.tries();
        assert_eq!(seen, 1);
        while tries.len() < 9 {
            bed.turn_until(1000 * S);
            if bed.back_ends[0].host.tries() > seen {
                seen += 1;
                assert_eq!(bed.back_ends[0].host.tries(), seen);
                tries.push(bed.sim.elapsed());
            }
        }
        let waits: Vec<_> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
        for (number, wait) in waits.iter().enumerate() {
            let longest = (S * (1 << number)).min(60 * S);
            assert!(*wait >= longest / 2 && *wait <= longest + TICK, "{how}: {waits:?}");
        }
        bed.settle();
        bed.back_ends[0].host.replies(Reply::Accept);
        bed.back_ends[0].manner.upgrades = Upgrades::Switch;
        bed.run_for(61 * S);
        assert_eq!(bed.stats(pool).members_in(MemberState::Idle), 1);
        assert_eq!(bed.stats(pool).dials_failed, 9);
    }
}

/// The URL of an owner's endpoint, for a line of a log.
fn url_of(bed: &mut Bed, owner: Owner) -> String {
    let Owner::Pool(pool, endpoint) = owner else { panic!("{owner:?}") };
    bed.act(move |_, clients| clients.endpoint_url(pool, endpoint).map(str::to_owned)).unwrap()
}

#[test]
fn dial_that_fails_is_told_with_its_reason_and_whose_it_was() {
    let mut bed = Bed::new(3);
    bed.back_ends[1].manner.upgrades = Upgrades::Refuse;
    let pool = bed.pool(|pool| pool.min(6).balance(Balance::RoundRobin));
    let failed: Vec<_> = bed
        .news()
        .into_iter()
        .filter_map(|(_, heard)| match heard {
            Heard::DialFailed(owner, error) => Some((owner, error)),
            _ => None,
        })
        .collect();
    assert!(!failed.is_empty());
    let at_fault = bed.back_ends[1].settings.uri().to_string();
    for (owner, error) in failed {
        assert!(matches!(owner, Owner::Pool(own, _) if own == pool));
        assert_eq!(url_of(&mut bed, owner), at_fault);
        assert!(error.contains("503"), "{error}");
    }
}

#[test]
fn leases_and_what_was_not_sent_tell_their_endpoint() {
    let mut bed = Bed::new(3);
    let pool = bed.pool(|pool| {
        pool.min(3).balance(Balance::RoundRobin).rate(|rate| {
            rate.messages_per_second = Some(1);
            rate.messages_burst = Some(1);
        })
    });
    let leases = take(&mut bed, pool, 3);
    let places: Vec<_> = leases.iter().map(|lease| bed.served(*lease).0).collect();
    bed.run_for(31 * S);
    let told = bed.news();
    for (lease, place) in leases.iter().zip(&places) {
        let url = bed.back_ends[*place].settings.uri().to_string();
        let leak = told.iter().find_map(|(_, heard)| match heard {
            Heard::Leak(report) if report.lease == *lease => Some(report.endpoint),
            _ => None,
        });
        assert_eq!(url_of(&mut bed, Owner::Pool(pool, leak.expect("it is reported"))), url);
        // Past its rate one message waits, until its connection is lost.
        let lease = *lease;
        let connection = bed.leased(lease).unwrap();
        let text = format!("for {url}");
        bed.act(move |at, clients| {
            assert_eq!(clients.owner(connection), Some(Owner::Pool(pool, leak.unwrap())));
            let mut send = || clients.send_leased(at, lease, Message::Text(&text)).unwrap();
            while send() != Submitted::Held {}
        });
    }
    for back_end in &mut bed.back_ends {
        back_end.host.reset_all();
    }
    bed.settle();
    let unsent = bed.news().into_iter().filter_map(|(_, heard)| match heard {
        Heard::Unsent(owner, text, _) => Some((owner, text)),
        _ => None,
    });
    let unsent: Vec<_> = unsent.collect();
    assert_eq!(unsent.len(), 3);
    for (owner, text) in unsent {
        assert_eq!(text, format!("for {}", url_of(&mut bed, owner)));
    }
}

#[test]
fn endpoint_of_no_pool_is_an_error() {
    let mut bed = Bed::new(1);
    let pool = bed.pool(|pool| pool.min(1));
    bed.act(move |at, clients| clients.shut_down_pool(at, pool));
    bed.settle();
    let settings = bed.back_ends[0].settings.clone();
    let added = bed.act(move |at, clients| clients.add_endpoint(at, pool, &settings, 1));
    assert_eq!(added, Err(EndpointError::NoPool));
    assert!(endpoints(&mut bed, pool).is_empty());
}

#[test]
fn server_that_accepts_and_closes_is_not_dialled_without_pause() {
    for how in 0..3 {
        let mut bed = Bed::new(1);
        let pool = bed.pool(|pool| pool.min(10));
        let until = bed.sim.elapsed() + 10 * S;
        while bed.sim.elapsed() < until && bed.back_ends[0].upgraded < 200 {
            for one in bed.back_ends[0].served.iter_mut().filter(|one| one.is_open()) {
                match how {
                    0 => one.server.send(&Frame::close(1013, "")),
                    1 => one.server.send(&Frame::close(1000, "")),
                    _ => one.server.peer.reset(),
                }
            }
            bed.turn_until(until);
        }
        // Ten at once, and again after 1, 2, 4 and 8 s, each half as long at least.
        let upgraded = bed.back_ends[0].upgraded;
        assert!((20..=60).contains(&upgraded), "{how}: {upgraded}");
        assert_eq!(endpoints(&mut bed, pool)[0].1.failures, upgraded, "{how}");
    }
}

#[test]
fn connection_that_ends_is_held_against_its_endpoint_by_why() {
    let heartbeat = Some(Heartbeat { ping_every: S, dead_after: 3 * S });
    for (how, expected) in [(0, 0), (1, 0), (2, 1), (3, 1), (4, 1), (5, 1)] {
        let mut bed = Bed::new(1);
        let to = Client::builder("ws://192.0.2.1:80/").config(|it| it.heartbeat = heartbeat);
        let to = to.build().unwrap();
        let pool = Pool::builder().min(1).max(1).endpoint(to).build().unwrap();
        let pool = bed.act(move |_, clients| clients.add_pool(pool));
        bed.run_for(20 * S);
        let back_end = &mut bed.back_ends[0];
        let server = &mut back_end.served[0].server;
        match how {
            0 => server.send(&Frame::close(1000, "")),
            1 => server.send(&Frame::close(1001, "")),
            2 => server.send(&Frame::close(1011, "")),
            3 => server.send(&Frame::text([0xFF])),
            4 => server.peer.reset(),
            _ => back_end.manner.pings = Pings::Ignore,
        }
        while bed.stats(pool).evictions[Eviction::Lost as usize] == 0 {
            bed.turn_until(30 * S);
        }
        assert_eq!(endpoints(&mut bed, pool)[0].1.failures, expected, "{how}");
    }
}

#[test]
fn drained_endpoint_gets_nothing_new_and_its_leases_run_out() {
    let mut bed = Bed::new(2);
    let pool = bed.pool(|pool| pool.min(4).max(8).balance(Balance::LeastConnections));
    let leases = take(&mut bed, pool, 4);
    let [(first, _), (second, _)] = endpoints(&mut bed, pool)[..] else { panic!() };
    let (here, there): (Vec<_>, Vec<_>) =
        leases.into_iter().partition(|lease| bed.served(*lease).0 == 0);
    assert!(!here.is_empty() && !there.is_empty());
    let counts = [here.len() as u64, there.len() as u64];
    bed.act(move |at, clients| clients.drain_endpoint(at, pool, first));
    bed.settle();
    assert!(here.iter().all(|lease| bed.leased(*lease).is_ok()), "what is lent stays");
    let more = take(&mut bed, pool, 2);
    assert!(more.iter().all(|lease| bed.served(*lease).0 == 1));
    let [(_, draining), (_, serving)] = endpoints(&mut bed, pool)[..] else { panic!() };
    assert_eq!((draining.state, draining.active), (EndpointState::Draining, counts[0]));
    assert_eq!((serving.state, serving.active), (EndpointState::Serving, counts[1] + 2));
    for lease in here {
        bed.release(lease, Outcome::Good).unwrap();
    }
    bed.settle();
    let left = endpoints(&mut bed, pool);
    assert_eq!(left.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [second], "it is gone");
    assert_eq!(bed.back_ends[0].open(), 0);
    assert_eq!(bed.stats(pool).evicted(Eviction::EndpointLeft), counts[0]);
}

#[test]
fn removed_endpoints_leases_are_revoked_and_told() {
    let mut bed = Bed::new(2);
    let pool = bed.pool(|pool| pool.min(2).max(4).balance(Balance::LeastConnections));
    let leases = take(&mut bed, pool, 2);
    let place = |bed: &mut Bed, lease: &Lease| bed.served(*lease).0;
    let gone = *leases.iter().find(|lease| place(&mut bed, lease) == 0).unwrap();
    let [(first, _), _] = endpoints(&mut bed, pool)[..] else { panic!() };
    bed.news();
    bed.act(move |at, clients| clients.remove_endpoint(at, pool, first));
    let revoked = bed.news().into_iter().find_map(|(_, heard)| match heard {
        Heard::Leak(report) => Some(report),
        _ => None,
    });
    let revoked = revoked.expect("it is told at once");
    assert_eq!((revoked.lease, revoked.verdict), (gone, corewire::LeakVerdict::Revoked));
    assert_eq!(bed.leased(gone), Err(PoolError::Revoked));
    bed.settle();
    assert_eq!((bed.back_ends[0].open(), endpoints(&mut bed, pool).len()), (0, 1));
}

#[test]
fn counts_of_least_connections_survive_a_new_configuration() {
    let mut bed = Bed::new(2);
    let pool = bed.pool(|pool| pool.max(20).balance(Balance::LeastConnections));
    let leases = take(&mut bed, pool, 8);
    let [(first, one), (_, two)] = endpoints(&mut bed, pool)[..] else { panic!() };
    assert_eq!((one.active, two.active), (4, 4));
    // The trap: who forgets what is out there sends the next four all to the one that has come back.
    let again = bed.back_ends[0].settings.clone();
    bed.act(move |at, clients| {
        clients.drain_endpoint(at, pool, first);
        let added = clients.add_endpoint(at, pool, &again, 1).unwrap();
        assert_eq!(added, first, "the same endpoint");
    });
    let more = take(&mut bed, pool, 4);
    let places: Vec<_> = more.iter().map(|lease| bed.served(*lease).0).collect();
    assert_eq!(places.iter().filter(|place| **place == 0).count(), 2, "{places:?}");
    let counts: Vec<_> = endpoints(&mut bed, pool).iter().map(|(_, s)| s.active).collect();
    assert_eq!(counts, [6, 6]);
    for lease in leases.into_iter().chain(more) {
        bed.release(lease, Outcome::Good).unwrap();
    }
    let counts: Vec<_> = endpoints(&mut bed, pool).iter().map(|(_, s)| s.active).collect();
    assert_eq!(counts, [0, 0]);
}

#[test]
fn endpoint_that_is_added_is_used() {
    let mut bed = Bed::new(2);
    let first = bed.back_ends[0].settings.clone();
    let pool = corewire::Pool::builder().min(0).endpoint(first).balance(Balance::LeastConnections);
    let pool = pool.build().unwrap();
    let pool = bed.act(move |_, clients| clients.add_pool(pool));
    take(&mut bed, pool, 2);
    assert_eq!(bed.back_ends[1].upgraded, 0);
    let second = bed.back_ends[1].settings.clone();
    bed.act(move |at, clients| clients.add_endpoint(at, pool, &second, 1).unwrap());
    // As long as it is not known to answer it gets one dial at a time.
    (0..2).for_each(|_| drop(take(&mut bed, pool, 1)));
    assert_eq!((bed.back_ends[0].upgraded, bed.back_ends[1].upgraded), (2, 2));
}

#[test]
fn pool_of_which_every_endpoint_was_removed_waits_for_one() {
    let mut bed = Bed::new(1);
    let pool = bed.pool(|pool| pool.min(1));
    let [(only, _)] = endpoints(&mut bed, pool)[..] else { panic!() };
    bed.act(move |at, clients| clients.remove_endpoint(at, pool, only));
    let ticket = bed.ticket(pool);
    bed.run_for(S);
    let again = bed.back_ends[0].settings.clone();
    bed.act(move |at, clients| clients.add_endpoint(at, pool, &again, 1).unwrap());
    bed.settle();
    let [(told, Ok(_))] = bed.leases()[..] else { panic!() };
    assert_eq!(told, ticket);
}

#[test]
fn probes_find_an_endpoint_dead_and_alive_though_nobody_uses_it() {
    let mut bed = Bed::new(2);
    bed.settle();
    bed.news();
    let pool = bed.pool(|pool| pool.health_check(|_| {}));
    bed.run_for(60 * S);
    let tries = bed.back_ends[0].host.tries();
    assert!((6..=8).contains(&tries), "once in ten seconds, and at first: {tries}");
    assert_eq!((bed.stats(pool).opened, bed.sim.sockets()), (0, 0));
    assert!(bed.news().is_empty(), "the application hears nothing of it");
    kill(&mut bed, 0);
    bed.run_for(60 * S);
    let state = |bed: &mut Bed| endpoints(bed, pool)[0].1.state;
    assert!(matches!(state(&mut bed), EndpointState::Ejected | EndpointState::OnTrial));
    assert!(bed.news().is_empty());
    let leases = take(&mut bed, pool, 3);
    assert!(leases.iter().all(|lease| bed.served(*lease).0 == 1), "nobody finds out by himself");
    bed.back_ends[0].host.replies(Reply::Accept);
    bed.run_for(61 * S);
    assert_eq!(state(&mut bed), EndpointState::Serving);
}

#[test]
fn want_of_room_here_is_held_against_no_endpoint() {
    for errno in [ENOMEM, ENFILE, EMFILE, ENOBUFS] {
        let mut bed = Bed::new(2);
        for back_end in &bed.back_ends {
            back_end.host.replies(Reply::Fail(errno));
        }
        let pool = bed.pool(|pool| pool.min(2).health_check(|it| it.interval = S));
        bed.run_for(60 * S);
        assert!(bed.stats(pool).dials_failed > 5);
        for (id, stats) in endpoints(&mut bed, pool) {
            let judged = (stats.state, stats.failures, stats.ejections);
            assert_eq!(judged, (EndpointState::Serving, 0, 0), "{errno} {id:?}");
        }
        for back_end in &bed.back_ends {
            back_end.host.replies(Reply::Accept);
        }
        bed.run_for(61 * S);
        assert_eq!(bed.stats(pool).members_in(MemberState::Idle), 2);
    }
}
