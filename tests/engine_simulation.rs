//! The whole engine on a simulated network: many peers of all kinds, every fault at once, and what
//! must hold whatever happens.
//!
//! `CW_SEEDS=100000 cargo test --test engine_simulation` runs more seeds than the usual ones;
//! `CW_SEED=17` runs one.
#![cfg(feature = "net")]
#![allow(dead_code, missing_docs)]

#[path = "engine_simulation/actor.rs"]
mod actor;
#[path = "engine_simulation/compressing.rs"]
mod compressing;
#[path = "engine_simulation/crowd.rs"]
mod crowd;
#[path = "engine_simulation/deciding.rs"]
mod deciding;
#[path = "engine_simulation/dice.rs"]
mod dice;

#[cfg(feature = "deflate")]
#[path = "support/deflated.rs"]
mod deflated;
#[path = "support/sim_errno.rs"]
mod sim_errno;
#[path = "support/sim_host.rs"]
mod sim_host;
#[path = "support/sim_link.rs"]
mod sim_link;
#[path = "support/sim_net.rs"]
mod sim_net;
#[path = "support/sim_peer.rs"]
mod sim_peer;
#[path = "support/sim_poll.rs"]
mod sim_poll;
#[path = "support/sim_world.rs"]
mod sim_world;

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use corewire::{
    CloseCause, CloseCode, Config, Delivery, Heartbeat, Initiator, ListenOptions, ListenerSettings,
    OverflowPolicy, PanicPolicy, Reactor, ReactorConfig, Role, Usage,
};

use actor::{Actor, Script};
use compressing::{Compressing, Inflating};
use crowd::{Crowd, Ledger, Record, SharedLedger};
use deciding::Deciding;
use dice::Dice;
use sim_link::End;
use sim_net::{Sim, SimNet};
use sim_peer::Frame;
use sim_world::Faults;

const SEEDS: u64 = 2_000;
const MESSAGE_BYTES_MAX: usize = 40_000;

