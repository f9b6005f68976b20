//! The opening handshake of RFC 6455 §4, as values.
//!
//! A server gives a parsed head to [`inspect`]. What comes back is an [`Upgrade`], to be answered
//! by
//! [`write_accept`]; or a plain HTTP [`Request`], to be answered by a [`Response`]; or a
//! [`HandshakeError`], which writes its own answer. A client writes a [`ClientRequest`] and gives
//! the response's head to [`verify`]. Both ends are left with what was [`Negotiated`].
//!
//! A client that has to pass a [`Proxy`] is led through it by a [`Tunnel`] first.
//!
//! Behind a proxy the client is not the peer: who it is stands in a [`ProxyHeader`] in front of the
//! handshake, or in fields of its request that [`Forwarding`] reads. Either counts only if it comes
//! from [`TrustedProxies`].

mod accept;
mod accept_key;
mod client;
mod credentials;
mod error;
mod forwarded;
mod http_connect;
mod negotiated;
mod origins;
mod proxy;
mod proxy_protocol;
mod request;
mod response;
mod routes;
mod server;
mod socks5;
mod trusted;
mod tunnel;

pub use accept::{Accept, SubprotocolNotOffered, write_accept};
pub use accept_key::AcceptKey;
pub use client::{ClientHandshakeError, ClientRequest, Expectation, verify};
pub use error::HandshakeError;
pub use forwarded::{ClientAddress, ForwardedClient, ForwardedField, Forwarding};
pub use negotiated::{Negotiated, NegotiatedExtension};
pub use origins::{AllowList, InvalidOrigin, Origins};
pub use proxy::{InvalidProxy, Proxy};
pub use proxy_protocol::{Proxied, ProxyError, ProxyHeader};
pub use request::Request;
pub use response::{BodyAllowed, InvalidHeader, Persistence, Response};
pub(crate) use routes::RouteMatch;
pub use routes::{RouteError, Routes};
pub use server::{Inspected, Upgrade, inspect};
pub use trusted::{InvalidNetwork, TrustedNetwork, TrustedProxies};
pub use tunnel::{Tunnel, TunnelError, TunnelProgress};

#[cfg(test)]
mod testing;
