//! What one segment of an outbox holds.

use bytes::{Buf, Bytes};

use super::ring::Ring;

/// The bytes of one segment: at least one of them is unwritten.
#[derive(Debug)]
pub enum Data {
    /// Copies, to which more is appended as long as there is room.
    Ring(Ring),
    /// What is queued by reference.
    Shared(Bytes),
    /// The header in front of a shared payload: a ring for it alone would pin kilobytes.
    Header {
        /// The header from its first byte on.
        bytes: [u8; HEADER_BYTES_MAX],
        /// How many bytes were written.
        start: u8,
        /// How many bytes the header has.
        end: u8,
    },
}

impl Data {
    /// A copy of a header.
    ///
    /// # Panics
    /// If it is longer than [`HEADER_BYTES_MAX`].
    pub fn header(header: &[u8]) -> Self {
        let mut bytes = [0; HEADER_BYTES_MAX];
        bytes[..header.len()].copy_from_slice(header);
        Self::Header { bytes, start: 0, end: header.len() as u8 }
    }

    /// The unwritten bytes. The second piece is empty unless a ring wraps around.
    #[inline]
    pub fn as_slices(&self) -> (&[u8], &[u8]) {
        match self {
            Self::Ring(ring) => ring.as_slices(),
            Self::Shared(bytes) => (bytes, &[]),
            Self::Header { bytes, start, end } => (&bytes[*start as usize..*end as usize], &[]),
        }
    }

    /// How many bytes are unwritten.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Self::Ring(ring) => ring.len(),
            Self::Shared(bytes) => bytes.len(),
            Self::Header { start, end, .. } => (end - start) as usize,
        }
    }

    /// Memory that is held besides the segment itself.
    pub fn pinned_bytes(&self) -> usize {
        match self {
            Self::Ring(ring) => ring.capacity(),
            Self::Shared(bytes) => bytes.len(),
            Self::Header { .. } => 0,
        }
    }

    /// Gives up the `count` oldest bytes, fewer than there are.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        match self {
            Self::Ring(ring) => ring.consume(count),
            Self::Shared(bytes) => bytes.advance(count),
            Self::Header { start, .. } => *start += count as u8,
        }
    }
}

/// RFC 6455 §5.2: two bytes, eight of extended payload length, four of masking key.
pub const HEADER_BYTES_MAX: usize = 14;
