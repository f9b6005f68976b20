//! The loop's end of a pool for threads.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use super::error::LeaseError;
use super::line::{Grant, LoopEnd};
use super::shared::{Asked, Order, Shared, Wake};
use crate::client::blocking::message::OwnedMessage;
use crate::client::blocking::queues::{Hand, Reading, Telling};
use crate::client::blocking::waiting::FAREWELL;
use crate::client::clients::{Clients, Owner};
use crate::client::handler::{ClientHandler, Undecodable};
use crate::client::lease::{Acquired, LeakReport, LeakVerdict, Lease, LeaseTicket};
use crate::client::outage::{Unsent, UnsentReason};
use crate::client::pool::{Outcome, PoolError, Wanted};
use crate::client::pools::PoolId;
use crate::protocol::CloseSummary;
use crate::reactor::{ConnectionId, Context, DialError, Loop, Message, Peer, TimerId, Wait};

/// What happens to a pool between its leases.
#[non_exhaustive]
pub enum PoolEvent<'a> {
    /// A connection stands. What is sent by this goes before all that its users say; nobody
    /// receives an answer to it, unless he has leased the connection by then.
    Opened(Peer<'a, ()>),
    /// A connection is over: how, and how much of what was sent it has not handed to the kernel.
    Closed(&'a CloseSummary),
    /// A dial has failed.
    DialFailed(&'a DialError),
    /// A lease is held for long, or was and has been revoked.
    Leak(&'a LeakReport),
    /// A message that was taken is not sent.
    Unsent {
        /// As it was given.
        message: OwnedMessage,
        /// Why.
        reason: UnsentReason,
    },
}

/// What is called with each event, on the loop's thread.
pub(super) type OnEvent = Box<dyn FnMut(PoolEvent<'_>) + Send>;

/// The application of the loop.
pub(super) struct Driver {
    shared: Arc<Shared>,
    pool: PoolId,
    on_event: OnEvent,
    tickets: HashMap<LeaseTicket, Asked>,
    tenants: HashMap<Lease, Tenant>,
    /// Empty, between notices.
    orders: VecDeque<Order>,
    stage: Stage,
}

/// Who has a connection.
struct Tenant {
    connection: ConnectionId,
    line: LoopEnd,
    hand: Hand,
    stay: Stay,
}

/// Whether a tenant is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stay {
    Holds,
    /// He has given the connection back; what he has said is sent until this timer.
    Clears(TimerId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Running,
    /// What is leased may come back.
    Closing,
    /// The loop was told to end.
    Parting,
}

// What the timers are known by.
const CLEAR: u64 = 0;
const END: u64 = 1;

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, pool: PoolId, on_event: OnEvent) -> Self {
        Self {
            shared,
            pool,
            on_event,
            tickets: HashMap::new(),
            tenants: HashMap::new(),
            orders: VecDeque::new(),
            stage: Stage::Running,
        }
    }

    fn acquire(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients, asked: Asked) {
        let Asked { user, site, .. } = asked;
        let acquired = match asked.until {
            Wait::No => clients.try_acquire_wanted(at, self.pool, user, site).map(Acquired::Now),
            Wait::Until(deadline) => {
                let timeout = deadline.saturating_duration_since(at.now());
                clients.acquire_wanted(at, self.pool, Wanted { user, timeout, site })
            }
            Wait::Forever => {
                let timeout = Duration::MAX;
                clients.acquire_wanted(at, self.pool, Wanted { user, timeout, site })
            }
        };
        match acquired {
            Ok(Acquired::Now(lease)) => self.lend(at, clients, asked, lease),
            Ok(Acquired::Later(ticket)) => {
                self.tickets.insert(ticket, asked);
            }
            Err(error) => asked.line.refuse(error),
        }
    }

    /// Hands a lease to the thread that has asked.
    fn lend(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients, asked: Asked, lease: Lease) {
        let (Ok(connection), Ok((endpoint, settings))) =
            (clients.leased(lease), clients.way_of(lease))
        else {
            // It has ended since it was granted.
            return self.acquire(at, clients, asked);
        };
        let subprotocol = at.peer(connection).subprotocol().map(Into::into);
        let grant = Grant { lease, endpoint, settings: settings.clone(), subprotocol };
        asked.line.grant(grant, &settings.inner().queues);
        let (hand, stay) = (Hand::default(), Stay::Holds);
        self.tenants.insert(lease, Tenant { connection, line: asked.line, hand, stay });
    }

    /// Gives away what the holder of a lease has said, as far as it goes, and takes the lease back if
    /// he has gone.
    fn look(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients, lease: Lease) {
        let Self { tenants, on_event, shared, .. } = self;
        let Some(tenant) = tenants.get_mut(&lease) else { return };
        let Tenant { connection, line, hand, .. } = tenant;
        let work = line.take(hand);
        let mut unsent = 0;
        let bytes = hand.give(
            work.barrier,
            |message| clients.offer_leased(at, lease, message).ok(),
            |message, reason| {
                unsent += 1;
                on_event(PoolEvent::Unsent { message, reason });
            },
        );
        let is_reached = work.barrier.is_some_and(|barrier| hand.given >= barrier);
        let is_settled = is_reached && clients.flush_leased(at, lease) == Ok(true);
        let settled = is_settled.then_some(hand.given);
        if line.handle_given(bytes, unsent, settled, hand) == Telling::Needed {
            shared.order(Order::Look(lease));
        }
        if work.reading == Reading::GoesOn {
            at.peer(*connection).resume();
        }
        if let Some(outcome) = work.returned {
            self.take_back(at, clients, lease, outcome);
        }
    }

    /// The holder of a lease has gone. What he has said goes first, unless the connection is broken
    /// anyway.
    fn take_back(
        &mut self,
        at: &mut Loop<'_, ()>,
        clients: &mut Clients,
        lease: Lease,
        outcome: Outcome,
    ) {
        let Some(tenant) = self.tenants.get_mut(&lease) else { return };
        if outcome != Outcome::Broken && !tenant.hand.is_empty() {
            if tenant.stay == Stay::Holds {
                let settings = clients.way_of(lease).map(|(_, settings)| settings);
                let patience = settings.map_or(Duration::ZERO, |it| it.dial().config.close_timeout);
                tenant.stay = Stay::Clears(at.set_timer(at.deadline(patience), CLEAR));
            }
            return;
        }
        self.evict(at, lease, LeaseError::Revoked);
        // If it is over, nobody is left to be told.
        let _ = clients.release(at, lease, outcome);
    }

    /// A lease is over. What was not given to its connection is reported.
    fn evict(&mut self, at: &mut Loop<'_, ()>, lease: Lease, error: LeaseError) {
        let Some(mut tenant) = self.tenants.remove(&lease) else { return };
        if let Stay::Clears(timer) = tenant.stay {
            at.cancel_timer(timer);
        }
        // The server's Close is to be seen.
        at.peer(tenant.connection).resume();
        let left = tenant.line.finish(error);
        for message in tenant.hand.empty().into_iter().chain(left) {
            (self.on_event)(PoolEvent::Unsent { message, reason: UnsentReason::ConnectionLost });
        }
    }

    fn close(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients, until: Wait) {
        clients.shut_down_pool(at, self.pool);
        if self.stage == Stage::Running {
            self.stage = Stage::Closing;
        }
        if let Wait::Until(deadline) = until {
            at.set_timer(deadline, END);
        }
    }

    /// Ends the loop, once the pool is closing and nobody needs it.
    fn part(&mut self, at: &Loop<'_, ()>, clients: &Clients) {
        let is_needed = !self.tenants.is_empty() || !self.tickets.is_empty();
        if is_needed || self.stage != Stage::Closing {
            return;
        }
        self.stage = Stage::Parting;
        self.shared.handle_parting(clients.pool_stats(self.pool).unwrap_or_default());
        let posted = at.handle().shutdown(FAREWELL);
        debug_assert!(posted.is_ok(), "nobody fills this mailbox");
    }
}

impl ClientHandler for Driver {
    type Data = ();

    fn on_open(&mut self, ctx: &mut Context<'_, ()>, _: &mut Clients) {
        (self.on_event)(PoolEvent::Opened(ctx.here()));
    }

    fn on_message(
        &mut self,
        ctx: &mut Context<'_, ()>,
        clients: &mut Clients,
        message: Message<'_>,
    ) -> Result<(), Undecodable> {
        let tenant = clients.lease_of(ctx.id()).and_then(|lease| self.tenants.get(&lease));
        let Some(tenant) = tenant else {
            return Err(Undecodable::new("nobody has leased the connection"));
        };
        if tenant.line.handle_message(message.into()) == Reading::Rests {
            ctx.here().pause();
        }
        Ok(())
    }

    fn on_drain(&mut self, ctx: &mut Context<'_, ()>, clients: &mut Clients) {
        if let Some(lease) = clients.lease_of(ctx.id()) {
            self.look(ctx, clients, lease);
        }
        self.part(ctx, clients);
    }

    fn on_lease_room(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients, lease: Lease) {
        self.look(at, clients, lease);
        self.part(at, clients);
    }

    fn on_close(
        &mut self,
        ctx: &mut Context<'_, ()>,
        clients: &mut Clients,
        summary: &CloseSummary,
    ) {
        if let Some(lease) = clients.lease_of(ctx.id()) {
            self.evict(ctx, lease, LeaseError::Closed(Arc::new(summary.clone())));
        }
        (self.on_event)(PoolEvent::Closed(summary));
        self.part(ctx, clients);
    }

    fn on_dial_failed(
        &mut self,
        _: &mut Loop<'_, ()>,
        _: &mut Clients,
        _: Owner,
        error: DialError,
    ) {
        (self.on_event)(PoolEvent::DialFailed(&error));
    }

    fn on_unsent(&mut self, _: &mut Loop<'_, ()>, _: &mut Clients, _: Owner, unsent: Unsent) {
        let message = OwnedMessage::of_payload(unsent.opcode, &unsent.payload);
        (self.on_event)(PoolEvent::Unsent { message, reason: unsent.reason });
    }

    fn on_lease(
        &mut self,
        at: &mut Loop<'_, ()>,
        clients: &mut Clients,
        ticket: LeaseTicket,
        lease: Result<Lease, PoolError>,
    ) {
        if let Some(asked) = self.tickets.remove(&ticket) {
            match lease {
                Ok(lease) => self.lend(at, clients, asked, lease),
                Err(error) => asked.line.refuse(error),
            }
        }
        self.part(at, clients);
    }

    fn on_leak(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients, report: &LeakReport) {
        if report.verdict == LeakVerdict::Revoked {
            self.evict(at, report.lease, LeaseError::Revoked);
        }
        (self.on_event)(PoolEvent::Leak(report));
        self.part(at, clients);
    }

    fn on_timer(
        &mut self,
        at: &mut Loop<'_, ()>,
        clients: &mut Clients,
        timer: TimerId,
        cookie: u64,
    ) {
        let is_due = |tenant: &Tenant| cookie == END || tenant.stay == Stay::Clears(timer);
        let due = self.tenants.iter().filter(|(_, tenant)| is_due(tenant));
        let leases: Vec<Lease> = due.map(|(lease, _)| *lease).collect();
        for lease in leases {
            self.take_back(at, clients, lease, Outcome::Broken);
        }
        self.part(at, clients);
    }

    fn on_notice(
        &mut self,
        at: &mut Loop<'_, ()>,
        clients: &mut Clients,
        notice: Box<dyn Any + Send>,
    ) {
        debug_assert!(notice.is::<Wake>(), "nobody else knows this loop");
        let mut orders = mem::take(&mut self.orders);
        self.shared.take_orders(&mut orders);
        for order in orders.drain(..) {
            match order {
                Order::Acquire(asked) => self.acquire(at, clients, asked),
                Order::Look(lease) => self.look(at, clients, lease),
                Order::Ask(question) => question(at, clients, self.pool),
                Order::ShutDown(until) => self.close(at, clients, until),
            }
        }
        self.orders = orders;
        self.part(at, clients);
    }
}
