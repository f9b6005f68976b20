//! A loop with pools on the simulated network, back ends that answer it, and an application that
//! writes everything down and does what the test says.

use std::any::Any;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use corewire::{
    Acquired, ClientHandler, ClientLayer, Clients, CloseCause, CloseSummary, ConnectionId, Context,
    DialError, LeakReport, Lease, LeaseTicket, LoadSource, Loop, Message, Owner, Pool, PoolBuilder,
    PoolError, PoolId, PoolStats, PressureSettings, Reactor, ReactorConfig, TimerId, Undecodable,
    Unsent, UnsentReason, Usage,
};

use crate::back_end::BackEnd;
use crate::sim_net::{Sim, SimNet};

pub const MS: Duration = Duration::from_millis(1);
pub const S: Duration = Duration::from_secs(1);
/// The loop's timers fire so much late at most.
pub const TICK: Duration = Duration::from_millis(2);

/// A callback, written down.
#[derive(Clone, Debug)]
pub enum Heard {
    Start,
    Open(ConnectionId),
    Text(ConnectionId, String),
    Undecodable(ConnectionId),
    Pong(ConnectionId),
    /// With the lease that has ended with it.
    Close(ConnectionId, Option<Lease>, CloseCause),
    DialFailed(Owner, String),
    Unsent(Owner, String, UnsentReason),
    Lease(LeaseTicket, Result<Lease, PoolError>),
    Leak(LeakReport),
    Timer(u64),
    Notice,
}

