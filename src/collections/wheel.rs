//! A hierarchical timer wheel.
//!
//! Time is counted in ticks of a millisecond from the wheel's start, and a deadline is rounded up
//! to a whole tick: an entry never fires early, and at most one tick late. Written in base 64, a
//! tick is a number of seven digits. An entry lies in the level of the highest digit in which its
//! tick differs from the current one, in the slot of its own value of that digit:
//!
//! ```text
//! level 6  [0 .. 63]  slots of 2.2 years      now  = 0 0 0 0 3 17 60
//!   ...                                       tick = 0 0 0 0 3 20  5   -> level 1, slot 20
//! level 1  [0 .. 63]  slots of 64 ms
//! level 0  [0 .. 63]  slots of 1 ms           when now reaches  3 20 0, slot 20 of level 1 is
//! due      a list                             emptied into level 0, this entry into slot 5
//! ```
//!
//! So an entry's place follows from its tick and the current one, every occupied slot lies ahead of
//! the current digit, and whatever lies in a lower level is earlier. The next occupied slot is
//! found by one bit scan, and time jumps from one to the next: a gap of days costs no more than the
//! entries that it makes due or brings down a level.
//!
//! Source: Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", 1987, scheme 7.

use std::time::{Duration, Instant};

/// Names an entry of a [`Wheel`] from its insertion until it is cancelled or popped; afterwards the
/// same key may name another entry. So it has exactly one holder, who forgets it then.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct TimerKey(u32);

/// Entries of type `T`, each with a deadline; insertion, cancelling and re-arming take constant
/// time.
///
/// Call [`Wheel::advance`] with the current time, then [`Wheel::pop_due`] until nothing is left;
/// sleep at most until [`Wheel::next_deadline`].
#[derive(Debug)]
pub struct Wheel<T: Copy> {
    start: Instant,
    /// The current tick. Every entry of a later tick is in a slot, every other one is due.
    current: u64,
    /// When the current tick ends.
    current_ends: Instant,
    nodes: Vec<Node<T>>,
    /// The first unused node, or `NONE`.
    free: u32,
    /// How many entries there are, due ones included.
    len: u32,
    /// The first entry of each slot, or `NONE`.
    slots: Box<[[u32; SLOT_COUNT]; LEVEL_COUNT]>,
    /// One bit for each slot that has an entry.
    occupied: [u64; LEVEL_COUNT],
    due_first: u32,
    due_last: u32,
}

/// An entry in the list of its slot or in that of the due ones; or unused, in that of the free
/// ones.
#[derive(Debug)]
struct Node<T> {
    next: u32,
    previous: u32,
    /// `UNUSED` for an unused node.
    tick: u64,
    value: T,
}

/// Where an entry is linked.
#[derive(Copy, Clone)]
enum Place {
    Due,
    Slot { level: usize, slot: usize },
}

impl<T: Copy> Wheel<T> {
    /// Makes an empty wheel whose ticks are counted from `start`.
    pub fn new(start: Instant) -> Self {
        Self {
            start,
            current: 0,
            current_ends: start + TICK,
            nodes: Vec::with_capacity(NODES_RESERVED),
            free: NONE,
            len: 0,
            slots: Box::new([[NONE; SLOT_COUNT]; LEVEL_COUNT]),
            occupied: [0; LEVEL_COUNT],
            due_first: NONE,
            due_last: NONE,
        }
    }

    /// How many entries the wheel holds, due ones included.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Adds an entry. A deadline that has passed falls to the next tick, so that a handler which
    /// arms timers at once cannot keep a turn from ending; one more than 139 years after the start
    /// never fires.
    ///
    /// # Panics
    /// If there are 2^32 - 1 entries.
    pub fn insert(&mut self, deadline: Instant, value: T) -> TimerKey {
        let tick = self.tick_of_deadline(deadline);
        let node = Node { next: NONE, previous: NONE, tick, value };
        let index = self.free;
        let index = if let Some(unused) = self.nodes.get_mut(index as usize) {
            self.free = unused.next;
            *unused = node;
            index
        } else {
            assert!(self.nodes.len() < NONE as usize, "a wheel's entries have 32-bit indices");
            self.nodes.push(node);
            (self.nodes.len() - 1) as u32
        };
        self.len += 1;
        self.link(index);
        TimerKey(index)
    }

