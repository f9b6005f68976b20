//! What the threads of a blocking client share: two queues, and how far things have come.
//!
//! One lock, held for as long as it takes to move a message. Who waits, waits for a condition; the
//! loop is woken by a notice, of which there is one under way at most.

use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::error::{CloseError, ConnectError, EndCause, Ended, FlushError, SendError};
use super::message::OwnedMessage;
use super::queues::{Hand, Queues, Reading, Telling};
use super::state::{Half, Inquiry, Life, State};
use super::waiting::{DROP_PATIENCE, is_over, wait};
use crate::client::calling::{ClientStats, Goodbye};
use crate::client::reconnect::ClientState;
use crate::protocol::CloseSummary;
use crate::reactor::{DialError, Handle, Wait};

/// What the threads of a client share.
pub(super) struct Shared {
    state: Mutex<State>,
    /// There is room in the outgoing queue.
    room: Condvar,
    /// A message has come.
    arrived: Condvar,
    /// Anything else has happened that is waited for.
    changed: Condvar,
    handle: Handle,
}

/// The notice that has the loop look at what is shared.
pub(super) struct Wake;

/// What the loop is to do.
pub(super) struct Orders {
    /// To give no message behind this one to the connection, before the kernel has them all.
    pub(super) barrier: Option<u64>,
    pub(super) goodbye: Option<Goodbye>,
}

/// What a notice is about, besides what waits.
pub(super) struct News {
    pub(super) reading: Reading,
    pub(super) wants_stats: bool,
}

impl Shared {
    pub(super) fn new(queues: &Queues, handle: Handle) -> Self {
        Self {
            state: Mutex::new(State::new(queues)),
            room: Condvar::new(),
            arrived: Condvar::new(),
            changed: Condvar::new(),
            handle,
        }
    }

    /// Nothing that can panic runs under the lock, so a poisoned one is as good.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the loop look at what is shared, if it is not about to.
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        if !mem::replace(&mut state.is_noticed, true) {
            drop(state);
            let posted = self.handle.notify(Wake);
            debug_assert!(posted.is_ok(), "there is one notice at a time");
        }
    }
}

/// For the application's threads.
impl Shared {
    /// Waits for the first connection.
    pub(super) fn connected(&self) -> Result<(), ConnectError> {
        let mut state = self.lock();
        loop {
            match &mut state.life {
                Life::Dialling | Life::Failed(None) => {}
                Life::Failed(error) => {
                    if let Some(error) = error.take() {
                        return Err(ConnectError::Dial(error));
                    }
                }
                Life::Ended(ended) => {
                    return match ended.cause() {
                        EndCause::Loop(error) => Err(ConnectError::Loop(error.into())),
                        EndCause::Panicked => Err(ConnectError::Panicked),
                        // It was connected, and not for long.
                        EndCause::Stopped(_) => Ok(()),
                    };
                }
                Life::Running | Life::Closing(_) | Life::Parting => return Ok(()),
            }
            state = wait(&self.changed, state, Wait::Forever);
        }
    }

    pub(super) fn send(&self, message: OwnedMessage, patience: Wait) -> Result<(), SendError> {
        let mut state = self.lock();
        loop {
            match &state.life {
                Life::Running | Life::Dialling => {}
                Life::Closing(_) | Life::Parting | Life::Failed(_) => {
                    return Err(SendError::Closing);
                }
                Life::Ended(ended) => return Err(SendError::Ended(ended.clone())),
            }
            if state.outgoing.has_room() {
                break;
            }
            if is_over(patience) {
                return Err(SendError::Full);
            }
            state.outgoing.waiting += 1;
            state = wait(&self.room, state, patience);
            state.outgoing.waiting -= 1;
        }
        if state.outgoing.push(message) == Telling::Needed {
            self.wake(state);
        }
        Ok(())
    }

