//! The network as the loop uses it: some connections speak TLS, the others are handed through.

use std::io::{self, IoSlice};

use super::context::Writer;
use super::net::{Buffer, Net, NetKey, Received};
use super::tls::{Links, Tls, TlsClient, TlsFacts, TlsFailure};
use crate::limits::LoopLimits;
use crate::metrics::Counters;

/// What a read has brought.
#[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "most of it only TLS has to tell"))]
pub(super) enum Reading {
    /// Some payload, and so much around it that only TLS needs.
    Some { received: Received, overhead_bytes: usize },
    /// Nothing but what only TLS needs.
    Nothing { overhead_bytes: usize, is_drained: bool },
    /// The end of the stream.
    End,
    /// This turn has no more time for handshakes.
    Later(Urgency),
}

/// Who goes first when there is time for handshakes again.
#[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "only TLS has handshakes that wait"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// It has cost us something already, which would be lost with its deadline.
    Begun,
    Fresh,
}

/// Whether something has left that was taken before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flushed {
    Nothing,
    Some,
}

impl Reading {
    /// A read without TLS.
    #[inline]
    pub(super) fn of_plain<N: Net>(
        net: &mut N,
        key: NetKey,
        place: &mut [u8],
        surplus_bytes_max: usize,
    ) -> io::Result<Self> {
        let received = net.receive(key, place, surplus_bytes_max)?;
        if received.placed_bytes + received.surplus_bytes > 0 {
            return Ok(Self::Some { received, overhead_bytes: 0 });
        }
        net.give_back(received.buffer);
        Ok(Self::End)
    }
}

/// A network whose connections may speak TLS. What the loop reads and writes is payload in any case.
pub(super) struct Transport<N> {
    net: N,
    links: Links,
}

impl<N: Net> Transport<N> {
    pub(super) fn new(net: N, limits: &LoopLimits) -> Self {
        Self { net, links: Links::new(limits) }
    }

    /// The network underneath: listening, accepting, polling, the time.
    pub(super) fn net(&mut self) -> &mut N {
        &mut self.net
    }

    pub(super) fn net_ref(&self) -> &N {
        &self.net
    }

    /// New time for handshakes.
    pub(super) fn begin_turn(&mut self) {
        self.links.workshop.begin_turn();
    }

    /// Has `key` speak TLS from here on; `early` was read from it already.
    ///
    /// # Errors
    /// There is no memory for that, or the configuration cannot be.
    pub(super) fn secure(&mut self, key: NetKey, tls: &Tls, early: &[u8]) -> io::Result<()> {
        self.links.insert(key, tls, early)
    }

    /// Has `key` speak TLS from here on, as a client of `host`: a name, or an address as it is
    /// written. Its first word is said by the first read in a turn that has time for handshakes.
    ///
    /// # Errors
    /// `OutOfMemory` if there is no memory for that; `InvalidInput` if the configuration cannot be,
    /// or no certificate can name this host.
    pub(super) fn secure_client(
        &mut self,
        key: NetKey,
        tls: &TlsClient,
        host: &str,
    ) -> io::Result<()> {
        self.links.insert_client(key, tls, host)
    }

    /// Why TLS has failed where a read or a write said `InvalidData`: what is wrong with the peer's
    /// certificate or its records, or the alert that it has sent; told once. A server refuses a
    /// client's certificate after the client's handshake, so there may be one behind it too.
    pub(super) fn tls_failure(&mut self, key: NetKey) -> Option<TlsFailure> {
        self.links.get(key)?.0.take_failure()
    }

    /// As [`Net::receive`].
    ///
    /// # Errors
    /// As there; `QuotaExceeded` if TLS has no memory for what this connection would make of it.
    #[inline]
    pub(super) fn receive(
        &mut self,
        key: NetKey,
        place: &mut [u8],
        surplus_bytes_max: usize,
    ) -> io::Result<Reading> {
        match self.links.get(key) {
            None => Reading::of_plain(&mut self.net, key, place, surplus_bytes_max),
            Some(_) => self.receive_records(key, place, surplus_bytes_max),
        }
    }

