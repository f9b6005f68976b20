//! The sending half: what is queued, what the kernel took of it, and the connection's time.

use std::io;
use std::time::Duration;

use super::compression::{DeflateKey, Takeover};
use super::config::Config;
use super::event::Failure;
use super::pools::SendPools;
use super::proof::Proving;
use super::state::{
    CloseCause, CloseSummary, Closing, ClosingPhase, Ending, Initiator, State, StateMut, StateRef,
};
use super::timer::Moment;
use crate::collections::{Outbox, OutboxPool, SegmentKey};
use crate::wire::{HEADER_BYTES_MAX, Header, HeaderRules, Opcode, Role, Rsv1};

/// The sending half of a connection. An idle one owns no buffer.
#[derive(Debug)]
pub struct Sender {
    pub(super) outbox: Outbox,
    pub(super) state: State,
    pub(super) last_life: Moment,
    ping_due: Moment,
    heartbeat: HeartbeatState,
    pub(super) rare: Option<Box<Rare>>,
    /// Bytes at the front of the outbox that end something whose beginning the kernel has.
    front_left: u32,
    /// Unsent bytes of control frames, an upper bound: counted up to the next empty outbox.
    pub(super) control_bytes: u32,
    front: Front,
    pub(super) flow: Flow,
    pub(super) in_parts: Parts,
    /// How messages are compressed, if that was agreed on.
    pub(super) deflate: Option<DeflateKey>,
}

/// What few connections of a server have.
#[derive(Debug, Default)]
pub(super) struct Rare {
    /// The collapsed pong that waits in the outbox; newer pings replace its payload.
    pub(super) waiting_pong: Option<SegmentKey>,
    /// What messages refer to with context takeover, from the first one on.
    pub(super) takeover: Option<Takeover>,
    /// What a client proves delivery by; it always has one.
    pub(super) proving: Option<Box<Proving>>,
}

impl Rare {
    /// Whether it holds more than a pong that waits.
    fn is_lasting(&self) -> bool {
        self.takeover.is_some() || self.proving.is_some()
    }
}

/// The latest heartbeat ping, on its way and back.
#[derive(Clone, Copy, Debug)]
enum HeartbeatState {
    /// None is waited for.
    Idle,
    /// In the outbox; its last byte is the `behind`-th that is unsent.
    Queued { behind: u32 },
    /// Wholly handed to the kernel, at this [`Moment::wrapping_micros`].
    Flushed { at_micros: u32 },
}

/// What the first `front_left` bytes of the outbox belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Front {
    /// Not to a message: a control frame, or the end of the handshake's answer.
    Other,
    /// To a message, which therefore counts as unsent.
    Message,
}

/// Whether the kernel takes output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Free,
    /// It refused some; until it has taken everything, sends are queued.
    Refused,
}

/// Whether a message is being sent in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parts {
    None,
    Begun,
}

impl Sender {
    /// The sending half of a connection that opens at `now`. `outbox` may still hold the end of
    /// the handshake's answer.
    pub fn new(outbox: Outbox, config: &Config, now: Moment) -> Self {
        let interval =
            config.heartbeat.map_or(Duration::MAX, |heartbeat| heartbeat.ping_interval());
        let rare = match config.role {
            Role::Server => None,
            Role::Client => {
                Some(Box::new(Rare { proving: Some(Box::default()), ..Rare::default() }))
            }
        };
        Self {
            front_left: u32::try_from(outbox.queued_bytes()).unwrap_or(u32::MAX),
            outbox,
            state: State::OPEN,
            last_life: now,
            ping_due: now.plus(interval),
            heartbeat: HeartbeatState::Idle,
            rare,
            control_bytes: 0,
            front: Front::Other,
            flow: Flow::Free,
            in_parts: Parts::None,
            deflate: None,
        }
    }

    /// The same for a connection that has agreed on compression.
    pub fn with_deflate(self, deflate: Option<DeflateKey>) -> Self {
        Self { deflate, ..self }
    }

    /// The unsent bytes.
    pub const fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Unsent bytes.
    pub fn queued_bytes(&self) -> usize {
        // A queue never holds more than 4 GiB: `Transmit` refuses what would pass that.
        self.outbox.queued_bytes() as usize
    }

    /// Whether messages may be sent and are received.
    pub const fn is_open(&self) -> bool {
        self.state.is_open()
    }

    /// Whether the connection is over: `on_close` is due.
    pub fn is_closed(&self) -> bool {
        matches!(self.state.get(), StateRef::Closed)
    }

    /// Whether only queued output keeps the connection: input is of no interest any more.
    pub fn is_flushing(&self) -> bool {
        matches!(self.state.get(), StateRef::Closing(closing) if closing.phase == ClosingPhase::Flushing)
    }

