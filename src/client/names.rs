//! The addresses of names: what a loop remembers, and the threads that ask.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::resolver::{
    Cached, DnsCache, DnsSettings, Left, RequestId, Resolved, Resolver, ResolverThreads, Withdrawn,
};
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
    /// Those that are asked for.
    requests: HashMap<(Box<str>, u16), RequestId>,
    threads: ResolverThreads,
}

impl Names {
    pub(super) fn new(resolver: Arc<dyn Resolver>, settings: &DnsSettings) -> Self {
        Self {
            cache: DnsCache::new(settings),
            requests: HashMap::new(),
            threads: ResolverThreads::new(resolver, settings),
        }
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
            Ok(id) => {
                self.requests.insert((host.into(), port), id);
                Lookup::Pending
            }
            Err(error) => {
                let (_, resolved) = self.cache.handle_answer(host, port, Err(error), at.now());
                Lookup::Known(resolved)
            }
        }
    }

    /// `key` does not wait for `host` any more. If nobody does, the name does not keep others from
    /// being asked for; what is found late is remembered.
    pub(super) fn leave(&mut self, key: Key, host: &str, port: u16) {
        if self.cache.leave(host, port, &key) == Left::Others {
            return;
        }
        let name = (Box::from(host), port);
        let Some(id) = self.requests.get(&name) else { return };
        if self.threads.withdraw(*id) == Withdrawn::Unasked {
            self.requests.remove(&name);
            self.cache.handle_withdrawn(host, port);
        }
    }

    /// Forgets what is known.
    pub(super) fn shrink(&mut self) {
        self.cache.shrink();
    }

    /// Who has waited for this, and what to tell them.
    pub(super) fn handle_answer(&mut self, now: Instant, answer: Answer) -> (Vec<Key>, Resolved) {
        let Answer { host, port, result } = answer;
        let answered = self.cache.handle_answer(&host, port, result, now);
        self.requests.remove(&(host, port));
        answered
    }
}
