//! Several peers at once, all of TLS, with every fault: what is echoed is what was said, as far as it
//! goes, and nobody leaves anything.
//!
//! `CW_SEEDS=10000 cargo test --features tls --test engine_tls simulation` runs more seeds than the
//! usual ones; `CW_SEED=17` runs one. Randomness of TLS itself changes no sizes, so a seed is told
//! the same again.

use std::sync::Arc;
use std::time::Duration;

use corewire::{CloseCause, Tls};
use rustls::ClientConfig;

use crate::sim_bed::{Bed, Heard, echo};
use crate::sim_net::Sim;
use crate::sim_peer::{BINARY, close, frames, message, messages, split_head, upgrade_request};
use crate::sim_world::Faults;
use crate::tls_peer::{Identity, TlsPeer, VERSIONS, client_config, server_tls};

const SEEDS: u64 = 200;

/// How a peer leaves when it has said everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    Politely,
    /// A Close and a close_notify, and its side is shut at once.
    InOneBreath,
    /// A close_notify and no Close.
    HalfClosing,
    CutOff,
    Resetting,
    BadRecord,
}

const LEAVINGS: [Leaving; 6] = [
    Leaving::Politely,
    Leaving::InOneBreath,
    Leaving::HalfClosing,
    Leaving::CutOff,
    Leaving::Resetting,
    Leaving::BadRecord,
];

struct Actor {
    peer: TlsPeer,
    /// Records that this end's kernel did not take yet.
    waiting: Vec<u8>,
    messages: Vec<Vec<u8>>,
    said: usize,
    leaving: Leaving,
    has_left: bool,
    read_max: usize,
}

impl Actor {
    fn new(bed: &Bed, client: &Arc<ClientConfig>) -> Self {
        let sim = &bed.sim;
        let mut peer = TlsPeer::connect(bed, client);
        peer.socket.set_buffers(
            [50, 1000, 100_000][below(sim, 3)],
            [30, 1000, 20_000, 200_000][below(sim, 4)],
        );
        peer.say(&upgrade_request("/", ""));
        let count = below(sim, 12);
        let messages = (0..count)
            .map(|_| {
                let bytes = below(sim, [10, 130, 3000, 40_000][below(sim, 4)]);
                (0..bytes).map(|at| (at % 253) as u8).collect()
            })
            .collect();
        let leaving = LEAVINGS[below(sim, LEAVINGS.len())];
        let read_max = [3, 100, 5000, 1 << 20][below(sim, 4)];
        Self { peer, waiting: Vec::new(), messages, said: 0, leaving, has_left: false, read_max }
    }

    /// Says some, reads some.
    fn act(&mut self, sim: &Sim) {
        self.waiting.extend(self.peer.outgoing());
        if self.waiting.is_empty() && !self.peer.tls.is_handshaking() {
            if let Some(next) = self.messages.get(self.said) {
                self.waiting = self.peer.records_of(&message(BINARY, next));
                self.said += 1;
            } else if !self.has_left {
                self.leave();
            }
        }
        if !self.waiting.is_empty() {
            let offered = 1 + below(sim, self.waiting.len());
            let written = self.peer.socket.write(&self.waiting[..offered]);
            self.waiting.drain(..written);
        }
        if self.has_left && self.waiting.is_empty() {
            match self.leaving {
                Leaving::InOneBreath | Leaving::CutOff => self.peer.socket.fin(),
                Leaving::Resetting => self.peer.socket.reset(),
                Leaving::Politely | Leaving::HalfClosing | Leaving::BadRecord => {}
            }
        }
        self.peer.pull_at_most(1 + below(sim, self.read_max));
        if self.peer.socket.is_at_end() {
            self.peer.socket.fin();
        }
    }

    fn leave(&mut self) {
        self.has_left = true;
        match self.leaving {
            Leaving::Politely => self.peer.say(&close(1000)),
            Leaving::InOneBreath => {
                self.peer.say(&close(1000));
                self.peer.tls.send_close_notify();
            }
            Leaving::HalfClosing => self.peer.tls.send_close_notify(),
            Leaving::CutOff | Leaving::Resetting => {}
            Leaving::BadRecord => {
                self.waiting = self.peer.records_of(&message(BINARY, b"bad"));
                *self.waiting.last_mut().unwrap() ^= 1;
                self.waiting.extend([0; 3000]);
            }
        }
        self.waiting.extend(self.peer.outgoing());
    }

    /// What came back is what was said, as far as it goes.
    fn judge(&self) -> usize {
        let Some((head, rest)) = split_head(&self.peer.received) else { return 0 };
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let echoed = messages(&frames(rest).0);
        assert!(echoed.len() <= self.said);
        let same = echoed.iter().zip(&self.messages).all(|(echo, said)| echo.1 == *said);
        assert!(same, "another message than was said");
        echoed.len()
    }
}