/// One run: the engine, its peers and what is known of both.
struct Simulation {
    reactor: Reactor<SimNet, Crowd>,
    sim: Sim,
    address: SocketAddr,
    ledger: SharedLedger,
    actors: Vec<Actor>,
    /// Those who have not connected yet, with their numbers.
    coming: Vec<(u16, Script)>,
    dice: Dice,
    deciding: Deciding,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let receive_buffer_bytes = dice.one_of(&[64, 512, 4096, 70_000]);
        let (net, sim) = SimNet::new(seed, receive_buffer_bytes);
        sim.0.borrow_mut().faults = faults(&mut dice);
        sim.0.borrow_mut().poll_cost = Duration::from_micros(20);
        // A message may be inflated over many turns of a small budget, which nobody is told of.
        sim.0.borrow_mut().idle_polls_max = 400;
        let config = connection_config(&mut dice);
        let queued_bytes_max = config.limits.backpressure_bytes_max
            + MESSAGE_BYTES_MAX
            + config.limits.control_bytes_max
            + 1000;
        let peers = 1 + dice.below(8);
        let scripts: Vec<Script> = (0..peers)
            .map(|_| {
                let compressing = Compressing::with(&config, &mut dice);
                Script::write(&mut dice, compressing)
            })
            .collect();
        let ledger = Ledger::new(peers, queued_bytes_max);
        let crowd = Crowd::new(ledger.clone(), sim.clone());
        let mut reactor = Reactor::new(net, crowd, loop_config(&mut dice));
        let any = SocketAddr::from(([10, 0, 0, 9], 0));
        let settings = ListenerSettings::new(config);
        let address = reactor.listen(any, &ListenOptions::default(), settings);
        let address = address.expect("nothing else listens").socket_addr();
        let address = address.expect("it listens on an address");
        let coming = (0..).zip(scripts).collect();
        let (actors, deciding) = (Vec::new(), Deciding::default());
        Self { reactor, sim, address, ledger, actors, coming, dice, deciding }
    }

    fn run(&mut self) -> u64 {
        for _ in 0..250 {
            self.step();
        }
        self.calm_down();
        self.end();
        self.judge();
        self.sim.trace()
    }

    /// Peers come, all act, the engine turns.
    fn step(&mut self) {
        if self.dice.chance(30)
            && let Some((number, script)) = self.coming.pop()
        {
            self.connect(number, script);
        }
        for actor in &mut self.actors {
            actor.act();
        }
        if self.dice.chance(1) {
            self.command();
        }
        if self.dice.chance(10) {
            self.deciding.decide_one(&self.reactor.handle(), &self.ledger, &mut self.dice);
        }
        if self.dice.chance(1) {
            self.sim.advance(Duration::from_secs(self.dice.below(20) as u64));
        }
        let timeout = self.dice.one_of(&[0, 0, 100, 1000, 1000, 20_000, 300_000]);
        self.turn(Duration::from_micros(timeout));
    }

    fn connect(&mut self, number: u16, script: Script) {
        self.ledger.borrow_mut().records[usize::from(number)].expected =
            script.messages.iter().cloned().collect();
        let address = SocketAddr::from(([10, 0, 0, 1], number));
        let peer = self.sim.connect_from(self.address, address).expect("the backlog has room");
        self.actors.push(Actor::new(peer, script, self.dice.split()));
    }

    /// Another thread says something.
    fn command(&mut self) {
        let handle = self.reactor.handle();
        let records = &self.ledger.borrow().records;
        let Some(id) = records[self.dice.below(records.len())].id else { return };
        match self.dice.below(2) {
            0 => handle.close(id, CloseCode::GOING_AWAY, "from outside"),
            _ => handle.abort(id),
        }
        .expect("the mailbox has room");
    }

    fn turn(&mut self, timeout: Duration) {
        if timeout.is_zero() {
            // It is the test that does not wait here, not the loop.
            self.sim.0.borrow_mut().idle_polls = 0;
        }
        self.reactor.turn(Some(timeout)).expect("polling never fails");
        let usage = self.reactor.usage();
        let ledger = self.ledger.borrow();
        assert!(ledger.violations.is_empty(), "{:?}", ledger.violations);
        let open =
            ledger.records.iter().filter(|record| record.opened == 1 && record.closes.is_empty());
        assert_eq!(usage.open, open.count(), "open connections");
        assert_eq!(usage.sockets, self.sim.sockets(), "sockets held");
        assert!(usage.backlogs <= usage.sockets && usage.assemblies <= 2 * usage.sockets);
    }

    /// The faults are over and every peer reads: what waits must move on by itself.
    fn calm_down(&mut self) {
        self.sim.0.borrow_mut().faults = Faults::default();
        while let Some((number, script)) = self.coming.pop() {
            self.connect(number, script);
        }
        for _ in 0..10_000 {
            self.actors.iter_mut().for_each(Actor::hurry);
            self.deciding.decide_all(&self.reactor.handle(), &self.ledger);
            let before = (self.sim.elapsed(), self.sim.0.borrow().progress);
            self.turn(Duration::from_millis(3));
            let waited = self.sim.elapsed() - before.0 > Duration::from_millis(3);
            let is_quiet = waited && self.sim.0.borrow().progress == before.1;
            if is_quiet && self.actors.iter().all(Actor::is_done) {
                break;
            }
        }
        let ledger = self.ledger.borrow();
        for actor in &self.actors {
            let number = usize::from(actor.peer.address().port());
            let record = &ledger.records[number];
            let answers = sim_peer::answers(&actor.peer.handed_over()).len();
            let is_over = actor.peer.end_seen() != End::None;
            assert!(is_over || answers >= record.asked.len(), "{number}: an answer is missing");
            let is_paused = record.id.is_some_and(|id| ledger.paused.contains(&id));
            if record.opened == 1 && record.closes.is_empty() && !is_paused {
                assert_eq!(record.delivered, actor.said(), "{number}: input waits for ever");
                let handed_over = actor.peer.handed_over();
                let frames = behind_handshake(&handed_over).expect("it is open");
                let (frames, used) = sim_peer::frames(frames);
                let arrived = messages(&frames).len();
                assert_eq!(arrived, record.taken.len(), "{number}: output waits for ever");
                assert_eq!(used, frames_bytes(&handed_over), "{number}: a frame stays torn");
            }
        }
    }

    /// Everyone goes or is told to, and nothing may be left.
    fn end(&mut self) {
        let is_shutdown = self.dice.chance(25);
        if is_shutdown {
            let deadline = Duration::from_secs(self.dice.below(10) as u64);
            self.reactor.handle().shutdown(deadline).expect("the mailbox has room");
        } else {
            self.actors.iter_mut().for_each(Actor::go);
        }
        for _ in 0..10_000 {
            // A paused connection does not see its peer go.
            for id in self.ledger.borrow_mut().paused.drain(..) {
                self.reactor.handle().abort(id).expect("the mailbox has room");
            }
            self.turn(Duration::from_secs(1));
            self.actors.iter().for_each(|actor| drop(actor.peer.read_all()));
            if self.usage() == Usage::default() && self.sim.waiting() == 0 {
                break;
            }
        }
        assert_eq!(self.reactor.is_finished(), is_shutdown);
    }

    /// What the loop holds, but for what its pools keep.
    fn usage(&self) -> Usage {
        let mut usage = self.reactor.usage();
        usage.pinned_bytes = 0;
        usage.retained_bytes = 0;
        usage
    }

    fn judge(&mut self) {
        assert_eq!(self.usage(), Usage::default(), "something is left");
        self.deciding.judge(&self.reactor.counters());
        let ledger = self.ledger.borrow();
        let world = self.sim.0.borrow();
        for link in &world.links {
            let number = link.address.socket_addr().map_or(0, |peer| usize::from(peer.port()));
            let record = &ledger.records[number];
            deciding::judge_answers(&record.asked, &link.handed_over);
            judge_peer(number, record, &link.handed_over);
        }
    }
}

