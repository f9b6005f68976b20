//! What a run costs: the processor time of our threads and of the server, and the server's memory.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::args::Failure;

/// Processor time that the calling thread has used.
pub fn own_thread_cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

/// Another process, looked at through /proc.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    pid: u32,
}

/// What a thread has had of a processor.
#[derive(Clone, Copy, Debug)]
struct Turns {
    running_ns: u64,
    /// It could have run, but others did.
    waiting_ns: u64,
}

/// A process at one instant.
#[derive(Debug)]
pub struct Sample {
    at: Instant,
    /// By thread id.
    threads: BTreeMap<u64, Turns>,
}

/// What a process did between two samples.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub cpu: Duration,
    pub elapsed: Duration,
    /// The part of the time in which its busiest thread ran or would have liked to.
    pub busiest_thread_share: f64,
}

impl Usage {
    /// Processors used, 1.0 being all of one.
    pub fn cpu_share(&self) -> f64 {
        self.cpu.as_secs_f64() / self.elapsed.as_secs_f64()
    }
}

impl Process {
    /// # Errors
    /// There is no such process, it is another user's, or there is no /proc (it is Linux's).
    pub fn new(pid: u32) -> Result<Self, Failure> {
        let process = Self { pid };
        match process.sample().and_then(|_| process.resident_bytes()) {
            Ok(_) => Ok(process),
            Err(error) => Err(Failure(format!("--pid {pid}: cannot look at it: {error}"))),
        }
    }

    /// Reads the first two fields of `/proc/PID/task/*/schedstat`, which count in nanoseconds where
    /// `/proc/PID/stat` counts ticks.
    pub fn sample(&self) -> io::Result<Sample> {
        let mut threads = BTreeMap::new();
        for task in fs::read_dir(format!("/proc/{}/task", self.pid))? {
            let task = task?;
            let text = match fs::read_to_string(task.path().join("schedstat")) {
                // It has ended since the directory was read.
                Err(error) if is_gone(&error) => continue,
                result => result?,
            };
            let mut numbers = text.split_whitespace().map(str::parse);
            let (Some(Ok(running_ns)), Some(Ok(waiting_ns))) = (numbers.next(), numbers.next())
            else {
                return Err(io::Error::other("schedstat has no numbers"));
            };
            let id = task.file_name().to_str().and_then(|name| name.parse().ok());
            threads.insert(id.unwrap_or_default(), Turns { running_ns, waiting_ns });
        }
        Ok(Sample { at: Instant::now(), threads })
    }

    /// `Rss` of `/proc/PID/smaps_rollup`, which walks the pages: `VmRSS` of `/proc/PID/status` may
    /// lag by 64 pages a thread.
    pub fn resident_bytes(&self) -> io::Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid))?;
        let rss = text.lines().find_map(|line| line.strip_prefix("Rss:"));
        let kibibytes = rss.and_then(|rss| rss.split_whitespace().next()?.parse::<u64>().ok());
        let complaint = || io::Error::other("smaps_rollup has no Rss");
        kibibytes.map(|kibibytes| kibibytes * 1024).ok_or_else(complaint)
    }
}

impl Sample {
    /// What the process did from here to `later`. A thread that ended in between takes what it did
    /// with it.
    pub fn until(&self, later: &Self) -> Usage {
        let elapsed = later.at.duration_since(self.at).max(Duration::from_nanos(1));
        let (mut cpu_ns, mut busiest_ns) = (0, 0);
        for (id, after) in &later.threads {
            let before = self.threads.get(id).copied();
            let before = before.unwrap_or(Turns { running_ns: 0, waiting_ns: 0 });
            let running_ns = after.running_ns.saturating_sub(before.running_ns);
            let waiting_ns = after.waiting_ns.saturating_sub(before.waiting_ns);
            cpu_ns += running_ns;
            busiest_ns = busiest_ns.max(running_ns + waiting_ns);
        }
        let busiest_thread_share = (busiest_ns as f64 / elapsed.as_nanos() as f64).min(1.0);
        Usage { cpu: Duration::from_nanos(cpu_ns), elapsed, busiest_thread_share }
    }
}

