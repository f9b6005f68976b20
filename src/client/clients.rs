//! All that a loop calls, as callbacks see it.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::calling::{Calling, ClientStats, Future, Goodbye, Submitted};
use super::connector::Connector;
use super::deadline::Deadline;
use super::event::Event;
use super::names::Names;
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
    pub(super) callings: Table<Calling>,
    pub(super) connector: Connector<Owner>,
    /// Whose the open connections are that were dialled here.
    pub(super) owners: HashMap<ConnectionId, Owner>,
    /// Those who may have something to do, perhaps more than once.
    pub(super) busy: VecDeque<Owner>,
    /// Callbacks that are due.
    pub(super) events: VecDeque<Event>,
    /// When there were more of them than a visit may make.
    postponed: Deadline,
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
}

impl Clients {
    pub(super) fn new(names: Names) -> Self {
        Self {
            callings: Table::new(u32::MAX - 1, 0),
            connector: Connector::new(names),
            owners: HashMap::new(),
            busy: VecDeque::new(),
            events: VecDeque::new(),
            postponed: Deadline::default(),
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

    /// Has a client connect again that has stopped. Nothing happens to one that is on its way.
    pub fn start(&mut self, id: ClientId) {
        if let Some(calling) = self.callings.get_mut(id.0) {
            calling.start();
            self.busy.push_back(Owner::Client(id));
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
            self.busy.push_back(Owner::Client(id));
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
        let submitted = self.callings.get_mut(id.0)?.send(at, message);
        if !matches!(submitted, Submitted::Given(_)) {
            self.busy.push_back(Owner::Client(id));
        }
        Some(submitted)
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
            self.busy.push_back(Owner::Client(id));
        }
        Some(submitted)
    }

    /// Offers to the kernel what a client has taken. Says whether nothing is left: every message
    /// was handed over, or reported. If there is something left, callbacks follow as with
    /// [`Clients::offer`].
    pub fn flush<D>(&mut self, at: &mut Loop<'_, D>, id: ClientId) -> bool {
        self.busy.push_back(Owner::Client(id));
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

    /// Whose a connection is, open or just over; `None` if it was accepted, or dialled by the
    /// application itself.
    pub fn owner(&self, id: ConnectionId) -> Option<Owner> {
        self.owners.get(&id).copied()
    }

    /// The clients, in no order.
    pub fn iter(&self) -> impl Iterator<Item = ClientId> + '_ {
        self.callings.keys().map(ClientId)
    }

    /// A connection has opened.
    pub(super) fn handle_open<D>(&mut self, at: &Loop<'_, D>, id: ConnectionId) {
        let Some(owner) = self.connector.handle_open(id) else { return };
        self.owners.insert(id, owner);
        match owner {
            Owner::Client(client) => {
                if let Some(calling) = self.callings.get_mut(client.0) {
                    calling.handle_open(at, id);
                }
            }
        }
        self.busy.push_back(owner);
    }

    /// A connection is over.
    pub(super) fn handle_closed<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        id: ConnectionId,
        summary: &CloseSummary,
    ) {
        let Some(owner) = self.owners.remove(&id) else { return };
        match owner {
            Owner::Client(client) => {
                if let Some(calling) = self.callings.get_mut(client.0) {
                    calling.handle_closed(at, id, summary);
                }
            }
        }
        self.busy.push_back(owner);
    }

    pub(super) fn handle_pong(&mut self, id: ConnectionId, round_trip: Option<Duration>) {
        if let (Some(Owner::Client(client)), Some(time)) = (self.owner(id), round_trip)
            && let Some(calling) = self.callings.get_mut(client.0)
        {
            calling.handle_round_trip(time);
        }
    }

    /// There is room for more.
    pub(super) fn handle_drain(&mut self, id: ConnectionId) {
        self.busy.extend(self.owner(id));
    }

    pub(super) fn handle_undecodable(&mut self, id: ConnectionId) {
        if let Some(Owner::Client(client)) = self.owner(id)
            && let Some(calling) = self.callings.get_mut(client.0)
        {
            calling.handle_undecodable();
        }
    }

    /// A timer has come. Says whether it was one of those set here.
    pub(super) fn handle_timer<D>(
        &mut self,
        at: &Loop<'_, D>,
        timer: TimerId,
        cookie: u64,
    ) -> bool {
        if self.connector.handle_timer(timer, cookie) {
            return true;
        }
        if self.postponed.take(timer) {
            return true;
        }
        let Some(key) = self.callings.key_at(cookie as u32) else { return false };
        let is_own =
            self.callings.get_mut(key).is_some_and(|calling| calling.handle_timer(at, timer));
        if is_own {
            self.busy.push_back(Owner::Client(ClientId(key)));
        }
        is_own
    }

    /// Has the layer visited again in the next turn.
    pub(super) fn postpone<D>(&mut self, at: &mut Loop<'_, D>) {
        self.postponed.set(at, Some(at.now()), 0);
    }

    /// Has everybody who may have something to do, do it.
    pub(super) fn work<D: Default>(&mut self, at: &mut Loop<'_, D>) {
        loop {
            while let Some((owner, error)) = self.connector.poll_failed() {
                self.handle_dial_failed(at, owner, error);
            }
            let Some(owner) = self.busy.pop_front() else { return };
            match owner {
                Owner::Client(id) => self.work_client(at, id),
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

    fn handle_dial_failed<D>(&mut self, at: &mut Loop<'_, D>, owner: Owner, error: DialError) {
        match owner {
            Owner::Client(id) => {
                if let Some(calling) = self.callings.get_mut(id.0) {
                    calling.handle_dial_failed(at, &error);
                    self.events.push_back(Event::DialFailed(id, error));
                }
            }
        }
        self.busy.push_back(owner);
    }
}
