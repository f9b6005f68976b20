//! The memory of blocks and rings, from the allocator.

use std::ops::{Deref, DerefMut};

/// The zeroed bytes of a ring.
pub type RingStorage = Box<[u8]>;

/// There is memory, or the process ends.
#[expect(clippy::unnecessary_wraps, reason = "as where rings are mapped")]
pub fn ring_storage(bytes: usize) -> Option<RingStorage> {
    Some(vec![0; bytes].into_boxed_slice())
}

/// The zeroed bytes of a block, initialised once.
#[derive(Debug)]
pub struct Storage(Box<[u8]>);

impl Storage {
    pub fn zeroed(bytes: usize) -> Self {
        Self(vec![0; bytes].into_boxed_slice())
    }
}

impl Deref for Storage {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Storage {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}
