//! How a pool is described.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::client::balance::{Balance, Ejection, HealthCheck};
use crate::client::load::{LoadSettings, LoadSource, SystemLoad};
use crate::client::rate::Rate;
use crate::client::settings::ClientSettings;
use crate::limits::{ENDPOINTS_MAX, POOL_CONNECTIONS_MAX, POOL_USERS_MAX, POOL_WAITERS_MAX};

/// How many connections a pool has, how long they live and how long they may be held.
///
/// A time of [`Duration::MAX`] never comes, which switches a rule off.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PoolSettings {
    /// Connections that are kept open though nobody uses them, and dialled in the background.
    /// Default 10, guess: a first burst finds them open. 0 dials nothing before it is asked for.
    pub min: u32,
    /// Connections in all; those that are being dialled or closed count, since they have a socket
    /// already, or still. The probes of a health check do not, and a dial counts once though it may
    /// try several addresses of a name at once. Default 1,000. At the bound one waits for those that
    /// come back. At most [`POOL_CONNECTIONS_MAX`].
    pub max: u32,
    /// How many may wait for a connection. Default 10,000, ten for each connection. At the bound
    /// acquiring fails with [`PoolError::TooManyWaiting`](super::PoolError::TooManyWaiting). At most
    /// [`POOL_WAITERS_MAX`].
    pub waiters_max: u32,
    /// Users whose connection is remembered. Default 65,536, of 80 bytes each. At the bound the
    /// user who was not seen for longest is forgotten. At most [`POOL_USERS_MAX`].
    pub users_max: u32,
    /// A connection that was free for longer is asked by a ping before it is handed out. Default
    /// 30 s: below the 60 s after which common proxies drop a silent connection. Zero asks each
    /// that was free for any time at all.
    pub check_after: Duration,
    /// Time for the pong. Default 1 s, guess: dialling another takes less than waiting longer. At
    /// the bound the connection is closed.
    pub pong_timeout: Duration,
    /// A connection that was free for so long is stale, and is closed if more are open than need
    /// be. Default 300 s.
    pub stale_after: Duration,
    /// The oldest that a connection may become; it is closed when it is free. Default 1 h, so that
    /// back ends that were added are used, and addresses that have moved are left. Guess.
    pub age_max: Duration,
    /// So much less than `age_max` at random, so that connections that were dialled together are not
    /// closed together. Default 6 min, a tenth. More than half of `age_max` counts as half.
    pub age_jitter: Duration,
    /// Errors counted on a connection at which it is retired. Default 3, guess. 0 counts as 1.
    pub errors_max: u32,
    /// A lease held for so long is reported. Default 30 s.
    pub leak_after: Duration,
    /// A lease held for so long is revoked: its connection is closed, and another takes its place if
    /// the pool needs one. Default 300 s.
    pub revoke_after: Duration,
    /// Connections dialled at once to one endpoint that answers; to one that has not answered yet,
    /// or not the last time, it is one. Default 16, guess: a listener's backlog has more.
    pub dials_max: u32,
    /// A dial that takes longer is not counted on: others are dialled elsewhere, and its place is
    /// given to them if need be. Default 1 s: three round trips around the world, with TLS.
    pub dial_patience: Duration,
    /// How long an endpoint is left alone after a dial has failed; doubled each time, and less by up
    /// to half at random. Default 1 s.
    pub redial_delay: Duration,
    /// The longest such time. Default 60 s.
    pub redial_delay_max: Duration,
    /// A connection that ends sooner, and not because this end wanted it, counts as a dial that has
    /// failed, though it was open: there are servers that accept and close for want of room. What
    /// has failed before is forgotten when one stands for so long. Default 10 s, guess: longer than
    /// such a server takes to say so. Zero counts none.
    pub stable_after: Duration,
    /// How the number of connections follows the load.
    pub sizing: Sizing,
}

