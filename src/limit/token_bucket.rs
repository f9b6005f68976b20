//! A token bucket: a rate with room for bursts.

use std::time::{Duration, Instant};

/// Lets `rate_per_second` things happen each second in the long run, and up to `burst` at once.
///
/// The bucket counts in billionths of a token, so that one nanosecond at a rate of one per second is
/// a whole number: nothing is rounded, and the rate does not drift however often it is asked.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    rate_per_second: u32,
    burst: u32,
    /// Billionths of a token, at most `burst` tokens; as it was at `updated`.
    credit: u64,
    updated: Instant,
}

impl TokenBucket {
    /// Makes a full bucket. A rate of 0 never refills it.
    pub fn new(rate_per_second: u32, burst: u32, now: Instant) -> Self {
        let credit = u64::from(burst) * UNITS_PER_TOKEN;
        Self { rate_per_second, burst, credit, updated: now }
    }

    /// Takes `count` tokens, all or none. A `now` that goes backwards counts as the latest one.
    ///
    /// # Errors
    /// How long after the latest `now` that many will be there: asked then, without a taking in
    /// between, the bucket gives them, and not a nanosecond earlier. [`Duration::MAX`] if that is
    /// never, since `count` is above the burst or the rate is 0.
    pub fn take(&mut self, count: u32, now: Instant) -> Result<(), Duration> {
        self.refill(now);
        let wanted = u64::from(count) * UNITS_PER_TOKEN;
        match self.credit.checked_sub(wanted) {
            Some(rest) => {
                self.credit = rest;
                Ok(())
            }
            None if count > self.burst || self.rate_per_second == 0 => Err(Duration::MAX),
            None => {
                let missing = wanted - self.credit;
                Err(Duration::from_nanos(missing.div_ceil(u64::from(self.rate_per_second))))
            }
        }
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.updated);
        // A billionth of a token per nanosecond and unit of rate. 128 bits cannot overflow here:
        // a duration in nanoseconds has less than 94 of them, a rate 32.
        let gained = elapsed.as_nanos() * u128::from(self.rate_per_second);
        let full = u64::from(self.burst) * UNITS_PER_TOKEN;
        let missing = full - self.credit;
        self.credit =
            u64::try_from(gained).map_or(full, |gained| self.credit + gained.min(missing));
        self.updated = self.updated.max(now);
    }
}

/// A `u32` of tokens in billionths fits into 64 bits.
const UNITS_PER_TOKEN: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The naive bucket: walks from the start over every taking so far, in 128 bits.
    struct Model {
        rate: u128,
        burst: u128,
        now: u128,
        /// The times in nanoseconds, and the tokens taken then.
        taken: Vec<(u128, u128)>,
    }

    impl Model {
        fn credit(&self) -> u128 {
            let mut credit = self.burst;
            let mut last = 0;
            for (at, count) in &self.taken {
                credit = self.burst.min(credit + (at - last) * self.rate) - count;
                last = *at;
            }
            self.burst.min(credit + (self.now - last) * self.rate)
        }

        fn take(&mut self, count: u32) -> Result<(), Duration> {
            let wanted = u128::from(count) * 1_000_000_000;
            let credit = self.credit();
            if wanted <= credit {
                self.taken.push((self.now, wanted));
                return Ok(());
            }
            if wanted > self.burst || self.rate == 0 {
                return Err(Duration::MAX);
            }
            Err(Duration::from_nanos(((wanted - credit).div_ceil(self.rate)) as u64))
        }
    }

    fn number() -> impl Strategy<Value = u32> {
        prop_oneof![0_u32..20, any::<u32>(), Just(u32::MAX)]
    }

    proptest! {
        #[test]
        fn bucket_equals_one_that_recounts_everything(
            rate in number(),
            burst in number(),
            steps in prop::collection::vec(
                (prop_oneof![0_u64..100, 0_u64..3_000_000_000, Just(1 << 60)], number()),
                0..60,
            ),
        ) {
            let start = Instant::now();
            let mut now = start;
            let mut bucket = TokenBucket::new(rate, burst, now);
            let scaled = u128::from(burst) * 1_000_000_000;
            let mut model = Model { rate: rate.into(), burst: scaled, now: 0, taken: Vec::new() };
            for (nanos, count) in steps {
                now += Duration::from_nanos(nanos);
                model.now += u128::from(nanos);
                let expected = model.take(count);
                prop_assert_eq!(bucket.take(count, now), expected);
                match expected {
                    Err(wait) if wait != Duration::MAX => {
                        let early = now + wait - Duration::from_nanos(1);
                        prop_assert!(bucket.clone().take(count, early).is_err());
                        prop_assert!(bucket.clone().take(count, now + wait).is_ok());
                    }
                    Ok(()) | Err(_) => {}
                }
            }
        }
    }

    #[test]
    fn a_rate_that_does_not_divide_a_second_does_not_drift() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(7, 1, start);
        let mut now = start;
        let mut taken = 0;
        while now < start + Duration::from_secs(10) {
            match bucket.take(1, now) {
                Ok(()) => taken += 1,
                Err(wait) => now += wait,
            }
        }
        assert_eq!(taken, 70, "the one in the bucket and seven each second, less the last");
    }

    #[test]
    fn what_can_never_be_taken_waits_for_ever() {
        let start = Instant::now();
        assert_eq!(TokenBucket::new(10, 5, start).take(6, start), Err(Duration::MAX));
        let mut empty = TokenBucket::new(0, 1, start);
        assert_eq!(empty.take(1, start), Ok(()));
        assert_eq!(empty.take(1, start + Duration::from_secs(1 << 40)), Err(Duration::MAX));
    }

    #[test]
    fn time_that_goes_backwards_gives_nothing_twice() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut bucket = TokenBucket::new(1, 1, start + second);
        assert_eq!(bucket.take(1, start + second), Ok(()));
        assert_eq!(bucket.take(1, start), Err(second));
        assert_eq!(bucket.take(1, start + second), Err(second));
        assert_eq!(bucket.take(1, start + second * 2), Ok(()));
    }
}
