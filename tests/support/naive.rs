//! RFC 6455 §5.2 written down byte by byte: to build frames, good and bad, and to read what the
//! engine writes. It shares no line with the engine.

pub const CONTINUATION: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xA;

/// A frame with every field open to abuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub fin: bool,
    /// RSV1 to RSV3 as a number of three bits.
    pub rsv: u8,
    pub opcode: u8,
    pub key: Option<[u8; 4]>,
    pub payload: Vec<u8>,
}

impl Frame {
    /// A whole frame without a key.
    pub fn new(opcode: u8, payload: impl AsRef<[u8]>) -> Self {
        Self { fin: true, rsv: 0, opcode, key: None, payload: payload.as_ref().to_vec() }
    }

    pub fn text(payload: impl AsRef<[u8]>) -> Self {
        Self::new(TEXT, payload)
    }

    pub fn binary(payload: impl AsRef<[u8]>) -> Self {
        Self::new(BINARY, payload)
    }

    pub fn ping(payload: impl AsRef<[u8]>) -> Self {
        Self::new(PING, payload)
    }

    pub fn pong(payload: impl AsRef<[u8]>) -> Self {
        Self::new(PONG, payload)
    }

    pub fn close(code: u16, reason: impl AsRef<[u8]>) -> Self {
        Self::new(CLOSE, [&code.to_be_bytes(), reason.as_ref()].concat())
    }

    /// A fragment that is not the last.
    pub fn open(mut self) -> Self {
        self.fin = false;
        self
    }

    pub fn rsv(mut self, bits: u8) -> Self {
        self.rsv = bits;
        self
    }

    /// The frame as a client sends it.
    pub fn masked(mut self, key: [u8; 4]) -> Self {
        self.key = Some(key);
        self
    }

    pub fn is_data(&self) -> bool {
        self.opcode < 8
    }

    /// The frame on the wire, its length in the shortest form.
    pub fn encode(&self) -> Vec<u8> {
        let form = match self.payload.len() {
            0..=125 => LengthForm::Bits7,
            126..=65_535 => LengthForm::Bits16,
            _ => LengthForm::Bits64,
        };
        self.encode_as(form)
    }

    /// The frame on the wire, its length in any form.
    pub fn encode_as(&self, form: LengthForm) -> Vec<u8> {
        let first = u8::from(self.fin) << 7 | self.rsv << 4 | self.opcode;
        let mut wire = header(first, self.key, self.payload.len() as u64, form);
        wire.extend(masked(&self.payload, self.key));
        wire
    }
}

/// Which of the three forms of the payload length is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LengthForm {
    Bits7,
    Bits16,
    Bits64,
}

/// A header that may lie about everything.
pub fn header(first: u8, key: Option<[u8; 4]>, length: u64, form: LengthForm) -> Vec<u8> {
    let mask = if key.is_some() { 0x80 } else { 0 };
    let mut wire = vec![first];
    match form {
        LengthForm::Bits7 => wire.push(mask | length as u8),
        LengthForm::Bits16 => {
            wire.push(mask | 126);
            wire.push((length >> 8) as u8);
            wire.push(length as u8);
        }
        LengthForm::Bits64 => {
            wire.push(mask | 127);
            for shift in [56, 48, 40, 32, 24, 16, 8, 0] {
                wire.push((length >> shift) as u8);
            }
        }
    }
    wire.extend(key.into_iter().flatten());
    wire
}

/// §5.3: `transformed-octet-i = original-octet-i XOR masking-key-octet-(i MOD 4)`.
pub fn masked(payload: &[u8], key: Option<[u8; 4]>) -> Vec<u8> {
    let key = key.unwrap_or([0; 4]);
    payload.iter().enumerate().map(|(index, byte)| byte ^ key[index % 4]).collect()
}

/// All whole frames at the beginning of `wire`, and the bytes behind them.
pub fn parse(wire: &[u8]) -> (Vec<Frame>, &[u8]) {
    let mut frames = Vec::new();
    let mut rest = wire;
    while let Some((frame, bytes)) = parse_one(rest) {
        frames.push(frame);
        rest = &rest[bytes..];
    }
    (frames, rest)
}

/// All frames in `wire`, which must end with one.
pub fn parse_all(wire: &[u8]) -> Vec<Frame> {
    let (frames, rest) = parse(wire);
    assert!(rest.is_empty(), "a frame is torn: {rest:02x?} behind {frames:?}");
    frames
}

fn parse_one(wire: &[u8]) -> Option<(Frame, usize)> {
    let (first, second) = (*wire.first()?, *wire.get(1)?);
    let (length_bytes, mut length) = match second & 0x7F {
        126 => (2, 0),
        127 => (8, 0),
        short => (0, u64::from(short)),
    };
    for index in 0..length_bytes {
        length = length << 8 | u64::from(*wire.get(2 + index)?);
    }
    let mut at = 2 + length_bytes;
    let key = if second & 0x80 != 0 {
        let key = [*wire.get(at)?, *wire.get(at + 1)?, *wire.get(at + 2)?, *wire.get(at + 3)?];
        at += 4;
        Some(key)
    } else {
        None
    };
    let end = at.checked_add(usize::try_from(length).ok()?)?;
    let payload = masked(wire.get(at..end)?, key);
    let (fin, rsv, opcode) = (first & 0x80 != 0, (first >> 4) & 7, first & 0xF);
    Some((Frame { fin, rsv, opcode, key, payload }, end))
}
