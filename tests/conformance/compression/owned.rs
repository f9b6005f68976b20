//! §7.1.1: what connections own between messages, and that it goes back.

use std::io::IoSlice;
use std::sync::Arc;
use std::time::Instant;

use corewire::{Connection, LoopLimits, NoSink, Pools, PoolsInUse, Transmit};

use super::super::support::deflated::{Compressor, compressed};
use super::super::support::naive;
use super::*;

/// Many connections of one end over the same pools.
pub struct Crowd {
    connections: Vec<Option<Connection>>,
    pools: Pools,
    now: Instant,
    config: Arc<Config>,
}

impl Crowd {
    pub fn new(role: Role, compression: &Compression, count: usize) -> Self {
        Self::limited(role, compression, count, &LoopLimits::default())
    }

    pub fn limited(
        role: Role,
        compression: &Compression,
        count: usize,
        limits: &LoopLimits,
    ) -> Self {
        let now = Instant::now();
        let mut config = Config::new(role);
        config.compression = compression.clone();
        let pools = Pools::new(limits, now, [0; 32]);
        let mut crowd = Self { connections: Vec::new(), pools, now, config: Arc::new(config) };
        for _ in 0..count {
            crowd.push();
        }
        crowd
    }

    /// One more connection: its number.
    pub fn push(&mut self) -> usize {
        let agreement = agreed::alike(&self.config.compression);
        let connection = Connection::new(Arc::clone(&self.config), self.now, &self.pools);
        self.connections.push(Some(connection.with_compression(&agreement)));
        self.connections.len() - 1
    }

    fn get(&mut self, number: usize) -> (&mut Connection, &mut Pools, Instant) {
        let connection = self.connections[number].as_mut().expect("not finished");
        (connection, &mut self.pools, self.now)
    }

    pub fn receive(&mut self, number: usize, frame: &Frame) -> Vec<Seen> {
        let mut wire = match self.config.role {
            Role::Server => frame.clone().masked(KEY).encode(),
            Role::Client => frame.encode(),
        };
        let (connection, pools, now) = self.get(number);
        let mut events = connection.handle_input(&mut wire, now, pools);
        let mut seen = Vec::new();
        while let Some((event, _)) = events.next() {
            seen.push(Seen::of(&event));
        }
        seen
    }

