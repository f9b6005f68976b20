//! Which of several endpoints the next connection or request goes to.

mod health;
mod member;

use std::fmt;
use std::num::NonZeroU32;
use std::time::Instant;

pub use health::{Ejection, HealthCheck, Outcome};
pub use member::{EndpointState, EndpointStats};

use crate::collections::{Key, Table};
use crate::limits::ENDPOINTS_MAX;
use health::{Health, Sentence, Trial};
use member::{Member, Membership, Probing};

/// How an endpoint is chosen among those in service.
///
/// What is active at an endpoint is what this balancer has sent there and what has not come back;
/// what other loops and other processes have there is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Balance {
    /// Each in its turn, in the order in which they were added. Weights do not count.
    RoundRobin,
    /// Each as often as its weight says, spread as evenly as that allows: weights 5, 1 and 1 give
    /// a a b a c a a. The smooth algorithm of nginx.
    WeightedRoundRobin,
    /// The one with the least active for its weight; among equals by weighted round robin. An
    /// endpoint that is added gets all that is new until it has as many as the others.
    LeastConnections,
    /// Two at random, and of them the one with the least active for its weight (Mitzenmacher 2001).
    /// The default: each loop has a balancer of its own, and those that choose at random do not
    /// all come to think of the same endpoint, as they do with the least active.
    #[default]
    PowerOfTwoChoices,
}

/// The name of an endpoint in its balancer. It stays the same while others come and go; one that
/// has left is a miss, never another endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EndpointId(pub(in crate::client) Key);

impl EndpointId {
    /// The endpoint's place, below [`ENDPOINTS_MAX`]. Places of those that are gone are used again.
    pub const fn index(self) -> usize {
        self.0.index as usize
    }
}

impl fmt::Debug for EndpointId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.0.index, self.0.generation)
    }
}

/// An endpoint was not added: [`ENDPOINTS_MAX`] are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyEndpoints;

impl fmt::Display for TooManyEndpoints {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "there are {ENDPOINTS_MAX} endpoints already")
    }
}

impl std::error::Error for TooManyEndpoints {}

/// What a balancer wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum BalanceAction {
    /// Find out how this endpoint does and say so by exactly one [`Balancer::handle_probe`].
    Probe(EndpointId),
    /// An endpoint that was removed or drained has nothing out any more. Its name is a miss from
    /// now on; forget what you keep for it.
    Gone(EndpointId),
}

/// Chooses among endpoints. No socket, no clock, no randomness of its own.
///
/// # Calling order
/// [`Balancer::add`] the endpoints, at any time. [`Balancer::pick`] one; tell how it went there by
/// [`Balancer::handle_outcome`]. What is held for a while is told by [`Balancer::handle_acquired`]
/// and, once for each of these, [`Balancer::handle_released`]. After any call
/// take all actions from [`Balancer::poll_action`], and call [`Balancer::handle_timeout`] at
/// [`Balancer::poll_timeout`].
///
/// # What is out
/// An endpoint that is removed while something of it is out is forgotten only when that has come
/// back. If it is added again under its name before, it is the same endpoint, with the same
/// [`EndpointId`], and what is out still counts. So a new configuration, applied by removing and
/// adding, does not send everything to where the old one had sent it already.
#[derive(Debug)]
pub struct Balancer {
    balance: Balance,
    ejection: Option<Ejection>,
    health_check: Option<HealthCheck>,
    members: Table<Member>,
    /// The members in the order in which they came.
    order: Vec<EndpointId>,
    /// What a pick chooses among; kept for its memory.
    open: Vec<EndpointId>,
    /// Whether some member may have an action. So asking costs nothing while there is none.
    actions: Actions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Actions {
    None,
    Maybe,
}

impl Balancer {
    /// A balancer without endpoints. Without an ejection an endpoint stays in service however often
    /// it fails; without a health check nothing is probed.
    pub fn new(
        balance: Balance,
        ejection: Option<Ejection>,
        health_check: Option<HealthCheck>,
    ) -> Self {
        Self {
            balance,
            ejection,
            health_check,
            members: Table::new(ENDPOINTS_MAX, 0),
            order: Vec::new(),
            open: Vec::new(),
            actions: Actions::None,
        }
    }

    /// Adds an endpoint, or changes the weight of the one of this name. One that is draining, or was
    /// removed and is not gone yet, is in service again, whatever was thought of it; what is out
    /// there still counts.
    ///
    /// # Errors
    /// [`TooManyEndpoints`] at [`ENDPOINTS_MAX`], those that are not gone yet included.
    pub fn add(
        &mut self,
        name: &str,
        weight: NonZeroU32,
        now: Instant,
    ) -> Result<EndpointId, TooManyEndpoints> {
        let first_probe = match self.health_check {
            Some(_) => Probing::Due,
            None => Probing::Off,
        };
        self.actions = Actions::Maybe;
        if let Some(id) = self.id_of(name)
            && let Some(member) = self.members.get_mut(id.0)
        {
            let is_new = member.weight != weight;
            member.weight = weight;
            if member.membership != Membership::Member {
                member.rejoin(first_probe, now);
            }
            if is_new {
                self.forget_credits();
            }
            return Ok(id);
        }
        let member = Member::new(name, weight, first_probe, now);
        let id = EndpointId(self.members.insert(member).map_err(|_| TooManyEndpoints)?);
        self.order.push(id);
        Ok(id)
    }

