//! Dialling, step by step.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::answer::Body;
use super::dialling::{Dialling, Fate, Stage};
use super::error::{DialError, DialPhase};
use super::race::{Race, Runner, Standing};
use super::settings::DialSettings;
use crate::collections::Key;
use crate::handshake::{Tunnel, TunnelError, TunnelProgress};
use crate::http::Scheme;
use crate::reactor::endpoint::PeerAddress;
use crate::reactor::handler::Handler;
use crate::reactor::id::{ConnectionId, Target};
use crate::reactor::net::Net;
use crate::reactor::remote::RemoteAddress;
use crate::reactor::shared::after;
use crate::reactor::slot::{Inbound, Phase, ReceiveSlot};
use crate::reactor::transport::Urgency;
use crate::reactor::turn::Reactor;

impl<N: Net, H: Handler> Reactor<N, H> {
    /// As [`Loop::dial`](crate::Loop::dial), from outside of a callback.
    ///
    /// # Errors
    /// As there.
    pub fn dial(
        &mut self,
        remotes: impl IntoIterator<Item = RemoteAddress>,
        settings: &Arc<DialSettings>,
        data: H::Data,
    ) -> Result<ConnectionId, DialError> {
        // An embedded loop may have stood still for long.
        self.read_clock();
        self.shared.dial(remotes.into_iter().collect(), settings, data)
    }

    /// Begins to connect those that were dialled, as many as a turn has time for.
    #[inline(never)]
    pub(in crate::reactor) fn begin_dials(&mut self) {
        let mut budget = self.limits.dials_per_turn;
        // Those that are dialled by the callbacks on the way come in the next turn.
        for _ in 0..self.shared.dials.len() {
            if budget == 0 {
                break;
            }
            let Some(key) = self.shared.dials.pop_front() else { break };
            let Some(dialling) = self.shared.dialling(key) else { continue };
            if dialling.fate == Fate::GivenUp {
                self.fail_dial(key, DialError::Aborted);
                continue;
            }
            let Stage::Noted(remotes) = &mut dialling.stage else { continue };
            let race = Race::new(std::mem::take(remotes));
            dialling.stage = Stage::Connecting(race);
            budget -= 1;
            let index = key.index as usize;
            if index >= self.receivers.len() {
                self.receivers.resize_with(index + 1, ReceiveSlot::default);
            }
            self.receivers[index].inbound = Inbound::Dialling;
            self.run_race(key);
        }
    }

    /// Something has happened to one of the sockets, or it is time for the next.
    pub(in crate::reactor) fn run_race(&mut self, key: Key) {
        let token = Target::Connection(key).token(self.shared.shard);
        let now = self.shared.now;
        let Some(dialling) = self.shared.dialling(key) else { return };
        let Dialling { settings, stage: Stage::Connecting(race), .. } = dialling else { return };
        let delay = settings.attempt_delay;
        match race.run(self.net.net(), &settings.sockets, delay, token, now) {
            Standing::Won(runner) => self.begin_conversation(key, runner),
            Standing::Open => self.hasten(key),
            Standing::Lost(error) => {
                self.fail_dial(key, DialError::Io { phase: DialPhase::Connect, error });
            }
        }
    }

    /// The connection stands.
    fn begin_conversation(&mut self, key: Key, Runner { socket, remote }: Runner) {
        let Some(slot) = self.shared.slots.get_mut(key) else { return };
        slot.socket = socket;
        slot.peer = match remote {
            RemoteAddress::Tcp(address) => PeerAddress::from(address),
            RemoteAddress::Unix(_) => PeerAddress::Unix,
        }
        .into();
        self.begin_tunnel(key);
        self.flush(key);
        self.settle(key);
        self.shared.mark_ready(key);
    }

    fn begin_tunnel(&mut self, key: Key) {
        let Some(dialling) = self.shared.dialling(key) else { return };
        let settings = &dialling.settings;
        let Some(proxy) = settings.way() else { return self.begin_tls(key) };
        let (uri, timeout) = (settings.request.uri(), settings.timeouts.tunnel);
        self.scratch.clear();
        match Tunnel::new(proxy, uri.host(), uri.port(), &mut self.scratch) {
            Ok(tunnel) => {
                self.enter_stage(key, Stage::Tunnel(tunnel), timeout);
                self.push_request(key);
            }
            Err(error) => self.fail_dial(key, DialError::Tunnel(error)),
        }
    }

