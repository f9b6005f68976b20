//! Where a loop connects to.

use std::fmt;
use std::net::SocketAddr;

use super::endpoint::UnixEndpoint;

/// The other end of a connection that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RemoteAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(UnixEndpoint),
}

impl From<SocketAddr> for RemoteAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl From<UnixEndpoint> for RemoteAddress {
    fn from(endpoint: UnixEndpoint) -> Self {
        Self::Unix(endpoint)
    }
}

impl fmt::Display for RemoteAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(out),
            Self::Unix(endpoint) => endpoint.fmt(out),
        }
    }
}
