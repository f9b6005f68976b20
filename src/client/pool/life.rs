//! What becomes of one connection or one waiter.

use std::time::{Duration, Instant};

use super::action::{Action, Eviction, Lease, LeaseTicket, MemberKey, PoolError, Site};
use super::endpoints::{Footing, Select, part};
use super::machine::{Core, Place, Timer, Waiter, later};
use super::member::{State, Tenancy, Watch};
use super::settings::PoolSettings;
use crate::client::balance::EndpointId;
use crate::client::cause::End;
use crate::collections::{Key, TimerKey};

impl<B: Select> Core<B> {
    /// The connection that was ordered stands.
    pub(crate) fn handle_opened(&mut self, member: MemberKey, now: Instant) {
        let key = member.0;
        let random = self.next_random();
        let PoolSettings { age_max, age_jitter, .. } = self.settings;
        let retire_at = later(now, age_max - part(age_jitter.min(age_max / 2), random));
        let Some(member) = self.members.get_mut(key).filter(|m| m.state.is_dialling()) else {
            return;
        };
        (member.opened_at, member.retire_at) = (now, retire_at);
        let id = member.endpoint;
        self.stats.opened += 1;
        self.note_open(id, now);
        self.offer(key, now);
        // The endpoint may be dialled more often than before.
        self.settle(now);
    }

    /// The connection that was ordered could not be made.
    pub(crate) fn handle_dial_failed(&mut self, member: MemberKey, now: Instant) {
        let Some(failed) = self.members.get(member.0) else { return };
        if failed.state.is_dialling() {
            let endpoint = failed.endpoint;
            self.stats.dials_failed += 1;
            self.forget(member.0);
            self.note_dial_failure(endpoint, now);
            self.settle(now);
        } else {
            let _ = self.handle_closed(member, End::Wanted, now);
        }
    }

    /// The connection that was ordered has found no room here. That is nothing against its endpoint,
    /// but to ask again at once would find none either.
    pub(crate) fn handle_no_room(&mut self, member: MemberKey, now: Instant) {
        let Some(failed) = self.members.get(member.0) else { return };
        if !failed.state.is_dialling() {
            return self.handle_dial_failed(member, now);
        }
        let endpoint = failed.endpoint;
        self.stats.dials_failed += 1;
        self.forget(member.0);
        let random = self.next_random();
        let pause_until = now + self.redial().delay(1, random);
        let until = self.endpoint_mut(endpoint).and_then(|it| it.pause(now, pause_until));
        self.leave_alone(endpoint, until, now);
        self.settle(now);
    }

    /// The connection cannot be used any more, whoever wanted that; its place is free when
    /// [`Core::handle_closed`] says so. Returns the lease that has ended with it.
    pub(crate) fn handle_lost(
        &mut self,
        member: MemberKey,
        end: End,
        now: Instant,
    ) -> Option<Lease> {
        let lease = self.lose(member, end, now);
        self.settle(now);
        lease
    }

    /// Nothing of the connection is left, whoever wanted that. Returns the lease that has ended with
    /// it.
    pub(crate) fn handle_closed(
        &mut self,
        member: MemberKey,
        end: End,
        now: Instant,
    ) -> Option<Lease> {
        let lease = self.lose(member, end, now);
        if self.members.get(member.0).is_some() {
            self.forget(member.0);
            self.settle(now);
        }
        lease
    }

    /// The connection of a lease that was given just now turns out to be over. Nobody has had the
    /// lease, so it is not counted.
    pub(crate) fn take_back(&mut self, lease: Lease, now: Instant) {
        let Some(member) = self.tenant(lease) else { return };
        let is_reuse = member.leases > 1;
        self.stats.acquired -= 1;
        self.stats.reused -= u64::from(is_reuse);
        // It was free, so it is not this end that has closed it.
        self.handle_lost(lease.member, End::Parted, now);
    }

    fn lose(&mut self, member: MemberKey, end: End, now: Instant) -> Option<Lease> {
        let key = member.0;
        let lost = self.members.get(key)?;
        let (endpoint, opened_at) = (lost.endpoint, lost.opened_at);
        match lost.state {
            State::Connecting | State::Overdue => {
                self.handle_dial_failed(member, now);
                None
            }
            State::Closing => None,
            State::Idle { .. }
            | State::Stale { .. }
            | State::Checking { .. }
            | State::Active(_)
            | State::Broken(_) => {
                let lease = self.lease_of(member);
                self.stats.evictions[Eviction::Lost as usize] += 1;
                self.disarm(key);
                self.transit(key, State::Closing);
                self.judge(endpoint, now.saturating_duration_since(opened_at), end, now);
                lease
            }
        }
    }

