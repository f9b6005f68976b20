//! The pool for programs without a loop: it has one on a thread of its own, and lends connections to
//! threads.
//!
//! ```text
//!   acquire() ──► orders ──► loop: Clients::acquire ──► a line for each lease
//!   send()    ──► its outgoing queue ──► loop: Clients::offer_leased ──► connection
//!   recv()    ◄──  its incoming queue ◄── loop: on_message           ◄──┘
//! ```

mod driver;
mod error;
mod line;
mod shared;

use std::fmt;
use std::hash::Hash;
use std::panic::Location;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::client::balance::{EndpointId, EndpointStats};
use crate::client::blocking::message::OwnedMessage;
use crate::client::blocking::queues::Telling;
use crate::client::blocking::waiting::{self, patience};
use crate::client::clients::Clients;
use crate::client::lease::Lease;
use crate::client::pool::{Outcome, Pool, PoolBuilder, PoolError, PoolStats, Site};
use crate::client::pools::{EndpointError, hash};
use crate::client::settings::ClientSettings;
use crate::http::WebSocketUri;
use crate::reactor::{Message, Wait};
use driver::{Driver, OnEvent};
use line::{Grant, Line};
use shared::{Asked, Order, Shared};

pub use driver::PoolEvent;
pub use error::{LeaseError, StartError};

/// A pool for threads: connections on a loop with a thread of its own, of which each is lent to one
/// user at a time. Clones are handles of the same pool.
///
/// ```no_run
/// use corewire::{Client, Message, Pool};
/// use std::time::Duration;
///
/// let to = Client::builder("ws://127.0.0.1:9001/").build()?;
/// let pool = Pool::builder().min(1).max(20).endpoint(to).start()?;
/// let lease = pool.acquire(Duration::from_secs(1))?;
/// lease.send(Message::Text("question"))?;
/// let answer = lease.recv_timeout(Duration::from_secs(1))?;
/// println!("{answer:?}");
/// drop(lease); // The connection is free for the next one.
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Who gets which connection
/// As with [`Clients::acquire`](crate::Clients::acquire): what is free at once; else those who wait
/// are served in their order, whichever thread they are in. Leases that are held for long are
/// reported with the line that has acquired them, and revoked later
/// ([`PoolSettings::leak_after`](crate::PoolSettings::leak_after)).
///
/// # The end
/// When the last handle is dropped nothing more is lent, and what is free is closed; leases go on.
/// The loop and its thread end when the last of them has come back. The drop waits a quarter of a
/// second at most for that, and so does the drop of the last lease. [`PoolHandle::shut_down`] is for
/// those who want to see the end.
///
/// Its calls wait for the loop, so none may be made in the callback for events.
#[derive(Clone)]
pub struct PoolHandle(Arc<LastHandle>);

/// When it is dropped, no handle is left.
struct LastHandle {
    shared: Arc<Shared>,
}

/// A connection that a pool has lent to this program: it can be used from several threads, and goes
/// back when it is dropped, as [`Outcome::Good`]; as [`Outcome::Broken`] if its thread panics, since
/// nobody knows then where the exchange stands.
///
/// Two [`Queues`](crate::Queues) stand between it and the loop, as the settings of its endpoint say.
/// When the outgoing one is full, sending blocks; when the incoming one is, the loop stops reading and
/// TCP holds the server back.
///
/// # What becomes of messages
/// They are sent in the order in which they were taken. What was taken is sent even if the lease is
/// given back before; nobody else has the connection until it has left this program's queue. If it
/// takes longer than [`close_timeout`](crate::Config::close_timeout), or the lease is given back as
/// broken, or the connection ends, each message that was not given to the connection comes back by
/// [`PoolEvent::Unsent`], and what that had taken and not handed to the kernel is counted by the
/// [`CloseSummary`](crate::CloseSummary).
///
/// What has come and was not received is dropped with the lease. If so much has come that the loop
/// has stopped reading, the connection goes as broken: the rest of it is on its way, and not meant
/// for the next user. A message that comes while nobody has leased the connection is dropped too, and
/// counted in [`PoolStats::undecodable`] and as an error of the connection.
#[must_use = "it goes back at once when it is dropped"]
pub struct PooledClient {
    shared: Arc<Shared>,
    line: Arc<Line>,
    grant: Grant,
}

impl Pool {
    /// Starts the pool: a loop on a thread of its own, which begins to connect in the background.
    ///
    /// # Errors
    /// [`StartError::Loop`].
    pub fn start(&self) -> Result<PoolHandle, StartError> {
        self.start_with(|_| {})
    }

