//! The application's view of a sending half: everything that can be sent, and the answers that the
//! protocol owes.

use std::io::IoSlice;
use std::time::Duration;

use bytes::Bytes;

use super::config::{Config, OverflowPolicy};
use super::event::Failure;
use super::message::{DropReason, Part, PreparedMessage, SendOutcome, encode_frame, whole_header};
use super::pools::SendPools;
use super::sender::{Flow, HeartbeatDue, Parts, Sender};
use super::state::{
    CloseCause, Closing, ClosingPhase, Ending, Initiator, State, StateMut, StateRef,
};
use super::timer::Moment;
use crate::collections::PoolExhausted;
use crate::limits::SHARE_BYTES_MIN;
use crate::wire::{
    CloseCode, CloseFrame, ControlPayload, HEADER_BYTES_MAX, Header, InvalidClose, Opcode, Role,
    encode_close,
};

/// Where output can be offered before the caller's own write: the seam to the I/O floor.
pub trait Sink {
    /// Offers bytes in order; says how many were taken, or `None` if nothing can be written
    /// before the caller's own [`poll_transmit`](super::Connection::poll_transmit).
    fn offer(&mut self, slices: &[IoSlice<'_>]) -> Option<usize>;
}

/// Takes nothing: for those who write what `poll_transmit` lends.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSink;

impl Sink for NoSink {
    fn offer(&mut self, _: &[IoSlice<'_>]) -> Option<usize> {
        None
    }
}

/// A sending half together with what it needs to send. Given with each event.
pub struct Transmit<'a> {
    pub(crate) sender: &'a mut Sender,
    pub(crate) pools: &'a mut SendPools,
    pub(crate) config: &'a Config,
    pub(crate) now: Moment,
    pub(crate) sink: &'a mut dyn Sink,
}

impl<'a> Transmit<'a> {
    /// Sends a text message.
    #[inline]
    pub fn send_text(&mut self, payload: &str) -> SendOutcome {
        self.send_slice(Opcode::Text, payload.as_bytes())
    }

    /// Sends a binary message. Up to 16 KiB are copied; more is offered to the kernel from where
    /// it lies, and only what it refuses is copied.
    #[inline]
    pub fn send_binary(&mut self, payload: &[u8]) -> SendOutcome {
        self.send_slice(Opcode::Binary, payload)
    }

    /// Sends a text message uncompressed although compression was agreed on: because it is
    /// compressed already, or holds a secret together with what somebody else chose.
    pub fn send_text_uncompressed(&mut self, payload: &str) -> SendOutcome {
        self.send_frame(&whole_header(Opcode::Text, payload.len()), payload.as_bytes())
    }

    /// As [`Transmit::send_text_uncompressed`], for a binary message.
    pub fn send_binary_uncompressed(&mut self, payload: &[u8]) -> SendOutcome {
        self.send_frame(&whole_header(Opcode::Binary, payload.len()), payload)
    }

    /// Sends a binary message that the queue may keep by reference, unless it is compressed.
    pub fn send_bytes(&mut self, payload: Bytes) -> SendOutcome {
        let is_compressed = self.sender.compresses(self.config, payload.len());
        if payload.len() < SHARE_BYTES_MIN || is_compressed || self.config.role == Role::Client {
            return self.send_slice(Opcode::Binary, &payload);
        }
        let header = whole_header(Opcode::Binary, payload.len());
        self.send_with(payload.len(), |transmit| {
            let mut head = [0; HEADER_BYTES_MAX];
            let head_bytes = header.encode(&mut head);
            let Transmit { sender, pools, .. } = transmit;
            let head = &head[..head_bytes];
            sender.outbox.push_shared_with_header(&mut pools.outbox, head, payload)
        })
    }

    /// Sends a message that was encoded once for many receivers. Where messages are compressed, it
    /// is so once for all receivers without context takeover, and for each with it.
    pub fn send_prepared(&mut self, message: &PreparedMessage) -> SendOutcome {
        let payload = message.payload();
        if let Some(key) = self.sender.deflate
            && let Some(variants) = message.variants()
            && self.config.compresses(payload.len())
        {
            if key.has_context_takeover() || self.config.role == Role::Client {
                return self.send_compressed(key, message.opcode(), payload);
            }
            return self.send_with(payload.len(), |transmit| {
                let frame = transmit.prepared_frame(key, message, variants);
                transmit.push_prepared(frame)
            });
        }
        if self.config.role == Role::Client {
            return self.send_frame(&whole_header(message.opcode(), payload.len()), payload);
        }
        self.send_with(payload.len(), |transmit| transmit.push_prepared(message.frame().clone()))
    }

    /// Sends one part of a message (RFC 6455 §5.4), as a frame of its own. `opcode` is that of the
    /// message, `Text` or `Binary`, for every part. The parts of a text message together must be
    /// valid UTF-8; that is the caller's to see to. Parts are never compressed.
    pub fn send_part(&mut self, opcode: Opcode, payload: &[u8], part: Part) -> SendOutcome {
        if !self.sender.is_open() {
            return SendOutcome::Dropped(DropReason::Closing);
        }
        if !matches!(opcode, Opcode::Text | Opcode::Binary) {
            return SendOutcome::Dropped(DropReason::NotAMessage);
        }
        let begun = self.sender.in_parts == Parts::Begun;
        let opcode = match part {
            Part::First if begun => return SendOutcome::Dropped(DropReason::MessageInProgress),
            Part::First => opcode,
            Part::Middle | Part::Last if begun => Opcode::Continuation,
            Part::Middle | Part::Last => {
                return SendOutcome::Dropped(DropReason::NoMessageInProgress);
            }
        };
        self.sender.in_parts = Parts::None;
        let header = Header { fin: part == Part::Last, ..whole_header(opcode, payload.len()) };
        let outcome = self.send_frame(&header, payload);
        let unfinished = part != Part::Last && outcome.is_taken();
        let lost_in_between = part != Part::First && !outcome.is_taken();
        if unfinished || lost_in_between {
            self.sender.in_parts = Parts::Begun;
        }
        outcome
    }

    /// Sends a ping of at most 125 bytes. Its pong comes as an event; the heartbeat's pings go by
    /// themselves.
    pub fn send_ping(&mut self, payload: &[u8]) -> SendOutcome {
        let Some(payload) = ControlPayload::from_slice(payload) else {
            return SendOutcome::Dropped(DropReason::TooLarge);
        };
        match self.admit(0) {
            Err(reason) => SendOutcome::Dropped(reason),
            Ok(outcome) => match self.push_control(Opcode::Ping, payload.as_slice()) {
                Ok(()) => {
                    self.sender.prove_by_ping(payload.as_slice());
                    outcome
                }
                Err(PoolExhausted) => self.exhausted(),
            },
        }
    }

    /// Begins the closing handshake (RFC 6455 §7.1.2). What was sent before leaves first; what is
    /// sent afterwards is dropped. Closing a second time does nothing.
    ///
    /// # Errors
    /// [`InvalidClose`] if the code may not stand on the wire or the reason has over 123 bytes;
    /// nothing was sent then.
    pub fn close(&mut self, code: CloseCode, reason: &str) -> Result<(), InvalidClose> {
        let payload = encode_close(code, reason)?;
        if self.sender.is_open() {
            self.push_close(
                payload.as_slice(),
                ClosingPhase::AwaitingClose,
                Ending {
                    code,
                    reason: reason.into(),
                    initiator: Initiator::Local,
                    cause: CloseCause::ClosingHandshake,
                    peer_code: None,
                },
            );
        }
        Ok(())
    }

    /// The same with so much time for the whole closing handshake, where
    /// [`Config::close_timeout`](super::Config) leaves more; also if that is under way already.
    pub(crate) fn close_within(&mut self, code: CloseCode, time: Duration) {
        let closed = self.close(code, "");
        debug_assert!(closed.is_ok(), "checked before anybody is told");
        let until = self.now.plus(time);
        if let StateMut::Closing(closing) = self.sender.state.get_mut() {
            closing.linger_until = closing.linger_until.min(until);
        }
    }

    /// Fails the connection (RFC 6455 §7.1.7): a Close that says why is queued, the peer's is not
    /// awaited.
    pub(crate) fn fail(&mut self, failure: Failure) {
        self.fail_with(failure.close_code(), &failure.to_string(), CloseCause::Failed(failure));
    }

    /// As [`Transmit::fail`], for a cause outside the protocol.
    pub(crate) fn fail_with(&mut self, code: CloseCode, reason: &str, cause: CloseCause) {
        match self.sender.state.get_mut() {
            StateMut::Open => {
                let payload = encode_close(code, reason)
                    .or_else(|_| encode_close(code, ""))
                    .expect("we fail connections with sendable codes only");
                let initiator = Initiator::Local;
                let reason = reason.into();
                let ending = Ending { code, reason, initiator, cause, peer_code: None };
                self.push_close(payload.as_slice(), ClosingPhase::Flushing, ending);
            }
            StateMut::Closing(closing) => {
                // Our Close has gone already; there is no second one (RFC 6455 §5.5.1).
                closing.ending = closing.cut_short(cause);
                closing.phase = ClosingPhase::Flushing;
                self.end_if_flushed();
            }
            StateMut::Closed => {}
        }
    }

    /// Ends the connection at once; what is queued is lost and counted.
    pub fn abort(&mut self) {
        self.sender.end(Initiator::Local, CloseCause::Aborted);
    }

    /// Unsent bytes.
    pub fn queued_bytes(&self) -> usize {
        self.sender.queued_bytes()
    }

    /// Whether messages may be sent.
    pub fn is_open(&self) -> bool {
        self.sender.is_open()
    }

    pub(super) const fn config(&self) -> &'a Config {
        self.config
    }

    /// Whether what the peer says is still of interest.
    #[inline]
    pub(super) fn is_receiving(&self) -> bool {
        self.sender.is_open() || !(self.sender.is_flushing() || self.sender.is_closed())
    }

    /// Queues the pong that a ping asks for (RFC 6455 §5.5.2). While the kernel takes output, each
    /// ping gets its own; once it has refused some, those that wait collapse into the latest.
    pub(super) fn answer_ping(&mut self, payload: &[u8]) {
        if !self.sender.is_open() {
            return;
        }
        let bound = self.config.limits.control_bytes_max;
        if self.sender.flow == Flow::Free && self.sender.control_bytes as usize >= bound {
            self.flush();
        }
        let crowded = self.sender.control_bytes as usize >= bound;
        let pushed = if self.sender.flow == Flow::Refused || crowded {
            self.collapse_pong(payload)
        } else {
            self.push_control(Opcode::Pong, payload)
        };
        if pushed.is_err() {
            self.fail(Failure::PoolExhausted);
        }
    }

    /// Answers the peer's Close with the same code, an empty one with an empty one (RFC 6455
    /// §5.5.1), or takes it as the answer to ours.
    pub(super) fn answer_close(&mut self, frame: Option<CloseFrame<'_>>) {
        let code = frame.map_or(CloseCode::NO_STATUS, |frame| frame.code);
        match self.sender.state.get_mut() {
            StateMut::Open => {
                let payload = match frame {
                    Some(frame) => encode_close(frame.code, "").expect("received codes are valid"),
                    None => ControlPayload::empty(),
                };
                let ending = Ending {
                    code,
                    reason: frame.map_or("", |frame| frame.reason).into(),
                    initiator: Initiator::Peer,
                    cause: CloseCause::ClosingHandshake,
                    peer_code: Some(code),
                };
                self.push_close(payload.as_slice(), ClosingPhase::Flushing, ending);
            }
            StateMut::Closing(closing) => {
                closing.ending.peer_code = Some(code);
                closing.phase = ClosingPhase::Flushing;
                self.end_if_flushed();
            }
            StateMut::Closed => {}
        }
    }

    pub(super) fn handle_pong(&mut self, payload: &[u8]) -> Option<Duration> {
        self.sender.handle_pong(payload, self.now)
    }

    /// Time has come to `now`: sends the heartbeat's ping when it is due.
    pub(crate) fn handle_timeout(&mut self) {
        let due = self.sender.handle_timeout(self.config, self.now);
        // A peer that takes no output cannot answer; the kernel taking some is its sign of life.
        if due == HeartbeatDue::Yes && self.sender.flow == Flow::Free {
            match self.push_control(Opcode::Ping, &self.sender.heartbeat_payload()) {
                Ok(()) => self.sender.handle_ping_queued(),
                Err(PoolExhausted) => self.fail(Failure::PoolExhausted),
            }
        }
    }

    /// Offers what is queued to the sink, if there is one.
    pub(crate) fn flush(&mut self) {
        while !self.sender.outbox.is_empty() {
            let (offered, taken) = match self.sender.outbox.lend_whole(&self.pools.outbox) {
                Some(bytes) => (bytes.len(), self.sink.offer(&[IoSlice::new(bytes)])),
                None => self.offer_pieces(),
            };
            let Some(taken) = taken else { return };
            self.sender.handle_transmitted(taken, self.pools, self.now);
            if taken < offered {
                if self.sender.flow == Flow::Free {
                    self.sender.outbox.leave_log(&mut self.pools.outbox);
                }
                self.sender.handle_refused();
                return;
            }
        }
    }

    /// Offers the front of what is queued; says how much that was, and how much was taken.
    #[inline(never)]
    fn offer_pieces(&mut self) -> (usize, Option<usize>) {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = self.sender.outbox.lend(&self.pools.outbox, &mut slices);
        let offered = slices[..count].iter().map(|slice| slice.len()).sum();
        (offered, self.sink.offer(&slices[..count]))
    }

    #[inline]
    pub(crate) fn send_slice(&mut self, opcode: Opcode, payload: &[u8]) -> SendOutcome {
        if self.sender.cork_short(self.pools, self.config, opcode, payload) {
            return SendOutcome::Sent;
        }
        self.send_other(opcode, payload)
    }

    /// Sends a message that is not short or meets something that is to be looked after.
    #[inline(never)]
    fn send_other(&mut self, opcode: Opcode, payload: &[u8]) -> SendOutcome {
        match self.sender.deflate {
            Some(key) if self.config.compresses(payload.len()) => {
                self.send_compressed(key, opcode, payload)
            }
            _ => self.send_frame(&whole_header(opcode, payload.len()), payload),
        }
    }

    fn send_frame(&mut self, header: &Header, payload: &[u8]) -> SendOutcome {
        self.send_with(payload.len(), |transmit| transmit.offer_or_push(header, payload))
    }

    /// Checks that a message may be sent, has `push` queue it and says what became of it.
    #[inline]
    pub(super) fn send_with(
        &mut self,
        payload_bytes: usize,
        push: impl FnOnce(&mut Self) -> Result<(), PoolExhausted>,
    ) -> SendOutcome {
        if self.sender.in_parts == Parts::Begun && self.sender.is_open() {
            return SendOutcome::Dropped(DropReason::MessageInProgress);
        }
        match self.admit(payload_bytes) {
            Err(reason) => SendOutcome::Dropped(reason),
            Ok(outcome) => match push(self) {
                Ok(()) => outcome,
                Err(PoolExhausted) => self.exhausted(),
            },
        }
    }

    /// Whether a message may be taken, and what its sender will be told.
    #[inline]
    fn admit(&mut self, payload_bytes: usize) -> Result<SendOutcome, DropReason> {
        if !self.sender.is_open() {
            return Err(DropReason::Closing);
        }
        self.make_room(self.config.limits.backpressure_bytes_max);
        let queued = self.sender.queued_bytes();
        if queued >= self.config.limits.backpressure_bytes_max {
            if self.config.on_overflow == OverflowPolicy::Fail {
                self.fail(Failure::Backpressure);
            }
            return Err(DropReason::Backpressure);
        }
        if payload_bytes > QUEUE_BYTES_MAX - queued.min(QUEUE_BYTES_MAX) {
            return Err(DropReason::TooLarge);
        }
        Ok(match self.sender.flow {
            Flow::Free => SendOutcome::Sent,
            Flow::Refused => SendOutcome::Queued { bytes: queued },
        })
    }

    /// A batch that is merely corked is not a slow reader: a full one is offered before that is
    /// judged.
    #[inline]
    pub(super) fn make_room(&mut self, queued_bytes_max: usize) {
        let is_full = self.sender.queued_bytes() >= queued_bytes_max;
        if is_full && self.sender.flow == Flow::Free {
            self.flush();
        }
    }

    fn exhausted(&mut self) -> SendOutcome {
        self.fail(Failure::PoolExhausted);
        SendOutcome::Dropped(DropReason::PoolExhausted)
    }

    fn push_control(&mut self, opcode: Opcode, payload: &[u8]) -> Result<(), PoolExhausted> {
        let before = self.sender.queued_bytes();
        self.push_frame(&whole_header(opcode, payload.len()), payload)?;
        let frame_bytes = (self.sender.queued_bytes() - before) as u32;
        self.sender.control_bytes = self.sender.control_bytes.saturating_add(frame_bytes);
        Ok(())
    }

    /// Queues a pong that later ones replace while not a byte of it is written.
    fn collapse_pong(&mut self, payload: &[u8]) -> Result<(), PoolExhausted> {
        let mut header = whole_header(Opcode::Pong, payload.len());
        if self.config.role == Role::Client {
            header.masking_key = Some(self.pools.masking_keys.next_key());
        }
        let frame = encode_frame(&header, payload);
        let Sender { outbox, rare, .. } = &mut *self.sender;
        if let Some(key) = rare.as_ref().and_then(|rare| rare.waiting_pong)
            && outbox.replace(&mut self.pools.outbox, key, frame.clone())
        {
            return Ok(());
        }
        let key = outbox.push_replaceable(&mut self.pools.outbox, frame)?;
        rare.get_or_insert_default().waiting_pong = Some(key);
        Ok(())
    }

    fn push_close(&mut self, payload: &[u8], phase: ClosingPhase, ending: Ending) {
        let pushed = self.push_control(Opcode::Close, payload);
        let linger_until = self.now.plus(self.config.close_timeout);
        let mut closing = Closing { phase, linger_until, ending };
        if pushed.is_err() {
            // A pool without room for two bytes cannot tell the peer; the connection ends all the
            // same.
            closing.ending = closing.cut_short(CloseCause::Failed(Failure::PoolExhausted));
            closing.phase = ClosingPhase::Flushing;
        }
        self.sender.state = State::closing(closing);
        self.end_if_flushed();
    }

    fn end_if_flushed(&mut self) {
        if self.sender.outbox.is_empty()
            && let StateRef::Closing(closing) = self.sender.state.get()
            && closing.phase == ClosingPhase::Flushing
        {
            self.sender.state = State::closed(closing.ending.clone());
        }
    }
}

/// Slices of one offer. Linux takes 1,024; sixteen rings hold a whole turn's bytes.
pub(super) const SLICES_MAX: usize = 18;

/// The most that one queue may hold: its counters are 32 bits wide.
const QUEUE_BYTES_MAX: usize = u32::MAX as usize - (1 << 20);

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::collections::Outbox;
    use crate::limits::LoopLimits;
    use crate::protocol::masking_keys::MaskingKeys;
    use crate::protocol::{CloseSummary, Pools, PoolsInUse};
    use crate::wire::{HeaderRules, Rsv1};

