//! How threads wait for a loop.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::error::EndCause;
use crate::client::clients::Clients;
use crate::client::handler::ClientHandler;
use crate::client::layer::ClientLayer;
use crate::client::reconnect::StopReason;
use crate::reactor::{MioNet, ReactorBuilder, ReactorConfig, Wait};

/// How long dropping what is the last of its loop may wait for the Close to be handed to the kernel,
/// so that a program that ends has said what it had to say. Guess: on a connection that takes data it
/// is a turn.
pub(super) const DROP_PATIENCE: Duration = Duration::from_millis(250);

/// How long a loop stays for the sake of its sockets, once it has nothing else to do: those who were
/// told Close may read it, as [`LoopLimits::parting_timeout`](crate::LoopLimits::parting_timeout)
/// wants.
pub(super) const FAREWELL: Duration = Duration::from_secs(1);

/// A time that is too long to be told is without end.
pub(super) fn patience(timeout: Duration) -> Wait {
    Instant::now().checked_add(timeout).map_or(Wait::Forever, Wait::Until)
}

/// Waits to be told, for as long as there is patience.
pub(super) fn wait<'a, T>(
    condition: &Condvar,
    state: MutexGuard<'a, T>,
    patience: Wait,
) -> MutexGuard<'a, T> {
    match patience {
        Wait::No => state,
        Wait::Forever => condition.wait(state).unwrap_or_else(PoisonError::into_inner),
        Wait::Until(deadline) => {
            let left = deadline.saturating_duration_since(Instant::now());
            let waited = condition.wait_timeout(state, left);
            waited.unwrap_or_else(PoisonError::into_inner).0
        }
    }
}

pub(super) fn is_over(patience: Wait) -> bool {
    match patience {
        Wait::No => true,
        Wait::Until(deadline) => deadline <= Instant::now(),
        Wait::Forever => false,
    }
}

/// What a loop is made with.
pub(super) fn builder() -> io::Result<ReactorBuilder<MioNet>> {
    let config = ReactorConfig::random()?;
    let net = MioNet::new(config.limits.receive_buffer_bytes)?;
    Ok(ReactorBuilder::new(net, config))
}

/// Runs a loop on a thread of its own, and tells its end, once nothing is left of the loop.
pub(super) fn spawn<H: ClientHandler>(
    name: &str,
    builder: ReactorBuilder<MioNet>,
    make: impl FnOnce(&mut Clients) -> H + Send + 'static,
    end: impl FnOnce(EndCause) + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.into()).spawn(move || {
        let run = move || builder.build(ClientLayer::build(make)).run();
        end(match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(())) => EndCause::Stopped(StopReason::Stopped),
            Ok(Err(error)) => EndCause::Loop(error.kind()),
            Err(_) => EndCause::Panicked,
        });
    })
}