    /// Takes an endpoint out. It is not picked again, and when nothing of it is out any more it is
    /// [gone](BalanceAction::Gone).
    pub fn remove(&mut self, id: EndpointId, now: Instant) {
        self.leave(id, Membership::Removed, now);
    }

    /// The same for an endpoint whose holders keep what they have: the difference shows in
    /// [`EndpointState`] alone.
    pub fn drain(&mut self, id: EndpointId, now: Instant) {
        self.leave(id, Membership::Draining, now);
    }

    fn leave(&mut self, id: EndpointId, membership: Membership, now: Instant) {
        if let Some(member) = self.members.get_mut(id.0)
            && member.membership != Membership::Removed
        {
            member.membership = membership;
            self.actions = Actions::Maybe;
            self.readmit_excess(now);
        }
    }

    /// The endpoint of this name, also while it is draining or removed, but not when it is gone.
    pub fn id_of(&self, name: &str) -> Option<EndpointId> {
        self.members().find(|(_, member)| *member.name == *name).map(|(id, _)| id)
    }

    /// The name of an endpoint that is not gone.
    pub fn name(&self, id: EndpointId) -> Option<&str> {
        self.members.get(id.0).map(|member| &*member.name)
    }

    /// All endpoints that are not gone, in the order in which they were added.
    pub fn endpoints(&self) -> impl Iterator<Item = EndpointId> + '_ {
        self.order.iter().copied()
    }

    /// What is known about an endpoint that is not gone.
    pub fn stats(&self, id: EndpointId) -> Option<EndpointStats> {
        self.members.get(id.0).map(Member::stats)
    }

    /// The endpoint that is next; `None` if none of those in service is a candidate.
    ///
    /// For each of these `is_candidate` says once whether the caller could use it now. The pick is
    /// meant: of an endpoint on trial it is the trial, so its outcome must be told.
    pub fn pick(
        &mut self,
        now: Instant,
        random: u64,
        is_candidate: impl Fn(EndpointId) -> bool,
    ) -> Option<EndpointId> {
        let Self { members, order, open, .. } = self;
        let is_open = |id: &EndpointId| members.get(id.0).is_some_and(Member::is_open);
        open.clear();
        open.extend(order.iter().filter(|id| is_open(id) && is_candidate(**id)));
        let id = match self.balance {
            Balance::RoundRobin => self.turn(|_| 1),
            Balance::WeightedRoundRobin => self.turn(Member::weight),
            Balance::LeastConnections => {
                self.keep_least_loaded();
                self.turn(Member::weight)
            }
            Balance::PowerOfTwoChoices => self.better_of_two(random),
        }?;
        let member = self.members.get_mut(id.0)?;
        member.picks += 1;
        if let Some(ejection) = &self.ejection {
            member.health.handle_pick(now, ejection);
        }
        Some(id)
    }

    /// Smooth round robin among the open: each earns its weight, and the richest pays for all.
    fn turn(&mut self, weight: impl Fn(&Member) -> i64) -> Option<EndpointId> {
        let mut sum = 0;
        let mut richest: Option<(EndpointId, i64)> = None;
        for id in &self.open {
            let member = self.members.get_mut(id.0)?;
            let weight = weight(member);
            sum += weight;
            member.credit += weight;
            if richest.is_none_or(|(_, credit)| member.credit > credit) {
                richest = Some((*id, member.credit));
            }
        }
        let (id, _) = richest?;
        self.members.get_mut(id.0)?.credit -= sum;
        Some(id)
    }

    /// What is earned by one weight cannot be paid by another: who is owed hundreds of turns would
    /// take them in a row.
    fn forget_credits(&mut self) {
        for id in &self.order {
            if let Some(member) = self.members.get_mut(id.0) {
                member.credit = 0;
            }
        }
    }

    fn keep_least_loaded(&mut self) {
        let Self { members, open, .. } = self;
        let loads = || open.iter().filter_map(|id| members.get(id.0)).map(Member::load);
        if let Some(least) = loads().min() {
            open.retain(|id| members.get(id.0).is_some_and(|member| member.load() == least));
        }
    }

    fn better_of_two(&self, random: u64) -> Option<EndpointId> {
        let count = self.open.len() as u64;
        // Half of the random bits for each; the second is drawn from those that are left.
        let below = |bits: u64, bound: u64| ((bits * bound) >> 32) as usize;
        let first = below(random >> 32, count);
        let second = below(random & u64::from(u32::MAX), count.saturating_sub(1));
        let second = second + usize::from(second >= first);
        let first = *self.open.get(first)?;
        let Some(second) = self.open.get(second) else { return Some(first) };
        let load = |id: EndpointId| self.members.get(id.0).map(Member::load);
        Some(if load(*second) < load(first) { *second } else { first })
    }

