//! Compressed messages, and their answers: frames of any length, each with a payload that is known.

use std::io;

use crate::answers::{self, Answers, Arrived, Mismatch};
use crate::deflate::{self, Agreement, Inflater};
use crate::frame::{self, COMPRESSED_TEXT};
use crate::json;

/// What every connection sends in turn, from the first to the last and again.
pub struct Messages {
    /// Uncompressed.
    pub payloads: Vec<Vec<u8>>,
    /// The same as masked frames.
    pub requests: Vec<Vec<u8>>,
    /// What the server has agreed on.
    pub agreement: Agreement,
}

/// Different messages that are sent by turns, at least. Together they are twice the largest window:
/// what takes over never finds the same message in it.
const VARIETY: usize = 64;
const VARIETY_BYTES: usize = 2 << 15;

impl Messages {
    /// JSON, compressed as the server has agreed.
    ///
    /// # Errors
    /// Payloads that are too small to be JSON.
    pub fn new(agreement: Agreement, payload_bytes: usize, count: usize) -> io::Result<Messages> {
        if payload_bytes < json::PAYLOAD_BYTES_MIN {
            let text = format!("compressed messages take --bytes {}", json::PAYLOAD_BYTES_MIN);
            return Err(io::Error::other(text));
        }
        let count = count.max(VARIETY).max(VARIETY_BYTES.div_ceil(payload_bytes));
        let payloads: Vec<Vec<u8>> =
            (0..count).map(|n| json::payload(payload_bytes, n as u64)).collect();
        let compressed = deflate::compress(&payloads, agreement.client_bits)?;
        let requests = compressed.iter().map(|message| frame::masked_compressed(message)).collect();
        Ok(Messages { payloads, requests, agreement })
    }
}

/// Where in the stream the next byte stands.
enum Place {
    Header { bytes: [u8; 10], have: usize },
    Payload { header_bytes: usize, payload_bytes: usize, missing: usize },
    Control { opcode: u8, payload: Vec<u8>, missing: usize },
}

const FRAME_BOUNDARY: Place = Place::Header { bytes: [0; 10], have: 0 };

/// The reading side of one connection.
pub struct Compressed {
    place: Place,
    answers: usize,
    frame_bytes: u64,
    check: Option<Check>,
}

/// The first answer to each message is inflated and compared; to go on would take more from the
/// machine than the server does.
struct Check {
    inflater: Inflater,
    /// What has arrived of the message under way.
    message: Vec<u8>,
}

impl Compressed {
    /// A stream of which nothing has arrived.
    pub fn new(agreement: Agreement) -> Compressed {
        let check = Check { inflater: Inflater::new(agreement), message: Vec::new() };
        Compressed { place: FRAME_BOUNDARY, answers: 0, frame_bytes: 0, check: Some(check) }
    }

    /// Takes one byte of a header, and moves on if that was the last.
    fn step_header(&mut self, byte: u8) -> Result<(), Mismatch> {
        let Place::Header { bytes, have } = &mut self.place else { return Ok(()) };
        bytes[*have] = byte;
        *have += 1;
        let is_control = bytes[0] & 0x08 != 0;
        // A server's frame has no masking key (RFC 6455 §5.1).
        let length = bytes[1];
        let wanted = match length {
            _ if *have < 2 => return Ok(()),
            0..=125 => 2,
            126 if !is_control => 4,
            127 if !is_control => 10,
            _ => return Err(Mismatch::Header),
        };
        if is_control {
            let (opcode, missing) = (bytes[0] & 0x0F, usize::from(length));
            self.place = Place::Control { opcode, payload: Vec::new(), missing };
            return Ok(());
        }
        if bytes[0] == COMPRESSED_TEXT & !0x40 {
            return Err(Mismatch::Uncompressed);
        }
        if bytes[0] != COMPRESSED_TEXT {
            return Err(Mismatch::Header);
        }
        if *have == wanted {
            let extended = bytes[2..wanted].iter();
            let payload_bytes = match wanted {
                2 => usize::from(length),
                _ => extended.fold(0, |number, byte| number << 8 | usize::from(*byte)),
            };
            self.place =
                Place::Payload { header_bytes: wanted, payload_bytes, missing: payload_bytes };
        }
        Ok(())
    }

    fn end_message(&mut self, messages: &Messages) -> Result<(), Mismatch> {
        if let Some(check) = &mut self.check {
            let payload = &messages.payloads[self.answers % messages.payloads.len()];
            let message = std::mem::take(&mut check.message);
            if !check.inflater.is_compressed(payload, message) {
                return Err(Mismatch::Payload);
            }
        }
        self.answers += 1;
        if self.answers == messages.payloads.len() {
            self.check = None;
        }
        Ok(())
    }

    /// Goes on to the next frame if nothing is missing in this one.
    fn end_frame(&mut self, messages: &Messages, arrived: &mut Arrived) -> Result<(), Mismatch> {
        match &mut self.place {
            Place::Payload { header_bytes, payload_bytes, missing: 0 } => {
                self.frame_bytes += (*header_bytes + *payload_bytes) as u64;
                self.end_message(messages)?;
                arrived.answers += 1;
            }
            Place::Control { opcode, payload, missing: 0 } => {
                answers::control(*opcode, std::mem::take(payload), arrived)?;
            }
            Place::Header { .. } | Place::Payload { .. } | Place::Control { .. } => return Ok(()),
        }
        self.place = FRAME_BOUNDARY;
        Ok(())
    }
}

