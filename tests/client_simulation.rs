//! Clients on a simulated network with every fault at once: servers of all kinds, an application
//! that stops, starts, removes and adds clients, and what must hold whatever happens.
//!
//! `CW_SEEDS=100000 cargo test --test client_simulation` runs more seeds than the usual ones;
//! `CW_SEED=17` runs one.
#![cfg(feature = "net")]
#![allow(dead_code, missing_docs)]

#[path = "support/layer_bed.rs"]
mod layer_bed;
#[path = "support/naive.rs"]
mod naive;
#[path = "support/rng.rs"]
mod rng;
#[path = "support/sim_errno.rs"]
mod sim_errno;
#[path = "support/sim_host.rs"]
mod sim_host;
#[path = "support/sim_link.rs"]
mod sim_link;
#[path = "support/sim_net.rs"]
mod sim_net;
#[path = "support/sim_poll.rs"]
mod sim_poll;
#[path = "support/sim_server.rs"]
mod sim_server;
#[path = "support/sim_world.rs"]
mod sim_world;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use corewire::{
    ClientId, ClientSettings, ClientState, Message, Outage, OutagePolicy, OverflowPolicy,
    StopReason, Submitted,
};

use layer_bed::{LayerBed, Told, exact};
use naive::{Frame, TEXT};
use rng::Rng;
use sim_host::Reply;
use sim_server::SimServer;
use sim_world::Faults;

const SEEDS: u64 = 1_000;
const STEPS: usize = 80;

/// One run.
struct Simulation {
    bed: LayerBed,
    rng: Rng,
    clients: Vec<ClientId>,
    servers: Vec<Server>,
    /// Messages given to clients so far; each says its number.
    given: u64,
    /// Of these, those that were taken.
    taken: BTreeSet<u64>,
}

/// The other end of a connection.
struct Server {
    end: SimServer,
    stage: Stage,
    /// Everything that arrived.
    arrived: Vec<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Asked,
    /// It was answered otherwise, or is gone.
    Refused,
    Open,
    /// It says nothing any more.
    Over,
}

fn one_of<T: Copy>(rng: &mut Rng, values: &[T]) -> T {
    values[rng.below(values.len())]
}

fn faults(rng: &mut Rng) -> Faults {
    let mut rate = |most: usize| if rng.one_in(2) { 0 } else { rng.below(most) as u32 };
    Faults {
        short_reads: rate(300),
        short_writes: rate(300),
        blocked_reads: rate(200),
        blocked_writes: rate(200),
        failed_reads: rate(10),
        failed_writes: rate(10),
        failed_connects: rate(200),
        failed_finishes: rate(200),
        slow_connects: rate(300),
        lost_connects: rate(100),
        partial_polls: rate(300),
        ..Faults::default()
    }
}

