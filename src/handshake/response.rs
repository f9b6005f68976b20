//! Answers other than an upgrade: what an application says to plain HTTP, and how it refuses.

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;

use crate::http::{is_field_value, is_token};

/// Why something that the application gave cannot be written into a head. Nothing of it reaches
/// the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidHeader {
    /// The name is not a token (RFC 9110 §5.1).
    Name,
    /// The value has a CR, LF, NUL or other control character, or space at an end
    /// (RFC 9110 §5.5).
    Value,
    /// The engine writes this field itself.
    Reserved,
    /// A subprotocol, or the name or a parameter of an extension, is not a token.
    Token,
    /// A subprotocol is offered twice (RFC 6455 §4.1).
    RepeatedSubprotocol,
    /// An offer of extensions breaks the grammar of RFC 6455 §9.1.
    Extensions,
    /// A user name has a colon or a control character (RFC 7617 §2).
    UserName,
    /// A password has a control character (RFC 7617 §2).
    Password,
    /// A token breaks the grammar of RFC 6750 §2.1.
    BearerToken,
    /// An origin is not a scheme, a host and perhaps a port, and not `null` (RFC 6454 §7).
    Origin,
    /// A status that does not end a request: below 200 or above 599 (RFC 9110 §15).
    Status,
}

impl fmt::Display for InvalidHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "the header's name is not a token",
            Self::Value => "the header's value has a control character or space at an end",
            Self::Reserved => "the header is written by the engine itself",
            Self::Token => "the subprotocol or extension is not made of tokens",
            Self::RepeatedSubprotocol => "the subprotocol is offered twice",
            Self::Extensions => "the offer of extensions is malformed",
            Self::UserName => "the user name has a colon or a control character",
            Self::Password => "the password has a control character",
            Self::BearerToken => "the token has a character that none may have",
            Self::Origin => "the origin is not a scheme, a host and perhaps a port",
            Self::Status => "the status is not from 200 to 599",
        })
    }
}

impl std::error::Error for InvalidHeader {}

/// Whether the connection outlives the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// Another request may follow.
    KeepAlive,
    /// The answer says so, and the connection has to be closed behind it.
    Close,
}

impl Persistence {
    /// Whether both ends are ready for another request.
    pub(crate) const fn and(self, other: Self) -> Self {
        match self {
            Self::KeepAlive => other,
            Self::Close => Self::Close,
        }
    }
}

/// Whether the answer's body is sent; its length is told in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyAllowed {
    /// To any method but HEAD.
    Yes,
    /// To HEAD (RFC 9110 §9.3.2).
    No,
}

impl BodyAllowed {
    /// In an answer to a request with this method.
    pub fn in_answer_to(method: &str) -> Self {
        if method == "HEAD" { Self::No } else { Self::Yes }
    }
}

/// An answer to plain HTTP, or a refused upgrade. Its Content-Length is always right.
///
/// There is no Date field: RFC 9110 §6.6.1 frees a server without a clock of it, and here is none.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    status: u16,
    headers: Headers,
    body: Cow<'static, [u8]>,
}

impl Response {
    /// An answer without headers and body.
    ///
    /// # Errors
    /// `status` is not from 200 to 599.
    pub const fn new(status: u16) -> Result<Self, InvalidHeader> {
        match status {
            200..=599 => Ok(Self::with_status(status)),
            _ => Err(InvalidHeader::Status),
        }
    }

    /// As [`new`](Self::new), for a status that is known to be legal.
    pub(super) const fn with_status(status: u16) -> Self {
        Self { status, headers: Headers::new(), body: Cow::Borrowed(b"") }
    }

