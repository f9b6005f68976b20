//! What the loop keeps for each connection. This is resident memory: an idle connection is these
//! two slots and nothing else.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::num::NonZeroU32;
use std::time::Instant;

use super::deferral::Deferral;
use super::dial::Dialling;
use super::endpoint::PeerAddress;
use super::net::NetKey;
use crate::collections::{Block, Outbox, TimerKey};
use crate::http::HeadScanner;
use crate::protocol::{Receiver, Sender};

/// The sending side, and all that belongs to the socket.
#[derive(Debug)]
pub(super) struct Slot<D> {
    pub(super) phase: Phase<D>,
    pub(super) peer: PackedAddress,
    pub(super) socket: NetKey,
    pub(super) timer: TimerKey,
    /// Bytes read and not handled.
    pub(super) backlog: Option<BacklogKey>,
    /// Its place among the loop's configurations: its listener's own, or that of its route.
    pub(super) config: u16,
    pub(super) notes: Notes,
}

/// The life of a socket.
///
/// ```text
///  Dialling ──101──────┐ (failed: Ended)
///                      ▼
///   Http ──accepted──► Open ──closed──► Closed ──on_close──► Parting ──► Ended ──reaped at the
///    │                                     └── peer gone ──────┼────────►   ▲     end of the turn
///    └── refused, answered for the last time ─────────────────►┘            │
///    └── peer gone ─────────────────────────────────────────────────────────┘
/// ```
#[derive(Debug)]
pub(super) enum Phase<D> {
    /// Before the upgrade: requests come in, answers go out.
    Http(Outbox),
    /// Dialled, and not open yet.
    Dialling(Box<Dialling<D>>),
    /// A WebSocket.
    Open { sender: Sender, data: D },
    /// `on_close` runs.
    Closed { data: D },
    /// The last output is flushed and the peer's last input thrown away.
    Parting { outbox: Outbox, until: Instant, write_side: WriteSide },
    /// The socket is closed; the slot goes at the end of the turn.
    Ended,
}

/// Whether our end of the stream was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteSide {
    Open,
    Shut,
}

/// When `on_drain` is told, which depends on how much the kernel has refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum DrainOwed {
    /// Nothing is held up.
    #[default]
    No,
    /// More than the low-water mark: when so much has left.
    AtLowWater,
    /// Less: when all of it has left.
    WhenEmpty,
}

/// Facts about a socket that wait to be acted on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Notes {
    /// The socket has input that was not read yet.
    pub(super) readable: bool,
    /// The peer has shut its side or the connection failed: a short read is not the end.
    pub(super) hung_up: bool,
    /// The end of the peer's stream was read.
    pub(super) input_ended: bool,
    /// Stands on the list of those to be served.
    pub(super) queued: bool,
    /// Stands on the list of those whose TLS handshakes wait for a turn with time for them.
    pub(super) awaits_handshake: bool,
    /// Stands on the list of those to be flushed.
    pub(super) dirty: bool,
    /// Who does not want to read.
    pub(super) pauses: Pauses,
    /// Unsent bytes are above the high-water mark, or enough has come behind a request that waits
    /// for its decision.
    pub(super) choked: bool,
    /// When `on_drain` is told.
    pub(super) drain_owed: DrainOwed,
    /// What a write said that happened inside a callback.
    pub(super) write_error: Option<io::ErrorKind>,
}

impl Notes {
    /// Whether reading rests.
    pub(super) const fn is_held(self) -> bool {
        self.pauses.any() || self.choked
    }
}

/// Who has stopped reading from a connection. In one byte, which is all that a slot has room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pauses(u8);

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// The application does not want to.
    Application = 1,
    /// Memory is scarce, and this connection holds much of it.
    Memory = 2,
}

impl Pauses {
    pub(super) const fn any(self) -> bool {
        self.0 != 0
    }

    pub(super) const fn has(self, pause: Pause) -> bool {
        self.0 & pause as u8 != 0
    }

    pub(super) fn add(&mut self, pause: Pause) {
        self.0 |= pause as u8;
    }

    pub(super) fn end(&mut self, pause: Pause) {
        self.0 &= !(pause as u8);
    }
}

/// The receiving side, in a table of its own under the same index, so that a callback can hold
/// bytes of one and send through all.
#[derive(Debug)]
pub(super) struct ReceiveSlot<D> {
    pub(super) inbound: Inbound<D>,
}

