//! The other end without a line of the engine's.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::Sender;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha1::{Digest, Sha1};

/// A listener on a free port, and its URL.
pub fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    (listener, url)
}

/// One connection of a naive server.
pub struct Peer<S = TcpStream>(pub S);

impl Peer {
    pub fn accept(listener: &TcpListener) -> Peer {
        let mut peer = Peer::accept_silently(listener);
        peer.upgrade();
        peer
    }

    pub fn accept_silently(listener: &TcpListener) -> Peer {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Peer(stream)
    }

    /// Sends so many numbered messages of 1,000 bytes, however long the client does not read; tells
    /// how many had gone when it stalled first.
    pub fn flood(&mut self, count: u32, tell: &Sender<u32>) {
        self.0.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut stalls = 0;
        for sent in 0..count {
            let frame = frame(2, &numbered(sent));
            let mut rest = &frame[..];
            while !rest.is_empty() {
                match self.0.write(rest) {
                    Ok(count) => rest = &rest[count..],
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        stalls += 1;
                        if stalls == 1 {
                            tell.send(sent).unwrap();
                        }
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}

impl<S: Read + Write> Peer<S> {
    /// Reads the request and switches protocols.
    pub fn upgrade(&mut self) {
        let head = self.head();
        let (_, key) = head.split_once("Sec-WebSocket-Key: ").unwrap();
        let key = key.split("\r\n").next().unwrap();
        let proof = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Accept: {}\r\n\r\n",
            BASE64_STANDARD.encode(proof)
        );
        self.0.write_all(answer.as_bytes()).unwrap();
    }

    pub fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.bytes(1)[0]);
        }
        String::from_utf8(head).unwrap()
    }

    /// The next frame: its opcode and payload.
    pub fn frame(&mut self) -> (u8, Vec<u8>) {
        let head = self.bytes(2);
        let length = match head[1] & 0x7f {
            126 => u64::from(u16::from_be_bytes(self.bytes(2).try_into().unwrap())),
            127 => u64::from_be_bytes(self.bytes(8).try_into().unwrap()),
            short => u64::from(short),
        };
        assert!(head[1] & 0x80 != 0, "what a client says is masked");
        let key = self.bytes(4);
        let mut payload = self.bytes(length as usize);
        payload.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
        (head[0] & 0x0f, payload)
    }

    pub fn text(&mut self) -> String {
        let (opcode, payload) = self.frame();
        assert_eq!(opcode, 1, "{payload:?}");
        String::from_utf8(payload).unwrap()
    }

    /// The code of a Close.
    pub fn close_code(&mut self) -> u16 {
        let (opcode, payload) = self.frame();
        assert_eq!(opcode, 8, "{payload:?}");
        u16::from_be_bytes([payload[0], payload[1]])
    }

    pub fn send(&mut self, opcode: u8, payload: &[u8]) {
        self.try_send(opcode, payload).unwrap();
    }

    pub fn try_send(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        self.0.write_all(&frame(opcode, payload))
    }

    /// Answers the client's Close, and waits for it to go.
    pub fn part(mut self, code: u16) {
        self.send(8, &code.to_be_bytes());
        let mut rest = Vec::new();
        let _ = self.0.read_to_end(&mut rest);
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }
}

/// An unmasked frame.
pub fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        short @ 0..126 => frame.push(short as u8),
        medium @ 126..65536 => {
            frame.push(126);
            frame.extend((medium as u16).to_be_bytes());
        }
        long => {
            frame.push(127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

/// A payload of 1,000 bytes that begins with its number.
pub fn numbered(number: u32) -> [u8; 1000] {
    let mut payload = [0; 1000];
    payload[..4].copy_from_slice(&number.to_be_bytes());
    payload
}
