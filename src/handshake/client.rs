//! The client's half of the opening handshake (RFC 6455 §4.1): the request, and the checks of what
//! comes back.

use std::fmt;

use super::accept_key::{AcceptKey, accept_key, request_key};
use super::credentials::{basic, bearer};
use super::negotiated::{Negotiated, NegotiatedExtension};
use super::response::{Headers, InvalidHeader, write_field};
use crate::http::{
    Extensions, Fields, HeadError, NotSingle, Origin, ResponseHead, UriError, Version,
    WebSocketUri, is_token,
};

/// A request for a WebSocket. It serves any number of attempts: what differs between them is the
/// nonce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRequest {
    uri: WebSocketUri,
    subprotocols: Vec<Box<str>>,
    extensions: Option<Box<str>>,
    headers: Headers,
}

impl ClientRequest {
    /// A request that offers no subprotocols and no extensions.
    pub const fn new(uri: WebSocketUri) -> Self {
        Self { uri, subprotocols: Vec::new(), extensions: None, headers: Headers::new() }
    }

    /// Offers one more subprotocol; those offered first are preferred.
    ///
    /// # Errors
    /// `name` is not a token, or is offered already.
    pub fn subprotocol(mut self, name: &str) -> Result<Self, InvalidHeader> {
        if !is_token(name) {
            return Err(InvalidHeader::Token);
        }
        if self.subprotocols.iter().any(|offered| **offered == *name) {
            return Err(InvalidHeader::RepeatedSubprotocol);
        }
        self.subprotocols.push(name.into());
        Ok(self)
    }

    /// Offers extensions: a value of `Sec-WebSocket-Extensions`, which takes the place of an
    /// earlier one.
    ///
    /// # Errors
    /// The value cannot stand in a head, breaks the grammar of RFC 6455 §9.1, or names no
    /// extension.
    pub fn extensions(mut self, offer: &str) -> Result<Self, InvalidHeader> {
        let mut extensions = Extensions::new([offer.as_bytes()].into_iter()).peekable();
        if extensions.peek().is_none() || extensions.any(|extension| extension.is_err()) {
            return Err(InvalidHeader::Extensions);
        }
        self.extensions = Some(offer.trim_matches([' ', '\t']).into());
        Ok(self)
    }

    /// Offers one more extension, which is well-formed.
    #[cfg(feature = "net")]
    pub(crate) fn with_offer(mut self, offer: &str) -> Self {
        self.extensions = Some(match self.extensions {
            Some(others) => format!("{others}, {offer}").into(),
            None => offer.into(),
        });
        self
    }

