//! The client for programs without a loop: it has one on a thread of its own, and its calls block.
//!
//! ```text
//!   send() ──► outgoing queue ──► loop: Clients::offer ──► connection
//!   recv() ◄──  incoming queue ◄── loop: on_message    ◄──┘   (each queue is bounded by bytes)
//! ```

mod driver;
mod error;
mod lending;
mod message;
mod queues;
mod shared;
mod state;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use crate::client::calling::{ClientStats, Goodbye};
use crate::client::clients::Clients;
use crate::client::reconnect::ClientState;
use crate::client::settings::{ClientBuilder, ClientSettings};
use crate::protocol::{CloseSummary, Delivery};
use crate::reactor::{Message, Wait};
use crate::wire::CloseCode;
use driver::{Driver, OnEvent};
use error::Inner;
use shared::Shared;
use state::Half;
use waiting::patience;

pub use driver::ClientEvent;
pub use error::{CloseError, ConnectError, EndCause, Ended, FlushError, SendError};
pub use lending::{LeaseError, PoolEvent, PoolHandle, PooledClient, StartError};
pub use message::OwnedMessage;
pub use queues::Queues;

/// A blocking client: a connection that comes back by its settings, on a loop with a thread of its
/// own.
///
/// ```no_run
/// use corewire::{Client, CloseCode, Message};
/// use std::time::Duration;
///
/// let client = Client::builder("ws://127.0.0.1:9001/").connect()?;
/// client.send(Message::Text("Hello"))?;
/// match client.recv_timeout(Duration::from_secs(1))? {
///     Some(answer) => println!("{answer:?}"),
///     None => println!("no answer"),
/// }
/// client.close(CloseCode::NORMAL, "")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Back-pressure
/// Two [`Queues`] stand between the threads, both bounded by bytes. When the outgoing one is full,
/// sending blocks; when the incoming one is, the loop stops reading and TCP holds the server back.
/// Reading does not wait for writing, nor writing for reading. But a thread that only sends to a
/// server which answers everything blocks in the end, as the server does: receive meanwhile, or use
/// [`Client::split`].
///
/// # What becomes of messages
/// They are sent in the order in which they were taken. While there is no connection they wait, in
/// the [`Outage`](super::Outage)'s queue by its rules, and what that refuses in the outgoing one.
/// What a connection had taken when it was lost, and not handed to the kernel, is counted by its
/// [`CloseSummary`]; a message that is not sent for another reason is handed back by
/// [`ClientEvent::Unsent`]. [`ClientSender::flush`] and [`ClientSender::close`] say Ok only if there
/// were none of either since they last told. What the kernel has may still be lost with the
/// network.
///
/// # The end
/// When both ends are dropped, what was taken is sent and the closing handshake follows. The drop
/// waits a quarter of a second at most until the kernel has it; the loop and its thread end behind
/// that, at the latest after twice [`close_timeout`](crate::Config::close_timeout) and a second.
///
/// Messages come whole, whatever [`Config::delivery`](crate::Config::delivery) says.
pub struct Client {
    sender: ClientSender,
    receiver: ClientReceiver,
}

/// The sending end of a [`Client`]. Clones send to the same connection.
pub struct ClientSender {
    shared: Arc<Shared>,
}

/// The receiving end of a [`Client`]. When it is dropped, what comes from then on is thrown away.
pub struct ClientReceiver {
    shared: Arc<Shared>,
}

/// The messages that come until a client ends.
pub struct Messages<'a> {
    receiver: &'a ClientReceiver,
}

impl ClientSettings {
    /// Connects: makes a loop on a thread of its own, dials once, and returns when the connection
    /// is open. When it is lost later, it is dialled again as [`Reconnect`](super::Reconnect) says.
    ///
    /// # Errors
    /// [`ConnectError`]; no thread is left then, but for a resolver's that is in the middle of a
    /// call.
    pub fn connect(&self) -> Result<Client, ConnectError> {
        self.connect_with(|_| {})
    }

