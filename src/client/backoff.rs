//! How long to wait before another try.

use std::time::Duration;

use crate::limits::{RECONNECT_DELAY_MAX, RECONNECT_DELAY_MIN};

/// How a connection that was lost, or could not be made, is made again.
///
/// The delay before a try is a random one between nothing and `base · 2^tries`, at most `cap`. So
/// the clients of a server that went down do not all come back at once, and the longer it is down
/// the less they ask of it ("full jitter": M. Brooker, Exponential Backoff And Jitter, 2015). No
/// delay is shorter than [`RECONNECT_DELAY_MIN`], whatever is set here.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reconnect {
    /// The longest delay before the first try. Default 1 s: a connection that was lost for no
    /// reason is back before anybody asks, and a server that restarts is not overrun. Zero makes
    /// every delay the shortest.
    pub base: Duration,
    /// The longest delay before any try, but for what a server asks for. Default 60 s: a server
    /// that is back after hours is found within a minute. Above [`RECONNECT_DELAY_MAX`] counts as
    /// that.
    pub cap: Duration,
    /// What chance does to a delay. Default: full jitter.
    pub jitter: Jitter,
    /// A connection that stood so long was a success: its loss is the first, and delays begin at
    /// `base` again. A shorter one continues the row of tries. Default 60 s, as `cap`: so a server
    /// that drops each connection after a while is not dialled more often than one that refuses
    /// them. Zero counts every connection as a success; a server that accepts and closes is then
    /// dialled at `base` for ever.
    pub stable_after: Duration,
    /// Tries in a row until we give up; the first dial is none, so 0 means that nothing is tried
    /// again. Default `None`, no bound: who runs for months wants the connection back whenever the
    /// server is.
    pub tries_max: Option<u32>,
    /// The longest delay that a server's Retry-After can ask for; a longer one is cut to this, so
    /// that no answer parks us for a year. Default 10 min, guess: the window of most rate limits,
    /// and of most restarts. Above [`RECONNECT_DELAY_MAX`] counts as that.
    pub retry_after_max: Duration,
}

/// What chance does to a delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Jitter {
    /// Any delay between nothing and the longest is as likely as any other.
    Full,
    /// It is the longest. For tests: clients that lost one server come back together.
    None,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(1),
            cap: Duration::from_secs(60),
            jitter: Jitter::Full,
            stable_after: Duration::from_secs(60),
            tries_max: None,
            retry_after_max: Duration::from_secs(600),
        }
    }
}

impl Reconnect {
    /// One connection, and no other when it is lost.
    pub fn never() -> Self {
        Self { tries_max: Some(0), ..Self::default() }
    }

    /// The delay before the next try after `tries` of them in a row. `random` is any number, each
    /// as likely as any other.
    ///
    /// What a server asked for by Retry-After is `not_before`. It is waited for in any case, and
    /// our own delay begins behind it: those whom it told the same come back one by one.
    pub(crate) fn delay(&self, tries: u32, not_before: Option<Duration>, random: u64) -> Duration {
        let longest = self.longest_nanos(tries);
        let own_nanos = match self.jitter {
            Jitter::Full => {
                // The product of a number below 2^64 and one of at most 2^64 fits; its upper half
                // is at most `longest`. The bias is below one in 2^17: a day has 2^47 nanoseconds.
                ((u128::from(random) * (u128::from(longest) + 1)) >> 64) as u64
            }
            Jitter::None => longest,
        };
        let own = Duration::from_nanos(own_nanos).max(RECONNECT_DELAY_MIN);
        let asked = not_before.unwrap_or_default();
        own + asked.min(self.retry_after_max).min(RECONNECT_DELAY_MAX)
    }

