//! What an application implements that calls servers, beside or without being one.

use std::any::Any;
use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use super::clients::{ClientId, Clients, Owner};
use super::lease::{LeakReport, Lease, LeaseTicket};
use super::outage::Unsent;
use super::pool::PoolError;
use super::reconnect::{ClientChange, StopReason};
use crate::handshake::Request;
use crate::http::ResponseHead;
use crate::limit::PressureChange;
use crate::protocol::{Chunk, CloseSummary};
use crate::pubsub::TopicChange;
use crate::reactor::{
    Arrival, ConnectionId, Context, DialError, Drain, DrainReport, Dropped, Loop, Message, TimerId,
    Verdict,
};

/// An application on a loop that has clients and pools. The callbacks of [`Handler`](crate::Handler)
/// are here too, for accepted connections and for its own alike, each with the loop's [`Clients`]
/// at hand; [`Clients::owner`] tells whose a connection is.
///
/// [`ClientLayer`](super::ClientLayer) makes a [`Handler`](crate::Handler) of it.
///
/// # Calling order
/// Of each connection as with [`Handler`](crate::Handler). Of a client: [`on_change`](Self::on_change)
/// with each state; [`on_open`](Self::on_open) when a connection stands, before anything that has
/// waited for it is sent, so that it is the place to subscribe again; after it was lost
/// [`on_close`](Self::on_close), or [`on_dial_failed`](Self::on_dial_failed) if there was none, and
/// in the end one [`on_stop`](Self::on_stop), unless it stands still already when it is stopped or
/// removed.
pub trait ClientHandler {
    /// What the application keeps per connection, accepted or dialled.
    type Data: Default;

    /// As [`Handler::on_request`](crate::Handler::on_request).
    fn on_request(&mut self, request: &Request<'_>, _: &Arrival<'_>) -> Verdict<Self::Data> {
        Verdict::by_upgrade(request)
    }

    /// As [`Handler::on_answer`](crate::Handler::on_answer), for connections of clients and pools and
    /// those that the application has dialled itself; [`Clients::owner`] tells whose it is.
    fn on_answer(
        &mut self,
        _: &mut Loop<'_, Self::Data>,
        _: &mut Clients,
        _: ConnectionId,
        _: &ResponseHead<'_>,
    ) {
    }

