//! Leases: what a pool gives, and what it says of them.

use std::panic::Location;
use std::time::Duration;

use super::balance::EndpointId;
use super::pool;
use super::pools::PoolId;

/// The right to use one connection of a pool alone.
///
/// It ends when it is [released](super::Clients::release), when it is revoked because it was held
/// too long, or when its connection ends. Afterwards it is a miss ([`PoolError::Revoked`](super::PoolError::Revoked)), never
/// the right to another connection. Dropping it ends nothing: the pool reports it as leaked after
/// [`PoolSettings::leak_after`](super::PoolSettings::leak_after).
#[must_use = "a lease that is not released is a leak"]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    pub(super) pool: PoolId,
    pub(super) inner: pool::Lease,
}

impl Lease {
    /// The pool that it is of.
    pub const fn pool(self) -> PoolId {
        self.pool
    }
}

/// A place in the line of those who wait for a connection of a pool. It ends exactly once: by
/// [`on_lease`](super::ClientHandler::on_lease), or because it was
/// [cancelled](super::Clients::cancel).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseTicket {
    pub(super) pool: PoolId,
    pub(super) inner: pool::LeaseTicket,
}

impl LeaseTicket {
    /// The pool that is waited for.
    pub const fn pool(self) -> PoolId {
        self.pool
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

/// A lease that was held for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeakReport {
    /// The lease.
    pub lease: Lease,
    /// Where its connection leads.
    pub endpoint: EndpointId,
    /// Where in the program it was acquired.
    pub acquired_at: &'static Location<'static>,
    /// For how long it was held by then.
    pub held_for: Duration,
    /// What becomes of it.
    pub verdict: LeakVerdict,
}

/// What becomes of a lease that was held for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeakVerdict {
    /// It is still good.
    Reported,
    /// It is over; its connection is closed and replaced.
    Revoked,
}
