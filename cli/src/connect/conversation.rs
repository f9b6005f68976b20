//! One client on a loop, who talks over it, and what becomes of both.

use std::any::Any;
use std::process::ExitCode;
use std::sync::mpsc::Sender;
use std::time::Duration;

use corewire::{
    ClientChange, ClientHandler, ClientId, ClientSettings, ClientState, Clients, CloseCode,
    CloseSummary, Context, DialError, DropReason, Heartbeat, Loop, Message, OverflowPolicy, Owner,
    Reconnect, SendOutcome, StopReason, Undecodable,
};

use super::lines::Lines;
use super::screen::Screen;
use crate::args::{ConnectArgs, Failure};
use crate::destination::explain;
use crate::units::display_ns;

/// Unsent bytes above which no further line is sent.
const QUEUE_BYTES_MAX: usize = 256 * 1024;

/// A ping is unanswered for so many intervals before the server counts as dead.
const PINGS_LOST_MAX: u32 = 3;

/// Both sides have said Close, and the server closes first (RFC 6455 §7.1.1): it is waited for so
/// long (guess).
const PARTING: Duration = Duration::from_millis(200);

/// What other threads tell the conversation.
pub enum Notice {
    Input(Vec<u8>),
    InputEnded,
    /// A person, or the lack of one, wants the end.
    Leave,
}

/// A client and who talks over it.
pub struct Conversation {
    url: String,
    client: ClientId,
    screen: Screen,
    lines: Lines,
    outgoing: Outgoing,
    line_bytes_max: usize,
    input: Input,
    /// Where more input is asked for.
    wanted: Sender<()>,
    unsendable_lines: u64,
    unsent_messages: u64,
    /// How the last connection ended.
    ending: Option<CloseSummary>,
    /// Why there is no connection since, if that was not told yet.
    trouble: Option<String>,
}

/// What a line becomes.
#[derive(Clone, Copy)]
enum Outgoing {
    Text,
    Binary,
}

/// Lines are read when those before have left, so that what waits does so where it comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Input {
    Resting,
    Wanted,
}

/// What the flags say of the connection.
pub fn settings(args: &ConnectArgs) -> Result<ClientSettings, Failure> {
    let mut builder = args.destination.builder(args.redirects)?;
    if let Some(proxy) = &args.proxy {
        builder = builder.proxy(proxy.clone());
    }
    let built = builder
        .timeouts(|timeouts| {
            timeouts.resolve = args.timeout;
            timeouts.connect = args.timeout;
            timeouts.tunnel = args.timeout;
            timeouts.tls = args.timeout;
            timeouts.upgrade = args.timeout;
        })
        .reconnect(|reconnect| {
            if !args.reconnect {
                *reconnect = Reconnect::never();
            }
        })
        .config(|config| {
            config.limits.message_bytes_max = args.max_message;
            config.limits.backpressure_bytes_max = QUEUE_BYTES_MAX;
            config.on_overflow = OverflowPolicy::Refuse;
            // Both ends would wait for each other if a server that echoes did the same.
            config.limits.high_water_bytes = usize::MAX;
            config.heartbeat = args.ping_every.map(|ping_every| {
                let dead_after = ping_every.saturating_mul(PINGS_LOST_MAX);
                Heartbeat { ping_every, dead_after }
            });
        })
        .build();
    built.map_err(|error| args.destination.refuse(&error))
}

impl Conversation {
    pub fn new(args: &ConnectArgs, client: ClientId, wanted: Sender<()>) -> Self {
        Self {
            url: args.destination.url.clone(),
            client,
            screen: Screen::new(),
            lines: Lines::new(),
            outgoing: if args.binary { Outgoing::Binary } else { Outgoing::Text },
            line_bytes_max: usize::try_from(args.max_message).unwrap_or(usize::MAX),
            input: Input::Resting,
            wanted,
            unsendable_lines: 0,
            unsent_messages: 0,
            ending: None,
            trouble: None,
        }
    }

    pub fn screen(&mut self) -> &mut Screen {
        &mut self.screen
    }

