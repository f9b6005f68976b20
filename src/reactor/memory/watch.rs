//! Looking at memory: when, and what becomes of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::board::Board;
use super::charges::Charges;
use super::closing::Closing;
use super::settings::{PressureReactions, PressureSettings};
use super::source::{MemorySource, SystemMemory};
use crate::collections::Key;
use crate::limit::{
    MemorySample, PressureChange, PressureGauge, PressureLevel, PressureRecord, PressureSnapshot,
};
use crate::reactor::event_loop::Loop;
use crate::reactor::handler::Handler;
use crate::reactor::id::ShardIndex;
use crate::reactor::net::Net;
use crate::reactor::turn::{Reactor, Timer};

/// What a loop knows of memory, and what it has under way about it.
#[derive(Debug)]
pub struct Watch {
    pub(super) settings: PressureSettings,
    pub(super) gauge: PressureGauge,
    source: Arc<dyn MemorySource>,
    board: Arc<Board>,
    shard: ShardIndex,
    /// Until the next look, if nothing happens.
    interval: Duration,
    /// Bytes and connections that had come and gone at the last look on the wheel.
    traffic: u64,
    /// What is queued may grow to this until the next look. What is published to those who do not
    /// read can grow by much in one turn too, but few turns publish: the mark stands here, and not
    /// beside the one that each turn compares with.
    queued_mark_bytes: usize,
    /// What all loops held at the latest look, and this one of it.
    pub(super) accounted: Accounted,
    /// Those who are not read because they hold much, and those who were since the level was
    /// `Normal`.
    pub(super) held: HashMap<Key, Waiting>,
    pub(super) closing: Closing,
    /// At the latest time that everybody was weighed.
    pub(super) charges: Charges,
}

/// What is charged to connections and pools.
#[derive(Clone, Copy, Debug, Default)]
pub struct Accounted {
    pub own_bytes: u64,
    pub all_bytes: u64,
}

impl Accounted {
    /// The part of `bytes` that is this loop's to see to.
    pub fn share_of(self, bytes: u64) -> u64 {
        let part = u128::from(bytes) * u128::from(self.own_bytes);
        let share = part / u128::from(self.all_bytes.max(1));
        u64::try_from(share).unwrap_or(bytes)
    }
}

/// How long one was not read.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// `None` while he is read.
    pub since: Option<Instant>,
    /// Before that.
    pub before: Duration,
}

impl Waiting {
    pub fn time(&self, now: Instant) -> Duration {
        let now = self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.before + now
    }
}

/// What has to be taken in before a loop looks at memory again without its time having come: so much
/// of the room that is left to the next level, and no less than this part of the budget. With half the
/// room each time a level is found early, after few looks.
const ROOM_PARTS: u64 = 2;
const BUDGET_PARTS_MAX: u64 = 256;

impl Watch {
    /// `None` if nobody knows what may be used.
    pub fn new(settings: PressureSettings, board: Arc<Board>, shard: ShardIndex) -> Option<Self> {
        let source = settings.source.clone().unwrap_or_else(|| Arc::new(SystemMemory::new()));
        let budget_bytes = settings.budget_bytes.or_else(|| source.budget_bytes())?;
        Some(Self {
            gauge: PressureGauge::new(budget_bytes, settings.thresholds.clone()),
            interval: settings.sample_interval,
            settings,
            source,
            board,
            shard,
            traffic: 0,
            queued_mark_bytes: usize::MAX,
            accounted: Accounted::default(),
            held: HashMap::new(),
            closing: Closing::default(),
            charges: Charges::default(),
        })
    }

    pub fn level(&self) -> PressureLevel {
        self.gauge.level()
    }

    pub fn refuses_upgrades(&self) -> bool {
        self.settings.reactions.refuse_upgrades && self.level() == PressureLevel::Critical
    }

    pub fn refuses_contexts(&self) -> bool {
        self.settings.reactions.refuse_contexts && self.level() >= PressureLevel::High
    }

    /// Whether connections are to be closed without waiting for anything.
    pub fn has_work(&self) -> bool {
        self.closing.has_work()
    }

    /// The loop holds so much: looks at the rest.
    fn look(&mut self, now: Instant, own_bytes: u64) -> Option<PressureChange> {
        let all_bytes = self.board.account(self.shard, own_bytes);
        self.accounted = Accounted { own_bytes, all_bytes };
        let sample = self.source.sample();
        let accounted_bytes = sample.accounted_bytes.saturating_add(all_bytes);
        let change = self.gauge.handle_sample(now, MemorySample { accounted_bytes, ..sample });
        if let Some(snapshot) = self.gauge.snapshot() {
            self.board.post(self.shard, *snapshot);
        }
        change
    }

