//! The layer between a loop and an application that calls servers.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::clients::Clients;
use super::dispatch::Hearing;
use super::envelope::Envelope;
use super::event::Event;
use super::handler::{ClientHandler, Undecodable};
use super::names::{Answer, Names};
use super::resolver::{DnsSettings, Resolver, SystemResolver};
use crate::handshake::Request;
use crate::http::ResponseHead;
use crate::limit::PressureChange;
use crate::protocol::{Chunk, CloseSummary};
use crate::pubsub::TopicChange;
use crate::reactor::{
    Arrival, ConnectionId, Context, DialError, Drain, DrainReport, Dropped, Handler, Loop, Message,
    MioNet, Reactor, ReactorConfig, TimerId, Verdict,
};

/// Makes a [`Handler`] of a [`ClientHandler`]: the loop's events pass through it, on the way its
/// clients and pools are served. So an application with a server in front and clients behind is one
/// value on one loop.
///
/// ```no_run
/// use corewire::{
///     Client, ClientHandler, ClientLayer, Clients, Context, Message, Owner, Server, Undecodable,
/// };
///
/// /// Says to a server what comes in, and nothing else.
/// struct Relay;
///
/// impl ClientHandler for Relay {
///     type Data = ();
///
///     fn on_message(
///         &mut self,
///         ctx: &mut Context<'_, ()>,
///         clients: &mut Clients,
///         message: Message<'_>,
///     ) -> Result<(), Undecodable> {
///         if clients.owner(ctx.id()).is_none() {
///             let all: Vec<_> = clients.iter().collect();
///             for client in all {
///                 let _ = clients.send(ctx, client, message);
///             }
///         }
///         Ok(())
///     }
/// }
///
/// let settings = Client::builder("ws://127.0.0.1:9002/").build()?;
/// let server = Server::builder().listen(([127, 0, 0, 1], 9001)).build(move |_shard| {
///     let mut layer = ClientLayer::new(Relay);
///     layer.clients().add(settings.clone());
///     layer
/// })?;
/// server.run()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ClientLayer<H> {
    clients: Clients,
    handler: H,
    life: Life,
}

/// Whether the loop was told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Running,
    Ending,
}

/// Visits that are made when the loop is told to end: 64 thousand callbacks.
const VISITS_AT_THE_END: usize = 64;

/// Panics that are caught in a row when the loop is told to end: as many as callbacks are made then.
const PANICS_AT_THE_END: usize = VISITS_AT_THE_END * EVENTS_PER_VISIT;

/// Callbacks that are made in a row before the loop goes on with other work. Guess: what takes no
/// longer than a budget of messages.
const EVENTS_PER_VISIT: usize = 1024;

impl<H: ClientHandler> ClientLayer<H> {
    /// A layer without clients, for which the system finds the addresses of names.
    pub fn new(handler: H) -> Self {
        Self::with_resolver(handler, Arc::new(SystemResolver), &DnsSettings::default())
    }

    /// A layer around an application that is made with its clients and pools at hand.
    pub fn build(make: impl FnOnce(&mut Clients) -> H) -> Self {
        let mut clients =
            Clients::new(Names::new(Arc::new(SystemResolver), &DnsSettings::default()));
        let handler = make(&mut clients);
        Self { clients, handler, life: Life::Running }
    }

    /// The same with a resolver of the application's own, or other bounds.
    pub fn with_resolver(handler: H, resolver: Arc<dyn Resolver>, settings: &DnsSettings) -> Self {
        let clients = Clients::new(Names::new(resolver, settings));
        Self { clients, handler, life: Life::Running }
    }

    /// The layer on a loop of its own, on real sockets: [`Reactor::run`] turns it until somebody
    /// calls [`Handle::shutdown`](crate::Handle::shutdown).
    ///
    /// # Errors
    /// The system has no descriptors to poll with, or no random numbers.
    pub fn reactor(self) -> io::Result<Reactor<MioNet, Self>> {
        let config = ReactorConfig::random()?;
        Ok(Reactor::new(MioNet::new(config.limits.receive_buffer_bytes)?, self, config))
    }

    /// The clients and pools, for who sets them up before the loop turns. Later, callbacks have them
    /// at hand; another thread reaches them by [`Handle::notify`](crate::Handle::notify), since what
    /// is asked for here is done in the course of a callback.
    pub fn clients(&mut self) -> &mut Clients {
        &mut self.clients
    }

    /// The application.
    pub fn handler(&mut self) -> &mut H {
        &mut self.handler
    }

