//! Frames as a client sends them, and headers as a server must answer them (RFC 6455 §5.2).

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
    let mut header = vec![first_byte];
    match payload_bytes {
        0..=125 => header.push(payload_bytes as u8),
        126..=0xFFFF => {
            header.push(126);
            header.extend_from_slice(&(payload_bytes as u16).to_be_bytes());
        }
        _ => {
            header.push(127);
            header.extend_from_slice(&(payload_bytes as u64).to_be_bytes());
        }
    }
    header
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