/// How the number of connections that a pool keeps open follows the load.
///
/// The number begins at [`PoolSettings::min`] and moves between that and [`PoolSettings::max`] in
/// steps. Each step is taken when the load is told, so the numbers below are rounded up to how often
/// that is.
///
/// - Above `grow_above`: a quarter more than are kept or handed out, whichever is more; at least one
///   more. Not sooner than `grow_cooldown` after any other step.
/// - Below `shrink_below`: an eighth less, at least one less. Not sooner than `shrink_cooldown`
///   after any other step. As many that are free are closed, those not used for longest, if more are
///   open than are kept.
/// - Between the two: nothing.
///
/// So a load that swings around one of the two bounds never makes a pool swing, and one that swings
/// across both makes it grow rather than shrink.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sizing {
    /// Default 0.8.
    pub grow_above: f64,
    /// Default 0.3.
    pub shrink_below: f64,
    /// Default 10 s, guess: connections dialled in the last step have opened and taken load.
    pub grow_cooldown: Duration,
    /// Default 60 s: the window of the load, which has then forgotten the last step.
    pub shrink_cooldown: Duration,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            min: 10,
            max: 1000,
            waiters_max: 10_000,
            users_max: 65_536,
            check_after: Duration::from_secs(30),
            pong_timeout: Duration::from_secs(1),
            stale_after: Duration::from_secs(300),
            age_max: Duration::from_secs(3600),
            age_jitter: Duration::from_secs(360),
            errors_max: 3,
            leak_after: Duration::from_secs(30),
            revoke_after: Duration::from_secs(300),
            dials_max: 16,
            dial_patience: Duration::from_secs(1),
            redial_delay: Duration::from_secs(1),
            redial_delay_max: Duration::from_secs(60),
            stable_after: Duration::from_secs(10),
            sizing: Sizing::default(),
        }
    }
}

impl Default for Sizing {
    fn default() -> Self {
        Self {
            grow_above: 0.8,
            shrink_below: 0.3,
            grow_cooldown: Duration::from_secs(10),
            shrink_cooldown: Duration::from_secs(60),
        }
    }
}

/// Why there is no such pool.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum PoolConfigError {
    /// It leads nowhere.
    NoEndpoint,
    /// It has more endpoints than [`ENDPOINTS_MAX`].
    TooManyEndpoints,
    /// No connection may be open, or fewer than are to be kept, or more than
    /// [`POOL_CONNECTIONS_MAX`].
    Connections {
        /// How many are to be kept.
        min: u32,
        /// How many may be open.
        max: u32,
    },
    /// More may wait than [`POOL_WAITERS_MAX`], or more users are to be remembered than
    /// [`POOL_USERS_MAX`].
    TooMany(u32),
    /// No connection can answer a ping in no time, or be dialled none at a time.
    Zero,
    /// A lease would be revoked before it is reported.
    RevokedUnreported {
        /// When it would be reported.
        leak_after: Duration,
        /// When it would be revoked.
        revoke_after: Duration,
    },
    /// The pool would grow and shrink at the same load.
    LoadBounds {
        /// It would grow above this.
        grow_above: f64,
        /// It would shrink below this.
        shrink_below: f64,
    },
}

impl fmt::Display for PoolConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEndpoint => out.write_str("a pool needs an endpoint"),
            Self::TooManyEndpoints => {
                write!(out, "a pool has no more than {ENDPOINTS_MAX} endpoints")
            }
            Self::Connections { min, max } => write!(
                out,
                "a pool cannot keep {min} connections of at most {max}; at most there may be \
                 {POOL_CONNECTIONS_MAX}"
            ),
            Self::TooMany(count) => write!(
                out,
                "{count} are too many: {POOL_WAITERS_MAX} may wait, and {POOL_USERS_MAX} users be \
                 remembered"
            ),
            Self::Zero => out.write_str("a pong needs time, and at least one dial at once"),
            Self::RevokedUnreported { leak_after, revoke_after } => write!(
                out,
                "a lease would be revoked after {revoke_after:?}, before it is reported after \
                 {leak_after:?}"
            ),
            Self::LoadBounds { grow_above, shrink_below } => write!(
                out,
                "a pool cannot grow above a load of {grow_above} and shrink below {shrink_below}"
            ),
        }
    }
}

impl std::error::Error for PoolConfigError {}

impl PoolSettings {
    /// Whether a pool can be held to them.
    ///
    /// # Errors
    /// The first of [`PoolConfigError`] that applies.
    pub fn check(&self) -> Result<(), PoolConfigError> {
        let (min, max) = (self.min, self.max);
        if max == 0 || min > max || max > POOL_CONNECTIONS_MAX {
            return Err(PoolConfigError::Connections { min, max });
        }
        if self.waiters_max > POOL_WAITERS_MAX {
            return Err(PoolConfigError::TooMany(self.waiters_max));
        }
        if self.users_max > POOL_USERS_MAX {
            return Err(PoolConfigError::TooMany(self.users_max));
        }
        if self.pong_timeout.is_zero() || self.dials_max == 0 {
            return Err(PoolConfigError::Zero);
        }
        let (leak_after, revoke_after) = (self.leak_after, self.revoke_after);
        if revoke_after < leak_after {
            return Err(PoolConfigError::RevokedUnreported { leak_after, revoke_after });
        }
        let Sizing { grow_above, shrink_below, .. } = self.sizing;
        // A bound that is no number is never crossed.
        if shrink_below > grow_above {
            return Err(PoolConfigError::LoadBounds { grow_above, shrink_below });
        }
        Ok(())
    }
}

