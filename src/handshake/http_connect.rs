//! The way through an HTTP proxy: CONNECT (RFC 9110 §9.3.6).

use super::response::{Headers, write_field};
use super::tunnel::{TunnelError, TunnelProgress};
use crate::http::{FieldStorage, HeadError, HeadLimits, HeadScanner, parse_response};

/// The client's half of CONNECT.
pub(super) struct HttpConnect {
    /// What has come, interim answers and all; never longer than a head may be.
    answers: Vec<u8>,
    /// Where the answer begins that is being read.
    head_start: usize,
    scanner: HeadScanner,
}

impl HttpConnect {
    /// Asks for a way to `authority`, a host and a port.
    pub(super) fn new(authority: &str, headers: &Headers, out: &mut Vec<u8>) -> Self {
        for part in ["CONNECT ", authority, " HTTP/1.1\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        write_field(out, "Host", authority);
        headers.write(out);
        out.extend_from_slice(b"\r\n");
        Self { answers: Vec::new(), head_start: 0, scanner: HeadScanner::response() }
    }

    pub(super) fn handle_input(&mut self, bytes: &[u8]) -> Result<TunnelProgress, TunnelError> {
        let limits = HeadLimits::default();
        let limit_bytes = limits.head_bytes_max;
        let kept_bytes = self.answers.len();
        let taken_bytes = bytes.len().min(limit_bytes as usize - kept_bytes);
        self.answers.extend_from_slice(&bytes[..taken_bytes]);
        loop {
            // All heads together have the bound of one, or interim answers would never end.
            let left_bytes = limit_bytes - self.head_start as u32;
            let limits = HeadLimits { head_bytes_max: left_bytes, ..limits };
            let head = &self.answers[self.head_start..];
            let scanned = self.scanner.scan(head, &limits).map_err(|error| match error {
                HeadError::HeadTooLarge { .. } => HeadError::HeadTooLarge { limit_bytes },
                error => error,
            });
            let Some(head_bytes) = scanned? else { return Ok(TunnelProgress::NeedMore) };
            let mut storage = FieldStorage::new();
            match parse_response(&head[..head_bytes], &mut storage)?.status {
                // Content-Length and Transfer-Encoding mean nothing here: behind the head is the
                // server.
                200..=299 => {
                    let end = self.head_start + head_bytes;
                    let consumed_bytes = end.saturating_sub(kept_bytes);
                    return Ok(TunnelProgress::Open { consumed_bytes });
                }
                // RFC 9110 §15.2: interim answers may come at any time. 101 ends a request, and
                // nobody has asked for it.
                100 | 102..=199 => {
                    self.head_start += head_bytes;
                    self.scanner = HeadScanner::response();
                }
                status => return Err(TunnelError::Status { status }),
            }
        }
    }
}
