//! One pool of a loop: the machine that decides, put to work.

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::balance::{
    BalanceAction, Balancer, EndpointId, EndpointStats, Outcome as Health, TooManyEndpoints,
};
use super::cause::{End, is_for_want_of_room};
use super::clients::{Holder, Owner, Party};
use super::connector::{AttemptKey, Connector};
use super::deadline::Deadline;
use super::event::Event;
use super::lease::{LeakReport, LeakVerdict, Lease, LeaseTicket};
use super::load::{LoadMeter, LoadSource};
use super::outage::Unsent;
use super::outlet::Outlet;
use super::pool::{
    self, Action, Core, Eviction, Leak, MemberKey, Outcome, Pool, PoolError, PoolStats, Wanted,
};
use super::pools::PoolId;
use super::rate::PoolRate;
use super::settings::ClientSettings;
use crate::metrics::Histogram;
use crate::reactor::{ConnectionId, DialError, Loop, TimerId};
use crate::wire::CloseCode;

/// One pool of a loop.
pub(super) struct Pooling {
    pub(super) core: Core<Balancer>,
    /// Where the endpoints lead, by their places.
    pub(super) calls: Vec<Option<ClientSettings>>,
    /// The connections, by the places of the members.
    pub(super) contacts: Vec<Option<Contact>>,
    meter: LoadMeter,
    source: Box<dyn LoadSource>,
    deadline: Deadline,
    round_trips: Histogram,
    undecodable: u64,
    pings: u64,
    pub(super) rate: Option<PoolRate>,
    /// Members whose messages wait for their batch or their turn.
    pub(super) holding: BTreeSet<usize>,
}

/// What there is of a member's connection.
#[derive(Debug)]
pub(super) struct Contact {
    pub(super) member: MemberKey,
    pub(super) endpoint: EndpointId,
    pub(super) stage: Stage,
    /// Made when the first message is sent.
    pub(super) outlet: Option<Box<Outlet>>,
    /// Who has leased it waits until what waits for the rate goes on.
    pub(super) awaits_room: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    Dialling(AttemptKey),
    Open {
        connection: ConnectionId,
        /// The payload of the ping that is to be answered.
        ping: Option<[u8; 8]>,
    },
}

impl Pooling {
    /// A pool on its loop, with the endpoints that its description names.
    ///
    /// # Errors
    /// [`TooManyEndpoints`].
    pub(super) fn new(pool: &Pool, seed: u64, now: Instant) -> Result<Self, TooManyEndpoints> {
        let balancer = Balancer::new(pool.balance, pool.ejection, pool.health_check);
        let mut pooling = Self {
            core: Core::new(pool.settings.clone(), balancer, seed, now),
            calls: Vec::new(),
            contacts: Vec::new(),
            meter: LoadMeter::new(&pool.load, now),
            source: (pool.load_source)(),
            deadline: Deadline::default(),
            round_trips: Histogram::new(),
            undecodable: 0,
            pings: 0,
            rate: pool.rate.as_ref().map(|rate| PoolRate::new(rate, now)),
            holding: BTreeSet::new(),
        };
        for (settings, weight) in &pool.endpoints {
            pooling.add_endpoint(settings, *weight, now)?;
        }
        Ok(pooling)
    }

    pub(super) fn add_endpoint(
        &mut self,
        settings: &ClientSettings,
        weight: u32,
        now: Instant,
    ) -> Result<EndpointId, TooManyEndpoints> {
        let weight = NonZeroU32::new(weight).unwrap_or(NonZeroU32::MIN);
        let name = settings.uri().to_string();
        let id = self.core.balancer_mut().add(&name, weight, now)?;
        if id.index() >= self.calls.len() {
            self.calls.resize_with(id.index() + 1, || None);
        }
        self.calls[id.index()] = Some(settings.clone());
        self.core.add_endpoint(id, now);
        Ok(id)
    }

    pub(super) fn drain_endpoint(&mut self, id: EndpointId, now: Instant) {
        self.core.drain_endpoint(id, now);
        self.core.balancer_mut().drain(id, now);
    }

    pub(super) fn remove_endpoint(&mut self, id: EndpointId, now: Instant) {
        self.core.remove_endpoint(id, now);
        self.core.balancer_mut().remove(id, now);
    }

