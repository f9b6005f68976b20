//! Both halves in one value, for those who bring their own I/O.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Instant;

use super::config::Config;
use super::event::Event;
use super::input::Input;
use super::pools::Pools;
use super::proof::Proof;
use super::receiver::Receiver;
use super::sender::Sender;
use super::state::{CloseCause, CloseSummary, Initiator};
use super::timer::Moment;
use super::transmit::{NoSink, Transmit};
use crate::collections::Outbox;

/// One RFC 6455 connection after its handshake, without I/O: bytes and instants go in, events,
/// bytes and deadlines come out.
///
/// # Calling order
/// 1. [`Connection::new`] once the opening handshake has agreed.
/// 2. [`handle_input`](Self::handle_input) with bytes that arrived; take **all** events.
/// 3. [`poll_transmit`](Self::poll_transmit) lends what must be written;
///    [`handle_transmitted`](Self::handle_transmitted) says how much was.
/// 4. [`poll_timeout`](Self::poll_timeout) says when to call
///    [`handle_timeout`](Self::handle_timeout).
/// 5. When [`is_closed`](Self::is_closed), drop the transport and call
///    [`finish`](Self::finish), which gives the pools their memory back.
///
/// Never give one connection another one's pools between these calls, and never an earlier instant
/// than the pools were made with.
///
/// # Example: an echo
/// ```
/// use corewire::{Config, Connection, Event, LoopLimits, Pools, Role};
/// use std::{io::IoSlice, time::Instant};
///
/// let now = Instant::now();
/// let mut pools = Pools::new(&LoopLimits::default(), now, [0; 32]);
/// let mut connection = Connection::new(Config::new(Role::Server), now, &pools);
/// // The masked "Hello" of RFC 6455 §5.7.
/// let mut input = *b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
/// let mut events = connection.handle_input(&mut input, now, &mut pools);
/// while let Some((event, mut transmit)) = events.next() {
///     if let Event::Text(text) = event {
///         let _ = transmit.send_text(text);
///     }
/// }
/// let mut slices = [IoSlice::new(&[]); 4];
/// let count = connection.poll_transmit(&pools, &mut slices);
/// assert_eq!((count, &*slices[0]), (1, b"\x81\x05Hello".as_slice()));
/// connection.handle_transmitted(7, now, &mut pools);
/// ```
#[derive(Debug)]
pub struct Connection {
    receiver: Receiver,
    sender: Sender,
    config: Arc<Config>,
}

impl Connection {
    /// A connection whose handshake is over at `now`.
    pub fn new(config: impl Into<Arc<Config>>, now: Instant, pools: &Pools) -> Self {
        let config = config.into();
        let now = pools.send.timeline.moment(now);
        let sender = Sender::new(Outbox::new(), &config, now);
        Self { receiver: Receiver::new(None), sender, config }
    }