    pub(super) fn receive(&self, patience: Wait) -> Result<Option<OwnedMessage>, Ended> {
        let mut state = self.lock();
        loop {
            if let Some((message, telling)) = state.incoming.pop() {
                if telling == Telling::Needed {
                    self.wake(state);
                }
                return Ok(Some(message));
            }
            if let Life::Ended(ended) = &state.life {
                return Err(ended.clone());
            }
            if is_over(patience) {
                return Ok(None);
            }
            state.incoming.waiting += 1;
            state = wait(&self.arrived, state, patience);
            state.incoming.waiting -= 1;
        }
    }

    pub(super) fn flush(&self, patience: Wait) -> Result<(), FlushError> {
        let mut state = self.lock();
        let target = state.outgoing.taken;
        while state.outgoing.settled < target {
            if is_over(patience) {
                return Err(FlushError::TimedOut);
            }
            if state.outgoing.barrier.is_none() {
                state.outgoing.barrier = Some(target);
                self.wake(state);
                state = self.lock();
                continue;
            }
            state = wait(&self.changed, state, patience);
        }
        match mem::take(&mut state.unsent) {
            0 => Ok(()),
            messages => Err(FlushError::Unsent(messages)),
        }
    }

    pub(super) fn close(&self, goodbye: Goodbye) -> Result<CloseSummary, CloseError> {
        let mut state = self.lock();
        if matches!(state.life, Life::Running) {
            state = self.begin_closing(state, goodbye);
        }
        loop {
            if let Life::Ended(ended) = &state.life {
                let ended = ended.clone();
                let messages = mem::take(&mut state.unsent);
                return match (messages, ended.cause(), ended.last_close()) {
                    (0, EndCause::Stopped(_), Some(summary)) => Ok(summary.clone()),
                    (0, ..) => Err(CloseError::Failed(ended)),
                    _ => Err(CloseError::Unsent { messages, ended }),
                };
            }
            // The loop sees to it that this does not take long.
            state = wait(&self.changed, state, Wait::Forever);
        }
    }

    fn begin_closing<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        goodbye: Goodbye,
    ) -> MutexGuard<'a, State> {
        state.life = Life::Closing(goodbye);
        // Nothing is taken any more.
        self.room.notify_all();
        self.wake(state);
        self.lock()
    }

    pub(super) fn add_sender(&self) {
        self.lock().senders += 1;
    }

    /// A half is gone.
    pub(super) fn leave(&self, half: Half) {
        let mut state = self.lock();
        match half {
            Half::Sender => state.senders -= 1,
            Half::Receiver => {
                state.receivers -= 1;
                // What comes from now on is of interest to nobody.
                let left = state.incoming.empty();
                self.wake(state);
                drop(left);
                state = self.lock();
            }
        }
        if state.senders > 0 || state.receivers > 0 {
            return;
        }
        if matches!(state.life, Life::Running) {
            state = self.begin_closing(state, Goodbye::default());
        }
        let patience = Wait::Until(Instant::now() + DROP_PATIENCE);
        while matches!(state.life, Life::Closing(_)) && !is_over(patience) {
            state = wait(&self.changed, state, patience);
        }
    }

    pub(super) fn view(&self) -> ClientState {
        self.lock().view
    }

    pub(super) fn subprotocol(&self) -> Option<Box<str>> {
        self.lock().subprotocol.clone()
    }

    /// Asks the loop, which is never blocked for long.
    pub(super) fn stats(&self) -> ClientStats {
        let mut state = self.lock();
        if !matches!(state.life, Life::Ended(_)) {
            state.stats = Inquiry::Asked;
            self.wake(state);
            state = self.lock();
        }
        loop {
            match &state.stats {
                Inquiry::Answered(stats) => return stats.clone(),
                Inquiry::Unasked | Inquiry::Asked if matches!(state.life, Life::Ended(_)) => {
                    return ClientStats::default();
                }
                Inquiry::Unasked | Inquiry::Asked => {}
            }
            state = wait(&self.changed, state, Wait::Forever);
        }
    }
}

