//! Dialling, and the client's half of the opening handshake over a blocking socket.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use corewire::opening::{
    ClientHandshakeError, ClientRequest, FieldStorage, HeadLimits, HeadScanner, Scheme,
    WebSocketUri, parse_response, verify,
};
use corewire::{HandshakeLimits, Negotiated};

use crate::args::{ConnectArgs, Failure};

/// A connection whose opening handshake is over.
pub struct Shaken {
    pub stream: TcpStream,
    pub negotiated: Negotiated,
    /// Frames that came right behind the answer.
    pub behind: Vec<u8>,
}

/// How long dialling may take, and how long the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// So much of a refusal's body is shown at most.
const REFUSAL_CHARS_MAX: usize = 200;

/// Dials, asks for a WebSocket and checks the answer.
pub fn shake_hands(args: &ConnectArgs) -> Result<Shaken, Failure> {
    let request = request(args)?;
    let fail = |error: io::Error| Failure(format!("{}: {error}", args.url));
    let mut stream = dial(request.uri()).map_err(fail)?;
    let nonce = crate::random()?;
    let mut head = Vec::new();
    request.write(nonce, &mut head);
    stream.write_all(&head).map_err(fail)?;
    let mut answer = Vec::new();
    let head_bytes = read_head(&mut stream, &mut answer)
        .map_err(|error| Failure(format!("{}: {error}", args.url)))?;
    let mut storage = FieldStorage::new();
    let verified = parse_response(&answer[..head_bytes], &mut storage)
        .map_err(ClientHandshakeError::Head)
        .and_then(|response| verify(&response, &request.expectation(nonce)));
    let behind = &answer[head_bytes..];
    match verified {
        Ok(negotiated) => Ok(Shaken { stream, negotiated, behind: behind.to_vec() }),
        Err(error) => Err(Failure(format!("{}: {error}{}", args.url, reason(behind)))),
    }
}

/// The request that the flags ask for.
fn request(args: &ConnectArgs) -> Result<ClientRequest, Failure> {
    let uri = WebSocketUri::parse(&args.url)
        .map_err(|error| Failure(format!("{} is not a WebSocket URL: {error}", args.url)))?;
    if uri.scheme() == Scheme::Wss {
        return Err(Failure("wss:// is not spoken here, only ws://".into()));
    }
    let mut request = ClientRequest::new(uri);
    for name in &args.subprotocol {
        request = request.subprotocol(name).map_err(|error| Failure(format!("{name}: {error}")))?;
    }
    let origin = args.origin.iter().map(|origin| ("Origin", origin.as_str()));
    let headers = args.header.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in headers.chain(origin) {
        let added = request.header(name, value);
        request = added.map_err(|error| Failure(format!("header {name}: {error}")))?;
    }
    Ok(request)
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
    let HandshakeLimits { head_bytes_max, fields_max, target_bytes_max, .. } =
        HandshakeLimits::default();
    let limits = HeadLimits { head_bytes_max, fields_max, target_bytes_max };
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

/// The first line of what the server says about its refusal, if that is text.
fn reason(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let line: String =
        text.lines().next().unwrap_or_default().chars().take(REFUSAL_CHARS_MAX).collect();
    match line.trim() {
        "" => String::new(),
        line => format!(" ({})", super::screen::printable(line)),
    }
}
