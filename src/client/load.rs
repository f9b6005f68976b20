//! How busy this process is, as one number: what a pool grows and shrinks by.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where the shares of a load score come from.
///
/// Each is asked once for each of a meter's samples, one in every step of its window, on the loop,
/// so it must not block.
pub trait LoadSource: Send {
    /// The processor time in use since it was last asked, as a share from 0 to 1 of what there is;
    /// `None` if that is not known.
    fn cpu(&mut self) -> Option<f64>;

    /// The memory in use, as a share from 0 to 1 of what there is; `None` if that is not known.
    fn memory(&mut self) -> Option<f64>;
}

/// What a load score covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadSettings {
    /// The time that the score looks back. Default 60 s. Less than a second counts as one, more than
    /// a day as one.
    pub window: Duration,
    /// So many requests in the window count as a share of 1. Default 1,000. 0 counts as 1.
    pub requests_full: u64,
}

impl Default for LoadSettings {
    fn default() -> Self {
        Self { window: Duration::from_secs(60), requests_full: 1000 }
    }
}

/// The load score: `0.5 · CPU + 0.3 · memory + 0.2 · requests / 1000` over a sliding window.
///
/// Processor and memory are means of the samples in the window, requests are those in the window;
/// each counts at most as 1, so the score is between 0 and 1. A share of which the window has no
/// sample counts as 0: a pool that knows nothing does not grow for it.
///
/// The window slides in sixty steps. What is younger than 59 of them is counted, what is older than
/// 60 is not. All arithmetic is on integers, so nothing drifts.
///
/// # Calling order
/// At [`LoadMeter::poll_timeout`] ask the [`LoadSource`] and give the answers to
/// [`LoadMeter::handle_sample`]; tell each request by [`LoadMeter::handle_requests`]; read
/// [`LoadMeter::score`] at any time. None takes longer than sixty steps, and usually one.
#[derive(Debug)]
pub struct LoadMeter {
    buckets: [Bucket; BUCKETS],
    /// The sum of all buckets.
    total: Bucket,
    step: Duration,
    requests_full: u64,
    origin: Instant,
    /// Steps since the origin; its bucket is the one being filled.
    current: u64,
    next_sample: Instant,
}

/// What came in one step.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    requests: u64,
    cpu: Samples,
    memory: Samples,
}

/// Samples of one share.
#[derive(Clone, Copy, Debug, Default)]
struct Samples {
    count: u64,
    /// In millionths.
    sum: u64,
}

impl LoadMeter {
    /// A meter that has seen nothing. Its first sample is due at once.
    pub fn new(settings: &LoadSettings, now: Instant) -> Self {
        let window = settings.window.clamp(Duration::from_secs(1), WINDOW_MAX);
        Self {
            buckets: [Bucket::default(); BUCKETS],
            total: Bucket::default(),
            step: window / BUCKETS as u32,
            requests_full: settings.requests_full.max(1),
            origin: now,
            current: 0,
            next_sample: now,
        }
    }

    /// When the next sample is due: one in each step.
    pub const fn poll_timeout(&self) -> Instant {
        self.next_sample
    }

    /// A sample was taken. Shares outside of 0 to 1 are cut to it; one that is no number is unknown.
    pub fn handle_sample(&mut self, cpu: Option<f64>, memory: Option<f64>, now: Instant) {
        self.slide(now);
        self.next_sample = now + self.step;
        let bucket = &mut self.buckets[place(self.current)];
        for counted in [bucket, &mut self.total] {
            counted.cpu.add(cpu);
            counted.memory.add(memory);
        }
    }

    /// So many requests have come.
    pub fn handle_requests(&mut self, count: u32, now: Instant) {
        self.slide(now);
        self.buckets[place(self.current)].requests += u64::from(count);
        self.total.requests += u64::from(count);
    }

    /// The score now, from 0 to 1.
    pub fn score(&mut self, now: Instant) -> f64 {
        self.slide(now);
        let requests = self.total.requests.min(self.requests_full) as f64;
        let requests = requests / self.requests_full as f64;
        CPU_WEIGHT * self.total.cpu.mean()
            + MEMORY_WEIGHT * self.total.memory.mean()
            + REQUESTS_WEIGHT * requests
    }