fn below(sim: &Sim, bound: usize) -> usize {
    sim.0.borrow_mut().random(bound)
}

fn bed(seed: u64, tls: Tls) -> Bed {
    let one_of = |choices: &[usize], shift: u64| choices[(seed >> shift) as usize % choices.len()];
    let change = |settings: &mut crate::sim_bed::Settings| {
        settings.tls = Some(tls);
        settings.receive_buffer_bytes = one_of(&[64, 4096, 70_000], 0);
        let limits = &mut settings.reactor.limits;
        limits.receive_buffer_bytes = settings.receive_buffer_bytes;
        limits.tls_handshakes_per_turn = one_of(&[1, 3, 16], 1) as u32;
        limits.turn_bytes_max = one_of(&[100, 4000, 256_000], 2);
        limits.turn_messages_max = one_of(&[1, 3, 1024], 3) as u32;
        limits.ring_bytes = one_of(&[64, 1024, 16_384], 4);
        settings.config.limits.high_water_bytes = one_of(&[500, 4000, 256_000], 5);
        settings.config.limits.low_water_bytes = 400;
        settings.config.limits.backpressure_bytes_max = 4 << 20;
    };
    let bed = Bed::new(change, echo);
    let mut world = bed.sim.0.borrow_mut();
    (0..seed).for_each(|_| _ = world.random(2));
    world.poll_cost = Duration::from_micros(20);
    world.idle_polls_max = 400;
    world.faults = Faults {
        short_reads: one_of(&[0, 50, 500], 0) as u32,
        short_writes: one_of(&[0, 50, 500], 1) as u32,
        blocked_reads: one_of(&[0, 50, 300], 2) as u32,
        blocked_writes: one_of(&[0, 50, 300], 3) as u32,
        failed_reads: one_of(&[0, 0, 0, 2], 4) as u32,
        failed_writes: one_of(&[0, 0, 0, 2], 4) as u32,
        partial_polls: one_of(&[0, 300], 2) as u32,
        ..Faults::default()
    };
    drop(world);
    bed
}

fn simulate(seed: u64, tls: &Tls, clients: &[Arc<ClientConfig>]) {
    let mut bed = bed(seed, tls.clone());
    let count = 1 + below(&bed.sim, 6);
    let mut actors: Vec<_> =
        (0..count).map(|_| Actor::new(&bed, &clients[below(&bed.sim, clients.len())])).collect();
    for _ in 0..300 {
        let sim = bed.sim.clone();
        actors.iter_mut().for_each(|actor| actor.act(&sim));
        bed.reactor.turn(Some(Duration::from_micros(300))).unwrap();
    }
    let has_failed = bed.sim.0.borrow().faults.failed_reads > 0;
    bed.sim.0.borrow_mut().faults = Faults::default();
    for actor in &mut actors {
        actor.peer.socket.set_buffers(1 << 20, 1 << 20);
        actor.read_max = 1 << 20;
    }
    for _ in 0..2000 {
        let sim = bed.sim.clone();
        actors.iter_mut().for_each(|actor| actor.act(&sim));
        bed.reactor.turn(Some(Duration::from_millis(3))).unwrap();
        if bed.reactor.usage().sockets == 0 {
            break;
        }
    }
    for actor in &mut actors {
        actor.peer.pull();
        let echoed = actor.judge();
        if has_failed {
            continue;
        }
        match actor.leaving {
            Leaving::Politely | Leaving::InOneBreath | Leaving::HalfClosing => {
                assert_eq!(echoed, actor.messages.len(), "{:?}", actor.leaving);
                assert!(actor.peer.is_ended, "{:?}: {:?}", actor.leaving, actor.peer.failure);
            }
            Leaving::BadRecord => assert!(actor.peer.alert().is_some()),
            Leaving::CutOff | Leaving::Resetting => assert!(!actor.peer.is_ended),
        }
    }
    bed.assert_empty();
    for entry in bed.log.borrow().iter() {
        if let Heard::Close(summary) = &entry.heard
            && summary.cause == CloseCause::ClosingHandshake
        {
            assert_eq!((summary.unsent_messages, summary.unsent_bytes), (0, 0));
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn every_seed_over_tls_keeps_every_promise() {
    let identity = Identity::ed25519(&["example.com"]);
    let tls = server_tls(&[&identity]);
    let clients = VERSIONS.map(|version| Arc::new(client_config(&[&identity], version)));
    let seeds = match number("CW_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CW_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        let run = std::panic::AssertUnwindSafe(|| simulate(seed, &tls, &clients));
        std::panic::catch_unwind(run).unwrap_or_else(|_| panic!("seed {seed} failed"));
    }
}
