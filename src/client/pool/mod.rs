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

pub use action::{Acquired, Eviction, Lease, LeaseTicket, Outcome, PoolError};
pub(crate) use action::{Action, MemberKey, Site};
pub(crate) use endpoints::{EndpointId, Select};
pub(crate) use machine::{Core, Wanted};
pub use member::MemberState;
pub use settings::{Pool, PoolBuilder, PoolConfigError, PoolSettings, Sizing};
pub use stats::PoolStats;
