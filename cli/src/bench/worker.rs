//! One thread's part: its connections, and the loops that open and load them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::client::{Client, Kit, Reading, Stream, Trouble};
use super::dial::{Progress, Shaken, Shaking};
use super::pace::histogram;
use super::plan::{ConnectOnly, Plan, Work};
use super::watch::Watch;
use crate::args::Failure;

/// What the threads tell each other and the progress bar.
#[derive(Debug, Default)]
pub struct Signals {
    /// Somebody wants the end: a person, or a thread with trouble.
    pub stop: Arc<AtomicBool>,
    pub opened: AtomicU64,
    pub answered: AtomicU64,
}

/// One thread's connections.
pub struct Worker<'p> {
    pub(super) plan: &'p Plan,
    pub(super) index: usize,
    pub(super) watch: Watch,
    pub(super) kit: Kit,
    slots: Vec<Slot>,
    /// Connections begun so far.
    attempts: u64,
    /// From connecting to the answer, in nanoseconds.
    pub handshakes: Histogram<u64>,
    pub(super) signals: &'p Signals,
}

/// Where a connection stands; its index is its token.
enum Slot {
    Empty,
    Shaking(Box<Shaking>),
    Open(Client),
}

/// No loop waits longer, so that each sees the signal to stop.
pub(super) const TICK: Duration = Duration::from_millis(100);

impl<'p> Worker<'p> {
    pub fn new(plan: &'p Plan, index: usize, signals: &'p Signals) -> Result<Self, Failure> {
        let connections = plan.share(index);
        let kit = Kit::new(plan.payload.clone(), connections, crate::random()?, Instant::now());
        let slots = std::iter::repeat_with(|| Slot::Empty).take(connections).collect();
        let fail = |error: io::Error| Failure(format!("cannot poll: {error}"));
        let watch = Watch::new().map_err(fail)?;
        let handshakes = histogram();
        Ok(Self { plan, index, watch, kit, slots, attempts: 0, handshakes, signals })
    }

    /// Opens all connections; with `repeat`, closes and opens them again until time is up.
    pub fn dial(&mut self) -> Result<(), Trouble> {
        let until = match self.plan.work {
            Work::ConnectOnly(ConnectOnly::Repeat) => Some(Instant::now() + self.plan.duration),
            Work::ConnectOnly(ConnectOnly::Hold) | Work::InFlight(_) | Work::Rate(_) => None,
        };
        let mut next = 0;
        let mut under_way = 0;
        let mut checked_at = Instant::now();
        let mut ready: Vec<usize> = Vec::new();
        loop {
            while next < self.slots.len() && under_way < self.plan.at_once {
                self.begin(next)?;
                next += 1;
                under_way += 1;
            }
            if under_way == 0 || self.signals.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let deadline = Instant::now() + TICK;
            let events = self.watch.wait(deadline).map_err(unwaitable)?;
            ready.extend(events.iter().map(|event| event.token().0));
            let now = Instant::now();
            if until.is_some_and(|until| now >= until) {
                return Ok(());
            }
            for index in ready.drain(..) {
                match self.handle_ready(index)? {
                    Turn::Waiting => {}
                    Turn::Opened if until.is_none() => under_way -= 1,
                    Turn::Opened => {}
                    Turn::Ended => self.begin(index)?,
                }
            }
            if now - checked_at >= TICK {
                checked_at = now;
                self.check_deadlines(now)?;
            }
        }
    }

    /// Connects what stands at `index` for the first time, or once more.
    fn begin(&mut self, index: usize) -> Result<(), Trouble> {
        let turn = self.attempts * self.plan.threads as u64 + self.index as u64;
        self.attempts += 1;
        let source = self.plan.sources.nth(turn);
        let nonce = crate::random().map_err(|Failure(text)| Trouble::Local(text))?;
        let mut shaking = Shaking::begin(self.plan.address, source, &self.plan.request, nonce)?;
        self.watch.add(shaking.stream_mut(), index).map_err(unwaitable)?;
        self.slots[index] = Slot::Shaking(shaking);
        Ok(())
    }

    /// Something happened to the connection at `index`.
    fn handle_ready(&mut self, index: usize) -> Result<Turn, Trouble> {
        match std::mem::replace(&mut self.slots[index], Slot::Empty) {
            Slot::Empty => Ok(Turn::Waiting),
            Slot::Shaking(shaking) => match shaking.advance(&self.plan.request)? {
                Progress::Waiting(shaking) => {
                    self.slots[index] = Slot::Shaking(shaking);
                    Ok(Turn::Waiting)
                }
                Progress::Done(shaken) => self.open(index, shaken),
            },
            Slot::Open(mut client) => {
                client.handle_writable();
                let received = client.receive(&mut self.kit, Reading::ToTheEnd)?;
                if received.stream == Stream::Ended {
                    drop(client.finish(&mut self.kit));
                    return Ok(Turn::Ended);
                }
                client.pump(&mut self.kit)?;
                self.slots[index] = Slot::Open(client);
                Ok(Turn::Waiting)
            }
        }
    }

    fn open(&mut self, index: usize, mut shaken: Shaken) -> Result<Turn, Trouble> {
        self.handshakes.saturating_record(shaken.took.as_nanos() as u64);
        self.signals.opened.fetch_add(1, Ordering::Relaxed);
        let mut client = Client::new(shaken.stream, &mut self.kit, &mut shaken.behind)?;
        if self.plan.work == Work::ConnectOnly(ConnectOnly::Repeat) {
            client.close(&mut self.kit);
        }
        // What came since the answer was read brings no event of its own any more.
        let received = client.receive(&mut self.kit, Reading::ToTheEnd)?;
        if received.stream == Stream::Ended {
            drop(client.finish(&mut self.kit));
            return Ok(Turn::Ended);
        }
        self.slots[index] = Slot::Open(client);
        Ok(Turn::Opened)
    }

    fn check_deadlines(&self, now: Instant) -> Result<(), Trouble> {
        self.slots.iter().try_for_each(|slot| match slot {
            Slot::Shaking(shaking) => shaking.check_deadline(now),
            Slot::Empty | Slot::Open(_) => Ok(()),
        })
    }

    /// The connections, each at the index that is its token.
    pub(super) fn take_clients(&mut self) -> Vec<Client> {
        let client = |slot| match slot {
            Slot::Open(client) => Some(client),
            Slot::Empty | Slot::Shaking(_) => None,
        };
        self.slots.drain(..).filter_map(client).collect()
    }

    pub(super) fn put_back(&mut self, clients: Vec<Client>) {
        self.slots = clients.into_iter().map(Slot::Open).collect();
    }

    /// Closes all connections, as a good guest: with a Close, whose answer is not awaited.
    pub fn part(&mut self) {
        for slot in &mut self.slots {
            if let Slot::Open(mut client) = std::mem::replace(slot, Slot::Empty) {
                client.close(&mut self.kit);
                drop(client.finish(&mut self.kit));
            }
        }
    }
}

/// What became of a connection while it was looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Waiting,
    Opened,
    /// It is over, after our Close.
    Ended,
}

pub(super) fn unwaitable(error: io::Error) -> Trouble {
    Trouble::Local(format!("cannot wait for sockets: {error}"))
}
