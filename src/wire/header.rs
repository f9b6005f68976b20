//! The frame header (RFC 6455 §5.2).
//!
//! ```text
//!  byte 0: FIN RSV1 RSV2 RSV3 opcode(4)
//!  byte 1: MASK length(7)               0–125, or 126: 2 bytes follow, or 127: 8 bytes follow
//!  then:   extended length (0, 2 or 8 bytes, big endian), masking key (0 or 4 bytes)
//! ```

use super::{CONTROL_PAYLOAD_BYTES_MAX, MaskingKey, Opcode, ProtocolError, Role};

/// The longest header: two bytes, an extended length of eight and a masking key.
pub const HEADER_BYTES_MAX: usize = 14;

/// A frame's header, without the payload that follows it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Whether this is the last fragment of its message; always set on control frames.
    pub fin: bool,
    /// The one RSV bit that an extension may give a meaning to: "compressed" (RFC 7692 §6).
    pub rsv1: bool,
    /// What the payload means.
    pub opcode: Opcode,
    /// The key that the payload is masked with; `None` when it is not masked.
    pub masking_key: Option<MaskingKey>,
    /// The length of the payload that follows; below 2^63, and at most 125 on control frames.
    pub payload_bytes: u64,
}

/// Whether an extension that uses RSV1 was agreed upon.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Rsv1 {
    /// No: RSV1 must be clear (RFC 6455 §5.2).
    Forbidden,
    /// Yes: RSV1 may be set on the first frame of a data message, and there only (RFC 7692 §6).
    Negotiated,
}

/// What a header is judged by; fixed for the life of a connection.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct HeaderRules {
    /// Which end we are: a server takes masked frames only, a client unmasked ones only.
    pub role: Role,
    /// Whether RSV1 may be set.
    pub rsv1: Rsv1,
}

/// A header and how many bytes of the input it took.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct ParsedHeader {
    /// The header.
    pub header: Header,
    /// Its length, 2 to [`HEADER_BYTES_MAX`]; the payload begins there.
    pub header_bytes: usize,
}

impl Header {
    /// Parses the header at the beginning of `input`; `None` when it needs more bytes.
    ///
    /// # Errors
    /// Whatever is wrong is reported as soon as the bytes that prove it are there, so a torn
    /// header fails as early as a whole one, and with the same error. A `None` therefore also
    /// means that the bytes so far can still become a legal header.
    #[inline]
    pub fn parse(input: &[u8], rules: HeaderRules) -> Result<Option<ParsedHeader>, ProtocolError> {
        // What a server nearly always sees, a short masked frame, in one bounds check.
        if let Some(&[first, second, k0, k1, k2, k3]) = input.first_chunk()
            && rules.role == Role::Server
            && second & MASK != 0
            && second & LENGTH < LENGTH_16
        {
            let header = Self {
                opcode: parse_opcode(first, rules.rsv1)?,
                fin: first & FIN != 0,
                rsv1: first & RSV1 != 0,
                masking_key: Some(MaskingKey::from_bytes([k0, k1, k2, k3])),
                payload_bytes: u64::from(second & LENGTH),
            };
            return Ok(Some(ParsedHeader { header, header_bytes: 6 }));
        }
        Self::parse_any(input, rules)
    }

    /// Parses every header that there is, byte by byte.
    fn parse_any(input: &[u8], rules: HeaderRules) -> Result<Option<ParsedHeader>, ProtocolError> {
        let Some((&first, rest)) = input.split_first() else { return Ok(None) };
        let opcode = parse_opcode(first, rules.rsv1)?;

        let Some((&second, rest)) = rest.split_first() else { return Ok(None) };
        let is_masked = second & MASK != 0;
        match rules.role {
            Role::Server if !is_masked => return Err(ProtocolError::UnmaskedFrame),
            Role::Client if is_masked => return Err(ProtocolError::MaskedFrame),
            Role::Server | Role::Client => {}
        }
        if opcode.is_control() && usize::from(second & LENGTH) > CONTROL_PAYLOAD_BYTES_MAX {
            return Err(ProtocolError::ControlFrameTooLong);
        }

        let Some((payload_bytes, rest)) = parse_length(second & LENGTH, rest)? else {
            return Ok(None);
        };
        let (masking_key, rest) = if is_masked {
            let Some((key, rest)) = rest.split_first_chunk() else { return Ok(None) };
            (Some(MaskingKey::from_bytes(*key)), rest)
        } else {
            (None, rest)
        };
        let (fin, rsv1) = (first & FIN != 0, first & RSV1 != 0);
        let header = Self { fin, rsv1, opcode, masking_key, payload_bytes };
        Ok(Some(ParsedHeader { header, header_bytes: input.len() - rest.len() }))
    }