    /// Something has come from whoever is at the other end. Says how many bytes are done with; `None`
    /// while more has to come.
    pub(in crate::reactor) fn handle_dial_input(
        &mut self,
        key: Key,
        bytes: &[u8],
    ) -> Option<usize> {
        let dialling = self.shared.dialling(key)?;
        if dialling.fate == Fate::GivenUp {
            self.fail_dial(key, DialError::Aborted);
            return Some(bytes.len());
        }
        match &mut dialling.stage {
            Stage::Tunnel(tunnel) => {
                self.scratch.clear();
                let progress = tunnel.handle_input(bytes, &mut self.scratch);
                return Some(self.handle_tunnel_progress(key, progress, bytes.len()));
            }
            Stage::Upgrade(upgrade) => {
                let scanned = upgrade.scan(bytes);
                return self.handle_scanned(key, bytes, scanned);
            }
            Stage::Refused(refusing) => {
                if refusing.handle_input(bytes) == Body::Complete {
                    self.tell_refused(key);
                }
            }
            Stage::Tls => return self.handle_unasked(key, bytes),
            // There is no socket yet that could be read.
            Stage::Noted(_) | Stage::Connecting(_) => {}
        }
        Some(bytes.len())
    }

    /// The server has spoken before it was asked. Behind its handshake that is its answer, whatever
    /// it is worth; in front of it nobody vouches for what came.
    fn handle_unasked(&mut self, key: Key, bytes: &[u8]) -> Option<usize> {
        let socket = self.shared.slots.get(key)?.socket;
        if self.net.is_handshaking(socket) {
            self.fail_dial(key, DialError::Tls("the server has spoken before it was asked".into()));
            return Some(bytes.len());
        }
        self.begin_upgrade(key);
        self.handle_dial_input(key, bytes)
    }

    fn handle_tunnel_progress(
        &mut self,
        key: Key,
        progress: Result<TunnelProgress, TunnelError>,
        bytes: usize,
    ) -> usize {
        match progress {
            Ok(TunnelProgress::NeedMore) => {
                self.push_request(key);
                bytes
            }
            Ok(TunnelProgress::Open { consumed_bytes }) => {
                self.begin_tls(key);
                consumed_bytes
            }
            Err(error) => {
                self.fail_dial(key, DialError::Tunnel(error));
                bytes
            }
        }
    }

