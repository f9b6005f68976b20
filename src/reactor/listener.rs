//! Listeners, what their connections are held to, and accepting that survives shortages.

use std::io;
use std::iter;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::configs::CONFIGS_MAX;
use super::endpoint::{Endpoint, Maker};
use super::handler::Handler;
use super::id::Target;
use super::lifetime::LifeEnd;
use super::net::{Accepted, ListenOptions, Net, NetKey, SocketOptions};
use super::shared::after;
use super::slot::{Expects, HttpState, Inbound, Notes, Phase, Slot};
use super::tls::Tls;
use super::turn::{Reactor, Timer};
use crate::collections::{Key, Outbox, TimerKey};
use crate::handshake::{Origins, Routes, TrustedProxies};
use crate::http::HeadLimits;
use crate::limits::{HandshakeLimits, LoopLimits};
use crate::protocol::{Config, ConfigError};
use crate::wire::Role;

/// What the connections of one listener are held to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ListenerSettings {
    /// Of each WebSocket.
    pub config: Arc<Config>,
    /// Of each opening handshake.
    pub handshake: HandshakeLimits,
    /// Who may connect from a browser. Default: pages of the same origin.
    pub origins: Origins,
    /// Where paths lead. Default: no routes, and [`Handler::on_request`] is asked about every path.
    /// With routes a path that none of them matches is answered 404.
    pub routes: Routes<Route>,
    /// Who speaks the PROXY protocol: each connection from these peers has to begin with its
    /// header, and counts as that of the client it names. Default `None`: nobody. Name your proxies
    /// and nobody else: whom you name can claim to be anybody.
    pub proxy_protocol: Option<TrustedProxies>,
    /// The path at which a load balancer asks whether to send connections here. Default `None`:
    /// nowhere. It is answered for the application, which is not asked, and before any route: 200
    /// while an upgrade would be taken; 503 with `Retry-After` once the loop drains or is full.
    pub readiness: Option<Box<str>>,
    /// What connections are secured with. Default `None`: they are not.
    #[cfg(feature = "tls")]
    pub tls: Option<Tls>,
    #[cfg(not(feature = "tls"))]
    pub(crate) tls: Option<Tls>,
}

/// What the WebSockets under one pattern of paths are held to, instead of what their listener says.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Route {
    /// Of each WebSocket.
    pub config: Arc<Config>,
    /// Who may connect from a browser.
    pub origins: Origins,
}

impl Route {
    /// What the listener says.
    pub fn new(settings: &ListenerSettings) -> Self {
        Self { config: settings.config.clone(), origins: settings.origins.clone() }
    }

    /// The configuration, to be changed for this route alone.
    pub fn config_mut(&mut self) -> &mut Config {
        Arc::make_mut(&mut self.config)
    }
}

impl ListenerSettings {
    /// The defaults, with `config` for the connections.
    pub fn new(config: impl Into<Arc<Config>>) -> Self {
        Self {
            config: config.into(),
            handshake: HandshakeLimits::default(),
            origins: Origins::SameOrigin,
            routes: Routes::new(),
            proxy_protocol: None,
            readiness: None,
            tls: None,
        }
    }

    /// The configuration, to be changed for this listener alone.
    pub fn config_mut(&mut self) -> &mut Config {
        Arc::make_mut(&mut self.config)
    }

    /// Where the configurations begin that are added to so many.
    ///
    /// # Errors
    /// There would be more than [`CONFIGS_MAX`].
    pub(super) fn configs_start(&self, count: usize) -> io::Result<u16> {
        if count + self.configs().count() > CONFIGS_MAX {
            let what = "more listeners and routes than connections can name";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        Ok(count as u16)
    }

    /// Whether connections can be held to them.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        self.configs().try_for_each(|config| config.check(Role::Server))
    }