/// The description of a pool: where its connections lead, and what it is held to. Cheap to clone; each
/// loop that is given it has a pool of its own.
#[derive(Clone)]
pub struct Pool {
    /// The endpoints and their weights, in the order in which they were given.
    pub(crate) endpoints: Vec<(ClientSettings, u32)>,
    pub(crate) settings: PoolSettings,
    pub(crate) balance: Balance,
    pub(crate) ejection: Option<Ejection>,
    pub(crate) health_check: Option<HealthCheck>,
    pub(crate) load: LoadSettings,
    pub(crate) load_source: MakeLoadSource,
    pub(crate) rate: Option<Rate>,
}

/// Makes the source of one loop's load.
pub(crate) type MakeLoadSource = Arc<dyn Fn() -> Box<dyn LoadSource> + Send + Sync>;

/// Describes a [`Pool`].
#[derive(Clone, Debug)]
#[must_use]
pub struct PoolBuilder(Pool);

impl Pool {
    /// Begins to describe a pool, with the defaults of everything.
    pub fn builder() -> PoolBuilder {
        PoolBuilder(Self {
            endpoints: Vec::new(),
            settings: PoolSettings::default(),
            balance: Balance::default(),
            ejection: Some(Ejection::default()),
            health_check: None,
            load: LoadSettings::default(),
            load_source: Arc::new(|| Box::new(SystemLoad::new())),
            rate: None,
        })
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Pool")
            .field("endpoints", &self.endpoints)
            .field("settings", &self.settings)
            .field("balance", &self.balance)
            .finish_non_exhaustive()
    }
}

impl PoolBuilder {
    /// Adds an endpoint of the weight 1.
    pub fn endpoint(self, endpoint: ClientSettings) -> Self {
        self.endpoint_of_weight(endpoint, 1)
    }

    /// Adds an endpoint; what its weight is good for, the balancing policy says. 0 counts as 1.
    pub fn endpoint_of_weight(mut self, endpoint: ClientSettings, weight: u32) -> Self {
        self.0.endpoints.push((endpoint, weight.max(1)));
        self
    }

    /// Sets [`PoolSettings::min`].
    pub fn min(mut self, connections: u32) -> Self {
        self.0.settings.min = connections;
        self
    }

    /// Sets [`PoolSettings::max`]. It holds for each loop that is given the pool: a server with four
    /// threads opens up to four times as many.
    pub fn max(mut self, connections: u32) -> Self {
        self.0.settings.max = connections;
        self
    }

    /// Changes any of the other settings.
    pub fn settings(mut self, change: impl FnOnce(&mut PoolSettings)) -> Self {
        change(&mut self.0.settings);
        self
    }

    /// How an endpoint is chosen.
    pub fn balance(mut self, balance: Balance) -> Self {
        self.0.balance = balance;
        self
    }

    /// Changes when an endpoint that fails is left alone.
    pub fn ejection(mut self, change: impl FnOnce(&mut Ejection)) -> Self {
        change(self.0.ejection.get_or_insert_default());
        self
    }

    /// Leaves no endpoint alone, however often it fails.
    pub fn no_ejection(mut self) -> Self {
        self.0.ejection = None;
        self
    }

    /// Probes endpoints, used or not, as a changed [`HealthCheck`] says: each by a connection that is
    /// closed as soon as it is open. Without this none is probed.
    pub fn health_check(mut self, change: impl FnOnce(&mut HealthCheck)) -> Self {
        change(self.0.health_check.get_or_insert_default());
        self
    }

    /// Changes how the load is reckoned.
    pub fn load(mut self, change: impl FnOnce(&mut LoadSettings)) -> Self {
        change(&mut self.0.load);
        self
    }

