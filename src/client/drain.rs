//! How fast a connection takes what is written to it.

use std::time::{Duration, Instant};

/// Measures the rate at which queued bytes leave, while bytes are queued: what the kernel takes at
/// once only shows that its buffer has room.
///
/// Whenever a second has been measured, what was seen counts half: an estimate follows a change of
/// the rate within a few seconds, and a single slow write does not upset it.
#[derive(Clone, Copy, Debug, Default)]
pub struct DrainMeter {
    /// Bytes that left in the time measured.
    bytes: u64,
    measured: Duration,
    /// Since when bytes are queued that the kernel has not taken, or when some of them last left.
    queued_since: Option<Instant>,
}

impl DrainMeter {
    /// The kernel took so many bytes, perhaps none, and so many stay queued.
    pub fn handle_written(&mut self, now: Instant, bytes: usize, queued_bytes: usize) {
        if let Some(since) = self.queued_since {
            self.bytes = self.bytes.saturating_add(bytes as u64);
            self.measured += now.saturating_duration_since(since);
            while self.measured >= WINDOW {
                self.measured /= 2;
                self.bytes /= 2;
            }
        }
        self.queued_since = (queued_bytes > 0).then_some(now);
    }

    /// How long so many bytes will take to leave: the bytes over the rate at which others left. A
    /// standstill counts while it lasts. `None` while nothing was measured.
    pub fn estimated_drain(&self, now: Instant, queued_bytes: usize) -> Option<Duration> {
        if queued_bytes == 0 {
            return Some(Duration::ZERO);
        }
        let standstill = self.queued_since.map(|since| now.saturating_duration_since(since));
        let nanos = (self.measured + standstill.unwrap_or_default()).as_nanos();
        if self.bytes == 0 || nanos == 0 {
            return None;
        }
        let drain = nanos.saturating_mul(queued_bytes as u128) / u128::from(self.bytes);
        Some(Duration::from_nanos(u64::try_from(drain).unwrap_or(u64::MAX)))
    }
}

/// Guess: longer than a round trip, shorter than a user's patience.
const WINDOW: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn nothing_is_known_until_queued_bytes_have_left() {
        let start = Instant::now();
        let mut meter = DrainMeter::default();
        assert_eq!(meter.estimated_drain(start, 0), Some(Duration::ZERO));
        assert_eq!(meter.estimated_drain(start, 1), None);
        meter.handle_written(start, 1_000_000, 0);
        meter.handle_written(start + millis(10), 1_000_000, 500);
        assert_eq!(meter.estimated_drain(start + millis(20), 500), None, "the kernel had room");
        meter.handle_written(start + millis(20), 0, 500);
        assert_eq!(meter.estimated_drain(start + millis(20), 500), None, "none of them left");
        meter.handle_written(start + millis(30), 100, 400);
        assert_eq!(meter.estimated_drain(start + millis(30), 400), Some(millis(80)));
    }

    #[test]
    fn steady_rate_is_met_exactly_and_rests_do_not_count() {
        let start = Instant::now();
        let mut meter = DrainMeter::default();
        let mut now = start;
        for _ in 0..10 {
            meter.handle_written(now, 0, 100_000);
            for left in (0..100_000).step_by(10_000).rev() {
                now += millis(1);
                meter.handle_written(now, 10_000, left);
            }
            now += Duration::from_secs(60);
            assert_eq!(meter.estimated_drain(now, 50_000), Some(millis(5)));
        }
    }

    #[test]
    fn changed_rate_is_followed_and_a_standstill_counts() {
        let start = Instant::now();
        let mut meter = DrainMeter::default();
        let mut now = start;
        meter.handle_written(now, 0, 1 << 30);
        // 1 MB/s for ten seconds, then a tenth of it.
        for _ in 0..1000 {
            now += millis(10);
            meter.handle_written(now, 10_000, 1 << 30);
        }
        assert_eq!(meter.estimated_drain(now, 1_000_000), Some(millis(1000)));
        for _ in 0..500 {
            now += millis(10);
            meter.handle_written(now, 1000, 1 << 30);
        }
        let drain = meter.estimated_drain(now, 1_000_000).unwrap();
        assert!((millis(9_900)..=millis(10_000)).contains(&drain), "{drain:?}");
        // Nothing leaves any more.
        let later = meter.estimated_drain(now + Duration::from_secs(600), 1_000_000).unwrap();
        assert!(later > Duration::from_secs(6000), "{later:?}");
        meter.handle_written(now + Duration::from_secs(100_000), 0, 1 << 30);
        let largest = meter.estimated_drain(now + Duration::from_secs(200_000), usize::MAX);
        assert!(largest.is_none_or(|drain| drain == Duration::from_nanos(u64::MAX)));
    }
}