    /// A kernel that takes so many bytes of each offer in turn, and none when the list is at its
    /// end.
    struct Kernel {
        takes: Vec<Option<usize>>,
        taken: Vec<u8>,
    }

    impl Sink for Kernel {
        fn offer(&mut self, slices: &[IoSlice<'_>]) -> Option<usize> {
            let offered: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            let take = if self.takes.is_empty() { Some(0) } else { self.takes.remove(0) }?;
            let take = take.min(offered.len());
            self.taken.extend(&offered[..take]);
            Some(take)
        }
    }

    struct Bench {
        sender: Sender,
        pools: Pools,
        config: Config,
        kernel: Kernel,
    }

    impl Bench {
        fn new(takes: &[Option<usize>]) -> Self {
            Self::with_limits(takes, &LoopLimits::default())
        }

        fn with_limits(takes: &[Option<usize>], limits: &LoopLimits) -> Self {
            let config = Config::new(Role::Server);
            let pools = Pools::new(limits, Instant::now(), [0; 32]);
            Self {
                sender: Sender::new(Outbox::new(), &config, Moment::ORIGIN),
                pools,
                config,
                kernel: Kernel { takes: takes.to_vec(), taken: Vec::new() },
            }
        }

        fn transmit(&mut self) -> Transmit<'_> {
            Transmit {
                sender: &mut self.sender,
                pools: &mut self.pools.send,
                config: &self.config,
                now: Moment::ORIGIN,
                sink: &mut self.kernel,
            }
        }

