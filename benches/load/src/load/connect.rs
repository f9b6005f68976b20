//! Opening connections: TCP from as many source addresses as are needed, then the handshake.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use socket2::{Domain, Socket, Type};

use crate::Protocol;
use crate::deflate::{Agreement, Compression};
use crate::stream::Stream;

/// Connections from one source address to one server: Linux's ephemeral ports are 28,232.
const CONNECTIONS_PER_SOURCE: usize = 20_000;

/// How long the opening handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The sample nonce of RFC 6455 §1.3 and the accept value that the same section gives for it.
const SEC_WEBSOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const SEC_WEBSOCKET_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Opens `count` connections, each ready for messages and non-blocking; over TLS if so told.
///
/// # Errors
/// What the sockets say, and any answer but a correct 101.
pub fn open(
    server: SocketAddr,
    protocol: Protocol,
    tls: Option<&Arc<ClientConfig>>,
    count: usize,
) -> io::Result<Vec<Stream>> {
    let request = request(server, "/");
    (0..count).map(|index| Ok(open_one(server, index, protocol, tls, &request)?.0)).collect()
}

/// The same at a path, without TLS.
///
/// # Errors
/// As [`open`].
pub fn open_at(
    server: SocketAddr,
    path: &str,
    protocol: Protocol,
    count: usize,
) -> io::Result<Vec<Stream>> {
    let request = request(server, path);
    (0..count).map(|index| Ok(open_one(server, index, protocol, None, &request)?.0)).collect()
}

/// Opens `count` connections, at least one, with permessage-deflate.
///
/// # Errors
/// As [`open`], and a server that does not agree, or not always on the same.
pub fn open_compressed(
    server: SocketAddr,
    compression: Compression,
    count: usize,
) -> io::Result<(Vec<Stream>, Agreement)> {
    let request = request_with(server, compression);
    let mut agreed = None;
    let mut streams = Vec::with_capacity(count);
    for index in 0..count.max(1) {
        let (stream, answer) = open_one(server, index, Protocol::Websocket, None, &request)?;
        let agreement = compression.agreement(&answer)?;
        if *agreed.get_or_insert(agreement) != agreement {
            return Err(io::Error::other("the server agreed on different compressions"));
        }
        streams.push(stream);
    }
    let agreement = agreed.ok_or_else(|| io::Error::other("no connection"))?;
    Ok((streams, agreement))
}

fn open_one(
    server: SocketAddr,
    index: usize,
    protocol: Protocol,
    tls: Option<&Arc<ClientConfig>>,
    request: &str,
) -> io::Result<(Stream, Vec<u8>)> {
    let stream = connect_from(source(server, index), server)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(HANDSHAKE_TIMEOUT))?;
    // Raw servers too: who does not wait for the server overruns its queue of connections to
    // accept, and the kernel lets the next attempt wait for a second.
    let mut stream = match tls {
        None => Stream::Plain(stream),
        Some(config) => Stream::secure(stream, config.clone())?,
    };
    let answer = shake_hands(&mut stream, protocol, request)?;
    stream.set_nonblocking()?;
    Ok((stream, answer))
}