fn settings(rng: &mut Rng) -> ClientSettings {
    let mut outage = Outage::default();
    outage.messages_max = one_of(rng, &[0, 1, 3, 20, 1000]);
    outage.bytes_max = one_of(rng, &[500, 5_000, 1 << 20]);
    outage.age_max = Duration::from_millis(one_of(rng, &[0, 300, 3_000, 60_000]));
    outage.policy = one_of(rng, &[OutagePolicy::Refuse, OutagePolicy::DropOldest]);
    let (base, stable) = (one_of(rng, &[0, 50, 1000]), one_of(rng, &[0, 500, 60_000]));
    let tries_max = one_of(rng, &[None, Some(0), Some(3)]);
    let builder = exact(|reconnect| {
        reconnect.base = Duration::from_millis(base);
        reconnect.cap = Duration::from_secs(2);
        reconnect.stable_after = Duration::from_millis(stable);
        reconnect.tries_max = tries_max;
    });
    let high_water = one_of(rng, &[200, 5_000, 256 << 10]);
    let on_overflow = one_of(rng, &[OverflowPolicy::Fail, OverflowPolicy::Refuse]);
    let (interval, patience) = one_of(rng, &[(30_000, 90_000), (200, 700)]);
    let phase = Duration::from_millis(one_of(rng, &[100, 1_000, 10_000]));
    let builder =
        builder.outage(|it| *it = outage).redirects(rng.below(3) as u8).config(|config| {
            config.limits.high_water_bytes = high_water;
            config.limits.low_water_bytes = high_water / 4;
            config.limits.backpressure_bytes_max = 4 * high_water;
            config.on_overflow = on_overflow;
            config.close_timeout = Duration::from_millis(500);
            if let Some(heartbeat) = &mut config.heartbeat {
                heartbeat.ping_every = Duration::from_millis(interval);
                heartbeat.dead_after = Duration::from_millis(patience);
            }
        });
    let builder =
        builder.timeouts(|timeouts| (timeouts.connect, timeouts.upgrade) = (phase, phase));
    builder.build().expect("good settings")
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let bed = LayerBed::new(|settings| {
            settings.seed = seed;
            settings.reactor.limits.dials_per_turn = one_of(&mut rng, &[1, 2, 64]);
        });
        {
            let mut world = bed.sim.0.borrow_mut();
            world.faults = faults(&mut rng);
            world.poll_cost = Duration::from_micros(20);
            world.to_peer_max = one_of(&mut rng, &[300, 3_000, 4 << 20]);
            world.idle_polls_max = 64;
        }
        let (clients, servers, taken) = (Vec::new(), Vec::new(), BTreeSet::new());
        Self { bed, rng, clients, servers, given: 0, taken }
    }

    fn step(&mut self) {
        let client = match self.clients.len() {
            0 => None,
            count => Some(self.clients[self.rng.below(count)]),
        };
        match (self.rng.below(30), client) {
            (0..=2, _) if self.clients.len() < 8 => {
                let settings = settings(&mut self.rng);
                let id = self.bed.add(&settings);
                self.clients.push(id);
            }
            (0..=12, Some(id)) => {
                for _ in 0..self.rng.below(8) {
                    self.give(id);
                }
            }
            (13, Some(id)) => self.bed.ask(move |_, clients| clients.stop(id)),
            (14..=16, Some(id)) => self.bed.ask(move |_, clients| clients.start(id)),
            (17, Some(id)) => self.bed.ask(move |_, clients| {
                clients.stop(id);
                clients.start(id);
            }),
            // The name stays, as that of somebody who is gone.
            (18, Some(id)) => self.bed.ask(move |_, clients| clients.remove(id)),
            (19, _) => self.bed.host.reset_all(),
            (20, _) => self.bed.host.replies(match self.rng.below(4) {
                0 => Reply::Fail(sim_errno::ECONNREFUSED),
                1 => Reply::AcceptAfter(Duration::from_millis(30)),
                _ => Reply::Accept,
            }),
            (21, _) => self.bed.sim.advance(Duration::from_millis(self.rng.below(3000) as u64)),
            _ => {
                let time = Duration::from_micros(self.rng.below(400_000) as u64);
                self.bed.run_for(time);
            }
        }
        self.serve();
    }

    /// Gives a client a message.
    fn give(&mut self, id: ClientId) {
        self.given += 1;
        let number = self.given;
        let padding = "x".repeat(one_of(&mut self.rng, &[0, 10, 300, 3_000]));
        let text = format!("{number} {padding}");
        let submitted = self.bed.ask(move |at, clients| clients.send(at, id, Message::Text(&text)));
        let is_taken = match submitted {
            Some(Submitted::Given(outcome)) => outcome.is_taken(),
            Some(Submitted::Waiting { .. }) => true,
            Some(_) | None => false,
        };
        if is_taken {
            self.taken.insert(number);
        }
    }

    /// All servers do what they like.
    fn serve(&mut self) {
        self.bed.turn();
        while let Some(peer) = self.bed.host.next() {
            let end = SimServer::new(peer);
            self.servers.push(Server { end, stage: Stage::Asked, arrived: Vec::new() });
        }
        for server in &mut self.servers {
            server.act(&mut self.rng);
        }
        self.bed.turn();
    }

    /// All of it comes to its end, and is judged.
    fn finish(mut self) {
        self.bed.sim.0.borrow_mut().faults = Faults::default();
        for _ in 0..2 {
            self.bed.ask(|_, clients| {
                let all: Vec<_> = clients.iter().collect();
                all.into_iter().for_each(|id| clients.remove(id));
            });
            self.bed.run_for(Duration::from_secs(2));
        }
        self.serve();
        self.bed.run_for(Duration::from_secs(20));
        for server in &mut self.servers {
            server.read();
            server.end.peer.reset();
        }
        self.bed.assert_empty();
        assert_eq!(self.bed.reactor.handler().clients().iter().count(), 0);
        let told = self.bed.events();
        judge_connections(&told);
        judge_states(&told);
        self.judge_messages(&told);
    }

    /// What was taken was handed to the kernel, or counted by a summary, or reported.
    fn judge_messages(&self, told: &[Told]) {
        let mut reported = BTreeSet::new();
        let mut counted = 0;
        for told in told {
            match told {
                Told::Unsent(_, _, payload, _) => {
                    assert!(reported.insert(number(payload)), "it is reported once");
                }
                Told::Close(_, summary) => counted += summary.unsent_messages,
                _ => {}
            }
        }
        let mut handed_over = BTreeSet::new();
        for server in &self.servers {
            let own = handed_over_numbers(&server.end.peer.handed_over());
            assert!(own.is_sorted_by(|one, other| one < other), "in order: {own:?}");
            assert!(own.starts_with(&server.arrived), "what arrives is a prefix of it");
            for number in own {
                assert!(handed_over.insert(number), "{number} goes over one connection");
            }
        }
        assert!(handed_over.is_subset(&self.taken) && reported.is_subset(&self.taken));
        assert!(handed_over.is_disjoint(&reported), "what is reported was not sent");
        let known = (handed_over.len() + reported.len()) as u64 + counted;
        assert_eq!(known, self.taken.len() as u64, "{} handed over", handed_over.len());
    }
}

impl Server {
    fn read(&mut self) {
        if matches!(self.stage, Stage::Asked | Stage::Refused) {
            return;
        }
        for frame in self.end.frames() {
            match frame.opcode {
                TEXT => self.arrived.push(number(&frame.payload)),
                naive::PING if self.stage == Stage::Open => {
                    self.end.send(&Frame::pong(&frame.payload));
                }
                _ => {}
            }
        }
    }