        fn queued(&self) -> Vec<u8> {
            let mut bytes = vec![0; self.sender.queued_bytes()];
            self.sender.outbox().cursor(&self.pools.send.outbox).peek(&mut bytes);
            bytes
        }

        fn finish(mut self) -> CloseSummary {
            self.sender.end(Initiator::Local, CloseCause::Aborted);
            let summary = self.sender.finish(0, &mut self.pools.send);
            assert_eq!(self.pools.in_use(), PoolsInUse::default());
            summary
        }
    }

    /// The frames of "cork" and of `large` as the RFC writes them.
    fn expected(large: &[u8]) -> Vec<u8> {
        let bytes = (large.len() as u64).to_be_bytes();
        [b"\x81\x04cork\x82\x7f".as_slice(), &bytes, large].concat()
    }

    #[test]
    fn a_large_payload_leaves_at_once_behind_what_is_corked() {
        let large: Vec<u8> = (0..=255).cycle().take(70_000).collect();
        let mut bench = Bench::new(&[Some(usize::MAX)]);
        assert_eq!(bench.transmit().send_text("cork"), SendOutcome::Sent);
        assert!(bench.kernel.taken.is_empty(), "small payloads wait for the end of the batch");
        assert_eq!(bench.transmit().send_binary(&large), SendOutcome::Sent);
        assert_eq!(bench.kernel.taken, expected(&large));
        assert_eq!(bench.pools.in_use(), PoolsInUse::default(), "nothing was copied");
        bench.finish();
    }