    /// Something of this endpoint is out from now on.
    pub fn handle_acquired(&mut self, id: EndpointId) {
        if let Some(member) = self.members.get_mut(id.0) {
            member.active += 1;
        }
    }

    /// It has come back, or is no more.
    ///
    /// # Panics
    /// If more is released than was acquired, where assertions are on.
    pub fn handle_released(&mut self, id: EndpointId) {
        if let Some(member) = self.members.get_mut(id.0) {
            debug_assert!(member.active > 0, "what is released was acquired");
            member.active = member.active.saturating_sub(1);
            if member.is_gone() {
                self.actions = Actions::Maybe;
            }
        }
    }

    /// Something that was sent to this endpoint went so.
    pub fn handle_outcome(&mut self, id: EndpointId, outcome: Outcome, now: Instant, random: u64) {
        let Some(member) = self.members.get_mut(id.0) else { return };
        member.failures += u64::from(outcome == Outcome::Failure);
        let Some(ejection) = self.ejection else { return };
        if member.membership != Membership::Member {
            return;
        }
        let sentence = member.health.handle_outcome(outcome, now, &ejection);
        let is_sentenced = match sentence {
            Sentence::Keep => false,
            Sentence::EjectAgain => true,
            Sentence::EjectIfRoom => self.excess_with_one_more(&ejection) == 0,
        };
        if is_sentenced && let Some(member) = self.members.get_mut(id.0) {
            member.ejections += 1;
            member.health.eject(now, random, &ejection);
        }
    }

    /// The probe of this endpoint went so.
    pub fn handle_probe(&mut self, id: EndpointId, outcome: Outcome, now: Instant, random: u64) {
        if let Some(member) = self.members.get_mut(id.0)
            && let Some(check) = &self.health_check
            && member.probing == Probing::UnderWay
        {
            member.probing = Probing::At(check.next(now, random));
            self.handle_outcome(id, outcome, now, random);
        }
    }

    /// The probe of this endpoint could not be made, for a reason of this end's: that says nothing
    /// of the endpoint. One on trial has to wait for the next all the same.
    pub fn handle_probe_unmade(&mut self, id: EndpointId, now: Instant, random: u64) {
        let Some(member) = self.members.get_mut(id.0) else { return };
        if !member.health.is_serving() {
            return self.handle_probe(id, Outcome::Failure, now, random);
        }
        if let Some(check) = &self.health_check
            && member.probing == Probing::UnderWay
        {
            member.probing = Probing::At(check.next(now, random));
        }
    }

    /// What is to be done next.
    pub fn poll_action(&mut self) -> Option<BalanceAction> {
        if self.actions == Actions::None {
            return None;
        }
        for (place, id) in self.order.iter().copied().enumerate() {
            let Some(member) = self.members.get_mut(id.0) else { continue };
            if member.is_gone() {
                self.members.remove(id.0);
                self.order.remove(place);
                return Some(BalanceAction::Gone(id));
            }
            if member.membership == Membership::Member && member.probing == Probing::Due {
                member.probing = Probing::UnderWay;
                return Some(BalanceAction::Probe(id));
            }
        }
        self.actions = Actions::None;
        None
    }

    /// When [`Balancer::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.members().filter_map(|(_, member)| member.timeout()).min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        let trial = match self.health_check {
            Some(_) => Trial::Probe,
            None => Trial::Wanted,
        };
        for id in &self.order {
            let Some(member) = self.members.get_mut(id.0) else { continue };
            if member.timeout().is_none_or(|timeout| timeout > now) {
                continue;
            }
            member.health.begin_trial(trial);
            // A probe from before the ejection is as good as a new one.
            if let Probing::At(_) = member.probing {
                member.probing = Probing::Due;
                self.actions = Actions::Maybe;
            }
        }
    }

    fn members(&self) -> impl Iterator<Item = (EndpointId, &Member)> {
        self.order.iter().filter_map(|id| Some((*id, self.members.get(id.0)?)))
    }

    /// By how many the bound of ejections would be exceeded with one more.
    fn excess_with_one_more(&self, ejection: &Ejection) -> usize {
        let members = || self.members().filter(|(_, m)| m.membership == Membership::Member);
        let ejected = members().filter(|(_, member)| !member.health.is_serving()).count();
        (ejected + 1).saturating_sub(ejection.ejected_max(members().count()))
    }

    /// Brings endpoints back into service while more are out of it than may be.
    fn readmit_excess(&mut self, now: Instant) {
        let Some(ejection) = self.ejection else { return };
        while self.excess_with_one_more(&ejection) > 1 {
            let out = self
                .members()
                .filter(|(_, m)| m.membership == Membership::Member && !m.health.is_serving());
            // On trial it has nothing to wait for, or it waits for a result.
            let Some((id, _)) = out.min_by_key(|(_, member)| match member.health {
                Health::Ejected { until, .. } => Some(until),
                Health::Serving { .. } | Health::OnTrial { .. } => None,
            }) else {
                return;
            };
            if let Some(member) = self.members.get_mut(id.0) {
                member.health.readmit(now);
            }
        }
    }
}

#[cfg(test)]
mod tests;
