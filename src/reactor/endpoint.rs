//! Where a listener listens, and where its connections come from.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;

use super::net::ListenOptions;
use super::socket::{SocketFile, bind_unix};

/// Where a listener listens.
///
/// ```
/// use corewire::{Endpoint, UnixEndpoint};
///
/// let tcp = Endpoint::from(([127, 0, 0, 1], 9001));
/// assert_eq!(tcp.to_string(), "127.0.0.1:9001");
/// let path = Endpoint::from(UnixEndpoint::Path("/run/chat.sock".into()));
/// assert_eq!(path.to_string(), "unix:/run/chat.sock");
/// let name = Endpoint::from(UnixEndpoint::Abstract(b"chat".to_vec()));
/// assert_eq!(name.to_string(), "unix:@chat");
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Endpoint {
    /// An address and a port; the network chooses a port in place of 0.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(UnixEndpoint),
    /// A listening socket that somebody else has made, of TCP or Unix; a service manager, say.
    Inherited(InheritedSocket),
    /// Nowhere: all connections of such a listener are [adopted](super::Adoption).
    Detached,
}

/// The name of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum UnixEndpoint {
    /// A file. One that a listener has left behind is replaced, any other is an error. The file
    /// goes when the listener closes.
    Path(PathBuf),
    /// A name without a file, on Linux alone.
    Abstract(Vec<u8>),
}

/// A socket that listens already. Each loop that is given it listens on a duplicate, so several can
/// share it.
///
/// It is set non-blocking, which all who hold it notice. Its backlog and its file are what they
/// are: such a file is not removed.
#[derive(Clone, Debug)]
pub struct InheritedSocket {
    /// In front of the socket, so that the file goes first.
    pub(super) file: Option<Arc<SocketFile>>,
    pub(super) socket: Arc<OwnedFd>,
    pub(super) maker: Maker,
}

/// Who has made an inherited socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Maker {
    /// This process, for several loops.
    Ourselves,
    /// Somebody who keeps it, and gives it to whoever comes after this process.
    Others,
}

/// The other end of a connection: of its socket, or as a proxy has named it by the
/// [PROXY protocol](super::ListenerSettings::proxy_protocol).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PeerAddress {
    /// A peer of TCP. One of IPv4 is told as such also where it came to a socket of IPv6.
    Inet(SocketAddr),
    /// A process on this machine, through a Unix socket; or one that a proxy has named so.
    Unix,
}

impl Endpoint {
    /// The address, where it is one.
    pub const fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) | Self::Inherited(_) | Self::Detached => None,
        }
    }

    /// Makes the socket of a Unix endpoint now, so that several loops can share it, or that it can
    /// be made before privileges are given up; any other endpoint stays as it is. Connections wait
    /// in the kernel's queue from then on.
    ///
    /// # Errors
    /// As [`Net::listen`](super::Net::listen).
    pub fn bind(&self, options: &ListenOptions) -> io::Result<Self> {
        match self {
            Self::Unix(name) => {
                let (socket, file) = bind_unix(name, options)?;
                let (socket, maker) = (Arc::new(socket.into()), Maker::Ourselves);
                Ok(Self::Inherited(InheritedSocket { file, socket, maker }))
            }
            Self::Tcp(_) | Self::Inherited(_) | Self::Detached => Ok(self.clone()),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(out),
            Self::Unix(name) => name.fmt(out),
            Self::Inherited(_) => out.write_str("inherited"),
            Self::Detached => out.write_str("detached"),
        }
    }
}

impl fmt::Display for UnixEndpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(out, "unix:{}", path.display()),
            Self::Abstract(name) => write!(out, "unix:@{}", name.escape_ascii()),
        }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl<I: Into<IpAddr>> From<(I, u16)> for Endpoint {
    fn from(address: (I, u16)) -> Self {
        Self::Tcp(address.into())
    }
}

impl From<UnixEndpoint> for Endpoint {
    fn from(name: UnixEndpoint) -> Self {
        Self::Unix(name)
    }
}

impl From<OwnedFd> for Endpoint {
    fn from(socket: OwnedFd) -> Self {
        let (socket, maker) = (Arc::new(socket), Maker::Others);
        Self::Inherited(InheritedSocket { file: None, socket, maker })
    }
}

impl From<TcpListener> for Endpoint {
    fn from(listener: TcpListener) -> Self {
        OwnedFd::from(listener).into()
    }
}

impl From<UnixListener> for Endpoint {
    fn from(listener: UnixListener) -> Self {
        OwnedFd::from(listener).into()
    }
}

impl PeerAddress {
    /// The IP address, where there is one.
    pub const fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Inet(address) => Some(address.ip()),
            Self::Unix => None,
        }
    }

    /// The address and port, where there are some.
    pub const fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(address) => Some(*address),
            Self::Unix => None,
        }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(out),
            Self::Unix => out.write_str("unix"),
        }
    }
}

impl From<SocketAddr> for PeerAddress {
    fn from(address: SocketAddr) -> Self {
        match address.ip().to_canonical() {
            IpAddr::V4(ip) => Self::Inet((ip, address.port()).into()),
            // Whole, since a link-local address means nothing without its scope.
            IpAddr::V6(_) => Self::Inet(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_of_ipv4_are_told_as_such() {
        for (told, expected) in [
            ("[::ffff:10.1.2.3]:80", "10.1.2.3:80"),
            ("10.1.2.3:80", "10.1.2.3:80"),
            ("[::10.1.2.3]:80", "[::a01:203]:80"),
            ("[fe80::1%3]:80", "[fe80::1%3]:80"),
        ] {
            let address: SocketAddr = told.parse().unwrap();
            assert_eq!(PeerAddress::from(address).to_string(), expected);
        }
        assert_eq!((PeerAddress::Unix.ip(), PeerAddress::Unix.socket_addr()), (None, None));
        assert_eq!(PeerAddress::Unix.to_string(), "unix");
    }

    #[test]
    fn names_of_endpoints_can_be_printed_whatever_they_are() {
        let name = UnixEndpoint::Abstract(b"a\n\xff".to_vec());
        assert_eq!(name.to_string(), "unix:@a\\n\\xff");
        assert_eq!(Endpoint::Detached.to_string(), "detached");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(Endpoint::from(listener).to_string(), "inherited");
    }
}
