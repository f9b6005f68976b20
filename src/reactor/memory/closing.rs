//! Closing connections for want of memory, a few in each turn.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::relief::{Weighed, Weight, heaviest_first};
use crate::collections::Key;
use crate::limit::{PressureLevel, Released};
use crate::protocol::{CloseCause, Failure, Initiator};
use crate::reactor::dial::DialError;
use crate::reactor::handler::Handler;
use crate::reactor::net::Net;
use crate::reactor::slot::Phase;
use crate::reactor::turn::Reactor;

/// Who is to be closed, and what the last closings have brought.
#[derive(Debug, Default)]
pub struct Closing {
    /// Idle ones in front.
    chosen: VecDeque<(Key, Why)>,
    /// What is still to be released.
    excess_bytes: u64,
    round: Option<Round>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Idle,
    Heavy,
}

/// Connections that were closed after one look.
#[derive(Clone, Copy, Debug)]
struct Round {
    used_bytes: u64,
    released_bytes: u64,
    /// How long the next has to wait if this has brought nothing.
    patience: Duration,
    /// The next one is not before, unless more is used.
    next_at: Instant,
}

/// Idle connections that are closed after one look. Guess: each is small, and the heavy ones behind
/// them are what helps.
const IDLE_CHOSEN_MAX: usize = 256;

/// What follows when closing has freed memory that stays resident, because the allocator keeps it or
/// others take it: closing more of them would not help either, so the next round waits, longer each
/// time. Guess.
const PATIENCE_MIN: Duration = Duration::from_secs(1);
const PATIENCE_MAX: Duration = Duration::from_secs(16);

/// A round that makes less than this part of what it has released leave has brought nothing.
const EFFECT_PARTS: u64 = 4;

impl Closing {
    pub fn has_work(&self) -> bool {
        !self.chosen.is_empty()
    }

    /// Nobody else is closed; what the last round has brought does not matter any more.
    pub fn give_up(&mut self) {
        self.chosen.clear();
        self.round = None;
    }

    /// One was closed that held so much.
    fn note_closed(&mut self, bytes: u64) {
        self.excess_bytes = self.excess_bytes.saturating_sub(bytes);
        if let Some(round) = &mut self.round {
            round.released_bytes += bytes;
        }
    }

    /// Whether another round may begin, now that so much is used.
    fn may_begin(&mut self, now: Instant, used_bytes: u64) -> bool {
        let Some(round) = &mut self.round else { return true };
        if round.released_bytes > 0 {
            let effect_bytes = round.used_bytes.saturating_sub(used_bytes);
            round.patience = match effect_bytes < round.released_bytes / EFFECT_PARTS {
                true => (round.patience * 2).clamp(PATIENCE_MIN, PATIENCE_MAX),
                false => Duration::ZERO,
            };
            round.next_at = now + round.patience;
            round.released_bytes = 0;
        }
        now >= round.next_at || used_bytes > round.used_bytes
    }
}

impl<N: Net, H: Handler> Reactor<N, H> {
    /// Chooses who is closed after the latest look.
    pub(super) fn plan_closing(&mut self) {
        let now = self.shared.now;
        let Some(watch) = &mut self.shared.watch else { return };
        let Some(snapshot) = watch.gauge.snapshot().copied() else { return };
        let used_bytes = snapshot.sample.used_bytes();
        if !watch.closing.may_begin(now, used_bytes) {
            return;
        }
        let excess_bytes = watch.gauge.excess_bytes(used_bytes, PressureLevel::Critical);
        watch.closing.excess_bytes = watch.accounted.share_of(excess_bytes);
        let patience = watch.closing.round.map_or(Duration::ZERO, |round| round.patience);
        let round = Round { used_bytes, released_bytes: 0, patience, next_at: now };
        watch.closing.round = Some(round);
        let idle = self.idle_for_longest().into_iter().map(|key| (key, Why::Idle));
        let mut heavy = self.weigh(Weight::All);
        heaviest_first(&mut heavy);
        let heavy = heavy.into_iter().map(|Weighed { key, .. }| (key, Why::Heavy));
        let chosen = idle.chain(heavy).collect();
        if let Some(watch) = &mut self.shared.watch {
            watch.closing.chosen = chosen;
        }
    }

    /// Goes on closing, in a turn of its own.
    pub(in crate::reactor) fn go_on_closing(&mut self) {
        let before = self.accounted_bytes();
        let mut released = Released::default();
        self.close_planned(&mut released);
        released.bytes = before.saturating_sub(self.accounted_bytes()) as u64;
        self.note_released(released);
    }

