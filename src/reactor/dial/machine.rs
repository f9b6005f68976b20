//! Dialling, step by step.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer::{Body, Refusing};
use super::error::{DialError, DialPhase};
use super::race::{Race, Runner, Standing};
use super::settings::DialSettings;
use crate::collections::{Key, Outbox};
use crate::handshake::{ClientHandshakeError, ClientRequest, Negotiated, verify};
use crate::http::{FieldStorage, HeadLimits, HeadScanner, parse_response};
use crate::protocol::{Agreement, Receiver, Sender, compression_keys};
use crate::reactor::endpoint::PeerAddress;
use crate::reactor::event_loop::Loop;
use crate::reactor::handler::Handler;
use crate::reactor::id::{ConnectionId, Target};
use crate::reactor::net::{Net, NetKey};
use crate::reactor::remote::RemoteAddress;
use crate::reactor::shared::{Shared, after};
use crate::reactor::slot::{Inbound, Notes, Phase, ReceiveSlot, Slot};
use crate::reactor::turn::{Drain, Reactor, Timer};

/// A connection before it opens.
#[derive(Debug)]
pub struct Dialling<D> {
    settings: Arc<DialSettings>,
    data: D,
    stage: Stage,
    outbox: Outbox,
    /// Of the phase.
    deadline: Instant,
    fate: Fate,
}

/// Whether the application still wants the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Wanted,
    GivenUp,
}

/// How far dialling has come.
#[derive(Debug)]
enum Stage {
    /// Nothing was done yet: the network is out of a callback's reach.
    Noted(Vec<RemoteAddress>),
    Connecting(Race),
    Upgrade(Box<Upgrade>),
    Refused(Refusing),
}

/// A request that waits for its answer.
#[derive(Debug)]
struct Upgrade {
    request: ClientRequest,
    nonce: [u8; 16],
    scanner: HeadScanner,
    /// What the head may still have, those of the answers before it (1xx) included.
    limits: HeadLimits,
}

/// What stands at the front of the input.
enum Answer {
    Switched {
        negotiated: Negotiated,
        compression: Option<Agreement>,
    },
    /// Another one follows (RFC 9110 §15.2).
    Informational,
    Other(Refusing),
}

impl<D> Dialling<D> {
    pub(in crate::reactor) const fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    pub(in crate::reactor) fn outbox_mut(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// When something is due, though nothing happens.
    pub(in crate::reactor) fn deadline(&self) -> Instant {
        match &self.stage {
            Stage::Connecting(race) => {
                race.next_start().map_or(self.deadline, |start| start.min(self.deadline))
            }
            Stage::Noted(_) | Stage::Upgrade(_) | Stage::Refused(_) => self.deadline,
        }
    }

    /// Whether there is a socket to be read.
    pub(in crate::reactor) const fn is_connected(&self) -> bool {
        matches!(self.stage, Stage::Upgrade(_) | Stage::Refused(_))
    }

    const fn phase(&self) -> DialPhase {
        match self.stage {
            Stage::Noted(_) | Stage::Connecting(_) => DialPhase::Connect,
            Stage::Upgrade(_) | Stage::Refused(_) => DialPhase::Upgrade,
        }
    }
}

impl<D> Loop<'_, D> {
    /// Makes a connection to the first of `remotes` that answers, and opens a WebSocket on it. It
    /// is begun before this turn ends. Either [`Handler::on_open`] follows under this name, and all
    /// that follows it, or [`Handler::on_dial_failed`].
    ///
    /// # Errors
    /// [`DialError::NoRoom`] if the loop has no place for another connection; [`DialError::Io`] if
    /// there is no address at all, or the configuration cannot be.
    pub fn dial(
        &mut self,
        remotes: impl IntoIterator<Item = RemoteAddress>,
        settings: &Arc<DialSettings>,
        data: D,
    ) -> Result<ConnectionId, DialError> {
        self.shared.dial(remotes.into_iter().collect(), settings, data)
    }

    /// Gives a connection up that was dialled and has not opened: [`Handler::on_dial_failed`]
    /// follows with [`DialError::Aborted`], in the next turn. One that is open is left alone, as is
    /// one that is gone.
    pub fn give_up(&mut self, id: ConnectionId) {
        let key = id.key();
        if id.shard() == self.shared.shard
            && let Some(slot) = self.shared.slots.get_mut(key)
            && let Phase::Dialling(dialling) = &mut slot.phase
        {
            // Its sockets are closed when the network is at hand again.
            dialling.fate = Fate::GivenUp;
            self.shared.mark_dirty(key);
        }
    }
}

