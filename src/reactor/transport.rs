//! The network as the loop uses it: some connections speak TLS, the others are handed through.

use std::io::{self, IoSlice};

use super::context::Writer;
use super::net::{Buffer, Net, NetKey, Received};
use super::tls::{Links, Tls, TlsFacts};
use crate::limits::LoopLimits;
use crate::metrics::Counters;

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

    /// Has `key` speak TLS from here on; `early` was read from it already. Says whether there is
    /// memory for that.
    #[must_use]
    pub(super) fn secure(&mut self, key: NetKey, tls: &Tls, early: &[u8]) -> bool {
        self.links.insert(key, tls, early)
    }

    /// As [`Net::receive`]; `None` if the connection has to wait for the next turn, because this one
    /// has no more time for handshakes.
    #[inline]
    pub(super) fn receive(
        &mut self,
        key: NetKey,
        place: &mut [u8],
        surplus_bytes_max: usize,
    ) -> io::Result<Option<Received>> {
        match self.links.get(key) {
            None => self.net.receive(key, place, surplus_bytes_max).map(Some),
            Some(_) => self.receive_records(key, place, surplus_bytes_max),
        }
    }

    #[inline(never)]
    fn receive_records(
        &mut self,
        key: NetKey,
        place: &mut [u8],
        surplus_bytes_max: usize,
    ) -> io::Result<Option<Received>> {
        if self.links.is_too_much(key) {
            return Err(io::ErrorKind::OutOfMemory.into());
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

    /// Offers what was taken and has not left to the kernel again. Says whether some of it has left.
    ///
    /// # Errors
    /// What the network says, but for `WouldBlock`.
    pub(super) fn flush(&mut self, key: NetKey) -> io::Result<bool> {
        let Some((link, workshop)) = self.links.get(key) else { return Ok(false) };
        workshop.watch(link, |link, _| {
            let pending_bytes = link.pending_bytes();
            match link.flush(&mut self.net, key) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
                _ => Ok(link.pending_bytes() < pending_bytes),
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
        drop(self.links.remove(key));
        self.net.close(key);
    }

    /// What TLS has counted.
    pub(super) fn counters(&self) -> Counters {
        self.links.workshop.counters
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
}
