//! How scarce memory is, told by levels that rise at once and fall late.
//!
//! ```text
//!   percent of the budget      60           72       80
//!   ──── Normal ───────────────┼─ Moderate ─┼─ High ─┼─ Critical ──►
//!                         55 ◄─┘       67 ◄─┘   75 ◄─┘
//! ```
//!
//! A level is entered with the first sample that reaches it, and left, for the one below, when every
//! sample for a while has stood some percent points under its beginning.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How scarce memory is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PressureLevel {
    /// There is enough.
    #[default]
    Normal,
    /// What is kept for later is given back.
    Moderate,
    /// Those who send the most have to wait.
    High,
    /// Those who are there go before those who come, and some of them have to go.
    Critical,
}

impl PressureLevel {
    /// All of them, rising.
    pub const ALL: [Self; 4] = [Self::Normal, Self::Moderate, Self::High, Self::Critical];

    const fn below(self) -> Self {
        match self {
            Self::Normal | Self::Moderate => Self::Normal,
            Self::High => Self::Moderate,
            Self::Critical => Self::High,
        }
    }
}

/// Where the levels begin, in percent of the budget, and how they are left. A level that is told to
/// begin below the one before begins with it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PressureThresholds {
    /// Where `Moderate` begins. Default 60.
    pub moderate_percent: u8,
    /// Where `High` begins. Default 72.
    pub high_percent: u8,
    /// Where `Critical` begins. Default 80: a fifth is left for what one turn of all loops takes in,
    /// and for what the allocator holds between blocks.
    pub critical_percent: u8,
    /// A level is left so many percent points below its beginning. Default 5, guess: more than what
    /// closing one connection brings.
    pub margin_percent: u8,
    /// For so long every sample has to stand there. Default 1 s, guess: four samples.
    pub calm: Duration,
    /// From so many percent of time on that some task has waited for memory in the last ten seconds
    /// (PSI `some avg10`), the level is at least `Moderate`; `None`: whatever it is. Default 20,
    /// guess.
    pub stall_percent: Option<u8>,
}

impl Default for PressureThresholds {
    fn default() -> Self {
        Self {
            moderate_percent: 60,
            high_percent: 72,
            critical_percent: 80,
            margin_percent: 5,
            calm: Duration::from_secs(1),
            stall_percent: Some(20),
        }
    }
}

impl PressureThresholds {
    /// Where a level begins, in percent.
    pub fn begins_at(&self, level: PressureLevel) -> u8 {
        let high_percent = self.high_percent.max(self.moderate_percent);
        match level {
            PressureLevel::Normal => 0,
            PressureLevel::Moderate => self.moderate_percent,
            PressureLevel::High => high_percent,
            PressureLevel::Critical => self.critical_percent.max(high_percent),
        }
    }

    /// Below so many percent a level is left.
    pub fn ends_below(&self, level: PressureLevel) -> u8 {
        self.begins_at(level).saturating_sub(self.margin_percent)
    }

    /// The highest level that has begun, counted so many percent points early.
    fn level(&self, percent: u32, stall_percent: Option<u8>, early: u8) -> PressureLevel {
        let has_begun = |level: &PressureLevel| {
            percent >= u32::from(self.begins_at(*level).saturating_sub(early))
        };
        let level = PressureLevel::ALL.into_iter().rfind(has_begun).unwrap_or_default();
        match (self.stall_percent, stall_percent) {
            (Some(bound), Some(stalled)) if stalled >= bound.saturating_sub(early) => {
                level.max(PressureLevel::Moderate)
            }
            _ => level,
        }
    }
}

/// What a process takes at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemorySample {
    /// What is resident; 0 where nobody knows.
    pub rss_bytes: u64,
    /// The address space.
    pub vms_bytes: u64,
    /// What is charged to somebody: what the loops hold for their connections. It can be more than
    /// what is resident, since a block is charged before it is filled.
    pub accounted_bytes: u64,
    /// For how many percent of the last ten seconds some task has waited for memory; `None` where
    /// nobody knows.
    pub stall_percent: Option<u8>,
}

impl MemorySample {
    /// What counts against the budget: the larger of what is resident and what is charged.
    pub const fn used_bytes(&self) -> u64 {
        if self.rss_bytes > self.accounted_bytes { self.rss_bytes } else { self.accounted_bytes }
    }
}

