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

/// The header of a message in one frame of at most 125 bytes.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct ShortHeader {
    /// Text or binary.
    pub opcode: Opcode,
    /// [`MaskingKey::IDENTITY`] if the frame is not masked.
    pub masking_key: MaskingKey,
    /// At most 125.
    pub payload_bytes: usize,
    /// 2 or 6.
    pub header_bytes: usize,
}

impl Header {
    /// Parses the header at the beginning of `input`; `None` when it needs more bytes.
    ///
    /// # Errors
    /// Whatever is wrong is reported as soon as the bytes that prove it are there, so a torn
    /// header fails as early as a whole one, and with the same error. A `None` therefore also
    /// means that the bytes so far can still become a legal header.
    pub fn parse(input: &[u8], rules: HeaderRules) -> Result<Option<ParsedHeader>, ProtocolError> {
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

    /// What is nearly always seen: a short, unfragmented, uncompressed message that keeps every
    /// rule. `None` says nothing: [`Header::parse`] then finds out what it is.
    #[inline(always)]
    pub fn parse_short(input: &[u8], role: Role) -> Option<ShortHeader> {
        let (&[first, second], rest) = input.split_first_chunk()?;
        let opcode = match first {
            SHORT_TEXT => Opcode::Text,
            SHORT_BINARY => Opcode::Binary,
            _ => return None,
        };
        let (mask, masking_key, header_bytes) = match role {
            Role::Server => (MASK, MaskingKey::from_bytes(*rest.first_chunk()?), 6),
            Role::Client => (0, MaskingKey::IDENTITY, 2),
        };
        // What stands in the length's place with another MASK bit is too long for this.
        let payload_bytes = usize::from(second ^ mask);
        if payload_bytes >= usize::from(LENGTH_16) {
            return None;
        }
        Some(ShortHeader { opcode, masking_key, payload_bytes, header_bytes })
    }

    /// The header of a message in one unmasked frame, if its payload is short enough for two bytes.
    #[inline]
    pub const fn encode_short(opcode: Opcode, payload_bytes: usize) -> Option<[u8; 2]> {
        if payload_bytes < LENGTH_16 as usize {
            Some([FIN | opcode as u8, payload_bytes as u8])
        } else {
            None
        }
    }

    /// The same header on a frame that is masked with `key`.
    #[inline]
    pub const fn mask_short([first, second]: [u8; 2], key: MaskingKey) -> [u8; 6] {
        let [a, b, c, d] = key.to_bytes();
        [first, MASK | second, a, b, c, d]
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
#[inline]
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
const SHORT_TEXT: u8 = FIN | Opcode::Text as u8;
const SHORT_BINARY: u8 = FIN | Opcode::Binary as u8;

// Byte 1; the two lengths announce an extended one of 16 or 64 bits.
const MASK: u8 = 0x80;
const LENGTH: u8 = 0x7F;
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every combination of rules that there is.
    const RULES: [HeaderRules; 4] = [
        HeaderRules { role: Role::Server, rsv1: Rsv1::Forbidden },
        HeaderRules { role: Role::Server, rsv1: Rsv1::Negotiated },
        HeaderRules { role: Role::Client, rsv1: Rsv1::Forbidden },
        HeaderRules { role: Role::Client, rsv1: Rsv1::Negotiated },
    ];

    /// The oracle: §5.2 bit by bit for a header that is there in full; `None` when it is not.
    fn parse_naively(input: &[u8], rules: HeaderRules) -> Result<Option<ParsedHeader>, ()> {
        if input.len() < 2 {
            return Ok(None);
        }
        let bit = |index: usize| input[index / 8] >> (7 - index % 8) & 1 == 1;
        let number = |bits: std::ops::Range<usize>| {
            bits.fold(0_u128, |number, index| number << 1 | u128::from(bit(index)))
        };
        let (fin, rsv1, rsv2, rsv3) = (bit(0), bit(1), bit(2), bit(3));
        let opcode = number(4..8);
        let is_masked = bit(8);
        let length_bits = match number(9..16) {
            126 => 16,
            127 => 64,
            _ => 0,
        };
        let header_bytes = 2 + length_bits / 8 + if is_masked { 4 } else { 0 };
        if input.len() < header_bytes {
            return Ok(None);
        }
        let length = if length_bits == 0 { number(9..16) } else { number(16..16 + length_bits) };
        let key = input[..header_bytes].last_chunk().copied().map(MaskingKey::from_bytes);

        let is_control = opcode >= 8;
        let begins_message = opcode == 1 || opcode == 2;
        let is_legal = (!rsv1 || (rules.rsv1 == Rsv1::Negotiated && begins_message))
            && !rsv2
            && !rsv3
            && [0, 1, 2, 8, 9, 10].contains(&opcode)
            && is_masked == (rules.role == Role::Server)
            && (!is_control || (fin && length <= 125))
            && (length_bits != 16 || length >= 126)
            && (length_bits != 64 || length >= 65_536)
            && length < 1 << 63;
        if !is_legal {
            return Err(());
        }
        let header = Header {
            fin,
            rsv1,
            opcode: Opcode::from_bits(opcode as u8).unwrap(),
            masking_key: key.filter(|_| is_masked),
            payload_bytes: length as u64,
        };
        Ok(Some(ParsedHeader { header, header_bytes }))
    }

    /// A legal header that begins with these bytes, if the bytes that are missing can make one.
    fn complete(beginning: &[u8], rules: HeaderRules) -> Vec<u8> {
        let mut input = beginning.to_vec();
        if input.len() == 1 {
            input.push(if rules.role == Role::Server { MASK } else { 0 });
        }
        // As a length: never an overflow, and minimal unless the bytes before it rule that out.
        input.resize(HEADER_BYTES_MAX, 0x7F);
        input
    }

    /// Checks every beginning of `input`: the same as the oracle where the oracle knows, and
    /// before that an error exactly when no bytes to come could make it right.
    fn check_beginnings(input: &[u8; HEADER_BYTES_MAX], rules: HeaderRules) {
        let whole = Header::parse(input, rules);
        assert_eq!(whole.map_err(|_| ()), parse_naively(input, rules), "{input:x?} {rules:?}");
        for len in 1..input.len() {
            let beginning = &input[..len];
            let parsed = Header::parse(beginning, rules);
            match parsed {
                Ok(Some(_)) | Err(_) => assert_eq!(parsed, whole, "{beginning:x?} {rules:?}"),
                Ok(None) => {
                    assert_eq!(parse_naively(beginning, rules), Ok(None));
                    let completed = complete(beginning, rules);
                    let legal = matches!(parse_naively(&completed, rules), Ok(Some(_)));
                    assert!(legal, "{beginning:x?} {rules:?} is beyond help");
                }
            }
        }
    }

    fn server_parse(input: &[u8]) -> Result<Option<ParsedHeader>, ProtocolError> {
        Header::parse(input, RULES[0])
    }

    #[test]
    fn empty_input_needs_more() {
        for rules in RULES {
            assert_eq!(Header::parse(&[], rules), Ok(None));
        }
    }

    #[test]
    fn every_first_two_bytes_agree_with_the_oracle_at_every_cut() {
        let extended: [[u8; 12]; 4] =
            [[0; 12], [0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4], [0x7F; 12], [0xFF; 12]];
        for rules in RULES {
            for pair in 0..=u16::MAX {
                for bytes in extended {
                    let mut input = [0; HEADER_BYTES_MAX];
                    input[..2].copy_from_slice(&pair.to_be_bytes());
                    input[2..].copy_from_slice(&bytes);
                    check_beginnings(&input, rules);
                }
            }
        }
    }

    #[test]
    fn reserved_bits_fail_on_the_first_byte() {
        // §5.2: MUST be 0 unless an extension gives them a meaning.
        for rsv in 1..8 {
            let error = ProtocolError::ReservedBits { bits: rsv };
            assert_eq!(server_parse(&[FIN | rsv << 4 | 0x1]), Err(error));
        }
    }

    #[test]
    fn negotiated_rsv1_is_legal_on_the_first_data_frame_only() {
        // RFC 7692 §6.
        for rules in [RULES[1], RULES[3]] {
            for opcode in [Opcode::Text, Opcode::Binary] {
                assert_eq!(Header::parse(&[RSV1 | opcode as u8], rules), Ok(None));
            }
            for opcode in [Opcode::Continuation, Opcode::Close, Opcode::Ping, Opcode::Pong] {
                let error = ProtocolError::ReservedBits { bits: 0b100 };
                assert_eq!(Header::parse(&[FIN | RSV1 | opcode as u8], rules), Err(error));
            }
            let error = ProtocolError::ReservedBits { bits: 0b010 };
            assert_eq!(Header::parse(&[FIN | 0x60 | Opcode::Text as u8], rules), Err(error));
        }
    }

    #[test]
    fn reserved_opcodes_fail_on_the_first_byte() {
        for opcode in (0x3..=0x7).chain(0xB..=0xF) {
            assert_eq!(
                server_parse(&[FIN | opcode]),
                Err(ProtocolError::ReservedOpcode { opcode })
            );
        }
    }

    #[test]
    fn fragmented_control_frame_fails_on_the_first_byte() {
        for opcode in 0x8..=0xA {
            assert_eq!(server_parse(&[opcode]), Err(ProtocolError::FragmentedControlFrame));
        }
    }

    #[test]
    fn long_control_frame_fails_on_the_second_byte() {
        for length in [126, 127] {
            let error = ProtocolError::ControlFrameTooLong;
            assert_eq!(server_parse(&[0x89, MASK | length]), Err(error));
        }
        assert_eq!(server_parse(&[0x89, MASK | 125]), Ok(None));
    }

    #[test]
    fn server_fails_connection_on_unmasked_frame() {
        // §5.1
        assert_eq!(server_parse(&[0x81, 0x05]), Err(ProtocolError::UnmaskedFrame));
        assert_eq!(server_parse(b"\x81\x05Hello"), Err(ProtocolError::UnmaskedFrame));
    }

    #[test]
    fn client_fails_connection_on_masked_frame() {
        // §5.1
        assert_eq!(Header::parse(&[0x81, 0x85], RULES[2]), Err(ProtocolError::MaskedFrame));
    }

    #[test]
    fn length_that_16_bits_would_hold_fails_on_its_sixth_byte() {
        // §5.2: the minimal number of bytes must be used.
        let input = [0x82, MASK | 127, 0, 0, 0, 0, 0, 0];
        assert_eq!(server_parse(&input[..7]), Ok(None));
        assert_eq!(server_parse(&input), Err(ProtocolError::LengthNotMinimal));
        let input = [0x82, MASK | 126, 0, 125];
        assert_eq!(server_parse(&input[..3]), Ok(None));
        assert_eq!(server_parse(&input), Err(ProtocolError::LengthNotMinimal));
    }

    #[test]
    fn length_of_2_to_the_63_fails_on_its_first_byte() {
        // §5.2: the most significant bit must be 0.
        let error = ProtocolError::LengthOverflow;
        assert_eq!(server_parse(&[0x82, MASK | 127, 0x80]), Err(error));
        assert_eq!(server_parse(&[0x82, MASK | 127, 0x7F]), Ok(None));
    }

    #[test]
    fn payload_behind_the_header_is_not_counted() {
        let parsed = server_parse(b"\x81\x85\x37\xFA\x21\x3D\x7F\x9F\x4D\x51\x58").unwrap();
        let header = Header {
            fin: true,
            rsv1: false,
            opcode: Opcode::Text,
            masking_key: Some(MaskingKey::from_bytes([0x37, 0xFA, 0x21, 0x3D])),
            payload_bytes: 5,
        };
        assert_eq!(parsed, Some(ParsedHeader { header, header_bytes: 6 }));
    }

    #[test]
    fn lengths_are_encoded_in_their_shortest_form() {
        let lengths = [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10), ((1 << 63) - 1, 10)];
        for (payload_bytes, header_bytes) in lengths {
            let header = Header {
                fin: true,
                rsv1: false,
                opcode: Opcode::Binary,
                masking_key: None,
                payload_bytes,
            };
            let mut out = [0; HEADER_BYTES_MAX];
            assert_eq!(header.encode(&mut out), header_bytes, "{payload_bytes}");
            let short = (header_bytes == 2).then_some([out[0], out[1]]);
            assert_eq!(Header::encode_short(Opcode::Binary, payload_bytes as usize), short);
        }
    }

    #[test]
    fn examples_of_5_7_are_encoded() {
        let mut out = [0; HEADER_BYTES_MAX];
        let mut encode = |fin, opcode, payload_bytes| {
            let header = Header { fin, rsv1: false, opcode, masking_key: None, payload_bytes };
            let header_bytes = header.encode(&mut out);
            out[..header_bytes].to_vec()
        };
        assert_eq!(encode(true, Opcode::Text, 5), [0x81, 0x05]);
        assert_eq!(encode(false, Opcode::Text, 3), [0x01, 0x03]);
        assert_eq!(encode(true, Opcode::Continuation, 2), [0x80, 0x02]);
        assert_eq!(encode(true, Opcode::Binary, 256), [0x82, 0x7E, 0x01, 0x00]);
        assert_eq!(encode(true, Opcode::Binary, 65_536), [0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    /// Any legal header, with the lengths around each form as likely as all others.
    fn legal_header() -> impl Strategy<Value = Header> {
        let payload_bytes =
            prop_oneof![0..130_u64, 65_530..65_540_u64, 0..1_u64 << 63, Just((1_u64 << 63) - 1),];
        let opcode = (0..16_u8).prop_filter_map("reserved", Opcode::from_bits);
        let key = prop::option::of(any::<[u8; 4]>());
        (any::<bool>(), any::<bool>(), opcode, key, payload_bytes).prop_map(
            |(fin, rsv1, opcode, key, payload_bytes)| {
                let is_control = opcode.is_control();
                Header {
                    fin: fin || is_control,
                    rsv1: rsv1 && matches!(opcode, Opcode::Text | Opcode::Binary),
                    opcode,
                    masking_key: key.map(MaskingKey::from_bytes),
                    payload_bytes: if is_control { payload_bytes % 126 } else { payload_bytes },
                }
            },
        )
    }

    #[test]
    fn the_short_path_sees_exactly_the_short_messages_in_one_frame_that_keep_the_rules() {
        for rules in RULES {
            for first in 0..=u8::MAX {
                for second in 0..=u8::MAX {
                    for length in 0..=8 {
                        let input = &[first, second, 1, 2, 3, 4, 5, 6][..length];
                        let whole = Header::parse(input, rules).ok().flatten();
                        let short = whole.and_then(|ParsedHeader { header, header_bytes }| {
                            let is_short = header.fin
                                && !header.rsv1
                                && matches!(header.opcode, Opcode::Text | Opcode::Binary)
                                && header.payload_bytes <= 125;
                            is_short.then_some(ShortHeader {
                                opcode: header.opcode,
                                masking_key: header.masking_key.unwrap_or(MaskingKey::IDENTITY),
                                payload_bytes: header.payload_bytes as usize,
                                header_bytes,
                            })
                        });
                        assert_eq!(Header::parse_short(input, rules.role), short);
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_parses_to_the_same_at_its_last_byte(header in legal_header()) {
            let role = if header.masking_key.is_some() { Role::Server } else { Role::Client };
            let rules = HeaderRules { role, rsv1: Rsv1::Negotiated };
            let mut out = [0; HEADER_BYTES_MAX];
            let header_bytes = header.encode(&mut out);
            let parsed = Header::parse(&out[..header_bytes], rules);
            prop_assert_eq!(parsed, Ok(Some(ParsedHeader { header, header_bytes })));
            for len in 0..header_bytes {
                prop_assert_eq!(Header::parse(&out[..len], rules), Ok(None));
            }
        }

        #[test]
        fn any_bytes_agree_with_the_oracle_at_every_cut(
            input: [u8; HEADER_BYTES_MAX],
            zeros in 0..=HEADER_BYTES_MAX - 2,
        ) {
            let mut input = input;
            input[2..2 + zeros].fill(0);
            for rules in RULES {
                check_beginnings(&input, rules);
            }
        }
    }
}
