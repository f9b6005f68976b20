//! The connections of one thread, carried by hand.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::client::{Client, Kit, Reading, Stream, Trouble};
use super::dial::{Progress, Shaken, Shaking};
use super::fleet::{Clock, Fleet, Reaction};
use super::pace::{Ledger, Recorder, histogram};
use super::plan::{ConnectOnly, Plan, Way, Work};
use super::watch::{Idle, Watch};
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
    plan: &'p Plan,
    address: SocketAddr,
    index: usize,
    watch: Watch,
    kit: Kit,
    slots: Vec<Slot>,
    /// Those that carry messages, each at the index that is its token.
    clients: Vec<Client>,
    /// Connections begun so far.
    attempts: u64,
    /// From connecting to the answer, in nanoseconds.
    handshakes: Histogram<u64>,
    signals: &'p Signals,
}

/// Where a connection stands; its index is its token.
enum Slot {
    Empty,
    Shaking(Box<Shaking>),
    Open(Client),
}

/// No loop waits longer, so that each sees the signal to stop.
pub(super) const TICK: Duration = Duration::from_millis(100);

impl<'p> Fleet<'p> for Worker<'p> {
    fn new(plan: &'p Plan, index: usize, signals: &'p Signals) -> Result<Self, Failure> {
        let Way::Sockets(address) = plan.way else { unreachable!("the plan has another way") };
        let connections = plan.share(index);
        let kit = Kit::new(plan, connections, crate::random()?, Instant::now());
        let slots = std::iter::repeat_with(|| Slot::Empty).take(connections).collect();
        let fail = |error: io::Error| Failure(format!("cannot poll: {error}"));
        let watch = Watch::new().map_err(fail)?;
        let handshakes = histogram();
        Ok(Self {
            plan,
            address,
            index,
            watch,
            kit,
            slots,
            clients: Vec::new(),
            attempts: 0,
            handshakes,
            signals,
        })
    }

    fn dial(&mut self) -> Result<(), Trouble> {
        self.open_all()?;
        let client = |slot| match slot {
            Slot::Open(client) => Some(client),
            Slot::Empty | Slot::Shaking(_) => None,
        };
        self.clients = self.slots.drain(..).filter_map(client).collect();
        Ok(())
    }

    fn handshakes(&mut self) -> &Histogram<u64> {
        &self.handshakes
    }

    fn count(&mut self) -> usize {
        self.clients.len()
    }

    fn clock(&self) -> Clock {
        self.kit.clock
    }

    fn recorder(&mut self) -> &mut Recorder {
        &mut self.kit.recorder
    }

    fn take_idle(&mut self) -> Idle {
        self.watch.take_idle()
    }

    fn begin(&mut self, index: usize, ledger: Ledger, count: u64) -> Result<(), Trouble> {
        let client = &mut self.clients[index];
        // An event that came before is not lost: each is read once.
        client.receive(&mut self.kit, Reading::ToTheEnd)?;
        client.ledger = ledger;
        if count > 0 {
            client.owe(count, self.kit.clock.now_ns());
        }
        client.pump(&mut self.kit)
    }

    fn send(&mut self, index: usize, count: u64, now_ns: u64) -> Result<(), Trouble> {
        let client = &mut self.clients[index];
        client.owe(count, now_ns);
        client.pump(&mut self.kit)
    }

    /// Handles every connection that is ready: one read, one write.
    fn turn(&mut self, wake: Instant, reaction: Reaction) -> Result<u64, Trouble> {
        let Self { watch, kit, clients, .. } = self;
        let mut answers = 0;
        for event in watch.wait(wake).map_err(unwaitable)? {
            let client = &mut clients[event.token().0];
            if event.is_writable() {
                client.handle_writable();
            }
            // Data and the end in one event bring no second one.
            let ends = event.is_read_closed() || event.is_error();
            let reading = if ends { Reading::ToTheEnd } else { Reading::ToAShortRead };
            if event.is_readable() || ends {
                let received = client.receive(kit, reading)?;
                answers += received.answers;
                if let (Reaction::Message, 1..) = (reaction, received.answers) {
                    client.owe(received.answers, received.at_ns);
                }
            }
            client.pump(kit)?;
        }
        Ok(answers)
    }

    fn give_up(&mut self, now_ns: u64) -> u64 {
        let Self { kit, clients, .. } = self;
        clients.iter_mut().map(|client| client.ledger.give_up(now_ns, &mut kit.recorder)).sum()
    }

    fn part(&mut self) {
        for mut client in self.clients.drain(..) {
            client.close(&mut self.kit);
            drop(client.finish(&mut self.kit));
        }
    }
}

impl Worker<'_> {
    fn open_all(&mut self) -> Result<(), Trouble> {
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
        let request = &self.plan.dial.request;
        let mut shaking = Shaking::begin(self.address, source, request, nonce)?;
        self.watch.add(shaking.stream_mut(), index).map_err(unwaitable)?;
        self.slots[index] = Slot::Shaking(shaking);
        Ok(())
    }

    /// Something happened to the connection at `index`.
    fn handle_ready(&mut self, index: usize) -> Result<Turn, Trouble> {
        match std::mem::replace(&mut self.slots[index], Slot::Empty) {
            Slot::Empty => Ok(Turn::Waiting),
            Slot::Shaking(shaking) => match shaking.advance(&self.plan.dial.request)? {
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
