//! What a thread and the loop share of one lease: from its asking for one to its giving it back.
//!
//! One lock, held for as long as it takes to move a message.

use std::collections::VecDeque;
use std::mem;
use std::ops::Deref;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::error::LeaseError;
use crate::client::balance::EndpointId;
use crate::client::blocking::message::OwnedMessage;
use crate::client::blocking::queues::{Hand, Incoming, Outgoing, Queues, Reading, Telling};
use crate::client::blocking::waiting::{is_over, wait};
use crate::client::lease::Lease;
use crate::client::pool::{Outcome, PoolError};
use crate::client::settings::ClientSettings;
use crate::reactor::Wait;

/// What a thread and the loop share of one lease.
pub(super) struct Line {
    state: Mutex<State>,
    /// There is room in the outgoing queue.
    room: Condvar,
    /// A message has come.
    arrived: Condvar,
    /// Anything else has happened that is waited for.
    changed: Condvar,
}

struct State {
    life: Life,
    /// Until the thread has fetched it.
    grant: Option<Grant>,
    outgoing: Outgoing,
    incoming: Incoming,
    /// Messages that are not sent, and of which nobody was told.
    unsent: u64,
}

/// The life of a line.
///
/// ```text
///  Asked ──granted──► Lent ──given back──► Returned
///    │                 └──── it ends ────► Over
///    └──► Refused
/// ```
enum Life {
    Asked,
    Refused(PoolError),
    Lent,
    /// What was taken is still sent.
    Returned(Outcome),
    Over(LeaseError),
}

/// What a thread is told of its lease.
pub(super) struct Grant {
    pub(super) lease: Lease,
    pub(super) endpoint: EndpointId,
    pub(super) settings: ClientSettings,
    pub(super) subprotocol: Option<Box<str>>,
}

/// What the loop is to do.
pub(super) struct Work {
    /// To give no message behind this one to the connection, before the kernel has them all.
    pub(super) barrier: Option<u64>,
    pub(super) reading: Reading,
    pub(super) returned: Option<Outcome>,
}

/// The loop's end of a line. Who drops it without a word has failed.
pub(super) struct LoopEnd(Arc<Line>);

impl Line {
    /// Both ends of one that is asked for.
    pub(super) fn new() -> (Arc<Self>, LoopEnd) {
        let line = Arc::new(Self {
            state: Mutex::new(State {
                life: Life::Asked,
                grant: None,
                outgoing: Outgoing::new(0),
                incoming: Incoming::new(0),
                unsent: 0,
            }),
            room: Condvar::new(),
            arrived: Condvar::new(),
            changed: Condvar::new(),
        });
        (line.clone(), LoopEnd(line))
    }

    /// Nothing that can panic runs under the lock, so a poisoned one is as good.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For the application's threads. Where the loop has to be told of what was done, these say so.
impl Line {
    /// Waits for the answer: the loop never owes it for long after the time that it was given.
    pub(super) fn granted(&self) -> Result<Grant, PoolError> {
        let mut state = self.lock();
        loop {
            // It may be over already; who uses it finds out.
            if let Some(grant) = state.grant.take() {
                return Ok(grant);
            }
            if let Life::Refused(error) = state.life {
                return Err(error);
            }
            state = wait(&self.changed, state, Wait::Forever);
        }
    }

    pub(super) fn send(
        &self,
        message: OwnedMessage,
        patience: Wait,
    ) -> Result<Telling, LeaseError> {
        let mut state = self.lock();
        loop {
            if let Some(error) = state.life.end() {
                return Err(error);
            }
            if state.outgoing.has_room() {
                return Ok(state.outgoing.push(message));
            }
            if is_over(patience) {
                return Err(LeaseError::Full);
            }
            state.outgoing.waiting += 1;
            state = wait(&self.room, state, patience);
            state.outgoing.waiting -= 1;
        }
    }

    pub(super) fn receive(
        &self,
        patience: Wait,
    ) -> Result<Option<(OwnedMessage, Telling)>, LeaseError> {
        let mut state = self.lock();
        loop {
            if let Some(received) = state.incoming.pop() {
                return Ok(Some(received));
            }
            if let Some(error) = state.life.end() {
                return Err(error);
            }
            if is_over(patience) {
                return Ok(None);
            }
            state.incoming.waiting += 1;
            state = wait(&self.arrived, state, patience);
            state.incoming.waiting -= 1;
        }
    }