    /// Adds a header. Authorization and Origin take the place of an earlier one.
    ///
    /// # Errors
    /// The name or the value cannot stand in a head, or the engine writes this header itself: Host,
    /// Connection, Upgrade, Content-Length, Transfer-Encoding, all that begin with Sec-WebSocket-.
    /// Expect is refused too: there is no body to expect anything of.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, InvalidHeader> {
        self.headers.add_once(name, value, &["Authorization", "Origin"])?;
        Ok(self)
    }

    /// Says who asks by user name and password (RFC 7617). In a `ws` URI everybody on the way can
    /// read them.
    ///
    /// # Errors
    /// [`InvalidHeader::UserName`] and [`InvalidHeader::Password`].
    pub fn basic_auth(self, user: &str, password: &str) -> Result<Self, InvalidHeader> {
        self.header("Authorization", &basic(user, password)?)
    }

    /// Says who asks by a token (RFC 6750 §2.1). In a `ws` URI everybody on the way can read it.
    ///
    /// # Errors
    /// [`InvalidHeader::BearerToken`].
    pub fn bearer_auth(self, token: &str) -> Result<Self, InvalidHeader> {
        self.header("Authorization", &bearer(token)?)
    }

    /// Says from which origin the request comes, as browsers do: `https://example.com`, or `null`.
    ///
    /// # Errors
    /// [`InvalidHeader::Origin`].
    pub fn origin(self, origin: &str) -> Result<Self, InvalidHeader> {
        if origin != "null" && Origin::parse(origin).is_err() {
            return Err(InvalidHeader::Origin);
        }
        self.header("Origin", origin)
    }

    /// The same request of where a redirection leads (RFC 9110 §15.4), see [`WebSocketUri::join`].
    /// Another server, or the same by another scheme or port, is not told what may tell who asks: of
    /// the headers that were added it gets Origin and User-Agent alone. Subprotocols and extensions
    /// go along.
    ///
    /// # Errors
    /// As [`WebSocketUri::join`].
    pub fn redirected(&self, location: &str) -> Result<Self, UriError> {
        let mut request = Self { uri: self.uri.join(location)?, ..self.clone() };
        if !request.uri.is_at_the_place_of(&self.uri) {
            request.headers.keep(&["Origin", "User-Agent"]);
        }
        Ok(request)
    }

    /// Where the request leads.
    pub const fn uri(&self) -> &WebSocketUri {
        &self.uri
    }

    /// Appends the request to `out`. `nonce` has to be random and new for each connection
    /// (RFC 6455 §4.1).
    pub fn write(&self, nonce: [u8; 16], out: &mut Vec<u8>) {
        for part in ["GET ", self.uri.target(), " HTTP/1.1\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        write_field(out, "Host", &self.uri.host_field());
        write_field(out, "Upgrade", "websocket");
        write_field(out, "Connection", "Upgrade");
        out.extend_from_slice(b"Sec-WebSocket-Key: ");
        out.extend_from_slice(&request_key(nonce));
        out.extend_from_slice(b"\r\nSec-WebSocket-Version: 13\r\n");
        if !self.subprotocols.is_empty() {
            write_field(out, "Sec-WebSocket-Protocol", &self.subprotocols.join(", "));
        }
        if let Some(offer) = &self.extensions {
            write_field(out, "Sec-WebSocket-Extensions", offer);
        }
        self.headers.write(out);
        out.extend_from_slice(b"\r\n");
    }

    /// What the answer to this request with this nonce has to be.
    pub fn expectation(&self, nonce: [u8; 16]) -> Expectation<'_> {
        Expectation { request: self, accept_key: accept_key(&request_key(nonce)) }
    }

    fn offers_extension(&self, name: &str) -> bool {
        let offer = self.extensions.as_deref().map(str::as_bytes);
        // The offer was parsed when it was made, so that there is no error to lose.
        Extensions::new(offer.into_iter())
            .flatten()
            .any(|extension| extension.name().eq_ignore_ascii_case(name))
    }
}

/// What [`verify`] compares an answer with. Borrows the request, which has to be kept meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Expectation<'a> {
    request: &'a ClientRequest,
    accept_key: AcceptKey,
}

/// Why a client gives a connection up before it is one. A field that stands more than once and must
/// not, or that is not ASCII, counts as wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientHandshakeError {
    /// The head could not be read.
    Head(HeadError),
    /// The server did not switch protocols.
    Status {
        /// What it answered instead of 101.
        status: u16,
    },
    /// The server switched protocols in HTTP/1.0, which has no such thing.
    UpgradeInHttp10,
    /// There is no Upgrade field.
    MissingUpgrade,
    /// The Upgrade field is not `websocket`.
    WrongUpgrade,
    /// There is no Connection field.
    MissingConnection,
    /// The Connection field has no token `upgrade`.
    WrongConnection,
    /// There is no Sec-WebSocket-Accept field.
    MissingAccept,
    /// Sec-WebSocket-Accept is not the answer to the key that was sent.
    WrongAccept,
    /// The Sec-WebSocket-Extensions field breaks its grammar.
    InvalidExtensions,
    /// The server uses an extension that was not offered.
    ExtensionNotOffered,
    /// The server uses an extension twice.
    RepeatedExtension,
    /// The server selected a subprotocol that was not offered, or something that is none.
    SubprotocolNotOffered,
    /// The Sec-WebSocket-Protocol field stands more than once.
    RepeatedSubprotocol,
}

impl ClientHandshakeError {
    /// Whether another attempt can succeed where this one failed: the server was busy, slow or
    /// broken (408, 429, 5xx). Every other answer is final until somebody changes something;
    /// redirections are not followed.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Status { status: 408 | 429 | 500..=599 })
    }
}