    /// Takes an entry out before it is popped.
    ///
    /// # Panics
    /// If the key names no entry.
    pub fn cancel(&mut self, key: TimerKey) -> T {
        self.assert_used(key);
        self.unlink(key.0);
        self.release(key.0)
    }

    /// Gives an entry another deadline, as if it were cancelled and inserted again; the key stays.
    /// An entry that is due already is due no longer.
    ///
    /// # Panics
    /// If the key names no entry.
    pub fn rearm(&mut self, key: TimerKey, deadline: Instant) {
        self.assert_used(key);
        let tick = self.tick_of_deadline(deadline);
        if tick != self.nodes[key.0 as usize].tick {
            self.unlink(key.0);
            self.nodes[key.0 as usize].tick = tick;
            self.link(key.0);
        }
    }

    /// When an entry becomes due: its deadline, rounded up to a tick.
    ///
    /// # Panics
    /// If the key names no entry.
    pub fn deadline(&self, key: TimerKey) -> Instant {
        self.assert_used(key);
        self.instant_of(self.nodes[key.0 as usize].tick)
    }

    /// Moves the time forward and makes every entry due whose deadline has passed. A `now` that
    /// goes backwards is ignored.
    #[inline]
    pub fn advance(&mut self, now: Instant) {
        // Most turns of a busy loop fall into the tick of the one before.
        if now >= self.current_ends {
            self.advance_ticks(now);
        }
    }

