//! Writing, and what follows from how it went.

use std::io::{self, IoSlice};

use super::context::{Context, SlotSink};
use super::dial::NO_SOCKET;
use super::handler::Handler;
use super::net::Net;
use super::settings::PanicPolicy;
use super::shared::after;
use super::slot::{DrainOwed, Inbound, Pauses, Phase, WriteSide};
use super::turn::{Reactor, Timer};
use crate::collections::{Key, Outbox};
use crate::protocol::{CloseCause, CloseSummary, Failure, Sink};
use crate::wire::{CONTROL_PAYLOAD_BYTES_MAX, CloseCode, Role};

impl<D> Phase<D> {
    /// Whether output waits.
    pub(super) fn has_output(&self) -> bool {
        match self {
            Self::Http(outbox) | Self::Parting { outbox, .. } => !outbox.is_empty(),
            // What an abnormal end has left behind is lost, and counted so.
            Self::Open { sender, .. } => sender.queued_bytes() > 0 && !sender.is_closed(),
            Self::Dialling(dialling) => !dialling.outbox().is_empty(),
            Self::Closed { .. } | Self::Ended => false,
        }
    }

    /// Whether input is of no interest until what is queued has left.
    pub(super) fn is_deaf(&self) -> bool {
        match self {
            Self::Open { sender, .. } => sender.is_flushing() || sender.is_closed(),
            Self::Dialling(dialling) => !dialling.is_connected(),
            Self::Http(_) | Self::Parting { .. } | Self::Closed { .. } | Self::Ended => false,
        }
    }
}