    /// Empties the buckets that the window has left.
    fn slide(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.origin).as_nanos();
        let reached = (elapsed / self.step.as_nanos()) as u64;
        let steps = reached.saturating_sub(self.current).min(BUCKETS as u64);
        // The clock may seem to stand, but not to go back.
        self.current = self.current.max(reached);
        for back in 0..steps {
            let left = std::mem::take(&mut self.buckets[place(self.current - back)]);
            self.total.requests -= left.requests;
            self.total.cpu.subtract(left.cpu);
            self.total.memory.subtract(left.memory);
        }
    }
}

impl Samples {
    fn add(&mut self, share: Option<f64>) {
        if let Some(share) = share.filter(|share| !share.is_nan()) {
            self.count += 1;
            self.sum += (share.clamp(0.0, 1.0) * MILLION).round() as u64;
        }
    }

    const fn subtract(&mut self, other: Self) {
        self.count -= other.count;
        self.sum -= other.sum;
    }

    fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum as f64 / (self.count as f64 * MILLION) }
    }
}

const fn place(step: u64) -> usize {
    (step % BUCKETS as u64) as usize
}

const BUCKETS: usize = 60;
const MILLION: f64 = 1e6;
const CPU_WEIGHT: f64 = 0.5;
const MEMORY_WEIGHT: f64 = 0.3;
const REQUESTS_WEIGHT: f64 = 0.2;
const WINDOW_MAX: Duration = Duration::from_secs(24 * 3600);

/// What the kernel says about this process, on Linux. Elsewhere both shares are unknown, and the
/// score is that of the requests alone.
///
/// **Processor**: the time of all threads, user's and system's, as a share of the cores that the
/// process may use: 1 is all of them, and one busy loop on four cores is 0.25. Affinity and the quota
/// of a cgroup count, as [`std::thread::available_parallelism`] finds them at the start. Source:
/// `utime` and `stime` in `/proc/self/stat`, proc_pid_stat(5), in hundredths of a second on all
/// that Rust builds for. It takes two samples, so the first is unknown.
///
/// **Memory**: the resident set, `VmRSS` in `/proc/self/status`, as a share of the least limit of
/// the process's cgroup and those above it (`memory.max` of version 2, `memory.limit_in_bytes` of
/// version 1), or of the physical memory if that is less.
#[derive(Debug)]
pub struct SystemLoad {
    proc: PathBuf,
    cgroup: PathBuf,
    cores: f64,
    last: Option<(Duration, Instant)>,
}

impl SystemLoad {
    /// A source that was not asked yet.
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            proc: "/proc".into(),
            cgroup: "/sys/fs/cgroup".into(),
            cores: cores as f64,
            last: None,
        }
    }

    /// The share between the last call and this one, given both clocks.
    fn cpu_since(&mut self, used: Duration, now: Instant) -> Option<f64> {
        let (used_before, before) = self.last.replace((used, now))?;
        let available = now.saturating_duration_since(before).as_secs_f64() * self.cores;
        let share = used.saturating_sub(used_before).as_secs_f64() / available;
        // Nothing can be said about no time at all.
        share.is_finite().then_some(share.min(1.0))
    }

    fn limit_bytes(&self) -> Option<u64> {
        let physical = bytes_of(&fs::read_to_string(self.proc.join("meminfo")).ok()?, "MemTotal:")?;
        let cgroups = fs::read_to_string(self.proc.join("self/cgroup")).unwrap_or_default();
        let limits = cgroups.lines().filter_map(|line| self.cgroup_limit_bytes(line)).min();
        Some(limits.map_or(physical, |limit| limit.min(physical)))
    }

    /// The least limit of a cgroup and those above it. In a container those above are not to be
    /// seen, and the path may be one of the outside: then only the root of what is seen is there.
    fn cgroup_limit_bytes(&self, line: &str) -> Option<u64> {
        // `hierarchy:controllers:path`, cgroups(7); version 2 has no controllers here.
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let (root, file) = if controllers.is_empty() {
            (self.cgroup.clone(), "memory.max")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            (self.cgroup.join("memory"), "memory.limit_in_bytes")
        } else {
            return None;
        };
        let above = Path::new(path.trim_start_matches('/')).ancestors();
        let limit = |group| fs::read_to_string(root.join(group).join(file)).ok();
        above.filter_map(limit).filter_map(|limit| limit.trim().parse().ok()).min()
    }
}