    pub(super) fn flush(&self, patience: Wait, tell: impl Fn()) -> Result<(), LeaseError> {
        let mut state = self.lock();
        let target = state.outgoing.taken;
        while state.outgoing.settled < target {
            // What the connection took may have left, but nobody knows.
            if let Some(error) = state.life.end() {
                return Err(error);
            }
            if is_over(patience) {
                return Err(LeaseError::TimedOut);
            }
            if state.outgoing.barrier.is_none() {
                state.outgoing.barrier = Some(target);
                drop(state);
                tell();
                state = self.lock();
                continue;
            }
            state = wait(&self.changed, state, patience);
        }
        match mem::take(&mut state.unsent) {
            0 => Ok(()),
            messages => Err(LeaseError::Unsent(messages)),
        }
    }

    /// Why the lease is over, if it is.
    pub(super) fn end(&self) -> Option<LeaseError> {
        self.lock().life.end()
    }

    /// Ends the lease from the thread's side.
    pub(super) fn give_back(&self, outcome: Outcome) -> Result<(), LeaseError> {
        let mut state = self.lock();
        if let Some(error) = state.life.end() {
            return Err(error);
        }
        // What comes when the loop reads on was meant for who goes now.
        let is_held_back = state.incoming.reading() == Reading::Rests;
        state.life = Life::Returned(if is_held_back { Outcome::Broken } else { outcome });
        let left = state.incoming.empty();
        drop(state);
        drop(left);
        Ok(())
    }
}

/// For the loop's thread.
impl LoopEnd {
    pub(super) fn grant(&self, grant: Grant, queues: &Queues) {
        let mut state = self.lock();
        state.outgoing = Outgoing::new(queues.outgoing_bytes_max);
        state.incoming = Incoming::new(queues.incoming_bytes_max);
        state.life = Life::Lent;
        state.grant = Some(grant);
        self.changed.notify_all();
    }

    pub(super) fn refuse(&self, error: PoolError) {
        let mut state = self.lock();
        if matches!(state.life, Life::Asked) {
            state.life = Life::Refused(error);
            self.changed.notify_all();
        }
    }

    /// Moves what is to be sent into `hand`.
    pub(super) fn take(&self, hand: &mut Hand) -> Work {
        let mut state = self.lock();
        state.outgoing.take(hand);
        let returned = match state.life {
            Life::Returned(outcome) => Some(outcome),
            Life::Asked | Life::Refused(_) | Life::Lent | Life::Over(_) => None,
        };
        // Who has gone does not wait for anything.
        let barrier = state.outgoing.barrier.filter(|_| returned.is_none());
        Work { barrier, reading: state.incoming.reading(), returned }
    }

    pub(super) fn handle_message(&self, message: OwnedMessage) -> Reading {
        let mut state = self.lock();
        if matches!(state.life, Life::Returned(_)) {
            return Reading::GoesOn;
        }
        if state.incoming.waiting > 0 {
            self.arrived.notify_one();
        }
        state.incoming.push(message)
    }

    /// Messages of so many `bytes` were given away, of which `unsent` were refused; those up to
    /// `settled` are pending no more.
    pub(super) fn handle_given(
        &self,
        bytes: usize,
        unsent: u64,
        settled: Option<u64>,
        hand: &Hand,
    ) -> Telling {
        let mut state = self.lock();
        state.unsent += unsent;
        let telling = state.outgoing.handle_given(bytes, settled, hand);
        if state.outgoing.waiting > 0 && state.outgoing.has_room() {
            self.room.notify_all();
        }
        if settled.is_some() {
            self.changed.notify_all();
        }
        telling
    }

    /// Ends the lease from the loop's side, and hands back what was not taken from the queue. Only
    /// the first end counts.
    pub(super) fn finish(&self, error: LeaseError) -> VecDeque<OwnedMessage> {
        let mut state = self.lock();
        match state.life {
            Life::Asked => state.life = Life::Refused(PoolError::LoopFailed),
            Life::Lent => state.life = Life::Over(error),
            Life::Refused(_) | Life::Returned(_) | Life::Over(_) => {}
        }
        self.room.notify_all();
        self.arrived.notify_all();
        self.changed.notify_all();
        state.outgoing.empty()
    }
}

impl Life {
    fn end(&self) -> Option<LeaseError> {
        match self {
            Self::Over(error) => Some(error.clone()),
            Self::Returned(_) | Self::Refused(_) => Some(LeaseError::Revoked),
            Self::Asked | Self::Lent => None,
        }
    }
}

impl Deref for LoopEnd {
    type Target = Line;

    fn deref(&self) -> &Line {
        &self.0
    }
}

impl Drop for LoopEnd {
    fn drop(&mut self) {
        self.finish(LeaseError::LoopFailed);
    }
}
