//! What leaves together, and how late.

use std::time::Duration;

use corewire::{Batch, BatchSize, Submitted};

use crate::bed::{Bed, arrivals, millis, number, numbered};
use crate::rng::Rng;
use crate::sim_server::SimServer;

/// A write: when, and which messages it carried.
struct Write {
    at: Duration,
    texts: Vec<String>,
}

/// Writes down what each turn gives to the kernel, which is at most one write.
struct Watch {
    server: SimServer,
    sim: crate::sim_net::Sim,
    tries: u64,
    writes: Vec<Write>,
}

impl Watch {
    fn new(bed: &Bed, server: SimServer) -> Self {
        Self { server, sim: bed.sim.clone(), tries: bed.writes(), writes: Vec::new() }
    }

    fn look(&mut self, at: Duration) {
        let tries = self.sim.tries(crate::sim_world::Call::Send);
        let texts = arrivals(&mut self.server);
        match std::mem::replace(&mut self.tries, tries) {
            before if before == tries => assert!(texts.is_empty(), "{texts:?} without a write"),
            before if before + 1 == tries => self.writes.push(Write { at, texts }),
            before => panic!("{} writes in a turn", tries - before),
        }
    }

    fn sizes(&self) -> Vec<usize> {
        self.writes.iter().map(|write| write.texts.len()).collect()
    }

    /// The longest time from sending to the kernel, of messages sent at these times, all of which
    /// have come, in order.
    fn latency(&self, sent_at: &[Duration]) -> Duration {
        let texts = self.writes.iter().flat_map(|write| write.texts.iter());
        assert!(texts.map(|text| number(text)).eq(0..sent_at.len()), "all of them in order");
        let left = self
            .writes
            .iter()
            .flat_map(|write| write.texts.iter().map(|text| write.at - sent_at[number(text)]));
        left.max().unwrap_or_default()
    }
}

/// Sends so many messages, one each `gap`, and waits for the last; when each was sent.
fn stream(bed: &mut Bed, watch: &mut Watch, gap: Duration, count: usize) -> Vec<Duration> {
    let mut sent_at = Vec::new();
    let start = bed.now() + gap;
    for number in 0..count {
        bed.run_until(start + gap * number as u32, |at| watch.look(at));
        sent_at.push(bed.now());
        assert_eq!(bed.send(numbered(number, 20)), Submitted::Held);
        watch.look(bed.now());
    }
    bed.run_until(bed.now() + millis(200), |at| watch.look(at));
    sent_at
}

fn adaptive() -> Batch {
    let mut batch = Batch::default();
    batch.size = BatchSize::Adaptive;
    batch
}

const TICK: Duration = millis(1);

#[test]
fn ten_thousand_a_second_leave_a_hundred_in_a_write_and_in_time() {
    let (mut bed, server) = Bed::opened(|client| client.batch(|_| {}));
    let mut watch = Watch::new(&bed, server);
    let sent_at = stream(&mut bed, &mut watch, Duration::from_micros(100), 10_000);
    assert_eq!(watch.sizes(), [100; 100]);
    let latency = watch.latency(&sent_at);
    assert_eq!(latency, Duration::from_micros(9900), "the first waits for the hundredth");
    assert!(latency <= millis(50) + TICK);
    let stats = bed.flow().batch.expect("it has batches");
    assert_eq!((stats.batches, stats.batched, stats.writes), (100, 10_000, 100));
    assert_eq!((stats.bytes, stats.straight, stats.dropped), (200_000, 0, 0));
    assert_eq!((stats.buffered, stats.buffered_bytes), (0, 0));
    assert!((stats.mean_size() - 100.0).abs() < 1e-9);
    assert!((stats.messages_per_write() - 100.0).abs() < 1e-9);
}

