//! The application: three clients that stream and a pool with its users, on one loop.

use std::any::Any;
use std::time::{Duration, Instant};

use corewire::{
    Client, ClientBuilder, ClientHandler, ClientId, ClientState, Clients, CloseSummary,
    ConnectionId, Context, DialError, Heartbeat, LeakReport, Lease, LeaseTicket, Loop, Message,
    Owner, PeerAddress, Pool, PoolError, PoolStats, Proof, StopReason, TimerId, Undecodable,
    Unsent,
};

use crate::disturber::{BackEnd, Notice};
use crate::ledger::{GREETING, Ledger, Side};
use crate::recovery::Recovery;
use crate::rng::Rng;
use crate::stream::Stream;
use crate::workers::Workers;

/// How often everybody sends.
const TICK: Duration = Duration::from_millis(5);
/// Messages of each client in a tick.
const MESSAGES_PER_TICK: usize = 3;
/// The back end whose client has its messages wait for others.
const BATCHED: usize = 0;
const WORKERS: usize = 16;
const POOL_MIN: u32 = 6;
/// Fewer than there are users.
const POOL_MAX: u32 = 12;
const CAP: Duration = Duration::from_millis(500);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(1);
/// From the moment at which a back end can be used to the first answer of it: the longest delay
/// between two tries, and what a dial may take. A dial that is under way at that moment costs
/// nothing: it was reset with the one that was killed, or is answered by the one that goes on.
pub const RECOVERY_BOUND: Duration =
    CAP.saturating_add(CONNECT_TIMEOUT).saturating_add(UPGRADE_TIMEOUT);
/// Time for all to be proven, and for all to close, once nothing is disturbed any more.
const SETTLING_TIME: Duration = Duration::from_secs(10);
/// One message of so many is large: together more than the kernel holds in the time in which a
/// connection is found dead.
const LARGE_ONE_IN: usize = 30;
const LARGE_BYTES: usize = 64 * 1024;
const SEND_BUFFER_BYTES: usize = 16 * 1024;

/// What is kept for a connection.
#[derive(Default)]
pub struct Data {
    /// Its place in the ledger.
    pub record: Option<usize>,
    back_end: usize,
    opened_at: Option<Instant>,
}

pub struct Load {
    /// Names and ports.
    back_ends: Vec<(String, u16)>,
    streams: Vec<Stream>,
    pub workers: Workers,
    pub ledger: Ledger,
    pub recoveries: Vec<Recovery>,
    pub pool_stats: PoolStats,
    rng: Rng,
    padding: String,
    phase: Phase,
    dials_failed: u64,
    /// The first thing that was not as it should be.
    pub complaint: Option<String>,
}

/// ```text
///   Loading ──► Settling ──► Leaving ──► Gone
///     all back ends    all is     all connections
///     are calm         proven     have closed
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Loading,
    Settling { until: Instant },
    Leaving { until: Instant },
    Gone,
}

impl Load {
    pub fn new(clients: &mut Clients, back_ends: &[BackEnd], seed: u64) -> Self {
        let to = |back_end: &BackEnd| builder(back_end.port).build().expect("the settings can be");
        let mut pool = Pool::builder().min(POOL_MIN).max(POOL_MAX).settings(|pool| {
            pool.redial_delay = CAP / 8;
            pool.redial_delay_max = CAP;
            pool.check_after = Duration::from_millis(300);
            pool.pong_timeout = Duration::from_millis(300);
            // Sooner than the heartbeat finds a connection dead.
            pool.leak_after = Duration::from_millis(400);
            pool.revoke_after = Duration::from_millis(700);
            pool.dial_patience = Duration::from_millis(300);
        });
        for back_end in back_ends {
            pool = pool.endpoint(to(back_end));
        }
        let pool = clients.add_pool(pool.build().expect("the settings can be"));
        let streams = back_ends.iter().enumerate().map(|(index, back_end)| {
            let settings = match index {
                BATCHED => builder(back_end.port).batch(|_| {}).build(),
                _ => builder(back_end.port).build(),
            };
            Stream::new(clients.add(settings.expect("the settings can be")), index)
        });
        Self {
            streams: streams.collect(),
            back_ends: back_ends.iter().map(|one| (one.name.clone(), one.port)).collect(),
            workers: Workers::new(pool, WORKERS),
            ledger: Ledger::default(),
            recoveries: back_ends.iter().map(|_| Recovery::default()).collect(),
            pool_stats: PoolStats::default(),
            rng: Rng::new(seed),
            padding: "x".repeat(LARGE_BYTES),
            phase: Phase::Loading,
            dials_failed: 0,
            complaint: None,
        }
    }