    /// Adds a header.
    ///
    /// # Errors
    /// The name or the value cannot stand in a head, or the engine writes this header itself:
    /// Connection, Content-Length, Transfer-Encoding.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, InvalidHeader> {
        const RESERVED: [&str; 3] = ["Connection", "Content-Length", "Transfer-Encoding"];
        self.headers.add(name, value, &RESERVED)?;
        Ok(self)
    }

    /// As [`header`](Self::header), for a header that is the engine's own and known to be legal.
    pub(super) fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.0.push((name.into(), value.into()));
        self
    }

    /// Sets the body. With a status that has none (204, 205, 304) it is never sent.
    #[must_use]
    pub fn body(mut self, body: impl Into<Cow<'static, [u8]>>) -> Self {
        self.body = body.into();
        self
    }

    /// The status.
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// Appends the whole answer to `out`.
    pub fn write(&self, out: &mut Vec<u8>, persistence: Persistence, body_allowed: BodyAllowed) {
        let connection = match persistence {
            Persistence::KeepAlive => "",
            Persistence::Close => "close",
        };
        self.write_with_connection(out, connection, body_allowed);
    }

    /// As [`write`](Self::write), with these options in the Connection field; none if it is empty.
    pub(super) fn write_with_connection(
        &self,
        out: &mut Vec<u8>,
        connection: &str,
        body_allowed: BodyAllowed,
    ) {
        let line = format_args!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        out.write_fmt(line).expect("writing to a Vec cannot fail");
        self.headers.write(out);
        if !connection.is_empty() {
            write_field(out, "Connection", connection);
        }
        // RFC 9110 §8.6 forbids a Content-Length with 204; with 304 it would speak of another body.
        let has_length = !matches!(self.status, 204 | 304);
        // RFC 9110 §15.3.6: 205 says by its length that nothing follows.
        let body = if self.status == 205 { &[] } else { &*self.body };
        if has_length {
            write_field(out, "Content-Length", &body.len().to_string());
        }
        out.extend_from_slice(b"\r\n");
        if has_length && body_allowed == BodyAllowed::Yes {
            out.extend_from_slice(body);
        }
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What a body says stays out of logs.
        out.debug_struct("Response")
            .field("status", &self.status)
            .field("headers", &self.headers)
            .field("body_bytes", &self.body.len())
            .finish()
    }
}

/// Headers that were checked and can be written as they are.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Headers(Vec<(Box<str>, Box<str>)>);

impl fmt::Debug for Headers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values stay out of logs: a cookie or a password may be among them.
        let value_bytes = |(name, value): &(Box<str>, Box<str>)| (name.clone(), value.len());
        out.debug_map().entries(self.0.iter().map(value_bytes)).finish()
    }
}

impl Headers {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a header that is not `reserved`.
    pub(super) fn add(
        &mut self,
        name: &str,
        value: &str,
        reserved: &[&str],
    ) -> Result<(), InvalidHeader> {
        if !is_token(name) {
            return Err(InvalidHeader::Name);
        }
        if !is_field_value(value.as_bytes()) {
            return Err(InvalidHeader::Value);
        }
        if reserved.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
            return Err(InvalidHeader::Reserved);
        }
        self.0.push((name.into(), value.into()));
        Ok(())
    }

    /// As [`add_to_handshake`](Self::add_to_handshake) for what a client sends: there is no body to
    /// expect anything of, and a header in `single` takes the place of an earlier one.
    pub(super) fn add_once(
        &mut self,
        name: &str,
        value: &str,
        single: &[&str],
    ) -> Result<(), InvalidHeader> {
        if single.iter().any(|single| name.eq_ignore_ascii_case(single)) {
            self.remove(name);
        }
        self.add_to_handshake(name, value, &["Host", "Expect"])
    }

    /// Takes all headers of this name away.
    pub(super) fn remove(&mut self, name: &str) {
        self.0.retain(|(of, _)| !of.eq_ignore_ascii_case(name));
    }

    /// Takes all headers away but those of these names.
    pub(super) fn keep(&mut self, names: &[&str]) {
        self.0.retain(|(of, _)| names.iter().any(|name| of.eq_ignore_ascii_case(name)));
    }

    /// As [`add`](Self::add) for the head of a handshake, where the fields of the handshake and
    /// whatever would announce a body are reserved, and those in `reserved`.
    pub(super) fn add_to_handshake(
        &mut self,
        name: &str,
        value: &str,
        reserved: &[&str],
    ) -> Result<(), InvalidHeader> {
        const PREFIX: &str = "Sec-WebSocket-";
        const RESERVED: [&str; 4] =
            ["Connection", "Content-Length", "Transfer-Encoding", "Upgrade"];
        let begins = name.get(..PREFIX.len());
        if begins.is_some_and(|begins| begins.eq_ignore_ascii_case(PREFIX))
            || reserved.iter().any(|reserved| name.eq_ignore_ascii_case(reserved))
        {
            return Err(InvalidHeader::Reserved);
        }
        self.add(name, value, &RESERVED)
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for (name, value) in &self.0 {
            write_field(out, name, value);
        }
    }
}

