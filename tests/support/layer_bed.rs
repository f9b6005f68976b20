//! A loop of clients on a simulated network, with an application that writes everything down.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use corewire::{
    Client, ClientBuilder, ClientChange, ClientHandler, ClientId, ClientLayer, ClientSettings,
    ClientState, Clients, CloseSummary, ConnectionId, Context, DialError, DnsSettings, Jitter,
    Loop, Message, Owner, PressureChange, PressureLevel, Reactor, ReactorConfig, Reconnect,
    Resolver, StopReason, SystemResolver, TimerId, Undecodable, Unsent, UnsentReason, Usage,
};

use crate::naive::Frame;
use crate::sim_host::SimHost;
use crate::sim_net::{Sim, SimNet};
use crate::sim_server::SimServer;

/// A callback, written down.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    Start,
    Open(ConnectionId),
    Text(ConnectionId, String),
    Undecodable(ConnectionId, String),
    Ping(ConnectionId),
    Pong(ConnectionId, Option<Duration>),
    Drain(ConnectionId),
    Close(ConnectionId, CloseSummary),
    /// With the delay of a try that is pending.
    Change(ClientId, ClientState, u32, Option<Duration>),
    /// In words.
    DialFailed(ClientId, String),
    /// Its number and payload.
    Unsent(ClientId, u64, Vec<u8>, UnsentReason),
    Stop(ClientId, StopReason),
    Timer(u64),
    Pressure(PressureLevel),
    Shutdown,
    OwnDialFailed(ConnectionId, u32),
}