    /// Goes on, or ends the run if something is not as it should be.
    fn note(&mut self, at: &Loop<'_, Data>, result: Result<(), String>) {
        if let Err(complaint) = result
            && self.complaint.is_none()
        {
            self.complaint = Some(complaint);
            let _ = at.handle().shutdown(Duration::ZERO);
        }
    }

    fn stream_of(&mut self, owner: Option<Owner>) -> Option<usize> {
        let Some(Owner::Client(id)) = owner else { return None };
        self.streams.iter().position(|stream| stream.id == id)
    }

    fn handle_tick(
        &mut self,
        at: &mut Loop<'_, Data>,
        clients: &mut Clients,
    ) -> Result<(), String> {
        let now = at.now();
        for stream in &mut self.streams {
            stream.settle(at, clients, &mut self.ledger)?;
        }
        self.workers.try_ended(at, clients)?;
        self.watch_pool(clients)?;
        for (recovery, (name, _)) in self.recoveries.iter().zip(&self.back_ends) {
            recovery.check(now, RECOVERY_BOUND).map_err(|error| format!("{name}: {error}"))?;
        }
        match self.phase {
            Phase::Loading if self.recoveries.iter().all(|recovery| recovery.is_calm) => {
                self.phase = Phase::Settling { until: now + SETTLING_TIME };
            }
            Phase::Loading => self.send(at, clients)?,
            Phase::Settling { until } => match self.unsettled(at, clients) {
                None => {
                    self.leave(at, clients)?;
                    self.phase = Phase::Leaving { until: now + SETTLING_TIME };
                }
                Some(what) if now > until => return Err(format!("at the end: {what}")),
                Some(_) => {}
            },
            Phase::Leaving { until } => {
                let sides = [Side::Stream, Side::Pool];
                let standing: usize = sides.map(|side| self.ledger.standing(side)).iter().sum();
                if standing == 0 && clients.pool_stats(self.workers.pool).is_none() {
                    self.phase = Phase::Gone;
                    let _ = at.handle().shutdown(Duration::from_secs(1));
                    return Ok(());
                }
                if now > until {
                    return Err(format!("{standing} connections do not close"));
                }
            }
            Phase::Gone => return Ok(()),
        }
        at.set_timer(now + TICK, 0);
        Ok(())
    }

    fn send(&mut self, at: &mut Loop<'_, Data>, clients: &mut Clients) -> Result<(), String> {
        let Self { streams, ledger, rng, padding, workers, .. } = self;
        let mut payload = || {
            let bytes = if rng.one_in(LARGE_ONE_IN) { LARGE_BYTES } else { rng.below(500) };
            &padding[..bytes]
        };
        for stream in streams {
            for _ in 0..MESSAGES_PER_TICK {
                stream.send(at, clients, ledger, payload())?;
            }
        }
        workers.begin(at, clients, ledger, payload())
    }

    fn watch_pool(&mut self, clients: &Clients) -> Result<(), String> {
        let Some(stats) = clients.pool_stats(self.workers.pool) else { return Ok(()) };
        let (size, standing) = (stats.size(), self.ledger.standing(Side::Pool));
        self.pool_stats = stats;
        if size > POOL_MAX || standing > POOL_MAX as usize {
            return Err(format!("the pool has {size} connections, {standing} of them open"));
        }
        Ok(())
    }

    /// What there is still to wait for, once nothing is disturbed and nothing new is sent.
    fn unsettled(&self, at: &mut Loop<'_, Data>, clients: &Clients) -> Option<String> {
        if !self.workers.are_idle() {
            return Some("a lease or an answer is waited for".to_owned());
        }
        for (stream, recovery) in self.streams.iter().zip(&self.recoveries) {
            let state = clients.state(stream.id);
            if state != Some(ClientState::Connected) || !stream.is_dry() || !recovery.is_over() {
                return Some(format!("a client is {state:?}"));
            }
        }
        let connections: Vec<ConnectionId> = at.connections().collect();
        connections.into_iter().find_map(|id| match at.peer(id).delivery() {
            Some(Proof { unconfirmed_messages: 0, unsent_messages: 0, .. }) => None,
            proof => Some(format!("{id:?} has proven {proof:?}")),
        })
    }