    /// The listener's own, then those of its routes in their order.
    pub(super) fn configs(&self) -> impl Iterator<Item = &Arc<Config>> {
        iter::once(&self.config).chain(self.routes.iter().map(|(_, route)| &route.config))
    }
}

/// A listener and how accepting goes.
#[derive(Debug)]
pub(super) struct Listener {
    /// `None` if it is detached.
    pub(super) socket: Option<NetKey>,
    /// Where it really listens, with its port.
    pub(super) endpoint: Endpoint,
    /// Of the connections that come to it.
    pub(super) sockets: SocketOptions,
    pub(super) settings: ListenerSettings,
    /// Where its configurations begin among the loop's.
    pub(super) configs_start: u16,
    /// The part of the settings that each head is held to.
    pub(super) head: HeadLimits,
    pub(super) accepting: Accepting,
    /// Whether somebody else keeps the socket, who will give it to others.
    pub(super) is_lent: bool,
    /// The next rest, should the shortage last.
    pub(super) next_pause: Duration,
}

/// Whether connections may wait at a listener.
#[derive(Clone, Copy, Debug)]
pub(super) enum Accepting {
    /// None waits; readiness will be told.
    Idle,
    /// Some may wait.
    Ready,
    /// Something has run out; accepting rests until the timer fires.
    Paused(TimerKey),
    /// The listener is closed.
    Stopped,
}

impl Listener {
    /// A listener that stands, registered under `token`, on a loop that has so many configurations
    /// already.
    pub(super) fn open<N: Net>(
        net: &mut N,
        endpoint: &Endpoint,
        options: &ListenOptions,
        settings: ListenerSettings,
        configs_count: usize,
        limits: &LoopLimits,
        token: u64,
    ) -> io::Result<Self> {
        let configs_start = settings.configs_start(configs_count)?;
        settings.check().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let is_lent = matches!(endpoint, Endpoint::Inherited(inherited)
            if inherited.maker == Maker::Others);
        let (socket, endpoint) = match endpoint {
            Endpoint::Detached => (None, Endpoint::Detached),
            endpoint => {
                let listening = net.listen(endpoint, options, token)?;
                (Some(listening.key), listening.endpoint)
            }
        };
        let head = HeadLimits::from(&settings.handshake);
        Ok(Self {
            socket,
            endpoint,
            sockets: options.sockets.clone(),
            settings,
            configs_start,
            head,
            accepting: Accepting::Idle,
            is_lent,
            next_pause: limits.accept_pause,
        })
    }

    /// The place of a route's configuration, or of the listener's own, among the loop's.
    pub(super) fn config_index(&self, route: Option<usize>) -> u16 {
        self.configs_start + route.map_or(0, |route| route as u16 + 1)
    }

    /// The pattern of the route whose configuration stands at this place, if it is a route's.
    pub(super) fn pattern(&self, config_index: u16) -> Option<&str> {
        let route = (config_index - self.configs_start).checked_sub(1)?;
        self.settings.routes.iter().nth(usize::from(route)).map(|(pattern, _)| pattern)
    }

    pub(super) fn origins(&self, route: Option<usize>) -> &Origins {
        route.map_or(&self.settings.origins, |route| &self.settings.routes.at(route).origins)
    }
}

/// What an error of `accept` asks for.
pub(crate) enum AcceptError {
    /// Nobody waits.
    Drained,
    /// Something has run out; trying on would only spin.
    Shortage,
    /// That one connection failed while it waited, or a signal came: the next may do.
    Passing,
}

impl AcceptError {
    pub(crate) fn of(error: &io::Error) -> Self {
        // EMFILE and ENFILE have no kind of their own; their numbers, and those of ENOMEM and
        // ENOSPC, are the same on all Unixes, ENOBUFS is 105 on Linux and 55 on the BSDs.
        const SHORTAGES: [i32; 6] = [12, 23, 24, 28, 55, 105];
        match error.kind() {
            io::ErrorKind::WouldBlock => Self::Drained,
            io::ErrorKind::OutOfMemory => Self::Shortage,
            _ if error.raw_os_error().is_some_and(|code| SHORTAGES.contains(&code)) => {
                Self::Shortage
            }
            _ => Self::Passing,
        }
    }
}

