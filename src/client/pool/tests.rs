//! Each rule of the pool by itself, in a made-up time.

use std::collections::HashMap;
use std::panic::Location;
use std::time::{Duration, Instant};

use super::action::Leak;
use super::endpoints::Select;
use super::*;
use crate::client::balance::EndpointId;
use crate::client::cause::End;
use crate::collections::Key;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

/// Endpoints in turn. It counts what is under way, and refuses what it is told to.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns {
    pub(super) order: Vec<EndpointId>,
    pub(super) active: HashMap<EndpointId, i64>,
    pub(super) refused: Vec<EndpointId>,
    pub(super) successes: u32,
    pub(super) failures: u32,
    next: usize,
}

impl Select for Turns {
    fn pick(
        &mut self,
        _: Instant,
        _: u64,
        is_candidate: impl Fn(EndpointId) -> bool,
    ) -> Option<EndpointId> {
        let count = self.order.len();
        let places = (self.next..self.next + count).map(|place| place % count);
        let mut open = places.filter(|place| !self.refused.contains(&self.order[*place]));
        let place = open.find(|place| is_candidate(self.order[*place]))?;
        self.next = place + 1;
        Some(self.order[place])
    }

    fn handle_acquired(&mut self, endpoint: EndpointId) {
        *self.active.entry(endpoint).or_default() += 1;
    }

    fn handle_released(&mut self, endpoint: EndpointId) {
        *self.active.entry(endpoint).or_default() -= 1;
    }

    fn handle_success(&mut self, _: EndpointId, _: Instant) {
        self.successes += 1;
    }

    fn handle_failure(&mut self, _: EndpointId, _: Instant, _: u64) {
        self.failures += 1;
    }
}

pub(super) fn endpoint(index: u32) -> EndpointId {
    EndpointId(Key { index, generation: 1 })
}

/// A pool and its driver, who does nothing unasked.
struct Bed {
    pool: Core<Turns>,
    start: Instant,
    now: Instant,
}

impl Bed {
    /// With so many endpoints. Nothing is kept open, no dial and no error is too many, unless
    /// `change` says so.
    fn new(endpoints: u32, change: impl FnOnce(&mut PoolSettings)) -> Self {
        let mut settings = PoolSettings {
            min: 0,
            max: 4,
            age_max: Duration::MAX,
            age_jitter: Duration::ZERO,
            ..PoolSettings::default()
        };
        change(&mut settings);
        settings.check().unwrap();
        let start = Instant::now();
        let order = (0..endpoints).map(endpoint).collect();
        let balancer = Turns { order, ..Turns::default() };
        let mut bed = Self { pool: Core::new(settings, balancer, 1, start), start, now: start };
        (0..endpoints).for_each(|index| bed.pool.add_endpoint(endpoint(index), start));
        bed
    }

    /// With one endpoint and so many connections, idle since now.
    fn with_idle(count: u32, change: impl FnOnce(&mut PoolSettings)) -> (Self, Vec<MemberKey>) {
        let mut bed = Self::new(1, |settings| {
            change(settings);
            settings.min = count;
        });
        let members = bed.open_all();
        assert_eq!(members.len() as u32, count);
        (bed, members)
    }