    /// min(base · 2^tries, cap), in nanoseconds.
    fn longest_nanos(&self, tries: u32) -> u64 {
        let cap = self.cap.min(RECONNECT_DELAY_MAX).as_nanos();
        // 2^64 ns are 584 years, so a larger factor changes nothing.
        let longest = self.base.as_nanos().saturating_mul(1 << tries.min(64)).min(cap);
        longest as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const S: Duration = Duration::from_secs(1);

    fn without_jitter() -> Reconnect {
        Reconnect { jitter: Jitter::None, ..Reconnect::default() }
    }

    #[test]
    fn reconnecting_has_its_documented_defaults() {
        let settings = Reconnect::default();
        assert_eq!((settings.base, settings.cap, settings.jitter), (S, 60 * S, Jitter::Full));
        assert_eq!((settings.stable_after, settings.tries_max), (60 * S, None));
        assert_eq!(settings.retry_after_max, 600 * S);
    }

    #[test]
    fn delays_double_up_to_the_cap() {
        let settings = without_jitter();
        let delays: Vec<u64> =
            (0..9).map(|tries| settings.delay(tries, None, 0).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        for tries in [31, 32, 63, 64, 65, u32::MAX] {
            assert_eq!(settings.delay(tries, None, 0), 60 * S);
        }
        let tiny = Reconnect { base: Duration::from_nanos(1), ..without_jitter() };
        assert_eq!(tiny.delay(30, None, 0), Duration::from_nanos(1 << 30));
        let patient = Reconnect { cap: RECONNECT_DELAY_MAX, ..tiny };
        assert_eq!(patient.delay(46, None, 0), Duration::from_nanos(1 << 46));
    }

    #[test]
    fn jitter_reaches_both_ends_and_is_even_between() {
        let settings = Reconnect::default();
        assert_eq!(settings.delay(3, None, 0), RECONNECT_DELAY_MIN);
        assert_eq!(settings.delay(3, None, u64::MAX), 8 * S);
        for part in 1..8u64 {
            let delay = settings.delay(3, None, part << 61);
            assert_eq!(delay.as_secs(), part, "{part} eighths");
        }
    }

    #[test]
    fn zeros_do_not_make_a_busy_loop() {
        for (base, cap) in [(Duration::ZERO, 60 * S), (S, Duration::ZERO)] {
            for settings in [
                Reconnect { base, cap, ..without_jitter() },
                Reconnect { base, cap, ..Reconnect::default() },
            ] {
                for tries in [0, 1, 100, u32::MAX] {
                    assert_eq!(settings.delay(tries, None, u64::MAX), RECONNECT_DELAY_MIN);
                }
            }
        }
    }

    // RFC 9110 §10.2.3
    #[test]
    fn retry_after_is_a_minimum_with_jitter_on_top_and_is_bounded() {
        let settings = Reconnect::default();
        let ask = |asked, random| settings.delay(0, Some(asked), random);
        assert_eq!(ask(30 * S, 0), 30 * S + RECONNECT_DELAY_MIN);
        assert_eq!(ask(30 * S, u64::MAX), 31 * S);
        assert_eq!(ask(Duration::ZERO, u64::MAX), S);
        assert_eq!(ask(365 * 86_400 * S, u64::MAX), 601 * S);
        let patient = Reconnect { retry_after_max: Duration::MAX, ..settings.clone() };
        assert_eq!(patient.delay(0, Some(Duration::MAX), u64::MAX), RECONNECT_DELAY_MAX + S);
    }

    #[test]
    fn settings_without_bound_do_not_overflow() {
        let settings = Reconnect {
            base: Duration::MAX,
            cap: Duration::MAX,
            retry_after_max: Duration::MAX,
            ..without_jitter()
        };
        let delay = settings.delay(u32::MAX, Some(Duration::MAX), u64::MAX);
        assert_eq!(delay, 2 * RECONNECT_DELAY_MAX);
    }

    proptest! {
        #[test]
        fn delays_are_within_their_bounds(
            base_ms in 0..100_000u32, cap_ms in 0..100_000u32, tries: u32, random: u64
        ) {
            let settings =
                Reconnect { base: base_ms * MS, cap: cap_ms * MS, ..Reconnect::default() };
            let naive = f64::from(base_ms) * 2f64.powi(tries.min(1000) as i32);
            let longest = naive.min(f64::from(cap_ms)) as u32 * MS;
            let delay = settings.delay(tries, None, random);
            prop_assert!(delay >= RECONNECT_DELAY_MIN);
            prop_assert!(delay <= longest.max(RECONNECT_DELAY_MIN), "{delay:?} of {longest:?}");
            let exact = Reconnect { jitter: Jitter::None, ..settings };
            prop_assert_eq!(exact.delay(tries, None, random), longest.max(RECONNECT_DELAY_MIN));
        }
    }
}