    /// So much more may be taken in before the next look.
    fn growth_bytes_max(&self) -> usize {
        let used_bytes = self.used_bytes();
        let parts = ROOM_PARTS * self.board.loops() as u64;
        let least = self.gauge.budget_bytes() / (BUDGET_PARTS_MAX * self.board.loops() as u64);
        let bytes = (self.gauge.room_bytes(used_bytes) / parts).max(least);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.gauge.snapshot().map_or(0, |snapshot| snapshot.sample.used_bytes())
    }

    /// How long until the next look. While there is enough and nothing happens, twice as long as the
    /// last time.
    fn next_interval(&mut self, traffic: u64) -> Duration {
        let is_idle = traffic == self.traffic && self.level() == PressureLevel::Normal;
        self.traffic = traffic;
        let shortest = self.settings.sample_interval.max(TICK);
        self.interval = match is_idle {
            true => self
                .interval
                .saturating_mul(2)
                .clamp(shortest, self.settings.idle_interval.max(shortest)),
            false => shortest,
        };
        self.interval
    }
}

/// The shortest interval: the wheel's.
const TICK: Duration = Duration::from_millis(1);

impl<D> Loop<'_, D> {
    /// The latest look at memory; `None` before the first, and if the loop does not look.
    pub fn pressure(&self) -> Option<&PressureSnapshot> {
        self.shared.watch.as_ref()?.gauge.snapshot()
    }

    /// The latest looks at memory, the oldest first, with what was done and what came of it.
    pub fn pressure_history(&self) -> impl Iterator<Item = &PressureRecord> {
        self.shared.watch.iter().flat_map(|watch| watch.gauge.history())
    }

    /// What the connections held when all were weighed last, which is done from `High` on; empty
    /// before that.
    pub fn pressure_charges(&self) -> Option<&Charges> {
        Some(&self.shared.watch.as_ref()?.charges)
    }

    /// What is done about pressure; `None` if the loop does not look.
    pub(crate) fn pressure_reactions(&self) -> Option<PressureReactions> {
        Some(self.shared.watch.as_ref()?.settings.reactions)
    }
}

impl<N: Net, H: Handler> Reactor<N, H> {
    /// The latest look at memory; `None` before the first, and if the loop does not look.
    pub fn pressure(&self) -> Option<&PressureSnapshot> {
        self.shared.watch.as_ref()?.gauge.snapshot()
    }

    /// As [`Loop::pressure_history`].
    pub fn pressure_history(&self) -> impl Iterator<Item = &PressureRecord> {
        self.shared.watch.iter().flat_map(|watch| watch.gauge.history())
    }

    /// The first look, in the first turn.
    pub(in crate::reactor) fn start_watching(&mut self) {
        if self.shared.watch.is_some() {
            self.look_again_later();
            self.look_at_memory();
        }
    }

    /// The time for a look has come.
    pub(in crate::reactor) fn handle_look(&mut self) {
        self.look_at_memory();
        self.look_again_later();
    }

    fn look_again_later(&mut self) {
        let counters = &self.shared.counters;
        let traffic = counters.bytes_received + counters.bytes_sent + counters.accepted;
        let Some(watch) = &mut self.shared.watch else { return };
        let deadline = self.shared.now + watch.next_interval(traffic);
        self.shared.wheel.insert(deadline, Timer::Memory);
    }

    /// Looks at memory if much was taken in since the last time.
    #[inline]
    pub(in crate::reactor) fn note_growth(&mut self) {
        if self.growth_mark_bytes < usize::MAX && self.growing_bytes() > self.growth_mark_bytes {
            self.look_at_memory();
        }
    }

    /// The same behind a turn that has published.
    pub(in crate::reactor) fn note_published_growth(&mut self) {
        let queued_bytes = self.shared.pools.outbox.pinned_bytes();
        if self.shared.watch.as_ref().is_some_and(|watch| queued_bytes > watch.queued_mark_bytes) {
            self.look_at_memory();
        }
    }

    /// What can grow by much in one turn. Where it stands at a look, and how much it may grow until
    /// the next, makes the mark.
    #[inline]
    fn growing_bytes(&self) -> usize {
        self.receive_pools.growing_bytes()
            + self.shared.pools.growing_bytes()
            + self.net.pinned_bytes()
    }

    #[cold]
    #[inline(never)]
    fn look_at_memory(&mut self) {
        let own_bytes = self.accounted_bytes() as u64;
        let Some(watch) = &mut self.shared.watch else { return };
        self.shared.counters.memory_samples += 1;
        if let Some(change) = watch.look(self.shared.now, own_bytes) {
            self.shared.counters.pressure_changes += 1;
            self.call_loop(|handler, at| handler.on_pressure(at, &change));
        }
        self.relieve();
        let (growing_bytes, queued_bytes) =
            (self.growing_bytes(), self.shared.pools.outbox.pinned_bytes());
        if let Some(watch) = &mut self.shared.watch {
            let growth_bytes = watch.growth_bytes_max();
            self.growth_mark_bytes = growing_bytes.saturating_add(growth_bytes);
            watch.queued_mark_bytes = queued_bytes.saturating_add(growth_bytes);
        }
    }
}
