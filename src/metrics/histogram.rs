//! Durations of which there are too many to keep.

use std::fmt;
use std::time::Duration;

/// How durations are distributed, in 840 bytes whatever is recorded: one for each connection is
/// affordable, where the histograms of benchmarks take 13 KiB and more.
///
/// It is log-linear: each doubling of a duration has eight buckets of one width, from 8 µs to
/// 134 s; below there is one for each microsecond, above there is one for all. So what
/// [`Histogram::percentile`] gives is off
/// - by half a microsecond at most below 8 µs,
/// - by a sixteenth (6.25 %) of the true value at most from there to 134 s, 2^27 µs,
/// - and is the largest one that was recorded above.
///
/// Count, mean, minimum and maximum are exact. Nothing overflows: a bucket that has counted to 2^32
/// stays there, and so does every sum at its largest.
///
/// ```
/// use corewire::metrics::Histogram;
/// use std::time::Duration;
///
/// let mut waits = Histogram::new();
/// for millis in 1..=1000 {
///     waits.record(Duration::from_millis(millis));
/// }
/// let median = waits.percentile(50.0).unwrap();
/// assert!(median.abs_diff(Duration::from_millis(500)) <= Duration::from_millis(500) / 16);
/// assert_eq!(waits.max(), Some(Duration::from_secs(1)));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Histogram {
    count: u64,
    sum_nanos: u64,
    /// `u64::MAX` if nothing was recorded.
    min_nanos: u64,
    max_nanos: u64,
    buckets: [u32; BUCKETS],
}

impl Histogram {
    /// An empty one.
    pub const fn new() -> Self {
        Self { count: 0, sum_nanos: 0, min_nanos: u64::MAX, max_nanos: 0, buckets: [0; BUCKETS] }
    }

    /// Counts one duration. More than 584 years count as that.
    #[inline]
    pub fn record(&mut self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.count = self.count.saturating_add(1);
        self.sum_nanos = self.sum_nanos.saturating_add(nanos);
        self.min_nanos = self.min_nanos.min(nanos);
        self.max_nanos = self.max_nanos.max(nanos);
        let bucket = &mut self.buckets[bucket_of(nanos / 1000)];
        *bucket = bucket.saturating_add(1);
    }

    /// Adds what another one has recorded.
    pub fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.sum_nanos = self.sum_nanos.saturating_add(other.sum_nanos);
        self.min_nanos = self.min_nanos.min(other.min_nanos);
        self.max_nanos = self.max_nanos.max(other.max_nanos);
        for (bucket, others) in self.buckets.iter_mut().zip(&other.buckets) {
            *bucket = bucket.saturating_add(*others);
        }
    }

    /// How many durations were recorded.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Their mean; `None` if there is none.
    pub fn mean(&self) -> Option<Duration> {
        self.sum_nanos.checked_div(self.count).map(Duration::from_nanos)
    }

    /// The shortest.
    pub fn min(&self) -> Option<Duration> {
        (self.count > 0).then(|| Duration::from_nanos(self.min_nanos))
    }

    /// The longest.
    pub fn max(&self) -> Option<Duration> {
        (self.count > 0).then(|| Duration::from_nanos(self.max_nanos))
    }

    /// The shortest duration that is at least as long as `percent` of all: 50.0 asks for the
    /// median. `None` if there is none. What lies outside of 0 to 100 counts as the nearer of them,
    /// and what is no number as 0. For the error see [`Histogram`].
    pub fn percentile(&self, percent: f64) -> Option<Duration> {
        let (min, max) = (self.min()?, self.max()?);
        let rank = rank(percent, self.count);
        let mut below = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            below += u64::from(*count);
            if below >= rank {
                // The ends of a bucket may lie outside of what was recorded.
                return Some(middle_of(index).clamp(min, max));
            }
        }
        // Buckets that are full have lost count.
        Some(max)
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Histogram")
            .field("count", &self.count)
            .field("min", &self.min())
            .field("median", &self.percentile(50.0))
            .field("p99", &self.percentile(99.0))
            .field("max", &self.max())
            .finish_non_exhaustive()
    }
}

/// Which of `count` durations in their order is meant, from 1 on.
fn rank(percent: f64, count: u64) -> u64 {
    // A cast from what is no number gives 0.
    ((percent.clamp(0.0, 100.0) / 100.0 * count as f64).ceil() as u64).clamp(1, count)
}

/// The bucket of a duration in whole microseconds.
const fn bucket_of(micros: u64) -> usize {
    if micros < STEPS {
        return micros as usize;
    }
    let micros = if micros < MICROS_MAX { micros } else { MICROS_MAX };
    let doubling = micros.ilog2();
    // The highest bit and the three below it, of which the former is always set.
    let step = micros >> (doubling - STEPS_BITS);
    ((doubling - STEPS_BITS) as u64 * STEPS + step) as usize
}

/// The middle of a bucket; of the last, which has none, the largest duration.
const fn middle_of(index: usize) -> Duration {
    let index = index as u64;
    if index < STEPS {
        return Duration::from_nanos(index * 1000 + 500);
    }
    if index as usize == BUCKETS - 1 {
        return Duration::MAX;
    }
    let shift = index / STEPS - 1;
    let step = index % STEPS + STEPS;
    // Twice the middle is the sum of both ends.
    Duration::from_nanos(((2 * step + 1) << shift) * 500)
}

