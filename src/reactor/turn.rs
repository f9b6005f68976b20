//! The loop itself: one turn after another.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;

use super::admission::Admission;
use super::builder::ReactorBuilder;
use super::command::{Command, Handle};
use super::configs::Configs;
use super::drain::{Departure, Pacing};
use super::event_loop::Tasks;
use super::handler::Handler;
use super::handshake_queue::HandshakeQueue;
use super::id::{ConnectionId, Target};
use super::lifetime::LifeEnd;
use super::listener::{Accepting, Listener};
use super::load::{Occupancy, slots_max};
use super::mailbox::Inbox;
use super::memory::{Board, Watch};
use super::net::{Net, Readiness, Wait};
use super::publish::Subjects;
use super::settings::{PanicPolicy, ReactorConfig};
use super::shared::{Shared, after};
use super::slot::{Backlog, Pause, Phase, ReceiveSlot};
use super::subprotocols::Subprotocols;
use super::transport::{Flushed, Transport};
use crate::collections::{Key, Table, Wheel};
use crate::limits::LoopLimits;
use crate::metrics::Counters;
use crate::protocol::{Pools, ReceivePools};

/// One single-threaded event loop with its connections and its handler.
///
/// # Calling order
/// [`Reactor::new`], then [`Reactor::listen`], then [`Reactor::turn`] again and again until
/// [`Reactor::is_finished`] — or [`Reactor::run`], which does just that. In another loop's poll,
/// watch its descriptor ([`AsRawFd`]) for reading and call `turn` with a timeout of zero when it
/// is ready or [`Reactor::next_deadline`] has come.
///
/// A callback must not block: while it does, the whole loop stands.
pub struct Reactor<N: Net, H: Handler> {
    pub(super) net: Transport<N>,
    pub(super) handler: H,
    pub(super) panics: PanicPolicy,
    pub(super) limits: LoopLimits,
    /// The receiving halves, under the same index as the slots in `shared`.
    pub(super) receivers: Vec<ReceiveSlot<H::Data>>,
    pub(super) receive_pools: ReceivePools,
    pub(super) backlogs: Slab<Backlog>,
    pub(super) shared: Shared<H::Data>,
    pub(super) admission: Admission,
    /// Those whose TLS handshakes wait for a turn that has time for them.
    pub(super) handshakes: HandshakeQueue,
    pub(super) life: Life,
    /// Closes that are spread over time.
    pub(super) pacing: Option<Box<Pacing>>,
    /// Slots that go at the end of the turn.
    pub(super) ended: Vec<Key>,
    /// Where answers to requests are written before they are queued.
    pub(super) scratch: Vec<u8>,
    /// When more than this is held, memory is looked at without its time having come.
    pub(super) growth_mark_bytes: usize,
    pub(super) mailbox: Inbox<Command>,
    events: Vec<Readiness>,
}

/// What the wheel wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// The earliest deadline of the connection at this index, and the end of its life.
    Connection(u32, LifeEnd),
    /// The same of one whose life is over, and which waits for the end of a message, until then.
    Outlived(u32, LifeEnd),
    /// The end of a listener's rest.
    Accept(u32),
    /// A timer of the application.
    Task(u32),
    /// Another try to hand over what was published.
    Published,
    /// The end of the drain.
    Drain,
    /// Somebody's turn to be told to go.
    Pace,
    /// A look at memory.
    Memory,
}

/// Whether the loop has turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Fresh,
    Begun,
}

/// Places reserved from the start: so large that the allocator takes them from the kernel, where
/// what is not touched is not resident and growing moves pages instead of copying them.
const SLOTS_RESERVED: usize = 8192;

impl<N: Net, H: Handler> Reactor<N, H> {
    /// A loop without listeners.
    pub fn new(net: N, handler: H, config: ReactorConfig) -> Self {
        ReactorBuilder::new(net, config).build(handler)
    }

    /// A loop that takes its commands from a mailbox, to which `handle` posts.
    pub(super) fn with_mailbox(
        net: N,
        handler: H,
        config: ReactorConfig,
        (mailbox, occupancy): (Inbox<Command>, Occupancy),
        (handle, board): (Handle, Arc<Board>),
    ) -> Self {
        let now = net.now();
        let limits = config.limits.workable();
        let Pools { receive, send } = Pools::new(&limits, now, config.seed);
        let slots_max = slots_max(&limits);
        let moment = send.timeline.moment(now);
        Self {
            net: Transport::new(net, &limits),
            handler,
            panics: config.panics,
            receivers: Vec::with_capacity(SLOTS_RESERVED.min(slots_max as usize)),
            receive_pools: receive,
            backlogs: Slab::new(),
            shared: Shared {
                shard: config.shard,
                handle,
                occupancy,
                slots: Table::new(slots_max, SLOTS_RESERVED),
                pools: send,
                listeners: Vec::new(),
                configs: Configs::default(),
                subprotocols: Subprotocols::default(),
                ready: VecDeque::new(),
                dirty: Vec::new(),
                attachment: None,
                wheel: Wheel::new(now),
                subjects: Subjects::new(&limits.topics, &config.seed),
                tasks: Tasks::new(),
                dials: VecDeque::new(),
                open: 0,
                dialling: 0,
                departure: Departure::Running,
                watch: config
                    .pressure
                    .and_then(|settings| Watch::new(settings, board, config.shard))
                    .map(Box::new),
                connections_max: limits.connections_max,
                counters: Counters::default(),
                origin: now,
                now,
                moment,
            },
            admission: Admission::default(),
            life: Life::Fresh,
            pacing: None,
            handshakes: HandshakeQueue::default(),
            ended: Vec::new(),
            scratch: Vec::new(),
            growth_mark_bytes: usize::MAX,
            mailbox,
            events: Vec::new(),
            limits,
        }
    }

