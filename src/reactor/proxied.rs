//! The PROXY protocol: a proxy in front of us says whose connection it passes on.

use super::endpoint::PeerAddress;
use super::handler::Handler;
use super::listener::ListenerSettings;
use super::net::Net;
use super::slot::{Expects, Inbound};
use super::turn::Reactor;
use crate::collections::Key;
use crate::handshake::{Proxied, ProxyHeader, TrustedProxies};

impl ListenerSettings {
    /// What comes first from this peer. A header is wanted from those that are trusted and from
    /// nobody else: from anybody else it is a malformed request.
    pub(super) fn expects(&self, peer: PeerAddress) -> Expects {
        let is_trusted = |proxies: &TrustedProxies| match peer {
            PeerAddress::Inet(address) => proxies.trusts_ip(address.ip()),
            PeerAddress::Unix => proxies.trusts_unix(),
        };
        if self.proxy_protocol.as_ref().is_some_and(is_trusted) {
            Expects::ProxyHeader
        } else {
            Expects::Request
        }
    }
}

impl<N: Net, H: Handler> Reactor<N, H> {
    /// Looks for a whole header at the front of `bytes`. Whom it names is the peer from here on,
    /// and what follows is the peer's.
    pub(super) fn handle_proxy_header(&mut self, key: Key, bytes: &[u8]) -> Option<usize> {
        let header = match ProxyHeader::parse(bytes) {
            Ok(header) => header?,
            Err(_) => {
                // There is nobody yet who could be answered.
                self.shared.counters.proxy_headers_refused += 1;
                self.end(key);
                return Some(bytes.len());
            }
        };
        let slot = self.shared.slots.get_mut(key)?;
        match header.proxied() {
            Proxied::Inet { source, .. } => slot.peer = PeerAddress::Inet(source).into(),
            Proxied::Unix { .. } => slot.peer = PeerAddress::Unix.into(),
            // The proxy speaks for itself, or does not know either.
            Proxied::Unknown | Proxied::Local => {}
        }
        if let Inbound::Http(http) = &mut self.receivers[key.index as usize].inbound {
            http.expects = Expects::Request;
        }
        let header_bytes = header.header_bytes();
        // A connection that cannot be secured is over, and all of its bytes are done with.
        let behind = &bytes[header_bytes..];
        Some(header_bytes + self.secure(key, behind).unwrap_or(behind.len()))
    }
}
