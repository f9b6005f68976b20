//! The answer that completes an upgrade (RFC 6455 §4.2.2).

use std::fmt;

use super::negotiated::{Negotiated, NegotiatedExtension};
use super::response::{Headers, InvalidHeader, write_field};
use super::server::Upgrade;
use crate::http::is_token;

/// How an application accepts an upgrade. The default: no subprotocol, no extensions, no headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accept {
    subprotocol: Option<Box<str>>,
    extensions: Vec<NegotiatedExtension>,
    headers: Headers,
}

impl Accept {
    /// Accepts with nothing further.
    pub const fn new() -> Self {
        Self { subprotocol: None, extensions: Vec::new(), headers: Headers::new() }
    }

    /// Selects a subprotocol, which must be one of
    /// [`Request::subprotocols`](super::Request::subprotocols).
    ///
    /// # Errors
    /// `name` is not a token. Whether it was offered is found out by [`write_accept`].
    pub fn subprotocol(mut self, name: &str) -> Result<Self, InvalidHeader> {
        if !is_token(name) {
            return Err(InvalidHeader::Token);
        }
        self.subprotocol = Some(name.into());
        Ok(self)
    }

    /// Adds an extension that was negotiated from [`Upgrade::extensions`].
    #[must_use]
    pub fn extension(mut self, extension: NegotiatedExtension) -> Self {
        self.extensions.push(extension);
        self
    }

    /// Adds a header to the answer.
    ///
    /// # Errors
    /// The name or the value cannot stand in a head, or the engine writes this header itself:
    /// Connection, Upgrade, Content-Length, Transfer-Encoding, all that begin with Sec-WebSocket-.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, InvalidHeader> {
        self.headers.add_to_handshake(name, value, &[])?;
        Ok(self)
    }
}

/// The application selected a subprotocol that the client did not offer. The client would have to
/// fail the connection (RFC 6455 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubprotocolNotOffered;

impl fmt::Display for SubprotocolNotOffered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the selected subprotocol was not offered by the client")
    }
}

impl std::error::Error for SubprotocolNotOffered {}

/// Appends the answer 101 to `out`. Whatever follows in either direction is frames.
///
/// # Errors
/// The subprotocol was not offered, letter by letter (RFC 6455 §4.1 compares them with regard to
/// case); then nothing is written.
pub fn write_accept(
    upgrade: &Upgrade<'_>,
    accept: &Accept,
    out: &mut Vec<u8>,
) -> Result<Negotiated, SubprotocolNotOffered> {
    let subprotocol = accept.subprotocol.as_deref();
    let is_offered = |name| upgrade.request().subprotocols().any(|offered| offered == name);
    if !subprotocol.is_none_or(is_offered) {
        return Err(SubprotocolNotOffered);
    }
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
    );
    write_field(out, "Sec-WebSocket-Accept", upgrade.accept_key().as_str());
    if let Some(subprotocol) = subprotocol {
        write_field(out, "Sec-WebSocket-Protocol", subprotocol);
    }
    for extension in &accept.extensions {
        write_field(out, "Sec-WebSocket-Extensions", &extension.to_string());
    }
    accept.headers.write(out);
    out.extend_from_slice(b"\r\n");
    Ok(Negotiated {
        subprotocol: accept.subprotocol.clone(),
        extensions: accept.extensions.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::testing::{upgrade, upgrade_head};

    /// Answers the RFC's example with more lines: what is written, and what is agreed on.
    fn answer(
        lines: &[&str],
        accept: &Accept,
    ) -> (String, Result<Negotiated, SubprotocolNotOffered>) {
        let mut out = Vec::new();
        let negotiated =
            upgrade(upgrade_head(lines), |upgrade| write_accept(upgrade, accept, &mut out));
        (String::from_utf8(out).unwrap(), negotiated)
    }

    const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

    // RFC 6455 §1.3, §4.2.2 item 5
    #[test]
    fn answer_to_the_rfcs_example_is_the_rfcs_answer() {
        let (text, negotiated) = answer(&[], &Accept::new());
        assert_eq!(text, format!("{ACCEPTED}\r\n"));
        assert_eq!(negotiated, Ok(Negotiated::default()));
    }

    // RFC 6455 §4.2.2 item 4
    #[test]
    fn offers_that_nobody_takes_up_are_not_echoed() {
        let lines = ["Sec-WebSocket-Protocol: x", "Sec-WebSocket-Extensions: foo; bar"];
        assert_eq!(answer(&lines, &Accept::default()).0, format!("{ACCEPTED}\r\n"));
    }

    // RFC 6455 §4.2.2 items 4 and 5, §11.3.4
    #[test]
    fn selected_subprotocol_extensions_and_headers_are_written() {
        let extension = NegotiatedExtension::new("foo").unwrap().param("a", Some("1")).unwrap();
        let accept = Accept::new()
            .subprotocol("b")
            .and_then(|accept| accept.extension(extension.clone()).header("Set-Cookie", "c=d"))
            .unwrap();
        let (text, negotiated) = answer(&["Sec-WebSocket-Protocol: a, b"], &accept);
        let added = "Sec-WebSocket-Protocol: b\r\nSec-WebSocket-Extensions: foo; a=1\r\n\
            Set-Cookie: c=d\r\n\r\n";
        assert_eq!(text, format!("{ACCEPTED}{added}"));
        let extensions = vec![extension];
        assert_eq!(negotiated, Ok(Negotiated { subprotocol: Some("b".into()), extensions }));
    }

    // RFC 6455 §4.2.2 item 4
    #[test]
    fn subprotocol_that_was_not_offered_is_the_callers_error_and_writes_nothing() {
        let accept = Accept::new().subprotocol("b").unwrap();
        for lines in [&[][..], &["Sec-WebSocket-Protocol: a, B, bb"]] {
            assert_eq!(answer(lines, &accept), (String::new(), Err(SubprotocolNotOffered)));
        }
    }

    // RFC 9110 §5.5
    #[test]
    fn header_or_subprotocol_that_would_break_the_head_is_refused() {
        let header = |name, value| Accept::new().header(name, value).unwrap_err();
        assert_eq!(header("A", "b\r\nC: d"), InvalidHeader::Value);
        assert_eq!(header("A\r\n", "b"), InvalidHeader::Name);
        for name in [
            "Connection",
            "upgrade",
            "Sec-WebSocket-Accept",
            "sec-websocket-x",
            "Content-Length",
            "Transfer-Encoding",
            "SEC-WEBSOCKET-",
        ] {
            assert_eq!(header(name, "a"), InvalidHeader::Reserved, "{name}");
        }
        for name in ["", "a b", "a\r\nB: c", "a,b"] {
            assert_eq!(Accept::new().subprotocol(name), Err(InvalidHeader::Token), "{name:?}");
        }
    }
}