    /// The same, and has `on_event` told what happens to the client, on the loop's thread. It must
    /// not block: of the client's own calls `try_send` and `state` may be made there, the others
    /// would wait for the loop that waits for them. A panic in it ends the client.
    ///
    /// # Errors
    /// As [`ClientSettings::connect`].
    pub fn connect_with(
        &self,
        on_event: impl FnMut(ClientEvent<'_>) + Send + 'static,
    ) -> Result<Client, ConnectError> {
        let builder = waiting::builder().map_err(ConnectError::Loop)?;
        let shared = Arc::new(Shared::new(&self.inner().queues, builder.handle()));
        let make = {
            let (shared, settings) = (shared.clone(), self.for_threads());
            let on_event: OnEvent = Box::new(on_event);
            |clients: &mut Clients| Driver::new(shared, clients, settings, on_event)
        };
        let end = {
            let shared = shared.clone();
            // Nobody waits for a loop that is gone.
            move |cause| {
                shared.end(Ended::new(Inner { cause, last_close: None, last_failure: None }))
            }
        };
        let thread = waiting::spawn("corewire-client", builder, make, end);
        let thread = thread.map_err(ConnectError::Loop)?;
        match shared.connected() {
            Ok(()) => Ok(Client {
                sender: ClientSender { shared: shared.clone() },
                receiver: ClientReceiver { shared },
            }),
            Err(error) => {
                // Its panic was caught, and is in the error.
                let _ = thread.join();
                Err(error)
            }
        }
    }

    /// With threads, messages come whole. Reading does not wait for what is unsent: there is a queue
    /// for either, and two ends that each wait for the other to read would wait for ever.
    fn for_threads(&self) -> Self {
        self.with_config(|config| {
            config.delivery = Delivery::Whole;
            config.limits.high_water_bytes = usize::MAX;
        })
    }
}

impl ClientBuilder {
    /// As [`ClientBuilder::build`] and [`ClientSettings::connect`].
    ///
    /// # Errors
    /// As both.
    pub fn connect(self) -> Result<Client, ConnectError> {
        self.build()?.connect()
    }
}

impl Client {
    /// Describes a server to be called: by `ws://`, `wss://`, or `ws+unix:` with the path of a
    /// socket.
    pub fn builder(url: &str) -> ClientBuilder {
        ClientBuilder::new(url)
    }

    /// As [`ClientSender::send`].
    ///
    /// # Errors
    /// As there.
    pub fn send(&self, message: Message<'_>) -> Result<(), SendError> {
        self.sender.send(message)
    }

    /// As [`ClientSender::try_send`].
    ///
    /// # Errors
    /// As there.
    pub fn try_send(&self, message: Message<'_>) -> Result<(), SendError> {
        self.sender.try_send(message)
    }

    /// As [`ClientSender::send_timeout`].
    ///
    /// # Errors
    /// As there.
    pub fn send_timeout(&self, message: Message<'_>, timeout: Duration) -> Result<(), SendError> {
        self.sender.send_timeout(message, timeout)
    }

    /// As [`ClientSender::flush`].
    ///
    /// # Errors
    /// As there.
    pub fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        self.sender.flush(timeout)
    }

    /// As [`ClientReceiver::recv`].
    ///
    /// # Errors
    /// As there.
    pub fn recv(&self) -> Result<OwnedMessage, Ended> {
        self.receiver.recv()
    }

    /// As [`ClientReceiver::recv_timeout`].
    ///
    /// # Errors
    /// As there.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<OwnedMessage>, Ended> {
        self.receiver.recv_timeout(timeout)
    }

    /// As [`ClientReceiver::try_recv`].
    ///
    /// # Errors
    /// As there.
    pub fn try_recv(&self) -> Result<Option<OwnedMessage>, Ended> {
        self.receiver.try_recv()
    }

    /// Both ends, for two threads.
    pub fn split(self) -> (ClientSender, ClientReceiver) {
        (self.sender, self.receiver)
    }

    /// As [`ClientSender::close`]; what still comes is thrown away.
    ///
    /// # Errors
    /// As there.
    pub fn close(self, code: CloseCode, reason: &str) -> Result<CloseSummary, CloseError> {
        let Self { sender, receiver } = self;
        drop(receiver);
        sender.close(code, reason)
    }

    /// Where the client stands.
    pub fn state(&self) -> ClientState {
        self.sender.state()
    }

    /// As [`ClientSender::subprotocol`].
    pub fn subprotocol(&self) -> Option<Box<str>> {
        self.sender.subprotocol()
    }

    /// What has happened to the client so far.
    pub fn stats(&self) -> ClientStats {
        self.sender.stats()
    }
}

