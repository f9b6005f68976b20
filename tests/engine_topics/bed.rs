//! A loop whose connections subscribe and publish as the test says.

use std::any::Any;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use corewire::{
    CloseSummary, Config, ConnectionId, Context, DrainReport, Dropped, Handler, ListenOptions,
    ListenerSettings, Loop, LoopLimits, Message, PreparedMessage, Published, Reactor,
    ReactorConfig, Role, TopicChange,
};

use crate::sim_net::{Sim, SimNet, SimPeer};
use crate::sim_peer::{TEXT, frames, split_head, upgrade_request};

type Act = Box<dyn FnOnce(&mut Loop<'_, ()>)>;

/// What a callback does besides writing down that it was called.
pub type Habit = fn(&mut Loop<'_, ()>, Occasion, Option<ConnectionId>);

/// Which callback it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    Open,
    Dropped,
    Topic,
    Drain,
    Close,
    Gone,
    Drained,
}

/// The application: writes down what it hears, and does what the test wants done.
#[derive(Default)]
pub struct App {
    script: VecDeque<Act>,
    pub habit: Option<Habit>,
    opened: Option<ConnectionId>,
    pub dropped: Vec<(ConnectionId, String, Dropped)>,
    pub topics: Vec<(String, TopicChange)>,
    pub drains: Vec<ConnectionId>,
    pub closes: Vec<(ConnectionId, CloseSummary)>,
}

impl App {
    fn act(&self, at: &mut Loop<'_, ()>, occasion: Occasion, id: Option<ConnectionId>) {
        if let Some(habit) = self.habit {
            habit(at, occasion, id);
        }
    }
}

impl Handler for App {
    type Data = ();

    fn on_open(&mut self, ctx: &mut Context<'_, ()>) {
        self.opened = Some(ctx.id());
        self.act(ctx, Occasion::Open, self.opened);
    }

    /// `subscribe TOPIC`, or else it is published to `all`.
    fn on_message(&mut self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
        let Message::Text(text) = message else { return };
        match text.strip_prefix("subscribe ") {
            Some(topic) => assert!(ctx.here().subscribe(topic).expect("a good name")),
            None => {
                ctx.publish("all", &PreparedMessage::text(text)).expect("a good name");
            }
        }
    }

    fn on_dropped(&mut self, ctx: &mut Context<'_, ()>, topic: &str, dropped: &Dropped) {
        let id = ctx.id();
        self.dropped.push((id, topic.into(), *dropped));
        self.act(ctx, Occasion::Dropped, Some(id));
    }

    fn on_topic(&mut self, at: &mut Loop<'_, ()>, topic: &str, change: TopicChange) {
        self.topics.push((topic.into(), change));
        self.act(at, Occasion::Topic, None);
    }

    fn on_drain(&mut self, ctx: &mut Context<'_, ()>) {
        let id = ctx.id();
        self.drains.push(id);
        self.act(ctx, Occasion::Drain, Some(id));
    }

    fn on_close(&mut self, ctx: &mut Context<'_, ()>, summary: &CloseSummary) {
        let id = ctx.id();
        self.closes.push((id, summary.clone()));
        self.act(ctx, Occasion::Close, Some(id));
    }

    fn on_gone(&mut self, at: &mut Loop<'_, ()>, id: ConnectionId) {
        self.act(at, Occasion::Gone, Some(id));
    }

    fn on_drained(&mut self, at: &mut Loop<'_, ()>, _: &DrainReport) {
        self.act(at, Occasion::Drained, None);
    }

    fn on_notice(&mut self, at: &mut Loop<'_, ()>, _: Box<dyn Any + Send>) {
        while let Some(act) = self.script.pop_front() {
            act(at);
        }
    }
}

pub struct Bed {
    pub reactor: Reactor<SimNet, App>,
    pub sim: Sim,
    address: SocketAddr,
}

/// A peer and the name of its connection.
pub struct Member {
    pub peer: SimPeer,
    pub id: ConnectionId,
}

impl Bed {
    pub fn new(change: impl FnOnce(&mut Config)) -> Self {
        Self::with_limits(LoopLimits::default(), change)
    }

    pub fn with_limits(limits: LoopLimits, change: impl FnOnce(&mut Config)) -> Self {
        let (net, sim) = SimNet::new(1, 256 << 10);
        let mut reactor_config = ReactorConfig::new([1; 32]);
        reactor_config.limits = limits;
        let mut reactor = Reactor::new(net, App::default(), reactor_config);
        let mut config = Config::new(Role::Server);
        config.heartbeat = None;
        change(&mut config);
        let any = SocketAddr::from(([10, 0, 0, 9], 0));
        let settings = ListenerSettings::new(config);
        let address = reactor.listen(any, &ListenOptions::default(), settings);
        let address = address.expect("nothing else listens").socket_addr();
        Self { reactor, sim, address: address.expect("it listens on an address") }
    }

    pub fn app(&mut self) -> &mut App {
        self.reactor.handler()
    }

    pub fn turn(&mut self) {
        self.sim.0.borrow_mut().idle_polls = 0;
        self.reactor.turn(Some(Duration::ZERO)).expect("polling never fails");
    }

    /// Runs `act` in a turn of the loop.
    pub fn act(&mut self, act: impl FnOnce(&mut Loop<'_, ()>) + 'static) {
        self.app().script.push_back(Box::new(act));
        self.reactor.handle().notify(()).expect("the mailbox has room");
        self.turn();
    }

    /// A peer whose opening handshake is over, with header lines of its own.
    pub fn open_with(&mut self, lines: &str) -> Member {
        let peer = self.sim.connect(self.address);
        peer.write_all(&upgrade_request("/", lines));
        (0..2).for_each(|_| self.turn());
        let answer = peer.read_all();
        let (head, _) = split_head(&answer).expect("the handshake was answered");
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let id = self.app().opened.take().expect("it has opened");
        Member { peer, id }
    }

    /// One that has subscribed.
    pub fn subscriber(&mut self, topic: &'static str) -> Member {
        let member = self.open_with("");
        let id = member.id;
        self.act(move |at| assert!(at.peer(id).subscribe(topic).expect("a good name")));
        member
    }

    /// Publishes texts in one turn; gives what the last one said.
    pub fn publish(&mut self, topic: &'static str, texts: &[String]) -> Published {
        let texts = texts.to_vec();
        let (tell, told) = std::sync::mpsc::channel();
        self.act(move |at| {
            for text in &texts {
                let published = at.publish(topic, &PreparedMessage::text(text));
                tell.send(published.expect("a good name")).expect("the test waits");
            }
        });
        told.try_iter().last().expect("one at least")
    }
}

/// The texts that wait for a peer, and nothing else.
pub fn texts(peer: &SimPeer) -> Vec<String> {
    let bytes = peer.read_all();
    let (frames, used) = frames(&bytes);
    assert_eq!(used, bytes.len(), "a torn frame at the end");
    let text = |frame: crate::sim_peer::Frame| {
        assert_eq!((frame.opcode, frame.fin), (TEXT, true));
        String::from_utf8(frame.payload).expect("a text")
    };
    frames.into_iter().map(text).collect()
}

/// All that ever comes, while the loop turns.
pub fn drain(bed: &mut Bed, member: &Member) -> Vec<crate::sim_peer::Frame> {
    let mut bytes = Vec::new();
    loop {
        let more = member.peer.read_all();
        if more.is_empty() {
            break;
        }
        bytes.extend(more);
        bed.turn();
        bed.turn();
    }
    let (frames, used) = frames(&bytes);
    assert_eq!(used, bytes.len(), "a torn frame at the end");
    frames
}

pub fn numbered(numbers: std::ops::Range<usize>, bytes: usize) -> Vec<String> {
    numbers.map(|number| format!("{number:05}{}", "x".repeat(bytes - 5))).collect()
}