    /// The same, when the handshake has agreed on compression (RFC 7692): before anything is sent
    /// or handled. Of what is sent, [`Config::compression`] says what is compressed and how.
    ///
    /// ```
    /// use corewire::{Compression, CompressionMode, Config, Connection, Event};
    /// use corewire::{LoopLimits, NoSink, Pools, Role};
    /// use std::{io::IoSlice, time::Instant};
    ///
    /// let mut config = Config::new(Role::Client);
    /// config.compression = Compression::new(CompressionMode::Shared)?;
    /// let offer = config.compression.offer().expect("compression is not disabled");
    /// // What the server answers to that, by opening::verify.
    /// let answer = [("server_no_context_takeover", None), ("client_no_context_takeover", None)];
    /// let agreement = offer.conclude(answer)?;
    ///
    /// let now = Instant::now();
    /// let mut pools = Pools::new(&LoopLimits::default(), now, [7; 32]);
    /// let mut client = Connection::new(config, now, &pools).with_compression(&agreement);
    /// // The first example of RFC 7692 §7.2.3.
    /// let mut input = *b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00";
    /// let mut events = client.handle_input(&mut input, now, &mut pools);
    /// assert_eq!(events.next().map(|(event, _)| event), Some(Event::Text("Hello")));
    ///
    /// let text = "again and ".repeat(100);
    /// let _ = client.transmit(now, &mut pools, &mut NoSink).send_text(&text);
    /// assert!(client.queued_bytes() < 50);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn with_compression(self, agreement: &crate::deflate::Agreement) -> Self {
        let (deflate, inflate) = super::compression::keys(agreement, self.config.role);
        Self {
            receiver: Receiver::new(Some(inflate)),
            sender: self.sender.with_deflate(Some(deflate)),
            ..self
        }
    }

    /// Handles bytes that arrived; they are unmasked in place and lent by the events.
    pub fn handle_input<'a>(
        &'a mut self,
        input: &'a mut [u8],
        now: Instant,
        pools: &'a mut Pools,
    ) -> Events<'a> {
        let now = pools.send.timeline.moment(now);
        if !input.is_empty() {
            self.sender.handle_sign_of_life(now);
        }
        Events { connection: self, input: Input::new(input), now, pools, sink: NoSink }
    }

    /// Everything that can be sent outside of an event.
    pub fn transmit<'a>(
        &'a mut self,
        now: Instant,
        pools: &'a mut Pools,
        sink: &'a mut NoSink,
    ) -> Transmit<'a> {
        let now = pools.send.timeline.moment(now);
        Transmit {
            sender: &mut self.sender,
            pools: &mut pools.send,
            config: &self.config,
            now,
            sink,
        }
    }

    /// Lends what must be written, in order: fills `slices` from the front and says how many.
    pub fn poll_transmit<'a>(&'a self, pools: &'a Pools, slices: &mut [IoSlice<'a>]) -> usize {
        self.sender.outbox().lend(&pools.send.outbox, slices)
    }

    /// The first `bytes` of what is queued were written. If that is not everything, the transport
    /// counts as refusing output until everything is.
    pub fn handle_transmitted(&mut self, bytes: usize, now: Instant, pools: &mut Pools) {
        let now = pools.send.timeline.moment(now);
        self.sender.handle_transmitted(bytes, &mut pools.send, now);
        self.sender.handle_refused();
    }

    /// When to call [`handle_timeout`](Self::handle_timeout); ask again after each other call.
    pub fn poll_timeout(&self, pools: &Pools) -> Option<Instant> {
        let moment = self.sender.poll_timeout(&self.config)?;
        Some(pools.send.timeline.instant(moment))
    }

    /// Time has come to `now`. Handle what has arrived first, or a peer that was alive while this
    /// process stood still counts as dead.
    pub fn handle_timeout(&mut self, now: Instant, pools: &mut Pools) {
        self.transmit(now, pools, &mut NoSink).handle_timeout();
    }

    /// The peer's stream has ended. What is queued can still be written.
    pub fn handle_end_of_stream(&mut self, now: Instant, pools: &Pools) {
        self.sender.handle_end_of_stream(&self.config, pools.send.timeline.moment(now));
    }

    /// The transport failed.
    pub fn handle_transport_error(&mut self, error: io::ErrorKind) {
        self.sender.handle_transport_error(error);
    }

    /// Unsent bytes.
    pub fn queued_bytes(&self) -> usize {
        self.sender.queued_bytes()
    }

    /// How far the messages have come. See [`Transmit::delivery`].
    pub fn delivery(&self, pools: &Pools) -> Proof {
        self.sender.delivery(&pools.send.outbox)
    }

    /// Whether messages may be sent.
    pub const fn is_open(&self) -> bool {
        self.sender.is_open()
    }

    /// Whether nothing goes either way any more.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// The end: all memory goes back to the pools. A connection that is not closed yet counts as
    /// aborted.
    pub fn finish(mut self, pools: &mut Pools) -> CloseSummary {
        self.sender.end(Initiator::Local, CloseCause::Aborted);
        let incomplete_bytes = self.receiver.release(&mut pools.receive);
        self.sender.finish(incomplete_bytes, &mut pools.send)
    }
}

/// The events of one input, lent one by one.
pub struct Events<'a> {
    connection: &'a mut Connection,
    input: Input<'a>,
    now: Moment,
    pools: &'a mut Pools,
    sink: NoSink,
}

impl Events<'_> {
    /// The next event and the means to answer it, `None` when the input is used up.
    ///
    /// Not an `Iterator`: an event is lent until the next call.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend")]
    pub fn next(&mut self) -> Option<(Event<'_>, Transmit<'_>)> {
        let Self { connection, input, now, pools, sink } = self;
        let Connection { receiver, sender, config } = &mut **connection;
        let Pools { receive, send } = &mut **pools;
        let mut transmit = Transmit { sender, pools: send, config, now: *now, sink };
        let event = receiver.next(input, receive, &mut transmit)?;
        Some((event, transmit))
    }
}
