//! What is done about pressure at each level, but for closing connections.

use std::collections::HashMap;
use std::time::Duration;

use super::charges::Charges;
use super::settings::PressureReactions;
use super::watch::Waiting;
use crate::collections::Key;
use crate::limit::{PressureLevel, Released};
use crate::protocol::Contexts;
use crate::reactor::handler::Handler;
use crate::reactor::net::Net;
use crate::reactor::slot::{Pause, Phase};
use crate::reactor::turn::Reactor;

/// A connection and what it holds.
#[derive(Clone, Copy, Debug)]
pub struct Weighed {
    pub key: Key,
    pub bytes: usize,
}

/// What counts when connections are weighed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// What reading and writing have led to, which not reading stops.
    Moving,
    All,
}

/// Who holds less than this is not heavy. Guess: a few messages of common size.
const HEAVY_BYTES_MIN: usize = 64 << 10;

/// So many are put to rest, or chosen to be closed, after one look. Guess: if the heaviest thousand
/// are not enough, the next look comes soon.
pub const CHOSEN_MAX: usize = 1024;

impl<N: Net, H: Handler> Reactor<N, H> {
    /// Does what the level asks for, and notes what it has brought.
    pub(super) fn relieve(&mut self) {
        let Some(watch) = &self.shared.watch else { return };
        let (level, reactions) = (watch.level(), watch.settings.reactions);
        let contexts = if watch.refuses_contexts() { Contexts::Refused } else { Contexts::Given };
        self.shared.pools.set_contexts(contexts);
        let is_quiet = level == PressureLevel::Normal && watch.held.is_empty();
        if is_quiet && !watch.closing.has_work() {
            return;
        }
        let before = self.accounted_bytes();
        let mut released = Released::default();
        if level >= PressureLevel::Moderate && reactions.shrink_pools {
            self.shrink_pools();
        }
        if level >= PressureLevel::High {
            self.relieve_high(reactions, &mut released);
        } else {
            released.resumed = self.resume_held();
        }
        if level == PressureLevel::Critical && reactions.close_connections {
            self.plan_closing();
            self.close_planned(&mut released);
        } else if let Some(watch) = &mut self.shared.watch {
            watch.closing.give_up();
        }
        released.bytes = before.saturating_sub(self.accounted_bytes()) as u64;
        self.note_released(released);
    }

    pub(super) fn note_released(&mut self, released: Released) {
        let counters = &mut self.shared.counters;
        counters.pressure_released_bytes += released.bytes;
        counters.pressure_held += u64::from(released.held);
        counters.pressure_closed_idle += u64::from(released.closed_idle);
        counters.pressure_closed_heavy += u64::from(released.closed_heavy);
        if let Some(watch) = &mut self.shared.watch {
            watch.gauge.note_released(released);
        }
    }

    fn relieve_high(&mut self, reactions: PressureReactions, released: &mut Released) {
        if reactions.flush_all {
            self.offer_everything();
        }
        if reactions.hold_senders {
            let weighed = self.weigh(Weight::Moving);
            released.held += self.hold_heaviest(weighed);
            released.closed_heavy += self.close_overdue();
        }
    }

    /// What is kept for later goes back to the allocator.
    fn shrink_pools(&mut self) {
        self.receive_pools.shrink();
        self.shared.pools.shrink();
        self.net.shrink();
        self.scratch = Vec::new();
        self.backlogs.shrink_to_fit();
    }

    /// Sockets that can take more have mostly said so; this is for what is corked.
    fn offer_everything(&mut self) {
        for key in self.shared.slots.keys().collect::<Vec<_>>() {
            if self.shared.slots.get(key).is_some_and(|slot| slot.phase.has_output()) {
                self.flush(key);
                self.settle(key);
            }
        }
    }

    /// Everybody who holds much, in no order. On the way the charges are summed up.
    pub(super) fn weigh(&mut self, weight: Weight) -> Vec<Weighed> {
        let mut charges = match &mut self.shared.watch {
            Some(watch) => std::mem::take(&mut watch.charges),
            None => Charges::default(),
        };
        charges.reset(self.shared.listeners.len());
        let mut weighed = Vec::new();
        for key in self.shared.slots.keys() {
            let Some(slot) = self.shared.slots.get(key) else { continue };
            let (moving_bytes, lasting_bytes) = (self.moving_bytes(key), self.lasting_bytes(key));
            charges.add(self.shared.listener(slot), moving_bytes + lasting_bytes);
            let bytes = match weight {
                Weight::Moving => moving_bytes,
                Weight::All => moving_bytes + lasting_bytes,
            };
            if bytes >= HEAVY_BYTES_MIN {
                weighed.push(Weighed { key, bytes });
            }
        }
        if let Some(watch) = &mut self.shared.watch {
            watch.charges = charges;
        }
        weighed
    }