/// For the loop's thread.
impl Shared {
    pub(super) fn handle_open(&self, subprotocol: Option<&str>) -> Reading {
        let mut state = self.lock();
        if matches!(state.life, Life::Dialling) {
            state.life = Life::Running;
        }
        // Who has waited for this finds it so, though the change is told a moment later.
        state.view = ClientState::Connected;
        state.subprotocol = subprotocol.map(Into::into);
        self.changed.notify_all();
        state.incoming.reading()
    }

    /// The first dial has failed.
    pub(super) fn handle_first_failed(&self, error: DialError) {
        let mut state = self.lock();
        state.life = Life::Failed(Some(error));
        self.changed.notify_all();
    }

    pub(super) fn handle_change(&self, view: ClientState) {
        self.lock().view = view;
    }

    pub(super) fn handle_message(&self, message: OwnedMessage) -> Reading {
        let mut state = self.lock();
        if state.receivers == 0 {
            return Reading::GoesOn;
        }
        if state.incoming.waiting > 0 {
            self.arrived.notify_one();
        }
        state.incoming.push(message)
    }

    /// A notice has come.
    pub(super) fn handle_notice(&self) -> News {
        let mut state = self.lock();
        state.is_noticed = false;
        News {
            reading: state.incoming.reading(),
            wants_stats: matches!(state.stats, Inquiry::Asked),
        }
    }

    /// The client has stopped: it takes no more messages.
    pub(super) fn refuse(&self) {
        let mut state = self.lock();
        if matches!(state.life, Life::Running) {
            state.life = Life::Closing(Goodbye::default());
            self.room.notify_all();
        }
    }

    pub(super) fn handle_stats(&self, stats: ClientStats) {
        self.lock().stats = Inquiry::Answered(stats);
        self.changed.notify_all();
    }

    /// Moves what is to be sent into `hand`.
    pub(super) fn take_outgoing(&self, hand: &mut Hand) -> Orders {
        let mut state = self.lock();
        state.outgoing.take(hand);
        let goodbye = match &state.life {
            Life::Closing(goodbye) => Some(goodbye.clone()),
            Life::Dialling | Life::Failed(_) | Life::Running | Life::Parting | Life::Ended(_) => {
                None
            }
        };
        Orders { barrier: state.outgoing.barrier, goodbye }
    }

    /// Messages of so many `bytes` were given away; those up to `settled` are pending no more.
    pub(super) fn handle_given(&self, bytes: usize, settled: Option<u64>, hand: &Hand) {
        let mut state = self.lock();
        let telling = state.outgoing.handle_given(bytes, settled, hand);
        if state.outgoing.waiting > 0 && state.outgoing.has_room() {
            self.room.notify_all();
        }
        if settled.is_some() {
            self.changed.notify_all();
        }
        if telling == Telling::Needed {
            self.wake(state);
        }
    }

    /// Messages that were taken are not sent.
    pub(super) fn handle_unsent(&self, messages: u64) {
        self.lock().unsent += messages;
    }

    /// The Close was handed to the kernel, as far as it takes it.
    pub(super) fn handle_parting(&self) {
        let mut state = self.lock();
        if matches!(state.life, Life::Closing(_)) {
            state.life = Life::Parting;
            self.changed.notify_all();
        }
    }

    /// This was all. Only the first end counts.
    pub(super) fn end(&self, ended: Ended) {
        let mut state = self.lock();
        if matches!(state.life, Life::Ended(_) | Life::Failed(Some(_))) {
            return;
        }
        if !matches!(ended.cause(), EndCause::Stopped(_)) {
            // The loop has taken its knowledge of them with it.
            state.unsent += state.outgoing.taken - state.outgoing.settled;
        }
        state.outgoing.settled = state.outgoing.taken;
        state.view = ClientState::Disconnected;
        state.life = Life::Ended(ended);
        let left = state.outgoing.empty();
        self.room.notify_all();
        self.arrived.notify_all();
        self.changed.notify_all();
        drop(state);
        drop(left);
    }
}