    /// The same, and has `on_event` told what happens to the pool, on the loop's thread. It must not
    /// block. A panic in it ends the pool.
    ///
    /// # Errors
    /// As [`Pool::start`].
    pub fn start_with(
        &self,
        on_event: impl FnMut(PoolEvent<'_>) + Send + 'static,
    ) -> Result<PoolHandle, StartError> {
        let builder = waiting::builder().map_err(StartError::Loop)?;
        let shared = Arc::new(Shared::new(builder.handle()));
        let make = {
            let (shared, on_event): (_, OnEvent) = (shared.clone(), Box::new(on_event));
            let mut pool = self.clone();
            pool.endpoints.iter_mut().for_each(|(to, _)| *to = to.for_threads());
            move |clients: &mut Clients| Driver::new(shared, clients.add_pool(pool), on_event)
        };
        let end = {
            let shared = shared.clone();
            move |cause| shared.end(cause)
        };
        waiting::spawn("corewire-pool", builder, make, end).map_err(StartError::Loop)?;
        Ok(PoolHandle(Arc::new(LastHandle { shared })))
    }
}

impl PoolBuilder {
    /// As [`PoolBuilder::build`] and [`Pool::start`].
    ///
    /// # Errors
    /// As both.
    pub fn start(self) -> Result<PoolHandle, StartError> {
        self.build()?.start()
    }
}

impl PoolHandle {
    /// Takes a connection; waits for one for so long at most.
    ///
    /// # Errors
    /// [`PoolError::Exhausted`] if none came free in time, [`PoolError::TooManyWaiting`],
    /// [`PoolError::ShutDown`], [`PoolError::LoopFailed`].
    #[track_caller]
    pub fn acquire(&self, timeout: Duration) -> Result<PooledClient, PoolError> {
        self.take(None, patience(timeout), Location::caller())
    }

    /// The same for a user who is to have the connection that he had before: as long as it lives, and
    /// unless somebody else has it now.
    ///
    /// # Errors
    /// As [`PoolHandle::acquire`].
    #[track_caller]
    pub fn acquire_for(
        &self,
        user: impl Hash,
        timeout: Duration,
    ) -> Result<PooledClient, PoolError> {
        self.take(Some(hash(user)), patience(timeout), Location::caller())
    }

    /// Takes a connection if one is free. If not, one is made ready.
    ///
    /// # Errors
    /// As [`PoolHandle::acquire`].
    #[track_caller]
    pub fn try_acquire(&self) -> Result<PooledClient, PoolError> {
        self.take(None, Wait::No, Location::caller())
    }

    /// The same for a user.
    ///
    /// # Errors
    /// As [`PoolHandle::acquire`].
    #[track_caller]
    pub fn try_acquire_for(&self, user: impl Hash) -> Result<PooledClient, PoolError> {
        self.take(Some(hash(user)), Wait::No, Location::caller())
    }

    fn take(&self, user: Option<u64>, until: Wait, site: Site) -> Result<PooledClient, PoolError> {
        let shared = self.shared();
        let (line, loop_end) = Line::new();
        shared.acquire(Asked { line: loop_end, user, until, site });
        match line.granted() {
            Ok(grant) => Ok(PooledClient { shared: shared.clone(), line, grant }),
            Err(error) => {
                shared.leave();
                Err(error)
            }
        }
    }

    /// What the pool holds and has done; of one that has ended, as it was then. Of one whose loop has
    /// failed nothing is known.
    pub fn stats(&self) -> PoolStats {
        let stats = self.shared().ask(|_, clients, pool| clients.pool_stats(pool));
        stats.flatten().unwrap_or_else(|| self.shared().last_stats())
    }

    /// The endpoints, and what is known of them; those that leave included, until the last lease has
    /// run out.
    pub fn endpoints(&self) -> Vec<(EndpointId, EndpointStats)> {
        self.shared().ask(|_, clients, pool| clients.endpoints(pool)).unwrap_or_default()
    }

    /// Adds an endpoint, or changes the weight of the one with this URL.
    ///
    /// # Errors
    /// [`EndpointError::NoPool`] if the pool has ended, [`EndpointError::TooMany`].
    pub fn add_endpoint(
        &self,
        settings: &ClientSettings,
        weight: u32,
    ) -> Result<EndpointId, EndpointError> {
        let settings = settings.for_threads();
        let added = self
            .shared()
            .ask(move |at, clients, pool| clients.add_endpoint(at, pool, &settings, weight));
        added.unwrap_or(Err(EndpointError::NoPool))
    }

    /// Gives an endpoint no new connections; what is leased there runs out.
    pub fn drain_endpoint(&self, id: EndpointId) {
        self.shared().ask(move |at, clients, pool| clients.drain_endpoint(at, pool, id));
    }

    /// Takes an endpoint out; what is leased there is revoked.
    pub fn remove_endpoint(&self, id: EndpointId) {
        self.shared().ask(move |at, clients, pool| clients.remove_endpoint(at, pool, id));
    }

