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