impl fmt::Display for ClientHandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Head(error) => return error.fmt(f),
            Self::Status { status } => {
                return write!(f, "the server answered with status {status} instead of 101");
            }
            Self::UpgradeInHttp10 => "the server answered in HTTP/1.0",
            Self::MissingUpgrade => "the answer has no Upgrade field",
            Self::WrongUpgrade => "the answer's Upgrade field is not websocket",
            Self::MissingConnection => "the answer has no Connection field",
            Self::WrongConnection => "the answer's Connection field has no token upgrade",
            Self::MissingAccept => "the answer has no Sec-WebSocket-Accept field",
            Self::WrongAccept => "the answer's Sec-WebSocket-Accept field does not fit the key",
            Self::InvalidExtensions => "the answer's Sec-WebSocket-Extensions field is malformed",
            Self::ExtensionNotOffered => "the server uses an extension that was not offered",
            Self::RepeatedExtension => "the server uses an extension twice",
            Self::SubprotocolNotOffered => "the server selected a subprotocol that was not offered",
            Self::RepeatedSubprotocol => "the answer's Sec-WebSocket-Protocol field is repeated",
        })
    }
}

impl std::error::Error for ClientHandshakeError {}

impl From<HeadError> for ClientHandshakeError {
    fn from(error: HeadError) -> Self {
        Self::Head(error)
    }
}

/// Checks an answer by RFC 6455 §4.1, in the order of that section's list.
///
/// # Errors
/// The first rule that is broken. The connection has to be closed.
pub fn verify(
    response: &ResponseHead<'_>,
    expected: &Expectation<'_>,
) -> Result<Negotiated, ClientHandshakeError> {
    let fields = response.fields;
    if response.status != 101 {
        return Err(ClientHandshakeError::Status { status: response.status });
    }
    if response.version == Version::Http10 {
        return Err(ClientHandshakeError::UpgradeInHttp10);
    }
    match fields.single("Upgrade") {
        Ok(Some(upgrade)) if upgrade.eq_ignore_ascii_case("websocket") => {}
        Ok(None) => return Err(ClientHandshakeError::MissingUpgrade),
        Ok(Some(_)) | Err(_) => return Err(ClientHandshakeError::WrongUpgrade),
    }
    if fields.count("Connection") == 0 {
        return Err(ClientHandshakeError::MissingConnection);
    }
    if !fields.has_token("Connection", "upgrade") {
        return Err(ClientHandshakeError::WrongConnection);
    }
    match fields.single("Sec-WebSocket-Accept") {
        Ok(Some(accept)) if accept == expected.accept_key.as_str() => {}
        Ok(None) => return Err(ClientHandshakeError::MissingAccept),
        Ok(Some(_)) | Err(_) => return Err(ClientHandshakeError::WrongAccept),
    }
    let extensions = extensions(fields, expected.request)?;
    let subprotocol = subprotocol(fields, expected.request)?;
    Ok(Negotiated { subprotocol, extensions })
}

fn extensions(
    fields: Fields<'_>,
    request: &ClientRequest,
) -> Result<Vec<NegotiatedExtension>, ClientHandshakeError> {
    let mut negotiated: Vec<NegotiatedExtension> = Vec::new();
    for extension in Extensions::new(fields.all("Sec-WebSocket-Extensions")) {
        let extension = extension.map_err(|_| ClientHandshakeError::InvalidExtensions)?;
        let name = extension.name();
        if !request.offers_extension(name) {
            return Err(ClientHandshakeError::ExtensionNotOffered);
        }
        if negotiated.iter().any(|earlier| earlier.name().eq_ignore_ascii_case(name)) {
            return Err(ClientHandshakeError::RepeatedExtension);
        }
        negotiated.push(extension.into());
    }
    Ok(negotiated)
}