    #[test]
    fn what_the_kernel_refuses_of_an_offer_is_queued_wherever_it_stops() {
        let large: Vec<u8> = (0..=255).cycle().take(66_000).collect();
        let all = expected(&large);
        // In the cork, at its end, in the header, at its end, in the payload, at its last byte.
        for take in [0, 1, 5, 6, 7, 15, 16, 17, 30_000, all.len() - 1, all.len()] {
            let mut bench = Bench::new(&[Some(take)]);
            assert!(bench.transmit().send_text("cork").is_taken());
            assert_eq!(bench.transmit().send_binary(&large), SendOutcome::Sent, "{take}");
            assert_eq!(bench.kernel.taken, all[..take]);
            assert_eq!(bench.queued(), all[take..], "{take}");
            assert_eq!(bench.sender.is_held_up(), take < all.len());
            let held_up = SendOutcome::Queued { bytes: all.len() - take };
            let next = if take < all.len() { held_up } else { SendOutcome::Sent };
            assert_eq!(bench.transmit().send_binary(&large[..20_000]), next);
            let unsent_bytes = bench.sender.queued_bytes() as u64;
            let summary = bench.finish();
            assert_eq!(summary.unsent_bytes, unsent_bytes);
            let cork = u64::from(take < 6);
            let second = u64::from(unsent_bytes > 0);
            let first = u64::from(take < all.len());
            assert_eq!(summary.unsent_messages, cork + first + second, "{take}");
        }
    }

