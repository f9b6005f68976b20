//! Who knows what the process takes.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::budget;
use crate::limit::MemorySample;

/// Who knows what the process takes, and what it may. One is shared by all loops that are given it.
pub trait MemorySource: fmt::Debug + Send + Sync {
    /// What the process may take; asked once by each loop, if its settings do not say. `None` if that
    /// is not known.
    fn budget_bytes(&self) -> Option<u64>;

    /// What the process takes at this moment. It is called on the loop and must not block. To what it
    /// says is [accounted](MemorySample::accounted_bytes) the loops add what they hold: there is a
    /// place for what an application keeps for its connections.
    fn sample(&self) -> MemorySample;
}

/// What Linux tells in `/proc`. Elsewhere nothing is known.
#[derive(Debug)]
pub struct SystemMemory {
    statm: Option<File>,
    stalls: Option<File>,
    page_bytes: u64,
}

impl SystemMemory {
    /// Opens what is read with each sample. What is not there is not known.
    pub fn new() -> Self {
        let read = |path: &Path| std::fs::read_to_string(path).ok();
        let stalls = budget::stall_files(read).into_iter().find_map(|path| File::open(path).ok());
        Self { statm: File::open("/proc/self/statm").ok(), stalls, page_bytes: page_bytes() }
    }
}

impl Default for SystemMemory {
    fn default() -> Self {
        Self::new()
    }
}

impl MemorySource for SystemMemory {
    fn budget_bytes(&self) -> Option<u64> {
        budget::bytes(|path| std::fs::read_to_string(path).ok())
    }

    fn sample(&self) -> MemorySample {
        let mut buffer = [0; 256];
        let pages = self.statm.as_ref().and_then(|file| {
            let mut numbers = text(file, &mut buffer)?.split_ascii_whitespace();
            let mut next = || numbers.next()?.parse::<u64>().ok();
            Some([next()?, next()?])
        });
        let [vms, rss] = pages.unwrap_or_default();
        let stall_percent =
            self.stalls.as_ref().and_then(|file| stall_percent(text(file, &mut buffer)?));
        MemorySample {
            rss_bytes: rss.saturating_mul(self.page_bytes),
            vms_bytes: vms.saturating_mul(self.page_bytes),
            accounted_bytes: 0,
            stall_percent,
        }
    }
}

/// What a file of `/proc` says now, read from its beginning; it is made anew for each such read.
fn text<'a>(file: &File, buffer: &'a mut [u8]) -> Option<&'a str> {
    let bytes = file.read_at(buffer, 0).ok()?;
    std::str::from_utf8(&buffer[..bytes]).ok()
}

/// The whole percent of `some avg10=12.34 avg60=…`.
fn stall_percent(text: &str) -> Option<u8> {
    let some = text.lines().find_map(|line| line.strip_prefix("some avg10="))?;
    some.split(['.', ' ']).next()?.parse().ok()
}

/// What `/proc` counts memory in.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn page_bytes() -> u64 {
    rustix::param::page_size() as u64
}

/// Nothing is counted.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn page_bytes() -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stalls_are_read_as_the_kernel_writes_them() {
        let text = "some avg10=12.99 avg60=3.00 avg300=0.10 total=5\nfull avg10=99.00 avg60=0\n";
        assert_eq!(stall_percent(text), Some(12));
        assert_eq!(stall_percent("some avg10=100.00 avg60=0.00"), Some(100));
        assert_eq!(stall_percent("full avg10=1.00\nsome avg10=7"), Some(7), "in another order");
        assert_eq!(stall_percent("some avg10=0.00 avg60"), Some(0), "cut off");
        for text in [
            "",
            "\n",
            "full avg10=1.00",
            "some",
            "some avg10=",
            "some avg10=\n",
            "some avg10=.50",
            "some avg10=-1.00",
            "some avg10=256.0",
            "some avg10=nan avg60=0.00",
            "some  avg10=1.00",
            "some avg60=1.00 avg10=2.00",
        ] {
            assert_eq!(stall_percent(text), None, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_known_and_no_error() {
        let nowhere = SystemMemory { statm: None, stalls: None, page_bytes: 4096 };
        assert_eq!(nowhere.sample(), MemorySample::default());
        // Neither numbers nor, for a directory, anything.
        for path in [concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), env!("CARGO_MANIFEST_DIR")]
        {
            let file = || File::open(path).ok();
            let odd = SystemMemory { statm: file(), stalls: file(), page_bytes: 4096 };
            assert_eq!(odd.sample(), MemorySample::default(), "{path}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_touched_is_seen() {
        // Other tests take and give back memory meanwhile: this is more than they do. Mapped, it goes
        // at once, whatever the allocator keeps.
        const TOUCHED: usize = 256 << 20;
        const SEEN: u64 = 128 << 20;
        let source = SystemMemory::new();
        let before = source.sample();
        let mut touched = memmap2::MmapMut::map_anon(TOUCHED).unwrap();
        touched.fill(1);
        let after = source.sample();
        assert!(before.rss_bytes > 0 && before.vms_bytes >= before.rss_bytes);
        assert!(after.rss_bytes >= before.rss_bytes + SEEN, "{before:?} {after:?}");
        drop(touched);
        let end = source.sample();
        assert!(end.rss_bytes + SEEN <= after.rss_bytes, "{after:?} {end:?}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_has_a_budget() {
        let bytes = SystemMemory::new().budget_bytes().unwrap();
        assert!((1 << 20..1 << 50).contains(&bytes), "{bytes}");
    }
}
