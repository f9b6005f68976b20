//! The containers of the engine: slots, rings, blocks, queues and the timer wheel.
//!
//! Each belongs to one loop and knows nothing of frames or sockets. What is handed out by index is
//! either checked by a generation ([`Table`], [`SegmentKey`]) or owned by exactly one holder
//! ([`TimerKey`]). Whatever can grow has a bound, and says how much memory it pins.

pub mod block;
mod cursor;
pub mod frames;
pub mod growth;
pub mod hashing;
pub mod index;
pub mod outbox;
mod outbox_pool;
mod recall;
mod recalls;
pub mod ring;
mod segment;
mod shares;
#[cfg_attr(feature = "net", path = "mapped_storage.rs")]
#[cfg_attr(not(feature = "net"), path = "heap_storage.rs")]
mod storage;
pub mod table;
pub mod wheel;

pub use block::{Block, BlockPool, BlockPoolLimits};
pub use cursor::Cursor;
pub use frames::FrameRange;
pub use outbox::Outbox;
pub use outbox_pool::OutboxPool;
pub use recall::SegmentKey;
pub use segment::Recall;
pub use table::{Key, Table};
pub use wheel::{TimerKey, Wheel};

/// A pool stands at its limit: nothing was taken and nothing has changed.
///
/// The loop counts it, and the connection that needed the memory fails with 1013.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct PoolExhausted;

impl std::fmt::Display for PoolExhausted {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the memory pool is at its limit")
    }
}

impl std::error::Error for PoolExhausted {}