impl Answers for Compressed {
    type Expected = Messages;

    fn handle_input(&mut self, expected: &Messages, mut input: &[u8]) -> Result<Arrived, Mismatch> {
        let mut arrived = Arrived::default();
        while let Some((first, rest)) = input.split_first() {
            match &mut self.place {
                Place::Header { .. } => {
                    input = rest;
                    self.step_header(*first)?;
                }
                Place::Payload { missing, .. } => {
                    let piece = input.split_off(..input.len().min(*missing)).unwrap_or_default();
                    *missing -= piece.len();
                    if let Some(check) = &mut self.check {
                        check.message.extend_from_slice(piece);
                    }
                }
                Place::Control { payload, missing, .. } => {
                    let piece = input.split_off(..input.len().min(*missing)).unwrap_or_default();
                    *missing -= piece.len();
                    payload.extend_from_slice(piece);
                }
            }
            self.end_frame(expected, &mut arrived)?;
        }
        Ok(arrived)
    }

    fn is_checked(&self) -> bool {
        self.check.is_none()
    }

    fn frame_bytes(&self) -> Option<u64> {
        Some(self.frame_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deflate::Compression;

    fn messages() -> Messages {
        let agreement =
            Agreement { compression: Compression::Shared, server_bits: 15, client_bits: 15 };
        Messages::new(agreement, 300, 1).expect("large enough")
    }

    /// A server's echo of a message.
    fn answer(messages: &Messages, at: usize) -> Vec<u8> {
        let compressed = deflate::compress(&messages.payloads[at..=at], 15).expect("it compresses");
        let length = compressed[0].len() as u16;
        assert!(length > 125);
        [&[COMPRESSED_TEXT, 126][..], &length.to_be_bytes(), &compressed[0]].concat()
    }

    fn judge(messages: &Messages, stream: &[u8], piece_bytes: usize) -> Result<Arrived, Mismatch> {
        let mut answers = Compressed::new(messages.agreement);
        let mut all = Arrived::default();
        for piece in stream.chunks(piece_bytes) {
            let arrived = answers.handle_input(messages, piece)?;
            all.answers += arrived.answers;
            all.pings.extend(arrived.pings);
        }
        Ok(all)
    }

    #[test]
    fn any_split_gives_the_same_count_and_pings() {
        let messages = messages();
        let [first, second] = [0, 1].map(|at| answer(&messages, at));
        let stream = [&first[..], b"\x89\x02hi", &second, b"\x8A\x00\x89\x00"].concat();
        for piece_bytes in 1..stream.len() + 1 {
            let arrived = judge(&messages, &stream, piece_bytes).expect("an echo");
            assert_eq!((arrived.answers, arrived.pings.len()), (2, 2));
        }
    }

    #[test]
    fn each_message_is_checked_once_and_then_counted() {
        let messages = messages();
        let mut answers = Compressed::new(messages.agreement);
        let mut bytes = 0;
        for at in 0..messages.payloads.len() {
            assert!(!answers.is_checked());
            let answer = answer(&messages, at);
            bytes += answer.len() as u64;
            assert_eq!(answers.handle_input(&messages, &answer).expect("an echo").answers, 1);
        }
        assert!(answers.is_checked());
        let garbage = [COMPRESSED_TEXT, 3, 1, 2, 3];
        assert_eq!(answers.handle_input(&messages, &garbage).expect("a frame").answers, 1);
        assert_eq!(answers.frame_bytes(), Some(bytes + 5));
    }

    #[test]
    fn what_is_no_compressed_echo_is_found_in_any_split() {
        let messages = messages();
        let [first, second] = [0, 1].map(|at| answer(&messages, at));
        let mut changed = first.clone();
        changed[100] ^= 1;
        for piece_bytes in 1..8 {
            let judge = |stream: &[u8]| judge(&messages, stream, piece_bytes).unwrap_err();
            assert_eq!(judge(&second), Mismatch::Payload);
            assert_eq!(judge(&changed), Mismatch::Payload);
            assert_eq!(judge(&[&first[..], &first].concat()), Mismatch::Payload);
            assert_eq!(judge(b"\x81\x7E\x01\x2C"), Mismatch::Uncompressed);
            assert_eq!(judge(b"\x82\x00"), Mismatch::Header);
            assert_eq!(judge(b"\x41\x00"), Mismatch::Header);
            assert_eq!(judge(b"\xC1\x80"), Mismatch::Header);
            assert_eq!(judge(b"\x88\x02\x03\xEF"), Mismatch::Close(Some(1007)));
        }
    }

    #[test]
    fn messages_of_a_connection_differ_and_none_is_too_small() {
        let messages = messages();
        let all: std::collections::BTreeSet<&Vec<u8>> = messages.payloads.iter().collect();
        assert!(all.len() >= VARIETY && all.len() * 300 >= VARIETY_BYTES, "{}", all.len());
        assert!(Messages::new(messages.agreement, 20, 1).is_err());
    }
}
