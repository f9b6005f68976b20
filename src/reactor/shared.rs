//! What callbacks and the loop share: all sending halves, their pools, and notes of what is to do.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::command::Handle;
use super::configs::Configs;
use super::context::{GONE, SlotSink, Writer};
use super::drain::Departure;
use super::event_loop::Tasks;
use super::handler::Message;
use super::id::ShardIndex;
use super::listener::Listener;
use super::load::Occupancy;
use super::memory::Watch;
use super::publish::Subjects;
use super::slot::{Pause, Phase, Slot};
use super::subprotocols::Subprotocols;
use super::turn::Timer;
use crate::collections::{Key, Table, Wheel};
use crate::metrics::Counters;
use crate::protocol::{
    BatchOutcome, Config, DropReason, Moment, SendOutcome, SendPools, Sender, Transmit,
};
use crate::wire::Opcode;

/// The part of a loop that a callback may touch; it knows no network by its type.
#[derive(Debug)]
pub(super) struct Shared<D> {
    pub(super) shard: ShardIndex,
    pub(super) handle: Handle,
    pub(super) slots: Table<Slot<D>>,
    /// How many slots are taken, for other threads.
    pub(super) occupancy: Occupancy,
    pub(super) pools: SendPools,
    pub(super) listeners: Vec<Listener>,
    /// Of each listener, followed by those of its routes.
    pub(super) configs: Configs,
    pub(super) subprotocols: Subprotocols,
    /// Those that may have input to handle, each at most once; served in turn.
    pub(super) ready: VecDeque<Key>,
    /// Those with output of this turn, or whose state may have changed.
    pub(super) dirty: Vec<Key>,
    /// What a decision has brought along for the `on_open` that follows it at once.
    pub(super) attachment: Option<Box<dyn Any + Send>>,
    /// Those that were dialled and are to be begun.
    pub(super) dials: VecDeque<Key>,
    /// Open ones, accepted or dialled.
    pub(super) open: u32,
    /// Those that were dialled and are on their way.
    pub(super) dialling: u32,
    pub(super) departure: Departure,
    /// Who looks at memory, if anybody does.
    pub(super) watch: Option<Box<Watch>>,
    /// As in the loop's limits.
    pub(super) connections_max: u32,
    pub(super) wheel: Wheel<Timer>,
    pub(super) subjects: Subjects,
    pub(super) tasks: Tasks,
    pub(super) counters: Counters,
    /// When the loop was made.
    pub(super) origin: Instant,
    /// The time of this turn, twice: for the application and for the connections.
    pub(super) now: Instant,
    pub(super) moment: Moment,
}

/// A deadline. More than a year is as good as never, and a time that is as long as can be told ends
/// beyond what an `Instant` reaches.
pub(super) fn after(now: Instant, time: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    now + time.min(YEAR)
}

