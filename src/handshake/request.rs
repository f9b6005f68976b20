//! A request as the application sees it, before an upgrade or instead of one.

use super::response::{BodyAllowed, Persistence};
use crate::http::{Authority, Fields, RequestHead, RequestTarget, Version, is_token};

/// A request's head: a WebSocket's opening handshake, or plain HTTP. Borrows the received bytes.
///
/// Only [`inspect`](super::inspect) makes one, so its target and its Host field are well-formed.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub(super) head: RequestHead<'a>,
    pub(super) target: RequestTarget<'a>,
    /// As text and parsed; `None` only in HTTP/1.0.
    pub(super) host: Option<(&'a str, Authority<'a>)>,
}

impl<'a> Request<'a> {
    /// The method, in the case it was sent.
    pub const fn method(&self) -> &'a str {
        self.head.method
    }

    /// The request target as it was sent.
    pub const fn target(&self) -> &'a str {
        self.head.target
    }

    /// The path: begins with a slash and is percent-encoded as it was sent.
    pub const fn path(&self) -> &'a str {
        self.target.path
    }

    /// What follows the target's question mark, if there is one.
    pub const fn query(&self) -> Option<&'a str> {
        self.target.query
    }

    /// The version of HTTP.
    pub const fn version(&self) -> Version {
        self.head.version
    }

    /// The first header with this name, in any case.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.head.fields.first(name)
    }

    /// All headers in their order, names in the case they were sent.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.head.fields.iter()
    }

    /// The header fields, for what [`header`](Self::header) does not answer.
    pub const fn fields(&self) -> Fields<'a> {
        self.head.fields
    }

    /// Host and perhaps port: the Host field, or the authority of a target in absolute-form, which
    /// takes its place (RFC 9112 §3.2.2). Always there but in HTTP/1.0.
    pub fn host(&self) -> Option<&'a str> {
        self.host.map(|(text, _)| text)
    }

    /// [`host`](Self::host), parsed.
    pub fn authority(&self) -> Option<Authority<'a>> {
        self.host.map(|(_, authority)| authority)
    }

    /// The origin of the page that asks (RFC 6455 §10.2), as it was sent, perhaps `null`; `None` if
    /// it is no browser that asks. In an upgrade it is not repeated.
    pub fn origin(&self) -> Option<&'a str> {
        self.head.fields.single("Origin").ok().flatten()
    }

    /// The subprotocols that are offered, the preferred one first (RFC 6455 §4.1). All lines of the
    /// field are one list; elements that are not tokens are left out.
    pub fn subprotocols(&self) -> impl Iterator<Item = &'a str> {
        self.head.fields.tokens("Sec-WebSocket-Protocol").filter(|name| is_token(name))
    }

    /// Whether the request asks for a WebSocket: the Upgrade field has the token `websocket`
    /// (RFC 6455 §4.2.1 item 3). Whether it asks correctly is another question.
    pub fn is_upgrade(&self) -> bool {
        self.head.fields.has_token("Upgrade", "websocket")
    }

    /// Whether a body follows the head, or has to be feared: there is a Transfer-Encoding, or a
    /// Content-Length other than one plain zero (RFC 9112 §6.3). Bodies are never read, so the
    /// connection must be closed behind the answer, or the body would be taken for a request.
    pub fn declares_body(&self) -> bool {
        let is_zero =
            |length: &str| !length.is_empty() && length.bytes().all(|digit| digit == b'0');
        let is_empty = match self.head.fields.single("Content-Length") {
            Ok(length) => length.is_none_or(is_zero),
            Err(_) => false,
        };
        !is_empty || self.head.fields.count("Transfer-Encoding") > 0
    }

    /// Whether another request may follow on the connection (RFC 9112 §9.3): in HTTP/1.1, unless
    /// the client asks to close or declares a body.
    pub fn persistence(&self) -> Persistence {
        let may_persist = self.head.version == Version::Http11
            && !self.head.fields.has_token("Connection", "close")
            && !self.declares_body();
        if may_persist { Persistence::KeepAlive } else { Persistence::Close }
    }

    /// Whether the answer may have a body: not to HEAD (RFC 9110 §9.3.2).
    pub fn body_allowed(&self) -> BodyAllowed {
        if self.head.method == "HEAD" { BodyAllowed::No } else { BodyAllowed::Yes }
    }
}
