//! The addresses of names: what a loop remembers, and the threads that ask.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::resolver::{Cached, DnsCache, DnsSettings, Resolved, Resolver, ResolverThreads};
use crate::collections::Key;
use crate::reactor::{Loop, PostError};

/// What is known of a name.
pub(super) enum Lookup {
    Known(Resolved),
    /// It was asked for; an [`Answer`] will come.
    Pending,
}

/// What was asked for has come, as a notice.
pub(super) struct Answer {
    host: Box<str>,
    port: u16,
    result: io::Result<Vec<SocketAddr>>,
}

/// How long a helper thread waits for room in its loop's mailbox. Guess: a few turns of a loop that
/// has so much to do.
const FULL_MAILBOX_DELAY: Duration = Duration::from_millis(1);

/// The names that a loop has asked for.
pub(super) struct Names {
    cache: DnsCache<Key>,
    threads: ResolverThreads,
}

impl Names {
    pub(super) fn new(resolver: Arc<dyn Resolver>, settings: &DnsSettings) -> Self {
        Self { cache: DnsCache::new(settings), threads: ResolverThreads::new(resolver, settings) }
    }

    /// What is known of `host`; `key` is who waits for what is not known yet, until `deadline`.
    pub(super) fn lookup<D>(
        &mut self,
        at: &Loop<'_, D>,
        key: Key,
        host: &str,
        port: u16,
        deadline: Instant,
    ) -> Lookup {
        match self.cache.lookup(host, port, key, at.now()) {
            Cached::Known(resolved) => Lookup::Known(resolved),
            Cached::Waiting => Lookup::Pending,
            Cached::Ask => self.ask(at, host, port, deadline),
            Cached::Full(_) => Lookup::Known(Err(Arc::new(io::ErrorKind::QuotaExceeded.into()))),
        }
    }

    fn ask<D>(&mut self, at: &Loop<'_, D>, host: &str, port: u16, deadline: Instant) -> Lookup {
        let (handle, name) = (at.handle(), Box::from(host));
        let on_answer = move |result| {
            let mut posted = handle.notify(Answer { host: name, port, result });
            // It must not get lost: the name counts as asked for until it is there.
            while let Err(PostError::Full(answer)) = posted {
                thread::sleep(FULL_MAILBOX_DELAY);
                posted = handle.post(answer);
            }
        };
        match self.threads.resolve(host, port, deadline, Box::new(on_answer)) {
            Ok(()) => Lookup::Pending,
            Err(error) => {
                let (_, resolved) = self.cache.handle_answer(host, port, Err(error), at.now());
                Lookup::Known(resolved)
            }
        }
    }

    /// Who has waited for this, and what to tell them.
    pub(super) fn handle_answer(&mut self, now: Instant, answer: Answer) -> (Vec<Key>, Resolved) {
        let Answer { host, port, result } = answer;
        self.cache.handle_answer(&host, port, result, now)
    }
}