/// A doubling has 2 to the power of so many buckets.
const STEPS_BITS: u32 = 3;
const STEPS: u64 = 1 << STEPS_BITS;
/// From here on everything is in the last bucket.
const MICROS_MAX: u64 = 1 << 27;
const BUCKETS: usize = bucket_of(MICROS_MAX) + 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn histogram(nanos: &[u64]) -> Histogram {
        let mut histogram = Histogram::new();
        nanos.iter().for_each(|nanos| histogram.record(Duration::from_nanos(*nanos)));
        histogram
    }

    /// What the documentation promises.
    fn is_close(found: Duration, exact: u64, max: u64) -> bool {
        let found = found.as_nanos() as u64;
        match exact / 1000 {
            0..8 => found.abs_diff(exact) <= 500,
            8..MICROS_MAX => found.abs_diff(exact) <= exact / 16,
            _ => found == max,
        }
    }

    #[test]
    fn a_histogram_is_as_small_as_it_says() {
        assert_eq!(size_of::<Histogram>(), 840);
    }

    #[test]
    fn an_empty_histogram_has_nothing_to_say() {
        let empty = Histogram::new();
        assert_eq!((empty.count(), empty.mean()), (0, None));
        assert_eq!((empty.min(), empty.max(), empty.percentile(50.0)), (None, None, None));
        assert!(format!("{empty:?}").starts_with("Histogram { count: 0, min: None"));
    }

    #[test]
    fn buckets_follow_each_other_without_gaps() {
        let mut bucket = 0;
        for micros in 0..=MICROS_MAX >> 7 {
            let next = bucket_of(micros);
            assert!(next == bucket || next == bucket + 1, "{micros} µs");
            bucket = next;
        }
        for doubling in 3..27 {
            let micros = 1 << doubling;
            assert_eq!(bucket_of(micros), bucket_of(micros - 1) + 1, "{micros} µs");
        }
        assert_eq!(bucket_of(MICROS_MAX - 1), BUCKETS - 2);
        assert_eq!(bucket_of(MICROS_MAX), BUCKETS - 1);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn the_ends_are_exact_and_odd_percents_are_the_nearer_end() {
        let one = histogram(&[1_234_567]);
        for percent in [-1.0, 0.0, 50.0, 100.0, 101.0, f64::NAN, f64::INFINITY] {
            assert_eq!(one.percentile(percent), Some(Duration::from_nanos(1_234_567)), "{percent}");
        }
        let two = histogram(&[1_000, 9_000_000]);
        assert!(two.percentile(f64::NAN) < Some(Duration::from_micros(2)));
        assert_eq!(two.percentile(f64::NAN), two.percentile(-7.0));
        assert_eq!(two.percentile(f64::INFINITY), two.percentile(100.0));
    }

    #[test]
    fn sums_and_buckets_saturate() {
        let mut full = histogram(&[u64::MAX, 5_000]);
        full.record(Duration::MAX);
        assert_eq!(full.max(), Some(Duration::from_nanos(u64::MAX)));
        assert_eq!(full.mean(), Some(Duration::from_nanos(u64::MAX / 3)));
        full.buckets[5] = u32::MAX;
        full.count = u64::MAX;
        let other = full.clone();
        full.merge(&other);
        assert_eq!((full.buckets[5], full.count), (u32::MAX, u64::MAX));
        full.record(Duration::from_micros(5));
        assert_eq!((full.buckets[5], full.count), (u32::MAX, u64::MAX));
        assert_eq!(full.percentile(0.0), Some(Duration::from_nanos(5_500)));
        // More was counted than the buckets hold.
        assert_eq!(full.percentile(90.0), full.max());
    }

    proptest! {
        #[test]
        fn percentiles_are_those_of_the_sorted_data(
            mut nanos in prop::collection::vec(
                prop_oneof![0..20_000u64, 0..5_000_000u64, 0..200_000_000_000u64, any::<u64>()],
                1..200,
            ),
            percent in 0.0..=100.0f64,
        ) {
            let found = histogram(&nanos);
            nanos.sort_unstable();
            let max = nanos[nanos.len() - 1];
            for percent in [percent, 0.0, 50.0, 99.0, 100.0] {
                let at_most = |value: u64| nanos.iter().filter(|other| **other <= value).count();
                let is_enough = |value: &&u64| {
                    at_most(**value) as f64 >= percent / 100.0 * nanos.len() as f64
                };
                let exact = *nanos.iter().find(is_enough).expect("the last one is");
                let percentile = found.percentile(percent).expect("there are some");
                prop_assert!(is_close(percentile, exact, max), "{percentile:?} for {exact} ns");
            }
            let sum = nanos.iter().fold(0u64, |sum, nanos| sum.saturating_add(*nanos));
            prop_assert_eq!(found.mean(), Some(Duration::from_nanos(sum / nanos.len() as u64)));
            prop_assert_eq!(found.min(), Some(Duration::from_nanos(nanos[0])));
            prop_assert_eq!(found.max(), Some(Duration::from_nanos(max)));
        }

        #[test]
        fn merging_is_recording_everything_in_one(
            left in prop::collection::vec(any::<u64>().prop_map(|nanos| nanos >> (nanos % 50)), 0..50),
            right in prop::collection::vec(any::<u64>().prop_map(|nanos| nanos >> (nanos % 50)), 0..50),
        ) {
            let mut merged = histogram(&left);
            merged.merge(&histogram(&right));
            prop_assert!(merged == histogram(&[left, right].concat()));
            prop_assert_eq!(merged.count(), merged.buckets.iter().map(|c| u64::from(*c)).sum::<u64>());
        }
    }
}