    #[test]
    fn without_a_kernel_to_offer_to_everything_is_copied() {
        let large = vec![7; 66_000];
        let mut bench = Bench::new(&[None]);
        assert!(bench.transmit().send_text("cork").is_taken());
        assert_eq!(bench.transmit().send_binary(&large), SendOutcome::Sent);
        assert_eq!(bench.queued(), expected(&large));
        assert!(!bench.sender.is_held_up());
        bench.finish();
    }

    #[test]
    fn a_full_cork_is_offered_before_a_message_is_refused() {
        for (take, outcome) in [
            (Some(usize::MAX), SendOutcome::Sent),
            (Some(10), SendOutcome::Queued { bytes: 94 }),
            (Some(0), SendOutcome::Dropped(DropReason::Backpressure)),
            (None, SendOutcome::Dropped(DropReason::Backpressure)),
        ] {
            let mut bench = Bench::new(&[take]);
            bench.config.limits.backpressure_bytes_max = 100;
            assert_eq!(bench.transmit().send_binary(&[1; 102]), SendOutcome::Sent);
            assert_eq!(bench.transmit().send_text("x"), outcome);
            assert_eq!(bench.sender.is_open(), outcome.is_taken());
            bench.finish();
        }
    }

    #[test]
    fn pongs_at_their_bound_are_offered_before_they_collapse() {
        for (take, pongs) in [(Some(usize::MAX), 1000), (None, 11)] {
            let mut bench = Bench::new(&[take; 1000]);
            bench.config.limits.control_bytes_max = 100;
            for index in 0..1000_u64 {
                bench.transmit().answer_ping(&index.to_be_bytes());
            }
            let mut wire = std::mem::take(&mut bench.kernel.taken);
            wire.extend(bench.queued());
            assert_eq!(wire.len(), pongs * 10);
            assert!(wire.ends_with(&999_u64.to_be_bytes()));
            bench.finish();
        }
    }

