//! The pool against a naive model of it, over random operations in a made-up time.
//!
//! The model keeps plain lists and looks through all of them whenever it wants to know something. It
//! says of each action whether that was due, and after each operation whether anything is missing.

use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::Location;
use std::time::{Duration, Instant};

use super::endpoints::{Reach, Select};
use super::machine::find;
use super::tests::{Turns, endpoint};
use super::*;
use crate::client::balance::EndpointId;
use crate::client::cause::End;
use crate::collections::Key;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

const SEEDS: u64 = 10_000;
const OPERATIONS: usize = 60;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn of<T: Copy>(&mut self, values: &[T]) -> Option<T> {
        (!values.is_empty()).then(|| values[self.below(values.len())])
    }
}

/// A connection as its driver sees it.
#[derive(Clone, Copy, Debug)]
struct Seen {
    key: MemberKey,
    endpoint: EndpointId,
    phase: Phase,
    opened_at: Instant,
    retire_at: Instant,
    errors: u32,
    leases: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Dialling {
        since: Instant,
    },
    /// `order` rises with each that becomes free.
    Free {
        since: Instant,
        order: u64,
    },
    Checking {
        since: Instant,
    },
    Lent {
        lease: Lease,
        since: Instant,
        is_reported: bool,
    },
    Closing,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    ticket: LeaseTicket,
    user: Option<u64>,
    since: Instant,
    deadline: Instant,
}