    /// Closes as many as a turn may, until enough is released.
    pub(super) fn close_planned(&mut self, released: &mut Released) {
        let Some(watch) = &self.shared.watch else { return };
        for _ in 0..watch.settings.closes_per_turn.max(1) {
            let Some(watch) = &mut self.shared.watch else { return };
            if watch.closing.excess_bytes == 0 {
                watch.closing.chosen.clear();
            }
            let Some((key, why)) = watch.closing.chosen.pop_front() else { return };
            let bytes = self.bytes_of(key) as u64;
            if !self.shed(key) {
                continue;
            }
            match why {
                Why::Idle => released.closed_idle += 1,
                Why::Heavy => released.closed_heavy += 1,
            }
            if let Some(watch) = &mut self.shared.watch {
                watch.closing.note_closed(bytes);
            }
        }
    }

    /// Accepted connections of which nobody has heard for some time, the longest in front.
    fn idle_for_longest(&self) -> Vec<Key> {
        let Some(watch) = &self.shared.watch else { return Vec::new() };
        let idle_after = watch.settings.idle_after;
        let mut idle: Vec<_> = self
            .shared
            .slots
            .keys()
            .filter_map(|key| {
                let slot = self.shared.slots.get(key)?;
                self.shared.listener(slot)?;
                let Phase::Open { sender, .. } = &slot.phase else { return None };
                let is_idle = self.shared.moment.since(sender.last_life()) >= idle_after;
                (is_idle && sender.is_open()).then_some((sender.last_life(), key.index, key))
            })
            .collect();
        let order = |it: &(_, u32, Key)| (it.0, it.1);
        if idle.len() > IDLE_CHOSEN_MAX {
            idle.select_nth_unstable_by_key(IDLE_CHOSEN_MAX, order);
            idle.truncate(IDLE_CHOSEN_MAX);
        }
        idle.sort_unstable_by_key(order);
        idle.into_iter().map(|(_, _, key)| key).collect()
    }

    /// Closes a connection with 1013, so that what it holds is free at once: what its peer does not
    /// take now is lost, and counted. Says whether there was one.
    pub(super) fn shed(&mut self, key: Key) -> bool {
        let Some(slot) = self.shared.slots.get(key) else { return false };
        match &slot.phase {
            Phase::Open { sender, .. } => {
                if sender.is_closed() {
                    return false;
                }
                self.shed_open(key);
            }
            Phase::Http(_) => self.end(key),
            Phase::Dialling(_) => {
                self.fail_dial(key, DialError::NoRoom);
                self.end(key);
            }
            // They hold little, and not for long.
            Phase::Parting { .. } | Phase::Closed { .. } | Phase::Ended => return false,
        }
        true
    }

    fn shed_open(&mut self, key: Key) {
        self.shared.with_transmit(key, &mut self.net, |transmit| {
            transmit.fail(Failure::MemoryPressure);
        });
        self.flush(key);
        self.shared.with_transmit(key, &mut self.net, |transmit| {
            // The Close stands behind what the kernel does not take.
            let cause = CloseCause::Failed(Failure::MemoryPressure);
            transmit.sender.end(Initiator::Local, cause);
        });
        self.settle(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_that_bring_nothing_become_rare() {
        let (mut closing, mut now) = (Closing::default(), Instant::now());
        let mut round = |now: Instant, used_bytes: u64| {
            let begins = closing.may_begin(now, used_bytes);
            if begins {
                let patience = closing.round.map_or(Duration::ZERO, |round| round.patience);
                let round = Round { used_bytes, released_bytes: 0, patience, next_at: now };
                closing.round = Some(round);
                closing.note_closed(400);
            }
            begins
        };
        // What was released has left: another may follow at once.
        assert!(round(now, 1000) && round(now, 600) && round(now, 500));
        // Less than a quarter of it has.
        for wait in [1, 2, 4, 8, 16, 16] {
            assert!(!round(now, 401), "{wait}");
            now += Duration::from_secs(wait);
            assert!(!round(now - Duration::from_millis(1), 401));
            assert!(round(now, 401 + 1));
            now += Duration::from_millis(1);
            assert!(!round(now, 402));
        }
    }

    #[test]
    fn a_round_begins_at_once_if_more_is_used() {
        let now = Instant::now();
        let round =
            Round { used_bytes: 1000, released_bytes: 400, patience: Duration::ZERO, next_at: now };
        let mut closing = Closing { round: Some(round), ..Closing::default() };
        assert!(!closing.may_begin(now, 1000));
        assert!(closing.may_begin(now, 1001));
    }
}