    /// Has the application handle a message.
    fn deliver(&mut self, ctx: &mut Context<'_, H::Data>, message: Message<'_>) {
        let Self { clients, handler, .. } = self;
        if let Err(error) = handler.on_message(ctx, clients, message) {
            self.drop_undecodable(ctx, message, &error);
        }
    }

    fn drop_undecodable(
        &mut self,
        ctx: &mut Context<'_, H::Data>,
        message: Message<'_>,
        error: &Undecodable,
    ) {
        let id = ctx.id();
        self.clients.handle_undecodable(ctx, id);
        self.handler.on_undecodable(ctx, &mut self.clients, message, error);
    }

    /// Has the application handle the messages of an envelope, or the text itself if it is none. A
    /// panic fails the connection, which loses the rest of it as it loses the frames behind.
    fn take_apart(&mut self, ctx: &mut Context<'_, H::Data>, text: &str) {
        match Envelope::decode(text) {
            Ok(Some(envelope)) => {
                for message in envelope.messages() {
                    self.deliver(ctx, Message::Text(message));
                }
            }
            Ok(None) => self.deliver(ctx, Message::Text(text)),
            Err(error) => self.drop_undecodable(ctx, Message::Text(text), &error.into()),
        }
    }

    /// Does what the callback that has just returned has led to, and makes the callbacks that are
    /// due.
    fn visit(&mut self, at: &mut Loop<'_, H::Data>) {
        for _ in 0..EVENTS_PER_VISIT {
            self.clients.work(at);
            let Some(event) = self.clients.events.pop_front() else { return };
            let Self { clients, handler, .. } = self;
            match event {
                Event::Change(id, change) => handler.on_change(at, clients, id, &change),
                Event::Room(id) => handler.on_room(at, clients, id),
                Event::LeaseRoom(lease) => handler.on_lease_room(at, clients, lease),
                Event::DialFailed(id, error) => handler.on_dial_failed(at, clients, id, error),
                Event::Unsent(id, unsent) => handler.on_unsent(at, clients, id, unsent),
                Event::Stop(id, reason) => handler.on_stop(at, clients, id, reason),
                Event::Lease(ticket, lease) => handler.on_lease(at, clients, ticket, lease),
                Event::Leak(report) => handler.on_leak(at, clients, &report),
            }
        }
        // The rest comes with the next tick.
        self.clients.postpone(at);
    }

    /// Ends all that is left, and tells it.
    fn end(&mut self, at: &mut Loop<'_, H::Data>) {
        self.clients.shut_down(at);
        // No turn may follow to tell the rest in, but who starts clients anew has no end.
        for _ in 0..VISITS_AT_THE_END {
            self.visit(at);
        }
    }
}

impl<H: ClientHandler> Handler for ClientLayer<H> {
    type Data = H::Data;

    fn on_request(&mut self, request: &Request<'_>, arrival: &Arrival<'_>) -> Verdict<H::Data> {
        self.handler.on_request(request, arrival)
    }

    fn on_open(&mut self, ctx: &mut Context<'_, H::Data>) {
        let id = ctx.id();
        if self.clients.handle_open(ctx, id) == Hearing::Public {
            self.handler.on_open(ctx, &mut self.clients);
        }
        self.visit(ctx);
    }

    fn on_answer(&mut self, at: &mut Loop<'_, H::Data>, id: ConnectionId, head: &ResponseHead<'_>) {
        if self.clients.hearing(id) == Hearing::Public {
            self.handler.on_answer(at, &mut self.clients, id, head);
        }
        self.visit(at);
    }

    fn on_message(&mut self, ctx: &mut Context<'_, H::Data>, message: Message<'_>) {
        if self.clients.is_private(ctx.id()) {
            return;
        }
        match message {
            Message::Text(text) if self.clients.takes_envelopes(ctx.id()) => {
                self.take_apart(ctx, text);
            }
            message => self.deliver(ctx, message),
        }
        self.visit(ctx);
    }

    fn on_chunk(&mut self, ctx: &mut Context<'_, H::Data>, chunk: Chunk<'_>) {
        if self.clients.is_private(ctx.id()) {
            return;
        }
        self.handler.on_chunk(ctx, &mut self.clients, chunk);
        self.visit(ctx);
    }

    fn on_ping(&mut self, ctx: &mut Context<'_, H::Data>, payload: &[u8]) {
        if self.clients.is_private(ctx.id()) {
            return;
        }
        self.handler.on_ping(ctx, &mut self.clients, payload);
        self.visit(ctx);
    }

