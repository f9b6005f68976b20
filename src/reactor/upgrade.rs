//! Requests: plain HTTP answers and the way to an open WebSocket.

use std::time::Duration;

use super::deferral::Deferral;
use super::handler::{Arrival, Handler, Verdict};
use super::id::ConnectionId;
use super::net::Net;
use super::settings::PanicPolicy;
use super::shared::{Shared, after};
use super::slot::{Expects, HttpState, Inbound, Phase, Slot};
use super::turn::Reactor;
use crate::collections::{Key, Outbox};
use crate::handshake::{
    Accept, BodyAllowed, HandshakeError, Inspected, Negotiated, Persistence, Request, Response,
    Upgrade, inspect, write_accept,
};
use crate::http::{FieldStorage, HeadScanner, parse_request};
use crate::protocol::{Agreement, Receiver, Sender, compression_keys};

/// What a request has led to; its answer stands in the scratch buffer.
enum Outcome<D> {
    Upgraded {
        negotiated: Negotiated,
        compression: Option<Agreement>,
        data: D,
    },
    Answered(Persistence),
    /// There is none yet.
    Deferred {
        deferral: Box<Deferral<D>>,
        timeout: Duration,
    },
}

/// Which request this is, and where it has come in.
#[derive(Clone, Copy)]
struct Place {
    key: Key,
    listener: usize,
    /// Counted on its connection.
    request: u16,
    route: Option<usize>,
}

impl<N: Net, H: Handler> Reactor<N, H> {
    /// Looks for what has to come next at the front of `bytes`, and handles it. Says how many bytes
    /// it had; `None` while it is not complete, or waits for a decision.
    pub(super) fn handle_opening(&mut self, key: Key, bytes: &[u8]) -> Option<usize> {
        let Inbound::Http(http) = &self.receivers[key.index as usize].inbound else { return None };
        let handled = match http.expects {
            Expects::ProxyHeader => self.handle_proxy_header(key, bytes),
            Expects::Request => self.handle_head(key, bytes),
        };
        if let Inbound::Http(http) = &mut self.receivers[key.index as usize].inbound {
            http.rests = handled.is_none();
        }
        handled
    }

    /// Looks for a whole head at the front of `bytes` and answers it.
    fn handle_head(&mut self, key: Key, bytes: &[u8]) -> Option<usize> {
        let slot = self.shared.slots.get(key)?;
        let listener = self.shared.listener(slot)?;
        if self.is_undecided(key) {
            self.rest_if_full(key, bytes.len());
            return None;
        }
        let is_crowded = self.is_crowded(key);
        let Inbound::Http(http) = &mut self.receivers[key.index as usize].inbound else {
            return None;
        };
        let scanned = http.scanner.scan(bytes, &self.shared.listeners[listener].head);
        self.scratch.clear();
        let (head_bytes, outcome) = match scanned {
            Ok(None) => return None,
            Ok(Some(head_bytes)) => {
                let decided = http.deferral.take();
                if decided.is_none() {
                    http.requests += 1;
                    self.shared.counters.http_requests += 1;
                }
                let place = Place { key, listener, request: http.requests, route: None };
                let bound =
                    self.shared.listeners[listener].settings.handshake.keep_alive_requests_max;
                let is_last =
                    http.requests >= bound || is_crowded || !self.shared.departure.is_running();
                let offer = if is_last { Persistence::Close } else { Persistence::KeepAlive };
                (head_bytes, self.answer(place, &bytes[..head_bytes], offer, decided))
            }
            Err(error) => (bytes.len(), self.refuse(HandshakeError::Head(error))),
        };
        match outcome {
            Outcome::Upgraded { negotiated, compression, data } => {
                self.open(key, negotiated, compression, data);
            }
            Outcome::Answered(persistence) => self.send_answer(key, listener, persistence),
            Outcome::Deferred { deferral, timeout } => {
                self.defer(key, deferral, timeout, head_bytes);
                self.rest_if_full(key, bytes.len());
                return None;
            }
        }
        // Unless it was accepted, nobody has taken it.
        self.shared.attachment = None;
        Some(head_bytes)
    }

    /// Whether answers wait above the high-water mark although they were just offered to the
    /// kernel. Who pipelines and does not read is given one more answer and no other.
    fn is_crowded(&mut self, key: Key) -> bool {
        let queued = |shared: &Shared<H::Data>| match shared.slots.get(key) {
            Some(slot @ Slot { phase: Phase::Http(outbox), .. }) => {
                outbox.queued_bytes() > shared.config(slot).limits.high_water_bytes as u64
            }
            _ => false,
        };
        if !queued(&self.shared) {
            return false;
        }
        self.flush(key);
        queued(&self.shared)
    }

