//! One client of a loop: the machine that reconnects, put to work.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use super::cause::Recovery;
use super::clients::{ClientId, Holder, Owner, Party};
use super::connector::{AttemptKey, Connector};
use super::deadline::Deadline;
use super::envelope::{self, PayloadError};
use super::event::Event;
use super::outage::{OutageQueue, Queueing, UnsentReason};
use super::outlet::{FlowStats, Outlet, Urgency};
use super::reconnect::{Action, ClientState, Link};
use super::retry_after::retry_after;
use super::settings::ClientSettings;
use crate::metrics::Histogram;
use crate::protocol::{CloseSummary, DropReason, SendOutcome};
use crate::reactor::{ConnectionId, DialError, Loop, Message, TimerId};
use crate::wire::{CloseCode, InvalidClose, Opcode, encode_close};

/// One client of a loop.
pub(super) struct Calling {
    settings: ClientSettings,
    link: Link,
    outage: OutageQueue,
    connection: Option<ConnectionId>,
    /// The one that is to be closed, since the client was stopped.
    leaving: Option<ConnectionId>,
    attempt: Option<AttemptKey>,
    deadline: Deadline,
    outlet: Option<Box<Outlet>>,
    greeting: Greeting,
    room: Room,
    stats: ClientStats,
    /// What the connection is closed with.
    goodbye: Goodbye,
    pub(super) future: Future,
}

/// Whether the application is just hearing of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Greeting {
    UnderWay,
    Over,
}

