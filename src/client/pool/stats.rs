//! What a pool has done.

use super::action::Eviction;
use super::member::MemberState;
use crate::metrics::Histogram;

/// What a pool holds now, and what it has done since it was made.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct PoolStats {
    /// Connections by state, in the order of [`MemberState::ALL`].
    pub members: [u32; MemberState::ALL.len()],
    /// How many are to be kept open; see [`Sizing`](super::Sizing).
    pub desired: u32,
    /// Tickets that are waiting.
    pub waiting: u32,
    /// Leases given.
    pub acquired: u64,
    /// Those of a connection that had been handed out before.
    pub reused: u64,
    /// Tickets given: acquisitions that had to wait.
    pub waits: u64,
    /// How long those had waited that got a lease in the end.
    pub wait_time: Histogram,
    /// Tickets that ended with an error: those whose time was over, and those of a shutdown.
    pub expired: u64,
    /// Tickets that were cancelled.
    pub cancelled: u64,
    /// Acquisitions refused because too many were waiting.
    pub refused: u64,
    /// Connections that have opened.
    pub opened: u64,
    /// Dials that did not.
    pub dials_failed: u64,
    /// Leases reported as held for long.
    pub leaks: u64,
    /// Connections that left, by reason, in the order of [`Eviction::ALL`].
    pub evictions: [u64; Eviction::ALL.len()],
}

impl PoolStats {
    /// How many connections are in this state.
    pub fn members_in(&self, state: MemberState) -> u32 {
        self.members[state as usize]
    }

    /// Connections in all, those that are being dialled or closed included.
    pub fn size(&self) -> u32 {
        self.members.iter().sum()
    }

    /// How many connections left for this reason.
    pub fn evicted(&self, reason: Eviction) -> u64 {
        self.evictions[reason as usize]
    }

    /// The share of leases that were of a connection handed out before, between 0 and 1; 0 as long
    /// as there was none.
    pub fn reuse_rate(&self) -> f64 {
        if self.acquired == 0 { 0.0 } else { self.reused as f64 / self.acquired as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_eviction_stands_at_its_own_place_in_all() {
        for (place, reason) in Eviction::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
        }
    }

    #[test]
    fn nothing_acquired_is_nothing_reused() {
        let mut stats = PoolStats::default();
        assert_eq!(stats.reuse_rate(), 0.0);
        (stats.acquired, stats.reused) = (4, 3);
        assert_eq!(stats.reuse_rate(), 0.75);
    }
}