impl Default for SystemLoad {
    fn default() -> Self {
        Self::new()
    }
}

impl LoadSource for SystemLoad {
    fn cpu(&mut self) -> Option<f64> {
        let used = cpu_time(&fs::read_to_string(self.proc.join("self/stat")).ok()?)?;
        self.cpu_since(used, Instant::now())
    }

    fn memory(&mut self) -> Option<f64> {
        let status = fs::read_to_string(self.proc.join("self/status")).ok()?;
        let resident = bytes_of(&status, "VmRSS:")?;
        let limit = self.limit_bytes().filter(|limit| *limit > 0)?;
        Some((resident as f64 / limit as f64).min(1.0))
    }
}

/// Processor time in a line as in `/proc/self/stat`.
fn cpu_time(stat: &str) -> Option<Duration> {
    // The second field is the program's name in parentheses, and may hold both spaces and those.
    let (_, fields) = stat.rsplit_once(')')?;
    // The third field comes first; user's time is the 14th, the system's the 15th.
    let mut times = fields.split_ascii_whitespace().skip(11);
    let mut next = || times.next()?.parse::<u64>().ok();
    let ticks = next()?.saturating_add(next()?);
    Some(Duration::from_millis(ticks.saturating_mul(MILLIS_PER_TICK)))
}

