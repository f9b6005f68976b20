//! Records that arrive in pieces.

use super::session::{Session, Verdict};
use crate::limits::TLS_INCOMING_BYTES_MAX;

/// What was read and is not done with: a torn record, or whole ones of a torn handshake message. It
/// owns nothing while it is empty.
#[derive(Default)]
pub struct Incoming {
    bytes: Vec<u8>,
    /// Where the torn record begins; at most the length.
    torn_at: usize,
}

/// What bytes have led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// No record is whole yet.
    None,
    Some,
    /// The peer has broken the rules.
    Broken,
}

impl Incoming {
    /// All that is kept, as a session wants it.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    pub fn buffered_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Hands what is kept and `fresh`, which follows it, to `session`; keeps what is not done with.
    pub fn handle(
        &mut self,
        mut fresh: &mut [u8],
        session: &mut dyn Session,
        payload: &mut dyn FnMut(&[u8]),
        output: &mut Vec<u8>,
    ) -> Progress {
        let mut progress = Progress::None;
        while !self.bytes.is_empty() && !fresh.is_empty() {
            let torn_bytes = self.bytes.len() - self.torn_at;
            let taken = missing_bytes(&self.bytes[self.torn_at..]).min(fresh.len());
            let (head, rest) = fresh.split_at_mut(taken);
            self.bytes.extend_from_slice(head);
            fresh = rest;
            let is_whole = missing_bytes(&self.bytes[self.torn_at..]) == 0;
            let has_header = torn_bytes < HEADER_BYTES && torn_bytes + taken >= HEADER_BYTES;
            if !is_whole && !has_header {
                continue;
            }
            // A bad header is seen at once, not when as much has come as it says.
            if is_whole {
                self.torn_at = self.bytes.len();
                progress = Progress::Some;
            }
            let handled = session.handle_records(&mut self.bytes, payload, output);
            self.bytes.drain(..handled.done_bytes);
            self.torn_at = self.torn_at.saturating_sub(handled.done_bytes);
            if handled.verdict == Verdict::Broken || self.bytes.len() > TLS_INCOMING_BYTES_MAX {
                return Progress::Broken;
            }
        }
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
            let torn_at = whole_records(fresh);
            let handled = session.handle_records(fresh, payload, output);
            if handled.verdict == Verdict::Broken {
                return Progress::Broken;
            }
            if torn_at > 0 {
                progress = Progress::Some;
            }
            self.bytes.extend_from_slice(&fresh[handled.done_bytes..]);
            self.torn_at = torn_at.saturating_sub(handled.done_bytes);
        }
        progress
    }
}

/// A record's header (RFC 8446 §5.1): its type, a version, and its length in two bytes.
const HEADER_BYTES: usize = 5;

/// How much is missing of the record, or else of the header, that `torn` begins with.
fn missing_bytes(torn: &[u8]) -> usize {
    match *torn {
        [_, _, _, high, low, ..] => {
            let record_bytes = HEADER_BYTES + usize::from(u16::from_be_bytes([high, low]));
            record_bytes.saturating_sub(torn.len())
        }
        _ => HEADER_BYTES - torn.len(),
    }
}

/// How many bytes the whole records at the front of `bytes` have.
fn whole_records(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some([_, _, _, high, low]) = bytes.get(at..at + HEADER_BYTES) {
        let end = at + HEADER_BYTES + usize::from(u16::from_be_bytes([*high, *low]));
        if end > bytes.len() {
            break;
        }
        at = end;
    }
    at
}
