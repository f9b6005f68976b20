//! What one segment of an outbox holds.

use std::num::NonZeroU64;

use bytes::{Buf, Bytes};

use super::frames::{FrameRange, Frames};
use super::index::NONE;
use super::ring::Ring;

/// The bytes of one segment: at least one of them is unwritten.
///
/// With a tag of its own, of which a ring's is 0: each short push asks whether the last one is a
/// ring, and that takes more where the compiler hides the tag in what the variants hold.
#[derive(Debug)]
#[repr(u8)]
pub enum Data {
    /// Copies, to which more is appended as long as there is room.
    Ring(Ring),
    /// What is queued by reference.
    Shared(Bytes),
    /// Whole frames that other outboxes refer to as well.
    Frames {
        /// What is unwritten.
        range: FrameRange,
        /// Who may change that.
        recallable: Recallable,
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

/// Who may change frames that wait, as long as nothing of them is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recallable {
    /// They stay as they are.
    Never,
    /// Who knows their number; none is given twice.
    ByNumber(NonZeroU64),
    /// They can be taken back once they are the oldest about their subject.
    InTurn {
        owner: u32,
        subject: u64,
        /// The segment of the next one about the same; that of the oldest for the newest.
        newer: u32,
    },
    /// They can be replaced, and no others wait by the same.
    ByKey { owner: u32, subject: u64, key: u64 },
}

impl Recallable {
    /// What they are found by.
    pub const fn recall(self) -> Option<Recall> {
        match self {
            Self::Never | Self::ByNumber(_) => None,
            Self::InTurn { owner, subject, .. } => Some(Recall::in_turn(owner, subject)),
            Self::ByKey { owner, subject, key } => Some(Recall::by_key(owner, subject, key)),
        }
    }
}

/// By what messages that wait are found again, to be taken back or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Recall {
    /// Whose outbox they wait in.
    owner: u32,
    /// What they are about.
    subject: u64,
    /// Which one of those; `None` for those of which the oldest goes first.
    key: Option<u64>,
}

impl Recall {
    /// Messages about `subject` in the outbox of `owner`, of which the oldest is taken back first.
    pub const fn in_turn(owner: u32, subject: u64) -> Self {
        Self { owner, subject, key: None }
    }

    /// The one message about `subject` with this key in the outbox of `owner`.
    pub const fn by_key(owner: u32, subject: u64, key: u64) -> Self {
        Self { owner, subject, key: Some(key) }
    }

    /// What the segment says that waits by this; its neighbours are not known yet.
    pub(super) const fn recallable(self) -> Recallable {
        let Self { owner, subject, key } = self;
        match key {
            None => Recallable::InTurn { owner, subject, newer: NONE },
            Some(key) => Recallable::ByKey { owner, subject, key },
        }
    }
}

/// RFC 6455 §5.2: two bytes, eight of extended payload length, four of masking key.
pub const HEADER_BYTES_MAX: usize = 14;
