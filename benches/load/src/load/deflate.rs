//! permessage-deflate as a client sees it (RFC 7692): the offer, what the server makes of it, messages
//! that are compressed beforehand, and answers that are inflated.

use std::io;

use clap::ValueEnum;
use zlib_rs::{Deflate, DeflateFlush, Inflate, InflateFlush, Status};

/// What is offered, and must be agreed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Compression {
    /// No context takeover in either direction, so that a server needs one compressor for all.
    Shared,
    /// Context takeover in both directions.
    Dedicated,
}

impl Compression {
    /// The value of Sec-WebSocket-Extensions in the request.
    pub fn offer(self) -> &'static str {
        match self {
            Compression::Shared => {
                "permessage-deflate; client_no_context_takeover; server_no_context_takeover"
            }
            Compression::Dedicated => "permessage-deflate; client_max_window_bits",
        }
    }

    /// Reads the server's answer, a whole head.
    ///
    /// # Errors
    /// It agrees on something else, or on nothing.
    pub fn agreement(self, head: &[u8]) -> io::Result<Agreement> {
        let head = String::from_utf8_lossy(head);
        let value = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("sec-websocket-extensions").then(|| value.trim())
        });
        let disagreed = || {
            let value = value.unwrap_or("no extension");
            io::Error::other(format!("the server agreed on another compression: {value}"))
        };
        let mut parameters = value.unwrap_or_default().split(';').map(str::trim);
        if parameters.next() != Some("permessage-deflate") {
            return Err(disagreed());
        }
        let mut agreement = Agreement { compression: self, server_bits: 15, client_bits: 15 };
        let mut without_takeover = 0;
        for parameter in parameters {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let bits = value.parse().ok().filter(|bits| WINDOW_BITS.contains(bits));
            match name {
                "client_no_context_takeover" | "server_no_context_takeover" => {
                    without_takeover += 1
                }
                "server_max_window_bits" => agreement.server_bits = bits.ok_or_else(disagreed)?,
                "client_max_window_bits" => agreement.client_bits = bits.ok_or_else(disagreed)?,
                _ => return Err(disagreed()),
            }
        }
        let expected = match self {
            Compression::Shared => 2,
            Compression::Dedicated => 0,
        };
        if without_takeover == expected { Ok(agreement) } else { Err(disagreed()) }
    }
}

/// RFC 7692 §7.1.2 begins at 8, which zlib cannot compress with.
const WINDOW_BITS: std::ops::RangeInclusive<u8> = 9..=15;

/// What a server and we have agreed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Agreement {
    /// Who takes over.
    pub compression: Compression,
    /// Window of the server's compressor.
    pub server_bits: u8,
    /// Window of ours.
    pub client_bits: u8,
}

/// What ends each flush, and is left out of a message (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// zlib's own choice where it is given none.
const LEVEL: i32 = 6;

/// Compresses payloads, each on its own: that is legal with context takeover as well, and any of
/// them can be sent at any time, again and again.
///
/// # Errors
/// The library's, in words.
pub fn compress(payloads: &[Vec<u8>], window_bits: u8) -> io::Result<Vec<Vec<u8>>> {
    let compress = |payload: &Vec<u8>| {
        let mut deflate = Deflate::new(LEVEL, false, window_bits);
        // Stored, it has 5 bytes for each block of at least 127, and there is the flush.
        let mut compressed = vec![0; payload.len() + payload.len() / 16 + 64];
        let flushed = deflate.compress(payload, &mut compressed, DeflateFlush::SyncFlush);
        compressed.truncate(deflate.total_out() as usize);
        let is_whole = flushed == Ok(Status::Ok) && deflate.total_in() == payload.len() as u64;
        if !is_whole || !compressed.ends_with(&TAIL) {
            return Err(io::Error::other(format!(
                "a message could not be compressed: {flushed:?}"
            )));
        }
        compressed.truncate(compressed.len() - TAIL.len());
        Ok(compressed)
    };
    payloads.iter().map(compress).collect()
}

/// The other direction of one connection.
pub struct Inflater {
    agreement: Agreement,
    inflate: Inflate,
    payload: Vec<u8>,
}

impl Inflater {
    /// For a connection on which nothing has arrived.
    pub fn new(agreement: Agreement) -> Inflater {
        let inflate = Inflate::new(false, agreement.server_bits);
        Inflater { agreement, inflate, payload: Vec::new() }
    }