    pub fn act<R>(&mut self, number: usize, act: impl FnOnce(&mut Transmit<'_>) -> R) -> R {
        let (connection, pools, now) = self.get(number);
        act(&mut connection.transmit(now, pools, &mut NoSink))
    }

    /// What the connection has queued, as frames.
    pub fn write_frames(&mut self, number: usize) -> Vec<Frame> {
        let (connection, pools, now) = self.get(number);
        let mut written = Vec::new();
        while connection.queued_bytes() > 0 {
            let before = written.len();
            let mut slices = [IoSlice::new(&[]); 64];
            let count = connection.poll_transmit(pools, &mut slices);
            written.extend(slices[..count].iter().flat_map(|slice| slice.to_vec()));
            connection.handle_transmitted(written.len() - before, now, pools);
        }
        naive::parse_all(&written)
    }

    pub fn in_use(&self) -> PoolsInUse {
        self.pools.in_use()
    }

    pub fn pinned_bytes(&self) -> usize {
        self.pools.pinned_bytes()
    }

    pub fn finish_one(&mut self, number: usize) {
        let connection = self.connections[number].take().expect("not finished");
        connection.finish(&mut self.pools);
    }

    /// All that are left end; the pools must have everything back.
    pub fn finish(mut self) {
        for connection in std::mem::take(&mut self.connections).into_iter().flatten() {
            connection.finish(&mut self.pools);
        }
        assert_eq!(self.pools.in_use(), PoolsInUse::default(), "the pools have everything back");
    }
}

/// Each connection receives and sends a compressed message, then is idle.
fn converse(crowd: &mut Crowd, number: usize) {
    let message = json(1000 + number % 7);
    let seen = crowd.receive(number, &text(compressed(message.as_bytes())));
    assert_eq!(seen, [Seen::Text(message.clone())]);
    assert!(crowd.act(number, |transmit| transmit.send_text(&message)).is_taken());
    let frames = crowd.write_frames(number);
    assert!(frames[0].rsv == RSV1 && frames[0].payload.len() < message.len() / 2);
}

/// Without context takeover an idle connection owns nothing: a thousand need what one does.
#[test]
fn without_context_takeover_an_idle_connection_owns_nothing() {
    for role in [Role::Server, Role::Client] {
        let mut crowd = Crowd::new(role, &shared(), 1000);
        let before = crowd.pinned_bytes();
        converse(&mut crowd, 0);
        converse(&mut crowd, 6);
        let steady = crowd.pinned_bytes();
        assert!(steady - before > 300 << 10, "a compressor and a decompressor are kept");
        for number in 0..1000 {
            converse(&mut crowd, number);
            assert_eq!(crowd.in_use(), PoolsInUse::default());
        }
        assert_eq!(crowd.pinned_bytes(), steady);
        crowd.finish();
    }
}

/// With it there is a compressor for each that has sent, or with few bits a window, and a window
/// for each that has received something compressed, no larger than what it can refer to.
#[test]
fn with_context_takeover_a_connection_owns_a_compressor_and_a_window() {
    // Seven bytes for each of 2^14 symbols, 128 KiB of chain heads, four windows, and the state.
    let compressor = (7 << 14) + (128 << 10) + (4 << 13) + (8 << 10);
    let cases = [(10, 0), (13, compressor)];
    for (role, (window_bits, compressor)) in
        [Role::Server, Role::Client].into_iter().flat_map(|role| cases.map(|case| (role, case)))
    {
        let mut crowd = Crowd::new(role, &dedicated(window_bits), 100);
        assert_eq!(crowd.in_use(), PoolsInUse::default(), "not before the first message");
        for number in 0..100 {
            // Neither an uncompressed message nor an empty one is anything to refer to.
            assert_eq!(crowd.receive(number, &Frame::text("abc")).len(), 1);
            assert_eq!(crowd.receive(number, &text([0x00])).len(), 1);
            assert!(crowd.act(number, |transmit| transmit.send_text("abc")).is_taken());
            crowd.write_frames(number);
            assert_eq!((crowd.in_use().windows, crowd.in_use().takeovers), (number, number));
            converse(&mut crowd, number);
            let in_use = crowd.in_use();
            assert_eq!((in_use.windows, in_use.takeovers), (number + 1, number + 1));
            assert_eq!((in_use.inflaters, in_use.assemblies, in_use.blocks), (0, 0, 0));
        }
        let steady = crowd.pinned_bytes();
        let each = (steady - crowd.rings_bytes()) / 100;
        assert!((compressor..compressor + (6 << 10)).contains(&each), "{each} bytes each");
        for number in 0..50 {
            crowd.finish_one(number);
            let in_use = crowd.in_use();
            assert_eq!((in_use.windows, in_use.takeovers), (99 - number, 99 - number));
        }
        let given_up = steady - crowd.pinned_bytes();
        assert!(given_up >= 30 * compressor.max(2 << 10), "{given_up} bytes of 50 are given up");
        for number in 50..100 {
            let frames = [json(400), json(300)];
            for message in frames {
                let payload = compressed(message.as_bytes());
                assert_eq!(crowd.receive(number, &text(payload)), [Seen::Text(message)]);
            }
        }
        crowd.finish();
    }
}

impl Crowd {
    /// What was pinned besides compression, roughly.
    fn rings_bytes(&self) -> usize {
        64 << 10
    }
}

/// A window grows with what was received, up to what was agreed on.
#[test]
fn a_window_is_no_larger_than_what_was_received() {
    let mut crowd = Crowd::new(Role::Server, &dedicated(15), 200);
    let mut peer = Compressor::new();
    let mut last = 0;
    for (message_bytes, window_bytes) in
        [(100, 100..=256), (1000, 1100..=2048), (40_000, 32_768..=32_768), (9000, 32_768..=32_768)]
    {
        let message = json(message_bytes);
        // All peers say the same.
        let frame = text(peer.message(message.as_bytes()));
        for number in 0..200 {
            assert_eq!(crowd.receive(number, &frame), [Seen::Text(message.clone())]);
        }
        let pinned = crowd.pinned_bytes();
        // What the pools keep for all is 200 KiB at most.
        let each = (pinned - (200 << 10).min(pinned)) / 200..=pinned / 200;
        assert!(
            each.start() <= window_bytes.end() && each.end() >= window_bytes.start(),
            "{each:?} is not {window_bytes:?}"
        );
        assert!(pinned >= last);
        last = pinned;
    }
    crowd.finish();
}

/// A connection that ends in the middle of a compressed message gives all back.
#[test]
fn the_end_of_a_connection_within_a_message_leaves_nothing_behind() {
    for compression in both() {
        let mut crowd = Crowd::new(Role::Server, &compression, 30);
        for number in 0..30 {
            let payload = compressed(json(5000).as_bytes());
            assert_eq!(crowd.receive(number, &text(&payload[..400]).open()), []);
        }
        assert_eq!((crowd.in_use().inflaters, crowd.in_use().assemblies), (30, 30));
        let most = crowd.pinned_bytes();
        for number in 0..30 {
            crowd.finish_one(number);
        }
        assert_eq!(crowd.in_use(), PoolsInUse::default());
        assert!(crowd.pinned_bytes() < most, "not all decompressors are kept");
        // Those that are kept are as good as new.
        let number = crowd.push();
        converse(&mut crowd, number);
        crowd.finish();
    }
}

/// What comes and goes with connections leaves no trace in what the pools count.
#[test]
fn memory_is_steady_while_connections_come_and_go() {
    for compression in both() {
        let mut crowd = Crowd::new(Role::Server, &compression, 0);
        let mut steady = 0;
        for number in 0..200 {
            assert_eq!(crowd.push(), number);
            converse(&mut crowd, number);
            crowd.finish_one(number);
            if number == 6 {
                steady = crowd.pinned_bytes();
            }
        }
        assert_eq!(crowd.pinned_bytes(), steady);
        crowd.finish();
    }
}

/// The place where messages are compressed is kept for the next, but not one for the largest.
#[test]
fn the_place_of_a_large_compressed_message_is_given_up() {
    for compression in both() {
        let mut crowd = Crowd::new(Role::Server, &compression, 1);
        converse(&mut crowd, 0);
        let before = crowd.pinned_bytes();
        let large = noise(9, 4 << 20);
        assert!(crowd.act(0, |transmit| transmit.send_binary(&large)).is_taken());
        let rings = crowd.pinned_bytes() - before;
        assert!(rings < 5 << 20, "{rings} bytes: the message waits in rings alone");
        crowd.finish();
    }
}
