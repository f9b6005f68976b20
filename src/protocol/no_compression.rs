//! What stands in for `compression` without the feature `deflate`: no connection ever agrees on it,
//! which these types that have no values tell the compiler.

use std::sync::Arc;

use bytes::Bytes;

use super::assembler::{AssemblyKey, ReceivePools};
use super::config::Config;
use super::event::Failure;
use super::input::Input;
use super::message::{PreparedMessage, SendOutcome};
use super::pools::Contexts;
use super::ready::{Ready, Step};
use super::receiver::Receiver;
use super::stage::Fault;
use super::transmit::Transmit;
use crate::handshake::NegotiatedExtension;
use crate::http::Extension;
use crate::limits::LoopLimits;
use crate::wire::{Opcode, Role};

/// Nothing to be set.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compression(());

/// What is wrong with an answer to no offer.
#[cfg(feature = "net")]
#[derive(Clone, Copy, Debug)]
pub(crate) enum AnswerError {}

/// What nobody has agreed on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Agreement {}

#[derive(Clone, Copy, Debug)]
pub enum DeflateKey {}

#[derive(Clone, Copy, Debug)]
pub enum InflateKey {}

#[derive(Debug)]
pub(super) enum Takeover {}

#[derive(Debug)]
pub(super) enum Inflating {}

#[derive(Debug)]
pub(super) struct InflatePool;

#[derive(Debug)]
pub(super) struct DeflatePool;

#[derive(Debug)]
pub(super) enum Variants {}

impl Config {
    pub(crate) fn agree<'a>(
        &self,
        _: impl IntoIterator<Item = Extension<'a>>,
    ) -> Option<Agreement> {
        None
    }

    #[cfg(feature = "net")]
    pub(crate) fn offer(&self) -> Option<String> {
        None
    }

    #[cfg(feature = "net")]
    pub(crate) fn conclude(
        &self,
        _: &mut crate::handshake::Negotiated,
    ) -> Result<Option<Agreement>, AnswerError> {
        Ok(None)
    }

    pub(super) fn compresses(&self, _: usize) -> bool {
        let Compression(()) = self.compression;
        false
    }
}

pub(crate) fn keys(agreement: &Agreement, _: Role) -> (DeflateKey, InflateKey) {
    match *agreement {}
}

impl From<&Agreement> for NegotiatedExtension {
    fn from(agreement: &Agreement) -> Self {
        match *agreement {}
    }
}

impl InflatePool {
    pub(super) fn new(_: &LoopLimits) -> Self {
        Self
    }

    pub(super) fn pinned_bytes(&self) -> usize {
        0
    }

    pub(super) fn shrink(&mut self) {}

    pub(super) fn window_bytes(&self, key: InflateKey) -> usize {
        match key {}
    }

    pub(super) fn inflaters_in_use(&self) -> usize {
        0
    }

    pub(super) fn windows(&self) -> usize {
        0
    }

    pub(super) fn release(&mut self, key: InflateKey) {
        match key {}
    }

    #[expect(clippy::boxed_local, reason = "as with the feature")]
    pub(super) fn put_back(&mut self, inflating: Box<Inflating>) {
        match *inflating {}
    }
}

impl Inflating {
    pub(super) fn pinned_bytes(&self) -> usize {
        match *self {}
    }
}

impl ReceivePools {
    pub(super) fn begin_inflating(
        &mut self,
        _: AssemblyKey,
        peer: InflateKey,
    ) -> Result<(), Fault> {
        match peer {}
    }
}

impl Receiver {
    pub(super) fn continue_compressed(
        &mut self,
        _: &mut Ready,
        _: &mut Input<'_>,
        _: &mut ReceivePools,
        _: &Config,
    ) -> Result<Step, Failure> {
        match self.inflate {
            Some(peer) => match peer {},
            None => unreachable!("nobody has agreed on compression"),
        }
    }
}

impl Takeover {
    pub(super) fn pinned_bytes(&self) -> usize {
        match *self {}
    }
}

impl DeflatePool {
    pub(super) fn new(_: &LoopLimits) -> Self {
        Self
    }

    pub(super) fn pinned_bytes(&self) -> usize {
        0
    }

    pub(super) fn shrink(&mut self) {}

    pub(super) fn set_contexts(&mut self, _: Contexts) {}

    pub(super) fn takeovers(&self) -> usize {
        0
    }

    pub(super) fn release(&mut self, takeover: Takeover) {
        match takeover {}
    }
}

impl Transmit<'_> {
    pub(super) fn send_compressed(&mut self, key: DeflateKey, _: Opcode, _: &[u8]) -> SendOutcome {
        match key {}
    }

    pub(super) fn prepared_frame(
        &mut self,
        key: DeflateKey,
        _: &PreparedMessage,
        _: &Variants,
    ) -> Bytes {
        match key {}
    }
}

impl Variants {
    pub(super) fn shared() -> Option<Arc<Self>> {
        None
    }
}

impl DeflateKey {
    pub(super) fn window_bits(self) -> u8 {
        match self {}
    }

    pub(super) fn has_context_takeover(self) -> bool {
        match self {}
    }
}
