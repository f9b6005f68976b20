//! What a scripted peer says and understands: requests, masked frames, and a naive parser for what
//! a server answers. It shares no code with the engine.

/// A frame as it came from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub fin: bool,
    /// RSV1 (RFC 7692 §6).
    pub compressed: bool,
    pub opcode: u8,
    pub payload: Vec<u8>,
}

pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

impl Frame {
    pub fn new(opcode: u8, payload: &[u8]) -> Self {
        Self { fin: true, compressed: false, opcode, payload: payload.to_vec() }
    }

    /// The code of a Close.
    pub fn close_code(&self) -> Option<u16> {
        let code = self.payload.get(..2)?;
        (self.opcode == CLOSE).then(|| u16::from_be_bytes([code[0], code[1]]))
    }
}

/// The opening handshake, with further header lines, each ended by CRLF.
pub fn upgrade_request(path: &str, lines: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Version: 13\r\n{lines}\r\n"
    )
    .into_bytes()
}

/// A request for something plain.
pub fn plain_request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: example.com\r\n\r\n").into_bytes()
}

/// A masked frame, its length in the shortest form.
pub fn masked(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    let key = [0x37, 0xFA, 0x21, payload.len() as u8];
    let mut bytes = vec![first_byte];
    match payload.len() {
        0..=125 => bytes.push(0x80 | payload.len() as u8),
        126..=0xFFFF => {
            bytes.push(0x80 | 126);
            bytes.extend((payload.len() as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend((payload.len() as u64).to_be_bytes());
        }
    }
    bytes.extend(key);
    bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// A whole message in one frame, or a control frame.
pub fn message(opcode: u8, payload: &[u8]) -> Vec<u8> {
    masked(0x80 | opcode, payload)
}

/// A message in frames of so many bytes each.
pub fn fragments(opcode: u8, payload: &[u8], fragment_bytes: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let pieces = payload.chunks(fragment_bytes.max(1)).collect::<Vec<_>>();
    for (at, piece) in pieces.iter().enumerate() {
        let opcode = if at == 0 { opcode } else { CONTINUATION };
        let fin = if at + 1 == pieces.len() { 0x80 } else { 0 };
        bytes.extend(masked(fin | opcode, piece));
    }
    if pieces.is_empty() { message(opcode, b"") } else { bytes }
}

/// A Close with a code.
pub fn close(code: u16) -> Vec<u8> {
    message(CLOSE, &code.to_be_bytes())
}

/// The head of an answer and what follows it; `None` while it is not complete.
pub fn split_head(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).expect("a server's head is ASCII");
    Some((head, &bytes[end..]))
}

/// All answers of plain HTTP in `bytes`: their statuses and bodies.
pub fn answers(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut answers = Vec::new();
    while let Some((head, rest)) = split_head(bytes) {
        let status = head[9..12].parse().expect("a status has three digits");
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.map_or(0, |length| length.parse().expect("a length"));
        answers.push((status, rest[..length.min(rest.len())].to_vec()));
        bytes = &rest[length.min(rest.len())..];
        if status == 101 {
            break;
        }
    }
    answers
}

/// The whole frames at the front of what a server has sent, and how many bytes they are.
///
/// # Panics
/// If the server broke the protocol: masked, reserved bits, a length not in its shortest form, a
/// long or fragmented control frame, data inside another message, anything behind a Close.
pub fn frames(bytes: &[u8]) -> (Vec<Frame>, usize) {
    let (mut frames, mut at, mut in_message) = (Vec::<Frame>::new(), 0, false);
    while let Some((frame, frame_bytes)) = frame(&bytes[at..]) {
        assert!(frames.last().is_none_or(|it| it.opcode != CLOSE), "a frame behind a Close");
        match frame.opcode {
            CONTINUATION => {
                assert!(in_message && !frame.compressed, "a continuation without a message")
            }
            TEXT | BINARY => assert!(!in_message, "a message inside a message"),
            CLOSE | PING | PONG => {
                assert!(frame.fin && !frame.compressed && frame.payload.len() <= 125);
            }
            opcode => panic!("opcode {opcode}"),
        }
        if frame.opcode < CLOSE {
            in_message = !frame.fin;
        }
        frames.push(frame);
        at += frame_bytes;
    }
    (frames, at)
}

fn frame(bytes: &[u8]) -> Option<(Frame, usize)> {
    let [first, second] = *bytes.first_chunk()?;
    assert_eq!((first & 0x30, second & 0x80), (0, 0), "reserved bits or a mask from a server");
    let (payload_bytes, header_bytes) = match second {
        126 => (usize::from(u16::from_be_bytes(*bytes[2..].first_chunk()?)), 4),
        127 => (u64::from_be_bytes(*bytes[2..].first_chunk()?) as usize, 10),
        short => (usize::from(short), 2),
    };
    let shortest = match payload_bytes {
        0..=125 => 2,
        126..=0xFFFF => 4,
        _ => 10,
    };
    assert_eq!(header_bytes, shortest, "a length not in its shortest form");
    let end = header_bytes + payload_bytes;
    let payload = bytes.get(header_bytes..end)?.to_vec();
    let (fin, compressed) = (first & 0x80 != 0, first & 0x40 != 0);
    Some((Frame { fin, compressed, opcode: first & 0x0F, payload }, end))
}

/// The whole messages among frames, with their opcodes.
///
/// # Panics
/// If one is compressed.
pub fn messages(frames: &[Frame]) -> Vec<(u8, Vec<u8>)> {
    messages_inflated(frames, |_| panic!("a compressed message without an agreement"))
}

/// The same, those that are compressed given to `inflate` in their order.
pub fn messages_inflated(
    frames: &[Frame],
    mut inflate: impl FnMut(&[u8]) -> Vec<u8>,
) -> Vec<(u8, Vec<u8>)> {
    let mut messages = Vec::new();
    let mut current: Option<Frame> = None;
    for frame in frames.iter().filter(|frame| frame.opcode < CLOSE) {
        let message = match current.take() {
            Some(begun) => {
                Frame { payload: [begun.payload, frame.payload.clone()].concat(), ..begun }
            }
            None => frame.clone(),
        };
        if !frame.fin {
            current = Some(message);
        } else if message.compressed {
            messages.push((message.opcode, inflate(&message.payload)));
        } else {
            messages.push((message.opcode, message.payload));
        }
    }
    messages
}
