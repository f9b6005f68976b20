//! What a user of a pool may expect, kept in plain lists and judged at every callback.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use corewire::{
    Acquired, Clients, CloseCode, ConnectionId, EndpointId, LeakVerdict, Lease, LeaseTicket, Loop,
    MemberState, Outcome, PoolError, PoolId,
};

use crate::bed::{Heard, TICK};
use crate::rng::Rng;
use crate::sim_net::Sim;

/// Somebody who waits.
struct Waiting {
    ticket: LeaseTicket,
    deadline: Duration,
    /// Who waits for the check of his own connection stands outside of the line.
    is_in_line: bool,
}

/// What may be done besides taking and giving back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breadth {
    Leases,
    Endpoints,
}

/// One pool as its user sees it.
pub struct Model {
    pub pool: PoolId,
    pub dice: Rng,
    pub sim: Sim,
    pub leak_after: Duration,
    pub breadth: Breadth,
    /// Users who come back, if any.
    pub users: usize,
    endpoints: Vec<corewire::ClientSettings>,
    live: HashMap<Lease, Option<ConnectionId>>,
    held: HashMap<ConnectionId, Lease>,
    reported: HashSet<Lease>,
    given: HashSet<Lease>,
    over: Vec<Lease>,
    line: Vec<Waiting>,
    tickets: HashSet<LeaseTicket>,
    pub is_shut_down: bool,
    /// Nothing random is done any more.
    pub is_quiet: bool,
    pub operations: u64,
    pub leases: u64,
    pub waited: u64,
}

impl Model {
    pub fn new(
        pool: PoolId,
        seed: u64,
        sim: Sim,
        endpoints: Vec<corewire::ClientSettings>,
    ) -> Self {
        Self {
            pool,
            dice: Rng::new(seed),
            sim,
            leak_after: Duration::from_secs(30),
            breadth: Breadth::Leases,
            users: 0,
            endpoints,
            live: HashMap::new(),
            held: HashMap::new(),
            reported: HashSet::new(),
            given: HashSet::new(),
            over: Vec::new(),
            line: Vec::new(),
            tickets: HashSet::new(),
            is_shut_down: false,
            is_quiet: false,
            operations: 0,
            leases: 0,
            waited: 0,
        }
    }

    /// Leases that last.
    pub fn live(&self) -> usize {
        self.live.len()
    }

    pub fn waiting(&self) -> usize {
        self.line.len()
    }

    /// A lease was given.
    fn take(&mut self, lease: Lease, connection: Option<ConnectionId>) {
        self.leases += 1;
        assert!(self.given.insert(lease), "{lease:?} is given twice");
        self.live.insert(lease, connection);
        if let Some(connection) = connection {
            let other = self.held.insert(connection, lease);
            assert_eq!(other, None, "{connection:?} is handed out twice");
        }
    }

    /// A lease has ended.
    fn end(&mut self, lease: Lease) {
        let connection = self.live.remove(&lease);
        let connection = connection.unwrap_or_else(|| panic!("{lease:?} has ended before"));
        if let Some(connection) = connection {
            assert_eq!(self.held.remove(&connection), Some(lease));
        }
        self.over.push(lease);
    }

    fn end_ticket(&mut self, ticket: LeaseTicket) -> Waiting {
        let place = self.line.iter().position(|waiting| waiting.ticket == ticket);
        self.line.remove(place.unwrap_or_else(|| panic!("{ticket:?} has ended before")))
    }

    /// Judges a callback, and at times does something inside it.
    pub fn hear(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients, heard: &Heard) {
        let now = self.sim.elapsed();
        match heard {
            Heard::Lease(ticket, lease) => self.hear_lease(clients, *ticket, *lease, now),
            Heard::Leak(report) => {
                if report.verdict == LeakVerdict::Revoked {
                    self.end(report.lease);
                } else {
                    // A callback that came before may have given it back.
                    assert!(self.given.contains(&report.lease), "{report:?}");
                    assert!(self.reported.insert(report.lease), "told twice: {report:?}");
                    assert!(report.held_for >= self.leak_after, "{report:?}");
                }
            }
            Heard::Close(connection, lease, _) => {
                assert_eq!(self.held.get(connection), lease.as_ref(), "{connection:?}");
                if let Some(lease) = *lease {
                    self.end(lease);
                    assert!(clients.leased(lease).is_err(), "it is over");
                }
            }
            _ => {}
        }
        if !self.is_quiet && self.dice.one_in(4) {
            self.operate(at, clients);
        }
    }

