//! What a connection tells its application.

use std::fmt;
use std::time::Duration;

use crate::wire::{CloseCode, CloseFrame, Opcode, ProtocolError, validate_whole};

/// What arrived. Payloads are lent from the input or from a pooled block and end with the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A whole text message, valid UTF-8 (RFC 6455 §5.6).
    Text(&'a str),
    /// A whole binary message.
    Binary(&'a [u8]),
    /// A piece of a message, with [`Delivery::Streaming`](super::Delivery::Streaming) only.
    Chunk(Chunk<'a>),
    /// A ping. Its pong is queued already.
    Ping(&'a [u8]),
    /// A pong, asked for or not (RFC 6455 §5.5.3).
    Pong {
        /// At most 125 bytes.
        payload: &'a [u8],
        /// The time since our last heartbeat was flushed, if this is its answer.
        round_trip: Option<Duration>,
    },
    /// The peer's Close; `None` if it carried no code. Ours is queued already; nothing else
    /// follows.
    Close(Option<CloseFrame<'a>>),
    /// We fail the connection (RFC 6455 §7.1.7). A Close that says why is queued already; nothing
    /// else follows.
    Failed(Failure),
}

impl<'a> Event<'a> {
    /// A whole message. Text is validated here where it lies whole, and once more where it was
    /// assembled from pieces that were valid: a `&str` needs that proof in one place.
    #[inline(always)]
    pub(super) fn message(opcode: Opcode, payload: &'a [u8]) -> Result<Self, ProtocolError> {
        if opcode != Opcode::Text {
            return Ok(Self::Binary(payload));
        }
        validate_whole(payload).map(Self::Text).map_err(|_| ProtocolError::InvalidUtf8)
    }
}

/// A piece of a message as it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Chunk<'a> {
    /// `Text` or `Binary`, the same for all pieces of a message.
    pub opcode: Opcode,
    /// The bytes; empty only where the message ends without any.
    pub payload: &'a [u8],
    /// Payload bytes of this message in earlier pieces: 0 for the first.
    pub offset: u64,
    /// Whether the message ends here.
    pub fin: bool,
}

/// Why we fail a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// The peer broke the protocol or a limit.
    Protocol(ProtocolError),
    /// The loop's pools are at their limit.
    PoolExhausted,
    /// The peer reads too slowly: a send met a full queue.
    Backpressure,
    /// The process is about to run out of memory.
    MemoryPressure,
}

impl Failure {
    /// The code that the peer is told. Total.
    pub const fn close_code(&self) -> CloseCode {
        match self {
            Self::Protocol(error) => error.close_code(),
            Self::PoolExhausted | Self::Backpressure | Self::MemoryPressure => {
                CloseCode::TRY_AGAIN_LATER
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(error) => error.fmt(out),
            Self::PoolExhausted => out.write_str("the pools of the loop are exhausted"),
            Self::Backpressure => out.write_str("the peer reads too slowly"),
            Self::MemoryPressure => out.write_str("memory is scarce"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<ProtocolError> for Failure {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}
