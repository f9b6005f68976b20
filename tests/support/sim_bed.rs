//! A reactor on a simulated network with a handler that writes everything down and does what the
//! test says.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use corewire::{
    Accept, Arrival, Chunk, CloseSummary, Config, ConnectionId, Context, Drain, DrainReport,
    Handler, ListenOptions, ListenerSettings, Loop, Message, PressureChange, Reactor,
    ReactorConfig, Request, Response, Role, TrustedProxies, Usage, Verdict,
};

use crate::sim_net::{Sim, SimNet, SimPeer};
use crate::sim_peer::{Frame, frames, split_head, upgrade_request};

/// A callback, as the test's own function sees it.
#[derive(Clone, Copy, Debug)]
pub enum Occasion<'a> {
    Open,
    Message(Message<'a>),
    Chunk(Chunk<'a>),
    Ping(&'a [u8]),
    Pong(&'a [u8], Option<Duration>),
    Drain,
    Close(&'a CloseSummary),
}

/// A callback, written down.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    Request(String),
    Open,
    Text(String),
    Binary(Vec<u8>),
    Chunk(u64, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>, Option<Duration>),
    Drain,
    Close(CloseSummary),
}

impl Heard {
    fn of(occasion: &Occasion<'_>) -> Self {
        match occasion {
            Occasion::Open => Self::Open,
            Occasion::Message(Message::Text(text)) => Self::Text((*text).to_owned()),
            Occasion::Message(Message::Binary(bytes)) => Self::Binary(bytes.to_vec()),
            Occasion::Chunk(chunk) => Self::Chunk(chunk.offset, chunk.payload.to_vec()),
            Occasion::Ping(payload) => Self::Ping(payload.to_vec()),
            Occasion::Pong(payload, time) => Self::Pong(payload.to_vec(), *time),
            Occasion::Drain => Self::Drain,
            Occasion::Close(summary) => Self::Close((*summary).clone()),
        }
    }
}

/// One line of the log: the turn, the virtual time, and who heard what.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub turn: u64,
    pub at: Duration,
    pub id: ConnectionId,
    pub heard: Heard,
}

/// What is about the loop and no connection.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    Draining(Drain),
    Shutdown,
    Drained(DrainReport),
}

pub type Log = Rc<RefCell<Vec<Entry>>>;
/// Sees each request that the application is asked about.
pub type Watch = Box<dyn FnMut(&Arrival<'_>)>;
pub type NewsLog = Rc<RefCell<Vec<(Duration, News)>>>;
pub type Act = Box<dyn FnMut(&mut Context<'_, ()>, Occasion<'_>)>;

/// Writes down and acts.
pub struct Probe {
    sim: Sim,
    log: Log,
    turn: Rc<RefCell<u64>>,
    act: Act,
    watch: Watch,
    next_open: Option<NextOpen>,
    news: NewsLog,
    /// Changes of the level of memory pressure, in their order.
    pub pressure: Vec<PressureChange>,
    is_inside: bool,
}

type NextOpen = Box<dyn FnOnce(&mut Context<'_, ()>)>;

impl Probe {
    /// What the next connection's opening does besides: how a test gets at a context of its own.
    pub fn on_next_open(&mut self, act: impl FnOnce(&mut Context<'_, ()>) + 'static) {
        self.next_open = Some(Box::new(act));
    }

    fn tell(&self, news: News) {
        self.sim.0.borrow_mut().progress += 1;
        self.news.borrow_mut().push((self.sim.elapsed(), news));
    }

    fn note(&self, id: ConnectionId, heard: Heard) {
        self.sim.0.borrow_mut().progress += 1;
        let (turn, at) = (*self.turn.borrow(), self.sim.elapsed());
        self.log.borrow_mut().push(Entry { turn, at, id, heard });
    }

    fn hear(&mut self, ctx: &mut Context<'_, ()>, occasion: Occasion<'_>) {
        assert!(!self.is_inside, "a callback inside a callback");
        self.note(ctx.id(), Heard::of(&occasion));
        self.is_inside = true;
        // A panic of the test's own is not a callback that goes on.
        let act = std::panic::AssertUnwindSafe(|| (self.act)(ctx, occasion));
        let outcome = std::panic::catch_unwind(act);
        self.is_inside = false;
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Handler for Probe {
    type Data = ();

    fn on_request(&mut self, request: &Request<'_>, arrival: &Arrival) -> Verdict<()> {
        self.note(arrival.id, Heard::Request(request.path().to_owned()));
        (self.watch)(arrival);
        assert!(request.path() != "/panic", "asked for");
        if !request.is_upgrade() {
            return match request.path() {
                "/none" => Verdict::UpgradeRequired,
                "/large" => {
                    let response = Response::new(200).expect("a final status");
                    Verdict::Respond(response.body(vec![b'x'; 100_000]))
                }
                path => {
                    let response = Response::new(200).expect("a final status");
                    Verdict::Respond(response.body(format!("answer to {path}").into_bytes()))
                }
            };
        }
        if request.path() == "/refuse" {
            return Verdict::Reject(Response::new(403).expect("a final status"));
        }
        let mut accept = Accept::new();
        if let Some(name) = request.subprotocols().next() {
            accept = accept.subprotocol(name).expect("offers are tokens");
        }
        Verdict::Accept { accept, data: () }
    }

    fn on_open(&mut self, ctx: &mut Context<'_, ()>) {
        if let Some(act) = self.next_open.take() {
            self.note(ctx.id(), Heard::Open);
            return act(ctx);
        }
        self.hear(ctx, Occasion::Open);
    }

    fn on_message(&mut self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
        self.hear(ctx, Occasion::Message(message));
    }

    fn on_chunk(&mut self, ctx: &mut Context<'_, ()>, chunk: Chunk<'_>) {
        self.hear(ctx, Occasion::Chunk(chunk));
    }

    fn on_ping(&mut self, ctx: &mut Context<'_, ()>, payload: &[u8]) {
        self.hear(ctx, Occasion::Ping(payload));
    }

    fn on_pong(&mut self, ctx: &mut Context<'_, ()>, payload: &[u8], time: Option<Duration>) {
        self.hear(ctx, Occasion::Pong(payload, time));
    }

    fn on_drain(&mut self, ctx: &mut Context<'_, ()>) {
        self.hear(ctx, Occasion::Drain);
    }

    fn on_pressure(&mut self, at: &mut Loop<'_, ()>, change: &PressureChange) {
        assert!(!self.is_inside, "a callback inside a callback");
        assert_eq!(at.pressure(), Some(&change.snapshot));
        self.pressure.push(*change);
    }

    fn on_close(&mut self, ctx: &mut Context<'_, ()>, summary: &CloseSummary) {
        self.hear(ctx, Occasion::Close(summary));
    }

    fn on_draining(&mut self, _: &mut Loop<'_, ()>, drain: &Drain) {
        self.tell(News::Draining(*drain));
    }

    fn on_shutdown(&mut self, _: &mut Loop<'_, ()>) {
        self.tell(News::Shutdown);
    }

    fn on_drained(&mut self, _: &mut Loop<'_, ()>, report: &DrainReport) {
        self.tell(News::Drained(*report));
    }
}

/// What a bed is made with; change what the test is about.
pub struct Settings {
    pub reactor: ReactorConfig,
    pub config: Config,
    pub handshake: corewire::HandshakeLimits,
    pub proxies: Option<TrustedProxies>,
    pub readiness: Option<&'static str>,
    pub receive_buffer_bytes: usize,
    pub watch: Watch,
    #[cfg(feature = "tls")]
    pub tls: Option<corewire::Tls>,
}

/// A reactor with one listener on a simulated network.
pub struct Bed {
    pub reactor: Reactor<SimNet, Probe>,
    pub sim: Sim,
    pub address: SocketAddr,
    pub log: Log,
    pub news: NewsLog,
    turn: Rc<RefCell<u64>>,
}

/// Sends every message back.
pub fn echo(ctx: &mut Context<'_, ()>, occasion: Occasion<'_>) {
    if let Occasion::Message(message) = occasion {
        let _ = ctx.send(message);
    }
}

impl Bed {
    /// An echo with the defaults.
    pub fn echo() -> Self {
        Self::new(|_| {}, echo)
    }

    pub fn new(
        change: impl FnOnce(&mut Settings),
        act: impl FnMut(&mut Context<'_, ()>, Occasion<'_>) + 'static,
    ) -> Self {
        let mut settings = Settings {
            reactor: ReactorConfig::new([1; 32]),
            config: Config::new(Role::Server),
            handshake: corewire::HandshakeLimits::default(),
            proxies: None,
            readiness: None,
            receive_buffer_bytes: 256 << 10,
            watch: Box::new(|_| {}),
            #[cfg(feature = "tls")]
            tls: None,
        };
        change(&mut settings);
        let (net, sim) = SimNet::new(1, settings.receive_buffer_bytes);
        let (log, turn, news) = (Log::default(), Rc::default(), NewsLog::default());
        let probe = Probe {
            sim: sim.clone(),
            log: log.clone(),
            turn: Rc::clone(&turn),
            act: Box::new(act),
            watch: settings.watch,
            next_open: None,
            news: news.clone(),
            pressure: Vec::new(),
            is_inside: false,
        };
        let mut reactor = Reactor::new(net, probe, settings.reactor);
        let mut listener = ListenerSettings::new(settings.config);
        listener.handshake = settings.handshake;
        listener.proxy_protocol = settings.proxies;
        listener.readiness = settings.readiness.map(Into::into);
        #[cfg(feature = "tls")]
        {
            listener.tls = settings.tls;
        }
        let any = SocketAddr::from(([10, 0, 0, 9], 0));
        let address = reactor.listen(any, &ListenOptions::default(), listener);
        let address = address.expect("nothing else listens").socket_addr();
        let address = address.expect("it listens on an address");
        Self { reactor, sim, address, log, news, turn }
    }

    /// One turn that does not wait.
    pub fn turn(&mut self) {
        *self.turn.borrow_mut() += 1;
        // It is the test that does not wait here, not the loop.
        self.sim.0.borrow_mut().idle_polls = 0;
        self.reactor.turn(Some(Duration::ZERO)).expect("polling never fails");
    }

    /// Turns that do not wait, until what was begun is done.
    pub fn turns(&mut self, count: usize) {
        (0..count).for_each(|_| self.turn());
    }

    /// Turns until so much virtual time has passed.
    pub fn run_for(&mut self, time: Duration) {
        let until = self.sim.elapsed() + time;
        while self.sim.elapsed() < until {
            *self.turn.borrow_mut() += 1;
            let left = until - self.sim.elapsed();
            self.reactor.turn(Some(left)).expect("polling never fails");
        }
        self.turn();
    }

    pub fn turn_count(&self) -> u64 {
        *self.turn.borrow()
    }

    /// A peer whose opening handshake is over.
    pub fn open(&mut self) -> SimPeer {
        let peer = self.sim.connect(self.address);
        self.upgrade(&peer);
        peer
    }

    /// A peer whose opening handshake is over and had further header lines, and the answer's head.
    pub fn open_with(&mut self, lines: &str) -> (SimPeer, String) {
        let peer = self.sim.connect(self.address);
        let head = self.upgrade_with(&peer, lines);
        (peer, head)
    }

    /// Takes a connected peer through the opening handshake.
    pub fn upgrade(&mut self, peer: &SimPeer) {
        self.upgrade_with(peer, "");
    }

    fn upgrade_with(&mut self, peer: &SimPeer, lines: &str) -> String {
        peer.write_all(&upgrade_request("/", lines));
        self.turns(2);
        let answer = peer.read_all();
        let (head, rest) = split_head(&answer).expect("the handshake was answered");
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(rest.is_empty(), "nothing follows the answer unasked");
        head.to_owned()
    }

    /// The name of the connection that opened last.
    pub fn latest(&self) -> ConnectionId {
        let log = self.log.borrow();
        let opened = log.iter().rev().find(|entry| entry.heard == Heard::Open);
        opened.expect("a connection has opened").id
    }

    /// Takes the connection that opened last out of the log.
    pub fn forget_latest(&self) {
        let id = self.latest();
        self.log.borrow_mut().retain(|entry| entry.id != id);
    }

    /// Everything heard by `id` since it opened, the opening left out.
    pub fn heard(&self, id: ConnectionId) -> Vec<Heard> {
        let log = self.log.borrow();
        let own = log.iter().filter(|entry| entry.id == id).map(|entry| entry.heard.clone());
        own.filter(|heard| !matches!(heard, Heard::Open | Heard::Request(_))).collect()
    }

    /// How `id` ended, and when; exactly once.
    pub fn closed(&self, id: ConnectionId) -> Option<(Entry, CloseSummary)> {
        let log = self.log.borrow();
        let mut closes =
            log.iter().filter(|entry| entry.id == id).filter_map(|entry| match &entry.heard {
                Heard::Close(summary) => Some((entry.clone(), summary.clone())),
                _ => None,
            });
        let first = closes.next();
        assert!(closes.next().is_none(), "on_close came twice");
        first
    }

    pub fn summary(&self, id: ConnectionId) -> CloseSummary {
        self.closed(id).expect("the connection is over").1
    }

    /// Nobody is left, and nothing of them.
    pub fn assert_empty(&self) {
        let usage = self.reactor.usage();
        let mut empty = Usage::default();
        // What the pools keep for the next is theirs.
        empty.pinned_bytes = usage.pinned_bytes;
        empty.retained_bytes = usage.retained_bytes;
        assert_eq!(usage, empty);
        assert_eq!(self.sim.sockets(), 0);
    }
}

/// The frames that wait for a peer; nothing torn behind them.
pub fn read_frames(peer: &SimPeer) -> Vec<Frame> {
    let bytes = peer.read_all();
    let (frames, used) = frames(&bytes);
    assert_eq!(used, bytes.len(), "a torn frame at the end");
    frames
}
