//! Reading, and handing what was read to those it concerns.

use std::io;

use super::context::Context;
use super::dial::DialError;
use super::flush::call;
use super::handler::{Handler, Message};
use super::net::{Net, Received};
use super::settings::PanicPolicy;
use super::slot::{Backlog, BacklogKey, Inbound, Phase};
use super::transport::Reading;
use super::turn::Reactor;
use crate::collections::Key;
use crate::limits::{FINISHING_BYTES_MAX, LoopLimits, READ_BYTES_MIN};
use crate::protocol::{Event, Failure, Input};

/// What one connection may still take of this turn.
pub(super) struct Budget {
    bytes: usize,
    messages: u32,
    /// Bytes beyond, to finish a message that was begun.
    finishing_bytes: usize,
}

/// Whether more of a read is handled now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    GoOn,
    Rest,
}

impl Budget {
    const fn new(limits: &LoopLimits) -> Self {
        Self {
            bytes: limits.turn_bytes_max,
            messages: limits.turn_messages_max,
            finishing_bytes: FINISHING_BYTES_MAX,
        }
    }

    /// How much the next read of this turn may bring: twice what the messages that may still be
    /// handled will need, if they are like those before. A flood of tiny messages could fill the
    /// receive buffer for many turns; reading and keeping all that would cost the others more
    /// time than a budget of messages does. What compressed messages cost beyond their bytes counts
    /// too, so behind them a read may bring more than is handled; it waits and is not read again.
    fn read_bytes_max(&self, limits: &LoopLimits) -> usize {
        let handled_messages = (limits.turn_messages_max - self.messages) as usize;
        if handled_messages == 0 {
            return usize::MAX;
        }
        let mean_bytes = (limits.turn_bytes_max - self.bytes).div_ceil(handled_messages);
        mean_bytes.saturating_mul(2 * self.messages as usize).max(READ_BYTES_MIN)
    }

    const fn is_spent(&self) -> bool {
        self.bytes == 0 || self.messages == 0
    }
}

impl<N: Net, H: Handler> Reactor<N, H> {
    /// Reads from `key` and handles what comes, within one budget; then flushes what it caused.
    pub(super) fn serve(&mut self, key: Key) {
        let mut budget = Budget::new(&self.limits);
        loop {
            if self.has_backlog(key) && !self.handle_backlog(key, &mut budget) {
                break;
            }
            let Some(slot) = self.shared.slots.get(key) else { return };
            // The socket may be closed since the event, and its key another connection's already.
            if matches!(slot.phase, Phase::Ended) {
                return;
            }
            let notes = slot.notes;
            if notes.is_held() || !notes.readable || notes.awaits_handshake || slot.phase.is_deaf()
            {
                break;
            }
            if budget.is_spent() && !self.may_finish_message(key, &budget) {
                self.shared.mark_ready(key);
                break;
            }
            self.receive(key, &mut budget);
        }
        self.flush(key);
        self.settle(key);
    }

    /// Whether the message under way can be had as a whole, although the budget is spent. Begun
    /// messages of all connections together do not fit into the processor's cache, one does.
    fn may_finish_message(&self, key: Key, budget: &Budget) -> bool {
        let Some(slot) = self.shared.slots.get(key) else { return false };
        let Inbound::Open(receiver) = &self.receivers[key.index as usize].inbound else {
            return false;
        };
        let missing_bytes = receiver.missing_bytes(self.shared.config(slot));
        budget.messages > 0
            && missing_bytes.is_some_and(|missing| missing <= budget.finishing_bytes as u64)
    }

