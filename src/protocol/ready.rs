//! What the receiving half has found, before it is lent.

use std::ops::Range;

use super::assembler::{AssemblyKey, ReceivePools};
use super::input::Input;
use crate::wire::Opcode;

/// What is ready to be lent: an [`Event`](super::Event) without its borrows. Plain words, not an
/// enum with fields: it crosses the hottest path, where a union would be put together byte by byte.
pub(super) struct Ready {
    pub(super) source: Source,
    pub(super) opcode: Opcode,
    /// Where the payload lies in the input.
    pub(super) range: Range<usize>,
    /// Where it lies if not there.
    pub(super) assembly: Option<AssemblyKey>,
    /// Payload bytes of the message in earlier pieces.
    pub(super) offset: u64,
    pub(super) fin: bool,
}

/// What [`Ready`] is about.
#[derive(Clone, Copy)]
pub(super) enum Source {
    Message,
    Piece,
    Control,
}

/// What a step has led to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Something can be lent.
    Ready,
    Continue,
    /// The input is used up in mid-frame, or the turn's budget in mid-message.
    Starved,
}

impl Ready {
    pub(super) const NOTHING: Self = Self {
        source: Source::Message,
        opcode: Opcode::Binary,
        range: 0..0,
        assembly: None,
        offset: 0,
        fin: true,
    };

    #[inline]
    pub(super) fn payload<'a>(&self, input: &'a Input<'_>, pools: &'a ReceivePools) -> &'a [u8] {
        match self.assembly {
            None => &input.bytes[self.range.start..self.range.end],
            Some(key) => pools.get(key).payload(),
        }
    }
}
