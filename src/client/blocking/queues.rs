//! The two queues between an application's threads and a loop, and the loop's hand.

use std::collections::VecDeque;
use std::mem;

use super::message::OwnedMessage;
use crate::client::calling::Submitted;
use crate::client::outage::UnsentReason;
use crate::reactor::Message;

/// How much may wait in a blocking client, or in a connection that a pool has lent to a thread. A
/// queue takes a message while it holds less than its bound, so it overshoots by one message at
/// most. Each counts its payload, its place and the head of an allocation: 64 bytes.
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

/// What was given to be sent.
pub(super) struct Outgoing {
    messages: VecDeque<OwnedMessage>,
    /// Of those, and of what the loop has in hand.
    bytes: usize,
    bytes_max: usize,
    /// The loop comes here without being told.
    is_pumping: bool,
    /// Messages that were taken so far.
    pub(super) taken: u64,
    /// Of these, those in front of which nothing is pending: each was handed to the kernel, or
    /// counts as unsent.
    pub(super) settled: u64,
    /// Somebody waits until those up to this one are settled.
    pub(super) barrier: Option<u64>,
    /// Threads that wait for room.
    pub(super) waiting: usize,
}

/// What has come.
pub(super) struct Incoming {
    messages: VecDeque<OwnedMessage>,
    bytes: usize,
    bytes_max: usize,
    reading: Reading,
    /// Threads that wait for a message.
    pub(super) waiting: usize,
}

/// What the loop has taken of an outgoing queue and not given away.
#[derive(Default)]
pub(super) struct Hand {
    messages: VecDeque<OwnedMessage>,
    /// Messages that were given away so far.
    pub(super) given: u64,
}

/// Whether the connection is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    GoesOn,
    Rests,
}

/// Whether the loop has to be told of what was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Telling {
    Needed,
    Needless,
}

impl Outgoing {
    pub(super) const fn new(bytes_max: usize) -> Self {
        Self {
            messages: VecDeque::new(),
            bytes: 0,
            bytes_max,
            is_pumping: false,
            taken: 0,
            settled: 0,
            barrier: None,
            waiting: 0,
        }
    }

    pub(super) const fn has_room(&self) -> bool {
        self.bytes < self.bytes_max
    }

    pub(super) fn push(&mut self, message: OwnedMessage) -> Telling {
        self.bytes += message.counted_bytes();
        self.messages.push_back(message);
        self.taken += 1;
        if mem::replace(&mut self.is_pumping, true) { Telling::Needless } else { Telling::Needed }
    }

    /// Moves all of it to the loop's hand.
    pub(super) fn take(&mut self, hand: &mut Hand) {
        if hand.messages.is_empty() {
            // The emptied one goes back, so that a steady stream does not allocate.
            mem::swap(&mut hand.messages, &mut self.messages);
        } else {
            hand.messages.append(&mut self.messages);
        }
    }

    /// Messages of so many `bytes` were given away; those up to `settled` are pending no more. The
    /// loop has to be told if it does not come back by itself.
    pub(super) fn handle_given(
        &mut self,
        bytes: usize,
        settled: Option<u64>,
        hand: &Hand,
    ) -> Telling {
        self.bytes -= bytes;
        if let Some(settled) = settled {
            self.settled = settled;
            self.barrier = None;
        }
        self.is_pumping = !(hand.is_empty() && self.messages.is_empty());
        // What stays in hand waits for the connection, what has come meanwhile for another turn.
        let is_needed = self.is_pumping && (hand.is_empty() || settled.is_some());
        if is_needed { Telling::Needed } else { Telling::Needless }
    }

    /// Nothing of it is sent any more.
    pub(super) fn empty(&mut self) -> VecDeque<OwnedMessage> {
        self.barrier = None;
        self.bytes = 0;
        mem::take(&mut self.messages)
    }
}

impl Incoming {
    pub(super) const fn new(bytes_max: usize) -> Self {
        Self {
            messages: VecDeque::new(),
            bytes: 0,
            bytes_max,
            reading: Reading::GoesOn,
            waiting: 0,
        }
    }

    pub(super) fn push(&mut self, message: OwnedMessage) -> Reading {
        self.bytes += message.counted_bytes();
        self.messages.push_back(message);
        if self.bytes >= self.bytes_max {
            self.reading = Reading::Rests;
        }
        self.reading
    }

    /// The next message; the loop has to be told when it may read on.
    pub(super) fn pop(&mut self) -> Option<(OwnedMessage, Telling)> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.counted_bytes();
        if self.reading == Reading::GoesOn || self.bytes > self.bytes_max / 2 {
            return Some((message, Telling::Needless));
        }
        self.reading = Reading::GoesOn;
        Some((message, Telling::Needed))
    }

    pub(super) const fn reading(&self) -> Reading {
        self.reading
    }

    /// What has come is of interest to nobody.
    pub(super) fn empty(&mut self) -> VecDeque<OwnedMessage> {
        (self.bytes, self.reading) = (0, Reading::GoesOn);
        mem::take(&mut self.messages)
    }
}

impl Hand {
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Gives messages away while they are wanted, none behind `barrier`; reports those that are
    /// refused. Gives what it counted.
    pub(super) fn give(
        &mut self,
        barrier: Option<u64>,
        mut offer: impl FnMut(Message<'_>) -> Option<Submitted>,
        mut report: impl FnMut(OwnedMessage, UnsentReason),
    ) -> usize {
        let mut bytes = 0;
        while barrier.is_none_or(|barrier| self.given < barrier)
            && let Some(message) = self.messages.front()
        {
            let refused = match offer(message.as_message()) {
                None | Some(Submitted::NotYet) => break,
                Some(
                    Submitted::Given(_)
                    | Submitted::Waiting { .. }
                    | Submitted::Held
                    | Submitted::Dropped,
                ) => None,
                Some(Submitted::NotJson(_)) => Some(UnsentReason::NotJson),
                Some(Submitted::Refused(reason)) => Some(reason),
            };
            let Some(message) = self.messages.pop_front() else { break };
            self.given += 1;
            bytes += message.counted_bytes();
            if let Some(reason) = refused {
                report(message, reason);
            }
        }
        bytes
    }

    /// Hands back what will not be given away.
    pub(super) fn empty(&mut self) -> VecDeque<OwnedMessage> {
        mem::take(&mut self.messages)
    }
}
