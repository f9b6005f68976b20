//! What an application implements.

use std::any::Any;
use std::borrow::Cow;
use std::time::Duration;

use super::context::Context;
use super::deferral::Ticket;
use super::dial::DialError;
use super::drain::{Drain, DrainReport};
use super::endpoint::PeerAddress;
use super::event_loop::{Loop, TimerId};
use super::id::ConnectionId;
use super::publish::Dropped;
use super::tls::TlsFacts;
use crate::handshake::{Accept, Request, Response, RouteMatch};
use crate::http::ResponseHead;
use crate::limit::PressureChange;
use crate::protocol::{Chunk, CloseSummary};
use crate::pubsub::TopicChange;
use crate::wire::Opcode;

/// An application on a loop. One value serves all connections of its loop, from one thread.
///
/// # Calling order
/// For each connection [`on_request`](Self::on_request), perhaps several times for plain HTTP; once
/// it has answered [`Verdict::Accept`], or that was decided later, exactly one
/// [`on_open`](Self::on_open), then any of the others in the order of the wire, then exactly one
/// [`on_close`](Self::on_close). No callback is entered from inside another one, nor from inside a
/// send.
///
/// ```
/// use corewire::{Context, Handler, Message};
///
/// struct Echo;
///
/// impl Handler for Echo {
///     type Data = ();
///
///     fn on_message(&mut self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
///         let _ = ctx.send(message);
///     }
/// }
/// ```
pub trait Handler {
    /// What the application keeps per connection; it lies in the connection's slot.
    type Data: Default;

    /// A request has come whose head keeps the rules. The default accepts every upgrade and
    /// answers 426 to all else.
    ///
    /// An upgrade that is not welcome by its `Origin` never comes here, nor does a path that none
    /// of the listener's routes matches.
    fn on_request(&mut self, request: &Request<'_>, _: &Arrival<'_>) -> Verdict<Self::Data> {
        Verdict::by_upgrade(request)
    }