    /// Whether a message in parts is under way, which no other may interrupt.
    pub fn is_in_parts(&self) -> bool {
        self.in_parts == Parts::Begun
    }

    /// Whether the kernel has refused output that is still queued.
    pub fn is_held_up(&self) -> bool {
        self.flow == Flow::Refused
    }

    /// When something came from the peer last.
    pub(crate) const fn last_life(&self) -> Moment {
        self.last_life
    }

    /// The place where a sender has its [`Takeover`], beside what that holds.
    pub(super) const TAKEOVER_PLACE_BYTES: usize = size_of::<Rare>();

    /// Memory that it holds besides its queue.
    pub(crate) fn own_bytes(&self) -> usize {
        self.rare.as_ref().map_or(0, |rare| {
            let takeover_bytes = rare.takeover.as_ref().map_or(0, Takeover::pinned_bytes);
            let proving_bytes = rare.proving.as_ref().map_or(0, |_| size_of::<Proving>());
            size_of::<Rare>() + takeover_bytes + proving_bytes
        })
    }

    /// Something came from the peer, or it cannot be told whether anything did.
    pub fn handle_sign_of_life(&mut self, now: Moment) {
        self.last_life = now;
    }

    /// Whether a message of so many bytes is to be compressed.
    #[inline(always)]
    pub(super) fn compresses(&self, config: &Config, payload_bytes: usize) -> bool {
        self.deflate.is_some() && config.compresses(payload_bytes)
    }

    /// The first `bytes` unsent ones were written. With everything written, output flows again.
    #[inline]
    pub(crate) fn handle_transmitted(&mut self, bytes: usize, pools: &mut SendPools, now: Moment) {
        let queued = self.queued_bytes();
        debug_assert!(bytes <= queued, "no more can be written than was queued");
        if bytes == 0 {
            return;
        }
        if self.flow == Flow::Refused {
            // The peer's window opened: it is alive although we may have stopped reading.
            self.last_life = now;
        }
        if let HeartbeatState::Queued { behind } = self.heartbeat {
            self.heartbeat = match behind.checked_sub(bytes as u32) {
                None | Some(0) => HeartbeatState::Flushed { at_micros: now.wrapping_micros() },
                Some(behind) => HeartbeatState::Queued { behind },
            };
        }
        if bytes == queued {
            self.outbox.clear(&mut pools.outbox);
            self.handle_drained();
        } else {
            if let Some(proving) = self.proving_mut() {
                proving.handle_transmitted(bytes as u32);
            }
            self.find_front(bytes, pools);
            self.outbox.consume(&mut pools.outbox, bytes);
        }
    }

    /// The kernel refused what is queued.
    pub(crate) fn handle_refused(&mut self) {
        if !self.outbox.is_empty() {
            self.flow = Flow::Refused;
        }
    }

    /// A message was written up to its last `left` bytes, which are all that is queued.
    pub(super) fn handle_torn_message(&mut self, left: usize) {
        self.flow = Flow::Refused;
        self.front_left = left as u32;
        self.front = Front::Message;
    }

    #[inline]
    fn handle_drained(&mut self) {
        self.flow = Flow::Free;
        self.front_left = 0;
        self.control_bytes = 0;
        if self.rare.is_some() {
            self.handle_rare_drained();
        }
        if let StateRef::Closing(closing) = self.state.get()
            && closing.phase == ClosingPhase::Flushing
        {
            self.state = State::closed(closing.ending.clone());
        }
    }

    /// What waited in the outbox was written. Cold, as it is for nearly all servers.
    #[cold]
    fn handle_rare_drained(&mut self) {
        self.forget_waiting_pong();
        if let Some(proving) = self.proving_mut() {
            proving.handle_transmitted(u32::MAX);
        }
    }

    /// The pong that waited was written, or must keep its payload from now on.
    fn forget_waiting_pong(&mut self) {
        match &mut self.rare {
            Some(rare) if rare.is_lasting() => rare.waiting_pong = None,
            _ => self.rare = None,
        }
    }

    /// Notes what will be at the front once `bytes` are consumed, by walking our own frames. Only
    /// partial writes come here, so whole batches cost nothing for it.
    fn find_front(&mut self, bytes: usize, pools: &SendPools) {
        let bytes = bytes as u64;
        let mut cursor = self.outbox.cursor(&pools.outbox);
        cursor.skip(u64::from(self.front_left));
        let mut end = u64::from(self.front_left);
        while end < bytes {
            let Some(header) = peek_header(&cursor) else { break };
            let frame_bytes = header.frame_bytes;
            self.front = header.front;
            cursor.skip(frame_bytes);
            end += frame_bytes;
        }
        self.front_left = end.saturating_sub(bytes) as u32;
    }

