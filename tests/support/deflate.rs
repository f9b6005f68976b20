//! The other end of permessage-deflate (RFC 7692 §7.2), by another implementation.

use miniz_oxide::deflate::core::{
    CompressorOxide, TDEFLFlush, TDEFLStatus, compress_to_output, create_comp_flags_from_zip_params,
};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

/// The header line of an offer that leaves everything to the server.
pub const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";

/// What does not travel of each message.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Compresses messages; each may refer to those before.
pub struct Compressor(Box<CompressorOxide>);

impl Compressor {
    pub fn new() -> Self {
        // Negative bits: no header.
        let flags = create_comp_flags_from_zip_params(6, -15, 0);
        Self(Box::new(CompressorOxide::new(flags)))
    }

    pub fn compress(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut output = Vec::new();
        let (status, consumed) =
            compress_to_output(&mut self.0, payload, TDEFLFlush::Sync, |piece| {
                output.extend_from_slice(piece);
                true
            });
        assert_eq!((status, consumed), (TDEFLStatus::Okay, payload.len()));
        assert!(output.ends_with(&TAIL), "a flush ends on an empty block");
        output.truncate(output.len() - TAIL.len());
        output
    }
}

/// Compresses a message that refers to nothing.
pub fn compress(payload: &[u8]) -> Vec<u8> {
    Compressor::new().compress(payload)
}

/// A payload of about a thousandth of what it inflates to: so many MiB of zeros.
pub fn bomb(mebibytes: usize) -> Vec<u8> {
    let mebibyte = [compress(&vec![0; 1 << 20]).as_slice(), &TAIL].concat();
    let mut payload = mebibyte.repeat(mebibytes);
    payload.truncate(payload.len() - TAIL.len());
    payload
}

/// Inflates messages, each of which may refer to those before.
#[derive(Default)]
pub struct Decompressor {
    earlier: Vec<u8>,
}

impl Decompressor {
    /// # Panics
    /// If the payload is corrupt, or its message larger than 16 MiB.
    pub fn inflate(&mut self, payload: &[u8]) -> Vec<u8> {
        let start = self.earlier.len();
        let stream = [payload, &TAIL].concat();
        let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF
            | inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
        let mut room = 4 * payload.len() + 64;
        let message = loop {
            let mut output = self.earlier.clone();
            output.resize(start + room, 0);
            let (status, _, produced) =
                decompress(&mut DecompressorOxide::new(), &stream, &mut output, start, flags);
            match status {
                TINFLStatus::NeedsMoreInput => break output[start..start + produced].to_vec(),
                TINFLStatus::HasMoreOutput if room < 16 << 20 => room *= 4,
                status => panic!("the payload does not inflate: {status:?}"),
            }
        };
        self.earlier.extend_from_slice(&message);
        self.earlier.drain(..self.earlier.len().saturating_sub(1 << 15));
        message
    }
}
