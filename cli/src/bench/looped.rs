//! The connections of one thread on the library's loop: over TLS, over Unix sockets and compressed.
//!
//! Plain connections are carried by hand, which costs the generator less of the time that it shares
//! with the server, and leaves from addresses of choice.

use std::any::Any;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use corewire::{
    Chunk, CloseCause, CloseCode, CloseSummary, ConnectionId, Context, DialError, DialPhase,
    DropReason, Handler, Initiator, Loop, Message, MioNet, Opcode, Reactor, ReactorConfig,
    RemoteAddress, SendOutcome,
};
use hdrhistogram::Histogram;
use rustix::event::{PollFd, PollFlags, Timespec};

use super::client::{Check, QUEUE_BYTES, Trouble, broken, check_piece, closed};
use super::fleet::{Clock, Fleet, Reaction};
use super::pace::{Ledger, Recorder, Unasked, histogram};
use super::plan::{ConnectOnly, Payload, Plan, Way, Work};
use super::watch::Idle;
use super::worker::{Signals, TICK, unwaitable};
use crate::args::Failure;
use crate::destination::explain;

/// One thread's connections.
pub struct LoopWorker<'p> {
    plan: &'p Plan,
    remote: &'p RemoteAddress,
    signals: &'p Signals,
    reactor: Reactor<MioNet, Lanes>,
    idle: Idle,
    clock: Clock,
}

/// What the loop calls.
struct Lanes {
    /// At the index that is their data.
    lanes: Vec<Lane>,
    /// Those that have something to send which was not due to an answer.
    due: Vec<usize>,
    reaction: Reaction,
    remote: RemoteAddress,
    payload: Arc<Payload>,
    recorder: Recorder,
    handshakes: Histogram<u64>,
    clock: Clock,
    /// What each connection is closed for as soon as it is open.
    repeats: bool,
    /// Since this was last looked at: answers, connections that have opened, those that are over.
    answers: u64,
    opened: u64,
    ended: Vec<usize>,
    trouble: Option<Trouble>,
}

/// One connection.
struct Lane {
    id: Option<ConnectionId>,
    began: Instant,
    ledger: Ledger,
    /// Messages that are due and not sent yet.
    owed: u64,
    check: Check,
}

/// What the thread tells its loop.
enum Notice {
    /// Some connections have something to send.
    Due,
    Part,
}

