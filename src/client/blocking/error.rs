//! Why a blocking client does not do what it was asked.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::client::reconnect::StopReason;
use crate::client::settings::ClientError;
use crate::protocol::CloseSummary;
use crate::reactor::DialError;
use crate::wire::InvalidClose;

/// Why there is no client.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// It cannot be as it was described.
    Client(ClientError),
    /// The first dial has failed.
    Dial(DialError),
    /// The system has no thread, no descriptors or no random numbers for a loop; or the loop's poll
    /// has failed.
    Loop(io::Error),
    /// The callback for events panicked.
    Panicked,
}

/// The end of a client, and all that is known of it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ended(Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) cause: EndCause,
    pub(super) last_close: Option<CloseSummary>,
    pub(super) last_failure: Option<DialError>,
}

/// Why a client has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndCause {
    /// It was told to, or found by its settings that another dial makes no sense.
    Stopped(StopReason),
    /// The poll of its loop has failed.
    Loop(io::ErrorKind),
    /// The callback for events panicked, or the loop itself.
    Panicked,
}

/// Why a message was not taken.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SendError {
    /// The queue is full, and stayed so for as long as could be waited.
    Full,
    /// The client is being closed.
    Closing,
    /// The client has ended.
    Ended(Ended),
}

/// Why it is not certain that everything was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlushError {
    /// It takes longer than was waited.
    TimedOut,
    /// So many messages that were taken are not sent, or not wholly, and will not be; each is told
    /// of here once. Where the loop has failed, it may be fewer.
    Unsent(u64),
}

/// Why a client was not closed as wanted. It has ended all the same, unless the code was wrong.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CloseError {
    /// The code may not stand on the wire, or the reason is too long; nothing has happened.
    InvalidClose(InvalidClose),
    /// Messages that were taken are not sent.
    Unsent {
        /// How many, since they were last told of.
        messages: u64,
        /// How it ended.
        ended: Ended,
    },
    /// The loop has failed, or panicked.
    Failed(Ended),
}

impl Ended {
    pub(super) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    /// Why.
    pub fn cause(&self) -> EndCause {
        self.0.cause
    }

    /// How the last connection ended, if there was one.
    pub fn last_close(&self) -> Option<&CloseSummary> {
        self.0.last_close.as_ref()
    }

    /// Why the last dial has failed, if one has since then.
    pub fn last_failure(&self) -> Option<&DialError> {
        self.0.last_failure.as_ref()
    }

    /// Whether both sides said Close, and neither failed.
    pub fn is_clean(&self) -> bool {
        let is_stopped = matches!(self.0.cause, EndCause::Stopped(_));
        let is_clean = self.last_close().is_some_and(CloseSummary::is_clean);
        is_stopped && is_clean && self.0.last_failure.is_none()
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.cause {
            EndCause::Stopped(_) => {}
            EndCause::Loop(error) => return write!(out, "the client's loop has failed: {error}"),
            EndCause::Panicked => return out.write_str("the client's loop panicked"),
        }
        if let Some(error) = self.last_failure() {
            return write!(out, "the client has given up: {error}");
        }
        let Some(summary) = self.last_close() else {
            return out.write_str("the client has ended");
        };
        write!(out, "the connection was closed with {}", summary.code.as_u16())?;
        if summary.reason.is_empty() { Ok(()) } else { write!(out, ": {}", summary.reason) }
    }
}

impl std::error::Error for Ended {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.last_failure().map(|error| error as _)
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(error) => error.fmt(out),
            Self::Dial(error) => error.fmt(out),
            Self::Loop(error) => write!(out, "there is no loop for the client: {error}"),
            Self::Panicked => out.write_str("the callback for events panicked"),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Client(error) => Some(error),
            Self::Dial(error) => Some(error),
            Self::Loop(error) => Some(error),
            Self::Panicked => None,
        }
    }
}

impl From<ClientError> for ConnectError {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => out.write_str("the queue of the client is full"),
            Self::Closing => out.write_str("the client is being closed"),
            Self::Ended(ended) => ended.fmt(out),
        }
    }
}

impl std::error::Error for SendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Full | Self::Closing => None,
            Self::Ended(ended) => Some(ended),
        }
    }
}

impl fmt::Display for FlushError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => out.write_str("sending takes too long"),
            Self::Unsent(messages) => write!(out, "{messages} messages are not sent"),
        }
    }
}

impl std::error::Error for FlushError {}

impl fmt::Display for CloseError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidClose(error) => error.fmt(out),
            Self::Unsent { messages, ended } => {
                write!(out, "{messages} messages are not sent: {ended}")
            }
            Self::Failed(ended) => ended.fmt(out),
        }
    }
}

impl std::error::Error for CloseError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::InvalidClose(error) => Some(error),
            Self::Unsent { ended, .. } | Self::Failed(ended) => Some(ended),
        }
    }
}
