//! What all threads measured together.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::load::Load;
use super::machine::{Own, Usage, bottleneck};
use super::pace::histogram;

/// Everything that the report tells of.
#[derive(Debug)]
pub struct Outcome {
    pub opened: Opened,
    /// Unless there was only to connect, or the end came first.
    pub loaded: Option<Loaded>,
    pub is_interrupted: bool,
}

/// The opening of the connections.
#[derive(Debug)]
pub struct Opened {
    pub elapsed: Duration,
    pub latencies: Histogram<u64>,
    /// What the server did meanwhile.
    pub usage: Option<Usage>,
    /// The server's resident memory before and after.
    pub rss_bytes: Option<(u64, u64)>,
}

/// The messages.
#[derive(Debug)]
pub struct Loaded {
    /// Answers within the time.
    pub answers: u64,
    pub unanswered: u64,
    pub elapsed: Duration,
    pub latencies: Histogram<u64>,
    /// What the server did meanwhile.
    pub usage: Option<Usage>,
    /// Threads of the generator.
    pub threads: usize,
    /// The part of the time in which our threads had something to do, in the mean.
    pub busy_share: f64,
    /// Processors that our threads used.
    pub cpu_share: f64,
    /// The part of the polls that found nothing ready.
    pub empty_polls_share: f64,
}

impl Opened {
    pub fn new<'w>(
        elapsed: Duration,
        handshakes: impl Iterator<Item = &'w Histogram<u64>>,
    ) -> Self {
        Self { elapsed, latencies: sum(handshakes), usage: None, rss_bytes: None }
    }

    pub fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// Processor time of the server for one handshake.
    pub fn server_cpu_ns(&self) -> Option<f64> {
        let usage = self.usage.filter(|_| !self.latencies.is_empty())?;
        Some(usage.cpu.as_nanos() as f64 / self.latencies.len() as f64)
    }

    /// Memory of the server for one connection. Below zero if it gave back more than it took.
    pub fn rss_bytes_per_connection(&self) -> Option<f64> {
        let (before, after) = self.rss_bytes.filter(|_| !self.latencies.is_empty())?;
        Some((after as f64 - before as f64) / self.latencies.len() as f64)
    }
}

impl Loaded {
    pub fn new(loads: Vec<Load>, usage: Option<Usage>) -> Self {
        // Interrupted in the warm-up there was no time at all.
        let share =
            |time: Duration, load: &Load| time.as_secs_f64() / load.elapsed.as_secs_f64().max(1e-9);
        let idle: f64 = loads.iter().map(|load| share(load.idle.time, load)).sum();
        let polls: u64 = loads.iter().map(|load| load.idle.polls).sum();
        let empty_polls: u64 = loads.iter().map(|load| load.idle.empty_polls).sum();
        Self {
            answers: loads.iter().map(|load| load.answers).sum(),
            unanswered: loads.iter().map(|load| load.unanswered).sum(),
            elapsed: loads.iter().map(|load| load.elapsed).max().unwrap_or_default(),
            busy_share: (1.0 - idle / loads.len() as f64).clamp(0.0, 1.0),
            cpu_share: loads.iter().map(|load| share(load.cpu, load)).sum(),
            empty_polls_share: empty_polls as f64 / polls.max(1) as f64,
            latencies: sum(loads.iter().map(|load| &load.latencies)),
            usage,
            threads: loads.len(),
        }
    }

    pub fn per_second(&self) -> f64 {
        self.answers as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Processor time of the server for one message. Its time and ours are read some microseconds
    /// apart, so rates are divided, not sums.
    pub fn server_cpu_ns(&self) -> Option<f64> {
        let usage = self.usage.filter(|_| self.answers > 0)?;
        Some(usage.cpu_share() * 1e9 / self.per_second())
    }
}

impl Outcome {
    /// The line that says that the generator decided the figures, if it did.
    pub fn bottleneck(&self) -> Option<String> {
        let loaded = self.loaded.as_ref()?;
        let Loaded { busy_share, cpu_share, threads, .. } = *loaded;
        let own = Own { busy_share, cpu_share: cpu_share / threads as f64 };
        bottleneck(own, loaded.usage.map(|usage| usage.busiest_thread_share))
    }
}

fn sum<'h>(parts: impl Iterator<Item = &'h Histogram<u64>>) -> Histogram<u64> {
    let mut sum = histogram();
    for part in parts {
        sum.add(part).expect("all histograms have the same bounds");
    }
    sum
}
