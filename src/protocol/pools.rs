//! The memory that connections of one loop share.

use std::time::Instant;

use super::assembler::ReceivePools;
use super::compression::DeflatePool;
use super::masking_keys::MaskingKeys;
use super::sender::Sender;
use super::timer::Timeline;
use crate::collections::OutboxPool;
use crate::collections::hashing::Hashing;
use crate::limits::LoopLimits;

/// The memory that the connections of one loop share, and the origin of their time.
///
/// An idle connection owns nothing of it but the windows of context takeover. Make one per thread;
/// a user of the codec alone makes one for all its connections.
#[derive(Debug)]
pub struct Pools {
    pub(crate) receive: ReceivePools,
    pub(crate) send: SendPools,
}

/// What the sending halves share.
#[derive(Debug)]
pub struct SendPools {
    pub(crate) outbox: OutboxPool,
    pub(crate) masking_keys: MaskingKeys,
    pub(crate) timeline: Timeline,
    pub(super) deflate: DeflatePool,
}

/// Whether connections may begin to own what their messages refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contexts {
    Given,
    #[cfg_attr(not(feature = "net"), allow(dead_code, reason = "a loop does it under pressure"))]
    Refused,
}

/// What the connections of one loop hold of its [`Pools`]; all zero when they are gone, and when
/// they are idle all but the windows of context takeover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolsInUse {
    /// Messages that have begun and not ended, and control frames of which bytes are missing.
    pub assemblies: usize,
    /// Blocks that hold bytes of those.
    pub blocks: usize,
    /// Rings with unsent bytes.
    pub rings: usize,
    /// Entries of all send queues together.
    pub segments: usize,
    /// Decompressors, one for each compressed message that has begun and not ended.
    pub inflaters: usize,
    /// What connections keep of their peers' messages because later ones may refer to it.
    pub windows: usize,
    /// What connections keep of what they have sent because later messages may refer to it: a
    /// window or a whole compressor each.
    pub takeovers: usize,
}

impl Pools {
    /// Pools within `limits`. `now` is the origin of time, no connection may be given an earlier
    /// instant; `seed` feeds the masking keys of clients and must be unpredictable in production
    /// (RFC 6455 §5.3); so are the hashes by which messages are found.
    pub fn new(limits: &LoopLimits, now: Instant, seed: [u8; 32]) -> Self {
        Self {
            receive: ReceivePools::new(limits),
            send: SendPools {
                outbox: OutboxPool::new(limits.ring_bytes, limits.rings_max, limits.segments_max)
                    .with_rings_retained_max(limits.rings_retained)
                    .with_hashing(Hashing::of_loop(&seed)),
                masking_keys: MaskingKeys::new(seed),
                timeline: Timeline::new(now),
                deflate: DeflatePool::new(limits),
            },
        }
    }

    /// Bytes of memory that the pools hold, in use or kept for the next message.
    pub fn pinned_bytes(&self) -> usize {
        self.receive.pinned_bytes() + self.send.pinned_bytes()
    }

    /// What the connections hold at this moment.
    pub fn in_use(&self) -> PoolsInUse {
        PoolsInUse {
            assemblies: self.receive.assemblies(),
            blocks: self.receive.blocks.outstanding(),
            rings: self.send.outbox.rings_in_use(),
            segments: self.send.outbox.segments(),
            inflaters: self.receive.inflaters(),
            windows: self.receive.windows(),
            takeovers: self.send.takeovers(),
        }
    }
}

impl SendPools {
    /// Bytes of memory that these hold, in use or kept for the next message.
    pub(crate) fn pinned_bytes(&self) -> usize {
        let owners_bytes = self.takeovers() * Sender::TAKEOVER_PLACE_BYTES;
        self.outbox.pinned_bytes() + self.deflate.pinned_bytes() + owners_bytes
    }

    /// Frees what is kept for the next batch or message.
    pub(crate) fn shrink(&mut self) {
        self.outbox.shrink();
        self.deflate.shrink();
    }

    /// Whether connections may begin to own compressors and windows. Those that may not send their
    /// messages as they are.
    pub(crate) fn set_contexts(&mut self, contexts: Contexts) {
        self.deflate.set_contexts(contexts);
    }

    /// What grows with what is sent: rings, what is queued by reference, and compressors.
    #[inline]
    pub(crate) fn growing_bytes(&self) -> usize {
        let shared_bytes = usize::try_from(self.outbox.shared_bytes()).unwrap_or(usize::MAX);
        self.outbox.ring_bytes() + shared_bytes + self.deflate.pinned_bytes()
    }

    /// Windows and compressors of single connections.
    pub(crate) fn takeovers(&self) -> usize {
        self.deflate.takeovers()
    }
}
