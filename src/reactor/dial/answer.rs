//! What a server answers instead of switching protocols, so far as it is kept.

use super::error::Refusal;
use crate::http::ResponseHead;
use crate::limits::REFUSAL_BODY_BYTES_MAX;

/// A refusal whose body is still coming in.
#[derive(Debug)]
pub(super) struct Refusing {
    refusal: Box<Refusal>,
    framing: Framing,
}

/// Where a body ends (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// After so many bytes.
    Length(u64),
    /// In chunks, the last of which is empty.
    Chunked,
    /// Where the connection ends.
    ToTheEnd,
}

/// Whether more of a body is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Incomplete,
    Complete,
}

/// What chunks may have around them before the body is cut: as much again as is kept.
const RAW_BYTES_MAX: usize = 2 * REFUSAL_BODY_BYTES_MAX;

impl Refusing {
    pub(super) fn new(head: &ResponseHead<'_>) -> Self {
        let keep = |(name, value): (&str, &[u8])| (Box::from(name), Box::from(value));
        let headers = head.fields.iter().map(keep).collect();
        let length = head.fields.single("Content-Length").ok().flatten();
        let framing = match length.map(str::parse) {
            _ if matches!(head.status, 204 | 304) => Framing::Length(0),
            _ if head.fields.has_token("Transfer-Encoding", "chunked") => Framing::Chunked,
            Some(Ok(length)) => Framing::Length(length),
            Some(Err(_)) | None => Framing::ToTheEnd,
        };
        let refusal = Refusal { status: head.status, headers, body: Vec::new() };
        Self { refusal: Box::new(refusal), framing }
    }

    /// Keeps what belongs to the body, as far as there is room.
    pub(super) fn handle_input(&mut self, bytes: &[u8]) -> Body {
        let body = &mut self.refusal.body;
        let bytes_max = match self.framing {
            Framing::Length(length) => length.min(REFUSAL_BODY_BYTES_MAX as u64) as usize,
            Framing::Chunked => RAW_BYTES_MAX,
            Framing::ToTheEnd => REFUSAL_BODY_BYTES_MAX,
        };
        let kept = bytes.len().min(bytes_max - body.len());
        body.extend_from_slice(&bytes[..kept]);
        let is_last_chunk = self.framing == Framing::Chunked && unchunked(body).1 == Body::Complete;
        if body.len() == bytes_max || is_last_chunk { Body::Complete } else { Body::Incomplete }
    }

    /// All that came.
    pub(super) fn finish(mut self) -> Box<Refusal> {
        if self.framing == Framing::Chunked {
            self.refusal.body = unchunked(&self.refusal.body).0;
            self.refusal.body.truncate(REFUSAL_BODY_BYTES_MAX);
        }
        self.refusal
    }
}

/// The content of what came in chunks (RFC 9112 §7.1), up to the first that is malformed, and
/// whether the last chunk was there.
fn unchunked(mut raw: &[u8]) -> (Vec<u8>, Body) {
    let mut content = Vec::new();
    while let Ok(httparse::Status::Complete((line_bytes, chunk_bytes))) =
        httparse::parse_chunk_size(raw)
    {
        if chunk_bytes == 0 {
            return (content, Body::Complete);
        }
        raw = &raw[line_bytes..];
        let came = raw.len().min(usize::try_from(chunk_bytes).unwrap_or(usize::MAX));
        content.extend_from_slice(&raw[..came]);
        raw = raw[came..].strip_prefix(b"\r\n").unwrap_or_default();
    }
    (content, Body::Incomplete)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{FieldStorage, parse_response};

    fn refusing(lines: &str) -> Refusing {
        let head = format!("HTTP/1.1 403 No\r\n{lines}\r\n");
        let mut storage = FieldStorage::new();
        Refusing::new(&parse_response(head.as_bytes(), &mut storage).unwrap())
    }

    /// The body after all pieces but for what came behind its end.
    fn body(lines: &str, pieces: &[&[u8]]) -> (Vec<u8>, Body) {
        let mut refusing = refusing(lines);
        let mut state = Body::Incomplete;
        for piece in pieces {
            assert_eq!(state, Body::Incomplete, "nothing is given behind the end");
            state = refusing.handle_input(piece);
        }
        (refusing.finish().body, state)
    }

    // RFC 9112 §6.3
    #[test]
    fn body_ends_where_its_framing_says() {
        let length = "Content-Length: 5\r\n";
        assert_eq!(body(length, &[b"hel", b"lo"]), (b"hello".to_vec(), Body::Complete));
        assert_eq!(body(length, &[b"hello and more"]), (b"hello".to_vec(), Body::Complete));
        assert_eq!(body(length, &[b"hell"]), (b"hell".to_vec(), Body::Incomplete));
        assert_eq!(body("Content-Length: 0\r\n", &[b""]), (vec![], Body::Complete));
        assert_eq!(body("", &[b"hello"]), (b"hello".to_vec(), Body::Incomplete));
        let chunked = "Transfer-Encoding: chunked\r\n";
        let pieces: [&[u8]; 3] = [b"3\r\nhel\r", b"\n2;x=y\r\nl", b"o\r\n0\r\n\r\n"];
        assert_eq!(body(chunked, &pieces), (b"hello".to_vec(), Body::Complete));
        assert_eq!(body(chunked, &[b"3\r\nhelx"]), (b"hel".to_vec(), Body::Incomplete));
        assert_eq!(body(chunked, &[b"zz\r\nhel"]), (vec![], Body::Incomplete));
    }

    #[test]
    fn no_more_is_kept_than_the_bound() {
        let large = vec![7; 3 * RAW_BYTES_MAX];
        for lines in
            ["", "Content-Length: 1000000000000000000000\r\n", "Content-Length: 100000\r\n"]
        {
            let (body, state) = body(lines, &[&large]);
            assert_eq!((body.len(), state), (REFUSAL_BODY_BYTES_MAX, Body::Complete), "{lines}");
        }
        let chunk = [&b"100000\r\n"[..], &large].concat();
        let (body, state) = body("Transfer-Encoding: chunked\r\n", &[&chunk]);
        assert_eq!((body.len(), state), (REFUSAL_BODY_BYTES_MAX, Body::Complete));
    }
}
