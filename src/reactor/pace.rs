//! Closes that are spread over time.

use std::time::{Duration, Instant};

use crate::collections::Key;

/// Some of the connections of a loop, each to be told to go at a time of its own.
///
/// The window has as many equal parts as there are closes, and each part has one, in its middle or
/// at random within it. So their rate is the same from the first to the last, and one timer that
/// goes from part to part is enough for all of them.
///
/// Who is told is drawn when the time has come. Those who came together, from one address or after
/// the restart of another server, would go together if they went in the order of their coming.
#[derive(Debug)]
pub(super) struct Pace {
    /// Who is still to be drawn from, in no order.
    candidates: Vec<Key>,
    began: Instant,
    window: Duration,
    /// From 0 to 1.
    jitter: f64,
    count: u32,
    /// At most `count`.
    told: u32,
    /// When the next one is due.
    due: Instant,
}

/// What may be from 0 to 1: the nearer end of what is outside, and 0 for what is no number.
pub(super) fn fraction(number: f64) -> f64 {
    if number.is_nan() { 0.0 } else { number.clamp(0.0, 1.0) }
}

/// A number from 0 up to 1, of equal chance.
pub(super) fn share(random: u64) -> f64 {
    // An f64 holds so many bits exactly.
    (random >> 11) as f64 / (1u64 << 53) as f64
}

impl Pace {
    /// The closes of `count` out of `candidates`, from now on.
    pub(super) fn new(
        candidates: Vec<Key>,
        count: usize,
        window: Duration,
        jitter: f64,
        now: Instant,
        random: u64,
    ) -> Self {
        let count = count.min(candidates.len()) as u32;
        let jitter = fraction(jitter);
        let mut pace = Self { candidates, began: now, window, jitter, count, told: 0, due: now };
        pace.due = pace.place(random);
        pace
    }

    /// When the next close is due; `None` after the last.
    pub(super) fn due(&self) -> Option<Instant> {
        (self.told < self.count).then_some(self.due)
    }

    /// Who is told now, if it is time. It may have gone by itself: then nobody is told in its place.
    pub(super) fn poll(&mut self, now: Instant, mut random: impl FnMut() -> u64) -> Option<Key> {
        if self.due()? > now {
            return None;
        }
        let drawn = (random() % self.candidates.len() as u64) as usize;
        self.told += 1;
        self.due = self.place(random());
        Some(self.candidates.swap_remove(drawn))
    }

    /// The time of the next close, in its part of the window.
    fn place(&self, random: u64) -> Instant {
        let within = 0.5 + self.jitter * (share(random) - 0.5);
        let parts = f64::from(self.told) + within;
        let share = (parts / f64::from(self.count.max(1))).min(1.0);
        self.began + self.window.mul_f64(share)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(count: u32) -> Vec<Key> {
        (0..count).map(|index| Key { index, generation: 1 }).collect()
    }

    /// Numbers of which each follows from the one before.
    fn numbers(seed: u64) -> impl FnMut() -> u64 {
        let mut state = seed;
        move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed ^ (mixed >> 29)
        }
    }

    /// Turns whenever something is due; who was told, and when.
    fn run(
        mut pace: Pace,
        began: Instant,
        mut random: impl FnMut() -> u64,
    ) -> Vec<(Duration, u32)> {
        let mut told = Vec::new();
        while let Some(due) = pace.due() {
            assert!(
                pace.poll(due - Duration::from_nanos(1), &mut random).is_none() || due == began
            );
            let key = pace.poll(due, &mut random).expect("it is due");
            told.push((due - began, key.index));
        }
        told
    }

    #[test]
    fn without_jitter_each_close_stands_in_the_middle_of_its_part() {
        let now = Instant::now();
        let mut random = numbers(1);
        let pace = Pace::new(keys(4), 4, Duration::from_secs(8), 0.0, now, random());
        let times: Vec<_> = run(pace, now, random).iter().map(|(at, _)| at.as_secs()).collect();
        assert_eq!(times, [1, 3, 5, 7]);
    }

    #[test]
    fn who_is_late_tells_everybody_who_is_due() {
        let now = Instant::now();
        let mut random = numbers(2);
        let mut pace = Pace::new(keys(10), 10, Duration::from_secs(10), 1.0, now, random());
        let late = now + Duration::from_secs(5);
        let told = std::iter::from_fn(|| pace.poll(late, &mut random)).count();
        assert_eq!(told, 5);
    }

    #[test]
    fn an_order_of_coming_does_not_come_back() {
        let now = Instant::now();
        let mut random = numbers(3);
        let pace = Pace::new(keys(1000), 1000, Duration::from_secs(1), 1.0, now, random());
        let order: Vec<_> = run(pace, now, random).iter().map(|(_, index)| *index).collect();
        // Of a random order, half of the neighbours rise; three deviations are 28.
        let rising = order.windows(2).filter(|pair| pair[0] < pair[1]).count();
        assert!((450..550).contains(&rising), "{rising}");
    }

    proptest! {
        #[test]
        fn each_part_of_the_window_has_one_close_and_nobody_is_told_twice(
            count in 0u32..200,
            share in 0.0..=1.0f64,
            millis in 0u64..100_000,
            jitter in prop_oneof![0.0..=1.0f64, Just(f64::NAN), Just(-1.0), Just(7.0)],
            seed: u64,
        ) {
            let (now, mut random) = (Instant::now(), numbers(seed));
            let window = Duration::from_millis(millis);
            let wanted = (f64::from(count) * share) as usize;
            let pace = Pace::new(keys(count), wanted, window, jitter, now, random());
            let told = run(pace, now, random);
            prop_assert_eq!(told.len(), wanted);
            for (part, (at, _)) in told.iter().enumerate() {
                let edge = |part: usize| window.mul_f64(part as f64 / wanted as f64);
                let slack = Duration::from_micros(1);
                prop_assert!(edge(part) <= *at + slack, "{part}: {at:?}");
                prop_assert!(*at <= edge(part + 1) + slack, "{part}: {at:?}");
            }
            let mut indices: Vec<_> = told.iter().map(|(_, index)| *index).collect();
            indices.sort_unstable();
            indices.dedup();
            prop_assert_eq!(indices.len(), wanted);
        }
    }
}