    fn hear_lease(
        &mut self,
        clients: &Clients,
        ticket: LeaseTicket,
        lease: Result<Lease, PoolError>,
        now: Duration,
    ) {
        let first = self.line.iter().find(|waiting| waiting.is_in_line);
        let first = first.map(|waiting| waiting.ticket);
        let waiting = self.end_ticket(ticket);
        match lease {
            Ok(lease) => {
                assert!(!waiting.is_in_line || first == Some(ticket), "out of order: {ticket:?}");
                // It may be over: revoked after it was granted, and told so next.
                self.take(lease, clients.leased(lease).ok());
                self.waited += 1;
            }
            Err(PoolError::Exhausted) => {
                let (from, to) = (waiting.deadline, waiting.deadline + TICK);
                assert!(now >= from && now <= to, "{now:?} is not {from:?}");
            }
            Err(PoolError::ShutDown) => assert!(self.is_shut_down),
            Err(error) => panic!("{error}"),
        }
    }

    /// What the pool says of itself is what was seen, once all is told.
    pub fn judge(&self, clients: &Clients) {
        for (lease, connection) in &self.live {
            assert_eq!(clients.leased(*lease).ok(), *connection, "{lease:?} is lost");
            assert!(connection.is_some(), "{lease:?} is over, and nobody has said so");
        }
        if let Some(stats) = clients.pool_stats(self.pool) {
            let lent =
                stats.members_in(MemberState::Active) + stats.members_in(MemberState::Broken);
            assert_eq!((lent as usize, stats.waiting as usize), (self.live(), self.waiting()));
            assert_eq!(stats.acquired, self.leases);
        }
    }

    /// Does something at random.
    pub fn operate(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients) {
        self.operations += 1;
        let kinds = if self.breadth == Breadth::Leases { 16 } else { 20 };
        match self.dice.below(kinds) {
            0..=5 => self.acquire(at, clients),
            6 => {
                if let Ok(lease) = clients.try_acquire(at, self.pool) {
                    let connection = clients.leased(lease).expect("it is good");
                    self.take(lease, Some(connection));
                }
            }
            7..=11 => self.release(at, clients),
            12 => self.use_late(at, clients),
            13 => self.cancel(at, clients),
            14 => self.talk(at, clients),
            15 => self.close_own(at, clients),
            _ => self.change_endpoints(at, clients),
        }
    }

    pub fn acquire(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients) {
        let millis = [0, 3, 400, 4000, 60_000][self.dice.below(5)];
        self.acquire_within(at, clients, Duration::from_millis(millis));
    }

