//! When messages are due, and what is remembered of them until they are answered.
//!
//! Latency counts from the instant at which a message was *due*. In a closed loop that is when the
//! answer before it came. In an open loop the schedule says it, whatever the server does: messages
//! that had to wait because the server stood still show how long they waited (a generator that
//! forgets this is in league with the server: "coordinated omission").

use std::collections::VecDeque;

use hdrhistogram::Histogram;

/// Messages at even intervals: number `k`, from 0, is due at `first_ns + k * every_ns`.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    first_ns: u64,
    every_ns: f64,
}

impl Schedule {
    /// A schedule from `first_ns` on with so many messages a second.
    pub fn new(first_ns: u64, per_second: f64) -> Self {
        Self { first_ns, every_ns: 1e9 / per_second }
    }

    /// The part of this schedule that falls to one of `count` that take turns.
    pub fn lane(&self, index: usize, count: usize) -> Self {
        Self { first_ns: self.due_ns(index as u64), every_ns: self.every_ns * count as f64 }
    }

    /// When message `k` is due.
    #[inline]
    pub fn due_ns(&self, k: u64) -> u64 {
        // Exact to the nanosecond up to 2^53 ns, which are a hundred days.
        self.first_ns + (k as f64 * self.every_ns) as u64
    }
}

/// What one connection has sent and has no answer to. Answers come in order.
#[derive(Debug)]
pub enum Ledger {
    /// Closed loop: when messages were handed over, and how many at once.
    Batches(VecDeque<Batch>),
    /// Open loop: the schedule knows when each was due.
    Scheduled { schedule: Schedule, sent: u64, answered: u64 },
}

/// Messages that were due at one instant.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    due_ns: u64,
    count: u64,
}

/// More answers came than messages were sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Unasked;

impl Ledger {
    /// For a closed loop, with nothing sent.
    pub fn batches() -> Self {
        Self::Batches(VecDeque::new())
    }

    /// For an open loop, with nothing sent.
    pub fn scheduled(schedule: Schedule) -> Self {
        Self::Scheduled { schedule, sent: 0, answered: 0 }
    }

    /// `count` messages are due now.
    pub fn note_due(&mut self, count: u64, now_ns: u64) {
        match self {
            Self::Batches(batches) => batches.push_back(Batch { due_ns: now_ns, count }),
            Self::Scheduled { sent, .. } => *sent += count,
        }
    }

    /// `count` answers came at `now_ns`: hands their latencies to the recorder.
    pub fn settle(
        &mut self,
        count: u64,
        now_ns: u64,
        recorder: &mut Recorder,
    ) -> Result<(), Unasked> {
        match self {
            Self::Batches(batches) => {
                let mut left = count;
                while left > 0 {
                    let batch = batches.front_mut().ok_or(Unasked)?;
                    let settled = left.min(batch.count);
                    recorder.record(batch.due_ns, now_ns, settled);
                    left -= settled;
                    batch.count -= settled;
                    if batch.count == 0 {
                        batches.pop_front();
                    }
                }
            }
            Self::Scheduled { schedule, sent, answered } => {
                if *answered + count > *sent {
                    return Err(Unasked);
                }
                for k in *answered..*answered + count {
                    recorder.record(schedule.due_ns(k), now_ns, 1);
                }
                *answered += count;
            }
        }
        recorder.note_answers(count);
        Ok(())
    }

    /// No more answers are waited for: the age of what has none is recorded as its latency, which
    /// is at least so long. Says how many there are.
    pub fn give_up(&mut self, now_ns: u64, recorder: &mut Recorder) -> u64 {
        let count = match self {
            Self::Batches(batches) => batches.iter().map(|batch| batch.count).sum(),
            Self::Scheduled { sent, answered, .. } => *sent - *answered,
        };
        self.settle(count, now_ns, recorder).expect("so many were sent");
        count
    }
}

/// Latencies and counts of the time that is measured.
#[derive(Debug)]
pub struct Recorder {
    /// In nanoseconds.
    pub latencies: Histogram<u64>,
    /// Answers that came while the window was open.
    pub answers: u64,
    window: Window,
}

/// ```text
///   Outside ──► Open ──► Draining ──► Outside
///                 └──────────────────────▲
/// ```
#[derive(Clone, Copy, Debug)]
enum Window {
    /// Nothing counts: it is too early or too late.
    Outside,
    /// Answers count, and the latencies of messages due from then on.
    Open { due_from_ns: u64 },
    /// Answers are too late to count, but the latencies of their messages do.
    Draining { due_from_ns: u64 },
}

impl Recorder {
    pub fn new() -> Self {
        Self { latencies: histogram(), answers: 0, window: Window::Outside }
    }

    /// What comes from now on counts.
    pub fn open(&mut self, due_from_ns: u64) {
        self.window = Window::Open { due_from_ns };
    }

