//! A walk over what an outbox holds.

use super::outbox_pool::OutboxPool;

/// A walk over the queued bytes of an outbox, the oldest first, which changes nothing.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    pool: &'a OutboxPool,
    segment: u32,
    /// Where the cursor stands in its segment; always below that segment's length.
    offset: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor at the first byte of the segment `head`.
    pub(super) const fn new(pool: &'a OutboxPool, head: u32) -> Self {
        Self { pool, segment: head, offset: 0 }
    }

    /// Goes forward by `bytes`, at most to the end, and returns by how many it went.
    pub fn skip(&mut self, bytes: u64) -> u64 {
        let mut rest = bytes;
        while let Some(segment) = self.pool.segments.get(self.segment as usize) {
            let ahead = (segment.data.len() - self.offset) as u64;
            if rest < ahead {
                self.offset += rest as usize;
                rest = 0;
                break;
            }
            rest -= ahead;
            self.segment = segment.next;
            self.offset = 0;
        }
        bytes - rest
    }

    /// Copies the bytes at the cursor into `target` without moving, and returns how many there
    /// were: fewer than asked for only at the end.
    pub fn peek(&self, target: &mut [u8]) -> usize {
        let mut filled = 0;
        let mut index = self.segment;
        let mut offset = self.offset;
        while let Some(segment) = self.pool.segments.get(index as usize) {
            let (first, second) = segment.data.as_slices(&self.pool.frames);
            for piece in [first, second] {
                let skipped = offset.min(piece.len());
                offset -= skipped;
                let piece = &piece[skipped..];
                let count = piece.len().min(target.len() - filled);
                target[filled..filled + count].copy_from_slice(&piece[..count]);
                filled += count;
            }
            if filled == target.len() {
                break;
            }
            index = segment.next;
        }
        filled
    }
}