    /// The way to the server is open: in `wss` it begins with a handshake of TLS.
    fn begin_tls(&mut self, key: Key) {
        let Some(slot) = self.shared.slots.get_mut(key) else { return };
        let socket = slot.socket;
        let Some(dialling) = self.shared.dialling(key) else { return };
        let settings = dialling.settings.clone();
        if settings.request.uri().scheme() == Scheme::Ws {
            return self.begin_upgrade(key);
        }
        if !dialling.outbox.is_empty() {
            // A proxy has answered what it cannot have read to its end. The rest would go through
            // TLS, to somebody whom its password is not for.
            let error = io::ErrorKind::InvalidData.into();
            return self.fail_dial(key, DialError::Io { phase: DialPhase::Tunnel, error });
        }
        let Some(tls) = &settings.tls else {
            return self.fail_dial(key, DialError::Tls("there are no settings for it".into()));
        };
        match self.net.secure_client(socket, tls, settings.request.uri().host()) {
            Ok(()) => {
                self.enter_stage(key, Stage::Tls, settings.timeouts.tls);
                if let Some(slot) = self.shared.slots.get_mut(key) {
                    // The next read says the first word, when those who came before have said
                    // theirs: however many are dialled, what has begun goes on.
                    slot.notes.readable = true;
                    slot.notes.awaits_handshake = true;
                    self.handshakes.push(key, Urgency::Fresh);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory => {
                self.shared.counters.pool_exhausted += 1;
                self.fail_dial(key, DialError::NoRoom);
            }
            Err(error) => self.fail_dial(key, DialError::Tls(Box::new(error))),
        }
    }

    pub(super) fn is_given_up(&mut self, key: Key) -> bool {
        self.shared.dialling(key).is_some_and(|dialling| dialling.fate == Fate::GivenUp)
    }

    pub(super) fn enter_stage(&mut self, key: Key, stage: Stage, timeout: Duration) {
        let deadline = after(self.shared.now, timeout);
        if let Some(dialling) = self.shared.dialling(key) {
            dialling.stage = stage;
            dialling.deadline = deadline;
            self.hasten(key);
        }
    }

    /// Queues what stands in the scratch buffer.
    pub(super) fn push_request(&mut self, key: Key) {
        let Some(slot) = self.shared.slots.get_mut(key) else { return };
        let Phase::Dialling(dialling) = &mut slot.phase else { return };
        let pool = &mut self.shared.pools.outbox;
        if dialling.outbox.push(pool, &self.scratch, &[]).is_err() {
            self.shared.counters.pool_exhausted += 1;
            self.fail_dial(key, DialError::NoRoom);
        }
    }

    /// The end of the server's stream.
    pub(in crate::reactor) fn handle_dial_end(&mut self, key: Key) {
        let Some(dialling) = self.shared.dialling(key) else { return };
        if let Stage::Refused(_) = dialling.stage {
            return self.tell_refused(key);
        }
        self.fail_dial_with(key, io::ErrorKind::UnexpectedEof.into());
    }

    /// The network has failed; what came of a refusal is told nevertheless.
    pub(in crate::reactor) fn fail_dial_with(&mut self, key: Key, error: io::Error) {
        let Some(dialling) = self.shared.dialling(key) else { return };
        if let Stage::Refused(_) = dialling.stage {
            return self.tell_refused(key);
        }
        let phase = dialling.phase();
        let socket = self.shared.slots.get(key).map(|slot| slot.socket);
        let error = match socket.and_then(|socket| self.net.tls_failure(socket)) {
            Some(failure) => DialError::Tls(failure),
            None => DialError::Io { phase, error },
        };
        self.fail_dial(key, error);
    }

    /// A phase has taken too long, or the next address is to be tried.
    pub(in crate::reactor) fn handle_dial_timeout(&mut self, key: Key) {
        let now = self.shared.now;
        if matches!(self.shared.dialling(key), Some(Dialling { stage: Stage::Connecting(_), .. })) {
            // After a stall of this process a socket may have arrived long ago.
            self.run_race(key);
        }
        let Some(dialling) = self.shared.dialling(key) else { return };
        if dialling.deadline <= now {
            match dialling.stage {
                Stage::Refused(_) => self.tell_refused(key),
                Stage::Noted(_)
                | Stage::Connecting(_)
                | Stage::Tunnel(_)
                | Stage::Tls
                | Stage::Upgrade(_) => {
                    let phase = dialling.phase();
                    self.fail_dial(key, DialError::TimedOut(phase));
                }
            }
        }
    }

    /// Draws the consequences of what was read and written.
    #[inline(never)]
    pub(in crate::reactor) fn settle_dial(&mut self, key: Key, write_error: Option<io::ErrorKind>) {
        let Some(dialling) = self.shared.dialling(key) else { return };
        if dialling.fate == Fate::GivenUp {
            self.fail_dial(key, DialError::Aborted);
        } else if let Some(error) = write_error {
            // The answer may have come in front of a reset: it says more.
            self.hear_dial_out(key);
            self.fail_dial_with(key, error.into());
        } else if let Stage::Tls = dialling.stage
            && let Some(slot) = self.shared.slots.get(key)
            && !self.net.is_handshaking(slot.socket)
        {
            self.begin_upgrade(key);
            self.flush(key);
            self.settle(key);
        }
    }

    fn hear_dial_out(&mut self, key: Key) {
        if let Some(slot) = self.shared.slots.get_mut(key)
            && let Phase::Dialling(dialling) = &mut slot.phase
        {
            dialling.outbox.clear(&mut self.shared.pools.outbox);
            slot.notes.readable = true;
            self.serve(key);
        }
    }

    pub(super) fn tell_refused(&mut self, key: Key) {
        let Some(dialling) = self.shared.dialling(key) else { return };
        if let Stage::Refused(refusing) =
            std::mem::replace(&mut dialling.stage, Stage::Noted(Vec::new()))
        {
            self.fail_dial(key, DialError::Refused(refusing.finish()));
        }
    }

    /// Dialling is over, and there is no connection.
    pub(in crate::reactor) fn fail_dial(&mut self, key: Key, error: DialError) {
        let Some(dialling) = self.shared.dialling(key) else { return };
        let data = std::mem::take(&mut dialling.data);
        self.shared.counters.dials_failed += 1;
        self.end(key);
        let id = ConnectionId::new(self.shared.shard, key);
        self.call_loop(|handler, at| handler.on_dial_failed(at, id, data, error));
    }

    /// Closes what there is of sockets.
    pub(in crate::reactor) fn close_dialling(&mut self, key: Key) {
        let Some(slot) = self.shared.slots.get_mut(key) else { return };
        let Phase::Dialling(dialling) = &mut slot.phase else { return };
        dialling.outbox.clear(&mut self.shared.pools.outbox);
        if let Stage::Connecting(race) = &mut dialling.stage {
            race.close(self.net.net());
        }
    }
}
