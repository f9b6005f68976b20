//! What a pool knows of where its connections lead, and whom it asks which is next.

use std::time::{Duration, Instant};

use super::chain::Chain;
use crate::client::balance::{Balancer, EndpointId, Outcome as Health};
use crate::collections::TimerKey;

/// Chooses among endpoints: the part of a balancer that a pool needs.
///
/// What is counted as under way at an endpoint is dials and leases. So connections are spread as the
/// work is, and where nothing is under way the balancer's way with equals decides.
pub(crate) trait Select {
    /// One of the candidates, `None` if it would rather choose none of them. The pool then takes one
    /// by itself: that an endpoint did badly is no reason to let somebody wait who could be served.
    fn pick(
        &mut self,
        now: Instant,
        random: u64,
        is_candidate: impl Fn(EndpointId) -> bool,
    ) -> Option<EndpointId>;

    /// Something was begun at the endpoint: a dial, a lease.
    fn handle_acquired(&mut self, endpoint: EndpointId);

    /// It is over. Called once for each [`Select::handle_acquired`], even if the endpoint has left.
    fn handle_released(&mut self, endpoint: EndpointId);

    /// A dial, a ping or a lease went as it should, or a connection has stood.
    fn handle_success(&mut self, endpoint: EndpointId, now: Instant);

    /// One did not.
    fn handle_failure(&mut self, endpoint: EndpointId, now: Instant, random: u64);
}

impl Select for Balancer {
    fn pick(
        &mut self,
        now: Instant,
        random: u64,
        is_candidate: impl Fn(EndpointId) -> bool,
    ) -> Option<EndpointId> {
        Self::pick(self, now, random, is_candidate)
    }

    fn handle_acquired(&mut self, endpoint: EndpointId) {
        Self::handle_acquired(self, endpoint);
    }

    fn handle_released(&mut self, endpoint: EndpointId) {
        Self::handle_released(self, endpoint);
    }

    fn handle_success(&mut self, endpoint: EndpointId, now: Instant) {
        // Chance decides about ejections only.
        self.handle_outcome(endpoint, Health::Success, now, 0);
    }

    fn handle_failure(&mut self, endpoint: EndpointId, now: Instant, random: u64) {
        self.handle_outcome(endpoint, Health::Failure, now, random);
    }
}

/// An endpoint that is neither drained nor removed.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) id: EndpointId,
    /// The connections that are free, the one used last in front.
    pub(super) free: Chain,
    /// Connections that are being dialled, overdue ones included.
    pub(super) dialling: u32,
    /// Those of them that are overdue.
    pub(super) overdue: u32,
    pub(super) reach: Reach,
    pub(super) footing: Footing,
    /// In a row; those that fail together count once.
    failures: u32,
    /// Armed while [`Reach::Failing`] holds dialling up, and until a doubtful one is sure again.
    pub(super) timer: Option<TimerKey>,
}

/// What dialling an endpoint has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// It has not yet been tried to the end.
    Unproven,
    /// The last dial that ended has opened.
    Reached,
    /// It has not, or has not stood, and the endpoint is left alone for a while.
    Failing { retry_at: Instant },
}

/// Whether a connection that opens is one that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Footing {
    Sure,
    /// One has ended too soon, and none has stood since.
    Doubtful,
}

impl Endpoint {
    pub(super) fn new(id: EndpointId) -> Self {
        let (free, reach, footing) = (Chain::default(), Reach::Unproven, Footing::Sure);
        Self { id, free, dialling: 0, overdue: 0, reach, footing, failures: 0, timer: None }
    }

    /// Whether another connection to it may be dialled. As long as it is not known to answer it gets
    /// one dial at a time, and none while one is overdue: places that hang there are missing
    /// elsewhere.
    pub(super) fn may_be_dialled(&self, now: Instant, dials_max: u32) -> bool {
        let is_left_alone = match self.reach {
            Reach::Unproven => self.dialling > 0,
            Reach::Reached => self.dialling >= dials_max,
            Reach::Failing { retry_at, .. } => self.dialling > 0 || now < retry_at,
        };
        !is_left_alone && self.overdue == 0
    }

