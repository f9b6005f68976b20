//! All that a loop calls, as callbacks see it.

use std::collections::{HashMap, HashSet, VecDeque};

use super::balance::EndpointId;
use super::calling::{Calling, ClientStats, Future, Goodbye, Submitted};
use super::connector::Connector;
use super::deadline::Deadline;
use super::event::Event;
use super::lease::Lease;
use super::names::Names;
use super::outlet::{FlowStats, Urgency};
use super::pool::MemberKey;
use super::pools::{PoolId, PoolSlot};
use super::reconnect::ClientState;
use super::roll::{Name, Roll};
use super::settings::ClientSettings;
use crate::reactor::{ConnectionId, Loop, Message};
use crate::wire::{CloseCode, InvalidClose};

/// The clients and pools of one loop. Each callback of a [`ClientHandler`](super::ClientHandler)
/// has them at hand.
///
/// What is asked for here is done when the callback has returned, and told by others; nothing is
/// called back from inside.
pub struct Clients {
    pub(super) callings: Roll<Calling>,
    pub(super) pools: Roll<PoolSlot>,
    pub(super) connector: Connector<Holder>,
    /// Whose the open connections are that were dialled here.
    pub(super) holders: HashMap<ConnectionId, Holder>,
    /// Those who may have something to do, perhaps more than once.
    pub(super) busy: VecDeque<Party>,
    /// Callbacks that are due.
    pub(super) events: VecDeque<Event>,
    /// The connection whose `on_close` is under way, and the lease that has ended with it.
    pub(super) ended: Option<(ConnectionId, Lease)>,
    /// When there were more of them than a visit may make.
    pub(super) postponed: Deadline,
    /// Open connections whose texts may be envelopes, to the end of each, whatever has become of its
    /// client. Most loops have none, and pay nothing.
    pub(super) envelopes: HashSet<ConnectionId>,
    /// Open connections that the application does not hear of. Few at any time.
    pub(super) private: HashSet<ConnectionId>,
}

/// The name of a client of a loop. A stale one is a miss, never another client; so is one of another
/// loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientId(pub(super) Name);

/// Whose a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Owner {
    /// A client's.
    Client(ClientId),
    /// A pool's; it leads to this endpoint.
    Pool(PoolId, EndpointId),
}

/// Who may have something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Party {
    Client(ClientId),
    Pool(PoolId),
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    Client(ClientId),
    Member(PoolId, EndpointId, MemberKey),
    /// To see whether an endpoint answers.
    Probe(PoolId, EndpointId),
}

impl Holder {
    pub(super) const fn owner(self) -> Owner {
        match self {
            Self::Client(id) => Owner::Client(id),
            Self::Member(id, endpoint, _) | Self::Probe(id, endpoint) => Owner::Pool(id, endpoint),
        }
    }
}

impl From<Owner> for Party {
    fn from(owner: Owner) -> Self {
        match owner {
            Owner::Client(id) => Self::Client(id),
            Owner::Pool(id, _) => Self::Pool(id),
        }
    }
}

impl Party {
    /// What its timers are known by, among all that the layer sets.
    pub(super) const fn cookie(self) -> u64 {
        match self {
            Self::Client(id) => id.0.index() as u64,
            Self::Pool(id) => 1 << 32 | id.0.index() as u64,
        }
    }
}

impl Clients {
    pub(super) fn new(names: Names) -> Self {
        Self {
            callings: Roll::new(),
            pools: Roll::new(),
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
            self.note_busy(Party::Client(id));
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
            self.note_busy(Party::Client(id));
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
    ///
    /// While more than [`high_water_bytes`](crate::ConnectionLimits::high_water_bytes) are unsent the
    /// connection is not read. A server that does not read either while it has much to say, waits
    /// as long as this end does: until the heartbeat. Where both send much, use [`Clients::offer`],
    /// messages below the mark, or a higher one.
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
            self.note_busy(Party::Client(id));
        }
        Some(submitted)
    }

    /// What went through a client's batches and rate, and how long what is queued will take.
    pub fn flow<D>(&mut self, at: &mut Loop<'_, D>, id: ClientId) -> Option<FlowStats> {
        self.callings.get_mut(id.0).map(|calling| calling.flow(at))
    }

    /// As [`Clients::send`], for messages that can wait: takes one only if no more than
    /// [`high_water_bytes`](crate::ConnectionLimits::high_water_bytes) are unsent and it may wait for
    /// the [rate](super::Rate), or, without a connection, if it fits in the [queue](super::Outage)
    /// for that time. If it says [`Submitted::NotYet`], offer it again in
    /// [`on_drain`](super::ClientHandler::on_drain), [`on_room`](super::ClientHandler::on_room),
    /// [`on_change`](super::ClientHandler::on_change) and
    /// [`on_unsent`](super::ClientHandler::on_unsent): one of them is sure to follow.
    pub fn offer<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        id: ClientId,
        message: Message<'_>,
    ) -> Option<Submitted> {
        let submitted = self.callings.get_mut(id.0)?.offer(at, message);
        if !matches!(submitted, Submitted::Given(_)) {
            self.note_busy(Party::Client(id));
        }
        Some(submitted)
    }

    /// Offers to the kernel what a client has taken; a batch does not wait for more. Says whether
    /// nothing is left: every message was handed over, or reported. If there is something left,
    /// callbacks follow as with [`Clients::offer`].
    pub fn flush<D>(&mut self, at: &mut Loop<'_, D>, id: ClientId) -> bool {
        self.note_busy(Party::Client(id));
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
        for id in self.pools.names().map(PoolId).collect::<Vec<_>>() {
            self.shut_down_pool(at, id);
        }
    }

    /// Memory is scarce: nothing waits for its batch, what is known of names is forgotten, and pools
    /// keep no more than they must.
    pub(super) fn relieve<D>(&mut self, at: &mut Loop<'_, D>) {
        self.connector.shrink();
        for id in self.iter().collect::<Vec<_>>() {
            self.flush(at, id);
        }
        for id in self.pools.names().map(PoolId).collect::<Vec<_>>() {
            if let Some(PoolSlot::Running(pooling)) = self.pools.get_mut(id.0) {
                pooling.relieve(at);
                self.note_busy(Party::Pool(id));
            }
        }
    }

    /// The clients, in no order.
    pub fn iter(&self) -> impl Iterator<Item = ClientId> + '_ {
        self.callings.names().map(ClientId)
    }

    /// Whose a connection is, on its way, open or just over; `None` if it was accepted, or dialled
    /// by the application itself.
    pub fn owner(&self, id: ConnectionId) -> Option<Owner> {
        self.holder(id).map(Holder::owner)
    }

    pub(super) fn holder(&self, id: ConnectionId) -> Option<Holder> {
        self.holders.get(&id).copied().or_else(|| self.connector.owner(id))
    }
}