    #[inline(never)]
    fn receive_records(
        &mut self,
        key: NetKey,
        place: &mut [u8],
        surplus_bytes_max: usize,
    ) -> io::Result<Reading> {
        if self.links.is_too_much(key) {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let Some((link, workshop)) = self.links.get(key) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        workshop.watch(link, |link, workshop| {
            link.receive(&mut self.net, key, place, surplus_bytes_max, workshop)
        })
    }

    /// As [`Net::give_back`].
    #[inline]
    pub(super) fn give_back(&mut self, buffer: Buffer) {
        if let Err(buffer) = self.links.workshop.give_back(buffer) {
            self.net.give_back(buffer);
        }
    }

    /// As [`Net::send`].
    #[inline]
    pub(super) fn send(&mut self, key: NetKey, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.links.get(key) {
            None => self.net.send(key, slices),
            Some(_) => self.send_records(key, slices),
        }
    }

    #[inline(never)]
    fn send_records(&mut self, key: NetKey, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some((link, workshop)) = self.links.get(key) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        workshop.watch(link, |link, workshop| link.send(&mut self.net, key, slices, workshop))
    }

    /// Offers what was taken and has not left to the kernel again.
    ///
    /// # Errors
    /// What the network says, but for `WouldBlock`.
    pub(super) fn flush(&mut self, key: NetKey) -> io::Result<Flushed> {
        let Some((link, workshop)) = self.links.get(key) else { return Ok(Flushed::Nothing) };
        workshop.watch(link, |link, _| {
            let pending_bytes = link.pending_bytes();
            match link.flush(&mut self.net, key) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
                _ if link.pending_bytes() < pending_bytes => Ok(Flushed::Some),
                _ => Ok(Flushed::Nothing),
            }
        })
    }

    /// Whether something was taken and has not left.
    pub(super) fn has_pending(&mut self, key: NetKey) -> bool {
        self.links.get(key).is_some_and(|(link, _)| link.pending_bytes() > 0)
    }

    /// Payload that was taken and has perhaps not left.
    pub(super) fn unsent_bytes(&mut self, key: NetKey) -> usize {
        self.links.get(key).map_or(0, |(link, _)| link.unsent_bytes())
    }

    /// Whether `key` speaks TLS.
    pub(super) fn is_secured(&mut self, key: NetKey) -> bool {
        self.links.get(key).is_some()
    }

    /// Whether nothing can be sent yet.
    pub(super) fn is_handshaking(&mut self, key: NetKey) -> bool {
        self.links.get(key).is_some_and(|(link, _)| link.is_handshaking())
    }

    /// What the TLS handshake of `key` has brought to light.
    pub(super) fn tls_facts(&self, key: NetKey) -> Option<TlsFacts<'_>> {
        self.links.facts(key)
    }

    /// As [`Net::shutdown`].
    pub(super) fn shutdown(&mut self, key: NetKey) {
        match self.links.get(key) {
            None => self.net.shutdown(key),
            Some((link, workshop)) => {
                workshop.watch(link, |link, _| link.shutdown(&mut self.net, key));
            }
        }
    }

    /// As [`Net::close`].
    pub(super) fn close(&mut self, key: NetKey) {
        if let Some(mut link) = self.links.remove(key) {
            link.say_goodbye(&mut self.net, key);
        }
        self.net.close(key);
    }

    /// What TLS has counted.
    pub(super) fn counters(&self) -> Counters {
        self.links.workshop.counters
    }

    /// What TLS takes for `key`.
    pub(super) fn bytes_of(&self, key: NetKey) -> usize {
        self.links.bytes_of(key)
    }

    /// Frees what TLS keeps for the next record.
    pub(super) fn shrink(&mut self) {
        self.links.shrink();
    }

    /// What TLS takes for all connections together.
    pub(super) fn pinned_bytes(&self) -> usize {
        self.links.pinned_bytes()
    }

    /// Connections that speak TLS.
    pub(super) fn links(&self) -> usize {
        self.links.count()
    }
}

impl<N: Net> Writer for Transport<N> {
    #[inline]
    fn write(&mut self, key: NetKey, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.send(key, slices)
    }

    #[cfg(feature = "tls")]
    fn tls_facts(&self, key: NetKey) -> Option<TlsFacts<'_>> {
        self.links.facts(key)
    }
}
