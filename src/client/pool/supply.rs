//! How many connections there are, and where they lead.

use std::time::Instant;

use super::action::{Action, Eviction, MemberKey};
use super::chain::Links;
use super::endpoints::{Endpoint, Select};
use super::machine::{Core, Freshness, find, later};
use super::member::{Member, MemberState, State};
use crate::client::balance::EndpointId;
use crate::collections::Key;

impl<B: Select> Core<B> {
    /// Connections may be dialled there from now on, again if it was drained. Its balancer knows it
    /// already.
    pub(crate) fn add_endpoint(&mut self, id: EndpointId, now: Instant) {
        if self.is_running() && self.endpoint(id).is_none() {
            if self.endpoints.len() <= id.index() {
                self.endpoints.resize_with(id.index() + 1, || None);
            }
            self.endpoints[id.index()] = Some(Endpoint::new(id));
        }
        self.settle(now);
    }

    /// Nothing new goes there. What is free or on its way is closed, what is handed out is closed
    /// when it comes back.
    pub(crate) fn drain_endpoint(&mut self, id: EndpointId, now: Instant) {
        for key in self.members_at(id) {
            let member = self.members.get(key);
            if member.is_some_and(|member| member.state.tenancy().is_none()) {
                self.close(key, Eviction::EndpointLeft, now);
            }
        }
        self.drop_endpoint(id);
        self.settle(now);
    }

    /// Nothing goes there any more. What is handed out is revoked.
    pub(crate) fn remove_endpoint(&mut self, id: EndpointId, now: Instant) {
        for key in self.members_at(id) {
            self.revoke(key, Eviction::EndpointLeft, now);
        }
        self.drop_endpoint(id);
        self.settle(now);
    }

    /// The load of who uses the pool, between 0 and 1; tell it every second or so. See
    /// [`Sizing`](super::Sizing) for what comes of it.
    pub(crate) fn set_load(&mut self, score: f64, now: Instant) {
        let sizing = self.settings.sizing;
        let rest = match self.sized_at {
            _ if score > sizing.grow_above => sizing.grow_cooldown,
            _ if score < sizing.shrink_below => sizing.shrink_cooldown,
            _ => return,
        };
        let desired = self.stats.desired;
        if score > sizing.grow_above && desired == self.settings.max {
            // Though there is no step to take: the load that would be one has not gone.
            self.sized_at = Some(now);
            return;
        }
        let rests_until = self.sized_at.map(|sized_at| later(sized_at, rest));
        let next = if rests_until.is_some_and(|until| now < until) {
            desired
        } else if score > sizing.grow_above {
            let base = desired.max(self.lent());
            base.saturating_add((base / 4).max(1)).min(self.settings.max)
        } else {
            (desired - (desired / 8).max(1).min(desired)).max(self.settings.min)
        };
        if next == desired {
            return;
        }
        self.keep(next, desired.saturating_sub(next), now);
    }

    /// Keeps no more than the least number, at once: what is free beyond that is closed.
    pub(crate) fn shrink(&mut self, now: Instant) {
        self.keep(self.settings.min, u32::MAX, now);
    }

    /// Keeps so many from now on. Of those that are free and too many, at most `closes_max` are
    /// closed, those not used for longest.
    fn keep(&mut self, desired: u32, closes_max: u32, now: Instant) {
        self.sized_at = Some(now);
        self.stats.desired = desired;
        for _ in 0..closes_max {
            match self.least_recent() {
                Some((_, key)) if self.living() > desired => self.close(key, Eviction::Shrunk, now),
                _ => break,
            }
        }
        self.settle(now);
    }

    /// Has as much on its way as is waited for or to be kept, and no more standing by.
    pub(super) fn settle(&mut self, now: Instant) {
        self.supply(0, now);
        while self.is_running() && self.living() < self.stats.desired && self.dial(now) {}
        while self.stats.members_in(MemberState::Stale) > 0 && self.living() > self.stats.desired {
            // What is stale is what was used least recently.
            let Some((_, key)) = self.least_recent() else { break };
            self.close(key, Eviction::Stale, now);
        }
    }

