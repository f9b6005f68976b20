//! What is queued by reference, charged once however many refer to it.

use std::collections::BTreeMap;

use super::frames::{FrameRange, Frames};
use super::outbox_pool::OutboxPool;
use super::segment::Data;

impl OutboxPool {
    /// The bytes that are queued by reference outside of [`OutboxPool::frames`], each once: what
    /// [`OutboxPool::shared_bytes`] counts for each reference. It looks at every segment, if there are
    /// any such bytes.
    pub fn distinct_shared_bytes(&self) -> usize {
        if self.shared_bytes() == 0 {
            return 0;
        }
        // The front of what is queued moves as it is written, its end stays: the longest that ends
        // somewhere has all that others have.
        let mut longest = BTreeMap::new();
        for (_, segment) in &self.segments {
            if let Data::Shared(bytes) = &segment.data {
                let place = longest.entry(bytes.as_ptr_range().end).or_insert(0);
                *place = bytes.len().max(*place);
            }
        }
        longest.values().sum()
    }

    /// What one segment has to answer for: what several refer to is theirs in equal parts. How many
    /// share what the application has queued is not known here.
    pub(super) fn share_bytes(&self, data: &Data) -> usize {
        match data {
            Data::Frames { range, .. } => self.frames.share_bytes(*range),
            other => other.pinned_bytes(),
        }
    }
}

impl Frames {
    /// The part of its block that one of the references to it has to answer for.
    fn share_bytes(&self, range: FrameRange) -> usize {
        self.block_bytes(range) / self.references(range).max(1) as usize
    }
}