    fn advance_ticks(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.start).as_millis();
        // The last tick is never reached, so that every entry's tick can lie in the future.
        let target = u64::try_from(elapsed).unwrap_or(u64::MAX).min(TICK_LAST - 1);
        while let Some((level, slot)) = self.next_slot() {
            let tick = self.slot_tick(level, slot);
            if tick > target {
                break;
            }
            self.current = tick;
            self.empty_slot(level, slot);
        }
        self.current = target;
        self.current_ends = self.instant_of(target) + TICK;
    }

    /// Takes the next due entry out of the wheel: by rising tick, those of the same tick in no
    /// particular order. Its key names it no longer.
    pub fn pop_due(&mut self) -> Option<(TimerKey, T)> {
        let index = self.due_first;
        if index == NONE {
            return None;
        }
        self.unlink(index);
        Some((TimerKey(index), self.release(index)))
    }

    /// When [`Wheel::advance`] must be called at the latest: never after the earliest deadline, but
    /// before a distant one also whenever that moves to a finer level: twice for one in 30 s.
    /// `None` if there is nothing to wait for. If an entry is due and not yet popped, this is its
    /// deadline.
    pub fn next_deadline(&self) -> Option<Instant> {
        if let Some(due) = self.nodes.get(self.due_first as usize) {
            return Some(self.instant_of(due.tick));
        }
        let (level, slot) = self.next_slot()?;
        let tick = self.slot_tick(level, slot);
        (tick < TICK_LAST).then(|| self.instant_of(tick))
    }

    /// Memory of one entry.
    #[cfg(feature = "net")]
    pub const fn entry_bytes(&self) -> usize {
        size_of::<Node<T>>()
    }

    /// Memory held by the wheel.
    pub fn pinned_bytes(&self) -> usize {
        size_of_val(&*self.slots) + self.nodes.len() * size_of::<Node<T>>()
    }

    /// The earliest slot that has an entry. All of them lie ahead, and lower levels come first.
    fn next_slot(&self) -> Option<(usize, usize)> {
        let level = self.occupied.iter().position(|&bits| bits != 0)?;
        Some((level, self.occupied[level].trailing_zeros() as usize))
    }

    /// The first tick of a slot that lies ahead: the current one's digits above, then the slot's.
    fn slot_tick(&self, level: usize, slot: usize) -> u64 {
        let shift = level * DIGIT_BITS;
        let above = self.current >> (shift + DIGIT_BITS) << (shift + DIGIT_BITS);
        above | (slot as u64) << shift
    }

    /// Links the entries of a slot whose time has come anew: due, or in a lower level.
    fn empty_slot(&mut self, level: usize, slot: usize) {
        let mut index = std::mem::replace(&mut self.slots[level][slot], NONE);
        self.occupied[level] &= !(1 << slot);
        while let Some(node) = self.nodes.get(index as usize) {
            let next = node.next;
            self.link(index);
            index = next;
        }
    }

    fn place_of(&self, tick: u64) -> Place {
        if tick <= self.current {
            return Place::Due;
        }
        let level = (tick ^ self.current).ilog2() as usize / DIGIT_BITS;
        let slot = (tick >> (level * DIGIT_BITS)) as usize % SLOT_COUNT;
        Place::Slot { level, slot }
    }

    /// Puts a node into the list where its tick belongs: at the front of a slot, at the end of the
    /// due ones.
    fn link(&mut self, index: u32) {
        match self.place_of(self.nodes[index as usize].tick) {
            Place::Due => {
                let previous = std::mem::replace(&mut self.due_last, index);
                self.nodes[index as usize].previous = previous;
                self.nodes[index as usize].next = NONE;
                match self.nodes.get_mut(previous as usize) {
                    Some(node) => node.next = index,
                    None => self.due_first = index,
                }
            }
            Place::Slot { level, slot } => {
                let next = std::mem::replace(&mut self.slots[level][slot], index);
                self.occupied[level] |= 1 << slot;
                self.nodes[index as usize].previous = NONE;
                self.nodes[index as usize].next = next;
                if let Some(node) = self.nodes.get_mut(next as usize) {
                    node.previous = index;
                }
            }
        }
    }

    fn unlink(&mut self, index: u32) {
        let Node { next, previous, tick, .. } = self.nodes[index as usize];
        let place = self.place_of(tick);
        match self.nodes.get_mut(previous as usize) {
            Some(node) => node.next = next,
            None => match place {
                Place::Due => self.due_first = next,
                Place::Slot { level, slot } => {
                    self.slots[level][slot] = next;
                    if next == NONE {
                        self.occupied[level] &= !(1 << slot);
                    }
                }
            },
        }
        match self.nodes.get_mut(next as usize) {
            Some(node) => node.previous = previous,
            None if matches!(place, Place::Due) => self.due_last = previous,
            None => {}
        }
    }

    /// Puts a node that is in no list among the unused ones.
    fn release(&mut self, index: u32) -> T {
        let node = &mut self.nodes[index as usize];
        node.tick = UNUSED;
        node.next = std::mem::replace(&mut self.free, index);
        self.len -= 1;
        node.value
    }

    fn assert_used(&self, key: TimerKey) {
        let used = self.nodes.get(key.0 as usize).is_some_and(|node| node.tick != UNUSED);
        assert!(used, "a timer key names an entry until that is cancelled or popped");
    }

    fn tick_of_deadline(&self, deadline: Instant) -> u64 {
        let since = deadline.saturating_duration_since(self.start);
        let rest = u64::from(since.subsec_nanos().div_ceil(TICK_NANOS));
        let tick = since.as_secs().saturating_mul(TICKS_PER_SECOND).saturating_add(rest);
        tick.clamp(self.current + 1, TICK_LAST)
    }

    fn instant_of(&self, tick: u64) -> Instant {
        self.start + Duration::from_millis(tick)
    }
}

const TICK: Duration = Duration::from_millis(1);
const TICK_NANOS: u32 = 1_000_000;
const TICKS_PER_SECOND: u64 = 1_000;

/// Six bits of the tick to each level: the occupied slots of a level are one machine word.
const DIGIT_BITS: usize = 6;
const SLOT_COUNT: usize = 1 << DIGIT_BITS;

/// 64^7 ticks are 139 years. More would only make the sum of start and tick overflow sooner.
const LEVEL_COUNT: usize = 7;

/// Stands for "never".
const TICK_LAST: u64 = (1 << (DIGIT_BITS * LEVEL_COUNT)) - 1;

const UNUSED: u64 = u64::MAX;

/// The index of no node.
const NONE: u32 = u32::MAX;