    fn act(&mut self, rng: &mut Rng) {
        match (self.stage, rng.below(40)) {
            (Stage::Asked, 0) => self.over(|peer| peer.fin()),
            (Stage::Asked, 1) => self.over(|peer| peer.reset()),
            (Stage::Asked, choice @ 2..=8) => {
                let status = [403, 404, 429, 500, 503, 301, 302][choice - 2];
                if self.end.request().is_some() {
                    let head = format!(
                        "HTTP/1.1 {status} No\r\nRetry-After: 1\r\nLocation: /x\r\n\
                         Content-Length: 2\r\n\r\nno"
                    );
                    self.end.peer.write(head.as_bytes());
                    self.stage = Stage::Refused;
                }
            }
            (Stage::Asked, 9..=30) => {
                if let Some(request) = self.end.request() {
                    self.end.peer.write(&request.switching(""));
                    self.stage = Stage::Open;
                }
            }
            (Stage::Open, 0) => self.over(|peer| peer.fin()),
            (Stage::Open, 1) => self.over(|peer| peer.reset()),
            (Stage::Open, 2) => {
                let code = one_of(rng, &[1000, 1001, 1008, 1011, 1012, 4000]);
                self.end.send(&Frame::close(code, ""));
                self.read();
                self.stage = Stage::Over;
            }
            (Stage::Open, 3) => {
                self.end.peer.write(&Frame::text("hm").masked([1, 2, 3, 4]).encode());
            }
            (Stage::Open, 4..=10) => {
                self.end.peer.write(&Frame::text("hello").encode());
            }
            (Stage::Open, 11..=34) => self.read(),
            _ => {}
        }
    }

    fn over(&mut self, end: impl FnOnce(&sim_net::SimPeer)) {
        self.read();
        end(&self.end.peer);
        self.stage = if self.stage == Stage::Asked { Stage::Refused } else { Stage::Over };
    }
}

fn number(payload: &[u8]) -> u64 {
    let text = std::str::from_utf8(payload).expect("a text");
    let (number, _) = text.split_once(' ').expect("it begins with its number");
    number.parse().expect("a number")
}

/// The whole messages behind the request's head.
fn handed_over_numbers(bytes: &[u8]) -> Vec<u64> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Vec::new();
    };
    let (frames, _) = naive::parse(&bytes[end + 4..]);
    let texts = frames.iter().filter(|frame| frame.opcode == TEXT);
    texts.map(|frame| number(&frame.payload)).collect()
}

/// Each connection opens once, and closes once, and what it says is in between.
fn judge_connections(told: &[Told]) {
    let mut lives = HashMap::new();
    for told in told {
        match told {
            Told::Open(id) => assert_eq!(lives.insert(*id, true), None, "it opens once"),
            Told::Text(id, _) | Told::Drain(id) | Told::Pong(id, _) => {
                assert_eq!(lives.get(id), Some(&true), "it is open");
            }
            Told::Close(id, _) => {
                assert_eq!(lives.insert(*id, false), Some(true), "it closes once")
            }
            _ => {}
        }
    }
    assert!(lives.values().all(|is_open| !is_open), "all are closed");
}

/// Each client goes from state to state as the diagram says, and its end is told once each time.
fn judge_states(told: &[Told]) {
    use ClientState::*;
    let mut states: BTreeMap<String, (ClientState, usize)> = BTreeMap::new();
    for told in told {
        match told {
            Told::Change(id, state, ..) => {
                let (before, stops) = states.entry(format!("{id:?}")).or_insert((Disconnected, 0));
                assert_eq!(*stops, 0, "the stop is told before anything else is");
                let is_right = matches!(
                    (*before, *state),
                    (Disconnected | RetryPending, Connecting)
                        | (Connecting, Connected)
                        | (Connecting | Connected, RetryPending)
                        | (Connecting | Connected | RetryPending, Disconnected)
                );
                assert!(is_right, "{before:?} to {state:?}");
                (*before, *stops) = (*state, usize::from(*state == Disconnected));
            }
            Told::Stop(id, reason) => {
                let (state, stops) = states.get_mut(&format!("{id:?}")).expect("it was on its way");
                assert_eq!((*state, *stops), (Disconnected, 1), "{reason:?}");
                *stops = 0;
                let _: StopReason = *reason;
            }
            _ => {}
        }
    }
    let is_at_rest = |(state, stops): &(ClientState, usize)| (*state, *stops) == (Disconnected, 0);
    assert!(states.values().all(is_at_rest), "{states:?}");
}

fn run(seed: u64) {
    let mut simulation = Simulation::new(seed);
    for _ in 0..STEPS {
        simulation.step();
    }
    simulation.finish();
}

#[test]
fn every_seed_keeps_every_promise_to_clients() {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    if let Some(seed) = number("CW_SEED") {
        return run(seed);
    }
    for seed in 0..number("CW_SEEDS").unwrap_or(SEEDS) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
            println!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
