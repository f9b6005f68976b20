//! All that a loop calls, as callbacks see it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use super::balance::{EndpointId, Outcome};
use super::calling::{Calling, ClientStats, Future, Goodbye, Submitted};
use super::cause::End;
use super::connector::{Connector, Ending};
use super::deadline::Deadline;
use super::event::Event;
use super::lease::Lease;
use super::names::Names;
use super::outlet::{FlowStats, Urgency};
use super::pool::MemberKey;
use super::pools::{PoolId, PoolSlot};
use super::reconnect::ClientState;
use super::settings::ClientSettings;
use crate::collections::{Key, Table};
use crate::protocol::CloseSummary;
use crate::reactor::{ConnectionId, DialError, Loop, Message, TimerId};
use crate::wire::{CloseCode, InvalidClose};

/// The clients and pools of one loop. Each callback of a [`ClientHandler`](super::ClientHandler)
/// has them at hand.
///
/// What is asked for here is done when the callback has returned, and told by others; nothing is
/// called back from inside.
pub struct Clients {
    callings: Table<Calling>,
    pub(super) pools: Table<PoolSlot>,
    connector: Connector<Holder>,
    /// Whose the open connections are that were dialled here.
    holders: HashMap<ConnectionId, Holder>,
    /// Those who may have something to do, perhaps more than once.
    busy: VecDeque<Owner>,
    /// Callbacks that are due.
    pub(super) events: VecDeque<Event>,
    /// The connection whose `on_close` is under way, and the lease that has ended with it.
    pub(super) ended: Option<(ConnectionId, Lease)>,
    /// When there were more of them than a visit may make.
    postponed: Deadline,
    /// Open connections whose texts may be envelopes, to the end of each, whatever has become of its
    /// client. Most loops have none, and pay nothing.
    envelopes: HashSet<ConnectionId>,
    /// Open connections that the application does not hear of. Few at any time.
    private: HashSet<ConnectionId>,
}

/// The name of a client of a loop. A stale one is a miss, never another client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientId(pub(super) Key);

/// Whose a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Owner {
    /// A client's.
    Client(ClientId),
    /// A pool's.
    Pool(PoolId),
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    Client(ClientId),
    Member(PoolId, MemberKey),
    /// To see whether an endpoint answers.
    Probe(PoolId, EndpointId),
}

impl Holder {
    const fn owner(self) -> Owner {
        match self {
            Self::Client(id) => Owner::Client(id),
            Self::Member(id, _) | Self::Probe(id, _) => Owner::Pool(id),
        }
    }
}

impl Owner {
    /// What its timers are known by, among all that the layer sets.
    pub(super) const fn cookie(self) -> u64 {
        match self {
            Self::Client(id) => id.0.index as u64,
            Self::Pool(id) => 1 << 32 | id.0.index as u64,
        }
    }
}

impl Clients {
    pub(super) fn new(names: Names) -> Self {
        Self {
            callings: Table::new(u32::MAX - 1, 0),
            pools: Table::new(u32::MAX - 1, 0),
            connector: Connector::new(names),
            holders: HashMap::new(),
            busy: VecDeque::new(),
            events: VecDeque::new(),
            ended: None,
            postponed: Deadline::default(),
            envelopes: HashSet::new(),
            private: HashSet::new(),
        }
    }

    /// Adds a client, which connects: before this turn ends, or in the first one of a loop that has
    /// not turned yet.
    ///
    /// # Panics
    /// With four billion clients.
    pub fn add(&mut self, settings: ClientSettings) -> ClientId {
        let inserted = self.callings.insert(Calling::new(settings));
        let id = ClientId(inserted.unwrap_or_else(|_| panic!("four billion clients")));
        self.start(id);
        id
    }

    /// Has a client connect again that has stopped. Nothing happens to one that is on its way, nor
    /// to one that was removed.
    pub fn start(&mut self, id: ClientId) {
        if let Some(calling) = self.callings.get_mut(id.0)
            && calling.future == Future::Stays
        {
            calling.start();
            self.note_busy(Owner::Client(id));
        }
    }

