//! So many messages and bytes a second, and bursts.
//!
//! A bucket for each of the two fills at its rate up to its burst, and whoever sends takes from both
//! or from none. Tokens are counted in billionths: a nanosecond brings exactly as many of them as the
//! rate has tokens a second, so nothing is ever rounded and nothing drifts.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// What may leave of one thing, messages or bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// How much in a second.
    pub per_second: NonZeroU64,
    /// How much at once, after a rest.
    pub burst: u64,
}

/// Two buckets of tokens, for messages and for bytes. Both are full in the beginning.
///
/// In any time `T`, of either, no more than `per_second · T + burst` leaves. A message that costs
/// more than the burst leaves when the bucket is full, and goes into debt with the rest: then the
/// bound is `per_second · T` and the largest cost. So everything leaves sometime, if those who wait
/// are served in turn.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    messages: Option<Tokens>,
    bytes: Option<Tokens>,
    /// The time up to which the levels are right. Time that goes backwards stands still.
    filled_at: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Tokens {
    allowance: Allowance,
    /// Billionths of tokens; below nothing while in debt.
    level: i128,
}

impl TokenBucket {
    /// Full buckets; of what is `None`, as much as one likes may leave.
    pub fn new(now: Instant, messages: Option<Allowance>, bytes: Option<Allowance>) -> Self {
        Self { messages: messages.map(Tokens::new), bytes: bytes.map(Tokens::new), filled_at: now }
    }

    /// Takes tokens for so many messages of so many bytes together, if there are enough of both.
    #[must_use = "who got no tokens must not send"]
    pub fn try_take(&mut self, now: Instant, messages: u64, bytes: u64) -> bool {
        if !self.has(now, messages, bytes) {
            return false;
        }
        let rest = self.rest_until(now);
        for (tokens, cost) in [(&mut self.messages, messages), (&mut self.bytes, bytes)] {
            if let Some(tokens) = tokens {
                tokens.level = tokens.level_after(rest) - i128::from(cost) * BILLION;
            }
        }
        self.filled_at = self.filled_at.max(now);
        true
    }

    /// Whether [`TokenBucket::try_take`] would succeed.
    pub fn has(&self, now: Instant, messages: u64, bytes: u64) -> bool {
        self.wait(now, messages, bytes).is_zero()
    }

    /// When [`TokenBucket::try_take`] will succeed, to the nanosecond, if nobody takes anything
    /// before. `now` if it does so now; what takes centuries is told as 584 years.
    pub fn when(&self, now: Instant, messages: u64, bytes: u64) -> Instant {
        now + self.wait(now, messages, bytes)
    }

    fn wait(&self, now: Instant, messages: u64, bytes: u64) -> Duration {
        let rest = self.rest_until(now);
        let wait = |tokens: &Option<Tokens>, cost| tokens.map_or(0, |t| t.wait(rest, cost));
        // Until `now` is back where it was, nothing comes in.
        let behind = self.filled_at.saturating_duration_since(now);
        match wait(&self.messages, messages).max(wait(&self.bytes, bytes)) {
            0 => Duration::ZERO,
            nanos => behind.saturating_add(Duration::from_nanos(nanos)),
        }
    }

    /// Nanoseconds in which the buckets have filled since they were last looked after.
    fn rest_until(&self, now: Instant) -> i128 {
        let rest = now.saturating_duration_since(self.filled_at);
        i128::try_from(rest.as_nanos()).unwrap_or(i128::MAX)
    }
}

impl Tokens {
    fn new(allowance: Allowance) -> Self {
        Self { allowance, level: i128::from(allowance.burst) * BILLION }
    }

    fn level_after(&self, nanos: i128) -> i128 {
        let more = i128::from(self.allowance.per_second.get()).saturating_mul(nanos);
        self.level.saturating_add(more).min(i128::from(self.allowance.burst) * BILLION)
    }

    /// Nanoseconds until there is enough for what costs so much, after a rest of `nanos`.
    fn wait(&self, nanos: i128, cost: u64) -> u64 {
        // What costs more than the bucket holds must be content with a full one.
        let enough = i128::from(cost.min(self.allowance.burst)) * BILLION;
        let missing = (enough - self.level_after(nanos)).max(0).unsigned_abs();
        let wait = missing.div_ceil(u128::from(self.allowance.per_second.get()));
        u64::try_from(wait).unwrap_or(u64::MAX)
    }
}

