//! The memory of a block or a ring, from the allocator.

use std::ops::{Deref, DerefMut};

/// Zeroed bytes, initialised once.
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
