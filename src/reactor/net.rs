//! The seam between the loop and the network.
//!
//! The loop is generic over [`Net`], so the same engine code runs on real sockets
//! ([`MioNet`](super::MioNet)) and on a simulated network with a virtual clock. Whether readiness
//! or completion stands behind an implementation is its own affair.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::endpoint::{Endpoint, PeerAddress};
use super::remote::RemoteAddress;

/// A network as the loop sees it: non-blocking calls, readiness and a clock.
///
/// A call that cannot go on says `ErrorKind::WouldBlock`; interrupted calls are best repeated
/// inside, and the loop repeats an accept, a read or a write that says `ErrorKind::Interrupted`.
/// Readiness is edge-triggered: it is told once and holds until a call says `WouldBlock` or moves
/// fewer bytes than it was given room for.
pub trait Net {
    /// Listens at `endpoint`, which is never [`Endpoint::Detached`]; a port of 0 is chosen by the
    /// network.
    ///
    /// # Errors
    /// What `socket`, `bind`, `listen` and the registration say. `Unsupported` for an endpoint that
    /// the network does not know.
    fn listen(
        &mut self,
        endpoint: &Endpoint,
        options: &ListenOptions,
        token: u64,
    ) -> io::Result<Listening>;

    /// Whether somebody listens at `address` already. It is asked before several loops listen there
    /// by `reuse_port`, when another server would be no error but share the connections; nobody can
    /// connect meanwhile. Default: nobody does.
    ///
    /// # Errors
    /// `AddrInUse`, and what else `socket` and `bind` say.
    fn probe(&mut self, address: SocketAddr, options: &ListenOptions) -> io::Result<()> {
        let _ = (address, options);
        Ok(())
    }

    /// Takes one connection that waits at `listener` and registers it under `token`.
    ///
    /// # Errors
    /// What `accept` and the registration say; the connection is closed if the latter fails.
    fn accept(&mut self, listener: NetKey, token: u64) -> io::Result<Accepted>;

