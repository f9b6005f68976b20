//! Whatever happens to the connections: of each message that was taken it is known what became of
//! it. It has arrived, or is reported as not sent, or is counted by the connection's end.

use std::time::Duration;

use corewire::{
    Batch, BatchSize, DropReason, Heartbeat, Outage, OutagePolicy, Rate, SendOutcome, Submitted,
};

use crate::bed::{Bed, millis, number, numbered, payloads};
use crate::naive::{CLOSE, Frame, PING, PONG, parse};
use crate::rng::Rng;
use crate::sim_server::SimServer;

/// A server's end of one connection.
struct Line {
    server: SimServer,
    is_open: bool,
    /// Whether the script reads on.
    reads: bool,
    arrived: Vec<usize>,
}

impl Line {
    fn read(&mut self) {
        if !self.reads {
            return;
        }
        let frames = self.server.plain_frames();
        for frame in &frames {
            match frame.opcode {
                PING => self.server.send(&Frame::pong(&frame.payload)),
                CLOSE if self.is_open => {
                    self.server.send(&Frame::new(CLOSE, &frame.payload));
                    self.is_open = false;
                }
                _ => {}
            }
            assert_ne!(frame.opcode, PONG);
        }
        self.arrived.extend(payloads(frames).iter().map(|text| number(text)));
    }

    /// Whole messages that the engine has handed to the kernel.
    fn handed_over(&self) -> usize {
        let wire = self.server.peer.handed_over();
        // A connection may end before anything is asked.
        let head = wire.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        let rest = head.map_or(&[][..], |head| &wire[head + 4..]);
        parse(rest).0.iter().filter(|frame| frame.is_data()).count()
    }
}

struct Run {
    bed: Bed,
    rng: Rng,
    lines: Vec<Line>,
    /// Numbers of the messages that were taken.
    taken: Vec<usize>,
    next: usize,
}

