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
        // A table and not a match, which would become a jump that mixed traffic mispredicts.
        if bits < 16 { OPCODES[bits as usize] } else { None }
    }

    /// Whether this is a control frame, which the opcode's highest bit says: at most 125 bytes of
    /// payload, never fragmented (§5.5).
    #[inline]
    pub const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// Indexed by the header's four bits.
const OPCODES: [Option<Opcode>; 16] = {
    let mut opcodes = [None; 16];
    opcodes[0x0] = Some(Opcode::Continuation);
    opcodes[0x1] = Some(Opcode::Text);
    opcodes[0x2] = Some(Opcode::Binary);
    opcodes[0x8] = Some(Opcode::Close);
    opcodes[0x9] = Some(Opcode::Ping);
    opcodes[0xA] = Some(Opcode::Pong);
    opcodes
};

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
    fn close_ping_and_pong_are_the_control_frames() {
        let is_control = |bits| Opcode::from_bits(bits).is_some_and(Opcode::is_control);
        let control: Vec<u8> = (0..16).filter(|&bits| is_control(bits)).collect();
        assert_eq!(control, [0x8, 0x9, 0xA]);
    }
}
