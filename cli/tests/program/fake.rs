//! A server that is not one: it shakes hands as it should, then does what the test wants.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use crate::process::PATIENCE;

/// Serves every connection on a thread of its own that ends with the test; gives the URL.
pub fn serve(script: fn(TcpStream)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            thread::spawn(move || script(stream));
        }
    });
    url
}

/// The answer that opens the WebSocket which this client asks for.
pub fn accept(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(read(stream, 1));
    }
    let head = String::from_utf8(head).unwrap();
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let digest = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        STANDARD.encode(digest)
    )
    .into_bytes()
}

/// The payload of one small masked frame.
pub fn payload(stream: &mut TcpStream) -> Vec<u8> {
    let head = read(stream, 2);
    let key = read(stream, 4);
    let masked = read(stream, usize::from(head[1] & 0x7f));
    masked.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect()
}

fn read(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut buffer = vec![0; bytes];
    stream.read_exact(&mut buffer).unwrap();
    buffer
}
