//! One client of a loop: the machine that reconnects, put to work.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::cause::Recovery;
use super::clients::{ClientId, Owner};
use super::connector::{AttemptKey, Connector};
use super::deadline::Deadline;
use super::event::Event;
use super::outage::{OutageQueue, Queueing, UnsentReason};
use super::reconnect::{Action, ClientState, Link};
use super::settings::ClientSettings;
use crate::metrics::Histogram;
use crate::protocol::{CloseSummary, DropReason, SendOutcome};
use crate::reactor::{ConnectionId, DialError, Loop, Message, Peer, TimerId};
use crate::wire::{CloseCode, InvalidClose, Opcode, encode_close};

/// One client of a loop.
pub(super) struct Calling {
    settings: ClientSettings,
    link: Link,
    outage: OutageQueue,
    connection: Option<ConnectionId>,
    attempt: Option<AttemptKey>,
    deadline: Deadline,
    stats: ClientStats,
    /// What the connection is closed with.
    goodbye: Goodbye,
    pub(super) future: Future,
}

/// A code that may stand in a Close, and a reason that fits.
#[derive(Clone, Debug)]
pub(super) struct Goodbye {
    code: CloseCode,
    reason: Box<str>,
}

/// Whether a client stays when it has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Future {
    Stays,
    Goes,
}

/// What has become of a message that was given to a client.
#[must_use = "a refused message is lost: say so to whom it concerns, or ignore it deliberately"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Submitted {
    /// The open connection was given it, and says so.
    Given(SendOutcome),
    /// It waits for a connection, and is sent or reported under this number.
    Waiting {
        /// The message's number; numbers rise.
        id: u64,
    },
    /// It was not taken, as [`Clients::offer`](super::Clients::offer) says of what can wait: enough
    /// waits already.
    NotYet,
    /// It was not taken.
    Refused(UnsentReason),
}

/// What has happened to a client so far.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ClientStats {
    /// Connections that have opened.
    pub opened: u64,
    /// Dials that have failed.
    pub dials_failed: u64,
    /// Messages that waited for a connection and were sent then.
    pub sent_late: u64,
    /// Messages that were taken and then reported as not sent.
    pub unsent: u64,
    /// Messages that the application could not understand.
    pub undecodable: u64,
    /// Of the heartbeat's pings: from the last byte's leaving to the pong.
    pub round_trips: Histogram,
}

impl Calling {
    pub(super) fn new(settings: ClientSettings) -> Self {
        let (link, outage) = {
            let inner = settings.inner();
            (Link::new(inner.reconnect.clone()), OutageQueue::new(inner.outage.clone()))
        };
        Self {
            settings,
            link,
            outage,
            connection: None,
            attempt: None,
            deadline: Deadline::default(),
            stats: ClientStats::default(),
            goodbye: Goodbye::default(),
            future: Future::Stays,
        }
    }

    pub(super) const fn state(&self) -> ClientState {
        self.link.state()
    }

    pub(super) const fn connection(&self) -> Option<ConnectionId> {
        self.connection
    }

    pub(super) const fn stats(&self) -> &ClientStats {
        &self.stats
    }

    pub(super) fn start(&mut self) {
        self.link.handle_start();
    }

    pub(super) fn stop(&mut self, goodbye: Goodbye) {
        self.goodbye = goodbye;
        self.link.handle_stop();
    }

    /// Sends a message, or has it wait.
    pub(super) fn send<D>(&mut self, at: &mut Loop<'_, D>, message: Message<'_>) -> Submitted {
        if self.link.state() == ClientState::Disconnected {
            return Submitted::Refused(UnsentReason::Stopped);
        }
        // What waits is older.
        if let Some(connection) = self.connection
            && self.outage.is_empty()
        {
            return Submitted::Given(at.peer(connection).send(message));
        }
        let payload = Bytes::copy_from_slice(message.payload());
        match self.outage.push(at.now(), message.opcode(), payload) {
            Queueing::Queued { id } => Submitted::Waiting { id },
            Queueing::Refused(reason) => Submitted::Refused(reason),
        }
    }

    /// Sends a message, or has it wait, if that does not put it behind more than need be.
    pub(super) fn offer<D>(&mut self, at: &mut Loop<'_, D>, message: Message<'_>) -> Submitted {
        self.flush(at);
        let bytes_max = self.settings.inner().unsent_bytes_max;
        if let Some(connection) = self.connection
            && !(self.outage.is_empty() && has_room(&mut at.peer(connection), bytes_max))
        {
            return Submitted::NotYet;
        }
        match self.send(at, message) {
            Submitted::Given(SendOutcome::Dropped(DropReason::TooLarge)) => {
                Submitted::Refused(UnsentReason::TooLarge)
            }
            // It waits for the next connection.
            Submitted::Given(SendOutcome::Dropped(_)) => Submitted::NotYet,
            // What does not fit while there is no connection may be sent when there is.
            Submitted::Refused(UnsentReason::QueueFull | UnsentReason::TooLarge) => {
                Submitted::NotYet
            }
            submitted => submitted,
        }
    }

    /// Hands over to the kernel what it takes; says whether nothing is left.
    pub(super) fn hand_over<D>(&mut self, at: &mut Loop<'_, D>) -> bool {
        self.flush(at);
        self.outage.is_empty()
            && self.connection.is_none_or(|connection| at.peer(connection).flush() == 0)
    }

