//! Compressed messages inflated as they arrive (RFC 7692 §7.2.2).
//!
//! ```text
//! input ──unmasked──► a piece ──► Inflater ──► the message's block ──► validated, then lent
//!                                  ▲ begins with
//!                               History, what earlier messages have left
//! ```
//!
//! A decompressor belongs to a message while that is under way, and to the loop otherwise; with
//! context takeover a connection owns its peer's window and nothing else.

use std::num::NonZeroU32;

use slab::Slab;

use crate::collections::Block;
use crate::deflate::{CorruptData, Direction, History, Inflater, Progress, Stop, WINDOW_BITS_MAX};
use crate::limits::{INFLATE_BEGIN_COST, INFLATE_INPUT_COST, INFLATERS_RETAINED, LoopLimits};
use crate::protocol::assembler::{Assembly, AssemblyKey, ReceivePools};
use crate::protocol::config::{Config, Delivery};
use crate::protocol::stage::Fault;

/// How a connection's peer compresses, and where its window is: without context takeover there is
/// none, with it there is one from the first message on. A [`Window`] in one word: so many bytes an
/// idle receiving half has left of 24.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InflateKey(NonZeroU32);

/// What a peer's messages may refer to.
enum Window {
    /// Nothing but themselves.
    None,
    /// Earlier messages, of which there are none yet.
    Unmade { bits: u8 },
    /// Those whose end is in the pool.
    At(usize),
}

impl InflateKey {
    pub(super) fn new(peer: Direction) -> Self {
        Self::named(if peer.context_takeover { UNMADE + u32::from(peer.window_bits) } else { NONE })
    }

    fn at(index: usize) -> Self {
        let name = u32::try_from(index + 1).expect("fewer windows than connections, a u32");
        assert!(name < UNMADE, "fewer windows than there can be sockets");
        Self::named(name)
    }

    fn named(name: u32) -> Self {
        Self(NonZeroU32::new(name).expect("no name is zero"))
    }

    fn window(self) -> Window {
        match self.0.get() {
            NONE => Window::None,
            name @ UNMADE.. => Window::Unmade { bits: (name - UNMADE) as u8 },
            name => Window::At(name as usize - 1),
        }
    }
}

// Names above those of the windows in the pool.
const NONE: u32 = u32::MAX;
const UNMADE: u32 = u32::MAX - 16;

/// The decompressors of a loop, and the windows of all peers that have one.
#[derive(Debug)]
pub(in crate::protocol) struct InflatePool {
    #[expect(clippy::vec_box, reason = "boxed as messages hold them: none is moved")]
    free: Vec<Box<Inflating>>,
    in_use: usize,
    windows: Slab<History>,
    /// Of all histories, those of messages under way included.
    history_bytes: usize,
    pinned_bytes_max: usize,
}

/// What inflates one message.
#[derive(Debug)]
pub(in crate::protocol) struct Inflating {
    inflater: Inflater,
    /// What a message that is lent in pieces may refer to, if its peer has no window.
    history: History,
    /// Bytes of the message's block that are part of a history.
    remembered_bytes: usize,
}

/// What a step has done; what it gave stands at the end of the message's block.
pub(in crate::protocol) struct Inflated {
    /// Bytes of the piece that are done with.
    pub(in crate::protocol) consumed: usize,
    /// What that counts against the turn's bytes.
    pub(in crate::protocol) cost: usize,
    /// What is wrong behind them.
    pub(in crate::protocol) end: Result<(), Fault>,
}

impl InflatePool {
    pub(in crate::protocol) fn new(limits: &LoopLimits) -> Self {
        Self {
            free: Vec::new(),
            in_use: 0,
            windows: Slab::new(),
            history_bytes: 0,
            pinned_bytes_max: limits.inflate_bytes_max,
        }
    }

    pub(in crate::protocol) fn pinned_bytes(&self) -> usize {
        (self.free.len() + self.in_use) * Inflater::PINNED_BYTES
            + self.history_bytes
            + self.windows.capacity() * size_of::<History>()
    }

    /// Frees the decompressors that are kept for the next message.
    pub(in crate::protocol) fn shrink(&mut self) {
        for inflating in std::mem::take(&mut self.free) {
            self.history_bytes -= inflating.history.pinned_bytes();
        }
        self.windows.shrink_to_fit();
    }

    /// What is kept of this peer's messages.
    pub(in crate::protocol) fn window_bytes(&self, key: InflateKey) -> usize {
        match key.window() {
            Window::At(index) => size_of::<History>() + self.windows[index].pinned_bytes(),
            Window::None | Window::Unmade { .. } => 0,
        }
    }

    /// Messages being inflated.
    pub(in crate::protocol) fn inflaters_in_use(&self) -> usize {
        self.in_use
    }

    /// Windows of peers.
    pub(in crate::protocol) fn windows(&self) -> usize {
        self.windows.len()
    }

    /// The connection is over.
    pub(in crate::protocol) fn release(&mut self, key: InflateKey) {
        if let Window::At(index) = key.window() {
            self.history_bytes -= self.windows.remove(index).pinned_bytes();
        }
    }

