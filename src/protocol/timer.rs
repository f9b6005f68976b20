//! Time inside a connection: eight bytes where an `Instant` takes sixteen.
//!
//! A connection remembers several instants and most connections are idle, so each is kept as
//! microseconds since an origin that all connections of one loop share.

use std::time::{Duration, Instant};

/// The origin that moments count from.
#[derive(Clone, Copy, Debug)]
pub struct Timeline {
    origin: Instant,
}

/// Microseconds since the origin of a [`Timeline`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Timeline {
    /// A timeline that begins at `origin`. Earlier instants count as the origin itself.
    pub const fn new(origin: Instant) -> Self {
        Self { origin }
    }

    /// `instant` on this timeline, rounded down to a microsecond.
    pub fn moment(&self, instant: Instant) -> Moment {
        Moment::after_origin(instant.saturating_duration_since(self.origin))
    }

    /// `moment` as an instant.
    pub fn instant(&self, moment: Moment) -> Instant {
        self.origin + Duration::from_micros(moment.0)
    }
}

impl Moment {
    /// The origin itself.
    #[cfg(test)]
    pub const ORIGIN: Self = Self(0);

    /// An instant so far away as the cap is never reached; it keeps the sum of two in range.
    const LAST: u64 = 1 << 62;

    /// `by` after the origin.
    fn after_origin(by: Duration) -> Self {
        let micros =
            by.as_secs().saturating_mul(1_000_000).saturating_add(by.subsec_micros().into());
        Self(micros.min(Self::LAST))
    }

    /// The moment `by` later.
    pub fn plus(self, by: Duration) -> Self {
        Self((self.0 + Self::after_origin(by).0).min(Self::LAST))
    }

    /// How much later this is than `earlier`; zero if it is not.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// The count modulo 2^32, for spans of up to 71 minutes in half the room.
    pub const fn wrapping_micros(self) -> u32 {
        self.0 as u32
    }

    /// The raw count, as the payload of a heartbeat.
    pub const fn to_be_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_survives_the_way_to_an_instant_and_back() {
        let origin = Instant::now();
        let timeline = Timeline::new(origin);
        for micros in [0, 1, 999, 1_000_000, 90_000_000, 86_400_000_000] {
            let instant = origin + Duration::from_micros(micros);
            assert_eq!(timeline.instant(timeline.moment(instant)), instant);
        }
    }

    #[test]
    fn durations_too_large_to_count_saturate() {
        let far = Moment(0).plus(Duration::MAX);
        assert!(far > Moment(0).plus(Duration::from_secs(1 << 40)));
        assert!(far.plus(Duration::MAX) >= far);
    }

    #[test]
    fn an_instant_before_the_origin_is_the_origin() {
        let origin = Instant::now() + Duration::from_secs(5);
        assert_eq!(Timeline::new(origin).moment(Instant::now()), Moment(0));
    }
}
