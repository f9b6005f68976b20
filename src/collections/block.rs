//! Contiguous blocks in which messages are assembled, and the pool they come from.
//!
//! A block grows with what has **arrived**, never with what a frame header has declared: a peer that
//! announces a gigabyte and sends ten bytes pins one kibibyte. A free block is resident already, so
//! taking one at the declared size costs nothing; that is how steady large messages are assembled
//! without ever being copied from block to block.

use super::PoolExhausted;

/// A contiguous buffer of fixed capacity whose first [`Block::len`] bytes are filled.
///
/// The storage is initialised once, when the block is made. What lies behind the filled part is
/// whatever an earlier user left there.
#[derive(Debug)]
pub struct Block {
    storage: Box<[u8]>,
    /// How many bytes are filled; never more than the capacity.
    len: usize,
}

impl Block {
    fn with_capacity(bytes: usize) -> Self {
        Self { storage: vec![0; bytes].into_boxed_slice(), len: 0 }
    }

    /// How many bytes are filled.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no byte is filled.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes the block can hold.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.storage.len()
    }

    /// The filled bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        &self.storage[..self.len]
    }

    /// The filled bytes, to be changed in place.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.storage[..self.len]
    }

    /// Appends as many of `bytes` as fit and returns how many were taken.
    #[inline]
    pub fn extend_from_slice(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.capacity() - self.len);
        self.spare()[..taken].copy_from_slice(&bytes[..taken]);
        self.len += taken;
        taken
    }

    /// The part that is not filled yet: initialised, of arbitrary content. Write to it from its
    /// beginning, then call [`Block::advance`].
    #[inline]
    pub fn spare(&mut self) -> &mut [u8] {
        &mut self.storage[self.len..]
    }

    /// Declares the first `bytes` of [`Block::spare`] filled.
    ///
    /// # Panics
    /// If the spare part is shorter.
    #[inline]
    pub fn advance(&mut self, bytes: usize) {
        assert!(bytes <= self.capacity() - self.len, "a block is filled within its capacity");
        self.len += bytes;
    }

    /// Forgets what was filled.
    #[inline]
    pub fn clear(&mut self) {
        self.len = 0;
    }
}

/// The bounds of a [`BlockPool`], in bytes of capacity.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct BlockPoolLimits {
    /// All blocks together, handed out and retained. At the bound a block is refused.
    pub pinned_bytes_max: usize,
    /// The blocks kept for reuse. At the bound a block that comes back is freed.
    pub retained_bytes_max: usize,
}

/// Blocks in size classes, the powers of two from [`CLASS_BYTES_MIN`] on.
#[derive(Debug)]
pub struct BlockPool {
    limits: BlockPoolLimits,
    /// The free blocks of each class; class `c` holds blocks of `CLASS_BYTES_MIN << c`.
    free: [Vec<Block>; CLASS_COUNT],
    retained_bytes: usize,
    outstanding_bytes: usize,
    outstanding: usize,
}

impl BlockPool {
    /// Makes a pool that holds no block yet.
    pub fn new(limits: BlockPoolLimits) -> Self {
        Self {
            limits,
            free: [const { Vec::new() }; CLASS_COUNT],
            retained_bytes: 0,
            outstanding_bytes: 0,
            outstanding: 0,
        }
    }

    /// Hands out an empty block of at least `need_bytes`, or `None` when `pinned_bytes_max` would be
    /// passed.
    ///
    /// A free block that holds `declared_bytes` is preferred, if it is at most
    /// [`CLASSES_ABOVE_MAX`] classes too large. Otherwise the block has the class of `need_bytes`:
    /// less than twice as much, and at least [`CLASS_BYTES_MIN`].
    pub fn take(&mut self, need_bytes: usize, declared_bytes: usize) -> Option<Block> {
        let block = match self.take_free(declared_bytes.max(need_bytes)) {
            Some(block) => block,
            None => self.take_class(class_of(need_bytes)?)?,
        };
        self.outstanding_bytes += block.capacity();
        self.outstanding += 1;
        Some(block)
    }

