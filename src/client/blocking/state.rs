//! What is under the lock of a blocking client.

use std::collections::VecDeque;

use super::error::Ended;
use super::message::OwnedMessage;
use crate::client::calling::{ClientStats, Goodbye};
use crate::client::reconnect::ClientState;
use crate::reactor::DialError;

/// How much may wait in a blocking client. A queue takes a message while it holds less than its
/// bound, so it overshoots by one message at most. Each counts its payload, its place
/// and the head of an allocation: 64 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Queues {
    /// Bytes that were given to be sent, and that no connection has taken. At the bound sending
    /// blocks. Default 1 MiB, as much as a connection may have unsent.
    pub outgoing_bytes_max: usize,
    /// Bytes that have come and nobody has received. At the bound the loop stops reading, and TCP
    /// holds the server back, until half of it is received. Default 1 MiB, for the same reason.
    pub incoming_bytes_max: usize,
}

impl Default for Queues {
    fn default() -> Self {
        Self { outgoing_bytes_max: 1 << 20, incoming_bytes_max: 1 << 20 }
    }
}

/// What the threads know of each other.
pub(super) struct State {
    pub(super) life: Life,
    /// A notice is on its way to the loop.
    pub(super) is_noticed: bool,
    /// The loop comes to the outgoing queue without being told.
    pub(super) is_pumping: bool,
    pub(super) outgoing: VecDeque<OwnedMessage>,
    /// Of those, and of what the loop has taken and not given away.
    pub(super) outgoing_bytes: usize,
    /// Messages that were taken so far.
    pub(super) taken: u64,
    /// Of these, those in front of which nothing is pending: each was handed to the kernel, or
    /// counts as unsent.
    pub(super) settled: u64,
    pub(super) barrier: Option<u64>,
    /// Messages that are not sent, and of which nobody was told.
    pub(super) unsent: u64,
    pub(super) inbox: VecDeque<OwnedMessage>,
    pub(super) inbox_bytes: usize,
    pub(super) reading: Reading,
    pub(super) senders: usize,
    pub(super) receivers: usize,
    pub(super) senders_waiting: usize,
    pub(super) receivers_waiting: usize,
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

/// Whether the connection is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    GoesOn,
    Rests,
}

impl State {
    /// Before the first dial, with one of each half.
    pub(super) fn new() -> Self {
        Self {
            life: Life::Dialling,
            is_noticed: false,
            is_pumping: false,
            outgoing: VecDeque::new(),
            outgoing_bytes: 0,
            taken: 0,
            settled: 0,
            barrier: None,
            unsent: 0,
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            reading: Reading::GoesOn,
            senders: 1,
            receivers: 1,
            senders_waiting: 0,
            receivers_waiting: 0,
            view: ClientState::Disconnected,
            subprotocol: None,
            stats: Inquiry::Unasked,
        }
    }
}
