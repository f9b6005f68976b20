//! What the threads of a blocking client share: two queues, and how far things have come.
//!
//! One lock, held for as long as it takes to move a message. Who waits, waits for a condition; the
//! loop is woken by a notice, of which there is one under way at most.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::error::{CloseError, ConnectError, EndCause, Ended, FlushError, SendError};
use super::message::OwnedMessage;
use super::state::{Half, Inquiry, Life, Queues, Reading, State};
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
    queues: Queues,
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

/// How long dropping both ends may wait for the Close to be handed to the kernel, so that a program
/// that ends has said what it had to say. Guess: on a connection that takes data it is a turn.
const DROP_PATIENCE: Duration = Duration::from_millis(250);

impl Shared {
    pub(super) fn new(queues: Queues, handle: Handle) -> Self {
        Self {
            state: Mutex::new(State::new()),
            room: Condvar::new(),
            arrived: Condvar::new(),
            changed: Condvar::new(),
            queues,
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
            if state.outgoing_bytes < self.queues.outgoing_bytes_max {
                break;
            }
            if is_over(patience) {
                return Err(SendError::Full);
            }
            state.senders_waiting += 1;
            state = wait(&self.room, state, patience);
            state.senders_waiting -= 1;
        }
        state.outgoing_bytes += message.counted_bytes();
        state.outgoing.push_back(message);
        state.taken += 1;
        if !mem::replace(&mut state.is_pumping, true) {
            self.wake(state);
        }
        Ok(())
    }

    pub(super) fn receive(&self, patience: Wait) -> Result<Option<OwnedMessage>, Ended> {
        let mut state = self.lock();
        loop {
            if let Some(message) = state.inbox.pop_front() {
                state.inbox_bytes -= message.counted_bytes();
                let is_low = state.inbox_bytes <= self.queues.incoming_bytes_max / 2;
                if state.reading == Reading::Rests && is_low {
                    state.reading = Reading::GoesOn;
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
            state.receivers_waiting += 1;
            state = wait(&self.arrived, state, patience);
            state.receivers_waiting -= 1;
        }
    }

    pub(super) fn flush(&self, patience: Wait) -> Result<(), FlushError> {
        let mut state = self.lock();
        let target = state.taken;
        while state.settled < target {
            if is_over(patience) {
                return Err(FlushError::TimedOut);
            }
            if state.barrier.is_none() {
                state.barrier = Some(target);
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
                let left = mem::take(&mut state.inbox);
                state.inbox_bytes = 0;
                state.reading = Reading::GoesOn;
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
        state.reading
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
        state.inbox_bytes += message.counted_bytes();
        state.inbox.push_back(message);
        if state.receivers_waiting > 0 {
            self.arrived.notify_one();
        }
        if state.inbox_bytes >= self.queues.incoming_bytes_max {
            state.reading = Reading::Rests;
        }
        state.reading
    }

    /// A notice has come.
    pub(super) fn handle_notice(&self) -> News {
        let mut state = self.lock();
        state.is_noticed = false;
        News { reading: state.reading, wants_stats: matches!(state.stats, Inquiry::Asked) }
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
    pub(super) fn take_outgoing(&self, hand: &mut VecDeque<OwnedMessage>) -> Orders {
        let mut state = self.lock();
        if hand.is_empty() {
            // The emptied one goes back, so that a steady stream does not allocate.
            mem::swap(hand, &mut state.outgoing);
        } else {
            hand.append(&mut state.outgoing);
        }
        let goodbye = match &state.life {
            Life::Closing(goodbye) => Some(goodbye.clone()),
            Life::Dialling | Life::Failed(_) | Life::Running | Life::Parting | Life::Ended(_) => {
                None
            }
        };
        Orders { barrier: state.barrier, goodbye }
    }

    /// Messages of so many `bytes` were given away; those up to `settled` are pending no more, and
    /// `left` still are in hand.
    pub(super) fn handle_given(&self, bytes: usize, settled: Option<u64>, left: usize) {
        let mut state = self.lock();
        state.outgoing_bytes -= bytes;
        if state.senders_waiting > 0 && state.outgoing_bytes < self.queues.outgoing_bytes_max {
            self.room.notify_all();
        }
        if let Some(settled) = settled {
            state.settled = settled;
            state.barrier = None;
            self.changed.notify_all();
        }
        let is_waiting = left > 0 || !state.outgoing.is_empty();
        state.is_pumping = is_waiting;
        // What stays in hand waits for the connection, what has come meanwhile for another turn.
        if is_waiting && (left == 0 || settled.is_some()) {
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
            state.unsent += state.taken - state.settled;
        }
        state.settled = state.taken;
        state.barrier = None;
        state.view = ClientState::Disconnected;
        state.life = Life::Ended(ended);
        let left = mem::take(&mut state.outgoing);
        self.room.notify_all();
        self.arrived.notify_all();
        self.changed.notify_all();
        drop(state);
        drop(left);
    }
}

/// Waits to be told, for as long as there is patience.
fn wait<'a>(
    condition: &Condvar,
    state: MutexGuard<'a, State>,
    patience: Wait,
) -> MutexGuard<'a, State> {
    match patience {
        Wait::No => state,
        Wait::Forever => condition.wait(state).unwrap_or_else(PoisonError::into_inner),
        Wait::Until(deadline) => {
            let left = deadline.saturating_duration_since(Instant::now());
            let waited = condition.wait_timeout(state, left);
            waited.unwrap_or_else(PoisonError::into_inner).0
        }
    }
}

fn is_over(patience: Wait) -> bool {
    match patience {
        Wait::No => true,
        Wait::Until(deadline) => deadline <= Instant::now(),
        Wait::Forever => false,
    }
}
