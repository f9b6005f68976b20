//! What a callback may do.

use std::io::{self, IoSlice};
use std::ops::{Deref, DerefMut};

use bytes::Bytes;

use super::endpoint::PeerAddress;
use super::event_loop::Loop;
use super::handler::Message;
use super::id::ConnectionId;
use super::net::NetKey;
use super::shared::Shared;
use super::slot::{DrainOwed, Pause, Phase};
#[cfg(feature = "tls")]
use super::tls::TlsFacts;
use crate::collections::Key;
use crate::protocol::{
    BatchOutcome, DropReason, Part, PreparedMessage, Proof, SendOutcome, Sink, Transmit,
};
use crate::wire::{CloseCode, InvalidClose, Opcode};

/// The loop as a callback sees it: the connection it is about, and all others.
///
/// What is sent inside a callback is corked and leaves in one write when the batch that the
/// callback belongs to ends; payloads of 16 KiB and more given as slices are written at once.
pub struct Context<'a, D> {
    pub(super) at: Loop<'a, D>,
    pub(super) current: Key,
}

/// One connection of the loop, to be sent to. It may be gone; then every send says so.
pub struct Peer<'a, D> {
    pub(super) shared: &'a mut Shared<D>,
    pub(super) writer: &'a mut dyn Writer,
    pub(super) key: Key,
}

/// What callbacks need of a [`Transport`](super::transport::Transport), without its type: only large
/// payloads and full corks pass here, and questions.
pub(super) trait Writer {
    fn write(&mut self, socket: NetKey, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// What the TLS handshake of this socket has brought to light.
    #[cfg(feature = "tls")]
    fn tls_facts(&self, socket: NetKey) -> Option<TlsFacts<'_>>;
}

/// Offers the output of one slot to its socket. An error is noted for after the callback.
pub(super) struct SlotSink<'a> {
    pub(super) writer: &'a mut dyn Writer,
    pub(super) socket: NetKey,
    pub(super) error: &'a mut Option<io::ErrorKind>,
    pub(super) bytes_sent: &'a mut u64,
}

impl Sink for SlotSink<'_> {
    fn offer(&mut self, slices: &[IoSlice<'_>]) -> Option<usize> {
        if self.error.is_some() {
            return Some(0);
        }
        loop {
            match self.writer.write(self.socket, slices) {
                Ok(bytes) => {
                    *self.bytes_sent += bytes as u64;
                    return Some(bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        *self.error = Some(error.kind());
                    }
                    return Some(0);
                }
            }
        }
    }
}

impl<'a, D> Context<'a, D> {
    pub(super) fn new(shared: &'a mut Shared<D>, writer: &'a mut dyn Writer, current: Key) -> Self {
        Self { at: Loop { shared, writer }, current }
    }

    /// The name of the connection that the callback is about.
    pub fn id(&self) -> ConnectionId {
        ConnectionId::new(self.at.shared.shard, self.current)
    }

    /// The connection that the callback is about.
    pub fn here(&mut self) -> Peer<'_, D> {
        Peer { shared: self.at.shared, writer: self.at.writer, key: self.current }
    }

    /// Sends a message to the current connection. See [`Peer`] for all that can be sent.
    #[inline]
    pub fn send(&mut self, message: Message<'_>) -> SendOutcome {
        self.at.shared.send_slice(self.current, self.at.writer, message)
    }

    /// Sends a text message to the current connection.
    #[inline]
    pub fn send_text(&mut self, payload: &str) -> SendOutcome {
        self.send(Message::Text(payload))
    }

    /// Sends a binary message to the current connection.
    #[inline]
    pub fn send_binary(&mut self, payload: &[u8]) -> SendOutcome {
        self.send(Message::Binary(payload))
    }

    /// Sends messages to the current connection that leave together. See [`Peer::send_batch`].
    pub fn send_batch<'m>(
        &mut self,
        messages: impl IntoIterator<Item = Message<'m>>,
    ) -> BatchOutcome {
        self.here().send_batch(messages)
    }

    /// Sends a message to the current connection, uncompressed in any case. See
    /// [`Peer::send_uncompressed`].
    pub fn send_uncompressed(&mut self, message: Message<'_>) -> SendOutcome {
        self.here().send_uncompressed(message)
    }

    /// Begins the closing handshake of the current connection.
    ///
    /// # Errors
    /// [`InvalidClose`] if the code may not stand on the wire or the reason has over 123 bytes.
    pub fn close(&mut self, code: CloseCode, reason: &str) -> Result<(), InvalidClose> {
        self.here().close(code, reason)
    }

    /// What the application keeps for the current connection.
    pub fn data(&mut self) -> &mut D {
        let slot = self.at.shared.slots.get_mut(self.current);
        match slot.map(|slot| &mut slot.phase) {
            Some(Phase::Open { data, .. } | Phase::Closed { data }) => data,
            _ => unreachable!("callbacks are about connections between on_open and on_close"),
        }
    }

    /// In [`Handler::on_open`](super::Handler::on_open): what the decision to accept has brought
    /// along, if it is of this type. It can be taken once.
    pub fn take_attachment<T: 'static>(&mut self) -> Option<T> {
        let attachment = self.at.shared.attachment.take()?;
        match attachment.downcast() {
            Ok(attachment) => Some(*attachment),
            Err(attachment) => {
                self.at.shared.attachment = Some(attachment);
                None
            }
        }
    }
}

