//! What one thread does with its connections, whatever carries them.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::client::Trouble;
use super::pace::{Ledger, Recorder};
use super::plan::Plan;
use super::watch::Idle;
use super::worker::Signals;
use crate::args::Failure;

/// One thread's connections.
pub trait Fleet<'p>: Send + Sized {
    /// The part of the plan that falls to one thread, with nothing connected.
    fn new(plan: &'p Plan, index: usize, signals: &'p Signals) -> Result<Self, Failure>;

    /// Opens all connections; with `repeat`, closes and opens them again until time is up.
    fn dial(&mut self) -> Result<(), Trouble>;

    /// From connecting to the answer, in nanoseconds.
    fn handshakes(&mut self) -> &Histogram<u64>;

    /// Connections that are open, each with an index below this.
    fn count(&mut self) -> usize;

    fn clock(&self) -> Clock;

    fn recorder(&mut self) -> &mut Recorder;

    /// The account since this was last asked.
    fn take_idle(&mut self) -> Idle;

    /// A connection begins to carry messages, `count` of them at once. One that has come before is
    /// none that was asked for.
    fn begin(&mut self, index: usize, ledger: Ledger, count: u64) -> Result<(), Trouble>;

    /// So many more messages are due on a connection.
    fn send(&mut self, index: usize, count: u64, now_ns: u64) -> Result<(), Trouble>;

    /// Waits until something has come, or until `wake`, and handles it. Says how many answers came.
    fn turn(&mut self, wake: Instant, reaction: Reaction) -> Result<u64, Trouble>;

    /// What is not answered yet never will be. Says how much that is.
    fn give_up(&mut self, now_ns: u64) -> u64;

    /// Closes all connections, as a good guest: with a Close, whose answer is not awaited.
    fn part(&mut self);
}

/// What an answer leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// The next message.
    Message,
    Nothing,
}

/// Time as nanoseconds since the thread's beginning.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    pub origin: Instant,
}

impl Clock {
    pub fn now_ns(self) -> u64 {
        self.ns(Instant::now())
    }

    /// Nanoseconds from the origin to this instant.
    pub fn ns(self, at: Instant) -> u64 {
        at.saturating_duration_since(self.origin).as_nanos() as u64
    }

    /// The instant so many nanoseconds from the origin.
    pub fn instant(self, ns: u64) -> Instant {
        self.origin + Duration::from_nanos(ns)
    }
}
