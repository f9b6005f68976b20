//! Messages that were accepted while there was no connection.
//!
//! They wait in order, bounded by their number, their memory and their age. After reconnecting they
//! are sent first; what is not sent is handed out again with the reason, so nothing is lost
//! silently.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::wire::Opcode;

/// What a client keeps while it has no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outage {
    /// Messages that may wait. Default 1,024: a minute of what an application of average habits
    /// says (guess). 0: nothing is accepted while there is no connection.
    pub messages_max: usize,
    /// Bytes of memory that they may hold: their payloads, and what a place in the queue takes. Default
    /// 1 MiB, what a connection may have unsent too. A payload that is a slice of something larger
    /// keeps all of it in memory, which cannot be seen from here; copy it if that matters.
    pub bytes_max: usize,
    /// How long a message may wait. Default 60 s, the longest delay between two tries: what is older
    /// is stale to whom it concerns (guess). With zero a message expires when the loop next looks at
    /// the clock.
    pub age_max: Duration,
    /// What happens when a message does not fit. Default: it is refused, since its sender is
    /// there to be told.
    pub policy: OutagePolicy,
}

/// What happens when a message does not fit in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OutagePolicy {
    /// It is refused; what waits stays.
    Refuse,
    /// The oldest messages make room for it, as many as it takes. For news of which the latest
    /// counts.
    DropOldest,
}

/// What became of a message that was given while there was no connection.
#[must_use = "a refused message is lost: say so to whom it concerns, or ignore it deliberately"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queueing {
    /// It waits, and is sent after reconnecting or reported under this number. Numbers rise.
    Queued {
        /// The message's number.
        id: u64,
    },
    /// It was not taken.
    Refused(UnsentReason),
}

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UnsentReason {
    /// The queue is full; or was, and this message made room for a later one.
    QueueFull,
    /// It would not even fit in an empty queue.
    TooLarge,
    /// It is no message: its opcode is neither text nor binary.
    NotAMessage,
    /// It cannot stand in an envelope.
    NotJson,
    /// It has waited for longer than [`Outage::age_max`].
    TooOld,
    /// More are sent than the rate allows.
    TooFast,
    /// The connection of a pool was lost while it waited for its batch or its turn.
    ConnectionLost,
    /// The client gave up, or was stopped.
    Stopped,
}

/// A message that waits.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// Its number, if it was given one.
    pub(crate) id: Option<u64>,
    /// Text or binary.
    pub(crate) opcode: Opcode,
    /// As it was given.
    pub(crate) payload: Bytes,
    queued_at: Instant,
}

/// A message that was accepted and is not sent.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unsent {
    /// The number that [`Submitted::Waiting`](super::Submitted::Waiting) gave it; `None` if it was
    /// given to a connection first.
    pub id: Option<u64>,
    /// Text or binary.
    pub opcode: Opcode,
    /// As it was given.
    pub payload: Bytes,
    /// Why.
    pub reason: UnsentReason,
}

impl Unsent {
    /// A message that was lost with its connection.
    pub(super) fn lost(opcode: Opcode, payload: Bytes) -> Self {
        Self { id: None, opcode, payload, reason: UnsentReason::ConnectionLost }
    }
}

/// What a message that waits counts besides its payload: its place in a queue that grows by
/// doubling, and the head of the payload's allocation.
pub const WAITING_BYTES: usize = 2 * size_of::<Waiting>() + 32;

/// The queue of one client.
///
/// At the end of each callback the driver polls [`OutageQueue::poll_unsent`] to its end: what is
/// dropped does not count against the bounds any more, so it must not pile up there.
///
/// After reconnecting: [`OutageQueue::front`], send it, [`OutageQueue::pop`] if it was taken, and so
/// on while there is room. New messages are pushed here until the queue is empty, or they would
/// overtake.
#[derive(Debug)]
pub(crate) struct OutageQueue {
    settings: Outage,
    /// The oldest in front.
    waiting: VecDeque<Waiting>,
    /// The sum of what each of `waiting` counts; at most `settings.bytes_max`.
    bytes: usize,
    next_id: u64,
    /// Dropped and not told yet.
    unsent: VecDeque<Unsent>,
}

impl Default for Outage {
    fn default() -> Self {
        Self {
            messages_max: 1024,
            bytes_max: 1 << 20,
            age_max: Duration::from_secs(60),
            policy: OutagePolicy::Refuse,
        }
    }
}

impl OutageQueue {
    /// An empty queue, which holds no memory.
    pub(crate) const fn new(settings: Outage) -> Self {
        Self { settings, waiting: VecDeque::new(), bytes: 0, next_id: 0, unsent: VecDeque::new() }
    }

