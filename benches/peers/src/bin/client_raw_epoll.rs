//! A client without a protocol over epoll, edge-triggered: the floor for clients. It shakes hands
//! once, and then sends a frame that was made before for each that comes, by their length alone.
//!
//! Form: <https://man7.org/linux/man-pages/man7/epoll.7.html>, what stands under `EPOLLET`.

use std::convert::Infallible;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

use corewire_peers::client::{Load, ended};
use corewire_peers::raw::BUFFER_BYTES;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};

struct Connection {
    stream: TcpStream,
    /// Of an answer that has not arrived whole.
    arrived: usize,
    /// That the kernel has not taken.
    unsent: usize,
}

fn main() -> io::Result<Infallible> {
    let load = Load::read()?;
    let frame = masked(&load.payload());
    // An answer has no masking key.
    let answer_bytes = frame.len() - KEY.len();
    let frames = frame.repeat(BUFFER_BYTES / answer_bytes + load.in_flight + 2);
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut connections = Vec::new();
    for index in 0..load.connections {
        let mut stream = load.open()?;
        stream.write_all(load.request().as_bytes())?;
        let mut last = [0; 4];
        while last != *b"\r\n\r\n" {
            last.rotate_left(1);
            stream.read_exact(&mut last[3..])?;
        }
        stream.set_nonblocking(true)?;
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&epoll, &stream, EventData::new_u64(index as u64), interest)?;
        connections.push(Connection { stream, arrived: 0, unsent: load.in_flight * frame.len() });
    }
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut events = Vec::with_capacity(1024);
    loop {
        match epoll::wait(&epoll, spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events.drain(..) {
            let connection = &mut connections[event.data.u64() as usize];
            connection.go_on(&mut buffer, &frames, frame.len(), answer_bytes)?;
        }
    }
}

impl Connection {
    fn go_on(
        &mut self,
        buffer: &mut [u8],
        frames: &[u8],
        frame_bytes: usize,
        answer_bytes: usize,
    ) -> io::Result<()> {
        // A short read means that the socket is drained.
        let mut is_drained = false;
        loop {
            while self.unsent > 0 {
                // What is cut off is always the front of a frame.
                let begin = (frame_bytes - self.unsent % frame_bytes) % frame_bytes;
                match self.stream.write(&frames[begin..begin + self.unsent]) {
                    Ok(sent) => self.unsent -= sent,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            if is_drained {
                return Ok(());
            }
            let received = match self.stream.read(buffer) {
                Ok(0) => return Err(ended()),
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            is_drained = received < buffer.len();
            self.arrived += received;
            self.unsent = self.arrived / answer_bytes * frame_bytes;
            self.arrived %= answer_bytes;
        }
    }
}

/// A binary message in one frame.
fn masked(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x82];
    match payload.len() {
        bytes @ 0..=125 => frame.push(0x80 | bytes as u8),
        bytes @ 126..=0xFFFF => {
            frame.push(0x80 | 126);
            frame.extend((bytes as u16).to_be_bytes());
        }
        bytes => {
            frame.push(0x80 | 127);
            frame.extend((bytes as u64).to_be_bytes());
        }
    }
    frame.extend(KEY);
    frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
