//! What is sent, and what becomes of it.

use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::compression::Variants;
use crate::wire::{HEADER_BYTES_MAX, Header, Opcode, mask};

/// What became of a send.
#[must_use = "a dropped message is lost: say so to whom it concerns, or ignore it deliberately"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// Taken; nothing before it is held up, and it is offered to the kernel in this turn.
    Sent,
    /// Taken, behind so many bytes that the kernel has refused so far.
    Queued {
        /// Bytes in front of the message.
        bytes: usize,
    },
    /// Not taken.
    Dropped(DropReason),
}

impl SendOutcome {
    /// Whether the message was taken.
    pub const fn is_taken(self) -> bool {
        !matches!(self, Self::Dropped(_))
    }
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DropReason {
    /// The queue already holds `backpressure_bytes_max`.
    Backpressure,
    /// The closing handshake has begun: nothing may follow a Close (RFC 6455 §5.5.1).
    Closing,
    /// There is no such connection any more.
    Gone,
    /// The loop's pool of send rings is at its limit; the connection fails with 1013.
    PoolExhausted,
    /// A message sent in parts is not finished: its last part must come first (RFC 6455 §5.4).
    MessageInProgress,
    /// A further part was given, but no message was begun.
    NoMessageInProgress,
    /// A part was given with an opcode other than text or binary.
    NotAMessage,
    /// More than the frame or queue can count (4 GiB), or a ping of over 125 bytes.
    TooLarge,
}

/// Which part of a message is sent in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The first of several.
    First,
    /// Neither the first nor the last.
    Middle,
    /// The last of several.
    Last,
}

/// A message encoded once and sent to many: its frame is shared by reference.
///
/// Cloning copies no bytes. The frame is as a server sends it; a client, whose every
/// frame needs a masking key of its own (RFC 6455 §5.3), copies the payload instead.
///
/// ```
/// use corewire::PreparedMessage;
/// let news = PreparedMessage::text("hello");
/// assert_eq!(news.payload(), b"hello");
/// ```
#[derive(Clone)]
pub struct PreparedMessage {
    frame: Bytes,
    header_bytes: u8,
    opcode: Opcode,
    /// `None` if it is never to be compressed.
    variants: Option<Arc<Variants>>,
}

impl PreparedMessage {
    /// A text message.
    pub fn text(payload: &str) -> Self {
        Self::encode(Opcode::Text, payload.as_bytes())
    }

    /// A binary message.
    pub fn binary(payload: &[u8]) -> Self {
        Self::encode(Opcode::Binary, payload)
    }

    fn encode(opcode: Opcode, payload: &[u8]) -> Self {
        let frame = encode_frame(&whole_header(opcode, payload.len()), payload);
        let variants = Variants::shared();
        Self { header_bytes: (frame.len() - payload.len()) as u8, frame, opcode, variants }
    }

    /// The same message, never to be compressed: because it is so already, or holds a secret
    /// together with what somebody else chose.
    #[must_use]
    pub fn uncompressed(self) -> Self {
        Self { variants: None, ..self }
    }

    /// The payload, without its header.
    pub fn payload(&self) -> &[u8] {
        &self.frame[usize::from(self.header_bytes)..]
    }

    /// Text or binary.
    pub const fn opcode(&self) -> Opcode {
        self.opcode
    }

    /// The compressed frames, unless there shall be none.
    pub(super) fn variants(&self) -> Option<&Variants> {
        self.variants.as_deref()
    }

    /// The whole frame as a server sends it.
    pub(crate) const fn frame(&self) -> &Bytes {
        &self.frame
    }
}

impl fmt::Debug for PreparedMessage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What a message says stays out of logs.
        out.debug_struct("PreparedMessage")
            .field("opcode", &self.opcode)
            .field("payload_bytes", &self.payload().len())
            .finish_non_exhaustive()
    }
}

/// The header of a frame that is no fragment, unmasked.
#[inline]
pub(super) const fn whole_header(opcode: Opcode, payload_bytes: usize) -> Header {
    let payload_bytes = payload_bytes as u64;
    Header { fin: true, rsv1: false, opcode, masking_key: None, payload_bytes }
}

/// A frame in memory of its own, masked if its header has a key.
pub(super) fn encode_frame(header: &Header, payload: &[u8]) -> Bytes {
    let mut head = [0; HEADER_BYTES_MAX];
    let head_bytes = header.encode(&mut head);
    let mut frame = BytesMut::with_capacity(head_bytes + payload.len());
    frame.put_slice(&head[..head_bytes]);
    frame.put_slice(payload);
    if let Some(key) = header.masking_key {
        mask::apply(&mut frame[head_bytes..], key);
    }
    frame.freeze()
}