    /// Handles what was read earlier. Says whether reading may go on.
    fn handle_backlog(&mut self, key: Key, budget: &mut Budget) -> bool {
        let is_decided = match &self.receivers[key.index as usize].inbound {
            // It waits for more input or for a decision, not for its turn.
            Inbound::Http(http) if http.rests => return true,
            Inbound::Http(http) => http.is_decided(),
            // More has to come.
            Inbound::Dialling => return true,
            Inbound::Vacant | Inbound::Open(_) | Inbound::Parting { .. } => false,
        };
        let is_held = self.shared.slots.get(key).is_none_or(|slot| slot.notes.is_held());
        if is_held {
            return false;
        }
        if budget.is_spent() {
            self.shared.mark_ready(key);
            return false;
        }
        let Some(mut backlog) = self.take_backlog(key) else { return true };
        self.handle_taken(key, &mut backlog, budget);
        let all = self.keep_backlog(key, backlog);
        if is_decided && self.shared.slots.get(key).is_some_and(|slot| slot.notes.input_ended) {
            self.handle_end_of_stream(key);
        }
        if !all && self.shared.slots.get(key).is_some_and(|slot| !slot.notes.is_held()) {
            self.shared.mark_ready(key);
        }
        all
    }

    /// Whether bytes were read and not handled.
    pub(super) fn has_backlog(&self, key: Key) -> bool {
        self.shared.slots.get(key).is_some_and(|slot| slot.backlog.is_some())
    }

    pub(super) fn take_backlog(&mut self, key: Key) -> Option<Backlog> {
        let name = self.shared.slots.get_mut(key)?.backlog.take()?;
        Some(self.backlogs.remove(name.index()))
    }

    fn handle_taken(&mut self, key: Key, backlog: &mut Backlog, budget: &mut Budget) {
        let at = backlog.at;
        backlog.at += self.handle_bytes(key, &mut backlog.block.as_mut_slice()[at..], budget);
    }

    /// Puts a backlog back, or its block into the pool if nothing is left. Says whether that is so.
    fn keep_backlog(&mut self, key: Key, backlog: Backlog) -> bool {
        let is_over = self.is_over(key);
        match self.shared.slots.get_mut(key) {
            Some(slot) if backlog.at < backlog.block.len() && !is_over => {
                slot.backlog = Some(BacklogKey::new(self.backlogs.insert(backlog)));
                false
            }
            _ => {
                self.receive_pools.blocks.put_back(backlog.block);
                true
            }
        }
    }

    /// Keeps bytes that were read and not handled.
    pub(super) fn stash(&mut self, key: Key, rest: &[u8]) {
        if self.is_over(key) {
            return;
        }
        let kept = match self.take_backlog(key) {
            None => self.receive_pools.blocks.take(rest.len(), rest.len()).map(|mut block| {
                block.extend_from_slice(rest);
                Backlog { block, at: 0 }
            }),
            Some(mut backlog) => {
                let need = backlog.block.len() + rest.len();
                match self.receive_pools.blocks.grow(&mut backlog.block, need, need) {
                    Ok(()) => {
                        backlog.block.extend_from_slice(rest);
                        Some(backlog)
                    }
                    Err(_) => {
                        self.receive_pools.blocks.put_back(backlog.block);
                        None
                    }
                }
            }
        };
        match kept {
            Some(backlog) => {
                self.keep_backlog(key, backlog);
            }
            None => self.fail_exhausted(key),
        }
    }

    /// There is no memory for what was read: a WebSocket fails with 1013, a request is dropped.
    fn fail_exhausted(&mut self, key: Key) {
        self.shared.counters.pool_exhausted += 1;
        let failed = self.shared.with_transmit(key, &mut self.net, |transmit| {
            transmit.fail(Failure::PoolExhausted);
        });
        if failed.is_none() {
            self.fail_dial(key, DialError::NoRoom);
            self.end(key);
        }
    }

    fn is_over(&self, key: Key) -> bool {
        self.shared.slots.get(key).is_none_or(|slot| matches!(slot.phase, Phase::Ended))
    }

