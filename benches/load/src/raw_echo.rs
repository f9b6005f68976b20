//! The floor of an echo server: epoll, edge-triggered, one thread, and no protocol at all.
//!
//! Each batch of bytes costs one `recv` and one `send`; a short read means that the socket is
//! drained. Whatever a WebSocket server needs above this is the price of the protocol.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;

use clap::Parser;
use corewire_load::machine;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;

/// A TCP echo without a protocol, the floor for comparison.
#[derive(Parser)]
struct Arguments {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:9002")]
    listen: SocketAddr,
    /// Core to run on.
    #[arg(long)]
    pin: Option<usize>,
}

/// The size of libuv's and uWebSockets' buffers is 64 and 512 KiB; this lies between.
const BUFFER_BYTES: usize = 256 * 1024;
const LISTENER: u64 = u64::MAX;

struct Connection {
    stream: TcpStream,
    /// Bytes that the kernel refused; while there are any, nothing is read.
    unsent: Vec<u8>,
}

enum Progress {
    Drained,
    Blocked,
    Ended,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("raw-echo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<std::convert::Infallible> {
    if let Some(core) = arguments.pin {
        machine::pin_to_core(core)?;
    }
    machine::raise_descriptor_limit()?;
    let listener = TcpListener::bind(arguments.listen)?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;

    let mut buffer = vec![0; BUFFER_BYTES];
    // Indexed by descriptor: the kernel hands out the smallest free one, so this stays dense.
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut events = Vec::with_capacity(1024);
    loop {
        match epoll::wait(&epoll, spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events.drain(..) {
            let key = event.data.u64();
            if key == LISTENER {
                accept(&listener, &epoll, &mut connections)?;
            } else if let Some(slot) = connections.get_mut(key as usize)
                && let Some(connection) = slot
            {
                let gone = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
                let flags = event.flags;
                let ending = flags.intersects(gone);
                if matches!(echo(connection, &mut buffer, ending), Ok(Progress::Ended) | Err(_)) {
                    *slot = None;
                }
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    epoll: &OwnedFd,
    connections: &mut Vec<Option<Connection>>,
) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let index = usize::try_from(stream.as_raw_fd()).expect("a descriptor is not negative");
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(epoll, &stream, EventData::new_u64(index as u64), interest)?;
        if connections.len() <= index {
            connections.resize_with(index + 1, || None);
        }
        connections[index] = Some(Connection { stream, unsent: Vec::new() });
    }
}

/// Echoes until the socket is drained or takes no more. An `ending` socket is read to its end: the
/// FIN behind a short read brings no event of its own.
fn echo(connection: &mut Connection, buffer: &mut [u8], ending: bool) -> io::Result<Progress> {
    while !connection.unsent.is_empty() {
        match connection.stream.write(&connection.unsent) {
            Ok(sent) => drop(connection.unsent.drain(..sent)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Progress::Blocked),
            Err(error) => return Err(error),
        }
    }
    loop {
        let received = match connection.stream.read(buffer) {
            Ok(0) => return Ok(Progress::Ended),
            Ok(received) => received,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Progress::Drained),
            Err(error) => return Err(error),
        };
        let sent = match connection.stream.write(&buffer[..received]) {
            Ok(sent) => sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        if sent < received {
            connection.unsent.extend_from_slice(&buffer[sent..received]);
            return Ok(Progress::Blocked);
        }
        if received < buffer.len() && !ending {
            return Ok(Progress::Drained);
        }
    }
}
