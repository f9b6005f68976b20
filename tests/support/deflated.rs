//! RFC 1951 written down bit by bit, to compress well and badly, and a second implementation to
//! compress and inflate with. Neither shares a line with the engine.

use miniz_oxide::deflate::core::{CompressorOxide, create_comp_flags_from_zip_params};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use miniz_oxide::{MZFlush, MZStatus};

/// The header line of an offer that leaves everything to the server.
pub const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";

/// The end of every flush, which does not travel (RFC 7692 §7.2.1).
const FLUSHED: [u8; 4] = [0, 0, 0xFF, 0xFF];

/// Whether a block calls itself the last one (BFINAL).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bfinal {
    No,
    Yes,
}

/// A deflate stream that is written bit by bit. It may say anything.
#[derive(Clone, Debug, Default)]
pub struct Bits {
    bytes: Vec<u8>,
    /// Bits of the last byte that are written; 0 for all of them.
    used: u32,
}

impl Bits {
    pub fn new() -> Self {
        Self::default()
    }

    fn bit(mut self, bit: u32) -> Self {
        if self.used == 0 {
            self.bytes.push(0);
        }
        *self.bytes.last_mut().expect("one was pushed") |= (bit as u8) << self.used;
        self.used = (self.used + 1) % 8;
        self
    }

    /// §3.1.1: a number of up to 32 bits begins with its least significant one.
    pub fn number(self, number: u32, bits: u32) -> Self {
        (0..bits).fold(self, |stream, index| stream.bit(number >> index & 1))
    }

    /// §3.1.1: a Huffman code begins with its most significant bit.
    fn code(self, code: u32, bits: u32) -> Self {
        (0..bits).rev().fold(self, |stream, index| stream.bit(code >> index & 1))
    }

    /// §3.2.3: the header of a block of this type: 0 stored, 1 fixed, 2 dynamic, 3 reserved.
    pub fn block(self, bfinal: Bfinal, block_type: u32) -> Self {
        self.number(u32::from(bfinal == Bfinal::Yes), 1).number(block_type, 2)
    }

    /// §3.2.6: begins a block of fixed codes.
    pub fn fixed(self, bfinal: Bfinal) -> Self {
        self.block(bfinal, 1)
    }

    /// A literal or length symbol of a block of fixed codes.
    pub fn symbol(self, symbol: u32) -> Self {
        match symbol {
            0..=143 => self.code(0b0011_0000 + symbol, 8),
            144..=255 => self.code(0b1_1001_0000 + symbol - 144, 9),
            256..=279 => self.code(symbol - 256, 7),
            _ => self.code(0b1100_0000 + symbol - 280, 8),
        }
    }

    pub fn literals(self, bytes: &[u8]) -> Self {
        bytes.iter().fold(self, |stream, byte| stream.symbol(u32::from(*byte)))
    }

    /// §3.2.5: 3 to 10 bytes from so far back.
    pub fn copy(self, length: u32, distance: u32) -> Self {
        assert!((3..=10).contains(&length), "these lengths have no extra bits");
        let (mut code, mut base, mut extra) = (0, 1, 0);
        while distance >= base + (1 << extra) {
            base += 1 << extra;
            code += 1;
            extra = if code < 4 { 0 } else { code / 2 - 1 };
        }
        self.symbol(254 + length).code(code, 5).number(distance - base, extra)
    }

    pub fn end_of_block(self) -> Self {
        self.symbol(256)
    }

    /// §3.2.4: a block of bytes as they are.
    pub fn stored(self, bfinal: Bfinal, bytes: &[u8]) -> Self {
        let len = u16::try_from(bytes.len()).expect("a stored block has up to 65,535 bytes");
        self.lying_stored(bfinal, len, !len, bytes)
    }