    /// Counts the messages not, or not wholly, handed to the kernel.
    pub(super) fn unsent_messages(&self, pool: &OutboxPool) -> u64 {
        let mut messages = u64::from(self.front_left > 0 && self.front == Front::Message);
        let mut cursor = self.outbox.cursor(pool);
        cursor.skip(u64::from(self.front_left));
        while let Some(header) = peek_header(&cursor) {
            messages += u64::from(header.front == Front::Message);
            cursor.skip(header.frame_bytes);
        }
        messages
    }

    /// The next instant at which [`Sender::handle_timeout`] has something to do.
    pub(crate) fn poll_timeout(&self, config: &Config) -> Option<Moment> {
        match self.state.get() {
            StateRef::Open => config
                .heartbeat
                .map(|heartbeat| self.ping_due.min(self.last_life.plus(heartbeat.dead_after))),
            StateRef::Closing(closing) => Some(closing.linger_until),
            StateRef::Closed => None,
        }
    }

    /// Whether time is up for the connection itself, and not only for another ping.
    pub(crate) fn is_overdue(&self, config: &Config, now: Moment) -> bool {
        match self.state.get() {
            StateRef::Open => config
                .heartbeat
                .is_some_and(|heartbeat| now >= self.last_life.plus(heartbeat.dead_after)),
            StateRef::Closing(closing) => now >= closing.linger_until,
            StateRef::Closed => true,
        }
    }

    /// Time has come to `now`. Says whether a heartbeat ping is due; the caller sends it.
    pub(super) fn handle_timeout(&mut self, config: &Config, now: Moment) -> HeartbeatDue {
        match self.state.get_mut() {
            StateMut::Open => {
                let Some(heartbeat) = config.heartbeat else { return HeartbeatDue::No };
                self.forgive_stall(now);
                if self.is_overdue(config, now) {
                    self.end(Initiator::Local, CloseCause::HeartbeatTimeout);
                    return HeartbeatDue::No;
                }
                if now < self.ping_due {
                    return HeartbeatDue::No;
                }
                self.ping_due = now.plus(heartbeat.ping_interval());
                self.heartbeat = HeartbeatState::Idle;
                HeartbeatDue::Yes
            }
            StateMut::Closing(closing) if now >= closing.linger_until => {
                self.state = State::closed(closing.cut_short(CloseCause::CloseTimeout));
                HeartbeatDue::No
            }
            StateMut::Closing(_) | StateMut::Closed => HeartbeatDue::No,
        }
    }

    /// A ping that goes out late, because this process stood still, moves the deadline by as much:
    /// a peer that only answers could not show a sign of life meanwhile. One that has not answered
    /// the ping before, or takes no output, has no such excuse.
    fn forgive_stall(&mut self, now: Moment) {
        if matches!(self.heartbeat, HeartbeatState::Idle) && self.flow == Flow::Free {
            self.last_life = self.last_life.plus(now.since(self.ping_due)).min(now);
        }
    }

    /// What the heartbeat's ping says, and its pong repeats: when the next one is due, which is
    /// never the same twice.
    pub(super) const fn heartbeat_payload(&self) -> [u8; 8] {
        self.ping_due.to_be_bytes()
    }

    /// The heartbeat's ping is the last thing in the outbox. What stands in front of it must keep
    /// its length from now on, so a pong that waits there is replaced no more.
    pub(super) fn handle_ping_queued(&mut self) {
        self.forget_waiting_pong();
        let behind = self.outbox.queued_bytes() as u32;
        self.heartbeat = HeartbeatState::Queued { behind };
        self.prove_by_ping(&self.heartbeat_payload());
    }

    /// A pong came: the round-trip time, if it answers our heartbeat exactly.
    pub(super) fn handle_pong(&mut self, payload: &[u8], now: Moment) -> Option<Duration> {
        self.prove_by_pong(payload);
        match self.heartbeat {
            HeartbeatState::Flushed { at_micros } if payload == self.heartbeat_payload() => {
                self.heartbeat = HeartbeatState::Idle;
                // The next ping is due before 2^32 µs, 71 minutes, have gone by.
                let micros = now.wrapping_micros().wrapping_sub(at_micros);
                Some(Duration::from_micros(micros.into()))
            }
            HeartbeatState::Idle
            | HeartbeatState::Queued { .. }
            | HeartbeatState::Flushed { .. } => None,
        }
    }

