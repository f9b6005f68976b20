//! The clients or the pools of one loop, by names that no other loop has.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::collections::{Key, Table};

/// What somebody in a [`Roll`] is known by. Whose name stands in no roll, or in that of another
/// loop, is a miss.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Name {
    roll: u32,
    key: Key,
}

/// Values by names.
#[derive(Debug)]
pub(super) struct Roll<T> {
    /// Of the process: names are given before the loop is known that the roll goes to, and loops
    /// that were not made together may all be the first.
    number: u32,
    table: Table<T>,
}

impl Name {
    /// The place of whom it is; no other has it meanwhile.
    pub(super) const fn index(self) -> u32 {
        self.key.index
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.key.index, self.key.generation)
    }
}

impl<T> Roll<T> {
    pub(super) fn new() -> Self {
        static ROLLS: AtomicU32 = AtomicU32::new(0);
        // After four billion loops numbers come again, when their first bearers are long gone.
        let number = ROLLS.fetch_add(1, Ordering::Relaxed);
        Self { number, table: Table::new(u32::MAX - 1, 0) }
    }

    /// # Errors
    /// Gives the value back when four billion are there.
    pub(super) fn insert(&mut self, value: T) -> Result<Name, T> {
        self.table.insert(value).map(|key| self.name(key))
    }

    pub(super) fn get(&self, name: Name) -> Option<&T> {
        self.table.get(self.key(name)?)
    }

    pub(super) fn get_mut(&mut self, name: Name) -> Option<&mut T> {
        self.table.get_mut(self.key(name)?)
    }

    pub(super) fn remove(&mut self, name: Name) -> Option<T> {
        self.table.remove(self.key(name)?)
    }

    /// Who has this place.
    pub(super) fn name_at(&self, index: u32) -> Option<Name> {
        self.table.key_at(index).map(|key| self.name(key))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = Name> + '_ {
        self.table.keys().map(|key| self.name(key))
    }

    const fn name(&self, key: Key) -> Name {
        Name { roll: self.number, key }
    }

    fn key(&self, name: Name) -> Option<Key> {
        (name.roll == self.number).then_some(name.key)
    }
}