    /// One read, and what it brought.
    fn receive(&mut self, key: Key, budget: &mut Budget) {
        let Some(slot) = self.shared.slots.get_mut(key) else { return };
        let socket = slot.socket;
        let config = self.shared.configs.get(slot.config);
        let receiver = &mut self.receivers[key.index as usize];
        let wanted = match &mut receiver.inbound {
            Inbound::Open(receiver) => receiver.wanted(&mut self.receive_pools, config),
            Inbound::Vacant | Inbound::Http(_) | Inbound::Dialling | Inbound::Parting { .. } => {
                None
            }
        };
        let place = wanted.unwrap_or_default();
        let room = place.len().min(budget.finishing_bytes.max(budget.bytes));
        // What comes behind a message that uses the budget up waits in the socket.
        let surplus_bytes_max =
            if room < budget.bytes { budget.read_bytes_max(&self.limits) } else { 0 };
        if room == 0 && surplus_bytes_max == 0 {
            // The message was to be finished, and there is no memory for its rest.
            budget.finishing_bytes = 0;
            return;
        }
        match self.net.receive(socket, &mut place[..room], surplus_bytes_max) {
            Ok(Reading::Later(urgency)) => {
                // It stays readable.
                slot.notes.awaits_handshake = true;
                self.handshakes.push(key, urgency);
            }
            Ok(Reading::End) => self.handle_end_of_stream(key),
            Ok(Reading::Nothing { overhead_bytes, is_drained }) => {
                budget.bytes = budget.bytes.saturating_sub(overhead_bytes);
                slot.notes.readable = !is_drained || slot.notes.hung_up;
                if let Phase::Open { sender, .. } = &mut slot.phase {
                    sender.handle_sign_of_life(self.shared.moment);
                }
            }
            Ok(Reading::Some { received, overhead_bytes }) => {
                budget.bytes = budget.bytes.saturating_sub(overhead_bytes);
                if let Inbound::Open(receiver) = &mut receiver.inbound {
                    receiver.handle_placed(received.placed_bytes, &mut self.receive_pools);
                }
                if received.is_short && !slot.notes.hung_up {
                    slot.notes.readable = false;
                }
                self.handle_received(key, received, budget);
            }
            Err(error) => self.handle_read_error(key, &error),
        }
    }

    fn handle_received(&mut self, key: Key, mut received: Received, budget: &mut Budget) {
        let bytes = received.placed_bytes + received.surplus_bytes;
        self.shared.counters.bytes_received += bytes as u64;
        budget.bytes = budget.bytes.saturating_sub(received.placed_bytes);
        budget.finishing_bytes = budget.finishing_bytes.saturating_sub(received.placed_bytes);
        let Some(slot) = self.shared.slots.get_mut(key) else { return };
        if let Phase::Open { sender, .. } = &mut slot.phase {
            sender.handle_sign_of_life(self.shared.moment);
        }
        if slot.backlog.is_some() {
            // Only an unfinished head or a deferred request: what is new belongs behind it.
            self.stash(key, received.surplus());
            if let Some(mut backlog) = self.take_backlog(key) {
                self.handle_taken(key, &mut backlog, budget);
                self.keep_backlog(key, backlog);
            }
        } else {
            let done = self.handle_bytes(key, received.surplus(), budget);
            if done < received.surplus_bytes {
                self.stash(key, &received.surplus()[done..]);
            }
        }
        self.net.give_back(received.buffer);
    }

    fn handle_end_of_stream(&mut self, key: Key) {
        let Some(slot) = self.shared.slots.get_mut(key) else { return };
        slot.notes.readable = false;
        slot.notes.hung_up = false;
        slot.notes.input_ended = true;
        match &mut slot.phase {
            Phase::Open { .. } => {
                // What the callbacks of this turn have queued leaves before the end is judged.
                self.flush(key);
                let Some(slot) = self.shared.slots.get_mut(key) else { return };
                let config = self.shared.configs.get(slot.config);
                if let Phase::Open { sender, .. } = &mut slot.phase {
                    sender.handle_end_of_stream(config, self.shared.moment);
                }
            }
            Phase::Http(_) => {
                // A peer may shut its side behind its request and still wait for the answer.
                self.flush(key);
                if !self.owes_plain_answer(key) {
                    self.part_http(key);
                }
            }
            Phase::Dialling(_) => self.handle_dial_end(key),
            // Whether all is said is judged when this service ends.
            Phase::Parting { .. } | Phase::Closed { .. } | Phase::Ended => {}
        }
    }

