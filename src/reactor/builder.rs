//! A loop before it has a handler.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::command::{Command, Handle};
use super::endpoint::Endpoint;
use super::handler::Handler;
use super::id::Target;
use super::listener::{Listener, ListenerSettings};
use super::load::{Occupancy, slots_max};
use super::mailbox::Inbox;
use super::memory::Board;
use super::net::{ListenOptions, Net};
use super::settings::ReactorConfig;
use super::turn::Reactor;

/// A loop before it has a handler: it listens already, and commands can be posted to it.
///
/// A [`Reactor`] lives and dies on one thread, since its handler need not be `Send`. This part of
/// it can be made on another thread, where errors are still easy to report, and moved to its own.
pub struct ReactorBuilder<N> {
    net: N,
    config: ReactorConfig,
    listeners: Vec<Listener>,
    mailbox: Inbox<Command>,
    occupancy: Occupancy,
    handle: Handle,
    board: Arc<Board>,
}

impl<N: Net> ReactorBuilder<N> {
    /// A loop without listeners.
    pub fn new(net: N, config: ReactorConfig) -> Self {
        let commands_max = config.limits.mailbox_commands_max;
        let mailbox = Inbox::new(net.waker(), commands_max);
        let occupancy = Occupancy::new(slots_max(&config.limits));
        let handle = Handle::new(&mailbox, &occupancy, config.shard, &config.limits.topics);
        let board = Arc::new(Board::new(1));
        Self { net, config, listeners: Vec::new(), mailbox, occupancy, handle, board }
    }

    /// Tells what it sees of memory where others of the same process do.
    pub(crate) fn with_board(self, board: Arc<Board>) -> Self {
        Self { board, ..self }
    }

    /// Listens at `endpoint`; returns what it really is, with its port. Connections wait in the
    /// kernel's queue until the loop turns.
    ///
    /// # Errors
    /// As [`Reactor::listen`].
    pub fn listen(
        &mut self,
        endpoint: impl Into<Endpoint>,
        options: &ListenOptions,
        settings: ListenerSettings,
    ) -> io::Result<Endpoint> {
        let token = Target::Listener(self.listeners.len()).token(self.config.shard);
        let configs = self.listeners.iter().map(|listener| listener.settings.configs().count());
        let (net, configs, limits) = (&mut self.net, configs.sum(), &self.config.limits);
        let listener =
            Listener::open(net, &endpoint.into(), options, settings, configs, limits, token)?;
        let endpoint = listener.endpoint.clone();
        self.listeners.push(listener);
        Ok(endpoint)
    }

    /// As [`Net::probe`].
    pub(crate) fn probe(&mut self, address: SocketAddr, options: &ListenOptions) -> io::Result<()> {
        self.net.probe(address, options)
    }

    /// A handle for other threads. What is posted waits until the loop turns.
    pub fn handle(&self) -> Handle {
        self.handle.clone().with_board(self.board.clone())
    }

    /// The loop, on the thread that will turn it.
    pub fn build<H: Handler>(self, handler: H) -> Reactor<N, H> {
        let handle = self.handle();
        let Self { net, config, listeners, mailbox, occupancy, board, .. } = self;
        let memory = (handle, board);
        let mut reactor = Reactor::with_mailbox(net, handler, config, (mailbox, occupancy), memory);
        listeners.into_iter().for_each(|listener| reactor.add_listener(listener));
        reactor
    }
}