    #[test]
    fn a_frame_that_can_never_be_finished_ends_the_connection() {
        let mut limits = LoopLimits::default();
        (limits.ring_bytes, limits.rings_max) = (1024, 4);
        let mut bench = Bench::with_limits(&[Some(1000)], &limits);
        let outcome = bench.transmit().send_binary(&[0; 20_000]);
        assert_eq!(outcome, SendOutcome::Dropped(DropReason::PoolExhausted));
        assert!(bench.sender.is_closed(), "no Close may stand inside a frame");
        assert_eq!(bench.sender.queued_bytes(), 0);
        let summary = bench.finish();
        assert_eq!(summary.cause, CloseCause::Failed(Failure::PoolExhausted));
        assert_eq!(summary.code, CloseCode::ABNORMAL);
    }

    #[test]
    fn flushing_offers_more_slices_than_one_write_takes() {
        let limits = LoopLimits { ring_bytes: 64, ..LoopLimits::default() };
        let mut bench = Bench::with_limits(&[Some(usize::MAX); 9], &limits);
        let payload = vec![5; 9000];
        assert!(bench.transmit().send_binary(&payload).is_taken());
        bench.transmit().flush();
        assert_eq!(bench.kernel.taken.len(), 9004);
        assert!(!bench.sender.is_held_up());
        bench.finish();
    }

