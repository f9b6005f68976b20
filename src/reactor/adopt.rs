//! Connections that somebody else has accepted.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::handler::Handler;
use super::id::{ConnectionId, Target};
use super::load::{Load, OnTheWay};
use super::net::Net;
use super::turn::Reactor;

/// A connected stream that a loop is to take over from whoever has accepted it.
///
/// It counts as just accepted by the listener named, which may be an
/// [`Endpoint::Detached`](super::Endpoint::Detached): that listener's settings hold, and the time
/// for the opening handshake begins. Everything that is a stream socket of TCP or Unix will do, one
/// end of a socket pair too. Hand over the only descriptor that there is of it: while a duplicate is
/// open, the peer does not see the end of the connection.
///
/// ```no_run
/// # use corewire::{Context, Handler, Message, ServerError};
/// # struct Echo;
/// # impl Handler for Echo {
/// #     type Data = ();
/// #     fn on_message(&mut self, _: &mut Context<'_, ()>, _: Message<'_>) {}
/// # }
/// use corewire::{Adoption, Endpoint, Server};
/// use std::net::TcpListener;
///
/// let server = Server::builder().listen(Endpoint::Detached).build(|_shard| Echo)?;
/// let handle = server.handle();
/// std::thread::spawn(move || {
///     let own = TcpListener::bind("127.0.0.1:9001").expect("nobody else is there");
///     for stream in own.incoming().flatten() {
///         if handle.adopt(Adoption::new(stream, 0)).is_err() {
///             println!("the loops do not keep up");
///         }
///     }
/// });
/// server.run()?;
/// # Ok::<(), ServerError>(())
/// ```
pub struct Adoption {
    stream: OwnedFd,
    listener: usize,
    bytes: Vec<u8>,
    /// Once a loop is chosen; it counts there from then on.
    on_the_way: Option<OnTheWay>,
}

impl Adoption {
    /// A stream of which nothing was read, for the listener with this index, counted in the order
    /// they were added.
    pub fn new(stream: impl Into<OwnedFd>, listener: usize) -> Self {
        Self { stream: stream.into(), listener, bytes: Vec::new(), on_the_way: None }
    }

    /// With what was read of the stream already; the loop handles it first. At most as much as a
    /// request's head may have.
    pub fn with_bytes(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.bytes = bytes.into();
        self
    }

    /// From now on it counts as one of that loop, unless that is over.
    pub(super) fn announce(&mut self, to: &Arc<Load>) {
        if self.on_the_way.as_ref().is_none_or(|announced| !announced.is_to(to)) {
            self.on_the_way = OnTheWay::to(to);
        }
    }

    /// It is on its way no longer.
    pub(super) fn turn_back(&mut self) {
        self.on_the_way = None;
    }

    pub(super) const fn is_announced(&self) -> bool {
        self.on_the_way.is_some()
    }
}

impl fmt::Debug for Adoption {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What was read may be a head with a password, which stays out of logs.
        out.debug_struct("Adoption")
            .field("stream", &self.stream)
            .field("listener", &self.listener)
            .field("read_bytes", &self.bytes.len())
            .finish()
    }
}

impl<N: Net, H: Handler> Reactor<N, H> {
    /// Takes a connection over. What it has brought is handled in the next turn.
    ///
    /// # Errors
    /// The stream is closed then. `InvalidInput` for what is no stream, has more bytes than a head
    /// may have, or names no listener; `ConnectionRefused` once the loop shuts down or has drained;
    /// `QuotaExceeded` if the loop has no place left, `OutOfMemory` if its pool has none; and what
    /// the network says.
    pub fn adopt(&mut self, adoption: Adoption) -> io::Result<ConnectionId> {
        // An embedded loop may have stood still for long.
        self.read_clock();
        self.take_over(adoption)
    }

    pub(super) fn take_over(&mut self, adoption: Adoption) -> io::Result<ConnectionId> {
        let Adoption { stream, listener: index, bytes, on_the_way } = adoption;
        let listener = self.shared.listeners.get(index);
        let listener = listener.ok_or_else(|| invalid("there is no such listener"))?;
        if bytes.len() > listener.head.head_bytes_max as usize {
            return Err(invalid("no head has so many bytes"));
        }
        // In the course of a drain it is told 503, as who comes by a listener.
        if !self.shared.departure.answers_newcomers() {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let key = self.shared.slots.vacant_key().ok_or(io::ErrorKind::QuotaExceeded)?;
        let token = Target::Connection(key).token(self.shared.shard);
        let accepted = self.net.net().adopt(stream, &listener.sockets, token)?;
        match on_the_way {
            Some(announced) => announced.arrive(),
            None => self.shared.occupancy.arrive(),
        }
        let done_bytes = self.open_socket(index, accepted, &bytes)?;
        if done_bytes < bytes.len() {
            self.stash(key, &bytes[done_bytes..]);
            if !self.has_backlog(key) {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
            self.shared.mark_ready(key);
        }
        Ok(ConnectionId::new(self.shared.shard, key))
    }
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
