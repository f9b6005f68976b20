//! Several messages in one write.

use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant};

use super::backlog::{Backlog, Messages};
use super::drain::DrainMeter;
use super::envelope::{self, PayloadError};
use super::pace::Pace;
use crate::limits::COPY_BYTES_MAX;
use crate::wire::Opcode;

/// When messages wait for others, to be written together.
///
/// A message leaves when `max_messages` or `max_bytes` have gathered, when it is critical, or when
/// the first of its batch has waited for `max_delay`. Timers have ticks of a millisecond, so the
/// longest delay is `max_delay` and one tick.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Batch {
    /// Messages of a batch; 0 counts as 1. Default 100: a write costs about as much as putting so
    /// many small messages into it (guess).
    pub max_messages: usize,
    /// How long a message waits for others. Default 50 ms, which people do not notice.
    pub max_delay: Duration,
    /// Payload bytes of a batch; only a message that is larger by itself exceeds it. Default 64 KiB.
    pub max_bytes: usize,
    /// Payloads that are kept, with
    /// [`WAITING_MESSAGE_BYTES`](crate::limits::WAITING_MESSAGE_BYTES) for each, also where batches
    /// are not written. A message is refused only when so much is kept already, so the overshoot is
    /// at most one message. Default 1 MiB. At the bound: [`BatchError::Full`].
    pub max_buffered_bytes: usize,
    /// Messages with fewer payload bytes wait for others. Those with so many or more go straight
    /// through, behind what waits, and are not copied; in an envelope they are, and end it. Default
    /// 16 KiB, [`COPY_BYTES_MAX`]: copying more costs more than a write of its own.
    pub coalesce_below_bytes: usize,
    /// What a batch looks like on the wire. Default [`BatchForm::Transparent`].
    pub form: BatchForm,
    /// Whether a batch is smaller where it pays. Default [`BatchSize::Fixed`].
    pub size: BatchSize,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            max_messages: 100,
            max_delay: Duration::from_millis(50),
            max_bytes: 64 << 10,
            max_buffered_bytes: 1 << 20,
            coalesce_below_bytes: COPY_BYTES_MAX,
            form: BatchForm::Transparent,
            size: BatchSize::Fixed,
        }
    }
}

/// What a batch looks like on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BatchForm {
    /// A message for each message, all in one write: the peer sees no difference. The default.
    #[default]
    Transparent,
    /// One text message `{"type":"batch","batch_size":n,"messages":[…]}`, for peers that take it
    /// apart. Each message must be a text message of one JSON value; the others are refused. A batch
    /// of one message is an envelope too.
    Envelope,
}

/// Whether a batch waits for all that may stand in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BatchSize {
    /// It does. The default: what leaves when depends on nothing but the settings.
    #[default]
    Fixed,
    /// It waits for less where waiting does not pay. A message that finds the wire idle goes at once
    /// while there are fewer than a thousand a second. Otherwise a batch waits for the time in which
    /// it fills up at the rate of late; it is halved while the wire is more than a millisecond
    /// behind, and grows by an eighth of the maximum with each write that leaves the wire idle.
    Adaptive,
}

/// What becomes of a message that was taken.
#[must_use = "a batch that is ready is to be written"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// It waits for others, or for the time of [`Batcher::poll_timeout`].
    Waits,
    /// It was copied, and [`Batcher::poll_batch`] gives it away.
    Ready,
    /// It was not copied: write what [`Batcher::poll_batch`] gives, then this message by itself.
    Straight,
}

/// A message was not taken; the caller has it still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BatchError {
    /// So much is kept already that [`Batch::max_buffered_bytes`] is reached.
    Full,
    /// The opcode is none of a message: it is neither text nor binary.
    NotAMessage,
    /// It cannot stand in an envelope.
    Payload(PayloadError),
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("so many messages wait already that no more are taken"),
            Self::NotAMessage => f.write_str("only text and binary messages stand in a batch"),
            Self::Payload(error) => error.fmt(f),
        }
    }
}

impl Error for BatchError {}

/// What went through the batches of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchStats {
    /// Batches that were given away.
    pub batches: u64,
    /// Messages in them.
    pub batched: u64,
    /// Messages that went straight through.
    pub straight: u64,
    /// Payload bytes of both, as the application gave them.
    pub bytes: u64,
    /// Writes of which the kernel took something.
    pub writes: u64,
    /// Messages that were not taken, for whatever reason.
    pub dropped: u64,
    /// Messages that wait now.
    pub buffered: usize,
    /// Their payload bytes.
    pub buffered_bytes: usize,
}