pub type Act = Box<dyn FnMut(&mut Loop<'_, ()>, &mut Clients, &Heard)>;
type Job = Box<dyn FnOnce(&mut Loop<'_, ()>, &mut Clients)>;
type Jobs = Rc<RefCell<VecDeque<Job>>>;

/// Writes down and acts.
pub struct App {
    sim: Sim,
    jobs: Jobs,
    pub act: Act,
    pub heard: Vec<(Duration, Heard)>,
}

impl App {
    fn hear(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients, heard: Heard) {
        self.sim.0.borrow_mut().progress += 1;
        self.heard.push((self.sim.elapsed(), heard.clone()));
        (self.act)(at, clients, &heard);
    }
}

impl ClientHandler for App {
    type Data = ();

    fn on_start(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients) {
        self.hear(at, clients, Heard::Start);
    }

    fn on_open(&mut self, ctx: &mut Context<'_, ()>, clients: &mut Clients) {
        let heard = Heard::Open(ctx.id());
        self.hear(ctx, clients, heard);
    }

    fn on_message(
        &mut self,
        ctx: &mut Context<'_, ()>,
        clients: &mut Clients,
        message: Message<'_>,
    ) -> Result<(), Undecodable> {
        let Message::Text(text) = message else { return Err(Undecodable::new("not a text")) };
        let heard = Heard::Text(ctx.id(), text.to_owned());
        self.hear(ctx, clients, heard);
        Ok(())
    }

    fn on_undecodable(
        &mut self,
        ctx: &mut Context<'_, ()>,
        clients: &mut Clients,
        _: Message<'_>,
        _: &Undecodable,
    ) {
        let heard = Heard::Undecodable(ctx.id());
        self.hear(ctx, clients, heard);
    }

    fn on_pong(
        &mut self,
        ctx: &mut Context<'_, ()>,
        clients: &mut Clients,
        _: &[u8],
        _: Option<Duration>,
    ) {
        let heard = Heard::Pong(ctx.id());
        self.hear(ctx, clients, heard);
    }

    fn on_close(
        &mut self,
        ctx: &mut Context<'_, ()>,
        clients: &mut Clients,
        summary: &CloseSummary,
    ) {
        let lease = clients.lease_of(ctx.id());
        let heard = Heard::Close(ctx.id(), lease, summary.cause);
        self.hear(ctx, clients, heard);
    }

    fn on_dial_failed(
        &mut self,
        at: &mut Loop<'_, ()>,
        clients: &mut Clients,
        owner: Owner,
        error: DialError,
    ) {
        self.hear(at, clients, Heard::DialFailed(owner, format!("{error:?}")));
    }

    fn on_lease(
        &mut self,
        at: &mut Loop<'_, ()>,
        clients: &mut Clients,
        ticket: LeaseTicket,
        lease: Result<Lease, PoolError>,
    ) {
        self.hear(at, clients, Heard::Lease(ticket, lease));
    }

    fn on_unsent(
        &mut self,
        at: &mut Loop<'_, ()>,
        clients: &mut Clients,
        owner: Owner,
        unsent: Unsent,
    ) {
        let text = String::from_utf8(unsent.payload.to_vec()).expect("a text");
        self.hear(at, clients, Heard::Unsent(owner, text, unsent.reason));
    }

    fn on_leak(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients, report: &LeakReport) {
        self.hear(at, clients, Heard::Leak(*report));
    }

    fn on_timer(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients, _: TimerId, cookie: u64) {
        self.hear(at, clients, Heard::Timer(cookie));
    }

    fn on_notice(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients, _: Box<dyn Any + Send>) {
        self.sim.0.borrow_mut().progress += 1;
        loop {
            let job = self.jobs.borrow_mut().pop_front();
            let Some(job) = job else { break };
            job(at, clients);
        }
        (self.act)(at, clients, &Heard::Notice);
    }
}

/// A load that the test sets.
#[derive(Clone, Default)]
pub struct Scripted(pub std::sync::Arc<std::sync::Mutex<(Option<f64>, Option<f64>)>>);

impl LoadSource for Scripted {
    fn cpu(&mut self) -> Option<f64> {
        self.0.lock().expect("nobody panics").0
    }

    fn memory(&mut self) -> Option<f64> {
        self.0.lock().expect("nobody panics").1
    }
}

/// A loop, its back ends and the application.
pub struct Bed {
    pub reactor: Reactor<SimNet, ClientLayer<App>>,
    pub sim: Sim,
    pub back_ends: Vec<BackEnd>,
    jobs: Jobs,
    taken: usize,
}

impl Bed {
    /// With so many back ends.
    pub fn new(back_ends: usize) -> Self {
        Self::seeded(1, back_ends)
    }

    pub fn seeded(seed: u64, back_ends: usize) -> Self {
        let (net, sim) = SimNet::new(seed, 64 << 10);
        Self::on(net, sim, seed, back_ends)
    }

    pub fn on(net: SimNet, sim: Sim, seed: u64, back_ends: usize) -> Self {
        Self::with(net, sim, seed, back_ends, None)
    }

    /// With a loop that looks at memory so.
    pub fn watching(pressure: PressureSettings, back_ends: usize) -> Self {
        let (net, sim) = SimNet::new(1, 64 << 10);
        Self::with(net, sim, 1, back_ends, Some(pressure))
    }

    fn with(
        net: SimNet,
        sim: Sim,
        seed: u64,
        back_ends: usize,
        pressure: Option<PressureSettings>,
    ) -> Self {
        let jobs = Jobs::default();
        let act: Act = Box::new(|_, _, _| {});
        let app = App { sim: sim.clone(), jobs: jobs.clone(), act, heard: Vec::new() };
        let mut config = ReactorConfig::new([seed as u8; 32]);
        config.seed[..8].copy_from_slice(&seed.to_be_bytes());
        config.pressure = pressure;
        let reactor = Reactor::new(net, ClientLayer::new(app), config);
        let back_ends = (0..back_ends).map(|number| BackEnd::new(&sim, number)).collect();
        Self { reactor, sim, back_ends, jobs, taken: 0 }
    }

    /// The description of a pool to all back ends. It keeps nothing open, and knows of no load.
    pub fn describe(&self) -> PoolBuilder {
        let builder = Pool::builder().min(0).load_source(Scripted::default);
        self.back_ends.iter().fold(builder, |pool, to| pool.endpoint(to.settings.clone()))
    }

    /// A pool to all back ends.
    pub fn pool(&mut self, change: impl FnOnce(PoolBuilder) -> PoolBuilder) -> PoolId {
        let pool = change(self.describe()).build().expect("a pool that can be");
        let id = self.act(move |_, clients| clients.add_pool(pool));
        self.settle();
        id
    }

    /// Does something inside a callback of the loop's.
    pub fn act<R: 'static>(
        &mut self,
        job: impl FnOnce(&mut Loop<'_, ()>, &mut Clients) -> R + 'static,
    ) -> R {
        let result = Rc::new(RefCell::new(None));
        let place = result.clone();
        let job: Job = Box::new(move |at, clients| {
            let done = job(at, clients);
            *place.borrow_mut() = Some(done);
        });
        self.jobs.borrow_mut().push_back(job);
        self.reactor.handle().notify(()).expect("there is room");
        self.turn();
        let done = result.borrow_mut().take();
        done.expect("the job was done in this turn")
    }

    /// What the application does inside its callbacks.
    pub fn acts(&mut self, act: impl FnMut(&mut Loop<'_, ()>, &mut Clients, &Heard) + 'static) {
        self.reactor.handler().handler().act = Box::new(act);
    }

    /// One turn that does not wait, and what the back ends say to it.
    pub fn turn(&mut self) {
        self.sim.0.borrow_mut().idle_polls = 0;
        self.reactor.turn(Some(Duration::ZERO)).expect("polling never fails");
        self.serve();
    }

    fn serve(&mut self) {
        let now = self.sim.elapsed();
        self.back_ends.iter_mut().for_each(|back_end| back_end.serve(now));
    }

    /// Turns until what was begun is done, as far as that takes no time.
    pub fn settle(&mut self) {
        (0..8).for_each(|_| self.turn());
    }

    /// Turns until so much virtual time has passed.
    pub fn run_for(&mut self, time: Duration) {
        self.serve();
        let until = self.sim.elapsed() + time;
        while self.sim.elapsed() < until {
            self.turn_until(until);
        }
        self.settle();
    }

    /// One turn that waits for that time at most.
    pub fn turn_until(&mut self, until: Duration) {
        let due = self.back_ends.iter().filter_map(BackEnd::next_due).min();
        let until = due.map_or(until, |due| due.min(until));
        let left = until.saturating_sub(self.sim.elapsed());
        self.reactor.turn(Some(left)).expect("polling never fails");
        self.serve();
    }

    /// What was heard since this was last asked, and when.
    pub fn news(&mut self) -> Vec<(Duration, Heard)> {
        let taken = self.taken;
        let heard = &self.reactor.handler().handler().heard;
        let news = heard[taken..].to_vec();
        self.taken = heard.len();
        news
    }

    /// Of the news, how tickets have ended.
    pub fn leases(&mut self) -> Vec<(LeaseTicket, Result<Lease, PoolError>)> {
        let news = self.news().into_iter();
        news.filter_map(|(_, heard)| match heard {
            Heard::Lease(ticket, lease) => Some((ticket, lease)),
            _ => None,
        })
        .collect()
    }

    pub fn stats(&mut self, pool: PoolId) -> PoolStats {
        self.reactor.handler().clients().pool_stats(pool).expect("the pool is there")
    }

    /// A lease at once.
    #[track_caller]
    pub fn lease(&mut self, pool: PoolId) -> Lease {
        match self.acquire(pool) {
            Ok(Acquired::Now(lease)) => lease,
            other => panic!("{other:?}"),
        }
    }

    /// A place in the line.
    #[track_caller]
    pub fn ticket(&mut self, pool: PoolId) -> LeaseTicket {
        match self.acquire(pool) {
            Ok(Acquired::Later(ticket)) => ticket,
            other => panic!("{other:?}"),
        }
    }

    pub fn acquire(&mut self, pool: PoolId) -> Result<Acquired, PoolError> {
        self.act(move |at, clients| clients.acquire(at, pool, 5 * S))
    }

    pub fn acquire_for(&mut self, pool: PoolId, user: u32) -> Result<Acquired, PoolError> {
        self.act(move |at, clients| clients.acquire_for(at, pool, user, 5 * S))
    }

    pub fn release(&mut self, lease: Lease, outcome: corewire::Outcome) -> Result<(), PoolError> {
        let released = self.act(move |at, clients| clients.release(at, lease, outcome));
        self.settle();
        released
    }

    pub fn leased(&mut self, lease: Lease) -> Result<ConnectionId, PoolError> {
        self.reactor.handler().clients().leased(lease)
    }

    /// The other end of a lease's connection: which back end, and which of its connections.
    pub fn served(&mut self, lease: Lease) -> (usize, usize) {
        self.try_served(lease).expect("the lease is good")
    }

    pub fn try_served(&mut self, lease: Lease) -> Option<(usize, usize)> {
        thread_local!(static MARKS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) });
        let mark = format!("mark {}", MARKS.replace(MARKS.get() + 1));
        let text = mark.clone();
        self.act(move |at, clients| {
            clients.peer(at, lease).map(|mut to| assert!(to.send_text(&text).is_taken())).ok()
        })?;
        self.settle();
        let ends = self.back_ends.iter().enumerate();
        let mut ends = ends.flat_map(|(place, end)| {
            let served = end.served.iter().enumerate();
            served.map(move |(number, one)| (place, number, one))
        });
        let (place, number, _) = ends.find(|(_, _, one)| one.texts.contains(&mark))?;
        Some((place, number))
    }

    /// Nobody is left, and nothing of them.
    #[track_caller]
    pub fn assert_empty(&mut self) {
        let usage = self.reactor.usage();
        let mut empty = Usage::default();
        empty.pinned_bytes = usage.pinned_bytes;
        empty.retained_bytes = usage.retained_bytes;
        assert_eq!(usage, empty);
        assert_eq!(self.sim.sockets(), 0);
        assert_eq!(self.reactor.handler().clients().iter().next(), None);
    }
}
