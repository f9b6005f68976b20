//! What the receiving half has found, before it is lent.

use std::ops::Range;

use super::assembler::{AssemblyKey, ReceivePools};
use super::event::Event;
use super::input::Input;
use crate::wire::{Opcode, ProtocolError, validate_whole};

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

/// A short message that lies whole in the input, before it is lent.
pub(crate) struct Short {
    pub(crate) opcode: Opcode,
    pub(super) range: Range<usize>,
}

impl Short {
    /// The message, with its text validated.
    #[inline(always)]
    pub(crate) fn event<'a>(&self, input: &'a Input<'_>) -> Result<Event<'a>, ProtocolError> {
        let payload = &input.bytes[self.range.start..self.range.end];
        if self.opcode != Opcode::Text {
            return Ok(Event::Binary(payload));
        }
        validate_whole(payload).map(Event::Text).map_err(|_| ProtocolError::InvalidUtf8)
    }
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
    /// The input is used up in mid-frame.
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