    /// Messages that wait.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.waiting.len()
    }

    /// Bytes that they count.
    #[cfg(test)]
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether none waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes a message, or not. What is too old makes room first.
    pub(crate) fn push(&mut self, now: Instant, opcode: Opcode, payload: Bytes) -> Queueing {
        self.expire(now);
        if !matches!(opcode, Opcode::Text | Opcode::Binary) {
            return Queueing::Refused(UnsentReason::NotAMessage);
        }
        let bytes = counted_bytes(&payload);
        if bytes > self.settings.bytes_max {
            return Queueing::Refused(UnsentReason::TooLarge);
        }
        while self.waiting.len() >= self.settings.messages_max
            || self.bytes > self.settings.bytes_max - bytes
        {
            match self.settings.policy {
                OutagePolicy::DropOldest if !self.waiting.is_empty() => {
                    self.drop_front(UnsentReason::QueueFull);
                }
                OutagePolicy::DropOldest | OutagePolicy::Refuse => {
                    return Queueing::Refused(UnsentReason::QueueFull);
                }
            }
        }
        let id = self.next_id;
        self.next_id += 1;
        self.bytes += bytes;
        self.waiting.push_back(Waiting { id: Some(id), opcode, payload, queued_at: now });
        Queueing::Queued { id }
    }

    /// Takes messages back that have left the queue, or would have passed it by, and were not sent:
    /// they are older than what waits. They are there already, so no bound refuses them.
    pub(crate) fn put_back(&mut self, now: Instant, messages: Vec<(Opcode, Bytes)>) {
        // The oldest has to be in front.
        let queued_at = self.waiting.front().map_or(now, |front| front.queued_at.min(now));
        for (opcode, payload) in messages.into_iter().rev() {
            self.bytes += counted_bytes(&payload);
            self.waiting.push_front(Waiting { id: None, opcode, payload, queued_at });
        }
    }

    /// Messages that have left the queue, or would have passed it by, are not sent any more: the
    /// client gave up. They are older than what was dropped by that.
    pub(crate) fn drop_back(&mut self, messages: Vec<(Opcode, Bytes)>) {
        for (opcode, payload) in messages.into_iter().rev() {
            let reason = UnsentReason::Stopped;
            self.unsent.push_front(Unsent { id: None, opcode, payload, reason });
        }
    }

    /// The message to send next, after what is too old has gone.
    pub(crate) fn front(&mut self, now: Instant) -> Option<&Waiting> {
        self.expire(now);
        self.waiting.front()
    }

    /// Takes the message that [`OutageQueue::front`] gave.
    pub(crate) fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        self.bytes -= counted_bytes(&waiting.payload);
        if self.waiting.is_empty() {
            // Most clients are connected, and need no room for the time when they are not.
            self.waiting = VecDeque::new();
        }
        Some(waiting)
    }

    /// When the oldest message will be too old.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        // What has no such time in this clock's range waits for ever.
        self.waiting.front()?.queued_at.checked_add(self.settings.age_max)
    }

    /// Time has come to `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.expire(now);
    }

    /// The client gave up: whatever waits is not sent. The queue can be used again.
    pub(crate) fn handle_stop(&mut self) {
        while !self.waiting.is_empty() {
            self.drop_front(UnsentReason::Stopped);
        }
    }

    /// A message that was accepted and is not sent.
    pub(crate) fn poll_unsent(&mut self) -> Option<Unsent> {
        let unsent = self.unsent.pop_front();
        if unsent.is_none() {
            self.unsent = VecDeque::new();
        }
        unsent
    }

    fn expire(&mut self, now: Instant) {
        // They were pushed in order, so the oldest is in front.
        while self.poll_timeout().is_some_and(|due| due <= now) {
            self.drop_front(UnsentReason::TooOld);
        }
    }

    fn drop_front(&mut self, reason: UnsentReason) {
        let dropped = self.pop();
        self.unsent.extend(dropped.map(|Waiting { id, opcode, payload, .. }| Unsent {
            id,
            opcode,
            payload,
            reason,
        }));
    }
}

// What a message says stays out of logs.
impl fmt::Debug for Waiting {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Waiting")
            .field("id", &self.id)
            .field("opcode", &self.opcode)
            .field("payload_bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Unsent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Unsent")
            .field("id", &self.id)
            .field("opcode", &self.opcode)
            .field("payload_bytes", &self.payload.len())
            .field("reason", &self.reason)
            .finish()
    }
}