/// What the kernel was given for a peer is exactly what was taken for it, as far as it goes, and the
/// summary tells how much is missing.
fn judge_peer(number: usize, record: &Record, handed_over: &[u8]) {
    assert_eq!(record.closes.len() as u32, record.opened, "{number}: on_open and on_close");
    let Some(frames) = behind_handshake(handed_over) else {
        assert!(record.taken.is_empty() || record.closes[0].unsent_bytes > 0);
        return;
    };
    let (frames, used) = sim_peer::frames(frames);
    let arrived = messages(&frames);
    let Some(summary) = record.closes.first() else {
        assert_eq!(used, 0, "{number}: frames without a connection");
        return;
    };
    let taken = &record.taken;
    assert!(arrived.len() <= taken.len(), "{number}: more arrived than was taken");
    assert!(arrived == taken[..arrived.len()], "{number}: another message than was taken");
    let accounted = arrived.len() as u64 + summary.unsent_messages;
    assert_eq!(accounted, taken.len() as u64, "{number}: {summary:?}");
    if summary.cause == CloseCause::ClosingHandshake {
        assert_eq!((summary.unsent_messages, summary.unsent_bytes), (0, 0), "{number}");
        let last = frames.last().expect("a clean end has a Close");
        assert_eq!(last.opcode, sim_peer::CLOSE, "{number}: {last:?}");
        if summary.initiator == Initiator::Peer {
            assert!(record.expected.is_empty(), "{number}: messages were not delivered");
        }
    }
}

/// The whole messages among frames, with their opcodes.
fn messages(frames: &[Frame]) -> Vec<(u8, Vec<u8>)> {
    let mut inflating = Inflating::default();
    sim_peer::messages_inflated(frames, |payload| inflating.inflate(payload))
}

/// What follows the 101; `None` if none was sent whole.
fn behind_handshake(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        let (head, rest) = sim_peer::split_head(bytes)?;
        if head.starts_with("HTTP/1.1 101 ") {
            return Some(rest);
        }
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "))?;
        bytes = rest.get(length.parse().ok()?..)?;
    }
}

fn frames_bytes(handed_over: &[u8]) -> usize {
    behind_handshake(handed_over).map_or(0, <[u8]>::len)
}

fn faults(dice: &mut Dice) -> Faults {
    let mut rate = |choices: &[u32]| dice.one_of(choices);
    Faults {
        short_reads: rate(&[0, 50, 500]),
        short_writes: rate(&[0, 50, 500]),
        blocked_reads: rate(&[0, 50, 300]),
        blocked_writes: rate(&[0, 50, 300]),
        failed_reads: rate(&[0, 0, 2]),
        failed_writes: rate(&[0, 0, 2]),
        failed_accepts: rate(&[0, 0, 300]),
        failed_registrations: rate(&[0, 0, 100]),
        partial_polls: rate(&[0, 300]),
        // Here nobody connects out.
        ..Faults::default()
    }
}

fn connection_config(dice: &mut Dice) -> Config {
    let mut config = Config::new(Role::Server);
    config.limits.message_bytes_max = MESSAGE_BYTES_MAX as u64;
    config.limits.backpressure_bytes_max = dice.one_of(&[2_000, 16_000, 200_000]);
    config.limits.high_water_bytes = dice.one_of(&[500, 4_000, 30_000]);
    config.limits.low_water_bytes = dice.one_of(&[0, 100, 400]);
    config.limits.control_bytes_max = dice.one_of(&[200, 2_000]);
    Compressing::configure(&mut config, dice);
    if dice.chance(25) {
        config.delivery = Delivery::Streaming;
    }
    if dice.chance(50) {
        config.on_overflow = OverflowPolicy::Refuse;
    }
    if dice.chance(50) {
        let ping_every = Duration::from_millis(dice.one_of(&[10, 500, 5_000]));
        config.heartbeat = Some(Heartbeat { ping_every, dead_after: 3 * ping_every });
    }
    config
}

fn loop_config(dice: &mut Dice) -> ReactorConfig {
    let mut config = ReactorConfig::new([7; 32]);
    // Always, so that a handler may panic in any run.
    config.panics = PanicPolicy::CloseConnection;
    config.limits.turn_bytes_max = dice.one_of(&[100, 4_000, 256_000]);
    config.limits.turn_messages_max = dice.one_of(&[1, 3, 1_024]);
    config.limits.accepts_per_turn = dice.one_of(&[1, 2, 256]);
    config.limits.ring_bytes = dice.one_of(&[64, 1_024, 16_384]);
    if dice.chance(15) {
        config.limits.rings_max = 1 + dice.below(20);
        config.limits.block_bytes_max = 20_000;
        config.limits.segments_max = 1 + dice.below(30);
    }
    if dice.chance(15) {
        config.limits.connections_max = 2;
    }
    config
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn every_seed_keeps_every_promise() {
    let seeds = match number("CW_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CW_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        let run = || Simulation::new(seed).run();
        let trace = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
            panic!("seed {seed} failed: CW_SEED={seed} cargo test --test engine_simulation")
        });
        if seed % 20 == 0 {
            assert_eq!(Simulation::new(seed).run(), trace, "seed {seed} ran otherwise again");
        }
    }
}
