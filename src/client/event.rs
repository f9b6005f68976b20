//! What is to be told to the application, once no callback runs.

use super::clients::ClientId;
use super::outage::Unsent;
use super::reconnect::{ClientChange, StopReason};
use crate::reactor::DialError;

/// A callback that is due.
#[derive(Debug)]
pub(super) enum Event {
    Change(ClientId, ClientChange),
    DialFailed(ClientId, DialError),
    Unsent(ClientId, Unsent),
    Stop(ClientId, StopReason),
}
