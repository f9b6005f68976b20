//! What the process asks of its system: descriptors, cores, signals.

use std::io;
use std::thread;
use std::time::Duration;

use corewire::{Drain, ServerHandle, ShardIndex};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::{emulate_default_handler, signal_name};
use tracing::{error, info};

use crate::args::Failure;
use crate::settings::Secured;

/// Raises the limit of open files to the hard one: each connection is a descriptor.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(())
}

/// From here on signals wait to be taken. SIGHUP is among them if it has a meaning here; otherwise
/// it ends the process, as it does when a terminal goes away.
pub fn catch_signals(secured: &[Secured]) -> Result<Signals, Failure> {
    let hang_up = secured.iter().any(Secured::is_of_files).then_some(SIGHUP);
    Signals::new([SIGINT, SIGTERM].into_iter().chain(hang_up))
        .map_err(|error| Failure(format!("cannot catch signals: {error}")))
}

/// Drains the server at the first signal: over time at SIGTERM; at once at SIGINT, behind which
/// somebody waits at a terminal. The second cuts off who is left. SIGHUP has the certificates read
/// again.
pub fn attend(mut signals: Signals, server: ServerHandle, drain: Drain, secured: Vec<Secured>) {
    thread::spawn(move || {
        let mut endings = 0;
        for signal in &mut signals {
            if signal == SIGHUP {
                secured.iter().filter(|it| it.is_of_files()).for_each(reload);
                continue;
            }
            endings += 1;
            let name = signal_name(signal).unwrap_or("signal");
            match (endings, signal) {
                (1, SIGTERM) => {
                    let Drain { window, grace, code, .. } = drain;
                    info!("{name}: closing all connections with {code}, over {window:?}");
                    info!("each has {grace:?} to answer");
                    tell(&server, &drain);
                }
                (1, _) => {
                    let grace = drain.grace;
                    info!("{name}: closing all connections with 1001, for at most {grace:?}");
                    tell(&server, &Drain::at_once(grace));
                }
                (2, _) => {
                    error!("second signal: cutting off who is left");
                    tell(&server, &Drain::at_once(Duration::ZERO));
                }
                // A loop stands still, or it would be over.
                (_, _) => {
                    let _ = emulate_default_handler(signal);
                }
            }
        }
    });
}

/// A mailbox is full for a moment only, or its loop stands still: then the next signal is heard too.
fn tell(server: &ServerHandle, drain: &Drain) {
    let (server, drain) = (server.clone(), *drain);
    thread::spawn(move || {
        while server.drain(&drain).is_err() {
            thread::sleep(Duration::from_millis(1));
        }
    });
}

fn reload(secured: &Secured) {
    match secured.tls.reload() {
        Ok(()) => info!("SIGHUP: certificates are read again: {secured}"),
        Err(error) => error!("SIGHUP: certificates stay as they were: {error}"),
    }
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

#[cfg(test)]
mod tests {
    use corewire::{Context, Handler, Message, Server};

    use super::*;

    struct Nobody;

    impl Handler for Nobody {
        type Data = ();

        fn on_message(&mut self, _: &mut Context<'_, ()>, _: Message<'_>) {}
    }

    #[test]
    fn loop_that_stands_still_with_a_full_mailbox_does_not_hide_the_next_signal() {
        let builder = Server::builder().listen(([127, 0, 0, 1], 0)).threads(2);
        let builder = builder.limits(|limits| limits.mailbox_commands_max = 1);
        let server = builder.build(|_shard| Nobody).unwrap();
        let handle = server.handle();
        handle.loops()[1].notify(()).unwrap();
        tell(&handle, &Drain::default());
        assert!(handle.loops()[1].notify(()).is_err(), "nobody has emptied it");
        // It is told as soon as it goes on.
        server.run().unwrap();
    }
}