    /// A handle for other threads.
    pub fn handle(&self) -> Handle {
        self.shared.handle.clone()
    }

    /// Waits at most `timeout` for something to happen (`None`: without end) and works it off.
    ///
    /// # Errors
    /// What polling says; the loop cannot go on then.
    pub fn turn(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let wait = self.wait(timeout);
        self.events.clear();
        self.net.net().poll(&mut self.events, wait)?;
        self.read_clock();
        self.shared.counters.turns += 1;
        self.net.begin_turn();
        if self.life == Life::Fresh {
            self.begin();
        }
        let carried_over = self.shared.ready.len();
        self.readmit_handshakes();
        self.note_events();
        // Who is told of now comes before those who have had a service and want another: it waits
        // for the end of one budget at most.
        self.shared.ready.rotate_left(carried_over);
        if self.mailbox.is_waiting() {
            self.handle_commands();
        }
        if self.shared.watch.as_ref().is_some_and(|watch| watch.has_work()) {
            self.go_on_closing();
        }
        self.accept_waiting();
        self.serve_ready();
        self.note_growth();
        self.handle_deadlines();
        if !self.shared.dials.is_empty() {
            self.begin_dials();
        }
        if self.shared.subjects.is_stirred() {
            self.tell_news();
        }
        self.flush_dirty();
        if self.shared.subjects.is_stirred() {
            self.end_publishing();
        }
        if !self.ended.is_empty() {
            self.reap();
        }
        if !self.shared.departure.is_running() {
            self.advance_drain();
        }
        Ok(())
    }

    #[cold]
    fn begin(&mut self) {
        self.life = Life::Begun;
        self.call_loop(|handler, at| handler.on_start(at));
        self.start_watching();
    }

    pub(super) fn read_clock(&mut self) {
        self.shared.now = self.net.net_ref().now();
        self.shared.moment = self.shared.pools.timeline.moment(self.shared.now);
    }

    /// Turns until the loop is finished, which it is after [`Handle::drain`] or
    /// [`Handle::shutdown`].
    ///
    /// # Errors
    /// What polling says.
    pub fn run(&mut self) -> io::Result<()> {
        while !self.is_finished() {
            self.turn(None)?;
        }
        Ok(())
    }

    /// Whether the loop has drained.
    pub fn is_finished(&self) -> bool {
        self.shared.departure.is_finished()
    }