/// What a message counts.
fn counted_bytes(payload: &Bytes) -> usize {
    // A slice has less than half of the address space, so the sum fits.
    payload.len() + WAITING_BYTES
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn message(payload_bytes: usize) -> Bytes {
        Bytes::from(vec![b'x'; payload_bytes])
    }

    fn unsent(queue: &mut OutageQueue) -> Vec<(u64, UnsentReason)> {
        std::iter::from_fn(|| queue.poll_unsent())
            .map(|unsent| (unsent.id.expect("it waited under a number"), unsent.reason))
            .collect()
    }

    #[test]
    fn the_queue_has_its_documented_defaults() {
        let settings = Outage::default();
        assert_eq!((settings.messages_max, settings.bytes_max), (1024, 1 << 20));
        assert_eq!(settings.age_max, Duration::from_secs(60));
        assert_eq!(settings.policy, OutagePolicy::Refuse);
    }

    #[test]
    fn messages_come_out_as_they_went_in() {
        let now = Instant::now();
        let mut queue = OutageQueue::new(Outage::default());
        let text = Bytes::from_static(b"one");
        assert_eq!(queue.push(now, Opcode::Text, text.clone()), Queueing::Queued { id: 0 });
        assert_eq!(queue.push(now, Opcode::Binary, message(2)), Queueing::Queued { id: 1 });
        assert_eq!((queue.count(), queue.bytes()), (2, 5 + 2 * WAITING_BYTES));
        let front = queue.front(now).map(|front| (front.id, front.opcode, front.payload.clone()));
        assert_eq!(front, Some((Some(0), Opcode::Text, text)));
        assert_eq!(queue.pop().map(|waiting| waiting.id), Some(Some(0)));
        assert_eq!(queue.pop().map(|waiting| waiting.opcode), Some(Opcode::Binary));
        assert_eq!(queue.pop(), None);
        assert_eq!((queue.count(), queue.bytes()), (0, 0));
    }

    #[test]
    fn an_empty_queue_holds_no_memory() {
        let now = Instant::now();
        let mut queue = OutageQueue::new(Outage::default());
        for _ in 0..100 {
            let _ = queue.push(now, Opcode::Text, Bytes::new());
        }
        queue.handle_stop();
        assert_eq!(unsent(&mut queue).len(), 100);
        assert_eq!((queue.waiting.capacity(), queue.unsent.capacity()), (0, 0));
    }

    #[test]
    fn what_is_no_message_or_fits_nowhere_is_refused_whatever_the_policy() {
        let now = Instant::now();
        for policy in [OutagePolicy::Refuse, OutagePolicy::DropOldest] {
            let bytes_max = 100 + 2 * WAITING_BYTES;
            let mut queue = OutageQueue::new(Outage { bytes_max, policy, ..Outage::default() });
            let _ = queue.push(now, Opcode::Text, message(10));
            for opcode in [Opcode::Ping, Opcode::Close, Opcode::Continuation] {
                let refused = Queueing::Refused(UnsentReason::NotAMessage);
                assert_eq!(queue.push(now, opcode, Bytes::new()), refused);
            }
            let too_large = message(101 + WAITING_BYTES);
            let refused = Queueing::Refused(UnsentReason::TooLarge);
            assert_eq!(queue.push(now, Opcode::Text, too_large), refused);
            assert_eq!((queue.count(), queue.poll_unsent()), (1, None));
        }
    }

    #[test]
    fn a_queue_for_no_messages_takes_none() {
        for policy in [OutagePolicy::Refuse, OutagePolicy::DropOldest] {
            let mut queue =
                OutageQueue::new(Outage { messages_max: 0, policy, ..Outage::default() });
            let refused = Queueing::Refused(UnsentReason::QueueFull);
            assert_eq!(queue.push(Instant::now(), Opcode::Text, Bytes::new()), refused);
        }
    }

    #[test]
    fn messages_wait_for_as_long_as_the_clock_reaches() {
        let now = Instant::now();
        let mut queue = OutageQueue::new(Outage { age_max: Duration::MAX, ..Outage::default() });
        let _ = queue.push(now, Opcode::Text, Bytes::new());
        assert_eq!(queue.poll_timeout(), None);
        queue.handle_timeout(now + Duration::from_secs(1 << 32));
        assert_eq!(queue.count(), 1);
    }

    #[test]
    fn what_waits_is_not_shown() {
        let now = Instant::now();
        let mut queue = OutageQueue::new(Outage::default());
        let _ = queue.push(now, Opcode::Text, Bytes::from_static(b"secret"));
        assert!(!format!("{queue:?}").contains("secret"));
        queue.handle_stop();
        let shown = format!("{:?}", queue.poll_unsent());
        let expected = "Unsent { id: Some(0), opcode: Text, payload_bytes: 6, reason: Stopped }";
        assert_eq!(shown, format!("Some({expected})"));
    }

    #[derive(Clone, Debug)]
    enum Operation {
        Push(usize),
        Pop,
        Pass(u32),
        Stop,
    }

    fn operation() -> impl Strategy<Value = Operation> {
        prop_oneof![
            8 => (0..400usize).prop_map(Operation::Push),
            3 => Just(Operation::Pop),
            3 => (0..60u32).prop_map(Operation::Pass),
            1 => Just(Operation::Stop),
        ]
    }

    fn settings() -> impl Strategy<Value = Outage> {
        let policy = prop_oneof![Just(OutagePolicy::Refuse), Just(OutagePolicy::DropOldest)];
        (0..8usize, 0..2000usize, 0..100u32, policy).prop_map(
            |(messages_max, bytes_max, age_ms, policy)| Outage {
                messages_max,
                bytes_max,
                age_max: age_ms * MS,
                policy,
            },
        )
    }

    /// The naive queue: a list of numbers, payload bytes and times, searched from its beginning.
    struct Model {
        settings: Outage,
        now: Instant,
        waiting: Vec<(u64, usize, Instant)>,
        unsent: Vec<(u64, UnsentReason)>,
        pushed: u64,
    }

    impl Model {
        fn bytes(&self) -> usize {
            self.waiting.iter().map(|(_, bytes, _)| bytes + WAITING_BYTES).sum()
        }

        fn expire(&mut self) {
            let is_old = |at: Instant| self.now - at >= self.settings.age_max;
            let old = self.waiting.iter().filter(|(.., at)| is_old(*at));
            self.unsent.extend(old.map(|(id, ..)| (*id, UnsentReason::TooOld)));
            self.waiting.retain(|(.., at)| !is_old(*at));
        }

        fn push(&mut self, payload_bytes: usize) -> Queueing {
            self.expire();
            let bytes = payload_bytes + WAITING_BYTES;
            if bytes > self.settings.bytes_max {
                return Queueing::Refused(UnsentReason::TooLarge);
            }
            let has_room = |model: &Self| {
                model.waiting.len() < model.settings.messages_max
                    && model.bytes() + bytes <= model.settings.bytes_max
            };
            while !has_room(self) {
                if self.settings.policy == OutagePolicy::Refuse || self.waiting.is_empty() {
                    return Queueing::Refused(UnsentReason::QueueFull);
                }
                self.unsent.push((self.waiting.remove(0).0, UnsentReason::QueueFull));
            }
            let id = self.pushed;
            self.pushed += 1;
            self.waiting.push((id, payload_bytes, self.now));
            Queueing::Queued { id }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]
        #[test]
        fn queue_agrees_with_the_naive_one(
            settings in settings(), operations in prop::collection::vec(operation(), 0..80)
        ) {
            let now = Instant::now();
            let mut queue = OutageQueue::new(settings.clone());
            let mut model =
                Model { settings, now, waiting: Vec::new(), unsent: Vec::new(), pushed: 0 };
            let (mut sent, mut reported) = (0, 0);
            for operation in operations {
                match operation {
                    Operation::Push(bytes) => {
                        let queueing = queue.push(model.now, Opcode::Text, message(bytes));
                        prop_assert_eq!(queueing, model.push(bytes));
                    }
                    Operation::Pop => {
                        let front = queue.front(model.now).map(|front| front.id);
                        let popped = queue.pop();
                        model.expire();
                        let expected = (!model.waiting.is_empty()).then(|| model.waiting.remove(0));
                        let ours = popped.map(|waiting| (waiting.id, waiting.payload.len()));
                        prop_assert_eq!(ours, expected.map(|(id, bytes, _)| (Some(id), bytes)));
                        prop_assert_eq!(front, ours.map(|(id, _)| id));
                        sent += u64::from(ours.is_some());
                    }
                    Operation::Pass(millis) => {
                        model.now += millis * MS;
                        queue.handle_timeout(model.now);
                        model.expire();
                    }
                    Operation::Stop => {
                        queue.handle_stop();
                        let left = model.waiting.drain(..).map(|(id, ..)| id);
                        model.unsent.extend(left.map(|id| (id, UnsentReason::Stopped)));
                    }
                }
                reported += model.unsent.len() as u64;
                prop_assert_eq!(unsent(&mut queue), std::mem::take(&mut model.unsent));
                prop_assert_eq!((queue.count(), queue.bytes()), (model.waiting.len(), model.bytes()));
                let oldest = model.waiting.iter().map(|(.., at)| *at).min();
                prop_assert_eq!(queue.poll_timeout(), oldest.map(|at| at + model.settings.age_max));
                // Nothing is lost, and nothing twice.
                prop_assert_eq!(model.pushed, sent + reported + queue.count() as u64);
            }
        }
    }
}
