//! The server's half of the opening handshake (RFC 6455 §4.2.1): what does this request ask for?

use super::accept_key::{AcceptKey, accept_key, is_valid_key};
use super::error::HandshakeError;
use super::request::Request;
use crate::http::{
    Authority, Extension, Extensions, Fields, NotSingle, RequestHead, RequestTarget, Version,
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
    match versions.all(|version| version == b"13") {
        true => Ok(()),
        false => Err(HandshakeError::UnsupportedVersion),
    }
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
) -> impl Iterator<Item = Result<Extension<'a>, crate::http::ExtensionError>> {
    Extensions::new(fields.all("Sec-WebSocket-Extensions"))
}
