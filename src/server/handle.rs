//! The server as other threads see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::acceptor::Switch;
use crate::limit::PressureSnapshot;
use crate::metrics::Counters;
use crate::protocol::PreparedMessage;
use crate::reactor::{
    Adoption, Command, ConnectionId, CountersError, Decision, Drain, Handle, PostError, Room,
    ShardIndex, Ticket, counters_of,
};
use crate::wire::CloseCode;

/// Posts commands to the loops of a [`Server`](super::Server) from any thread. Cloning is cheap.
///
/// Nothing here waits but [`ServerHandle::counters`]: a command is noted in its loop's bounded
/// mailbox, or comes back at once. Who wants to wait for room does so at the [`Handle`] of the loop.
#[derive(Clone)]
pub struct ServerHandle {
    /// One for each loop, in the order of their shards.
    loops: Arc<[Handle]>,
    /// Connections handed over so far, so that loops with equally many take turns.
    adoptions: Arc<AtomicUsize>,
    /// What ends the thread that accepts for all loops, if there is one.
    acceptor: Option<Arc<Switch>>,
}

impl ServerHandle {
    pub(super) fn new(loops: impl Into<Arc<[Handle]>>, acceptor: Option<Arc<Switch>>) -> Self {
        Self { loops: loops.into(), adoptions: Arc::default(), acceptor }
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
    /// [`PostError::Full`] if a mailbox was full; nobody is sent it.
    pub fn broadcast(&self, message: &PreparedMessage) -> Result<(), PostError> {
        Handle::post_to_all(&self.loops, || Command::Broadcast(message.clone()))
    }

    /// Publishes a message to all subscribers of a topic, whichever loop they are of. Two messages of
    /// one thread keep their order for each of them. It is counted once, by the first loop.
    ///
    /// # Errors
    /// [`PostError::InvalidName`] if messages cannot be published to such a name. [`PostError::Full`]
    /// if a mailbox was full. Nobody is sent it.
    pub fn publish(&self, topic: &str, message: &PreparedMessage) -> Result<(), PostError> {
        self.post(Command::Publish(self.loops[0].topic_message(topic, None, message)?))
    }

    /// The same, with what [`SlowPolicy::Conflate`](crate::SlowPolicy) tells messages of one topic
    /// apart by.
    ///
    /// # Errors
    /// As [`ServerHandle::publish`].
    pub fn publish_keyed(
        &self,
        topic: &str,
        key: u64,
        message: &PreparedMessage,
    ) -> Result<(), PostError> {
        self.post(Command::Publish(self.loops[0].topic_message(topic, Some(key), message)?))
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

    /// Hands a connection over to the loop that has the fewest; those that have equally many take
    /// turns, and where a mailbox is full the next one is tried. If it cannot be taken there it is
    /// closed and counted in [`Counters::adoptions_failed`].
    ///
    /// # Errors
    /// [`PostError::Full`] gives it back: no loop has a place for it, or room in its mailbox.
    pub fn adopt(&self, mut adoption: Adoption) -> Result<(), PostError> {
        let turn = self.adoptions.fetch_add(1, Ordering::Relaxed) % self.loops.len();
        if self.is_closed() {
            // It ends as the loops do.
            return self.loops[turn].adopt(adoption);
        }
        let (earlier, first) = self.loops.split_at(turn);
        let in_turn = first.iter().chain(earlier);
        let mut open: Vec<_> = in_turn
            .filter_map(|handle| match handle.room() {
                Room::Open(count) => Some((count, handle)),
                Room::Full | Room::Closed => None,
            })
            .collect();
        // A stable sort: who has as many keeps his turn.
        open.sort_by_key(|(count, _)| *count);
        for (_, handle) in open {
            match handle.adopt(adoption) {
                Err(PostError::Full(Command::Adopt(refused))) => adoption = refused,
                outcome => return outcome,
            }
        }
        Err(PostError::Full(Command::Adopt(adoption)))
    }

    /// What all loops have counted so far, and the thread that accepts for them. They are asked by a
    /// command each and waited for so long, see [`Handle::counters`].
    ///
    /// # Errors
    /// [`CountersError`]: a loop does not answer in time, or has ended.
    pub fn counters(&self, timeout: Duration) -> Result<Counters, CountersError> {
        let mut sum = counters_of(&self.loops, timeout)?;
        sum.merge(&self.acceptor_counters());
        Ok(sum)
    }

    pub(super) fn acceptor_counters(&self) -> Counters {
        let accept_pauses = self.acceptor.as_ref().map_or(0, |switch| switch.pauses());
        Counters { accept_pauses, ..Counters::default() }
    }

    /// Whether a loop takes one more connection.
    pub(super) fn has_room(&self) -> bool {
        self.loops.iter().any(|handle| matches!(handle.room(), Room::Open(_)))
    }

    /// Whether no loop will ever take one more.
    pub(super) fn is_closed(&self) -> bool {
        self.loops.iter().all(|handle| handle.room() == Room::Closed)
    }

    pub(super) fn stop_accepting(&self) {
        if let Some(switch) = &self.acceptor {
            switch.turn_off();
        }
    }

    /// Closes all connections in the course of a window and ends the loops when they are gone. See
    /// [`Handle::drain`].
    ///
    /// # Errors
    /// [`PostError::InvalidClose`] for a code that may not stand on the wire. [`PostError::Full`] if
    /// a mailbox was full; the other loops drain. Call again later.
    pub fn drain(&self, drain: &Drain) -> Result<(), PostError> {
        self.post_to_all(|| Command::Drain(Box::new(*drain)))
    }

    /// Closes `fraction` of each loop's accepted connections in the course of a window. See
    /// [`Handle::rebalance`].
    ///
    /// # Errors
    /// As [`ServerHandle::drain`].
    pub fn rebalance(&self, fraction: f64, drain: &Drain) -> Result<(), PostError> {
        self.post_to_all(|| Command::Rebalance(fraction, Box::new(*drain)))
    }

    /// Stops listening, closes all connections with 1001 and ends the loops when they are gone, at
    /// the latest after `deadline`. A later call can only bring the end forward.
    ///
    /// # Errors
    /// [`PostError::Full`] if a mailbox was full; the other loops shut down. Call again later.
    pub fn shutdown(&self, deadline: Duration) -> Result<(), PostError> {
        self.stop_accepting();
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
            Command::Publish(messages) => {
                Handle::post_to_all(&self.loops, || Command::Publish(messages.clone()))
            }
            Command::Drain(drain) => self.drain(&drain),
            Command::Rebalance(fraction, drain) => self.rebalance(fraction, &drain),
            Command::Shutdown(deadline) => self.shutdown(deadline),
            Command::Count(asker) => self.post_to_all(|| Command::Count(asker.clone())),
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
