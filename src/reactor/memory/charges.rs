//! Who holds what of a loop's memory.

use crate::collections::Key;
use crate::reactor::context::Peer;
use crate::reactor::handler::Handler;
use crate::reactor::id::ConnectionId;
use crate::reactor::net::Net;
use crate::reactor::shared::Shared;
use crate::reactor::slot::{Inbound, Phase, ReceiveSlot, Slot};
use crate::reactor::turn::Reactor;

/// What the connections of one listener hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Charge {
    /// In any phase.
    pub connections: u64,
    /// What they hold together.
    pub bytes: u64,
}

/// What is held for whom. All of it together, with what the pools keep for later, is
/// [`Usage::pinned_bytes`](crate::Usage::pinned_bytes).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Charges {
    /// By listener, in the order they were added.
    pub listeners: Vec<Charge>,
    /// Connections that were dialled.
    pub dialled: Charge,
}

impl Charges {
    /// Nothing for so many listeners, in the memory that is there.
    pub(super) fn reset(&mut self, listeners: usize) {
        self.listeners.clear();
        self.listeners.resize(listeners, Charge::default());
        self.dialled = Charge::default();
    }

    pub(super) fn add(&mut self, listener: Option<usize>, bytes: usize) {
        let charge = match listener {
            Some(index) => {
                if index >= self.listeners.len() {
                    self.listeners.resize(index + 1, Charge::default());
                }
                &mut self.listeners[index]
            }
            None => &mut self.dialled,
        };
        charge.connections += 1;
        charge.bytes += bytes as u64;
    }
}

impl<D> Shared<D> {
    /// What the queue of a slot holds.
    fn queue_bytes(&self, slot: &Slot<D>) -> usize {
        let pool = &self.pools.outbox;
        match &slot.phase {
            Phase::Http(outbox) | Phase::Parting { outbox, .. } => outbox.pinned_bytes(pool),
            Phase::Dialling(dialling) => dialling.outbox().pinned_bytes(pool),
            Phase::Open { sender, .. } => sender.outbox().pinned_bytes(pool),
            Phase::Closed { .. } | Phase::Ended => 0,
        }
    }
}

impl<D> Peer<'_, D> {
    /// What its queue holds, in whole rings, with what is queued by reference. What is held of its
    /// messages a callback cannot see; [`Reactor::pinned_bytes`](crate::Reactor::pinned_bytes) has
    /// all.
    pub fn queue_pinned_bytes(&self) -> usize {
        let slot = self.shared.slots.get(self.key);
        slot.map_or(0, |slot| self.shared.queue_bytes(slot))
    }
}

impl<N: Net, H: Handler> Reactor<N, H> {
    /// What a connection holds of the loop's memory: its places in the tables, its message under way
    /// and what was read behind that, its queue, its part of compression and TLS. `None` if it is
    /// gone. Of [`Handler::Data`] only the place is known.
    pub fn pinned_bytes(&self, id: ConnectionId) -> Option<usize> {
        if id.shard() != self.shared.shard {
            return None;
        }
        self.shared.slots.contains(id.key()).then(|| self.bytes_of(id.key()))
    }

    /// What is held for whom. It looks at every connection.
    pub fn charges(&self) -> Charges {
        let mut charges = Charges::default();
        charges.reset(self.shared.listeners.len());
        for key in self.shared.slots.keys() {
            let Some(slot) = self.shared.slots.get(key) else { continue };
            charges.add(self.shared.listener(slot), self.bytes_of(key));
        }
        charges
    }

    pub(super) fn bytes_of(&self, key: Key) -> usize {
        self.moving_bytes(key) + self.lasting_bytes(key)
    }

    /// What reading and writing have led to: the message under way, what was read behind it, the
    /// queue.
    pub(super) fn moving_bytes(&self, key: Key) -> usize {
        let Some(slot) = self.shared.slots.get(key) else { return 0 };
        let backlog = slot.backlog.and_then(|name| self.backlogs.get(name.index()));
        let message_bytes = match self.inbound(key) {
            Some(Inbound::Open(receiver)) => self.receive_pools.message_bytes(receiver),
            _ => 0,
        };
        message_bytes
            + backlog.map_or(0, |backlog| backlog.block.capacity())
            + self.shared.queue_bytes(slot)
    }

    /// What a connection holds as long as it stands: its places in the tables, what its compression
    /// remembers, its TLS.
    pub(super) fn lasting_bytes(&self, key: Key) -> usize {
        let Some(slot) = self.shared.slots.get(key) else { return 0 };
        let places = self.shared.slots.entry_bytes()
            + size_of::<ReceiveSlot<H::Data>>()
            + self.shared.wheel.entry_bytes();
        let receiving_bytes = match self.inbound(key) {
            Some(Inbound::Open(receiver)) => self.receive_pools.window_bytes(receiver),
            Some(Inbound::Http(http)) => http.bytes(),
            Some(Inbound::Dialling | Inbound::Parting { .. } | Inbound::Vacant) | None => 0,
        };
        let sending_bytes = match &slot.phase {
            Phase::Open { sender, .. } => sender.own_bytes(),
            Phase::Dialling(dialling) => size_of_val(&**dialling),
            Phase::Http(_) | Phase::Parting { .. } | Phase::Closed { .. } | Phase::Ended => 0,
        };
        let subprotocol_bytes = self.shared.subprotocols.bytes_of(key.index);
        let socket_bytes = self.net.bytes_of(slot.socket);
        places + receiving_bytes + sending_bytes + subprotocol_bytes + socket_bytes
    }

    fn inbound(&self, key: Key) -> Option<&Inbound<H::Data>> {
        self.receivers.get(key.index as usize).map(|slot| &slot.inbound)
    }
}