/// Whether the application waits until what waits here goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Unasked,
    Asked,
    /// Time has come for something that waits, so the application is to ask again.
    Due,
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
    /// It waits for a connection, and is sent or reported under this number. If it has got as far as
    /// the batch of a connection that is lost then, it waits for the next one, and has no number any
    /// more.
    Waiting {
        /// The message's number; numbers rise.
        id: u64,
    },
    /// It waits for the rest of its batch, or for its turn by the rate.
    Held,
    /// It came too fast, and is forgotten as [`RatePolicy::Drop`](super::RatePolicy::Drop) says.
    Dropped,
    /// It was not taken, as [`Clients::offer`](super::Clients::offer) says of what can wait: enough
    /// waits already.
    NotYet,
    /// It was not taken.
    Refused(UnsentReason),
    /// It was not taken, because it cannot stand in an envelope.
    NotJson(PayloadError),
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
            leaving: None,
            attempt: None,
            deadline: Deadline::default(),
            outlet: None,
            greeting: Greeting::Over,
            room: Room::Unasked,
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

    pub(super) const fn settings(&self) -> &ClientSettings {
        &self.settings
    }

    pub(super) const fn stats(&self) -> &ClientStats {
        &self.stats
    }

    pub(super) fn flow<D>(&mut self, at: &mut Loop<'_, D>) -> FlowStats {
        let Some(outlet) = &mut self.outlet else { return FlowStats::default() };
        if let Some(connection) = self.connection {
            outlet.look(at.now(), at.peer(connection).queued_bytes());
        }
        outlet.stats(at.now())
    }

    pub(super) fn start(&mut self) {
        self.link.handle_start();
    }

    pub(super) fn stop(&mut self, goodbye: Goodbye) {
        self.goodbye = goodbye;
        self.link.handle_stop();
        self.leaving = self.connection.take().or(self.leaving);
        self.let_go();
    }

    /// Who has given up keeps nothing, at once: what comes after a new start is none of that.
    fn let_go(&mut self) {
        if self.link.state() == ClientState::Disconnected {
            self.outage.handle_stop();
        }
    }

    /// Sends a message, or has it wait.
    pub(super) fn send<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        message: Message<'_>,
        urgency: Urgency,
    ) -> Submitted {
        if self.link.state() == ClientState::Disconnected {
            return Submitted::Refused(UnsentReason::Stopped);
        }
        // What waits is older, but what `on_open` says comes first.
        if let Some(connection) = self.connection
            && (self.outage.is_empty() || self.greeting == Greeting::UnderWay)
        {
            match self.outlet(at.now()).send(at, connection, message, urgency, None) {
                // It is on its way to its end: the message waits for the next one.
                Submitted::Given(SendOutcome::Dropped(DropReason::Closing | DropReason::Gone)) => {}
                submitted => return submitted,
            }
        }
        let (opcode, mut payload) = (message.opcode(), message.payload());
        if self.settings.has_envelopes() {
            payload = match envelope::payload(opcode, payload) {
                Ok(payload) => payload,
                Err(error) => return Submitted::NotJson(error),
            };
        }
        match self.outage.push(at.now(), opcode, Bytes::copy_from_slice(payload)) {
            Queueing::Queued { id } => Submitted::Waiting { id },
            Queueing::Refused(reason) => Submitted::Refused(reason),
        }
    }

    /// Sends a message, or has it wait, if that does not put it behind more than need be.
    pub(super) fn offer<D>(&mut self, at: &mut Loop<'_, D>, message: Message<'_>) -> Submitted {
        let submitted = self.submit_late(at, message);
        if submitted == Submitted::NotYet {
            self.room = Room::Asked;
        }
        submitted
    }

    fn submit_late<D>(&mut self, at: &mut Loop<'_, D>, message: Message<'_>) -> Submitted {
        self.flush(at);
        if let Some(connection) = self.connection
            && !(self.outage.is_empty() && self.outlet(at.now()).takes_more(at, connection))
        {
            return Submitted::NotYet;
        }
        match self.send(at, message, Urgency::MayWait) {
            // What does not fit while there is no connection may be sent when there is.
            Submitted::Refused(UnsentReason::QueueFull | UnsentReason::TooLarge) => {
                Submitted::NotYet
            }
            submitted => submitted.of_offer(),
        }
    }

    /// Hands over to the kernel what it takes; says whether nothing is left.
    pub(super) fn hand_over<D>(&mut self, at: &mut Loop<'_, D>) -> bool {
        self.flush(at);
        if let (Some(outlet), Some(connection)) = (&mut self.outlet, self.connection) {
            outlet.hurry(at, connection);
        }
        let is_held = self.outlet.as_ref().is_some_and(|outlet| outlet.holds());
        let is_written = self.connection.is_none_or(|connection| at.peer(connection).flush() == 0);
        let is_done = self.outage.is_empty() && !is_held && is_written;
        self.room = if is_done { Room::Unasked } else { Room::Asked };
        is_done
    }

    /// The connection stands; the application is told before anything is sent that has waited.
    pub(super) fn handle_open<D>(&mut self, at: &Loop<'_, D>, connection: ConnectionId) {
        self.attempt = None;
        self.connection = Some(connection);
        self.greeting = Greeting::UnderWay;
        self.stats.opened += 1;
        self.link.handle_open(at.now());
    }

    pub(super) fn handle_dial_failed<D>(&mut self, at: &mut Loop<'_, D>, error: &DialError) {
        self.attempt = None;
        self.stats.dials_failed += 1;
        let recovery = Recovery::of_dial(error, asked_delay(error));
        let random = at.random();
        self.link.handle_dial_failed(at.now(), recovery, random);
        self.let_go();
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
            self.take_back(at.now());
            let random = at.random();
            self.link.handle_closed(at.now(), Recovery::of_close(summary), random);
            self.let_go();
        }
        if self.leaving.take_if(|leaving| *leaving == connection).is_some() {
            self.drop_back();
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
            if self.room == Room::Asked {
                self.room = Room::Due;
            }
        }
        is_own
    }

    /// Does what the machine wants, and lays out what is to be told.
    pub(super) fn work<D: Default>(
        &mut self,
        at: &mut Loop<'_, D>,
        id: ClientId,
        connector: &mut Connector<Holder>,
        events: &mut VecDeque<Event>,
    ) {
        self.greeting = Greeting::Over;
        while let Some(action) = self.link.poll_action() {
            match action {
                Action::Dial => {
                    self.attempt = Some(connector.start(at, Holder::Client(id), &self.settings));
                }
                Action::CancelDial => {
                    if let Some(attempt) = self.attempt.take() {
                        connector.cancel(at, attempt);
                    }
                }
                Action::Close => {
                    if let Some(connection) = self.leaving.take() {
                        // What waits for its batch goes in front of the Close.
                        if let Some(outlet) = &mut self.outlet {
                            outlet.hurry(at, connection);
                        }
                        self.drop_back();
                        let Goodbye { code, reason } = &self.goodbye;
                        let closed = at.peer(connection).close(*code, reason);
                        debug_assert!(closed.is_ok(), "both were checked");
                    }
                }
                Action::Changed(change) => events.push_back(Event::Change(id, change)),
                Action::GaveUp(reason) => {
                    self.report_unsent(id, events);
                    events.push_back(Event::Stop(id, reason));
                }
            }
        }
        self.flush(at);
        let outlet = self.poll_outlet(at.now());
        self.report_unsent(id, events);
        if self.room == Room::Due {
            self.room = Room::Unasked;
            events.push_back(Event::Room(id));
        }
        let deadlines = [self.link.poll_timeout(), self.outage.poll_timeout(), outlet];
        self.deadline.set(at, deadlines.into_iter().flatten().min(), Party::Client(id).cookie());
    }

    /// What leads to the connection; made when the first one opens.
    fn outlet(&mut self, now: Instant) -> &mut Outlet {
        let inner = self.settings.inner();
        self.outlet.get_or_insert_with(|| {
            let (batch, rate) = (inner.batch.as_ref(), inner.rate.as_ref());
            Box::new(Outlet::new(batch, rate, inner.unsent_bytes_max, 0, now))
        })
    }

    /// What waits for its batch or its turn waits for a connection now.
    fn take_back(&mut self, now: Instant) {
        let messages = self.empty_outlet();
        self.outage.put_back(now, messages);
    }

    /// What waits for its batch or its turn is not sent.
    fn drop_back(&mut self) {
        let messages = self.empty_outlet();
        self.outage.drop_back(messages);
    }

    fn empty_outlet(&mut self) -> Vec<(Opcode, Bytes)> {
        let mut messages = Vec::new();
        if let Some(outlet) = &mut self.outlet {
            outlet.take_back(None, |opcode, payload| {
                messages.push((opcode, Bytes::copy_from_slice(payload)));
            });
        }
        messages
    }

    /// Sends what has waited, as long as the rate and the connection let it.
    fn flush<D>(&mut self, at: &mut Loop<'_, D>) {
        let Some(connection) = self.connection else { return };
        let now = at.now();
        self.outlet(now).work(at, connection, None);
        let Self { outlet: Some(outlet), outage, stats, .. } = self else { return };
        while let Some(waiting) = outage.front(now)
            && outlet.send_late(at, connection, (waiting.opcode, &waiting.payload))
        {
            outage.pop();
            stats.sent_late += 1;
        }
    }

    /// When what waits on its way to the connection may go on.
    fn poll_outlet(&mut self, now: Instant) -> Option<Instant> {
        self.connection?;
        let Self { outlet: Some(outlet), outage, .. } = self else { return None };
        let late = outage.front(now).map(|waiting| waiting.payload.len());
        let late = late.and_then(|bytes| outlet.late_timeout(now, bytes));
        outlet.poll_timeout(now).into_iter().chain(late).min()
    }

    /// Lays out what is not sent.
    fn report_unsent(&mut self, id: ClientId, events: &mut VecDeque<Event>) {
        while let Some(unsent) = self.outage.poll_unsent() {
            self.stats.unsent += 1;
            events.push_back(Event::Unsent(Owner::Client(id), unsent));
        }
    }

    /// Gives back what the loop holds for it.
    pub(super) fn release<D>(&mut self, at: &mut Loop<'_, D>) {
        self.deadline.cancel(at);
    }
}

impl Submitted {
    /// The same of a message that is offered again if need be.
    pub(super) const fn of_offer(self) -> Self {
        match self {
            Self::Given(SendOutcome::Dropped(DropReason::TooLarge)) => {
                Self::Refused(UnsentReason::TooLarge)
            }
            // The connection ends.
            Self::Given(SendOutcome::Dropped(_)) => Self::NotYet,
            submitted => submitted,
        }
    }
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

/// What the server's answer says of the time to come back.
fn asked_delay(error: &DialError) -> Option<Duration> {
    let DialError::Refused(refusal) = error else { return None };
    retry_after(refusal.header("Retry-After")?, SystemTime::now())
}
