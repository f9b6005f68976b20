//! The server's half of the opening handshake (RFC 6455 §4.2.1): what does this request ask for?

use super::accept_key::{AcceptKey, accept_key, is_valid_key};
use super::error::HandshakeError;
use super::request::Request;
use crate::http::{
    Authority, Extension, ExtensionError, Extensions, Fields, NotSingle, RequestHead,
    RequestTarget, Version,
};

/// What a request asks for.
#[derive(Clone, Copy, Debug)]
pub enum Inspected<'a> {
    /// A WebSocket, and every rule is kept.
    Upgrade(Upgrade<'a>),
    /// Something else: no Upgrade field names `websocket`.
    Plain(Request<'a>),
}

/// A request for a WebSocket that keeps every rule of RFC 6455 §4.2.1. Whether its origin and its
/// path are welcome is yet to be decided.
#[derive(Clone, Copy, Debug)]
pub struct Upgrade<'a> {
    request: Request<'a>,
    accept_key: AcceptKey,
}

impl<'a> Inspected<'a> {
    /// The request, whatever it asks for.
    pub const fn request(&self) -> &Request<'a> {
        match self {
            Self::Upgrade(upgrade) => &upgrade.request,
            Self::Plain(request) => request,
        }
    }
}

impl<'a> Upgrade<'a> {
    /// The request.
    pub const fn request(&self) -> &Request<'a> {
        &self.request
    }

    /// The key to answer with.
    pub const fn accept_key(&self) -> &AcceptKey {
        &self.accept_key
    }

    /// The extensions that are offered, the preferred one first (RFC 6455 §9.1).
    pub fn extensions(&self) -> impl Iterator<Item = Extension<'a>> {
        // `inspect` went through the whole list, so that there is no error to lose.
        extensions(self.request.head.fields).flatten()
    }
}

/// Decides what a request asks for, and whether it asks by the rules.
///
/// The first broken rule is the answer. The order is: target, Host; and for what has `websocket` in
/// its Upgrade field further: method, version of HTTP, Connection, body, Expect,
/// Sec-WebSocket-Version, Sec-WebSocket-Key, Sec-WebSocket-Extensions, Origin. So a client of
/// another protocol version learns ours even though its key is of another kind.
///
/// Plain HTTP may have any method and may declare a body, see [`Request::declares_body`].
///
/// # Errors
/// The first broken rule.
pub fn inspect<'a>(head: &RequestHead<'a>) -> Result<Inspected<'a>, HandshakeError> {
    let target = RequestTarget::parse(head.target).map_err(|_| HandshakeError::InvalidTarget)?;
    let host = host(head, &target)?;
    let request = Request { head: *head, target, host };
    if !request.is_upgrade() {
        return Ok(Inspected::Plain(request));
    }
    check_start_line(head)?;
    if !head.fields.has_token("Connection", "upgrade") {
        return Err(HandshakeError::MissingConnectionUpgrade);
    }
    if request.declares_body() {
        return Err(HandshakeError::BodyNotAllowed);
    }
    if head.fields.count("Expect") > 0 {
        return Err(HandshakeError::ExpectationFailed);
    }
    check_version(head.fields)?;
    let key = key(head.fields)?;
    if extensions(head.fields).any(|extension| extension.is_err()) {
        return Err(HandshakeError::InvalidExtensions);
    }
    head.fields.single("Origin").map_err(|_| HandshakeError::InvalidOrigin)?;
    Ok(Inspected::Upgrade(Upgrade { request, accept_key: accept_key(key.as_bytes()) }))
}

