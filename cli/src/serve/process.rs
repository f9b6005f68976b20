//! What the process asks of its system: descriptors, cores, signals.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use corewire::{ServerHandle, ShardIndex};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::{emulate_default_handler, signal_name};
use tracing::{error, info};

use crate::args::Failure;

/// Raises the limit of open files to the hard one: each connection is a descriptor.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(())
}

/// From here on signals wait to be taken.
pub fn catch_signals() -> Result<Signals, Failure> {
    Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Failure(format!("cannot catch signals: {error}")))
}

/// Shuts the server down at the first signal, ends the process at the second.
pub fn shut_down_on(
    mut signals: Signals,
    server: ServerHandle,
    is_draining: Arc<AtomicBool>,
    timeout: Duration,
) {
    thread::spawn(move || {
        let mut signals = signals.forever();
        if let Some(signal) = signals.next() {
            let name = signal_name(signal).unwrap_or("signal");
            info!("{name}: closing all connections with 1001, for at most {timeout:?}");
            is_draining.store(true, Ordering::Relaxed);
            // A mailbox is full for a moment only.
            while server.shutdown(timeout).is_err() {
                thread::sleep(Duration::from_millis(1));
            }
        }
        if let Some(signal) = signals.next() {
            error!("second signal: ending at once");
            let _ = emulate_default_handler(signal);
        }
    });
}

/// The cores that this process may run on.
#[cfg(target_os = "linux")]
pub fn cores() -> Result<Vec<usize>, Failure> {
    use rustix::thread::{CpuSet, sched_getaffinity};
    let set = sched_getaffinity(None).map_err(|error| Failure(format!("cannot pin: {error}")))?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

/// Binds this thread to a core of its own; with more threads than cores they go round.
#[cfg(target_os = "linux")]
pub fn pin(cores: &[usize], shard: ShardIndex) {
    use rustix::thread::{CpuSet, sched_setaffinity};
    let Some(core) = cores.get(usize::from(shard.0) % cores.len().max(1)) else { return };
    let mut set = CpuSet::new();
    set.set(*core);
    match sched_setaffinity(None, &set) {
        Ok(()) => tracing::debug!("loop {} runs on core {core}", shard.0),
        Err(error) => tracing::warn!("loop {} is not pinned: {error}", shard.0),
    }
}

/// Only Linux lets a thread be bound to a core.
#[cfg(not(target_os = "linux"))]
pub fn cores() -> Result<Vec<usize>, Failure> {
    Err(Failure("--pin works on Linux only".into()))
}

/// See [`cores`].
#[cfg(not(target_os = "linux"))]
pub fn pin(_: &[usize], _: ShardIndex) {}
