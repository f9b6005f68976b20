//! What comes back on one connection, checked as a stream: any split gives the same count.

use std::fmt;

use crate::Protocol;
use crate::frame::{self, DataOpcode};

/// The reading side of one connection.
pub trait Answers {
    /// What all connections have in common about their answers.
    type Expected;

    /// Counts and checks the answers in `input`.
    ///
    /// # Errors
    /// See [`Mismatch`].
    fn handle_input(
        &mut self,
        expected: &Self::Expected,
        input: &[u8],
    ) -> Result<Arrived, Mismatch>;

    /// Whether nothing but counting is left, so that a measurement may begin.
    fn is_checked(&self) -> bool;

    /// Bytes of all answers that have ended, with their headers; `None` where they are all of one
    /// length.
    fn frame_bytes(&self) -> Option<u64>;
}

/// What every answer must look like.
pub struct Expected {
    /// Bytes in front of each payload; empty where nothing stands on top of TCP.
    pub header: Vec<u8>,
    /// The payload of the first answer; all answers are of its length.
    pub first_payload: Vec<u8>,
}

impl Expected {
    /// The echo of `request`, which carries `payload` in one masked frame.
    pub fn echo(
        protocol: Protocol,
        opcode: DataOpcode,
        payload: &[u8],
        request: &[u8],
    ) -> Expected {
        match protocol {
            Protocol::Websocket => Expected {
                header: frame::answer_header(opcode, payload.len()),
                first_payload: payload.to_vec(),
            },
            Protocol::Raw => Expected { header: Vec::new(), first_payload: request.to_vec() },
        }
    }
}

/// Why a stream of answers is not an echo.
#[derive(Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// A data frame with another header: its opcode, length or form is wrong.
    Header,
    /// A payload came back changed.
    Payload,
    /// A message came back uncompressed.
    Uncompressed,
    /// The server began the closing handshake, with this close code if it gave one.
    Close(Option<u16>),
}

impl fmt::Display for Mismatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mismatch::Header => write!(formatter, "an answer has another header than expected"),
            Mismatch::Payload => write!(formatter, "a payload came back changed"),
            Mismatch::Uncompressed => write!(formatter, "an answer came back uncompressed"),
            Mismatch::Close(code) => write!(formatter, "the server closed, close code {code:?}"),
        }
    }
}

/// What one piece of input brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// Answers that ended in this piece.
    pub answers: usize,
    /// Payloads of Pings that ended in this piece; they want a Pong each.
    pub pings: Vec<Vec<u8>>,
}

/// Where in the stream the next byte stands.
enum Place {
    Header { bytes: [u8; 10], have: usize },
    Payload { missing: usize },
    Control { opcode: u8, payload: Vec<u8>, missing: usize },
}

const FRAME_BOUNDARY: Place = Place::Header { bytes: [0; 10], have: 0 };

/// Answers that are all the same but for their payloads.
pub struct Uniform {
    place: Place,
    /// Bytes of the first payload that were compared; it is complete before the fast path begins.
    compared: usize,
}

impl Answers for Uniform {
    type Expected = Expected;

    fn handle_input(&mut self, expected: &Expected, mut input: &[u8]) -> Result<Arrived, Mismatch> {
        let mut arrived = Arrived::default();
        loop {
            if self.compared == expected.first_payload.len()
                && let Place::Header { have: 0, .. } = self.place
            {
                input = skip_whole(expected, input, &mut arrived.answers);
            }
            if input.is_empty() {
                return Ok(arrived);
            }
            input = self.step(expected, input, &mut arrived)?;
        }
    }

    fn is_checked(&self) -> bool {
        // Every header is, and the one payload is the first.
        true
    }

    fn frame_bytes(&self) -> Option<u64> {
        None
    }
}

impl Uniform {
    /// A stream of which nothing has arrived.
    pub fn new() -> Uniform {
        Uniform { place: FRAME_BOUNDARY, compared: 0 }
    }

