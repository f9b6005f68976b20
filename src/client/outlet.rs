//! The way of an application's messages to a connection: past the rate, into a batch, to the wire.

use std::time::{Duration, Instant};

use super::batch::{Batch, BatchError, BatchStats, Batcher, Push};
use super::calling::Submitted;
use super::drain::DrainMeter;
use super::outage::UnsentReason;
use super::rate::{PoolRate, Rate, RateLimiter, RateStats, RateVerdict};
use crate::reactor::{ConnectionId, Loop, Message, Peer};
use crate::wire::Opcode;

/// The way of messages to the connections of one client, or to one connection of a pool. What was
/// not written stays here when a connection is lost, until it is taken back.
#[derive(Debug)]
pub(super) struct Outlet {
    limiter: Option<RateLimiter>,
    batcher: Option<Batcher>,
    meter: DrainMeter,
    /// Unsent bytes of the connection when it was looked at last.
    queued_bytes: usize,
    /// What waits here stays while so many are exceeded; less than what has a message refused.
    queued_bytes_max: usize,
    /// So many of those that wait for the rate do not wait for a batch then.
    hurried: usize,
    gate: Gate,
}

/// Whether what waits for the rate may leave when its time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    Open,
    /// The connection takes nothing: it drains or ends first, and says so.
    Shut,
    /// It takes nothing before a message in parts is complete, and nobody says when that is: it is
    /// asked again with the next tick.
    Ajar,
}

/// Whether a message may wait for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    MayWait,
    Now,
}

/// What went through a client's batches and rate, if it has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FlowStats {
    /// Of batches.
    pub batch: Option<BatchStats>,
    /// Of the rate.
    pub rate: Option<RateStats>,
    /// How long it will take until the kernel has all that is queued, the bytes over the rate at
    /// which others have left; `None` while that is unknown.
    pub estimated_drain: Option<Duration>,
}

impl Outlet {
    /// `key` is its name in the line of its pool's rate.
    pub(super) fn new(
        batch: Option<&Batch>,
        rate: Option<&Rate>,
        queued_bytes_max: usize,
        key: u64,
        now: Instant,
    ) -> Self {
        Self {
            limiter: rate.map(|rate| RateLimiter::new(rate, now, key)),
            batcher: batch.map(|batch| Batcher::new(batch.clone())),
            meter: DrainMeter::default(),
            queued_bytes: 0,
            queued_bytes_max,
            hurried: 0,
            gate: Gate::Open,
        }
    }