    /// When [`Reactor::turn`] has to be called at the latest, though nothing happens.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.has_work() { Some(self.shared.now) } else { self.shared.wheel.next_deadline() }
    }

    /// What has happened so far.
    pub fn counters(&self) -> Counters {
        let mut counters = self.net.counters();
        counters.merge(&self.shared.counters);
        counters
    }

    /// The handler.
    pub fn handler(&mut self) -> &mut H {
        &mut self.handler
    }

    /// The network.
    pub fn net(&mut self) -> &mut N {
        self.net.net()
    }

    /// Whether there is something to do without waiting for an event.
    fn has_work(&self) -> bool {
        let is_ready = |listener: &Listener| matches!(listener.accepting, Accepting::Ready);
        self.life == Life::Fresh
            || !self.shared.ready.is_empty()
            || self.shared.subjects.is_stirred()
            || !self.shared.dials.is_empty()
            || !self.handshakes.is_empty()
            || !self.ended.is_empty()
            || !self.shared.dirty.is_empty()
            || self.shared.listeners.iter().any(is_ready)
            || self.shared.watch.as_ref().is_some_and(|watch| watch.has_work())
    }

    fn wait(&self, timeout: Option<Duration>) -> Wait {
        if self.has_work() || timeout == Some(Duration::ZERO) {
            return Wait::No;
        }
        let end = timeout.and_then(|timeout| self.net.net_ref().now().checked_add(timeout));
        match (self.shared.wheel.next_deadline(), end) {
            (Some(deadline), Some(end)) => Wait::Until(deadline.min(end)),
            (Some(deadline), None) | (None, Some(deadline)) => Wait::Until(deadline),
            (None, None) => Wait::Forever,
        }
    }

    /// Writes down what the poll has told. Output goes on at once; input waits for its turn.
    fn note_events(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            match Target::of_token(event.token) {
                Target::Listener(index) => {
                    let listener = self.shared.listeners.get_mut(index);
                    if let Some(accepting) = listener.map(|listener| &mut listener.accepting)
                        && matches!(accepting, Accepting::Idle)
                    {
                        *accepting = Accepting::Ready;
                    }
                }
                Target::Connection(key) => self.note_readiness(key, event),
            }
        }
        self.events = events;
    }

    fn note_readiness(&mut self, key: Key, event: Readiness) {
        let Some(slot) = self.shared.slots.get_mut(key) else { return };
        let notes = &mut slot.notes;
        notes.readable |= event.readable || event.hung_up;
        notes.hung_up |= event.hung_up;
        if event.hung_up {
            // Reading to the end frees what it holds.
            notes.pauses.end(Pause::Memory);
        }
        if let Phase::Dialling(dialling) = &slot.phase
            && !dialling.is_connected()
        {
            // What is said of those who lose the race costs the winner one read that brings nothing.
            return self.run_race(key);
        }
        if event.writable {
            self.note_writable(key);
        }
        if event.readable || event.hung_up {
            self.shared.mark_ready(key);
        }
    }

    /// What was refused is offered again: first what TLS has made of it, which is as old or older.
    fn note_writable(&mut self, key: Key) {
        let Some(slot) = self.shared.slots.get_mut(key) else { return };
        let flushed = self.net.flush(slot.socket);
        match (&flushed, &mut slot.phase) {
            (Ok(Flushed::Nothing), _) => {}
            (Ok(Flushed::Some), Phase::Open { sender, .. }) => {
                sender.handle_sign_of_life(self.shared.moment);
            }
            (Ok(Flushed::Some), Phase::Parting { until, .. }) => {
                *until = after(self.shared.now, self.limits.answer_timeout);
            }
            (
                Ok(Flushed::Some),
                Phase::Http(_) | Phase::Dialling(_) | Phase::Closed { .. } | Phase::Ended,
            ) => {}
            (Err(error), _) => slot.notes.write_error = Some(error.kind()),
        }
        if slot.phase.has_output() || !matches!(flushed, Ok(Flushed::Nothing)) {
            self.flush(key);
            self.settle(key);
        }
    }

    /// Those whose handshakes have waited come first, as many as the turn has time for.
    fn readmit_handshakes(&mut self) {
        for _ in 0..self.limits.tls_handshakes_per_turn {
            let Some(key) = self.handshakes.pop() else { break };
            if let Some(slot) = self.shared.slots.get_mut(key) {
                slot.notes.awaits_handshake = false;
            }
            self.shared.mark_ready(key);
        }
    }

    /// Serves each that stood on the list when the turn began, once.
    fn serve_ready(&mut self) {
        for _ in 0..self.shared.ready.len() {
            let Some(key) = self.shared.ready.pop_front() else { break };
            if let Some(slot) = self.shared.slots.get_mut(key) {
                slot.notes.queued = false;
                self.serve(key);
                self.note_growth();
            }
        }
    }

    /// Looks after each that a callback or command has touched. Whom the callbacks on the way touch
    /// again is flushed in this turn and looked after in the next, so that a handler which answers
    /// every `on_drain` with more does not keep the loop.
    fn flush_dirty(&mut self) {
        let count = self.shared.dirty.len();
        for at in 0..count {
            let key = self.shared.dirty[at];
            if let Some(slot) = self.shared.slots.get_mut(key) {
                slot.notes.dirty = false;
            }
            self.flush(key);
            self.settle(key);
        }
        self.shared.dirty.drain(..count);
        for at in 0..self.shared.dirty.len() {
            self.flush(self.shared.dirty[at]);
        }
    }

    #[inline(never)]
    fn reap(&mut self) {
        let mut ended = std::mem::take(&mut self.ended);
        for key in ended.drain(..) {
            self.shared.subprotocols.remove(key.index);
            if let Some(slot) = self.shared.slots.remove(key) {
                self.shared.occupancy.depart();
                debug_assert!(matches!(slot.phase, Phase::Ended), "only ended slots are reaped");
                self.shared.configs.end(slot.config);
            }
            let id = ConnectionId::new(self.shared.shard, key);
            self.call_loop(|handler, at| handler.on_gone(at, id));
        }
        self.ended = ended;
    }
}

impl<N: Net + AsRawFd, H: Handler> AsRawFd for Reactor<N, H> {
    /// The descriptor to watch for reading.
    fn as_raw_fd(&self) -> RawFd {
        self.net.net_ref().as_raw_fd()
    }
}

impl<N: Net + AsFd, H: Handler> AsFd for Reactor<N, H> {
    /// The descriptor to watch for reading.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.net.net_ref().as_fd()
    }
}
