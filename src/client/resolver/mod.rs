//! The addresses of a name: who is asked, where, and for how long an answer holds.

mod cache;
mod order;
mod threads;

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

pub use cache::{Cached, DnsCache, Left, Resolved};
pub use threads::{RequestId, ResolverThreads, Withdrawn};

/// Finds the addresses of names.
///
/// It may block: it is called on helper threads, on several at once, never on a loop. Hosts that are
/// addresses already do not come here. A panic in it is caught and counts as an error.
pub trait Resolver: Send + Sync {
    /// The addresses of `host`, in lower case, with `port`; in the order in which they are to be
    /// tried, within each family.
    ///
    /// # Errors
    /// Whatever it likes; the dial that asked fails with it. No addresses are an error too.
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The system's resolver, `getaddrinfo`: files, DNS and what else the system is set up to ask, in
/// the order of RFC 6724.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok((host, port).to_socket_addrs()?.collect())
    }
}

/// How names are resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DnsSettings {
    /// How long addresses are used. Default 30 s: the system does not tell for how long they hold,
    /// and records that are meant to change, as those of a failover, hold for 30 to 60 s.
    pub found_for: Duration,
    /// How long a name that did not resolve is not asked for again. Default 5 s: shorter, since it
    /// may have been the network.
    pub failed_for: Duration,
    /// Names that are remembered, in each loop. Default 1,024. At the bound the one that ends first
    /// is forgotten. 0 counts as 1.
    pub names_max: usize,
    /// Threads that ask, made when they are needed. Default 4: guess, so that three names whose
    /// servers do not answer do not hold up a fourth. 0 counts as 1. A call for a name that nobody
    /// waits for any more does not count, up to
    /// [`RESOLVE_HUNG_MAX`](crate::limits::RESOLVE_HUNG_MAX) of them.
    pub threads_max: usize,
    /// Requests that wait for a thread. Default 1,024. At the bound further ones fail. 0 counts as 1.
    pub waiting_max: usize,
}

impl Default for DnsSettings {
    fn default() -> Self {
        Self {
            found_for: Duration::from_secs(30),
            failed_for: Duration::from_secs(5),
            names_max: 1024,
            threads_max: 4,
            waiting_max: 1024,
        }
    }
}

/// The address that a host is, where it is one; IPv6 with or without brackets. Those need no
/// resolver. An address with a zone is left to the system, which knows the zones.
pub fn literal(host: &str, port: u16) -> Option<SocketAddr> {
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let address = match inner {
        Some(inner) => IpAddr::V6(inner.parse().ok()?),
        None => host.parse().ok()?,
    };
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_addresses_and_nothing_else() {
        let is = |host: &str, address: &str| {
            assert_eq!(literal(host, 80).map(|found| found.to_string()).as_deref(), Some(address));
        };
        is("127.0.0.1", "127.0.0.1:80");
        is("::1", "[::1]:80");
        is("[::1]", "[::1]:80");
        is("[::ffff:1.2.3.4]", "[::ffff:1.2.3.4]:80");
        for host in ["localhost", "", "[127.0.0.1]", "[::1", "::1]", "fe80::1%lo", "1.2.3", "1"] {
            assert_eq!(literal(host, 80), None, "{host}");
        }
    }

    #[test]
    fn the_system_knows_itself_and_refuses_nonsense() {
        let found = SystemResolver.resolve("localhost", 7).unwrap();
        assert!(!found.is_empty());
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 7));
        // RFC 6761 §6.4: this name never resolves.
        assert!(SystemResolver.resolve("name.invalid", 7).is_err());
    }
}
