//! Slots addressed by index and generation.

/// Names one value of a [`Table`], for ever: no other value of the table gets the same key.
#[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Key {
    /// The slot; below the table's `count_max`.
    pub index: u32,
    /// Which of the slot's successive values is meant; at least 1.
    pub generation: u32,
}

/// Values in slots that are reused, each reachable by its [`Key`] for as long as it is in the
/// table.
///
/// A key whose value was removed is a miss for ever: a slot's generation rises with each removal,
/// and a slot that has used up its generations is not used again. A slot costs eight bytes beside
/// its value at most. The memory grows by doubling; what has never held a value was never written,
/// so it is not resident.
#[derive(Debug)]
pub struct Table<T> {
    slots: Vec<Slot<T>>,
    count_max: u32,
    /// How many slots are occupied.
    len: u32,
    /// The slot that became free last, or `NONE`. It is used next, since it is still in the cache.
    free: u32,
    /// The generation of a slot's first value.
    generation_first: u32,
}

#[derive(Debug)]
enum Slot<T> {
    Occupied {
        generation: u32,
        value: T,
    },
    /// `generation` is that of the value to come; `next` leads to the next free slot.
    Vacant {
        generation: u32,
        next: u32,
    },
}

impl<T> Table<T> {
    /// Makes an empty table of at most `count_max` values, with places for `reserved` of them; what
    /// is not touched is not resident.
    pub fn new(count_max: u32, reserved: usize) -> Self {
        // An index is below `count_max`, so it is never `NONE`.
        let slots = Vec::with_capacity(reserved.min(count_max as usize));
        Self { slots, count_max, len: 0, free: NONE, generation_first: GENERATION_FIRST }
    }

    /// The key that the next insertion gives; `None` when the table is full.
    #[inline]
    pub fn vacant_key(&self) -> Option<Key> {
        match self.slots.get(self.free as usize) {
            Some(Slot::Vacant { generation, .. }) => {
                Some(Key { index: self.free, generation: *generation })
            }
            Some(Slot::Occupied { .. }) => None,
            None if self.slots.len() < self.count_max as usize => {
                Some(Key { index: self.slots.len() as u32, generation: self.generation_first })
            }
            None => None,
        }
    }

    /// Puts `value` into a free slot.
    ///
    /// # Errors
    /// Gives the value back when the table is full.
    #[inline]
    pub fn insert(&mut self, value: T) -> Result<Key, T> {
        let Some(key) = self.vacant_key() else { return Err(value) };
        let occupied = Slot::Occupied { generation: key.generation, value };
        match self.slots.get_mut(key.index as usize) {
            Some(slot) => {
                if let Slot::Vacant { next, .. } = std::mem::replace(slot, occupied) {
                    self.free = next;
                }
            }
            None => self.slots.push(occupied),
        }
        self.len += 1;
        Ok(key)
    }

    /// The value of this key.
    #[inline]
    pub fn get(&self, key: Key) -> Option<&T> {
        match self.slots.get(key.index as usize) {
            Some(Slot::Occupied { generation, value }) if *generation == key.generation => {
                Some(value)
            }
            _ => None,
        }
    }