impl<'a, D> Deref for Context<'a, D> {
    type Target = Loop<'a, D>;

    fn deref(&self) -> &Self::Target {
        &self.at
    }
}

impl<D> DerefMut for Context<'_, D> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.at
    }
}

impl<D> Peer<'_, D> {
    /// Sends a message.
    pub fn send(&mut self, message: Message<'_>) -> SendOutcome {
        let outcome = self.shared.send_slice(self.key, self.writer, message);
        self.shared.mark_dirty(self.key);
        outcome
    }

    /// Sends a text message.
    pub fn send_text(&mut self, payload: &str) -> SendOutcome {
        self.send(Message::Text(payload))
    }

    /// Sends a binary message: small ones are copied behind what is corked, large ones written at
    /// once from where they lie.
    pub fn send_binary(&mut self, payload: &[u8]) -> SendOutcome {
        self.send(Message::Binary(payload))
    }

    /// Sends messages that leave together, in one write behind what is corked: none is written at
    /// once for its size, as [`Peer::send_binary`] does. Each is treated as if it were sent alone;
    /// at the first that is dropped the batch ends. See [`Transmit::send_batch`].
    pub fn send_batch<'m>(
        &mut self,
        messages: impl IntoIterator<Item = Message<'m>>,
    ) -> BatchOutcome {
        let messages = messages.into_iter().map(|message| (message.opcode(), message.payload()));
        self.send_payloads(messages)
    }

    /// The same where texts are known to be valid.
    pub(crate) fn send_payloads<'m>(
        &mut self,
        messages: impl IntoIterator<Item = (Opcode, &'m [u8])>,
    ) -> BatchOutcome {
        let batch = self.shared.send_batch(self.key, self.writer, messages);
        self.shared.mark_dirty(self.key);
        batch
    }

    /// Sends a message that is known to be valid if it is a text.
    pub(crate) fn send_payload(&mut self, opcode: Opcode, payload: &[u8]) -> SendOutcome {
        self.send_with(|transmit| transmit.send_slice(opcode, payload))
    }

    /// Sends a message uncompressed although compression was agreed on: because it is compressed
    /// already, or because it holds a secret together with what somebody else chose. The length of
    /// what both compress to would tell of the secret (CRIME, BREACH).
    pub fn send_uncompressed(&mut self, message: Message<'_>) -> SendOutcome {
        self.send_with(|transmit| match message {
            Message::Text(text) => transmit.send_text_uncompressed(text),
            Message::Binary(bytes) => transmit.send_binary_uncompressed(bytes),
        })
    }

    /// Sends a binary message that the queue may keep by reference, unless it is compressed.
    pub fn send_bytes(&mut self, payload: Bytes) -> SendOutcome {
        self.send_with(|transmit| transmit.send_bytes(payload))
    }

    /// Sends a message that was encoded once for many receivers.
    pub fn send_prepared(&mut self, message: &PreparedMessage) -> SendOutcome {
        self.send_with(|transmit| transmit.send_prepared(message))
    }

    /// Sends one part of a message, as a frame of its own (RFC 6455 §5.4).
    pub fn send_part(&mut self, opcode: Opcode, payload: &[u8], part: Part) -> SendOutcome {
        self.send_with(|transmit| transmit.send_part(opcode, payload, part))
    }

    /// Sends a ping of at most 125 bytes; the heartbeat's go by themselves.
    pub fn send_ping(&mut self, payload: &[u8]) -> SendOutcome {
        self.send_with(|transmit| transmit.send_ping(payload))
    }

    /// Offers what is unsent to the kernel at once, not only when the batch ends that the callback
    /// belongs to: that costs a system call. Gives the bytes that it has refused; if there are any, `on_drain` is sure to follow.
    pub fn flush(&mut self) -> usize {
        self.act(|transmit| transmit.flush());
        let queued_bytes = self.queued_bytes();
        if queued_bytes > 0
            && let Some(slot) = self.shared.slots.get_mut(self.key)
        {
            // All of it may leave before the turn ends: then nobody would see that it was held up.
            let low_water_bytes = self.shared.configs.get(slot.config).limits.low_water_bytes;
            slot.notes.drain_owed = if queued_bytes > low_water_bytes {
                DrainOwed::AtLowWater
            } else {
                DrainOwed::WhenEmpty
            };
        }
        queued_bytes
    }

    /// Begins the closing handshake; `on_close` follows when it is over, at most `close_timeout`
    /// later. A connection that is gone or closing already is left alone.
    ///
    /// # Errors
    /// [`InvalidClose`] if the code may not stand on the wire or the reason has over 123 bytes.
    pub fn close(&mut self, code: CloseCode, reason: &str) -> Result<(), InvalidClose> {
        let closed = self.act(|transmit| transmit.close(code, reason));
        closed.unwrap_or(Ok(()))
    }

    /// Ends the connection without a closing handshake; what is queued is lost and counted.
    pub fn abort(&mut self) {
        self.act(|transmit| transmit.abort());
    }

    /// Stops reading. What has been read already waits; TCP holds the sender back. Before
    /// `on_open` and after `on_close` it does nothing.
    pub fn pause(&mut self) {
        if let Some(slot) = self.shared.slots.get_mut(self.key)
            && matches!(slot.phase, Phase::Open { .. })
        {
            slot.notes.pauses.add(Pause::Application);
        }
    }

    /// Goes on reading, from the next turn on.
    pub fn resume(&mut self) {
        self.shared.resume(self.key);
    }

    /// Whether messages may be sent.
    pub fn is_open(&self) -> bool {
        self.shared.sender(self.key).is_some_and(|sender| sender.is_open())
    }

    /// Unsent bytes, those of this batch included.
    pub fn queued_bytes(&self) -> usize {
        self.shared.sender(self.key).map_or(0, |sender| sender.queued_bytes())
    }

    /// Whether a message in parts is under way, which no other may interrupt.
    pub(crate) fn is_in_parts(&self) -> bool {
        self.shared.sender(self.key).is_some_and(|sender| sender.is_in_parts())
    }

    /// Whether the kernel has refused output: then `on_drain` follows.
    pub(crate) fn is_held_up(&self) -> bool {
        self.shared.sender(self.key).is_some_and(|sender| sender.is_held_up())
    }

    /// How far the messages sent to it have come, `None` if it is gone. See
    /// [`Transmit::delivery`]. What TLS has in hand counts as handed to the kernel.
    pub fn delivery(&self) -> Option<Proof> {
        Some(self.shared.sender(self.key)?.delivery(&self.shared.pools.outbox))
    }

    /// The other end, as [`Arrival::peer`](super::Arrival::peer) has told it.
    pub fn address(&self) -> Option<PeerAddress> {
        self.shared.slots.get(self.key).map(|slot| slot.peer.unpack())
    }

    /// What is known of the connection's TLS, accepted or dialled; `None` if it has none. Of one that
    /// was dialled it is known from [`Handler::on_answer`](super::Handler::on_answer) on.
    #[cfg(feature = "tls")]
    pub fn tls(&self) -> Option<TlsFacts<'_>> {
        self.writer.tls_facts(self.shared.slots.get(self.key)?.socket)
    }

    /// Which listener the connection came to, counted in the order they were added. `None` for one
    /// that was dialled.
    pub fn listener(&self) -> Option<usize> {
        self.shared.slots.get(self.key).and_then(|slot| self.shared.listener(slot))
    }

    /// The pattern of the route that the connection came by, if its listener has routes.
    pub fn route(&self) -> Option<&str> {
        let slot = self.shared.slots.get(self.key)?;
        self.shared.listeners[self.shared.listener(slot)?].pattern(slot.config)
    }

    /// The subprotocol that was agreed on.
    pub fn subprotocol(&self) -> Option<&str> {
        self.shared.slots.get(self.key)?;
        self.shared.subprotocols.get(self.key.index)
    }

    /// What the application keeps for the connection.
    pub fn data(&mut self) -> Option<&mut D> {
        match &mut self.shared.slots.get_mut(self.key)?.phase {
            Phase::Open { data, .. } | Phase::Closed { data } => Some(data),
            Phase::Http(_) | Phase::Dialling(_) | Phase::Parting { .. } | Phase::Ended => None,
        }
    }

    fn send_with(&mut self, send: impl FnOnce(&mut Transmit<'_>) -> SendOutcome) -> SendOutcome {
        let outcome = self.shared.send(self.key, self.writer, send);
        self.shared.mark_dirty(self.key);
        outcome
    }

    fn act<R>(&mut self, act: impl FnOnce(&mut Transmit<'_>) -> R) -> Option<R> {
        let result = self.shared.with_transmit(self.key, self.writer, act);
        self.shared.mark_dirty(self.key);
        result
    }
}

/// What a send to a connection that is not there says.
pub(super) const GONE: SendOutcome = SendOutcome::Dropped(DropReason::Gone);