    /// What is to be done.
    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.pool.poll_action()).collect()
    }

    /// Opens whatever is dialled, until nothing more is; there may be no other action.
    fn open_all(&mut self) -> Vec<MemberKey> {
        let mut opened = Vec::new();
        loop {
            let actions = self.actions();
            if actions.is_empty() {
                return opened;
            }
            for action in actions {
                let Action::Open { member, .. } = action else { panic!("{action:?}") };
                self.pool.handle_opened(member, self.now);
                opened.push(member);
            }
        }
    }

    /// Opens the first so many that are dialled. Other actions stay where they are.
    #[track_caller]
    fn open_some(&mut self, count: usize) -> Vec<MemberKey> {
        let mut opened = Vec::new();
        while opened.len() < count {
            let at = self.pool.actions.iter().position(|a| matches!(a, Action::Open { .. }));
            let action = self.pool.actions.remove(at.expect("something is dialled"));
            let Some(Action::Open { member, .. }) = action else { panic!("{action:?}") };
            self.pool.handle_opened(member, self.now);
            opened.push(member);
        }
        opened
    }

    /// Opens whatever is dialled and forgets what is closed.
    fn settle(&mut self) {
        while let Some(action) = self.pool.poll_action() {
            match action {
                Action::Open { member, .. } => self.pool.handle_opened(member, self.now),
                Action::Close { member, .. } => {
                    self.pool.handle_closed(member, End::Wanted, self.now);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// The leases of these tickets, which there are and nothing else.
    #[track_caller]
    fn granted(&mut self, tickets: &[LeaseTicket]) -> Vec<Lease> {
        let actions = self.actions();
        let lease = |action: &Action| match action {
            Action::Grant { ticket, lease } => (*ticket, *lease),
            other => panic!("{other:?}"),
        };
        let (granted, leases): (Vec<_>, Vec<_>) = actions.iter().map(lease).unzip();
        assert_eq!(granted, tickets);
        leases
    }

    #[track_caller]
    fn acquire(&mut self) -> Result<Acquired, PoolError> {
        self.acquire_as(None)
    }

    #[track_caller]
    fn acquire_as(&mut self, user: Option<u64>) -> Result<Acquired, PoolError> {
        let wanted = Wanted { user, timeout: 5 * S, site: Location::caller() };
        self.pool.acquire(wanted, self.now)
    }

    #[track_caller]
    fn lease_as(&mut self, user: Option<u64>) -> Lease {
        match self.acquire_as(user) {
            Ok(Acquired::Now(lease)) => lease,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn lease(&mut self) -> Lease {
        self.lease_as(None)
    }

    #[track_caller]
    fn ticket(&mut self) -> LeaseTicket {
        match self.acquire() {
            Ok(Acquired::Later(ticket)) => ticket,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn release(&mut self, lease: Lease) {
        self.pool.release(lease, Outcome::Good, self.now).unwrap();
    }

    /// Time passes, and every timer fires when it should; what there is to do is collected with
    /// when that was.
    fn pass(&mut self, by: Duration) -> Vec<(Duration, Action)> {
        let end = self.now + by;
        let mut done = Vec::new();
        while let Some(at) = self.pool.poll_timeout().filter(|at| *at <= end) {
            assert!(at > self.now, "a timer in the past");
            self.now = at;
            self.pool.handle_timeout(at);
            let since = at - self.start;
            done.extend(self.actions().into_iter().map(|action| (since, action)));
        }
        self.now = end;
        done
    }

    fn in_state(&self, state: MemberState) -> u32 {
        self.pool.stats().members_in(state)
    }
}

#[test]
fn a_ticket_gets_the_connection_that_is_dialled_for_it() {
    let mut bed = Bed::new(1, |_| {});
    let ticket = bed.ticket();
    let actions = bed.actions();
    let [Action::Open { member, .. }] = actions[..] else { panic!("{actions:?}") };
    bed.pool.handle_opened(member, bed.now);
    let actions = bed.actions();
    let [Action::Grant { ticket: granted, lease }] = actions[..] else { panic!("{actions:?}") };
    assert_eq!((granted, lease.member()), (ticket, member));
    assert_eq!(bed.pool.check(lease), Ok(member));
    bed.release(lease);
    assert_eq!(bed.pool.check(lease), Err(PoolError::Revoked));
    assert_eq!(bed.pool.release(lease, Outcome::Good, bed.now), Err(PoolError::Revoked));
}

#[test]
fn the_connection_used_last_is_handed_out_first() {
    let (mut bed, _) = Bed::with_idle(3, |_| {});
    let [a, b, c] = [bed.lease(), bed.lease(), bed.lease()];
    [a, c, b].into_iter().for_each(|lease| bed.release(lease));
    let again = [bed.lease(), bed.lease(), bed.lease()].map(Lease::member);
    assert_eq!(again, [b, c, a].map(Lease::member));
    assert!(bed.actions().is_empty());
}

#[test]
fn the_balancer_chooses_among_endpoints_with_free_connections() {
    let mut bed = Bed::new(3, |settings| settings.min = 4);
    let opened = bed.open_all();
    assert_eq!(bed.pool.balancer_mut().active, (0..3).map(|index| (endpoint(index), 0)).collect());
    let first = bed.lease();
    let second = bed.lease();
    assert_ne!(first.member(), second.member());
    bed.release(first);
    // One endpoint after the other, though the first would do.
    let third = bed.lease();
    assert_ne!(third.member(), first.member());
    // What the balancer would rather not choose is better than nothing.
    bed.pool.balancer_mut().refused = (0..3).map(endpoint).collect();
    let rest = [bed.lease(), bed.lease()];
    assert!(rest.iter().all(|lease| opened.contains(&lease.member())));
}

#[test]
fn a_connection_is_checked_if_it_was_free_for_longer_than_the_bound() {
    let (mut bed, members) = Bed::with_idle(1, |settings| settings.check_after = 30 * S);
    assert!(bed.pass(30 * S).is_empty());
    let lease = bed.lease();
    bed.release(lease);
    bed.pass(30 * S + MS);
    let ticket = bed.ticket();
    assert_eq!(bed.actions(), [Action::Ping { member: members[0] }]);
    assert_eq!(bed.in_state(MemberState::Checking), 1);
    bed.pass(999 * MS);
    bed.pool.handle_pong(members[0], bed.now);
    let actions = bed.actions();
    assert!(matches!(actions[..], [Action::Grant { ticket: t, lease }]
        if t == ticket && lease.member() == members[0]));
}

#[test]
fn a_connection_that_does_not_answer_is_closed_and_another_one_found() {
    let (mut bed, members) = Bed::with_idle(2, |settings| settings.pong_timeout = S);
    bed.pass(31 * S);
    let ticket = bed.ticket();
    let first = members[1];
    assert_eq!(bed.actions(), [Action::Ping { member: first }]);
    let done = bed.pass(S);
    let close = Action::Close { member: first, reason: Eviction::NoPong };
    assert_eq!(done[0], (32 * S, close));
    assert_eq!(done[1], (32 * S, Action::Ping { member: members[0] }));
    // The place of the one that is lost is filled in the background.
    assert!(matches!(done[2], (_, Action::Open { .. })));
    assert_eq!(done.len(), 3);
    bed.pool.handle_pong(members[0], bed.now);
    assert!(matches!(bed.actions()[..], [Action::Grant { ticket: t, .. }] if t == ticket));
    // A pong that comes too late is a miss.
    bed.pool.handle_pong(first, bed.now);
    assert!(bed.actions().is_empty());
}

#[test]
fn what_is_not_used_for_300_s_is_closed_down_to_min() {
    let (mut bed, members) = Bed::with_idle(1, |_| {});
    let kept = bed.lease();
    let tickets = [bed.ticket(), bed.ticket()];
    let opened = bed.open_some(2);
    let leases = bed.granted(&tickets);
    bed.pass(10 * S);
    leases.into_iter().for_each(|lease| bed.release(lease));
    bed.pass(S);
    bed.release(kept);
    assert!(bed.pass(299 * S - MS).is_empty());
    let stale = |member| (310 * S, Action::Close { member, reason: Eviction::Stale });
    let mut done = bed.pass(2 * MS);
    done.sort_by_key(|(_, action)| format!("{action:?}"));
    assert_eq!(done, [stale(opened[0]), stale(opened[1])]);
    assert!(bed.pass(1000 * S).is_empty());
    assert_eq!((bed.in_state(MemberState::Stale), bed.in_state(MemberState::Closing)), (1, 2));
    bed.ticket();
    assert_eq!(bed.actions(), [Action::Ping { member: members[0] }]);
}

#[test]
fn what_is_stale_goes_when_the_pool_has_grown_beyond_it() {
    let (mut bed, members) = Bed::with_idle(2, |settings| {
        settings.check_after = Duration::MAX;
        settings.stale_after = 10 * S;
    });
    assert!(bed.pass(20 * S).is_empty());
    assert_eq!(bed.in_state(MemberState::Stale), 2);
    let [_, _] = [bed.lease(), bed.lease()];
    let ticket = bed.ticket();
    bed.open_some(1);
    bed.granted(&[ticket]);
    assert_eq!(bed.pool.stats().size(), 3);
    assert_eq!(bed.in_state(MemberState::Stale), 0);
    drop(members);
}

#[test]
fn a_connection_is_closed_at_its_age_less_the_jitter() {
    let ages = |jitter| {
        let (mut bed, members) = Bed::with_idle(4, |settings| {
            settings.age_max = 100 * S;
            settings.age_jitter = jitter;
        });
        let done = bed.pass(100 * S);
        let is_aged = |action: &Action| match action {
            Action::Close { member, reason } => {
                assert_eq!(*reason, Eviction::Aged);
                assert!(members.contains(member));
                true
            }
            other => {
                assert!(matches!(other, Action::Open { .. }), "{other:?}");
                false
            }
        };
        done.iter().filter(|(_, action)| is_aged(action)).map(|(at, _)| *at).collect::<Vec<_>>()
    };
    assert_eq!(ages(Duration::ZERO), [100 * S; 4]);
    let spread = ages(50 * S);
    assert!(spread.iter().all(|at| (50 * S..=100 * S).contains(at)), "{spread:?}");
    assert!(spread.windows(2).any(|pair| pair[1] - pair[0] > S), "{spread:?}");
}

#[test]
fn a_connection_that_is_handed_out_is_closed_for_its_age_when_it_comes_back() {
    let (mut bed, members) = Bed::with_idle(1, |settings| settings.age_max = 20 * S);
    let lease = bed.lease();
    assert!(bed.pass(25 * S).is_empty());
    bed.release(lease);
    let close = Action::Close { member: members[0], reason: Eviction::Aged };
    let actions = bed.actions();
    assert_eq!(actions[0], close);
    assert!(matches!(actions[1..], [Action::Open { .. }]), "replaced: {actions:?}");
}

#[test]
fn errors_retire_a_connection() {
    let (mut bed, members) = Bed::with_idle(2, |settings| settings.errors_max = 3);
    let now = bed.now;
    let close = |index: usize, reason| Action::Close { member: members[index], reason };
    // A free one goes at once.
    (0..2).for_each(|_| bed.pool.handle_error(members[0], now));
    assert!(bed.actions().is_empty());
    bed.pool.handle_error(members[0], now);
    assert_eq!(bed.actions()[0], close(0, Eviction::Errors));
    // One that is handed out goes when it comes back.
    let lease = bed.lease();
    (0..3).for_each(|_| bed.pool.handle_error(members[1], now));
    assert_eq!(bed.in_state(MemberState::Broken), 1);
    assert!(bed.actions().is_empty());
    assert_eq!(bed.pool.check(lease), Ok(members[1]));
    bed.release(lease);
    assert_eq!(bed.actions()[0], close(1, Eviction::Errors));
    assert_eq!(bed.pool.balancer_mut().failures, 6);
}

#[test]
fn a_failed_use_counts_and_a_broken_connection_is_closed() {
    let (mut bed, members) = Bed::with_idle(1, |settings| settings.errors_max = 2);
    for reason in [None, Some(Eviction::Errors)] {
        let lease = bed.lease();
        bed.pool.release(lease, Outcome::Failed, bed.now).unwrap();
        let expected = reason.map(|reason| Action::Close { member: members[0], reason });
        assert_eq!(bed.actions().first().copied(), expected);
    }
    let (mut bed, members) = Bed::with_idle(1, |_| {});
    let lease = bed.lease();
    bed.pool.release(lease, Outcome::Broken, bed.now).unwrap();
    let close = Action::Close { member: members[0], reason: Eviction::Broken };
    assert_eq!(bed.actions()[0], close);
}

#[test]
fn a_lease_is_reported_once_after_30_s_and_revoked_after_300() {
    let (mut bed, members) = Bed::with_idle(1, |_| {});
    let member = members[0];
    let (lease, line) = (bed.lease(), line!());
    let done = bed.pass(400 * S);
    let [(reported, leak), (revoked, revocation), (closed, close), (_, replacement), ..] = done[..]
    else {
        panic!("{done:?}");
    };
    let Action::Leak(Leak { lease: leaked, endpoint, site, held_for }) = leak else {
        panic!("{leak:?}")
    };
    assert_eq!(endpoint, self::endpoint(0));
    assert_eq!((reported, held_for, leaked), (30 * S, 30 * S, lease));
    assert_eq!((site.file(), site.line()), (file!(), line));
    let Action::Revoked(Leak { lease: ended, site, held_for, .. }) = revocation else {
        panic!("{revocation:?}")
    };
    assert_eq!((revoked, held_for, ended, site.line()), (300 * S, 300 * S, lease, line));
    assert_eq!((closed, close), (300 * S, Action::Close { member, reason: Eviction::Revoked }));
    assert!(matches!(replacement, Action::Open { .. }), "it is replaced");
    assert_eq!(done.len(), 4, "{done:?}");
    assert_eq!(bed.pool.check(lease), Err(PoolError::Revoked));
    assert_eq!(bed.pool.release(lease, Outcome::Good, bed.now), Err(PoolError::Revoked));
    assert_eq!(bed.pool.handle_closed(member, End::Wanted, bed.now), None);
    assert_eq!(bed.pool.release(lease, Outcome::Good, bed.now), Err(PoolError::Revoked));
    let stats = bed.pool.stats();
    assert_eq!((stats.leaks, stats.evicted(Eviction::Revoked)), (1, 1));
}

#[test]
fn a_lease_that_is_over_is_not_the_right_to_the_next_one() {
    let (mut bed, members) = Bed::with_idle(1, |_| {});
    let old = bed.lease();
    bed.release(old);
    let new = bed.lease();
    assert_eq!((old.member(), new.member()), (members[0], members[0]));
    assert_eq!(bed.pool.release(old, Outcome::Good, bed.now), Err(PoolError::Revoked));
    assert_eq!(bed.pool.check(new), Ok(members[0]));
    assert_eq!(bed.pool.handle_closed(members[0], End::Wanted, bed.now), Some(new));
    assert_eq!(bed.pool.check(new), Err(PoolError::Revoked));
    assert_eq!(bed.pool.stats().evicted(Eviction::Lost), 1);
}

#[test]
fn those_who_wait_are_served_in_their_order_or_told_when_their_time_is_over() {
    let (mut bed, _) = Bed::with_idle(1, |settings| settings.max = 1);
    let lease = bed.lease();
    let first = bed.ticket();
    bed.pass(S);
    let [second, third] = [bed.ticket(), bed.ticket()];
    assert_eq!(bed.pool.cancel(second, bed.now), Some(()));
    assert_eq!(bed.pool.cancel(second, bed.now), None);
    assert_eq!(bed.pool.try_acquire(None, Location::caller(), bed.now), Err(PoolError::Exhausted));
    let error = PoolError::Exhausted;
    assert_eq!(bed.pass(4 * S), [(5 * S, Action::Expire { ticket: first, error })]);
    let fourth = bed.ticket();
    bed.release(lease);
    let lease = bed.granted(&[third])[0];
    bed.release(lease);
    bed.granted(&[fourth]);
    let stats = bed.pool.stats();
    assert_eq!((stats.waits, stats.expired, stats.cancelled, stats.waiting), (4, 1, 1, 0));
    assert_eq!((stats.wait_time.count(), stats.acquired, stats.reused), (2, 3, 2));
}

#[test]
fn no_more_wait_than_may() {
    let mut bed = Bed::new(1, |settings| settings.waiters_max = 2);
    let [first, _] = [bed.ticket(), bed.ticket()];
    assert_eq!(bed.acquire(), Err(PoolError::TooManyWaiting));
    assert_eq!(bed.pool.stats().refused, 1);
    bed.pool.cancel(first, bed.now).unwrap();
    bed.ticket();
}

#[test]
fn a_user_comes_back_to_his_connection_while_it_lives_and_is_free() {
    let (mut bed, members) = Bed::with_idle(3, |_| {});
    let user = Some(7);
    let home = bed.lease_as(user);
    // Another one at once while it is in use, and the first one again afterwards.
    let other = bed.lease_as(user);
    assert_ne!(other.member(), home.member());
    bed.release(home);
    bed.release(other);
    let again = bed.lease_as(user);
    assert_eq!(again.member(), home.member());
    // Until it has ended.
    assert_eq!(bed.pool.handle_closed(home.member(), End::Wanted, bed.now), Some(again));
    let next = bed.lease_as(user);
    bed.release(next);
    let last = bed.lease();
    let lease = bed.lease();
    bed.release(last);
    bed.release(lease);
    assert_eq!(bed.lease_as(user).member(), next.member());
    drop(members);
}

#[test]
fn a_user_waits_for_the_check_of_his_connection_and_leads_the_line_if_that_fails() {
    let (mut bed, members) = Bed::with_idle(2, |settings| settings.max = 2);
    let user = Some(7);
    let home = bed.lease_as(user);
    bed.release(home);
    bed.pass(31 * S);
    let Ok(Acquired::Later(his)) = bed.acquire_as(user) else { panic!("it needs a check") };
    assert_eq!(bed.actions(), [Action::Ping { member: home.member() }]);
    let other = *members.iter().find(|member| **member != home.member()).unwrap();
    let plain = bed.ticket();
    assert_eq!(bed.actions(), [Action::Ping { member: other }]);
    // What answers is for the line, in which he is not.
    bed.pool.handle_pong(other, bed.now);
    let lease = bed.granted(&[plain])[0];
    let late = bed.ticket();
    let done = bed.pass(S);
    let close = Action::Close { member: home.member(), reason: Eviction::NoPong };
    assert_eq!(done, [(32 * S, close)]);
    bed.release(lease);
    let lease = bed.granted(&[his])[0];
    bed.release(lease);
    bed.granted(&[late]);
}

#[test]
fn a_connection_checked_for_a_user_who_has_left_is_anybodys() {
    let (mut bed, members) = Bed::with_idle(1, |settings| settings.max = 1);
    let lease = bed.lease_as(Some(7));
    bed.release(lease);
    bed.pass(31 * S);
    let Ok(Acquired::Later(his)) = bed.acquire_as(Some(7)) else { panic!("it needs a check") };
    let plain = bed.ticket();
    bed.pool.cancel(his, bed.now).unwrap();
    assert_eq!(bed.actions(), [Action::Ping { member: members[0] }]);
    bed.pool.handle_pong(members[0], bed.now);
    bed.granted(&[plain]);
}

#[test]
fn trying_again_finds_what_was_made_ready() {
    let mut bed = Bed::new(1, |_| {});
    let site = Location::caller();
    assert_eq!(bed.pool.try_acquire(None, site, bed.now), Err(PoolError::Exhausted));
    assert_eq!(bed.pool.try_acquire(None, site, bed.now), Err(PoolError::Exhausted));
    let opened = bed.open_all();
    assert_eq!(opened.len(), 1);
    let lease = bed.pool.try_acquire(None, site, bed.now).unwrap();
    bed.release(lease);
    bed.pass(31 * S);
    assert_eq!(bed.pool.try_acquire(None, site, bed.now), Err(PoolError::Exhausted));
    assert_eq!(bed.actions(), [Action::Ping { member: opened[0] }]);
    bed.pool.handle_pong(opened[0], bed.now);
    bed.pool.try_acquire(None, site, bed.now).unwrap();
}

#[test]
fn the_load_moves_the_number_of_connections_in_steps() {
    let mut bed = Bed::new(1, |settings| (settings.min, settings.max) = (8, 14));
    bed.open_all();
    let mut desired = |after: Duration, load| {
        bed.pass(after);
        bed.pool.set_load(load, bed.now);
        bed.settle();
        (bed.pool.stats().desired, bed.pool.stats().size())
    };
    assert_eq!(desired(S, 0.81), (10, 10));
    assert_eq!(desired(10 * S - MS, 0.99), (10, 10), "too soon");
    assert_eq!(desired(MS, 0.99), (12, 12));
    assert_eq!(desired(10 * S, 0.8), (12, 12), "between the bounds");
    assert_eq!(desired(S, f64::NAN), (12, 12));
    assert_eq!(desired(S, 1.0), (14, 14), "at most max");
    assert_eq!(desired(60 * S - MS, 0.0), (14, 14), "too soon");
    assert_eq!(desired(MS, 0.29), (13, 13));
    assert_eq!(desired(60 * S, 0.3), (13, 13));
    assert_eq!(desired(S, 0.1), (12, 12));
    for expected in [11, 10, 9, 8, 8] {
        assert_eq!(desired(60 * S, 0.1), (expected, expected));
    }
    assert_eq!(bed.pool.stats().evicted(Eviction::Shrunk), 6);
}

#[test]
fn scarce_memory_closes_what_is_free_down_to_the_minimum() {
    let mut bed = Bed::new(1, |settings| (settings.min, settings.max) = (2, 14));
    bed.open_all();
    for _ in 0..6 {
        bed.pass(10 * S);
        bed.pool.set_load(1.0, bed.now);
        bed.settle();
    }
    let size = bed.pool.stats().size();
    assert!(size > 6, "{size}");
    let leases: Vec<_> = (0..3).map(|_| bed.lease()).collect();
    bed.pool.shrink(bed.now);
    bed.settle();
    assert_eq!((bed.pool.stats().desired, bed.pool.stats().size()), (2, 3), "who is out stays");
    assert_eq!(bed.pool.stats().evicted(Eviction::Shrunk), u64::from(size - 3));
    leases.into_iter().for_each(|lease| bed.release(lease));
    bed.pool.shrink(bed.now);
    bed.settle();
    assert_eq!(bed.pool.stats().size(), 2);
}

#[test]
fn growing_counts_from_what_is_handed_out() {
    let mut bed = Bed::new(1, |settings| (settings.min, settings.max) = (0, 100));
    let tickets: Vec<_> = (0..12).map(|_| bed.ticket()).collect();
    bed.open_some(12);
    bed.granted(&tickets);
    bed.pool.set_load(0.9, bed.now);
    assert_eq!(bed.pool.stats().desired, 15);
    assert_eq!(bed.open_all().len(), 3);
}

#[test]
fn an_endpoint_is_dialled_once_until_it_answers_and_then_by_so_many_at_once() {
    let mut bed = Bed::new(1, |settings| {
        (settings.min, settings.max) = (10, 10);
        settings.dials_max = 4;
    });
    let actions = bed.actions();
    let [Action::Open { member: first, .. }] = actions[..] else { panic!("{actions:?}") };
    bed.pool.handle_opened(first, bed.now);
    let dialled = bed.actions();
    assert_eq!(dialled.len(), 4);
    let Action::Open { member, .. } = dialled[0] else { panic!("{dialled:?}") };
    bed.pool.handle_opened(member, bed.now);
    assert_eq!(bed.actions().len(), 1);
}

#[test]
fn an_endpoint_that_fails_is_left_alone_for_longer_each_time() {
    let mut bed = Bed::new(1, |settings| settings.min = 1);
    let mut longest = S;
    for _ in 0..8 {
        let actions = bed.actions();
        let [Action::Open { member, .. }] = actions[..] else { panic!("{actions:?}") };
        bed.pool.handle_dial_failed(member, bed.now);
        assert!(bed.actions().is_empty());
        let failed_at = bed.now;
        bed.now = bed.pool.poll_timeout().unwrap();
        while bed.in_state(MemberState::Connecting) == 0 {
            bed.pool.handle_timeout(bed.now);
            let next = bed.pool.poll_timeout().unwrap();
            if bed.in_state(MemberState::Connecting) == 0 {
                bed.now = next;
            }
        }
        let rested = bed.now - failed_at;
        assert!(rested >= longest / 2 && rested <= longest + MS, "{rested:?} of {longest:?}");
        longest = (longest * 2).min(60 * S);
    }
    assert_eq!(bed.pool.stats().dials_failed, 8);
}

#[test]
fn an_endpoint_whose_connections_do_not_stand_is_left_alone_as_one_that_fails() {
    let mut bed = Bed::new(1, |settings| settings.min = 4);
    let mut longest = S;
    for round in 0..6 {
        let opened = bed.open_all();
        assert_eq!(opened.len(), 4, "{longest:?}");
        bed.pass(9 * S);
        for member in opened {
            let end = if round % 2 == 0 { End::Parted } else { End::Failed };
            bed.pool.handle_closed(member, end, bed.now);
        }
        assert!(bed.actions().is_empty(), "at once again");
        let ended_at = bed.now;
        while bed.in_state(MemberState::Connecting) == 0 {
            bed.now = bed.pool.poll_timeout().unwrap();
            bed.pool.handle_timeout(bed.now);
        }
        let rested = bed.now - ended_at;
        assert!(rested >= longest / 2 && rested <= longest + MS, "{rested:?} of {longest:?}");
        longest = (longest * 2).min(60 * S);
    }
    let told = |bed: &mut Bed| (bed.pool.balancer.successes, bed.pool.balancer.failures);
    assert_eq!(told(&mut bed), (4, 24), "to open is no success where nothing stands");
    // One that stands has it forgotten.
    let opened = bed.open_all();
    bed.pass(10 * S + MS);
    assert_eq!(told(&mut bed), (5, 24));
    bed.pool.handle_closed(opened[0], End::Parted, bed.now);
    assert_eq!(bed.open_all().len(), 1);
    bed.pool.handle_closed(opened[1], End::Failed, bed.now);
    assert_eq!((bed.open_all().len(), told(&mut bed)), (1, (7, 25)));
}

#[test]
fn want_of_room_here_is_not_held_against_the_endpoint() {
    let mut bed = Bed::new(1, |settings| settings.min = 1);
    for _ in 0..6 {
        let actions = bed.actions();
        let [Action::Open { member, .. }] = actions[..] else { panic!("{actions:?}") };
        bed.pool.handle_no_room(member, bed.now);
        assert!(bed.actions().is_empty(), "at once again");
        let ended_at = bed.now;
        while bed.in_state(MemberState::Connecting) == 0 {
            bed.now = bed.pool.poll_timeout().unwrap();
            bed.pool.handle_timeout(bed.now);
        }
        assert!(bed.now - ended_at <= S + MS, "never longer");
    }
    assert_eq!(bed.pool.balancer.failures, 0);
}

#[test]
fn what_this_end_wants_is_not_held_against_the_endpoint() {
    let (mut bed, members) = Bed::with_idle(2, |_| {});
    bed.pool.handle_closed(members[0], End::Wanted, bed.now);
    assert_eq!(bed.open_all().len(), 1);
    assert_eq!(bed.pool.balancer.failures, 0);
}

#[test]
fn a_dead_endpoint_does_not_hold_up_those_who_wait_for_a_living_one() {
    let mut bed = Bed::new(2, |settings| settings.max = 3);
    let tickets = [bed.ticket(), bed.ticket(), bed.ticket()];
    // The first endpoint swallows its one dial; the second answers, and gets the rest.
    let actions = bed.actions();
    let [Action::Open { member: dead, endpoint: a }, Action::Open { member: living, endpoint: b }] =
        actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!((a, b), (endpoint(0), endpoint(1)));
    bed.pool.handle_opened(living, bed.now);
    let actions = bed.actions();
    let [Action::Grant { ticket: first, .. }, Action::Open { member, endpoint: again }] =
        actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!((first, again), (tickets[0], b));
    bed.pool.handle_opened(member, bed.now);
    bed.granted(&tickets[1..2]);
    // The last place hangs in the dead one. It is given to the living one when that takes long.
    let done = bed.pass(S);
    let overdue = Action::Close { member: dead, reason: Eviction::Overdue };
    assert_eq!(done, [(S, overdue)]);
    assert_eq!(bed.pool.handle_closed(dead, End::Wanted, bed.now), None);
    let actions = bed.actions();
    let [Action::Open { member, endpoint }] = actions[..] else { panic!("{actions:?}") };
    assert_eq!(endpoint, b);
    bed.pool.handle_opened(member, bed.now);
    bed.granted(&tickets[2..]);
}

#[test]
fn an_overdue_dial_is_nothing_to_wait_for_but_welcome() {
    let mut bed = Bed::new(2, |settings| settings.max = 10);
    bed.pool.balancer_mut().refused = vec![endpoint(1)];
    let ticket = bed.ticket();
    let actions = bed.actions();
    let [Action::Open { member: slow, .. }] = actions[..] else { panic!("{actions:?}") };
    let done = bed.pass(S);
    let [(at, Action::Open { endpoint: other, .. })] = done[..] else { panic!("{done:?}") };
    assert_eq!((at, other), (S, endpoint(1)), "the balancer would rather not, but nobody else is");
    assert_eq!(bed.in_state(MemberState::Overdue), 1);
    bed.pool.handle_opened(slow, bed.now);
    assert_eq!(bed.granted(&[ticket])[0].member(), slow);
}

#[test]
fn a_drained_endpoint_gets_its_leases_back_and_a_removed_one_does_not() {
    let mut bed = Bed::new(1, |settings| settings.min = 2);
    let members = bed.open_all();
    let lease = bed.lease();
    bed.pool.drain_endpoint(endpoint(0), bed.now);
    let free = *members.iter().find(|member| **member != lease.member()).unwrap();
    let left = |member| Action::Close { member, reason: Eviction::EndpointLeft };
    assert_eq!(bed.actions(), [left(free)]);
    bed.release(lease);
    assert_eq!(bed.actions(), [left(lease.member())]);

    let (mut bed, members) = Bed::with_idle(1, |_| {});
    let lease = bed.lease();
    bed.pool.remove_endpoint(endpoint(0), bed.now);
    let actions = bed.actions();
    assert!(matches!(actions[0], Action::Revoked(Leak { lease: ended, .. }) if ended == lease));
    assert_eq!(actions[1..], [left(members[0])]);
    assert_eq!(bed.pool.check(lease), Err(PoolError::Revoked));
    // It comes back under the same name.
    bed.pool.add_endpoint(endpoint(0), bed.now);
    assert_eq!(bed.open_all().len(), 1);
}

#[test]
fn shutting_down_tells_who_waits_and_closes_what_is_free() {
    let (mut bed, members) = Bed::with_idle(2, |settings| settings.max = 2);
    let [first, second] = [bed.lease(), bed.lease()];
    bed.release(second);
    let his = bed.lease_as(Some(7));
    bed.release(his);
    bed.pass(31 * S);
    let Ok(Acquired::Later(reserved)) = bed.acquire_as(Some(7)) else { panic!("it needs a check") };
    let plain = bed.ticket();
    bed.actions();
    bed.pool.shut_down(bed.now);
    let close = |member| Action::Close { member, reason: Eviction::ShutDown };
    let expire = |ticket| Action::Expire { ticket, error: PoolError::ShutDown };
    assert_eq!(bed.actions(), [close(his.member()), expire(reserved), expire(plain)]);
    assert_eq!(bed.acquire(), Err(PoolError::ShutDown));
    let site = Location::caller();
    assert_eq!(bed.pool.try_acquire(None, site, bed.now), Err(PoolError::ShutDown));
    bed.pool.handle_closed(his.member(), End::Wanted, bed.now);
    assert!(!bed.pool.is_finished());
    // What is handed out runs out, reported and revoked as ever.
    assert!(members.contains(&first.member()));
    bed.release(first);
    assert_eq!(bed.actions(), [close(first.member())]);
    bed.pool.handle_closed(first.member(), End::Wanted, bed.now);
    assert!(bed.pool.is_finished());
    assert_eq!(bed.pass(1000 * S), []);
}

#[test]
fn times_without_end_do_not_overflow() {
    let mut bed = Bed::new(1, |settings| {
        settings.stale_after = Duration::MAX;
        settings.check_after = Duration::MAX;
        settings.leak_after = Duration::MAX;
        settings.revoke_after = Duration::MAX;
        settings.dial_patience = Duration::MAX;
        settings.pong_timeout = Duration::MAX;
        settings.redial_delay = Duration::MAX;
        settings.redial_delay_max = Duration::MAX;
        settings.sizing.grow_cooldown = Duration::MAX;
        settings.min = 1;
    });
    let site = Location::caller();
    let wanted = Wanted { user: None, timeout: Duration::MAX, site };
    assert!(matches!(bed.pool.acquire(wanted, bed.now), Ok(Acquired::Later(_))));
    bed.pool.set_load(1.0, bed.now);
    bed.pool.set_load(1.0, bed.now);
    bed.open_some(1);
    let year = 365 * 86_400 * S;
    assert!(bed.pass(100 * year).iter().all(|(_, action)| matches!(action, Action::Open { .. })));
    assert_eq!(bed.in_state(MemberState::Active), 1);
}

#[test]
fn a_lease_that_is_taken_back_was_never_given() {
    let (mut bed, members) = Bed::with_idle(2, |settings| settings.max = 2);
    bed.pass(10 * S);
    let first = bed.lease();
    bed.release(first);
    let second = bed.lease();
    assert_eq!(second.member(), first.member(), "the one used last");
    bed.pool.take_back(second, bed.now);
    bed.pool.take_back(second, bed.now);
    let stats = bed.pool.stats();
    assert_eq!((stats.acquired, stats.reused, stats.evicted(Eviction::Lost)), (1, 0, 1));
    assert_eq!(stats.members_in(MemberState::Closing), 1, "its socket lingers");
    assert_eq!(bed.actions(), [], "and keeps its place");
    let third = bed.lease();
    assert!(third != first && third != second && members.contains(&third.member()));
    bed.pool.handle_closed(second.member(), End::Wanted, bed.now);
    assert!(matches!(bed.actions()[..], [Action::Open { .. }]));
}

#[test]
fn a_jitter_beyond_the_age_counts_as_half_of_it() {
    let (mut bed, _) = Bed::with_idle(1, |settings| {
        (settings.age_max, settings.age_jitter) = (10 * S, 360 * S);
        settings.stale_after = Duration::MAX;
    });
    assert_eq!(bed.pass(5 * S - MS), []);
    assert_eq!(bed.pass(5 * S + 2 * MS).len(), 2, "closed, and dialled again");
}

#[test]
fn a_pool_at_its_largest_does_not_shrink_before_the_load_has_gone_for_long() {
    let (mut bed, _) = Bed::with_idle(3, |settings| settings.max = 4);
    for _ in 0..100 {
        bed.pool.set_load(0.9, bed.now);
        bed.pass(10 * S);
        bed.open_all();
        bed.pool.set_load(0.1, bed.now);
        assert_eq!(bed.pool.stats().desired, 4);
    }
}
