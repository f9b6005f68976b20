//! A reactor on a simulated network that dials, with a handler that writes everything down.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use corewire::opening::{ClientRequest, ResponseHead, WebSocketUri};
use corewire::{
    CloseSummary, Config, ConnectionId, Context, DialError, DialSettings, Handler, Loop, Message,
    Reactor, ReactorConfig, RemoteAddress, Role, TimerId, Usage,
};

use crate::sim_host::SimHost;
use crate::sim_net::{Sim, SimNet};
use crate::sim_server::{Request, SimServer};

/// A callback, written down.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// The status and the fields of the answer.
    Answer(u16, Vec<(String, Vec<u8>)>),
    Open,
    Text(String),
    Binary(Vec<u8>),
    Close(CloseSummary),
}

/// A connection that has not opened.
#[derive(Debug)]
pub struct Failure {
    pub at: Duration,
    pub id: ConnectionId,
    /// What was kept for it.
    pub data: u32,
    pub error: DialError,
}

/// A callback that is about no open connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Told {
    Start,
    /// What [`Heard::Answer`] is about.
    Answer(ConnectionId),
    /// What a [`Failure`] is about.
    Failed(ConnectionId),
    Timer(TimerId, u64),
    /// A notice that was a number.
    Notice(u64),
}

pub type Act = Box<dyn FnMut(&mut Context<'_, u32>, &Heard)>;
pub type LoopAct = Box<dyn FnMut(&mut Loop<'_, u32>, Told)>;

/// A notice that is done when it comes.
pub type Order = Box<dyn FnOnce(&mut Loop<'_, u32>) + Send>;

/// Writes down and acts.
pub struct Probe {
    sim: Sim,
    act: Act,
    act_loop: LoopAct,
    pub heard: Vec<(ConnectionId, Heard)>,
    pub failures: Vec<Failure>,
    /// With the time of each.
    pub told: Vec<(Duration, Told)>,
}

impl Probe {
    fn note(&mut self, id: ConnectionId, heard: Heard) {
        self.sim.0.borrow_mut().progress += 1;
        self.heard.push((id, heard));
    }

    fn hear(&mut self, ctx: &mut Context<'_, u32>, heard: Heard) {
        self.note(ctx.id(), heard.clone());
        (self.act)(ctx, &heard);
    }

    fn tell(&mut self, at: &mut Loop<'_, u32>, told: Told) {
        self.sim.0.borrow_mut().progress += 1;
        self.told.push((self.sim.elapsed(), told));
        (self.act_loop)(at, told);
    }
}

impl Handler for Probe {
    type Data = u32;

    fn on_answer(&mut self, at: &mut Loop<'_, u32>, id: ConnectionId, head: &ResponseHead<'_>) {
        let fields = head.fields.iter().map(|(name, value)| (name.to_owned(), value.to_vec()));
        self.note(id, Heard::Answer(head.status, fields.collect()));
        self.tell(at, Told::Answer(id));
    }

    fn on_open(&mut self, ctx: &mut Context<'_, u32>) {
        self.hear(ctx, Heard::Open);
    }

    fn on_message(&mut self, ctx: &mut Context<'_, u32>, message: Message<'_>) {
        let heard = match message {
            Message::Text(text) => Heard::Text(text.to_owned()),
            Message::Binary(bytes) => Heard::Binary(bytes.to_vec()),
        };
        self.hear(ctx, heard);
    }

    fn on_close(&mut self, ctx: &mut Context<'_, u32>, summary: &CloseSummary) {
        self.hear(ctx, Heard::Close(summary.clone()));
    }

    fn on_dial_failed(
        &mut self,
        at: &mut Loop<'_, u32>,
        id: ConnectionId,
        data: u32,
        error: DialError,
    ) {
        self.failures.push(Failure { at: self.sim.elapsed(), id, data, error });
        self.tell(at, Told::Failed(id));
    }

    fn on_start(&mut self, at: &mut Loop<'_, u32>) {
        self.tell(at, Told::Start);
    }

    fn on_timer(&mut self, at: &mut Loop<'_, u32>, timer: TimerId, cookie: u64) {
        self.tell(at, Told::Timer(timer, cookie));
    }

    fn on_notice(&mut self, at: &mut Loop<'_, u32>, notice: Box<dyn Any + Send>) {
        match notice.downcast::<Order>() {
            Ok(order) => order(at),
            Err(notice) => {
                let number = notice.downcast::<u64>().expect("an order or a number");
                self.tell(at, Told::Notice(*number));
            }
        }
    }
}

/// What a bed is made with; change what the test is about.
pub struct Settings {
    pub reactor: ReactorConfig,
    pub dial: DialSettings,
    pub act: Act,
    pub act_loop: LoopAct,
}

/// A reactor that dials one host.
pub struct Bed {
    pub reactor: Reactor<SimNet, Probe>,
    pub sim: Sim,
    /// At [`address`].
    pub host: SimHost,
    pub dial: Arc<DialSettings>,
    dialled: u32,
}

/// Where the host is.
pub fn address() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 80))
}