    fn on_pong(
        &mut self,
        ctx: &mut Context<'_, H::Data>,
        payload: &[u8],
        round_trip: Option<Duration>,
    ) {
        if self.clients.is_private(ctx.id()) {
            return;
        }
        let id = ctx.id();
        self.clients.handle_pong(ctx, id, payload, round_trip);
        self.handler.on_pong(ctx, &mut self.clients, payload, round_trip);
        self.visit(ctx);
    }

    fn on_drain(&mut self, ctx: &mut Context<'_, H::Data>) {
        if self.clients.is_private(ctx.id()) {
            return;
        }
        self.clients.handle_drain(ctx.id());
        self.handler.on_drain(ctx, &mut self.clients);
        self.visit(ctx);
    }

    fn on_close(&mut self, ctx: &mut Context<'_, H::Data>, summary: &CloseSummary) {
        // First, lest a panic of the application leave a client with a connection that is gone.
        let id = ctx.id();
        self.clients.handle_closed(ctx, id, summary);
        if self.clients.hearing(id) == Hearing::Public {
            self.handler.on_close(ctx, &mut self.clients, summary);
        }
        self.clients.ended = None;
        self.visit(ctx);
    }

    fn on_gone(&mut self, at: &mut Loop<'_, H::Data>, id: ConnectionId) {
        if self.clients.handle_gone(at, id) {
            self.visit(at);
        }
    }

    fn on_dial_failed(
        &mut self,
        at: &mut Loop<'_, H::Data>,
        id: ConnectionId,
        data: H::Data,
        error: DialError,
    ) {
        if let Some(error) = self.clients.handle_dial_failed(at, id, error) {
            self.handler.on_own_dial_failed(at, &mut self.clients, id, data, error);
        }
        self.visit(at);
    }

    fn on_panic(&mut self, at: &mut Loop<'_, H::Data>) {
        self.clients.ended = None;
        match self.life {
            // What is due beside what has panicked comes with the next tick.
            Life::Running => self.clients.postpone(at),
            // There may be none. Another panic in here would go through, and has taken its callback
            // with it.
            Life::Ending => {
                let mut end = || catch_unwind(AssertUnwindSafe(|| self.end(at)));
                let _ = (0..PANICS_AT_THE_END).find(|_| end().is_ok());
            }
        }
    }

    fn on_start(&mut self, at: &mut Loop<'_, H::Data>) {
        self.handler.on_start(at, &mut self.clients);
        self.visit(at);
    }

    fn on_draining(&mut self, at: &mut Loop<'_, H::Data>, drain: &Drain) {
        self.handler.on_draining(at, &mut self.clients, drain);
        self.visit(at);
    }

    fn on_shutdown(&mut self, at: &mut Loop<'_, H::Data>) {
        self.life = Life::Ending;
        self.handler.on_shutdown(at, &mut self.clients);
        self.end(at);
    }

    fn on_dropped(&mut self, ctx: &mut Context<'_, H::Data>, topic: &str, dropped: &Dropped) {
        self.handler.on_dropped(ctx, &mut self.clients, topic, dropped);
        self.visit(ctx);
    }

    fn on_topic(&mut self, at: &mut Loop<'_, H::Data>, topic: &str, change: TopicChange) {
        self.handler.on_topic(at, &mut self.clients, topic, change);
        self.visit(at);
    }

    fn on_drained(&mut self, at: &mut Loop<'_, H::Data>, report: &DrainReport) {
        self.handler.on_drained(at, &mut self.clients, report);
    }

    fn on_pressure(&mut self, at: &mut Loop<'_, H::Data>, change: &PressureChange) {
        let is_wanted = at.pressure_reactions().is_some_and(|reactions| reactions.shrink_clients);
        if change.to > change.from && is_wanted {
            self.clients.relieve(at);
        }
        self.handler.on_pressure(at, &mut self.clients, change);
        self.visit(at);
    }

    fn on_timer(&mut self, at: &mut Loop<'_, H::Data>, timer: TimerId, cookie: u64) {
        if !self.clients.handle_timer(at, timer, cookie) {
            self.handler.on_timer(at, &mut self.clients, timer, cookie);
        }
        self.visit(at);
    }

    fn on_notice(&mut self, at: &mut Loop<'_, H::Data>, notice: Box<dyn Any + Send>) {
        match notice.downcast::<Answer>() {
            Ok(answer) => self.clients.handle_answer(at, *answer),
            Err(notice) => self.handler.on_notice(at, &mut self.clients, notice),
        }
        self.visit(at);
    }
}