    /// Writes the header into the beginning of `out`, the length in its shortest form, and returns
    /// how many bytes it took.
    ///
    /// # Panics
    /// The payload is 2^63 bytes or more, which no slice is. In debug builds also when a control
    /// frame is fragmented or longer than 125 bytes.
    #[inline]
    pub fn encode(&self, out: &mut [u8; HEADER_BYTES_MAX]) -> usize {
        debug_assert!(self.fin || !self.opcode.is_control(), "§5.5: fragmented control frame");
        debug_assert!(
            self.payload_bytes <= CONTROL_PAYLOAD_BYTES_MAX as u64 || !self.opcode.is_control(),
            "§5.5: control frame too long"
        );
        let fin = if self.fin { FIN } else { 0 };
        let rsv1 = if self.rsv1 { RSV1 } else { 0 };
        let mask = if self.masking_key.is_some() { MASK } else { 0 };
        out[0] = fin | rsv1 | self.opcode as u8;

        let mut end = 2;
        match self.payload_bytes {
            short @ 0..=125 => out[1] = mask | short as u8,
            medium @ 126..=0xFFFF => {
                out[1] = mask | LENGTH_16;
                out[2..4].copy_from_slice(&(medium as u16).to_be_bytes());
                end = 4;
            }
            long => {
                assert!(long >> 63 == 0, "§5.2: the most significant bit must be 0");
                out[1] = mask | LENGTH_64;
                out[2..10].copy_from_slice(&long.to_be_bytes());
                end = 10;
            }
        }
        if let Some(key) = self.masking_key {
            out[end..end + 4].copy_from_slice(&key.to_bytes());
            end += 4;
        }
        end
    }
}

/// Judges the first byte: RSV bits, opcode, and FIN of a control frame.
#[inline]
fn parse_opcode(first: u8, rsv1: Rsv1) -> Result<Opcode, ProtocolError> {
    let opcode = Opcode::from_bits(first & OPCODE);
    // RFC 7692 §6: RSV1 belongs to the message, so only its first frame may carry it.
    let allowed = match (rsv1, opcode) {
        (Rsv1::Negotiated, Some(Opcode::Text | Opcode::Binary)) => RSV1,
        _ => 0,
    };
    let reserved = first & RSV & !allowed;
    if reserved != 0 {
        return Err(ProtocolError::ReservedBits { bits: reserved >> 4 });
    }
    let Some(opcode) = opcode else {
        return Err(ProtocolError::ReservedOpcode { opcode: first & OPCODE });
    };
    if opcode.is_control() && first & FIN == 0 {
        return Err(ProtocolError::FragmentedControlFrame);
    }
    Ok(opcode)
}

/// Reads the payload length that the seven bits announce from `rest`, and returns it with the
/// bytes behind it; `None` when it needs more.
fn parse_length(bits: u8, rest: &[u8]) -> Result<Option<(u64, &[u8])>, ProtocolError> {
    match bits {
        LENGTH_16 => {
            let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
            let length = u16::from_be_bytes(*length);
            if length < u16::from(LENGTH_16) {
                return Err(ProtocolError::LengthNotMinimal);
            }
            Ok(Some((u64::from(length), rest)))
        }
        LENGTH_64 => {
            // The first byte proves an overflow, six zeros that 16 bits would have done.
            if rest.first().is_some_and(|byte| byte & 0x80 != 0) {
                return Err(ProtocolError::LengthOverflow);
            }
            if rest.starts_with(&[0; 6]) {
                return Err(ProtocolError::LengthNotMinimal);
            }
            let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
            Ok(Some((u64::from_be_bytes(*length), rest)))
        }
        short => Ok(Some((u64::from(short), rest))),
    }
}

// Byte 0.
const FIN: u8 = 0x80;
const RSV: u8 = 0x70;
const RSV1: u8 = 0x40;
const OPCODE: u8 = 0x0F;

// Byte 1; the two lengths announce an extended one of 16 or 64 bits.
const MASK: u8 = 0x80;
const LENGTH: u8 = 0x7F;
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;
