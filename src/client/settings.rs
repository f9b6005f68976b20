//! A server to be called and how: made once, good for any number of connections.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::backoff::Reconnect;
use super::batch::{Batch, BatchForm};
use super::blocking::Queues;
use super::outage::Outage;
use super::rate::Rate;
#[cfg(feature = "deflate")]
use crate::deflate::Compression;
use crate::handshake::{ClientRequest, InvalidHeader, Proxy};
use crate::http::{Scheme, UriError, WebSocketUri};
use crate::limits::HandshakeLimits;
use crate::protocol::{Config, ConfigError};
use crate::reactor::{DialSettings, DialTimeouts, SocketOptions};
#[cfg(feature = "tls")]
use crate::reactor::{TlsClient, TlsError};
use crate::wire::Role;

/// A server to be called and how. Cheap to clone; it serves a client, all connections of a pool and
/// a blocking client alike. [`Client::builder`](super::Client::builder) makes it.
#[derive(Clone)]
pub struct ClientSettings(Arc<Inner>);

/// What [`ClientSettings`] share.
#[derive(Clone)]
pub(super) struct Inner {
    pub(super) dial: Arc<DialSettings>,
    pub(super) redirects_max: u8,
    pub(super) reconnect: Reconnect,
    pub(super) outage: Outage,
    pub(super) batch: Option<Batch>,
    pub(super) rate: Option<Rate>,
    pub(super) queues: Queues,
    /// With more unsent than this, a connection is given nothing that can wait.
    pub(super) unsent_bytes_max: usize,
}

/// Makes [`ClientSettings`]. What cannot be is told at the end, by [`ClientBuilder::build`].
#[derive(Clone, Debug)]
pub struct ClientBuilder {
    request: Result<ClientRequest, ClientError>,
    config: Config,
    timeouts: DialTimeouts,
    attempt_delay: Duration,
    handshake: HandshakeLimits,
    sockets: SocketOptions,
    proxy: Option<Proxy>,
    #[cfg(feature = "tls")]
    tls: Option<TlsClient>,
    redirects_max: u8,
    reconnect: Reconnect,
    outage: Outage,
    batch: Option<Batch>,
    rate: Option<Rate>,
    queues: Queues,
}

/// Why there is no client.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ClientError {
    /// The URL cannot be.
    Uri(UriError),
    /// A header, subprotocol or credential cannot stand in a request.
    Header(InvalidHeader),
    /// The configuration of the connections cannot be.
    Config(ConfigError),
    /// There are no settings for TLS: no trusted roots, most often.
    #[cfg(feature = "tls")]
    Tls(Arc<TlsError>),
    /// The URL is `wss`, and the crate was built without the feature `tls`.
    #[cfg(not(feature = "tls"))]
    NoTls,
}

impl ClientSettings {
    /// Where the connections lead.
    pub fn uri(&self) -> &WebSocketUri {
        self.0.dial.request.uri()
    }

    /// How they are dialled, for [`Loop::dial`](crate::Loop::dial).
    pub fn dial(&self) -> &Arc<DialSettings> {
        &self.0.dial
    }

    /// Whether messages are put into envelopes, both ways.
    pub(super) fn has_envelopes(&self) -> bool {
        self.0.batch.as_ref().is_some_and(|batch| batch.form == BatchForm::Envelope)
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.0
    }

    /// The same with another configuration of the connections.
    pub(super) fn with_config(&self, change: impl FnOnce(&mut Config)) -> Self {
        let mut inner = (*self.0).clone();
        let mut dial = (*inner.dial).clone();
        change(Arc::make_mut(&mut dial.config));
        inner.dial = Arc::new(dial);
        Self(Arc::new(inner))
    }
}

impl fmt::Debug for ClientSettings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers may be secrets.
        out.debug_struct("ClientSettings").field("uri", self.uri()).finish_non_exhaustive()
    }
}

impl ClientBuilder {
    pub(super) fn new(url: &str) -> Self {
        let request = WebSocketUri::parse(url).map(ClientRequest::new).map_err(ClientError::Uri);
        Self {
            request,
            config: Config::new(Role::Client),
            timeouts: DialTimeouts::default(),
            attempt_delay: DialSettings::ATTEMPT_DELAY,
            handshake: HandshakeLimits::default(),
            sockets: SocketOptions::default(),
            proxy: None,
            #[cfg(feature = "tls")]
            tls: None,
            redirects_max: 0,
            reconnect: Reconnect::default(),
            outage: Outage::default(),
            batch: None,
            rate: None,
            queues: Queues::default(),
        }
    }