    /// Ends the pool, and waits until its loop has ended. Who waits for a connection gets
    /// [`PoolError::ShutDown`], what is free is closed. Leases have until the `deadline` to come back,
    /// then they are revoked; servers have a second more to answer the Close.
    ///
    /// # Errors
    /// [`PoolError::LoopFailed`].
    pub fn shut_down(&self, deadline: Duration) -> Result<(), PoolError> {
        self.shared().shut_down(patience(deadline))
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }
}

impl PooledClient {
    /// Sends a message; blocks while the outgoing queue is full.
    ///
    /// # Errors
    /// [`LeaseError`], if the lease is over.
    pub fn send(&self, message: Message<'_>) -> Result<(), LeaseError> {
        self.send_by(message, Wait::Forever)
    }

    /// The same without blocking.
    ///
    /// # Errors
    /// [`LeaseError::Full`], or the lease is over.
    pub fn try_send(&self, message: Message<'_>) -> Result<(), LeaseError> {
        self.send_by(message, Wait::No)
    }

    /// The same, and blocks for so long at most.
    ///
    /// # Errors
    /// [`LeaseError::Full`], or the lease is over.
    pub fn send_timeout(&self, message: Message<'_>, timeout: Duration) -> Result<(), LeaseError> {
        self.send_by(message, patience(timeout))
    }

    fn send_by(&self, message: Message<'_>, patience: Wait) -> Result<(), LeaseError> {
        let telling = self.line.send(message.into(), patience)?;
        self.tell(telling);
        Ok(())
    }

    /// Receives a message; blocks until there is one. What has come before the end comes before the
    /// end.
    ///
    /// # Errors
    /// [`LeaseError`]: the lease is over.
    pub fn recv(&self) -> Result<OwnedMessage, LeaseError> {
        loop {
            if let Some(message) = self.receive(Wait::Forever)? {
                return Ok(message);
            }
        }
    }

    /// The same, and blocks for so long at most: `None` if none has come.
    ///
    /// # Errors
    /// As [`PooledClient::recv`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<OwnedMessage>, LeaseError> {
        self.receive(patience(timeout))
    }

    /// The same without blocking: `None` if there is none now.
    ///
    /// # Errors
    /// As [`PooledClient::recv`].
    pub fn try_recv(&self) -> Result<Option<OwnedMessage>, LeaseError> {
        self.receive(Wait::No)
    }

    fn receive(&self, patience: Wait) -> Result<Option<OwnedMessage>, LeaseError> {
        let received = self.line.receive(patience)?;
        Ok(received.map(|(message, telling)| {
            self.tell(telling);
            message
        }))
    }

    /// Waits until everything that was sent was handed to the kernel, for so long at most. Over TLS a
    /// record of it may still be on its way there.
    ///
    /// # Errors
    /// [`LeaseError::TimedOut`], after which it goes on being sent; [`LeaseError::Unsent`]; or the
    /// lease has ended before.
    pub fn flush(&self, timeout: Duration) -> Result<(), LeaseError> {
        self.line.flush(patience(timeout), || self.tell(Telling::Needed))
    }

    /// Gives the connection back, and says how its use went.
    ///
    /// # Errors
    /// [`LeaseError`] if the lease was over before.
    pub fn release(self, outcome: Outcome) -> Result<(), LeaseError> {
        self.line.give_back(outcome)
    }

    /// Why the lease is over; `None` while it is not.
    pub fn end(&self) -> Option<LeaseError> {
        self.line.end()
    }

    /// The endpoint that the connection leads to.
    pub fn endpoint(&self) -> EndpointId {
        self.grant.endpoint
    }

    /// Its URL.
    pub fn uri(&self) -> &WebSocketUri {
        self.grant.settings.uri()
    }

    /// The subprotocol that was agreed on.
    pub fn subprotocol(&self) -> Option<&str> {
        self.grant.subprotocol.as_deref()
    }

    fn lease(&self) -> Lease {
        self.grant.lease
    }

    fn tell(&self, telling: Telling) {
        if telling == Telling::Needed {
            self.shared.order(Order::Look(self.lease()));
        }
    }
}

impl Drop for LastHandle {
    fn drop(&mut self) {
        self.shared.abandon();
    }
}

impl Drop for PooledClient {
    fn drop(&mut self) {
        let outcome = if thread::panicking() { Outcome::Broken } else { Outcome::Good };
        // It may be over, or given back already.
        let _ = self.line.give_back(outcome);
        self.tell(Telling::Needed);
        self.shared.leave();
    }
}

impl fmt::Debug for PoolHandle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("PoolHandle").finish_non_exhaustive()
    }
}

impl fmt::Debug for PooledClient {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("PooledClient").field("uri", self.uri()).finish_non_exhaustive()
    }
}