#[test]
fn batches_at_any_rate_are_in_time_and_as_large_as_that_allows() {
    for (gap_micros, count, sizes) in
        [(100_000, 50, 1..=1), (10_000, 300, 5..=6), (1000, 1000, 50..=52), (10, 20_000, 100..=100)]
    {
        let (mut bed, server) = Bed::opened(|client| client.batch(|_| {}));
        let mut watch = Watch::new(&bed, server);
        let gap = Duration::from_micros(gap_micros);
        let sent_at = stream(&mut bed, &mut watch, gap, count);
        let latency = watch.latency(&sent_at);
        let waited = gap * 99;
        let bound = waited.min(millis(50) + TICK);
        assert!(latency <= bound, "{gap:?}: {latency:?}");
        let all = watch.sizes();
        let (_, whole) = all.split_last().expect("there was a write");
        assert!(whole.iter().all(|size| sizes.contains(size)), "{gap:?}: {all:?}");
    }
}

#[test]
fn adaptive_batches_at_a_low_rate_are_at_most_a_tick_late() {
    for (gap, count) in [(millis(100), 100), (millis(10), 500), (millis(2), 1000)] {
        let (mut bed, server) = Bed::opened(|client| client.batch(|it| *it = adaptive()));
        let mut watch = Watch::new(&bed, server);
        let sent_at = stream(&mut bed, &mut watch, gap, count);
        let latency = watch.latency(&sent_at);
        assert!(latency <= TICK, "{gap:?}: {latency:?}");
        assert_eq!(latency, Duration::ZERO, "{gap:?}: one that finds the wire idle goes at once");
        assert_eq!(watch.sizes(), vec![1; count]);
    }
}

#[test]
fn adaptive_batches_at_a_high_rate_are_whole_and_in_time() {
    for (gap_micros, count) in [(100, 10_000), (10, 5000)] {
        let (mut bed, server) = Bed::opened(|client| client.batch(|it| *it = adaptive()));
        let mut watch = Watch::new(&bed, server);
        let gap = Duration::from_micros(gap_micros);
        let sent_at = stream(&mut bed, &mut watch, gap, count);
        assert!(watch.latency(&sent_at) <= gap * 100 + TICK * 2, "{gap:?}");
        // Until the rate is known messages go by themselves.
        let sizes = watch.sizes();
        let late = &sizes[sizes.len() / 2..sizes.len() - 1];
        assert!(late.iter().all(|size| *size >= 90), "{gap:?}: {late:?}");
    }
}

#[test]
fn bursts_leave_in_whole_batches_and_the_rest_in_time() {
    for size in [BatchSize::Fixed, BatchSize::Adaptive] {
        let mut batch = Batch::default();
        batch.size = size;
        let (mut bed, mut server) = Bed::opened(|client| client.batch(|it| *it = batch));
        // A rest makes an adaptive batch expect no second message.
        let mut next = 0;
        for burst in [1, 99, 100, 250, 1000] {
            bed.run_for(millis(300));
            let (began, before) = (bed.now(), bed.writes());
            let texts = (next..next + burst).map(|number| numbered(number, 20)).collect();
            bed.send_all(texts);
            let writes = bed.writes() - before;
            let mut all = arrivals(&mut server);
            if size == BatchSize::Fixed {
                assert_eq!((writes, all.len()), (burst as u64 / 100, burst / 100 * 100));
            }
            let mut last_at = bed.now();
            bed.run_until(began + millis(200), |at| {
                let texts = arrivals(&mut server);
                last_at = if texts.is_empty() { last_at } else { at };
                all.extend(texts);
            });
            assert!(all.iter().map(|text| number(text)).eq(next..next + burst), "{size:?}");
            assert!(last_at - began <= millis(50) + TICK, "{size:?}: {:?}", last_at - began);
            assert!(bed.writes() - before <= burst as u64 / 100 + 22, "{size:?}");
            next += burst;
        }
    }
}

