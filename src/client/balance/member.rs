//! One endpoint of a balancer.

use std::num::NonZeroU32;
use std::time::Instant;

use super::health::Health;

/// What an endpoint gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndpointState {
    /// Its share.
    Serving,
    /// Nothing, until a back-off is over.
    Ejected,
    /// One request at a time, or a probe, until one has succeeded.
    OnTrial,
    /// Nothing new; what is out comes back.
    Draining,
    /// Nothing new, and what is out may be taken from its holders.
    Removed,
}

/// What is known about an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointStats {
    /// What it gets.
    pub state: EndpointState,
    /// Its weight.
    pub weight: NonZeroU32,
    /// What was acquired there and not yet released.
    pub active: u64,
    /// How often it was picked.
    pub picks: u64,
    /// Failures, of probes too.
    pub failures: u64,
    /// Ejections, those after a failed trial too.
    pub ejections: u64,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: Box<str>,
    pub(super) weight: NonZeroU32,
    pub(super) membership: Membership,
    pub(super) health: Health,
    pub(super) probing: Probing,
    pub(super) active: u64,
    /// The current weight of smooth round robin: how far it is behind what its weight promises.
    pub(super) credit: i64,
    pub(super) picks: u64,
    pub(super) failures: u64,
    pub(super) ejections: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Membership {
    Member,
    Draining,
    Removed,
}

/// Where the checks of one endpoint stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probing {
    Off,
    At(Instant),
    Due,
    UnderWay,
}

impl Member {
    pub(super) fn new(name: &str, weight: NonZeroU32, first_probe: Probing, now: Instant) -> Self {
        Self {
            name: name.into(),
            weight,
            membership: Membership::Member,
            health: Health::new(now),
            probing: first_probe,
            active: 0,
            credit: 0,
            picks: 0,
            failures: 0,
            ejections: 0,
        }
    }

    /// One that was leaving is wanted again, whatever was thought of it.
    pub(super) fn rejoin(&mut self, first_probe: Probing, now: Instant) {
        self.membership = Membership::Member;
        self.health = Health::new(now);
        if self.probing != Probing::UnderWay {
            self.probing = first_probe;
        }
    }

    pub(super) fn stats(&self) -> EndpointStats {
        let state = match (self.membership, self.health) {
            (Membership::Draining, _) => EndpointState::Draining,
            (Membership::Removed, _) => EndpointState::Removed,
            (Membership::Member, Health::Serving { .. }) => EndpointState::Serving,
            (Membership::Member, Health::Ejected { .. }) => EndpointState::Ejected,
            (Membership::Member, Health::OnTrial { .. }) => EndpointState::OnTrial,
        };
        let Self { weight, active, picks, failures, ejections, .. } = *self;
        EndpointStats { state, weight, active, picks, failures, ejections }
    }

    pub(super) fn is_open(&self) -> bool {
        self.membership == Membership::Member && self.health.is_open()
    }

    pub(super) fn is_gone(&self) -> bool {
        self.membership != Membership::Member && self.active == 0
    }

    pub(super) fn weight(&self) -> i64 {
        i64::from(self.weight.get())
    }

    pub(super) fn load(&self) -> Load {
        Load { active: self.active, weight: self.weight }
    }

    pub(super) fn timeout(&self) -> Option<Instant> {
        if self.membership != Membership::Member {
            return None;
        }
        let probe = match (self.health, self.probing) {
            // Between an ejection and its trial the back-off alone says when.
            (Health::Serving { .. }, Probing::At(at)) => Some(at),
            (Health::Ejected { .. } | Health::OnTrial { .. }, Probing::At(_))
            | (_, Probing::Off | Probing::Due | Probing::UnderWay) => None,
        };
        self.health.timeout().or(probe)
    }
}

/// What is active for each unit of weight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    active: u64,
    weight: NonZeroU32,
}

impl Ord for Load {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // Fractions are compared by multiplying: there is nothing to round.
        let scaled = |load: &Self, by: NonZeroU32| u128::from(load.active) * u128::from(by.get());
        scaled(self, other.weight).cmp(&scaled(other, self.weight))
    }
}

impl PartialOrd for Load {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Load {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Load {}
