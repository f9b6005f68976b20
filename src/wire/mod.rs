//! Bytes to and from one frame (RFC 6455 §5, §7.4, §8.1): pure functions, no allocation on parse.
//!
//! Everything here is about a single frame or a single payload; what depends on the frames before
//! it (fragments, messages, the closing handshake) is the protocol floor's affair.

mod close;
mod error;
mod header;
pub mod mask;
mod opcode;
mod utf8;

pub use close::{
    CONTROL_PAYLOAD_BYTES_MAX, CloseCode, CloseFrame, ControlPayload, InvalidClose, encode_close,
    parse_close,
};
pub use error::ProtocolError;
pub use header::{HEADER_BYTES_MAX, Header, HeaderRules, Rsv1};
pub use mask::MaskingKey;
pub use opcode::Opcode;
pub use utf8::{Utf8Validator, validate_whole};

/// Which end of the connection *we* are; it decides who must mask (RFC 6455 §5.1).
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// We accepted the connection: frames we receive are masked, frames we send are not.
    Server,
    /// We opened the connection: frames we receive are not masked, frames we send are.
    Client,
}
