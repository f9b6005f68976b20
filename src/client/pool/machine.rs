//! The pool as a machine without sockets and clocks: who gets which connection.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::action::{
    Acquired, Action, Eviction, Lease, LeaseTicket, MemberKey, Outcome, PoolError, Site,
};
use super::affinity::Homes;
use super::chain::{Chain, Linked, Links};
use super::endpoints::{Endpoint, Redial, Select};
use super::member::{Member, MemberState};
use super::settings::PoolSettings;
use super::stats::PoolStats;
use crate::client::balance::EndpointId;
use crate::collections::{Key, Table, TimerKey, Wheel};

/// A pool's decisions. It dials, closes and sends nothing itself, has no clock and no randomness but
/// its seed.
///
/// # Calling order
/// Add endpoints. Acquire and release; tell what becomes of connections by `handle_*`. After any
/// call take all actions from [`Core::poll_action`] and do them in their order; call
/// [`Core::handle_timeout`] at [`Core::poll_timeout`]. Every [`Action::Open`] ends in
/// `handle_opened` or `handle_dial_failed` and every [`Action::Close`] in `handle_closed`, or places
/// of the pool are lost. What is told about a connection that is gone is a miss and does nothing.
///
/// # Who gets which connection
/// The balancer chooses among the endpoints that have a connection which needs no check; at that
/// endpoint the one used last is handed out, so that what is more than enough stays unused and goes
/// stale. Only if all that are free need a check, one of them is asked by a ping, and the waiter
/// gets it after the pong.
///
/// Those who wait are served in their order, by whatever comes free first: a connection that is
/// released, that opens or that answers. So nobody waits for one certain dial.
///
/// A user who comes back gets the connection he was given first, for as long as it lives and is
/// free. If it is in use he gets another one at once, rather than to wait for somebody who may keep
/// it for minutes, and next time the first one again. If it needs a check he waits for that outside
/// the line; should it fail, he is the first in the line.
#[derive(Debug)]
pub(crate) struct Core<B> {
    pub(super) settings: PoolSettings,
    phase: Phase,
    pub(super) balancer: B,
    /// The state of the random numbers.
    random: u64,
    pub(super) members: Table<Member>,
    /// By the index of their name; `None` for one that has left.
    pub(super) endpoints: Vec<Option<Endpoint>>,
    /// The overdue dials, those of the longest standing in front.
    pub(super) overdue: Chain,
    pub(super) waiters: Table<Waiter>,
    /// The waiters in their order, but for those who wait for the check of a certain connection.
    pub(super) line: Chain,
    /// How many connections are checked for a certain waiter.
    pub(super) reserved: u32,
    /// Names the next lease.
    pub(super) next_lease: u64,
    homes: Homes,
    pub(super) timers: Wheel<Timer>,
    pub(super) actions: VecDeque<Action>,
    /// When the number to be kept was changed last.
    pub(super) sized_at: Option<Instant>,
    /// All but [`PoolStats::waiting`] is kept up to date.
    pub(super) stats: PoolStats,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// What comes back is closed.
    ShuttingDown,
}

/// Whose time has come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Timer {
    Member(Key),
    Waiter(Key),
    Endpoint(EndpointId),
}

/// What somebody asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Who comes back to the same connection.
    pub(crate) user: Option<u64>,
    /// How long he waits at most.
    pub(crate) timeout: Duration,
    /// Where in the program he asks.
    pub(crate) site: Site,
}

/// Somebody who waits.
#[derive(Debug)]
pub(super) struct Waiter {
    links: Links,
    pub(super) timer: TimerKey,
    pub(super) since: Instant,
    pub(super) user: Option<u64>,
    pub(super) site: Site,
    pub(super) place: Place,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    InLine,
    /// For the check of this connection.
    For(Key),
}

/// What may be picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freshness {
    /// What needs no check.
    Fresh,
    Any,
}

