//! Contiguous blocks in which messages are assembled, and the pool they come from.
//!
//! A block grows with what has **arrived**, never with what a frame header has declared: a peer
//! that announces a gigabyte and sends ten bytes pins one kibibyte. A free block is resident
//! already, so taking one at the declared size costs nothing; that is how steady large messages are
//! assembled without ever being copied from block to block.

use super::PoolExhausted;
use super::storage::Storage;

/// A contiguous buffer of fixed capacity whose first [`Block::len`] bytes are filled.
///
/// The storage is initialised once, when the block is made. What lies behind the filled part is
/// whatever an earlier user left there.
#[derive(Debug)]
pub struct Block {
    storage: Storage,
    /// How many bytes are filled; never more than the capacity.
    len: usize,
}

impl Block {
    fn with_capacity(bytes: usize) -> Self {
        Self { storage: Storage::zeroed(bytes), len: 0 }
    }

    /// How many bytes are filled.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
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

    /// Forgets what was filled behind `bytes`.
    #[cfg(feature = "deflate")]
    pub fn truncate(&mut self, bytes: usize) {
        self.len = self.len.min(bytes);
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

    /// Hands out an empty block of at least `need_bytes`, or `None` when `pinned_bytes_max` would
    /// be passed.
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

    /// Frees the blocks that are kept for reuse.
    pub fn shrink(&mut self) {
        self.free = [const { Vec::new() }; CLASS_COUNT];
        self.retained_bytes = 0;
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: BlockPoolLimits =
        BlockPoolLimits { pinned_bytes_max: 64 * 1024, retained_bytes_max: 24 * 1024 };

    #[derive(Clone, Debug)]
    enum Operation {
        Take { need: usize, declared: usize },
        Grow { which: prop::sample::Index, need: usize, declared: usize },
        Fill { which: prop::sample::Index, bytes: Vec<u8> },
        PutBack { which: prop::sample::Index },
        Shrink,
    }

    fn operation() -> impl Strategy<Value = Operation> {
        let which = any::<prop::sample::Index>;
        let declared = || prop_oneof![0_usize..40_000, Just(usize::MAX), Just(1 << 62)];
        prop_oneof![
            (0_usize..20_000, declared())
                .prop_map(|(need, declared)| Operation::Take { need, declared }),
            (which(), 0_usize..20_000, declared())
                .prop_map(|(which, need, declared)| Operation::Grow { which, need, declared }),
            (which(), prop::collection::vec(any::<u8>(), 0..3_000))
                .prop_map(|(which, bytes)| Operation::Fill { which, bytes }),
            which().prop_map(|which| Operation::PutBack { which }),
            Just(Operation::Shrink),
        ]
    }

    /// The naive pool: the multiset of free capacities and nothing else.
    #[derive(Default)]
    struct Model {
        free: Vec<usize>,
        outstanding: Vec<usize>,
    }

    impl Model {
        fn take(&mut self, need: usize, declared: usize) -> Option<usize> {
            let class = |bytes: usize| bytes.max(1024).checked_next_power_of_two();
            let found = class(declared.max(need)).and_then(|wanted| {
                let most = wanted.saturating_mul(4);
                self.free.iter().copied().filter(|free| (wanted..=most).contains(free)).min()
            });
            let own = class(need)?;
            let bytes = match found.or(self.free.contains(&own).then_some(own)) {
                Some(bytes) => {
                    let position = self.free.iter().position(|free| *free == bytes).unwrap();
                    self.free.remove(position);
                    bytes
                }
                None => {
                    let out: usize = self.outstanding.iter().sum();
                    if out + own > LIMITS.pinned_bytes_max {
                        return None;
                    }
                    self.free.sort_unstable();
                    while out + own + self.free.iter().sum::<usize>() > LIMITS.pinned_bytes_max {
                        self.free.pop();
                    }
                    own
                }
            };
            self.outstanding.push(bytes);
            Some(bytes)
        }

        fn put_back(&mut self, bytes: usize) {
            let position = self.outstanding.iter().position(|out| *out == bytes).unwrap();
            self.outstanding.remove(position);
            if self.free.iter().sum::<usize>() + bytes <= LIMITS.retained_bytes_max {
                self.free.push(bytes);
            }
        }
    }

    proptest! {
        #[test]
        fn pool_equals_a_list_of_free_capacities(
            operations in prop::collection::vec(operation(), 0..80),
        ) {
            let mut pool = BlockPool::new(LIMITS);
            let mut model = Model::default();
            let mut blocks: Vec<(Block, Vec<u8>)> = Vec::new();
            for operation in operations {
                let count = blocks.len();
                match operation {
                    Operation::Take { need, declared } => {
                        let block = pool.take(need, declared);
                        prop_assert_eq!(
                            block.as_ref().map(Block::capacity),
                            model.take(need, declared)
                        );
                        if let Some(block) = block {
                            prop_assert!(block.len() == 0 && block.capacity() >= need);
                            blocks.push((block, Vec::new()));
                        }
                    }
                    Operation::Grow { which, need, declared } if count > 0 => {
                        let (block, _) = &mut blocks[which.index(count)];
                        let before = block.capacity();
                        let grown = pool.grow(block, need, declared);
                        if need <= before {
                            prop_assert_eq!((grown, block.capacity()), (Ok(()), before));
                        } else if let Some(bytes) = model.take(need, declared) {
                            model.put_back(before);
                            prop_assert_eq!((grown, block.capacity()), (Ok(()), bytes));
                        } else {
                            prop_assert_eq!(grown, Err(PoolExhausted));
                            prop_assert_eq!(block.capacity(), before);
                        }
                    }
                    Operation::Fill { which, bytes } if count > 0 => {
                        let (block, filled) = &mut blocks[which.index(count)];
                        let room = block.capacity() - filled.len();
                        let taken = block.extend_from_slice(&bytes);
                        prop_assert_eq!(taken, bytes.len().min(room));
                        filled.extend_from_slice(&bytes[..taken]);
                    }
                    Operation::PutBack { which } if count > 0 => {
                        let (block, _) = blocks.swap_remove(which.index(count));
                        model.put_back(block.capacity());
                        pool.put_back(block);
                    }
                    Operation::Shrink => {
                        model.free.clear();
                        pool.shrink();
                    }
                    _ => {}
                }
                for (block, filled) in &blocks {
                    prop_assert_eq!(block.as_slice(), &filled[..]);
                }
                let retained: usize = model.free.iter().sum();
                let outstanding: usize = model.outstanding.iter().sum();
                prop_assert_eq!(pool.retained_bytes(), retained);
                prop_assert_eq!(pool.pinned_bytes(), retained + outstanding);
                prop_assert!(pool.pinned_bytes() <= LIMITS.pinned_bytes_max);
                prop_assert!(pool.retained_bytes() <= LIMITS.retained_bytes_max);
                prop_assert_eq!(pool.outstanding(), model.outstanding.len());
            }
        }
    }

    #[test]
    fn a_declared_length_alone_allocates_nothing() {
        let mut pool = BlockPool::new(LIMITS);
        assert_eq!(pool.take(10, 60 * 1024).unwrap().capacity(), 1024);
        assert_eq!(pool.take(1025, usize::MAX).unwrap().capacity(), 2048);
    }

    #[test]
    fn a_free_block_is_taken_at_the_declared_length() {
        let mut pool = BlockPool::new(LIMITS);
        let large = pool.take(16 * 1024, 0).unwrap();
        pool.put_back(large);
        let block = pool.take(1, 10_000).unwrap();
        assert_eq!(block.capacity(), 16 * 1024);
        pool.put_back(block);
        assert_eq!(pool.take(1, 2_000).unwrap().capacity(), 1024, "four classes are too many");
    }

    #[test]
    fn growing_keeps_the_content_and_gives_the_old_block_back() {
        let mut pool = BlockPool::new(LIMITS);
        let mut block = pool.take(4, 4).unwrap();
        block.extend_from_slice(b"held");
        pool.grow(&mut block, 1025, 1025).unwrap();
        assert_eq!((block.as_slice(), block.capacity()), (&b"held"[..], 2048));
        assert_eq!((pool.outstanding(), pool.retained_bytes()), (1, 1024));
    }

    #[test]
    fn retained_blocks_of_the_wrong_class_make_room() {
        let limits = BlockPoolLimits { pinned_bytes_max: 4096, retained_bytes_max: 4096 };
        let mut pool = BlockPool::new(limits);
        let blocks: Vec<_> = (0..4).map(|_| pool.take(1, 1).unwrap()).collect();
        assert!(pool.take(1, 1).is_none());
        blocks.into_iter().for_each(|block| pool.put_back(block));
        assert_eq!(pool.take(4096, 4096).unwrap().capacity(), 4096);
        assert_eq!(pool.pinned_bytes(), 4096);
    }

    #[test]
    fn more_than_any_block_holds_is_refused() {
        let limits = BlockPoolLimits { pinned_bytes_max: usize::MAX, retained_bytes_max: 0 };
        let mut pool = BlockPool::new(limits);
        assert!(pool.take(usize::MAX, 0).is_none());
        assert!(pool.take(1 << 43, 0).is_none());
        assert_eq!(pool.pinned_bytes(), 0);
    }

    #[test]
    fn bytes_written_to_the_spare_part_are_filled_by_advancing() {
        let mut block = Block::with_capacity(1024);
        block.extend_from_slice(b"ab");
        block.spare()[..2].copy_from_slice(b"cd");
        block.advance(2);
        assert_eq!(block.as_mut_slice(), b"abcd");
        assert_eq!(block.spare().len(), 1020);
        block.clear();
        assert!(block.len() == 0);
    }

    #[test]
    #[should_panic(expected = "within its capacity")]
    fn advancing_past_the_capacity_panics() {
        Block::with_capacity(1024).advance(1025);
    }
}