impl BatchStats {
    /// Messages of a batch on average, 0 before the first.
    pub fn mean_size(&self) -> f64 {
        self.batched as f64 / self.batches.max(1) as f64
    }

    /// Messages of a write on average, 0 before the first.
    pub fn messages_per_write(&self) -> f64 {
        if self.writes == 0 {
            return 0.0;
        }
        (self.batched + self.straight) as f64 / self.writes as f64
    }
}

/// Gathers the messages of one connection.
///
/// Order of calls: [`Batcher::push`] or [`Batcher::send_now`] for each message, and
/// [`Batcher::handle_timeout`] when [`Batcher::poll_timeout`] comes. After each, and after
/// [`Batcher::handle_written`], [`Batcher::poll_batch`] until it gives nothing, each batch to be
/// written before anything that comes later. At the end [`Batcher::close`].
///
/// ```text
///             push                 enough, late or critical            poll_batch
///   message ───────> [ gathering ] ────────────────────────> [ due ] ────────────> one write
///          \ large                                                                /
///           `── Push::Straight, once nothing is due ─────────────────────────────'
/// ```
///
/// Messages lie one behind the other in one buffer, which is used again: once it has grown to the
/// size of a batch, nothing is allocated.
#[derive(Debug)]
pub struct Batcher {
    settings: Batch,
    /// First those that are due, then those that gather.
    backlog: Backlog,
    due: usize,
    /// Payloads of those that gather.
    gathering_bytes: usize,
    /// When those that gather become due. `None` if none do, or for ever.
    due_at: Option<Instant>,
    /// Its one message is the last envelope that was given away.
    envelope: Backlog,
    /// `None` where the size is fixed.
    pace: Option<Pace>,
    meter: DrainMeter,
    /// What the kernel had not taken after the last write.
    queued_bytes: usize,
    /// Messages of the last batch that was given away.
    lent: usize,
    stats: BatchStats,
}

impl Batcher {
    /// Nothing waits yet, and nothing is allocated.
    pub fn new(mut settings: Batch) -> Self {
        settings.max_messages = settings.max_messages.max(1);
        let pace = match settings.size {
            BatchSize::Fixed => None,
            BatchSize::Adaptive => Some(Pace::new(settings.max_messages, settings.max_delay)),
        };
        let retained_bytes = settings.max_bytes.saturating_mul(2);
        Self {
            settings,
            backlog: Backlog::new(retained_bytes),
            due: 0,
            gathering_bytes: 0,
            due_at: None,
            envelope: Backlog::new(retained_bytes),
            pace,
            meter: DrainMeter::default(),
            queued_bytes: 0,
            lent: 0,
            stats: BatchStats::default(),
        }
    }

    /// Takes a message, to leave with others. The payload of a text message is UTF-8; only where
    /// it goes into an envelope is it checked.
    ///
    /// # Errors
    /// It was not taken; nothing has changed but the statistics.
    pub fn push(
        &mut self,
        now: Instant,
        opcode: Opcode,
        payload: &[u8],
    ) -> Result<Push, BatchError> {
        let payload = self.admitted(opcode, payload)?;
        if let Some(pace) = &mut self.pace {
            pace.handle_message(now);
        }
        if payload.len() >= self.settings.coalesce_below_bytes {
            return Ok(self.release_with(now, opcode, payload));
        }
        self.gather(now, opcode, payload);
        let messages_max = self.pace.map_or(self.settings.max_messages, |pace| pace.messages());
        if self.backlog.len() - self.due >= messages_max
            || self.gathering_bytes >= self.settings.max_bytes
            || self.is_full()
            || self.due_at.is_some_and(|due_at| due_at <= now)
            || self.is_pointless_to_wait()
        {
            self.release();
        }
        Ok(if self.due > 0 { Push::Ready } else { Push::Waits })
    }

    /// Takes a message that must not wait: it leaves now, and what waits leaves in front of it.
    ///
    /// # Errors
    /// As [`Batcher::push`].
    pub fn send_now(
        &mut self,
        now: Instant,
        opcode: Opcode,
        payload: &[u8],
    ) -> Result<Push, BatchError> {
        let payload = self.admitted(opcode, payload)?;
        if let Some(pace) = &mut self.pace {
            pace.handle_message(now);
        }
        Ok(self.release_with(now, opcode, payload))
    }

    /// Takes a message for which [`Push::Straight`] came too early: what is in front of it cannot be
    /// written yet.
    pub fn keep(&mut self, opcode: Opcode, payload: &[u8]) {
        self.stats.straight -= 1;
        self.stats.bytes -= payload.len() as u64;
        self.backlog.push(opcode, payload);
        self.release();
    }