    fn handle_read_error(&mut self, key: Key, error: &io::Error) {
        if error.kind() == io::ErrorKind::Interrupted {
            // The socket is as readable as before: `serve` tries again.
            return;
        }
        let Some(slot) = self.shared.slots.get_mut(key) else { return };
        slot.notes.readable = false;
        slot.notes.hung_up = false;
        if error.kind() == io::ErrorKind::WouldBlock {
            return;
        }
        let is_parting = matches!(slot.phase, Phase::Parting { .. });
        if error.kind() == io::ErrorKind::QuotaExceeded && !is_parting {
            // The kernel has no such error; TLS does, at its bound.
            return self.fail_exhausted(key);
        }
        self.shared.counters.read_errors += 1;
        match &mut slot.phase {
            Phase::Dialling(_) if error.kind() == io::ErrorKind::BrokenPipe => {
                // What TLS had to say to what came in finds nobody. What has come behind that may
                // tell why, so it is read to its end first.
                slot.notes.write_error = Some(error.kind());
                slot.notes.readable = true;
            }
            Phase::Open { sender, .. } => sender.handle_transport_error(error.kind()),
            // TLS cannot go on, and has said so: the peer shall see that and not a reset.
            Phase::Http(_) if error.kind() == io::ErrorKind::InvalidData => self.part_http(key),
            Phase::Http(_) | Phase::Parting { .. } => self.end(key),
            Phase::Dialling(_) => self.fail_dial_with(key, io::Error::from(error.kind())),
            Phase::Closed { .. } | Phase::Ended => {}
        }
    }

    /// Hands bytes to whoever they concern at this point of the connection's life. Says how many
    /// are done with; the rest is an unfinished head, or waits for the connection's next turn.
    fn handle_bytes(&mut self, key: Key, bytes: &mut [u8], budget: &mut Budget) -> usize {
        if !matches!(self.receivers[key.index as usize].inbound, Inbound::Open(_)) {
            return self.handle_other_bytes(key, bytes, budget);
        }
        self.handle_frames(key, bytes, budget)
    }

    /// Of these, those before a connection opens or after it has closed. Never inlined: the 4 KiB
    /// of stack for a head's fields would be every message's.
    #[inline(never)]
    fn handle_other_bytes(&mut self, key: Key, bytes: &mut [u8], budget: &mut Budget) -> usize {
        let mut at = 0;
        loop {
            match &mut self.receivers[key.index as usize].inbound {
                Inbound::Open(_) => return at + self.handle_bytes(key, &mut bytes[at..], budget),
                inbound @ (Inbound::Http(_) | Inbound::Dialling) if at < bytes.len() => {
                    let handled = match inbound {
                        Inbound::Dialling => self.handle_dial_input(key, &bytes[at..]),
                        _ => self.handle_opening(key, &bytes[at..]),
                    };
                    match handled {
                        None => return at,
                        Some(consumed) => {
                            budget.bytes = budget.bytes.saturating_sub(consumed);
                            at += consumed;
                            // `on_open` may have paused it before its first message.
                            if self.shared.slots.get(key).is_some_and(|slot| slot.notes.is_held()) {
                                return at;
                            }
                        }
                    }
                }
                Inbound::Parting { discarded_bytes } => {
                    let bytes_left = (bytes.len() - at) as u32;
                    *discarded_bytes = discarded_bytes.saturating_add(bytes_left);
                    budget.bytes = budget.bytes.saturating_sub(bytes_left as usize);
                    if *discarded_bytes as usize > self.limits.parting_bytes_max {
                        self.flush(key);
                        self.end(key);
                    }
                    return bytes.len();
                }
                Inbound::Http(_) | Inbound::Dialling | Inbound::Vacant => return bytes.len(),
            }
        }
    }

