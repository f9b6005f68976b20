//! An echo without any protocol over a non-blocking socket: the floor of every echo server.
//!
//! Each batch of bytes costs one `recv` and one `send`; a short read means that the socket is
//! drained. Whatever a WebSocket server needs above this is the price of the protocol.

use std::io::{self, ErrorKind, Read, Write};

/// The size of libuv's and uWebSockets' buffers is 64 and 512 KiB; this lies between.
pub const BUFFER_BYTES: usize = 256 * 1024;

/// One accepted connection.
pub struct Connection<S> {
    stream: S,
    /// Bytes that the kernel refused; while there are any, nothing is read.
    unsent: Vec<u8>,
}

/// Why an echo paused.
pub enum Progress {
    /// Everything has been read and sent.
    Drained,
    /// The kernel takes no more for now.
    Blocked,
    /// The other side has sent its last byte.
    Ended,
}

/// What the event said about more to come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// A short read means that the socket is drained.
    UntilShort,
    /// The other side has hung up. The FIN behind a short read brings no event of its own.
    UntilEnd,
}

impl<S: Read + Write> Connection<S> {
    /// A connection with nothing on its way.
    pub fn new(stream: S) -> Self {
        Self { stream, unsent: Vec::new() }
    }

    /// Echoes until the socket is drained or takes no more.
    ///
    /// # Errors
    /// What the socket says, other than that it would block.
    pub fn echo(&mut self, buffer: &mut [u8], reading: Reading) -> io::Result<Progress> {
        if let Progress::Blocked = self.send_rest()? {
            return Ok(Progress::Blocked);
        }
        loop {
            let received = match self.stream.read(buffer) {
                Ok(0) => return Ok(Progress::Ended),
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(Progress::Drained);
                }
                Err(error) => return Err(error),
            };
            let sent = match self.stream.write(&buffer[..received]) {
                Ok(sent) => sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
            if sent < received {
                self.unsent.extend_from_slice(&buffer[sent..received]);
                return Ok(Progress::Blocked);
            }
            if received < buffer.len() && reading == Reading::UntilShort {
                return Ok(Progress::Drained);
            }
        }
    }

    fn send_rest(&mut self) -> io::Result<Progress> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(Progress::Blocked);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Progress::Drained)
    }
}

/// One connection that is written to, and has nothing to say.
pub struct Subscriber<S>(Connection<S>);

impl<S: Read + Write> Subscriber<S> {
    /// A connection with nothing on its way.
    pub fn new(stream: S) -> Self {
        Self(Connection::new(stream))
    }

    /// Writes at once what the kernel takes, and keeps the rest.
    ///
    /// # Errors
    /// What the socket says, other than that it would block.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut sent = 0;
        if self.0.unsent.is_empty() {
            match self.0.stream.write(bytes) {
                Ok(taken) => sent = taken,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        self.0.unsent.extend_from_slice(&bytes[sent..]);
        Ok(())
    }

    /// Goes on with what was kept, and reads what it should not have said.
    ///
    /// # Errors
    /// What the socket says, also that it has ended.
    pub fn handle_ready(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        if let Progress::Blocked = self.0.send_rest()? {
            return Ok(());
        }
        loop {
            match self.0.stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}