/// A sample and what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PressureSnapshot {
    /// When it was taken.
    pub at: Instant,
    /// The level since then.
    pub level: PressureLevel,
    /// What is used, in percent of the budget, rounded down.
    pub percent: u32,
    /// What may be used.
    pub budget_bytes: u64,
    /// What is used.
    pub sample: MemorySample,
}

/// The level has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PressureChange {
    /// The level before.
    pub from: PressureLevel,
    /// The level now.
    pub to: PressureLevel,
    /// Why.
    pub snapshot: PressureSnapshot,
}

/// What was done about the pressure after a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Released {
    /// Charged bytes that were given back, to the allocator or by connections that were closed.
    pub bytes: u64,
    /// Connections that are not read any more for now.
    pub held: u32,
    /// Connections that are read again.
    pub resumed: u32,
    /// Connections closed because nobody has spoken there for long.
    pub closed_idle: u32,
    /// Connections closed because they hold much.
    pub closed_heavy: u32,
}

/// A sample, what was done then, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PressureRecord {
    /// The sample.
    pub snapshot: PressureSnapshot,
    /// What was done about it.
    pub released: Released,
    /// What was resident at the next sample; `None` while there is none.
    pub rss_bytes_after: Option<u64>,
}

impl PressureRecord {
    /// By how much less was resident at the next sample, negative if it was more: set beside
    /// [`Released::bytes`] it says how much the allocator has kept, or others have taken.
    pub fn effect_bytes(&self) -> Option<i64> {
        let after = i64::try_from(self.rss_bytes_after?).ok()?;
        i64::try_from(self.snapshot.sample.rss_bytes).ok().map(|before| before - after)
    }
}

/// Makes levels of samples.
#[derive(Clone, Debug)]
pub struct PressureGauge {
    budget_bytes: u64,
    thresholds: PressureThresholds,
    level: PressureLevel,
    /// Since when every sample has stood below the end of the level.
    calm_since: Option<Instant>,
    /// The latest last; never more than [`HISTORY_RECORDS_MAX`].
    history: VecDeque<PressureRecord>,
}

/// Samples that are remembered: 32 s of them at their quickest, about 15 KiB.
pub const HISTORY_RECORDS_MAX: usize = 128;

impl PressureGauge {
    /// `Normal`, without a sample. A budget of nothing counts as one byte.
    pub fn new(budget_bytes: u64, thresholds: PressureThresholds) -> Self {
        Self {
            budget_bytes: budget_bytes.max(1),
            thresholds,
            level: PressureLevel::Normal,
            calm_since: None,
            // All of it now: what is allocated in the middle of a flood and stays lies behind what
            // the flood gives back, and many an allocator can give no more to the system than that.
            history: VecDeque::with_capacity(HISTORY_RECORDS_MAX),
        }
    }

    /// Takes a sample in; tells whether the level has changed.
    pub fn handle_sample(&mut self, now: Instant, sample: MemorySample) -> Option<PressureChange> {
        let percent = u128::from(sample.used_bytes()) * 100 / u128::from(self.budget_bytes);
        let percent = u32::try_from(percent).unwrap_or(u32::MAX);
        let from = self.level;
        let level = |early| self.thresholds.level(percent, sample.stall_percent, early);
        let (reached, kept) = (level(0), level(self.thresholds.margin_percent));
        if reached > self.level {
            self.level = reached;
        }
        if kept >= self.level {
            self.calm_since = None;
        } else {
            let since = *self.calm_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= self.thresholds.calm {
                self.level = self.level.below();
                self.calm_since = (kept < self.level).then_some(now);
            }
        }
        let snapshot = PressureSnapshot {
            at: now,
            level: self.level,
            percent,
            budget_bytes: self.budget_bytes,
            sample,
        };
        self.remember(snapshot);
        (self.level != from).then_some(PressureChange { from, to: self.level, snapshot })
    }

    /// Adds to what was done about the latest sample.
    pub fn note_released(&mut self, more: Released) {
        if let Some(PressureRecord { released, .. }) = self.history.back_mut() {
            released.bytes += more.bytes;
            released.held += more.held;
            released.resumed += more.resumed;
            released.closed_idle += more.closed_idle;
            released.closed_heavy += more.closed_heavy;
        }
    }

    /// The level that stands.
    pub const fn level(&self) -> PressureLevel {
        self.level
    }

    /// What may be used.
    pub const fn budget_bytes(&self) -> u64 {
        self.budget_bytes
    }

