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