/// The bytes in a line as `VmRSS:    1234 kB`.
fn bytes_of(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = value.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The kernel counts in `USER_HZ` for programs, which is 100.
const MILLIS_PER_TICK: u64 = 10;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A source that says what it was told to say.
    struct Scripted(Vec<(Option<f64>, Option<f64>)>);

    impl LoadSource for Scripted {
        fn cpu(&mut self) -> Option<f64> {
            self.0.first()?.0
        }

        fn memory(&mut self) -> Option<f64> {
            if self.0.is_empty() { None } else { self.0.remove(0).1 }
        }
    }

    fn sample(meter: &mut LoadMeter, source: &mut impl LoadSource, now: Instant) {
        assert!(meter.poll_timeout() <= now);
        meter.handle_sample(source.cpu(), source.memory(), now);
    }

    #[track_caller]
    fn assert_score(meter: &mut LoadMeter, now: Instant, expected: f64) {
        let score = meter.score(now);
        assert!((score - expected).abs() < 1e-12, "{score}, not {expected}");
    }

    #[test]
    fn score_is_the_weighted_sum_of_means_and_requests() {
        let start = Instant::now();
        let mut meter = LoadMeter::new(&LoadSettings::default(), start);
        let samples = [(Some(0.2), Some(0.5)), (Some(0.6), Some(0.7)), (None, Some(0.9))];
        let mut source = Scripted(samples.to_vec());
        for second in 0..3 {
            sample(&mut meter, &mut source, start + second * SECOND);
            assert_eq!(meter.poll_timeout(), start + (second + 1) * SECOND);
        }
        // The unknown one is left out of its mean: 0.4 and 0.7.
        assert_score(&mut meter, start + 3 * SECOND, 0.5 * 0.4 + 0.3 * 0.7);
        meter.handle_requests(250, start + 3 * SECOND);
        assert_score(&mut meter, start + 3 * SECOND, 0.5 * 0.4 + 0.3 * 0.7 + 0.2 * 0.25);
    }

    #[test]
    fn without_samples_requests_count_alone_and_nothing_is_nothing() {
        let start = Instant::now();
        let mut meter = LoadMeter::new(&LoadSettings::default(), start);
        assert_score(&mut meter, start, 0.0);
        sample(&mut meter, &mut Scripted(Vec::new()), start);
        meter.handle_sample(Some(f64::NAN), None, start);
        assert_score(&mut meter, start, 0.0);
        meter.handle_requests(500, start);
        assert_score(&mut meter, start, 0.1);
    }

    #[test]
    fn shares_are_cut_so_that_the_score_ends_at_one() {
        let start = Instant::now();
        let mut meter = LoadMeter::new(&LoadSettings::default(), start);
        meter.handle_sample(Some(17.0), Some(f64::INFINITY), start);
        meter.handle_requests(u32::MAX, start);
        assert_score(&mut meter, start, 1.0);
        let none = LoadSettings { requests_full: 0, window: Duration::ZERO };
        let mut meter = LoadMeter::new(&none, start);
        meter.handle_sample(Some(-3.0), Some(f64::NEG_INFINITY), start);
        assert_score(&mut meter, start, 0.0);
        meter.handle_requests(1, start);
        assert_score(&mut meter, start, 0.2);
        assert_score(&mut meter, start + SECOND, 0.0);
    }

    #[test]
    fn what_the_window_has_left_counts_no_more() {
        let start = Instant::now();
        let mut meter = LoadMeter::new(&LoadSettings::default(), start);
        meter.handle_sample(Some(1.0), None, start);
        meter.handle_requests(1000, start);
        meter.handle_requests(100, start + 30 * SECOND);
        let end = start + 60 * SECOND;
        assert_score(&mut meter, end - Duration::from_nanos(1), 0.5 + 0.2);
        assert_score(&mut meter, end, 0.2 * 0.1);
        // A clock that goes back is taken as standing.
        assert_score(&mut meter, start, 0.2 * 0.1);
        assert_score(&mut meter, end + 30 * SECOND, 0.0);
        assert_score(&mut meter, end + 1_000_000 * SECOND, 0.0);
    }

    proptest! {
        #[test]
        fn meter_equals_a_list_of_all_that_came(
            operations in prop::collection::vec((0..9000_u64, 0..3_u8, 0..=100_u32), 0..200),
        ) {
            let start = Instant::now();
            let mut meter = LoadMeter::new(&LoadSettings::default(), start);
            let mut came: VecDeque<(u64, u8, u32)> = VecDeque::new();
            let mut millis = 0;
            for (pass, what, value) in operations {
                millis += pass;
                let now = start + Duration::from_millis(millis);
                let share = Some(f64::from(value) / 100.0);
                match what {
                    0 => meter.handle_requests(value, now),
                    1 => meter.handle_sample(share, None, now),
                    _ => meter.handle_sample(None, share, now),
                }
                came.push_back((millis / 1000, what, value));
                came.retain(|(second, ..)| second + 60 > millis / 1000);
                let values = |kind| {
                    let of_kind = came.iter().filter(move |(_, what, _)| *what == kind);
                    of_kind.map(|(_, _, value)| f64::from(*value))
                };
                let mean = |kind| {
                    let count = values(kind).count().max(1);
                    values(kind).sum::<f64>() / (count as f64 * 100.0)
                };
                let requests = (values(0).sum::<f64>() / 1000.0).min(1.0);
                let expected = 0.5 * mean(1) + 0.3 * mean(2) + 0.2 * requests;
                let score = meter.score(now);
                prop_assert!((score - expected).abs() < 1e-9, "{} and {}", score, expected);
            }
        }
    }

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let fields = "R 1 2 3 4 5 6 7 8 9 10 1234 66 0 0 20 0 8 0 100 1 2";
        for name in ["corewire", "a b", ") R 1 (", "x) S 1 2 3 4 5 6 7 8 9 10 11 12 13"] {
            let stat = format!("42 ({name}) {fields}\n");
            assert_eq!(cpu_time(&stat), Some(Duration::from_secs(13)), "{name}");
        }
        assert_eq!(cpu_time("42 (corewire) R 1 2 3 4 5 6 7 8 9 10 1234"), None);
        assert_eq!(cpu_time("42 (corewire) R 1 2 3 4 5 6 7 8 9 10 a b"), None);
        assert_eq!(cpu_time(""), None);
    }

    #[test]
    fn processor_is_a_share_of_all_cores() {
        let start = Instant::now();
        let mut source = SystemLoad { cores: 4.0, ..SystemLoad::new() };
        assert_eq!(source.cpu_since(10 * SECOND, start), None, "it takes two");
        assert_eq!(source.cpu_since(11 * SECOND, start + SECOND), Some(0.25));
        assert_eq!(source.cpu_since(15 * SECOND, start + 2 * SECOND), Some(1.0));
        for used in [16, 16] {
            assert_eq!(source.cpu_since(used * SECOND, start + 2 * SECOND), None, "no time");
        }
        assert_eq!(source.cpu_since(15 * SECOND, start + 3 * SECOND), Some(0.0));
    }

    /// A made-up `/proc` and `/sys/fs/cgroup`, gone when dropped.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Self {
            let name = format!("corewire-load-{}-{name}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }

        fn with(self, path: &str, text: &str) -> Self {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            self
        }

        fn memory(&self) -> Option<f64> {
            let (proc, cgroup) = (self.0.join("proc"), self.0.join("cgroup"));
            SystemLoad { proc, cgroup, ..SystemLoad::new() }.memory()
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn memory_is_a_share_of_the_least_limit_that_applies() {
        let tree = Tree::new("limits")
            .with("proc/self/status", "Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n")
            .with("proc/meminfo", "MemTotal:        8192 kB\nMemFree: 1 kB\n");
        assert_eq!(tree.memory(), Some(0.125), "no cgroup: of the physical memory");
        let tree = tree
            .with("proc/self/cgroup", "0::/outer/inner\n")
            .with("cgroup/outer/inner/memory.max", "max\n");
        assert_eq!(tree.memory(), Some(0.125), "no limit");
        let tree = tree.with("cgroup/outer/memory.max", "4194304\n");
        assert_eq!(tree.memory(), Some(0.25), "the limit of the one above");
        let tree = tree.with("cgroup/outer/inner/memory.max", "2097152\n");
        assert_eq!(tree.memory(), Some(0.5));
        let tree = tree.with("cgroup/outer/inner/memory.max", "524288\n");
        assert_eq!(tree.memory(), Some(1.0), "above its limit");
        let tree = tree.with("cgroup/outer/inner/memory.max", "0\n");
        assert_eq!(tree.memory(), None, "of no memory at all");
        // Version 1, in a container that does not see the path it is told.
        let tree = tree
            .with("proc/self/cgroup", "5:cpu,cpuacct:/a\n4:hugetlb,memory:/docker/b\n1:name=x:/\n")
            .with("cgroup/memory/memory.limit_in_bytes", "2097152\n");
        assert_eq!(tree.memory(), Some(0.5));
        let tree = tree.with("cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(tree.memory(), Some(0.125), "no limit in version 1");
    }

    #[test]
    fn what_cannot_be_read_is_unknown() {
        let tree = Tree::new("unknown");
        assert_eq!(tree.memory(), None);
        let mut source = SystemLoad { proc: tree.0.join("proc"), ..SystemLoad::new() };
        assert_eq!((source.cpu(), source.cpu()), (None, None));
        let tree = tree.with("proc/self/status", "VmRSS: many kB\n").with("proc/meminfo", "");
        assert_eq!(tree.memory(), None);
        let tree = tree.with("proc/self/status", "VmRSS: 18446744073709551615 kB\n");
        assert_eq!(tree.memory(), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernel_tells_about_this_process() {
        let mut source = SystemLoad::new();
        assert_eq!(source.cpu(), None);
        // A loop that is busy until the kernel's clock has seen it.
        let deadline = Instant::now() + 20 * SECOND;
        while source.cpu().is_none_or(|share| share == 0.0) {
            assert!(Instant::now() < deadline, "a busy loop takes no time");
        }
        let memory = source.memory().unwrap();
        assert!(memory > 0.0 && memory <= 1.0, "{memory}");
    }
}
