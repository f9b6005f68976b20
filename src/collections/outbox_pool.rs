//! The memory of all outboxes of a loop: one slab of segments, and the rings that some of them are.

use std::num::NonZeroU64;

use slab::Slab;

use super::PoolExhausted;
use super::frames::Frames;
use super::hashing::Hashing;
use super::index::NONE;
use super::recalls::Recalls;
use super::ring::{Ring, RingPool};
use super::segment::{Data, Recallable};

/// The segments of all outboxes of a loop.
#[derive(Debug)]
pub struct OutboxPool {
    pub(super) segments: Slab<Segment>,
    segments_max: usize,
    pub(super) rings: RingPool,
    /// What several outboxes refer to.
    pub frames: Frames,
    pub(super) recalls: Recalls,
    pub(super) shared_bytes: u64,
    /// The number given to the latest replaceable segment. At a billion per second it lasts 584
    /// years, so no number comes twice.
    sequence: u64,
}

/// A piece of one outbox, and which one follows it.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) data: Data,
    pub(super) next: u32,
    pub(super) previous: u32,
}

impl OutboxPool {
    /// Makes a pool of at most `rings_max` rings of `ring_bytes` each and at most `segments_max`
    /// segments, counting rings, references and headers. Nothing is allocated yet.
    ///
    /// # Panics
    /// If `ring_bytes` is no power of two or larger than a ring can be.
    pub fn new(ring_bytes: usize, rings_max: usize, segments_max: usize) -> Self {
        Self {
            segments: Slab::new(),
            segments_max: segments_max.min(NONE as usize),
            rings: RingPool::new(ring_bytes, rings_max),
            frames: Frames::new(),
            recalls: Recalls::new(Hashing::new(0)),
            shared_bytes: 0,
            sequence: 0,
        }
    }

    /// Finds what can be taken back by hashes that nobody foresees.
    #[must_use]
    pub fn with_hashing(mut self, hashing: Hashing) -> Self {
        self.recalls = Recalls::new(hashing);
        self
    }

    /// Retains at most `count` unused rings; by default all of them are.
    #[must_use]
    pub fn with_rings_retained_max(mut self, count: usize) -> Self {
        self.rings = self.rings.with_retained_max(count);
        self
    }

    /// Frees the rings that are kept for reuse, and places behind the last segment.
    pub fn shrink(&mut self) {
        self.rings.shrink();
        self.segments.shrink_to_fit();
    }

    /// Memory of all rings, handed out and retained: what grows with what is queued by copy.
    #[inline]
    pub fn ring_bytes(&self) -> usize {
        self.rings.pinned_bytes()
    }

    /// Memory of the pool itself: rings, handed out and retained, and the table of segments. What
    /// is queued by reference is counted by [`OutboxPool::shared_bytes`].
    pub fn pinned_bytes(&self) -> usize {
        self.rings.pinned_bytes()
            + self.segments.capacity() * size_of::<Segment>()
            + self.frames.pinned_bytes()
            + self.recalls.pinned_bytes()
    }

    /// The unwritten bytes that are queued by reference, counted once for each reference.
    pub fn shared_bytes(&self) -> u64 {
        self.shared_bytes
    }

    /// How many rings hold queued bytes.
    pub fn rings_in_use(&self) -> usize {
        self.rings.in_use()
    }

    /// A number above all that were given before.
    pub(super) fn next_number(&mut self) -> NonZeroU64 {
        self.sequence += 1;
        NonZeroU64::new(self.sequence).expect("counted up from 0 just now")
    }

    /// How many segments are queued in all outboxes.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// Makes room for more segments: an eighth more, since there are as many as slow readers have
    /// messages of topics, and to double them would waste as much again.
    #[cold]
    pub(super) fn grow(&mut self) {
        self.segments.reserve_exact((self.segments.len() / 8).max(SEGMENTS_MIN));
    }

    /// An outbox does not hold this any more, which was the segment `at`. Out of the way of rings, which are nearly all there is.
    #[inline(never)]
    pub(super) fn release(&mut self, data: Data, at: u32) {
        match data {
            Data::Ring(ring) => self.rings.put_back(ring),
            Data::Shared(bytes) => self.shared_bytes -= bytes.len() as u64,
            Data::Frames { range, recallable } => {
                self.frames.release(range);
                if recallable != Recallable::Never {
                    self.recalls.remove(&mut self.segments, recallable, at);
                }
            }
            Data::Header { .. } => {}
        }
    }

    /// Whether so many more rings and segments may be taken; the rings are ready then.
    #[inline]
    pub(super) fn reserve(&mut self, rings: usize, segments: usize) -> Result<(), PoolExhausted> {
        let fits = segments <= self.segments_max - self.segments.len() && self.rings.prepare(rings);
        if fits { Ok(()) } else { Err(PoolExhausted) }
    }

    #[inline]
    pub(super) fn ring_mut(&mut self, index: u32) -> Option<&mut Ring> {
        match self.segments.get_mut(index as usize) {
            Some(Segment { data: Data::Ring(ring), .. }) => Some(ring),
            _ => None,
        }
    }
}

/// How many more segments there are at least when there are more.
const SEGMENTS_MIN: usize = 4;
