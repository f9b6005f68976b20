//! What a loop holds, to be watched.

use super::dial::Dialling;
use super::handler::Handler;
use super::net::Net;
use super::slot::{HttpState, ReceiveSlot};
use super::turn::Reactor;

/// What a loop holds at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Sockets of peers, in any phase.
    pub sockets: usize,
    /// Open WebSockets.
    pub open: usize,
    /// WebSockets that were dialled and are on their way.
    pub dialling: usize,
    /// Entries in the timer wheel.
    pub timers: usize,
    /// Reads not handled to the end.
    pub backlogs: usize,
    /// Messages under way.
    pub assemblies: usize,
    /// Blocks in use.
    pub blocks: usize,
    /// Send rings in use.
    pub rings: usize,
    /// Queue entries in use.
    pub segments: usize,
    /// Decompressors in use, one for each compressed message under way.
    pub inflaters: usize,
    /// What connections keep of their peers' messages because later ones may refer to it.
    pub windows: usize,
    /// What connections keep of what they have sent because later messages may refer to it: a
    /// window or a whole compressor each.
    pub takeovers: usize,
    /// Connections that speak TLS.
    pub tls_sessions: usize,
    /// What they hold: sessions, torn records, and records that the kernel has refused.
    pub tls_bytes: usize,
    /// Subscriptions to topics.
    pub subscriptions: usize,
    /// Bytes of slots, timers, blocks, send queues, compressors, windows and TLS, in use or kept, and
    /// of what is queued by reference, each once however many connections have it.
    pub pinned_bytes: usize,
    /// Of these, free blocks that are kept for the next message.
    pub retained_bytes: usize,
}

impl<N: Net, H: Handler> Reactor<N, H> {
    /// What the loop holds at the moment.
    pub fn usage(&self) -> Usage {
        Usage {
            sockets: self.shared.slots.len(),
            open: self.shared.open as usize,
            dialling: self.shared.dialling as usize,
            timers: self.shared.wheel.len(),
            backlogs: self.backlogs.len(),
            assemblies: self.receive_pools.assemblies(),
            blocks: self.receive_pools.blocks.outstanding(),
            rings: self.shared.pools.outbox.rings_in_use(),
            segments: self.shared.pools.outbox.segments(),
            inflaters: self.receive_pools.inflaters(),
            windows: self.receive_pools.windows(),
            takeovers: self.shared.pools.takeovers(),
            tls_sessions: self.net.links(),
            tls_bytes: self.net.pinned_bytes(),
            subscriptions: self.shared.subjects.subscriptions(),
            pinned_bytes: self.accounted_bytes(),
            retained_bytes: self.receive_pools.blocks.retained_bytes(),
        }
    }

    /// All memory that grows with connections and traffic, whoever it is held for.
    pub(super) fn accounted_bytes(&self) -> usize {
        self.receive_pools.pinned_bytes()
            + self.shared.pools.pinned_bytes()
            + self.shared.pools.outbox.distinct_shared_bytes()
            + self.shared.slots.pinned_bytes()
            + self.shared.wheel.pinned_bytes()
            + self.shared.subjects.pinned_bytes()
            + self.net.pinned_bytes()
            + self.receivers.len() * size_of::<ReceiveSlot<H::Data>>()
            + self.shared.subprotocols.pinned_bytes()
            + self.early_bytes()
    }

    /// What connections have besides until they open. What has closed and is not gone counts too, and
    /// what waits for decisions does not, which is a little and not for long.
    fn early_bytes(&self) -> usize {
        let dialling = self.shared.dialling as usize;
        let early =
            self.shared.slots.len() - (self.shared.open as usize).min(self.shared.slots.len());
        dialling * size_of::<Dialling<H::Data>>()
            + early.saturating_sub(dialling) * size_of::<HttpState<H::Data>>()
    }
}