struct World {
    dice: Dice,
    now: Instant,
    settings: PoolSettings,
    pool: Core<Turns>,
    members: Vec<Seen>,
    /// Each that there ever was.
    known: HashSet<MemberKey>,
    gone: Vec<MemberKey>,
    waiting: Vec<Waiting>,
    line: VecDeque<LeaseTicket>,
    reserved: HashMap<LeaseTicket, MemberKey>,
    over: Vec<LeaseTicket>,
    ended: Vec<Lease>,
    homes: HashMap<u64, MemberKey>,
    endpoints: Vec<EndpointId>,
    order: u64,
    is_running: bool,
    /// What the operation allows to be closed for that nothing else does.
    released_broken: Option<MemberKey>,
    expected: PoolStats,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let max = 1 + dice.below(6) as u32;
        let (leak_after, revoke_after) = dice.of(&[(30 * S, 300 * S), (2 * S, 5 * S)]).unwrap();
        let settings = PoolSettings {
            min: dice.below(max as usize + 1) as u32,
            max,
            waiters_max: 1 + dice.below(8) as u32,
            check_after: dice.of(&[Duration::ZERO, 3 * S, 30 * S, Duration::MAX]).unwrap(),
            stale_after: dice.of(&[4 * S, 300 * S]).unwrap(),
            age_max: dice.of(&[20 * S, 1000 * S, Duration::MAX]).unwrap(),
            age_jitter: Duration::ZERO,
            errors_max: 1 + dice.below(3) as u32,
            dials_max: 1 + dice.below(4) as u32,
            stable_after: dice.of(&[Duration::ZERO, S, 10 * S, 300 * S]).unwrap(),
            leak_after,
            revoke_after,
            sizing: Sizing { grow_cooldown: S, shrink_cooldown: 2 * S, ..Sizing::default() },
            ..PoolSettings::default()
        };
        let now = Instant::now();
        let balancer = Turns::default();
        let pool = Core::new(settings.clone(), balancer, dice.next(), now);
        let expected = PoolStats::default();
        let mut world = Self {
            dice,
            now,
            settings,
            pool,
            members: Vec::new(),
            known: HashSet::new(),
            gone: Vec::new(),
            waiting: Vec::new(),
            line: VecDeque::new(),
            reserved: HashMap::new(),
            over: Vec::new(),
            ended: Vec::new(),
            homes: HashMap::new(),
            endpoints: Vec::new(),
            order: 0,
            is_running: true,
            released_broken: None,
            expected,
        };
        (0..1 + world.dice.below(3) as u32).for_each(|index| world.add_endpoint(endpoint(index)));
        world
    }

    fn member(&mut self, key: MemberKey) -> &mut Seen {
        self.members.iter_mut().find(|seen| seen.key == key).expect("a known connection")
    }

    /// Those in the phase that `is` says.
    fn keys(&self, is: impl Fn(&Phase) -> bool) -> Vec<MemberKey> {
        self.members.iter().filter(|seen| is(&seen.phase)).map(|seen| seen.key).collect()
    }

    fn leases(&self) -> Vec<Lease> {
        let lease = |seen: &Seen| match seen.phase {
            Phase::Lent { lease, .. } => Some(lease),
            _ => None,
        };
        self.members.iter().filter_map(lease).collect()
    }

    fn free(&mut self, key: MemberKey) {
        self.order += 1;
        let (since, order) = (self.now, self.order);
        self.member(key).phase = Phase::Free { since, order };
    }

    fn is_fresh(&self, seen: &Seen) -> bool {
        matches!(seen.phase, Phase::Free { since, .. }
            if self.now - since <= self.settings.check_after)
    }

    /// The one that was used last of those that are free at this endpoint.
    fn last_used(&self, id: EndpointId) -> Option<&Seen> {
        let order = |seen: &&Seen| match seen.phase {
            Phase::Free { order, .. } => Some(order),
            _ => None,
        };
        let here = self.members.iter().filter(|seen| seen.endpoint == id);
        here.filter(|seen| order(seen).is_some()).max_by_key(order)
    }

    fn home(&self, user: Option<u64>) -> Option<&Seen> {
        let home = self.homes.get(&user?)?;
        self.members.iter().find(|seen| seen.key == *home)
    }

    fn free_home(&self, user: Option<u64>) -> Option<&Seen> {
        self.home(user).filter(|seen| matches!(seen.phase, Phase::Free { .. }))
    }

    /// Which connection is handed out at once, if any.
    fn choice(&self, user: Option<u64>, home: Option<&Seen>) -> Option<MemberKey> {
        if let Some(home) = home.filter(|_| user.is_some()) {
            return Some(home.key).filter(|_| self.is_fresh(home));
        }
        let fresh = |id| self.last_used(id).filter(|seen| self.is_fresh(seen));
        let mut balancer = self.pool.balancer.clone();
        let picked = balancer.pick(self.now, 0, |id| fresh(id).is_some());
        let mut rest = self.endpoints.clone();
        rest.sort_by_key(|id| id.index());
        let picked = picked.or_else(|| rest.into_iter().find(|id| fresh(*id).is_some()));
        picked.and_then(fresh).map(|seen| seen.key)
    }

    /// Somebody got a connection.
    fn lend(&mut self, lease: Lease, user: Option<u64>) {
        let (since, errors_max) = (self.now, self.settings.errors_max);
        let seen = self.member(lease.member());
        assert!(matches!(seen.phase, Phase::Free { .. }), "handed out twice: {seen:?}");
        seen.phase = Phase::Lent { lease, since, is_reported: false };
        let is_reused = seen.leases > 0;
        seen.leases += 1;
        assert!(!self.ended.contains(&lease), "a lease is given once");
        self.expected.acquired += 1;
        self.expected.reused += u64::from(is_reused);
        let lives = self.home(user).is_some_and(|seen| match seen.phase {
            Phase::Closing => false,
            Phase::Lent { .. } => seen.errors < errors_max,
            _ => true,
        });
        if let Some(user) = user.filter(|_| !lives) {
            self.homes.insert(user, lease.member());
        }
    }

    fn acquire(&mut self) {
        let user = self.dice.of(&[None, None, Some(1), Some(2)]).unwrap();
        let home = self.free_home(user).copied();
        let choice = self.choice(user, home.as_ref());
        let timeout = self.dice.of(&[Duration::ZERO, 100 * MS, S, 10 * S, 100 * S]).unwrap();
        let wanted = Wanted { user, timeout, site: Location::caller() };
        match self.pool.acquire(wanted, self.now) {
            Ok(Acquired::Now(lease)) => {
                assert_eq!(Some(lease.member()), choice);
                self.lend(lease, user);
            }
            Ok(Acquired::Later(ticket)) => {
                assert_eq!(choice, None, "what is free is handed out");
                assert!(self.waiting.iter().all(|waiting| waiting.ticket != ticket));
                assert!(!self.over.contains(&ticket), "a ticket is given once");
                // A time of nothing ends with the next tick.
                let deadline = self.now + timeout.max(MS);
                self.waiting.push(Waiting { ticket, user, since: self.now, deadline });
                match home {
                    Some(home) => drop(self.reserved.insert(ticket, home.key)),
                    None => self.line.push_back(ticket),
                }
                self.expected.waits += 1;
            }
            Err(PoolError::TooManyWaiting) => {
                assert_eq!(self.waiting.len(), self.settings.waiters_max as usize);
                self.expected.refused += 1;
            }
            Err(error) => assert!(!self.is_running && error == PoolError::ShutDown, "{error}"),
        }
    }

    fn try_acquire(&mut self) {
        let user = self.dice.of(&[None, Some(1)]).unwrap();
        let home = self.free_home(user).filter(|home| self.is_fresh(home)).copied();
        let choice = self.choice(user, home.as_ref());
        match self.pool.try_acquire(user, Location::caller(), self.now) {
            Ok(lease) => {
                assert_eq!(Some(lease.member()), choice);
                self.lend(lease, user);
            }
            Err(PoolError::Exhausted) => assert_eq!(choice, None),
            Err(error) => assert!(!self.is_running && error == PoolError::ShutDown, "{error}"),
        }
    }

    fn release(&mut self, lease: Lease, outcome: Outcome) {
        self.pool.release(lease, outcome, self.now).unwrap();
        assert_eq!(self.pool.check(lease), Err(PoolError::Revoked));
        self.ended.push(lease);
        self.member(lease.member()).errors += u32::from(outcome == Outcome::Failed);
        self.free(lease.member());
        self.released_broken = (outcome == Outcome::Broken).then_some(lease.member());
    }

    fn cancel(&mut self) {
        let tickets: Vec<_> = self.waiting.iter().map(|waiting| waiting.ticket).collect();
        if let Some(ticket) = self.dice.of(&tickets) {
            self.pool.cancel(ticket, self.now).unwrap();
            self.leave(ticket);
            self.expected.cancelled += 1;
        }
        if let Some(ticket) = self.dice.of(&self.over) {
            assert_eq!(self.pool.cancel(ticket, self.now), None);
        }
    }

    /// The waiting of this ticket is over.
    fn leave(&mut self, ticket: LeaseTicket) -> Waiting {
        let at = self.waiting.iter().position(|waiting| waiting.ticket == ticket);
        self.line.retain(|other| *other != ticket);
        self.reserved.remove(&ticket);
        self.over.push(ticket);
        self.waiting.remove(at.expect("a ticket ends once"))
    }

    fn finish_dial(&mut self) {
        let dialling = self.keys(|phase| matches!(phase, Phase::Dialling { .. }));
        let Some(key) = self.dice.of(&dialling) else { return };
        match self.dice.below(4) {
            0 => self.fail_dial(key),
            _ => {
                self.pool.handle_opened(key, self.now);
                let far = Duration::from_secs(1 << 33);
                let retire_at = self.now.checked_add(self.settings.age_max);
                let now = self.now;
                self.member(key).opened_at = now;
                self.member(key).retire_at = retire_at.unwrap_or(now + far);
                self.free(key);
                self.expected.opened += 1;
            }
        }
    }

    fn fail_dial(&mut self, key: MemberKey) {
        let failures = self.pool.balancer.failures;
        let how = self.dice.below(3);
        match how {
            0 => self.pool.handle_dial_failed(key, self.now),
            1 => self.pool.handle_no_room(key, self.now),
            _ => assert_eq!(self.pool.handle_closed(key, End::Failed, self.now), None),
        }
        assert_eq!(self.pool.balancer.failures, failures + u32::from(how != 1));
        self.forget(key);
        self.expected.dials_failed += 1;
    }

    fn forget(&mut self, key: MemberKey) {
        self.members.retain(|seen| seen.key != key);
        self.gone.push(key);
    }

    /// Any connection that was not told to close ends.
    fn lose(&mut self) {
        let open = self.keys(|phase| *phase != Phase::Closing);
        let Some(key) = self.dice.of(&open) else { return };
        let seen = *self.member(key);
        if let Phase::Dialling { .. } = seen.phase {
            return self.fail_dial(key);
        }
        let ended = match seen.phase {
            Phase::Lent { lease, .. } => Some(lease),
            _ => None,
        };
        self.ended.extend(ended);
        let end = self.dice.of(&[End::Wanted, End::Parted, End::Failed]).unwrap();
        let (reach, failures) = (self.reach(seen.endpoint), self.pool.balancer.failures);
        if self.dice.below(2) == 0 {
            assert_eq!(self.pool.handle_lost(key, end, self.now), ended);
            // Its socket lingers.
            self.member(key).phase = Phase::Closing;
            self.unreserve(key);
        } else {
            assert_eq!(self.pool.handle_closed(key, end, self.now), ended);
            self.unreserve(key);
            self.forget(key);
        }
        self.expected.evictions[Eviction::Lost as usize] += 1;
        let is_early = self.now - seen.opened_at < self.settings.stable_after;
        let is_blamed = end == End::Failed || end == End::Parted && is_early;
        assert_eq!(self.pool.balancer.failures, failures + u32::from(is_blamed));
        match self.reach(seen.endpoint) {
            Some(Reach::Failing { retry_at }) if is_blamed && is_early => {
                assert!(retry_at > self.now);
            }
            after => assert!(after.is_none() || !(is_blamed && is_early) && after == reach),
        }
    }

    fn reach(&self, id: EndpointId) -> Option<Reach> {
        find(&self.pool.endpoints, id).map(|endpoint| endpoint.reach)
    }

    /// Who waits for this connection is first in the line.
    fn unreserve(&mut self, key: MemberKey) {
        let ticket = self.reserved.iter().find(|(_, member)| **member == key);
        if let Some(ticket) = ticket.map(|(ticket, _)| *ticket) {
            self.reserved.remove(&ticket);
            self.line.push_front(ticket);
        }
    }

    fn answer(&mut self) {
        let checked = self.keys(|phase| matches!(phase, Phase::Checking { .. }));
        if let Some(key) = self.dice.of(&checked) {
            self.pool.handle_pong(key, self.now);
            self.free(key);
        }
    }

    fn finish_close(&mut self) {
        let closing = self.keys(|phase| *phase == Phase::Closing);
        let Some(key) = self.dice.of(&closing) else { return };
        match self.dice.below(2) {
            0 => assert_eq!(self.pool.handle_closed(key, End::Parted, self.now), None),
            // The dial was given up.
            _ => self.pool.handle_dial_failed(key, self.now),
        }
        self.forget(key);
    }

    fn err(&mut self) {
        let all = self.keys(|_| true);
        if let Some(key) = self.dice.of(&all) {
            self.pool.handle_error(key, self.now);
            let seen = self.member(key);
            if !matches!(seen.phase, Phase::Dialling { .. } | Phase::Closing) {
                seen.errors += 1;
            }
        }
    }

    /// What is told of a connection or a lease that is gone, or at the wrong time, does nothing.
    fn say_what_is_late(&mut self) {
        let now = self.now;
        let late = self.dice.of(&self.gone);
        let untimely = self.keys(|phase| !matches!(phase, Phase::Checking { .. }));
        let open = self.keys(|phase| !matches!(phase, Phase::Dialling { .. }));
        if let Some(key) = late {
            self.pool.handle_error(key, now);
            self.pool.handle_dial_failed(key, now);
            assert_eq!(self.pool.handle_closed(key, End::Failed, now), None);
        }
        late.into_iter().chain(self.dice.of(&untimely)).for_each(|key| {
            self.pool.handle_pong(key, now);
        });
        late.into_iter().chain(self.dice.of(&open)).for_each(|key| {
            self.pool.handle_opened(key, now);
        });
        if let Some(lease) = self.dice.of(&self.ended) {
            assert_eq!(self.pool.check(lease), Err(PoolError::Revoked));
            let released = self.pool.release(lease, Outcome::Broken, now);
            assert_eq!(released, Err(PoolError::Revoked));
        }
        assert_eq!(self.pool.poll_action(), None);
    }

    fn add_endpoint(&mut self, id: EndpointId) {
        self.endpoints.push(id);
        self.pool.balancer.order.push(id);
        self.pool.add_endpoint(id, self.now);
    }

    fn change_endpoints(&mut self) {
        let at = self.dice.below(3);
        if let Some(place) = self.endpoints.iter().position(|id| id.index() == at) {
            let id = self.endpoints.remove(place);
            self.pool.balancer.order.retain(|other| *other != id);
            match self.dice.below(2) {
                0 => self.pool.drain_endpoint(id, self.now),
                _ => self.pool.remove_endpoint(id, self.now),
            }
        } else {
            let generation = 1 + self.dice.below(2) as u32;
            self.add_endpoint(EndpointId(Key { index: at as u32, generation }));
        }
        self.pool.balancer.refused = match self.dice.below(2) {
            0 => self.dice.of(&self.endpoints).into_iter().collect(),
            _ => Vec::new(),
        };
    }

    fn shut_down(&mut self) {
        self.is_running = false;
        self.pool.shut_down(self.now);
    }

    fn operate(&mut self) {
        match self.dice.below(64) {
            0..12 => self.acquire(),
            12..15 => self.try_acquire(),
            15..24 => {
                let outcome = [Outcome::Good, Outcome::Good, Outcome::Failed, Outcome::Broken];
                let outcome = self.dice.of(&outcome).unwrap();
                let lease = self.dice.of(&self.leases());
                lease.into_iter().for_each(|lease| self.release(lease, outcome));
            }
            24..26 => self.cancel(),
            26..36 => self.finish_dial(),
            36..40 => self.answer(),
            40..44 => self.finish_close(),
            44 => self.lose(),
            45 => self.err(),
            46..48 => self.say_what_is_late(),
            48..52 => {
                let load = self.dice.of(&[0.0, 0.2, 0.5, 0.9, 1.0, f64::NAN]).unwrap();
                self.pool.set_load(load, self.now);
            }
            52 => self.change_endpoints(),
            53 if self.dice.below(8) == 0 => self.shut_down(),
            _ => {
                let by = [MS, 100 * MS, S, S, 3 * S, 10 * S, 31 * S, 301 * S];
                let by = self.dice.of(&by).unwrap();
                self.pass(by);
            }
        }
        self.act();
        self.check();
    }

    fn pass(&mut self, by: Duration) {
        let end = self.now + by;
        while let Some(at) = self.pool.poll_timeout().filter(|at| *at <= end) {
            assert!(at > self.now, "a timer in the past");
            self.now = at;
            self.pool.handle_timeout(at);
            self.act();
            self.check();
        }
        self.now = end;
    }

    fn act(&mut self) {
        while let Some(action) = self.pool.poll_action() {
            match action {
                Action::Open { member, endpoint } => self.judge_open(member, endpoint),
                Action::Close { member, reason } => self.judge_close(member, reason),
                Action::Ping { member } => {
                    let since = self.now;
                    let seen = *self.member(member);
                    assert!(matches!(seen.phase, Phase::Free { .. }), "{seen:?}");
                    assert!(!self.is_fresh(&seen), "no check without need");
                    self.member(member).phase = Phase::Checking { since };
                }
                Action::Grant { ticket, lease } => self.judge_grant(ticket, lease),
                Action::Expire { ticket, error } => {
                    let Waiting { deadline, .. } = self.leave(ticket);
                    match error {
                        PoolError::Exhausted => assert_eq!(deadline, self.now),
                        error => assert!(!self.is_running && error == PoolError::ShutDown),
                    }
                    self.expected.expired += 1;
                }
                Action::Leak(Leak { lease, held_for, endpoint, .. }) => {
                    assert_eq!(held_for, self.settings.leak_after);
                    let seen = self.member(lease.member());
                    assert_eq!(endpoint, seen.endpoint);
                    let Phase::Lent { lease: held, is_reported, .. } = &mut seen.phase else {
                        panic!("{seen:?}")
                    };
                    assert_eq!(*held, lease);
                    assert!(!std::mem::replace(is_reported, true), "reported once");
                    self.expected.leaks += 1;
                }
                Action::Revoked(Leak { lease, held_for, endpoint, .. }) => {
                    let seen = *self.member(lease.member());
                    assert_eq!(endpoint, seen.endpoint);
                    let has_left = !self.endpoints.contains(&seen.endpoint);
                    assert!(held_for == self.settings.revoke_after || has_left);
                    assert!(matches!(seen.phase, Phase::Lent { lease: held, .. } if held == lease));
                    self.ended.push(lease);
                    let phase = Phase::Free { since: self.now, order: 0 };
                    self.member(lease.member()).phase = phase;
                }
            }
        }
        self.released_broken = None;
    }

    fn judge_open(&mut self, key: MemberKey, id: EndpointId) {
        assert!(self.known.insert(key), "a name is given once");
        assert!(self.is_running && self.endpoints.contains(&id), "it leads somewhere");
        assert!(self.may_be_dialled(id), "it is to be left alone");
        let phase = Phase::Dialling { since: self.now };
        let (endpoint, opened_at, retire_at) = (id, self.now, self.now);
        let seen = Seen { key, endpoint, phase, opened_at, retire_at, errors: 0, leases: 0 };
        self.members.push(seen);
        assert!(self.members.len() <= self.settings.max as usize, "never above max");
    }

    fn judge_close(&mut self, key: MemberKey, reason: Eviction) {
        let seen = *self.member(key);
        assert_ne!(seen.phase, Phase::Closing, "closed once");
        let settings = &self.settings;
        let free_for = match seen.phase {
            Phase::Free { since, .. } => Some(self.now - since),
            _ => None,
        };
        let oldest = self.members.iter().filter_map(|seen| match seen.phase {
            Phase::Free { since, .. } => Some(self.now - since),
            _ => None,
        });
        let is_oldest = free_for == oldest.max();
        let is_due = match reason {
            Eviction::Stale => free_for.is_some_and(|by| by >= settings.stale_after) && is_oldest,
            Eviction::Shrunk => free_for.is_some() && is_oldest,
            Eviction::Aged => free_for.is_some() && self.now >= seen.retire_at,
            Eviction::Errors => seen.errors >= settings.errors_max,
            Eviction::Broken => self.released_broken == Some(key),
            Eviction::NoPong => {
                let until = self.now - settings.pong_timeout;
                seen.phase == Phase::Checking { since: until }
            }
            Eviction::Revoked => self.ended.last().is_some_and(|lease| lease.member() == key),
            Eviction::EndpointLeft => !self.endpoints.contains(&seen.endpoint),
            Eviction::Overdue => {
                self.is_overdue(&seen) && self.members.len() == settings.max as usize
            }
            Eviction::ShutDown => !self.is_running,
            Eviction::Lost => false,
        };
        assert!(is_due, "{reason:?}: {seen:?}");
        assert!(!matches!(seen.phase, Phase::Lent { .. }), "who has it is told first");
        self.member(key).phase = Phase::Closing;
        self.unreserve(key);
        self.expected.evictions[reason as usize] += 1;
    }

    fn judge_grant(&mut self, ticket: LeaseTicket, lease: Lease) {
        let reserved = self.reserved.get(&ticket).copied();
        let is_its = reserved == Some(lease.member());
        assert!(is_its || self.line.front() == Some(&ticket), "in their order");
        let seen = *self.member(lease.member());
        assert!(self.is_fresh(&seen), "checked first: {seen:?}");
        let waiting = self.leave(ticket);
        assert!(waiting.since <= self.now && waiting.deadline > self.now);
        self.expected.wait_time.record(self.now - waiting.since);
        self.lend(lease, waiting.user);
    }

    fn is_overdue(&self, seen: &Seen) -> bool {
        matches!(seen.phase, Phase::Dialling { since }
            if self.now - since >= self.settings.dial_patience)
    }

    fn state(&self, seen: &Seen) -> MemberState {
        match seen.phase {
            Phase::Dialling { .. } if self.is_overdue(seen) => MemberState::Overdue,
            Phase::Dialling { .. } => MemberState::Connecting,
            Phase::Free { since, .. } if self.now - since >= self.settings.stale_after => {
                MemberState::Stale
            }
            Phase::Free { .. } => MemberState::Idle,
            Phase::Checking { .. } => MemberState::Checking,
            Phase::Lent { .. } if seen.errors >= self.settings.errors_max => MemberState::Broken,
            Phase::Lent { .. } => MemberState::Active,
            Phase::Closing => MemberState::Closing,
        }
    }

    /// Whether another connection to this endpoint may be dialled. How long it is left alone is the
    /// pool's to say.
    fn may_be_dialled(&self, id: EndpointId) -> bool {
        let here = || self.members.iter().filter(|seen| seen.endpoint == id);
        let dialling = here().filter(|seen| matches!(seen.phase, Phase::Dialling { .. })).count();
        let is_hanging = here().any(|seen| self.is_overdue(seen));
        let known = find(&self.pool.endpoints, id).expect("it has not left");
        !is_hanging
            && match known.reach {
                Reach::Unproven => dialling == 0,
                Reach::Reached => dialling < self.settings.dials_max as usize,
                Reach::Failing { retry_at, .. } => dialling == 0 && retry_at <= self.now,
            }
    }

    /// What holds after every operation.
    fn check(&self) {
        let stats = self.pool.stats();
        let states: Vec<_> = self.members.iter().map(|seen| self.state(seen)).collect();
        let count = |state| states.iter().filter(|other| **other == state).count() as u32;
        for state in MemberState::ALL {
            assert_eq!(stats.members_in(state), count(state), "{state:?}: {:?}", self.members);
        }
        assert_eq!(stats.size() as usize, self.members.len());
        assert_eq!(stats.waiting as usize, self.waiting.len());
        let counted = |stats: &PoolStats| {
            let PoolStats { acquired, reused, waits, expired, cancelled, refused, .. } = *stats;
            let PoolStats { opened, dials_failed, leaks, evictions, .. } = *stats;
            let tickets = [waits, expired, cancelled, refused];
            ([acquired, reused, opened, dials_failed, leaks], tickets, evictions)
        };
        assert_eq!(counted(&stats), counted(&self.expected));
        assert_eq!(stats.wait_time, self.expected.wait_time);
        assert!((self.settings.min..=self.settings.max).contains(&stats.desired));

        // Nothing is late, and nobody is called for nothing.
        assert!(self.waiting.iter().all(|waiting| waiting.deadline > self.now));
        for seen in &self.members {
            match seen.phase {
                Phase::Lent { lease, since, is_reported } => {
                    let held_for = self.now - since;
                    assert_eq!(is_reported, held_for >= self.settings.leak_after);
                    assert!(held_for < self.settings.revoke_after);
                    assert_eq!(self.pool.check(lease), Ok(seen.key));
                }
                // What was checked for nothing may be too old already; that is seen with the next
                // tick.
                Phase::Free { since, .. } => {
                    assert!(self.now < seen.retire_at || since == self.now);
                }
                Phase::Checking { since } => assert!(self.now < since + self.settings.pong_timeout),
                Phase::Dialling { .. } | Phase::Closing => {}
            }
        }
        assert!(self.pool.poll_timeout().is_none_or(|at| at > self.now), "a timer in the past");
        self.check_supply(&stats);
        self.check_balancer();
    }

    /// Nobody waits for what there could be, and nothing stands by that is too much.
    fn check_supply(&self, stats: &PoolStats) {
        let count = |state| stats.members_in(state) as usize;
        if !self.is_running {
            assert!(self.waiting.is_empty());
            assert_eq!(count(MemberState::Idle) + count(MemberState::Stale), 0);
            return;
        }
        let checked_for_the_line = count(MemberState::Checking) - self.reserved.len();
        let coming = count(MemberState::Connecting) + checked_for_the_line;
        let missing = self.line.len().saturating_sub(coming);
        let is_full = self.members.len() == self.settings.max as usize;
        let could_dial = self.endpoints.iter().any(|id| self.may_be_dialled(*id));
        if missing > 0 {
            assert_eq!(count(MemberState::Idle) + count(MemberState::Stale), 0, "one is free");
            assert!(is_full || !could_dial, "one could be dialled");
            let hanging = count(MemberState::Overdue);
            assert!(
                !could_dial || hanging == 0 || missing <= count(MemberState::Closing),
                "a dead endpoint holds the place of a living one"
            );
        }
        if !self.line.is_empty() {
            let fresh = self.members.iter().find(|seen| self.is_fresh(seen));
            assert!(fresh.is_none(), "one could be handed out: {fresh:?}");
        }
        let living = self.members.len() - count(MemberState::Closing);
        let desired = stats.desired as usize;
        assert!(living >= desired || is_full || !could_dial, "too few: {living} of {desired}");
        assert!(living <= desired || count(MemberState::Stale) == 0, "too many: {living}");
    }

    /// What is begun at an endpoint is told to the balancer, and that it is over.
    fn check_balancer(&self) {
        for (id, active) in &self.pool.balancer.active {
            let here = self.members.iter().filter(|seen| seen.endpoint == *id);
            let busy =
                here.filter(|s| matches!(s.phase, Phase::Dialling { .. } | Phase::Lent { .. }));
            assert_eq!(*active, busy.count() as i64);
        }
    }

    /// Everything comes to its end, and nothing is left.
    fn finish(&mut self) {
        self.shut_down();
        self.act();
        self.check();
        for lease in self.leases() {
            self.release(lease, Outcome::Good);
            self.act();
        }
        assert!(self.keys(|phase| *phase != Phase::Closing).is_empty());
        while !self.members.is_empty() {
            assert!(!self.pool.is_finished());
            self.finish_close();
        }
        self.check();
        assert!(self.pool.is_finished());
        assert_eq!(self.pool.poll_timeout(), None, "a timer is left");
        let stats = self.pool.stats();
        assert_eq!(stats.acquired as usize, self.ended.len(), "each lease ends once");
        assert_eq!(stats.waits as usize, self.over.len(), "each ticket ends once");
        let evicted: u64 = stats.evictions.iter().sum();
        assert_eq!((stats.dials_failed + evicted) as usize, self.known.len(), "none is lost");
    }
}

#[test]
fn the_pool_equals_its_model() {
    let mut done = [0_u64; 3];
    let mut evictions = [0_u64; Eviction::ALL.len()];
    for seed in 0..SEEDS {
        let run = std::panic::AssertUnwindSafe(|| {
            let mut world = World::new(seed);
            world.act();
            world.check();
            (0..OPERATIONS).for_each(|_| world.operate());
            world.finish();
            world.expected
        });
        let stats = std::panic::catch_unwind(run).unwrap_or_else(|panic| {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic)
        });
        let seen = [stats.acquired, stats.waits, stats.leaks];
        done.iter_mut().zip(seen).for_each(|(sum, seen)| *sum += seen);
        evictions.iter_mut().zip(stats.evictions).for_each(|(sum, seen)| *sum += seen);
    }
    // It would prove nothing if nothing happened.
    assert!(done.iter().all(|sum| *sum > SEEDS), "{done:?}");
    assert!(evictions.iter().all(|sum| *sum > SEEDS / 100), "{evictions:?}");
}