    /// The same with any LEN and NLEN.
    pub fn lying_stored(self, bfinal: Bfinal, len: u16, nlen: u16, bytes: &[u8]) -> Self {
        let mut stream = self.block(bfinal, 0).aligned();
        stream.bytes.extend(len.to_le_bytes());
        stream.bytes.extend(nlen.to_le_bytes());
        stream.bytes.extend(bytes);
        stream
    }

    /// What follows begins with the next byte.
    pub fn aligned(self) -> Self {
        Self { used: 0, ..self }
    }

    /// The payload of a message: an empty stored block without its last four bytes ends it
    /// (RFC 7692 §7.2.1).
    pub fn message(self) -> Vec<u8> {
        self.block(Bfinal::No, 0).bytes
    }

    /// What was written, up to the end of the last byte.
    pub fn bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// A message in one block of fixed codes.
pub fn literally(payload: &[u8]) -> Vec<u8> {
    Bits::new().fixed(Bfinal::No).literals(payload).end_of_block().message()
}

/// What a peer compresses with, by the other implementation. Each message may refer to the ones
/// before it.
pub struct Compressor(Box<CompressorOxide>);

impl Compressor {
    pub fn new() -> Self {
        let flags = create_comp_flags_from_zip_params(6, -15, 0);
        Self(Box::new(CompressorOxide::new(flags)))
    }

    /// The payload of a message as it travels.
    pub fn message(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut output = self.flushed(payload);
        let end = output.split_off(output.len() - FLUSHED.len());
        assert_eq!(end, FLUSHED, "a flush ends on an empty block");
        output
    }

    /// All of `payload` with the whole flush behind it.
    pub fn flushed(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut output = Vec::new();
        let mut room = vec![0; payload.len() + 1024];
        let mut rest = payload;
        loop {
            let flush = MZFlush::Sync;
            let result = miniz_oxide::deflate::stream::deflate(&mut self.0, rest, &mut room, flush);
            output.extend(&room[..result.bytes_written]);
            rest = &rest[result.bytes_consumed..];
            assert!(matches!(result.status, Ok(MZStatus::Ok)), "{:?}", result.status);
            if rest.is_empty() && result.bytes_written < room.len() {
                return output;
            }
        }
    }
}

/// The payload of a message that refers to nothing.
pub fn compressed(payload: &[u8]) -> Vec<u8> {
    Compressor::new().message(payload)
}

/// A payload of about a thousandth of what it inflates to: so many MiB of zeros.
pub fn bomb(mebibytes: usize) -> Vec<u8> {
    let mut payload = Compressor::new().flushed(&vec![0; 1 << 20]).repeat(mebibytes);
    payload.truncate(payload.len() - FLUSHED.len());
    payload
}

/// What a peer inflates with, by the other implementation: a window of its own, and nothing kept
/// besides.
pub struct Decompressor {
    ring: Vec<u8>,
    at: usize,
}

impl Decompressor {
    pub fn new(window_bits: u8) -> Self {
        Self { ring: vec![0; 1 << window_bits], at: 0 }
    }

    /// Inflates a message, which may refer to those before it as far as the window goes. What it
    /// refers to beyond that comes out wrong.
    ///
    /// # Panics
    /// If it is corrupt.
    pub fn message(&mut self, payload: &[u8]) -> Vec<u8> {
        let input = [payload, &FLUSHED].concat();
        let mut rest = input.as_slice();
        let mut message = Vec::new();
        let mut oxide = Box::new(DecompressorOxide::new());
        loop {
            let flags = TINFL_FLAG_HAS_MORE_INPUT;
            let (status, consumed, produced) =
                decompress(&mut oxide, rest, &mut self.ring, self.at, flags);
            message.extend(&self.ring[self.at..self.at + produced]);
            self.at = (self.at + produced) % self.ring.len();
            rest = &rest[consumed..];
            match status {
                TINFLStatus::HasMoreOutput => {}
                TINFLStatus::NeedsMoreInput => {
                    assert!(rest.is_empty());
                    return message;
                }
                status => panic!("{status:?} in {payload:02x?}"),
            }
        }
    }
}
