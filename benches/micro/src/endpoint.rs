//! corewire's sans-IO connection with everything it takes to drive it in memory.

use std::hint::black_box;
use std::io::IoSlice;
use std::time::Instant;

use corewire::{Config, Connection, Event, LoopLimits, Pools, Role, SendOutcome};

/// A connection, its pools, and a clock that stands.
pub struct Endpoint {
    connection: Connection,
    pools: Pools,
    now: Instant,
}

impl Endpoint {
    /// A connection after its handshake.
    pub fn new(role: Role) -> Self {
        let now = Instant::now();
        let pools = Pools::new(&LoopLimits::default(), now, [7; 32]);
        let connection = Connection::new(Config::new(role), now, &pools);
        Self { connection, pools, now }
    }

    /// Takes what one read brought; returns how many payload bytes were delivered.
    pub fn receive(&mut self, read: &mut [u8]) -> usize {
        let mut bytes = 0;
        let mut events = self.connection.handle_input(read, self.now, &mut self.pools);
        while let Some((event, _)) = events.next() {
            match event {
                Event::Text(text) => bytes += black_box(text).len(),
                Event::Binary(payload) => bytes += black_box(payload).len(),
                other => panic!("{other:?}"),
            }
        }
        bytes
    }

    /// Takes what one read brought and sends each message back; returns how many bytes were
    /// written.
    pub fn echo(&mut self, read: &mut [u8]) -> usize {
        let mut events = self.connection.handle_input(read, self.now, &mut self.pools);
        while let Some((event, mut transmit)) = events.next() {
            let outcome = match event {
                Event::Text(text) => transmit.send_text(text),
                Event::Binary(payload) => transmit.send_binary(payload),
                other => panic!("{other:?}"),
            };
            assert!(matches!(outcome, SendOutcome::Sent));
        }
        self.flush()
    }

    /// Sends a binary message `count` times; returns how many bytes were written.
    pub fn send(&mut self, payload: &[u8], count: usize) -> usize {
        let mut sink = corewire::NoSink;
        let mut transmit = self.connection.transmit(self.now, &mut self.pools, &mut sink);
        for _ in 0..count {
            let outcome = transmit.send_binary(black_box(payload));
            assert!(matches!(outcome, SendOutcome::Sent));
        }
        self.flush()
    }

    /// What a transport that takes everything at once would do.
    fn flush(&mut self) -> usize {
        let mut slices = [IoSlice::new(&[]); 16];
        let count = self.connection.poll_transmit(&self.pools, &mut slices);
        let bytes = black_box(&slices[..count]).iter().map(|slice| slice.len()).sum();
        self.connection.handle_transmitted(bytes, self.now, &mut self.pools);
        bytes
    }
}
