//! How many messages an adaptive batch waits for.
//!
//! A write costs about as much as a hundred small messages put into it, so batches save where
//! messages come fast; but each message pays for it with time. Two measurements say when it is worth
//! it.
//!
//! **The gap between messages.** It is a moving average, to which each new gap adds an eighth; a gap
//! counts 16 ms at most, so that one rest is enough to call the rate low, and two dozen messages are
//! enough to call it high again. While it is above 1 ms, the tick of the loop's timers, no second
//! message is expected before a timer could tell, and one that finds the wire idle goes at once: that
//! is a thousand writes a second at most. Below, a batch waits for the time in which it fills up at
//! that rate, and one tick, instead of for the longest delay.
//!
//! **The delay behind the batch**, which is what the kernel has not taken divided by the rate at
//! which it takes. When it rises above a tick, the batch is halved after each write: what is queued
//! leaves in one write anyway, so waiting in front of the queue adds delay and saves nothing. After
//! each write that leaves nothing queued the wire is idle, and the batch grows by an eighth of its
//! maximum: then writes are what costs. Halving and adding is how TCP finds its share.

use std::time::{Duration, Instant};

/// The state of the above.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    messages_max: usize,
    delay_max: Duration,
    /// From 1 to `messages_max`.
    messages: usize,
    /// The average gap; at most [`GAP_MAX`].
    gap: Duration,
    arrived_at: Option<Instant>,
}

impl Pace {
    /// Whole batches, and messages that come slowly.
    pub fn new(messages_max: usize, delay_max: Duration) -> Self {
        let messages = messages_max.max(1);
        Self { messages_max: messages, delay_max, messages, gap: GAP_MAX, arrived_at: None }
    }

    /// A message is there.
    pub fn handle_message(&mut self, now: Instant) {
        let gap = self.arrived_at.map_or(GAP_MAX, |at| now.saturating_duration_since(at));
        self.gap = self.gap - self.gap / GAPS + gap.min(GAP_MAX) / GAPS;
        self.arrived_at = Some(now);
    }

    /// After a write, what is still queued leaves in about so much time: nothing if nothing is.
    pub fn handle_written(&mut self, queueing_delay: Duration) {
        if queueing_delay.is_zero() {
            let step = self.messages_max.div_ceil(STEPS);
            self.messages = (self.messages + step).min(self.messages_max);
        } else if queueing_delay > TICK {
            self.messages = (self.messages / 2).max(1);
        }
    }

    /// How many messages make a batch.
    pub const fn messages(&self) -> usize {
        self.messages
    }

    /// Whether messages come so slowly that none is worth waiting for.
    pub fn is_slow(&self) -> bool {
        self.gap > TICK
    }

    /// How long a message may wait for others.
    pub fn delay(&self) -> Duration {
        let messages = u32::try_from(self.messages).unwrap_or(u32::MAX);
        (self.gap.saturating_mul(messages) + TICK).min(self.delay_max)
    }
}

/// How many gaps the average is over.
const GAPS: u32 = 8;
/// In how many steps an idle wire brings the smallest batch to the largest.
const STEPS: usize = 8;
/// The finest time that the loop's timers know.
const TICK: Duration = Duration::from_millis(1);
/// Twice what makes the average one tick when it was nothing.
const GAP_MAX: Duration = Duration::from_millis(16);

#[cfg(test)]
mod tests {
    use super::*;

    /// The pace after messages with these gaps.
    fn after(pace: &mut Pace, now: &mut Instant, gap: Duration, count: usize) {
        for _ in 0..count {
            *now += gap;
            pace.handle_message(*now);
        }
    }

    #[test]
    fn one_rest_makes_the_rate_low_and_twenty_messages_make_it_high() {
        let mut now = Instant::now();
        let mut pace = Pace::new(100, Duration::from_millis(50));
        let fast = Duration::from_micros(100);
        pace.handle_message(now);
        assert!(pace.is_slow());
        after(&mut pace, &mut now, fast, 1000);
        assert!(!pace.is_slow());
        let rounding = Duration::from_nanos(800);
        assert!(pace.delay() - Duration::from_millis(11) <= rounding, "{:?}", pace.delay());
        for rest in [16, 100, 3_600_000] {
            after(&mut pace, &mut now, Duration::from_millis(rest), 1);
            assert!(pace.is_slow(), "{rest} ms");
            after(&mut pace, &mut now, fast, 20);
            assert!(!pace.is_slow(), "{rest} ms");
        }
    }

    #[test]
    fn delay_is_that_of_a_full_batch_and_never_above_the_maximum() {
        let mut now = Instant::now();
        let mut pace = Pace::new(100, Duration::from_millis(50));
        assert_eq!(pace.delay(), Duration::from_millis(50));
        after(&mut pace, &mut now, Duration::ZERO, 1000);
        assert!(pace.delay() < Duration::from_micros(1001));
        let mut pace = Pace::new(usize::MAX, Duration::MAX);
        pace.handle_message(now);
        assert_eq!(pace.delay(), GAP_MAX * u32::MAX + TICK);
    }

    #[test]
    fn batch_shrinks_while_the_wire_is_behind_and_grows_while_it_is_idle() {
        let mut pace = Pace::new(100, Duration::from_millis(50));
        let mut sizes = Vec::new();
        for delay in [2, 1, 2, 2, 2, 2, 2, 2, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0] {
            pace.handle_written(Duration::from_millis(delay));
            sizes.push(pace.messages());
        }
        let grown = [14, 27, 40, 53, 66, 79, 92, 100, 100];
        assert_eq!(sizes[..10], [50, 50, 25, 12, 6, 3, 1, 1, 1, 1]);
        assert_eq!(sizes[10..], grown);
    }
}
