//! The other way round: a client is measured, and this is the server that it calls.
//!
//! It never sleeps and does as little as it may, so that the client is the bottleneck: each read's
//! messages are unmasked into one write. It checks every header and length; the client checks the
//! rest, as clients do.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine};
use corewire_load::machine;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::time::Timespec;
use sha1::{Digest, Sha1};
use socket2::{Domain, Socket, Type};

use crate::frame::{self, Masked};

/// What the client is told to do, and for how long it is watched.
pub struct Shape {
    /// Connections at once.
    pub connections: usize,
    /// Messages under way on each connection.
    pub in_flight: usize,
    /// Payload of every message.
    pub payload_bytes: usize,
    /// Time before counting begins.
    pub warm_up: Duration,
    /// Time that is counted.
    pub duration: Duration,
}

/// What was counted.
pub struct Outcome {
    messages: u64,
    elapsed: Duration,
    /// Nanoseconds of the client.
    client_cpu: u64,
    /// Nanoseconds of this process.
    own_cpu: u64,
}

impl Outcome {
    /// Names and values, in the order to print them.
    pub fn fields(&self) -> Vec<(&'static str, f64)> {
        let messages = self.messages as f64;
        let tenths = |value: f64| (value * 10.0).round() / 10.0;
        let share = self.client_cpu as f64 / self.elapsed.as_nanos() as f64;
        vec![
            ("messages", messages),
            ("messages_per_second", (messages / self.elapsed.as_secs_f64()).round()),
            ("client_cpu_ns_per_message", tenths(self.client_cpu as f64 / messages)),
            ("client_cpu_percent", tenths(share * 100.0)),
            ("own_cpu_ns_per_message", tenths(self.own_cpu as f64 / messages)),
        ]
    }
}

/// Without any message for so long, the run is given up.
const STALL: Duration = Duration::from_secs(10);

/// One read's worth.
const BUFFER_BYTES: usize = 256 * 1024;

/// The longest head of a request that is waited for.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Clients may open all connections at once; those that do not fit here wait for a second.
const BACKLOG: i32 = 1024;

/// Starts the client on `core`, as `PROGRAM --connect ADDRESS --connections COUNT --in-flight COUNT
/// --bytes COUNT`; answers it, counts, and ends it.
///
/// # Errors
/// No such program, what the sockets say, a client that is wrong or ends, ten seconds without any
/// message.
pub fn run(program: &Path, core: Option<usize>, shape: &Shape) -> io::Result<Outcome> {
    let (listener, address) = listen()?;
    let mut turn = Turn {
        epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        events: Vec::with_capacity(1024),
        buffer: vec![0; BUFFER_BYTES],
        payload_bytes: shape.payload_bytes,
        connections: Vec::with_capacity(shape.connections),
    };
    // Behind the connections, so that it ends before them: it would say that they have ended.
    let client = Client::start(program, core, address, shape)?;
    turn.open(&listener, shape.connections)?;
    turn.run_for(shape.warm_up)?;
    let client_cpu = || machine::cpu_nanoseconds(client.0.id());
    let own_cpu = || machine::cpu_nanoseconds(std::process::id());
    let (client_before, own_before, begin) = (client_cpu()?, own_cpu()?, Instant::now());
    let messages = turn.run_for(shape.duration)?;
    let elapsed = begin.elapsed();
    if messages == 0 {
        return Err(io::Error::other("no message came in the time that was counted"));
    }
    Ok(Outcome {
        messages,
        elapsed,
        client_cpu: client_cpu()? - client_before,
        own_cpu: own_cpu()? - own_before,
    })
}

fn listen() -> io::Result<(TcpListener, SocketAddr)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let listener = TcpListener::from(socket);
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// The process, which ends with the value.
struct Client(Child);

