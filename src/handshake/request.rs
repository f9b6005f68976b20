//! A request as the application sees it, before an upgrade or instead of one.

use std::borrow::Cow;

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

    /// The query's parameters in their order, decoded as forms are (`+` is a space); bytes that are
    /// no UTF-8 come as U+FFFD.
    pub fn query_params(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> {
        form_urlencoded::parse(self.query().unwrap_or_default().as_bytes())
    }

    /// The first of the query's parameters with this name, which is compared after decoding.
    pub fn query_param(&self, name: &str) -> Option<Cow<'a, str>> {
        self.query_params().find(|(key, _)| key == name).map(|(_, value)| value)
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
        BodyAllowed::in_answer_to(self.head.method)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::testing::{plain, upgrade, upgrade_head};

    // RFC 9112 §3
    #[test]
    fn request_shows_its_parts() {
        let head = "POST /a%20b?c=d HTTP/1.1\r\nHost: x:1\r\nCookie: e\r\ncookie: \u{ff}\r\n\r\n";
        plain(head, |request| {
            assert_eq!((request.method(), request.target()), ("POST", "/a%20b?c=d"));
            assert_eq!((request.path(), request.query()), ("/a%20b", Some("c=d")));
            assert_eq!(request.version(), Version::Http11);
            assert_eq!((request.host(), request.origin()), (Some("x:1"), None));
            assert_eq!(request.header("COOKIE"), Some(&b"e"[..]));
            assert_eq!(request.header("absent"), None);
            assert!(request.headers().map(|(name, _)| name).eq(["Host", "Cookie", "cookie"]));
        });
    }

    #[test]
    fn query_is_taken_apart_and_decoded() {
        let param = |target: &str, name: &str| {
            let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            plain(head, |request| request.query_param(name).map(Cow::into_owned))
        };
        let target = "/?a=1&b%26=x+y%2b&a=2&empty=&bare&&%c3%bc=%ff";
        for (name, value) in
            [("a", "1"), ("b&", "x y+"), ("empty", ""), ("bare", ""), ("ü", "\u{fffd}")]
        {
            assert_eq!(param(target, name).as_deref(), Some(value), "{name}");
        }
        for (target, name) in [(target, "c"), (target, ""), ("/", "a"), ("/?", "")] {
            assert_eq!(param(target, name), None, "{target} {name}");
        }
        let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(plain(head, |request| request.query_params().count()), 6);
    }

    // RFC 6455 §4.2.1 item 8, §11.3.4
    #[test]
    fn subprotocols_of_several_lines_are_one_list_in_order() {
        let lines = [
            "Sec-WebSocket-Protocol: b, a",
            "Sec-WebSocket-Protocol: ,c d,\"e\",",
            "sec-websocket-protocol: B",
        ];
        upgrade(upgrade_head(&lines), |upgrade| {
            assert!(upgrade.request().subprotocols().eq(["b", "a", "B"]));
        });
        upgrade(upgrade_head(&[]), |upgrade| {
            assert_eq!(upgrade.request().subprotocols().count(), 0);
        });
    }

    // RFC 9112 §9.3
    #[test]
    fn connection_persists_in_http11_unless_told_otherwise_or_a_body_looms() {
        let persistence = |head: &str| plain(head, |request| request.persistence());
        let get = "GET / HTTP/1.1\r\nHost: a\r\n";
        assert_eq!(persistence(&format!("{get}\r\n")), Persistence::KeepAlive);
        for line in ["Connection: x, Close", "Content-Length: 5", "Transfer-Encoding: chunked"] {
            assert_eq!(persistence(&format!("{get}{line}\r\n\r\n")), Persistence::Close, "{line}");
        }
        let http10 = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
        assert_eq!(persistence(http10), Persistence::Close);
    }

    // RFC 9110 §9.3.2
    #[test]
    fn answer_to_head_has_no_body() {
        let allowed = |method: &str| {
            let head = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
            plain(head, |request| request.body_allowed())
        };
        assert_eq!(allowed("HEAD"), BodyAllowed::No);
        assert_eq!((allowed("GET"), allowed("head")), (BodyAllowed::Yes, BodyAllowed::Yes));
    }
}