    fn take(&mut self) -> Result<Box<Inflating>, Fault> {
        let inflating = match self.free.pop() {
            Some(inflating) => inflating,
            None => {
                self.make_room(Inflater::PINNED_BYTES)?;
                Box::new(Inflating {
                    inflater: Inflater::new(),
                    history: History::new(WINDOW_BITS_MAX),
                    remembered_bytes: 0,
                })
            }
        };
        self.in_use += 1;
        Ok(inflating)
    }

    /// Whether `bytes` more may be held, at the expense of what is free if need be. Who needs none
    /// goes on although the bound is reached.
    fn make_room(&mut self, bytes: usize) -> Result<(), Fault> {
        while bytes > 0 && self.pinned_bytes() + bytes > self.pinned_bytes_max {
            let inflating = self.free.pop().ok_or(Fault::Pool)?;
            self.history_bytes -= inflating.history.pinned_bytes();
        }
        Ok(())
    }

    pub(in crate::protocol) fn put_back(&mut self, mut inflating: Box<Inflating>) {
        self.in_use -= 1;
        if self.free.len() < INFLATERS_RETAINED {
            inflating.history.clear();
            inflating.remembered_bytes = 0;
            self.free.push(inflating);
        } else {
            self.history_bytes -= inflating.history.pinned_bytes();
        }
    }

    /// Has `inflating` begin with all that the peer may refer to, at last `block`, the message so
    /// far. `begin` says how.
    fn begin(
        &self,
        inflating: &mut Inflating,
        peer: InflateKey,
        block: &[u8],
        begin: fn(&mut Inflater, [&[u8]; 3]),
    ) {
        let ((older, newer), window_bytes) = match peer.window() {
            Window::None => (inflating.history.as_slices(), inflating.history.bytes_max()),
            Window::Unmade { bits } => ((&[][..], &[][..]), 1 << bits),
            Window::At(index) => (self.windows[index].as_slices(), self.windows[index].bytes_max()),
        };
        let block = &block[inflating.remembered_bytes..];
        // How much of the block is not in the history yet depends on the pieces that came. What may
        // be referred to does not.
        let mut excess = (older.len() + newer.len() + block.len()).saturating_sub(window_bytes);
        let history = [older, newer, block].map(|bytes| {
            let (beyond, within) = bytes.split_at(excess.min(bytes.len()));
            excess -= beyond.len();
            within
        });
        begin(&mut inflating.inflater, history);
    }

    /// Keeps the end of `block` for what may refer to it: later messages, or later pieces of one
    /// that is lent in pieces.
    fn remember(
        &mut self,
        inflating: &mut Inflating,
        peer: &mut InflateKey,
        block: &[u8],
    ) -> Result<(), Fault> {
        let bytes = &block[inflating.remembered_bytes..];
        inflating.remembered_bytes = block.len();
        if bytes.is_empty() {
            return Ok(());
        }
        let growth = match peer.window() {
            Window::None => inflating.history.growth(bytes.len()),
            Window::Unmade { bits } => History::new(bits).growth(bytes.len()),
            Window::At(index) => self.windows[index].growth(bytes.len()),
        };
        self.make_room(growth)?;
        if let Window::Unmade { bits } = peer.window() {
            *peer = InflateKey::at(self.windows.insert(History::new(bits)));
        }
        let history = match peer.window() {
            Window::At(index) => &mut self.windows[index],
            Window::None | Window::Unmade { .. } => &mut inflating.history,
        };
        history.append(bytes);
        self.history_bytes += growth;
        Ok(())
    }
}

impl Inflating {
    /// Memory that it holds.
    pub(in crate::protocol) fn pinned_bytes(&self) -> usize {
        Inflater::PINNED_BYTES + self.history.pinned_bytes()
    }
}

impl ReceivePools {
    /// The message that has begun is compressed.
    pub(in crate::protocol) fn begin_inflating(
        &mut self,
        key: AssemblyKey,
        peer: InflateKey,
    ) -> Result<(), Fault> {
        let mut inflating = self.inflate.take()?;
        self.inflate.begin(&mut inflating, peer, &[], Inflater::begin);
        self.get_mut(key).inflating = Some(inflating);
        Ok(())
    }

    /// Inflates `piece` behind what is in the message's block, until that has cost `allowance`;
    /// never past the limit of messages. It stops with input left or with nothing left to say.
    pub(in crate::protocol) fn inflate(
        &mut self,
        key: AssemblyKey,
        peer: &mut InflateKey,
        piece: &[u8],
        config: &Config,
        allowance: usize,
    ) -> Inflated {
        let allowance = match config.delivery {
            Delivery::Whole => allowance,
            Delivery::Streaming => {
                self.forget_piece(key);
                allowance.min(CHUNK_BYTES)
            }
        };
        let mut step = Inflated { consumed: 0, cost: 0, end: Ok(()) };
        let mut stop = Stop::InputUsed;
        while step.end.is_ok() {
            let rest = &piece[step.consumed..];
            let goes_on = match rest {
                [] => stop == Stop::OutputFull,
                _ => step.cost < allowance,
            };
            if !goes_on {
                break;
            }
            match self.feed(key, config, rest.len(), |inflater, room| inflater.inflate(rest, room))
            {
                Err(fault) => step.end = Err(fault),
                Ok(progress) => {
                    stop = progress.stop;
                    step.consumed += progress.consumed;
                    step.cost += progress.produced + progress.consumed * INFLATE_INPUT_COST;
                    if stop == Stop::FinalBlock {
                        step.cost += INFLATE_BEGIN_COST;
                        self.resume(key, *peer);
                    }
                }
            }
        }
        if step.end.is_ok() && config.delivery == Delivery::Streaming {
            step.end = self.remember(key, peer);
        }
        step
    }

