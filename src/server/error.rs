//! Why a server cannot start or go on.

use std::fmt;
use std::io;

use crate::handshake::RouteError;
use crate::protocol::ConfigError;
use crate::reactor::{Endpoint, ShardIndex};

/// Why a server cannot start or go on. All but the first four are errors of the system.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServerError {
    /// Nowhere to listen was given.
    NoAddress,
    /// There can be 1 to 256 threads: so many a [`ConnectionId`](crate::ConnectionId) can tell
    /// apart.
    ThreadCount {
        /// What was asked for.
        threads: usize,
    },
    /// A configuration that cannot be, of a listener or of a route.
    Config(ConfigError),
    /// A route that cannot be added.
    Route {
        /// Its pattern.
        pattern: String,
        /// What is wrong with it.
        error: RouteError,
    },
    /// An endpoint cannot be listened at, most often because it is in use.
    Listen {
        /// The endpoint.
        endpoint: Endpoint,
        /// What the system says.
        error: io::Error,
    },
    /// A loop's network cannot be made, most often for want of descriptors.
    Network(io::Error),
    /// The system gives no random bytes to seed the loops with.
    Entropy(io::Error),
    /// A thread cannot be started.
    Thread(io::Error),
    /// The poll of the thread that accepts failed; the server has shut down.
    Acceptor(io::Error),
    /// A loop's poll failed; the server has shut down.
    Loop {
        /// Which loop.
        shard: ShardIndex,
        /// What the system says.
        error: io::Error,
    },
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddress => f.write_str("there is no address to listen on"),
            Self::ThreadCount { threads } => {
                write!(f, "there can be 1 to 256 threads, not {threads}")
            }
            Self::Config(error) => error.fmt(f),
            Self::Route { pattern, error } => write!(f, "cannot serve {pattern}: {error}"),
            Self::Listen { endpoint, error } => write!(f, "cannot listen on {endpoint}: {error}"),
            Self::Network(error) => write!(f, "cannot make a loop's network: {error}"),
            Self::Entropy(error) => write!(f, "cannot get random bytes: {error}"),
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
            Self::Acceptor(error) => write!(f, "accepting has failed: {error}"),
            Self::Loop { shard, error } => write!(f, "loop {} has failed: {error}", shard.0),
        }
    }
}

impl std::error::Error for ServerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NoAddress | Self::ThreadCount { .. } => None,
            Self::Config(error) => Some(error),
            Self::Route { error, .. } => Some(error),
            Self::Listen { error, .. }
            | Self::Network(error)
            | Self::Entropy(error)
            | Self::Thread(error)
            | Self::Acceptor(error)
            | Self::Loop { error, .. } => Some(error),
        }
    }
}
