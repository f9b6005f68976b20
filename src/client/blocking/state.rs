//! What is under the lock of a blocking client.

use super::error::Ended;
use super::queues::{Incoming, Outgoing, Queues};
use crate::client::calling::{ClientStats, Goodbye};
use crate::client::reconnect::ClientState;
use crate::reactor::DialError;

/// What the threads know of each other.
pub(super) struct State {
    pub(super) life: Life,
    /// A notice is on its way to the loop.
    pub(super) is_noticed: bool,
    pub(super) outgoing: Outgoing,
    pub(super) incoming: Incoming,
    /// Messages that are not sent, and of which nobody was told.
    pub(super) unsent: u64,
    pub(super) senders: usize,
    pub(super) receivers: usize,
    pub(super) view: ClientState,
    pub(super) subprotocol: Option<Box<str>>,
    pub(super) stats: Inquiry<ClientStats>,
}

/// The life of a client.
///
/// ```text
///             open                 close, or both ends gone
///  Dialling ────────► Running ─────────────────────────────► Closing ──► Parting
///     │ failed           │ given up, panicked                  │            │
///     ▼                  ▼                                     ▼            ▼
///  Failed              Ended ◄─────────────────────────────────┴────────────┘
/// ```
pub(super) enum Life {
    /// The first dial is under way.
    Dialling,
    /// It has failed.
    Failed(Option<DialError>),
    Running,
    /// What was taken is still sent, and nothing more is taken.
    Closing(Goodbye),
    /// The Close is on its way.
    Parting,
    Ended(Ended),
}

/// What only the loop knows.
pub(super) enum Inquiry<T> {
    Unasked,
    Asked,
    Answered(T),
}

/// Which end of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    Sender,
    Receiver,
}

impl State {
    /// Before the first dial, with one of each half.
    pub(super) fn new(queues: &Queues) -> Self {
        Self {
            life: Life::Dialling,
            is_noticed: false,
            outgoing: Outgoing::new(queues.outgoing_bytes_max),
            incoming: Incoming::new(queues.incoming_bytes_max),
            unsent: 0,
            senders: 1,
            receivers: 1,
            view: ClientState::Disconnected,
            subprotocol: None,
            stats: Inquiry::Unasked,
        }
    }
}
