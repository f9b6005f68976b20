//! A naive client: blocking, and without a line of the engine's.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::process::PATIENCE;

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;

pub struct Client<S = TcpStream> {
    stream: S,
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub fin: bool,
    pub opcode: u8,
    pub payload: Vec<u8>,
}

/// The head of an upgrade, but for its last line.
pub fn upgrade_head(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

impl Client {
    pub fn dial(port: u16) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client::over(stream)
    }

    /// A client over this stream; what is asked of it here, a Unix stream can do as well.
    pub fn over(stream: impl Into<OwnedFd>) -> Client {
        let stream = TcpStream::from(stream.into());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client { stream }
    }

    /// An open WebSocket at `/`.
    pub fn open(port: u16) -> Client {
        let mut client = Client::dial(port);
        let answer = client.upgrade("/", "");
        assert_eq!(answer.status, 101, "{answer:?}");
        client
    }

    /// Whether nothing comes, not even an end, for so long.
    pub fn is_silent_for(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let is_silent = self.read(1).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        is_silent
    }

    pub fn try_clone(&self) -> Client {
        Client { stream: self.stream.try_clone().unwrap() }
    }
}

impl<S: Read + Write> Client<S> {
    /// A client over a stream that is secured.
    pub fn through(stream: S) -> Self {
        Client { stream }
    }

    pub fn upgrade(&mut self, path: &str, headers: &str) -> Answer {
        self.write(upgrade_head(path, headers).as_bytes());
        self.answer()
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Reads one answer with the body that its Content-Length tells of.
    pub fn answer(&mut self) -> Answer {
        let head = self.answer_head();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "))
            .map_or(0, |length| length.parse().unwrap());
        let body = self.read(length).unwrap();
        Answer { status: status_of(&head), head, body }
    }

    /// Reads the head of an answer, byte by byte: nothing behind it is taken.
    pub fn answer_head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(self.read(1).unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    pub fn send(&mut self, opcode: u8, payload: &[u8]) {
        self.send_frame(0x80 | opcode, payload);
    }

    /// Sends a frame with this first byte, masked.
    pub fn send_frame(&mut self, first: u8, payload: &[u8]) {
        self.try_send_frame(first, payload).unwrap();
    }

    pub fn try_send_frame(&mut self, first: u8, payload: &[u8]) -> io::Result<()> {
        let mut frame = vec![first];
        match payload.len() {
            0..126 => frame.push(0x80 | payload.len() as u8),
            126..65536 => {
                frame.push(0x80 | 126);
                frame.extend((payload.len() as u16).to_be_bytes());
            }
            _ => {
                frame.push(0x80 | 127);
                frame.extend((payload.len() as u64).to_be_bytes());
            }
        }
        const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
        frame.extend(KEY);
        frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
        self.stream.write_all(&frame)
    }

    pub fn frame(&mut self) -> Frame {
        self.try_frame().unwrap()
    }

    pub fn try_frame(&mut self) -> io::Result<Frame> {
        let head = self.read(2)?;
        assert_eq!(head[1] & 0x80, 0, "a server masks nothing");
        let length = match head[1] {
            126 => self.read(2)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)),
            127 => self.read(8)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)),
            length => usize::from(length),
        };
        let payload = self.read(length)?;
        Ok(Frame { fin: head[0] & 0x80 != 0, opcode: head[0] & 0x0f, payload })
    }

    /// Reads frames up to a Close; gives its code.
    pub fn close_code(&mut self) -> u16 {
        loop {
            let frame = self.frame();
            if frame.opcode == CLOSE {
                return u16::from_be_bytes(frame.payload[..2].try_into().unwrap());
            }
        }
    }

    pub fn echo(&mut self, opcode: u8, payload: &[u8]) {
        self.send(opcode, payload);
        let frame = self.frame();
        assert!(frame.fin && frame.opcode == opcode && frame.payload == payload);
    }

    /// Whether the server ends the stream; everything before it is thrown away.
    pub fn is_ended(&mut self) -> bool {
        self.stream.read_to_end(&mut Vec::new()).is_ok()
    }

    /// Everything up to the end of the stream.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn read(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; bytes];
        self.stream.read_exact(&mut buffer)?;
        Ok(buffer)
    }
}

fn status_of(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

/// One request on a connection of its own.
pub fn request(port: u16, method: &str, path: &str) -> Answer {
    let mut client = Client::dial(port);
    client.write(
        format!("{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes(),
    );
    let head = client.answer_head();
    let mut body = Vec::new();
    client.stream.read_to_end(&mut body).unwrap();
    Answer { status: status_of(&head), head, body }
}