    /// Moves on by one part of a frame, as far as `input` has it.
    fn step<'a>(
        &mut self,
        expected: &Expected,
        input: &'a [u8],
        arrived: &mut Arrived,
    ) -> Result<&'a [u8], Mismatch> {
        match &mut self.place {
            Place::Header { bytes, have } => {
                let wanted = expected.header.len();
                let mut rest = input;
                while *have < wanted && !rest.is_empty() {
                    bytes[*have] = rest[0];
                    *have += 1;
                    rest = &rest[1..];
                    let is_control = bytes[0] & 0x08 != 0;
                    if *have == 2 && is_control {
                        let missing = usize::from(bytes[1] & 0x7F);
                        let opcode = bytes[0] & 0x0F;
                        self.place = Place::Control { opcode, payload: Vec::new(), missing };
                        return self.end_control(rest, arrived);
                    }
                }
                if *have == wanted {
                    if bytes[..wanted] != expected.header {
                        return Err(Mismatch::Header);
                    }
                    self.place = Place::Payload { missing: expected.first_payload.len() };
                    self.end_payload(arrived);
                }
                Ok(rest)
            }
            Place::Payload { missing } => {
                let (piece, rest) = input.split_at(input.len().min(*missing));
                *missing -= piece.len();
                if self.compared < expected.first_payload.len() {
                    if !expected.first_payload[self.compared..].starts_with(piece) {
                        return Err(Mismatch::Payload);
                    }
                    self.compared += piece.len();
                }
                self.end_payload(arrived);
                Ok(rest)
            }
            Place::Control { .. } => self.end_control(input, arrived),
        }
    }

    fn end_payload(&mut self, arrived: &mut Arrived) {
        if let Place::Payload { missing: 0 } = self.place {
            self.place = FRAME_BOUNDARY;
            arrived.answers += 1;
        }
    }

    fn end_control<'a>(
        &mut self,
        input: &'a [u8],
        arrived: &mut Arrived,
    ) -> Result<&'a [u8], Mismatch> {
        let Place::Control { opcode, payload, missing } = &mut self.place else {
            return Ok(input);
        };
        let (piece, rest) = input.split_at(input.len().min(*missing));
        payload.extend_from_slice(piece);
        *missing -= piece.len();
        if *missing > 0 {
            return Ok(rest);
        }
        control(*opcode, std::mem::take(payload), arrived)?;
        self.place = FRAME_BOUNDARY;
        Ok(rest)
    }
}

/// A whole control frame has arrived.
///
/// # Errors
/// It is a Close, or no control frame that RFC 6455 knows.
pub fn control(opcode: u8, payload: Vec<u8>, arrived: &mut Arrived) -> Result<(), Mismatch> {
    match opcode {
        0x8 => {
            let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
            return Err(Mismatch::Close(code));
        }
        0x9 => arrived.pings.push(payload),
        0xA => {}
        _ => return Err(Mismatch::Header),
    }
    Ok(())
}

/// Skips the answers that lie whole in `input`: at small sizes this is nearly all the work there is.
fn skip_whole<'a>(expected: &Expected, mut input: &'a [u8], answers: &mut usize) -> &'a [u8] {
    let answer_bytes = expected.header.len() + expected.first_payload.len();
    while input.len() >= answer_bytes && input.starts_with(&expected.header) {
        input = &input[answer_bytes..];
        *answers += 1;
    }
    input
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{DataOpcode, answer_header};

    fn expected(payload: &[u8]) -> Expected {
        Expected {
            header: answer_header(DataOpcode::Binary, payload.len()),
            first_payload: payload.to_vec(),
        }
    }

    fn answers(
        expected: &Expected,
        stream: &[u8],
        piece_bytes: usize,
    ) -> Result<Arrived, Mismatch> {
        let mut answers = Uniform::new();
        let mut all = Arrived::default();
        for piece in stream.chunks(piece_bytes) {
            let arrived = answers.handle_input(expected, piece)?;
            all.answers += arrived.answers;
            all.pings.extend(arrived.pings);
        }
        Ok(all)
    }

    #[test]
    fn any_split_gives_the_same_count_and_pings() {
        let payload = [7; 300];
        let expected = expected(&payload);
        let message = [expected.header.clone(), payload.to_vec()].concat();
        let stream =
            [&message[..], &message, b"\x89\x02hi", &message, b"\x89\x00\x8A\x01x", &message]
                .concat();
        for piece_bytes in 1..stream.len() + 1 {
            let arrived = answers(&expected, &stream, piece_bytes).expect("an echo");
            assert_eq!(arrived.answers, 4);
            assert_eq!(arrived.pings, [b"hi".to_vec(), Vec::new()]);
        }
    }

    #[test]
    fn empty_messages_are_counted() {
        let expected = expected(b"");
        assert_eq!(answers(&expected, b"\x82\x00\x82\x00\x82\x00", 1).expect("echo").answers, 3);
    }

    #[test]
    fn raw_answers_have_no_header() {
        let expected = Expected { header: Vec::new(), first_payload: b"abc".to_vec() };
        for piece_bytes in 1..10 {
            assert_eq!(answers(&expected, b"abcdefghi", piece_bytes).expect("echo").answers, 3);
        }
        assert_eq!(answers(&expected, b"abd", 1), Err(Mismatch::Payload));
    }

    #[test]
    fn what_is_no_echo_is_found_in_any_split() {
        let expected = expected(b"abc");
        for piece_bytes in 1..8 {
            let judge = |stream| answers(&expected, stream, piece_bytes).unwrap_err();
            assert_eq!(judge(b"\x82\x03abd"), Mismatch::Payload);
            assert_eq!(judge(b"\x82\x03abc\x82\x02xx"), Mismatch::Header);
            assert_eq!(judge(b"\x82\x03abc\x81\x03abc"), Mismatch::Header);
            assert_eq!(judge(b"\x82\x03abc\x88\x02\x03\xE8"), Mismatch::Close(Some(1000)));
            assert_eq!(judge(b"\x88\x00"), Mismatch::Close(None));
        }
    }
}
