//! A loop with one client on the simulated network, and an application that writes everything down.

use std::any::Any;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use corewire::{
    Client, ClientBuilder, ClientHandler, ClientId, ClientLayer, Clients, CloseSummary, Context,
    FlowStats, Jitter, Lease, Loop, Message, Owner, Reactor, ReactorConfig, Reconnect, StopReason,
    Submitted, Undecodable, Unsent,
};

use crate::naive::{BINARY, Frame, TEXT};
use crate::sim_host::SimHost;
use crate::sim_net::{Sim, SimNet};
use crate::sim_server::SimServer;
use crate::sim_world::Call;

type Act = Box<dyn FnOnce(&mut Loop<'_, ()>, &mut Clients)>;
type Hook = Box<dyn FnMut(&mut Loop<'_, ()>, &mut Clients)>;

/// What the application has heard.
#[derive(Default)]
pub struct Journal {
    pub received: Vec<String>,
    pub undecodable: Vec<String>,
    pub unsent: Vec<Unsent>,
    pub closes: Vec<CloseSummary>,
    pub stops: Vec<StopReason>,
    pub drains: usize,
    pub rooms: usize,
}

/// The application: does what the test wants done, inside a callback.
pub struct App {
    sim: Sim,
    script: VecDeque<Act>,
    pub on_open: Option<Hook>,
    pub on_drain: Option<Hook>,
    pub on_room: Option<Hook>,
    pub journal: Journal,
}

/// What is not understood.
pub const RIDDLE: &str = "\"riddle\"";

impl App {
    fn note(&mut self) -> &mut Journal {
        self.sim.0.borrow_mut().progress += 1;
        &mut self.journal
    }
}

impl ClientHandler for App {
    type Data = ();

    fn on_message(
        &mut self,
        _: &mut Context<'_, ()>,
        _: &mut Clients,
        message: Message<'_>,
    ) -> Result<(), Undecodable> {
        let text = String::from_utf8_lossy(message.payload()).into_owned();
        if text == RIDDLE {
            return Err(Undecodable::new("a riddle"));
        }
        self.note().received.push(text);
        Ok(())
    }

    fn on_undecodable(
        &mut self,
        _: &mut Context<'_, ()>,
        _: &mut Clients,
        message: Message<'_>,
        error: &Undecodable,
    ) {
        let text = String::from_utf8_lossy(message.payload()).into_owned();
        self.note().undecodable.push(format!("{text}: {error}"));
    }

    fn on_drain(&mut self, ctx: &mut Context<'_, ()>, clients: &mut Clients) {
        self.note().drains += 1;
        if let Some(on_drain) = &mut self.on_drain {
            on_drain(ctx, clients);
        }
    }

    fn on_open(&mut self, ctx: &mut Context<'_, ()>, clients: &mut Clients) {
        if let Some(on_open) = &mut self.on_open {
            on_open(ctx, clients);
        }
    }

    fn on_room(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients, _: ClientId) {
        self.note().rooms += 1;
        if let Some(on_room) = &mut self.on_room {
            on_room(at, clients);
        }
    }

    fn on_lease_room(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients, _: Lease) {
        self.note().rooms += 1;
        if let Some(on_room) = &mut self.on_room {
            on_room(at, clients);
        }
    }

    fn on_close(&mut self, _: &mut Context<'_, ()>, _: &mut Clients, summary: &CloseSummary) {
        self.note().closes.push(summary.clone());
    }

    fn on_unsent(&mut self, _: &mut Loop<'_, ()>, _: &mut Clients, _: Owner, unsent: Unsent) {
        self.note().unsent.push(unsent);
    }

    fn on_stop(&mut self, _: &mut Loop<'_, ()>, _: &mut Clients, _: ClientId, reason: StopReason) {
        self.note().stops.push(reason);
    }

    fn on_notice(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients, _: Box<dyn Any + Send>) {
        while let Some(act) = self.script.pop_front() {
            act(at, clients);
        }
    }
}

pub struct Bed {
    pub reactor: Reactor<SimNet, ClientLayer<App>>,
    pub sim: Sim,
    pub host: SimHost,
    pub client: ClientId,
}

impl Bed {
    /// A client that is about to connect to a host that accepts.
    pub fn new(seed: u64, change: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Self {
        let (net, sim) = SimNet::new(seed, 256 << 10);
        let app = App {
            sim: sim.clone(),
            script: VecDeque::new(),
            on_open: None,
            on_drain: None,
            on_room: None,
            journal: Journal::default(),
        };
        let mut layer = ClientLayer::new(app);
        let settings =
            change(Client::builder("ws://192.0.2.1/feed").reconnect(|it| *it = soon())).build();
        let client = layer.clients().add(settings.expect("good settings"));
        let reactor = Reactor::new(net, layer, ReactorConfig::new([1; 32]));
        let host = sim.host(SocketAddr::from(([192, 0, 2, 1], 80)));
        Self { reactor, sim, host, client }
    }

    /// The same, connected.
    pub fn opened(change: impl FnOnce(ClientBuilder) -> ClientBuilder) -> (Self, SimServer) {
        let mut bed = Self::new(1, change);
        let server = bed.accept();
        (bed, server)
    }

    /// Waits until the client has connected, and opens the connection.
    pub fn accept(&mut self) -> SimServer {
        let mut server = loop {
            if let Some(peer) = self.host.next() {
                break SimServer::new(peer);
            }
            self.reactor.turn(None).expect("polling never fails");
        };
        self.turn();
        server.upgrade();
        self.turn();
        server
    }

    /// One turn that does not wait.
    pub fn turn(&mut self) {
        // It is the test that does not wait here, not the loop.
        self.sim.0.borrow_mut().idle_polls = 0;
        self.reactor.turn(Some(Duration::ZERO)).expect("polling never fails");
    }

    /// Turns until that time, and tells of each turn.
    pub fn run_until(&mut self, until: Duration, mut told: impl FnMut(Duration)) {
        while self.sim.elapsed() < until {
            let left = until - self.sim.elapsed();
            self.reactor.turn(Some(left)).expect("polling never fails");
            told(self.sim.elapsed());
        }
        self.turn();
        told(self.sim.elapsed());
    }

    pub fn run_for(&mut self, time: Duration) {
        self.run_until(self.sim.elapsed() + time, |_| {});
    }

    /// Does something in a callback, in a turn that does not wait.
    pub fn act<R: 'static>(
        &mut self,
        act: impl FnOnce(&mut Loop<'_, ()>, &mut Clients) -> R + 'static,
    ) -> R {
        let result = Rc::new(RefCell::new(None));
        let place = result.clone();
        self.app().script.push_back(Box::new(move |at, clients| {
            *place.borrow_mut() = Some(act(at, clients));
        }));
        self.reactor.handle().notify(()).expect("the mailbox has room");
        self.turn();
        let result = result.borrow_mut().take();
        result.expect("the callback was made")
    }

    pub fn send(&mut self, text: impl Into<String>) -> Submitted {
        let (client, text) = (self.client, text.into());
        self.act(move |at, clients| {
            clients.send(at, client, Message::Text(&text)).expect("there is the client")
        })
    }

    pub fn send_now(&mut self, text: impl Into<String>) -> Submitted {
        let (client, text) = (self.client, text.into());
        self.act(move |at, clients| {
            clients.send_now(at, client, Message::Text(&text)).expect("there is the client")
        })
    }

    /// Sends them all in one callback.
    pub fn send_all(&mut self, texts: Vec<String>) -> Vec<Submitted> {
        let client = self.client;
        self.act(move |at, clients| {
            let texts = texts.iter().map(|text| Message::Text(text));
            texts.map(|text| clients.send(at, client, text).expect("there is the client")).collect()
        })
    }

    pub fn flow(&mut self) -> FlowStats {
        let client = self.client;
        self.act(move |at, clients| clients.flow(at, client).expect("there is the client"))
    }

    pub fn stop(&mut self) {
        let client = self.client;
        self.act(move |_, clients| clients.stop(client));
    }

    pub fn app(&mut self) -> &mut App {
        self.reactor.handler().handler()
    }

    pub fn journal(&mut self) -> &mut Journal {
        &mut self.app().journal
    }

    pub fn writes(&self) -> u64 {
        self.sim.tries(Call::Send)
    }

    pub fn now(&self) -> Duration {
        self.sim.elapsed()
    }
}

/// A lost connection is back at once, or nearly.
pub fn soon() -> Reconnect {
    let mut reconnect = Reconnect::default();
    (reconnect.base, reconnect.jitter) = (Duration::from_millis(20), Jitter::None);
    reconnect.cap = Duration::from_millis(20);
    reconnect
}

pub const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The payloads of messages among frames, which are not fragmented.
pub fn payloads(frames: Vec<Frame>) -> Vec<String> {
    let messages = frames.into_iter().filter(|frame| frame.is_data());
    let texts = messages.map(|frame| {
        assert!(frame.fin && matches!(frame.opcode, TEXT | BINARY), "{frame:?}");
        String::from_utf8(frame.payload).expect("the test sends texts")
    });
    texts.collect()
}

/// What comes in, with the time.
pub fn arrivals(server: &mut SimServer) -> Vec<String> {
    payloads(server.plain_frames())
}

/// A text that begins with its number, of at least so many bytes.
pub fn numbered(number: usize, bytes: usize) -> String {
    let mut text = format!("{number:08} ");
    text.extend(std::iter::repeat_n('x', bytes.saturating_sub(text.len())));
    text
}

/// The number of such a text.
pub fn number(text: &str) -> usize {
    text[..8].parse().expect("it was numbered")
}