    /// The connection stands; the application is told before anything is sent that has waited.
    pub(super) fn handle_open<D>(&mut self, at: &Loop<'_, D>, connection: ConnectionId) {
        self.attempt = None;
        self.connection = Some(connection);
        self.stats.opened += 1;
        self.link.handle_open(at.now());
    }

    pub(super) fn handle_dial_failed<D>(&mut self, at: &mut Loop<'_, D>, error: &DialError) {
        self.attempt = None;
        self.stats.dials_failed += 1;
        let recovery = Recovery::of_dial(error, asked_delay(error));
        let random = at.random();
        self.link.handle_dial_failed(at.now(), recovery, random);
    }

    /// A connection of this client is over, which need not be the present one.
    pub(super) fn handle_closed<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        connection: ConnectionId,
        summary: &CloseSummary,
    ) {
        if self.connection == Some(connection) {
            self.connection = None;
            let random = at.random();
            self.link.handle_closed(at.now(), Recovery::of_close(summary), random);
        }
    }

    pub(super) fn handle_round_trip(&mut self, time: Duration) {
        self.stats.round_trips.record(time);
    }

    pub(super) fn handle_undecodable(&mut self) {
        self.stats.undecodable += 1;
    }

    /// A timer has come. Says whether it was this client's.
    pub(super) fn handle_timer<D>(&mut self, at: &Loop<'_, D>, timer: TimerId) -> bool {
        let is_own = self.deadline.take(timer);
        if is_own {
            self.link.handle_timeout(at.now());
            self.outage.handle_timeout(at.now());
        }
        is_own
    }

    /// Does what the machine wants, and lays out what is to be told.
    pub(super) fn work<D: Default>(
        &mut self,
        at: &mut Loop<'_, D>,
        id: ClientId,
        connector: &mut Connector<Owner>,
        events: &mut VecDeque<Event>,
    ) {
        while let Some(action) = self.link.poll_action() {
            match action {
                Action::Dial => {
                    self.attempt = Some(connector.start(at, Owner::Client(id), &self.settings));
                }
                Action::CancelDial => {
                    if let Some(attempt) = self.attempt.take() {
                        connector.cancel(at, attempt);
                    }
                }
                Action::Close => {
                    if let Some(connection) = self.connection.take() {
                        let Goodbye { code, reason } = &self.goodbye;
                        let closed = at.peer(connection).close(*code, reason);
                        debug_assert!(closed.is_ok(), "both were checked");
                    }
                }
                Action::Changed(change) => events.push_back(Event::Change(id, change)),
                Action::GaveUp(reason) => {
                    self.outage.handle_stop();
                    self.report_unsent(id, events);
                    events.push_back(Event::Stop(id, reason));
                }
            }
        }
        self.flush(at);
        self.report_unsent(id, events);
        let deadlines = [self.link.poll_timeout(), self.outage.poll_timeout()];
        self.deadline.set(at, deadlines.into_iter().flatten().min(), cookie(id));
    }

    /// Sends what has waited, as long as the connection takes it.
    fn flush<D>(&mut self, at: &mut Loop<'_, D>) {
        let Some(connection) = self.connection else { return };
        let now = at.now();
        let bytes_max = self.settings.inner().unsent_bytes_max;
        let mut peer = at.peer(connection);
        while let Some(waiting) = self.outage.front(now) {
            if !has_room(&mut peer, bytes_max) {
                return;
            }
            let outcome = match waiting.opcode {
                Opcode::Text => {
                    let text = std::str::from_utf8(&waiting.payload);
                    peer.send_text(text.expect("it was given as a text"))
                }
                _ => peer.send_bytes(waiting.payload.clone()),
            };
            if !outcome.is_taken() {
                return;
            }
            self.outage.pop();
            self.stats.sent_late += 1;
        }
    }

    fn report_unsent(&mut self, id: ClientId, events: &mut VecDeque<Event>) {
        while let Some(unsent) = self.outage.poll_unsent() {
            self.stats.unsent += 1;
            events.push_back(Event::Unsent(id, unsent));
        }
    }

    /// Gives back what the loop holds for it.
    pub(super) fn release<D>(&mut self, at: &mut Loop<'_, D>) {
        self.deadline.cancel(at);
    }
}

/// Whether a connection is to be given more. If not, its `on_drain` or its end is sure to follow.
fn has_room<D>(peer: &mut Peer<'_, D>, bytes_max: usize) -> bool {
    // What is merely corked is no reason to wait.
    peer.is_open() && (peer.queued_bytes() <= bytes_max || peer.flush() <= bytes_max)
}

impl Goodbye {
    pub(super) fn new(code: CloseCode, reason: &str) -> Result<Self, InvalidClose> {
        encode_close(code, reason)?;
        Ok(Self { code, reason: reason.into() })
    }
}

impl Default for Goodbye {
    fn default() -> Self {
        Self { code: CloseCode::NORMAL, reason: Box::default() }
    }
}

/// The timers of clients, among all that the layer sets.
pub(super) const fn cookie(id: ClientId) -> u64 {
    id.0.index as u64
}

/// What the server's answer says of the time to come back.
fn asked_delay(error: &DialError) -> Option<Duration> {
    let DialError::Refused(refusal) = error else { return None };
    refusal.header("Retry-After")?.parse().ok().map(Duration::from_secs)
}
