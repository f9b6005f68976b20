//! The pools of a loop, as callbacks see them.

use std::error::Error;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::Location;
use std::time::Duration;

use super::balance::{EndpointId, EndpointStats};
use super::calling::Submitted;
use super::clients::{Clients, Holder, Party};
use super::lease::{Acquired, Lease, LeaseTicket};
use super::outlet::{FlowStats, Urgency};
use super::pool::{self, Outcome, Pool, PoolError, PoolStats, Site, Wanted};
use super::pooling::Pooling;
use super::roll::Name;
use super::settings::ClientSettings;
use crate::limits::ENDPOINTS_MAX;
use crate::reactor::{ConnectionId, Loop, Message, Peer};

/// The name of a pool of a loop. A stale one is a miss, never another pool; so is one of another loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolId(pub(super) Name);

/// A pool of a loop.
pub(super) enum PoolSlot {
    /// The loop has not come to it.
    Fresh(Box<Pool>),
    Running(Box<Pooling>),
}

impl Clients {
    /// Adds a pool, which begins to connect: before this turn ends, or in the first one of a loop
    /// that has not turned yet.
    ///
    /// # Panics
    /// With four billion pools.
    pub fn add_pool(&mut self, pool: Pool) -> PoolId {
        let inserted = self.pools.insert(PoolSlot::Fresh(Box::new(pool)));
        let id = PoolId(inserted.unwrap_or_else(|_| panic!("four billion pools")));
        self.note_busy(Party::Pool(id));
        id
    }

