//! Everything may be asked for inside every callback.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Instant;

use corewire::{Acquired, Clients, Lease, LeaseTicket, Loop, Outcome, PoolError, PoolId};

use crate::back_end::Upgrades;
use crate::bed::{Bed, Heard, MS, S};
use crate::naive::Frame;

#[derive(Default)]
struct Seen {
    callbacks: BTreeSet<&'static str>,
    leases: Vec<Lease>,
    tickets: Vec<LeaseTicket>,
    asked: Option<Instant>,
}

fn name(heard: &Heard) -> &'static str {
    match heard {
        Heard::Start => "start",
        Heard::Open(_) => "open",
        Heard::Text(..) => "message",
        Heard::Undecodable(_) => "undecodable",
        Heard::Pong(_) => "pong",
        Heard::Close(..) => "close",
        Heard::DialFailed(..) => "dial failed",
        Heard::Lease(..) => "lease",
        Heard::Leak(_) => "leak",
        Heard::Unsent(..) => "unsent",
        Heard::Timer(_) => "timer",
        Heard::Notice => "notice",
    }
}

/// Takes, uses, gives back, cancels and changes.
fn exercise(
    seen: &mut Seen,
    pool: PoolId,
    at: &mut Loop<'_, ()>,
    clients: &mut Clients,
    heard: &Heard,
) {
    if seen.callbacks.insert(name(heard)) {
        at.set_timer(at.now() + MS, 7);
    }
    if let Heard::Lease(ticket, lease) = heard {
        let place = seen.tickets.iter().position(|own| own == ticket);
        seen.tickets.remove(place.expect("each ticket ends once"));
        seen.leases.extend(lease.as_ref().ok());
    }
    if seen.tickets.len() > 3 && clients.cancel(at, seen.tickets[0]) {
        seen.tickets.remove(0);
    }
    if seen.leases.len() > 1 && !matches!(heard, Heard::Timer(_)) {
        let lease = seen.leases.remove(0);
        let _ = clients.release(at, lease, Outcome::Good);
    }
    // At the start it has not begun.
    assert_eq!(clients.endpoints(pool).len(), usize::from(!matches!(heard, Heard::Start)));
    if seen.asked.replace(at.now()) == Some(at.now()) && matches!(heard, Heard::Lease(..)) {
        // Who gives back and asks again at once never comes to an end.
        return;
    }
    match clients.acquire(at, pool, S) {
        Ok(Acquired::Now(lease)) => {
            let mut peer = clients.peer(at, lease).expect("it was given just now");
            assert!(peer.is_open(), "what is over is given to nobody, in {heard:?} neither");
            let _ = peer.send_text("question");
            seen.leases.push(lease);
        }
        Ok(Acquired::Later(ticket)) => seen.tickets.push(ticket),
        Err(error) => assert_eq!(error, PoolError::TooManyWaiting),
    }
}

#[test]
fn pool_may_be_used_inside_every_callback() {
    let mut bed = Bed::new(1);
    let pool = bed.describe().min(1).max(2).settings(|s| {
        (s.leak_after, s.revoke_after) = (200 * MS, 400 * MS);
        s.waiters_max = 8;
    });
    let pool = bed.reactor.handler().clients().add_pool(pool.build().unwrap());
    let seen = Rc::new(RefCell::new(Seen::default()));
    let inside = seen.clone();
    bed.acts(move |at, clients, heard| {
        exercise(&mut inside.borrow_mut(), pool, at, clients, heard);
    });
    for round in 0..40 {
        bed.settle();
        if let Some(one) = bed.back_ends[0].served.first() {
            match round % 5 {
                0 => one.server.send(&Frame::text("answer")),
                1 => one.server.send(&Frame::binary([1])),
                2 => one.server.send(&Frame::pong("")),
                3 => one.server.peer.reset(),
                _ => one.server.send(&Frame::close(1001, "")),
            }
        }
        bed.back_ends[0].manner.upgrades =
            if round % 7 == 0 { Upgrades::Refuse } else { Upgrades::Switch };
        bed.act(|_, _| ());
        bed.run_for(700 * MS);
    }
    let callbacks: Vec<_> = seen.borrow().callbacks.iter().copied().collect();
    let all = [
        "close",
        "dial failed",
        "leak",
        "lease",
        "message",
        "notice",
        "open",
        "pong",
        "start",
        "timer",
        "undecodable",
    ];
    assert_eq!(callbacks, all);
    assert!(bed.sim.0.borrow().sockets_peak <= 2);
    bed.acts(|_, _, _| {});
    bed.act(move |at, clients| clients.shut_down_pool(at, pool));
    let leases = std::mem::take(&mut seen.borrow_mut().leases);
    for lease in leases {
        let _ = bed.release(lease, Outcome::Good);
    }
    bed.run_for(S);
    bed.assert_empty();
}

#[test]
fn lease_may_be_given_back_and_another_taken_while_the_connection_closes() {
    let mut bed = Bed::new(1);
    let pool = bed.pool(|pool| pool.min(1).max(1));
    bed.run_for(10 * S);
    let lease = bed.lease(pool);
    let waiting = bed.ticket(pool);
    bed.news();
    bed.acts(move |at, clients, heard| {
        if let Heard::Close(_, ended, _) = heard {
            assert_eq!(*ended, Some(lease));
            let released = clients.release(at, lease, Outcome::Good);
            assert_eq!(released, Err(PoolError::Revoked), "it has ended with its connection");
        }
    });
    bed.back_ends[0].served[0].server.peer.reset();
    bed.settle();
    let [(told, Ok(next))] = bed.leases()[..] else { panic!() };
    assert_eq!(told, waiting);
    assert!(bed.try_served(next).is_some(), "he gets one that lives");
}

#[test]
fn idle_connection_that_closes_is_given_to_nobody_not_even_then() {
    let mut bed = Bed::new(1);
    let pool = bed.pool(|pool| pool.min(1).max(1));
    bed.run_for(10 * S);
    let outcome = Rc::new(RefCell::new(None));
    let inside = outcome.clone();
    bed.acts(move |at, clients, heard| {
        if let Heard::Close(..) = heard {
            *inside.borrow_mut() = Some(clients.acquire(at, pool, S));
        }
    });
    bed.back_ends[0].served[0].server.send(&Frame::close(1001, ""));
    bed.settle();
    let Some(Ok(Acquired::Later(ticket))) = *outcome.borrow() else { panic!() };
    let [(told, Ok(_))] = bed.leases()[..] else { panic!() };
    assert_eq!(told, ticket);
}