    /// What it came to, when all is over.
    pub fn outcome(&mut self) -> Result<ExitCode, Failure> {
        let trouble = self.trouble.take().map(|trouble| format!("{}: {trouble}", self.url));
        let Some(summary) = &self.ending else {
            let nothing = || format!("{}: there was no connection", self.url);
            return Err(Failure(trouble.unwrap_or_else(nothing)));
        };
        if let Some(trouble) = trouble {
            self.screen.note(&format!("corewire: {trouble}"));
            return Ok(ExitCode::FAILURE);
        }
        let is_good = |code: &CloseCode| {
            matches!(*code, CloseCode::NORMAL | CloseCode::GOING_AWAY | CloseCode::NO_STATUS)
        };
        let is_clean = summary.is_clean()
            && [summary.code].iter().chain(&summary.peer_code).all(is_good)
            && self.unsent_messages == 0
            && self.unsendable_lines == 0;
        Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Sends the lines that are there, as long as the server keeps up; behind the last one, Close.
    fn send_lines(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients) {
        let Some(connection) = clients.connection(self.client) else {
            // Lines wait for the next one, if there are some.
            if self.lines.has_ended() && self.lines.peek().is_none() {
                clients.stop(self.client);
            }
            return;
        };
        let mut peer = at.peer(connection);
        while peer.is_open() {
            let Some(line) = self.lines.peek() else {
                return self.go_on(at, clients);
            };
            let message = match (self.outgoing, std::str::from_utf8(line)) {
                (Outgoing::Binary, _) => Message::Binary(line),
                (Outgoing::Text, Ok(text)) => Message::Text(text),
                (Outgoing::Text, Err(_)) => {
                    self.lines.take();
                    self.unsendable_lines += 1;
                    self.screen.note("not sent: the line is not UTF-8; --binary sends any bytes");
                    continue;
                }
            };
            let outcome = peer.send(message);
            if outcome == SendOutcome::Dropped(DropReason::Backpressure) {
                return;
            }
            self.lines.take();
            if !outcome.is_taken() {
                self.unsendable_lines += 1;
                self.screen.note(&format!("not sent: {outcome:?}"));
            }
        }
    }

    /// All lines that there are have been sent.
    fn go_on(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients) {
        let is_too_long = self.lines.waiting_bytes() > self.line_bytes_max;
        if is_too_long {
            self.unsendable_lines += 1;
            self.screen.note("not sent: the line is longer than --max-message");
        }
        if is_too_long || self.lines.has_ended() {
            self.leave(at, clients);
        } else if self.input == Input::Resting {
            self.input = Input::Wanted;
            // Whoever reads it ends with the process.
            let _ = self.wanted.send(());
        }
    }

    fn leave(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients) {
        match clients.connection(self.client).map(|connection| at.peer(connection)) {
            // What the server says before its own Close is still heard.
            Some(mut peer) if peer.is_open() => {
                peer.close(CloseCode::NORMAL, "").expect("a code that may be sent, and no reason");
            }
            Some(_) | None => clients.stop(self.client),
        }
    }
}

impl ClientHandler for Conversation {
    type Data = ();

    fn on_open(&mut self, ctx: &mut Context<'_, ()>, clients: &mut Clients) {
        self.screen.connected(&self.url, ctx.here().subprotocol());
        self.send_lines(ctx, clients);
    }

    fn on_message(
        &mut self,
        _: &mut Context<'_, ()>,
        _: &mut Clients,
        message: Message<'_>,
    ) -> Result<(), Undecodable> {
        match message {
            Message::Text(text) => self.screen.text(text),
            Message::Binary(payload) => self.screen.binary(payload),
        }
        Ok(())
    }

    fn on_ping(&mut self, _: &mut Context<'_, ()>, _: &mut Clients, payload: &[u8]) {
        self.screen.ping(payload);
    }

    fn on_pong(
        &mut self,
        _: &mut Context<'_, ()>,
        _: &mut Clients,
        payload: &[u8],
        round_trip: Option<Duration>,
    ) {
        self.screen.pong(payload, round_trip);
    }

    fn on_drain(&mut self, ctx: &mut Context<'_, ()>, clients: &mut Clients) {
        self.send_lines(ctx, clients);
    }

    fn on_close(&mut self, _: &mut Context<'_, ()>, _: &mut Clients, summary: &CloseSummary) {
        self.screen.closed(summary);
        self.unsent_messages += summary.unsent_messages;
        self.ending = Some(summary.clone());
    }

    fn on_dial_failed(
        &mut self,
        _: &mut Loop<'_, ()>,
        _: &mut Clients,
        _: Owner,
        error: DialError,
    ) {
        self.trouble = Some(explain(&error));
    }

    fn on_change(
        &mut self,
        at: &mut Loop<'_, ()>,
        clients: &mut Clients,
        _: ClientId,
        change: &ClientChange,
    ) {
        if let (ClientState::RetryPending, Some(retry_at)) = (change.state, change.retry_at) {
            let delay = retry_at.saturating_duration_since(at.now());
            let delay = display_ns(delay.as_nanos() as u64);
            let trouble = self.trouble.take();
            let trouble = trouble.map(|trouble| format!("{}: {trouble}; ", self.url));
            let trouble = trouble.unwrap_or_default();
            self.screen.note(&format!("{trouble}connecting again in {delay}"));
            // The end of the input may have come already.
            self.send_lines(at, clients);
        }
    }

    fn on_stop(&mut self, at: &mut Loop<'_, ()>, _: &mut Clients, _: ClientId, _: StopReason) {
        // The mailbox is empty, or nearly.
        let _ = at.handle().shutdown(PARTING);
    }

    fn on_notice(
        &mut self,
        at: &mut Loop<'_, ()>,
        clients: &mut Clients,
        notice: Box<dyn Any + Send>,
    ) {
        let Ok(notice) = notice.downcast::<Notice>() else { return };
        match *notice {
            Notice::Input(bytes) => {
                self.input = Input::Resting;
                self.lines.push(&bytes);
                self.send_lines(at, clients);
            }
            Notice::InputEnded => {
                self.lines.end();
                self.send_lines(at, clients);
            }
            Notice::Leave => self.leave(at, clients),
        }
    }
}