    /// A dial has opened. Says whether anything follows from that: not if it was under way when
    /// another one ended too soon.
    pub(super) fn handle_open(&mut self, now: Instant) -> bool {
        match (self.footing, self.reach) {
            (Footing::Doubtful, Reach::Reached) => false,
            (Footing::Doubtful, Reach::Failing { retry_at }) if now < retry_at => false,
            (Footing::Doubtful, Reach::Unproven | Reach::Failing { .. }) => {
                self.reach = Reach::Reached;
                true
            }
            (Footing::Sure, _) => {
                self.reach = Reach::Reached;
                self.failures = 0;
                true
            }
        }
    }

    /// What was armed is due. Says whether it is sure again.
    pub(super) fn handle_timeout(&mut self) -> bool {
        self.timer = None;
        let has_stood = self.footing == Footing::Doubtful && self.reach == Reach::Reached;
        if has_stood {
            (self.footing, self.failures) = (Footing::Sure, 0);
        }
        has_stood
    }

    /// A dial has failed, or what it had opened has not stood. Returns when to try again, unless that is settled already: those that were
    /// under way together fail together and count once.
    pub(super) fn handle_failure(
        &mut self,
        now: Instant,
        redial: Redial,
        random: u64,
    ) -> Option<Instant> {
        let failures = self.failures.saturating_add(1);
        let retry_at = self.pause(now, now + redial.delay(failures, random))?;
        self.failures = failures;
        Some(retry_at)
    }

    /// It is left alone until then, unless it is already.
    pub(super) fn pause(&mut self, now: Instant, retry_at: Instant) -> Option<Instant> {
        if let Reach::Failing { retry_at } = self.reach
            && now < retry_at
        {
            return None;
        }
        self.reach = Reach::Failing { retry_at };
        Some(retry_at)
    }
}

/// How long an endpoint is left alone after dials that failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Redial {
    pub(super) first: Duration,
    pub(super) max: Duration,
}

impl Redial {
    /// After so many failures in a row: doubled each time, and between half of it and all of it, so
    /// that pools that have lost an endpoint together do not come back together.
    pub(super) fn delay(self, failures: u32, random: u64) -> Duration {
        let doublings = failures.saturating_sub(1).min(u32::BITS - 1);
        let longest = self.first.saturating_mul(1 << doublings).min(self.max);
        // Half an hour fits, and a delay of nothing would dial without end.
        let longest = longest.clamp(DELAY_MIN, DELAY_MAX);
        longest / 2 + part(longest - longest / 2, random)
    }
}

const DELAY_MIN: Duration = Duration::from_millis(10);
const DELAY_MAX: Duration = Duration::from_secs(3600);

/// A part of `whole`, all parts being as likely; `whole` counts as a year at most.
pub(super) fn part(whole: Duration, random: u64) -> Duration {
    let nanos = whole.min(Duration::from_secs(365 * 86_400)).as_nanos();
    // The product of a number below 2^55 and one below 2^64 fits, its upper half is below 2^55.
    Duration::from_nanos(((nanos * u128::from(random)) >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collections::Key;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn an_endpoint_is_left_alone_twice_as_long_after_each_failure() {
        let redial = Redial { first: S, max: 60 * S };
        for (failures, longest) in [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (u32::MAX, 60)] {
            let longest = longest * S;
            assert_eq!(redial.delay(failures, 0), longest / 2, "{failures}");
            let most = redial.delay(failures, u64::MAX);
            assert!(most <= longest && most > longest - S / 1000, "{failures}: {most:?}");
        }
    }

    #[test]
    fn no_setting_dials_without_end_or_overflows() {
        let nothing = Redial { first: Duration::ZERO, max: Duration::ZERO };
        assert_eq!(nothing.delay(1, 0), DELAY_MIN / 2);
        let all = Redial { first: Duration::MAX, max: Duration::MAX };
        assert!(all.delay(u32::MAX, u64::MAX) <= DELAY_MAX);
        assert!(part(Duration::MAX, u64::MAX) < 366 * 86_400 * S);
    }

    #[test]
    fn dials_that_fail_together_count_once() {
        let now = Instant::now();
        let redial = Redial { first: S, max: 60 * S };
        let id = EndpointId(Key { index: 0, generation: 1 });
        let mut endpoint = Endpoint::new(id);
        let retry_at = endpoint.handle_failure(now, redial, 0).unwrap();
        assert_eq!(endpoint.handle_failure(now, redial, 0), None);
        assert!(!endpoint.may_be_dialled(now, 16));
        assert!(endpoint.may_be_dialled(retry_at, 16));
        assert_eq!(endpoint.handle_failure(retry_at, redial, 0), Some(retry_at + S));
    }
}
