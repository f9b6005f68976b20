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
    high_water_bytes: usize,
    /// Messages of a batch of which no more were taken.
    lost: Vec<(Opcode, Box<[u8]>)>,
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
        high_water_bytes: usize,
        key: u64,
        now: Instant,
    ) -> Self {
        Self {
            limiter: rate.map(|rate| RateLimiter::new(rate, now, key)),
            batcher: batch.map(|batch| Batcher::new(batch.clone())),
            meter: DrainMeter::default(),
            queued_bytes: 0,
            high_water_bytes,
            lost: Vec::new(),
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
        let verdict = match &mut self.limiter {
            Some(limiter) => limiter.offer(now, message.opcode(), message.payload(), pool),
            None => RateVerdict::Go,
        };
        match verdict {
            RateVerdict::Go => self.pass(&mut at.peer(connection), now, message, urgency),
            RateVerdict::Waits => Submitted::Held,
            RateVerdict::Dropped => Submitted::Dropped,
            RateVerdict::Refused => Submitted::Refused(UnsentReason::TooFast),
        }
    }

    /// A message that the rate has let pass.
    fn pass<D>(
        &mut self,
        peer: &mut Peer<'_, D>,
        now: Instant,
        message: Message<'_>,
        urgency: Urgency,
    ) -> Submitted {
        self.look(now, peer.queued_bytes());
        let Some(batcher) = &mut self.batcher else {
            let outcome = peer.send(message);
            self.queued_bytes = peer.queued_bytes();
            return Submitted::Given(outcome);
        };
        let (opcode, payload) = (message.opcode(), message.payload());
        let pushed = match urgency {
            Urgency::MayWait => batcher.push(now, opcode, payload),
            Urgency::Now => batcher.send_now(now, opcode, payload),
        };
        let submitted = match pushed {
            Ok(Push::Waits) => return Submitted::Held,
            Ok(Push::Ready) => Submitted::Held,
            // What waits in front of it goes whatever is queued: a queue too long refuses it.
            Ok(Push::Straight) => return self.pass_straight(peer, now, opcode, payload),
            Err(BatchError::Full) => Submitted::Refused(UnsentReason::QueueFull),
            Err(BatchError::NotAMessage) => Submitted::Refused(UnsentReason::NotAMessage),
            Err(BatchError::Payload(error)) => Submitted::NotJson(error),
        };
        self.write(peer, now, self.high_water_bytes);
        submitted
    }

    /// A message that does not wait. What waits in front of it goes whatever is queued: a queue that
    /// is too long refuses it.
    fn pass_straight<D>(
        &mut self,
        peer: &mut Peer<'_, D>,
        now: Instant,
        opcode: Opcode,
        payload: &[u8],
    ) -> Submitted {
        self.write(peer, now, usize::MAX);
        let outcome = peer.send_payload(opcode, payload);
        self.flush(peer, now);
        Submitted::Given(outcome)
    }

    /// Time has come, or the connection has room: what may leave does.
    pub(super) fn work<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        connection: ConnectionId,
        mut pool: Option<&mut PoolRate>,
    ) {
        let now = at.now();
        let mut peer = at.peer(connection);
        if !peer.is_open() {
            return;
        }
        let queued_bytes = peer.queued_bytes();
        self.look(now, queued_bytes);
        if let Some(batcher) = &mut self.batcher {
            batcher.handle_timeout(now);
        }
        // What the rate has held up goes on, as far as there is room.
        while let Self { limiter: Some(limiter), batcher, .. } = self {
            if peer.queued_bytes() > self.high_water_bytes {
                limiter.step_back(pool);
                break;
            }
            let Some((opcode, payload)) = limiter.poll_message(now, pool.as_deref_mut()) else {
                break;
            };
            match batcher {
                Some(batcher) => {
                    // It was let in by `offer` already, and is bounded by what waits there.
                    let pushed = batcher.push(now, opcode, payload);
                    if pushed == Ok(Push::Straight) {
                        let payload = payload.to_vec();
                        let _ = self.pass_straight(&mut peer, now, opcode, &payload);
                    }
                }
                None => {
                    let _ = peer.send_payload(opcode, payload);
                }
            }
        }
        self.write(&mut peer, now, self.high_water_bytes);
    }

    /// What gathers leaves now: nothing follows it.
    pub(super) fn hurry<D>(&mut self, at: &mut Loop<'_, D>, connection: ConnectionId) {
        if let Some(batcher) = &mut self.batcher {
            batcher.release();
            let now = at.now();
            self.write(&mut at.peer(connection), now, self.high_water_bytes);
        }
    }

    /// Writes the batches that are due, each in one write, as long as so many bytes are queued at
    /// most.
    fn write<D>(&mut self, peer: &mut Peer<'_, D>, now: Instant, queued_bytes_max: usize) {
        while peer.is_open() && peer.queued_bytes() <= queued_bytes_max {
            let Self { batcher: Some(batcher), lost, .. } = self else { return };
            let Some(messages) = batcher.poll_batch() else { return };
            let batch = peer.send_payloads(messages.clone());
            // Only a pool without memory takes no more, and it fails the connection.
            let left = messages.skip(batch.taken_messages);
            lost.extend(left.map(|(opcode, payload)| (opcode, payload.into())));
            self.flush(peer, now);
        }
    }

    /// Has what was queued written at once, and notes how that went.
    fn flush<D>(&mut self, peer: &mut Peer<'_, D>, now: Instant) {
        let corked_bytes = peer.queued_bytes();
        peer.flush();
        self.queued_bytes = peer.queued_bytes();
        if let Some(batcher) = &mut self.batcher {
            let taken_bytes = corked_bytes.saturating_sub(self.queued_bytes);
            batcher.handle_written(now, taken_bytes, self.queued_bytes);
        }
    }

    /// So many bytes of the connection are queued now, perhaps fewer than before.
    fn look(&mut self, now: Instant, queued_bytes: usize) {
        let left_bytes = self.queued_bytes.saturating_sub(queued_bytes);
        self.queued_bytes = queued_bytes;
        match &mut self.batcher {
            Some(batcher) if left_bytes > 0 => {
                batcher.handle_written(now, left_bytes, queued_bytes);
            }
            Some(_) => {}
            None => self.meter.handle_written(now, left_bytes, queued_bytes),
        }
    }

    /// Whether messages wait here.
    pub(super) fn holds(&self) -> bool {
        self.batcher.as_ref().is_some_and(|batcher| batcher.stats().buffered > 0)
            || self.limiter.as_ref().is_some_and(|limiter| limiter.stats().waiting > 0)
    }

    /// When [`Outlet::work`] is to be called, though nothing happens.
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let rate = self.limiter.as_ref().and_then(|limiter| limiter.poll_timeout(now));
        let batch = self.batcher.as_ref().and_then(Batcher::poll_timeout);
        rate.into_iter().chain(batch).min()
    }

    /// The connection is lost: what has waited is handed back, in its order.
    pub(super) fn take_back(
        &mut self,
        pool: Option<&mut PoolRate>,
        mut hand_back: impl FnMut(Opcode, &[u8]),
    ) {
        self.queued_bytes = 0;
        self.meter = DrainMeter::default();
        self.lost.drain(..).for_each(|(opcode, payload)| hand_back(opcode, &payload));
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
