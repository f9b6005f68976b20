//! Fan-out without a protocol over epoll, edge-triggered: what the publisher sends is written to each
//! subscriber as it came. The floor for comparison.
//!
//! Form: <https://man7.org/linux/man-pages/man7/epoll.7.html>, what stands under `EPOLLET`.

use std::convert::Infallible;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use corewire_peers::listen_address;
use corewire_peers::raw::{BUFFER_BYTES, Subscriber};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;

const LISTENER: u64 = u64::MAX;

/// How the publisher begins. All who knock get back what they have sent first, as in the echo.
const PUBLISHER: &[u8] = b"GET /pub ";

/// One accepted connection.
enum Connection {
    /// It has sent nothing.
    New(TcpStream),
    Publisher(TcpStream),
    Subscriber(Subscriber<TcpStream>),
}

/// Indexed by descriptor: the kernel hands out the smallest free one, so this stays dense.
type Connections = Vec<Option<Connection>>;

fn main() -> io::Result<Infallible> {
    let listener = TcpListener::bind(listen_address()?)?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;

    let mut buffer = vec![0; BUFFER_BYTES];
    let mut connections = Connections::new();
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
            } else {
                handle(&mut connections, key as usize, &mut buffer);
            }
        }
    }
}

/// Takes the connection out of its place and puts it back unless it has ended.
fn handle(connections: &mut Connections, index: usize, buffer: &mut [u8]) {
    let Some(connection) = connections.get_mut(index).and_then(Option::take) else { return };
    connections[index] = match connection {
        Connection::New(stream) => welcome(stream, buffer),
        Connection::Publisher(mut stream) => {
            publish(connections, &mut stream, buffer).map(|()| Connection::Publisher(stream))
        }
        Connection::Subscriber(mut subscriber) => {
            subscriber.handle_ready(buffer).map(|()| Connection::Subscriber(subscriber))
        }
    }
    .ok();
}

fn welcome(mut stream: TcpStream, buffer: &mut [u8]) -> io::Result<Connection> {
    let received = match stream.read(buffer) {
        Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
        Ok(received) => received,
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Connection::New(stream)),
        Err(error) => return Err(error),
    };
    let first = &buffer[..received];
    // An empty socket takes as much as a head.
    stream.write_all(first)?;
    Ok(if first.starts_with(PUBLISHER) {
        Connection::Publisher(stream)
    } else {
        Connection::Subscriber(Subscriber::new(stream))
    })
}

/// Passes on all that the publisher has sent.
fn publish(
    connections: &mut Connections,
    publisher: &mut TcpStream,
    buffer: &mut [u8],
) -> io::Result<()> {
    loop {
        let received = match publisher.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(received) => received,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        for slot in connections.iter_mut() {
            if let Some(Connection::Subscriber(subscriber)) = slot
                && subscriber.send(&buffer[..received]).is_err()
            {
                *slot = None;
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    epoll: &OwnedFd,
    connections: &mut Connections,
) -> io::Result<()> {
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
        connections[index] = Some(Connection::New(stream));
    }
}