/// Opens one connection without a handshake, whose end is a reset: it leaves no TIME_WAIT behind,
/// so the ports last for any number of them.
///
/// # Errors
/// What the sockets say.
pub fn open_to_be_reset(server: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
    socket.set_linger(Some(Duration::ZERO))?;
    // On loopback the kernel alone answers, so this does not wait for the server.
    socket.connect(&server.into())?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// All of 127.0.0.0/8 is this machine, so each further address brings ephemeral ports of its own.
fn source(server: SocketAddr, index: usize) -> Option<IpAddr> {
    let IpAddr::V4(address) = server.ip() else { return None };
    let address = u32::from(address) + u32::try_from(index / CONNECTIONS_PER_SOURCE).ok()?;
    server.ip().is_loopback().then(|| Ipv4Addr::from(address).into())
}

fn connect_from(source: Option<IpAddr>, server: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
    // Left alone the kernel picks both address and port, and may share a port between servers.
    if let Some(source) = source
        && source != server.ip()
    {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    socket.connect(&server.into())?;
    Ok(socket.into())
}

/// The client's half of the opening handshake.
pub fn request(server: SocketAddr, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {server}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {SEC_WEBSOCKET_KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

fn request_with(server: SocketAddr, compression: Compression) -> String {
    let request = request(server, "/");
    let fields = request.trim_end();
    format!("{fields}\r\nSec-WebSocket-Extensions: {}\r\n\r\n", compression.offer())
}

/// What ends a head, ours and the server's.
pub const HEAD_END: &[u8] = b"\r\n\r\n";

fn shake_hands(stream: &mut Stream, protocol: Protocol, request: &str) -> io::Result<Vec<u8>> {
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    while !answer.ends_with(HEAD_END) {
        // Nothing may follow the head: we have sent no message that could be answered.
        let received = stream.read(&mut piece)?;
        if received == 0 || answer.len() > 16 * 1024 {
            return Err(refused(&answer));
        }
        answer.extend_from_slice(&piece[..received]);
    }
    check_answer(protocol, request, &answer)?;
    Ok(answer)
}

/// Whether a whole head is what the server must say to our request.
///
/// # Errors
/// Any answer but a correct 101; of a raw server any but the request itself.
pub fn check_answer(protocol: Protocol, request: &str, answer: &[u8]) -> io::Result<()> {
    if protocol == Protocol::Raw {
        return if answer == request.as_bytes() { Ok(()) } else { Err(refused(answer)) };
    }
    let accepted = String::from_utf8_lossy(answer).lines().any(|line| {
        line.split_once(':').is_some_and(|(name, value)| {
            name.eq_ignore_ascii_case("sec-websocket-accept")
                && value.trim() == SEC_WEBSOCKET_ACCEPT
        })
    });
    if answer.starts_with(b"HTTP/1.1 101 ") && accepted { Ok(()) } else { Err(refused(answer)) }
}

fn refused(answer: &[u8]) -> io::Error {
    let text = String::from_utf8_lossy(answer);
    let status = text.lines().next().unwrap_or("an empty answer").to_owned();
    io::Error::other(format!("the server refused the handshake: {status}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_101_with_the_right_accept_value_is_an_acceptance() {
        let head = |status: &str, accept: &str| {
            format!("HTTP/1.1 {status}\r\nSEC-WebSocket-Accept:  {accept}\r\n\r\n").into_bytes()
        };
        let check = |answer: &[u8]| check_answer(Protocol::Websocket, "", answer);
        assert!(check(&head("101 Switching Protocols", SEC_WEBSOCKET_ACCEPT)).is_ok());
        assert!(check(&head("101 Switching Protocols", SEC_WEBSOCKET_KEY)).is_err());
        assert!(check(&head("200 OK", SEC_WEBSOCKET_ACCEPT)).is_err());
        assert!(check(b"").is_err());
    }

    #[test]
    fn a_raw_server_sends_the_request_back() {
        assert!(check_answer(Protocol::Raw, "GET /", b"GET /").is_ok());
        assert!(check_answer(Protocol::Raw, "GET /", b"HTTP/1.1 101").is_err());
    }

    #[test]
    fn an_offer_is_one_more_field_of_the_request() {
        let server = SocketAddr::from(([127, 0, 0, 1], 9001));
        let (plain, offer) = (request(server, "/"), request_with(server, Compression::Dedicated));
        let fields = plain.strip_suffix("\r\n").expect("an empty line");
        let own = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";
        assert_eq!(offer.strip_prefix(fields), Some(own));
    }

    #[test]
    fn further_connections_come_from_further_loopback_addresses() {
        let server = SocketAddr::from(([127, 0, 0, 1], 9001));
        assert_eq!(source(server, 0), Some(server.ip()));
        assert_eq!(source(server, 19_999), Some(server.ip()));
        assert_eq!(source(server, 20_000), Some(Ipv4Addr::new(127, 0, 0, 2).into()));
        assert_eq!(source(SocketAddr::from(([10, 0, 0, 1], 9001)), 20_000), None);
    }
}