    /// The time for a decision is over, or that for a head: 408 if one had begun or none ever came,
    /// silence after an answered request. An answer that is still on its way may arrive.
    pub(super) fn handle_http_timeout(&mut self, key: Key) {
        if self.is_undecided(key) {
            return self.handle_deferral_timeout(key);
        }
        if self.shared.slots.get(key).is_some_and(|slot| slot.phase.has_output()) {
            return self.part_http(key);
        }
        self.shared.counters.handshake_timeouts += 1;
        let Some(slot) = self.shared.slots.get(key) else { return };
        let Inbound::Http(http) = &self.receivers[key.index as usize].inbound else { return };
        let is_mute = http.expects == Expects::ProxyHeader || self.net.is_handshaking(slot.socket);
        let is_idle = http.requests > 0 && slot.backlog.is_none();
        if is_mute || is_idle {
            return self.end(key);
        }
        self.scratch.clear();
        let _: Outcome<H::Data> = self.refuse(HandshakeError::TimedOut);
        self.push_scratch(key);
        self.part_http(key);
    }

    /// Decides on one request and writes the answer to the scratch buffer. `offer` is what we are
    /// ready for; the request decides for itself too.
    fn answer(
        &mut self,
        mut place: Place,
        head: &[u8],
        offer: Persistence,
        decided: Option<Box<Deferral<H::Data>>>,
    ) -> Outcome<H::Data> {
        let mut storage = FieldStorage::new();
        let head = match parse_request(head, &mut storage) {
            Ok(head) => head,
            Err(error) => return self.refuse(HandshakeError::Head(error)),
        };
        let body_allowed = BodyAllowed::in_answer_to(head.method);
        let inspected = match inspect(&head) {
            Ok(inspected) => inspected,
            Err(error) => return self.refuse_with(error, body_allowed),
        };
        let request = inspected.request();
        if let Some(response) = self.answer_readiness(place.listener, &inspected) {
            return self.respond(&response, request, offer.and(request.persistence()));
        }
        let routes = &self.shared.listeners[place.listener].settings.routes;
        if !routes.is_empty() {
            place.route = routes.find(request.path());
            if place.route.is_none() {
                return self.refuse_with(HandshakeError::NotFound, body_allowed);
            }
        }
        let verdict = match decided {
            Some(deferral) => self.recall(*deferral),
            None => match self.check(place, &inspected) {
                Ok(()) => self.ask(place, request),
                Err(error) => return self.refuse(error),
            },
        };
        match (verdict, &inspected) {
            (Some(Verdict::Accept { accept, data }), Inspected::Upgrade(upgrade)) => {
                self.accept(place, upgrade, accept, data)
            }
            (Some(Verdict::Accept { .. } | Verdict::UpgradeRequired), _) => {
                self.refuse_with(HandshakeError::UpgradeRequired, body_allowed)
            }
            (
                Some(Verdict::Reject(response) | Verdict::Respond(response)),
                Inspected::Upgrade(_),
            ) => {
                self.shared.counters.handshakes_refused += 1;
                self.respond(&response, request, Persistence::Close)
            }
            (Some(Verdict::Reject(response)), Inspected::Plain(_)) => {
                self.respond(&response, request, Persistence::Close)
            }
            (Some(Verdict::Respond(response)), Inspected::Plain(_)) => {
                self.respond(&response, request, offer.and(request.persistence()))
            }
            (Some(Verdict::Defer { timeout, data }), _) => {
                Outcome::Deferred { deferral: Deferral::new(data, &inspected), timeout }
            }
            (None, _) => self.refuse_with(HandshakeError::InvalidAnswer, body_allowed),
        }
    }

    /// What an upgrade has to pass before anybody is asked about it.
    fn check(&mut self, place: Place, inspected: &Inspected<'_>) -> Result<(), HandshakeError> {
        let Inspected::Upgrade(upgrade) = inspected else { return Ok(()) };
        let origins = self.shared.listeners[place.listener].origins(place.route);
        if !origins.permits(upgrade.request()) {
            return Err(HandshakeError::OriginNotAllowed);
        }
        self.check_room(place.key)
    }

    fn accept(
        &mut self,
        place: Place,
        upgrade: &Upgrade<'_>,
        mut accept: Accept,
        data: H::Data,
    ) -> Outcome<H::Data> {
        // It may have become full since the application was asked.
        if let Err(error) = self.check_room(place.key) {
            return self.refuse(error);
        }
        let config = self.shared.listeners[place.listener].config_index(place.route);
        let compression = match self.shared.refuses_contexts() {
            true => None,
            false => self.shared.configs.get(config).agree(upgrade.extensions()),
        };
        if let Some(agreement) = &compression {
            accept = accept.extension(agreement.into());
        }
        match write_accept(upgrade, &accept, &mut self.scratch) {
            Ok(negotiated) => {
                if let Some(slot) = self.shared.slots.get_mut(place.key) {
                    slot.config = config;
                }
                Outcome::Upgraded { negotiated, compression, data }
            }
            Err(_) => self.refuse(HandshakeError::InvalidAnswer),
        }
    }