impl<B: Select> Core<B> {
    /// A pool without endpoints. The settings have been checked; whatever number is a seed.
    pub(crate) fn new(settings: PoolSettings, balancer: B, seed: u64, now: Instant) -> Self {
        let stats = PoolStats { desired: settings.min, ..PoolStats::default() };
        Self {
            phase: Phase::Running,
            balancer,
            random: seed,
            members: Table::new(settings.max, 0),
            endpoints: Vec::new(),
            overdue: Chain::default(),
            waiters: Table::new(settings.waiters_max, 0),
            line: Chain::default(),
            reserved: 0,
            next_lease: 0,
            homes: Homes::new(settings.users_max),
            timers: Wheel::new(now),
            actions: VecDeque::new(),
            sized_at: None,
            stats,
            settings,
        }
    }

    /// A connection now, or a ticket.
    ///
    /// # Errors
    /// [`PoolError::TooManyWaiting`] or [`PoolError::ShutDown`].
    pub(crate) fn acquire(&mut self, wanted: Wanted, now: Instant) -> Result<Acquired, PoolError> {
        if !self.is_running() {
            return Err(PoolError::ShutDown);
        }
        let home = wanted.user.and_then(|user| self.free_home(user));
        if let Some(key) = self.at_once(home, now) {
            return Ok(Acquired::Now(self.lend(key, wanted.user, wanted.site, now)));
        }
        let deadline = later(now, wanted.timeout);
        let Some(ticket) = self.waiters.vacant_key() else {
            self.stats.refused += 1;
            return Err(PoolError::TooManyWaiting);
        };
        let timer = self.start(Timer::Waiter(ticket), deadline, now);
        let Wanted { user, site, .. } = wanted;
        let place = home.map_or(Place::InLine, Place::For);
        let waiter = Waiter { links: Links::default(), timer, since: now, user, site, place };
        // It is not full, or there would be no vacant key.
        let _ = self.waiters.insert(waiter);
        self.stats.waits += 1;
        match home {
            Some(home) => self.begin_check(home, Some(LeaseTicket(ticket)), now),
            None => self.line.push_back(&mut self.waiters, ticket),
        }
        self.settle(now);
        Ok(Acquired::Later(LeaseTicket(ticket)))
    }

    /// A connection if one can be handed out at once. If not, one is made ready in the background,
    /// so that who asks again finds it.
    ///
    /// # Errors
    /// [`PoolError::Exhausted`] or [`PoolError::ShutDown`].
    pub(crate) fn try_acquire(
        &mut self,
        user: Option<u64>,
        site: Site,
        now: Instant,
    ) -> Result<Lease, PoolError> {
        if !self.is_running() {
            return Err(PoolError::ShutDown);
        }
        let home = user.and_then(|user| self.free_home(user));
        let home = home.filter(|key| self.is_fresh(*key, now));
        if let Some(key) = self.at_once(home, now) {
            return Ok(self.lend(key, user, site, now));
        }
        self.supply(1, now);
        Err(PoolError::Exhausted)
    }

    /// Gives the ticket's place up. A miss if its waiting is over already: then its lease or its
    /// error is among the actions, or was.
    pub(crate) fn cancel(&mut self, ticket: LeaseTicket, now: Instant) -> Option<()> {
        let waiter = self.take_waiter(ticket.0)?;
        self.timers.cancel(waiter.timer);
        self.stats.cancelled += 1;
        self.settle(now);
        Some(())
    }

