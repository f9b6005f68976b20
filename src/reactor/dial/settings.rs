//! How a connection is dialled.

use std::sync::Arc;
use std::time::Duration;

use crate::handshake::{ClientRequest, Proxy};
use crate::limits::HandshakeLimits;
use crate::protocol::{Config, ConfigError};
use crate::reactor::net::SocketOptions;
use crate::reactor::tls::TlsClient;
use crate::wire::Role;

/// How connections to one server are dialled, and what they are held to. Share one value between
/// all connections of a kind: [`Loop::dial`](crate::Loop::dial) takes it by reference count.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DialSettings {
    /// The opening handshake. An offer of compression is added by [`Config::compression`].
    pub request: ClientRequest,
    /// Of the WebSocket. Its role has to be that of a client.
    pub config: Arc<Config>,
    /// How long each phase may take.
    pub timeouts: DialTimeouts,
    /// How much later the next address is tried while nothing has come of those before. Default
    /// 250 ms (RFC 8305 §8).
    pub attempt_delay: Duration,
    /// The bounds of the answer's head: its bytes and its fields. The rest means nothing here.
    pub handshake: HandshakeLimits,
    /// What leads to the server, where the way is not direct; a Unix socket is always reached
    /// directly. Default `None`. The addresses that are dialled are the proxy's then.
    pub proxy: Option<Proxy>,
    /// What a connection to a `wss` URL is secured with. Default `None`: there are no such connections.
    #[cfg(feature = "tls")]
    pub tls: Option<TlsClient>,
    #[cfg(not(feature = "tls"))]
    pub(crate) tls: Option<TlsClient>,
    /// How the sockets are set up.
    pub sockets: SocketOptions,
}

/// How long the phases of dialling may take, each from its beginning. The closing handshake has
/// [`Config::close_timeout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DialTimeouts {
    /// Asking for the addresses of a name. Default 5 s: resolvers ask a second server after as
    /// much.
    pub resolve: Duration,
    /// Connecting, whatever the number of addresses. Default 10 s: three lost packets (RFC 6298
    /// doubles from one second).
    pub connect: Duration,
    /// Through a proxy, to the server behind it. Default 10 s: it has to connect, too.
    pub tunnel: Duration,
    /// The handshake of TLS. Default 10 s, as a server allows for all of the opening.
    pub tls: Duration,
    /// From the request to the end of the answer's head. Default 10 s, for the same reason.
    pub upgrade: Duration,
}

impl Default for DialTimeouts {
    fn default() -> Self {
        let usual = Duration::from_secs(10);
        Self {
            resolve: Duration::from_secs(5),
            connect: usual,
            tunnel: usual,
            tls: usual,
            upgrade: usual,
        }
    }
}

impl DialSettings {
    /// The default of [`DialSettings::attempt_delay`].
    pub(crate) const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

    /// The defaults.
    pub fn new(request: ClientRequest, config: impl Into<Arc<Config>>) -> Self {
        Self {
            request,
            config: config.into(),
            timeouts: DialTimeouts::default(),
            attempt_delay: Self::ATTEMPT_DELAY,
            handshake: HandshakeLimits::default(),
            proxy: None,
            tls: None,
            sockets: SocketOptions::default(),
        }
    }

    /// What leads to the server, if the way is not direct.
    pub(crate) fn way(&self) -> Option<&Proxy> {
        let is_direct = self.request.uri().unix_socket().is_some();
        self.proxy.as_ref().filter(|_| !is_direct)
    }

    /// Whether connections can be held to them.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        self.config.check(Role::Client)
    }
}
