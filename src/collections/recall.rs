//! Frames that outboxes share, and those of them that are taken back while nothing of them was
//! written.

use bytes::Bytes;

use super::PoolExhausted;
use super::frames::FrameRange;
use super::outbox::Outbox;
use super::outbox_pool::{NONE, OutboxPool};
use super::segment::{Data, Recall};

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
            && let Data::Frames { range: tail, recall: Recall::NEVER } = &mut last.data
            && tail.is_followed_by(range)
        {
            tail.end = range.end;
            self.queued_bytes = grown;
            return Ok(());
        }
        self.append_frames(pool, range, Recall::NEVER)
    }

    /// Appends one whole frame by reference, which can be taken back by `recall` while nothing of it
    /// was written. No other waits by the same.
    ///
    /// # Errors
    /// [`PoolExhausted`] when the pool has no segment left, or 4 GiB are queued.
    pub fn push_recallable(
        &mut self,
        pool: &mut OutboxPool,
        range: FrameRange,
        recall: Recall,
    ) -> Result<(), PoolExhausted> {
        self.append_frames(pool, range, recall)?;
        let earlier = pool.recalls.insert(recall, self.tail);
        debug_assert!(earlier.is_none(), "one message waits by each recall");
        Ok(())
    }

    fn append_frames(
        &mut self,
        pool: &mut OutboxPool,
        range: FrameRange,
        recall: Recall,
    ) -> Result<(), PoolExhausted> {
        let grown = self.grown(range.len())?;
        pool.reserve(0, 1)?;
        if pool.segments.len() == pool.segments.capacity() {
            pool.grow();
        }
        pool.frames.retain(range);
        self.append(pool, Data::Frames { range, recall }, 0);
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
        let Some(index) = pool.recalls.get(&recall) else { return false };
        let Data::Frames { range: waiting, .. } = &mut pool.segments[*index as usize].data else {
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

    /// Takes back the oldest frame about `subject` that waits in **this** outbox, which is that of
    /// `owner`; says how many bytes it had.
    pub fn recall_oldest(
        &mut self,
        pool: &mut OutboxPool,
        owner: u32,
        subject: u64,
    ) -> Option<usize> {
        let (first, last) = Recall::all(owner, subject);
        let (recall, index) = pool.recalls.range(first..=last).next()?;
        let (recall, index) = (*recall, *index);
        pool.recalls.remove(&recall);
        let segment = pool.segments.remove(index as usize);
        match pool.segments.get_mut(segment.previous as usize) {
            Some(previous) => previous.next = segment.next,
            None => self.head = segment.next,
        }
        match pool.segments.get_mut(segment.next as usize) {
            Some(next) => next.previous = segment.previous,
            None => self.tail = segment.previous,
        }
        let Data::Frames { range, .. } = segment.data else {
            unreachable!("only frames are recalled")
        };
        pool.frames.release(range);
        self.queued_bytes -= range.len() as u32;
        Some(range.len())
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