    /// The last byte of the message is inflated: so is what its sender took away from the end.
    pub(in crate::protocol) fn finish_inflating(
        &mut self,
        key: AssemblyKey,
        peer: &mut InflateKey,
        config: &Config,
    ) -> Result<(), Fault> {
        let received_bytes = self.get(key).received_bytes;
        let block_bytes = self.get(key).payload().len();
        loop {
            match self.feed(key, config, 0, Inflater::finish) {
                Ok(Progress { stop: Stop::FinalBlock, .. }) => break,
                Ok(_) => {}
                Err(fault) => {
                    // What a truncated message makes of that is no part of it.
                    let assembly = self.get_mut(key);
                    assembly.received_bytes = received_bytes;
                    assembly.truncate(block_bytes);
                    return Err(fault);
                }
            }
        }
        match peer.window() {
            Window::None => Ok(()),
            Window::Unmade { .. } | Window::At(_) => self.remember(key, peer),
        }
    }

    /// Gives `feed` the message's decompressor and room for what comes out.
    fn feed(
        &mut self,
        key: AssemblyKey,
        config: &Config,
        fed_bytes: usize,
        feed: impl FnOnce(&mut Inflater, &mut [u8]) -> Result<Progress, CorruptData>,
    ) -> Result<Progress, Fault> {
        let left = config.limits.message_bytes_max - self.get(key).received_bytes;
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        if left == 0 {
            // The message is as long as it may be: whatever it still gives is too much, even if
            // something corrupt comes right behind it.
            let (inflating, _) = self.get_mut(key).inflating_and_block();
            return match feed(&mut inflating.inflater, &mut [0]) {
                Ok(Progress { produced: 1.., .. }) | Err(CorruptData { produced: 1.. }) => {
                    Err(Fault::Limit)
                }
                progress => progress.map_err(|_| Fault::Compression),
            };
        }
        let room = (4 * fed_bytes).clamp(ROOM_BYTES_MIN, ROOM_BYTES_MAX).min(left);
        self.reserve(key, room, room).map_err(|_| Fault::Pool)?;
        let assembly = self.get_mut(key);
        let (Some(block), Some(inflating)) = (&mut assembly.block, &mut assembly.inflating) else {
            unreachable!("a compressed message has a decompressor and now a block")
        };
        let spare = block.spare();
        let room = spare.len().min(left).min(ROOM_BYTES_MAX);
        let progress = feed(&mut inflating.inflater, &mut spare[..room]);
        let produced = match progress {
            Ok(Progress { produced, .. }) | Err(CorruptData { produced }) => produced,
        };
        block.advance(produced);
        assembly.received_bytes += produced as u64;
        progress.map_err(|_| Fault::Compression)
    }

    /// Goes on behind a final block.
    fn resume(&mut self, key: AssemblyKey, peer: InflateKey) {
        let (inflating, block) = self.assemblies[key.index()].inflating_and_block();
        self.inflate.begin(inflating, peer, block, Inflater::resume);
    }

    fn remember(&mut self, key: AssemblyKey, peer: &mut InflateKey) -> Result<(), Fault> {
        let (inflating, block) = self.assemblies[key.index()].inflating_and_block();
        self.inflate.remember(inflating, peer, block)
    }

    /// The piece was lent: the next takes its place.
    fn forget_piece(&mut self, key: AssemblyKey) {
        let assembly = self.get_mut(key);
        assembly.truncate(0);
        if let Some(inflating) = &mut assembly.inflating {
            inflating.remembered_bytes = 0;
        }
    }
}

impl Assembly {
    /// What inflates the message, and what it has given so far: nothing as long as there is no
    /// block.
    fn inflating_and_block(&mut self) -> (&mut Inflating, &[u8]) {
        let inflating = self.inflating.as_mut().expect("a compressed message has a decompressor");
        (inflating, self.block.as_ref().map_or(&[], Block::as_slice))
    }

    /// Forgets what was assembled behind `bytes`.
    pub(super) fn truncate(&mut self, bytes: usize) {
        if let Some(block) = &mut self.block {
            block.truncate(bytes);
        }
    }
}

/// The least room that is offered to a decompressor: a match and more.
const ROOM_BYTES_MIN: usize = 512;
/// The most, so that budgets are looked at in between.
const ROOM_BYTES_MAX: usize = 16 * 1024;
/// About so much of a message that is lent in pieces makes one.
const CHUNK_BYTES: usize = 16 * 1024;
