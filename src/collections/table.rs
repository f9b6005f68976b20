//! Slots addressed by index and generation.

/// Names one value of a [`Table`], for ever: no other value of the table gets the same key.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Key {
    /// The slot; below the table's `count_max`.
    pub index: u32,
    /// Which of the slot's successive values is meant; at least 1.
    pub generation: u32,
}

/// Values in slots that are reused, each reachable by its [`Key`] for as long as it is in the table.
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
    /// Makes an empty table of at most `count_max` values, which owns no memory yet.
    pub fn new(count_max: u32) -> Self {
        // The index `NONE` ends the list of free slots.
        Self { slots: Vec::new(), count_max: count_max.min(NONE), len: 0, free: NONE }
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
                Some(Key { index: self.slots.len() as u32, generation: GENERATION_FIRST })
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

    /// The value in this slot, of whatever generation: for those who checked the key before.
    #[inline]
    pub fn at(&self, index: u32) -> Option<&T> {
        match self.slots.get(index as usize) {
            Some(Slot::Occupied { value, .. }) => Some(value),
            _ => None,
        }
    }

    /// The value in this slot, of whatever generation, to be changed.
    #[inline]
    pub fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        match self.slots.get_mut(index as usize) {
            Some(Slot::Occupied { value, .. }) => Some(value),
            _ => None,
        }
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

    /// Memory held by the slots, used and unused.
    pub fn pinned_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot<T>>()
    }
}

/// A zeroed key never names a value.
const GENERATION_FIRST: u32 = 1;

/// The index of no slot.
const NONE: u32 = u32::MAX;
