//! Commands from other threads: the one thing that crosses.

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::adopt::Adoption;
use super::deferral::{Decision, Ticket};
use super::dial::DialError;
use super::handler::Handler;
use super::id::{ConnectionId, ShardIndex};
use super::memory::Board;
use super::net::{Net, Wake};
use super::shared::after;
use super::slot::Phase;
use super::turn::{Drain, Reactor, Timer};
use crate::collections::Key;
use crate::protocol::{CloseCause, Initiator, PreparedMessage};
use crate::wire::{CloseCode, InvalidClose, encode_close};

/// Posts commands to one loop from any thread.
///
/// The loop's mailbox is bounded; when it is full the sender gets its command back. The loop is
/// woken once per batch. What is posted to a loop that is gone is dropped.
#[derive(Clone)]
pub struct Handle {
    mailbox: Arc<Mailbox>,
    shard: ShardIndex,
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
}

impl fmt::Display for PostError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => out.write_str("the mailbox of the loop is full"),
            Self::WrongShard(_) => out.write_str("the connection belongs to another loop"),
            Self::InvalidClose(error) => error.fmt(out),
        }
    }
}

impl std::error::Error for PostError {}

/// Commands on their way to a loop.
pub(super) struct Mailbox {
    /// `None` once the loop is gone: what is posted then is dropped.
    commands: Mutex<Option<Vec<Command>>>,
    /// Set while commands wait, so that only the first of a batch wakes the loop.
    is_waiting: AtomicBool,
    waker: Arc<dyn Wake>,
    commands_max: usize,
}

/// The loop's end of its mailbox. It goes with the loop, and what is in it with it: handles may live
/// on, and a connection that is handed over to nobody must not stay open.
pub(super) struct Inbox(Arc<Mailbox>);

impl Mailbox {
    fn new(waker: Arc<dyn Wake>, commands_max: usize) -> Self {
        let (commands, is_waiting) = (Mutex::new(Some(Vec::new())), AtomicBool::new(false));
        Self { commands, is_waiting, waker, commands_max }
    }

    fn post(&self, command: Command) -> Result<(), PostError> {
        {
            let mut commands = self.commands();
            let Some(commands) = commands.as_mut() else { return Ok(()) };
            if commands.len() >= self.commands_max {
                return Err(PostError::Full(command));
            }
            commands.push(command);
        }
        if !self.is_waiting.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
        Ok(())
    }

    /// Whether something waits; whoever posted it has woken the loop, or is about to.
    #[inline]
    pub(super) fn is_waiting(&self) -> bool {
        self.is_waiting.load(Ordering::Acquire)
    }

    /// Everything that waits.
    pub(super) fn take(&self) -> Vec<Command> {
        // A swap and no store: the list must not be taken before the flag is down.
        self.is_waiting.swap(false, Ordering::AcqRel);
        self.commands().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The emptied list, so that a steady stream of commands does not allocate one each turn.
    pub(super) fn give_back(&self, emptied: Vec<Command>) {
        if emptied.capacity() == 0 {
            return;
        }
        if let Some(commands) = self.commands().as_mut()
            && commands.capacity() == 0
        {
            *commands = emptied;
        }
    }

    fn commands(&self) -> MutexGuard<'_, Option<Vec<Command>>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inbox {
    pub(super) fn new(waker: Arc<dyn Wake>, commands_max: usize) -> Self {
        Self(Arc::new(Mailbox::new(waker, commands_max)))
    }

    pub(super) fn handle(&self, shard: ShardIndex) -> Handle {
        Handle { mailbox: self.0.clone(), shard, board: None }
    }
}

impl Deref for Inbox {
    type Target = Mailbox;

    fn deref(&self) -> &Mailbox {
        &self.0
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let left = self.0.commands().take();
        // Outside the lock: connections that were to be adopted are closed here.
        drop(left);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Handle").field("shard", &self.shard).finish_non_exhaustive()
    }
}

impl Handle {
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
        match &command {
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
            Command::Send(..)
            | Command::Abort(_)
            | Command::Decide(..)
            | Command::Adopt(_)
            | Command::Notify(_)
            | Command::Broadcast(_)
            | Command::Shutdown(_) => {}
        }
        self.mailbox.post(command)
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

    /// Stops listening, closes all connections with 1001 and ends the loop when they are gone, at
    /// the latest after `deadline`.
    ///
    /// # Errors
    /// As [`Handle::post`].
    pub fn shutdown(&self, deadline: Duration) -> Result<(), PostError> {
        self.post(Command::Shutdown(deadline))
    }
}

impl<N: Net, H: Handler> Reactor<N, H> {
    pub(super) fn handle_command(&mut self, command: Command) {
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
            Command::Shutdown(deadline) => self.begin_drain(deadline),
        }
    }

    /// Stops accepting and tells everyone to go.
    fn begin_drain(&mut self, deadline: Duration) {
        if self.shared.drain != Drain::Running {
            return;
        }
        self.stop_listening();
        self.call_loop(|handler, at| handler.on_shutdown(at));
        let timer = self.shared.wheel.insert(after(self.shared.now, deadline), Timer::Drain);
        self.shared.drain = Drain::Draining(timer);
        self.call_loop(|handler, at| handler.on_shutdown(at));
        for key in self.shared.slots.keys().collect::<Vec<_>>() {
            let closed = self
                .shared
                .with_transmit(key, &mut self.net, |to| to.close(CloseCode::GOING_AWAY, ""));
            if closed.is_some() {
                self.shared.mark_dirty(key);
            } else {
                self.fail_dial(key, DialError::NoRoom);
                self.end_idle_http(key);
            }
        }
    }

    /// A plain HTTP connection without a request under way has nothing to wait for.
    fn end_idle_http(&mut self, key: Key) {
        let is_http = matches!(self.shared.slots.get(key), Some(slot)
            if matches!(&slot.phase, Phase::Http(outbox) if outbox.is_empty()));
        if is_http && !self.has_backlog(key) {
            self.end(key);
        }
    }

    /// The drain's deadline: who is left is cut off.
    pub(super) fn cut_off(&mut self) {
        self.shared.drain = Drain::Finished;
        for key in self.shared.slots.keys().collect::<Vec<_>>() {
            let ended = self.shared.with_transmit(key, &mut self.net, |to| {
                to.sender.end(Initiator::Local, CloseCause::LoopEnded);
            });
            if ended.is_some() {
                self.settle(key);
            }
            self.fail_dial(key, DialError::NoRoom);
            self.end(key);
        }
    }
}
