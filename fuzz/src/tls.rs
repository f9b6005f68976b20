//! One connection over TLS on the simulated network of the tests, and what may happen to it.

use std::sync::{Arc, OnceLock};

use arbitrary::Arbitrary;
use corewire::Tls;
use rustls::{ClientConfig, ContentType};

use crate::sim_bed::{Bed, echo};
use crate::sim_errno::EAGAIN;
use crate::sim_peer::{BINARY, frames, message, messages, split_head, upgrade_request};
use crate::sim_world::Call;
use crate::tls_peer::{Identity, TlsPeer, VERSIONS, client_config, server_tls};
use crate::tls_records::record;

/// What may happen; numbers count bytes.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Operation {
    Say(u16),
    Write(u16),
    Read(u16),
    ShortRead(u8),
    ShortWrite(u8),
    RefusedWrite,
    Flip(u16),
    /// A record of any type with a little of anything in it.
    Record(u8, [u8; 6]),
    CloseNotify,
    Fin,
    Turn,
}

/// A connection, and what has become of it.
pub struct Link {
    bed: Bed,
    peer: TlsPeer,
    waiting: Vec<u8>,
    said: Vec<usize>,
    /// All that was said has come or will, and is to be echoed.
    is_honest: bool,
    has_said_goodbye: bool,
}

static PARTIES: OnceLock<(Tls, [Arc<ClientConfig>; 2])> = OnceLock::new();

impl Link {
    /// In TLS 1.2 or 1.3, as `version` is even or odd.
    pub fn new(version: u8) -> Self {
        let (tls, clients) = PARTIES.get_or_init(|| {
            let identity = Identity::ed25519(&["example.com"]);
            let client = |version| Arc::new(client_config(&[&identity], version));
            (server_tls(&[&identity]), VERSIONS.map(client))
        });
        let bed = Bed::new(|settings| settings.tls = Some(tls.clone()), echo);
        let mut peer = TlsPeer::connect(&bed, &clients[usize::from(version % 2)]);
        peer.say(&upgrade_request("/", ""));
        Self {
            bed,
            peer,
            waiting: Vec::new(),
            said: Vec::new(),
            is_honest: true,
            has_said_goodbye: false,
        }
    }

    pub fn apply(&mut self, operation: Operation) {
        let Self { bed, peer, waiting, .. } = self;
        waiting.extend(peer.outgoing());
        match operation {
            Operation::Say(bytes) => {
                peer.say(&message(BINARY, &vec![7; usize::from(bytes)]));
                self.said.push(usize::from(bytes));
            }
            Operation::Write(bytes) => {
                let written = peer.socket.write(&waiting[..waiting.len().min(bytes.into())]);
                waiting.drain(..written);
            }
            Operation::Read(bytes) => self.read(bytes.into()),
            Operation::ShortRead(bytes) => {
                bed.sim.shorten(Call::Receive, &[1 + usize::from(bytes)])
            }
            Operation::ShortWrite(bytes) => bed.sim.shorten(Call::Send, &[1 + usize::from(bytes)]),
            Operation::RefusedWrite => bed.sim.fail(Call::Send, &[EAGAIN]),
            Operation::Flip(at) => {
                if let Some(byte) = waiting.get_mut(usize::from(at)) {
                    *byte ^= 1 << (at % 8);
                    self.is_honest = false;
                }
            }
            Operation::Record(content_type, payload) if !peer.tls.is_handshaking() => {
                let payload = &payload[..usize::from(content_type) % 7];
                waiting.extend(record(peer, ContentType::from(20 + content_type % 5), payload));
                self.is_honest = false;
            }
            Operation::CloseNotify => {
                peer.tls.send_close_notify();
                self.is_honest = false;
                self.has_said_goodbye = true;
            }
            Operation::Fin => {
                peer.socket.fin();
                self.is_honest = false;
            }
            Operation::Record(..) | Operation::Turn => {}
        }
        self.bed.turn();
    }

    /// The client is not shown anything behind its goodbye: with debug assertions it does not bear a
    /// bad record there.
    fn read(&mut self, bytes_max: usize) {
        if self.has_said_goodbye {
            self.peer.socket.read(bytes_max);
        } else {
            self.peer.pull_at_most(bytes_max);
        }
    }

    /// Everything that waits goes on its way; nothing may be left at last.
    ///
    /// # Panics
    /// If an honest client's messages do not come back, or anything stays behind.
    pub fn finish(mut self) {
        for _ in 0..200 {
            self.waiting.extend(self.peer.outgoing());
            let written = self.peer.socket.write(&self.waiting);
            self.waiting.drain(..written);
            self.bed.run_for(std::time::Duration::from_millis(3));
            self.read(usize::MAX);
        }
        let rest = split_head(&self.peer.received).map_or(&[][..], |(_, rest)| rest);
        let sizes: Vec<_> = messages(&frames(rest).0).iter().map(|echo| echo.1.len()).collect();
        assert!(self.said.starts_with(&sizes), "another message than was said");
        assert!(!self.is_honest || sizes == self.said, "messages were lost");
        self.peer.socket.reset();
        self.bed.turns(3);
        self.bed.assert_empty();
    }
}