impl<N: Net, H: Handler> Reactor<N, H> {
    /// Offers what `key` has queued to the kernel.
    #[inline]
    pub(super) fn flush(&mut self, key: Key) {
        let Some(slot) = self.shared.slots.get_mut(key) else { return };
        if !slot.phase.has_output() {
            return;
        }
        if matches!(slot.phase, Phase::Open { .. }) {
            let _ = self.shared.with_transmit(key, &mut self.net, |transmit| transmit.flush());
            return;
        }
        let mut sink = SlotSink {
            writer: &mut self.net,
            socket: slot.socket,
            error: &mut slot.notes.write_error,
            bytes_sent: &mut self.shared.counters.bytes_sent,
        };
        let (outbox, until) = match &mut slot.phase {
            Phase::Http(outbox) => (outbox, None),
            Phase::Dialling(dialling) => (dialling.outbox_mut(), None),
            Phase::Parting { outbox, until, .. } => (outbox, Some(until)),
            Phase::Open { .. } | Phase::Closed { .. } | Phase::Ended => return,
        };
        let pool = &mut self.shared.pools.outbox;
        let queued = outbox.queued_bytes();
        while !outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); 16];
            let count = outbox.lend(pool, &mut slices);
            let taken = sink.offer(&slices[..count]).unwrap_or(0);
            outbox.consume(pool, taken);
            if taken == 0 {
                break;
            }
        }
        if let Some(until) = until
            && outbox.queued_bytes() < queued
        {
            *until = after(self.shared.now, self.limits.answer_timeout);
        }
    }

    /// Draws the consequences of what was read and written: errors, the end of a closing
    /// handshake, reading that may go on, a deadline that has come nearer.
    pub(super) fn settle(&mut self, key: Key) {
        let Some(slot) = self.shared.slots.get_mut(key) else { return };
        let write_error = slot.notes.write_error.take();
        if write_error.is_some() {
            self.shared.counters.write_errors += 1;
        }
        match &mut slot.phase {
            Phase::Open { sender, .. } => {
                if let Some(error) = write_error {
                    sender.handle_transport_error(error);
                }
                if sender.is_closed() {
                    self.close(key);
                } else {
                    if !sender.is_open() {
                        self.hasten(key);
                    }
                    self.settle_flow(key);
                }
            }
            Phase::Parting { outbox, write_side, until } => {
                let is_sent = outbox.is_empty() && !self.net.has_pending(slot.socket);
                if is_sent && *write_side == WriteSide::Open {
                    *write_side = WriteSide::Shut;
                    *until = after(self.shared.now, self.limits.parting_timeout);
                    self.net.shutdown(slot.socket);
                }
                // The goodbye of TLS may have been refused.
                let is_over = slot.notes.input_ended && !self.net.has_pending(slot.socket);
                if write_error.is_some() || (is_sent && is_over) {
                    self.end(key);
                } else if is_sent {
                    self.hasten(key);
                }
            }
            Phase::Http(_) if write_error.is_some() => self.end(key),
            Phase::Dialling(_) => self.settle_dial(key, write_error),
            Phase::Http(_) | Phase::Closed { .. } | Phase::Ended => {}
        }
    }

    /// Above the high-water mark reading rests, below the low-water mark it goes on and `on_drain`
    /// is told.
    pub(super) fn settle_flow(&mut self, key: Key) {
        let Some(slot) = self.shared.slots.get(key) else { return };
        let Phase::Open { sender, .. } = &slot.phase else { return };
        let notes = slot.notes;
        if sender.queued_bytes() == 0 && !notes.choked && notes.drain_owed == DrainOwed::No {
            // As nearly always: all of it has left at once.
            return;
        }
        let limits = &self.shared.config(slot).limits;
        let queued = sender.queued_bytes();
        let (is_high, is_low) =
            (queued > limits.high_water_bytes, queued <= limits.low_water_bytes);
        let (is_open, is_held_up) = (sender.is_open(), sender.is_held_up());
        let Some(slot) = self.shared.slots.get_mut(key) else { return };
        let owed = match (is_held_up, is_low) {
            (false, _) => DrainOwed::No,
            (true, false) => DrainOwed::AtLowWater,
            (true, true) => DrainOwed::WhenEmpty,
        };
        let is_drained = match std::mem::replace(&mut slot.notes.drain_owed, owed) {
            DrainOwed::No => {
                if is_held_up {
                    self.shared.subjects.note_held_up(key);
                }
                false
            }
            DrainOwed::AtLowWater => is_low,
            DrainOwed::WhenEmpty => !is_held_up,
        };
        if is_high && !slot.notes.choked {
            slot.notes.choked = true;
            self.shared.counters.reads_paused += 1;
        } else if is_low && slot.notes.choked {
            slot.notes.choked = false;
            self.shared.mark_ready(key);
        }
        if is_drained && is_open {
            self.call(key, |handler, ctx| handler.on_drain(ctx));
            self.shared.mark_dirty(key);
        }
    }

    /// Runs a callback about `key`. A panic is caught if so configured, and fails the connection.
    pub(super) fn call(
        &mut self,
        key: Key,
        callback: impl FnOnce(&mut H, &mut Context<'_, H::Data>),
    ) {
        let Self { handler, shared, net, panics, .. } = self;
        let mut ctx = Context::new(shared, net, key);
        call(handler, &mut ctx, *panics, callback);
    }

    /// The WebSocket `key` is over: `on_close`, then the socket parts.
    fn close(&mut self, key: Key) {
        let incomplete_bytes = self.release_input(key);
        let Some(slot) = self.shared.slots.get_mut(key) else { return };
        let address = slot.peer.unpack().ip();
        let is_dialled = self.shared.configs.listener(slot.config).is_none();
        let (sender, data) = match std::mem::replace(&mut slot.phase, Phase::Ended) {
            Phase::Open { sender, data } => (sender, data),
            other => {
                slot.phase = other;
                return;
            }
        };
        slot.phase = Phase::Closed { data };
        let socket = slot.socket;
        let role = self.shared.configs.get(slot.config).role;
        let pending_bytes = self.net.unsent_bytes(socket) as u64;
        let mut summary = sender.finish(incomplete_bytes, &mut self.shared.pools);
        let may_part = match summary.cause {
            CloseCause::ClosingHandshake | CloseCause::Failed(_) | CloseCause::HandlerPanicked => {
                summary.unsent_bytes == 0
            }
            // TLS has told the peer what was wrong, which it shall see and not a reset.
            CloseCause::Transport(io::ErrorKind::InvalidData) => true,
            // The goodbye of TLS is owed, and may have to wait.
            CloseCause::EndOfStream => summary.unsent_bytes == 0 && self.net.is_secured(socket),
            _ => false,
        };
        if !may_part {
            summary.unsent_bytes += pending_bytes;
            // Which messages TLS has in hand nobody knows, but more than a control frame is one.
            if pending_bytes > CONTROL_FRAME_BYTES_MAX {
                tell_message_withheld(&mut summary, role);
            }
        }
        self.count_closed(&summary);
        self.shared.open -= 1;
        if !is_dialled {
            self.admission.depart(address);
            self.shared.departure.note_closed(&summary);
        }
        self.call(key, |handler, ctx| handler.on_close(ctx, &summary));
        self.shared.subjects.leave(key.index);
        if may_part {
            self.part(key, Outbox::new());
        } else {
            self.end(key);
        }
    }

    fn count_closed(&mut self, summary: &CloseSummary) {
        let counters = &mut self.shared.counters;
        counters.closed += 1;
        match summary.cause {
            CloseCause::HeartbeatTimeout => counters.heartbeat_timeouts += 1,
            CloseCause::CloseTimeout => counters.close_timeouts += 1,
            CloseCause::Failed(Failure::Protocol(_)) => counters.protocol_errors += 1,
            CloseCause::Failed(Failure::PoolExhausted) => counters.pool_exhausted += 1,
            _ => {}
        }
    }

    /// Gives back what the receiving half holds; tells how much of a message had come.
    fn release_input(&mut self, key: Key) -> u64 {
        if let Some(backlog) = self.take_backlog(key) {
            self.receive_pools.blocks.put_back(backlog.block);
        }
        // One that was dialled and is not begun has no place there yet.
        let Some(receiver) = self.receivers.get_mut(key.index as usize) else { return 0 };
        match std::mem::take(&mut receiver.inbound) {
            Inbound::Open(mut receiver) => receiver.release(&mut self.receive_pools),
            Inbound::Vacant | Inbound::Http(_) | Inbound::Dialling | Inbound::Parting { .. } => 0,
        }
    }

    /// The last words are in `outbox`: they are flushed, the write side is shut, and what the peer
    /// still sends is thrown away within bounds, so that it reads our words and not a reset.
    pub(super) fn part(&mut self, key: Key, outbox: Outbox) {
        self.release_input(key);
        self.receivers[key.index as usize].inbound = Inbound::Parting { discarded_bytes: 0 };
        let until = after(self.shared.now, self.limits.answer_timeout);
        if let Some(slot) = self.shared.slots.get_mut(key) {
            slot.phase = Phase::Parting { outbox, until, write_side: WriteSide::Open };
            slot.notes.pauses = Pauses::default();
            slot.notes.choked = false;
            self.hasten(key);
            self.flush(key);
            self.settle(key);
            self.shared.mark_ready(key);
        }
    }

    /// Closes the socket now; the slot goes at the end of the turn.
    pub(super) fn end(&mut self, key: Key) {
        self.close_dialling(key);
        self.release_input(key);
        let Some(slot) = self.shared.slots.get_mut(key) else { return };
        if matches!(slot.phase, Phase::Ended) {
            return;
        }
        match &mut slot.phase {
            Phase::Http(outbox) | Phase::Parting { outbox, .. } => {
                outbox.clear(&mut self.shared.pools.outbox);
            }
            Phase::Dialling(_) => self.shared.dialling -= 1,
            Phase::Open { .. } | Phase::Closed { .. } | Phase::Ended => {}
        }
        slot.phase = Phase::Ended;
        if slot.socket != NO_SOCKET {
            self.net.close(slot.socket);
        }
        self.shared.wheel.cancel(slot.timer);
        self.ended.push(key);
    }

    /// Arms the timer of `key` earlier, if its deadline has come nearer. One that has moved away
    /// costs nothing: the entry fires early and is armed again.
    pub(super) fn hasten(&mut self, key: Key) {
        let Some(deadline) = self.deadline(key) else { return };
        if let Some(slot) = self.shared.slots.get(key)
            && self.shared.wheel.deadline(slot.timer) > deadline
        {
            self.shared.wheel.rearm(slot.timer, deadline);
        }
    }

    /// Works off the deadlines that have come.
    pub(super) fn handle_deadlines(&mut self) {
        self.shared.wheel.advance(self.shared.now);
        while let Some((_, timer)) = self.shared.wheel.pop_due() {
            match timer {
                Timer::Connection(index, _) | Timer::Outlived(index, _) => {
                    self.handle_deadline(index, timer);
                }
                Timer::Accept(index) => self.resume_accepting(index as usize),
                Timer::Task(index) => self.handle_task(index),
                Timer::Published => self.shared.subjects.handle_retry(),
                Timer::Drain => self.cut_off(),
                Timer::Pace => self.handle_pace(),
                Timer::Memory => self.handle_look(),
            }
        }
    }

    fn handle_deadline(&mut self, index: u32, timer: Timer) {
        let Some(key) = self.shared.slots.key_at(index) else { return };
        let Some(slot) = self.shared.slots.get_mut(key) else { return };
        // The entry has left the wheel; the slot always has one.
        slot.timer = self.shared.wheel.insert(self.shared.now, timer);
        if self.is_overdue(key) && self.is_last_chance(key) {
            self.hear_out(key);
        }
        if self.is_overdue(key) {
            self.handle_timeout(key);
        }
        let timer = self.end_life(key, timer);
        self.rearm(key, timer);
    }

    fn is_overdue(&self, key: Key) -> bool {
        self.deadline(key).is_some_and(|deadline| deadline <= self.shared.now)
    }

    /// Whether the deadline ends the connection; the other kind only sends a ping.
    fn is_last_chance(&self, key: Key) -> bool {
        self.shared.slots.get(key).is_some_and(|slot| match &slot.phase {
            Phase::Open { sender, .. } => {
                sender.is_overdue(self.shared.config(slot), self.shared.moment)
            }
            Phase::Http(_)
            | Phase::Dialling(_)
            | Phase::Parting { .. }
            | Phase::Closed { .. }
            | Phase::Ended => true,
        })
    }

    /// After a stall of this process its peers may have spoken long ago: what they said is read
    /// before they are judged.
    fn hear_out(&mut self, key: Key) {
        let Some(slot) = self.shared.slots.get_mut(key) else { return };
        if !slot.notes.is_held() {
            slot.notes.readable = true;
            self.serve(key);
        } else if slot.notes.pauses.any()
            && let Phase::Open { sender, .. } = &mut slot.phase
        {
            // Who is not read for our own reasons cannot show a sign of life either.
            sender.handle_sign_of_life(self.shared.moment);
        }
    }

    fn handle_timeout(&mut self, key: Key) {
        let Some(slot) = self.shared.slots.get(key) else { return };
        match &slot.phase {
            Phase::Open { .. } => {
                let _ = self.shared.with_transmit(key, &mut self.net, |transmit| {
                    transmit.handle_timeout();
                });
                self.flush(key);
                self.settle(key);
            }
            Phase::Http(_) => self.handle_http_timeout(key),
            Phase::Dialling(_) => self.handle_dial_timeout(key),
            Phase::Parting { .. } => self.end(key),
            Phase::Closed { .. } | Phase::Ended => {}
        }
    }

    pub(super) fn rearm(&mut self, key: Key, timer: Timer) {
        let Some(slot) = self.shared.slots.get(key) else { return };
        if matches!(slot.phase, Phase::Ended) {
            return;
        }
        // Without a deadline of its own a connection is asked again once an hour.
        let idle = self.shared.now + std::time::Duration::from_secs(3600);
        let deadline = self.deadline(key).unwrap_or(idle);
        let deadline = self.life_deadline(key, timer).unwrap_or(deadline).min(deadline);
        self.shared.wheel.rearm(slot.timer, deadline);
    }

    fn deadline(&self, key: Key) -> Option<std::time::Instant> {
        let slot = self.shared.slots.get(key)?;
        match &slot.phase {
            Phase::Open { sender, .. } => {
                let moment = sender.poll_timeout(self.shared.config(slot))?;
                Some(self.shared.pools.timeline.instant(moment))
            }
            Phase::Parting { until, .. } => Some(*until),
            Phase::Dialling(dialling) => Some(dialling.deadline()),
            Phase::Http(_) => match &self.receivers[key.index as usize].inbound {
                Inbound::Http(http) => Some(http.deadline),
                _ => None,
            },
            Phase::Closed { .. } | Phase::Ended => None,
        }
    }
}