    pub(super) fn endpoints(&self) -> Vec<(EndpointId, EndpointStats)> {
        let balancer = self.core.balancer();
        let stats = |id| balancer.stats(id).map(|stats| (id, stats));
        balancer.endpoints().filter_map(stats).collect()
    }

    /// The URL of an endpoint.
    pub(super) fn endpoint_url(&self, id: EndpointId) -> Option<&str> {
        self.core.balancer().name(id)
    }

    pub(super) fn acquire(
        &mut self,
        wanted: Wanted,
        now: Instant,
    ) -> Result<pool::Acquired, PoolError> {
        self.meter.handle_requests(1, now);
        self.core.acquire(wanted, now)
    }

    pub(super) fn try_acquire(
        &mut self,
        user: Option<u64>,
        site: pool::Site,
        now: Instant,
    ) -> Result<pool::Lease, PoolError> {
        self.meter.handle_requests(1, now);
        self.core.try_acquire(user, site, now)
    }

    /// Takes a lease back that was given just now.
    pub(super) fn take_back(&mut self, lease: pool::Lease, now: Instant) {
        self.core.take_back(lease, now);
    }

    pub(super) fn cancel(&mut self, ticket: pool::LeaseTicket, now: Instant) -> Option<()> {
        self.core.cancel(ticket, now)
    }

    pub(super) fn release(
        &mut self,
        lease: pool::Lease,
        outcome: Outcome,
        now: Instant,
    ) -> Result<(), PoolError> {
        self.core.release(lease, outcome, now)
    }

    /// The connection of a lease, while that lasts.
    pub(super) fn connection(&self, lease: pool::Lease) -> Result<ConnectionId, PoolError> {
        let member = self.core.check(lease)?;
        match self.contact(member) {
            Some(Contact { stage: Stage::Open { connection, .. }, .. }) => Ok(*connection),
            _ => Err(PoolError::Revoked),
        }
    }

    /// How connections to this member's endpoint are made.
    pub(super) fn settings_of(&self, member: MemberKey) -> Option<&ClientSettings> {
        self.calls.get(self.contact(member)?.endpoint.index())?.as_ref()
    }

    /// Where the connection of a lease leads, and how it was made.
    pub(super) fn way_of(
        &self,
        lease: pool::Lease,
    ) -> Result<(EndpointId, &ClientSettings), PoolError> {
        let member = self.core.check(lease)?;
        let contact = self.contact(member).ok_or(PoolError::Revoked)?;
        let settings = self.settings_of(member).ok_or(PoolError::Revoked)?;
        Ok((contact.endpoint, settings))
    }

    /// Who uses a connection now.
    pub(super) fn lease_of(&self, member: MemberKey) -> Option<pool::Lease> {
        self.core.lease_of(member)
    }

    pub(super) fn shut_down(&mut self, now: Instant) {
        self.core.shut_down(now);
    }

    /// Memory is scarce: nothing waits for its batch, and what is free is closed down to the least
    /// number.
    pub(super) fn relieve<D>(&mut self, at: &mut Loop<'_, D>) {
        for contact in self.contacts.iter_mut().flatten() {
            if let (Stage::Open { connection, .. }, Some(outlet)) =
                (&contact.stage, &mut contact.outlet)
            {
                outlet.hurry(at, *connection);
            }
        }
        self.core.shrink(at.now());
    }

    pub(super) fn stats(&self) -> PoolStats {
        let mut stats = self.core.stats();
        stats.round_trips = self.round_trips.clone();
        stats.undecodable = self.undecodable;
        stats
    }

    pub(super) fn handle_open(
        &mut self,
        member: MemberKey,
        connection: ConnectionId,
        now: Instant,
    ) {
        if let Some(contact) = self.contact_mut(member) {
            contact.stage = Stage::Open { connection, ping: None };
        }
        self.core.handle_opened(member, now);
    }

    pub(super) fn handle_dial_failed(
        &mut self,
        member: MemberKey,
        error: &DialError,
        now: Instant,
    ) {
        self.forget(member);
        if is_for_want_of_room(error) {
            self.core.handle_no_room(member, now);
        } else {
            self.core.handle_dial_failed(member, now);
        }
    }

