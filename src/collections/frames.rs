//! Bytes of one loop that many of its outboxes refer to, counted without atomics.
//!
//! ```text
//!   log block:  ▓frame 1▓frame 2▓frame 3▓░░░░░░░     outboxes hold ranges: 1..=3, 2..=3, 1 and 3
//!   own block:  ▓▓▓ one frame, by reference ▓▓▓
//! ```
//!
//! What is sent to many in one turn is copied once, into a log: who gets several frames in a row
//! refers to them as one range, which leaves as one slice of one write.

use bytes::Bytes;
use slab::Slab;

/// The blocks of a loop's shared frames.
#[derive(Debug)]
pub struct Frames {
    blocks: Slab<Block>,
    /// The log of this turn, if anything was appended.
    log: Option<u32>,
    /// An emptied log, so that a steady stream of turns allocates none.
    spare: Vec<u8>,
    bytes: u64,
}

/// What is referred to, as long as it is.
#[derive(Debug)]
struct Block {
    storage: Storage,
    references: u32,
}

#[derive(Debug)]
enum Storage {
    /// Frames one behind the other; it grows within its capacity, so what is lent stays.
    Log(Vec<u8>),
    Own(Bytes),
}

/// Bytes of a block. Whoever keeps one counts as a reference to the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRange {
    block: u32,
    pub(super) start: u32,
    pub(super) end: u32,
}

impl FrameRange {
    /// How many bytes it spans.
    pub const fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether `next` follows at once, in the same block.
    #[inline]
    pub(super) const fn is_followed_by(self, next: Self) -> bool {
        self.block == next.block && self.end == next.start
    }
}

impl Frames {
    /// Nothing is allocated yet.
    pub const fn new() -> Self {
        Self { blocks: Slab::new(), log: None, spare: Vec::new(), bytes: 0 }
    }

    /// The memory of all blocks.
    pub fn pinned_bytes(&self) -> usize {
        // What is counted cannot be more than there is memory.
        self.bytes as usize + self.spare.capacity() + self.blocks.capacity() * size_of::<Block>()
    }

    /// How many blocks are referred to, the log of this turn included.
    #[cfg(test)]
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Appends a frame of at most [`LOG_FRAME_BYTES_MAX`] to the log of this turn. The range is good
    /// until something more is appended, for which another log may begin, or the turn ends; and longer
    /// where somebody has taken a reference.
    pub fn append(&mut self, frame: &[u8]) -> FrameRange {
        debug_assert!(frame.len() <= LOG_FRAME_BYTES_MAX, "large frames are not copied");
        let block = match self.log {
            Some(block) if self.log_len(block) + frame.len() <= LOG_BYTES => block,
            _ => self.begin_log(),
        };
        let Some(Block { storage: Storage::Log(log), .. }) = self.blocks.get_mut(block as usize)
        else {
            unreachable!("the log is a log")
        };
        let start = log.len() as u32;
        log.extend_from_slice(frame);
        FrameRange { block, start, end: start + frame.len() as u32 }
    }

    /// Takes a frame by reference, as a block of its own that the caller refers to until
    /// [`Frames::release`].
    ///
    /// # Panics
    /// If it has 4 GiB or more.
    pub fn insert(&mut self, frame: Bytes) -> FrameRange {
        let end = u32::try_from(frame.len()).expect("frames have less than 4 GiB");
        self.bytes += frame.len() as u64;
        let block = self.blocks.insert(Block { storage: Storage::Own(frame), references: 1 });
        FrameRange { block: block as u32, start: 0, end }
    }

    /// The turn is over: what is appended from now on belongs to another one.
    pub fn end_turn(&mut self) {
        let Some(index) = self.log.take() else { return };
        self.release(block_only(index));
        // Whoever still refers to it may do so for long, and room for more is of no use any more.
        if let Some(Block { storage: Storage::Log(log), .. }) = self.blocks.get_mut(index as usize)
            && log.capacity() > 2 * log.len()
        {
            self.bytes -= log.capacity() as u64;
            log.shrink_to_fit();
            self.bytes += log.capacity() as u64;
        }
    }

    /// The bytes of a range.
    #[inline]
    pub fn get(&self, range: FrameRange) -> &[u8] {
        let bytes: &[u8] = match &self.blocks[range.block as usize].storage {
            Storage::Log(log) => log,
            Storage::Own(bytes) => bytes,
        };
        &bytes[range.start as usize..range.end as usize]
    }

    /// Whether the range is a small part of a block that few others keep.
    pub(super) fn is_wasteful(&self, range: FrameRange) -> bool {
        let Block { storage, references } = &self.blocks[range.block as usize];
        match storage {
            Storage::Log(log) => {
                let kept_bytes = range.len() as u64 * u64::from(*references);
                kept_bytes * WASTE_MAX < log.len() as u64
            }
            Storage::Own(_) => false,
        }
    }

    /// The memory of the block that a range is of.
    pub(super) fn block_bytes(&self, range: FrameRange) -> usize {
        match &self.blocks[range.block as usize].storage {
            Storage::Log(log) => log.capacity(),
            Storage::Own(bytes) => bytes.len(),
        }
    }

    /// How many refer to the block that a range is of.
    pub(super) fn references(&self, range: FrameRange) -> u32 {
        self.blocks[range.block as usize].references
    }

    /// Takes one more reference, which [`Frames::release`] gives up.
    #[inline]
    pub fn retain(&mut self, range: FrameRange) {
        self.blocks[range.block as usize].references += 1;
    }

    /// Gives a reference up; the last one frees the block.
    #[inline]
    pub fn release(&mut self, range: FrameRange) {
        let block = &mut self.blocks[range.block as usize];
        block.references -= 1;
        if block.references == 0 {
            self.free(range.block);
        }
    }

    fn free(&mut self, block: u32) {
        match self.blocks.remove(block as usize).storage {
            Storage::Log(mut log) => {
                self.bytes -= log.capacity() as u64;
                if self.spare.capacity() == 0 {
                    log.clear();
                    self.spare = log;
                }
            }
            Storage::Own(bytes) => self.bytes -= bytes.len() as u64,
        }
    }

    fn begin_log(&mut self) -> u32 {
        self.end_turn();
        let mut log = std::mem::take(&mut self.spare);
        log.reserve_exact(LOG_BYTES);
        self.bytes += log.capacity() as u64;
        let block = self.blocks.insert(Block { storage: Storage::Log(log), references: 1 }) as u32;
        self.log = Some(block);
        block
    }

    fn log_len(&self, block: u32) -> usize {
        match &self.blocks[block as usize].storage {
            Storage::Log(log) => log.len(),
            Storage::Own(_) => LOG_BYTES,
        }
    }
}

impl Default for Frames {
    fn default() -> Self {
        Self::new()
    }
}

/// A range that stands for the block alone.
const fn block_only(block: u32) -> FrameRange {
    FrameRange { block, start: 0, end: 0 }
}

/// Larger frames are taken by reference: to copy so much costs as much as another slice in a write.
pub const LOG_FRAME_BYTES_MAX: usize = 16 << 10;

/// The log of one turn; what is published beyond it in one turn begins another.
const LOG_BYTES: usize = 64 << 10;

/// What waits for slow readers keeps at most so many times its own bytes.
const WASTE_MAX: u64 = 8;
