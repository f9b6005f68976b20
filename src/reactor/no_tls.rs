//! What stands in for `tls` without the feature: no connection ever speaks TLS, which a type that
//! has no values tells the compiler.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::marker::PhantomData;

use super::net::{Buffer, Net, NetKey};
use super::transport::Reading;
use crate::limits::LoopLimits;
use crate::metrics::Counters;

/// What no listener has.
#[derive(Clone, Debug)]
pub enum Tls {}

/// What no dialler has.
#[derive(Clone, Debug)]
pub enum TlsClient {}

/// Why nothing has failed.
pub(super) type TlsFailure = Box<dyn std::error::Error + Send + Sync>;

/// Whether what has not failed will pass.
pub(super) fn is_passing(_: &(dyn std::error::Error + 'static)) -> bool {
    false
}

/// What nobody knows.
pub type TlsFacts<'a> = PhantomData<&'a Infallible>;

/// What no connection has.
pub(super) enum Link {}

/// What nobody works in.
pub(super) struct Workshop {
    pub(super) counters: Counters,
}

/// Of no connection.
pub(super) struct Links {
    pub(super) workshop: Workshop,
}

impl Links {
    pub(super) fn new(_: &LoopLimits) -> Self {
        Self { workshop: Workshop { counters: Counters::default() } }
    }

    #[inline(always)]
    pub(super) fn get(&mut self, _: NetKey) -> Option<(&mut Link, &mut Workshop)> {
        None
    }

    pub(super) fn facts(&self, _: NetKey) -> Option<TlsFacts<'_>> {
        None
    }

    pub(super) fn insert(&mut self, _: NetKey, tls: &Tls, _: &[u8]) -> io::Result<()> {
        match *tls {}
    }

    pub(super) fn insert_client(&mut self, _: NetKey, tls: &TlsClient, _: &str) -> io::Result<()> {
        match *tls {}
    }

    pub(super) fn remove(&mut self, _: NetKey) -> Option<Box<Link>> {
        None
    }

    pub(super) fn is_too_much(&mut self, _: NetKey) -> bool {
        false
    }

    pub(super) fn bytes_of(&self, _: NetKey) -> usize {
        0
    }

    pub(super) fn shrink(&mut self) {}

    pub(super) fn pinned_bytes(&self) -> usize {
        0
    }

    pub(super) fn count(&self) -> usize {
        0
    }
}

impl Workshop {
    pub(super) fn begin_turn(&mut self) {}

    #[inline(always)]
    pub(super) fn give_back(&mut self, buffer: Buffer) -> Result<(), Buffer> {
        Err(buffer)
    }

    pub(super) fn watch<T>(
        &mut self,
        link: &mut Link,
        _: impl FnOnce(&mut Link, &mut Self) -> T,
    ) -> T {
        match *link {}
    }
}

impl Link {
    pub(super) fn take_failure(&mut self) -> Option<TlsFailure> {
        match *self {}
    }

    pub(super) fn receive<N: Net>(
        &mut self,
        _: &mut N,
        _: NetKey,
        _: &mut [u8],
        _: usize,
        _: &mut Workshop,
    ) -> io::Result<Reading> {
        match *self {}
    }

    pub(super) fn send<N: Net>(
        &mut self,
        _: &mut N,
        _: NetKey,
        _: &[IoSlice<'_>],
        _: &mut Workshop,
    ) -> io::Result<usize> {
        match *self {}
    }

    pub(super) fn flush<N: Net>(&mut self, _: &mut N, _: NetKey) -> io::Result<()> {
        match *self {}
    }

    pub(super) fn shutdown<N: Net>(&mut self, _: &mut N, _: NetKey) {
        match *self {}
    }

    pub(super) fn say_goodbye<N: Net>(&mut self, _: &mut N, _: NetKey) {
        match *self {}
    }

    pub(super) fn pending_bytes(&self) -> usize {
        match *self {}
    }

    pub(super) fn unsent_bytes(&self) -> usize {
        match *self {}
    }

    pub(super) fn is_handshaking(&self) -> bool {
        match *self {}
    }
}