    /// The value of this key, to be changed.
    #[inline]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.slots.get_mut(key.index as usize) {
            Some(Slot::Occupied { generation, value }) if *generation == key.generation => {
                Some(value)
            }
            _ => None,
        }
    }

    /// Whether the value of this key is in the table.
    #[inline]
    pub fn contains(&self, key: Key) -> bool {
        self.get(key).is_some()
    }

    /// The key of the value in this slot.
    #[inline]
    pub fn key_at(&self, index: u32) -> Option<Key> {
        match self.slots.get(index as usize) {
            Some(Slot::Occupied { generation, .. }) => Some(Key { index, generation: *generation }),
            _ => None,
        }
    }

    /// Takes the value of this key out; the key is a miss from now on.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        if !self.contains(key) {
            return None;
        }
        let slot = self.slots.get_mut(key.index as usize)?;
        let next = self.free;
        // The last generation is never given out, so the slot ends with it, outside the free list.
        let generation = key.generation + 1;
        let vacant = if generation == u32::MAX {
            Slot::Vacant { generation, next: NONE }
        } else {
            self.free = key.index;
            Slot::Vacant { generation, next }
        };
        self.len -= 1;
        match std::mem::replace(slot, vacant) {
            Slot::Occupied { value, .. } => Some(value),
            Slot::Vacant { .. } => None,
        }
    }

    /// Frees the memory of a table without values. Keys that it gave stay misses: slots begin anew
    /// with the highest generation that one of them had reached. Once half of the generations are
    /// used up nothing is freed any more, so that each slot keeps the other half for itself.
    pub fn free_if_empty(&mut self) {
        if !self.is_empty() {
            return;
        }
        let generations = self.slots.iter().map(|slot| match slot {
            Slot::Occupied { generation, .. } | Slot::Vacant { generation, .. } => *generation,
        });
        let highest = generations.fold(self.generation_first, u32::max);
        if highest <= u32::MAX / 2 {
            self.slots = Vec::new();
            self.free = NONE;
            self.generation_first = highest;
        }
    }

    /// How many values are in the table.
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether no value is in the table.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The keys of all values, by rising index. Visits every slot that was ever used.
    pub fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        (0..self.slots.len() as u32).filter_map(|index| self.key_at(index))
    }

    /// Memory of one slot.
    #[cfg(feature = "net")]
    pub const fn entry_bytes(&self) -> usize {
        size_of::<Slot<T>>()
    }

    /// Memory of the slots that were ever used; what is only reserved is not resident.
    pub fn pinned_bytes(&self) -> usize {
        self.slots.len() * size_of::<Slot<T>>()
    }
}

/// A zeroed key never names a value.
const GENERATION_FIRST: u32 = 1;

