//! Who may open one more WebSocket, and what those are told who may not.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::handler::Handler;
use super::net::Net;
use super::turn::Reactor;
use crate::collections::Key;
use crate::handshake::{HandshakeError, Inspected, Response};
use crate::limits::LoopLimits;

/// What an overloaded server tells clients to wait. Guess: long enough to spread a stampede, short
/// enough to be there when room returns.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Why a loop takes no more WebSockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAdmission {
    /// It parts.
    Draining { retry_after: Duration },
    /// It has as many as it may have.
    Full,
    /// The address has its share.
    AddressFull,
    /// Memory is scarce.
    MemoryScarce,
}

impl NoAdmission {
    /// What is answered: 503 with `Retry-After`.
    pub(super) fn error(self) -> HandshakeError {
        let retry_after = match self {
            Self::Draining { retry_after } => retry_after,
            Self::Full | Self::AddressFull | Self::MemoryScarce => RETRY_AFTER,
        };
        let retry_after_seconds = seconds(retry_after);
        match self {
            Self::Draining { .. } => HandshakeError::Draining { retry_after_seconds },
            Self::Full | Self::AddressFull | Self::MemoryScarce => {
                HandshakeError::Overloaded { retry_after_seconds }
            }
        }
    }
}

/// Whole seconds, which is what `Retry-After` counts in (RFC 9110 §10.2.3); rounded up.
pub(super) fn seconds(time: Duration) -> u32 {
    let whole = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    u32::try_from(whole).unwrap_or(u32::MAX)
}

/// Counts accepted connections by address. Those from Unix sockets have none.
#[derive(Debug, Default)]
pub(super) struct Admission {
    by_address: HashMap<IpAddr, u32>,
}

impl Admission {
    /// Whether one more from there may open.
    pub(super) fn permits(&self, address: Option<IpAddr>, limits: &LoopLimits) -> bool {
        let from_there = address.and_then(|address| self.by_address.get(&address)).copied();
        let from_there = from_there.unwrap_or(0);
        limits.connections_per_address_max.is_none_or(|bound| from_there < bound)
    }

    pub(super) fn arrive(&mut self, address: Option<IpAddr>, limits: &LoopLimits) {
        if limits.connections_per_address_max.is_some()
            && let Some(address) = address
        {
            *self.by_address.entry(address).or_default() += 1;
        }
    }

    pub(super) fn depart(&mut self, address: Option<IpAddr>) {
        if let Some(address) = address
            && let Some(count) = self.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

impl<N: Net, H: Handler> Reactor<N, H> {
    /// Whether the loop takes one more WebSocket, from wherever.
    fn admit(&self) -> Result<(), NoAdmission> {
        if let Some(retry_after) = self.shared.departure.retry_after() {
            return Err(NoAdmission::Draining { retry_after });
        }
        if !self.shared.has_room() {
            return Err(NoAdmission::Full);
        }
        if self.shared.refuses_upgrades() { Err(NoAdmission::MemoryScarce) } else { Ok(()) }
    }

    /// Whether this connection may become one; counts those that may not.
    pub(super) fn check_room(&mut self, key: Key) -> Result<(), HandshakeError> {
        let peer = self.shared.slots.get(key).map(|slot| slot.peer.unpack());
        let is_permitted = peer.is_some_and(|peer| self.admission.permits(peer.ip(), &self.limits));
        let permitted = if is_permitted { Ok(()) } else { Err(NoAdmission::AddressFull) };
        let Err(reason) = self.admit().and(permitted) else { return Ok(()) };
        *match reason {
            NoAdmission::Draining { .. } => &mut self.shared.counters.refused_draining,
            NoAdmission::Full | NoAdmission::AddressFull => {
                &mut self.shared.counters.refused_over_capacity
            }
            NoAdmission::MemoryScarce => &mut self.shared.counters.refused_under_pressure,
        } += 1;
        Err(reason.error())
    }

    /// The answer to a load balancer, if it is one who asks.
    pub(super) fn answer_readiness(
        &self,
        listener: usize,
        inspected: &Inspected<'_>,
    ) -> Option<Response> {
        let path = self.shared.listeners[listener].settings.readiness.as_deref()?;
        let Inspected::Plain(request) = inspected else { return None };
        let asks = matches!(request.method(), "GET" | "HEAD") && request.path() == path;
        asks.then(|| match self.admit() {
            Ok(()) => ready(),
            Err(reason) => reason.error().response(),
        })
    }
}

fn ready() -> Response {
    let response = Response::new(200).and_then(|it| it.header("Content-Type", "text/plain"));
    response.expect("a final status and a field that may stand there").body(b"ready\n".as_slice())
}