    /// Where the load is read; each loop makes its own. Default: [`SystemLoad`].
    pub fn load_source<S: LoadSource + 'static>(
        mut self,
        make: impl Fn() -> S + Send + Sync + 'static,
    ) -> Self {
        self.0.load_source = Arc::new(move || Box::new(make()));
        self
    }

    /// How much all connections together send in a second at most, as a changed [`Rate`] says, of
    /// what is sent by [`Clients::send_leased`](crate::Clients::send_leased). What becomes of more,
    /// the settings of the connection say. Without this as much as they can.
    pub fn rate(mut self, change: impl FnOnce(&mut Rate)) -> Self {
        change(self.0.rate.get_or_insert_default());
        self
    }

    /// The finished description.
    ///
    /// # Errors
    /// [`PoolConfigError::NoEndpoint`], or what [`PoolSettings::check`] says.
    pub fn build(self) -> Result<Pool, PoolConfigError> {
        if self.0.endpoints.is_empty() {
            return Err(PoolConfigError::NoEndpoint);
        }
        if self.0.endpoints.len() > ENDPOINTS_MAX as usize {
            return Err(PoolConfigError::TooManyEndpoints);
        }
        self.0.settings.check()?;
        Ok(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;

    const S: Duration = Duration::from_secs(1);

    fn to(host: &str) -> ClientSettings {
        Client::builder(&format!("ws://{host}/")).build().unwrap()
    }

    fn error(change: impl FnOnce(&mut PoolSettings)) -> PoolConfigError {
        Pool::builder().endpoint(to("a")).settings(change).build().unwrap_err()
    }

    #[test]
    fn a_pool_has_its_documented_defaults() {
        let pool =
            Pool::builder().endpoint(to("a")).endpoint_of_weight(to("b"), 0).build().unwrap();
        let endpoints = pool.endpoints.iter();
        let endpoints: Vec<_> = endpoints.map(|(to, weight)| (to.uri().host(), *weight)).collect();
        assert_eq!(endpoints, [("a", 1), ("b", 1)]);
        let settings = pool.settings;
        assert_eq!((settings.min, settings.max, settings.waiters_max), (10, 1000, 10_000));
        assert_eq!((settings.leak_after, settings.revoke_after), (30 * S, 300 * S));
        assert_eq!(settings.stale_after, 300 * S);
        assert_eq!((settings.sizing.grow_above, settings.sizing.shrink_below), (0.8, 0.3));
    }

    #[test]
    fn what_is_changed_begins_with_the_defaults() {
        let pool = Pool::builder()
            .endpoint(to("a"))
            .ejection(|ejection| ejection.failures = 2)
            .health_check(|check| check.interval = S)
            .load(|load| load.window = 2 * S)
            .rate(|rate| rate.messages_per_second = Some(5));
        let built = pool.clone().build().unwrap();
        assert_eq!(built.ejection, Some(Ejection { failures: 2, ..Ejection::default() }));
        let check = HealthCheck { interval: S, ..HealthCheck::default() };
        assert_eq!(built.health_check, Some(check));
        assert_eq!(built.load, LoadSettings { window: 2 * S, ..LoadSettings::default() });
        let rate = Rate { messages_per_second: Some(5), ..Rate::default() };
        assert_eq!(built.rate, Some(rate));
        assert_eq!(pool.no_ejection().build().unwrap().ejection, None);
    }

    #[test]
    fn what_no_pool_can_be_held_to_is_refused() {
        assert_eq!(Pool::builder().build().unwrap_err(), PoolConfigError::NoEndpoint);
        let connections = |min, max| PoolConfigError::Connections { min, max };
        assert_eq!(error(|s| s.max = 9), connections(10, 9));
        assert_eq!(error(|s| (s.min, s.max) = (0, 0)), connections(0, 0));
        assert_eq!(error(|s| s.max = u32::MAX), connections(10, u32::MAX));
        assert_eq!(error(|s| s.waiters_max = u32::MAX), PoolConfigError::TooMany(u32::MAX));
        assert_eq!(error(|s| s.users_max = u32::MAX), PoolConfigError::TooMany(u32::MAX));
        assert_eq!(error(|s| s.pong_timeout = Duration::ZERO), PoolConfigError::Zero);
        assert_eq!(error(|s| s.dials_max = 0), PoolConfigError::Zero);
        let unreported =
            PoolConfigError::RevokedUnreported { leak_after: 30 * S, revoke_after: 29 * S };
        assert_eq!(error(|s| s.revoke_after = 29 * S), unreported);
        let bounds = PoolConfigError::LoadBounds { grow_above: 0.8, shrink_below: 0.9 };
        assert_eq!(error(|s| s.sizing.shrink_below = 0.9), bounds);
    }
}
