//! Two endpoints and the faulty network between them, on one virtual clock.
//!
//! ```text
//!   client ── taken ──► [ in flight, delayed ] ── delivered in pieces ──► server
//!          ◄──────────── the same the other way ────────────────────────
//! ```
//!
//! Everything that happens follows from the seed.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use corewire::{Config, Event, LoopLimits, Transmit};

use super::endpoint::{Endpoint, Seen};
use super::rng::Rng;

/// What the network does to bytes.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// The most that a kernel holds in one direction; what is beyond is refused.
    pub in_flight_bytes_max: usize,
    /// The most that a kernel takes at once.
    pub taken_bytes_max: usize,
    /// The most that is delivered at once.
    pub delivered_bytes_max: usize,
    /// The longest that bytes are under way.
    pub delay_max: Duration,
}

impl Faults {
    pub fn random(rng: &mut Rng) -> Self {
        let bytes = [1, 7, 100, 1500, 65_536];
        Self {
            in_flight_bytes_max: [64, 3000, 20_000, 300_000][rng.below(4)],
            taken_bytes_max: bytes[1 + rng.below(4)],
            delivered_bytes_max: bytes[rng.below(5)],
            delay_max: Duration::from_millis([0, 1, 40, 300][rng.below(4)]),
        }
    }
}

/// One direction of the network.
#[derive(Default)]
struct Link {
    in_flight: VecDeque<(Instant, Vec<u8>)>,
    in_flight_bytes: usize,
    /// Nothing arrives before what was sent earlier.
    last_due: Option<Instant>,
}

/// One end of the pair and what became of it.
pub struct End {
    pub endpoint: Endpoint,
    pub seen: Vec<Seen>,
    /// Every byte that the network took from this end.
    pub written: Vec<u8>,
    /// From this end to the other.
    link: Link,
    /// The write side is shut, and whether the other end has heard of it.
    shut: Shut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shut {
    No,
    Sent,
    Heard,
}

pub struct Pair {
    pub ends: [End; 2],
    pub rng: Rng,
    faults: Faults,
    /// FNV-1a over everything that happened, in order.
    trace: u64,
}

impl Pair {
    pub fn new(seed: u64, faults: Faults, configs: [Config; 2]) -> Self {
        let mut number = 0;
        let start = Instant::now();
        let ends = configs.map(|config| {
            number += 1;
            let seed = seed.to_le_bytes()[0] ^ number;
            End {
                endpoint: Endpoint::starting_at(start, config, &LoopLimits::default(), seed),
                seen: Vec::new(),
                written: Vec::new(),
                link: Link::default(),
                shut: Shut::No,
            }
        });
        Self { ends, rng: Rng::new(seed), faults, trace: 0xCBF2_9CE4_8422_2325 }
    }

    /// The same with both ends changed before anything happens.
    pub fn map_endpoints(self, mut map: impl FnMut(Endpoint) -> Endpoint) -> Self {
        let ends = self.ends.map(|end| End { endpoint: map(end.endpoint), ..end });
        Self { ends, ..self }
    }

    pub fn trace(&self) -> u64 {
        self.trace
    }

    pub fn note(&mut self, what: &[u8]) {
        for byte in what.iter().chain(&(what.len() as u64).to_le_bytes()) {
            self.trace = (self.trace ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }

    /// Time passes for both ends; deadlines are judged after what has arrived.
    pub fn pass(&mut self, time: Duration) {
        for end in &mut self.ends {
            end.endpoint.pass(time);
        }
    }

    /// The kernel of `index` takes some of what that end wants written, or nothing.
    pub fn transmit(&mut self, index: usize) {
        let End { endpoint, link, written, shut, .. } = &mut self.ends[index];
        if endpoint.connection.queued_bytes() > 0 && *shut == Shut::No {
            let room = self.faults.in_flight_bytes_max.saturating_sub(link.in_flight_bytes);
            let bytes = endpoint.write(room.min(1 + self.rng.below(self.faults.taken_bytes_max)));
            let delay = self.faults.delay_max * self.rng.below(101) as u32 / 100;
            let due = (endpoint.now + delay).max(link.last_due.unwrap_or(endpoint.now));
            if !bytes.is_empty() {
                link.last_due = Some(due);
                link.in_flight_bytes += bytes.len();
                written.extend(&bytes);
                link.in_flight.push_back((due, bytes.clone()));
            }
            self.note(&bytes);
        }
        let End { endpoint, shut, .. } = &mut self.ends[index];
        if endpoint.connection.is_closed() && *shut == Shut::No {
            *shut = Shut::Sent;
        }
    }

    /// Delivers to `index` some of what is due, and the end of the stream behind it.
    pub fn deliver(&mut self, index: usize, act: impl FnMut(&Event<'_>, &mut Transmit<'_>)) {
        let now = self.ends[index].endpoint.now;
        let sender = &mut self.ends[1 - index];
        let mut bytes = Vec::new();
        let mut room = 1 + self.rng.below(self.faults.delivered_bytes_max);
        while let Some((due, piece)) = sender.link.in_flight.front_mut() {
            if *due > now || room == 0 {
                break;
            }
            let taken = piece.len().min(room);
            bytes.extend(piece.drain(..taken));
            room -= taken;
            if piece.is_empty() {
                sender.link.in_flight.pop_front();
            }
        }
        sender.link.in_flight_bytes -= bytes.len();
        let ends_here = sender.shut == Shut::Sent && sender.link.in_flight.is_empty();
        if ends_here {
            sender.shut = Shut::Heard;
        }
        let end = &mut self.ends[index];
        let seen = end.endpoint.receive_with(&bytes, act);
        if ends_here {
            let Endpoint { connection, pools, now, .. } = &mut end.endpoint;
            connection.handle_end_of_stream(*now, pools);
        }
        end.seen.extend(seen.iter().cloned());
        for event in seen {
            self.note(format!("{event:?}").as_bytes());
        }
    }

    /// Judges the deadlines of both ends.
    pub fn time_out(&mut self) {
        for index in 0..2 {
            let endpoint = &mut self.ends[index].endpoint;
            let due = endpoint.connection.poll_timeout(&endpoint.pools);
            if due.is_some_and(|due| due <= endpoint.now) {
                endpoint.advance(Duration::ZERO);
                self.note(b"time");
            }
        }
    }

    /// The connection breaks: what is in flight is lost, both ends are told.
    pub fn reset(&mut self) {
        for end in &mut self.ends {
            end.link = Link::default();
            end.shut = Shut::Heard;
            end.endpoint.connection.handle_transport_error(ErrorKind::ConnectionReset);
        }
    }

    pub fn is_over(&self) -> bool {
        self.ends.iter().all(|end| end.endpoint.connection.is_closed())
    }
}
