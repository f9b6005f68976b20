//! One connection of a pool.

use std::time::Instant;

use super::action::{Leak, Lease, LeaseTicket, MemberKey, Site};
use super::chain::{Linked, Links};
use crate::client::balance::EndpointId;
use crate::collections::{Key, TimerKey};

/// What a connection of a pool is doing.
///
/// ```text
///    dialled                opened                      acquired
///  ─────────► Connecting ───────────► Idle ─────────────────────────────► Active
///               │     │ opened        ▲ │ │ ▲ released                      │ │
///               │     └────────────┐  │ │ │ └───────────────────────────────┘ │
///               │ long             │  │ │ └─────────────┐ long unused         │ too many errors
///               ▼                  │  │ │ acquired,     ▼                     ▼
///             Overdue ─────────────┴──┘ │ unused      Stale                 Broken
///               │        opened         │ for a while   │ acquired            │
///               │                       ▼               │                     │
///               │                    Checking ◄─────────┘                     │ released,
///               │                       │  └─ pong ─► Active, or Idle         │ revoked
///               │ place wanted          │ no pong                             │
///               └───────────────────────┴──────────────► Closing ◄────────────┘
/// ```
///
/// Any state but Closing goes to Closing when the pool wants to be rid of the connection, and from
/// any state the connection is forgotten when it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MemberState {
    /// Being dialled.
    Connecting,
    /// Being dialled for longer than
    /// [`PoolSettings::dial_patience`](super::PoolSettings::dial_patience). Nobody counts on it.
    Overdue,
    /// Open and free.
    Idle,
    /// Free, and not used for [`PoolSettings::stale_after`](super::PoolSettings::stale_after); kept
    /// because the pool would be too small without it.
    Stale,
    /// Asked by a ping whether it lives, before it is handed out.
    Checking,
    /// Handed out.
    Active,
    /// Handed out, and to be closed when it comes back: too many errors were counted on it.
    Broken,
    /// Being closed.
    Closing,
}

impl MemberState {
    /// All of them, in the order of [`PoolStats::members`](super::PoolStats::members).
    pub const ALL: [Self; 8] = [
        Self::Connecting,
        Self::Overdue,
        Self::Idle,
        Self::Stale,
        Self::Checking,
        Self::Active,
        Self::Broken,
        Self::Closing,
    ];
}

/// A connection of a pool, from the order to dial it until it has ended.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) endpoint: EndpointId,
    pub(super) state: State,
    /// Those that are free are in the chain of their endpoint.
    pub(super) links: Links,
    /// What is due next in this state, if anything.
    pub(super) timer: Option<TimerKey>,
    /// Since when it is open.
    pub(super) opened_at: Instant,
    /// From here on it is closed as soon as it is free.
    pub(super) retire_at: Instant,
    pub(super) errors: u32,
    /// How often it was handed out.
    pub(super) leases: u64,
}

impl Member {
    /// The lease that it is handed out by, for who tells how long that has been. `key` is its own.
    pub(super) fn leak(&self, key: Key, now: Instant) -> Option<Leak> {
        let tenancy = self.state.tenancy()?;
        Some(Leak {
            lease: Lease { member: MemberKey(key), number: tenancy.number },
            endpoint: self.endpoint,
            site: tenancy.site,
            held_for: now.saturating_duration_since(tenancy.since),
        })
    }
}

/// A state with what belongs to it; see [`MemberState`] for the diagram.
#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    Connecting,
    Overdue,
    Idle {
        since: Instant,
    },
    Stale {
        since: Instant,
    },
    /// If it answers it goes to the one that asked for this very connection, if to any.
    Checking {
        reserved: Option<LeaseTicket>,
    },
    Active(Tenancy),
    Broken(Tenancy),
    Closing,
}

/// That a connection is handed out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tenancy {
    /// Of the lease; no other lease of the pool has the same.
    pub(super) number: u64,
    pub(super) site: Site,
    pub(super) since: Instant,
    pub(super) watch: Watch,
}

/// What comes next for a lease that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watch {
    Report,
    Revoke,
}

impl State {
    pub(super) const fn name(&self) -> MemberState {
        match self {
            Self::Connecting => MemberState::Connecting,
            Self::Overdue => MemberState::Overdue,
            Self::Idle { .. } => MemberState::Idle,
            Self::Stale { .. } => MemberState::Stale,
            Self::Checking { .. } => MemberState::Checking,
            Self::Active(_) => MemberState::Active,
            Self::Broken(_) => MemberState::Broken,
            Self::Closing => MemberState::Closing,
        }
    }

    /// Since when it is free, if it is.
    pub(super) const fn free_since(&self) -> Option<Instant> {
        match self {
            Self::Idle { since } | Self::Stale { since } => Some(*since),
            Self::Connecting
            | Self::Overdue
            | Self::Checking { .. }
            | Self::Active(_)
            | Self::Broken(_)
            | Self::Closing => None,
        }
    }

    pub(super) const fn tenancy(&self) -> Option<&Tenancy> {
        match self {
            Self::Active(tenancy) | Self::Broken(tenancy) => Some(tenancy),
            Self::Connecting
            | Self::Overdue
            | Self::Idle { .. }
            | Self::Stale { .. }
            | Self::Checking { .. }
            | Self::Closing => None,
        }
    }

    pub(super) const fn is_dialling(&self) -> bool {
        matches!(self, Self::Connecting | Self::Overdue)
    }
}

impl Linked for Member {
    fn links_mut(&mut self) -> &mut Links {
        &mut self.links
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_state_stands_at_its_own_place_in_all() {
        for (place, state) in MemberState::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, place);
        }
    }
}
