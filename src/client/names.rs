//! The addresses of names.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Instant;

use crate::collections::Key;
use crate::reactor::Loop;

/// What is known of a name.
pub(super) enum Lookup {
    Found(Vec<SocketAddr>),
    Failed(io::Error),
    /// It was asked for; an [`Answer`] will come.
    Pending,
}

/// What was asked for has come, as a notice.
pub(super) struct Answer {
    key: Key,
    result: io::Result<Vec<SocketAddr>>,
}

pub(super) struct Names {
    known: Vec<(Key, io::Result<Vec<SocketAddr>>)>,
}

impl Names {
    pub(super) const fn new() -> Self {
        Self { known: Vec::new() }
    }

    pub(super) fn lookup<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        key: Key,
        host: &str,
        port: u16,
    ) -> Lookup {
        if let Some(index) = self.known.iter().position(|(known, _)| *known == key) {
            return match self.known.remove(index).1 {
                Ok(addresses) => Lookup::Found(addresses),
                Err(error) => Lookup::Failed(error),
            };
        }
        let (handle, host) = (at.handle(), host.to_owned());
        std::thread::spawn(move || {
            let result = (&*host, port).to_socket_addrs().map(Iterator::collect);
            let _ = handle.notify(Answer { key, result });
        });
        Lookup::Pending
    }

    pub(super) fn handle_answer(&mut self, _: Instant, answer: Answer) -> Vec<Key> {
        self.known.push((answer.key, answer.result));
        vec![answer.key]
    }
}