    /// Gives the connection back.
    ///
    /// # Errors
    /// [`PoolError::Revoked`] if the lease is over already.
    pub(crate) fn release(
        &mut self,
        lease: Lease,
        outcome: Outcome,
        now: Instant,
    ) -> Result<(), PoolError> {
        let errors_max = self.settings.errors_max.max(1);
        let member = self.tenant(lease).ok_or(PoolError::Revoked)?;
        let endpoint = member.endpoint;
        member.errors = member.errors.saturating_add(u32::from(outcome == Outcome::Failed));
        let is_worn = member.errors >= errors_max;
        let is_old = now >= member.retire_at;
        match outcome {
            Outcome::Good => self.balancer.handle_success(endpoint, now),
            Outcome::Failed | Outcome::Broken => self.note_failure(endpoint, now),
        }
        let verdict = if outcome == Outcome::Broken {
            Some(Eviction::Broken)
        } else if is_worn {
            Some(Eviction::Errors)
        } else if !self.is_running() {
            Some(Eviction::ShutDown)
        } else if self.endpoint(endpoint).is_none() {
            Some(Eviction::EndpointLeft)
        } else {
            is_old.then_some(Eviction::Aged)
        };
        let key = lease.member.0;
        match verdict {
            Some(reason) => {
                self.close(key, reason, now);
                self.settle(now);
            }
            None => self.offer(key, now),
        }
        Ok(())
    }

    /// The connection of a lease, for as long as that lasts.
    ///
    /// # Errors
    /// [`PoolError::Revoked`] if it is over.
    pub(crate) fn check(&self, lease: Lease) -> Result<MemberKey, PoolError> {
        let member = self.members.get(lease.member.0);
        let tenancy = member.and_then(|member| member.state.tenancy());
        tenancy
            .filter(|tenancy| tenancy.number == lease.number)
            .map(|_| lease.member)
            .ok_or(PoolError::Revoked)
    }