    /// All is well and quiet: the last comparisons, and the ends of all connections.
    fn leave(&mut self, at: &mut Loop<'_, Data>, clients: &mut Clients) -> Result<(), String> {
        self.workers.compare(&self.pool_stats, &self.ledger)?;
        let mut dials_failed = 0;
        for stream in &mut self.streams {
            let stats = clients.stats(stream.id).ok_or("there is no such client any more")?;
            dials_failed += stats.dials_failed;
            if (stats.opened, stats.unsent) != (stream.opened, stream.reported) {
                return Err(format!(
                    "{} opened, {} unsent: {stats:?}",
                    stream.opened, stream.reported
                ));
            }
            clients.remove(stream.id);
        }
        if dials_failed != self.dials_failed {
            return Err(format!(
                "{dials_failed} dials have failed, {} were told",
                self.dials_failed
            ));
        }
        clients.shut_down_pool(at, self.workers.pool);
        Ok(())
    }

    fn handle_open(
        &mut self,
        ctx: &mut Context<'_, Data>,
        clients: &mut Clients,
    ) -> Result<(), String> {
        let Some(PeerAddress::Inet(address)) = ctx.here().address() else {
            return Err("a connection to nowhere".to_owned());
        };
        let back_end = self.back_ends.iter().position(|(_, port)| *port == address.port());
        let back_end = back_end.ok_or("a connection to somebody else")?;
        let stream = self.stream_of(clients.owner(ctx.id()));
        let side = if stream.is_some() { Side::Stream } else { Side::Pool };
        let (place, name) = self.ledger.open(side, back_end);
        let opened_at = Some(ctx.now());
        *ctx.data() = Data { record: Some(place), back_end, opened_at };
        if let Some(stream) = stream {
            let stream = &mut self.streams[stream];
            stream.opened += 1;
            if stream.record.replace(place).is_some() {
                return Err(format!("{name} is not the only connection of its client"));
            }
        }
        // Before anything that has waited.
        if ctx.send_text(&format!("{GREETING} {name}")).is_taken() {
            self.ledger.accept(place, GREETING)?;
        }
        self.watch_pool(clients)
    }

    fn handle_echo(
        &mut self,
        ctx: &mut Context<'_, Data>,
        clients: &mut Clients,
        number: u64,
    ) -> Result<(), String> {
        let now = ctx.now();
        let &mut Data { record, back_end, opened_at } = ctx.data();
        let (Some(record), Some(opened_at)) = (record, opened_at) else {
            return Err("a message before on_open".to_owned());
        };
        let connection = ctx.id();
        match self.stream_of(clients.owner(connection)) {
            Some(stream) => {
                self.streams[stream].settle(ctx, clients, &mut self.ledger)?;
                self.ledger.echo(record, number)?;
                self.recoveries[back_end].handle_echo(opened_at, now);
                Ok(())
            }
            None => {
                self.ledger.echo(record, number)?;
                self.workers.handle_echo(ctx, clients, connection, number)
            }
        }
    }

    fn handle_close(
        &mut self,
        ctx: &mut Context<'_, Data>,
        clients: &mut Clients,
        summary: &CloseSummary,
    ) -> Result<(), String> {
        let record = ctx.data().record.ok_or("on_close without on_open")?;
        let connection = ctx.id();
        match self.stream_of(clients.owner(connection)) {
            Some(stream) => {
                let stream = &mut self.streams[stream];
                stream.settle(ctx, clients, &mut self.ledger)?;
                stream.record = None;
            }
            None => self.workers.handle_close(connection),
        }
        self.ledger.close(record, summary)
    }
}

impl ClientHandler for Load {
    type Data = Data;

    fn on_start(&mut self, at: &mut Loop<'_, Data>, _: &mut Clients) {
        at.set_timer(at.now(), 0);
    }

    fn on_timer(&mut self, at: &mut Loop<'_, Data>, clients: &mut Clients, _: TimerId, _: u64) {
        let result = self.handle_tick(at, clients);
        self.note(at, result);
    }

    fn on_open(&mut self, ctx: &mut Context<'_, Data>, clients: &mut Clients) {
        let result = self.handle_open(ctx, clients);
        self.note(ctx, result);
    }

