//! The machine as Linux shows it: cores, descriptors, and the price that a process has paid so far.

use std::fs;
use std::io;
use std::process::{Child, Command};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Binds the calling thread to one core.
///
/// # Errors
/// What `sched_setaffinity(2)` says; also a core that no set of cores can name.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    if core >= CpuSet::MAX_CPU {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no such core"));
    }
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

/// Starts a process on a core, or wherever the kernel likes.
///
/// # Errors
/// No such program, no such core.
pub fn spawn_on(command: &mut Command, core: Option<usize>) -> io::Result<Child> {
    let Some(core) = core else { return command.spawn() };
    // A child begins with the affinity of the thread that starts it.
    let own = sched_getaffinity(None)?;
    pin_to_core(core)?;
    let child = command.spawn();
    sched_setaffinity(None, &own)?;
    child
}

/// Raises the limit of open descriptors to the hard limit and returns it.
///
/// # Errors
/// What `setrlimit(2)` says.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(maximum.unwrap_or(u64::MAX))
}

/// CPU time that all living threads of a process have used, in nanoseconds.
///
/// Source: the first field of `/proc/PID/task/*/schedstat`, which counts to the nanosecond where
/// `/proc/PID/stat` counts ticks. A thread that ended takes its time with it.
///
/// # Errors
/// No such process, or a kernel without schedstat.
pub fn cpu_nanoseconds(pid: u32) -> io::Result<u64> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        match fs::read_to_string(task?.path().join("schedstat")) {
            Ok(text) => total += first_number(&text)?,
            // It ended since the directory was read.
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(total)
}

/// Resident memory of a process, in bytes.
///
/// Source: `Rss` of `/proc/PID/smaps_rollup`, which walks the pages; `VmRSS` of
/// `/proc/PID/status` may lag by 64 pages a thread.
///
/// # Errors
/// No such process, or one of another user.
pub fn resident_bytes(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let rss = text.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap_or_default();
    Ok(first_number(rss)? * 1024)
}

fn is_gone(error: &io::Error) -> bool {
    let no_such_process = rustix::io::Errno::SRCH.raw_os_error();
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(no_such_process)
}

fn first_number(text: &str) -> io::Result<u64> {
    let word = text.split_whitespace().next().unwrap_or_default();
    word.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "no number in /proc"))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_process_that_works_uses_cpu() {
        let pid = std::process::id();
        let before = cpu_nanoseconds(pid).expect("schedstat");
        // The kernel brings a running thread's figure up to date at its next tick.
        let deadline = Instant::now() + Duration::from_secs(5);
        while cpu_nanoseconds(pid).expect("schedstat") <= before {
            assert!(Instant::now() < deadline, "no CPU time was counted");
        }
    }

    #[test]
    fn a_process_that_holds_memory_is_resident() {
        let block = vec![1; 16_000_000];
        assert!(resident_bytes(std::process::id()).expect("smaps_rollup") > 16_000_000);
        std::hint::black_box(block);
    }

    #[test]
    fn a_child_runs_on_its_core_and_we_where_we_were() {
        let before = sched_getaffinity(None).expect("a set of cores");
        let core = (0..CpuSet::MAX_CPU).find(|core| before.is_set(*core)).expect("a core");
        let mut child = spawn_on(Command::new("sleep").arg("60"), Some(core)).expect("sleep");
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("/proc");
        child.kill().and_then(|()| child.wait()).expect("a child");
        assert!(status.contains(&format!("Cpus_allowed_list:\t{core}\n")), "{status}");
        assert_eq!(sched_getaffinity(None).expect("a set of cores"), before);
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(cpu_nanoseconds(u32::MAX).is_err());
        assert!(resident_bytes(u32::MAX).is_err());
    }

    #[test]
    fn a_missing_number_is_an_error() {
        assert!(first_number("kB").is_err());
        assert!(first_number("").is_err());
        assert_eq!(first_number("  12 kB").ok(), Some(12));
    }
}