    /// By how much `used_bytes` are above what leaves `level`; nothing if they are not.
    pub fn excess_bytes(&self, used_bytes: u64, level: PressureLevel) -> u64 {
        let end = self.first_bytes(self.thresholds.ends_below(level));
        used_bytes.saturating_sub(end.saturating_sub(1))
    }

    /// How much more may be used until the next level begins; at `Critical`, until the budget ends.
    pub fn room_bytes(&self, used_bytes: u64) -> u64 {
        let above = PressureLevel::ALL.into_iter().find(|level| *level > self.level);
        let end = above.map_or(100, |above| self.thresholds.begins_at(above));
        self.first_bytes(end).saturating_sub(used_bytes)
    }

    /// The latest sample and what it means.
    pub fn snapshot(&self) -> Option<&PressureSnapshot> {
        self.history.back().map(|record| &record.snapshot)
    }

    /// The latest samples, the oldest first.
    pub fn history(&self) -> impl DoubleEndedIterator<Item = &PressureRecord> + ExactSizeIterator {
        self.history.iter()
    }

    fn remember(&mut self, snapshot: PressureSnapshot) {
        if let Some(last) = self.history.back_mut() {
            last.rss_bytes_after = Some(snapshot.sample.rss_bytes);
        }
        if self.history.len() == HISTORY_RECORDS_MAX {
            self.history.pop_front();
        }
        let released = Released::default();
        self.history.push_back(PressureRecord { snapshot, released, rss_bytes_after: None });
    }

