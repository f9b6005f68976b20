//! A TCP echo without a protocol over epoll, edge-triggered: the floor for comparison.
//!
//! Form: <https://man7.org/linux/man-pages/man7/epoll.7.html>, what stands under `EPOLLET`.

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use corewire_peers::listen_address;
use corewire_peers::raw::{BUFFER_BYTES, Connection, Progress, Reading};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;

const LISTENER: u64 = u64::MAX;

/// Indexed by descriptor: the kernel hands out the smallest free one, so this stays dense.
type Connections = Vec<Option<Connection<TcpStream>>>;

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
            } else if let Some(slot) = connections.get_mut(key as usize)
                && let Some(connection) = slot
            {
                let gone = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
                let flags = event.flags;
                let is_ending = flags.intersects(gone);
                let reading = if is_ending { Reading::UntilEnd } else { Reading::UntilShort };
                if matches!(connection.echo(&mut buffer, reading), Ok(Progress::Ended) | Err(_)) {
                    *slot = None;
                }
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
        connections[index] = Some(Connection::new(stream));
    }
}