impl<D> Default for ReceiveSlot<D> {
    fn default() -> Self {
        Self { inbound: Inbound::default() }
    }
}

/// Who handles what comes in.
#[derive(Debug, Default)]
pub(super) enum Inbound<D> {
    #[default]
    Vacant,
    Http(Box<HttpState<D>>),
    /// What a server answers; the state of that stands in the slot.
    Dialling,
    Open(Receiver),
    Parting {
        discarded_bytes: u32,
    },
}

/// A plain HTTP connection between and inside requests.
#[derive(Debug)]
pub(super) struct HttpState<D> {
    pub(super) scanner: HeadScanner,
    /// Of the request's head, of the next request, or of the decision.
    pub(super) deadline: Instant,
    /// Those that had a whole head.
    pub(super) requests: u16,
    /// Of the request that stands in front.
    pub(super) deferral: Option<Box<Deferral<D>>>,
    pub(super) expects: Expects,
    /// What stands in the backlog was looked at: more input has to come, or a decision.
    pub(super) rests: bool,
}

impl<D> HttpState<D> {
    /// Before the first request, whose head has to be there by `deadline`.
    pub(super) const fn new(deadline: Instant, expects: Expects) -> Self {
        let scanner = HeadScanner::request();
        Self { scanner, deadline, requests: 0, deferral: None, expects, rests: false }
    }

    /// The memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.deferral.as_ref().map_or(0, |deferral| size_of_val(&**deferral))
    }
}

/// What comes next from a connection that is no WebSocket yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expects {
    /// A header of the PROXY protocol.
    ProxyHeader,
    Request,
}

/// The name of a [`Backlog`]; one more than its index, so that `Option` is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BacklogKey(NonZeroU32);

/// Bytes read and not handled, from `at` on.
#[derive(Debug)]
pub(super) struct Backlog {
    pub(super) block: Block,
    pub(super) at: usize,
}

impl BacklogKey {
    pub(super) fn new(index: usize) -> Self {
        let name = u32::try_from(index + 1).expect("fewer backlogs than connections, a u32");
        Self(NonZeroU32::new(name).expect("one more than an index"))
    }

    pub(super) const fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// A [`PeerAddress`] in 24 bytes instead of 32.
#[derive(Clone, Copy, Debug)]
pub(super) struct PackedAddress {
    octets: [u8; 16],
    scope_id: u32,
    port: u16,
    family: Family,
}

#[derive(Clone, Copy, Debug)]
enum Family {
    V4,
    V6,
    Unix,
}

impl From<PeerAddress> for PackedAddress {
    fn from(address: PeerAddress) -> Self {
        let mut packed = Self { octets: [0; 16], scope_id: 0, port: 0, family: Family::Unix };
        match address {
            PeerAddress::Unix => {}
            PeerAddress::Inet(SocketAddr::V4(v4)) => {
                packed.octets[..4].copy_from_slice(&v4.ip().octets());
                (packed.port, packed.family) = (v4.port(), Family::V4);
            }
            PeerAddress::Inet(SocketAddr::V6(v6)) => {
                (packed.octets, packed.scope_id) = (v6.ip().octets(), v6.scope_id());
                (packed.port, packed.family) = (v6.port(), Family::V6);
            }
        }
        packed
    }
}

impl PackedAddress {
    pub(super) fn unpack(&self) -> PeerAddress {
        match self.family {
            Family::V4 => {
                let [a, b, c, d, ..] = self.octets;
                PeerAddress::Inet((Ipv4Addr::new(a, b, c, d), self.port).into())
            }
            Family::V6 => {
                let ip = Ipv6Addr::from(self.octets);
                PeerAddress::Inet(SocketAddrV6::new(ip, self.port, 0, self.scope_id).into())
            }
            Family::Unix => PeerAddress::Unix,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_packing() {
        for text in ["127.0.0.1:9001", "0.0.0.0:0", "[::1]:65535", "[fe80::1%3]:80"] {
            let address = PeerAddress::Inet(text.parse().unwrap());
            assert_eq!(PackedAddress::from(address).unpack(), address);
        }
        assert_eq!(PackedAddress::from(PeerAddress::Unix).unpack(), PeerAddress::Unix);
    }

    #[test]
    fn an_idle_connection_stays_small() {
        // Two slots, the wheel's entry (24), the table's generation (8), the socket (4).
        assert!(size_of::<Slot<()>>() + size_of::<ReceiveSlot<()>>() <= 136);
    }
}
