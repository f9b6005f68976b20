//! Why a connection that was dialled did not open.

use std::fmt;
use std::io;

#[cfg(feature = "deflate")]
use crate::deflate::AnswerError;
use crate::handshake::{ClientHandshakeError, TunnelError};
use crate::protocol::CompressionError;
use crate::reactor::tls::is_passing;

/// Why a connection that was dialled did not open.
#[derive(Debug)]
#[non_exhaustive]
pub enum DialError {
    /// A phase took longer than it may.
    TimedOut(DialPhase),
    /// The system or the network failed: a name that does not resolve, a connection that is refused
    /// or reset. `UnexpectedEof` where the other end has closed in the middle of a phase.
    Io {
        /// When.
        phase: DialPhase,
        /// What it said; of several addresses the last one's.
        error: io::Error,
    },
    /// A proxy has not led to the server.
    Tunnel(TunnelError),
    /// TLS found no agreement, or no certificate that it trusts.
    Tls(Box<dyn std::error::Error + Send + Sync>),
    /// The server answered with a status other than 101.
    Refused(Box<Refusal>),
    /// The server's answer breaks the rules of RFC 6455 §4.1.
    Handshake(ClientHandshakeError),
    /// The server's answer to the offer of compression is none (RFC 7692 §5.1).
    #[cfg(feature = "deflate")]
    Compression(AnswerError),
    /// The loop has no room for another connection, or is about to end.
    NoRoom,
    /// The application gave it up.
    Aborted,
}

impl DialError {
    /// Whether another try may succeed though nobody changes anything.
    ///
    /// - A phase that took too long, and whatever the network or the system reports: yes. A name
    ///   that does not resolve and a port that nobody listens on may be there a minute later.
    /// - An answer other than 101: by its status, 408, 429 and 5xx. Everything else is a decision:
    ///   401 and 403 with all other 4xx, a redirection that is not followed, and a 200 of what is no
    ///   WebSocket.
    /// - In TLS a certificate that has expired or is not valid yet, which will be renewed, and an
    ///   alert that tells of trouble at the server's. Whom to trust, by what name, and what to speak
    ///   are decisions.
    /// - An answer that breaks RFC 6455 §4.1 or RFC 7692 §5.1: no, the ends do not speak the same
    ///   protocol.
    /// - A proxy: [`TunnelError::is_retryable`].
    /// - No room in the loop: yes, others may end.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::TimedOut(_) | Self::Io { .. } | Self::NoRoom => true,
            Self::Tunnel(error) => error.is_retryable(),
            Self::Tls(error) => is_passing(&**error),
            Self::Refused(refusal) => {
                ClientHandshakeError::Status { status: refusal.status }.is_retryable()
            }
            Self::Handshake(error) => error.is_retryable(),
            #[cfg(feature = "deflate")]
            Self::Compression(_) => false,
            Self::Aborted => false,
        }
    }
}

/// The parts of dialling, in their order. Each has its own deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DialPhase {
    /// Asking for the addresses of a name.
    Resolve,
    /// Connecting to one of them.
    Connect,
    /// Through a proxy to the server.
    Tunnel,
    /// The handshake of TLS.
    Tls,
    /// The opening handshake (RFC 6455 §4.1).
    Upgrade,
}

/// An answer other than 101, so far as it is kept. What it says is not printed: cookies may be in it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// Its status.
    pub status: u16,
    /// Its fields: names as they were sent, values as bytes.
    pub headers: Vec<(Box<str>, Box<[u8]>)>,
    /// The beginning of its body, of at most
    /// [`REFUSAL_BODY_BYTES_MAX`](crate::limits::REFUSAL_BODY_BYTES_MAX): what came in time.
    pub body: Vec<u8>,
}

impl Refusal {
    /// The value of the first field of this name, in any case; `None` if it is not ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.headers.iter();
        let (_, value) = fields.find(|(field, _)| field.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok().filter(|value| value.is_ascii())
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value_bytes = |(name, value): &(Box<str>, Box<[u8]>)| (name.clone(), value.len());
        let headers: Vec<_> = self.headers.iter().map(value_bytes).collect();
        out.debug_struct("Refusal")
            .field("status", &self.status)
            .field("header_bytes", &headers)
            .field("body_bytes", &self.body.len())
            .finish()
    }
}

impl From<CompressionError> for DialError {
    fn from(error: CompressionError) -> Self {
        #[cfg(feature = "deflate")]
        return Self::Compression(error);
        #[cfg(not(feature = "deflate"))]
        match error {}
    }
}

impl fmt::Display for DialPhase {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Resolve => "resolving the name",
            Self::Connect => "connecting",
            Self::Tunnel => "passing the proxy",
            Self::Tls => "the handshake of TLS",
            Self::Upgrade => "the opening handshake",
        })
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut(phase) => write!(out, "{phase} took too long"),
            Self::Io { phase, error } => write!(out, "{phase} failed: {error}"),
            Self::Tunnel(error) => error.fmt(out),
            Self::Tls(error) => write!(out, "TLS: {error}"),
            Self::Refused(refusal) => {
                write!(out, "the server answered with status {} instead of 101", refusal.status)
            }
            Self::Handshake(error) => error.fmt(out),
            #[cfg(feature = "deflate")]
            Self::Compression(error) => error.fmt(out),
            Self::NoRoom => out.write_str("the loop has no room for another connection"),
            Self::Aborted => out.write_str("dialling was given up"),
        }
    }
}

impl std::error::Error for DialError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            Self::Tunnel(error) => Some(error),
            Self::Tls(error) => Some(&**error),
            Self::Handshake(error) => Some(error),
            #[cfg(feature = "deflate")]
            Self::Compression(error) => Some(error),
            Self::TimedOut(_) | Self::Refused(_) | Self::NoRoom | Self::Aborted => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_refusal_says_is_not_printed() {
        let headers = vec![("Set-Cookie".into(), b"id=s3cret".as_slice().into())];
        let refusal = Refusal { status: 401, headers, body: b"s3cret too".to_vec() };
        let printed = format!("{:?}", DialError::Refused(Box::new(refusal)));
        assert!(!printed.contains("s3cret"), "{printed}");
        for told in ["401", "Set-Cookie", "9", "10"] {
            assert!(printed.contains(told), "{told} in {printed}");
        }
    }
}