impl<'p> Fleet<'p> for LoopWorker<'p> {
    fn new(plan: &'p Plan, index: usize, signals: &'p Signals) -> Result<Self, Failure> {
        let Way::Loop(remote) = &plan.way else { unreachable!("the plan has another way") };
        let fail = |error: io::Error| Failure(format!("cannot poll: {error}"));
        let clock = Clock { origin: Instant::now() };
        let lane = || Lane {
            id: None,
            began: clock.origin,
            ledger: Ledger::batches(),
            owed: 0,
            check: Check::First,
        };
        let count = plan.share(index);
        let lanes = Lanes {
            lanes: std::iter::repeat_with(lane).take(count).collect(),
            due: Vec::new(),
            reaction: Reaction::Nothing,
            remote: remote.clone(),
            payload: plan.payload.clone(),
            recorder: Recorder::new(),
            handshakes: histogram(),
            clock,
            repeats: plan.work == Work::ConnectOnly(ConnectOnly::Repeat),
            answers: 0,
            opened: 0,
            ended: Vec::new(),
            trouble: None,
        };
        let mut config = ReactorConfig::random().map_err(fail)?;
        let queue_rings = (QUEUE_BYTES + plan.payload.bytes.len()) / config.limits.ring_bytes + 2;
        let rings_max = count.saturating_mul(queue_rings);
        config.limits.rings_max = config.limits.rings_max.max(rings_max);
        config.limits.connections_max = config.limits.connections_max.max(count as u32);
        let net = MioNet::new(config.limits.receive_buffer_bytes).map_err(fail)?;
        let reactor = Reactor::new(net, lanes, config);
        Ok(Self { plan, remote, signals, reactor, idle: Idle::default(), clock })
    }

    fn dial(&mut self) -> Result<(), Trouble> {
        let until = match self.plan.work {
            Work::ConnectOnly(ConnectOnly::Repeat) => Some(Instant::now() + self.plan.duration),
            Work::ConnectOnly(ConnectOnly::Hold) | Work::InFlight(_) | Work::Rate(_) => None,
        };
        let (mut next, mut under_way) = (0, 0);
        loop {
            while next < self.lanes().lanes.len() && under_way < self.plan.at_once {
                self.connect(next)?;
                next += 1;
                under_way += 1;
            }
            if under_way == 0 || self.signals.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let now = Instant::now();
            if until.is_some_and(|until| now >= until) {
                return Ok(());
            }
            self.turn(now + TICK, Reaction::Nothing)?;
            let lanes = self.lanes();
            let (opened, ended) =
                (std::mem::take(&mut lanes.opened), std::mem::take(&mut lanes.ended));
            self.signals.opened.fetch_add(opened, Ordering::Relaxed);
            if until.is_none() {
                under_way -= opened as usize;
            }
            for index in ended {
                self.connect(index)?;
            }
        }
    }

    fn handshakes(&mut self) -> &Histogram<u64> {
        &self.lanes().handshakes
    }

    fn count(&mut self) -> usize {
        self.lanes().lanes.len()
    }

    fn clock(&self) -> Clock {
        self.clock
    }

    fn recorder(&mut self) -> &mut Recorder {
        &mut self.lanes().recorder
    }

    fn take_idle(&mut self) -> Idle {
        std::mem::take(&mut self.idle)
    }

    fn begin(&mut self, index: usize, ledger: Ledger, count: u64) -> Result<(), Trouble> {
        self.lanes().lanes[index].ledger = ledger;
        let now_ns = self.clock.now_ns();
        if count > 0 { self.send(index, count, now_ns) } else { Ok(()) }
    }

    fn send(&mut self, index: usize, count: u64, now_ns: u64) -> Result<(), Trouble> {
        let lanes = self.lanes();
        lanes.lanes[index].owe(count, now_ns);
        lanes.due.push(index);
        Ok(())
    }

    fn turn(&mut self, wake: Instant, reaction: Reaction) -> Result<u64, Trouble> {
        let lanes = self.lanes();
        lanes.reaction = reaction;
        if lanes.due.is_empty() {
            self.wait(wake).map_err(unwaitable)?;
        } else {
            self.tell(Notice::Due);
        }
        self.reactor.turn(Some(Duration::ZERO)).map_err(unwaitable)?;
        let lanes = self.lanes();
        match lanes.trouble.take() {
            Some(trouble) => Err(trouble),
            None => Ok(std::mem::take(&mut lanes.answers)),
        }
    }

    fn give_up(&mut self, now_ns: u64) -> u64 {
        let Lanes { lanes, recorder, .. } = self.lanes();
        lanes.iter_mut().map(|lane| lane.ledger.give_up(now_ns, recorder)).sum()
    }

    fn part(&mut self) {
        self.tell(Notice::Part);
        // A server that does not take the Close sees the end of the stream instead.
        let _ = self.reactor.turn(Some(Duration::ZERO));
    }
}

impl LoopWorker<'_> {
    fn lanes(&mut self) -> &mut Lanes {
        self.reactor.handler()
    }

    fn tell(&self, notice: Notice) {
        // One at a time waits there.
        let _ = self.reactor.handle().notify(notice);
    }

    /// Connects what stands at `index` for the first time, or once more.
    fn connect(&mut self, index: usize) -> Result<(), Trouble> {
        self.lanes().lanes[index].began = Instant::now();
        let dialled = self.reactor.dial([self.remote.clone()], &self.plan.dial, index);
        dialled.map(drop).map_err(|error| unreached(self.remote, error))
    }

    /// Waits until the loop has something to do, or until `wake`.
    fn wait(&mut self, wake: Instant) -> io::Result<()> {
        let Self { reactor, idle, .. } = self;
        let wake = reactor.next_deadline().map_or(wake, |deadline| deadline.min(wake));
        // It may have more to do already, and then nothing is waited for.
        if wake <= Instant::now() {
            return Ok(());
        }
        idle.wait(wake, |timeout| {
            let timeout = Timespec {
                tv_sec: timeout.as_secs() as i64,
                tv_nsec: timeout.subsec_nanos().into(),
            };
            let mut polled = [PollFd::new(&*reactor, PollFlags::IN)];
            match rustix::event::poll(&mut polled, Some(&timeout)) {
                Ok(count) => Ok(count > 0),
                Err(rustix::io::Errno::INTR) => Ok(false),
                Err(error) => Err(error.into()),
            }
        })
    }
}

impl Lane {
    fn owe(&mut self, count: u64, now_ns: u64) {
        self.owed += count;
        self.ledger.note_due(count, now_ns);
    }

    /// Sends what is due, as far as the socket takes it.
    fn pump(&mut self, at: &mut Loop<'_, usize>, payload: &Payload) -> Result<(), Trouble> {
        let Some(id) = self.id.filter(|_| self.owed > 0) else { return Ok(()) };
        let message = payload.message();
        let mut peer = at.peer(id);
        while self.owed > 0 {
            match peer.send(message) {
                outcome if outcome.is_taken() => self.owed -= 1,
                // There will be room, or the end is told.
                SendOutcome::Dropped(DropReason::Backpressure | DropReason::Closing) => break,
                outcome => {
                    return Err(Trouble::Closed(format!("a message was not taken: {outcome:?}")));
                }
            }
        }
        Ok(())
    }
}

