//! What one segment of an outbox holds.

use bytes::{Buf, Bytes};

use super::frames::{FrameRange, Frames};
use super::outbox_pool::NONE;
use super::ring::Ring;

/// The bytes of one segment: at least one of them is unwritten.
#[derive(Debug)]
pub enum Data {
    /// Copies, to which more is appended as long as there is room.
    Ring(Ring),
    /// What is queued by reference.
    Shared(Bytes),
    /// Whole frames that other outboxes refer to as well.
    Frames {
        /// What is unwritten.
        range: FrameRange,
        /// Who may take it back.
        recall: Recall,
    },
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
    pub fn as_slices<'a>(&'a self, frames: &'a Frames) -> (&'a [u8], &'a [u8]) {
        match self {
            Self::Ring(ring) => ring.as_slices(),
            other => (other.one_piece(frames), &[]),
        }
    }

    /// The unwritten bytes of what is no ring. Out of the way of rings, which are nearly all there is.
    #[inline(never)]
    fn one_piece<'a>(&'a self, frames: &'a Frames) -> &'a [u8] {
        match self {
            Self::Ring(ring) => ring.as_slices().0,
            Self::Shared(bytes) => bytes,
            Self::Frames { range, .. } => frames.get(*range),
            Self::Header { bytes, start, end } => &bytes[*start as usize..*end as usize],
        }
    }

    /// How many bytes are unwritten.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Self::Ring(ring) => ring.len(),
            Self::Shared(bytes) => bytes.len(),
            Self::Frames { range, .. } => range.len(),
            Self::Header { start, end, .. } => (end - start) as usize,
        }
    }

    /// Memory that is held besides the segment itself.
    pub fn pinned_bytes(&self) -> usize {
        match self {
            Self::Ring(ring) => ring.capacity(),
            Self::Shared(bytes) => bytes.len(),
            Self::Frames { range, .. } => range.len(),
            Self::Header { .. } => 0,
        }
    }

    /// Gives up the `count` oldest bytes, fewer than there are.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        match self {
            Self::Ring(ring) => ring.consume(count),
            Self::Shared(bytes) => bytes.advance(count),
            Self::Frames { range, .. } => range.start += count as u32,
            Self::Header { start, .. } => *start += count as u8,
        }
    }
}

/// By what a message that waits is found again, to be taken back or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Recall {
    /// Whose outbox it waits in; `NONE` if it stays where it is.
    owner: u32,
    /// What it is about.
    subject: u64,
    /// Which of those; the smallest is the oldest.
    order: u64,
}

impl Recall {
    /// For messages that stay.
    pub const NEVER: Self = Self { owner: NONE, subject: 0, order: 0 };

    /// A message about `subject` in the outbox of `owner`, a number below `u32::MAX`. Two of one
    /// owner and subject differ in their order.
    pub const fn new(owner: u32, subject: u64, order: u64) -> Self {
        Self { owner, subject, order }
    }

    pub(super) const fn is_possible(self) -> bool {
        self.owner != NONE
    }

    /// The first and the last that one owner can have of a subject.
    pub(super) const fn all(owner: u32, subject: u64) -> (Self, Self) {
        (Self::new(owner, subject, 0), Self::new(owner, subject, u64::MAX))
    }
}

/// RFC 6455 §5.2: two bytes, eight of extended payload length, four of masking key.
pub const HEADER_BYTES_MAX: usize = 14;
