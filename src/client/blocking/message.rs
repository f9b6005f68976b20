//! Messages that outlive a callback.

use bytes::Bytes;

use crate::reactor::Message;
use crate::wire::Opcode;

/// A whole message, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnedMessage {
    /// Valid UTF-8 (RFC 6455 §5.6).
    Text(String),
    /// Any bytes.
    Binary(Vec<u8>),
}

impl OwnedMessage {
    /// The same, lent: to be sent on, for instance.
    pub fn as_message(&self) -> Message<'_> {
        match self {
            Self::Text(text) => Message::Text(text),
            Self::Binary(bytes) => Message::Binary(bytes),
        }
    }

    /// The text; `None` for a binary message.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    /// The bytes of either.
    pub fn payload(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// The bytes of either, without a copy.
    pub fn into_payload(self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.into_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// What it counts against the bound of a queue.
    pub(super) fn counted_bytes(&self) -> usize {
        self.payload().len() + PLACE_BYTES
    }

    /// What a queue has kept as bytes.
    pub(super) fn of_payload(opcode: Opcode, payload: &Bytes) -> Self {
        let bytes = payload.to_vec();
        match opcode {
            Opcode::Text => match String::from_utf8(bytes) {
                Ok(text) => Self::Text(text),
                Err(error) => Self::Binary(error.into_bytes()),
            },
            _ => Self::Binary(bytes),
        }
    }
}

/// What a message counts besides its payload: its place in a queue that grows by doubling, and the
/// head of an allocation.
const PLACE_BYTES: usize = 2 * size_of::<OwnedMessage>() + 16;

impl From<Message<'_>> for OwnedMessage {
    fn from(message: Message<'_>) -> Self {
        match message {
            Message::Text(text) => Self::Text(text.to_owned()),
            Message::Binary(bytes) => Self::Binary(bytes.to_vec()),
        }
    }
}