    /// What the end of a connection says of its endpoint.
    fn judge(&mut self, id: EndpointId, stood: Duration, end: End, now: Instant) {
        match end {
            End::Wanted => {}
            End::Parted | End::Failed if stood < self.settings.stable_after => {
                let endpoint = self.endpoint_mut(id);
                endpoint.into_iter().for_each(|endpoint| endpoint.footing = Footing::Doubtful);
                self.note_dial_failure(id, now);
            }
            End::Parted => {}
            End::Failed => self.note_failure(id, now),
        }
    }

    /// The lease that a connection is used by.
    pub(crate) fn lease_of(&self, member: MemberKey) -> Option<Lease> {
        let tenancy = self.members.get(member.0)?.state.tenancy()?;
        Some(Lease { member, number: tenancy.number })
    }

    /// The other end has answered. Only what is checked is interested.
    pub(crate) fn handle_pong(&mut self, member: MemberKey, now: Instant) {
        let Some(checked) = self.members.get(member.0) else { return };
        let State::Checking { reserved } = checked.state else { return };
        let endpoint = checked.endpoint;
        self.balancer.handle_success(endpoint, now);
        match reserved {
            Some(ticket) => self.serve(ticket, member.0, now),
            None => self.offer(member.0, now),
        }
    }

    /// Something has gone wrong on the connection that the other end or the connection may be to
    /// blame for. It is counted.
    pub(crate) fn handle_error(&mut self, member: MemberKey, now: Instant) {
        let key = member.0;
        let errors_max = self.settings.errors_max.max(1);
        let Some(member) = self.members.get_mut(key) else { return };
        let (state, endpoint) = (member.state, member.endpoint);
        if state.is_dialling() || matches!(state, State::Closing) {
            return;
        }
        member.errors = member.errors.saturating_add(1);
        let is_worn = member.errors >= errors_max;
        self.note_failure(endpoint, now);
        if !is_worn {
            return;
        }
        match state.tenancy() {
            Some(tenancy) => self.rename(key, State::Broken(*tenancy)),
            None => {
                self.close(key, Eviction::Errors, now);
                self.settle(now);
            }
        }
    }

    /// What was armed for the connection's state is due.
    pub(super) fn handle_member_timeout(&mut self, key: Key, now: Instant) {
        let Some(member) = self.members.get_mut(key) else { return };
        member.timer = None;
        let (endpoint, retire_at) = (member.endpoint, member.retire_at);
        match member.state {
            State::Connecting => self.transit(key, State::Overdue),
            State::Idle { .. } | State::Stale { .. } if now >= retire_at => {
                self.close(key, Eviction::Aged, now);
            }
            State::Idle { since } => {
                self.rename(key, State::Stale { since });
                self.arm(key, retire_at, now);
            }
            State::Checking { .. } => {
                self.note_failure(endpoint, now);
                self.close(key, Eviction::NoPong, now);
            }
            State::Active(tenancy) | State::Broken(tenancy) => self.watch(key, tenancy, now),
            State::Overdue | State::Stale { .. } | State::Closing => {}
        }
    }

    /// A lease is held for long.
    fn watch(&mut self, key: Key, tenancy: Tenancy, now: Instant) {
        match tenancy.watch {
            Watch::Report => {
                self.stats.leaks += 1;
                let Some(member) = self.members.get_mut(key) else { return };
                self.actions.extend(member.leak(key, now).map(Action::Leak));
                if let State::Active(tenancy) | State::Broken(tenancy) = &mut member.state {
                    tenancy.watch = Watch::Revoke;
                }
                self.arm(key, later(tenancy.since, self.settings.revoke_after), now);
            }
            Watch::Revoke => self.revoke(key, Eviction::Revoked, now),
        }
    }

    /// Closes a connection, and tells if that ends a lease.
    pub(super) fn revoke(&mut self, key: Key, reason: Eviction, now: Instant) {
        let Some(member) = self.members.get(key) else { return };
        self.actions.extend(member.leak(key, now).map(Action::Revoked));
        self.close(key, reason, now);
    }

    /// Has a connection closed, whatever it is doing. Who waits for this very one is first in the
    /// line now.
    pub(super) fn close(&mut self, key: Key, reason: Eviction, now: Instant) {
        let Some(member) = self.members.get(key) else { return };
        let (state, endpoint) = (member.state, member.endpoint);
        if matches!(state, State::Closing) {
            return;
        }
        self.disarm(key);
        self.transit(key, State::Closing);
        if reason == Eviction::Overdue {
            self.note_dial_failure(endpoint, now);
        }
        self.stats.evictions[reason as usize] += 1;
        self.actions.push_back(Action::Close { member: MemberKey(key), reason });
    }