/// The text and the value of the effective Host (RFC 9112 §3.2, §3.2.2).
fn host<'a>(
    head: &RequestHead<'a>,
    target: &RequestTarget<'a>,
) -> Result<Option<(&'a str, Authority<'a>)>, HandshakeError> {
    let parse = |text: &'a str| match Authority::parse(text) {
        Ok(authority) => Ok((text, authority)),
        Err(_) => Err(HandshakeError::InvalidHost),
    };
    let field = match (head.fields.single("Host"), head.version) {
        (Ok(Some(text)), _) => Some(parse(text)?),
        // RFC 9112 §3.2 asks it of HTTP/1.1 only, and health checks speak HTTP/1.0 without it.
        (Ok(None), Version::Http10) => None,
        (Ok(None), Version::Http11) => return Err(HandshakeError::MissingHost),
        (Err(NotSingle::Repeated), _) => return Err(HandshakeError::RepeatedHost),
        (Err(NotSingle::NotAscii), _) => return Err(HandshakeError::InvalidHost),
    };
    target.authority.map_or(Ok(field), |text| parse(text).map(Some))
}

fn check_start_line(head: &RequestHead<'_>) -> Result<(), HandshakeError> {
    if head.method != "GET" {
        return Err(HandshakeError::MethodNotAllowed);
    }
    match head.version {
        Version::Http11 => Ok(()),
        Version::Http10 => Err(HandshakeError::UpgradeInHttp10),
    }
}

fn check_version(fields: Fields<'_>) -> Result<(), HandshakeError> {
    let mut versions = fields.all("Sec-WebSocket-Version").peekable();
    if versions.peek().is_none() {
        return Err(HandshakeError::MissingVersion);
    }
    // RFC 6455 §11.3.5: a client sends the field once. A proxy that doubles it does no harm.
    let is_ours = versions.all(|version| version == b"13");
    is_ours.then_some(()).ok_or(HandshakeError::UnsupportedVersion)
}

fn key<'a>(fields: Fields<'a>) -> Result<&'a str, HandshakeError> {
    match fields.single("Sec-WebSocket-Key") {
        Ok(Some(key)) if is_valid_key(key.as_bytes()) => Ok(key),
        Ok(Some(_)) | Err(NotSingle::NotAscii) => Err(HandshakeError::InvalidKey),
        Ok(None) => Err(HandshakeError::MissingKey),
        Err(NotSingle::Repeated) => Err(HandshakeError::RepeatedKey),
    }
}