fn is_gone(error: &io::Error) -> bool {
    let no_such_process = rustix::io::Errno::SRCH.raw_os_error();
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(no_such_process)
}

/// Above this share of the time a thread counts as the one that held things up.
const BUSY_SHARE: f64 = 0.95;

/// What the generator's threads did, each in the mean.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    /// The part of the time in which there was something to do.
    pub busy_share: f64,
    /// The part of the time on a processor.
    pub cpu_share: f64,
}

/// Whether the generator, and not the server, decided the figures; if so, the line that says it.
pub fn bottleneck(own: Own, server_busy_share: Option<f64>) -> Option<String> {
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    let advice = if own.cpu_share < own.busy_share / 2.0 {
        format!("it had a core for only {}: leave it one that is free", percent(own.cpu_share))
    } else {
        "give it more --threads, or run several at once, on cores that the server leaves free"
            .into()
    };
    let busy = percent(own.busy_share);
    match server_busy_share {
        _ if own.busy_share <= BUSY_SHARE => None,
        Some(server) if server > BUSY_SHARE => None,
        Some(server) => Some(format!(
            "the generator was the bottleneck: its threads were busy {busy} of the time, the \
             server's busiest thread {}; {advice}",
            percent(server)
        )),
        None => Some(format!(
            "the generator may have been the bottleneck: its threads were busy {busy} of the time, \
             --pid would tell whether the server was; {advice}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generator_is_blamed_when_it_was_busy_and_the_server_was_not() {
        let own = |busy_share| Own { busy_share, cpu_share: busy_share };
        assert_eq!(bottleneck(own(0.95), None), None);
        assert_eq!(bottleneck(own(0.5), Some(0.2)), None);
        assert_eq!(bottleneck(own(0.99), Some(0.97)), None);
        let line = bottleneck(own(0.99), Some(0.4)).unwrap();
        assert!(line.starts_with("the generator was the bottleneck: "), "{line}");
        assert!(line.contains("99 %") && line.contains("40 %") && line.contains("--threads"));
        let line = bottleneck(own(1.0), None).unwrap();
        assert!(
            line.starts_with("the generator may have been") && line.contains("--pid"),
            "{line}"
        );
    }

    #[test]
    fn generator_without_a_core_of_its_own_is_told_so() {
        let line = bottleneck(Own { busy_share: 1.0, cpu_share: 0.2 }, Some(0.8)).unwrap();
        assert!(line.contains("a core for only 20 %") && !line.contains("--threads"), "{line}");
    }

    #[test]
    fn usage_is_what_came_between_two_samples() {
        let at = Instant::now();
        let turns = |running_ns, waiting_ns| Turns { running_ns, waiting_ns };
        let before = Sample { at, threads: [(1, turns(100, 50)), (2, turns(7, 7))].into() };
        let later = at + Duration::from_nanos(1000);
        let threads = [(1, turns(400, 150)), (3, turns(500, 0))].into();
        let usage = before.until(&Sample { at: later, threads });
        assert_eq!(usage.cpu, Duration::from_nanos(800));
        assert!((usage.busiest_thread_share - 0.5).abs() < 1e-9);
        assert!((usage.cpu_share() - 0.8).abs() < 1e-9);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_can_be_looked_at_and_an_absent_one_cannot() {
        let process = Process::new(std::process::id()).unwrap();
        let block = vec![1_u8; 16_000_000];
        assert!(process.resident_bytes().unwrap() > 16_000_000);
        std::hint::black_box(block);
        assert!(!process.sample().unwrap().threads.is_empty());
        assert!(Process::new(u32::MAX).is_err());
    }
}
