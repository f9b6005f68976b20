//! The memory of blocks and rings: all but small blocks are mapped, so that the system has them back
//! when they go.
//!
//! An allocator keeps what is freed when something stands behind it that still lives, or is kept for
//! the next of its size: after a flood a process that held nothing had as much resident as at its
//! peak.

use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

/// The zeroed bytes of a ring. Always mapped: a choice would have to be made anew with each message
/// that is queued. What is smaller than a page takes one.
pub type RingStorage = MmapMut;

/// `None` where the system has no more memory, or mappings.
pub fn ring_storage(bytes: usize) -> Option<RingStorage> {
    MmapMut::map_anon(bytes).ok()
}

/// The zeroed bytes of a block, initialised once.
#[derive(Debug)]
pub enum Storage {
    Heap(Box<[u8]>),
    Mapped(MmapMut),
}

/// From so many bytes on it is mapped: four pages, so that what mapping costs is little beside what is
/// written there. The pools keep blocks and rings for the next message, so it is paid seldom.
const MAPPED_BYTES_MIN: usize = 16 << 10;

impl Storage {
    pub fn zeroed(bytes: usize) -> Self {
        // There may be no more mappings where there is still memory.
        let mapped = (bytes >= MAPPED_BYTES_MIN).then(|| MmapMut::map_anon(bytes).ok()).flatten();
        match mapped {
            Some(mapped) => Self::Mapped(mapped),
            None => Self::Heap(vec![0; bytes].into_boxed_slice()),
        }
    }
}

impl Deref for Storage {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Mapped(bytes) => bytes,
        }
    }
}

impl DerefMut for Storage {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Mapped(bytes) => bytes,
        }
    }
}
