//! A TCP echo without a protocol over mio: what the floor costs through the library that corewire
//! stands on.
//!
//! Form: <https://github.com/tokio-rs/mio/blob/v1.2.4/examples/tcp_server.rs>

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;

use corewire_peers::listen_address;
use corewire_peers::raw::{BUFFER_BYTES, Connection, Progress, Reading};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(usize::MAX);

/// Indexed by descriptor: the kernel hands out the smallest free one, so this stays dense.
type Connections = Vec<Option<Connection<TcpStream>>>;

fn main() -> io::Result<Infallible> {
    let mut listener = TcpListener::bind(listen_address()?)?;
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;

    let mut buffer = vec![0; BUFFER_BYTES];
    let mut connections = Connections::new();
    let mut events = Events::with_capacity(1024);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, &poll, &mut connections)?;
            } else if let Some(slot) = connections.get_mut(event.token().0)
                && let Some(connection) = slot
            {
                let is_ending = event.is_read_closed() || event.is_error();
                let reading = if is_ending { Reading::UntilEnd } else { Reading::UntilShort };
                if matches!(connection.echo(&mut buffer, reading), Ok(Progress::Ended) | Err(_)) {
                    *slot = None;
                }
            }
        }
    }
}

fn accept(listener: &TcpListener, poll: &Poll, connections: &mut Connections) -> io::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        stream.set_nodelay(true)?;
        let index = usize::try_from(stream.as_raw_fd()).expect("a descriptor is not negative");
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(index), interest)?;
        if connections.len() <= index {
            connections.resize_with(index + 1, || None);
        }
        connections[index] = Some(Connection::new(stream));
    }
}