    /// Ends a client's connection by a closing handshake, or its dial; it is not dialled any more.
    /// What has waited for a connection is reported.
    pub fn stop(&mut self, id: ClientId) {
        self.stop_with(id, Goodbye::default());
    }

    /// As [`Clients::stop`], with a code and a reason for the server.
    ///
    /// # Errors
    /// [`InvalidClose`] if the code may not stand on the wire or the reason has over 123 bytes.
    pub fn close(
        &mut self,
        id: ClientId,
        code: CloseCode,
        reason: &str,
    ) -> Result<(), InvalidClose> {
        self.stop_with(id, Goodbye::new(code, reason)?);
        Ok(())
    }

    pub(super) fn stop_with(&mut self, id: ClientId, goodbye: Goodbye) {
        if let Some(calling) = self.callings.get_mut(id.0) {
            calling.stop(goodbye);
            self.note_busy(Owner::Client(id));
        }
    }

    /// Stops a client and forgets it, once all is told.
    pub fn remove(&mut self, id: ClientId) {
        self.stop(id);
        if let Some(calling) = self.callings.get_mut(id.0) {
            calling.future = Future::Goes;
        }
    }

    /// Sends a message by a client: at once if it is connected, else when it is again. `None` if
    /// there is no such client any more.
    pub fn send<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        id: ClientId,
        message: Message<'_>,
    ) -> Option<Submitted> {
        self.submit(at, id, message, Urgency::MayWait)
    }

    /// The same for a message that must not wait for others: those that wait for their batch leave
    /// in front of it, and it with them.
    pub fn send_now<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        id: ClientId,
        message: Message<'_>,
    ) -> Option<Submitted> {
        self.submit(at, id, message, Urgency::Now)
    }

    fn submit<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        id: ClientId,
        message: Message<'_>,
        urgency: Urgency,
    ) -> Option<Submitted> {
        let calling = self.callings.get_mut(id.0)?;
        let submitted = calling.send(at, message, urgency);
        if !matches!(submitted, Submitted::Given(_)) {
            self.note_busy(Owner::Client(id));
        }
        Some(submitted)
    }

    /// What went through a client's batches and rate, and how long what is queued will take.
    pub fn flow<D>(&mut self, at: &mut Loop<'_, D>, id: ClientId) -> Option<FlowStats> {
        self.callings.get_mut(id.0).map(|calling| calling.flow(at))
    }

    /// As [`Clients::send`], for messages that can wait: takes one only if no more than
    /// [`high_water_bytes`](crate::ConnectionLimits::high_water_bytes) are unsent, or, without a
    /// connection, if it fits in the [queue](super::Outage) for that time. If it says
    /// [`Submitted::NotYet`], offer it again in
    /// [`on_drain`](super::ClientHandler::on_drain), [`on_change`](super::ClientHandler::on_change)
    /// and [`on_unsent`](super::ClientHandler::on_unsent): one of them is sure to follow.
    pub fn offer<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        id: ClientId,
        message: Message<'_>,
    ) -> Option<Submitted> {
        let submitted = self.callings.get_mut(id.0)?.offer(at, message);
        if !matches!(submitted, Submitted::Given(_)) {
            self.note_busy(Owner::Client(id));
        }
        Some(submitted)
    }

    /// Offers to the kernel what a client has taken. Says whether nothing is left: every message
    /// was handed over, or reported. If there is something left, callbacks follow as with
    /// [`Clients::offer`].
    pub fn flush<D>(&mut self, at: &mut Loop<'_, D>, id: ClientId) -> bool {
        self.note_busy(Owner::Client(id));
        self.callings.get_mut(id.0).is_none_or(|calling| calling.hand_over(at))
    }

    /// Where a client stands; `None` if there is no such client any more.
    pub fn state(&self, id: ClientId) -> Option<ClientState> {
        self.callings.get(id.0).map(Calling::state)
    }

    /// What has happened to a client so far.
    pub fn stats(&self, id: ClientId) -> Option<&ClientStats> {
        self.callings.get(id.0).map(Calling::stats)
    }

    /// The open connection of a client.
    pub fn connection(&self, id: ClientId) -> Option<ConnectionId> {
        self.callings.get(id.0)?.connection()
    }

    /// Stops all clients and shuts all pools down: the loop is about to end.
    pub(super) fn shut_down<D>(&mut self, at: &mut Loop<'_, D>) {
        for id in self.iter().collect::<Vec<_>>() {
            self.stop(id);
        }
        for id in self.pools.keys().map(PoolId).collect::<Vec<_>>() {
            self.shut_down_pool(at, id);
        }
    }

    /// The clients, in no order.
    pub fn iter(&self) -> impl Iterator<Item = ClientId> + '_ {
        self.callings.keys().map(ClientId)
    }

    /// Whose a connection is, on its way, open or just over; `None` if it was accepted, or dialled
    /// by the application itself.
    pub fn owner(&self, id: ConnectionId) -> Option<Owner> {
        self.holder(id).map(Holder::owner)
    }

    pub(super) fn holder(&self, id: ConnectionId) -> Option<Holder> {
        self.holders.get(&id).copied().or_else(|| self.connector.owner(id))
    }

    /// A connection has opened. Says whether the application is to hear of it.
    pub(super) fn handle_open<D>(&mut self, at: &mut Loop<'_, D>, id: ConnectionId) -> Hearing {
        let Some(holder) = self.connector.handle_open(id) else { return Hearing::Public };
        self.holders.insert(id, holder);
        self.note_busy(holder.owner());
        match holder {
            Holder::Client(client) => {
                if let Some(calling) = self.callings.get_mut(client.0) {
                    calling.handle_open(at, id);
                }
            }
            Holder::Member(pool, member) => {
                let now = at.now();
                if let Some(pool) = self.running(at, pool) {
                    pool.handle_open(member, id, now);
                }
            }
            Holder::Probe(pool, endpoint) => {
                if let Some(PoolSlot::Running(pool)) = self.pools.get_mut(pool.0) {
                    pool.handle_probe(at, endpoint, Outcome::Success);
                }
                self.private.insert(id);
                let closed = at.peer(id).close(CloseCode::NORMAL, "");
                debug_assert!(closed.is_ok(), "the code may be sent");
                return Hearing::Private;
            }
        }
        if self.settings_of(holder).is_some_and(ClientSettings::has_envelopes) {
            self.envelopes.insert(id);
        }
        Hearing::Public
    }

    /// How a connection was made.
    fn settings_of(&self, holder: Holder) -> Option<&ClientSettings> {
        match holder {
            Holder::Client(client) => self.callings.get(client.0).map(Calling::settings),
            Holder::Member(pool, member) => match self.pools.get(pool.0) {
                Some(PoolSlot::Running(pooling)) => pooling.settings_of(member),
                Some(PoolSlot::Fresh(_)) | None => None,
            },
            Holder::Probe(..) => None,
        }
    }

    /// Whether the application does not hear of what happens on an open connection.
    pub(super) fn is_private(&self, id: ConnectionId) -> bool {
        self.private.contains(&id)
    }

    /// Whether the application hears of a connection, on its way or open.
    pub(super) fn hearing(&self, id: ConnectionId) -> Hearing {
        match self.holder(id) {
            Some(Holder::Probe(..)) => Hearing::Private,
            Some(Holder::Client(_) | Holder::Member(..)) | None => Hearing::Public,
        }
    }

    /// A connection is over; the application is told next. Whose it was is known until nothing of it
    /// is left.
    pub(super) fn handle_closed<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        id: ConnectionId,
        summary: &CloseSummary,
    ) {
        let Some(holder) = self.holder(id) else { return };
        self.note_busy(holder.owner());
        match holder {
            Holder::Client(client) => {
                if let Some(calling) = self.callings.get_mut(client.0) {
                    calling.handle_closed(at, id, summary);
                }
            }
            Holder::Member(pool, member) => {
                if let Some(PoolSlot::Running(pooling)) = self.pools.get_mut(pool.0) {
                    let end = End::of_close(summary);
                    let events = &mut self.events;
                    let lease = pooling.handle_closed(pool, member, end, at.now(), events);
                    self.ended = lease.map(|inner| (id, Lease { pool, inner }));
                }
            }
            Holder::Probe(..) => {}
        }
    }

    /// Nothing of a connection is left. Says whether it was dialled here.
    pub(super) fn handle_gone<D>(&mut self, at: &Loop<'_, D>, id: ConnectionId) -> bool {
        let Some(holder) = self.holders.remove(&id) else { return false };
        self.envelopes.remove(&id);
        self.private.remove(&id);
        if let Holder::Member(id, member) = holder
            && let Some(PoolSlot::Running(pool)) = self.pools.get_mut(id.0)
        {
            pool.handle_gone(member, at.now());
            self.note_busy(holder.owner());
        }
        true
    }

    pub(super) fn handle_pong<D>(
        &mut self,
        at: &Loop<'_, D>,
        id: ConnectionId,
        payload: &[u8],
        round_trip: Option<Duration>,
    ) {
        let Some(holder) = self.holder(id) else { return };
        match holder {
            Holder::Client(client) => {
                if let (Some(time), Some(calling)) = (round_trip, self.callings.get_mut(client.0)) {
                    calling.handle_round_trip(time);
                }
            }
            Holder::Member(pool, member) => {
                if let Some(PoolSlot::Running(pool)) = self.pools.get_mut(pool.0) {
                    pool.handle_pong(member, payload, round_trip, at.now());
                }
                self.note_busy(holder.owner());
            }
            Holder::Probe(..) => {}
        }
    }

    /// There is room for more.
    pub(super) fn handle_drain(&mut self, id: ConnectionId) {
        if let Some(owner) = self.owner(id) {
            self.note_busy(owner);
        }
    }

    pub(super) fn handle_undecodable<D>(&mut self, at: &Loop<'_, D>, id: ConnectionId) {
        match self.holder(id) {
            Some(Holder::Client(client)) => {
                if let Some(calling) = self.callings.get_mut(client.0) {
                    calling.handle_undecodable();
                }
            }
            Some(Holder::Member(pool, member)) => {
                if let Some(PoolSlot::Running(pooling)) = self.pools.get_mut(pool.0) {
                    pooling.handle_undecodable(member, at.now());
                }
                self.note_busy(Owner::Pool(pool));
            }
            Some(Holder::Probe(..)) | None => {}
        }
    }

    /// Whether texts that come on a connection may be envelopes.
    pub(super) fn takes_envelopes(&self, id: ConnectionId) -> bool {
        self.envelopes.contains(&id)
    }

    /// A connection has not opened. Gives the error back if it was not dialled here.
    pub(super) fn handle_dial_failed<D: Default>(
        &mut self,
        at: &mut Loop<'_, D>,
        id: ConnectionId,
        error: DialError,
    ) -> Option<DialError> {
        self.connector.handle_dial_failed(at, id, error)
    }

    /// The addresses of a name have come.
    pub(super) fn handle_answer<D: Default>(
        &mut self,
        at: &mut Loop<'_, D>,
        answer: super::names::Answer,
    ) {
        self.connector.handle_answer(at, answer);
    }

    /// A timer has come. Says whether it was one of those set here.
    pub(super) fn handle_timer<D>(
        &mut self,
        at: &Loop<'_, D>,
        timer: TimerId,
        cookie: u64,
    ) -> bool {
        if self.connector.handle_timer(timer, cookie) || self.postponed.take(timer) {
            return true;
        }
        let index = cookie as u32;
        let owner = match (cookie >> 32, self.callings.key_at(index), self.pools.key_at(index)) {
            (0, Some(key), _) => Owner::Client(ClientId(key)),
            (1, _, Some(key)) => Owner::Pool(PoolId(key)),
            _ => return false,
        };
        let is_own = match owner {
            Owner::Client(id) => {
                let calling = self.callings.get_mut(id.0);
                calling.is_some_and(|calling| calling.handle_timer(at, timer))
            }
            Owner::Pool(id) => match self.pools.get_mut(id.0) {
                Some(PoolSlot::Running(pool)) => pool.handle_timer(at, timer),
                Some(PoolSlot::Fresh(_)) | None => false,
            },
        };
        if is_own {
            self.note_busy(owner);
        }
        is_own
    }

    /// Somebody may have something to do.
    pub(super) fn note_busy(&mut self, owner: Owner) {
        // Who sends a thousand messages in a callback stands there once.
        if self.busy.back() != Some(&owner) {
            self.busy.push_back(owner);
        }
    }

    /// Has the layer visited again in the next turn.
    pub(super) fn postpone<D>(&mut self, at: &mut Loop<'_, D>) {
        self.postponed.set(at, Some(at.now()), 0);
    }

    /// Has everybody who may have something to do, do it.
    pub(super) fn work<D: Default>(&mut self, at: &mut Loop<'_, D>) {
        loop {
            while let Some((holder, ending)) = self.connector.poll_ended() {
                match ending {
                    Ending::Failed(error) => self.handle_failed(at, holder, error),
                    Ending::Cancelled => self.handle_cancelled(at, holder),
                }
            }
            match self.busy.pop_front() {
                Some(Owner::Client(id)) => self.work_client(at, id),
                Some(Owner::Pool(id)) => self.work_pool(at, id),
                None => return,
            }
        }
    }

    fn work_client<D: Default>(&mut self, at: &mut Loop<'_, D>, id: ClientId) {
        let Some(calling) = self.callings.get_mut(id.0) else { return };
        calling.work(at, id, &mut self.connector, &mut self.events);
        if calling.future == Future::Goes && calling.state() == ClientState::Disconnected {
            calling.release(at);
            self.callings.remove(id.0);
        }
    }

    fn work_pool<D: Default>(&mut self, at: &mut Loop<'_, D>, id: PoolId) {
        if self.running(at, id).is_none() {
            return;
        }
        if let Some(PoolSlot::Running(pool)) = self.pools.get_mut(id.0) {
            pool.work(at, id, &mut self.connector, &mut self.events);
            if pool.is_finished() {
                pool.release_timer(at);
                self.pools.remove(id.0);
            }
        }
    }

    /// Nothing is left of a dial that was given up.
    fn handle_cancelled<D>(&mut self, at: &Loop<'_, D>, holder: Holder) {
        match holder {
            Holder::Member(id, member) => {
                if let Some(PoolSlot::Running(pool)) = self.pools.get_mut(id.0) {
                    pool.handle_gone(member, at.now());
                }
                self.note_busy(holder.owner());
            }
            Holder::Client(_) | Holder::Probe(..) => {}
        }
    }

    /// A dial has failed for good.
    fn handle_failed<D>(&mut self, at: &mut Loop<'_, D>, holder: Holder, error: DialError) {
        match holder {
            Holder::Client(id) => {
                if let Some(calling) = self.callings.get_mut(id.0) {
                    calling.handle_dial_failed(at, &error);
                    self.events.push_back(Event::DialFailed(Owner::Client(id), error));
                }
            }
            Holder::Member(id, member) => {
                if let Some(PoolSlot::Running(pool)) = self.pools.get_mut(id.0) {
                    pool.handle_dial_failed(member, &error, at.now());
                    self.events.push_back(Event::DialFailed(Owner::Pool(id), error));
                }
            }
            Holder::Probe(id, endpoint) => {
                if let Some(PoolSlot::Running(pool)) = self.pools.get_mut(id.0) {
                    pool.handle_probe(at, endpoint, Outcome::Failure);
                }
            }
        }
        self.note_busy(holder.owner());
    }
}

/// Who hears of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hearing {
    /// The application.
    Public,
    /// Nobody but the layer.
    Private,
}
