//! Where those messages of all outboxes wait that can be taken back.
//!
//! ```text
//!   in turn, of one outbox and subject:     ┌─► oldest ─► newer ─► newest ─┐     by key:   one
//!                                           └──────────────────────▲───────┘                ▲
//!                                                                index ──────────────────────┘
//! ```
//!
//! The index holds nothing but the numbers of segments, which say themselves what they are found by.

use slab::Slab;

use super::hashing::Hashing;
use super::index::Index;
use super::outbox_pool::Segment;
use super::segment::{Data, Recall, Recallable};

/// What finds the messages of a loop that can be taken back. No call walks over those that wait.
#[derive(Debug)]
pub struct Recalls {
    /// The newest of each that go in turn, and those that have keys.
    index: Index,
    hashing: Hashing,
}

impl Recalls {
    pub fn new(hashing: Hashing) -> Self {
        Self { index: Index::default(), hashing }
    }

    /// The memory that it holds.
    pub fn pinned_bytes(&self) -> usize {
        self.index.pinned_bytes()
    }

    /// The segment that is taken back or replaced first by this.
    pub fn first(&self, segments: &Slab<Segment>, recall: Recall) -> Option<u32> {
        let at = self.find(segments, recall, self.hashing.of(&recall))?;
        match recallable(segments, at) {
            Recallable::InTurn { newer: oldest, .. } => Some(oldest),
            _ => Some(at),
        }
    }

    /// The segment `at` waits by this from now on: the last one of its outbox.
    pub fn insert(&mut self, segments: &mut Slab<Segment>, recall: Recall, at: u32) {
        let hash = self.hashing.of(&recall);
        let newest = self.find(segments, recall, hash);
        if let Some(newer) = newer_mut(segments, newest.unwrap_or(at)) {
            let oldest = std::mem::replace(newer, at);
            if let Some(newest) = newest {
                *newer_mut(segments, at).expect("it goes in turn, as those before it") = oldest;
                return self.index.rename(newest, at, hash);
            }
        }
        let Self { index, hashing } = self;
        index.insert(at, hash, |other| {
            let recall = recallable(segments, other).recall();
            hashing.of(&recall.expect("what is in the index can be taken back"))
        });
    }

    /// The segment `at`, which was the first one by what it says, is not to be found any more: it
    /// has left, or something of it is written.
    #[inline(never)]
    pub fn remove(&mut self, segments: &mut Slab<Segment>, recallable: Recallable, at: u32) {
        let Some(recall) = recallable.recall() else { return };
        let hash = self.hashing.of(&recall);
        match recallable {
            Recallable::InTurn { newer: next, .. } if next != at => {
                let newest =
                    self.find(segments, recall, hash).and_then(|at| newer_mut(segments, at));
                let oldest = newest.expect("others about the same wait behind it");
                debug_assert_eq!(*oldest, at, "they leave in the order in which they came");
                *oldest = next;
            }
            _ => self.index.remove(at, hash),
        }
    }

    /// What the index has by this.
    fn find(&self, segments: &Slab<Segment>, recall: Recall, hash: u64) -> Option<u32> {
        self.index.find(hash, |at| recallable(segments, at).recall() == Some(recall))
    }
}

fn recallable(segments: &Slab<Segment>, at: u32) -> Recallable {
    match segments.get(at as usize) {
        Some(Segment { data: Data::Frames { recallable, .. }, .. }) => *recallable,
        _ => Recallable::Never,
    }
}

fn newer_mut(segments: &mut Slab<Segment>, at: u32) -> Option<&mut u32> {
    match &mut segments.get_mut(at as usize)?.data {
        Data::Frames { recallable: Recallable::InTurn { newer, .. }, .. } => Some(newer),
        _ => None,
    }
}