    /// RFC 6455 §5.3: "a fresh masking key" for each frame, short, long or in parts.
    #[test]
    fn a_clients_frames_have_the_keys_of_the_generator_in_order() {
        let mut bench = Bench::new(&[]);
        bench.config = Config::new(Role::Client);
        bench.sender = Sender::new(Outbox::new(), &bench.config, Moment::ORIGIN);
        let mut transmit = bench.transmit();
        for length in [0, 5, 125, 126, 20_000, 7] {
            assert!(transmit.send_binary(&vec![0; length]).is_taken());
        }
        assert!(transmit.send_part(Opcode::Text, b"a", Part::First).is_taken());
        assert!(transmit.send_ping(b"b").is_taken());
        let queued = bench.queued();
        let mut rest = queued.as_slice();
        let mut keys = MaskingKeys::new([0; 32]);
        for frame in 0..8 {
            let rules = HeaderRules { role: Role::Server, rsv1: Rsv1::Forbidden };
            let parsed = Header::parse(rest, rules).expect("a valid header").expect("a whole one");
            assert_eq!(parsed.header.masking_key, Some(keys.next_key()), "frame {frame}");
            rest = &rest[parsed.header_bytes + parsed.header.payload_bytes as usize..];
        }
        assert!(rest.is_empty());
        bench.finish();
    }

    #[test]
    fn the_end_of_the_handshakes_answer_is_no_message() {
        for taken in [0, 3, 8, 9, 12] {
            let mut bench = Bench::new(&[Some(taken)]);
            let mut outbox = Outbox::new();
            outbox.push(&mut bench.pools.send.outbox, b"HTTP/1.1", b"").expect("there is room");
            bench.sender = Sender::new(outbox, &bench.config, Moment::ORIGIN);
            assert!(bench.transmit().send_text("ab").is_taken());
            bench.transmit().flush();
            let summary = bench.finish();
            assert_eq!(summary.unsent_messages, u64::from(taken < 12), "{taken}");
            assert_eq!(summary.unsent_bytes, 12 - taken as u64);
        }
    }
}
