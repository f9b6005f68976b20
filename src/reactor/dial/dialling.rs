//! A connection that is on its way.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::answer::Refusing;
use super::error::{DialError, DialPhase};
use super::race::Race;
use super::settings::DialSettings;
use super::upgrade::Upgrade;
use crate::collections::{Key, Outbox};
use crate::handshake::Tunnel;
use crate::reactor::endpoint::PeerAddress;
use crate::reactor::event_loop::Loop;
use crate::reactor::id::ConnectionId;
use crate::reactor::lifetime::LifeEnd;
use crate::reactor::net::NetKey;
use crate::reactor::remote::RemoteAddress;
use crate::reactor::shared::{Shared, after};
use crate::reactor::slot::{Notes, Phase, Slot};
use crate::reactor::turn::Timer;

/// A connection before it opens.
#[derive(Debug)]
pub struct Dialling<D> {
    pub(super) settings: Arc<DialSettings>,
    pub(super) data: D,
    pub(super) stage: Stage,
    pub(super) outbox: Outbox,
    /// Of the phase.
    pub(super) deadline: Instant,
    pub(super) fate: Fate,
}

/// Whether the application still wants the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Wanted,
    GivenUp,
}

/// How far dialling has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// Nothing was done yet: the network is out of a callback's reach.
    Noted(Vec<RemoteAddress>),
    Connecting(Race),
    Tunnel(Tunnel),
    Tls,
    Upgrade(Box<Upgrade>),
    Refused(Refusing),
}

impl<D> Dialling<D> {
    pub(in crate::reactor) const fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    pub(in crate::reactor) fn outbox_mut(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// When something is due, though nothing happens.
    pub(in crate::reactor) fn deadline(&self) -> Instant {
        match &self.stage {
            Stage::Connecting(race) => {
                race.next_start().map_or(self.deadline, |start| start.min(self.deadline))
            }
            Stage::Noted(_)
            | Stage::Tunnel(_)
            | Stage::Tls
            | Stage::Upgrade(_)
            | Stage::Refused(_) => self.deadline,
        }
    }

    /// Whether there is a socket to be read.
    pub(in crate::reactor) const fn is_connected(&self) -> bool {
        !matches!(self.stage, Stage::Noted(_) | Stage::Connecting(_))
    }

    pub(super) const fn phase(&self) -> DialPhase {
        match self.stage {
            Stage::Noted(_) | Stage::Connecting(_) => DialPhase::Connect,
            Stage::Tunnel(_) => DialPhase::Tunnel,
            Stage::Tls => DialPhase::Tls,
            Stage::Upgrade(_) | Stage::Refused(_) => DialPhase::Upgrade,
        }
    }
}

impl<D> Loop<'_, D> {
    /// Makes a connection to the first of `remotes` that answers, and opens a WebSocket on it. It
    /// is begun before this turn ends. Either [`on_open`](crate::Handler::on_open) follows under this
    /// name, and all that follows it, or [`on_dial_failed`](crate::Handler::on_dial_failed).
    ///
    /// # Errors
    /// [`DialError::NoRoom`] if the loop has no place for another connection, or is about to end;
    /// [`DialError::Io`] if there is no address at all, or the configuration cannot be.
    pub fn dial(
        &mut self,
        remotes: impl IntoIterator<Item = RemoteAddress>,
        settings: &Arc<DialSettings>,
        data: D,
    ) -> Result<ConnectionId, DialError> {
        self.shared.dial(remotes.into_iter().collect(), settings, data)
    }

    /// Gives a connection up that was dialled and has not opened:
    /// [`on_dial_failed`](crate::Handler::on_dial_failed) follows with [`DialError::Aborted`], in the next turn at the latest. One that is open is left
    /// alone, as is one that is gone.
    pub fn give_up(&mut self, id: ConnectionId) {
        let key = id.key();
        if id.shard() == self.shared.shard
            && let Some(slot) = self.shared.slots.get_mut(key)
            && let Phase::Dialling(dialling) = &mut slot.phase
        {
            // Its sockets are closed when the network is at hand again.
            dialling.fate = Fate::GivenUp;
            self.shared.mark_dirty(key);
        }
    }
}

impl<D> Shared<D> {
    pub(super) fn dial(
        &mut self,
        remotes: Vec<RemoteAddress>,
        settings: &Arc<DialSettings>,
        data: D,
    ) -> Result<ConnectionId, DialError> {
        let unfit = |error| DialError::Io { phase: DialPhase::Connect, error };
        settings
            .check()
            .map_err(|error| unfit(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        if remotes.is_empty() {
            return Err(unfit(io::ErrorKind::AddrNotAvailable.into()));
        }
        // Whoever is dialled anew when it is told of its end must not keep a loop from ending.
        if !self.departure.is_dialling() || !self.has_room() {
            return Err(DialError::NoRoom);
        }
        let key = self.slots.vacant_key().ok_or(DialError::NoRoom)?;
        let config = self.configs.begin(&settings.config).ok_or(DialError::NoRoom)?;
        let deadline = after(self.now, settings.timeouts.connect);
        let dialling = Dialling {
            settings: settings.clone(),
            data,
            stage: Stage::Noted(remotes),
            outbox: Outbox::new(),
            deadline,
            fate: Fate::Wanted,
        };
        let inserted = self.slots.insert(Slot {
            phase: Phase::Dialling(Box::new(dialling)),
            peer: PeerAddress::Unix.into(),
            socket: NO_SOCKET,
            timer: self.wheel.insert(deadline, Timer::Connection(key.index, LifeEnd::NEVER)),
            backlog: None,
            config,
            notes: Notes::default(),
        });
        debug_assert!(inserted.is_ok(), "a vacant key was there");
        self.occupancy.arrive();
        self.dials.push_back(key);
        self.dialling += 1;
        self.counters.dialled += 1;
        Ok(ConnectionId::new(self.shard, key))
    }
}

impl<D> Shared<D> {
    pub(super) fn dialling(&mut self, key: Key) -> Option<&mut Dialling<D>> {
        match &mut self.slots.get_mut(key)?.phase {
            Phase::Dialling(dialling) => Some(dialling),
            Phase::Http(_)
            | Phase::Open { .. }
            | Phase::Closed { .. }
            | Phase::Parting { .. }
            | Phase::Ended => None,
        }
    }
}

/// No network has a socket of this name.
pub const NO_SOCKET: NetKey = NetKey(u32::MAX);
