//! Whether an endpoint is in service, judged by how what was sent there went.

use std::time::{Duration, Instant};

use crate::limits::BALANCE_WAIT_MAX;

/// When an endpoint that fails is left out for a while, and for how long.
///
/// The state of one endpoint:
///
/// ```text
///            `failures` in a row
///  serving ─────────────────────► ejected ◄────────────┐
///     ▲                              │ back-off is over │ the trial fails,
///     │                              ▼                 │ the back-off doubles
///     └──────────────────────────  on trial ───────────┘
///           the trial succeeds
/// ```
///
/// On trial one request at a time goes to the endpoint, and none else.
///
/// # Panic mode
/// At most [`Ejection::ejected_percent_max`] of the endpoints are ejected or on trial at once. What
/// looks like so many that are down is more often our own network, and those that are left could
/// not carry the load of all. At the bound, endpoints that fail stay in service. If the bound falls
/// because endpoints are removed, those that had the least to wait come back into service untried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ejection {
    /// So many failures in a row eject. Default 5, as in Envoy. 0 counts as 1.
    pub failures: u32,
    /// The first back-off, doubled for each ejection that follows. Default 1 s, as the first delay
    /// of a reconnect. What is waited is between half of it and all of it, so that loops that have
    /// ejected together do not come back together.
    pub back_off: Duration,
    /// The longest back-off. Default 60 s, as for a reconnect. An endpoint that is in service for so
    /// long begins with the first back-off again.
    pub back_off_max: Duration,
    /// A trial without a result after so long makes way for the next. Default 30 s: longer than
    /// dialling may take.
    pub trial_timeout: Duration,
    /// So many of a hundred endpoints may be out of service, rounded down. Default 50: one of two
    /// or three, two of four, and never the only one. Above 100 counts as 100, which allows that
    /// none is left.
    pub ejected_percent_max: u8,
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            failures: 5,
            back_off: Duration::from_secs(1),
            back_off_max: Duration::from_secs(60),
            trial_timeout: Duration::from_secs(30),
            ejected_percent_max: 50,
        }
    }
}

impl Ejection {
    /// How many of so many endpoints may be out of service.
    pub(super) fn ejected_max(&self, endpoints: usize) -> usize {
        endpoints * usize::from(self.ejected_percent_max.min(100)) / 100
    }

    /// What the ejection of this number, counted from 1, waits.
    fn delay(&self, level: u32, random: u64) -> Duration {
        let doublings = level.saturating_sub(1).min(u32::BITS - 1);
        let longest = self.back_off.saturating_mul(1 << doublings);
        let longest = longest.min(self.back_off_max).min(BALANCE_WAIT_MAX);
        longest / 2 + scaled(longest - longest / 2, random)
    }
}

/// Active checks: endpoints are probed whether they are used or not, and one that comes back from
/// an ejection is tried by a probe instead of by somebody's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HealthCheck {
    /// From the result of one probe of an endpoint to the next one, give or take a tenth. Default
    /// 10 s, as in Kubernetes. Less than a millisecond counts as one.
    pub interval: Duration,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self { interval: Duration::from_secs(10) }
    }
}

impl HealthCheck {
    pub(super) fn next(&self, now: Instant, random: u64) -> Instant {
        let interval = self.interval.clamp(Duration::from_millis(1), BALANCE_WAIT_MAX);
        now + interval * 9 / 10 + scaled(interval / 5, random)
    }
}

/// How something that was sent to an endpoint went: a dial, a request, a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Success,
    /// The endpoint is to blame, so far as one can tell.
    Failure,
}

/// Whether an endpoint is in service; the diagram stands at [`Ejection`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Serving {
        failures_in_row: u32,
        /// When it came into service.
        since: Instant,
        /// Ejections since it was last stable.
        level: u32,
    },
    Ejected {
        until: Instant,
        level: u32,
    },
    OnTrial {
        trial: Trial,
        level: u32,
    },
}

/// The one request that decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trial {
    /// The next pick may be it.
    Wanted,
    /// A pick has become it; its result may fail to come.
    Picked { until: Instant },
    /// A probe is it; its result comes.
    Probe,
}