impl ClientSender {
    /// Sends a message; blocks while the outgoing queue is full. It leaves in the order of all that
    /// are sent, when there is a connection that takes it: see [`Client`].
    ///
    /// # Errors
    /// [`SendError::Closing`] and [`SendError::Ended`].
    pub fn send(&self, message: Message<'_>) -> Result<(), SendError> {
        self.shared.send(message.into(), Wait::Forever)
    }

    /// The same without blocking.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn try_send(&self, message: Message<'_>) -> Result<(), SendError> {
        self.shared.send(message.into(), Wait::No)
    }

    /// The same, and blocks for so long at most.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send_timeout(&self, message: Message<'_>, timeout: Duration) -> Result<(), SendError> {
        self.shared.send(message.into(), patience(timeout))
    }

    /// Waits until everything that was sent was handed to the kernel, for so long at most. Over TLS
    /// a record of it may still be on its way there.
    ///
    /// # Errors
    /// [`FlushError`]; after a time-out it goes on being sent.
    pub fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        self.shared.flush(patience(timeout))
    }

    /// Closes the connection behind all that was sent, and waits for the closing handshake. A client
    /// that has no connection is not dialled any more. One that has ended says how.
    ///
    /// It takes [`close_timeout`](crate::Config::close_timeout) at most to hand over what was sent,
    /// and as much for the handshake. While nobody receives what fills the incoming queue, the
    /// server's Close is not seen.
    ///
    /// # Errors
    /// [`CloseError`].
    pub fn close(&self, code: CloseCode, reason: &str) -> Result<CloseSummary, CloseError> {
        let goodbye = Goodbye::new(code, reason).map_err(CloseError::InvalidClose)?;
        self.shared.close(goodbye)
    }

    /// Where the client stands.
    pub fn state(&self) -> ClientState {
        self.shared.view()
    }

    /// The subprotocol that the present connection, or the last one, has agreed on.
    pub fn subprotocol(&self) -> Option<Box<str>> {
        self.shared.subprotocol()
    }

    /// What has happened to the client so far. Of one whose loop panicked nothing may be known.
    pub fn stats(&self) -> ClientStats {
        self.shared.stats()
    }
}

impl ClientReceiver {
    /// Receives a message; blocks until there is one. What has come before the end comes before the
    /// end.
    ///
    /// # Errors
    /// [`Ended`]: there will be none; [`Ended::is_clean`] tells whether that was to be.
    pub fn recv(&self) -> Result<OwnedMessage, Ended> {
        loop {
            if let Some(message) = self.shared.receive(Wait::Forever)? {
                return Ok(message);
            }
        }
    }

    /// The same, and blocks for so long at most: `None` if none has come.
    ///
    /// # Errors
    /// As [`ClientReceiver::recv`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<OwnedMessage>, Ended> {
        self.shared.receive(patience(timeout))
    }

    /// The same without blocking: `None` if there is none now.
    ///
    /// # Errors
    /// As [`ClientReceiver::recv`].
    pub fn try_recv(&self) -> Result<Option<OwnedMessage>, Ended> {
        self.shared.receive(Wait::No)
    }

    /// The messages that come until the client ends, however it does.
    pub fn iter(&self) -> Messages<'_> {
        Messages { receiver: self }
    }

    /// Where the client stands.
    pub fn state(&self) -> ClientState {
        self.shared.view()
    }
}

impl Clone for ClientSender {
    fn clone(&self) -> Self {
        self.shared.add_sender();
        Self { shared: self.shared.clone() }
    }
}

impl Drop for ClientSender {
    fn drop(&mut self) {
        self.shared.leave(Half::Sender);
    }
}

impl Drop for ClientReceiver {
    fn drop(&mut self) {
        self.shared.leave(Half::Receiver);
    }
}

impl<'a> IntoIterator for &'a Client {
    type Item = OwnedMessage;
    type IntoIter = Messages<'a>;

    fn into_iter(self) -> Messages<'a> {
        self.receiver.iter()
    }
}

impl<'a> IntoIterator for &'a ClientReceiver {
    type Item = OwnedMessage;
    type IntoIter = Messages<'a>;

    fn into_iter(self) -> Messages<'a> {
        self.iter()
    }
}

impl Iterator for Messages<'_> {
    type Item = OwnedMessage;

    fn next(&mut self) -> Option<OwnedMessage> {
        self.receiver.recv().ok()
    }
}
