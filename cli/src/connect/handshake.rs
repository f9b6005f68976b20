//! Dialling, and the client's half of the opening handshake over a blocking socket.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Instant;

use corewire::Negotiated;
use corewire::opening::{HeadLimits, HeadScanner, WebSocketUri};

use crate::args::{ConnectArgs, Failure};
use crate::opening::{PATIENCE, request, verify_answer};

/// A connection whose opening handshake is over.
pub struct Shaken {
    pub stream: TcpStream,
    pub negotiated: Negotiated,
    /// Frames that came right behind the answer.
    pub behind: Vec<u8>,
}

/// Dials, asks for a WebSocket and checks the answer.
pub fn shake_hands(args: &ConnectArgs) -> Result<Shaken, Failure> {
    let url = &args.destination.url;
    let request = request(&args.destination)?;
    let fail = |error: io::Error| Failure(format!("{url}: {error}"));
    let mut stream = dial(request.uri()).map_err(fail)?;
    let nonce = crate::random()?;
    let mut head = Vec::new();
    request.write(nonce, &mut head);
    stream.write_all(&head).map_err(fail)?;
    let mut answer = Vec::new();
    let head_bytes =
        read_head(&mut stream, &mut answer).map_err(|error| Failure(format!("{url}: {error}")))?;
    let (head, behind) = answer.split_at(head_bytes);
    match verify_answer(head, behind, &request, nonce) {
        Ok(negotiated) => Ok(Shaken { stream, negotiated, behind: behind.to_vec() }),
        Err(reason) => Err(Failure(format!("{url}: {reason}"))),
    }
}

/// Tries each address of the host in turn.
fn dial(uri: &WebSocketUri) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in (uri.host(), uri.port()).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Reads until the answer's head is complete; says how many bytes it has.
fn read_head(
    stream: &mut TcpStream,
    answer: &mut Vec<u8>,
) -> Result<usize, Box<dyn std::error::Error>> {
    let limits = HeadLimits::default();
    let mut scanner = HeadScanner::response();
    let deadline = Instant::now() + PATIENCE;
    let mut buffer = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err("the server does not answer".into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer) {
            Ok(0) => return Err("the server closed the connection instead of answering".into()),
            Ok(bytes) => answer.extend_from_slice(&buffer[..bytes]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(head_bytes) = scanner.scan(answer, &limits)? {
            return Ok(head_bytes);
        }
    }
}