    /// The heaviest who hold together what is above the beginning of the pressure are not read until
    /// the level falls; says how many are new.
    fn hold_heaviest(&mut self, mut weighed: Vec<Weighed>) -> u32 {
        let Some(watch) = &self.shared.watch else { return 0 };
        let excess_bytes = watch.gauge.excess_bytes(watch.used_bytes(), PressureLevel::Moderate);
        let mut left_bytes = watch.accounted.share_of(excess_bytes);
        heaviest_first(&mut weighed);
        let mut count = 0;
        for Weighed { key, bytes } in weighed {
            if left_bytes == 0 {
                break;
            }
            left_bytes = left_bytes.saturating_sub(bytes as u64);
            count += u32::from(self.hold(key));
        }
        count
    }

    /// Stops reading; says whether it was read until now. Who has left is read to the end instead,
    /// which frees what he holds.
    fn hold(&mut self, key: Key) -> bool {
        let Some(slot) = self.shared.slots.get_mut(key) else { return false };
        let is_reading = matches!(&slot.phase, Phase::Open { sender, .. } if sender.is_open());
        if !is_reading
            || slot.notes.pauses.has(Pause::Memory)
            || slot.notes.hung_up
            || slot.notes.input_ended
        {
            return false;
        }
        slot.notes.pauses.add(Pause::Memory);
        if let Some(watch) = &mut self.shared.watch {
            let waiting = watch.held.entry(key);
            let waiting = waiting.or_insert(Waiting { since: None, before: Duration::ZERO });
            waiting.since = Some(self.shared.now);
        }
        true
    }

    /// Reads from all again who had to wait; says how many there were. How long they have waited is
    /// remembered until there is enough for all.
    fn resume_held(&mut self) -> u32 {
        let now = self.shared.now;
        let Some(watch) = &mut self.shared.watch else { return 0 };
        let mut resumed = Vec::new();
        for (key, waiting) in &mut watch.held {
            if waiting.since.is_some() {
                *waiting = Waiting { since: None, before: waiting.time(now) };
                resumed.push(*key);
            }
        }
        if watch.level() == PressureLevel::Normal {
            watch.held = HashMap::new();
        }
        resumed.sort_unstable_by_key(|key| key.index);
        let mut count = 0;
        for key in resumed {
            if let Some(slot) = self.shared.slots.get_mut(key)
                && slot.notes.pauses.has(Pause::Memory)
            {
                slot.notes.pauses.end(Pause::Memory);
                self.shared.mark_ready(key);
                count += 1;
            }
        }
        count
    }

    /// Closes those who have waited for too long, the longest in front; says how many.
    fn close_overdue(&mut self) -> u32 {
        let Some(watch) = &mut self.shared.watch else { return 0 };
        let (now, timeout) = (self.shared.now, watch.settings.hold_timeout);
        let slots = &self.shared.slots;
        watch.held.retain(|key, _| slots.contains(*key));
        let is_withheld =
            |key: &Key| slots.get(*key).is_some_and(|slot| slot.notes.pauses.has(Pause::Memory));
        let overdue = watch.held.iter().filter(|(key, _)| is_withheld(key));
        let overdue = overdue.map(|(key, waiting)| (waiting.time(now), *key));
        let mut overdue: Vec<_> = overdue.filter(|(time, _)| *time >= timeout).collect();
        overdue.sort_unstable_by_key(|(time, key)| (std::cmp::Reverse(*time), key.index));
        overdue.truncate(watch.settings.closes_per_turn.max(1) as usize);
        for (_, key) in &overdue {
            self.shed(*key);
        }
        overdue.len() as u32
    }
}

/// The heaviest [`CHOSEN_MAX`], the heaviest in front; of equals, those of the lower index.
pub fn heaviest_first(weighed: &mut Vec<Weighed>) {
    let order = |it: &Weighed| (std::cmp::Reverse(it.bytes), it.key.index);
    if weighed.len() > CHOSEN_MAX {
        weighed.select_nth_unstable_by_key(CHOSEN_MAX, order);
        weighed.truncate(CHOSEN_MAX);
    }
    weighed.sort_unstable_by_key(order);
}
