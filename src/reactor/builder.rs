//! A loop before it has a handler.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::command::{Handle, Mailbox};
use super::handler::Handler;
use super::id::Target;
use super::listener::ListenerSettings;
use super::net::{ListenOptions, Listening, Net};
use super::turn::{Reactor, ReactorConfig};

/// A loop before it has a handler: it listens already, and commands can be posted to it.
///
/// A [`Reactor`] lives and dies on one thread, since its handler need not be `Send`. This part of
/// it can be made on another thread, where errors are still easy to report, and moved to its own.
pub struct ReactorBuilder<N> {
    net: N,
    config: ReactorConfig,
    /// Each with the place where its configurations begin.
    listeners: Vec<(Listening, ListenerSettings, u16)>,
    mailbox: Arc<Mailbox>,
}

impl<N: Net> ReactorBuilder<N> {
    /// A loop without listeners.
    pub fn new(net: N, config: ReactorConfig) -> Self {
        let commands_max = config.limits.mailbox_commands_max;
        let mailbox = Arc::new(Mailbox::new(net.waker(), commands_max));
        Self { net, config, listeners: Vec::new(), mailbox }
    }

    /// Listens on `address`; returns the address that it really is, with its port. Connections
    /// wait in the kernel's queue until the loop turns.
    ///
    /// # Errors
    /// As [`Reactor::listen`].
    pub fn listen(
        &mut self,
        address: SocketAddr,
        options: &ListenOptions,
        settings: ListenerSettings,
    ) -> io::Result<SocketAddr> {
        let token = Target::Listener(self.listeners.len()).token(self.config.shard);
        let configs = self.listeners.iter().map(|(_, settings, _)| settings.configs().count());
        let configs_start = settings.configs_start(configs.sum())?;
        let listening = self.net.listen(address, options, token)?;
        self.listeners.push((listening, settings, configs_start));
        Ok(listening.address)
    }

    /// A handle for other threads. What is posted waits until the loop turns.
    pub fn handle(&self) -> Handle {
        Handle::new(self.mailbox.clone(), self.config.shard)
    }

    /// The loop, on the thread that will turn it.
    pub fn build<H: Handler>(self, handler: H) -> Reactor<N, H> {
        let Self { net, config, listeners, mailbox } = self;
        let mut reactor = Reactor::with_mailbox(net, handler, config, mailbox);
        for (listening, settings, configs_start) in listeners {
            reactor.add_listener(listening, settings, configs_start);
        }
        reactor
    }
}
