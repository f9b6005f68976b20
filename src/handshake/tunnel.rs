//! The way through a proxy to a server.

use std::fmt;

use crate::http::HeadError;

/// Why a proxy has not led to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TunnelError {
    /// The head of its answer could not be read.
    Head(HeadError),
    /// An HTTP proxy answered CONNECT with a status outside 200 to 299 (RFC 9110 §9.3.6).
    Status {
        /// What it answered.
        status: u16,
    },
    /// It does not speak version 5 of SOCKS.
    NotSocks5,
    /// It takes none of the ways to authenticate that were offered (RFC 1928 §3).
    NoAcceptableMethod,
    /// It refused the user name and password (RFC 1929 §2).
    AuthenticationFailed,
    /// It refused the connection, and says why by this number (RFC 1928 §6).
    Reply(u8),
    /// What it said breaks the rules of SOCKS 5.
    Malformed,
}

impl TunnelError {
    /// Whether another attempt can succeed where this one failed.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Status { status } => matches!(status, 408 | 429 | 500..=599),
            // General failure, network or host unreachable, connection refused, time to live.
            Self::Reply(reply) => matches!(reply, 1 | 3..=6),
            Self::Head(_)
            | Self::NotSocks5
            | Self::NoAcceptableMethod
            | Self::AuthenticationFailed
            | Self::Malformed => false,
        }
    }
}

impl fmt::Display for TunnelError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Head(error) => return error.fmt(out),
            Self::Status { status } => {
                return write!(out, "the proxy answered CONNECT with status {status}");
            }
            Self::NotSocks5 => "the proxy does not speak SOCKS 5",
            Self::NoAcceptableMethod => "the proxy takes no way to authenticate that we have",
            Self::AuthenticationFailed => "the proxy refused the user name and password",
            Self::Reply(reply) => return write!(out, "the proxy refused with reply {reply}"),
            Self::Malformed => "the proxy breaks the rules of SOCKS 5",
        })
    }
}

impl std::error::Error for TunnelError {}

impl From<HeadError> for TunnelError {
    fn from(error: HeadError) -> Self {
        Self::Head(error)
    }
}
