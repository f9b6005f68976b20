//! Commands from other threads: the one thing that crosses.

use std::any::Any;
use std::fmt;
use std::slice;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::adopt::Adoption;
use super::counting::{CountersError, counters_of};
use super::deferral::{Decision, Ticket};
use super::drain::Drain;
use super::handler::Handler;
use super::id::{ConnectionId, ShardIndex};
use super::load::{Load, Occupancy, Room};
use super::mailbox::{Inbox, Mailbox};
use super::memory::Board;
use super::net::Net;
use super::siblings::TopicMessage;
use super::turn::Reactor;
use crate::limits::TopicLimits;
use crate::metrics::Counters;
use crate::protocol::PreparedMessage;
use crate::pubsub::NameError;
use crate::wire::{CloseCode, InvalidClose, encode_close};

/// Posts commands to one loop from any thread.
///
/// The loop's mailbox is bounded; when it is full the sender gets its command back, or waits for room
/// ([`Handle::post_timeout`]). The loop is woken once per batch. What is posted to a loop that is
/// gone is dropped.
#[derive(Clone)]
pub struct Handle {
    mailbox: Arc<Mailbox<Command>>,
    load: Arc<Load>,
    shard: ShardIndex,
    /// What the loop holds names of topics to.
    pub(super) topics: TopicLimits,
    pub(super) board: Option<Arc<Board>>,
}

/// What another thread asks of a loop.
#[derive(Debug)]
#[non_exhaustive]
pub enum Command {
    /// Send a message; to a connection that is gone it is dropped and counted.
    Send(ConnectionId, PreparedMessage),
    /// Send a message to all open connections of the loop.
    Broadcast(PreparedMessage),
    /// Publish messages to the subscribers of the loop.
    Publish(Arc<[TopicMessage]>),
    /// Begin the closing handshake.
    Close(ConnectionId, CloseCode, Box<str>),
    /// End without a closing handshake.
    Abort(ConnectionId),
    /// Say what becomes of a deferred request; if nobody waits for that any more it is counted.
    Decide(Ticket, Box<Decision>),
    /// Take a connection over; one that cannot be taken is closed and counted.
    Adopt(Adoption),
    /// Hand this to [`Handler::on_notice`].
    Notify(Box<dyn Any + Send>),
    /// Send what was counted so far. Who asks and does not wait for the answer loses it.
    Count(Sender<Counters>),
    /// Close all connections in the course of a window, then end the loop.
    Drain(Box<Drain>),
    /// Close this fraction of the accepted connections in the course of a window.
    Rebalance(f64, Box<Drain>),
    /// Stop listening, close all connections with 1001, cut off who is left after so long, end
    /// the loop.
    Shutdown(Duration),
}

/// Why a command was not taken.
#[derive(Debug)]
#[non_exhaustive]
pub enum PostError {
    /// The mailbox is full; here is the command.
    Full(Command),
    /// The connection belongs to another loop; here is the command.
    WrongShard(Command),
    /// The close code may not stand on the wire, or the reason is too long.
    InvalidClose(InvalidClose),
    /// Messages cannot be published to this name.
    InvalidName(NameError),
}

impl fmt::Display for PostError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => out.write_str("the mailbox of the loop is full"),
            Self::WrongShard(_) => out.write_str("the connection belongs to another loop"),
            Self::InvalidClose(error) => error.fmt(out),
            Self::InvalidName(error) => error.fmt(out),
        }
    }
}

impl std::error::Error for PostError {}

impl fmt::Debug for Handle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Handle").field("shard", &self.shard).finish_non_exhaustive()
    }
}

impl Handle {
    pub(super) fn new(
        inbox: &Inbox<Command>,
        occupancy: &Occupancy,
        shard: ShardIndex,
        topics: &TopicLimits,
    ) -> Self {
        let (mailbox, load, topics) = (inbox.mailbox(), occupancy.load(), topics.clone());
        Self { mailbox, load, shard, topics, board: None }
    }

    /// The loop that this handle posts to.
    pub const fn shard(&self) -> ShardIndex {
        self.shard
    }

    /// Posts a command.
    ///
    /// # Errors
    /// [`PostError::Full`] and [`PostError::WrongShard`] give the command back;
    /// [`PostError::InvalidClose`] says what is wrong with a close.
    pub fn post(&self, command: Command) -> Result<(), PostError> {
        self.mailbox.post(self.checked(command)?).map_err(full)
    }