    /// A connection is over; of what it had taken, what was not written is told.
    pub(super) fn handle_closed(
        &mut self,
        id: PoolId,
        member: MemberKey,
        end: End,
        now: Instant,
        events: &mut VecDeque<Event>,
    ) -> Option<pool::Lease> {
        if let Some(Contact { endpoint, outlet: Some(outlet), .. }) =
            self.contacts.get_mut(member.index()).and_then(Option::as_mut)
        {
            outlet.take_back(self.rate.as_mut(), |opcode, payload| {
                let payload = Bytes::copy_from_slice(payload);
                let unsent = Unsent::lost(opcode, payload);
                events.push_back(Event::Unsent(Owner::Pool(id, *endpoint), unsent));
            });
        }
        self.forget(member);
        self.core.handle_lost(member, end, now)
    }

    /// Nothing of a connection is left.
    pub(super) fn handle_gone(&mut self, member: MemberKey, now: Instant) {
        self.forget(member);
        // The lease has ended before.
        let _: Option<pool::Lease> = self.core.handle_closed(member, End::Wanted, now);
    }

    pub(super) fn handle_pong(
        &mut self,
        member: MemberKey,
        payload: &[u8],
        round_trip: Option<Duration>,
        now: Instant,
    ) {
        if let Some(time) = round_trip {
            self.round_trips.record(time);
        }
        if let Some(Contact { stage: Stage::Open { ping, .. }, .. }) = self.contact_mut(member)
            && ping.is_some_and(|expected| expected == payload)
        {
            *ping = None;
            self.core.handle_pong(member, now);
        }
    }

    pub(super) fn handle_undecodable(&mut self, member: MemberKey, now: Instant) {
        self.undecodable += 1;
        self.core.handle_error(member, now);
    }

    /// A probe of an endpoint has found no room here.
    pub(super) fn handle_probe_unmade<D>(&mut self, at: &mut Loop<'_, D>, endpoint: EndpointId) {
        let (now, random) = (at.now(), at.random());
        self.core.balancer_mut().handle_probe_unmade(endpoint, now, random);
    }