    /// As [`Handler::on_open`](crate::Handler::on_open), for accepted connections and dialled ones.
    fn on_open(&mut self, _: &mut Context<'_, Self::Data>, _: &mut Clients) {}

    /// A whole message. One that cannot be understood is counted, told to
    /// [`on_undecodable`](Self::on_undecodable) and forgotten; the connection lives.
    ///
    /// # Errors
    /// Why the message cannot be understood; `?` makes it of any error.
    fn on_message(
        &mut self,
        ctx: &mut Context<'_, Self::Data>,
        clients: &mut Clients,
        message: Message<'_>,
    ) -> Result<(), Undecodable>;

    /// A message was not understood.
    fn on_undecodable(
        &mut self,
        _: &mut Context<'_, Self::Data>,
        _: &mut Clients,
        _: Message<'_>,
        _: &Undecodable,
    ) {
    }

    /// As [`Handler::on_chunk`](crate::Handler::on_chunk).
    fn on_chunk(&mut self, _: &mut Context<'_, Self::Data>, _: &mut Clients, _: Chunk<'_>) {}

    /// As [`Handler::on_ping`](crate::Handler::on_ping).
    fn on_ping(&mut self, _: &mut Context<'_, Self::Data>, _: &mut Clients, _payload: &[u8]) {}

    /// As [`Handler::on_pong`](crate::Handler::on_pong).
    fn on_pong(
        &mut self,
        _: &mut Context<'_, Self::Data>,
        _: &mut Clients,
        _payload: &[u8],
        _round_trip: Option<Duration>,
    ) {
    }

    /// As [`Handler::on_drain`](crate::Handler::on_drain).
    fn on_drain(&mut self, _: &mut Context<'_, Self::Data>, _: &mut Clients) {}

    /// As [`Handler::on_dropped`](crate::Handler::on_dropped).
    fn on_dropped(
        &mut self,
        _: &mut Context<'_, Self::Data>,
        _: &mut Clients,
        _topic: &str,
        _: &Dropped,
    ) {
    }

    /// As [`Handler::on_topic`](crate::Handler::on_topic).
    fn on_topic(
        &mut self,
        _: &mut Loop<'_, Self::Data>,
        _: &mut Clients,
        _topic: &str,
        _: TopicChange,
    ) {
    }

    /// As [`Handler::on_close`](crate::Handler::on_close).
    fn on_close(&mut self, _: &mut Context<'_, Self::Data>, _: &mut Clients, _: &CloseSummary) {}

    /// The state of a client has changed.
    fn on_change(
        &mut self,
        _: &mut Loop<'_, Self::Data>,
        _: &mut Clients,
        _: ClientId,
        _: &ClientChange,
    ) {
    }

    /// Time has come for messages that waited in a client for their batch or their turn: what
    /// [`Clients::offer`] did not take may be offered again, and [`Clients::flush`] may find nothing
    /// left. Told only after one of these has said no.
    fn on_room(&mut self, _: &mut Loop<'_, Self::Data>, _: &mut Clients, _: ClientId) {}

    /// The same for a lease: some of what waited for the rate has gone, so that
    /// [`Clients::offer_leased`] may take more, and [`Clients::flush_leased`] may find nothing left.
    /// Told only after one of these has said no.
    fn on_lease_room(&mut self, _: &mut Loop<'_, Self::Data>, _: &mut Clients, _: Lease) {}

    /// A dial of a client or a pool has failed. What follows from that for a client is told by
    /// [`on_change`](Self::on_change) at once. Which back end it was of a pool's,
    /// [`Clients::endpoint_url`] says.
    fn on_dial_failed(
        &mut self,
        _: &mut Loop<'_, Self::Data>,
        _: &mut Clients,
        _: Owner,
        _: DialError,
    ) {
    }

    /// A message that a client or a leased connection had taken is not sent.
    fn on_unsent(&mut self, _: &mut Loop<'_, Self::Data>, _: &mut Clients, _: Owner, _: Unsent) {}

    /// A client is not dialled any more, unless it is started again.
    fn on_stop(
        &mut self,
        _: &mut Loop<'_, Self::Data>,
        _: &mut Clients,
        _: ClientId,
        _: StopReason,
    ) {
    }

    /// The waiting of a ticket is over, with a lease or without.
    fn on_lease(
        &mut self,
        _: &mut Loop<'_, Self::Data>,
        _: &mut Clients,
        _: LeaseTicket,
        _: Result<Lease, PoolError>,
    ) {
    }

    /// A lease is held for long, or was and has been revoked.
    fn on_leak(&mut self, _: &mut Loop<'_, Self::Data>, _: &mut Clients, _: &LeakReport) {}

    /// The loop turns for the first time. Clients that were added before are on their way.
    fn on_start(&mut self, _: &mut Loop<'_, Self::Data>, _: &mut Clients) {}

    /// As [`Handler::on_draining`](crate::Handler::on_draining). Clients and pools go on, for
    /// those who are still to be told to go.
    fn on_draining(&mut self, _: &mut Loop<'_, Self::Data>, _: &mut Clients, _: &Drain) {}

    /// The loop ends. Behind it all clients are stopped and all pools shut down, which is
    /// told as always.
    fn on_shutdown(&mut self, _: &mut Loop<'_, Self::Data>, _: &mut Clients) {}

    /// As [`Handler::on_drained`](crate::Handler::on_drained).
    fn on_drained(&mut self, _: &mut Loop<'_, Self::Data>, _: &mut Clients, _: &DrainReport) {}

    /// As [`Handler::on_pressure`](crate::Handler::on_pressure). What clients and pools give back is
    /// given back already; see [`PressureReactions::shrink_clients`](crate::PressureReactions).
    fn on_pressure(&mut self, _: &mut Loop<'_, Self::Data>, _: &mut Clients, _: &PressureChange) {}

    /// As [`Handler::on_timer`](crate::Handler::on_timer).
    fn on_timer(
        &mut self,
        _: &mut Loop<'_, Self::Data>,
        _: &mut Clients,
        _: TimerId,
        _cookie: u64,
    ) {
    }

    /// As [`Handler::on_notice`](crate::Handler::on_notice).
    fn on_notice(
        &mut self,
        _: &mut Loop<'_, Self::Data>,
        _: &mut Clients,
        _notice: Box<dyn Any + Send>,
    ) {
    }

    /// A connection that the application has [dialled](Loop::dial) itself has not opened.
    fn on_own_dial_failed(
        &mut self,
        _: &mut Loop<'_, Self::Data>,
        _: &mut Clients,
        _: ConnectionId,
        _data: Self::Data,
        _: DialError,
    ) {
    }
}

/// Why a message was not understood: any error, or words.
#[derive(Debug)]
pub struct Undecodable(Box<dyn Error + Send + Sync>);

impl Undecodable {
    /// In words.
    pub fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        Self(reason.into().into())
    }

    /// The error that it was made of.
    pub fn error(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.0
    }
}

impl fmt::Display for Undecodable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

// Not an `Error` itself, so that every error can become one.
impl<E: Error + Send + Sync + 'static> From<E> for Undecodable {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}
