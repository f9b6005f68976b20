//! What one kind of connection is held to: shared by all connections of a listener or dialler.

use std::fmt;
use std::time::Duration;

use super::compression::Compression;
use crate::limits::ConnectionLimits;
use crate::pubsub::TopicSettings;
use crate::wire::{CloseCode, Role};

/// The settings of a connection, shared by all of one kind.
///
/// ```
/// use corewire::{Config, Heartbeat, Role};
/// use std::time::Duration;
///
/// let mut config = Config::new(Role::Server);
/// config.limits.message_bytes_max = 64 << 20;
/// let ping_every = Duration::from_secs(10);
/// config.heartbeat = Some(Heartbeat { ping_every, ..Heartbeat::default() });
/// assert_eq!(config.close_timeout, Duration::from_secs(5));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The end that we are. A server refuses unmasked frames, a client masked ones (RFC 6455 §5.1).
    pub role: Role,
    /// The bounds of messages and queues.
    pub limits: ConnectionLimits,
    /// Whole messages (the default) or pieces as they arrive.
    pub delivery: Delivery,
    /// Automatic pings and the deadline for a sign of life. Default: every 30 s, dead after 90 s;
    /// `None` switches both off.
    pub heartbeat: Option<Heartbeat>,
    /// The whole closing handshake, from our Close to the end of the connection. Default 5 s.
    pub close_timeout: Duration,
    /// How long a connection of a server may live. Default `None`: for as long as it likes.
    pub max_lifetime: Option<Lifetime>,
    /// What happens to a connection whose queue is full. Default: it fails with 1013.
    pub on_overflow: OverflowPolicy,
    /// What happens to a message of a topic that meets a full queue, where the topic has no
    /// settings of its own. Default: at 1 MiB the connection fails with 1013.
    pub published: TopicSettings,
    /// Whether and how messages are compressed. Default: not at all.
    #[cfg(feature = "deflate")]
    pub compression: Compression,
    #[cfg(not(feature = "deflate"))]
    pub(super) compression: Compression,
}

/// How messages reach the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Delivery {
    /// Each message whole, as `Event::Text` or `Event::Binary`.
    #[default]
    Whole,
    /// Each message in pieces as they arrive, as `Event::Chunk`; nothing is assembled. A piece of
    /// text may end inside a character.
    Streaming,
}

/// Automatic pings and the deadline for any sign of life.
///
/// A sign of life is any received byte, or the kernel taking bytes after it had refused some.
///
/// Neither time may be zero: a server is not built with such a heartbeat. `None` in
/// [`Config::heartbeat`] switches it off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// A ping is sent so often, traffic or not. Default 30 s: below the 60 s after which common
    /// proxies drop a silent connection. Less than a millisecond counts as one.
    pub ping_every: Duration,
    /// Without a sign of life for so long the connection is dropped. Default 90 s: two pings may
    /// be lost.
    pub dead_after: Duration,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { ping_every: Duration::from_secs(30), dead_after: Duration::from_secs(90) }
    }
}

impl Heartbeat {
    /// From one ping to the next.
    pub(super) fn ping_interval(&self) -> Duration {
        self.ping_every.max(PING_INTERVAL_MIN)
    }
}

/// A ping that is due again as soon as it is sent would keep the caller busy for ever. So long is
/// one tick of the loop's timers.
const PING_INTERVAL_MIN: Duration = Duration::from_millis(1);

/// How long a connection may live. Then it is closed, and its client may come back.
///
/// So what is decided when a connection opens is decided again in due time: which server takes it,
/// whether its credentials still hold. A server that has joined others gets its share within a
/// lifetime, without anybody's doing.
///
/// The closing handshake begins between two messages: one that is under way in either direction may
/// end first, for as long as [`Config::close_timeout`] at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lifetime {
    /// The longest that it lives, up to 24 days, to a quarter of a second.
    pub after: Duration,
    /// By how much of that its life may be shorter, drawn for each: 0 to 1. Default 0.1: those who
    /// came together do not go together.
    pub jitter: f64,
    /// What is said. Default 1001.
    pub code: CloseCode,
}

impl Lifetime {
    /// So long, with the default of the rest.
    pub const fn new(after: Duration) -> Self {
        Self { after, jitter: 0.1, code: CloseCode::GOING_AWAY }
    }

    fn is_workable(&self) -> bool {
        !self.after.is_zero() && (0.0..=1.0).contains(&self.jitter) && self.code.is_sendable()
    }
}

/// What happens when a message meets a full queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OverflowPolicy {
    /// The message is refused and the connection fails with 1013: a reader so slow is lost.
    #[default]
    Fail,
    /// The message is refused; the connection lives.
    Refuse,
}

/// Why a listener or dialled connections cannot have a [`Config`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A heartbeat whose `ping_every` or `dead_after` is zero. `None` is how to have none.
    ZeroHeartbeat,
    /// The low-water mark is above the high-water mark: reading would rest and go on at once,
    /// without end.
    WaterMarks {
        /// The low one, in bytes.
        low_bytes: usize,
        /// The high one.
        high_bytes: usize,
    },
    /// A [`Lifetime`] of nothing, with a jitter that is not from 0 to 1, or with a code that may not
    /// be sent; or one of dialled connections, whose client or pool has its own.
    Lifetime,
    /// It is for the end of a client, and the connections are a listener's.
    ClientRole,
    /// It is for the end of a server, and the connections are dialled.
    ServerRole,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZeroHeartbeat => {
                out.write_str("the times of a heartbeat have to be longer than zero")
            }
            Self::WaterMarks { low_bytes, high_bytes } => write!(
                out,
                "the low-water mark of {low_bytes} bytes is above the high one of {high_bytes}"
            ),
            Self::Lifetime => out.write_str(
                "a lifetime is longer than zero, its jitter from 0 to 1, its code one that may be \
                 sent, and its connections a listener's",
            ),
            Self::ClientRole => out.write_str("a listener's connections have the role of a server"),
            Self::ServerRole => out.write_str("dialled connections have the role of a client"),
        }
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Whether connections can be held to it whose end is that of `role`.
    #[cfg(feature = "net")]
    pub(crate) fn check(&self, role: Role) -> Result<(), ConfigError> {
        let is_zero = |beat: &Heartbeat| beat.ping_every.min(beat.dead_after).is_zero();
        let (low_bytes, high_bytes) = (self.limits.low_water_bytes, self.limits.high_water_bytes);
        match (self.role, role) {
            (Role::Client, Role::Server) => return Err(ConfigError::ClientRole),
            (Role::Server, Role::Client) => return Err(ConfigError::ServerRole),
            (Role::Server, Role::Server) | (Role::Client, Role::Client) => {}
        }
        if self.heartbeat.as_ref().is_some_and(is_zero) {
            return Err(ConfigError::ZeroHeartbeat);
        }
        let is_workable = |life: &Lifetime| role == Role::Server && life.is_workable();
        if !self.max_lifetime.as_ref().is_none_or(is_workable) {
            return Err(ConfigError::Lifetime);
        }
        if low_bytes > high_bytes {
            return Err(ConfigError::WaterMarks { low_bytes, high_bytes });
        }
        Ok(())
    }

    /// The defaults for one end.
    pub fn new(role: Role) -> Self {
        Self {
            role,
            limits: ConnectionLimits::default(),
            delivery: Delivery::default(),
            heartbeat: Some(Heartbeat::default()),
            close_timeout: Duration::from_secs(5),
            max_lifetime: None,
            on_overflow: OverflowPolicy::default(),
            published: TopicSettings::default(),
            compression: Compression::default(),
        }
    }
}