fn extensions<'a>(
    fields: Fields<'a>,
) -> impl Iterator<Item = Result<Extension<'a>, ExtensionError>> {
    Extensions::new(fields.all("Sec-WebSocket-Extensions"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::testing::{inspected, plain, refusal, upgrade, upgrade_head};
    use crate::http::{HeadError, Malformation};

    fn refused_with(lines: &[&str]) -> Option<HandshakeError> {
        refusal(upgrade_head(lines))
    }

    // RFC 6455 §1.2, §4.2.1
    #[test]
    fn example_of_the_rfc_is_an_upgrade() {
        let lines = ["Origin: http://example.com", "Sec-WebSocket-Protocol: chat, superchat"];
        upgrade(upgrade_head(&lines), |upgrade| {
            assert_eq!(upgrade.accept_key().as_str(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
            assert_eq!(upgrade.request().path(), "/chat");
            assert_eq!(upgrade.request().host(), Some("server.example.com"));
            assert_eq!(upgrade.request().origin(), Some("http://example.com"));
            assert!(upgrade.request().subprotocols().eq(["chat", "superchat"]));
        });
    }

    // RFC 6455 §4.2.1 item 5
    #[test]
    fn key_has_to_be_the_base64_of_sixteen_bytes() {
        const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
        assert_eq!(refused_with(&["Sec-WebSocket-Key"]), Some(HandshakeError::MissingKey));
        assert_eq!(refused_with(&[KEY, KEY]), Some(HandshakeError::RepeatedKey));
        for key in ["", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZQ==x", "AAAA", "\u{e4}"] {
            let line = format!("Sec-WebSocket-Key: {key}");
            assert_eq!(refused_with(&[&line]), Some(HandshakeError::InvalidKey), "{key:?}");
        }
        assert_eq!(HandshakeError::InvalidKey.status(), 400);
    }

    // RFC 6455 §4.2.1 item 6, §4.4
    #[test]
    fn version_has_to_be_13() {
        let missing = HandshakeError::MissingVersion;
        assert_eq!(refused_with(&["Sec-WebSocket-Version"]), Some(missing));
        assert_eq!(missing.status(), 400);
        for version in ["8", "12", "14", "013", "0x0d", "13x", "", "13, 8", "13, 13", "+13"] {
            let line = format!("Sec-WebSocket-Version: {version}");
            let error = refused_with(&[&line]);
            assert_eq!(error, Some(HandshakeError::UnsupportedVersion), "{version:?}");
        }
        let (ours, other) = ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8");
        assert_eq!(refused_with(&[ours, other]), Some(HandshakeError::UnsupportedVersion));
        assert_eq!(refused_with(&[ours, ours]), None);
        assert_eq!(HandshakeError::UnsupportedVersion.status(), 426);
    }

    // RFC 6455 §4.2.1 item 3
    #[test]
    fn request_whose_upgrade_field_does_not_name_websocket_is_plain_http() {
        for line in ["Upgrade", "Upgrade: h2c", "Upgrade: websocketx", "Upgrade: websocket/13"] {
            plain(upgrade_head(&[line]), |request| {
                assert!(!request.is_upgrade());
                assert_eq!(request.method(), "GET");
            });
        }
    }

    // RFC 6455 §4.2.1 items 3 and 4, RFC 9110 §7.6.1
    #[test]
    fn upgrade_and_connection_are_lists_of_tokens_in_any_case() {
        for lines in [
            &["Connection: keep-alive, Upgrade"][..],
            &["Connection: keep-alive", "Connection: upgrade"],
            &["connection:\tkeep-alive\t,\tUPGRADE\t", "UPGRADE: WebSocket"],
            &["Upgrade: foo/2, websocket"],
            &["Upgrade: foo/2", "Upgrade: ,websocket,"],
        ] {
            upgrade(upgrade_head(lines), |_| ());
        }
        upgrade(format!("\r\n{}", upgrade_head(&[])), |_| ());
        for line in ["Connection", "Connection: keep-alive", "Connection: xupgrade", "Connection:"]
        {
            let error = HandshakeError::MissingConnectionUpgrade;
            assert_eq!(refused_with(&[line]), Some(error), "{line}");
            assert_eq!(error.status(), 400);
        }
    }

    // RFC 6455 §4.2.1 item 1
    #[test]
    fn upgrade_is_asked_for_with_get_in_http11() {
        for method in ["POST", "HEAD", "get", "OPTIONS"] {
            let head = upgrade_head(&[]).replacen("GET", method, 1);
            assert_eq!(refusal(head), Some(HandshakeError::MethodNotAllowed), "{method}");
        }
        assert_eq!(HandshakeError::MethodNotAllowed.status(), 405);
        let head = upgrade_head(&[]).replacen("1.1", "1.0", 1);
        assert_eq!(refusal(head), Some(HandshakeError::UpgradeInHttp10));
        assert_eq!(HandshakeError::UpgradeInHttp10.status(), 400);
        let head = upgrade_head(&[]).replacen("1.1", "2.0", 1);
        assert_eq!(refusal(head), Some(HeadError::UnsupportedVersion.into()));
        let head = upgrade_head(&[]).replacen("1.1", "1.1x", 1);
        let error = HeadError::Malformed(Malformation::StartLineEnd);
        assert_eq!(refusal(head), Some(error.into()));
    }

    // RFC 9112 §3.2
    #[test]
    fn host_has_to_stand_once_and_be_a_host() {
        assert_eq!(refused_with(&["Host"]), Some(HandshakeError::MissingHost));
        assert_eq!(refused_with(&["Host: a", "Host: a"]), Some(HandshakeError::RepeatedHost));
        for host in ["", "a b", "a/b", "a:b", "u@a", "a, b", "[::1", "::1", "\u{e4}"] {
            let error = refused_with(&[&format!("Host: {host}")]);
            assert_eq!(error, Some(HandshakeError::InvalidHost), "{host:?}");
        }
        for host in ["a", "a:80", "[::1]", "[::1]:80", "127.0.0.1:9001"] {
            assert_eq!(refused_with(&[&format!("Host: {host}")]), None, "{host}");
        }
        // Plain HTTP is held to it too, but for HTTP/1.0, which had no Host field.
        assert_eq!(refusal("GET / HTTP/1.1\r\n\r\n"), Some(HandshakeError::MissingHost));
        plain("GET / HTTP/1.0\r\n\r\n", |request| assert_eq!(request.host(), None));
        assert_eq!(HandshakeError::MissingHost.status(), 400);
    }

    // RFC 9112 §6.3
    #[test]
    fn upgrade_with_a_body_is_refused_and_plain_http_with_one_is_flagged() {
        const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n";
        for lines in [
            &["Content-Length: 1"][..],
            &["Content-Length: +0"],
            &["Content-Length: -1"],
            &["Content-Length:"],
            &["Content-Length: 0, 0"],
            &["Content-Length: 0x0"],
            &["Content-Length: 0", "Content-Length: 0"],
            &["Transfer-Encoding: chunked"],
            &["Transfer-Encoding: identity"],
            &["Transfer-Encoding:"],
            &["Content-Length: 0", "Transfer-Encoding: xchunked"],
        ] {
            assert_eq!(refused_with(lines), Some(HandshakeError::BodyNotAllowed), "{lines:?}");
            let head = format!("{GET}{}\r\n\r\n", lines.join("\r\n"));
            assert!(plain(head, |request| request.declares_body()), "{lines:?}");
        }
        assert_eq!(refused_with(&["Content-Length: 0"]), None);
        assert!(
            !plain(format!("{GET}Content-Length: 0\r\n\r\n"), |request| request.declares_body())
        );
        assert!(!plain(format!("{GET}\r\n"), |request| request.declares_body()));
        assert_eq!(HandshakeError::BodyNotAllowed.status(), 400);
    }

    // RFC 9110 §10.1.1
    #[test]
    fn upgrade_that_expects_something_is_refused() {
        let error = refused_with(&["Expect: 100-continue"]);
        assert_eq!(error, Some(HandshakeError::ExpectationFailed));
        assert_eq!(HandshakeError::ExpectationFailed.status(), 417);
    }

    // RFC 9112 §5
    #[test]
    fn malformed_field_line_refuses_the_request() {
        for line in ["Host : a", "Host", "Host a", ": a", "Host: a\0", "Host: a\r b", "Host: \n a"]
        {
            let head = format!("GET / HTTP/1.1\r\n{line}\r\n\r\n");
            let error = refusal(&head);
            assert!(
                matches!(error, Some(HandshakeError::Head(HeadError::Malformed(_)))),
                "{line:?}"
            );
            assert_eq!(error.map(|error| error.status()), Some(400));
        }
        let error = refusal("GET / HTTP/1.1\nHost: a\n\n");
        assert_eq!(error, Some(HeadError::Malformed(Malformation::BareLf).into()));
    }

    // RFC 9112 §3.2, §3.2.2
    #[test]
    fn absolute_target_is_accepted_and_its_authority_takes_the_hosts_place() {
        let head = upgrade_head(&[]).replacen("/chat", "http://proxied.example:8080/chat?a=b", 1);
        upgrade(head, |upgrade| {
            let request = upgrade.request();
            assert_eq!((request.path(), request.query()), ("/chat", Some("a=b")));
            assert_eq!(request.host(), Some("proxied.example:8080"));
        });
        for target in ["*", "a:80", "chat", "/a#b"] {
            let head = upgrade_head(&[]).replacen("/chat", target, 1);
            assert_eq!(refusal(head), Some(HandshakeError::InvalidTarget), "{target}");
        }
        let head = upgrade_head(&[]).replacen("/chat", "http://u@a/chat", 1);
        assert_eq!(refusal(head), Some(HandshakeError::InvalidHost));
        // It frees nobody of the Host field.
        let head = upgrade_head(&["Host"]).replacen("/chat", "http://a/chat", 1);
        assert_eq!(refusal(head), Some(HandshakeError::MissingHost));
    }

    // RFC 6455 §9.1
    #[test]
    fn extensions_of_several_lines_are_one_list_and_a_malformed_one_is_refused() {
        let lines = ["Sec-WebSocket-Extensions: foo; a=\"1\"", "Sec-WebSocket-Extensions: x,y;b"];
        upgrade(upgrade_head(&lines), |upgrade| {
            assert!(upgrade.extensions().map(|extension| extension.name()).eq(["foo", "x", "y"]));
        });
        let lines = ["Sec-WebSocket-Extensions: foo", "Sec-WebSocket-Extensions: x;;y"];
        assert_eq!(refused_with(&lines), Some(HandshakeError::InvalidExtensions));
    }

    // RFC 6454 §7.3
    #[test]
    fn repeated_origin_is_refused() {
        let lines = ["Origin: http://a", "Origin: http://a"];
        assert_eq!(refused_with(&lines), Some(HandshakeError::InvalidOrigin));
    }

    #[test]
    fn first_broken_rule_is_the_answer_in_the_documented_order() {
        // Everything is wrong at first; then one rule after the other is kept.
        let mut lines = vec![
            "Host: a b",
            "Connection: close",
            "Content-Length: 1",
            "Expect: 100-continue",
            "Sec-WebSocket-Version: 8",
            "Sec-WebSocket-Key: short",
            "Sec-WebSocket-Extensions: ;",
            "Origin: \u{e4}",
        ];
        let mut start = "PUT /#a HTTP/1.0";
        let fixes: [(&str, &str, HandshakeError); 11] = [
            ("", "PUT / HTTP/1.0", HandshakeError::InvalidTarget),
            ("Host: a", "", HandshakeError::InvalidHost),
            ("", "GET / HTTP/1.0", HandshakeError::MethodNotAllowed),
            ("", "GET / HTTP/1.1", HandshakeError::UpgradeInHttp10),
            ("Connection: upgrade", "", HandshakeError::MissingConnectionUpgrade),
            ("Content-Length: 0", "", HandshakeError::BodyNotAllowed),
            ("Expect", "", HandshakeError::ExpectationFailed),
            ("Sec-WebSocket-Version: 13", "", HandshakeError::UnsupportedVersion),
            ("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "", HandshakeError::InvalidKey),
            ("Sec-WebSocket-Extensions: a", "", HandshakeError::InvalidExtensions),
            ("Origin: null", "", HandshakeError::InvalidOrigin),
        ];
        let head = |start: &str, lines: &[&str]| {
            upgrade_head(lines).replacen("GET /chat HTTP/1.1", start, 1)
        };
        for (line, fixed_start, error) in fixes {
            assert_eq!(refusal(head(start, &lines)), Some(error));
            if !fixed_start.is_empty() {
                start = fixed_start;
            }
            let name = line.split(':').next().unwrap_or_default();
            for broken in lines.iter_mut().filter(|broken| broken.starts_with(name)) {
                if !name.is_empty() {
                    *broken = line;
                }
            }
        }
        assert_eq!(refusal(head(start, &lines)), None);
    }

    proptest::proptest! {
        #[test]
        fn no_field_value_panics_and_what_is_accepted_keeps_every_rule(
            index in 0..7usize,
            value in "[a-c,;=\" :/\\[\\]0-9+-]{0,12}",
        ) {
            const NAMES: [&str; 7] = [
                "Host", "Upgrade", "Connection", "Sec-WebSocket-Version", "Sec-WebSocket-Key",
                "Sec-WebSocket-Extensions", "Origin",
            ];
            let head = upgrade_head(&[&format!("{}: {value}", NAMES[index])]);
            inspected(&head, |outcome| match (NAMES[index], outcome) {
                ("Host" | "Sec-WebSocket-Extensions" | "Origin", _) => {}
                ("Upgrade", outcome) => assert!(matches!(outcome, Ok(Inspected::Plain(_)))),
                (_, Ok(Inspected::Upgrade(_))) => assert_eq!(value.trim(), "13"),
                (_, outcome) => assert!(outcome.is_err()),
            });
        }
    }
}
