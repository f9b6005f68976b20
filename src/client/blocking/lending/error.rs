//! Why a pool for threads does not do what it was asked.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::client::pool::PoolConfigError;
use crate::protocol::CloseSummary;

/// Why there is no pool.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// It cannot be as it was described.
    Pool(PoolConfigError),
    /// The system has no thread, no descriptors or no random numbers for a loop.
    Loop(io::Error),
}

/// Why a leased connection does not do what it was asked. Cheap to clone.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LeaseError {
    /// The outgoing queue is full, and stayed so for as long as could be waited.
    Full,
    /// Flushing takes longer than was waited.
    TimedOut,
    /// So many messages that were taken are not sent, and will not be, for no fault of the
    /// connection; each is told of here once.
    Unsent(u64),
    /// The lease is over: it was held too long, or its endpoint was removed, or the pool has ended
    /// before it came back.
    Revoked,
    /// The lease is over, because its connection has ended.
    Closed(Arc<CloseSummary>),
    /// The poll of the pool's loop has failed, or the callback for events panicked.
    LoopFailed,
}

impl LeaseError {
    /// Whether the lease is over.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Full | Self::TimedOut | Self::Unsent(_) => false,
            Self::Revoked | Self::Closed(_) | Self::LoopFailed => true,
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pool(error) => error.fmt(out),
            Self::Loop(error) => write!(out, "there is no loop for the pool: {error}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(match self {
            Self::Pool(error) => error,
            Self::Loop(error) => error,
        })
    }
}

impl From<PoolConfigError> for StartError {
    fn from(error: PoolConfigError) -> Self {
        Self::Pool(error)
    }
}

impl fmt::Display for LeaseError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => out.write_str("the queue of the leased connection is full"),
            Self::TimedOut => out.write_str("sending takes too long"),
            Self::Unsent(messages) => write!(out, "{messages} messages are not sent"),
            Self::Revoked => out.write_str("the lease of the connection was revoked"),
            Self::Closed(summary) => {
                write!(out, "the leased connection was closed with {}", summary.code.as_u16())?;
                if summary.reason.is_empty() { Ok(()) } else { write!(out, ": {}", summary.reason) }
            }
            Self::LoopFailed => out.write_str("the pool's loop has failed"),
        }
    }
}

impl std::error::Error for LeaseError {}