    /// The peer's stream has ended. What is queued is still written until the deadline.
    pub(crate) fn handle_end_of_stream(&mut self, config: &Config, now: Moment) {
        match self.state.get_mut() {
            _ if self.outbox.is_empty() => self.end(Initiator::Peer, CloseCause::EndOfStream),
            StateMut::Open => {
                let ending = Ending::abnormal(Initiator::Peer, CloseCause::EndOfStream);
                let linger_until = now.plus(config.close_timeout);
                let phase = ClosingPhase::Flushing;
                self.state = State::closing(Closing { phase, linger_until, ending });
            }
            StateMut::Closing(closing) => {
                // After the peer's Close its stream may end: what is queued goes on.
                if closing.phase == ClosingPhase::AwaitingClose {
                    closing.ending = closing.cut_short(CloseCause::EndOfStream);
                    closing.phase = ClosingPhase::Flushing;
                }
            }
            StateMut::Closed => {}
        }
    }

    /// The transport failed: nothing can be written or read any more.
    pub(crate) fn handle_transport_error(&mut self, error: io::ErrorKind) {
        self.end(Initiator::Peer, CloseCause::Transport(error));
    }

    /// Ends the connection now, without a closing handshake.
    pub(crate) fn end(&mut self, initiator: Initiator, cause: CloseCause) {
        match self.state.get() {
            StateRef::Open => self.state = State::closed(Ending::abnormal(initiator, cause)),
            StateRef::Closing(closing) => {
                self.state = State::closed(closing.cut_short(cause));
            }
            StateRef::Closed => {}
        }
    }

    /// Ends the connection because a frame that is partly written can never be finished.
    pub(super) fn end_torn(&mut self, failure: Failure) {
        self.state = State::closed(Ending::abnormal(Initiator::Local, CloseCause::Failed(failure)));
    }

    /// The summary of a connection that is over; its queue goes back to the pools.
    pub(crate) fn finish(mut self, incomplete_bytes: u64, pools: &mut SendPools) -> CloseSummary {
        let unsent_bytes = self.outbox.queued_bytes();
        let proof = self.delivery(&pools.outbox);
        self.outbox.clear(&mut pools.outbox);
        if let Some(takeover) = self.rare.and_then(|rare| rare.takeover) {
            pools.deflate.release(takeover);
        }
        let ending = self
            .state
            .into_ending()
            .unwrap_or_else(|| Ending::abnormal(Initiator::Local, CloseCause::LoopEnded));
        CloseSummary {
            code: ending.code,
            reason: ending.reason,
            initiator: ending.initiator,
            cause: ending.cause,
            peer_code: ending.peer_code,
            unsent_messages: proof.unsent_messages,
            unconfirmed_messages: proof.unconfirmed_messages,
            unsent_bytes,
            incomplete_bytes,
        }
    }
}

/// Whether a heartbeat ping is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeartbeatDue {
    Yes,
    No,
}

/// One of our own frames in the outbox.
struct QueuedFrame {
    frame_bytes: u64,
    front: Front,
}

/// Reads the header at the cursor. Our own frames are always well-formed; whether they are masked
/// they say themselves.
fn peek_header(cursor: &crate::collections::Cursor<'_>) -> Option<QueuedFrame> {
    let mut bytes = [0; HEADER_BYTES_MAX];
    let len = cursor.peek(&mut bytes);
    let is_masked = len > 1 && bytes[1] & 0x80 != 0;
    // A frame that a server accepts is one that a client sent, and the other way round.
    let role = if is_masked { Role::Server } else { Role::Client };
    let rules = HeaderRules { role, rsv1: Rsv1::Negotiated };
    let parsed = Header::parse(&bytes[..len], rules).ok()??;
    let is_last = parsed.header.fin
        && matches!(parsed.header.opcode, Opcode::Text | Opcode::Binary | Opcode::Continuation);
    Some(QueuedFrame {
        frame_bytes: parsed.header_bytes as u64 + parsed.header.payload_bytes,
        front: if is_last { Front::Message } else { Front::Other },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_sender_is_small() {
        assert!(size_of::<Sender>() <= 64, "{} bytes", size_of::<Sender>());
    }

    /// A server that compresses with context takeover has one for each connection.
    #[test]
    fn what_few_connections_have_is_small() {
        let besides_takeover = size_of::<Rare>() - size_of::<Option<Takeover>>();
        assert_eq!(besides_takeover, 24);
    }

    #[test]
    fn a_server_owns_nothing_that_proves_delivery() {
        let is_proving = |role| {
            let sender = Sender::new(Outbox::new(), &Config::new(role), Moment::ORIGIN);
            sender.rare.is_some()
        };
        assert_eq!([Role::Server, Role::Client].map(is_proving), [false, true]);
    }
}