    /// Makes `block` hold at least `need_bytes`: its content moves into a larger block, chosen as
    /// [`BlockPool::take`] does, and the old one comes back. Does nothing if it holds that much.
    ///
    /// # Errors
    /// [`PoolExhausted`] when old and new block together would pass `pinned_bytes_max`; the block
    /// is unchanged.
    pub fn grow(
        &mut self,
        block: &mut Block,
        need_bytes: usize,
        declared_bytes: usize,
    ) -> Result<(), PoolExhausted> {
        if need_bytes <= block.capacity() {
            return Ok(());
        }
        let mut larger = self.take(need_bytes, declared_bytes).ok_or(PoolExhausted)?;
        larger.extend_from_slice(block.as_slice());
        self.put_back(std::mem::replace(block, larger));
        Ok(())
    }

    /// Takes a block of this pool back: retained while `retained_bytes_max` allows, else freed.
    ///
    /// # Panics
    /// If no such block is out.
    pub fn put_back(&mut self, mut block: Block) {
        let bytes = block.capacity();
        assert!(self.outstanding > 0, "a block comes back to the pool it was taken from");
        assert!(self.outstanding_bytes >= bytes, "a block comes back to its own pool");
        self.outstanding -= 1;
        self.outstanding_bytes -= bytes;
        if bytes > self.limits.retained_bytes_max.saturating_sub(self.retained_bytes) {
            return;
        }
        if let Some(class) = class_of(bytes) {
            block.clear();
            self.free[class].push(block);
            self.retained_bytes += bytes;
        }
    }

    /// Memory held by all blocks, handed out and retained.
    pub fn pinned_bytes(&self) -> usize {
        self.outstanding_bytes + self.retained_bytes
    }

    /// Memory held by the free blocks alone.
    pub fn retained_bytes(&self) -> usize {
        self.retained_bytes
    }

    /// How many blocks are handed out.
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// The smallest free block that holds `bytes`, unless it is far too large.
    fn take_free(&mut self, bytes: usize) -> Option<Block> {
        let smallest = class_of(bytes)?;
        let largest = (smallest + CLASSES_ABOVE_MAX).min(CLASS_COUNT - 1);
        let block = self.free[smallest..=largest].iter_mut().find_map(Vec::pop)?;
        self.retained_bytes -= block.capacity();
        Some(block)
    }

    /// A free or a new block of exactly this class.
    fn take_class(&mut self, class: usize) -> Option<Block> {
        if let Some(block) = self.free[class].pop() {
            self.retained_bytes -= block.capacity();
            return Some(block);
        }
        let bytes = CLASS_BYTES_MIN << class;
        self.make_room(bytes).then(|| Block::with_capacity(bytes))
    }

    /// Frees retained blocks, the largest first, until a new one of `bytes` may be made. Otherwise
    /// blocks of the wrong class could refuse a message for which there is memory.
    fn make_room(&mut self, bytes: usize) -> bool {
        let Some(rest) = self.limits.pinned_bytes_max.checked_sub(self.outstanding_bytes) else {
            return false;
        };
        if bytes > rest {
            return false;
        }
        while self.retained_bytes > rest - bytes {
            let Some(block) = self.free.iter_mut().rev().find_map(Vec::pop) else { break };
            self.retained_bytes -= block.capacity();
        }
        true
    }
}

/// The class of the smallest block that holds `bytes`; `None` for what no block holds.
fn class_of(bytes: usize) -> Option<usize> {
    let bytes = bytes.max(CLASS_BYTES_MIN).checked_next_power_of_two()?;
    let class = (bytes.trailing_zeros() - CLASS_BYTES_MIN.trailing_zeros()) as usize;
    (class < CLASS_COUNT).then_some(class)
}

/// The smallest block: most fragmented messages are chat lines and small JSON.
pub const CLASS_BYTES_MIN: usize = 1024;

/// How many classes above the declared size a free block may be: a larger one is better kept for a
/// message that needs it.
pub const CLASSES_ABOVE_MAX: usize = 2;

/// Up to 2 TiB: more than any limit that can be configured in earnest.
const CLASS_COUNT: usize = 32;