    pub fn acquire_within(
        &mut self,
        at: &mut Loop<'_, ()>,
        clients: &mut Clients,
        timeout: Duration,
    ) {
        let is_user = self.users > 0 && self.dice.one_in(2);
        let acquired = if is_user {
            let user = self.dice.below(self.users);
            clients.acquire_for(at, self.pool, user, timeout)
        } else {
            clients.acquire(at, self.pool, timeout)
        };
        match acquired {
            Ok(Acquired::Now(lease)) => {
                // Who comes now is not served before those who wait, but for users at home.
                let waiting = clients.pool_stats(self.pool).map(|stats| stats.waiting);
                assert!(self.users > 0 || waiting == Some(0), "{waiting:?} came before");
                let connection = clients.leased(lease).expect("it is good");
                assert!(at.peer(connection).is_open(), "{connection:?} is over");
                self.take(lease, Some(connection));
            }
            Ok(Acquired::Later(ticket)) => {
                assert!(self.tickets.insert(ticket), "{ticket:?} is given twice");
                let deadline = self.sim.elapsed() + timeout;
                self.line.push(Waiting { ticket, deadline, is_in_line: !is_user });
            }
            Err(PoolError::ShutDown) => assert!(self.is_shut_down),
            Err(PoolError::TooManyWaiting) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn any_live(&mut self) -> Option<Lease> {
        // The order of a map is not the seed's.
        let mut live: Vec<_> = self.live.keys().copied().collect();
        live.sort_by_key(|lease| format!("{lease:?}"));
        let count = live.len();
        (count > 0).then(|| live[self.dice.below(count)])
    }

    fn release(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients) {
        let Some(lease) = self.any_live() else { return };
        let outcomes = [Outcome::Good, Outcome::Good, Outcome::Failed, Outcome::Broken];
        let outcome = outcomes[self.dice.below(4)];
        self.give_back(at, clients, lease, outcome);
    }

    fn give_back(
        &mut self,
        at: &mut Loop<'_, ()>,
        clients: &mut Clients,
        lease: Lease,
        outcome: Outcome,
    ) {
        let is_good = self.live[&lease].is_some() && clients.leased(lease).is_ok();
        assert_eq!(clients.release(at, lease, outcome).is_ok(), is_good, "{lease:?}");
        if is_good {
            self.end(lease);
        }
    }

    pub fn give_all_back(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients) {
        while let Some(lease) = self.any_live() {
            let before = self.live.len();
            self.give_back(at, clients, lease, Outcome::Good);
            assert!(self.live.len() < before, "{lease:?} is not over and cannot be given back");
        }
    }

    /// What is over gives nothing, and never the connection of somebody else.
    fn use_late(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients) {
        let count = self.over.len();
        if count == 0 {
            return;
        }
        let lease = self.over[self.dice.below(count)];
        assert_eq!(clients.leased(lease), Err(PoolError::Revoked));
        assert_eq!(clients.peer(at, lease).err(), Some(PoolError::Revoked));
        assert_eq!(clients.release(at, lease, Outcome::Good), Err(PoolError::Revoked));
    }

    fn cancel(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients) {
        let count = self.line.len();
        if count == 0 {
            return;
        }
        let ticket = self.line[self.dice.below(count)].ticket;
        if clients.cancel(at, ticket) {
            self.end_ticket(ticket);
        }
        assert!(!clients.cancel(at, ticket));
    }

    pub fn cancel_all(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients) {
        let tickets: Vec<_> = self.line.iter().map(|waiting| waiting.ticket).collect();
        for ticket in tickets {
            if clients.cancel(at, ticket) {
                self.end_ticket(ticket);
            }
        }
    }

    fn talk(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients) {
        if let Some(lease) = self.any_live()
            && let Ok(mut peer) = clients.peer(at, lease)
        {
            let _ = peer.send_text("question");
        }
    }

    /// Its user ends a connection without a word to the pool.
    fn close_own(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients) {
        let is_abort = self.dice.one_in(2);
        if let Some(lease) = self.any_live()
            && let Ok(mut peer) = clients.peer(at, lease)
        {
            if is_abort {
                peer.abort();
            } else {
                let _ = peer.close(CloseCode::NORMAL, "");
            }
        }
    }

    fn change_endpoints(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients) {
        let known: Vec<EndpointId> =
            clients.endpoints(self.pool).into_iter().map(|(id, _)| id).collect();
        let place = self.dice.below(self.endpoints.len());
        match (self.dice.below(4), known.get(self.dice.below(known.len().max(1)))) {
            (0, Some(id)) => clients.drain_endpoint(at, self.pool, *id),
            (1, Some(id)) => clients.remove_endpoint(at, self.pool, *id),
            _ => {
                let added = clients.add_endpoint(at, self.pool, &self.endpoints[place], 1);
                assert!(added.is_ok());
            }
        }
    }

    pub fn restore_endpoints(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients) {
        for endpoint in &self.endpoints {
            let added = clients.add_endpoint(at, self.pool, endpoint, 1);
            assert!(added.is_ok());
        }
    }
}
