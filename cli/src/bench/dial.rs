//! Opening one connection without blocking: TCP, then the opening handshake.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use corewire::opening::{
    ClientHandshakeError, ClientRequest, FieldStorage, HeadLimits, HeadScanner, parse_response,
    verify,
};
use mio::net::TcpStream;
use socket2::{Domain, Socket, Type};

use super::client::Trouble;
use crate::destination::{PATIENCE, reason};

/// A connection on its way.
pub struct Shaking {
    stream: TcpStream,
    address: SocketAddr,
    nonce: [u8; 16],
    /// What of the request is not written yet.
    unsent: Vec<u8>,
    answer: Vec<u8>,
    scanner: HeadScanner,
    began: Instant,
}

/// How far a handshake is.
pub enum Progress {
    /// Nothing more can be done now.
    Waiting(Box<Shaking>),
    Done(Shaken),
}

/// A connection whose handshake is over.
pub struct Shaken {
    pub stream: TcpStream,
    /// Frames that came right behind the answer.
    pub behind: Vec<u8>,
    pub took: Duration,
}

impl Shaking {
    /// Begins to connect.
    pub fn begin(
        address: SocketAddr,
        source: Option<IpAddr>,
        request: &ClientRequest,
        nonce: [u8; 16],
    ) -> Result<Box<Self>, Trouble> {
        let began = Instant::now();
        let stream = connect(address, source)?;
        let mut unsent = Vec::with_capacity(256);
        request.write(nonce, &mut unsent);
        let scanner = HeadScanner::response();
        let answer = Vec::new();
        Ok(Box::new(Self { stream, address, nonce, unsent, answer, scanner, began }))
    }

    pub fn stream_mut(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Goes on as far as the socket lets it.
    pub fn advance(mut self: Box<Self>, request: &ClientRequest) -> Result<Progress, Trouble> {
        while !self.unsent.is_empty() {
            // Writing tells, too, whether connecting has come to an end, and to which.
            match self.stream.write(&self.unsent) {
                Ok(bytes) => drop(self.unsent.drain(..bytes)),
                Err(error) if is_early(&error) => return Ok(Progress::Waiting(self)),
                Err(error) => {
                    return Err(Trouble::Unreachable { address: self.address.to_string(), error });
                }
            }
        }
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(self.refused("the server closed instead of answering")),
                Ok(bytes) => self.answer.extend_from_slice(&buffer[..bytes]),
                Err(error) if is_early(&error) => return Ok(Progress::Waiting(self)),
                Err(error) => return Err(self.refused(&error.to_string())),
            }
            let scanned = self.scanner.scan(&self.answer, &HeadLimits::default());
            if let Some(head_bytes) = scanned.map_err(|error| self.refused(&error.to_string()))? {
                return self.conclude(request, head_bytes);
            }
        }
    }

    fn conclude(mut self, request: &ClientRequest, head_bytes: usize) -> Result<Progress, Trouble> {
        let behind = self.answer.split_off(head_bytes);
        let mut storage = FieldStorage::new();
        let verified = parse_response(&self.answer, &mut storage)
            .map_err(ClientHandshakeError::Head)
            .and_then(|response| verify(&response, &request.expectation(self.nonce)));
        match verified {
            Ok(_) => {
                let took = self.began.elapsed();
                Ok(Progress::Done(Shaken { stream: self.stream, behind, took }))
            }
            Err(error) => Err(self.refused(&format!("{error}{}", reason(&behind)))),
        }
    }

    /// Nothing may take for ever.
    pub fn check_deadline(&self, now: Instant) -> Result<(), Trouble> {
        if now.saturating_duration_since(self.began) < PATIENCE {
            return Ok(());
        }
        if self.unsent.is_empty() {
            return Err(self.refused("the server does not answer"));
        }
        let error = ErrorKind::TimedOut.into();
        Err(Trouble::Unreachable { address: self.address.to_string(), error })
    }

    fn refused(&self, reason: &str) -> Trouble {
        Trouble::Refused(format!("a handshake failed: {reason}"))
    }
}

/// Whether it is only too early.
fn is_early(error: &io::Error) -> bool {
    use ErrorKind::{Interrupted, NotConnected, WouldBlock};
    matches!(error.kind(), WouldBlock | NotConnected | Interrupted)
}

fn connect(address: SocketAddr, source: Option<IpAddr>) -> Result<TcpStream, Trouble> {
    let local = |what: &str, error: io::Error| Trouble::Local(format!("{what}: {error}"));
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)
        .and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
        .and_then(|socket| socket.set_tcp_nodelay(true).map(|()| socket))
        .map_err(|error| local("cannot open a socket", error))?;
    if let Some(source) = source {
        leave_port_to_connect(&socket)
            .and_then(|()| socket.bind(&SocketAddr::new(source, 0).into()))
            .map_err(|error| local(&format!("cannot connect from {source}"), error))?;
    }
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) if is_in_progress(&error) => {}
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
            return Err(Trouble::Local(format!(
                "no port is left to connect to {address} from: give more addresses with --from, \
                 such as --from 127.0.0.0/24 on one machine"
            )));
        }
        Err(error) => return Err(Trouble::Unreachable { address: address.to_string(), error }),
    }
    Ok(TcpStream::from_std(socket.into()))
}

fn is_in_progress(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock
        || error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error())
}

/// With the destination known the kernel finds a free port faster, and among more of them.
#[cfg(target_os = "linux")]
fn leave_port_to_connect(socket: &Socket) -> io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
    Ok(setsockopt(socket, IpBindAddressNoPort, &true)?)
}

/// Only Linux can wait with the port.
#[cfg(not(target_os = "linux"))]
fn leave_port_to_connect(_: &Socket) -> io::Result<()> {
    Ok(())
}