impl Bed {
    pub fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let (net, sim) = SimNet::new(1, 256 << 10);
        Self::on(net, sim, change)
    }

    /// Beside others that are on this network.
    pub fn beside(sim: &Sim, change: impl FnOnce(&mut Settings)) -> Self {
        Self::on(SimNet::beside(sim, 256 << 10), sim.clone(), change)
    }

    fn on(net: SimNet, sim: Sim, change: impl FnOnce(&mut Settings)) -> Self {
        let uri = WebSocketUri::parse("ws://example.com/feed").expect("a good URI");
        let mut settings = Settings {
            reactor: ReactorConfig::new([1; 32]),
            dial: DialSettings::new(ClientRequest::new(uri), Config::new(Role::Client)),
            act: Box::new(|_, _| {}),
            act_loop: Box::new(|_, _| {}),
        };
        change(&mut settings);
        let (heard, failures, told) = (Vec::new(), Vec::new(), Vec::new());
        let Settings { act, act_loop, .. } = settings;
        let probe = Probe { sim: sim.clone(), act, act_loop, heard, failures, told };
        let reactor = Reactor::new(net, probe, settings.reactor);
        let host = sim.host(address());
        Self { reactor, sim, host, dial: Arc::new(settings.dial), dialled: 0 }
    }

    /// Dials the host; the data kept is the number of the call, from 1.
    pub fn dial(&mut self) -> ConnectionId {
        self.dial_all(&[address()])
    }

    /// Dials the first of these that answers.
    pub fn dial_all(&mut self, addresses: &[SocketAddr]) -> ConnectionId {
        self.dialled += 1;
        let remotes = addresses.iter().map(|address| RemoteAddress::from(*address));
        self.reactor.dial(remotes, &self.dial, self.dialled).expect("there is room")
    }

    /// Has something done in the next turn.
    pub fn order(&self, order: impl FnOnce(&mut Loop<'_, u32>) + Send + 'static) {
        let order: Order = Box::new(order);
        self.reactor.handle().notify(order).expect("the mailbox has room");
    }

    /// Dials, and takes it so far that the host has the request.
    pub fn dial_and_ask(&mut self) -> (ConnectionId, SimServer, Request) {
        let id = self.dial();
        self.turns(2);
        let mut server = SimServer::new(self.host.next().expect("the connection stands"));
        let request = server.request().expect("the request is there");
        (id, server, request)
    }

    /// Dials and opens.
    pub fn open(&mut self) -> (ConnectionId, SimServer) {
        let (id, server, request) = self.dial_and_ask();
        server.peer.write_all(&request.switching(""));
        self.turn();
        assert!(self.heard(id).contains(&Heard::Open), "{:?}", self.reactor.handler().failures);
        (id, server)
    }

    /// One turn that does not wait.
    pub fn turn(&mut self) {
        // It is the test that does not wait here, not the loop.
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

    /// Everything heard by `id`.
    pub fn heard(&mut self, id: ConnectionId) -> Vec<Heard> {
        let heard = self.reactor.handler().heard.iter();
        heard.filter(|(own, _)| *own == id).map(|(_, heard)| heard.clone()).collect()
    }

    /// Why `id` has not opened, which is told once, and nothing else is.
    pub fn failure(&mut self, id: ConnectionId) -> &Failure {
        assert_eq!(self.heard(id), []);
        let failures = self.reactor.handler().failures.iter();
        let own: Vec<_> = failures.filter(|failure| failure.id == id).collect();
        let [failure] = own[..] else { panic!("{own:?}") };
        failure
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