impl<D> Shared<D> {
    fn dial(
        &mut self,
        remotes: Vec<RemoteAddress>,
        settings: &Arc<DialSettings>,
        data: D,
    ) -> Result<ConnectionId, DialError> {
        let unfit = |error| DialError::Io { phase: DialPhase::Connect, error };
        settings
            .check()
            .map_err(|error| unfit(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        if remotes.is_empty() {
            return Err(unfit(io::ErrorKind::AddrNotAvailable.into()));
        }
        let key = self.slots.vacant_key().ok_or(DialError::NoRoom)?;
        let config = self.configs.begin(&settings.config).ok_or(DialError::NoRoom)?;
        let deadline = after(self.now, settings.timeouts.connect);
        let dialling = Dialling {
            settings: settings.clone(),
            data,
            stage: Stage::Noted(remotes),
            outbox: Outbox::new(),
            deadline,
            fate: Fate::Wanted,
        };
        let inserted = self.slots.insert(Slot {
            phase: Phase::Dialling(Box::new(dialling)),
            peer: PeerAddress::Unix.into(),
            socket: NO_SOCKET,
            timer: self.wheel.insert(deadline, Timer::Connection(key.index)),
            backlog: None,
            config,
            notes: Notes::default(),
        });
        debug_assert!(inserted.is_ok(), "a vacant key was there");
        self.dials.push_back(key);
        self.counters.dialled += 1;
        Ok(ConnectionId::new(self.shard, key))
    }
}

impl<N: Net, H: Handler> Reactor<N, H> {
    /// As [`Loop::dial`], from outside of a callback.
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
    pub(in crate::reactor) fn begin_dials(&mut self) {
        let count = self.shared.dials.len().min(self.limits.dials_per_turn as usize);
        for _ in 0..count {
            let Some(key) = self.shared.dials.pop_front() else { break };
            let Some(dialling) = self.shared.dialling(key) else { continue };
            let Stage::Noted(remotes) = &mut dialling.stage else { continue };
            let race = Race::new(std::mem::take(remotes));
            dialling.stage = Stage::Connecting(race);
            let index = key.index as usize;
            if index >= self.receivers.len() {
                self.receivers.resize_with(index + 1, ReceiveSlot::default);
            }
            self.receivers[index].inbound = Inbound::Dialling;
            if self.drain == Drain::Running {
                self.run_race(key);
            } else {
                self.fail_dial(key, DialError::NoRoom);
            }
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
        self.begin_upgrade(key);
        self.flush(key);
        self.settle(key);
        self.shared.mark_ready(key);
    }

    fn begin_upgrade(&mut self, key: Key) {
        let keys = &mut self.shared.pools.masking_keys;
        let mut nonce = [0; 16];
        for part in nonce.chunks_mut(4) {
            part.copy_from_slice(&keys.next_key().to_bytes());
        }
        let Some(dialling) = self.shared.dialling(key) else { return };
        let settings = &dialling.settings;
        let mut request = settings.request.clone();
        if let Some(offer) = settings.config.offer() {
            request = request.with_offer(&offer);
        }
        self.scratch.clear();
        request.write(nonce, &mut self.scratch);
        let limits = HeadLimits {
            head_bytes_max: settings.handshake.head_bytes_max,
            fields_max: settings.handshake.fields_max,
            target_bytes_max: settings.handshake.target_bytes_max,
        };
        let scanner = HeadScanner::response();
        let upgrade = Box::new(Upgrade { request, nonce, scanner, limits });
        let timeout = settings.timeouts.upgrade;
        self.enter_stage(key, Stage::Upgrade(upgrade), timeout);
        self.push_request(key);
    }

    fn enter_stage(&mut self, key: Key, stage: Stage, timeout: Duration) {
        let deadline = after(self.shared.now, timeout);
        if let Some(dialling) = self.shared.dialling(key) {
            dialling.stage = stage;
            dialling.deadline = deadline;
            self.hasten(key);
        }
    }

    /// Queues what stands in the scratch buffer.
    fn push_request(&mut self, key: Key) {
        let Some(slot) = self.shared.slots.get_mut(key) else { return };
        let Phase::Dialling(dialling) = &mut slot.phase else { return };
        let pool = &mut self.shared.pools.outbox;
        if dialling.outbox.push(pool, &self.scratch, &[]).is_err() {
            self.shared.counters.pool_exhausted += 1;
            self.fail_dial(key, DialError::NoRoom);
        }
    }

    /// Looks at what a server has answered. Says how many bytes are done with; `None` while more
    /// has to come.
    pub(in crate::reactor) fn handle_dial_input(
        &mut self,
        key: Key,
        bytes: &[u8],
    ) -> Option<usize> {
        let dialling = self.shared.dialling(key)?;
        match &mut dialling.stage {
            Stage::Upgrade(upgrade) => {
                let scanned = upgrade.scanner.scan(bytes, &upgrade.limits);
                match scanned {
                    Ok(None) => return None,
                    Ok(Some(head_bytes)) => {
                        self.handle_answer(key, &bytes[..head_bytes]);
                        return Some(head_bytes);
                    }
                    Err(error) => self.fail_dial(key, DialError::Handshake(error.into())),
                }
            }
            Stage::Refused(refusing) => {
                if refusing.handle_input(bytes) == Body::Complete {
                    self.tell_refused(key);
                }
            }
            Stage::Noted(_) | Stage::Connecting(_) => {}
        }
        Some(bytes.len())
    }

    /// A whole head has come.
    fn handle_answer(&mut self, key: Key, head: &[u8]) {
        let mut storage = FieldStorage::new();
        let Some(slot) = self.shared.slots.get_mut(key) else { return };
        let Phase::Dialling(dialling) = &mut slot.phase else { return };
        let Stage::Upgrade(upgrade) = &mut dialling.stage else { return };
        let parsed = parse_response(head, &mut storage).map_err(ClientHandshakeError::from);
        let answer = match &parsed {
            Ok(head) if head.status == 101 => upgrade.conclude(&dialling.settings, head),
            Ok(head) if (100..200).contains(&head.status) => Ok(Answer::Informational),
            Ok(head) => Ok(Answer::Other(Refusing::new(head))),
            Err(error) => Err(DialError::Handshake(*error)),
        };
        match (answer, parsed) {
            (Ok(Answer::Switched { negotiated, compression }), Ok(parsed)) => {
                let id = ConnectionId::new(self.shared.shard, key);
                let told = parsed;
                self.call_loop(|handler, at| handler.on_answer(at, id, &told));
                self.open_dialled(key, negotiated, compression);
            }
            (Ok(Answer::Informational), _) => {
                upgrade.scanner = HeadScanner::response();
                let head_bytes = head.len() as u32;
                upgrade.limits.head_bytes_max =
                    upgrade.limits.head_bytes_max.saturating_sub(head_bytes);
            }
            (Ok(Answer::Other(mut refusing)), _) => {
                let body = refusing.handle_input(&[]);
                dialling.stage = Stage::Refused(refusing);
                if body == Body::Complete {
                    self.tell_refused(key);
                }
            }
            (Err(error), _) => self.fail_dial(key, error),
            (Ok(Answer::Switched { .. }), Err(_)) => {
                unreachable!("what could not be parsed switches nothing")
            }
        }
    }

    /// The WebSocket opens.
    fn open_dialled(&mut self, key: Key, negotiated: Negotiated, compression: Option<Agreement>) {
        let Some(slot) = self.shared.slots.get_mut(key) else { return };
        let Phase::Dialling(dialling) = &mut slot.phase else { return };
        let outbox = std::mem::take(&mut dialling.outbox);
        let data = std::mem::take(&mut dialling.data);
        let config = self.shared.configs.get(slot.config);
        let (deflate, inflate) =
            compression.map(|agreement| compression_keys(&agreement, config.role)).unzip();
        let sender = Sender::new(outbox, config, self.shared.moment).with_deflate(deflate);
        slot.phase = Phase::Open { sender, data };
        if negotiated != Negotiated::default() {
            self.shared.negotiated.insert(key.index, negotiated);
        }
        self.receivers[key.index as usize].inbound = Inbound::Open(Receiver::new(inflate));
        self.shared.counters.handshakes_completed += 1;
        self.shared.dialled_open += 1;
        self.hasten(key);
        self.call(key, |handler, ctx| handler.on_open(ctx));
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
        self.fail_dial(key, DialError::Io { phase, error });
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
                Stage::Noted(_) | Stage::Connecting(_) | Stage::Upgrade(_) => {
                    let phase = dialling.phase();
                    self.fail_dial(key, DialError::TimedOut(phase));
                }
            }
        }
    }

    /// Draws the consequences of what was read and written.
    pub(in crate::reactor) fn settle_dial(&mut self, key: Key, write_error: Option<io::ErrorKind>) {
        let Some(dialling) = self.shared.dialling(key) else { return };
        if dialling.fate == Fate::GivenUp {
            self.fail_dial(key, DialError::Aborted);
        } else if let Some(error) = write_error {
            // The answer may have come in front of a reset: it says more.
            self.hear_dial_out(key);
            self.fail_dial_with(key, error.into());
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

    fn tell_refused(&mut self, key: Key) {
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

impl<D> Shared<D> {
    fn dialling(&mut self, key: Key) -> Option<&mut Dialling<D>> {
        match &mut self.slots.get_mut(key)?.phase {
            Phase::Dialling(dialling) => Some(dialling),
            Phase::Http(_)
            | Phase::Open { .. }
            | Phase::Closed { .. }
            | Phase::Parting { .. }
            | Phase::Ended => None,
        }
    }
}

impl Upgrade {
    /// What was agreed on.
    fn conclude(
        &self,
        settings: &DialSettings,
        head: &crate::http::ResponseHead<'_>,
    ) -> Result<Answer, DialError> {
        let expectation = self.request.expectation(self.nonce);
        let mut negotiated = verify(head, &expectation).map_err(DialError::Handshake)?;
        let compression = settings.config.conclude(&mut negotiated)?;
        Ok(Answer::Switched { negotiated, compression })
    }
}

/// No network has a socket of this name.
pub(in crate::reactor) const NO_SOCKET: NetKey = NetKey(u32::MAX);