    /// Whether [`Batcher::poll_batch`] has something to give.
    pub const fn is_due(&self) -> bool {
        self.due > 0
    }

    /// Whether so much is kept that no more is taken.
    pub const fn is_full(&self) -> bool {
        self.backlog.bytes() >= self.settings.max_buffered_bytes
    }

    /// The next batch that is to be written, lent until the next call: the messages in order, or
    /// their envelope. From here on they count as sent.
    pub fn poll_batch(&mut self) -> Option<Messages<'_>> {
        let (mut count, mut bytes) = (0, 0_usize);
        for (_, payload) in self.backlog.iter().take(self.due.min(self.settings.max_messages)) {
            if count > 0 && bytes + payload.len() > self.settings.max_bytes {
                break;
            }
            (count, bytes) = (count + 1, bytes + payload.len());
        }
        if count == 0 {
            return None;
        }
        self.due -= count;
        self.lent = count;
        self.stats.batches += 1;
        self.stats.batched += count as u64;
        self.stats.bytes += bytes as u64;
        let messages = self.backlog.take(count);
        Some(match self.settings.form {
            BatchForm::Transparent => messages,
            BatchForm::Envelope => {
                let payloads = messages.map(|(_, payload)| payload);
                self.envelope.replace(Opcode::Text, |out| envelope::encode(payloads, out));
                self.envelope.iter()
            }
        })
    }

    /// So many messages of the last batch were taken, or of its envelope: what is left is due as it
    /// was, and in the course of [`Batch::max_delay`] once more. Says how much that is.
    pub fn handle_taken(&mut self, now: Instant, taken_messages: usize) -> usize {
        let count = std::mem::take(&mut self.lent);
        let taken_messages = match self.settings.form {
            BatchForm::Transparent => taken_messages.min(count),
            BatchForm::Envelope => count * taken_messages.min(1),
        };
        let left_messages = count - taken_messages;
        if left_messages > 0 {
            let left_bytes = self.backlog.untake(left_messages);
            self.due += left_messages;
            self.due_at = now.checked_add(self.settings.max_delay);
            self.stats.batched -= left_messages as u64;
            self.stats.bytes -= left_bytes as u64;
            self.stats.batches -= u64::from(taken_messages == 0);
        }
        left_messages
    }

    /// When [`Batcher::handle_timeout`] is to be called; `None` while nothing gathers.
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.due_at
    }

    /// What has waited for long enough becomes due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.due_at.is_some_and(|due_at| due_at <= now) {
            self.release();
        }
    }

    /// The kernel took so many bytes of the connection, perhaps none, and so many stay queued.
    pub fn handle_written(&mut self, now: Instant, bytes: usize, queued_bytes: usize) {
        self.stats.writes += u64::from(bytes > 0);
        self.queued_bytes = queued_bytes;
        self.meter.handle_written(now, bytes, queued_bytes);
        let queueing_delay = self.meter.estimated_drain(now, queued_bytes);
        if let (Some(pace), Some(queueing_delay)) = (&mut self.pace, queueing_delay) {
            pace.handle_written(queueing_delay);
        }
        if self.is_pointless_to_wait() {
            self.release();
        }
    }

    /// How long it will take until the kernel has what is queued and what waits here: the bytes over
    /// the rate at which queued bytes have left. `None` while that is unknown.
    pub fn estimated_drain(&self, now: Instant) -> Option<Duration> {
        self.meter.estimated_drain(now, self.queued_bytes + self.backlog.payload_bytes())
    }

    /// What went through so far.
    pub fn stats(&self) -> BatchStats {
        let (buffered, buffered_bytes) = (self.backlog.len(), self.backlog.payload_bytes());
        BatchStats { buffered, buffered_bytes, ..self.stats }
    }

    /// Hands back what waits, in order and as it was given, to be reported as not sent.
    pub fn close(&mut self) -> Messages<'_> {
        self.release();
        (self.due, self.lent, self.queued_bytes) = (0, 0, 0);
        // What is written next goes over another connection.
        self.meter = DrainMeter::default();
        self.backlog.take(usize::MAX)
    }

    /// What of the payload is kept, if the message may be taken.
    fn admitted<'p>(&mut self, opcode: Opcode, payload: &'p [u8]) -> Result<&'p [u8], BatchError> {
        if self.is_full() {
            self.stats.dropped += 1;
            return Err(BatchError::Full);
        }
        self.check(opcode, payload)
    }

    /// What of a payload a batch takes, while it takes any.
    ///
    /// # Errors
    /// As [`Batcher::push`], but for [`BatchError::Full`].
    pub fn check<'p>(&mut self, opcode: Opcode, payload: &'p [u8]) -> Result<&'p [u8], BatchError> {
        let admitted = if !matches!(opcode, Opcode::Text | Opcode::Binary) {
            Err(BatchError::NotAMessage)
        } else {
            match self.settings.form {
                BatchForm::Transparent => Ok(payload),
                BatchForm::Envelope => {
                    envelope::payload(opcode, payload).map_err(BatchError::Payload)
                }
            }
        };
        self.stats.dropped += u64::from(admitted.is_err());
        admitted
    }

    fn gather(&mut self, now: Instant, opcode: Opcode, payload: &[u8]) {
        if self.gathering_bytes + payload.len() > self.settings.max_bytes {
            self.release();
        }
        if self.backlog.len() == self.due {
            let delay = self.pace.map_or(self.settings.max_delay, |pace| pace.delay());
            self.due_at = now.checked_add(delay);
        }
        self.gathering_bytes += payload.len();
        self.backlog.push(opcode, payload);
    }

    /// All that gathers becomes due.
    pub(super) fn release(&mut self) {
        self.due = self.backlog.len();
        self.gathering_bytes = 0;
        self.due_at = None;
    }

    /// All that gathers becomes due, and this message behind it.
    fn release_with(&mut self, now: Instant, opcode: Opcode, payload: &[u8]) -> Push {
        let is_large = payload.len() >= self.settings.coalesce_below_bytes;
        if is_large && self.settings.form == BatchForm::Transparent {
            self.release();
            self.stats.straight += 1;
            self.stats.bytes += payload.len() as u64;
            return Push::Straight;
        }
        self.gather(now, opcode, payload);
        self.release();
        Push::Ready
    }

    fn is_pointless_to_wait(&self) -> bool {
        self.queued_bytes == 0 && self.pace.is_some_and(|pace| pace.is_slow())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::client::json::JsonError;
    use crate::collections::{TimerKey, Wheel};

    const TICK: Duration = Duration::from_millis(1);

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// One write: when, and how long each of its messages had waited.
    struct Write {
        at: Instant,
        waited: Vec<Duration>,
    }

    /// A batcher on a virtual clock, with the loop's own timer wheel and a wire that drains at a
    /// steady rate.
    struct Bed {
        now: Instant,
        batcher: Batcher,
        wheel: Wheel<()>,
        timer: Option<TimerKey>,
        /// When each message that waits was pushed.
        pushed: VecDeque<Instant>,
        writes: Vec<Write>,
        /// Bytes that leave in a millisecond; `None` for a wire that is always idle.
        drained_per_tick: Option<usize>,
        queued_bytes: usize,
        drained_at: Instant,
    }

    impl Bed {
        fn new(settings: Batch) -> Self {
            let now = Instant::now();
            Self {
                now,
                batcher: Batcher::new(settings),
                wheel: Wheel::new(now),
                timer: None,
                pushed: VecDeque::new(),
                writes: Vec::new(),
                drained_per_tick: None,
                queued_bytes: 0,
                drained_at: now,
            }
        }

        /// So many messages of 20 bytes, with this time in front of each.
        fn stream(&mut self, gap: Duration, count: usize) {
            for _ in 0..count {
                self.run(gap);
                self.push(&[b'x'; 20]);
            }
        }

        fn push(&mut self, payload: &[u8]) {
            self.pushed.push_back(self.now);
            let outcome = self.batcher.push(self.now, Opcode::Text, payload).unwrap();
            assert_eq!(outcome == Push::Waits, self.write() == 0);
            if outcome == Push::Straight {
                let waited = vec![self.now - self.pushed.pop_front().unwrap()];
                self.writes.push(Write { at: self.now, waited });
            }
        }

        /// Lets so much time pass, with what it brings.
        fn run(&mut self, time: Duration) {
            let until = self.now + time;
            loop {
                let drains_at = self.drained_at + TICK;
                let drains = self.queued_bytes > 0;
                let timer = self.wheel.next_deadline();
                let next = timer.into_iter().chain(drains.then_some(drains_at)).min();
                let Some(next) = next.filter(|next| *next <= until) else { break };
                self.now = next;
                self.wheel.advance(next);
                while self.wheel.pop_due().is_some() {
                    self.timer = None;
                    self.batcher.handle_timeout(next);
                }
                if drains && drains_at == next {
                    let bytes = self.drained_per_tick.unwrap().min(self.queued_bytes);
                    self.queued_bytes -= bytes;
                    self.drained_at = next;
                    self.batcher.handle_written(next, bytes, self.queued_bytes);
                }
                self.write();
            }
            self.now = until;
        }

        /// Writes what is due and sets the timer; tells how many messages left.
        fn write(&mut self) -> usize {
            let mut count = 0;
            while let Some(messages) = self.batcher.poll_batch() {
                let bytes = messages.payload_bytes();
                let waited: Vec<_> =
                    self.pushed.drain(..messages.len()).map(|at| self.now - at).collect();
                count += waited.len();
                self.writes.push(Write { at: self.now, waited });
                let taken = if self.drained_per_tick.is_none() { bytes } else { 0 };
                if self.queued_bytes == 0 {
                    self.drained_at = self.now;
                }
                self.queued_bytes += bytes - taken;
                self.batcher.handle_written(self.now, taken, self.queued_bytes);
            }
            if let Some(timer) = self.timer.take() {
                self.wheel.cancel(timer);
            }
            self.timer = self.batcher.poll_timeout().map(|at| self.wheel.insert(at, ()));
            count
        }

        fn sizes(&self) -> Vec<usize> {
            self.writes.iter().map(|write| write.waited.len()).collect()
        }

        fn longest(&self) -> Duration {
            self.writes.iter().flat_map(|write| &write.waited).max().copied().unwrap()
        }
    }

    fn adaptive() -> Batch {
        Batch { size: BatchSize::Adaptive, ..Batch::default() }
    }

    #[test]
    fn ten_thousand_a_second_leave_a_hundred_in_a_write() {
        let mut bed = Bed::new(Batch::default());
        bed.stream(Duration::from_micros(100), 100_000);
        assert_eq!(bed.sizes(), [100; 1000]);
        assert_eq!(bed.longest(), Duration::from_micros(9900));
        let stats = bed.batcher.stats();
        assert_eq!((stats.batches, stats.batched, stats.writes), (1000, 100_000, 1000));
        assert_eq!((stats.mean_size(), stats.messages_per_write()), (100.0, 100.0));
        assert_eq!((stats.bytes, stats.buffered, stats.dropped), (2_000_000, 0, 0));
    }

    #[test]
    fn nothing_waits_longer_than_the_delay_and_one_tick() {
        let mut bed = Bed::new(Batch::default());
        // Ten a second, each alone, at all sorts of places within a tick.
        for step in 0..100 {
            bed.stream(Duration::from_micros(100_000 + step * 7), 1);
        }
        bed.run(millis(100));
        assert_eq!(bed.sizes(), [1; 100]);
        assert!(bed.longest() > millis(50) && bed.longest() <= millis(51), "{:?}", bed.longest());
        assert!(bed.writes.iter().all(|write| write.waited[0] >= millis(50)));
        // A thousand a second: fifty, and those that come within the tick.
        let mut bed = Bed::new(Batch::default());
        bed.run(Duration::from_micros(300));
        bed.stream(millis(1), 1000);
        assert!(bed.sizes().iter().all(|size| *size == 51), "{:?}", bed.sizes());
        assert_eq!(bed.longest(), millis(50), "the message that comes just then takes them along");
    }

    #[test]
    fn adaptive_batch_does_not_hold_ten_a_second_back() {
        let mut bed = Bed::new(adaptive());
        bed.stream(millis(100), 1000);
        assert_eq!((bed.sizes(), bed.longest()), (vec![1; 1000], Duration::ZERO));
        // Nor after a time in which they came fast.
        bed.stream(Duration::from_micros(100), 10_000);
        bed.run(millis(100));
        bed.writes.clear();
        bed.stream(millis(100), 1000);
        assert_eq!((bed.sizes(), bed.longest()), (vec![1; 1000], Duration::ZERO));
    }

    #[test]
    fn adaptive_batch_gathers_a_hundred_of_ten_thousand_a_second() {
        let mut bed = Bed::new(adaptive());
        bed.stream(Duration::from_micros(100), 100_000);
        let sizes = bed.sizes();
        let alone = sizes.iter().take_while(|size| **size == 1).count();
        assert_eq!(alone, 22);
        // The estimate is still high at first, never low, so that the first ones are whole too.
        assert_eq!(sizes[alone..], vec![100; (100_000 - alone) / 100]);
        assert_eq!(bed.longest(), Duration::from_micros(9900));
    }

    #[test]
    fn adaptive_batch_does_not_wait_for_what_has_stopped_coming() {
        let mut bed = Bed::new(adaptive());
        bed.stream(Duration::from_micros(100), 10_050);
        let stopped_at = bed.now;
        bed.run(millis(100));
        // A batch fills up in 10 ms, which is how long it waited, with a tick and one for the wheel.
        let last = bed.writes.last().unwrap();
        assert!(last.waited[0] <= millis(12), "{:?}", last.waited[0]);
        assert!(last.at > stopped_at && bed.batcher.stats().buffered == 0);
    }

    #[test]
    fn adaptive_batch_shrinks_behind_a_slow_wire_and_grows_on_an_idle_one() {
        let mut bed = Bed::new(adaptive());
        bed.stream(Duration::from_micros(100), 2000);
        assert_eq!(bed.sizes().last(), Some(&100));
        // 20 bytes come every 0.1 ms, and half of them leave.
        bed.drained_per_tick = Some(100);
        bed.writes.clear();
        bed.stream(Duration::from_micros(100), 2000);
        let sizes = bed.sizes();
        assert!(sizes.windows(2).all(|pair| pair[1] <= pair[0]), "{sizes:?}");
        assert_eq!(sizes.last(), Some(&1));
        let drain = bed.batcher.estimated_drain(bed.drained_at).unwrap().as_millis();
        assert!(drain.abs_diff(bed.queued_bytes as u128 / 100) <= 2, "{drain}");
        // All of it leaves; then the wire takes everything at once.
        bed.run(Duration::from_secs(10));
        assert_eq!(bed.queued_bytes, 0);
        bed.drained_per_tick = None;
        bed.writes.clear();
        bed.stream(Duration::from_micros(100), 2000);
        assert_eq!(bed.sizes()[bed.writes.len() - 10..], [100; 10]);
    }

    #[test]
    fn slow_messages_wait_while_the_wire_is_busy_and_leave_when_it_is_idle() {
        let now = Instant::now();
        let mut batcher = Batcher::new(adaptive());
        batcher.handle_written(now, 0, 1000);
        assert_eq!(batcher.push(now, Opcode::Text, b"a"), Ok(Push::Waits));
        batcher.handle_written(now + millis(5), 500, 500);
        assert!(batcher.poll_batch().is_none());
        assert_eq!(batcher.estimated_drain(now + millis(5)), Some(Duration::from_micros(5010)));
        batcher.handle_written(now + millis(10), 500, 0);
        assert_eq!(batcher.poll_batch().map(|messages| messages.len()), Some(1));
    }

    #[test]
    fn critical_message_takes_what_waits_along_in_front_of_it() {
        let now = Instant::now();
        let mut batcher = Batcher::new(Batch::default());
        assert_eq!(batcher.push(now, Opcode::Text, b"a"), Ok(Push::Waits));
        assert_eq!(batcher.push(now, Opcode::Binary, b""), Ok(Push::Waits));
        assert_eq!(batcher.send_now(now, Opcode::Text, b"now"), Ok(Push::Ready));
        let messages: Vec<_> = batcher.poll_batch().unwrap().collect();
        assert_eq!(
            messages,
            [(Opcode::Text, &b"a"[..]), (Opcode::Binary, b""), (Opcode::Text, b"now")]
        );
        assert!(batcher.poll_batch().is_none());
        assert_eq!(batcher.poll_timeout(), None);
    }

    #[test]
    fn large_message_goes_straight_through_behind_what_waits() {
        let now = Instant::now();
        let large = vec![b'1'; 16 << 10];
        let mut batcher = Batcher::new(Batch::default());
        assert_eq!(batcher.push(now, Opcode::Text, &large[1..]), Ok(Push::Waits));
        assert_eq!(batcher.push(now, Opcode::Text, &large), Ok(Push::Straight));
        assert_eq!(batcher.poll_batch().map(|messages| messages.len()), Some(1));
        assert_eq!(batcher.send_now(now, Opcode::Text, &large), Ok(Push::Straight));
        assert!(batcher.poll_batch().is_none());
        let stats = batcher.stats();
        assert_eq!((stats.straight, stats.batched, stats.bytes), (2, 1, (48 << 10) - 1));
        // An envelope is one message: the large one ends it.
        let mut batcher = Batcher::new(Batch { form: BatchForm::Envelope, ..Batch::default() });
        assert_eq!(batcher.push(now, Opcode::Text, b"0"), Ok(Push::Waits));
        assert_eq!(batcher.push(now, Opcode::Text, &large), Ok(Push::Ready));
        assert_eq!(batcher.poll_batch().unwrap().next().unwrap().1.len(), 46 + 1 + (16 << 10));
    }

    #[test]
    fn bytes_end_a_batch_before_they_exceed_it() {
        let now = Instant::now();
        let settings = Batch { max_bytes: 10, coalesce_below_bytes: 100, ..Batch::default() };
        let mut batcher = Batcher::new(settings);
        for (payload, outcome, sizes) in [
            (&[0; 6][..], Push::Waits, &[][..]),
            (&[0; 5], Push::Ready, &[6]),
            (&[0; 5], Push::Ready, &[10]),
            (&[0; 4], Push::Waits, &[]),
            (&[0; 50], Push::Ready, &[4, 50]),
        ] {
            assert_eq!(batcher.push(now, Opcode::Binary, payload), Ok(outcome));
            let mut left = Vec::new();
            while let Some(messages) = batcher.poll_batch() {
                left.push(messages.payload_bytes());
            }
            assert_eq!(left, sizes);
        }
    }

    #[test]
    fn envelope_has_the_messages_and_refuses_what_is_no_json() {
        let now = Instant::now();
        let settings = Batch { max_messages: 2, form: BatchForm::Envelope, ..Batch::default() };
        let mut batcher = Batcher::new(settings);
        let refused = |error| Err(BatchError::Payload(error));
        let not_json = PayloadError::NotJson(JsonError::Malformed { at: 0 });
        assert_eq!(batcher.push(now, Opcode::Binary, b"1"), refused(PayloadError::NotText));
        assert_eq!(batcher.push(now, Opcode::Text, b"hello"), refused(not_json));
        assert_eq!(batcher.send_now(now, Opcode::Text, b"hello"), refused(not_json));
        assert_eq!(batcher.push(now, Opcode::Text, b" {} "), Ok(Push::Waits));
        assert_eq!(batcher.push(now, Opcode::Text, b"[1]"), Ok(Push::Ready));
        let envelope: Vec<_> = batcher.poll_batch().unwrap().collect();
        let text = br#"{"type":"batch","batch_size":2,"messages":[{},[1]]}"#;
        assert_eq!(envelope, [(Opcode::Text, &text[..])]);
        let stats = batcher.stats();
        assert_eq!((stats.batches, stats.batched, stats.bytes, stats.dropped), (1, 2, 5, 3));
        // What is handed back at the end is as it was given.
        assert_eq!(batcher.push(now, Opcode::Text, b"\"x\""), Ok(Push::Waits));
        assert!(batcher.close().eq([(Opcode::Text, &b"\"x\""[..])]));
    }

    #[test]
    fn message_is_refused_once_so_much_is_kept() {
        let now = Instant::now();
        let mut batcher = Batcher::new(Batch { max_buffered_bytes: 1600, ..Batch::default() });
        // A place counts 16 bytes, so empty messages come to an end as well.
        for _ in 0..100 {
            assert!(batcher.push(now, Opcode::Text, b"").is_ok());
        }
        assert_eq!(batcher.push(now, Opcode::Text, b""), Err(BatchError::Full));
        assert_eq!(batcher.send_now(now, Opcode::Text, b""), Err(BatchError::Full));
        assert_eq!(batcher.poll_batch().map(|messages| messages.len()), Some(100));
        assert_eq!(batcher.push(now, Opcode::Ping, b""), Err(BatchError::NotAMessage));
        assert_eq!(batcher.stats().dropped, 3);
        assert_eq!(batcher.push(now, Opcode::Text, b""), Ok(Push::Waits));
    }

    #[test]
    fn closing_hands_back_all_that_was_not_given_away() {
        let now = Instant::now();
        let mut batcher = Batcher::new(Batch { max_messages: 2, ..Batch::default() });
        for payload in [b"a", b"b", b"c", b"d", b"e"] {
            let _ = batcher.push(now, Opcode::Text, payload);
        }
        assert_eq!(batcher.poll_batch().map(|messages| messages.len()), Some(2));
        let unsent: Vec<_> = batcher.close().map(|(_, payload)| payload[0]).collect();
        assert_eq!(unsent, b"cde");
        assert!(batcher.poll_batch().is_none());
        assert_eq!((batcher.poll_timeout(), batcher.stats().buffered), (None, 0));
        assert_eq!(batcher.push(now, Opcode::Text, b"f"), Ok(Push::Waits));
        assert_eq!((batcher.close().len(), batcher.close().len()), (1, 0));
    }

    #[test]
    fn once_warm_the_buffers_stay_as_they_are() {
        for form in [BatchForm::Transparent, BatchForm::Envelope] {
            let mut bed = Bed::new(Batch { form, ..Batch::default() });
            let mut addresses = Vec::new();
            for round in 0..100 {
                for _ in 0..150 {
                    bed.pushed.push_back(bed.now);
                    let _ = bed.batcher.push(bed.now, Opcode::Text, b"\"0123456789abcdef\"");
                    while bed.batcher.poll_batch().is_some() {}
                }
                if round >= 2 {
                    addresses.push((bed.batcher.backlog.place(), bed.batcher.envelope.place()));
                }
            }
            addresses.dedup();
            assert_eq!(addresses.len(), 1, "{form:?}");
        }
    }

    #[derive(Clone, Debug)]
    enum Operation {
        Push(usize),
        SendNow(usize),
        Run(u64),
        Written { bytes: usize, queued: usize },
        Poll,
    }

    fn operation() -> impl Strategy<Value = Operation> {
        prop_oneof![
            6 => (0..60_usize).prop_map(Operation::Push),
            1 => (0..60_usize).prop_map(Operation::SendNow),
            2 => (0..20_000_u64).prop_map(Operation::Run),
            1 => (0..100_usize, 0..3_usize)
                .prop_map(|(bytes, queued)| Operation::Written { bytes, queued: queued * 100 }),
            2 => Just(Operation::Poll),
        ]
    }

    proptest! {
        #[test]
        fn every_message_leaves_once_in_order_or_is_handed_back(
            operations in prop::collection::vec(operation(), 1..200),
            max_messages in 0..8_usize, max_bytes in 0..150_usize, max_delay in 0..30_u64,
            coalesce_below_bytes in 20..70_usize, max_buffered_bytes in 0..1500_usize,
            size in prop::sample::select(&[BatchSize::Fixed, BatchSize::Adaptive][..]),
        ) {
            let max_delay = millis(max_delay);
            let mut batcher = Batcher::new(Batch {
                max_messages, max_delay, max_bytes, max_buffered_bytes, coalesce_below_bytes, size,
                form: BatchForm::Transparent,
            });
            let mut now = Instant::now();
            let (mut taken, mut left): (Vec<Vec<u8>>, Vec<Vec<u8>>) = (Vec::new(), Vec::new());
            for operation in operations {
                let mut straight = None;
                let mut is_polled = false;
                match operation {
                    Operation::Push(bytes) | Operation::SendNow(bytes) => {
                        let payload = vec![taken.len() as u8; bytes];
                        let is_full = batcher.backlog.bytes() >= max_buffered_bytes;
                        let outcome = match operation {
                            Operation::Push(_) => batcher.push(now, Opcode::Binary, &payload),
                            _ => batcher.send_now(now, Opcode::Binary, &payload),
                        };
                        prop_assert_eq!(is_full, outcome == Err(BatchError::Full));
                        let is_large = bytes >= coalesce_below_bytes;
                        prop_assert_eq!(outcome == Ok(Push::Straight), is_large && !is_full);
                        if outcome == Ok(Push::Straight) {
                            straight = Some(payload.clone());
                        }
                        if outcome.is_ok() {
                            taken.push(payload);
                        }
                    }
                    Operation::Run(micros) => {
                        now += Duration::from_micros(micros);
                        batcher.handle_timeout(now);
                        is_polled = true;
                    }
                    Operation::Written { bytes, queued } => batcher.handle_written(now, bytes, queued),
                    Operation::Poll => is_polled = true,
                }
                if is_polled || straight.is_some() {
                    while let Some(messages) = batcher.poll_batch() {
                        prop_assert!((1..=max_messages.max(1)).contains(&messages.len()));
                        prop_assert!(messages.len() == 1 || messages.payload_bytes() <= max_bytes);
                        left.extend(messages.map(|(_, payload)| payload.to_vec()));
                    }
                    left.extend(straight);
                    // What still waits has a time at which it leaves.
                    prop_assert_eq!(batcher.poll_timeout().is_some(), left.len() < taken.len());
                    prop_assert!(batcher.poll_timeout().is_none_or(|at| at > now && at <= now + max_delay));
                }
                let stats = batcher.stats();
                prop_assert_eq!(stats.buffered, taken.len() - left.len());
                prop_assert_eq!(stats.batched + stats.straight, left.len() as u64);
                prop_assert!(batcher.backlog.bytes() < max_buffered_bytes + 70 + 16);
            }
            left.extend(batcher.close().map(|(_, payload)| payload.to_vec()));
            prop_assert_eq!(left, taken);
        }
    }
}