impl Client {
    fn start(
        program: &Path,
        core: Option<usize>,
        address: SocketAddr,
        shape: &Shape,
    ) -> io::Result<Client> {
        let mut command = Command::new(program);
        for (name, value) in [
            ("--connect", address.to_string()),
            ("--connections", shape.connections.to_string()),
            ("--in-flight", shape.in_flight.to_string()),
            ("--bytes", shape.payload_bytes.to_string()),
        ] {
            command.args([name, &value]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = machine::spawn_on(&mut command, core);
        child.map(Client).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", program.display()))
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is reaped.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One connection of the client's.
struct Connection {
    stream: TcpStream,
    /// The beginning of a head or of a frame whose end has not arrived.
    rest: Vec<u8>,
    /// Answers, some of which the kernel may have refused; while there are any, nothing is read.
    answers: Vec<u8>,
    is_open: bool,
}

impl Connection {
    /// Answers what is there, and returns how many messages it was.
    fn serve(&mut self, buffer: &mut [u8], payload_bytes: usize) -> io::Result<u64> {
        let mut messages = 0;
        while self.flush()? {
            let begin = self.rest.len();
            buffer[..begin].copy_from_slice(&self.rest);
            let received = match self.stream.read(&mut buffer[begin..]) {
                Ok(0) => return Err(io::Error::other("the client closed a connection")),
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(messages),
                Err(error) => return Err(error),
            };
            let is_short = begin + received < buffer.len();
            self.rest.clear();
            messages += self.handle_input(&mut buffer[..begin + received], payload_bytes)?;
            if is_short && self.flush()? {
                return Ok(messages);
            }
        }
        Ok(messages)
    }

    /// Whether the kernel has taken everything.
    fn flush(&mut self) -> io::Result<bool> {
        let mut sent = 0;
        while sent < self.answers.len() {
            match self.stream.write(&self.answers[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.answers.drain(..sent);
        Ok(self.answers.is_empty())
    }

    fn handle_input(&mut self, input: &mut [u8], payload_bytes: usize) -> io::Result<u64> {
        let mut begin = 0;
        if !self.is_open {
            let Some(head_bytes) = head_bytes(input)? else {
                self.rest.extend_from_slice(input);
                return Ok(0);
            };
            self.answers.extend(accept(&input[..head_bytes])?);
            (self.is_open, begin) = (true, head_bytes);
        }
        let mut messages = 0;
        loop {
            match frame::unmask(&mut input[begin..]) {
                Ok(Some(Masked { first_byte, payload, frame_bytes })) => {
                    match first_byte {
                        frame::TEXT | frame::BINARY if payload.len() == payload_bytes => {
                            frame::append_header(&mut self.answers, first_byte, payload_bytes);
                            messages += 1;
                        }
                        frame::PING => {
                            frame::append_header(&mut self.answers, frame::PONG, payload.len());
                        }
                        _ => return Err(wrong(first_byte, payload.len())),
                    }
                    self.answers.extend_from_slice(payload);
                    begin += frame_bytes;
                }
                Ok(None) => {
                    self.rest.extend_from_slice(&input[begin..]);
                    return Ok(messages);
                }
                Err(error) => return Err(io::Error::other(error.to_string())),
            }
        }
    }
}

fn wrong(first_byte: u8, payload_bytes: usize) -> io::Error {
    let text = format!("the client sent {payload_bytes} bytes in a frame of {first_byte:#04x}");
    io::Error::other(text)
}

/// Where the head of a request ends, if it does.
fn head_bytes(input: &[u8]) -> io::Result<Option<usize>> {
    let end = input.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
    if end.is_none() && input.len() > HEAD_BYTES_MAX {
        return Err(io::Error::other("the client's request has no end"));
    }
    Ok(end)
}

/// The answer that RFC 6455 §4.2.2 wants.
fn accept(head: &[u8]) -> io::Result<Vec<u8>> {
    let head = str::from_utf8(head).map_err(io::Error::other)?;
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("Sec-WebSocket-Key").then(|| value.trim().to_owned())
    };
    let key = head.lines().find_map(field);
    let key = key.ok_or_else(|| io::Error::other("the client's request has no key"))?;
    let proof = BASE64_STANDARD.encode(Sha1::digest(key + GUID));
    Ok(format!("{SWITCHING}{proof}\r\n\r\n").into_bytes())
}

const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: ";

struct Turn {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    buffer: Vec<u8>,
    payload_bytes: usize,
    connections: Vec<Connection>,
}

impl Turn {
    /// Waits until so many connections stand.
    fn open(&mut self, listener: &TcpListener, connections: usize) -> io::Result<()> {
        let deadline = Instant::now() + STALL;
        while !(self.connections.len() >= connections && self.connections.iter().all(|c| c.is_open))
        {
            if Instant::now() > deadline {
                let text = format!("{} of {connections} connections", self.connections.len());
                return Err(io::Error::other(format!("the client has opened {text}")));
            }
            match listener.accept() {
                Ok((stream, _)) => self.add(stream)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            self.once()?;
        }
        Ok(())
    }

    fn add(&mut self, stream: TcpStream) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        let key = EventData::new_u64(self.connections.len() as u64);
        epoll::add(&self.epoll, &stream, key, interest)?;
        let (rest, answers) = (Vec::new(), Vec::with_capacity(BUFFER_BYTES));
        self.connections.push(Connection { stream, rest, answers, is_open: false });
        Ok(())
    }

    /// Spins for `duration` and returns how many messages were answered.
    fn run_for(&mut self, duration: Duration) -> io::Result<u64> {
        let mut messages = 0;
        let mut now = Instant::now();
        let end = now + duration;
        let mut stalled_at = now + STALL;
        while now < end {
            let answered = self.once()?;
            now = Instant::now();
            if answered > 0 {
                messages += answered;
                stalled_at = now + STALL;
            } else if now > stalled_at {
                return Err(io::Error::other("the client stopped sending"));
            }
        }
        Ok(messages)
    }

    /// Answers what has arrived, without waiting for it.
    fn once(&mut self) -> io::Result<u64> {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&at_once)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut messages = 0;
        for event in self.events.drain(..) {
            let connection = &mut self.connections[event.data.u64() as usize];
            messages += connection.serve(&mut self.buffer, self.payload_bytes)?;
        }
        Ok(messages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::DataOpcode;

    /// A connection of ours, and the other end of it.
    fn pair() -> (Connection, TcpStream) {
        let (listener, address) = listen().expect("a port");
        let client = TcpStream::connect(address).expect("it listens");
        let (stream, _) = listener.accept().expect("a connection");
        stream.set_nonblocking(true).expect("a socket");
        (Connection { stream, rest: Vec::new(), answers: Vec::new(), is_open: false }, client)
    }

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    #[test]
    fn messages_come_back_however_they_are_split() {
        let messages: Vec<Vec<u8>> =
            (0..3).map(|n| frame::masked_message(DataOpcode::Binary, &[n; 300])).collect();
        let stream = [REQUEST, &messages.concat()].concat();
        let mut whole = Vec::new();
        for split in [1, 2, 7, 100, stream.len()] {
            let (mut connection, _client) = pair();
            let mut count = 0;
            for piece in stream.chunks(split) {
                let mut input = std::mem::take(&mut connection.rest);
                input.extend_from_slice(piece);
                count += connection.handle_input(&mut input, 300).expect("right");
            }
            assert_eq!((count, connection.rest.len()), (3, 0));
            assert!(connection.answers.starts_with(SWITCHING.as_bytes()));
            let expected = if whole.is_empty() { &connection.answers } else { &whole };
            assert!(connection.answers == *expected);
            whole.clone_from(&connection.answers);
        }
        let text = String::from_utf8_lossy(&whole);
        // The accept value that RFC 6455 §1.3 gives for this key.
        assert!(text.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"));
        assert!(whole.ends_with(&[&[0x82, 126, 1, 44][..], &[2; 300]].concat()));
    }

    #[test]
    fn a_message_of_another_length_is_wrong() {
        let (mut connection, _client) = pair();
        connection.is_open = true;
        let mut message = frame::masked_message(DataOpcode::Binary, &[0; 19]);
        assert!(connection.handle_input(&mut message, 20).is_err());
    }

    #[test]
    fn a_client_that_leaves_is_an_error() {
        let (mut connection, client) = pair();
        drop(client);
        let deadline = Instant::now() + STALL;
        while connection.serve(&mut [0; 1024], 20).is_ok() {
            assert!(Instant::now() < deadline, "nobody noticed");
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let shape = Shape {
            connections: 1,
            in_flight: 1,
            payload_bytes: 20,
            warm_up: Duration::ZERO,
            duration: Duration::ZERO,
        };
        assert!(run(Path::new("/no/such/program"), None, &shape).is_err());
    }
}