    /// Takes a connection of a pool: at once if one is free, else as soon as one is, told by
    /// [`on_lease`](super::ClientHandler::on_lease) in the order of those who wait.
    ///
    /// ```no_run
    /// # use corewire::{Acquired, Clients, Context, Message, PoolError, PoolId};
    /// # use std::time::Duration;
    /// # fn ask(ctx: &mut Context<'_, ()>, clients: &mut Clients, pool: PoolId) -> Result<(), PoolError> {
    /// match clients.acquire(ctx, pool, Duration::from_secs(1))? {
    ///     Acquired::Now(lease) => {
    ///         let _ = clients.peer(ctx, lease)?.send(Message::Text("question"));
    ///         // When the answer has come: clients.release(ctx, lease, Outcome::Good)
    ///     }
    ///     Acquired::Later(_ticket) => {}
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`PoolError::TooManyWaiting`]; [`PoolError::ShutDown`], also if there is no such pool.
    /// [`PoolError::Exhausted`] comes by `on_lease`.
    #[track_caller]
    pub fn acquire<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        pool: PoolId,
        timeout: Duration,
    ) -> Result<Acquired, PoolError> {
        let wanted = Wanted { user: None, timeout, site: Location::caller() };
        self.acquire_wanted(at, pool, wanted)
    }

    /// The same for a user who is to have the connection that he had before: as long as it lives,
    /// and unless somebody else has it now.
    ///
    /// # Errors
    /// As [`Clients::acquire`].
    #[track_caller]
    pub fn acquire_for<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        pool: PoolId,
        user: impl Hash,
        timeout: Duration,
    ) -> Result<Acquired, PoolError> {
        let wanted = Wanted { user: Some(hash(user)), timeout, site: Location::caller() };
        self.acquire_wanted(at, pool, wanted)
    }

    /// Takes a connection of a pool if one is free. If not, one is made ready.
    ///
    /// # Errors
    /// [`PoolError::Exhausted`] if none is free, [`PoolError::ShutDown`].
    #[track_caller]
    pub fn try_acquire<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        pool: PoolId,
    ) -> Result<Lease, PoolError> {
        self.try_acquire_wanted(at, pool, None, Location::caller())
    }

    /// The same for a user, as with [`Clients::acquire_for`].
    ///
    /// # Errors
    /// As [`Clients::try_acquire`].
    #[track_caller]
    pub fn try_acquire_for<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        pool: PoolId,
        user: impl Hash,
    ) -> Result<Lease, PoolError> {
        self.try_acquire_wanted(at, pool, Some(hash(user)), Location::caller())
    }

    pub(super) fn try_acquire_wanted<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        pool: PoolId,
        user: Option<u64>,
        site: Site,
    ) -> Result<Lease, PoolError> {
        let now = at.now();
        self.note_busy(Party::Pool(pool));
        loop {
            let pooling = self.running(at, pool).ok_or(PoolError::ShutDown)?;
            let lease = Lease { pool, inner: pooling.try_acquire(user, site, now)? };
            if self.is_fit(at, lease) {
                return Ok(lease);
            }
        }
    }

    pub(super) fn acquire_wanted<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        pool: PoolId,
        wanted: Wanted,
    ) -> Result<Acquired, PoolError> {
        let now = at.now();
        self.note_busy(Party::Pool(pool));
        loop {
            let pooling = self.running(at, pool).ok_or(PoolError::ShutDown)?;
            let inner = match pooling.acquire(wanted, now)? {
                pool::Acquired::Now(inner) => inner,
                pool::Acquired::Later(inner) => {
                    return Ok(Acquired::Later(LeaseTicket { pool, inner }));
                }
            };
            let lease = Lease { pool, inner };
            if self.is_fit(at, lease) {
                return Ok(Acquired::Now(lease));
            }
        }
    }

    /// Whether the connection of a lease that was given just now is good. One whose closing has begun
    /// goes, though its end was not told yet.
    fn is_fit<D>(&mut self, at: &mut Loop<'_, D>, lease: Lease) -> bool {
        let is_open = self.leased(lease).is_ok_and(|id| at.peer(id).is_open());
        if !is_open && let Some(pooling) = self.running(at, lease.pool) {
            let now = at.now();
            pooling.take_back(lease.inner, now);
        }
        is_open
    }

    /// Gives a connection back.
    ///
    /// # Errors
    /// [`PoolError::Revoked`] if the lease is over already.
    pub fn release<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        lease: Lease,
        outcome: Outcome,
    ) -> Result<(), PoolError> {
        let now = at.now();
        // One that is closing is good for nobody, whoever has closed it.
        let is_open = at.peer(self.leased(lease)?).is_open();
        let outcome = if is_open { outcome } else { Outcome::Broken };
        let pooling = self.running(at, lease.pool).ok_or(PoolError::Revoked)?;
        let released = pooling.release(lease.inner, outcome, now);
        self.note_busy(Party::Pool(lease.pool));
        released
    }

    /// Gives a place in the line up. Says whether it was still one; if not, its lease has come by
    /// [`on_lease`](super::ClientHandler::on_lease), or is about to.
    pub fn cancel<D>(&mut self, at: &mut Loop<'_, D>, ticket: LeaseTicket) -> bool {
        let now = at.now();
        let Some(pooling) = self.running(at, ticket.pool) else { return false };
        let cancelled = pooling.cancel(ticket.inner, now);
        self.note_busy(Party::Pool(ticket.pool));
        cancelled.is_some()
    }

    /// Sends a message by a leased connection: past its rate and that of the pool, and with others of
    /// its batch, if the endpoint's settings say so.
    ///
    /// # Errors
    /// [`PoolError::Revoked`] if the lease is over.
    pub fn send_leased<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        lease: Lease,
        message: Message<'_>,
    ) -> Result<Submitted, PoolError> {
        self.submit_leased(at, lease, |pooling, at| {
            pooling.send(at, lease.inner, message, Urgency::MayWait)
        })
    }

    /// The same for a message that must not wait for others: those that wait for their batch leave
    /// in front of it, and it with them.
    ///
    /// # Errors
    /// [`PoolError::Revoked`] if the lease is over.
    pub fn send_leased_now<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        lease: Lease,
        message: Message<'_>,
    ) -> Result<Submitted, PoolError> {
        self.submit_leased(at, lease, |pooling, at| {
            pooling.send(at, lease.inner, message, Urgency::Now)
        })
    }

    /// As [`Clients::send_leased`], for messages that can wait: takes one only if no more than
    /// [`high_water_bytes`](crate::ConnectionLimits::high_water_bytes) are unsent and it may wait for
    /// the [rate](super::Rate). If it says [`Submitted::NotYet`], offer it again in
    /// [`on_drain`](super::ClientHandler::on_drain) and
    /// [`on_lease_room`](super::ClientHandler::on_lease_room): one of them is sure to follow, or the
    /// connection's end.
    ///
    /// # Errors
    /// [`PoolError::Revoked`] if the lease is over.
    pub fn offer_leased<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        lease: Lease,
        message: Message<'_>,
    ) -> Result<Submitted, PoolError> {
        self.submit_leased(at, lease, |pooling, at| pooling.offer(at, lease.inner, message))
    }

    fn submit_leased<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        lease: Lease,
        submit: impl FnOnce(&mut Pooling, &mut Loop<'_, D>) -> Result<Submitted, PoolError>,
    ) -> Result<Submitted, PoolError> {
        let pooling = self.running(at, lease.pool).ok_or(PoolError::Revoked)?;
        let submitted = submit(pooling, at)?;
        if !matches!(submitted, Submitted::Given(_)) {
            self.note_busy(Party::Pool(lease.pool));
        }
        Ok(submitted)
    }

    /// Offers to the kernel what was sent by a leased connection, and what waits for its batch. Says
    /// whether nothing is left. If there is something left, callbacks follow as with
    /// [`Clients::offer_leased`].
    ///
    /// # Errors
    /// [`PoolError::Revoked`] if the lease is over.
    pub fn flush_leased<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        lease: Lease,
    ) -> Result<bool, PoolError> {
        self.note_busy(Party::Pool(lease.pool));
        let pooling = self.running(at, lease.pool).ok_or(PoolError::Revoked)?;
        pooling.hand_over(at, lease.inner)
    }

    /// What went through a leased connection's batches and rate, whoever had leased it, and how long
    /// what is queued will take.
    ///
    /// # Errors
    /// [`PoolError::Revoked`] if the lease is over.
    pub fn flow_leased<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        lease: Lease,
    ) -> Result<FlowStats, PoolError> {
        let pooling = self.running(at, lease.pool).ok_or(PoolError::Revoked)?;
        pooling.flow(at, lease.inner)
    }

    /// The connection of a lease, to be sent to past all batches and rates.
    ///
    /// # Errors
    /// [`PoolError::Revoked`] if the lease is over.
    pub fn peer<'a, D>(
        &self,
        at: &'a mut Loop<'_, D>,
        lease: Lease,
    ) -> Result<Peer<'a, D>, PoolError> {
        Ok(at.peer(self.leased(lease)?))
    }

    /// The name of a lease's connection.
    ///
    /// # Errors
    /// [`PoolError::Revoked`] if the lease is over.
    pub fn leased(&self, lease: Lease) -> Result<ConnectionId, PoolError> {
        self.begun(lease.pool).ok_or(PoolError::Revoked)?.connection(lease.inner)
    }

    /// The endpoint that a lease's connection leads to.
    ///
    /// # Errors
    /// [`PoolError::Revoked`] if the lease is over.
    pub fn endpoint_of(&self, lease: Lease) -> Result<EndpointId, PoolError> {
        self.way_of(lease).map(|(endpoint, _)| endpoint)
    }

    /// The same, and how its connections are made.
    pub(super) fn way_of(&self, lease: Lease) -> Result<(EndpointId, &ClientSettings), PoolError> {
        self.begun(lease.pool).ok_or(PoolError::Revoked)?.way_of(lease.inner)
    }

    /// The lease that a pool's connection is used by; `None` if it is free, or none of a pool. In
    /// its [`on_close`](super::ClientHandler::on_close) it is the one that has ended with it.
    pub fn lease_of(&self, id: ConnectionId) -> Option<Lease> {
        if let Some((_, lease)) = self.ended.filter(|(ended, _)| *ended == id) {
            return Some(lease);
        }
        let Some(Holder::Member(pool, _, member)) = self.holder(id) else { return None };
        self.begun(pool)?.lease_of(member).map(|inner| Lease { pool, inner })
    }

    /// Adds an endpoint to a pool, or changes the weight of the one with this URL.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub fn add_endpoint<D>(
        &mut self,
        at: &mut Loop<'_, D>,
        pool: PoolId,
        settings: &ClientSettings,
        weight: u32,
    ) -> Result<EndpointId, EndpointError> {
        let now = at.now();
        self.note_busy(Party::Pool(pool));
        let pooling = self.running(at, pool).ok_or(EndpointError::NoPool)?;
        pooling.add_endpoint(settings, weight, now).map_err(|_| EndpointError::TooMany)
    }

    /// Gives an endpoint of a pool no new connections; what is leased there runs out.
    pub fn drain_endpoint<D>(&mut self, at: &mut Loop<'_, D>, pool: PoolId, id: EndpointId) {
        let now = at.now();
        self.note_busy(Party::Pool(pool));
        if let Some(pooling) = self.running(at, pool) {
            pooling.drain_endpoint(id, now);
        }
    }

    /// Takes an endpoint out of a pool; what is leased there is revoked.
    pub fn remove_endpoint<D>(&mut self, at: &mut Loop<'_, D>, pool: PoolId, id: EndpointId) {
        let now = at.now();
        self.note_busy(Party::Pool(pool));
        if let Some(pooling) = self.running(at, pool) {
            pooling.remove_endpoint(id, now);
        }
    }

    /// The endpoints of a pool, and what is known of them; those that leave included, until the
    /// last lease has run out. None before the pool has begun.
    pub fn endpoints(&self, pool: PoolId) -> Vec<(EndpointId, EndpointStats)> {
        self.begun(pool).map(Pooling::endpoints).unwrap_or_default()
    }

    /// The URL of an endpoint, with its query, which may be a secret; `None` if it has left.
    pub fn endpoint_url(&self, pool: PoolId, id: EndpointId) -> Option<&str> {
        self.begun(pool)?.endpoint_url(id)
    }

    /// What a pool holds and has done; `None` if there is no such pool any more, or it has not begun.
    pub fn pool_stats(&self, pool: PoolId) -> Option<PoolStats> {
        self.begun(pool).map(Pooling::stats)
    }

    /// Ends a pool: who waits is told, free connections are closed, leased ones when they come back.
    pub fn shut_down_pool<D>(&mut self, at: &mut Loop<'_, D>, pool: PoolId) {
        let now = at.now();
        self.note_busy(Party::Pool(pool));
        if let Some(pooling) = self.running(at, pool) {
            pooling.shut_down(now);
        }
    }

    /// A pool that has begun already.
    fn begun(&self, id: PoolId) -> Option<&Pooling> {
        match self.pools.get(id.0)? {
            PoolSlot::Running(pooling) => Some(pooling),
            PoolSlot::Fresh(_) => None,
        }
    }

    /// A pool, which begins if it has not.
    pub(super) fn running<D>(&mut self, at: &mut Loop<'_, D>, id: PoolId) -> Option<&mut Pooling> {
        let slot = self.pools.get_mut(id.0)?;
        if let PoolSlot::Fresh(pool) = slot {
            let pooling = Pooling::new(pool, at.random(), at.now());
            let pooling =
                pooling.expect("a pool was not built with more endpoints than there may be");
            *slot = PoolSlot::Running(Box::new(pooling));
        }
        match slot {
            PoolSlot::Running(pooling) => Some(pooling),
            PoolSlot::Fresh(_) => None,
        }
    }
}

/// Why a pool was not given an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndpointError {
    /// There is no such pool, or none any more.
    NoPool,
    /// It has as many as it may, [`ENDPOINTS_MAX`]: those that leave included, until the last lease
    /// has run out.
    TooMany,
}

impl fmt::Display for EndpointError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPool => out.write_str("there is no such pool"),
            Self::TooMany => write!(out, "there are {ENDPOINTS_MAX} endpoints already"),
        }
    }
}

impl Error for EndpointError {}

/// What a pool knows a user by. Two of one hash share a connection, in turn.
pub(super) fn hash(user: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    user.hash(&mut hasher);
    hasher.finish()
}
