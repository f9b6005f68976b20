//! Frames as a client sends them, and as a server must answer them (RFC 6455 §5.2).

use std::error::Error;
use std::fmt;

use clap::ValueEnum;

/// The opcode of a data frame that begins a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum DataOpcode {
    /// 0x2.
    Binary,
    /// 0x1.
    Text,
}

impl DataOpcode {
    fn number(self) -> u8 {
        match self {
            DataOpcode::Text => 0x1,
            DataOpcode::Binary => 0x2,
        }
    }

    /// A payload of exactly `payload_bytes`: random bytes, or text of which 12 characters in 100 are
    /// outside ASCII, as in most languages that are written with Latin letters. They come without
    /// a pattern, as in those, and are the same in each run for the same `seed`.
    pub fn payload(self, payload_bytes: usize, seed: u64) -> Vec<u8> {
        match self {
            DataOpcode::Binary => {
                let mut payload = vec![0; payload_bytes];
                fastrand::Rng::with_seed(seed).fill(&mut payload);
                payload
            }
            DataOpcode::Text => {
                let mut random = fastrand::Rng::with_seed(seed);
                let mut text = String::with_capacity(payload_bytes);
                loop {
                    let letters = if random.u8(0..100) < 12 { BEYOND_ASCII } else { ASCII };
                    let letter = letters[random.usize(0..letters.len())];
                    if text.len() + letter.len_utf8() > payload_bytes {
                        break;
                    }
                    text.push(letter);
                }
                while text.len() < payload_bytes {
                    text.push('.');
                }
                text.into_bytes()
            }
        }
    }
}

const ASCII: &[char] = &['a', 'e', 'i', 'n', 'r', 's', 't', ' '];
const BEYOND_ASCII: &[char] = &['\u{e9}', '\u{f6}', '\u{fc}', '\u{f1}', '\u{20ac}'];

/// The first byte of a text message in one frame that permessage-deflate has compressed: RSV1 says
/// so (RFC 7692 §6).
pub const COMPRESSED_TEXT: u8 = FIN | 0x40 | 0x1;

const FIN: u8 = 0x80;
const MASK: u8 = 0x80;

/// One whole message in one frame, masked with a random masking key.
pub fn masked_message(opcode: DataOpcode, payload: &[u8]) -> Vec<u8> {
    masked(FIN | opcode.number(), payload)
}

/// A text message that permessage-deflate has compressed, in one masked frame.
pub fn masked_compressed(message: &[u8]) -> Vec<u8> {
    masked(COMPRESSED_TEXT, message)
}

/// A Pong with the payload of the Ping it answers.
pub fn masked_pong(payload: &[u8]) -> Vec<u8> {
    masked(FIN | 0xA, payload)
}

fn masked(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    let masking_key = fastrand::u32(..).to_ne_bytes();
    let mut frame = header(first_byte, payload.len());
    frame[1] |= MASK;
    frame.extend_from_slice(&masking_key);
    frame.extend(payload.iter().zip(masking_key.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// The header of a server's frame that holds a whole message: unmasked, in its shortest form.
pub fn answer_header(opcode: DataOpcode, payload_bytes: usize) -> Vec<u8> {
    header(FIN | opcode.number(), payload_bytes)
}

fn header(first_byte: u8, payload_bytes: usize) -> Vec<u8> {
    let mut header = Vec::new();
    append_header(&mut header, first_byte, payload_bytes);
    header
}

/// Appends a header in its shortest form, unmasked.
pub fn append_header(out: &mut Vec<u8>, first_byte: u8, payload_bytes: usize) {
    match payload_bytes {
        0..=125 => out.extend_from_slice(&[first_byte, payload_bytes as u8]),
        126..=0xFFFF => {
            out.extend_from_slice(&[first_byte, 126]);
            out.extend_from_slice(&(payload_bytes as u16).to_be_bytes());
        }
        _ => {
            out.extend_from_slice(&[first_byte, 127]);
            out.extend_from_slice(&(payload_bytes as u64).to_be_bytes());
        }
    }
}

/// First bytes of frames that hold a whole message.
pub const TEXT: u8 = FIN | 0x1;
/// As [`TEXT`].
pub const BINARY: u8 = FIN | 0x2;
/// The first byte of a Ping.
pub const PING: u8 = FIN | 0x9;
/// The first byte of a Pong.
pub const PONG: u8 = FIN | 0xA;

/// A client's frame, unmasked.
#[derive(Debug)]
pub struct Masked<'a> {
    /// FIN, the reserved bits and the opcode.
    pub first_byte: u8,
    /// Its payload.
    pub payload: &'a [u8],
    /// How long all of it is.
    pub frame_bytes: usize,
}

/// A client's frame that no server accepts.
#[derive(Debug, PartialEq)]
pub enum MaskedError {
    /// It is not masked (RFC 6455 §5.1).
    NotMasked,
    /// Its length could be written shorter, or is beyond reason.
    Length,
}

impl fmt::Display for MaskedError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            MaskedError::NotMasked => "the client does not mask",
            MaskedError::Length => "the client's length is not in its shortest form",
        })
    }
}