    /// Has a connection on its way for each who waits, and for so many more.
    pub(super) fn supply(&mut self, more: u32, now: Instant) {
        while self.is_running() && self.wanted(more) > 0 {
            match self.pick_free(Freshness::Any, now) {
                Some(key) if self.is_fresh(key, now) => self.offer(key, now),
                Some(key) => self.begin_check(key, None, now),
                None if self.dial(now) => {}
                None => return self.give_up_overdue(more, now),
            }
        }
    }

    /// How many of those who wait, and of so many more, have nothing on its way. What is overdue is
    /// not counted on, and what is checked for somebody is his.
    fn wanted(&self, more: u32) -> u32 {
        let coming = self.stats.members_in(MemberState::Connecting)
            + self.stats.members_in(MemberState::Checking)
            - self.reserved;
        (self.line.len() + more).saturating_sub(coming)
    }

    /// Dials one connection, if there is a place for it and an endpoint.
    fn dial(&mut self, now: Instant) -> bool {
        if self.members.len() >= self.settings.max as usize {
            return false;
        }
        let random = self.next_random();
        let dials_max = self.settings.dials_max;
        let Self { balancer, endpoints, .. } = self;
        let is_ready = |endpoint: &Endpoint| endpoint.may_be_dialled(now, dials_max);
        let picked = balancer.pick(now, random, |id| find(endpoints, id).is_some_and(is_ready));
        let picked = picked.or_else(|| {
            let mut endpoints = endpoints.iter().flatten();
            endpoints.find(|endpoint| is_ready(endpoint)).map(|endpoint| endpoint.id)
        });
        let Some(endpoint) = picked else { return false };
        let member = Member {
            endpoint,
            state: State::Connecting,
            links: Links::default(),
            timer: None,
            opened_at: now,
            retire_at: now,
            errors: 0,
            leases: 0,
        };
        let Ok(key) = self.members.insert(member) else { return false };
        self.stats.members[MemberState::Connecting as usize] += 1;
        self.enter(key);
        self.arm(key, later(now, self.settings.dial_patience), now);
        self.actions.push_back(Action::Open { member: MemberKey(key), endpoint });
        true
    }

    /// Every place is taken and some by dials that hang. If they are missed, and another endpoint
    /// could do with them, they are given up: the longest standing first, and no more than what is
    /// being closed does not make up for.
    fn give_up_overdue(&mut self, more: u32, now: Instant) {
        if self.members.len() < self.settings.max as usize || self.overdue.is_empty() {
            return;
        }
        let dials_max = self.settings.dials_max;
        let mut endpoints = self.endpoints.iter().flatten();
        if !endpoints.any(|endpoint| endpoint.may_be_dialled(now, dials_max)) {
            return;
        }
        while self.wanted(more) > self.stats.members_in(MemberState::Closing)
            && let Some(key) = self.overdue.first()
        {
            self.close(key, Eviction::Overdue, now);
        }
    }

    /// Connections that are not being closed.
    fn living(&self) -> u32 {
        self.members.len() as u32 - self.stats.members_in(MemberState::Closing)
    }

    fn lent(&self) -> u32 {
        self.stats.members_in(MemberState::Active) + self.stats.members_in(MemberState::Broken)
    }

    /// The free connection that was used least recently, and when that was.
    fn least_recent(&self) -> Option<(Instant, Key)> {
        let last = |endpoint: &Endpoint| {
            let key = endpoint.free.last()?;
            Some((self.members.get(key)?.state.free_since()?, key))
        };
        self.endpoints.iter().flatten().filter_map(last).min_by_key(|(since, _)| *since)
    }

    fn members_at(&self, id: EndpointId) -> Vec<Key> {
        let is_there = |key: &Key| self.members.get(*key).is_some_and(|m| m.endpoint == id);
        self.members.keys().filter(is_there).collect()
    }

    fn drop_endpoint(&mut self, id: EndpointId) {
        if let Some(endpoint) = self.endpoint_mut(id) {
            let timer = endpoint.timer;
            self.endpoints[id.index()] = None;
            self.stop(timer);
        }
    }
}