    /// Posts a command; if the mailbox is full, waits so long for the loop to empty it. Who else
    /// posts meanwhile may be served first. Not for callbacks: a loop that waits for itself waits in
    /// vain, and every connection of it with it.
    ///
    /// # Errors
    /// As [`Handle::post`].
    pub fn post_timeout(&self, command: Command, timeout: Duration) -> Result<(), PostError> {
        self.mailbox.post_timeout(self.checked(command)?, timeout).map_err(full)
    }

    /// Posts a command to several loops, or to none if a mailbox is full. They come in the order of
    /// their shards.
    pub(crate) fn post_to_all(
        handles: &[Self],
        command: impl Fn() -> Command,
    ) -> Result<(), PostError> {
        let boxes: Vec<_> = handles.iter().map(|handle| &*handle.mailbox).collect();
        Mailbox::post_to_all(&boxes, command).map_err(full)
    }

    /// How many connections the loop has, in whatever phase, with those on their way to it. It is a
    /// number of just now, and costs nobody anything.
    pub fn connections(&self) -> u32 {
        self.load.count()
    }

    /// What the loop has counted so far. It is asked by a command and waited for so long: no counter
    /// is shared, so a loop pays for this once when it is asked, and never else. Not for callbacks of
    /// the same loop, which would wait for themselves.
    ///
    /// # Errors
    /// [`CountersError`]: the loop does not answer in time, or has ended.
    pub fn counters(&self, timeout: Duration) -> Result<Counters, CountersError> {
        counters_of(slice::from_ref(self), timeout)
    }

    pub(crate) fn room(&self) -> Room {
        self.load.room()
    }

    /// A command for this loop, ready to be posted.
    fn checked(&self, mut command: Command) -> Result<Command, PostError> {
        match &mut command {
            Command::Send(id, _) | Command::Abort(id) | Command::Close(id, ..)
                if id.shard() != self.shard =>
            {
                return Err(PostError::WrongShard(command));
            }
            Command::Decide(ticket, _) if ticket.id().shard() != self.shard => {
                return Err(PostError::WrongShard(command));
            }
            Command::Close(_, code, reason) => {
                encode_close(*code, reason).map_err(PostError::InvalidClose)?;
            }
            Command::Adopt(adoption) => adoption.announce(Some(&self.load)),
            Command::Drain(drain) | Command::Rebalance(_, drain) => {
                encode_close(drain.code, "").map_err(PostError::InvalidClose)?;
            }
            Command::Send(..)
            | Command::Abort(_)
            | Command::Decide(..)
            | Command::Notify(_)
            | Command::Count(_)
            | Command::Broadcast(_)
            | Command::Publish(_)
            | Command::Shutdown(_) => {}
        }
        Ok(command)
    }

    /// Sends a message to a connection of this loop.
    ///
    /// # Errors
    /// As [`Handle::post`].
    pub fn send(&self, id: ConnectionId, message: PreparedMessage) -> Result<(), PostError> {
        self.post(Command::Send(id, message))
    }

    /// Sends a message to all open connections of this loop.
    ///
    /// # Errors
    /// As [`Handle::post`].
    pub fn broadcast(&self, message: PreparedMessage) -> Result<(), PostError> {
        self.post(Command::Broadcast(message))
    }

    /// Begins the closing handshake of a connection.
    ///
    /// # Errors
    /// As [`Handle::post`].
    pub fn close(&self, id: ConnectionId, code: CloseCode, reason: &str) -> Result<(), PostError> {
        self.post(Command::Close(id, code, reason.into()))
    }

    /// Ends a connection without a closing handshake.
    ///
    /// # Errors
    /// As [`Handle::post`].
    pub fn abort(&self, id: ConnectionId) -> Result<(), PostError> {
        self.post(Command::Abort(id))
    }

    /// Hands a connection over to the loop. If that fails there, as [`Reactor::adopt`] may, it is
    /// closed and counted in [`Counters::adoptions_failed`](crate::metrics::Counters).
    ///
    /// # Errors
    /// As [`Handle::post`].
    pub fn adopt(&self, adoption: Adoption) -> Result<(), PostError> {
        self.post(Command::Adopt(adoption))
    }