/// Parts of a token, and nanoseconds of a second.
const BILLION: i128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn allowance(per_second: u64, burst: u64) -> Option<Allowance> {
        Some(Allowance { per_second: NonZeroU64::new(per_second).unwrap(), burst })
    }

    const fn nanos(nanos: u64) -> Duration {
        Duration::from_nanos(nanos)
    }

    #[test]
    fn burst_leaves_at_once_and_then_one_at_a_time() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(start, allowance(10, 3), None);
        for _ in 0..3 {
            assert!(bucket.try_take(start, 1, 1 << 40));
        }
        assert!(!bucket.try_take(start, 1, 0));
        let next = start + nanos(100_000_000);
        assert_eq!(bucket.when(start, 1, 0), next);
        assert!(!bucket.try_take(next - nanos(1), 1, 0));
        assert!(bucket.try_take(next, 1, 0));
        // A long rest brings the burst and no more.
        let later = start + Duration::from_secs(1000);
        assert_eq!((0..10).filter(|_| bucket.try_take(later, 1, 0)).count(), 3);
    }

    #[test]
    fn nothing_is_taken_unless_both_buckets_have_enough() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(start, allowance(1, 2), allowance(100, 100));
        assert!(bucket.try_take(start, 1, 60));
        assert!(!bucket.try_take(start, 1, 60), "20 bytes are missing");
        assert_eq!(bucket.when(start, 1, 60), start + nanos(200_000_000));
        assert!(bucket.try_take(start, 1, 40), "the message was not charged");
        assert_eq!(bucket.when(start, 1, 1), start + nanos(1_000_000_000));
    }

    #[test]
    fn message_larger_than_the_burst_goes_into_debt() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(start, None, allowance(100, 50));
        assert!(bucket.try_take(start, 1, 250), "the bucket is full");
        assert_eq!(bucket.when(start, 1, 0), start + Duration::from_secs(2), "the debt is 200");
        let full = start + nanos(2_500_000_000);
        assert_eq!(bucket.when(start, 1, u64::MAX), full);
        assert!(!bucket.try_take(full - nanos(1), 1, u64::MAX));
        assert!(bucket.try_take(full, 1, u64::MAX));
        // What takes longer than can be told does not overflow.
        assert_eq!(bucket.when(full, 1, 1), full + nanos(u64::MAX));
    }

    #[test]
    fn without_a_burst_each_message_waits_until_the_one_before_is_paid() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(start, allowance(4, 0), None);
        assert!(bucket.try_take(start, 1, 0));
        assert_eq!(bucket.when(start, 1, 0), start + nanos(250_000_000));
    }

    #[test]
    fn a_million_messages_leave_when_they_should_to_the_nanosecond() {
        let start = Instant::now();
        // Neither a third of a second nor a seventh is a whole number of nanoseconds.
        for (per_second, messages) in [(3, 1_000_000), (7, 100_000)] {
            // With a burst of one the bucket would be full, and lose the rest of a nanosecond.
            let mut bucket = TokenBucket::new(start, allowance(per_second, 2), None);
            assert!(bucket.try_take(start, 2, 0));
            for n in 1..=messages {
                let due = bucket.when(start, 1, 0);
                let exact = (n * 1_000_000_000_u64).div_ceil(per_second);
                assert_eq!(due, start + nanos(exact), "message {n}");
                assert!(bucket.try_take(due, 1, 0));
            }
        }
    }

    #[test]
    fn time_that_goes_backwards_brings_and_takes_nothing() {
        let start = Instant::now() + Duration::from_secs(10);
        let mut bucket = TokenBucket::new(start, allowance(1, 1), None);
        let earlier = start - Duration::from_secs(5);
        assert!(bucket.try_take(earlier, 1, 0));
        assert_eq!(bucket.when(earlier, 1, 0), start + Duration::from_secs(1));
        assert!(!bucket.try_take(start, 1, 0));
        assert!(bucket.try_take(start + Duration::from_secs(1), 1, 0));
    }

    /// What left in every window that begins and ends with a message, against the bound.
    fn holds_the_bound(left: &[(u64, u64)], per_second: u64, burst: u64) -> bool {
        let largest = left.iter().map(|(_, cost)| *cost).max().unwrap_or(0).max(burst);
        (0..left.len()).all(|first| {
            let mut sum = 0;
            left[first..].iter().all(|(at, cost)| {
                sum += u128::from(*cost) * 1_000_000_000;
                let time = u128::from(at - left[first].0);
                sum <= u128::from(per_second) * time + u128::from(largest) * 1_000_000_000
            })
        })
    }

    proptest! {
        #[test]
        fn no_more_leaves_in_any_window_than_the_rate_and_one_burst(
            (messages, message_burst) in (1..2000_u64, 0..10_u64),
            (bytes, byte_burst) in (1..100_000_u64, 0..3000_u64),
            sends in prop::collection::vec((0..40_000_000_u64, 0..4000_u64, any::<bool>()), 1..120),
        ) {
            let start = Instant::now();
            let limits = (allowance(messages, message_burst), allowance(bytes, byte_burst));
            let mut bucket = TokenBucket::new(start, limits.0, limits.1);
            let (mut at, mut left) = (0, Vec::new());
            for (gap, cost, waits) in sends {
                at += gap;
                let now = start + nanos(at);
                let due = bucket.when(now, 1, cost);
                prop_assert_eq!(bucket.clone().try_take(now, 1, cost), due == now);
                if due > now {
                    // It never starves: the time told of is the right one.
                    prop_assert!(!bucket.clone().try_take(due - nanos(1), 1, cost));
                    prop_assert!(bucket.clone().try_take(due, 1, cost));
                    if !waits {
                        continue;
                    }
                    at = (due - start).as_nanos() as u64;
                }
                prop_assert!(bucket.try_take(start + nanos(at), 1, cost));
                left.push((at, cost));
            }
            prop_assert!(holds_the_bound(&left, bytes, byte_burst));
            let each: Vec<_> = left.iter().map(|(at, _)| (*at, 1)).collect();
            prop_assert!(holds_the_bound(&each, messages, message_burst));
        }
    }
}