fn settings(rng: &mut Rng) -> (Option<Batch>, Option<Rate>, Outage) {
    let batch = (!rng.one_in(4)).then(|| {
        let mut batch = Batch::default();
        if rng.one_in(2) {
            batch.size = BatchSize::Adaptive;
        }
        batch.max_messages = 1 + rng.below(150);
        batch.max_delay = millis(rng.below(80) as u64);
        batch.max_buffered_bytes = 1 << (10 + rng.below(11));
        batch
    });
    let rate = rng.one_in(2).then(|| {
        let mut rate = Rate::default();
        rate.messages_per_second = Some(50 + rng.below(2000) as u64);
        rate.messages_burst = Some(1 + rng.below(100) as u64);
        rate.bytes_per_second = rng.one_in(2).then(|| 100_000 + rng.below(1_000_000) as u64);
        rate.waiting_bytes_max = 1 << (10 + rng.below(11));
        rate
    });
    let mut outage = Outage::default();
    outage.messages_max = rng.below(300);
    outage.age_max = millis(50 + rng.below(3000) as u64);
    if rng.one_in(2) {
        outage.policy = OutagePolicy::DropOldest;
    }
    (batch, rate, outage)
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let (batch, rate, outage) = settings(&mut rng);
        let bed = Bed::new(seed, |mut client| {
            client = client.outage(|it| *it = outage).config(|config| {
                config.limits.backpressure_bytes_max = 1 << (13 + rng.below(8));
                config.limits.high_water_bytes = 1 << (12 + rng.below(2));
                config.limits.low_water_bytes = 1 << rng.below(12);
                config.heartbeat = Some(heartbeat());
            });
            client = match batch {
                Some(batch) => client.batch(|it| *it = batch),
                None => client,
            };
            match rate {
                Some(rate) => client.rate(|it| *it = rate),
                None => client,
            }
        });
        let mut world = bed.sim.0.borrow_mut();
        world.to_peer_max = 1 << (10 + rng.below(10));
        let faults = &mut world.faults;
        faults.short_writes = rng.below(200) as u32;
        faults.blocked_writes = rng.below(100) as u32;
        faults.short_reads = rng.below(200) as u32;
        faults.failed_writes = rng.below(4) as u32;
        faults.failed_connects = rng.below(200) as u32;
        faults.failed_finishes = rng.below(200) as u32;
        faults.partial_polls = rng.below(200) as u32;
        drop(world);
        Self { bed, rng, lines: Vec::new(), taken: Vec::new(), next: 0 }
    }

    fn send_some(&mut self) {
        let (count, is_urgent) = (self.rng.below(40), self.rng.one_in(4));
        for _ in 0..count {
            let bytes =
                if self.rng.one_in(30) { self.rng.below(40 << 10) } else { self.rng.below(400) };
            let text = numbered(self.next, bytes);
            let submitted = if is_urgent { self.bed.send_now(text) } else { self.bed.send(text) };
            let is_taken = match submitted {
                Submitted::Given(SendOutcome::Dropped(reason)) => {
                    assert!(matches!(reason, DropReason::Backpressure | DropReason::Closing));
                    false
                }
                Submitted::Given(_) | Submitted::Held | Submitted::Waiting { .. } => true,
                Submitted::Refused(_) => false,
                other => panic!("{other:?}"),
            };
            if is_taken {
                self.taken.push(self.next);
            }
            self.next += 1;
        }
    }

    /// Takes connections, reads and answers.
    fn serve(&mut self) {
        while let Some(peer) = self.bed.host.next() {
            let server = SimServer::new(peer);
            self.lines.push(Line { server, is_open: false, reads: false, arrived: Vec::new() });
        }
        for line in &mut self.lines {
            if !line.is_open && !line.reads {
                if line.arrived.is_empty()
                    && line.server.peer.moved().to_peer_bytes > 0
                    && let Some(request) = line.server.request()
                {
                    line.server.peer.write_all(&request.switching(""));
                    (line.is_open, line.reads) = (true, true);
                }
            } else if !self.rng.one_in(3) {
                line.read();
            }
        }
    }

    /// Something happens to the connection.
    fn disturb(&mut self) {
        let Some(line) = self.lines.last_mut().filter(|line| line.is_open) else { return };
        line.is_open = false;
        match self.rng.below(3) {
            0 => {
                line.read();
                line.server.peer.reset();
                line.reads = false;
                // What the kernel held is gone.
                line.server.peer.read_all();
            }
            1 => line.server.peer.fin(),
            _ => line.server.send(&Frame::close(1001, "")),
        }
    }

    fn live(&mut self, rounds: usize) {
        for _ in 0..rounds {
            if !self.rng.one_in(3) {
                self.send_some();
            }
            let gap = Duration::from_micros(self.rng.below(30_000) as u64);
            self.bed.run_for(gap);
            self.serve();
            if self.rng.one_in(25) {
                self.disturb();
            }
        }
    }

    /// Ends it: at once, or when all has had time to leave.
    fn end(&mut self) {
        if self.rng.one_in(2) {
            for _ in 0..2000 {
                self.bed.run_for(millis(20));
                self.serve();
            }
        }
        self.bed.stop();
        for _ in 0..1000 {
            self.bed.run_for(millis(10));
            self.serve();
        }
    }

    fn check(&mut self, seed: u64) {
        let arrived: Vec<_> = self.lines.iter().flat_map(|line| line.arrived.clone()).collect();
        assert!(arrived.is_sorted_by(|one, other| one < other), "seed {seed}: {arrived:?}");
        let handed_over: usize = self.lines.iter().map(Line::handed_over).sum();
        let journal = self.bed.journal();
        let mut reported: Vec<_> = journal
            .unsent
            .iter()
            .map(|unsent| number(std::str::from_utf8(&unsent.payload).expect("a text")))
            .collect();
        let closes = std::mem::take(&mut journal.closes);
        assert_eq!(journal.stops.len(), 1, "seed {seed}");
        let opened = self.lines.iter().filter(|line| !line.server.peer.handed_over().is_empty());
        assert!(closes.len() <= opened.count(), "seed {seed}");
        reported.sort_unstable();
        let left: Vec<_> =
            self.taken.iter().filter(|it| arrived.binary_search(it).is_err()).collect();
        let missing = left.iter().filter(|it| reported.binary_search(it).is_err()).count();
        assert!(reported.windows(2).all(|two| two[0] < two[1]), "seed {seed}: reported twice");
        assert_eq!(left.len() - missing, reported.len(), "seed {seed}: reported and arrived");
        // The kernel had some that the server has not read, and the engine some that the kernel has
        // not.
        let unsent: u64 = closes.iter().map(|close| close.unsent_messages).sum();
        let unconfirmed: u64 = closes.iter().map(|close| close.unconfirmed_messages).sum();
        let lost_by_kernel = handed_over - arrived.len();
        assert_eq!(missing as u64, lost_by_kernel as u64 + unsent, "seed {seed}: {closes:?}");
        assert!(lost_by_kernel as u64 <= unconfirmed, "seed {seed}: {closes:?}");
    }
}

/// Often enough to prove what has arrived.
fn heartbeat() -> Heartbeat {
    Heartbeat { ping_every: millis(300), dead_after: Duration::from_secs(5) }
}

#[test]
fn of_each_message_it_is_known_what_became_of_it() {
    let (mut taken, mut arrived, mut reported, mut counted) = (0, 0, 0, 0);
    for seed in 0..16 {
        let mut run = Run::new(seed);
        run.live(150);
        run.end();
        run.check(seed);
        taken += run.taken.len();
        let here: usize = run.lines.iter().map(|line| line.arrived.len()).sum();
        arrived += here;
        reported += run.bed.journal().unsent.len();
        counted += run.taken.len() - here - run.bed.journal().unsent.len();
    }
    // It has happened.
    println!("{taken} taken, {arrived} arrived, {reported} reported, {counted} counted");
    assert!(
        arrived > taken / 3 && reported > 100 && counted > 50,
        "{arrived} {reported} {counted}"
    );
}