    /// Dispatches the events in `bytes`; says how many bytes are done with.
    fn handle_frames(&mut self, key: Key, bytes: &mut [u8], budget: &mut Budget) -> usize {
        let mut input = Input::within(bytes, budget.bytes);
        while self.handle_short(key, &mut input, budget) == Pace::GoOn {
            let Self { handler, shared, net, panics, receivers, receive_pools, .. } = self;
            let Inbound::Open(receiver) = &mut receivers[key.index as usize].inbound else { break };
            let event = shared.with_transmit(key, net, |transmit| {
                receiver.next(&mut input, receive_pools, transmit)
            });
            let Some(Some(event)) = event else { break };
            let mut ctx = Context::new(shared, net, key);
            dispatch(handler, &mut ctx, *panics, event);
            budget.messages -= 1;
            let is_spent = budget.messages == 0 || input.budget_bytes() == 0;
            if is_spent || self.is_to_rest(key) {
                break;
            }
        }
        self.receive_pools.give_back_lent();
        budget.bytes = input.budget_bytes();
        input.consumed()
    }

    /// Dispatches messages as long as they are short and whole and nothing else is to be looked
    /// after, as nearly always. A callback cannot reach the receiving half, so what holds for it
    /// at the beginning holds throughout.
    fn handle_short(&mut self, key: Key, input: &mut Input<'_>, budget: &mut Budget) -> Pace {
        let Self { handler, shared, net, panics, receivers, .. } = self;
        let Inbound::Open(receiver) = &mut receivers[key.index as usize].inbound else {
            return Pace::Rest;
        };
        let Some(slot) = shared.slots.get(key) else { return Pace::Rest };
        let config = shared.config(slot);
        let high_water_bytes = config.limits.high_water_bytes;
        let Some(rules) = receiver.short_rules(config) else { return Pace::GoOn };
        while shared.is_flowing(key, high_water_bytes) {
            if budget.messages == 0 || input.budget_bytes() == 0 {
                return Pace::Rest;
            }
            let Some(short) = input.next_short(rules) else {
                return if input.rest().is_empty() { Pace::Rest } else { Pace::GoOn };
            };
            budget.messages -= 1;
            let mut ctx = Context::new(shared, net, key);
            match short.event(input) {
                Ok(event) => dispatch(handler, &mut ctx, *panics, event),
                Err(error) => {
                    ctx.at.shared.with_transmit(key, ctx.at.writer, |transmit| {
                        receiver.fail(Failure::Protocol(error), transmit);
                    });
                }
            }
        }
        if budget.messages == 0 || self.is_to_rest(key) { Pace::Rest } else { Pace::GoOn }
    }

    /// Whether handling pauses between two messages: the application wants it, or the outbox is
    /// above the high-water mark although it was just offered to the kernel.
    #[cold]
    fn is_to_rest(&mut self, key: Key) -> bool {
        let Some(slot) = self.shared.slots.get(key) else { return true };
        let Phase::Open { sender, .. } = &slot.phase else { return true };
        if sender.queued_bytes() <= self.shared.config(slot).limits.high_water_bytes {
            return slot.notes.is_held();
        }
        self.flush(key);
        self.settle_flow(key);
        self.shared.slots.get(key).is_none_or(|slot| slot.notes.is_held())
    }
}

/// Hands an event to the callback that is for it.
#[inline(always)]
fn dispatch<H: Handler>(
    handler: &mut H,
    ctx: &mut Context<'_, H::Data>,
    panics: PanicPolicy,
    event: Event<'_>,
) {
    let counters = &mut ctx.at.shared.counters;
    let message = match event {
        Event::Text(text) => Message::Text(text),
        Event::Binary(bytes) => Message::Binary(bytes),
        Event::Chunk(chunk) => {
            counters.messages_received += u64::from(chunk.fin);
            return call(handler, ctx, panics, |handler, ctx| handler.on_chunk(ctx, chunk));
        }
        Event::Ping(payload) => {
            counters.pings_received += 1;
            return call(handler, ctx, panics, |handler, ctx| handler.on_ping(ctx, payload));
        }
        Event::Pong { payload, round_trip } => {
            counters.pongs_received += 1;
            return call(handler, ctx, panics, |handler, ctx| {
                handler.on_pong(ctx, payload, round_trip);
            });
        }
        // Both are told when the connection is over, by `on_close`.
        Event::Close(_) | Event::Failed(_) => return,
    };
    counters.messages_received += 1;
    call(handler, ctx, panics, |handler, ctx| handler.on_message(ctx, message));
}
