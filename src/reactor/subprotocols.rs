//! The subprotocols that connections have agreed on. Most agree on none, so no slot has a place for
//! one.

use std::collections::BTreeMap;

/// By the index of a slot.
#[derive(Debug, Default)]
pub(super) struct Subprotocols {
    names: BTreeMap<u32, Box<str>>,
    name_bytes: usize,
}

/// An entry of the map, whose nodes are half full where indices rise.
const ENTRY_BYTES: usize = size_of::<(u32, Box<str>)>() * 2;

impl Subprotocols {
    pub fn insert(&mut self, index: u32, name: Box<str>) {
        self.remove(index);
        self.name_bytes += name.len();
        self.names.insert(index, name);
    }

    pub fn get(&self, index: u32) -> Option<&str> {
        self.names.get(&index).map(|name| &**name)
    }

    pub fn remove(&mut self, index: u32) {
        if let Some(name) = self.names.remove(&index) {
            self.name_bytes -= name.len();
        }
    }

    /// The memory of all.
    pub fn pinned_bytes(&self) -> usize {
        self.names.len() * ENTRY_BYTES + self.name_bytes
    }

    /// Of this, what one takes.
    pub fn bytes_of(&self, index: u32) -> usize {
        self.get(index).map_or(0, |name| ENTRY_BYTES + name.len())
    }
}
