//! Messages that arrive in pieces, put together in pooled blocks.

use std::num::NonZeroU32;

use slab::Slab;

use super::compression::{InflatePool, Inflating};
use super::event::Failure;
use super::receiver::Receiver;
use crate::collections::{Block, BlockPool, BlockPoolLimits};
use crate::limits::{FRAGMENT_BYTES_MEAN_MIN, FRAGMENTS_MIN, LoopLimits};
use crate::wire::{Opcode, ProtocolError, Utf8Validator};

/// What the receiving halves of one loop share. A connection between two messages owns nothing of
/// it but its peer's window, with context takeover.
#[derive(Debug)]
pub struct ReceivePools {
    pub(super) assemblies: Slab<Assembly>,
    /// What the last event lent, whichever connection it was of; it goes back before the next.
    lent: Option<AssemblyKey>,
    pub(crate) blocks: BlockPool,
    pub(super) inflate: InflatePool,
}

/// The name of an assembly in its pool; one more than its index, so that `Option` is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AssemblyKey(NonZeroU32);

/// A message under way, or a control frame whose payload is torn.
#[derive(Debug)]
pub(super) struct Assembly {
    /// `None` until the first byte arrives, and in streaming mode always, unless what is inflated
    /// has to be somewhere.
    pub(super) block: Option<Block>,
    /// Of a compressed message.
    pub(super) inflating: Option<Box<Inflating>>,
    pub(super) opcode: Opcode,
    pub(super) utf8: Utf8Validator,
    /// Data frames begun.
    fragments: u32,
    /// Payload bytes of those frames.
    frame_bytes: u64,
    /// Payload bytes received; of a compressed message those that it inflated to.
    pub(super) received_bytes: u64,
    /// Bytes read straight into the block, not looked at yet.
    pub(super) placed_bytes: usize,
}

impl ReceivePools {
    pub(super) fn new(limits: &LoopLimits) -> Self {
        let blocks = BlockPool::new(BlockPoolLimits {
            pinned_bytes_max: limits.block_bytes_max,
            retained_bytes_max: limits.block_bytes_retained,
        });
        let inflate = InflatePool::new(limits);
        Self { assemblies: Slab::new(), lent: None, blocks, inflate }
    }

    /// Bytes of memory, in use or kept for the next message.
    pub fn pinned_bytes(&self) -> usize {
        self.blocks.pinned_bytes()
            + self.assemblies.capacity() * size_of::<Assembly>()
            + self.inflate.pinned_bytes()
    }

    /// Frees what is kept for the next message.
    pub fn shrink(&mut self) {
        self.blocks.shrink();
        self.assemblies.shrink_to_fit();
        self.inflate.shrink();
    }

    /// What a receiving half holds for its message under way.
    pub(crate) fn message_bytes(&self, receiver: &Receiver) -> usize {
        receiver.message.map_or(0, |key| {
            let assembly = self.get(key);
            let inflating = assembly.inflating.as_ref();
            size_of::<Assembly>()
                + assembly.block.as_ref().map_or(0, Block::capacity)
                + inflating.map_or(0, |inflating| inflating.pinned_bytes())
        })
    }

    /// What it holds of earlier messages.
    pub(crate) fn window_bytes(&self, receiver: &Receiver) -> usize {
        receiver.inflate.map_or(0, |key| self.inflate.window_bytes(key))
    }

    /// What grows with what is received: blocks, decompressors and windows.
    #[inline]
    pub(crate) fn growing_bytes(&self) -> usize {
        self.blocks.pinned_bytes() + self.inflate.pinned_bytes()
    }

    /// Messages under way.
    pub fn assemblies(&self) -> usize {
        self.assemblies.len()
    }

    /// Decompressors in use.
    pub(crate) fn inflaters(&self) -> usize {
        self.inflate.inflaters_in_use()
    }

    /// Windows of peers.
    pub(crate) fn windows(&self) -> usize {
        self.inflate.windows()
    }

    pub(super) fn begin(&mut self, opcode: Opcode) -> AssemblyKey {
        let index = self.assemblies.insert(Assembly {
            block: None,
            inflating: None,
            opcode,
            utf8: Utf8Validator::default(),
            fragments: 0,
            frame_bytes: 0,
            received_bytes: 0,
            placed_bytes: 0,
        });
        let name = u32::try_from(index + 1).expect("fewer assemblies than connections, a u32");
        AssemblyKey(NonZeroU32::new(name).expect("one more than an index"))
    }

    /// Nothing more of the message is inflated.
    pub(super) fn end_inflating(&mut self, key: AssemblyKey) {
        if let Some(inflating) = self.get_mut(key).inflating.take() {
            self.inflate.put_back(inflating);
        }
    }

    /// Gives the block back; tells how many payload bytes had been received.
    pub(super) fn end(&mut self, key: AssemblyKey) -> u64 {
        let assembly = self.assemblies.remove(key.index());
        if let Some(block) = assembly.block {
            self.blocks.put_back(block);
        }
        if let Some(inflating) = assembly.inflating {
            self.inflate.put_back(inflating);
        }
        assembly.received_bytes
    }