    /// Takes one connection that waits at `listener` and gives it to the caller, for another network
    /// to [adopt](Net::adopt).
    ///
    /// # Errors
    /// What `accept` says; `Unsupported` from a network that gives none away, which is the default.
    fn accept_detached(&mut self, listener: NetKey) -> io::Result<OwnedFd> {
        let _ = listener;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Takes a connected stream from the caller, sets it up and registers it under `token`. It is
    /// closed if that fails.
    ///
    /// # Errors
    /// `InvalidInput` for what is no stream, `Unsupported` from a network that takes none, which is
    /// the default, and what the system says.
    fn adopt(
        &mut self,
        stream: OwnedFd,
        options: &SocketOptions,
        token: u64,
    ) -> io::Result<Accepted> {
        let _ = (stream, options, token);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Begins to connect to `remote` and registers the socket under `token`. Readiness of any kind
    /// tells that there is something to be asked for by [`Net::finish_connect`].
    ///
    /// # Errors
    /// `Unsupported` from a network that connects to nothing, which is the default; what the system
    /// says at once, most often that there are no descriptors or no route. The socket is closed then.
    fn connect(
        &mut self,
        remote: &RemoteAddress,
        options: &SocketOptions,
        token: u64,
    ) -> io::Result<NetKey> {
        let _ = (remote, options, token);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Whether a connection that was begun stands: from then on it can be read and written.
    ///
    /// # Errors
    /// `WouldBlock` while it is under way; else why there will be none, and the socket is to be
    /// closed.
    fn finish_connect(&mut self, key: NetKey) -> io::Result<()> {
        let _ = key;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Reads what has arrived: into `place` first, which may be empty; then at most
    /// `surplus_bytes_max` into a buffer of the network's own, which it hands out by value and the
    /// loop gives back with [`Net::give_back`]. What is more waits in the socket. There is room for
    /// at least one byte, so no bytes at all mean the end of the stream.
    ///
    /// # Errors
    /// What `read` or `readv` says.
    fn receive(
        &mut self,
        key: NetKey,
        place: &mut [u8],
        surplus_bytes_max: usize,
    ) -> io::Result<Received>;

    /// Takes a buffer back after it was handled.
    fn give_back(&mut self, buffer: Buffer);

    /// Writes what the network takes now, in order, and raises no signal.
    ///
    /// # Errors
    /// What `send` or `sendmsg` says.
    fn send(&mut self, key: NetKey, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Shuts the write side: the peer reads the end of the stream behind what was sent.
    fn shutdown(&mut self, key: NetKey);

    /// Closes a connection or listener; its key is void.
    fn close(&mut self, key: NetKey);

    /// Waits for readiness, so long as `wait` says, and appends it to `events`. It may end sooner
    /// with nothing.
    ///
    /// # Errors
    /// What `epoll_wait` or its like says, other than an interruption.
    fn poll(&mut self, events: &mut Vec<Readiness>, wait: Wait) -> io::Result<()>;

    /// What ends a [`Net::poll`] from another thread.
    fn waker(&self) -> Arc<dyn Wake>;

    /// The time; it never goes backwards.
    fn now(&self) -> Instant;
}

/// How long a poll waits when nothing is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// Until then, by [`Net::now`].
    Until(Instant),
    /// Without end.
    Forever,
}

/// Ends a poll from another thread.
pub trait Wake: Send + Sync {
    /// The poll under way, or else the next one, returns at once.
    fn wake(&self);
}

/// A socket's name inside its [`Net`]; small numbers, reused after a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NetKey(pub u32);

/// What is ready for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// As given when the socket was registered.
    pub token: u64,
    /// There is something to read or accept.
    pub readable: bool,
    /// Output that was refused may be tried again.
    pub writable: bool,
    /// The peer has shut its write side, or the connection failed: read on to the end.
    pub hung_up: bool,
}

/// A listener that stands.
#[derive(Clone, Debug)]
pub struct Listening {
    /// Its key.
    pub key: NetKey,
    /// Where it really is.
    pub endpoint: Endpoint,
}

/// A connection taken from a listener.
#[derive(Clone, Copy, Debug)]
pub struct Accepted {
    /// Its key.
    pub key: NetKey,
    /// The other end.
    pub peer: PeerAddress,
}

/// A receive buffer, preallocated and initialised once, passed by value.
#[derive(Debug)]
pub struct Buffer(pub(super) Box<[u8]>);

/// Bytes that have arrived.
#[derive(Debug)]
pub struct Received {
    /// How many went into the place given.
    pub placed_bytes: usize,
    /// The first `surplus_bytes` are what arrived behind them.
    pub buffer: Buffer,
    /// How many.
    pub surplus_bytes: usize,
    /// Whether the read had room left, so that the socket is drained.
    pub is_short: bool,
}

impl Buffer {
    /// A buffer of `bytes` zeros, at least one.
    pub fn new(bytes: usize) -> Self {
        Self(vec![0; bytes.max(1)].into_boxed_slice())
    }

    /// All of it.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// Its size in bytes.
    #[expect(clippy::len_without_is_empty, reason = "a buffer is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl Received {
    /// What arrived behind the place given.
    pub fn surplus(&mut self) -> &mut [u8] {
        &mut self.buffer.0[..self.surplus_bytes]
    }
}

/// How a listener is made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenOptions {
    /// Connections that may wait to be accepted. Default 4,096; the kernel caps it at
    /// `net.core.somaxconn`.
    pub backlog: u32,
    /// SO_REUSEPORT, of TCP: several loops listen on one address and the kernel spreads connections
    /// over them. Default off, so that two programs on one port are an error; more than one thread
    /// switches it on.
    pub reuse_port: bool,
    /// Whether a socket of IPv6 takes connections of IPv4. Default: as the system is set up.
    pub ip_stack: IpStack,
    /// The permissions of a Unix socket's file, such as `0o660`. Default `None`: what the process's
    /// mask leaves. To connect is to write.
    pub unix_mode: Option<u32>,
    /// How its connections are set up.
    pub sockets: SocketOptions,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            backlog: 4096,
            reuse_port: false,
            ip_stack: IpStack::default(),
            unix_mode: None,
            sockets: SocketOptions::default(),
        }
    }
}

/// Whether a socket of IPv6 takes connections of IPv4 as well (IPV6_V6ONLY, RFC 3493 §5.3). It
/// means nothing to an address of IPv4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IpStack {
    /// What the system is set up for; on Linux `net.ipv6.bindv6only`, which is both if nobody has
    /// changed it.
    #[default]
    System,
    /// Both. `[::]:9001` then leaves no room for `0.0.0.0:9001` beside it.
    Dual,
    /// IPv6 alone.
    V6Only,
}

/// How a connection is set up, accepted or dialled. The first three are for TCP alone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketOptions {
    /// TCP_NODELAY. Default on: batches are corked here already, and Nagle's algorithm would add
    /// a round trip to each.
    pub nodelay: bool,
    /// TCP keep-alive probes after so much silence, in whole seconds: Linux takes 1 to 32,767.
    /// Default `None`: the heartbeat sees more.
    pub keepalive: Option<Duration>,
    /// How long sent bytes may stay unacknowledged before the kernel gives the connection up
    /// (TCP_USER_TIMEOUT, RFC 5482), in milliseconds, on Linux. Default `None`: the kernel tries for
    /// many minutes, the heartbeat sees it sooner.
    pub user_timeout: Option<Duration>,
    /// SO_RCVBUF in bytes, less than 2 GiB. Default `None`: the kernel tunes it.
    pub receive_buffer_bytes: Option<usize>,
    /// SO_SNDBUF in bytes, less than 2 GiB. Default `None`: the kernel tunes it.
    pub send_buffer_bytes: Option<usize>,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            nodelay: true,
            keepalive: None,
            user_timeout: None,
            receive_buffer_bytes: None,
            send_buffer_bytes: None,
        }
    }
}
