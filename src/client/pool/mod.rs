//! Connections that are kept open and lent.

mod action;
mod affinity;
mod chain;
mod endpoints;
mod life;
mod machine;
mod member;
mod settings;
mod stats;
mod supply;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

pub(crate) use action::{Acquired, Action, Leak, Lease, LeaseTicket, MemberKey, Site};
pub use action::{Eviction, Outcome, PoolError};
pub(crate) use machine::{Core, Wanted};
pub use member::MemberState;
pub use settings::{Pool, PoolBuilder, PoolConfigError, PoolSettings, Sizing};
pub use stats::PoolStats;