pub type Act = Box<dyn FnMut(&mut Loop<'_, u32>, &mut Clients, &Told)>;

/// A notice that is done when it comes.
pub type Order = Box<dyn FnOnce(&mut Loop<'_, u32>, &mut Clients) + Send>;

/// Writes down and acts.
pub struct Diary {
    sim: Sim,
    base: Instant,
    pub act: Act,
    pub told: Vec<(Duration, Told)>,
}

impl Diary {
    fn tell(&mut self, at: &mut Loop<'_, u32>, clients: &mut Clients, told: Told) {
        self.sim.0.borrow_mut().progress += 1;
        self.told.push((at.now() - self.base, told.clone()));
        (self.act)(at, clients, &told);
    }
}

fn client_of(owner: Owner) -> ClientId {
    match owner {
        Owner::Client(id) => id,
        other => panic!("nobody has {other:?} here"),
    }
}

impl ClientHandler for Diary {
    type Data = u32;

    fn on_open(&mut self, ctx: &mut Context<'_, u32>, clients: &mut Clients) {
        let id = ctx.id();
        self.tell(ctx, clients, Told::Open(id));
    }

    fn on_message(
        &mut self,
        ctx: &mut Context<'_, u32>,
        clients: &mut Clients,
        message: Message<'_>,
    ) -> Result<(), Undecodable> {
        let text = std::str::from_utf8(message.payload())?.to_owned();
        if text.starts_with('?') {
            return Err(Undecodable::new("nobody understands that"));
        }
        let id = ctx.id();
        self.tell(ctx, clients, Told::Text(id, text));
        Ok(())
    }

    fn on_undecodable(
        &mut self,
        ctx: &mut Context<'_, u32>,
        clients: &mut Clients,
        _: Message<'_>,
        error: &Undecodable,
    ) {
        let id = ctx.id();
        self.tell(ctx, clients, Told::Undecodable(id, error.to_string()));
    }

    fn on_ping(&mut self, ctx: &mut Context<'_, u32>, clients: &mut Clients, _: &[u8]) {
        let id = ctx.id();
        self.tell(ctx, clients, Told::Ping(id));
    }

    fn on_pong(
        &mut self,
        ctx: &mut Context<'_, u32>,
        clients: &mut Clients,
        _: &[u8],
        round_trip: Option<Duration>,
    ) {
        let id = ctx.id();
        self.tell(ctx, clients, Told::Pong(id, round_trip));
    }

    fn on_drain(&mut self, ctx: &mut Context<'_, u32>, clients: &mut Clients) {
        let id = ctx.id();
        self.tell(ctx, clients, Told::Drain(id));
    }

    fn on_close(
        &mut self,
        ctx: &mut Context<'_, u32>,
        clients: &mut Clients,
        summary: &CloseSummary,
    ) {
        let id = ctx.id();
        self.tell(ctx, clients, Told::Close(id, summary.clone()));
    }

    fn on_change(
        &mut self,
        at: &mut Loop<'_, u32>,
        clients: &mut Clients,
        id: ClientId,
        change: &ClientChange,
    ) {
        let delay = change.retry_at.map(|due| due - at.now());
        self.tell(at, clients, Told::Change(id, change.state, change.tries, delay));
    }

    fn on_dial_failed(
        &mut self,
        at: &mut Loop<'_, u32>,
        clients: &mut Clients,
        owner: Owner,
        error: DialError,
    ) {
        let id = client_of(owner);
        self.tell(at, clients, Told::DialFailed(id, error.to_string()));
    }

    fn on_unsent(
        &mut self,
        at: &mut Loop<'_, u32>,
        clients: &mut Clients,
        owner: Owner,
        unsent: Unsent,
    ) {
        let number = unsent.id.expect("it waited under a number");
        let told = Told::Unsent(client_of(owner), number, unsent.payload.to_vec(), unsent.reason);
        self.tell(at, clients, told);
    }

    fn on_stop(
        &mut self,
        at: &mut Loop<'_, u32>,
        clients: &mut Clients,
        id: ClientId,
        reason: StopReason,
    ) {
        self.tell(at, clients, Told::Stop(id, reason));
    }

    fn on_start(&mut self, at: &mut Loop<'_, u32>, clients: &mut Clients) {
        self.tell(at, clients, Told::Start);
    }

    fn on_shutdown(&mut self, at: &mut Loop<'_, u32>, clients: &mut Clients) {
        self.tell(at, clients, Told::Shutdown);
    }

    fn on_timer(&mut self, at: &mut Loop<'_, u32>, clients: &mut Clients, _: TimerId, cookie: u64) {
        self.tell(at, clients, Told::Timer(cookie));
    }

    fn on_pressure(
        &mut self,
        at: &mut Loop<'_, u32>,
        clients: &mut Clients,
        change: &PressureChange,
    ) {
        self.tell(at, clients, Told::Pressure(change.to));
    }

    fn on_notice(
        &mut self,
        at: &mut Loop<'_, u32>,
        clients: &mut Clients,
        notice: Box<dyn Any + Send>,
    ) {
        notice.downcast::<Order>().expect("an order")(at, clients);
    }

    fn on_own_dial_failed(
        &mut self,
        at: &mut Loop<'_, u32>,
        clients: &mut Clients,
        id: ConnectionId,
        data: u32,
        _: DialError,
    ) {
        self.tell(at, clients, Told::OwnDialFailed(id, data));
    }
}

/// Where the host is.
pub fn address() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 80))
}

/// A client of the host, whose delays are exact.
pub fn exact(change: impl FnOnce(&mut Reconnect)) -> ClientBuilder {
    Client::builder("ws://192.0.2.1/feed").reconnect(|reconnect| {
        reconnect.jitter = Jitter::None;
        change(reconnect);
    })
}

/// The same with nothing changed.
pub fn usual() -> ClientSettings {
    exact(|_| {}).build().unwrap()
}

/// What a bed is made with; change what the test is about.
pub struct Settings {
    pub reactor: ReactorConfig,
    pub act: Act,
    pub resolver: Arc<dyn Resolver>,
    pub dns: DnsSettings,
    /// Of the network.
    pub seed: u64,
}

/// A loop of clients that call one host.
pub struct LayerBed {
    pub reactor: Reactor<SimNet, ClientLayer<Diary>>,
    pub sim: Sim,
    /// At [`address`].
    pub host: SimHost,
}

