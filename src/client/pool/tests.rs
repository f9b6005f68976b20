//! Each rule of the pool by itself, in a made-up time.

use std::collections::HashMap;
use std::panic::Location;
use std::time::{Duration, Instant};

use super::*;
use crate::collections::Key;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

/// Endpoints in turn. It counts what is under way, and refuses what it is told to.
#[derive(Debug, Default)]
pub(super) struct Turns {
    pub(super) order: Vec<EndpointId>,
    pub(super) active: HashMap<EndpointId, i64>,
    pub(super) refused: Vec<EndpointId>,
    pub(super) successes: u32,
    pub(super) failures: u32,
    next: usize,
}

impl Select for Turns {
    fn pick(
        &mut self,
        _: Instant,
        _: u64,
        is_candidate: impl Fn(EndpointId) -> bool,
    ) -> Option<EndpointId> {
        let count = self.order.len();
        let places = (self.next..self.next + count).map(|place| place % count);
        let mut open = places.filter(|place| !self.refused.contains(&self.order[*place]));
        let place = open.find(|place| is_candidate(self.order[*place]))?;
        self.next = place + 1;
        Some(self.order[place])
    }

    fn handle_acquired(&mut self, endpoint: EndpointId) {
        *self.active.entry(endpoint).or_default() += 1;
    }

    fn handle_released(&mut self, endpoint: EndpointId) {
        *self.active.entry(endpoint).or_default() -= 1;
    }

    fn handle_success(&mut self, _: EndpointId, _: Instant) {
        self.successes += 1;
    }

    fn handle_failure(&mut self, _: EndpointId, _: Instant, _: u64) {
        self.failures += 1;
    }
}

pub(super) fn endpoint(index: u32) -> EndpointId {
    EndpointId(Key { index, generation: 1 })
}

/// A pool and its driver, who does nothing unasked.
struct Bed {
    pool: Core<Turns>,
    start: Instant,
    now: Instant,
}

impl Bed {
    /// With so many endpoints. Nothing is kept open, no dial and no error is too many, unless
    /// `change` says so.
    fn new(endpoints: u32, change: impl FnOnce(&mut PoolSettings)) -> Self {
        let mut settings = PoolSettings {
            min: 0,
            max: 4,
            age_max: Duration::MAX,
            age_jitter: Duration::ZERO,
            ..PoolSettings::default()
        };
        change(&mut settings);
        settings.check().unwrap();
        let start = Instant::now();
        let order = (0..endpoints).map(endpoint).collect();
        let balancer = Turns { order, ..Turns::default() };
        let mut bed = Self { pool: Core::new(settings, balancer, 1, start), start, now: start };
        (0..endpoints).for_each(|index| bed.pool.add_endpoint(endpoint(index), start));
        bed
    }

    /// With one endpoint and so many connections, idle since now.
    fn with_idle(count: u32, change: impl FnOnce(&mut PoolSettings)) -> (Self, Vec<MemberKey>) {
        let mut bed = Self::new(1, |settings| {
            change(settings);
            settings.min = count;
        });
        let members = bed.open_all();
        assert_eq!(members.len() as u32, count);
        (bed, members)
    }

    /// What is to be done.
    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.pool.poll_action()).collect()
    }

    /// Opens whatever is dialled, until nothing more is; there may be no other action.
    fn open_all(&mut self) -> Vec<MemberKey> {
        let mut opened = Vec::new();
        loop {
            let actions = self.actions();
            if actions.is_empty() {
                return opened;
            }
            for action in actions {
                let Action::Open { member, .. } = action else { panic!("{action:?}") };
                self.pool.handle_opened(member, self.now);
                opened.push(member);
            }
        }
    }

    #[track_caller]
    fn acquire(&mut self) -> Result<Acquired, PoolError> {
        self.acquire_as(None)
    }

    #[track_caller]
    fn acquire_as(&mut self, user: Option<u64>) -> Result<Acquired, PoolError> {
        let wanted = Wanted { user, timeout: 5 * S, site: Location::caller() };
        self.pool.acquire(wanted, self.now)
    }

    #[track_caller]
    fn lease_as(&mut self, user: Option<u64>) -> Lease {
        match self.acquire_as(user) {
            Ok(Acquired::Now(lease)) => lease,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn lease(&mut self) -> Lease {
        self.lease_as(None)
    }

    #[track_caller]
    fn ticket(&mut self) -> LeaseTicket {
        match self.acquire() {
            Ok(Acquired::Later(ticket)) => ticket,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn release(&mut self, lease: Lease) {
        self.pool.release(lease, Outcome::Good, self.now).unwrap();
    }

    /// Time passes, and every timer fires when it should; what there is to do is collected with
    /// when that was.
    fn pass(&mut self, by: Duration) -> Vec<(Duration, Action)> {
        let end = self.now + by;
        let mut done = Vec::new();
        while let Some(at) = self.pool.poll_timeout().filter(|at| *at <= end) {
            assert!(at > self.now, "a timer in the past");
            self.now = at;
            self.pool.handle_timeout(at);
            let since = at - self.start;
            done.extend(self.actions().into_iter().map(|action| (since, action)));
        }
        self.now = end;
        done
    }

    fn in_state(&self, state: MemberState) -> u32 {
        self.pool.stats().members_in(state)
    }
}

#[test]
fn a_ticket_gets_the_connection_that_is_dialled_for_it() {
    let mut bed = Bed::new(1, |_| {});
    let ticket = bed.ticket();
    let actions = bed.actions();
    let [Action::Open { member, .. }] = actions[..] else { panic!("{actions:?}") };
    bed.pool.handle_opened(member, bed.now);
    let actions = bed.actions();
    let [Action::Grant { ticket: granted, lease }] = actions[..] else { panic!("{actions:?}") };
    assert_eq!((granted, lease.member()), (ticket, member));
    assert_eq!(bed.pool.check(lease), Ok(member));
    bed.release(lease);
    assert_eq!(bed.pool.check(lease), Err(PoolError::Revoked));
    assert_eq!(bed.pool.release(lease, Outcome::Good, bed.now), Err(PoolError::Revoked));
}
