//! A client without a line of the engine's.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A naive client for messages below 126 bytes.
pub struct Client<S = TcpStream>(pub S);

impl Client {
    pub fn dial(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Client(stream)
    }
}

impl Client<UnixStream> {
    pub fn over(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Client(stream)
    }
}

impl<S: Read + Write> Client<S> {
    pub fn upgrade(&mut self, path: &str) {
        let head = self.ask(path, "");
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    }

    /// Asks for an upgrade with further header lines; gives the answer's head.
    pub fn ask(&mut self, path: &str, lines: &str) -> String {
        self.0.write_all(request(path, lines).as_bytes()).unwrap();
        self.head()
    }

    /// The head of an answer.
    pub fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.byte());
        }
        String::from_utf8(head).unwrap()
    }

    pub fn send(&mut self, opcode: u8, payload: &[u8]) {
        self.0.write_all(&frame(opcode, payload)).unwrap();
    }

    /// The next frame that is no ping: its opcode and payload.
    pub fn frame(&mut self) -> (u8, Vec<u8>) {
        let (first, length) = (self.byte(), self.byte());
        let mut payload = vec![0; usize::from(length)];
        self.0.read_exact(&mut payload).unwrap();
        (first & 0x0f, payload)
    }

    pub fn text(&mut self) -> String {
        let (opcode, payload) = self.frame();
        assert_eq!(opcode, 1);
        String::from_utf8(payload).unwrap()
    }

    /// Reads until this text comes.
    pub fn wait_for(&mut self, text: &str) {
        while self.text() != text {}
    }

    pub fn say(&mut self, text: &str) {
        self.send(1, text.as_bytes());
    }

    pub fn close(&mut self) {
        self.send(8, &1000u16.to_be_bytes());
        while self.frame().0 != 8 {}
    }

    fn byte(&mut self) -> u8 {
        let mut byte = [0];
        self.0.read_exact(&mut byte).unwrap();
        byte[0]
    }
}

/// An upgrade request, with further field lines.
pub fn request(path: &str, fields: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n"
    )
}

/// A frame, masked with a key of zeros.
pub fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let head = [0x80 | opcode, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    [&head, payload].concat()
}
