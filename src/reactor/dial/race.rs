//! Connecting to one of several addresses: the next is tried while those before it may still answer
//! (RFC 8305 §5).

use std::io;
use std::time::{Duration, Instant};
use std::vec;

use crate::reactor::net::{Net, NetKey, SocketOptions};
use crate::reactor::remote::RemoteAddress;
use crate::reactor::shared::after;

/// Sockets that are on their way, and addresses that are still to be tried.
#[derive(Debug)]
pub(super) struct Race {
    remotes: vec::IntoIter<RemoteAddress>,
    runners: Vec<Runner>,
    /// When the next one starts, if nothing is decided by then.
    next_start: Option<Instant>,
    /// What the last one has failed with.
    error: Option<io::Error>,
}

/// A socket on its way to an address.
#[derive(Debug)]
pub(super) struct Runner {
    pub(super) socket: NetKey,
    pub(super) remote: RemoteAddress,
}

/// What has come of a race.
pub(super) enum Standing {
    Won(Runner),
    Open,
    Lost(io::Error),
}

impl Race {
    pub(super) fn new(remotes: Vec<RemoteAddress>) -> Self {
        Self { remotes: remotes.into_iter(), runners: Vec::new(), next_start: None, error: None }
    }

    /// When to call [`Race::run`], though nothing happens.
    pub(super) fn next_start(&self) -> Option<Instant> {
        self.next_start
    }

    /// Looks who has arrived or failed, and starts the next runner if one has failed, none is left,
    /// or it is time.
    pub(super) fn run<N: Net>(
        &mut self,
        net: &mut N,
        sockets: &SocketOptions,
        delay: Duration,
        token: u64,
        now: Instant,
    ) -> Standing {
        let count = self.runners.len();
        let mut winner = None;
        let error = &mut self.error;
        self.runners.retain_mut(|runner| match finish(net, runner.socket) {
            Ok(()) if winner.is_none() => {
                let remote = runner.remote.clone();
                winner = Some(Runner { socket: runner.socket, remote });
                false
            }
            // A second one that has arrived at the same time is not needed.
            Ok(()) => true,
            Err(failure) if failure.kind() == io::ErrorKind::WouldBlock => true,
            Err(failure) => {
                net.close(runner.socket);
                *error = Some(failure);
                false
            }
        });
        if let Some(winner) = winner {
            self.close(net);
            return Standing::Won(winner);
        }
        let is_time = self.next_start.is_some_and(|start| start <= now);
        if self.runners.len() < count || self.runners.is_empty() || is_time {
            self.start(net, sockets, token);
            let waits = self.remotes.len() > 0;
            self.next_start = waits.then(|| after(now, delay));
        }
        match self.error.take() {
            Some(error) if self.runners.is_empty() => Standing::Lost(error),
            error => {
                self.error = error;
                Standing::Open
            }
        }
    }

    /// Starts the next one whose start does not fail at once.
    fn start<N: Net>(&mut self, net: &mut N, sockets: &SocketOptions, token: u64) {
        for remote in self.remotes.by_ref() {
            match net.connect(&remote, sockets, token) {
                Ok(socket) => {
                    self.runners.push(Runner { socket, remote });
                    return;
                }
                Err(error) => self.error = Some(error),
            }
        }
        if self.runners.is_empty() && self.error.is_none() {
            let what = "there is no address to connect to";
            self.error = Some(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
    }

    /// Closes all sockets.
    pub(super) fn close<N: Net>(&mut self, net: &mut N) {
        for runner in self.runners.drain(..) {
            net.close(runner.socket);
        }
    }
}

/// Whether a socket has arrived; a signal is no answer.
fn finish<N: Net>(net: &mut N, socket: NetKey) -> io::Result<()> {
    loop {
        match net.finish_connect(socket) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