    /// A connection has opened; what is sent here follows the handshake's answer.
    fn on_open(&mut self, _: &mut Context<'_, Self::Data>) {}

    /// A whole message. It is lent: copy what must outlive the callback.
    fn on_message(&mut self, ctx: &mut Context<'_, Self::Data>, message: Message<'_>);

    /// A piece of a message, with [`Delivery::Streaming`](crate::Delivery::Streaming) instead of
    /// [`on_message`](Self::on_message).
    fn on_chunk(&mut self, _: &mut Context<'_, Self::Data>, _: Chunk<'_>) {}

    /// A ping has come; its pong is on its way already.
    fn on_ping(&mut self, _: &mut Context<'_, Self::Data>, _payload: &[u8]) {}

    /// A pong has come, with the round-trip time if it answers the last heartbeat.
    fn on_pong(
        &mut self,
        _: &mut Context<'_, Self::Data>,
        _payload: &[u8],
        _round_trip: Option<Duration>,
    ) {
    }

    /// Output that was held up has fallen to the low-water mark, or all of it has left: sending
    /// may go on.
    fn on_drain(&mut self, _: &mut Context<'_, Self::Data>) {}

    /// Messages of a topic were not sent to a subscriber because it is too slow: so many since it was
    /// told last. Not told of a connection that is closing, as one that fails for it, nor if nobody is
    /// subscribed to the topic any more.
    fn on_dropped(&mut self, _: &mut Context<'_, Self::Data>, _topic: &str, _: &Dropped) {}

    /// A topic or a filter has its first subscriber on this loop, or has none any more: what an
    /// adapter to a broker subscribes to there.
    fn on_topic(&mut self, _: &mut Loop<'_, Self::Data>, _topic: &str, _: TopicChange) {}

    /// The server that a connection was dialled to has switched protocols; here are the fields of
    /// its answer, and of `wss`, `Peer::tls` tells the certificate. `on_open` follows at once, unless
    /// it is [given up](Loop::give_up) for them.
    fn on_answer(&mut self, _: &mut Loop<'_, Self::Data>, _: ConnectionId, _: &ResponseHead<'_>) {}

    /// A connection that was [dialled](Loop::dial) has not opened, and will not. What the
    /// application kept for it comes back.
    fn on_dial_failed(
        &mut self,
        _: &mut Loop<'_, Self::Data>,
        _: ConnectionId,
        _data: Self::Data,
        _: DialError,
    ) {
    }

    /// The loop turns for the first time.
    fn on_start(&mut self, _: &mut Loop<'_, Self::Data>) {}

    /// The loop begins to drain, by [`Handle::drain`](super::Handle::drain) or
    /// [`Handle::shutdown`](super::Handle::shutdown): what is still to be said to everybody can be
    /// said now. New connections are not taken any more.
    fn on_draining(&mut self, _: &mut Loop<'_, Self::Data>, _: &Drain) {}

    /// The loop ends: every connection that it has accepted was told to go, or is told behind this
    /// callback, and so are those that were dialled. None is dialled any more.
    fn on_shutdown(&mut self, _: &mut Loop<'_, Self::Data>) {}

    /// Nothing is left of any connection; the loop is finished behind this callback, and what it
    /// publishes still goes to the loops beside it. What became of
    /// them is also in the loop's [`Counters`](crate::metrics::Counters).
    fn on_drained(&mut self, _: &mut Loop<'_, Self::Data>, _: &DrainReport) {}

    /// The level of memory pressure has changed. What is told by [`PressureSettings::reactions`] to be
    /// done at the new level is done when this returns, and with each look at memory behind it.
    ///
    /// [`PressureSettings::reactions`]: super::PressureSettings::reactions
    fn on_pressure(&mut self, _: &mut Loop<'_, Self::Data>, _: &PressureChange) {}

    /// A timer has come that was set by [`Loop::set_timer`].
    fn on_timer(&mut self, _: &mut Loop<'_, Self::Data>, _: TimerId, _cookie: u64) {}

    /// Something has come from another thread, by [`Handle::notify`](super::Handle::notify).
    fn on_notice(&mut self, _: &mut Loop<'_, Self::Data>, _notice: Box<dyn Any + Send>) {}

    /// A callback has panicked, which was caught by
    /// [`PanicPolicy::CloseConnection`](super::PanicPolicy): the place to set right what it has left
    /// undone. A panic in here goes through.
    fn on_panic(&mut self, _: &mut Loop<'_, Self::Data>) {}

    /// The connection is over. Nothing can be sent to it any more; its data is there to the end of
    /// this callback.
    fn on_close(&mut self, _: &mut Context<'_, Self::Data>, _: &CloseSummary) {}

    /// Nothing of a connection is left: its socket is closed. The last word about each, whether it
    /// has opened or not. It follows `on_close` by as long as the peer takes to close its end, at
    /// most [`LoopLimits::parting_timeout`](crate::LoopLimits::parting_timeout) where nothing is
    /// left to be written.
    fn on_gone(&mut self, _: &mut Loop<'_, Self::Data>, _: ConnectionId) {}
}

/// A whole message, lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Valid UTF-8 (RFC 6455 §5.6).
    Text(&'a str),
    /// Any bytes.
    Binary(&'a [u8]),
}

impl<'a> Message<'a> {
    /// The opcode that it has, or had, on the wire.
    #[inline]
    pub const fn opcode(&self) -> Opcode {
        match self {
            Self::Text(_) => Opcode::Text,
            Self::Binary(_) => Opcode::Binary,
        }
    }

    /// The bytes of either.
    #[inline]
    pub const fn payload(&self) -> &'a [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }
}

/// What becomes of a request.
#[derive(Debug)]
#[non_exhaustive]
pub enum Verdict<D> {
    /// Upgrade to a WebSocket. For a request that is no upgrade the answer is 426 instead.
    Accept {
        /// The subprotocol and further headers of the answer.
        accept: Accept,
        /// What the application keeps for the connection.
        data: D,
    },
    /// Answer so, and close the connection.
    Reject(Response),
    /// Answer so as plain HTTP; the connection is kept for the next request where HTTP allows it.
    Respond(Response),
    /// Decide later, from any thread, by [`Handle::decide`](super::Handle::decide) with the
    /// [ticket](Arrival::ticket) of the request. What is pipelined behind it waits.
    ///
    /// The connection may be gone by then: an upgrade ends as soon as its client has left, a plain
    /// request if the connection is reset. The decision is a miss then.
    Defer {
        /// How long the client waits at most, up to
        /// [`DEFERRAL_MAX`](crate::limits::DEFERRAL_MAX). At the bound: 503 with `Retry-After`.
        timeout: Duration,
        /// What the application keeps for the connection, should it be accepted; otherwise it is
        /// dropped.
        data: D,
    },
    /// 426 with `Upgrade: websocket` (RFC 9110 §15.5.22): there is nothing here but a WebSocket.
    UpgradeRequired,
}

impl<D: Default> Verdict<D> {
    /// Accepts every upgrade, and answers 426 to all else.
    pub fn by_upgrade(request: &Request<'_>) -> Self {
        if request.is_upgrade() {
            return Self::Accept { accept: Accept::new(), data: D::default() };
        }
        Self::UpgradeRequired
    }
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Arrival<'a> {
    /// The name of the connection, should it be accepted.
    pub id: ConnectionId,
    /// The other end of the socket; behind a proxy, the proxy; where that speaks the
    /// [PROXY protocol](super::ListenerSettings::proxy_protocol), the client it names.
    pub peer: PeerAddress,
    /// Which listener it came to, counted in the order they were added.
    pub listener: usize,
    /// The pattern of the route that the path has matched; `None` on a listener without routes.
    pub route: Option<&'a str>,
    /// Whether the loop is on its way to its end: an upgrade is refused whatever the verdict, and
    /// who asks after the server's health is better sent elsewhere.
    pub is_draining: bool,
    /// What is known of the connection's TLS; `None` if it has none.
    #[cfg(feature = "tls")]
    pub tls: Option<TlsFacts<'a>>,
    #[cfg(not(feature = "tls"))]
    pub(super) tls: Option<TlsFacts<'a>>,
    pub(super) matched: Option<RouteMatch<'a>>,
    pub(super) request: u16,
}

impl<'a> Arrival<'a> {
    /// What a parameter of the route's pattern stands for, percent-decoded; it is never empty. Of
    /// an encoded slash nothing can be told any more, and `..` may stand there.
    pub fn param(&self, name: &str) -> Option<Cow<'a, str>> {
        self.matched?.param(name)
    }

    /// What to name the request by, if it is answered [`Verdict::Defer`].
    pub const fn ticket(&self) -> Ticket {
        Ticket { id: self.id, request: self.request }
    }
}
