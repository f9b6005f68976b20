//! What a pool hands out, what it asks of its driver and why it refuses.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

use crate::client::balance::EndpointId;
use crate::collections::Key;

/// Where in the program a connection was acquired.
pub(crate) type Site = &'static Location<'static>;

/// The name of a connection in its pool, from [`Action::Open`] until it was told to be closed or
/// not to have opened. Afterwards it is a miss, never another connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct MemberKey(pub(super) Key);

impl MemberKey {
    /// The connection's place, below the pool's `max`. Places are used again.
    pub(crate) const fn index(self) -> usize {
        self.0.index as usize
    }
}

impl fmt::Debug for MemberKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.0.index, self.0.generation)
    }
}

/// The right to use one connection of a pool alone.
///
/// It ends when it is released, when it is revoked because it was held too long, or when its
/// connection ends. Afterwards it is a miss ([`PoolError::Revoked`]), never the right to another
/// connection, and never somebody else's to this one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    pub(super) member: MemberKey,
    /// Which of all the leases of the pool it is.
    pub(super) number: u64,
}

impl Lease {
    /// The connection. What the holder may do with it, [`Core::check`](super::Core::check) says.
    pub(crate) const fn member(self) -> MemberKey {
        self.member
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}#{}", self.member, self.number)
    }
}

/// A place in the line of those who wait for a connection. It ends exactly once: with a lease, with
/// an error, or because it was cancelled.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseTicket(pub(super) Key);

impl fmt::Debug for LeaseTicket {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.0.index, self.0.generation)
    }
}

/// What acquiring has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Acquired {
    /// A connection, at once.
    Now(Lease),
    /// A place in the line.
    Later(LeaseTicket),
}

/// How the use of a connection went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Good,
    /// Something failed, and the other end or the connection may be to blame. It is counted, and at
    /// [`PoolSettings::errors_max`](super::PoolSettings::errors_max) the connection is retired.
    Failed,
    /// The connection is not fit for anybody else: in the middle of an exchange, for instance. It is
    /// closed.
    Broken,
}

/// Why a pool gives no connection, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolError {
    /// None came free in time.
    Exhausted,
    /// As many wait already as may
    /// ([`PoolSettings::waiters_max`](super::PoolSettings::waiters_max)).
    TooManyWaiting,
    /// The lease is over: it was held too long and has been revoked, or its connection has ended, or
    /// it was released before.
    Revoked,
    /// The pool is shutting down.
    ShutDown,
    /// The loop of a pool for threads has failed: its poll, or the callback for events.
    LoopFailed,
}

impl fmt::Display for PoolError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Exhausted => "no connection of the pool came free in time",
            Self::TooManyWaiting => "as many wait for a connection of the pool as may",
            Self::Revoked => "the lease of the connection is over",
            Self::ShutDown => "the pool is shutting down",
            Self::LoopFailed => "the pool's loop has failed",
        })
    }
}

impl std::error::Error for PoolError {}

/// Why a connection left its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Eviction {
    /// Nobody has used it for long, and more are open than need be.
    Stale,
    /// The load is low, so the pool has become smaller.
    Shrunk,
    /// It has reached its maximum age.
    Aged,
    /// As many errors were counted on it as may.
    Errors,
    /// Its user has released it as broken.
    Broken,
    /// It did not answer the ping before it was to be handed out.
    NoPong,
    /// Its lease was held too long.
    Revoked,
    /// Its endpoint is being drained, or was removed.
    EndpointLeft,
    /// Dialling took so long that its place was given to an endpoint that answers.
    Overdue,
    /// The pool is shutting down.
    ShutDown,
    /// It ended without the pool's doing.
    Lost,
}

impl Eviction {
    /// All of them, in the order of [`PoolStats::evictions`](super::PoolStats::evictions).
    pub const ALL: [Self; 11] = [
        Self::Stale,
        Self::Shrunk,
        Self::Aged,
        Self::Errors,
        Self::Broken,
        Self::NoPong,
        Self::Revoked,
        Self::EndpointLeft,
        Self::Overdue,
        Self::ShutDown,
        Self::Lost,
    ];
}

/// What a pool wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Action {
    /// Dial this endpoint. Ends in `handle_opened`, `handle_dial_failed` or `handle_closed`.
    Open { member: MemberKey, endpoint: EndpointId },
    /// Close the connection, or give its dialling up. Ends in `handle_closed`, at once if there is
    /// no such connection any more.
    Close { member: MemberKey, reason: Eviction },
    /// Send a ping; its pong goes to `handle_pong`.
    Ping { member: MemberKey },
    /// The waiting of this ticket is over, here is its lease.
    Grant { ticket: LeaseTicket, lease: Lease },
    /// The waiting of this ticket is over, there is none.
    Expire { ticket: LeaseTicket, error: PoolError },
    /// This lease is held for long. Told once for each lease.
    Leak(Leak),
    /// This lease is over because the pool wants it so; a `Close` of its connection follows.
    Revoked(Leak),
}

/// A lease that was held for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leak {
    pub(crate) lease: Lease,
    pub(crate) endpoint: EndpointId,
    pub(crate) site: Site,
    pub(crate) held_for: Duration,
}