    /// Adds a header to the opening handshake.
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        self.request(|request| request.header(name, value))
    }

    /// Offers one more subprotocol; those offered first are preferred.
    #[must_use]
    pub fn subprotocol(self, name: &str) -> Self {
        self.request(|request| request.subprotocol(name))
    }

    /// Compresses messages, if the server agrees (RFC 7692). Default: not.
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.config.compression = compression;
        self
    }

    /// Changes what the connections are held to: limits, heartbeat, `close_timeout`.
    #[must_use]
    pub fn config(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Changes how the sockets are set up.
    #[must_use]
    pub fn sockets(mut self, change: impl FnOnce(&mut SocketOptions)) -> Self {
        change(&mut self.sockets);
        self
    }

    /// Changes how long the phases of dialling may take.
    #[must_use]
    pub fn timeouts(mut self, change: impl FnOnce(&mut DialTimeouts)) -> Self {
        change(&mut self.timeouts);
        self
    }

    /// How much later the next address is tried while the ones before have not answered. Default
    /// 250 ms (RFC 8305 §8).
    #[must_use]
    pub fn attempt_delay(mut self, delay: Duration) -> Self {
        self.attempt_delay = delay;
        self
    }

    /// The bounds of the answer's head.
    #[must_use]
    pub fn handshake(mut self, limits: HandshakeLimits) -> Self {
        self.handshake = limits;
        self
    }

    /// Follows so many redirections (301, 302, 303, 307, 308) in a row. Default 0: a redirection is
    /// an answer like any other that is not 101. From `wss` to `ws` none is followed, and
    /// credentials do not leave their host.
    #[must_use]
    pub fn redirects(mut self, count_max: u8) -> Self {
        self.redirects_max = count_max;
        self
    }

    /// Says who asks by a user name and a password (RFC 7617).
    #[must_use]
    pub fn basic_auth(self, user: &str, password: &str) -> Self {
        self.request(|request| request.basic_auth(user, password))
    }

    /// Says who asks by a token (RFC 6750).
    #[must_use]
    pub fn bearer_auth(self, token: &str) -> Self {
        self.request(|request| request.bearer_auth(token))
    }

    /// Says from which origin the connection comes, as browsers do.
    #[must_use]
    pub fn origin(self, origin: &str) -> Self {
        self.request(|request| request.origin(origin))
    }

    /// What leads to the server, where the way is not direct. Default: it is.
    #[must_use]
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.proxy = Some(proxy);
        self
    }

    /// What connections to a `wss` URL are secured with. Default: the system's trusted roots, TLS 1.2
    /// and 1.3.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: TlsClient) -> Self {
        self.tls = Some(tls);
        self
    }

    /// When a connection that is lost is dialled again.
    #[must_use]
    pub fn reconnect(mut self, reconnect: Reconnect) -> Self {
        self.reconnect = reconnect;
        self
    }

    /// What is kept of messages while there is no connection.
    #[must_use]
    pub fn outage(mut self, outage: Outage) -> Self {
        self.outage = outage;
        self
    }

    /// Has messages wait for others, to be written together. Default: none waits longer than its
    /// callback.
    #[must_use]
    pub fn batch(mut self, batch: Batch) -> Self {
        self.batch = Some(batch);
        self
    }

    /// How much each connection sends in a second at most. Default: as much as it can.
    #[must_use]
    pub fn rate(mut self, rate: Rate) -> Self {
        self.rate = Some(rate);
        self
    }

    /// Changes how much may wait in a blocking client, on its way out and on its way in.
    #[must_use]
    pub fn queues(mut self, change: impl FnOnce(&mut Queues)) -> Self {
        change(&mut self.queues);
        self
    }

    /// All of it.
    ///
    /// # Errors
    /// The first thing that cannot be, in the order in which they were given.
    pub fn build(self) -> Result<ClientSettings, ClientError> {
        let request = self.request?;
        let may_need_tls = request.uri().scheme() == Scheme::Wss || self.redirects_max > 0;
        let mut dial = DialSettings::new(request, self.config);
        #[cfg(feature = "tls")]
        {
            dial.tls = match self.tls {
                None if may_need_tls => Some(
                    TlsClient::builder()
                        .build()
                        .map_err(|error| ClientError::Tls(Arc::new(error)))?,
                ),
                tls => tls,
            };
        }
        #[cfg(not(feature = "tls"))]
        if may_need_tls && dial.request.uri().scheme() == Scheme::Wss {
            return Err(ClientError::NoTls);
        }
        dial.timeouts = self.timeouts;
        dial.attempt_delay = self.attempt_delay;
        dial.handshake = self.handshake;
        dial.sockets = self.sockets;
        dial.proxy = self.proxy;
        dial.check().map_err(ClientError::Config)?;
        let limits = &dial.config.limits;
        // A message is refused where the queue holds as much as it may.
        let refused_from = limits.backpressure_bytes_max.saturating_sub(1);
        let unsent_bytes_max = limits.high_water_bytes.min(refused_from);
        Ok(ClientSettings(Arc::new(Inner {
            dial: Arc::new(dial),
            redirects_max: self.redirects_max,
            reconnect: self.reconnect,
            outage: self.outage,
            batch: self.batch,
            rate: self.rate,
            queues: self.queues,
            unsent_bytes_max,
        })))
    }

    fn request(
        mut self,
        change: impl FnOnce(ClientRequest) -> Result<ClientRequest, InvalidHeader>,
    ) -> Self {
        let change = |request| change(request).map_err(ClientError::Header);
        self.request = self.request.and_then(change);
        self
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri(error) => error.fmt(out),
            Self::Header(error) => error.fmt(out),
            Self::Config(error) => error.fmt(out),
            #[cfg(feature = "tls")]
            Self::Tls(error) => error.fmt(out),
            #[cfg(not(feature = "tls"))]
            Self::NoTls => out.write_str("a wss URL needs the feature tls"),
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(match self {
            Self::Uri(error) => error,
            Self::Header(error) => error,
            Self::Config(error) => error,
            #[cfg(feature = "tls")]
            Self::Tls(error) => &**error,
            #[cfg(not(feature = "tls"))]
            Self::NoTls => return None,
        })
    }
}