impl LayerBed {
    pub fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings {
            reactor: ReactorConfig::new([1; 32]),
            act: Box::new(|_, _, _| {}),
            resolver: Arc::new(SystemResolver),
            dns: DnsSettings::default(),
            seed: 1,
        };
        change(&mut settings);
        let (net, sim) = SimNet::new(settings.seed, 256 << 10);
        let base = sim.0.borrow().base;
        let diary = Diary { sim: sim.clone(), base, act: settings.act, told: Vec::new() };
        let layer = ClientLayer::with_resolver(diary, settings.resolver, &settings.dns);
        let reactor = Reactor::new(net, layer, settings.reactor);
        let host = sim.host(address());
        Self { reactor, sim, host }
    }

    /// Has something done in the next turn.
    pub fn order(&self, order: impl FnOnce(&mut Loop<'_, u32>, &mut Clients) + Send + 'static) {
        let order: Order = Box::new(order);
        self.reactor.handle().notify(order).expect("the mailbox has room");
    }

    /// Has something done now, and says what came of it.
    pub fn ask<R: Send + 'static>(
        &mut self,
        order: impl FnOnce(&mut Loop<'_, u32>, &mut Clients) -> R + Send + 'static,
    ) -> R {
        let place = Arc::new(Mutex::new(None));
        let answer = place.clone();
        self.order(move |at, clients| *answer.lock().unwrap() = Some(order(at, clients)));
        self.turn();
        place.lock().unwrap().take().expect("the order was done")
    }

    /// Adds a client, which is on its way then.
    pub fn add(&mut self, settings: &ClientSettings) -> ClientId {
        let settings = settings.clone();
        self.ask(move |_, clients| clients.add(settings))
    }

    /// The next connection, so far that it has opened.
    pub fn accept(&mut self) -> SimServer {
        self.turns(2);
        let mut server = SimServer::new(self.host.next().expect("a connection stands"));
        server.upgrade();
        self.turn();
        server
    }

    /// A client and its server.
    pub fn open(&mut self, settings: &ClientSettings) -> (ClientId, SimServer) {
        let id = self.add(settings);
        let server = self.accept();
        assert_eq!(self.state(id), Some(ClientState::Connected));
        (id, server)
    }

    pub fn state(&mut self, id: ClientId) -> Option<ClientState> {
        self.reactor.handler().clients().state(id)
    }

    /// Sends by a client, and says what became of it.
    pub fn send(&mut self, id: ClientId, text: &str) -> Option<corewire::Submitted> {
        let text = text.to_owned();
        self.ask(move |at, clients| clients.send(at, id, Message::Text(&text)))
    }

    /// One turn that does not wait.
    pub fn turn(&mut self) {
        self.sim.0.borrow_mut().idle_polls = 0;
        self.reactor.turn(Some(Duration::ZERO)).expect("polling never fails");
    }

    pub fn turns(&mut self, count: usize) {
        (0..count).for_each(|_| self.turn());
    }

    /// Turns until so much virtual time has passed.
    pub fn run_for(&mut self, time: Duration) {
        let until = self.sim.elapsed() + time;
        while self.sim.elapsed() < until {
            let left = until - self.sim.elapsed();
            self.reactor.turn(Some(left)).expect("polling never fails");
        }
        self.turn();
    }

    /// Everything told so far; it is told once.
    pub fn told(&mut self) -> Vec<(Duration, Told)> {
        std::mem::take(&mut self.reactor.handler().handler().told)
    }

    /// The same without times.
    pub fn events(&mut self) -> Vec<Told> {
        self.told().into_iter().map(|(_, told)| told).collect()
    }

    /// Nobody is left, and nothing of them but timers that come to nothing.
    pub fn assert_empty(&mut self) {
        self.run_for(Duration::from_secs(3600));
        let usage = self.reactor.usage();
        let mut empty = Usage::default();
        empty.pinned_bytes = usage.pinned_bytes;
        empty.retained_bytes = usage.retained_bytes;
        assert_eq!(usage, empty);
        assert_eq!(self.sim.sockets(), 0);
    }
}

/// The texts among frames.
pub fn texts(frames: &[Frame]) -> Vec<String> {
    let data = frames.iter().filter(|frame| frame.opcode == crate::naive::TEXT);
    data.map(|frame| String::from_utf8(frame.payload.clone()).unwrap()).collect()
}
