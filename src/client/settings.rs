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
        // Headers may be secrets; the URI leaves its query out.
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
    /// an answer like any other that is not 101. From `wss` to `ws` none is followed.
    ///
    /// Where one leads to another host, port or scheme, subprotocols go along, and of the headers
    /// Origin and User-Agent alone: any other may tell who asks, and does not come back with a
    /// further redirection. A client certificate of TLS stays with its host. The trusted authorities
    /// and a server name that was set hold everywhere; what stands in the URL that is redirected to
    /// is the server's choice.
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

    /// Changes when a connection that is lost is dialled again. Never, by
    /// `|reconnect| *reconnect = Reconnect::never()`.
    #[must_use]
    pub fn reconnect(mut self, change: impl FnOnce(&mut Reconnect)) -> Self {
        change(&mut self.reconnect);
        self
    }

    /// Changes what is kept of messages while there is no connection.
    #[must_use]
    pub fn outage(mut self, change: impl FnOnce(&mut Outage)) -> Self {
        change(&mut self.outage);
        self
    }

    /// Has messages wait for others, to be written together, as a changed [`Batch`] says. Without
    /// this none waits longer than its callback.
    #[must_use]
    pub fn batch(mut self, change: impl FnOnce(&mut Batch)) -> Self {
        change(self.batch.get_or_insert_default());
        self
    }

    /// How much each connection sends in a second at most, as a changed [`Rate`] says. Without this
    /// as much as it can.
    #[must_use]
    pub fn rate(mut self, change: impl FnOnce(&mut Rate)) -> Self {
        change(self.rate.get_or_insert_default());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;

    #[test]
    fn secrets_are_not_printed() {
        let to = Client::builder("ws://user.example:444/feed?token=s3cret")
            .header("X-Api-Key", "s3cret")
            .bearer_auth("s3cret");
        let settings = to.clone().build().unwrap();
        for printed in [format!("{to:?}"), format!("{settings:?}"), format!("{:?}", settings.uri())]
        {
            assert!(!printed.contains("s3cret") && !printed.contains("token"), "{printed}");
            assert!(printed.contains("ws://user.example:444/feed"), "{printed}");
        }
        assert_eq!(settings.uri().to_string(), "ws://user.example:444/feed?token=s3cret");
    }

    #[test]
    fn what_is_changed_begins_with_the_defaults_and_adds_up() {
        let settings = Client::builder("ws://a/")
            .reconnect(|reconnect| reconnect.tries_max = Some(3))
            .outage(|outage| outage.messages_max = 7)
            .batch(|batch| batch.max_messages = 5)
            .batch(|batch| batch.max_delay = Duration::ZERO)
            .rate(|rate| rate.messages_per_second = Some(5))
            .build()
            .unwrap();
        let inner = settings.inner();
        let tries_max = Some(3);
        assert_eq!(inner.reconnect, Reconnect { tries_max, ..Reconnect::default() });
        assert_eq!(inner.outage, Outage { messages_max: 7, ..Outage::default() });
        let batch = Batch { max_messages: 5, max_delay: Duration::ZERO, ..Batch::default() };
        assert_eq!(inner.batch, Some(batch));
        assert_eq!(inner.rate, Some(Rate { messages_per_second: Some(5), ..Rate::default() }));
        let never = Client::builder("ws://a/").reconnect(|it| *it = Reconnect::never()).build();
        assert_eq!(never.unwrap().inner().reconnect, Reconnect::never());
        let usual = Client::builder("ws://a/").build().unwrap();
        assert!(usual.inner().batch.is_none() && usual.inner().rate.is_none());
    }
}