    /// Whether a message is `payload`, compressed. Messages must come in their order.
    pub fn is_compressed(&mut self, payload: &[u8], mut message: Vec<u8>) -> bool {
        message.extend(TAIL);
        // Room for more than is expected, so that more is noticed.
        self.payload.resize(payload.len() + 64, 0);
        let (input, output) = (self.inflate.total_in(), self.inflate.total_out());
        let inflated =
            self.inflate.decompress(&message, &mut self.payload, InflateFlush::SyncFlush);
        let input = (self.inflate.total_in() - input) as usize;
        let output = (self.inflate.total_out() - output) as usize;
        if self.agreement.compression == Compression::Shared {
            self.inflate = Inflate::new(false, self.agreement.server_bits);
        }
        inflated == Ok(Status::Ok) && input == message.len() && self.payload[..output] == *payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    fn agreement(compression: Compression, value: &str) -> Option<Agreement> {
        let head = format!("HTTP/1.1 101 Yes\r\nsec-websocket-EXTENSIONS: {value}\r\n\r\n");
        compression.agreement(head.as_bytes()).ok()
    }

    #[test]
    fn only_what_was_asked_for_is_an_agreement() {
        use Compression::{Dedicated, Shared};
        let bits = |compression, value| {
            agreement(compression, value).map(|agreed| (agreed.server_bits, agreed.client_bits))
        };
        let neither = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        assert_eq!(bits(Shared, neither), Some((15, 15)));
        assert_eq!(bits(Dedicated, neither), None);
        assert_eq!(bits(Dedicated, "permessage-deflate"), Some((15, 15)));
        assert_eq!(bits(Shared, "permessage-deflate"), None);
        assert_eq!(bits(Shared, "permessage-deflate; server_no_context_takeover"), None);
        let small = "permessage-deflate;client_max_window_bits=12; server_max_window_bits=9";
        assert_eq!(bits(Dedicated, small), Some((9, 12)));
        for wrong in
            ["", "x", "permessage-deflate; x", "permessage-deflate; client_max_window_bits"]
        {
            assert_eq!(bits(Dedicated, wrong), None, "{wrong}");
        }
        assert!(Shared.agreement(b"HTTP/1.1 101 Yes\r\n\r\n").is_err());
    }

    #[test]
    fn what_is_compressed_inflates_in_any_order() {
        let payloads: Vec<Vec<u8>> = (0..8).map(|seed| json::payload(1024, seed)).collect();
        for (compression, server_bits) in
            [(Compression::Shared, 15), (Compression::Dedicated, 15), (Compression::Dedicated, 9)]
        {
            let messages = compress(&payloads, server_bits).expect("it compresses");
            let agreement = Agreement { compression, server_bits, client_bits: 15 };
            let mut inflater = Inflater::new(agreement);
            for at in [3, 0, 7, 7, 1] {
                assert!(messages[at].len() < 700, "{}", messages[at].len());
                assert!(inflater.is_compressed(&payloads[at], messages[at].clone()));
            }
            assert!(!inflater.is_compressed(&payloads[0], messages[1].clone()));
        }
    }

    #[test]
    fn more_or_less_than_the_payload_is_noticed() {
        let payloads = [b"abcabcabc".to_vec(), b"abcabc".to_vec(), b"abcabcabcabc".to_vec()];
        let messages = compress(&payloads, 15).expect("it compresses");
        let agreement =
            Agreement { compression: Compression::Shared, server_bits: 15, client_bits: 15 };
        for (at, message) in messages.into_iter().enumerate() {
            let mut inflater = Inflater::new(agreement);
            assert_eq!(inflater.is_compressed(&payloads[0], message), at == 0);
        }
        let mut inflater = Inflater::new(agreement);
        assert!(!inflater.is_compressed(&payloads[0], b"\xFF\xFF no stream".to_vec()));
    }

    #[test]
    fn what_takes_over_is_understood_only_where_that_was_agreed() {
        let payload = json::payload(1024, 1);
        let mut deflate = Deflate::new(LEVEL, false, 15);
        let mut message = || {
            let (mut message, before) = (vec![0; 2048], deflate.total_out());
            deflate.compress(&payload, &mut message, DeflateFlush::SyncFlush).expect("room");
            message.truncate((deflate.total_out() - before) as usize - TAIL.len());
            message
        };
        let messages = [message(), message()];
        let judge = |compression| {
            let agreement = Agreement { compression, server_bits: 15, client_bits: 15 };
            let mut inflater = Inflater::new(agreement);
            messages.clone().map(|message| inflater.is_compressed(&payload, message))
        };
        assert_eq!(judge(Compression::Dedicated), [true, true]);
        assert_eq!(judge(Compression::Shared), [true, false]);
    }
}