impl<D> Shared<D> {
    /// Whether memory is so scarce that nobody new is let in.
    pub(super) fn refuses_upgrades(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.refuses_upgrades())
    }

    /// Whether memory is so scarce that new connections agree on no compression.
    pub(super) fn refuses_contexts(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.refuses_contexts())
    }

    /// Whether one more connection may open.
    pub(super) const fn has_room(&self) -> bool {
        self.open + self.dialling < self.connections_max
    }

    /// Runs `act` with the sending half of `key`, if that is an open WebSocket.
    #[inline]
    pub(super) fn with_transmit<R>(
        &mut self,
        key: Key,
        writer: &mut dyn Writer,
        act: impl FnOnce(&mut Transmit<'_>) -> R,
    ) -> Option<R> {
        let slot = self.slots.get_mut(key)?;
        let Phase::Open { sender, .. } = &mut slot.phase else { return None };
        let mut sink = SlotSink {
            writer,
            socket: slot.socket,
            error: &mut slot.notes.write_error,
            bytes_sent: &mut self.counters.bytes_sent,
        };
        let config = self.configs.get(slot.config);
        let mut transmit =
            Transmit { sender, pools: &mut self.pools, config, now: self.moment, sink: &mut sink };
        Some(act(&mut transmit))
    }

    /// Sends a message given as a slice and counts.
    #[inline]
    pub(super) fn send_slice(
        &mut self,
        key: Key,
        writer: &mut dyn Writer,
        message: Message<'_>,
    ) -> SendOutcome {
        if let Some(slot) = self.slots.get_mut(key)
            && let Phase::Open { sender, .. } = &mut slot.phase
        {
            let config = self.configs.get(slot.config);
            if sender.cork_short(&mut self.pools, config, message.opcode(), message.payload()) {
                self.counters.messages_sent += 1;
                return SendOutcome::Sent;
            }
        }
        self.send(key, writer, |transmit| match message {
            Message::Text(text) => transmit.send_text(text),
            Message::Binary(bytes) => transmit.send_binary(bytes),
        })
    }

    /// Whether `key` is an open WebSocket and nothing speaks against handling more of its input.
    #[inline(always)]
    pub(super) fn is_flowing(&self, key: Key, high_water_bytes: usize) -> bool {
        self.slots.get(key).is_some_and(|slot| match &slot.phase {
            Phase::Open { sender, .. } => {
                sender.is_open()
                    && !slot.notes.is_held()
                    && sender.queued_bytes() <= high_water_bytes
            }
            _ => false,
        })
    }

    /// Sends to `key` and counts.
    pub(super) fn send(
        &mut self,
        key: Key,
        writer: &mut dyn Writer,
        send: impl FnOnce(&mut Transmit<'_>) -> SendOutcome,
    ) -> SendOutcome {
        let outcome = self.with_transmit(key, writer, send).unwrap_or(GONE);
        match outcome {
            SendOutcome::Sent | SendOutcome::Queued { .. } => self.counters.messages_sent += 1,
            SendOutcome::Dropped(reason) => self.count_dropped(reason),
        }
        outcome
    }

    /// Sends a batch to `key` and counts what was taken, and the message that was not.
    pub(super) fn send_batch<'m>(
        &mut self,
        key: Key,
        writer: &mut dyn Writer,
        messages: impl IntoIterator<Item = (Opcode, &'m [u8])>,
    ) -> BatchOutcome {
        let sent = self.with_transmit(key, writer, |transmit| transmit.send_batch(messages));
        let batch = sent.unwrap_or(BatchOutcome { taken_messages: 0, outcome: GONE });
        self.counters.messages_sent += batch.taken_messages as u64;
        if let SendOutcome::Dropped(reason) = batch.outcome {
            self.count_dropped(reason);
        }
        batch
    }

    fn count_dropped(&mut self, reason: DropReason) {
        self.counters.sends_dropped += 1;
        if reason == DropReason::PoolExhausted {
            self.counters.pool_exhausted += 1;
        }
    }

    pub(super) fn sender(&self, key: Key) -> Option<&Sender> {
        match &self.slots.get(key)?.phase {
            Phase::Open { sender, .. } => Some(sender),
            _ => None,
        }
    }

    /// Which listener a connection came to; `None` if it was dialled.
    pub(super) fn listener(&self, slot: &Slot<D>) -> Option<usize> {
        self.configs.listener(slot.config)
    }

    pub(super) fn config(&self, slot: &Slot<D>) -> &Arc<Config> {
        self.configs.get(slot.config)
    }

    /// Has `key` looked at before the turn ends.
    pub(super) fn mark_dirty(&mut self, key: Key) {
        if let Some(slot) = self.slots.get_mut(key)
            && !slot.notes.dirty
        {
            slot.notes.dirty = true;
            self.dirty.push(key);
        }
    }

    /// Has `key` served when its turn comes.
    pub(super) fn mark_ready(&mut self, key: Key) {
        if let Some(slot) = self.slots.get_mut(key)
            && !slot.notes.queued
        {
            slot.notes.queued = true;
            self.ready.push_back(key);
        }
    }

    pub(super) fn resume(&mut self, key: Key) {
        if let Some(slot) = self.slots.get_mut(key)
            && slot.notes.pauses.has(Pause::Application)
        {
            slot.notes.pauses.end(Pause::Application);
            self.mark_ready(key);
        }
    }

    /// A random number from the loop's seed: as unpredictable as its masking keys.
    pub(super) fn random(&mut self) -> u64 {
        let keys = &mut self.pools.masking_keys;
        let [low, high] = [keys.next_key(), keys.next_key()].map(|key| key.to_bytes());
        u64::from(u32::from_ne_bytes(low)) | u64::from(u32::from_ne_bytes(high)) << 32
    }

    pub(super) fn open_keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.slots.keys().filter(|key| self.sender(*key).is_some_and(Sender::is_open))
    }
}