fn subprotocol(
    fields: Fields<'_>,
    request: &ClientRequest,
) -> Result<Option<Box<str>>, ClientHandshakeError> {
    match fields.single("Sec-WebSocket-Protocol") {
        Ok(None) => Ok(None),
        Ok(Some(selected)) => {
            let mut offered = request.subprotocols.iter();
            let offered = offered.find(|offered| ***offered == *selected);
            offered.cloned().map(Some).ok_or(ClientHandshakeError::SubprotocolNotOffered)
        }
        Err(NotSingle::Repeated) => Err(ClientHandshakeError::RepeatedSubprotocol),
        Err(NotSingle::NotAscii) => Err(ClientHandshakeError::SubprotocolNotOffered),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::testing::upgrade;
    use crate::handshake::{Accept, write_accept};
    use crate::http::{FieldStorage, parse_response};

    const NONCE: [u8; 16] = *b"the sample nonce";
    const SWITCHED: [&str; 4] = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    ];

    fn request() -> ClientRequest {
        ClientRequest::new(WebSocketUri::parse("ws://server.example.com/chat").unwrap())
    }

    fn offering() -> ClientRequest {
        request()
            .subprotocol("chat")
            .and_then(|request| request.subprotocol("superchat"))
            .and_then(|request| request.extensions("foo; a=1, bar"))
            .unwrap()
    }

    fn written(request: &ClientRequest) -> String {
        let mut out = Vec::new();
        request.write(NONCE, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn verified(
        request: &ClientRequest,
        lines: &[&str],
    ) -> Result<Negotiated, ClientHandshakeError> {
        let head = lines.join("\r\n") + "\r\n\r\n";
        let mut storage = FieldStorage::new();
        let head = parse_response(head.as_bytes(), &mut storage).unwrap();
        verify(&head, &request.expectation(NONCE))
    }

    /// The error for the RFC's answer with more lines behind it.
    fn error_with(request: &ClientRequest, more: &[&str]) -> Option<ClientHandshakeError> {
        verified(request, &[&SWITCHED, more].concat()).err()
    }

    // RFC 6455 §4.1
    #[test]
    fn request_is_written_as_the_rfc_wants_it() {
        let request = offering().header("Origin", "http://example.com").unwrap();
        assert_eq!(
            written(&request),
            "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat, superchat\r\n\
            Sec-WebSocket-Extensions: foo; a=1, bar\r\nOrigin: http://example.com\r\n\r\n"
        );
    }

    // RFC 6455 §4.1, §4.2
    #[test]
    fn our_server_accepts_our_client_and_our_client_our_server() {
        let client = offering();
        let extension = NegotiatedExtension::new("foo").unwrap();
        let accept = Accept::new().subprotocol("superchat").unwrap().extension(extension);
        let mut answer = Vec::new();
        let negotiated = upgrade(written(&client), |upgrade| {
            write_accept(upgrade, &accept, &mut answer).unwrap()
        });
        let mut storage = FieldStorage::new();
        let head = parse_response(&answer, &mut storage).unwrap();
        assert_eq!(verify(&head, &client.expectation(NONCE)), Ok(negotiated));
    }

    // RFC 6455 §4.1 item 1 of the client's checks
    #[test]
    fn status_other_than_101_is_an_error_that_carries_it() {
        for (status, is_retryable) in [
            (200, false),
            (301, false),
            (400, false),
            (401, false),
            (403, false),
            (404, false),
            (426, false),
            (408, true),
            (429, true),
            (500, true),
            (503, true),
            (599, true),
        ] {
            let error = verified(&request(), &[&format!("HTTP/1.1 {status} x")]).unwrap_err();
            assert_eq!(error, ClientHandshakeError::Status { status });
            assert_eq!(error.is_retryable(), is_retryable, "{status}");
        }
        let [_, rest @ ..] = SWITCHED;
        let lines = [&["HTTP/1.0 101 x"], &rest[..]].concat();
        assert_eq!(verified(&request(), &lines), Err(ClientHandshakeError::UpgradeInHttp10));
        assert!(!ClientHandshakeError::UpgradeInHttp10.is_retryable());
    }

    // RFC 6455 §4.1 items 2 to 4 of the client's checks
    #[test]
    fn missing_or_wrong_field_is_named() {
        use ClientHandshakeError as E;
        for (index, line, error) in [
            (1, "", E::MissingUpgrade),
            (1, "Upgrade: h2c", E::WrongUpgrade),
            (1, "Upgrade: websocket, h2c", E::WrongUpgrade),
            (1, "Upgrade: websocket\r\nUpgrade: websocket", E::WrongUpgrade),
            (2, "", E::MissingConnection),
            (2, "Connection: keep-alive", E::WrongConnection),
            (2, "Connection: xupgrade", E::WrongConnection),
            (3, "", E::MissingAccept),
            (3, "Sec-WebSocket-Accept:", E::WrongAccept),
            (3, "Sec-WebSocket-Accept: S3pPLMBiTxaQ9kYGzzhZRbK+xOo=", E::WrongAccept),
            (3, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=x", E::WrongAccept),
            (3, "Sec-WebSocket-Accept: dGhlIHNhbXBsZSBub25jZQ==", E::WrongAccept),
        ] {
            let mut lines = SWITCHED.to_vec();
            match line {
                "" => drop(lines.remove(index)),
                line => lines[index] = line,
            }
            assert_eq!(verified(&request(), &lines), Err(error), "{line}");
        }
        let accept = SWITCHED[3];
        assert_eq!(error_with(&request(), &[accept]), Some(E::WrongAccept));
        let any_case = [SWITCHED[0], "upgrade: WebSocket", "connection: a, UPGRADE", accept];
        assert_eq!(verified(&request(), &any_case), Ok(Negotiated::default()));
    }

    // RFC 6455 §4.1 item 6 of the client's checks
    #[test]
    fn subprotocol_has_to_be_one_that_was_offered() {
        use ClientHandshakeError as E;
        let selected =
            verified(&offering(), &[&SWITCHED[..], &["Sec-WebSocket-Protocol: chat"]].concat());
        assert_eq!(selected.unwrap().subprotocol.as_deref(), Some("chat"));
        assert_eq!(error_with(&offering(), &[]), None);
        let chat = "Sec-WebSocket-Protocol: chat";
        assert_eq!(error_with(&request(), &[chat]), Some(E::SubprotocolNotOffered));
        assert_eq!(error_with(&offering(), &[chat, chat]), Some(E::RepeatedSubprotocol));
        for value in ["", "Chat", "chat, superchat", "chatx", "\u{e4}"] {
            let line = format!("Sec-WebSocket-Protocol: {value}");
            let error = error_with(&offering(), &[&line]);
            assert_eq!(error, Some(E::SubprotocolNotOffered), "{value:?}");
        }
    }

    // RFC 6455 §4.1 item 5 of the client's checks, §9.1
    #[test]
    fn extensions_have_to_be_offered_well_formed_and_not_repeated() {
        use ClientHandshakeError as E;
        let lines = ["Sec-WebSocket-Extensions: bar", "Sec-WebSocket-Extensions: foo; b=\"2\""];
        let negotiated = verified(&offering(), &[&SWITCHED[..], &lines].concat()).unwrap();
        let texts: Vec<String> = negotiated.extensions.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["bar", "foo; b=2"]);
        for (request, value, error) in [
            (request(), "foo", E::ExtensionNotOffered),
            (offering(), "a", E::ExtensionNotOffered),
            (offering(), "foo, baz", E::ExtensionNotOffered),
            (offering(), "foo, foo; a=1", E::RepeatedExtension),
            (offering(), "foo, bar, FOO", E::RepeatedExtension),
            (offering(), "foo;", E::InvalidExtensions),
            (request(), ";", E::InvalidExtensions),
        ] {
            let line = format!("Sec-WebSocket-Extensions: {value}");
            assert_eq!(error_with(&request, &[&line]), Some(error), "{value}");
        }
    }

    // RFC 9110 §5.5
    #[test]
    fn request_that_would_break_its_head_is_refused() {
        let header = |name, value| request().header(name, value).unwrap_err();
        assert_eq!(header("A", "b\r\nC: d"), InvalidHeader::Value);
        assert_eq!(header("A:", "b"), InvalidHeader::Name);
        for name in ["host", "Connection", "Upgrade", "Sec-WebSocket-Key", "Expect"] {
            assert_eq!(header(name, "a"), InvalidHeader::Reserved, "{name}");
        }
        assert_eq!(request().subprotocol("a\r\n"), Err(InvalidHeader::Token));
        assert_eq!(offering().subprotocol("chat"), Err(InvalidHeader::RepeatedSubprotocol));
        for offer in ["", ",", "a;", "a\r\nB: c", "a; b=\"c d\"", "\u{e4}"] {
            assert_eq!(request().extensions(offer), Err(InvalidHeader::Extensions), "{offer:?}");
        }
    }

    // RFC 7617 §2, RFC 6750 §2.1, RFC 6454 §7
    #[test]
    fn who_asks_is_said_once_and_not_printed() {
        let fields = |request: &ClientRequest| {
            let head = written(request);
            let behind = head.split_once("Version: 13\r\n").unwrap().1;
            behind.trim_end().replace("\r\n", "|")
        };
        let request = || request().header("A", "b").unwrap();
        let known = request().basic_auth("Aladdin", "open sesame").unwrap();
        assert_eq!(fields(&known), "A: b|Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        let printed = format!("{known:?}");
        assert!(!printed.contains("QWxh") && !printed.contains("sesame"), "{printed}");
        let trusted = known.bearer_auth("t0ken").and_then(|request| request.header("A", "c"));
        assert_eq!(fields(&trusted.unwrap()), "A: b|Authorization: Bearer t0ken|A: c");
        let from = request().origin("http://a").and_then(|request| request.origin("https://b:1"));
        assert_eq!(fields(&from.unwrap()), "A: b|Origin: https://b:1");
        assert_eq!(fields(&request().origin("null").unwrap()), "A: b|Origin: null");

        assert_eq!(request().basic_auth("a:b", "c"), Err(InvalidHeader::UserName));
        assert_eq!(request().basic_auth("a", "\r\nB: c"), Err(InvalidHeader::Password));
        assert_eq!(request().bearer_auth("a\r\nB: c"), Err(InvalidHeader::BearerToken));
        for origin in ["", "a", "https://", "https://a/b", "https://a\r\nB: c", "NULL"] {
            assert_eq!(request().origin(origin), Err(InvalidHeader::Origin), "{origin:?}");
        }
    }

    // RFC 9110 §15.4
    #[test]
    fn redirection_takes_credentials_to_the_same_server_alone() {
        let known = offering()
            .basic_auth("user", "password")
            .and_then(|request| request.header("cookie", "a=b"))
            .and_then(|request| request.header("X-Api-Key", "y"))
            .and_then(|request| request.header("user-agent", "z"))
            .and_then(|request| request.origin("null"))
            .unwrap();
        for (location, goes_along) in [
            ("/other", true),
            ("//server.example.com:80/other", true),
            ("http://SERVER.example.com/other", true),
            ("https://server.example.com/other", false),
            ("ws://server.example.com:8080/other", false),
            ("ws://example.com/other", false),
        ] {
            let head = written(&known.redirected(location).unwrap());
            assert!(head.starts_with("GET /other HTTP/1.1\r\n"), "{head}");
            assert_eq!(head.contains("Authorization: Basic "), goes_along, "{location}");
            assert_eq!(head.contains("cookie: a=b"), goes_along, "{location}");
            assert_eq!(head.contains("X-Api-Key: y\r\n"), goes_along, "{location}");
            assert!(head.contains("user-agent: z\r\n") && head.contains("Origin: null\r\n"));
            assert!(head.contains(": chat, superchat\r\n"));
        }
        assert_eq!(known.redirected("ftp://a/"), Err(UriError::Scheme));
    }

    #[test]
    fn request_through_a_unix_socket_is_one_to_localhost() {
        let uri = WebSocketUri::parse("ws+unix:/run/x.sock:/chat?a").unwrap();
        let head = written(&ClientRequest::new(uri));
        assert!(head.starts_with("GET /chat?a HTTP/1.1\r\nHost: localhost\r\n"), "{head}");
    }
}
