//! Users of a pool: each takes a connection, asks, waits for the answer and gives the connection back.

use std::collections::HashMap;
use std::time::Duration;

use corewire::{
    Acquired, Clients, ConnectionId, Eviction, LeakReport, LeakVerdict, Lease, LeaseTicket, Loop,
    MemberState, Outcome, PoolError, PoolId, PoolStats,
};

use crate::ledger::{Ledger, Side};
use crate::load::Data;

/// How long a user waits for a connection: less than all back ends are away at times.
const PATIENCE: Duration = Duration::from_millis(400);
/// One lease of so many is released as broken, though nothing is wrong.
const BROKEN_ONE_IN: u64 = 200;

/// All users of a pool.
pub struct Workers {
    pub pool: PoolId,
    list: Vec<Work>,
    tickets: HashMap<LeaseTicket, usize>,
    /// The connections that are lent, and to whom.
    lent: HashMap<ConnectionId, usize>,
    /// Leases that have ended with their connections, to be tried once more.
    ended: Vec<Lease>,
    pub tally: Tally,
}

/// What a user does.
enum Work {
    Idle,
    /// For a connection.
    Waiting,
    /// For the answer.
    Asked {
        lease: Lease,
        connection: ConnectionId,
        number: u64,
    },
}

/// How leases have come and gone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub granted: u64,
    pub waits: u64,
    pub expired: u64,
    pub released: u64,
    /// Released, because the connection did not take the question.
    pub failed: u64,
    pub broken: u64,
    pub revoked: u64,
    /// Ended with their connections.
    pub closed: u64,
    /// Reported as held for long.
    pub leaks: u64,
    pub dials_failed: u64,
}

