//! A loop whose handler is asked what the test says, and notes what it is told.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use corewire::{
    Accept, Arrival, Chunk, CloseCause, CloseSummary, Config, Context, Decision, Handler,
    ListenOptions, ListenerSettings, Message, Reactor, ReactorConfig, Request, Response, Role,
    Ticket, Usage, Verdict,
};

use crate::sim_net::{Sim, SimNet, SimPeer};
use crate::sim_peer::split_head;

/// What the handler keeps for a connection. The test keeps it too, to see it dropped.
pub type Kept = Option<Rc<str>>;

/// A request as the handler has seen it.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    pub route: Option<String>,
    /// The parameters `a` and `rest`.
    pub params: [Option<String>; 2],
    pub listener: usize,
    pub ticket: Ticket,
}

/// What the handler was told behind `on_request`.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// What was kept for it, the attachment if it is a text, and the route.
    Open(Option<String>, Option<String>, Option<String>),
    Message(Vec<u8>),
    Chunk(Vec<u8>),
    Close(CloseCause),
}

type Verdicts = Box<dyn FnMut(&Request<'_>, &Arrival<'_>) -> Verdict<Kept>>;
type OnOpen = Box<dyn FnMut(&mut Context<'_, Kept>)>;

pub struct Desk {
    verdict: Verdicts,
    pub on_open: OnOpen,
    pub asked: Vec<Asked>,
    pub heard: Vec<Heard>,
}

impl Handler for Desk {
    type Data = Kept;

    fn on_request(&mut self, request: &Request<'_>, arrival: &Arrival<'_>) -> Verdict<Kept> {
        self.asked.push(Asked {
            path: request.path().to_owned(),
            route: arrival.route.map(str::to_owned),
            params: ["a", "rest"].map(|name| arrival.param(name).map(|param| param.into_owned())),
            listener: arrival.listener,
            ticket: arrival.ticket(),
        });
        (self.verdict)(request, arrival)
    }

    fn on_open(&mut self, ctx: &mut Context<'_, Kept>) {
        assert_eq!(ctx.take_attachment::<u8>(), None, "no test attaches a number");
        let attachment = ctx.take_attachment::<String>();
        assert_eq!(ctx.take_attachment::<String>(), None, "it can be taken once");
        let data = ctx.data().as_deref().map(str::to_owned);
        let route = ctx.here().route().map(str::to_owned);
        self.heard.push(Heard::Open(data, attachment, route));
        (self.on_open)(ctx);
    }

    fn on_message(&mut self, ctx: &mut Context<'_, Kept>, message: Message<'_>) {
        self.heard.push(Heard::Message(message.payload().to_vec()));
        let _ = ctx.send(message);
    }

    fn on_chunk(&mut self, _: &mut Context<'_, Kept>, chunk: Chunk<'_>) {
        self.heard.push(Heard::Chunk(chunk.payload.to_vec()));
    }

    fn on_close(&mut self, ctx: &mut Context<'_, Kept>, summary: &CloseSummary) {
        assert_eq!(ctx.take_attachment::<String>(), None, "it was for on_open");
        self.heard.push(Heard::Close(summary.cause));
    }
}

pub struct Bed {
    pub reactor: Reactor<SimNet, Desk>,
    pub sim: Sim,
    pub addresses: Vec<SocketAddr>,
}

/// Defers every request whose path begins with `/later`, for a minute, accepts other upgrades and
/// answers plain requests with their path.
pub fn later(request: &Request<'_>, _: &Arrival<'_>) -> Verdict<Kept> {
    if request.path().starts_with("/later") {
        return Verdict::Defer { timeout: Duration::from_secs(60), data: Some("kept".into()) };
    }
    if request.is_upgrade() {
        return Verdict::Accept { accept: Accept::new(), data: None };
    }
    Verdict::Respond(ok(request.path()))
}

pub fn ok(body: &str) -> Response {
    Response::new(200).unwrap().body(body.as_bytes().to_vec())
}

pub fn settings() -> ListenerSettings {
    ListenerSettings::new(Config::new(Role::Server))
}

impl Bed {
    /// One listener that defers as [`later`] does.
    pub fn later() -> Self {
        Self::new(|_| {}, vec![settings()], later)
    }

    /// One listener for each of the settings.
    pub fn new(
        change: impl FnOnce(&mut ReactorConfig),
        listeners: Vec<ListenerSettings>,
        verdict: impl FnMut(&Request<'_>, &Arrival<'_>) -> Verdict<Kept> + 'static,
    ) -> Self {
        let (net, sim) = SimNet::new(1, 64 << 10);
        let mut config = ReactorConfig::new([1; 32]);
        change(&mut config);
        let mut reactor = Reactor::new(net, desk(verdict), config);
        let any = SocketAddr::from(([10, 0, 0, 9], 0));
        let addresses = listeners
            .into_iter()
            .map(|settings| reactor.listen(any, &ListenOptions::default(), settings).unwrap())
            .map(|endpoint| endpoint.socket_addr().unwrap())
            .collect();
        Self { reactor, sim, addresses }
    }

    pub fn connect(&self) -> SimPeer {
        self.sim.connect(self.addresses[0])
    }

    /// A new peer says this and the loop handles it.
    pub fn ask(&mut self, bytes: impl AsRef<[u8]>) -> SimPeer {
        let peer = self.connect();
        peer.write_all(bytes.as_ref());
        self.turns(3);
        peer
    }

    pub fn turn(&mut self) {
        // It is the test that does not wait here, not the loop.
        self.sim.0.borrow_mut().idle_polls = 0;
        self.reactor.turn(Some(Duration::ZERO)).unwrap();
    }

    pub fn turns(&mut self, count: usize) {
        (0..count).for_each(|_| self.turn());
    }

    /// Turns until so much virtual time has passed.
    pub fn run_for(&mut self, time: Duration) {
        let until = self.sim.elapsed() + time;
        while self.sim.elapsed() < until {
            let left = until - self.sim.elapsed();
            self.reactor.turn(Some(left)).unwrap();
        }
        self.turn();
    }

    pub fn asked(&mut self) -> Vec<Asked> {
        self.reactor.handler().asked.clone()
    }

    pub fn heard(&mut self) -> Vec<Heard> {
        self.reactor.handler().heard.clone()
    }

    /// The ticket of the last request that was asked about.
    pub fn ticket(&mut self) -> Ticket {
        self.reactor.handler().asked.last().expect("somebody has asked").ticket
    }

    /// Another thread decides, and the loop handles it.
    pub fn decide(&mut self, ticket: Ticket, decision: Decision) {
        self.reactor.handle().decide(ticket, decision).unwrap();
        self.turns(2);
    }

    pub fn missed(&self) -> u64 {
        self.reactor.counters().decisions_missed
    }

    /// Nobody is left, and nothing of them.
    pub fn assert_empty(&self) {
        let mut usage = self.reactor.usage();
        // What the pools keep for the next is theirs.
        usage.pinned_bytes = 0;
        usage.retained_bytes = 0;
        assert_eq!(usage, Usage::default());
        assert_eq!(self.sim.sockets(), 0);
    }
}

pub fn desk(verdict: impl FnMut(&Request<'_>, &Arrival<'_>) -> Verdict<Kept> + 'static) -> Desk {
    Desk {
        verdict: Box::new(verdict),
        on_open: Box::new(|_| {}),
        asked: Vec::new(),
        heard: Vec::new(),
    }
}

/// The head of the answer that waits for a peer.
pub fn head(peer: &SimPeer) -> String {
    let bytes = peer.read_all();
    split_head(&bytes).map(|(head, _)| head.to_owned()).unwrap_or_default()
}

pub fn status(peer: &SimPeer) -> String {
    head(peer).get(9..12).unwrap_or_default().to_owned()
}
