//! Bytes on their way through the receiving half.

use std::ops::Range;

use super::event::Event;
use crate::wire::{Header, MaskingKey, Opcode, ProtocolError, Role, mask};

/// Bytes being handled; payloads are unmasked in place and lent from here.
#[derive(Debug)]
pub struct Input<'i> {
    pub(super) bytes: &'i mut [u8],
    pub(super) at: usize,
    /// Where handling is to rest. What is inflated moves it nearer.
    rest_at: usize,
}

/// What a short message is held to.
#[derive(Clone, Copy)]
pub(crate) struct ShortRules {
    pub(super) role: Role,
    pub(super) payload_bytes_max: usize,
}

/// A short message that lies whole in the input, before it is lent.
pub(crate) struct Short {
    opcode: Opcode,
    range: Range<usize>,
}

impl Short {
    /// The message, with its text validated.
    #[inline(always)]
    pub(crate) fn event<'a>(&self, input: &'a Input<'_>) -> Result<Event<'a>, ProtocolError> {
        Event::message(self.opcode, &input.bytes[self.range.start..self.range.end])
    }
}

impl<'i> Input<'i> {
    /// All of `bytes`.
    pub fn new(bytes: &'i mut [u8]) -> Self {
        Self::within(bytes, usize::MAX)
    }

    /// Of `bytes` as much as a budget allows, in which what they inflate to counts too. A message
    /// that is not compressed is handled to its end.
    pub(crate) fn within(bytes: &'i mut [u8], budget_bytes: usize) -> Self {
        Self { bytes, at: 0, rest_at: budget_bytes }
    }

    /// How much of the budget is left.
    #[inline]
    pub(crate) const fn budget_bytes(&self) -> usize {
        self.rest_at.saturating_sub(self.at)
    }

    /// Counts `cost` bytes besides those handled.
    pub(super) const fn charge(&mut self, cost: usize) {
        self.rest_at = self.rest_at.saturating_sub(cost);
    }

    /// How many bytes were handled.
    pub const fn consumed(&self) -> usize {
        self.at
    }

    /// The bytes not handled yet.
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    pub(super) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `bytes` as a range; the caller has checked that they are there.
    pub(super) fn take(&mut self, bytes: usize) -> Range<usize> {
        let start = self.at;
        self.at += bytes;
        start..self.at
    }

    /// The next message, if it is a short one that is here as a whole: what nearly every message
    /// is, found without a look at anything else. To be called only where a message may begin,
    /// which it is again afterwards.
    #[inline(always)]
    pub(crate) fn next_short(&mut self, rules: ShortRules) -> Option<Short> {
        let header = Header::parse_short(self.rest(), rules.role)?;
        let frame_bytes = header.header_bytes + header.payload_bytes;
        if frame_bytes > self.remaining() || header.payload_bytes > rules.payload_bytes_max {
            return None;
        }
        let range = self.at + header.header_bytes..self.at + frame_bytes;
        self.at += frame_bytes;
        self.unmask(&range, header.masking_key);
        Some(Short { opcode: header.opcode, range })
    }

    #[inline(always)]
    pub(super) fn unmask(&mut self, range: &Range<usize>, masking_key: MaskingKey) {
        if masking_key != MaskingKey::IDENTITY {
            mask::apply(&mut self.bytes[range.clone()], masking_key);
        }
    }
}