    /// Hands anything to the loop's [`Handler::on_notice`].
    ///
    /// # Errors
    /// As [`Handle::post`].
    pub fn notify(&self, notice: impl Any + Send) -> Result<(), PostError> {
        self.post(Command::Notify(Box::new(notice)))
    }

    /// Closes all connections in the course of a window and ends the loop when they are gone. Who
    /// comes meanwhile is answered 503, and so is a [readiness](super::ListenerSettings::readiness)
    /// check; in the end nobody listens any more. [`Handler::on_drained`] tells how it went.
    ///
    /// While the loop drains, only a window of nothing changes anything more: everybody is told at
    /// once then, and the last deadline is brought forward.
    ///
    /// # Errors
    /// As [`Handle::post`].
    pub fn drain(&self, drain: &Drain) -> Result<(), PostError> {
        self.post(Command::Drain(Box::new(*drain)))
    }

    /// Closes `fraction` of the connections that the loop has accepted, from 0 to 1, in the course of
    /// a window: after others have joined it behind a load balancer, for what is open does not move
    /// by itself. Who has to go is drawn by the loop's seed. New connections are taken as ever.
    ///
    /// A second one takes the place of the first, of which who is not told yet stays. A loop that
    /// drains does nothing of the kind.
    ///
    /// # Errors
    /// As [`Handle::post`].
    pub fn rebalance(&self, fraction: f64, drain: &Drain) -> Result<(), PostError> {
        self.post(Command::Rebalance(fraction, Box::new(*drain)))
    }

    /// Stops listening, closes all connections with 1001 and ends the loop when they are gone, at
    /// the latest after `deadline`. It is a [drain](Self::drain) [at once](Drain::at_once).
    ///
    /// # Errors
    /// As [`Handle::post`].
    pub fn shutdown(&self, deadline: Duration) -> Result<(), PostError> {
        self.post(Command::Shutdown(deadline))
    }
}

/// A command that finds no room. If it is a connection, it is on its way no longer.
fn full(mut command: Command) -> PostError {
    if let Command::Adopt(adoption) = &mut command {
        adoption.announce(None);
    }
    PostError::Full(command)
}

impl<N: Net, H: Handler> Reactor<N, H> {
    /// Out of the turn's way, most of which find nothing here.
    #[inline(never)]
    pub(super) fn handle_commands(&mut self) {
        let mut commands = self.mailbox.take();
        for command in commands.drain(..) {
            self.handle_command(command);
        }
        self.mailbox.give_back(commands);
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Send(id, message) => {
                let key = id.key();
                let _ = self.shared.send(key, &mut self.net, |to| to.send_prepared(&message));
                self.shared.mark_dirty(key);
            }
            Command::Broadcast(message) => {
                for key in self.shared.open_keys().collect::<Vec<_>>() {
                    let _ = self.shared.send(key, &mut self.net, |to| to.send_prepared(&message));
                    self.shared.mark_dirty(key);
                }
            }
            Command::Publish(messages) => self.handle_published(&messages),
            Command::Close(id, code, reason) => {
                let key = id.key();
                let closed =
                    self.shared.with_transmit(key, &mut self.net, |to| to.close(code, &reason));
                debug_assert!(!matches!(closed, Some(Err(_))), "checked when it was posted");
                self.shared.mark_dirty(key);
            }
            Command::Abort(id) => {
                self.shared.with_transmit(id.key(), &mut self.net, |to| to.abort());
                self.shared.mark_dirty(id.key());
            }
            Command::Decide(ticket, decision) => self.handle_decision(ticket, *decision),
            Command::Adopt(adoption) => {
                if self.take_over(adoption).is_err() {
                    self.shared.counters.adoptions_failed += 1;
                }
            }
            Command::Notify(notice) => self.handle_notice(notice),
            Command::Count(asker) => {
                // Who has asked may not wait any more.
                let _ = asker.send(self.counters());
            }
            Command::Drain(drain) => self.begin_drain(&drain),
            Command::Rebalance(fraction, drain) => self.rebalance(fraction, &drain),
            Command::Shutdown(deadline) => self.begin_drain(&Drain::at_once(deadline)),
        }
    }
}
