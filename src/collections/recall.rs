//! Frames that outboxes share, and those of them that are taken back while nothing of them was
//! written.

use std::num::NonZeroU64;

use bytes::Bytes;

use super::PoolExhausted;
use super::frames::FrameRange;
use super::index::NONE;
use super::outbox::Outbox;
use super::outbox_pool::{OutboxPool, Segment};
use super::segment::{Data, Recall, Recallable};

/// A replaceable segment. Once a byte of the segment was consumed the key is stale, for ever.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct SegmentKey {
    pub(super) index: u32,
    number: NonZeroU64,
}

impl Outbox {
    /// Appends frames by reference. Those that follow the last ones in their block join them.
    ///
    /// # Errors
    /// [`PoolExhausted`] when the pool has no segment left, or 4 GiB are queued.
    #[inline]
    pub fn push_frames(
        &mut self,
        pool: &mut OutboxPool,
        range: FrameRange,
    ) -> Result<(), PoolExhausted> {
        let grown = self.grown(range.len())?;
        if let Some(last) = pool.segments.get_mut(self.tail as usize)
            && let Data::Frames { range: tail, recallable: Recallable::Never } = &mut last.data
            && tail.is_followed_by(range)
        {
            tail.end = range.end;
            self.queued_bytes = grown;
            return Ok(());
        }
        self.append_frames(pool, range, Recallable::Never)
    }

    /// Appends one whole frame by reference, which can be taken back by `recall` while nothing of it
    /// was written. No other waits by the same key.
    ///
    /// # Errors
    /// [`PoolExhausted`] when the pool has no segment left, or 4 GiB are queued.
    pub fn push_recallable(
        &mut self,
        pool: &mut OutboxPool,
        range: FrameRange,
        recall: Recall,
    ) -> Result<(), PoolExhausted> {
        self.append_frames(pool, range, recall.recallable())?;
        pool.recalls.insert(&mut pool.segments, recall, self.tail);
        Ok(())
    }

    fn append_frames(
        &mut self,
        pool: &mut OutboxPool,
        range: FrameRange,
        recallable: Recallable,
    ) -> Result<(), PoolExhausted> {
        let grown = self.grown(range.len())?;
        pool.reserve(0, 1)?;
        if pool.segments.len() == pool.segments.capacity() {
            pool.grow();
        }
        pool.frames.retain(range);
        self.append(pool, Data::Frames { range, recallable });
        self.queued_bytes = grown;
        Ok(())
    }

    /// Puts a whole frame in the place of the one that waits by `recall` in **this** outbox. Says
    /// whether there was one.
    pub fn replace_recallable(
        &mut self,
        pool: &mut OutboxPool,
        range: FrameRange,
        recall: Recall,
    ) -> bool {
        let Some(at) = pool.recalls.first(&pool.segments, recall) else { return false };
        let Data::Frames { range: waiting, .. } = &mut pool.segments[at as usize].data else {
            unreachable!("only frames are recalled")
        };
        let rest = self.queued_bytes as usize - waiting.len();
        let Ok(queued_bytes) = u32::try_from(rest + range.len()) else { return false };
        self.queued_bytes = queued_bytes;
        let old = std::mem::replace(waiting, range);
        pool.frames.retain(range);
        pool.frames.release(old);
        true
    }

    /// Takes back the frame that waits by `recall` in **this** outbox, the oldest if there are
    /// several; says how many bytes it had.
    pub fn recall_oldest(&mut self, pool: &mut OutboxPool, recall: Recall) -> Option<usize> {
        let at = pool.recalls.first(&pool.segments, recall)?;
        let segment = pool.segments.remove(at as usize);
        match pool.segments.get_mut(segment.previous as usize) {
            Some(previous) => previous.next = segment.next,
            None => self.head = segment.next,
        }
        match pool.segments.get_mut(segment.next as usize) {
            Some(next) => next.previous = segment.previous,
            None => self.tail = segment.previous,
        }
        let bytes = segment.data.len();
        pool.release(segment.data, at);
        self.queued_bytes -= bytes as u32;
        Some(bytes)
    }

    /// Appends `bytes` by reference as a segment of their own, which [`Outbox::replace`] can change
    /// until its first byte is consumed. This is how unsent pongs collapse into the latest.
    ///
    /// # Errors
    /// [`PoolExhausted`] when the pool has no segment left.
    ///
    /// # Panics
    /// If `bytes` is empty.
    pub fn push_replaceable(
        &mut self,
        pool: &mut OutboxPool,
        bytes: Bytes,
    ) -> Result<SegmentKey, PoolExhausted> {
        assert!(!bytes.is_empty(), "a segment holds at least one byte");
        self.grown(bytes.len())?;
        let number = pool.next_number();
        let range = pool.frames.insert(bytes);
        let appended = self.append_frames(pool, range, Recallable::ByNumber(number));
        pool.frames.release(range);
        appended.map(|()| SegmentKey { index: self.tail, number })
    }

    /// Puts `bytes` in the place of a segment of **this** outbox. Answers whether it did: `false`
    /// when any byte of the segment was consumed, and when it is no longer queued.
    ///
    /// # Panics
    /// If `bytes` is empty.
    #[must_use]
    pub fn replace(&mut self, pool: &mut OutboxPool, key: SegmentKey, bytes: Bytes) -> bool {
        assert!(!bytes.is_empty(), "a segment holds at least one byte");
        let Some(Segment { data: Data::Frames { range, recallable }, .. }) =
            pool.segments.get_mut(key.index as usize)
        else {
            return false;
        };
        if *recallable != Recallable::ByNumber(key.number) {
            return false;
        }
        let rest = self.queued_bytes as usize - range.len();
        let Ok(queued_bytes) = u32::try_from(rest + bytes.len()) else { return false };
        self.queued_bytes = queued_bytes;
        let new = pool.frames.insert(bytes);
        pool.frames.release(std::mem::replace(range, new));
        true
    }

    /// What waits is a slow reader's: small parts of large blocks get memory of their own, so that
    /// it keeps no more than a few times what it waits for.
    pub fn leave_log(&mut self, pool: &mut OutboxPool) {
        let mut index = self.head;
        while index != NONE {
            let segment = &mut pool.segments[index as usize];
            index = segment.next;
            if let Data::Frames { range, .. } = &mut segment.data
                && pool.frames.is_wasteful(*range)
            {
                let own = pool.frames.insert(Bytes::copy_from_slice(pool.frames.get(*range)));
                pool.frames.release(std::mem::replace(range, own));
            }
        }
    }
}