/// The largest control frame of a server: two bytes of header, and the payload (RFC 6455 §5.5).
const CONTROL_FRAME_BYTES_MAX: u64 = 2 + CONTROL_PAYLOAD_BYTES_MAX as u64;

/// Runs a callback, catching a panic if so configured.
#[inline(always)]
pub(super) fn call<H: Handler>(
    handler: &mut H,
    ctx: &mut Context<'_, H::Data>,
    panics: PanicPolicy,
    callback: impl FnOnce(&mut H, &mut Context<'_, H::Data>),
) {
    match panics {
        PanicPolicy::Propagate => callback(handler, ctx),
        PanicPolicy::CloseConnection => call_catching(handler, ctx, callback),
    }
}

#[inline(never)]
fn call_catching<H: Handler>(
    handler: &mut H,
    ctx: &mut Context<'_, H::Data>,
    callback: impl FnOnce(&mut H, &mut Context<'_, H::Data>),
) {
    let run = std::panic::AssertUnwindSafe(|| callback(handler, ctx));
    if std::panic::catch_unwind(run).is_err() {
        let current = ctx.current;
        ctx.at.shared.with_transmit(current, ctx.at.writer, |transmit| {
            transmit.fail_with(CloseCode::INTERNAL_ERROR, "", CloseCause::HandlerPanicked);
        });
        ctx.at.shared.mark_dirty(current);
        handler.on_panic(ctx);
    }
}

/// One message or more seemed to be handed to the kernel and was not: tells of one, if none is told
/// of yet. A client has it among those that are unconfirmed, and tells of each once.
fn tell_message_withheld(summary: &mut CloseSummary, role: Role) {
    match (role, summary.unsent_messages, summary.unconfirmed_messages) {
        (Role::Server, 0, _) => summary.unsent_messages = 1,
        (Role::Client, 0, 1..) => {
            summary.unsent_messages = 1;
            summary.unconfirmed_messages -= 1;
        }
        (Role::Server, 1.., _) | (Role::Client, 1.., _) | (Role::Client, 0, 0) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Initiator;

    #[test]
    fn a_message_that_was_withheld_is_in_one_count() {
        for (role, unsent, unconfirmed, expected) in [
            (Role::Server, 0, 0, (1, 0)),
            (Role::Server, 3, 0, (3, 0)),
            (Role::Client, 0, 2, (1, 1)),
            (Role::Client, 3, 2, (3, 2)),
            // Every message has arrived, so what was withheld is none.
            (Role::Client, 0, 0, (0, 0)),
        ] {
            let mut summary = CloseSummary {
                code: CloseCode::ABNORMAL,
                reason: Box::default(),
                initiator: Initiator::Peer,
                cause: CloseCause::EndOfStream,
                peer_code: None,
                unsent_messages: unsent,
                unconfirmed_messages: unconfirmed,
                unsent_bytes: 0,
                incomplete_bytes: 0,
            };
            tell_message_withheld(&mut summary, role);
            let told = (summary.unsent_messages, summary.unconfirmed_messages);
            assert_eq!(told, expected, "{role:?}");
        }
    }
}