impl Error for MaskedError {}

/// Reads the first frame and unmasks it in place; `None` if it is not all there.
///
/// # Errors
/// It is not masked, or its length is wrong.
pub fn unmask(input: &mut [u8]) -> Result<Option<Masked<'_>>, MaskedError> {
    let [first_byte, second, ..] = *input else { return Ok(None) };
    if second & MASK == 0 {
        return Err(MaskedError::NotMasked);
    }
    let (length_bytes, least) = match second & !MASK {
        126 => (2, 126),
        127 => (8, 0x1_0000),
        _ => (0, 0),
    };
    let Some((length, rest)) = input[2..].split_at_mut_checked(length_bytes) else {
        return Ok(None);
    };
    let payload_bytes = match length_bytes {
        0 => u64::from(second & !MASK),
        _ => length.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
    };
    if payload_bytes < least || payload_bytes > PAYLOAD_BYTES_MAX {
        return Err(MaskedError::Length);
    }
    let Some((masking_key, rest)) = rest.split_first_chunk_mut::<4>() else { return Ok(None) };
    let Some(payload) = rest.get_mut(..payload_bytes as usize) else { return Ok(None) };
    xor(payload, *masking_key);
    let frame_bytes = 2 + length_bytes + 4 + payload.len();
    Ok(Some(Masked { first_byte, payload, frame_bytes }))
}

/// More than anybody sends here; a sum with it does not overflow.
const PAYLOAD_BYTES_MAX: u64 = 1 << 30;

fn xor(payload: &mut [u8], masking_key: [u8; 4]) {
    let key = u32::from_ne_bytes(masking_key);
    let mut words = payload.chunks_exact_mut(4);
    for word in &mut words {
        let masked = u32::from_ne_bytes([word[0], word[1], word[2], word[3]]);
        word.copy_from_slice(&(masked ^ key).to_ne_bytes());
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(masking_key) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_hello_has_the_shape_of_section_5_7() {
        let frame = masked_message(DataOpcode::Text, b"Hello");
        assert_eq!(frame[..2], [0x81, 0x85]);
        let unmasked: Vec<u8> =
            frame[6..].iter().enumerate().map(|(n, byte)| byte ^ frame[2 + n % 4]).collect();
        assert_eq!(unmasked, b"Hello");
    }

    #[test]
    fn a_masked_message_is_read_back_once_it_is_whole() {
        for payload_bytes in [0, 1, 3, 4, 20, 125, 126, 1000, 65_535, 65_536] {
            let payload = DataOpcode::Binary.payload(payload_bytes, 7);
            let frame = masked_message(DataOpcode::Binary, &payload);
            for end in (0..frame.len()).step_by(1 + payload_bytes / 100) {
                assert!(unmask(&mut frame[..end].to_vec()).expect("no error").is_none());
            }
            let mut longer = [&frame[..], &[0x81]].concat();
            let read = unmask(&mut longer).expect("no error").expect("a frame");
            assert_eq!((read.first_byte, read.frame_bytes), (BINARY, frame.len()));
            assert!(read.payload == payload);
        }
    }

    #[test]
    fn what_no_client_may_send_is_an_error() {
        let error = |bytes: &[u8]| unmask(&mut bytes.to_vec()).map(drop);
        assert_eq!(error(&[0x82, 20]), Err(MaskedError::NotMasked));
        assert_eq!(error(&[0x82, 0xFE, 0, 125]), Err(MaskedError::Length));
        assert_eq!(error(&[0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]), Err(MaskedError::Length));
        assert_eq!(error(&[[0x82].as_slice(), &[0xFF; 9]].concat()), Err(MaskedError::Length));
    }

    #[test]
    fn lengths_take_their_shortest_form() {
        for (payload_bytes, header_bytes) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)]
        {
            assert_eq!(answer_header(DataOpcode::Binary, payload_bytes).len(), header_bytes);
        }
        assert_eq!(answer_header(DataOpcode::Binary, 256), [0x82, 126, 1, 0]);
    }

    #[test]
    fn text_is_valid_at_every_length() {
        for payload_bytes in 0..100 {
            let text =
                String::from_utf8(DataOpcode::Text.payload(payload_bytes, payload_bytes as u64))
                    .expect("UTF-8");
            assert_eq!(text.len(), payload_bytes);
            assert!(payload_bytes < 50 || !text.is_ascii(), "{payload_bytes}");
        }
    }
}