    /// Nothing of the connection is left.
    fn forget(&mut self, key: Key) {
        self.disarm(key);
        self.transit(key, State::Closing);
        self.stats.members[State::Closing.name() as usize] -= 1;
        self.members.remove(key);
    }

    /// A connection that needs no check goes to the first in the line, or is free.
    pub(super) fn offer(&mut self, key: Key, now: Instant) {
        if let Some(first) = self.line.first() {
            return self.serve(LeaseTicket(first), key, now);
        }
        self.transit(key, State::Idle { since: now });
        let Some(member) = self.members.get(key) else { return };
        let stale_at = later(now, self.settings.stale_after);
        let at = stale_at.min(member.retire_at);
        self.arm(key, at, now);
    }

    /// Asks a free connection whether it lives.
    pub(super) fn begin_check(&mut self, key: Key, reserved: Option<LeaseTicket>, now: Instant) {
        self.transit(key, State::Checking { reserved });
        self.arm(key, later(now, self.settings.pong_timeout), now);
        self.actions.push_back(Action::Ping { member: MemberKey(key) });
    }

    /// The waiting of this ticket ends with this connection.
    fn serve(&mut self, ticket: LeaseTicket, key: Key, now: Instant) {
        let Some(waiter) = self.take_waiter(ticket.0) else { return };
        self.timers.cancel(waiter.timer);
        self.stats.wait_time.record(now.saturating_duration_since(waiter.since));
        let lease = self.lend(key, waiter.user, waiter.site, now);
        self.actions.push_back(Action::Grant { ticket, lease });
    }

    /// Hands a connection out.
    pub(super) fn lend(&mut self, key: Key, user: Option<u64>, site: Site, now: Instant) -> Lease {
        let number = self.next_lease;
        self.next_lease += 1;
        self.stats.acquired += 1;
        let tenancy = Tenancy { number, site, since: now, watch: Watch::Report };
        self.transit(key, State::Active(tenancy));
        self.arm(key, later(now, self.settings.leak_after), now);
        if let Some(member) = self.members.get_mut(key) {
            self.stats.reused += u64::from(member.leases > 0);
            member.leases += 1;
        }
        user.into_iter().for_each(|user| self.settle_in(user, key));
        Lease { member: MemberKey(key), number }
    }

    /// The waiting of a ticket ends with an error. Its timer is no more.
    pub(super) fn expire(&mut self, key: Key, error: PoolError) {
        if self.take_waiter(key).is_some() {
            self.stats.expired += 1;
            self.actions.push_back(Action::Expire { ticket: LeaseTicket(key), error });
        }
    }

    /// Ends somebody's waiting; his timer stays. A connection that was checked for him goes to
    /// anybody now.
    pub(super) fn take_waiter(&mut self, key: Key) -> Option<Waiter> {
        match self.waiters.get(key)?.place {
            Place::InLine => self.line.unlink(&mut self.waiters, key),
            Place::For(member) => {
                self.reserved -= 1;
                if let Some(member) = self.members.get_mut(member) {
                    member.state = State::Checking { reserved: None };
                }
            }
        }
        self.waiters.remove(key)
    }

    /// A dial has opened. Where connections have not stood, that is no success yet.
    fn note_open(&mut self, id: EndpointId, now: Instant) {
        let stable_at = later(now, self.settings.stable_after);
        let Some(endpoint) = self.endpoint_mut(id) else {
            return self.balancer.handle_success(id, now);
        };
        let (footing, follows) = (endpoint.footing, endpoint.handle_open(now));
        let timer = if follows { endpoint.timer.take() } else { None };
        self.stop(timer);
        match footing {
            Footing::Sure => self.balancer.handle_success(id, now),
            Footing::Doubtful if follows => {
                let timer = self.start(Timer::Endpoint(id), stable_at, now);
                self.endpoint_mut(id).into_iter().for_each(|it| it.timer = Some(timer));
            }
            Footing::Doubtful => {}
        }
    }

    /// A dial has failed, or has taken too long, or what it had opened has not stood.
    fn note_dial_failure(&mut self, id: EndpointId, now: Instant) {
        self.note_failure(id, now);
        let redial = self.redial();
        let random = self.next_random();
        let endpoint = self.endpoint_mut(id);
        let until = endpoint.and_then(|endpoint| endpoint.handle_failure(now, redial, random));
        self.leave_alone(id, until, now);
    }

