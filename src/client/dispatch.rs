//! What the loop tells, passed on to whom it concerns.

use std::time::Duration;

use super::balance::Outcome;
use super::calling::{Calling, Future};
use super::cause::{End, is_for_want_of_room};
use super::clients::{ClientId, Clients, Holder, Party};
use super::connector::Ending;
use super::event::Event;
use super::lease::Lease;
use super::names::Answer;
use super::pools::{PoolId, PoolSlot};
use super::reconnect::ClientState;
use super::settings::ClientSettings;
use crate::protocol::CloseSummary;
use crate::reactor::{ConnectionId, DialError, Loop, TimerId};
use crate::wire::CloseCode;

impl Clients {
    /// A connection has opened. Says whether the application is to hear of it.
    pub(super) fn handle_open<D>(&mut self, at: &mut Loop<'_, D>, id: ConnectionId) -> Hearing {
        let Some(holder) = self.connector.handle_open(id) else { return Hearing::Public };
        self.holders.insert(id, holder);
        self.note_busy(holder.owner().into());
        match holder {
            Holder::Client(client) => {
                if let Some(calling) = self.callings.get_mut(client.0) {
                    calling.handle_open(at, id);
                }
            }
            Holder::Member(pool, _, member) => {
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
            Holder::Member(pool, _, member) => match self.pools.get(pool.0) {
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
        self.note_busy(holder.owner().into());
        match holder {
            Holder::Client(client) => {
                if let Some(calling) = self.callings.get_mut(client.0) {
                    calling.handle_closed(at, id, summary);
                }
            }
            Holder::Member(pool, _, member) => {
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
        if let Holder::Member(id, _, member) = holder
            && let Some(PoolSlot::Running(pool)) = self.pools.get_mut(id.0)
        {
            pool.handle_gone(member, at.now());
            self.note_busy(holder.owner().into());
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
            Holder::Member(pool, _, member) => {
                if let Some(PoolSlot::Running(pool)) = self.pools.get_mut(pool.0) {
                    pool.handle_pong(member, payload, round_trip, at.now());
                }
                self.note_busy(holder.owner().into());
            }
            Holder::Probe(..) => {}
        }
    }

    /// There is room for more.
    pub(super) fn handle_drain(&mut self, id: ConnectionId) {
        if let Some(owner) = self.owner(id) {
            self.note_busy(owner.into());
        }
    }

    pub(super) fn handle_undecodable<D>(&mut self, at: &Loop<'_, D>, id: ConnectionId) {
        match self.holder(id) {
            Some(Holder::Client(client)) => {
                if let Some(calling) = self.callings.get_mut(client.0) {
                    calling.handle_undecodable();
                }
            }
            Some(Holder::Member(pool, _, member)) => {
                if let Some(PoolSlot::Running(pooling)) = self.pools.get_mut(pool.0) {
                    pooling.handle_undecodable(member, at.now());
                }
                self.note_busy(Party::Pool(pool));
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
    pub(super) fn handle_answer<D: Default>(&mut self, at: &mut Loop<'_, D>, answer: Answer) {
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
        let party = match (cookie >> 32, self.callings.name_at(index), self.pools.name_at(index)) {
            (0, Some(name), _) => Party::Client(ClientId(name)),
            (1, _, Some(name)) => Party::Pool(PoolId(name)),
            _ => return false,
        };
        let is_own = match party {
            Party::Client(id) => {
                let calling = self.callings.get_mut(id.0);
                calling.is_some_and(|calling| calling.handle_timer(at, timer))
            }
            Party::Pool(id) => match self.pools.get_mut(id.0) {
                Some(PoolSlot::Running(pool)) => pool.handle_timer(at, timer),
                Some(PoolSlot::Fresh(_)) | None => false,
            },
        };
        if is_own {
            self.note_busy(party);
        }
        is_own
    }

    /// Somebody may have something to do.
    pub(super) fn note_busy(&mut self, party: Party) {
        // Who sends a thousand messages in a callback stands there once.
        if self.busy.back() != Some(&party) {
            self.busy.push_back(party);
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
                Some(Party::Client(id)) => self.work_client(at, id),
                Some(Party::Pool(id)) => self.work_pool(at, id),
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
            Holder::Member(id, _, member) => {
                if let Some(PoolSlot::Running(pool)) = self.pools.get_mut(id.0) {
                    pool.handle_gone(member, at.now());
                }
                self.note_busy(holder.owner().into());
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
                    self.events.push_back(Event::DialFailed(holder.owner(), error));
                }
            }
            Holder::Member(id, _, member) => {
                if let Some(PoolSlot::Running(pool)) = self.pools.get_mut(id.0) {
                    pool.handle_dial_failed(member, &error, at.now());
                    self.events.push_back(Event::DialFailed(holder.owner(), error));
                }
            }
            Holder::Probe(id, endpoint) => {
                if let Some(PoolSlot::Running(pool)) = self.pools.get_mut(id.0) {
                    if is_for_want_of_room(&error) {
                        pool.handle_probe_unmade(at, endpoint);
                    } else {
                        pool.handle_probe(at, endpoint, Outcome::Failure);
                    }
                }
            }
        }
        self.note_busy(holder.owner().into());
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