    /// What is used at least when it is so many percent of the budget.
    fn first_bytes(&self, percent: u8) -> u64 {
        let bytes = (u128::from(self.budget_bytes) * u128::from(percent)).div_ceil(100);
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::PressureLevel::{Critical, High, Moderate, Normal};
    use super::*;

    const BUDGET_BYTES: u64 = 1000;

    fn used(bytes: u64) -> MemorySample {
        MemorySample { rss_bytes: bytes, ..MemorySample::default() }
    }

    fn gauge() -> PressureGauge {
        PressureGauge::new(BUDGET_BYTES, PressureThresholds::default())
    }

    /// The levels after samples of so many thousandths of the budget, each so many milliseconds
    /// after the one before.
    fn levels(samples: &[(u64, u64)]) -> Vec<PressureLevel> {
        let (mut gauge, mut now) = (gauge(), Instant::now());
        let levels = samples.iter().map(|(gap, bytes)| {
            now += Duration::from_millis(*gap);
            gauge.handle_sample(now, used(*bytes));
            gauge.level()
        });
        levels.collect()
    }

    #[test]
    fn levels_begin_at_their_percent_exactly() {
        for (bytes, level) in [
            (0, Normal),
            (599, Normal),
            (600, Moderate),
            (719, Moderate),
            (720, High),
            (799, High),
            (800, Critical),
            (5000, Critical),
        ] {
            let mut gauge = gauge();
            let change = gauge.handle_sample(Instant::now(), used(bytes));
            assert_eq!(gauge.level(), level, "{bytes}");
            assert_eq!(change.map(|change| change.to), (level != Normal).then_some(level));
        }
    }

    #[test]
    fn a_level_is_left_below_its_margin_and_after_the_calm_alone() {
        let up = (0, 800);
        assert_eq!(levels(&[up, (250, 749), (999, 749)])[2], Critical);
        assert_eq!(levels(&[up, (250, 749), (1000, 749)])[2], High);
        assert_eq!(levels(&[up, (250, 750), (60_000, 750)])[2], Critical, "inside the band");
        assert_eq!(levels(&[up, (250, 749), (500, 750), (999, 749)])[3], Critical, "no calm");
        // One level at a time, however empty it is.
        let down = levels(&[up, (1, 0), (1000, 0), (999, 0), (1, 0), (1000, 0)]);
        assert_eq!(down, [Critical, Critical, High, High, Moderate, Normal]);
    }

    #[test]
    fn waiting_for_memory_is_moderate_whatever_is_used() {
        let (mut gauge, now) = (gauge(), Instant::now());
        let mut stalled = |after, stall_percent| {
            let sample = MemorySample { stall_percent: Some(stall_percent), ..used(10) };
            gauge.handle_sample(now + Duration::from_secs(after), sample);
            gauge.level()
        };
        assert_eq!(stalled(0, 19), Normal);
        assert_eq!(stalled(1, 20), Moderate);
        assert_eq!([stalled(2, 15), stalled(9, 15)], [Moderate; 2], "inside the band");
        assert_eq!([stalled(10, 14), stalled(11, 14)], [Moderate, Normal]);
    }

    #[test]
    fn what_is_charged_counts_where_it_is_more_than_what_is_resident() {
        let sample = MemorySample { accounted_bytes: 720, ..used(100) };
        let mut gauge = gauge();
        gauge.handle_sample(Instant::now(), sample);
        assert_eq!((gauge.level(), gauge.snapshot().unwrap().percent), (High, 72));
    }

    #[test]
    fn history_tells_what_was_released_and_what_came_of_it() {
        let (mut gauge, now) = (gauge(), Instant::now());
        gauge.handle_sample(now, used(900));
        let more = Released { bytes: 70, closed_heavy: 1, ..Released::default() };
        gauge.note_released(more);
        gauge.note_released(more);
        gauge.handle_sample(now + Duration::from_secs(1), used(800));
        let [first, last] = gauge.history().copied().collect::<Vec<_>>()[..] else { panic!() };
        assert_eq!((first.released.bytes, first.released.closed_heavy), (140, 2));
        assert_eq!((first.effect_bytes(), last.effect_bytes()), (Some(100), None));
        for n in 0..1000 {
            gauge.handle_sample(now + Duration::from_secs(n), used(n));
        }
        assert_eq!(gauge.history().len(), HISTORY_RECORDS_MAX);
        assert_eq!(gauge.snapshot().unwrap().sample.rss_bytes, 999);
    }

    #[test]
    fn room_and_excess_meet_at_the_thresholds() {
        let mut gauge = gauge();
        assert_eq!([gauge.room_bytes(599), gauge.room_bytes(600)], [1, 0]);
        gauge.handle_sample(Instant::now(), used(850));
        assert_eq!(gauge.room_bytes(850), 150);
        assert_eq!([gauge.excess_bytes(850, Critical), gauge.excess_bytes(850, High)], [101, 181]);
        assert_eq!([749, 750].map(|used| gauge.excess_bytes(used, Critical)), [0, 1]);
    }

    /// Budgets that are no whole number of percents, and those that are.
    const BUDGETS: [u64; 8] = [1, 7, 99, 100, 101, 4097, (1 << 40) + 1, u64::MAX];

    #[test]
    fn levels_begin_and_end_at_the_very_byte_whatever_the_budget() {
        for budget_bytes in BUDGETS {
            for level in [Moderate, High, Critical] {
                let first = |percent: u8| {
                    let hundredfold = u128::from(budget_bytes) * u128::from(percent);
                    hundredfold.div_ceil(100) as u64
                };
                let thresholds = PressureThresholds::default();
                let begin = first(thresholds.begins_at(level));
                let end = first(thresholds.ends_below(level));
                let now = Instant::now();
                let mut gauge = PressureGauge::new(budget_bytes, thresholds);
                gauge.handle_sample(now, used(begin - 1));
                assert!(gauge.level() < level, "{budget_bytes}");
                gauge.handle_sample(now, used(begin));
                assert!(gauge.level() >= level, "{budget_bytes}");
                let entered = gauge.level();
                gauge.handle_sample(now, used(end));
                gauge.handle_sample(now + Duration::from_secs(9), used(end));
                assert!(gauge.level() >= level, "{budget_bytes}: the band begins with {end}");
                gauge.handle_sample(now + Duration::from_secs(10), used(end - 1));
                gauge.handle_sample(now + Duration::from_secs(11), used(end - 1));
                assert!(gauge.level() < entered, "{budget_bytes}");
            }
        }
    }

    #[test]
    fn thresholds_out_of_order_begin_together() {
        let thresholds = PressureThresholds {
            moderate_percent: 90,
            high_percent: 10,
            critical_percent: 50,
            ..PressureThresholds::default()
        };
        let mut gauge = PressureGauge::new(BUDGET_BYTES, thresholds);
        gauge.handle_sample(Instant::now(), used(899));
        assert_eq!(gauge.level(), Normal);
        gauge.handle_sample(Instant::now(), used(900));
        assert_eq!(gauge.level(), Critical);
    }

    #[test]
    fn a_budget_of_nothing_is_critical_and_no_division_by_it() {
        let mut gauge = PressureGauge::new(0, PressureThresholds::default());
        gauge.handle_sample(Instant::now(), used(u64::MAX));
        assert_eq!((gauge.level(), gauge.snapshot().unwrap().percent), (Critical, u32::MAX));
    }

    fn samples() -> impl Strategy<Value = Vec<(u64, u64)>> {
        prop::collection::vec((0..1200_u64, 400..1000_u64), 1..80)
    }

    proptest! {
        /// Against the rule as it is written down, looked up in the whole past each time.
        #[test]
        fn levels_rise_at_once_and_fall_by_one_after_the_calm(samples in samples()) {
            let thresholds = PressureThresholds::default();
            let levels = levels(&samples);
            let mut times = Vec::new();
            let mut before = Normal;
            // The last sample at which the level that stands was entered or not to be left.
            let mut held = None;
            for (at, (gap, bytes)) in samples.iter().enumerate() {
                times.push(times.last().unwrap_or(&0) + gap);
                let reached = PressureLevel::ALL
                    .into_iter()
                    .rfind(|level| bytes / 10 >= u64::from(thresholds.begins_at(*level)))
                    .unwrap();
                let level = levels[at];
                prop_assert!(level >= reached);
                if level > before {
                    prop_assert_eq!(level, reached);
                }
                let is_kept =
                    |level| level == Normal || bytes / 10 >= u64::from(thresholds.ends_below(level));
                if level < before {
                    prop_assert_eq!(level, before.below());
                    prop_assert!(!is_kept(before));
                    let first_below = held.map_or(0, |held: usize| held + 1);
                    prop_assert!(times[at] - times[first_below] >= 1000);
                } else if level == before && level != Normal && !is_kept(level) {
                    // It would have been left, had the calm been long enough.
                    let first_below = held.map_or(0, |held| held + 1);
                    prop_assert!(times[at] - times[first_below] < 1000);
                }
                if level != before || is_kept(level) {
                    held = Some(if level < before && !is_kept(level) { at - 1 } else { at });
                }
                before = level;
            }
        }

        /// To release less than the excess leaves the level standing, to release it does not; and to
        /// take the room in begins the next one.
        #[test]
        fn excess_and_room_are_exact(
            budget_bytes in prop_oneof![1..1000_u64, any::<u64>()],
            percent in 0..120_u64,
            level in prop::sample::select(&PressureLevel::ALL[1..]),
        ) {
            let budget_bytes = budget_bytes.max(1);
            let used_bytes = (u128::from(budget_bytes) * u128::from(percent) / 100)
                .try_into()
                .unwrap_or(u64::MAX);
            let now = Instant::now();
            let mut gauge = PressureGauge::new(budget_bytes, PressureThresholds::default());
            gauge.handle_sample(now, used(used_bytes));
            let percent_of = |used_bytes: u64| u128::from(used_bytes) * 100 / u128::from(budget_bytes);
            let end = u128::from(gauge.thresholds.ends_below(level));
            let excess = gauge.excess_bytes(used_bytes, level);
            prop_assert!(percent_of(used_bytes - excess) < end);
            prop_assert!(excess == 0 || percent_of(used_bytes - excess + 1) >= end);
            let room = gauge.room_bytes(used_bytes);
            if let Some(above) = PressureLevel::ALL.into_iter().find(|it| *it > gauge.level()) {
                let begin = u128::from(gauge.thresholds.begins_at(above));
                prop_assert!(percent_of(used_bytes + room) >= begin);
                prop_assert!(room > 0 && percent_of(used_bytes + room - 1) < begin);
            }
        }

        #[test]
        fn nothing_flaps_inside_the_band(
            level in prop::sample::select(&PressureLevel::ALL[1..]),
            samples in prop::collection::vec((0..5000_u64, any::<u64>()), 1..80),
        ) {
            let thresholds = PressureThresholds::default();
            let begin = u64::from(thresholds.begins_at(level)) * 10;
            let low = u64::from(thresholds.ends_below(level)) * 10;
            let samples: Vec<_> =
                samples.iter().map(|(gap, any)| (*gap, low + any % (begin - low))).collect();
            let levels = levels(&[&[(0, begin)], &samples[..]].concat());
            prop_assert!(levels.iter().all(|it| *it == level));
        }

        #[test]
        fn who_uses_more_is_never_at_a_lower_level(
            samples in prop::collection::vec((0..1200_u64, 400..1000_u64, 0..300_u64), 1..80),
        ) {
            let less: Vec<_> = samples.iter().map(|(gap, used, _)| (*gap, *used)).collect();
            let more: Vec<_> = samples.iter().map(|(gap, used, by)| (*gap, used + by)).collect();
            prop_assert!(levels(&less).iter().zip(&levels(&more)).all(|(less, more)| less <= more));
        }
    }
}