/// Nodes reserved from the start: what is not touched is not resident, and a table so large grows
/// by moving pages instead of copying.
const NODES_RESERVED: usize = 8192;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    const MICROS_PER_TICK: u64 = 1_000;

    #[derive(Clone, Debug)]
    enum Operation {
        Insert { after_micros: i64 },
        Cancel(Index),
        Rearm { which: Index, after_micros: i64 },
        Advance { by_micros: i64 },
        AdvanceToDeadline,
        PopOne,
    }

    /// Spans of every order of magnitude, from within a tick to beyond the last one.
    fn micros() -> impl Strategy<Value = i64> {
        prop_oneof![
            -5_000_i64..5_000,
            0..300_000_i64,
            0..60_000_000_i64,
            (0_u32..55).prop_flat_map(|bits| 0..1_i64 << bits),
        ]
    }

    fn operation() -> impl Strategy<Value = Operation> {
        prop_oneof![
            4 => micros().prop_map(|after_micros| Operation::Insert { after_micros }),
            2 => any::<Index>().prop_map(Operation::Cancel),
            2 => (any::<Index>(), micros())
                .prop_map(|(which, after_micros)| Operation::Rearm { which, after_micros }),
            2 => micros().prop_map(|by_micros| Operation::Advance { by_micros }),
            2 => Just(Operation::AdvanceToDeadline),
            1 => Just(Operation::PopOne),
        ]
    }

    /// The naive wheel: a sorted map from tick and number to the key.
    struct Model {
        start: Instant,
        /// The latest time that the wheel was told; may stand within a tick.
        now: u64,
        entries: BTreeMap<(u64, u32), TimerKey>,
        inserted: u32,
    }

    impl Model {
        fn instant(&self, micros: u64) -> Instant {
            self.start + Duration::from_micros(micros)
        }

        fn after(&self, micros: i64) -> u64 {
            self.now.saturating_add_signed(micros)
        }

        fn tick(&self, micros: u64) -> u64 {
            let current = (self.now / MICROS_PER_TICK).min(TICK_LAST - 1);
            micros.div_ceil(MICROS_PER_TICK).clamp(current + 1, TICK_LAST)
        }

        fn nth(&self, index: Index) -> Option<((u64, u32), TimerKey)> {
            let count = self.entries.len();
            let (at, key) = self.entries.iter().nth(index.index(count.max(1)))?;
            Some((*at, *key))
        }
    }

    fn pop_checked(wheel: &mut Wheel<u32>, model: &mut Model) -> Option<u64> {
        let (key, number) = wheel.pop_due()?;
        let (earliest, _) = *model.entries.first_key_value().unwrap().0;
        assert!(earliest * MICROS_PER_TICK <= model.now, "fired early");
        assert_eq!(model.entries.remove(&(earliest, number)), Some(key), "out of order");
        Some(earliest)
    }

    fn check(wheel: &Wheel<u32>, model: &Model) {
        assert_eq!(wheel.len(), model.entries.len());
        for ((tick, _), key) in &model.entries {
            assert_eq!(wheel.deadline(*key), model.instant(tick * MICROS_PER_TICK));
        }
        let earliest = model.entries.first_key_value().map(|((tick, _), _)| *tick);
        match (wheel.next_deadline(), earliest) {
            (None, None | Some(TICK_LAST)) => {}
            (Some(next), Some(tick)) => {
                assert!(next <= model.instant(tick * MICROS_PER_TICK), "would be late");
            }
            (next, earliest) => panic!("next {next:?}, earliest {earliest:?}"),
        }
    }

    proptest! {
        #[test]
        fn wheel_equals_a_sorted_map(operations in prop::collection::vec(operation(), 0..150)) {
            let start = Instant::now();
            let mut wheel = Wheel::new(start);
            let mut model = Model { start, now: 0, entries: BTreeMap::new(), inserted: 0 };
            for operation in operations {
                match operation {
                    Operation::Insert { after_micros } => {
                        let at = model.after(after_micros);
                        let number = model.inserted;
                        model.inserted += 1;
                        let key = wheel.insert(model.instant(at), number);
                        model.entries.insert((model.tick(at), number), key);
                    }
                    Operation::Cancel(index) => {
                        if let Some((at, key)) = model.nth(index) {
                            prop_assert_eq!(wheel.cancel(key), at.1);
                            model.entries.remove(&at);
                        }
                    }
                    Operation::Rearm { which, after_micros } => {
                        if let Some((at, key)) = model.nth(which) {
                            let deadline = model.after(after_micros);
                            wheel.rearm(key, model.instant(deadline));
                            model.entries.remove(&at);
                            model.entries.insert((model.tick(deadline), at.1), key);
                        }
                    }
                    Operation::Advance { by_micros } => {
                        let now = model.after(by_micros);
                        wheel.advance(model.instant(now));
                        model.now = model.now.max(now);
                        while pop_checked(&mut wheel, &mut model).is_some() {}
                        if let Some(((tick, _), _)) = model.entries.first_key_value() {
                            let waits = tick * MICROS_PER_TICK > model.now;
                            prop_assert!(waits || *tick == TICK_LAST, "is late");
                        }
                    }
                    Operation::AdvanceToDeadline => {
                        if let Some(next) = wheel.next_deadline() {
                            wheel.advance(next);
                            let micros = next.duration_since(start).as_micros() as u64;
                            model.now = model.now.max(micros);
                            let later = wheel.next_deadline();
                            let due = wheel.due_first != NONE;
                            prop_assert!(due || later != Some(next), "no progress");
                        }
                    }
                    Operation::PopOne => {
                        pop_checked(&mut wheel, &mut model);
                    }
                }
                check(&wheel, &model);
            }
        }
    }

    #[test]
    fn a_node_is_twenty_four_bytes() {
        assert_eq!(size_of::<Node<u64>>(), 24);
        assert_eq!(size_of::<Option<TimerKey>>(), 8);
    }

    #[test]
    fn an_entry_is_never_early_and_at_most_a_tick_late() {
        let start = Instant::now();
        for micros in [1, 999, 1_000, 1_001, 63_999, 64_000, 64_001, 4_096_000, 30_000_001] {
            let deadline = start + Duration::from_micros(micros);
            let mut wheel = Wheel::new(start);
            wheel.insert(deadline, ());
            wheel.advance(deadline - Duration::from_nanos(1));
            assert!(wheel.pop_due().is_none());
            wheel.advance(deadline + Duration::from_millis(1));
            assert!(wheel.pop_due().is_some());
        }
    }

    #[test]
    fn a_jump_over_a_century_costs_no_more_than_its_entries() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        for bits in 0..42 {
            wheel.insert(start + Duration::from_millis(1 << bits), bits);
        }
        wheel.advance(start + Duration::from_secs(138 * 365 * 86_400));
        for bits in 0..42 {
            assert_eq!(wheel.pop_due().map(|(_, value)| value), Some(bits));
        }
        assert_eq!(wheel.len(), 0);
    }

    #[test]
    fn a_deadline_beyond_the_last_tick_never_fires_and_is_not_waited_for() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        let far = start + Duration::from_secs(1 << 40);
        let key = wheel.insert(far, ());
        let mut wakeups = 0;
        while let Some(next) = wheel.next_deadline() {
            wheel.advance(next);
            wakeups += 1;
        }
        assert!(wakeups <= LEVEL_COUNT);
        wheel.advance(far);
        assert!(wheel.pop_due().is_none());
        wheel.cancel(key);
    }

    #[test]
    fn time_that_goes_backwards_is_ignored() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start + Duration::from_secs(1));
        wheel.insert(start + Duration::from_secs(2), ());
        wheel.advance(start);
        wheel.advance(start + Duration::from_secs(3));
        wheel.advance(start + Duration::from_secs(1));
        assert!(wheel.pop_due().is_some());
    }

    #[test]
    fn a_passed_deadline_waits_for_the_next_tick() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        wheel.advance(start + Duration::from_secs(1));
        wheel.insert(start, ());
        assert!(wheel.pop_due().is_none());
        assert_eq!(wheel.next_deadline(), Some(start + Duration::from_millis(1_001)));
    }

    #[test]
    fn nodes_are_reused() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        for round in 1..100 {
            let deadline = start + Duration::from_millis(round * 10);
            let key = wheel.insert(deadline, round);
            wheel.insert(deadline, round);
            wheel.cancel(key);
            wheel.advance(deadline);
            assert_eq!(wheel.pop_due().map(|(_, value)| value), Some(round));
        }
        assert_eq!(wheel.nodes.len(), 2);
    }

    #[test]
    #[should_panic(expected = "names an entry until")]
    fn cancelling_what_was_popped_panics() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        let key = wheel.insert(start, ());
        wheel.advance(start + Duration::from_secs(1));
        wheel.pop_due().unwrap();
        wheel.cancel(key);
    }
}
