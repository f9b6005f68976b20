//! The six opcodes of RFC 6455 §5.2.

/// What a frame's payload means (RFC 6455 §5.2, §11.8). Reserved opcodes have no value here: a
/// frame that carries one fails the connection while its header is parsed.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Opcode {
    /// A further fragment of the message that a text or binary frame began.
    Continuation = 0x0,
    /// A text message, or its first fragment: UTF-8.
    Text = 0x1,
    /// A binary message, or its first fragment.
    Binary = 0x2,
    /// Begins or answers the closing handshake (§5.5.1).
    Close = 0x8,
    /// Asks the peer for a pong (§5.5.2).
    Ping = 0x9,
    /// Answers a ping, or is unsolicited (§5.5.3).
    Pong = 0xA,
}

impl Opcode {
    /// The opcode with this number; `None` for the reserved 0x3–0x7 and 0xB–0xF, and for anything
    /// that does not fit the header's four bits.
    #[inline]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0x0 => Some(Self::Continuation),
            0x1 => Some(Self::Text),
            0x2 => Some(Self::Binary),
            0x8 => Some(Self::Close),
            0x9 => Some(Self::Ping),
            0xA => Some(Self::Pong),
            _ => None,
        }
    }

    /// Whether this is a control frame: at most 125 bytes of payload, never fragmented (§5.5).
    #[inline]
    pub const fn is_control(self) -> bool {
        match self {
            Self::Close | Self::Ping | Self::Pong => true,
            Self::Continuation | Self::Text | Self::Binary => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_its_own_opcode_or_reserved() {
        let defined = [0x0, 0x1, 0x2, 0x8, 0x9, 0xA];
        for bits in 0..=u8::MAX {
            match Opcode::from_bits(bits) {
                Some(opcode) => assert_eq!(opcode as u8, bits),
                None => assert!(!defined.contains(&bits), "{bits:#x} is defined"),
            }
        }
    }

    #[test]
    fn control_opcodes_are_those_with_the_high_bit() {
        for opcode in (0..16).filter_map(Opcode::from_bits) {
            assert_eq!(opcode.is_control(), opcode as u8 & 0x8 != 0, "{opcode:?}");
        }
    }
}
