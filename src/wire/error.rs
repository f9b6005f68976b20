//! The one list of what a peer can do wrong after the opening handshake.

use std::error::Error;
use std::fmt;

use super::{CloseCode, Opcode};

/// The peer broke RFC 6455 or one of our limits: fail the connection (§7.1.7) with
/// [`close_code`](Self::close_code). Each variant names the rule.
///
/// The errors about one frame come from this floor, those about a sequence of frames from the
/// protocol floor; together they are the family "peer broke the rules".
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ProtocolError {
    /// An RSV bit is set that no extension gave a meaning to, in this frame (§5.2).
    ReservedBits {
        /// The offending bits: `0b100` is RSV1, `0b010` RSV2, `0b001` RSV3.
        bits: u8,
    },
    /// The opcode is one of 0x3–0x7, 0xB–0xF (§5.2).
    ReservedOpcode {
        /// The four bits of the header.
        opcode: u8,
    },
    /// A client must mask every frame (§5.1).
    UnmaskedFrame,
    /// A server must not mask any frame (§5.1).
    MaskedFrame,
    /// A control frame must not be fragmented (§5.5).
    FragmentedControlFrame,
    /// A control frame has at most 125 bytes of payload (§5.5).
    ControlFrameTooLong,
    /// The payload length is not in its shortest form (§5.2).
    LengthNotMinimal,
    /// The payload length is 2^63 or more (§5.2).
    LengthOverflow,
    /// A continuation frame while no message is open (§5.4).
    UnexpectedContinuation,
    /// A text or binary frame in the middle of a fragmented message (§5.4).
    ExpectedContinuation {
        /// The frame's opcode.
        opcode: Opcode,
    },
    /// The message is larger than we take (§10.4).
    MessageTooLarge {
        /// The limit that it exceeds.
        limit_bytes: u64,
    },
    /// The message is cut in more fragments than we take (§10.4).
    TooManyFragments {
        /// The fragments so far, the refused one included.
        count: u32,
    },
    /// A text message is not UTF-8 (§8.1).
    InvalidUtf8,
    /// A compressed message does not inflate (RFC 7692 §7.2.2).
    CorruptCompression,
    /// The payload of a Close is one byte, half a close code (§5.5.1).
    TruncatedCloseCode,
    /// The close code must not be sent in a frame (§7.4).
    InvalidCloseCode {
        /// The number received.
        code: u16,
    },
    /// The close reason is not UTF-8 (§5.5.1, §8.1).
    InvalidCloseReason,
}

impl ProtocolError {
    /// The close code that tells the peer about this error (§7.4.1).
    pub const fn close_code(&self) -> CloseCode {
        match self {
            Self::ReservedBits { .. }
            | Self::ReservedOpcode { .. }
            | Self::UnmaskedFrame
            | Self::MaskedFrame
            | Self::FragmentedControlFrame
            | Self::ControlFrameTooLong
            | Self::LengthNotMinimal
            | Self::LengthOverflow
            | Self::UnexpectedContinuation
            | Self::ExpectedContinuation { .. }
            | Self::TruncatedCloseCode
            | Self::InvalidCloseCode { .. } => CloseCode::PROTOCOL_ERROR,
            Self::InvalidUtf8 | Self::CorruptCompression | Self::InvalidCloseReason => {
                CloseCode::INVALID_PAYLOAD
            }
            Self::MessageTooLarge { .. } => CloseCode::MESSAGE_TOO_BIG,
            Self::TooManyFragments { .. } => CloseCode::POLICY_VIOLATION,
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReservedBits { bits } => write!(f, "reserved RSV bits {bits:#05b} are set"),
            Self::ReservedOpcode { opcode } => write!(f, "opcode {opcode:#x} is reserved"),
            Self::UnmaskedFrame => f.write_str("a frame from the client is not masked"),
            Self::MaskedFrame => f.write_str("a frame from the server is masked"),
            Self::FragmentedControlFrame => f.write_str("a control frame is fragmented"),
            Self::ControlFrameTooLong => f.write_str("a control frame is longer than 125 bytes"),
            Self::LengthNotMinimal => f.write_str("a payload length is not in its shortest form"),
            Self::LengthOverflow => f.write_str("a payload length is 2^63 or more"),
            Self::UnexpectedContinuation => f.write_str("a continuation frame without a message"),
            Self::ExpectedContinuation { opcode } => {
                write!(f, "a {opcode:?} frame inside a fragmented message")
            }
            Self::MessageTooLarge { limit_bytes } => {
                write!(f, "a message is larger than {limit_bytes} bytes")
            }
            Self::TooManyFragments { count } => {
                write!(f, "a message is cut in too many fragments ({count})")
            }
            Self::InvalidUtf8 => f.write_str("a text message is not UTF-8"),
            Self::CorruptCompression => f.write_str("a compressed message does not inflate"),
            Self::TruncatedCloseCode => f.write_str("a close frame carries half a close code"),
            Self::InvalidCloseCode { code } => {
                write!(f, "close code {code} must not be sent in a frame")
            }
            Self::InvalidCloseReason => f.write_str("a close reason is not UTF-8"),
        }
    }
}

impl Error for ProtocolError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// One value of each variant and the code that the peer must see.
    const CODES: [(ProtocolError, u16); 16] = [
        (ProtocolError::ReservedBits { bits: 0b100 }, 1002),
        (ProtocolError::ReservedOpcode { opcode: 0xF }, 1002),
        (ProtocolError::UnmaskedFrame, 1002),
        (ProtocolError::MaskedFrame, 1002),
        (ProtocolError::FragmentedControlFrame, 1002),
        (ProtocolError::ControlFrameTooLong, 1002),
        (ProtocolError::LengthNotMinimal, 1002),
        (ProtocolError::LengthOverflow, 1002),
        (ProtocolError::UnexpectedContinuation, 1002),
        (ProtocolError::ExpectedContinuation { opcode: Opcode::Text }, 1002),
        (ProtocolError::MessageTooLarge { limit_bytes: 1 << 20 }, 1009),
        (ProtocolError::TooManyFragments { count: 1025 }, 1008),
        (ProtocolError::InvalidUtf8, 1007),
        (ProtocolError::TruncatedCloseCode, 1002),
        (ProtocolError::InvalidCloseCode { code: 1005 }, 1002),
        (ProtocolError::InvalidCloseReason, 1007),
    ];

    #[test]
    fn errors_stay_small() {
        assert!(size_of::<ProtocolError>() <= 16);
        assert!(size_of::<Result<(), ProtocolError>>() <= 16);
    }

    #[test]
    fn every_error_maps_to_a_code_that_may_be_sent() {
        for (error, code) in CODES {
            assert_eq!(error.close_code().as_u16(), code, "{error:?}");
            assert!(error.close_code().is_sendable(), "{error:?}");
        }
    }

    #[test]
    fn every_error_says_what_happened_in_its_own_words() {
        let mut texts: Vec<String> = CODES.iter().map(|(error, _)| error.to_string()).collect();
        assert_eq!(texts[0], "reserved RSV bits 0b100 are set");
        assert_eq!(texts[1], "opcode 0xf is reserved");
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), CODES.len());
    }
}