    /// Keeps a whole message for as long as it is lent.
    pub(super) fn lend(&mut self, key: AssemblyKey) {
        self.give_back_lent();
        self.lent = Some(key);
    }

    /// Takes back what the last event lent. The next event does so too; this is for when handling
    /// stops before.
    #[inline]
    pub fn give_back_lent(&mut self) {
        if let Some(key) = self.lent.take() {
            self.end(key);
        }
    }

    pub(super) fn get(&self, key: AssemblyKey) -> &Assembly {
        &self.assemblies[key.index()]
    }

    pub(super) fn get_mut(&mut self, key: AssemblyKey) -> &mut Assembly {
        &mut self.assemblies[key.index()]
    }

    /// Copies `piece` behind what is there. `declared_bytes` is the message's size as far as the
    /// headers so far have declared it; it is only a hint for choosing among free blocks.
    pub(super) fn append(
        &mut self,
        key: AssemblyKey,
        piece: &[u8],
        declared_bytes: usize,
    ) -> Result<(), Failure> {
        if piece.is_empty() {
            return Ok(());
        }
        let block = self.reserve(key, piece.len(), declared_bytes)?;
        let taken = block.extend_from_slice(piece);
        assert_eq!(taken, piece.len(), "the block was grown for the piece");
        Ok(())
    }

    /// The block of `key` with room for `more` bytes.
    pub(super) fn reserve(
        &mut self,
        key: AssemblyKey,
        more: usize,
        declared_bytes: usize,
    ) -> Result<&mut Block, Failure> {
        let Self { assemblies, blocks, .. } = self;
        let slot = &mut assemblies[key.index()].block;
        let block = match slot {
            Some(block) => block,
            None => {
                let block = blocks.take(more, declared_bytes).ok_or(Failure::PoolExhausted)?;
                slot.insert(block)
            }
        };
        if block.capacity() - block.len() < more {
            let need = block.len() + more;
            blocks.grow(block, need, declared_bytes).map_err(|_| Failure::PoolExhausted)?;
        }
        Ok(block)
    }

    /// The initialised rest of the block of `key`, at most `left` bytes, never empty; a full block
    /// is grown first, by no more than what has arrived.
    pub(super) fn spare(&mut self, key: AssemblyKey, left: u64) -> Option<&mut [u8]> {
        let received = usize::try_from(self.get(key).received_bytes).ok()?;
        let left = usize::try_from(left).ok()?;
        let block = self.reserve(key, 1, received.saturating_add(left)).ok()?;
        let spare = block.spare();
        let room = spare.len().min(left);
        Some(&mut spare[..room])
    }
}

impl AssemblyKey {
    pub(super) const fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// The most that a message within the limit can take on the wire when it is compressed. What does
/// not get shorter gets longer: by an eighth in fixed codes, of which the longest have nine bits
/// (RFC 1951 §3.2.6), and by the headers of blocks, of which a flush makes one for each fragment.
const fn compressed_bytes_max(message_bytes_max: u64) -> u64 {
    message_bytes_max.saturating_add(message_bytes_max / 4).saturating_add(1024)
}

impl Assembly {
    /// Counts a data frame of `payload_bytes` in, or says which limit it breaks.
    pub(super) fn begin_frame(
        &mut self,
        payload_bytes: u64,
        message_bytes_max: u64,
    ) -> Result<(), ProtocolError> {
        let count = self.fragments + 1;
        let earned = self.frame_bytes / FRAGMENT_BYTES_MEAN_MIN;
        if u64::from(count) > u64::from(FRAGMENTS_MIN) + earned {
            return Err(ProtocolError::TooManyFragments { count });
        }
        let frame_bytes = self.frame_bytes.saturating_add(payload_bytes);
        let frame_bytes_max = match self.inflating {
            None => message_bytes_max,
            Some(_) => compressed_bytes_max(message_bytes_max),
        };
        if frame_bytes > frame_bytes_max {
            return Err(ProtocolError::MessageTooLarge { limit_bytes: message_bytes_max });
        }
        self.fragments = count;
        self.frame_bytes = frame_bytes;
        Ok(())
    }

    /// Everything assembled so far.
    pub(super) fn payload(&self) -> &[u8] {
        self.block.as_ref().map_or(&[], Block::as_slice)
    }

    /// The last `bytes` of the block, as they were read straight into it.
    pub(super) fn placed_mut(&mut self, bytes: usize) -> &mut [u8] {
        let block = self.block.as_mut().expect("bytes were placed into a block");
        block.advance(bytes);
        let end = block.len();
        &mut block.as_mut_slice()[end - bytes..]
    }

    pub(super) fn payload_mut(&mut self) -> &mut [u8] {
        self.block.as_mut().map_or(&mut [], Block::as_mut_slice)
    }
}
