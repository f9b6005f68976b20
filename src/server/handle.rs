//! The server as other threads see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::limit::PressureSnapshot;
use crate::protocol::PreparedMessage;
use crate::reactor::{
    Adoption, Command, ConnectionId, Decision, Handle, PostError, ShardIndex, Ticket,
};
use crate::wire::CloseCode;

/// Posts commands to the loops of a [`Server`](super::Server) from any thread. Cloning is cheap.
///
/// Nothing here waits: a command is noted in its loop's bounded mailbox, or comes back at once.
#[derive(Clone)]
pub struct ServerHandle {
    /// One for each loop, in the order of their shards.
    loops: Arc<[Handle]>,
    /// Connections handed over so far, so that each loop gets its share.
    adoptions: Arc<AtomicUsize>,
}

impl ServerHandle {
    pub(super) fn new(loops: impl Into<Arc<[Handle]>>) -> Self {
        Self { loops: loops.into(), adoptions: Arc::default() }
    }

    /// Sends a message to a connection; if it is gone by then, the message is dropped and counted.
    ///
    /// # Errors
    /// As [`ServerHandle::post`].
    pub fn send(&self, id: ConnectionId, message: PreparedMessage) -> Result<(), PostError> {
        self.post(Command::Send(id, message))
    }

    /// Sends a message to all open connections.
    ///
    /// # Errors
    /// [`PostError::Full`] if a mailbox was full; the other loops send the message.
    pub fn broadcast(&self, message: &PreparedMessage) -> Result<(), PostError> {
        self.post_to_all(|| Command::Broadcast(message.clone()))
    }

    /// Begins the closing handshake of a connection.
    ///
    /// # Errors
    /// As [`ServerHandle::post`].
    pub fn close(&self, id: ConnectionId, code: CloseCode, reason: &str) -> Result<(), PostError> {
        self.post(Command::Close(id, code, reason.into()))
    }

    /// Ends a connection without a closing handshake.
    ///
    /// # Errors
    /// As [`ServerHandle::post`].
    pub fn abort(&self, id: ConnectionId) -> Result<(), PostError> {
        self.post(Command::Abort(id))
    }

    /// Decides about a deferred request; if nobody waits for that any more, it is counted.
    ///
    /// # Errors
    /// As [`ServerHandle::post`].
    pub fn decide(&self, ticket: Ticket, decision: Decision) -> Result<(), PostError> {
        self.post(Command::Decide(ticket, Box::new(decision)))
    }

    /// Hands a connection over to one of the loops, each in its turn. If it cannot be taken there
    /// it is closed and counted in [`Counters::adoptions_failed`](crate::metrics::Counters).
    ///
    /// # Errors
    /// [`PostError::Full`] gives it back.
    pub fn adopt(&self, adoption: Adoption) -> Result<(), PostError> {
        let turn = self.adoptions.fetch_add(1, Ordering::Relaxed);
        self.loops[turn % self.loops.len()].adopt(adoption)
    }

    /// Stops listening, closes all connections with 1001 and ends the loops when they are gone, at
    /// the latest after `deadline`. A second call changes nothing.
    ///
    /// # Errors
    /// [`PostError::Full`] if a mailbox was full; the other loops shut down. Call again later.
    pub fn shutdown(&self, deadline: Duration) -> Result<(), PostError> {
        self.post_to_all(|| Command::Shutdown(deadline))
    }

    /// Posts a command: one about a connection to the loop of that connection, an adoption to one
    /// of the loops, any other to all.
    ///
    /// # Errors
    /// [`PostError::Full`] gives the command back, [`PostError::WrongShard`] means that the name
    /// is none of this server's, or that the command is a notice, which is for one of
    /// [`ServerHandle::loops`]; [`PostError::InvalidClose`] says what is wrong with a close.
    pub fn post(&self, command: Command) -> Result<(), PostError> {
        match command {
            Command::Send(id, _) | Command::Close(id, ..) | Command::Abort(id) => {
                self.post_to(id.shard(), command)
            }
            Command::Decide(ticket, _) => self.post_to(ticket.id().shard(), command),
            Command::Adopt(adoption) => self.adopt(adoption),
            Command::Broadcast(message) => self.broadcast(&message),
            Command::Shutdown(deadline) => self.shutdown(deadline),
            // It says nothing of a loop.
            Command::Notify(_) => Err(PostError::WrongShard(command)),
        }
    }

    /// The latest look at memory, of the loop that sees the highest level; `None` before the first,
    /// and if the server does not look.
    pub fn pressure(&self) -> Option<PressureSnapshot> {
        let snapshots = self.loops.iter().filter_map(Handle::pressure);
        snapshots.max_by_key(|snapshot| (snapshot.level, snapshot.at))
    }

    /// The handles of the loops, in the order of their shards.
    pub fn loops(&self) -> &[Handle] {
        &self.loops
    }

    fn post_to(&self, shard: ShardIndex, command: Command) -> Result<(), PostError> {
        match self.loops.get(usize::from(shard.0)) {
            Some(handle) => handle.post(command),
            None => Err(PostError::WrongShard(command)),
        }
    }

    /// Posts to every loop, also if one of them refuses.
    fn post_to_all(&self, command: impl Fn() -> Command) -> Result<(), PostError> {
        self.loops.iter().map(|handle| handle.post(command())).fold(Ok(()), Result::and)
    }
}
