//! The engine's parts, each driven as the engine drives it.

use std::hint::black_box;
use std::io::IoSlice;
use std::time::{Duration, Instant};

use corewire::fuzzing::collections::{Outbox, OutboxPool, TimerKey, Wheel};
use corewire::opening::{
    FieldStorage, HeadLimits, HeadScanner, Inspected, inspect, parse_request, write_accept,
};
use corewire::{Accept, LoopLimits};

/// Answers an upgrade request: from the first byte of its head to the last of the 101.
pub fn answer_request(head: &[u8], answer: &mut Vec<u8>) {
    answer.clear();
    let scanned = HeadScanner::request().scan(head, &LIMITS);
    assert!(scanned == Ok(Some(head.len())));
    let mut storage = FieldStorage::new();
    let request = parse_request(head, &mut storage).expect("the head keeps the grammar");
    let Ok(Inspected::Upgrade(upgrade)) = inspect(&request) else {
        panic!("the head asks for an upgrade");
    };
    write_accept(&upgrade, &Accept::new(), answer).expect("no subprotocol is selected");
}

/// A send queue of the default size.
pub struct Cork {
    pool: OutboxPool,
    outbox: Outbox,
}

impl Cork {
    pub fn new() -> Self {
        let limits = LoopLimits::default();
        let pool = OutboxPool::new(limits.ring_bytes, limits.rings_max, limits.segments_max);
        Self { pool, outbox: Outbox::new() }
    }

    /// Queues `count` frames as a server does, lends them and gives them up as written; returns how
    /// many bytes.
    pub fn cycle(&mut self, header: &[u8], payload: &[u8], count: usize) -> usize {
        for _ in 0..count {
            let (header, payload) = (black_box(header), black_box(payload));
            let Self { pool, outbox } = self;
            let pushed = match *header {
                [first, second] if outbox.push_short(pool, [first, second], payload) => Ok(()),
                _ => outbox.push(pool, header, payload),
            };
            assert!(pushed.is_ok());
        }
        let mut slices = [IoSlice::new(&[]); 64];
        let lent = self.outbox.lend(&self.pool, &mut slices);
        let bytes = black_box(&slices[..lent]).iter().map(|slice| slice.len()).sum();
        self.outbox.consume(&mut self.pool, bytes);
        bytes
    }
}

/// One timer for each of many connections, spread over the heartbeat's half minute.
pub struct Timers {
    wheel: Wheel<u32>,
    keys: Vec<TimerKey>,
    now: Instant,
}

impl Timers {
    pub fn new(count: usize) -> Self {
        let now = Instant::now();
        let mut timers = Self { wheel: Wheel::new(now), keys: Vec::new(), now };
        for index in 0..count {
            let deadline = now + HEARTBEAT.mul_f64((index + 1) as f64 / count as f64);
            timers.keys.push(timers.wheel.insert(deadline, index as u32));
        }
        timers
    }

    /// Moves every timer to half a minute from now, some milliseconds apart.
    pub fn rearm_all(&mut self) {
        self.now += TICK;
        for (index, key) in self.keys.iter().enumerate() {
            self.wheel.rearm(*key, self.now + HEARTBEAT + TICK * (index as u32 % 64));
        }
    }

    /// Takes every timer out and puts it in again.
    pub fn replace_all(&mut self) {
        for key in &mut self.keys {
            let value = self.wheel.cancel(*key);
            *key = self.wheel.insert(self.now + HEARTBEAT, value);
        }
    }

    /// A second in turns of a millisecond; what falls due is armed again. Returns how much did.
    pub fn pass_second(&mut self) -> usize {
        let mut fired = 0;
        for _ in 0..1000 {
            self.now += TICK;
            self.wheel.advance(self.now);
            while let Some((_, index)) = self.wheel.pop_due() {
                self.keys[index as usize] = self.wheel.insert(self.now + HEARTBEAT, index);
                fired += 1;
            }
        }
        fired
    }
}

/// What a server of browsers may be content with.
const LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 16 * 1024, fields_max: 100, target_bytes_max: 8 * 1024 };

const HEARTBEAT: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_millis(1);