    /// The time is over, and nothing counts any more.
    pub fn close(&mut self) {
        self.window = Window::Outside;
    }

    /// The time is over. What was due in it is still waited for.
    pub fn drain(&mut self) {
        if let Window::Open { due_from_ns } = self.window {
            self.window = Window::Draining { due_from_ns };
        }
    }

    #[inline]
    pub fn record(&mut self, due_ns: u64, now_ns: u64, count: u64) {
        match self.window {
            Window::Open { due_from_ns } | Window::Draining { due_from_ns }
                if due_ns >= due_from_ns =>
            {
                self.latencies.saturating_record_n(now_ns.saturating_sub(due_ns).max(1), count);
            }
            Window::Outside | Window::Open { .. } | Window::Draining { .. } => {}
        }
    }

    fn note_answers(&mut self, count: u64) {
        if let Window::Open { .. } = self.window {
            self.answers += count;
        }
    }
}

/// An empty histogram for nanoseconds up to ten minutes, three digits each.
pub fn histogram() -> Histogram<u64> {
    const TEN_MINUTES_NS: u64 = 600_000_000_000;
    Histogram::new_with_max(TEN_MINUTES_NS, 3).expect("bounds and digits that can be had")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn stall_of_the_server_shows_in_the_open_loops_percentiles() {
        // A second at 1,000 messages a second; each takes 1 ms, but from 500 to 700 ms the server
        // stands still and answers all at once at the end.
        let schedule = Schedule::new(0, 1000.0);
        let mut ledger = Ledger::scheduled(schedule);
        let mut recorder = Recorder::new();
        recorder.open(0);
        for k in 0..1000 {
            let due_ms = schedule.due_ns(k) / MS;
            ledger.note_due(1, due_ms * MS);
            let answered_ms = if (500..700).contains(&due_ms) { 700 } else { due_ms + 1 };
            ledger.settle(1, answered_ms * MS, &mut recorder).unwrap();
        }
        let quantile_ms = |q| recorder.latencies.value_at_quantile(q) / MS;
        assert_eq!(recorder.answers, 1000);
        assert_eq!(quantile_ms(0.5), 1);
        // A fifth of the messages waited, evenly between 0 and 200 ms.
        assert!((95..=105).contains(&quantile_ms(0.9)), "{}", quantile_ms(0.9));
        assert!((185..=195).contains(&quantile_ms(0.99)), "{}", quantile_ms(0.99));
        assert!((199..=201).contains(&(recorder.latencies.max() / MS)));
    }

    #[test]
    fn lanes_of_a_schedule_are_the_schedule() {
        let schedule = Schedule::new(17, 3000.0);
        for k in 0..1000_u64 {
            let lane = schedule.lane((k % 7) as usize, 7);
            assert!(lane.due_ns(k / 7).abs_diff(schedule.due_ns(k)) <= 1);
        }
        assert_eq!(Schedule::new(0, 1.0).due_ns(86_400 * 90), 86_400 * 90 * 1_000_000_000);
    }

    #[test]
    fn answers_of_a_closed_loop_settle_the_oldest_first() {
        let mut ledger = Ledger::batches();
        let mut recorder = Recorder::new();
        recorder.open(0);
        ledger.note_due(2, 10);
        ledger.note_due(3, 20);
        assert_eq!(ledger.settle(3, 100, &mut recorder), Ok(()));
        assert_eq!(recorder.answers, 3);
        assert_eq!((recorder.latencies.max(), recorder.latencies.min()), (90, 80));
        assert_eq!(ledger.give_up(200, &mut recorder), 2);
        assert_eq!(recorder.latencies.max(), 180);
        assert_eq!(ledger.settle(1, 100, &mut recorder), Err(Unasked));
        let mut scheduled = Ledger::scheduled(Schedule::new(0, 1.0));
        assert_eq!(scheduled.settle(1, 1, &mut recorder), Err(Unasked));
    }

    #[test]
    fn only_the_window_counts() {
        let mut recorder = Recorder::new();
        let mut ledger = Ledger::scheduled(Schedule::new(0, 1e9));
        ledger.note_due(40, 0);
        ledger.settle(10, 100, &mut recorder).unwrap();
        recorder.open(20);
        // These ten were due before the window opened: they count as answers, not as latencies.
        ledger.settle(10, 100, &mut recorder).unwrap();
        ledger.settle(10, 100, &mut recorder).unwrap();
        recorder.drain();
        ledger.settle(5, 1000, &mut recorder).unwrap();
        recorder.close();
        ledger.settle(5, 1000, &mut recorder).unwrap();
        assert_eq!((recorder.answers, recorder.latencies.len()), (20, 15));
        assert!(recorder.latencies.max() > 900);
    }
}