/// What is to be done about an endpoint after an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Sentence {
    Keep,
    /// If not too many are ejected already.
    EjectIfRoom,
    /// It was on trial, so it is counted among the ejected already.
    EjectAgain,
}

impl Health {
    pub(super) const fn new(now: Instant) -> Self {
        Self::Serving { failures_in_row: 0, since: now, level: 0 }
    }

    pub(super) const fn is_serving(&self) -> bool {
        matches!(self, Self::Serving { .. })
    }

    /// Whether a pick may choose the endpoint.
    pub(super) const fn is_open(&self) -> bool {
        match self {
            Self::Serving { .. } | Self::OnTrial { trial: Trial::Wanted, .. } => true,
            Self::Ejected { .. }
            | Self::OnTrial { trial: Trial::Picked { .. } | Trial::Probe, .. } => false,
        }
    }

    /// A pick has chosen the endpoint.
    pub(super) fn handle_pick(&mut self, now: Instant, ejection: &Ejection) {
        if let Self::OnTrial { trial, .. } = self {
            *trial = Trial::Picked { until: now + ejection.trial_timeout.min(BALANCE_WAIT_MAX) };
        }
    }

    /// Something went so. Between an ejection and its trial that says nothing new: it was begun
    /// before.
    pub(super) fn handle_outcome(
        &mut self,
        outcome: Outcome,
        now: Instant,
        ejection: &Ejection,
    ) -> Sentence {
        match (self, outcome) {
            (Self::Serving { failures_in_row, .. }, Outcome::Success) => *failures_in_row = 0,
            (Self::Serving { failures_in_row, .. }, Outcome::Failure) => {
                *failures_in_row = failures_in_row.saturating_add(1);
                if *failures_in_row >= ejection.failures {
                    return Sentence::EjectIfRoom;
                }
            }
            (Self::Ejected { .. } | Self::OnTrial { trial: Trial::Wanted, .. }, _) => {}
            (health @ Self::OnTrial { .. }, Outcome::Success) => health.readmit(now),
            (Self::OnTrial { .. }, Outcome::Failure) => return Sentence::EjectAgain,
        }
        Sentence::Keep
    }

    pub(super) fn eject(&mut self, now: Instant, random: u64, ejection: &Ejection) {
        let level = match *self {
            Self::Serving { since, .. }
                if now.saturating_duration_since(since) >= ejection.back_off_max =>
            {
                1
            }
            Self::Serving { level, .. }
            | Self::Ejected { level, .. }
            | Self::OnTrial { level, .. } => level.saturating_add(1),
        };
        *self = Self::Ejected { until: now + ejection.delay(level, random), level };
    }

    /// Back into service; a relapse waits longer than the last time.
    pub(super) fn readmit(&mut self, now: Instant) {
        let (Self::Serving { level, .. }
        | Self::Ejected { level, .. }
        | Self::OnTrial { level, .. }) = *self;
        *self = Self::Serving { failures_in_row: 0, since: now, level };
    }

    /// When time will change something.
    pub(super) const fn timeout(&self) -> Option<Instant> {
        match self {
            Self::Ejected { until, .. } | Self::OnTrial { trial: Trial::Picked { until }, .. } => {
                Some(*until)
            }
            Self::Serving { .. } | Self::OnTrial { trial: Trial::Wanted | Trial::Probe, .. } => {
                None
            }
        }
    }

    /// The time has come: a trial, of this kind, is next.
    pub(super) fn begin_trial(&mut self, trial: Trial) {
        if let Self::Ejected { level, .. } | Self::OnTrial { level, .. } = *self {
            *self = Self::OnTrial { trial, level };
        }
    }
}

/// A part of `whole`, all parts being as likely.
fn scaled(whole: Duration, random: u64) -> Duration {
    // What is waited is never above a day, whose nanoseconds take 47 bits.
    let nanos = (whole.as_nanos() * u128::from(random)) >> 64;
    Duration::from_nanos(nanos as u64)
}