    /// What a probe of an endpoint has shown.
    pub(super) fn handle_probe<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        endpoint: EndpointId,
        outcome: Health,
    ) {
        let (now, random) = (at.now(), at.random());
        self.core.balancer_mut().handle_probe(endpoint, outcome, now, random);
    }

    /// A timer has come. Says whether it was this pool's.
    pub(super) fn handle_timer<D>(&mut self, at: &Loop<'_, D>, timer: TimerId) -> bool {
        let is_own = self.deadline.take(timer);
        let now = at.now();
        if is_own {
            if self.meter.poll_timeout() <= now {
                let (cpu, memory) = (self.source.cpu(), self.source.memory());
                self.meter.handle_sample(cpu, memory, now);
                let score = self.meter.score(now);
                self.core.set_load(score, now);
            }
            self.core.handle_timeout(now);
            self.core.balancer_mut().handle_timeout(now);
        }
        is_own
    }

    /// Does what the machine wants, and lays out what is to be told.
    pub(super) fn work<D: Default>(
        &mut self,
        at: &mut Loop<'_, D>,
        id: PoolId,
        connector: &mut Connector<Holder>,
        events: &mut VecDeque<Event>,
    ) {
        loop {
            if let Some(action) = self.core.poll_action() {
                self.execute(at, id, action, connector, events);
            } else if let Some(action) = self.core.balancer_mut().poll_action() {
                match action {
                    BalanceAction::Probe(endpoint) => self.probe(at, id, endpoint, connector),
                    BalanceAction::Gone(endpoint) => self.calls[endpoint.index()] = None,
                }
            } else {
                break;
            }
        }
        let deadlines = [
            self.work_outlets(at, id, events),
            self.core.poll_timeout(),
            self.core.balancer_mut().poll_timeout(),
            Some(self.meter.poll_timeout()),
        ];
        self.deadline.set(at, deadlines.into_iter().flatten().min(), Party::Pool(id).cookie());
    }

    fn execute<D: Default>(
        &mut self,
        at: &mut Loop<'_, D>,
        id: PoolId,
        action: Action,
        connector: &mut Connector<Holder>,
        events: &mut VecDeque<Event>,
    ) {
        let lease = |inner| Lease { pool: id, inner };
        let ticket = |inner| LeaseTicket { pool: id, inner };
        let leak = |leak: Leak, verdict| {
            let Leak { lease: inner, endpoint, site: acquired_at, held_for } = leak;
            let lease = lease(inner);
            Event::Leak(LeakReport { lease, endpoint, acquired_at, held_for, verdict })
        };
        match action {
            Action::Open { member, endpoint } => self.dial(at, id, member, endpoint, connector),
            Action::Close { member, reason } => self.close(at, member, reason, connector),
            Action::Ping { member } => self.ping(at, member),
            Action::Grant { ticket: granted, lease: inner } => {
                events.push_back(Event::Lease(ticket(granted), Ok(lease(inner))));
            }
            Action::Expire { ticket: expired, error } => {
                events.push_back(Event::Lease(ticket(expired), Err(error)));
            }
            Action::Leak(held) => events.push_back(leak(held, LeakVerdict::Reported)),
            Action::Revoked(held) => events.push_back(leak(held, LeakVerdict::Revoked)),
        }
    }

    fn dial<D: Default>(
        &mut self,
        at: &mut Loop<'_, D>,
        id: PoolId,
        member: MemberKey,
        endpoint: EndpointId,
        connector: &mut Connector<Holder>,
    ) {
        let Some(Some(settings)) = self.calls.get(endpoint.index()) else {
            return self.core.handle_dial_failed(member, at.now());
        };
        let attempt = connector.start(at, Holder::Member(id, endpoint, member), settings);
        if member.index() >= self.contacts.len() {
            self.contacts.resize_with(member.index() + 1, || None);
        }
        let stage = Stage::Dialling(attempt);
        self.contacts[member.index()] =
            Some(Contact { member, endpoint, stage, outlet: None, awaits_room: false });
    }

    /// Whether the endpoint answers: a connection that is closed as soon as it is open.
    fn probe<D: Default>(
        &mut self,
        at: &mut Loop<'_, D>,
        id: PoolId,
        endpoint: EndpointId,
        connector: &mut Connector<Holder>,
    ) {
        match self.calls.get(endpoint.index()) {
            Some(Some(settings)) => {
                let _: AttemptKey = connector.start(at, Holder::Probe(id, endpoint), settings);
            }
            _ => self.handle_probe(at, endpoint, Health::Failure),
        }
    }

    fn close<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        member: MemberKey,
        reason: Eviction,
        connector: &mut Connector<Holder>,
    ) {
        // If there is none it is over already, and what lingers of it is told when it is gone.
        let Some(contact) = self.contact_mut(member) else { return };
        let connection = match contact.stage {
            Stage::Dialling(attempt) => return connector.cancel(at, attempt),
            Stage::Open { connection, .. } => connection,
        };
        let code = match reason {
            // It does not answer, and would not answer a Close.
            Eviction::NoPong => return at.peer(connection).abort(),
            Eviction::ShutDown => CloseCode::GOING_AWAY,
            _ => CloseCode::NORMAL,
        };
        // What waits for its batch goes in front of the Close.
        if let Some(outlet) = &mut contact.outlet {
            outlet.hurry(at, connection);
        }
        let closed = at.peer(connection).close(code, "");
        debug_assert!(closed.is_ok(), "the code may be sent");
    }

    fn ping<D>(&mut self, at: &mut Loop<'_, D>, member: MemberKey) {
        self.pings += 1;
        let payload = self.pings.to_be_bytes();
        if let Some(Contact { stage: Stage::Open { connection, ping }, .. }) =
            self.contact_mut(member)
        {
            *ping = Some(payload);
            // If it cannot be sent, no pong comes in time.
            let _ = at.peer(*connection).send_ping(&payload);
        }
    }

    fn contact(&self, member: MemberKey) -> Option<&Contact> {
        let contact = self.contacts.get(member.index())?.as_ref();
        contact.filter(|contact| contact.member == member)
    }

    pub(super) fn contact_mut(&mut self, member: MemberKey) -> Option<&mut Contact> {
        let contact = self.contacts.get_mut(member.index())?.as_mut();
        contact.filter(|contact| contact.member == member)
    }

    fn forget(&mut self, member: MemberKey) {
        if self.contact(member).is_some() {
            self.contacts[member.index()] = None;
            self.holding.remove(&member.index());
        }
    }

    /// Whether it was shut down and nothing of it is left.
    pub(super) fn is_finished(&self) -> bool {
        self.core.is_finished()
    }

    /// Gives back what the loop holds for it.
    pub(super) fn release_timer<D>(&mut self, at: &mut Loop<'_, D>) {
        self.deadline.cancel(at);
    }
}
