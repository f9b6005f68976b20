//! What is to be told to the application, once no callback runs.

use super::clients::{ClientId, Owner};
use super::lease::{LeakReport, Lease, LeaseTicket};
use super::outage::Unsent;
use super::pool::PoolError;
use super::reconnect::{ClientChange, StopReason};
use crate::reactor::DialError;

/// A callback that is due.
#[derive(Debug)]
pub(super) enum Event {
    Change(ClientId, ClientChange),
    Room(ClientId),
    DialFailed(Owner, DialError),
    Unsent(Owner, Unsent),
    Stop(ClientId, StopReason),
    Lease(LeaseTicket, Result<Lease, PoolError>),
    LeaseRoom(Lease),
    Leak(LeakReport),
}