    /// Sends a message, or has it wait for its turn.
    pub(super) fn send<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        connection: ConnectionId,
        message: Message<'_>,
        urgency: Urgency,
        pool: Option<&mut PoolRate>,
    ) -> Submitted {
        let now = at.now();
        let (opcode, payload) = (message.opcode(), message.payload());
        // What waits for the rate has to be good for the batch.
        if let (Some(_), Some(batcher)) = (&self.limiter, &mut self.batcher)
            && let Err(error) = batcher.check(opcode, payload)
        {
            return refused(error);
        }
        let verdict = match &mut self.limiter {
            Some(limiter) => limiter.offer(now, opcode, payload, pool),
            None => RateVerdict::Go,
        };
        match verdict {
            RateVerdict::Go if self.batcher.is_none() => {
                let mut peer = at.peer(connection);
                self.look(now, peer.queued_bytes());
                let outcome = peer.send(message);
                self.queued_bytes = peer.queued_bytes();
                Submitted::Given(outcome)
            }
            RateVerdict::Go => self.pass(&mut at.peer(connection), now, (opcode, payload), urgency),
            RateVerdict::Waits => {
                if urgency == Urgency::Now {
                    self.hurried = self.limiter.as_ref().map_or(0, RateLimiter::waiting);
                }
                Submitted::Held
            }
            RateVerdict::Dropped => Submitted::Dropped,
            RateVerdict::Refused => Submitted::Refused(UnsentReason::TooFast),
        }
    }

    /// Sends a message that has waited for the connection, if it is its turn and there is room; says
    /// whether it was taken. Whose messages go this way has no pool.
    pub(super) fn send_late<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        connection: ConnectionId,
        message: (Opcode, &[u8]),
    ) -> bool {
        let now = at.now();
        let mut peer = at.peer(connection);
        if !self.has_room(&mut peer, now) {
            return false;
        }
        if let Some(limiter) = &mut self.limiter
            && !limiter.pass(now, message.1.len())
        {
            return false;
        }
        match self.pass(&mut peer, now, message, Urgency::MayWait) {
            Submitted::Given(outcome) => outcome.is_taken(),
            submitted => submitted == Submitted::Held,
        }
    }

    /// Whether there is room for another message that can wait. If not, the connection's `on_drain` or
    /// its end is sure to follow, or the time of [`Outlet::poll_timeout`].
    pub(super) fn takes_more<D>(&mut self, at: &mut Loop<'_, D>, connection: ConnectionId) -> bool {
        let now = at.now();
        let mut peer = at.peer(connection);
        let is_full = self.limiter.as_ref().is_some_and(RateLimiter::is_full);
        peer.is_open() && self.has_room(&mut peer, now) && !is_full
    }

    /// A message that the rate has let pass.
    fn pass<D>(
        &mut self,
        peer: &mut Peer<'_, D>,
        now: Instant,
        (opcode, payload): (Opcode, &[u8]),
        urgency: Urgency,
    ) -> Submitted {
        self.look(now, peer.queued_bytes());
        let Some(batcher) = &mut self.batcher else {
            let outcome = peer.send_payload(opcode, payload);
            self.queued_bytes = peer.queued_bytes();
            return Submitted::Given(outcome);
        };
        let pushed = match urgency {
            Urgency::MayWait => batcher.push(now, opcode, payload),
            Urgency::Now => batcher.send_now(now, opcode, payload),
        };
        match pushed {
            Ok(Push::Waits) => Submitted::Held,
            Ok(Push::Ready) => {
                self.write(peer, now);
                Submitted::Held
            }
            Ok(Push::Straight) => self.pass_straight(peer, now, opcode, payload),
            Err(error) => refused(error),
        }
    }

    /// A message that does not wait, unless something in front of it has to.
    fn pass_straight<D>(
        &mut self,
        peer: &mut Peer<'_, D>,
        now: Instant,
        opcode: Opcode,
        payload: &[u8],
    ) -> Submitted {
        self.write(peer, now);
        if let Some(batcher) = &mut self.batcher
            && batcher.is_due()
        {
            batcher.keep(opcode, payload);
            return Submitted::Held;
        }
        let outcome = peer.send_payload(opcode, payload);
        self.flush(peer, now);
        Submitted::Given(outcome)
    }

    /// Time has come, or the connection has room: what may leave does.
    pub(super) fn work<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        connection: ConnectionId,
        pool: Option<&mut PoolRate>,
    ) {
        let now = at.now();
        let mut peer = at.peer(connection);
        self.look(now, peer.queued_bytes());
        self.gate = Gate::Open;
        if let Some(batcher) = &mut self.batcher {
            batcher.handle_timeout(now);
        }
        self.write(&mut peer, now);
        self.work_rate(&mut peer, now, pool);
    }

    /// What the rate has held up goes on, as far as there is room.
    fn work_rate<D>(
        &mut self,
        peer: &mut Peer<'_, D>,
        now: Instant,
        mut pool: Option<&mut PoolRate>,
    ) {
        while self.limiter.is_some() {
            let has_room = self.has_room(peer, now);
            let Self { limiter: Some(limiter), batcher, hurried, gate, .. } = self else { return };
            if !has_room || batcher.as_ref().is_some_and(Batcher::is_full) {
                limiter.step_back(pool);
                if has_room {
                    *gate = Gate::Shut;
                }
                return;
            }
            let Some((opcode, payload)) = limiter.poll_message(now, pool.as_deref_mut()) else {
                return;
            };
            let Some(batcher) = batcher else {
                if !peer.send_payload(opcode, payload).is_taken() {
                    limiter.handle_refused();
                    limiter.step_back(pool);
                    *gate = Gate::Ajar;
                    return;
                }
                continue;
            };
            let pushed = match hurried.checked_sub(1) {
                Some(left) => {
                    *hurried = left;
                    batcher.send_now(now, opcode, payload)
                }
                None => batcher.push(now, opcode, payload),
            };
            match pushed {
                Ok(Push::Waits) => {}
                Ok(Push::Ready) => self.write(peer, now),
                Ok(Push::Straight) => {
                    let payload = payload.to_vec();
                    let _ = self.pass_straight(peer, now, opcode, &payload);
                }
                Err(error) => debug_assert!(false, "it was looked at before: {error}"),
            }
        }
    }

    /// What gathers leaves now, and what waits for the rate will not gather: nothing follows it.
    pub(super) fn hurry<D>(&mut self, at: &mut Loop<'_, D>, connection: ConnectionId) {
        if let Some(batcher) = &mut self.batcher {
            batcher.release();
            self.hurried = self.limiter.as_ref().map_or(0, RateLimiter::waiting);
            let now = at.now();
            self.write(&mut at.peer(connection), now);
        }
    }

    /// Writes the batches that are due, each in one write, as long as there is room.
    fn write<D>(&mut self, peer: &mut Peer<'_, D>, now: Instant) {
        while self.batcher.as_ref().is_some_and(Batcher::is_due) && self.has_room(peer, now) {
            let Some(batcher) = &mut self.batcher else { return };
            let Some(messages) = batcher.poll_batch() else { return };
            let taken_messages = peer.send_payloads(messages).taken_messages;
            let left_messages = batcher.handle_taken(now, taken_messages);
            self.flush(peer, now);
            if left_messages > 0 {
                return;
            }
        }
    }

    /// Whether the connection takes what waits here; if not, that waits until the gate opens. What is
    /// merely corked is offered to the kernel before that is judged; once it was refused, the
    /// connection says when it has drained.
    fn has_room<D>(&mut self, peer: &mut Peer<'_, D>, now: Instant) -> bool {
        if peer.queued_bytes() > self.queued_bytes_max && !peer.is_held_up() {
            self.flush(peer, now);
        }
        let is_shut = !peer.is_open() || peer.queued_bytes() > self.queued_bytes_max;
        self.gate = match is_shut {
            true => Gate::Shut,
            false if peer.is_in_parts() => Gate::Ajar,
            false => Gate::Open,
        };
        self.gate == Gate::Open
    }

    /// Has what was queued written at once, and notes how that went.
    fn flush<D>(&mut self, peer: &mut Peer<'_, D>, now: Instant) {
        let corked_bytes = peer.queued_bytes();
        peer.flush();
        self.note_written(now, corked_bytes, peer.queued_bytes());
    }

    /// So many bytes of the connection are queued now, perhaps fewer than before.
    pub(super) fn look(&mut self, now: Instant, queued_bytes: usize) {
        if self.batcher.is_none() || queued_bytes < self.queued_bytes {
            self.note_written(now, self.queued_bytes, queued_bytes);
        }
        self.queued_bytes = queued_bytes;
    }

    fn note_written(&mut self, now: Instant, before_bytes: usize, queued_bytes: usize) {
        let left_bytes = before_bytes.saturating_sub(queued_bytes);
        self.queued_bytes = queued_bytes;
        match &mut self.batcher {
            Some(batcher) => batcher.handle_written(now, left_bytes, queued_bytes),
            None => self.meter.handle_written(now, left_bytes, queued_bytes),
        }
    }

    /// Whether messages wait here.
    pub(super) fn holds(&self) -> bool {
        self.batcher.as_ref().is_some_and(|batcher| batcher.stats().buffered > 0)
            || self.limiter.as_ref().is_some_and(|limiter| limiter.stats().waiting > 0)
    }

    /// How many messages wait for the rate.
    pub(super) fn waiting_for_rate(&self) -> usize {
        self.limiter.as_ref().map_or(0, RateLimiter::waiting)
    }

    /// When [`Outlet::work`] is to be called, though nothing happens.
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        if self.gate == Gate::Ajar && self.holds() {
            return Some(now + TICK);
        }
        let limiter = self.limiter.as_ref().filter(|_| self.gate == Gate::Open);
        let rate = limiter.and_then(|limiter| limiter.poll_timeout(now));
        let batch = self.batcher.as_ref().and_then(Batcher::poll_timeout);
        rate.into_iter().chain(batch).min()
    }

    /// When it is the turn of a message of so many bytes that has waited for the connection, if it
    /// is the rate that it waits for, or a message in parts.
    pub(super) fn late_timeout(&self, now: Instant, bytes: usize) -> Option<Instant> {
        if self.gate == Gate::Ajar {
            return Some(now + TICK);
        }
        // Behind what waits in the limiter it has no turn of its own.
        let is_next = |limiter: &&RateLimiter| self.gate == Gate::Open && limiter.waiting() == 0;
        let limiter = self.limiter.as_ref().filter(is_next);
        limiter.map(|limiter| limiter.turn_at(now, bytes))
    }

    /// The connection is lost: what has waited is handed back, in its order.
    pub(super) fn take_back(
        &mut self,
        pool: Option<&mut PoolRate>,
        mut hand_back: impl FnMut(Opcode, &[u8]),
    ) {
        self.queued_bytes = 0;
        self.meter = DrainMeter::default();
        (self.hurried, self.gate) = (0, Gate::Open);
        if let Some(batcher) = &mut self.batcher {
            batcher.close().for_each(|(opcode, payload)| hand_back(opcode, payload));
        }
        if let Some(limiter) = &mut self.limiter {
            limiter.close(pool).for_each(|(opcode, payload)| hand_back(opcode, payload));
        }
    }

    pub(super) fn stats(&self, now: Instant) -> FlowStats {
        let batch = self.batcher.as_ref();
        FlowStats {
            batch: batch.map(Batcher::stats),
            rate: self.limiter.as_ref().map(RateLimiter::stats),
            estimated_drain: match batch {
                Some(batcher) => batcher.estimated_drain(now),
                None => self.meter.estimated_drain(now, self.queued_bytes),
            },
        }
    }
}

/// The finest time that the loop's timers know.
const TICK: Duration = Duration::from_millis(1);

/// What the sender is told of a message that a batch does not take.
const fn refused(error: BatchError) -> Submitted {
    match error {
        BatchError::Full => Submitted::Refused(UnsentReason::QueueFull),
        BatchError::NotAMessage => Submitted::Refused(UnsentReason::NotAMessage),
        BatchError::Payload(error) => Submitted::NotJson(error),
    }
}