impl<N: Net, H: Handler> Reactor<N, H> {
    /// Listens at `endpoint`; returns what it really is, with its port.
    ///
    /// # Errors
    /// What the network says, most often that the address is in use. `InvalidInput` for a
    /// configuration that cannot be, of the listener or of a route, with the
    /// [`ConfigError`](crate::ConfigError) inside, and for more than 65,536 listeners and routes.
    pub fn listen(
        &mut self,
        endpoint: impl Into<Endpoint>,
        options: &ListenOptions,
        settings: ListenerSettings,
    ) -> io::Result<Endpoint> {
        let index = self.shared.listeners.len();
        let token = Target::Listener(index).token(self.shared.shard);
        let (net, configs) = (self.net.net(), self.shared.configs.count());
        let listener =
            Listener::open(net, &endpoint.into(), options, settings, configs, &self.limits, token)?;
        let endpoint = listener.endpoint.clone();
        self.add_listener(listener);
        Ok(endpoint)
    }

    /// Accepts from a listener that is registered under its index already.
    pub(super) fn add_listener(&mut self, listener: Listener) {
        let index = self.shared.listeners.len();
        self.shared.configs.add(index, listener.settings.configs());
        self.shared.listeners.push(listener);
    }

    /// Where the loop listens, in the order the listeners were added, with their ports.
    pub fn local_endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.shared.listeners.iter().map(|listener| &listener.endpoint)
    }

    /// Of these, the addresses of TCP.
    pub fn local_addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.local_endpoints().filter_map(Endpoint::socket_addr)
    }

    /// Takes waiting connections from each listener that may have some, within the budget.
    pub(super) fn accept_waiting(&mut self) {
        for index in 0..self.shared.listeners.len() {
            if matches!(self.shared.listeners[index].accepting, Accepting::Ready) {
                self.accept_from(index);
            }
        }
    }

    /// Takes everybody who waits at listeners that are about to close, which would reset them.
    pub(super) fn accept_all(&mut self) {
        for index in 0..self.shared.listeners.len() {
            let listener = &mut self.shared.listeners[index];
            // Whoever lends a socket goes on with it.
            if listener.socket.is_none() || listener.is_lent {
                continue;
            }
            if matches!(listener.accepting, Accepting::Idle) {
                listener.accepting = Accepting::Ready;
            }
            // It ends with an empty queue, or with the last slot.
            while matches!(self.shared.listeners[index].accepting, Accepting::Ready) {
                self.accept_from(index);
            }
        }
    }

    fn accept_from(&mut self, index: usize) {
        let mut failures = 0;
        for _ in 0..self.limits.accepts_per_turn {
            let Some(key) = self.shared.slots.vacant_key() else {
                return self.pause_accepting(index);
            };
            let token = Target::Connection(key).token(self.shared.shard);
            let Some(socket) = self.shared.listeners[index].socket else { return };
            match self.net.net().accept(socket, token) {
                Ok(accepted) => {
                    failures = 0;
                    self.shared.listeners[index].next_pause = self.limits.accept_pause;
                    self.shared.occupancy.arrive();
                    // Whoever cannot be served was closed and counted.
                    let _ = self.open_socket(index, accepted, &[]);
                }
                Err(error) => match AcceptError::of(&error) {
                    AcceptError::Drained => {
                        self.shared.listeners[index].accepting = Accepting::Idle;
                        return;
                    }
                    AcceptError::Shortage => return self.pause_accepting(index),
                    AcceptError::Passing => failures += 1,
                },
            }
        }
        // A listener that says nothing but errors, budget after budget, must not spin either.
        if failures >= self.limits.accepts_per_turn {
            self.pause_accepting(index);
        }
    }

    fn pause_accepting(&mut self, index: usize) {
        self.shared.counters.accept_pauses += 1;
        let listener = &mut self.shared.listeners[index];
        let until = after(self.shared.now, listener.next_pause);
        listener.next_pause =
            listener.next_pause.saturating_mul(2).min(self.limits.accept_pause_max);
        listener.accepting =
            Accepting::Paused(self.shared.wheel.insert(until, Timer::Accept(index as u32)));
    }

    pub(super) fn resume_accepting(&mut self, index: usize) {
        if let Some(listener) = self.shared.listeners.get_mut(index)
            && matches!(listener.accepting, Accepting::Paused(_))
        {
            listener.accepting = Accepting::Ready;
        }
    }

    /// Closes some of the listeners.
    pub(super) fn stop_listening(&mut self, which: impl Fn(&Listener) -> bool) {
        for listener in self.shared.listeners.iter_mut().filter(|listener| which(listener)) {
            match std::mem::replace(&mut listener.accepting, Accepting::Stopped) {
                Accepting::Stopped => continue,
                Accepting::Paused(timer) => {
                    self.shared.wheel.cancel(timer);
                }
                Accepting::Idle | Accepting::Ready => {}
            }
            if let Some(socket) = listener.socket {
                self.net.close(socket);
            }
        }
    }

    /// A connection has come, of which `early` was read already. Says how many of these bytes are
    /// done with.
    ///
    /// # Errors
    /// As [`Reactor::secure`].
    pub(super) fn open_socket(
        &mut self,
        listener: usize,
        accepted: Accepted,
        early: &[u8],
    ) -> io::Result<usize> {
        self.shared.counters.accepted += 1;
        let timeout = self.shared.listeners[listener].settings.handshake.timeout;
        let deadline = after(self.shared.now, timeout);
        let key = self.shared.slots.vacant_key().expect("asked for before accepting");
        let timer =
            self.shared.wheel.insert(deadline, Timer::Connection(key.index, LifeEnd::NEVER));
        let inserted = self.shared.slots.insert(Slot {
            phase: Phase::Http(Outbox::new()),
            peer: accepted.peer.into(),
            socket: accepted.key,
            timer,
            backlog: None,
            config: self.shared.listeners[listener].config_index(None),
            notes: Notes::default(),
        });
        assert!(inserted.is_ok(), "a vacant key was there");
        let index = key.index as usize;
        if index >= self.receivers.len() {
            self.receivers.resize_with(index + 1, Default::default);
        }
        let expects = self.shared.listeners[listener].settings.expects(accepted.peer);
        self.receivers[index].inbound = Inbound::Http(Box::new(HttpState::new(deadline, expects)));
        match expects {
            Expects::ProxyHeader => Ok(0),
            Expects::Request => self.secure(key, early),
        }
    }

    /// From here on the client itself speaks, in TLS if its listener wants that. `early` was read
    /// already; says how many of these bytes are done with.
    ///
    /// # Errors
    /// There is no memory for that, or its configuration cannot be; the connection has ended.
    pub(super) fn secure(&mut self, key: Key, early: &[u8]) -> io::Result<usize> {
        let Some(slot) = self.shared.slots.get(key) else { return Ok(0) };
        let Some(listener) = self.shared.listener(slot) else { return Ok(0) };
        let Some(tls) = &self.shared.listeners[listener].settings.tls else { return Ok(0) };
        if let Err(error) = self.net.secure(slot.socket, tls, early) {
            self.shared.counters.pool_exhausted +=
                u64::from(error.kind() == io::ErrorKind::OutOfMemory);
            self.end(key);
            return Err(error);
        }
        if !early.is_empty()
            && let Some(slot) = self.shared.slots.get_mut(key)
        {
            // No event tells of them.
            slot.notes.readable = true;
            self.shared.mark_ready(key);
        }
        Ok(early.len())
    }
}
