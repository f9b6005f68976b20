//! The loop's end of a blocking client: what the threads share is moved to the connection and from
//! it.

use std::any::Any;
use std::sync::Arc;

use super::error::{EndCause, Ended, Inner};
use super::message::OwnedMessage;
use super::queues::{Hand, Reading};
use super::shared::{Shared, Wake};
use super::waiting::FAREWELL;
use crate::client::calling::Goodbye;
use crate::client::clients::{ClientId, Clients, Owner};
use crate::client::handler::{ClientHandler, Undecodable};
use crate::client::outage::{Unsent, UnsentReason};
use crate::client::reconnect::{ClientChange, StopReason};
use crate::client::settings::ClientSettings;
use crate::protocol::CloseSummary;
use crate::reactor::{ConnectionId, Context, DialError, Loop, Message, Peer, TimerId};

/// What happens to a blocking client between its messages.
#[non_exhaustive]
pub enum ClientEvent<'a> {
    /// A connection stands, the first or another. What is sent by this goes before all that waits,
    /// so it is the place to subscribe again.
    Opened(Peer<'a, ()>),
    /// A connection is over: how, and how much of what was sent it has not handed to the kernel.
    Closed(&'a CloseSummary),
    /// A dial has failed.
    DialFailed(&'a DialError),
    /// The state has changed.
    Changed(&'a ClientChange),
    /// A message that was taken is not sent.
    Unsent {
        /// As it was given.
        message: OwnedMessage,
        /// Why.
        reason: UnsentReason,
    },
}

/// What is called with each event, on the loop's thread.
pub(super) type OnEvent = Box<dyn FnMut(ClientEvent<'_>) + Send>;

/// The application of the loop.
pub(super) struct Driver {
    shared: Arc<Shared>,
    settings: ClientSettings,
    on_event: OnEvent,
    client: ClientId,
    open: Option<ConnectionId>,
    hand: Hand,
    stage: Stage,
    last_close: Option<CloseSummary>,
    last_failure: Option<DialError>,
}

/// How far a client has come.
///
/// ```text
///   Dialling ──open──► Running ──close()──► Clearing ──all is given──► Parting ──► Finished
///      │                  │                     └── or time is over ────▲             ▲
///      └── failed ────────┴── given up ───────────────────────────────────────────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing has opened so far.
    Dialling,
    Running,
    /// What was taken is sent before the Close, until this timer.
    Clearing(TimerId),
    /// The closing handshake is under way, or there is no connection to close.
    Parting,
    Finished,
}

impl Driver {
    pub(super) fn new(
        shared: Arc<Shared>,
        clients: &mut Clients,
        settings: ClientSettings,
        on_event: OnEvent,
    ) -> Self {
        let client = clients.add(settings.clone());
        Self {
            shared,
            settings,
            on_event,
            client,
            open: None,
            hand: Hand::default(),
            stage: Stage::Dialling,
            last_close: None,
            last_failure: None,
        }
    }

    /// Gives away what waits, as far as it goes, and begins to close once it has gone.
    fn pump(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients) {
        if matches!(self.stage, Stage::Parting | Stage::Finished) {
            return;
        }
        let orders = self.shared.take_outgoing(&mut self.hand);
        let bytes = self.give(at, clients, orders.barrier);
        let is_reached = orders.barrier.is_some_and(|barrier| self.hand.given >= barrier);
        let is_settled = is_reached && clients.flush(at, self.client);
        let settled = is_settled.then_some(self.hand.given);
        self.shared.handle_given(bytes, settled, &self.hand);
        if let Some(goodbye) = orders.goodbye {
            self.clear(at, clients, goodbye);
        }
    }

    /// Gives messages away while they are wanted; says how much that was.
    fn give(
        &mut self,
        at: &mut Loop<'_, ()>,
        clients: &mut Clients,
        barrier: Option<u64>,
    ) -> usize {
        let Self { shared, on_event, hand, client, .. } = self;
        hand.give(
            barrier,
            |message| clients.offer(at, *client, message),
            |message, reason| {
                shared.handle_unsent(1);
                on_event(ClientEvent::Unsent { message, reason });
            },
        )
    }

    fn report_unsent(&mut self, message: OwnedMessage, reason: UnsentReason) {
        self.shared.handle_unsent(1);
        (self.on_event)(ClientEvent::Unsent { message, reason });
    }

    /// Begins the closing handshake behind all that was taken. Without a connection there is nothing
    /// to wait for.
    fn clear(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients, goodbye: Goodbye) {
        let is_sent = self.hand.is_empty() && clients.flush(at, self.client);
        if is_sent || self.open.is_none() {
            if let Stage::Clearing(timer) = self.stage {
                at.cancel_timer(timer);
            }
            self.stage = Stage::Parting;
            clients.stop_with(self.client, goodbye);
        } else if !matches!(self.stage, Stage::Clearing(_)) {
            let deadline = at.deadline(self.settings.dial().config.close_timeout);
            self.stage = Stage::Clearing(at.set_timer(deadline, 0));
        }
    }

    /// All is over, if it is.
    fn finish(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients, reason: StopReason) {
        self.stage = Stage::Finished;
        self.answer_stats(clients);
        let (last_close, last_failure) = (self.last_close.take(), self.last_failure.take());
        let cause = EndCause::Stopped(reason);
        self.shared.end(Ended::new(Inner { cause, last_close, last_failure }));
        let posted = at.handle().shutdown(FAREWELL);
        debug_assert!(posted.is_ok(), "nobody fills this mailbox");
    }

    fn answer_stats(&self, clients: &Clients) {
        if let Some(stats) = clients.stats(self.client) {
            self.shared.handle_stats(stats.clone());
        }
    }
}

impl ClientHandler for Driver {
    type Data = ();

    fn on_open(&mut self, ctx: &mut Context<'_, ()>, _: &mut Clients) {
        self.open = Some(ctx.id());
        self.last_failure = None;
        if self.stage == Stage::Dialling {
            self.stage = Stage::Running;
        }
        (self.on_event)(ClientEvent::Opened(ctx.here()));
        let mut here = ctx.here();
        if self.shared.handle_open(here.subprotocol()) == Reading::Rests {
            here.pause();
        }
    }

    fn on_message(
        &mut self,
        ctx: &mut Context<'_, ()>,
        _: &mut Clients,
        message: Message<'_>,
    ) -> Result<(), Undecodable> {
        if self.shared.handle_message(message.into()) == Reading::Rests {
            ctx.here().pause();
        }
        Ok(())
    }

    fn on_drain(&mut self, ctx: &mut Context<'_, ()>, clients: &mut Clients) {
        self.pump(ctx, clients);
    }

    fn on_close(
        &mut self,
        ctx: &mut Context<'_, ()>,
        clients: &mut Clients,
        summary: &CloseSummary,
    ) {
        self.open = None;
        self.shared.handle_unsent(summary.unsent_messages);
        self.last_close = Some(summary.clone());
        (self.on_event)(ClientEvent::Closed(summary));
        if self.stage == Stage::Parting {
            self.finish(ctx, clients, StopReason::Stopped);
        }
    }

    fn on_change(
        &mut self,
        at: &mut Loop<'_, ()>,
        clients: &mut Clients,
        _: ClientId,
        change: &ClientChange,
    ) {
        self.shared.handle_change(change.state);
        (self.on_event)(ClientEvent::Changed(change));
        self.pump(at, clients);
    }

    fn on_room(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients, _: ClientId) {
        self.pump(at, clients);
    }

    fn on_dial_failed(
        &mut self,
        _: &mut Loop<'_, ()>,
        clients: &mut Clients,
        _: Owner,
        error: DialError,
    ) {
        (self.on_event)(ClientEvent::DialFailed(&error));
        if self.stage == Stage::Dialling {
            self.shared.handle_first_failed(error);
            clients.stop(self.client);
        } else {
            self.last_failure = Some(error);
        }
    }

    fn on_unsent(
        &mut self,
        at: &mut Loop<'_, ()>,
        clients: &mut Clients,
        _: Owner,
        unsent: Unsent,
    ) {
        let message = OwnedMessage::of_payload(unsent.opcode, &unsent.payload);
        self.report_unsent(message, unsent.reason);
        self.pump(at, clients);
    }

    fn on_stop(
        &mut self,
        at: &mut Loop<'_, ()>,
        clients: &mut Clients,
        _: ClientId,
        reason: StopReason,
    ) {
        if self.stage == Stage::Finished {
            return;
        }
        self.stage = Stage::Parting;
        self.shared.refuse();
        let _ = self.shared.take_outgoing(&mut self.hand);
        for message in self.hand.empty() {
            self.report_unsent(message, UnsentReason::Stopped);
        }
        match self.open {
            // It is being closed; this has its Close leave with what is in front of it.
            Some(open) => {
                at.peer(open).flush();
                self.shared.handle_parting();
            }
            None => self.finish(at, clients, reason),
        }
    }

    fn on_timer(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients, timer: TimerId, _: u64) {
        if let Some(open) = self.open
            && self.stage == Stage::Clearing(timer)
        {
            self.stage = Stage::Parting;
            let goodbye = self.shared.take_outgoing(&mut self.hand).goodbye;
            clients.stop_with(self.client, goodbye.unwrap_or_default());
            // A server that does not take what is sent does not take a Close either. If it is our
            // own rate that has held the rest up, it does.
            if at.peer(open).flush() > 0 {
                at.peer(open).abort();
            }
        }
    }

    fn on_notice(
        &mut self,
        at: &mut Loop<'_, ()>,
        clients: &mut Clients,
        notice: Box<dyn Any + Send>,
    ) {
        debug_assert!(notice.is::<Wake>(), "nobody else knows this loop");
        let news = self.shared.handle_notice();
        if news.wants_stats {
            self.answer_stats(clients);
        }
        if let Some(open) = self.open
            && news.reading == Reading::GoesOn
        {
            at.peer(open).resume();
        }
        self.pump(at, clients);
    }
}
