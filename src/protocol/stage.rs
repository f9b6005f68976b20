//! Where in a frame the receiving half stands.

use super::assembler::AssemblyKey;
use super::config::Config;
use super::event::Failure;
use super::receiver::Receiver;
use crate::wire::{HEADER_BYTES_MAX, MaskingKey, Opcode, ProtocolError};

/// Which part of a frame comes next.
#[derive(Debug)]
pub(super) enum Stage {
    /// A header, of which `len` bytes came in an earlier input.
    Header { torn: [u8; HEADER_BYTES_MAX], len: u8 },
    /// `left` bytes of a data frame of `message`.
    Data { left: u64, masking_key: MaskingKey, fin: bool },
    /// The same of a compressed `message`.
    #[cfg_attr(not(feature = "deflate"), expect(dead_code, reason = "nobody looks into it"))]
    Compressed { left: u64, masking_key: MaskingKey, fin: bool },
    /// `left` bytes of a torn control frame, the rest is in `held`.
    Control { left: u8, opcode: Opcode, masking_key: MaskingKey, held: AssemblyKey },
    /// The message up to here was lent in pieces, what comes behind it is wrong.
    Wrong(Fault),
    /// The peer's Close was received or the connection failed: whatever follows is ignored.
    Finished,
}

impl Stage {
    pub(super) const BETWEEN_FRAMES: Self = Self::Header { torn: [0; HEADER_BYTES_MAX], len: 0 };
}

/// What can be wrong within a message.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "deflate"), expect(dead_code, reason = "nothing is inflated"))]
pub(super) enum Fault {
    /// It is no UTF-8.
    Text,
    /// It does not inflate.
    Compression,
    /// It inflates to more than the limit.
    Limit,
    /// There is no memory for it.
    Pool,
}

impl Fault {
    pub(super) const fn failure(self, config: &Config) -> Failure {
        let limit_bytes = config.limits.message_bytes_max;
        Failure::Protocol(match self {
            Self::Text => ProtocolError::InvalidUtf8,
            Self::Compression => ProtocolError::CorruptCompression,
            Self::Limit => ProtocolError::MessageTooLarge { limit_bytes },
            Self::Pool => return Failure::PoolExhausted,
        })
    }
}

impl Receiver {
    /// Whether nothing of a message or frame has come that has not ended.
    pub(crate) fn is_between_messages(&self) -> bool {
        matches!(self.stage, Stage::Header { len: 0, .. }) && self.message.is_none()
    }
}