#[test]
fn messages_of_all_sizes_keep_their_order_and_their_time() {
    for seed in 0..8 {
        let mut rng = Rng::new(seed);
        let mut batch = Batch::default();
        if rng.one_in(2) {
            batch.size = BatchSize::Adaptive;
        }
        let bound = batch.max_delay + TICK;
        let (mut bed, mut server) = Bed::opened(|client| client.batch(|it| *it = batch.clone()));
        let (mut sent_at, mut come) = (Vec::new(), Vec::new());
        for index in 0..300 {
            let bytes = match rng.below(8) {
                0 => (16 << 10) - 1 + rng.below(3),
                1 => (64 << 10) - 1 + rng.below(3),
                2 => rng.below(200 << 10),
                _ => rng.length(),
            };
            let text = numbered(index, bytes);
            let bytes = text.len();
            sent_at.push((bed.now(), bytes));
            let before = bed.writes();
            let submitted = if rng.one_in(4) { bed.send_now(text) } else { bed.send(text) };
            let texts = arrivals(&mut server);
            if bytes >= batch.coalesce_below_bytes {
                assert!(matches!(submitted, Submitted::Given(outcome) if outcome.is_taken()));
                assert_eq!(number(texts.last().expect("it went straight")), index, "seed {seed}");
                // What waited, the message, and what of it one write cannot take.
                assert!(bed.writes() - before <= 3, "seed {seed}: {}", bed.writes() - before);
            } else {
                assert_eq!(submitted, Submitted::Held);
            }
            let mut arrive = |at: Duration, texts: Vec<String>| {
                for text in texts {
                    let (sent_at, bytes) = sent_at[come.len()];
                    assert_eq!((number(&text), text.len()), (come.len(), bytes), "seed {seed}");
                    assert!(at - sent_at <= bound, "seed {seed}: {:?}", at - sent_at);
                    come.push(text);
                }
            };
            arrive(bed.now(), texts);
            let gap = Duration::from_micros(rng.below(4000) as u64);
            bed.run_until(bed.now() + gap, |at| arrive(at, arrivals(&mut server)));
        }
        bed.run_for(bound);
        come.extend(arrivals(&mut server));
        assert_eq!(come.len(), 300, "seed {seed}");
        let stats = bed.flow().batch.expect("it has batches");
        let bytes: usize = come.iter().map(String::len).sum();
        assert_eq!((stats.batched + stats.straight, stats.bytes), (300, bytes as u64));
    }
}

#[test]
fn a_batch_holds_its_bytes_at_most() {
    let (mut bed, mut server) = Bed::opened(|client| client.batch(|_| {}));
    let before = bed.writes();
    // Seven of 9,000 bytes fit into 64 KiB, and an eighth does not.
    bed.send_all((0..30).map(|number| numbered(number, 9000)).collect());
    assert_eq!((bed.writes() - before, arrivals(&mut server).len()), (4, 28));
    bed.run_for(millis(51));
    assert_eq!((bed.writes() - before, arrivals(&mut server).len()), (5, 2));
}

#[test]
fn a_critical_message_takes_with_it_what_waits_in_front_of_it() {
    let (mut bed, mut server) = Bed::opened(|client| client.batch(|_| {}));
    let before = bed.writes();
    for number in 0..5 {
        assert_eq!(bed.send(numbered(number, 20)), Submitted::Held);
    }
    assert_eq!((bed.writes(), arrivals(&mut server).len()), (before, 0));
    assert_eq!(bed.send_now(numbered(5, 20)), Submitted::Held);
    let come = arrivals(&mut server);
    assert!(come.iter().map(|text| number(text)).eq(0..6), "{come:?}");
    assert_eq!(bed.writes(), before + 1, "all in one write");
    // Nothing is left to become due.
    bed.run_for(millis(200));
    assert_eq!(bed.writes(), before + 1);
}

#[test]
fn a_client_without_batches_sends_at_once() {
    let (mut bed, mut server) = Bed::opened(|client| client);
    let before = bed.writes();
    let submitted = bed.send_all((0..250).map(|number| numbered(number, 20)).collect());
    let is_taken = |given: &Submitted| matches!(given, Submitted::Given(sent) if sent.is_taken());
    assert!(submitted.iter().all(is_taken), "{submitted:?}");
    assert_eq!((bed.writes() - before, arrivals(&mut server).len()), (1, 250));
    assert_eq!(bed.flow().batch, None);
}
