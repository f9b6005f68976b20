//! What a callback may do with the loop, whichever connection it is about.

use std::any::Any;
use std::time::{Duration, Instant};

use super::command::Handle;
use super::context::{Peer, Writer};
use super::handler::Handler;
use super::id::{ConnectionId, ShardIndex};
use super::net::Net;
use super::settings::PanicPolicy;
use super::shared::{Shared, after};
use super::turn::{Reactor, Timer};
use crate::collections::{Key, Table, TimerKey};

/// The loop as a callback sees it. A [`Context`](super::Context) is one, about a connection.
pub struct Loop<'a, D> {
    pub(super) shared: &'a mut Shared<D>,
    pub(super) writer: &'a mut dyn Writer,
}

/// The name of a timer that was set. One that has fired or was cancelled is a miss, never another;
/// so is one of another loop, as with [`ConnectionId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId {
    shard: ShardIndex,
    key: Key,
}

/// The timers that the application has set.
#[derive(Debug)]
pub(super) struct Tasks(Table<Task>);

#[derive(Clone, Copy, Debug)]
struct Task {
    timer: TimerKey,
    cookie: u64,
}

impl<D> Loop<'_, D> {
    /// The time of this turn; the clock is read once per turn.
    pub fn now(&self) -> Instant {
        self.shared.now
    }

    /// A handle to this loop, for other threads.
    pub fn handle(&self) -> Handle {
        self.shared.handle.clone()
    }

    /// Any connection of this loop.
    pub fn peer(&mut self, id: ConnectionId) -> Peer<'_, D> {
        // A name from another loop cannot be in this table.
        let stale = Key { index: u32::MAX, generation: 0 };
        let key = if id.shard() == self.shared.shard { id.key() } else { stale };
        Peer { shared: self.shared, writer: self.writer, key }
    }

    /// The names of all open connections of this loop.
    pub fn connections(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        let shard = self.shared.shard;
        self.shared.open_keys().map(move |key| ConnectionId::new(shard, key))
    }

    /// Whether the loop is on its way to its end: new connections are not welcome any more.
    pub fn is_draining(&self) -> bool {
        !self.shared.departure.is_running()
    }

    /// The end of so much time from now on; more than a year counts as one.
    pub fn deadline(&self, time: Duration) -> Instant {
        after(self.shared.now, time)
    }

    /// Has [`Handler::on_timer`] called with `cookie`, not before `deadline` and at most a
    /// millisecond later than the loop can turn. A deadline more than a year away comes after one.
    ///
    /// # Panics
    /// With four billion timers at once.
    pub fn set_timer(&mut self, deadline: Instant, cookie: u64) -> TimerId {
        let deadline = self.deadline(deadline.saturating_duration_since(self.shared.now));
        let key = self.shared.tasks.0.vacant_key().expect("memory ends before the names do");
        let timer = self.shared.wheel.insert(deadline, Timer::Task(key.index));
        let inserted = self.shared.tasks.0.insert(Task { timer, cookie });
        debug_assert!(inserted.is_ok(), "a vacant key was there");
        TimerId { shard: self.shared.shard, key }
    }

    /// Takes a timer back; says whether it was still to come.
    pub fn cancel_timer(&mut self, timer: TimerId) -> bool {
        if timer.shard != self.shared.shard {
            return false;
        }
        let Some(task) = self.shared.tasks.0.remove(timer.key) else { return false };
        self.shared.wheel.cancel(task.timer);
        true
    }

    /// A random number from the loop's seed: as unpredictable as its masking keys.
    pub fn random(&mut self) -> u64 {
        self.shared.random()
    }
}

impl Tasks {
    pub(super) fn new() -> Self {
        Self(Table::new(u32::MAX - 1, 0))
    }
}

impl<N: Net, H: Handler> Reactor<N, H> {
    /// A timer that the application has set.
    pub(super) fn handle_task(&mut self, index: u32) {
        let tasks = &mut self.shared.tasks.0;
        let Some(key) = tasks.key_at(index) else { return };
        if let Some(task) = tasks.remove(key) {
            let timer = TimerId { shard: self.shared.shard, key };
            self.call_loop(|handler, at| handler.on_timer(at, timer, task.cookie));
        }
    }

    /// Something has come from another thread.
    pub(super) fn handle_notice(&mut self, notice: Box<dyn Any + Send>) {
        self.call_loop(|handler, at| handler.on_notice(at, notice));
    }

    /// Runs a callback that is about no connection. A panic is caught if so configured.
    pub(super) fn call_loop(&mut self, callback: impl FnOnce(&mut H, &mut Loop<'_, H::Data>)) {
        let Self { handler, shared, net, panics, .. } = self;
        let mut at = Loop { shared, writer: net };
        match panics {
            PanicPolicy::Propagate => callback(handler, &mut at),
            PanicPolicy::CloseConnection => {
                let run = std::panic::AssertUnwindSafe(|| callback(handler, &mut at));
                if std::panic::catch_unwind(run).is_err() {
                    at.shared.counters.loop_panics += 1;
                    handler.on_panic(&mut at);
                }
            }
        }
    }
}