/// Appends a field line. Name and value were checked, or are our own.
pub(super) fn write_field(out: &mut Vec<u8>, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// The reasons of RFC 9110 §15 and RFC 6585 that servers of WebSockets have use for. An empty
/// reason is legal (RFC 9112 §4).
const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(response: &Response, persistence: Persistence, allowed: BodyAllowed) -> String {
        let mut out = Vec::new();
        response.write(&mut out, persistence, allowed);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn response_is_printed_with_names_and_lengths_alone() {
        let response = Response::new(200).unwrap().header("Set-Cookie", "secret=1").unwrap();
        assert_eq!(
            format!("{:?}", response.body(b"secret".to_vec())),
            r#"Response { status: 200, headers: {"Set-Cookie": 8}, body_bytes: 6 }"#
        );
    }

    // RFC 9112 §4, §6.2, §9.6
    #[test]
    fn response_is_written_with_its_length() {
        let response =
            Response::new(200).unwrap().header("A", "b").unwrap().body("hello".as_bytes());
        assert_eq!(
            written(&response, Persistence::KeepAlive, BodyAllowed::Yes),
            "HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 5\r\n\r\nhello"
        );
        assert_eq!(
            written(&response, Persistence::Close, BodyAllowed::Yes),
            "HTTP/1.1 200 OK\r\nA: b\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"
        );
        assert_eq!(
            written(&Response::new(299).unwrap(), Persistence::KeepAlive, BodyAllowed::Yes),
            "HTTP/1.1 299 \r\nContent-Length: 0\r\n\r\n"
        );
    }

    // RFC 9110 §9.3.2
    #[test]
    fn response_to_head_tells_the_length_and_has_no_body() {
        let response = Response::new(200).unwrap().body("hello".as_bytes());
        assert_eq!(
            written(&response, Persistence::KeepAlive, BodyAllowed::No),
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
        );
    }

    // RFC 9110 §8.6, §15.3.5, §15.4.5
    #[test]
    fn status_without_content_has_neither_body_nor_length() {
        for (status, line) in [(204, "204 No Content"), (304, "304 Not Modified")] {
            let response = Response::new(status).unwrap().body("hello".as_bytes());
            assert_eq!(
                written(&response, Persistence::KeepAlive, BodyAllowed::Yes),
                format!("HTTP/1.1 {line}\r\n\r\n")
            );
        }
    }

    // RFC 9110 §15.3.6
    #[test]
    fn status_205_says_that_nothing_follows() {
        let response = Response::new(205).unwrap().body("hello".as_bytes());
        let answer = written(&response, Persistence::KeepAlive, BodyAllowed::Yes);
        assert!(answer.ends_with("\r\nContent-Length: 0\r\n\r\n"), "{answer}");
    }

    // RFC 9110 §5.5, §15
    #[test]
    fn header_that_would_break_the_head_is_refused() {
        let add = |name, value| Response::new(200).unwrap().header(name, value).unwrap_err();
        for value in ["a\r\nSet-Cookie: b", "a\n", "\r", "a\0b", " a", "a\t", "\x1b"] {
            assert_eq!(add("Location", value), InvalidHeader::Value, "{value:?}");
        }
        for name in ["", "A B", "A:", "A\r\n", "\u{e4}"] {
            assert_eq!(add(name, "a"), InvalidHeader::Name, "{name:?}");
        }
        for name in ["connection", "CONTENT-LENGTH", "Transfer-Encoding"] {
            assert_eq!(add(name, "a"), InvalidHeader::Reserved, "{name}");
        }
        for status in [0, 100, 101, 199, 600, 999] {
            assert_eq!(Response::new(status), Err(InvalidHeader::Status));
        }
    }
}