impl Lanes {
    fn note(&mut self, result: Result<(), Trouble>) {
        if let Err(trouble) = result {
            self.trouble.get_or_insert(trouble);
        }
    }

    /// A piece of a message has come.
    fn receive(
        &mut self,
        ctx: &mut Context<'_, usize>,
        opcode: Opcode,
        offset: u64,
        piece: &[u8],
        fin: bool,
    ) -> Result<(), Trouble> {
        let lane = &mut self.lanes[*ctx.data()];
        check_piece(&self.payload, lane.check, opcode, offset, piece, fin)?;
        if !fin {
            return Ok(());
        }
        lane.check = Check::Further;
        self.answers += 1;
        let now_ns = self.clock.now_ns();
        lane.ledger.settle(1, now_ns, &mut self.recorder).map_err(|Unasked| Trouble::unasked())?;
        match self.reaction {
            Reaction::Nothing => Ok(()),
            Reaction::Message => {
                lane.owe(1, now_ns);
                lane.pump(ctx, &self.payload)
            }
        }
    }
}

impl Handler for Lanes {
    type Data = usize;

    fn on_message(&mut self, ctx: &mut Context<'_, usize>, message: Message<'_>) {
        let received = self.receive(ctx, message.opcode(), 0, message.payload(), true);
        self.note(received);
    }

    fn on_chunk(&mut self, ctx: &mut Context<'_, usize>, chunk: Chunk<'_>) {
        let Chunk { opcode, offset, payload, fin, .. } = chunk;
        let received = self.receive(ctx, opcode, offset, payload, fin);
        self.note(received);
    }

    fn on_open(&mut self, ctx: &mut Context<'_, usize>) {
        let lane = &mut self.lanes[*ctx.data()];
        lane.id = Some(ctx.id());
        self.handshakes.saturating_record(lane.began.elapsed().as_nanos() as u64);
        self.opened += 1;
        if self.repeats {
            ctx.close(CloseCode::NORMAL, "").expect("a code that may be sent, and no reason");
        }
    }

    fn on_drain(&mut self, ctx: &mut Context<'_, usize>) {
        let pumped = self.lanes[*ctx.data()].pump(ctx, &self.payload);
        self.note(pumped);
    }

    fn on_close(&mut self, ctx: &mut Context<'_, usize>, summary: &CloseSummary) {
        let index = *ctx.data();
        self.lanes[index].id = None;
        match (summary.initiator, summary.cause) {
            // Whatever came after our Close.
            (Initiator::Local, cause) if !matches!(cause, CloseCause::Failed(_)) => {
                self.ended.push(index);
            }
            (_, CloseCause::Failed(failure)) => self.note(Err(broken(failure))),
            (_, CloseCause::ClosingHandshake) => {
                self.note(Err(closed(summary.code, &summary.reason)));
            }
            (_, CloseCause::EndOfStream) => self.note(Err(Trouble::ended())),
            (_, CloseCause::Transport(error)) => {
                self.note(Err(Trouble::Closed(format!("a connection broke: {error}"))));
            }
            (_, cause) => {
                self.note(Err(Trouble::Closed(format!("a connection broke: {cause:?}"))));
            }
        }
    }

    fn on_dial_failed(
        &mut self,
        _: &mut Loop<'_, usize>,
        _: ConnectionId,
        _: usize,
        error: DialError,
    ) {
        self.note(Err(unreached(&self.remote, error)));
    }

    fn on_notice(&mut self, at: &mut Loop<'_, usize>, notice: Box<dyn Any + Send>) {
        let Ok(notice) = notice.downcast::<Notice>() else { return };
        match *notice {
            Notice::Due => {
                for index in std::mem::take(&mut self.due) {
                    let pumped = self.lanes[index].pump(at, &self.payload);
                    self.note(pumped);
                }
            }
            Notice::Part => {
                for id in self.lanes.iter().filter_map(|lane| lane.id) {
                    let closed = at.peer(id).close(CloseCode::NORMAL, "");
                    closed.expect("a code that may be sent, and no reason");
                }
            }
        }
    }
}

fn unreached(remote: &RemoteAddress, error: DialError) -> Trouble {
    match error {
        DialError::Io { phase: DialPhase::Connect, error } => {
            Trouble::Unreachable { address: remote.to_string(), error }
        }
        error => Trouble::Refused(format!("a handshake failed: {}", explain(&error))),
    }
}