    fn leave_alone(&mut self, id: EndpointId, until: Option<Instant>, now: Instant) {
        let Some(retry_at) = until else { return };
        let timer = self.endpoint_mut(id).and_then(|endpoint| endpoint.timer.take());
        self.stop(timer);
        let timer = self.start(Timer::Endpoint(id), retry_at, now);
        self.endpoint_mut(id).into_iter().for_each(|endpoint| endpoint.timer = Some(timer));
    }

    /// Has the connection's timer fire then, and not at any other time.
    pub(super) fn arm(&mut self, key: Key, at: Instant, now: Instant) {
        let Some(member) = self.members.get_mut(key) else { return };
        match member.timer {
            Some(timer) => {
                self.timers.advance(now);
                self.timers.rearm(timer, at);
            }
            None => {
                let timer = self.start(Timer::Member(key), at, now);
                self.members.get_mut(key).into_iter().for_each(|m| m.timer = Some(timer));
            }
        }
    }

    /// The wheel has to know the time, or it would have us called in the past.
    pub(super) fn start(&mut self, timer: Timer, at: Instant, now: Instant) -> TimerKey {
        self.timers.advance(now);
        self.timers.insert(at, timer)
    }

    fn disarm(&mut self, key: Key) {
        let timer = self.members.get_mut(key).and_then(|member| member.timer.take());
        self.stop(timer);
    }

    pub(super) fn stop(&mut self, timer: Option<TimerKey>) {
        if let Some(timer) = timer {
            self.timers.cancel(timer);
        }
    }

    /// Gives a connection another state, and everything that is counted or listed by state its due.
    pub(super) fn transit(&mut self, key: Key, next: State) {
        self.leave(key);
        self.rename(key, next);
        self.enter(key);
    }

    /// Gives a connection a state that is counted and listed as the one before is.
    pub(super) fn rename(&mut self, key: Key, next: State) {
        let Some(member) = self.members.get_mut(key) else { return };
        self.stats.members[member.state.name() as usize] -= 1;
        self.stats.members[next.name() as usize] += 1;
        member.state = next;
    }

    fn leave(&mut self, key: Key) {
        let Some(member) = self.members.get(key) else { return };
        let (id, state) = (member.endpoint, member.state);
        let Self { endpoints, members, balancer, .. } = self;
        let slot = endpoints.get_mut(id.index()).and_then(Option::as_mut);
        let mut endpoint = slot.filter(|endpoint| endpoint.id == id);
        match state {
            State::Connecting | State::Overdue => {
                let is_overdue = matches!(state, State::Overdue);
                if let Some(endpoint) = &mut endpoint {
                    endpoint.dialling -= 1;
                    endpoint.overdue -= u32::from(is_overdue);
                }
                if is_overdue {
                    self.overdue.unlink(members, key);
                }
                balancer.handle_released(id);
            }
            State::Idle { .. } | State::Stale { .. } => {
                endpoint.into_iter().for_each(|endpoint| endpoint.free.unlink(members, key));
            }
            State::Checking { reserved: None } | State::Closing => {}
            State::Checking { reserved: Some(ticket) } => {
                // Unless he gets this very connection, he is first in the line now.
                if let Some(waiter) = self.waiters.get_mut(ticket.0) {
                    waiter.place = Place::InLine;
                    self.line.push_front(&mut self.waiters, ticket.0);
                    self.reserved -= 1;
                }
            }
            State::Active(_) | State::Broken(_) => balancer.handle_released(id),
        }
    }

    pub(super) fn enter(&mut self, key: Key) {
        let Some(member) = self.members.get(key) else { return };
        let (id, state) = (member.endpoint, member.state);
        let Self { endpoints, members, balancer, .. } = self;
        let slot = endpoints.get_mut(id.index()).and_then(Option::as_mut);
        let mut endpoint = slot.filter(|endpoint| endpoint.id == id);
        match state {
            State::Connecting | State::Overdue => {
                let is_overdue = matches!(state, State::Overdue);
                if let Some(endpoint) = &mut endpoint {
                    endpoint.dialling += 1;
                    endpoint.overdue += u32::from(is_overdue);
                }
                if is_overdue {
                    self.overdue.push_back(members, key);
                }
                balancer.handle_acquired(id);
            }
            State::Idle { .. } | State::Stale { .. } => {
                endpoint.into_iter().for_each(|endpoint| endpoint.free.push_front(members, key));
            }
            State::Checking { reserved } => self.reserved += u32::from(reserved.is_some()),
            State::Active(_) | State::Broken(_) => balancer.handle_acquired(id),
            State::Closing => {}
        }
    }
}