    /// The next action.
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`Core::handle_timeout`] at the latest.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next_deadline()
    }

    /// Has whatever is due by now happen.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.timers.advance(now);
        while let Some((_, timer)) = self.timers.pop_due() {
            match timer {
                Timer::Member(key) => self.handle_member_timeout(key, now),
                Timer::Waiter(key) => self.expire(key, PoolError::Exhausted),
                Timer::Endpoint(id) => {
                    if self.endpoint_mut(id).is_some_and(Endpoint::handle_timeout) {
                        self.balancer.handle_success(id, now);
                    }
                }
            }
        }
        self.settle(now);
    }

    /// What it holds and has done.
    pub(crate) fn stats(&self) -> PoolStats {
        PoolStats { waiting: self.waiters.len() as u32, ..self.stats.clone() }
    }

    /// Whom it asks which endpoint is next.
    pub(crate) const fn balancer(&self) -> &B {
        &self.balancer
    }

    /// The same, to be told and changed.
    pub(crate) fn balancer_mut(&mut self) -> &mut B {
        &mut self.balancer
    }

    /// No more connections are given. Those who wait are told, what is free or on its way is closed,
    /// what is handed out is closed when it comes back.
    pub(crate) fn shut_down(&mut self, now: Instant) {
        self.phase = Phase::ShuttingDown;
        let keys: Vec<Key> = self.members.keys().collect();
        let is_lent = |core: &Self, key| {
            core.members.get(key).is_some_and(|member| member.state.tenancy().is_some())
        };
        for key in keys {
            if !is_lent(self, key) {
                self.close(key, Eviction::ShutDown, now);
            }
        }
        while let Some(key) = self.line.first() {
            if let Some(waiter) = self.waiters.get(key) {
                self.timers.cancel(waiter.timer);
            }
            self.expire(key, PoolError::ShutDown);
        }
        for endpoint in std::mem::take(&mut self.endpoints).into_iter().flatten() {
            self.stop(endpoint.timer);
        }
    }

    /// Whether it was shut down and every connection has ended.
    pub(crate) fn is_finished(&self) -> bool {
        !self.is_running() && self.members.is_empty()
    }

    /// A free connection for somebody who need not wait: his own, or one that is fresh. While somebody
    /// is in the line there is none, so nobody is passed over.
    fn at_once(&mut self, home: Option<Key>, now: Instant) -> Option<Key> {
        match home {
            Some(home) => Some(home).filter(|home| self.is_fresh(*home, now)),
            None => self.pick_free(Freshness::Fresh, now),
        }
    }

    /// The connection that the user had, if it is free.
    fn free_home(&mut self, user: u64) -> Option<Key> {
        let key = self.homes.find(user)?;
        self.members.get(key)?.state.free_since()?;
        Some(key)
    }

    /// The user comes back to this connection, unless he has one that lives.
    pub(super) fn settle_in(&mut self, user: u64, key: Key) {
        let home = self.homes.find(user).and_then(|home| self.members.get(home));
        let lives = home.is_some_and(|member| match member.state.name() {
            MemberState::Broken | MemberState::Closing => false,
            MemberState::Connecting
            | MemberState::Overdue
            | MemberState::Idle
            | MemberState::Stale
            | MemberState::Checking
            | MemberState::Active => true,
        });
        if !lives {
            self.homes.set(user, key);
        }
    }

    /// Whether it is free and needs no check.
    pub(super) fn is_fresh(&self, key: Key, now: Instant) -> bool {
        let since = self.members.get(key).and_then(|member| member.state.free_since());
        since.is_some_and(|since| now.saturating_duration_since(since) <= self.settings.check_after)
    }

    /// The connection that is handed out next, if the line has nothing against it.
    pub(super) fn pick_free(&mut self, freshness: Freshness, now: Instant) -> Option<Key> {
        if self.stats.members_in(MemberState::Idle) + self.stats.members_in(MemberState::Stale) == 0
        {
            return None;
        }
        let random = self.next_random();
        let Self { balancer, endpoints, members, settings, .. } = self;
        // The first one is the freshest.
        let first = |endpoint: &Endpoint| {
            let key = endpoint.free.first()?;
            let since = members.get(key)?.state.free_since()?;
            let is_fresh = now.saturating_duration_since(since) <= settings.check_after;
            (is_fresh || freshness == Freshness::Any).then_some(key)
        };
        let first_at = |id| first(find(endpoints, id)?);
        let picked = balancer.pick(now, random, |id| first_at(id).is_some());
        picked.and_then(first_at).or_else(|| endpoints.iter().flatten().find_map(first))
    }

    /// The endpoint, if it has not left.
    pub(super) fn endpoint(&self, id: EndpointId) -> Option<&Endpoint> {
        find(&self.endpoints, id)
    }

    pub(super) fn endpoint_mut(&mut self, id: EndpointId) -> Option<&mut Endpoint> {
        let slot = self.endpoints.get_mut(id.index())?;
        slot.as_mut().filter(|endpoint| endpoint.id == id)
    }

    pub(super) fn note_failure(&mut self, endpoint: EndpointId, now: Instant) {
        let random = self.next_random();
        self.balancer.handle_failure(endpoint, now, random);
    }

    pub(super) fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }

    pub(super) fn redial(&self) -> Redial {
        Redial { first: self.settings.redial_delay, max: self.settings.redial_delay_max }
    }

    /// The member that this lease is of, while it lasts.
    pub(super) fn tenant(&mut self, lease: Lease) -> Option<&mut Member> {
        let member = self.members.get_mut(lease.member.0)?;
        let is_its = member.state.tenancy().is_some_and(|tenancy| tenancy.number == lease.number);
        is_its.then_some(member)
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): nothing here has to be unpredictable.
    pub(super) fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let word = (self.random ^ (self.random >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }
}

impl Linked for Waiter {
    fn links_mut(&mut self) -> &mut Links {
        &mut self.links
    }
}

/// The endpoint of this name.
pub(super) fn find(endpoints: &[Option<Endpoint>], id: EndpointId) -> Option<&Endpoint> {
    endpoints.get(id.index())?.as_ref().filter(|endpoint| endpoint.id == id)
}

/// `now + by`, or a time that never comes.
pub(super) fn later(now: Instant, by: Duration) -> Instant {
    now.checked_add(by).unwrap_or(now + NEVER)
}

/// 272 years: longer than a timer wheel knows of.
const NEVER: Duration = Duration::from_secs(1 << 33);
