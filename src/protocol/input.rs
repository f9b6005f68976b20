//! Bytes on their way through the receiving half.

use std::ops::Range;

use crate::wire::{MaskingKey, mask};

/// Bytes being handled; payloads are unmasked in place and lent from here.
#[derive(Debug)]
pub struct Input<'i> {
    pub(super) bytes: &'i mut [u8],
    pub(super) at: usize,
}

impl<'i> Input<'i> {
    /// All of `bytes`.
    pub fn new(bytes: &'i mut [u8]) -> Self {
        Self { bytes, at: 0 }
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

    #[inline]
    pub(super) fn unmask(&mut self, range: &Range<usize>, masking_key: MaskingKey) {
        if masking_key != MaskingKey::IDENTITY {
            mask::apply(&mut self.bytes[range.clone()], masking_key);
        }
    }
}
