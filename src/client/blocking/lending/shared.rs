//! What the threads of a pool share: a queue of orders for the loop, of which it is told by a notice.
//! There is one under way at most.

use std::collections::VecDeque;
use std::mem;
use std::sync::mpsc::sync_channel;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::line::LoopEnd;
use crate::client::blocking::error::EndCause;
use crate::client::blocking::waiting::{DROP_PATIENCE, is_over, wait};
use crate::client::clients::Clients;
use crate::client::lease::Lease;
use crate::client::pool::{PoolError, PoolStats, Site};
use crate::client::pools::PoolId;
use crate::reactor::{Handle, Loop, Wait};

/// What the threads of a pool share.
pub(super) struct Shared {
    state: Mutex<State>,
    /// The end has come.
    ended: Condvar,
    handle: Handle,
}

struct State {
    orders: VecDeque<Order>,
    /// A notice is on its way to the loop.
    is_noticed: bool,
    life: Life,
    /// Leases, and those who ask for one.
    users: u32,
    /// As it was when the loop began to end.
    last_stats: PoolStats,
}

/// The life of a pool with a loop of its own.
#[derive(Clone, Copy)]
enum Life {
    Running,
    /// No handle is left, or it was shut down.
    Closing,
    Ended(EndCause),
}

/// What the loop is to do.
pub(super) enum Order {
    Acquire(Asked),
    /// To look at what is shared with the holder of a lease.
    Look(Lease),
    Ask(Question),
    /// To end when every lease has come back, or then.
    ShutDown(Wait),
}

/// What is asked of the loop.
pub(super) type Question = Box<dyn FnOnce(&mut Loop<'_, ()>, &mut Clients, PoolId) + Send>;

/// Somebody asks for a connection.
pub(super) struct Asked {
    pub(super) line: LoopEnd,
    pub(super) user: Option<u64>,
    pub(super) until: Wait,
    pub(super) site: Site,
}

/// The notice that has the loop look at what is shared.
pub(super) struct Wake;

impl Shared {
    pub(super) fn new(handle: Handle) -> Self {
        let state = State {
            orders: VecDeque::new(),
            is_noticed: false,
            life: Life::Running,
            users: 0,
            last_stats: PoolStats::default(),
        };
        Self { state: Mutex::new(state), ended: Condvar::new(), handle }
    }

    /// Nothing that can panic runs under the lock, so a poisoned one is as good.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the loop do something, if there still is one; orders are carried out in their order.
    pub(super) fn order(&self, order: Order) {
        self.push(self.lock(), order);
    }

    fn push(&self, mut state: MutexGuard<'_, State>, order: Order) {
        if let Life::Ended(cause) = state.life {
            drop(state);
            return order.cancel(cause);
        }
        state.orders.push_back(order);
        if !mem::replace(&mut state.is_noticed, true) {
            drop(state);
            let posted = self.handle.notify(Wake);
            // The loop may have ended just now, which answers all that was ordered.
            drop(posted);
        }
    }
}

/// For the application's threads.
impl Shared {
    /// Counts a user more.
    pub(super) fn acquire(&self, asked: Asked) {
        let mut state = self.lock();
        state.users += 1;
        self.push(state, Order::Acquire(asked));
    }

    /// A lease is over, or there was none. The last user waits a little for the end.
    pub(super) fn leave(&self) {
        let mut state = self.lock();
        state.users -= 1;
        self.part(state);
    }

    /// No handle is left.
    pub(super) fn abandon(&self) {
        self.close(Wait::Forever);
        self.part(self.lock());
    }

    fn part(&self, mut state: MutexGuard<'_, State>) {
        let patience = Wait::Until(Instant::now() + DROP_PATIENCE);
        while matches!(state.life, Life::Closing) && state.users == 0 && !is_over(patience) {
            state = wait(&self.ended, state, patience);
        }
    }

    fn close(&self, until: Wait) {
        let mut state = self.lock();
        if matches!(state.life, Life::Running) {
            state.life = Life::Closing;
        }
        self.push(state, Order::ShutDown(until));
    }

    /// Ends the pool, and waits for it. The loop sees to it that this does not take long.
    pub(super) fn shut_down(&self, until: Wait) -> Result<(), PoolError> {
        self.close(until);
        let mut state = self.lock();
        loop {
            match state.life {
                Life::Ended(EndCause::Stopped(_)) => return Ok(()),
                Life::Ended(_) => return Err(PoolError::LoopFailed),
                Life::Running | Life::Closing => {}
            }
            state = wait(&self.ended, state, Wait::Forever);
        }
    }

    /// Has the loop answer, which is never blocked for long. `None` if it has ended.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        answer: impl FnOnce(&mut Loop<'_, ()>, &mut Clients, PoolId) -> T + Send + 'static,
    ) -> Option<T> {
        let (tell, told) = sync_channel(1);
        self.order(Order::Ask(Box::new(move |at, clients, pool| {
            let _ = tell.send(answer(at, clients, pool));
        })));
        told.recv().ok()
    }

    pub(super) fn last_stats(&self) -> PoolStats {
        self.lock().last_stats.clone()
    }
}

/// For the loop's thread.
impl Shared {
    /// A notice has come: moves the orders into `orders`.
    pub(super) fn take_orders(&self, orders: &mut VecDeque<Order>) {
        let mut state = self.lock();
        state.is_noticed = false;
        // The emptied one goes back, so that a steady stream does not allocate.
        mem::swap(&mut state.orders, orders);
    }

    pub(super) fn handle_parting(&self, stats: PoolStats) {
        self.lock().last_stats = stats;
    }

    /// This was all.
    pub(super) fn end(&self, cause: EndCause) {
        let mut state = self.lock();
        state.life = Life::Ended(cause);
        let orders = mem::take(&mut state.orders);
        self.ended.notify_all();
        drop(state);
        orders.into_iter().for_each(|order| order.cancel(cause));
    }
}

impl Order {
    /// There is no loop to carry it out.
    fn cancel(self, cause: EndCause) {
        if let Self::Acquire(asked) = self {
            asked.line.refuse(match cause {
                EndCause::Stopped(_) => PoolError::ShutDown,
                EndCause::Loop(_) | EndCause::Panicked => PoolError::LoopFailed,
            });
        }
    }
}