impl Workers {
    pub fn new(pool: PoolId, count: usize) -> Self {
        Self {
            pool,
            list: std::iter::repeat_with(|| Work::Idle).take(count).collect(),
            tickets: HashMap::new(),
            lent: HashMap::new(),
            ended: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// Has everybody ask who does nothing.
    pub fn begin(
        &mut self,
        at: &mut Loop<'_, Data>,
        clients: &mut Clients,
        ledger: &mut Ledger,
        payload: &str,
    ) -> Result<(), String> {
        for worker in 0..self.list.len() {
            if !matches!(self.list[worker], Work::Idle) {
                continue;
            }
            match clients.acquire(at, self.pool, PATIENCE) {
                Ok(Acquired::Now(lease)) => {
                    self.ask(at, clients, ledger, worker, lease, payload)?;
                }
                Ok(Acquired::Later(ticket)) => {
                    self.tally.waits += 1;
                    self.tickets.insert(ticket, worker);
                    self.list[worker] = Work::Waiting;
                }
                Err(error) => return Err(format!("nothing can be acquired: {error}")),
            }
        }
        Ok(())
    }

    pub fn handle_lease(
        &mut self,
        at: &mut Loop<'_, Data>,
        clients: &mut Clients,
        ledger: &mut Ledger,
        ticket: LeaseTicket,
        lease: Result<Lease, PoolError>,
    ) -> Result<(), String> {
        let worker = self.tickets.remove(&ticket);
        let worker = worker.ok_or_else(|| format!("the ticket {ticket:?} was over: {lease:?}"))?;
        self.list[worker] = Work::Idle;
        match lease {
            Ok(lease) => self.ask(at, clients, ledger, worker, lease, "late"),
            Err(PoolError::Exhausted) => {
                self.tally.expired += 1;
                Ok(())
            }
            Err(error) => Err(format!("a ticket ended with: {error}")),
        }
    }

    /// A lease has begun.
    fn ask(
        &mut self,
        at: &mut Loop<'_, Data>,
        clients: &mut Clients,
        ledger: &mut Ledger,
        worker: usize,
        lease: Lease,
        payload: &str,
    ) -> Result<(), String> {
        self.tally.granted += 1;
        let connection = clients.leased(lease).map_err(|error| format!("a new lease: {error}"))?;
        if let Some(other) = self.lent.insert(connection, worker) {
            return Err(format!("{connection:?} was lent to {other}, and is to {worker}"));
        }
        let number = ledger.number();
        let mut peer = at.peer(connection);
        let outcome = peer.send_text(&format!("{number} {payload}"));
        let record = peer.data().and_then(|data| data.record).ok_or("a lease of no connection")?;
        if outcome.is_taken() {
            self.list[worker] = Work::Asked { lease, connection, number };
            return ledger.accept(record, number);
        }
        self.tally.failed += 1;
        self.lent.remove(&connection);
        release(at, clients, lease, Outcome::Failed)?;
        ledger.refuse(ledger.back_end(record), number)
    }

    /// An answer has come, which may be late.
    pub fn handle_echo(
        &mut self,
        at: &mut Loop<'_, Data>,
        clients: &mut Clients,
        connection: ConnectionId,
        answer: u64,
    ) -> Result<(), String> {
        let Some(&worker) = self.lent.get(&connection) else { return Ok(()) };
        let Work::Asked { lease, number, .. } = self.list[worker] else {
            return Err(format!("{worker} has a lease, and has asked nothing"));
        };
        if answer != number {
            return Ok(());
        }
        if clients.lease_of(connection) != Some(lease) {
            return Err(format!("{connection:?} is lent by {lease:?}, and the pool denies it"));
        }
        self.end(worker, connection);
        if number.is_multiple_of(BROKEN_ONE_IN) {
            self.tally.broken += 1;
            return release(at, clients, lease, Outcome::Broken);
        }
        self.tally.released += 1;
        release(at, clients, lease, Outcome::Good)
    }

    /// A connection is over, and its lease with it.
    pub fn handle_close(&mut self, connection: ConnectionId) {
        let Some(&worker) = self.lent.get(&connection) else { return };
        if let Work::Asked { lease, .. } = self.list[worker] {
            self.ended.push(lease);
        }
        self.end(worker, connection);
        self.tally.closed += 1;
    }

    pub fn handle_leak(
        &mut self,
        at: &mut Loop<'_, Data>,
        clients: &mut Clients,
        report: &LeakReport,
    ) -> Result<(), String> {
        let holds =
            |work: &Work| matches!(work, Work::Asked { lease, .. } if *lease == report.lease);
        let worker = self.list.iter().position(holds);
        let worker = worker.ok_or_else(|| format!("nobody has the lease of {report:?}"))?;
        match (report.verdict, &self.list[worker]) {
            (LeakVerdict::Reported, _) => self.tally.leaks += 1,
            (LeakVerdict::Revoked, &Work::Asked { connection, .. }) => {
                self.tally.revoked += 1;
                self.end(worker, connection);
                denied(at, clients, report.lease)?;
            }
            (LeakVerdict::Revoked, Work::Idle | Work::Waiting) => {}
        }
        Ok(())
    }

    fn end(&mut self, worker: usize, connection: ConnectionId) {
        self.list[worker] = Work::Idle;
        self.lent.remove(&connection);
    }

    /// Leases that have ended are over.
    pub fn try_ended(
        &mut self,
        at: &mut Loop<'_, Data>,
        clients: &mut Clients,
    ) -> Result<(), String> {
        self.ended.drain(..).try_for_each(|lease| denied(at, clients, lease))
    }

    /// Whether nobody waits for anything.
    pub fn are_idle(&self) -> bool {
        self.list.iter().all(|work| matches!(work, Work::Idle))
    }

    /// Whether the pool says the same of what was done, when nobody waits for anything.
    pub fn compare(&self, stats: &PoolStats, ledger: &Ledger) -> Result<(), String> {
        let Tally { granted, released, failed, broken, revoked, closed, .. } = self.tally;
        let tally = &self.tally;
        let ended = released + failed + broken + revoked + closed;
        let held = stats.members_in(MemberState::Active) + stats.members_in(MemberState::Broken);
        let free = [MemberState::Idle, MemberState::Stale, MemberState::Checking];
        let free: u32 = free.into_iter().map(|state| stats.members_in(state)).sum();
        let standing = ledger.standing(Side::Pool) as u64;
        for (what, theirs, ours) in [
            ("leases that have begun and ended", granted, ended),
            ("leases that were given", stats.acquired, granted),
            ("acquisitions that waited", stats.waits, tally.waits),
            ("tickets that ended with an error", stats.expired, tally.expired),
            ("tickets that were cancelled or refused", stats.cancelled + stats.refused, 0),
            ("leases that were reported", stats.leaks, tally.leaks),
            ("leases that were revoked", stats.evicted(Eviction::Revoked), revoked),
            ("connections released as broken", stats.evicted(Eviction::Broken), broken),
            ("connections that have opened", stats.opened, ledger.opened(Side::Pool) as u64),
            ("dials that have failed", stats.dials_failed, tally.dials_failed),
            ("connections that are lent", held.into(), 0),
            ("tickets that wait", stats.waiting.into(), 0),
            ("connections that are free", free.into(), standing),
        ] {
            if theirs != ours {
                return Err(format!("{what}: {theirs} by the pool, {ours} by its users"));
            }
        }
        Ok(())
    }
}

fn release(
    at: &mut Loop<'_, Data>,
    clients: &mut Clients,
    lease: Lease,
    outcome: Outcome,
) -> Result<(), String> {
    clients.release(at, lease, outcome).map_err(|error| format!("{lease:?} was lost: {error}"))
}

/// A lease is over, and says so.
fn denied(at: &mut Loop<'_, Data>, clients: &mut Clients, lease: Lease) -> Result<(), String> {
    match clients.release(at, lease, Outcome::Good) {
        Err(PoolError::Revoked) => Ok(()),
        other => Err(format!("{lease:?} was over, and is released: {other:?}")),
    }
}