    /// The application's verdict; `None` if it panicked and panics are caught.
    fn ask(&mut self, place: Place, request: &Request<'_>) -> Option<Verdict<H::Data>> {
        let Place { key, listener, request: number, route } = place;
        let routes = &self.shared.listeners[listener].settings.routes;
        let matched = route.map(|route| routes.matched(route, request.path()));
        let slot = self.shared.slots.get(key)?;
        let arrival = Arrival {
            id: ConnectionId::new(self.shared.shard, key),
            peer: slot.peer.unpack(),
            listener,
            tls: self.net.tls_facts(slot.socket),
            is_draining: !self.shared.departure.is_running(),
            route: matched.map(|matched| matched.pattern()),
            matched,
            request: number,
        };
        match self.panics {
            PanicPolicy::Propagate => Some(self.handler.on_request(request, &arrival)),
            PanicPolicy::CloseConnection => {
                let ask = || self.handler.on_request(request, &arrival);
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(ask)).ok()
            }
        }
    }

    fn refuse(&mut self, error: HandshakeError) -> Outcome<H::Data> {
        self.refuse_with(error, BodyAllowed::Yes)
    }

    fn refuse_with(&mut self, error: HandshakeError, body: BodyAllowed) -> Outcome<H::Data> {
        self.shared.counters.handshakes_refused += 1;
        error.write_response(&mut self.scratch, body);
        Outcome::Answered(Persistence::Close)
    }

    fn respond(
        &mut self,
        response: &Response,
        request: &Request<'_>,
        persistence: Persistence,
    ) -> Outcome<H::Data> {
        response.write(&mut self.scratch, persistence, request.body_allowed());
        Outcome::Answered(persistence)
    }

    /// Queues what stands in the scratch buffer. Without memory for an answer the connection ends:
    /// nothing may stand in its place.
    fn push_scratch(&mut self, key: Key) {
        let Some(slot) = self.shared.slots.get_mut(key) else { return };
        if let Phase::Http(outbox) = &mut slot.phase
            && outbox.push(&mut self.shared.pools.outbox, &self.scratch, &[]).is_err()
        {
            self.shared.counters.pool_exhausted += 1;
            self.end(key);
        }
    }

    fn send_answer(&mut self, key: Key, listener: usize, persistence: Persistence) {
        self.push_scratch(key);
        match persistence {
            Persistence::Close => self.part_http(key),
            Persistence::KeepAlive => {
                let timeout = self.shared.listeners[listener].settings.handshake.keep_alive_timeout;
                let deadline = after(self.shared.now, timeout);
                let receiver = &mut self.receivers[key.index as usize];
                if let Inbound::Http(http) = &mut receiver.inbound {
                    http.scanner = HeadScanner::request();
                    http.deadline = deadline;
                }
                self.hasten(key);
            }
        }
    }

    pub(super) fn part_http(&mut self, key: Key) {
        let Some(slot) = self.shared.slots.get_mut(key) else { return };
        if let Phase::Http(outbox) = &mut slot.phase {
            let outbox = std::mem::take(outbox);
            self.part(key, outbox);
        }
    }

    /// The handshake is over: the WebSocket opens behind its answer.
    fn open(
        &mut self,
        key: Key,
        negotiated: Negotiated,
        compression: Option<Agreement>,
        data: H::Data,
    ) {
        self.push_scratch(key);
        let Some(slot) = self.shared.slots.get_mut(key) else { return };
        let Phase::Http(outbox) = &mut slot.phase else { return };
        let outbox: Outbox = std::mem::take(outbox);
        let config = self.shared.configs.get(slot.config);
        let (deflate, inflate) =
            compression.map(|agreement| compression_keys(&agreement, config.role)).unzip();
        let sender = Sender::new(outbox, config, self.shared.moment).with_deflate(deflate);
        slot.phase = Phase::Open { sender, data };
        if let Some(subprotocol) = negotiated.subprotocol {
            self.shared.subprotocols.insert(key.index, subprotocol);
        }
        let address = slot.peer.unpack().ip();
        self.receivers[key.index as usize].inbound = Inbound::Open(Receiver::new(inflate));
        self.shared.counters.handshakes_completed += 1;
        self.shared.open += 1;
        self.admission.arrive(address, &self.limits);
        // The heartbeat may be due before the handshake's deadline would have been.
        self.begin_life(key);
        self.call(key, |handler, ctx| handler.on_open(ctx));
    }
}

/// A fresh state would be needless for a connection that upgrades at once, so it is small.
const _: () = assert!(size_of::<HttpState<()>>() <= 64);