    fn on_message(
        &mut self,
        ctx: &mut Context<'_, Data>,
        clients: &mut Clients,
        message: Message<'_>,
    ) -> Result<(), Undecodable> {
        let Message::Text(text) = message else { return Err(Undecodable::new("not a text")) };
        let (number, _) = text.split_once(' ').ok_or(Undecodable::new("no number"))?;
        let result = self.handle_echo(ctx, clients, number.parse()?);
        self.note(ctx, result);
        Ok(())
    }

    fn on_undecodable(
        &mut self,
        ctx: &mut Context<'_, Data>,
        _: &mut Clients,
        _: Message<'_>,
        why: &Undecodable,
    ) {
        self.note(ctx, Err(format!("a message came back damaged: {why}")));
    }

    fn on_close(
        &mut self,
        ctx: &mut Context<'_, Data>,
        clients: &mut Clients,
        summary: &CloseSummary,
    ) {
        let result = self.handle_close(ctx, clients, summary);
        self.note(ctx, result);
    }

    fn on_dial_failed(
        &mut self,
        _: &mut Loop<'_, Data>,
        _: &mut Clients,
        owner: Owner,
        _: DialError,
    ) {
        match owner {
            Owner::Pool(..) => self.workers.tally.dials_failed += 1,
            _ => self.dials_failed += 1,
        }
    }

    fn on_unsent(
        &mut self,
        at: &mut Loop<'_, Data>,
        _: &mut Clients,
        owner: Owner,
        unsent: Unsent,
    ) {
        let text = String::from_utf8_lossy(&unsent.payload).into_owned();
        let number = text.split_once(' ').and_then(|(number, _)| number.parse().ok());
        let stream = self.streams.iter_mut().find(|stream| Owner::Client(stream.id) == owner);
        let result = match (stream, number) {
            (Some(stream), Some(number)) => stream.handle_unsent(&mut self.ledger, number),
            _ => Err(format!("{owner:?} has not sent {unsent:?}")),
        };
        self.note(at, result);
    }

    fn on_stop(
        &mut self,
        at: &mut Loop<'_, Data>,
        _: &mut Clients,
        id: ClientId,
        reason: StopReason,
    ) {
        if reason != StopReason::Stopped {
            self.note(at, Err(format!("{id:?} gave up: {reason:?}")));
        }
    }

    fn on_lease(
        &mut self,
        at: &mut Loop<'_, Data>,
        clients: &mut Clients,
        ticket: LeaseTicket,
        lease: Result<Lease, PoolError>,
    ) {
        let Self { workers, ledger, .. } = self;
        let result = workers.handle_lease(at, clients, ledger, ticket, lease);
        self.note(at, result);
    }

    fn on_leak(&mut self, at: &mut Loop<'_, Data>, clients: &mut Clients, report: &LeakReport) {
        let result = self.workers.handle_leak(at, clients, report);
        self.note(at, result);
    }

    fn on_notice(&mut self, at: &mut Loop<'_, Data>, _: &mut Clients, notice: Box<dyn Any + Send>) {
        let Ok(notice) = notice.downcast::<Notice>() else { return };
        let Notice { back_end, at: when, news } = *notice;
        let result = self.recoveries[back_end].handle_news(news, when, RECOVERY_BOUND);
        let name = &self.back_ends[back_end].0;
        let result = result.map_err(|error| format!("{name}: {error}"));
        self.note(at, result);
    }
}

/// How the clients and the pool call a back end.
fn builder(port: u16) -> ClientBuilder {
    Client::builder(&format!("ws://127.0.0.1:{port}/"))
        .reconnect(|reconnect| {
            (reconnect.base, reconnect.cap) = (CAP / 10, CAP);
            reconnect.stable_after = Duration::from_secs(1);
        })
        // Some outages are longer, and some have more to keep.
        .outage(|outage| {
            (outage.messages_max, outage.age_max) = (400, Duration::from_secs(1));
        })
        .timeouts(|timeouts| {
            (timeouts.connect, timeouts.upgrade) = (CONNECT_TIMEOUT, UPGRADE_TIMEOUT);
        })
        // Small, so that a back end that is stopped leaves something unsent.
        .sockets(|sockets| sockets.send_buffer_bytes = Some(SEND_BUFFER_BYTES))
        .config(|config| {
            let (ping_every, dead_after) = (Duration::from_millis(200), Duration::from_secs(1));
            config.heartbeat = Some(Heartbeat { ping_every, dead_after });
            config.close_timeout = Duration::from_millis(500);
        })
}
