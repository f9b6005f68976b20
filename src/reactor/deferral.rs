//! Requests that are decided later, by another thread: authentication that asks a database, say.
//!
//! The head of a deferred request stays where it was read, in the connection's backlog. When the
//! decision comes it is handled once more, with the decision in the handler's place; its scanner
//! has not forgotten where it ends.

use std::any::Any;
use std::time::Duration;

use super::admission::{RETRY_AFTER, seconds};
use super::command::{Command, Handle, PostError};
use super::handler::{Handler, Verdict};
use super::id::ConnectionId;
use super::net::Net;
use super::slot::{HttpState, Inbound};
use super::turn::Reactor;
use crate::collections::Key;
use crate::handshake::{Accept, HandshakeError, Inspected, Response};
use crate::limits::DEFERRAL_MAX;

/// The name of a deferred request: which connection's, and which of its requests. A late decision
/// is never taken for one about a later request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub(super) id: ConnectionId,
    pub(super) request: u16,
}

impl Ticket {
    /// The connection that the request came on.
    pub const fn id(self) -> ConnectionId {
        self.id
    }
}

/// What becomes of a deferred request: as the verdicts of the same names. What the application
/// keeps for the connection was given with [`Verdict::Defer`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Decision {
    /// Upgrade to a WebSocket. If there is no room any more, or the server is about to stop, the
    /// client gets 503 instead.
    Accept(Accept),
    /// The same, and here is something for `on_open`, which gets it by
    /// [`Context::take_attachment`](super::Context::take_attachment).
    AcceptWith(Accept, Box<dyn Any + Send>),
    /// Answer so, and close the connection.
    Reject(Response),
    /// Answer so as plain HTTP; the connection is kept for the next request where HTTP allows it.
    Respond(Response),
}

/// A request that waits for its decision.
#[derive(Debug)]
pub(super) struct Deferral<D> {
    data: D,
    purpose: Purpose,
    /// From so many unhandled bytes on, the request's own included, reading rests.
    input_bytes_max: usize,
    decision: Option<Decision>,
}

/// What a deferred request is for. That decides what the end of the client's stream means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// Nobody is left to speak to.
    Upgrade,
    /// The client may have shut its side and still wait for the answer.
    Plain,
}

impl Handle {
    /// Decides about a request that was answered [`Verdict::Defer`]. If it is decided already, its
    /// time is over or its connection gone, nothing happens, and
    /// [`Counters::decisions_missed`](crate::metrics::Counters::decisions_missed) tells.
    ///
    /// # Errors
    /// As [`Handle::post`].
    pub fn decide(&self, ticket: Ticket, decision: Decision) -> Result<(), PostError> {
        self.post(Command::Decide(ticket, Box::new(decision)))
    }
}

impl<D> HttpState<D> {
    fn is_undecided(&self) -> bool {
        self.deferral.as_ref().is_some_and(|deferral| deferral.decision.is_none())
    }

    /// Whether the request in front was decided and is to be handled again.
    pub(super) fn is_decided(&self) -> bool {
        self.deferral.as_ref().is_some_and(|deferral| deferral.decision.is_some())
    }
}

impl<D> Deferral<D> {
    pub(super) fn new(data: D, request: &Inspected<'_>) -> Box<Self> {
        let purpose = match request {
            Inspected::Upgrade(_) => Purpose::Upgrade,
            Inspected::Plain(_) => Purpose::Plain,
        };
        Box::new(Self { data, purpose, input_bytes_max: 0, decision: None })
    }
}

impl<N: Net, H: Handler> Reactor<N, H> {
    /// Leaves the request that was just read, with a head of so many bytes, to a later decision.
    pub(super) fn defer(
        &mut self,
        key: Key,
        mut deferral: Box<Deferral<H::Data>>,
        timeout: Duration,
        head_bytes: usize,
    ) {
        self.shared.counters.requests_deferred += 1;
        let deadline = self.shared.now + timeout.min(DEFERRAL_MAX);
        let listener = self.shared.slots.get(key).and_then(|slot| self.shared.listener(slot));
        let Some(listener) = listener else { return };
        let limits = &self.shared.listeners[listener].settings.handshake;
        deferral.input_bytes_max = head_bytes + limits.head_bytes_max as usize;
        if let Some(http) = self.http(key) {
            http.deadline = deadline;
            http.deferral = Some(deferral);
        }
        self.hasten(key);
    }

    /// Whether the request in front waits for its decision.
    pub(super) fn is_undecided(&mut self, key: Key) -> bool {
        self.http(key).is_some_and(|http| http.is_undecided())
    }

    /// Reading goes on behind a deferred request, so that a reset or an end is seen, but not
    /// without bound.
    pub(super) fn rest_if_full(&mut self, key: Key, unhandled_bytes: usize) {
        let deferral = self.http(key).and_then(|http| http.deferral.as_ref());
        if deferral.is_some_and(|deferral| unhandled_bytes >= deferral.input_bytes_max)
            && let Some(slot) = self.shared.slots.get_mut(key)
        {
            slot.notes.choked = true;
        }
    }

    /// A decision has come from another thread.
    pub(super) fn handle_decision(&mut self, ticket: Ticket, decision: Decision) {
        let key = ticket.id.key();
        let is_awaited = self
            .http(key)
            .is_some_and(|http| http.requests == ticket.request && http.is_undecided());
        if is_awaited {
            self.decide(key, decision);
        } else {
            self.shared.counters.decisions_missed += 1;
        }
    }

    /// The time for a decision is over.
    pub(super) fn handle_deferral_timeout(&mut self, key: Key) {
        self.shared.counters.deferrals_timed_out += 1;
        let retry_after_seconds = seconds(RETRY_AFTER);
        let response = HandshakeError::Undecided { retry_after_seconds }.response();
        self.decide(key, Decision::Reject(response));
        self.serve(key);
    }

    /// Has the request in front handled again when the connection is served.
    fn decide(&mut self, key: Key, decision: Decision) {
        if let Some(http) = self.http(key)
            && let Some(deferral) = &mut http.deferral
        {
            deferral.decision = Some(decision);
            http.rests = false;
        }
        if let Some(slot) = self.shared.slots.get_mut(key) {
            slot.notes.choked = false;
        }
        self.shared.mark_ready(key);
    }

    /// What was decided about a request, as the verdict on it. What the decision brings along is
    /// laid out for `on_open`.
    pub(super) fn recall(&mut self, deferral: Deferral<H::Data>) -> Option<Verdict<H::Data>> {
        let data = deferral.data;
        Some(match deferral.decision? {
            Decision::Accept(accept) => Verdict::Accept { accept, data },
            Decision::AcceptWith(accept, attachment) => {
                self.shared.attachment = Some(attachment);
                Verdict::Accept { accept, data }
            }
            Decision::Reject(response) => Verdict::Reject(response),
            Decision::Respond(response) => Verdict::Respond(response),
        })
    }

    /// Whether a plain request waits, to which the end of the client's stream means nothing.
    pub(super) fn owes_plain_answer(&mut self, key: Key) -> bool {
        let deferral = self.http(key).and_then(|http| http.deferral.as_ref());
        deferral.is_some_and(|deferral| deferral.purpose == Purpose::Plain)
    }

    fn http(&mut self, key: Key) -> Option<&mut HttpState<H::Data>> {
        self.shared.slots.get(key)?;
        match &mut self.receivers[key.index as usize].inbound {
            Inbound::Http(http) => Some(http),
            Inbound::Vacant | Inbound::Dialling | Inbound::Open(_) | Inbound::Parting { .. } => {
                None
            }
        }
    }
}