/// The index of no slot.
const NONE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::rc::Rc;

    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    const COUNT_MAX: usize = 6;

    #[derive(Clone, Debug)]
    enum Operation {
        Insert(u64),
        Remove(Index),
        Write(Index, u64),
        FreeIfEmpty,
    }

    fn operation() -> impl Strategy<Value = Operation> {
        prop_oneof![
            any::<u64>().prop_map(Operation::Insert),
            any::<Index>().prop_map(Operation::Remove),
            (any::<Index>(), any::<u64>()).prop_map(|(key, value)| Operation::Write(key, value)),
            Just(Operation::FreeIfEmpty),
        ]
    }

    proptest! {
        #[test]
        fn table_equals_an_ordered_map_of_all_keys_ever_given(
            operations in prop::collection::vec(operation(), 0..200),
        ) {
            let mut table = Table::new(COUNT_MAX as u32, 0);
            let mut model: BTreeMap<(u32, u32), u64> = BTreeMap::new();
            let mut given: Vec<Key> = Vec::new();
            for operation in operations {
                match operation {
                    Operation::Insert(value) => {
                        let vacant = table.vacant_key();
                        let inserted = table.insert(value);
                        prop_assert_eq!(inserted.ok(), vacant);
                        prop_assert_eq!(inserted.is_ok(), model.len() < COUNT_MAX);
                        if let Ok(key) = inserted {
                            prop_assert!(!given.contains(&key));
                            prop_assert!((key.index as usize) < COUNT_MAX);
                            given.push(key);
                            model.insert((key.index, key.generation), value);
                        }
                    }
                    Operation::Remove(index) if !given.is_empty() => {
                        let key = *index.get(&given);
                        let expected = model.remove(&(key.index, key.generation));
                        prop_assert_eq!(table.remove(key), expected);
                    }
                    Operation::Write(index, value) if !given.is_empty() => {
                        let key = *index.get(&given);
                        let held = model.get_mut(&(key.index, key.generation));
                        if let Some(held) = held {
                            *held = value;
                        }
                        table.get_mut(key).into_iter().for_each(|held| *held = value);
                    }
                    Operation::FreeIfEmpty => {
                        table.free_if_empty();
                        prop_assert!(!model.is_empty() || table.pinned_bytes() == 0);
                    }
                    Operation::Remove(_) | Operation::Write(..) => {}
                }
                for key in &given {
                    let expected = model.get(&(key.index, key.generation));
                    prop_assert_eq!(table.get(*key), expected);
                    prop_assert_eq!(table.contains(*key), expected.is_some());
                }
                for index in 0..=COUNT_MAX as u32 {
                    let held = model.range((index, 0)..=(index, u32::MAX)).next();
                    let key = held.map(|((index, generation), _)| (*index, *generation));
                    prop_assert_eq!(table.key_at(index).map(|k| (k.index, k.generation)), key);
                }
                let keys: Vec<_> = table.keys().map(|key| (key.index, key.generation)).collect();
                prop_assert!(keys.iter().eq(model.keys()));
                prop_assert_eq!(table.len(), model.len());
                prop_assert_eq!(table.is_empty(), model.is_empty());
            }
        }
    }

    #[test]
    fn a_slot_costs_eight_bytes_beside_its_value() {
        assert_eq!(size_of::<Key>(), 8);
        assert_eq!(size_of::<Slot<[u64; 9]>>(), 80);
        assert_eq!(size_of::<Slot<u32>>(), 12);
        assert!(size_of::<Slot<Box<u64>>>() <= 16);
    }

    #[test]
    fn a_full_table_gives_the_value_back() {
        let mut table = Table::new(1, 0);
        let key = table.insert("first").unwrap();
        assert_eq!(table.vacant_key(), None);
        assert_eq!(table.insert("second"), Err("second"));
        table.remove(key).unwrap();
        assert_eq!(table.insert("third"), Ok(Key { index: 0, generation: 2 }));
        assert_eq!(Table::new(0, 0).insert(1), Err(1));
    }

    #[test]
    fn a_slot_that_has_used_up_its_generations_is_retired() {
        let mut table = Table::new(2, 0);
        let key = table.insert('a').unwrap();
        let other = table.insert('b').unwrap();
        table.slots[0] = Slot::Occupied { generation: u32::MAX - 1, value: 'z' };
        let last = Key { index: key.index, generation: u32::MAX - 1 };
        assert_eq!(table.remove(last), Some('z'));
        assert_eq!(table.vacant_key(), None);
        assert_eq!(table.insert('c'), Err('c'));
        assert_eq!(table.remove(other), Some('b'));
        assert_eq!(table.insert('d'), Ok(Key { index: 1, generation: 2 }));
        assert!(!table.contains(last));
        assert!(!table.contains(Key { index: 0, generation: u32::MAX }));
    }

    #[test]
    fn what_has_used_up_half_of_its_generations_is_not_freed() {
        let mut table = Table::new(2, 0);
        table.insert('a').unwrap();
        for (generation, is_freed) in [(u32::MAX / 2 - 1, true), (u32::MAX / 2, false)] {
            table.slots = vec![Slot::Occupied { generation, value: 'z' }];
            table.remove(Key { index: 0, generation }).unwrap();
            table.free_if_empty();
            assert_eq!(table.pinned_bytes() == 0, is_freed);
            let key = table.insert('b').unwrap();
            assert_eq!(key, Key { index: 0, generation: generation + 1 });
        }
    }

    #[test]
    fn values_are_dropped_exactly_once() {
        let value = Rc::new(());
        let mut table = Table::new(8, 0);
        let keys: Vec<_> = (0..8).map(|_| table.insert(Rc::clone(&value)).unwrap()).collect();
        assert_eq!(Rc::strong_count(&value), 9);
        keys[..4].iter().for_each(|key| drop(table.remove(*key)));
        assert_eq!(Rc::strong_count(&value), 5);
        table.insert(Rc::clone(&value)).unwrap();
        drop(table);
        assert_eq!(Rc::strong_count(&value), 1);
    }
}
