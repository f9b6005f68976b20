//! Where a client connects and what it asks for: `ws` URIs (RFC 6455 §3), those of Unix sockets, and
//! what a redirection makes of them.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use super::uri::{Authority, UriError, check_characters, is_scheme, split_authority, split_query};

/// A `ws`, `wss` or `ws+unix` URI, owned: where a client connects and what it asks for.
///
/// It is printed so that it can be parsed again: the scheme's default port is left out. Its `Debug`
/// leaves the query out, where tokens stand.
#[derive(Clone, PartialEq, Eq)]
pub struct WebSocketUri {
    place: Place,
    /// Begins with a slash.
    target: Box<str>,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Network {
        scheme: Scheme,
        /// In lower case, an IPv6 address without its brackets.
        host: Box<str>,
        port: u16,
    },
    Unix(UnixSocket),
}

/// The name of a Unix socket in a URI, without percent-encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnixSocket {
    /// The path of a file, absolute or not; neither empty nor with a NUL in it.
    Path(Box<[u8]>),
    /// A name without a file, which Linux alone has; without the NUL that the kernel wants in front.
    Abstract(Box<[u8]>),
}

impl WebSocketUri {
    /// Parses `ws://host:port/path?query` (RFC 6455 §3). Scheme and host may be in any case; the
    /// port and the path may be left out.
    ///
    /// Parses `ws+unix:/run/x.sock:/path?query` as well, as clients of other languages write it: the
    /// path of a socket up to the next colon, percent-encoded where it has a colon or a question
    /// mark itself, and then what is asked for; `@name` instead of a path is an abstract name.
    ///
    /// # Errors
    /// See [`UriError`]: what stands in the way is named.
    pub fn parse(uri: &str) -> Result<Self, UriError> {
        check_characters(uri)?;
        let (scheme, rest) = uri.split_once(':').ok_or(UriError::Scheme)?;
        let scheme = match &*scheme.to_ascii_lowercase() {
            "ws+unix" => return Self::at_socket(rest),
            "ws" => Scheme::Ws,
            "wss" => Scheme::Wss,
            _ => return Err(UriError::Scheme),
        };
        Self::at_host(scheme, rest.strip_prefix("//").ok_or(UriError::Scheme)?)
    }

    /// `rest` is what follows the slashes.
    fn at_host(scheme: Scheme, rest: &str) -> Result<Self, UriError> {
        let (authority, target) = split_authority(rest);
        if authority.contains('@') {
            return Err(UriError::UserInfo);
        }
        let authority = Authority::parse(authority)?;
        let host = authority.host.plain();
        let port = authority.port.unwrap_or(scheme.default_port());
        Ok(Self { place: Place::Network { scheme, host, port }, target: origin_form(target)? })
    }

    /// `rest` is what follows the scheme's colon.
    fn at_socket(rest: &str) -> Result<Self, UriError> {
        // With an empty authority, `ws+unix:///run/x.sock`, it means the same (RFC 3986 §3.2).
        let rest = match rest.strip_prefix("//") {
            Some(path) if path.starts_with('/') => path,
            Some(_) => return Err(UriError::Host),
            None => rest,
        };
        let (name, target) = rest.split_at(rest.find([':', '?']).unwrap_or(rest.len()));
        let decoded = |text| percent_decode_str(text).collect::<Box<[u8]>>();
        let (socket, is_legal) = match name.strip_prefix('@') {
            Some(name) => (UnixSocket::Abstract(decoded(name)), !name.is_empty()),
            None => {
                let path = decoded(name);
                let is_legal = !path.is_empty() && !path.contains(&0);
                (UnixSocket::Path(path), is_legal)
            }
        };
        if !is_legal {
            return Err(UriError::Socket);
        }
        let target = origin_form(target.strip_prefix(':').unwrap_or(target))?;
        Ok(Self { place: Place::Unix(socket), target })
    }

    /// Where the `Location` of a redirection leads from here (RFC 9110 §10.2.2, RFC 3986 §5.2):
    /// another URI, of which `http` and `https` stand for `ws` and `wss`, or a reference to
    /// something next to this one. Its fragment is dropped.
    ///
    /// It may lead from `wss` to `ws`; whether to follow is for the caller to say. It never leads to
    /// a Unix socket that this one has not named already.
    ///
    /// # Errors
    /// As [`parse`](Self::parse); [`UriError::Host`] also where a URI names none, or names none but
    /// a host from a Unix socket, which has no scheme to go on with.
    pub fn join(&self, location: &str) -> Result<Self, UriError> {
        let reference = location.split('#').next().unwrap_or_default();
        check_characters(reference)?;
        if let Some((scheme, rest)) = reference.split_once(':')
            && is_scheme(scheme)
        {
            let scheme = match &*scheme.to_ascii_lowercase() {
                "ws" | "http" => Scheme::Ws,
                "wss" | "https" => Scheme::Wss,
                _ => return Err(UriError::Scheme),
            };
            let rest = rest.strip_prefix("//").ok_or(UriError::Host)?;
            return Self::at_host(scheme, rest).map(Self::without_dot_segments);
        }
        if let Some(rest) = reference.strip_prefix("//") {
            return match self.place {
                Place::Network { scheme, .. } => {
                    Self::at_host(scheme, rest).map(Self::without_dot_segments)
                }
                Place::Unix(_) => Err(UriError::Host),
            };
        }
        let (base_path, base_query) = split_query(&self.target);
        let at_target = |target: String| Self { place: self.place.clone(), target: target.into() };
        match split_query(reference) {
            ("", "") => Ok(at_target(format!("{base_path}{base_query}"))),
            ("", query) => Ok(at_target(format!("{base_path}{query}"))),
            (path, _) if path.starts_with('/') => {
                Ok(at_target(reference.to_owned()).without_dot_segments())
            }
            // §5.2.3: it takes the place of the last segment.
            (_, _) => {
                let directory = base_path.rfind('/').map_or("/", |slash| &base_path[..=slash]);
                Ok(at_target(format!("{directory}{reference}")).without_dot_segments())
            }
        }
    }

    fn without_dot_segments(mut self) -> Self {
        let (path, query) = split_query(&self.target);
        self.target = (remove_dot_segments(path) + query).into();
        self
    }

    /// Whether the same server is asked, as far as the URIs tell.
    pub(crate) fn is_at_the_place_of(&self, other: &Self) -> bool {
        self.place == other.place
    }

    /// The scheme; [`Scheme::Ws`] for a Unix socket.
    pub const fn scheme(&self) -> Scheme {
        match self.place {
            Place::Network { scheme, .. } => scheme,
            Place::Unix(_) => Scheme::Ws,
        }
    }

    /// The Unix socket to connect to, if it is one. Then [`host`](Self::host) and
    /// [`port`](Self::port) are what the server is told, and lead nowhere.
    pub const fn unix_socket(&self) -> Option<&UnixSocket> {
        match &self.place {
            Place::Unix(socket) => Some(socket),
            Place::Network { .. } => None,
        }
    }

    /// The host in lower case, to be resolved or, as it is, to be parsed as an address: IPv6
    /// addresses stand without brackets. `localhost` for a Unix socket.
    pub fn host(&self) -> &str {
        match &self.place {
            Place::Network { host, .. } => host,
            Place::Unix(_) => "localhost",
        }
    }

    /// The port, the scheme's default filled in.
    pub const fn port(&self) -> u16 {
        match self.place {
            Place::Network { port, .. } => port,
            Place::Unix(_) => Scheme::Ws.default_port(),
        }
    }

    /// The request target: path and query, `/` if there is neither.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The value of the Host field: the default port is left out (RFC 6455 §4.1).
    pub fn host_field(&self) -> String {
        let (host, port) = (bracketed(self.host()), self.port());
        if port == self.scheme().default_port() { host } else { format!("{host}:{port}") }
    }
}

impl fmt::Display for WebSocketUri {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ENCODED: &AsciiSet =
            &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_').remove(b'~');
        let target = &self.target;
        match &self.place {
            Place::Network { scheme, .. } => {
                let scheme = match scheme {
                    Scheme::Ws => "ws",
                    Scheme::Wss => "wss",
                };
                write!(out, "{scheme}://{}{target}", self.host_field())
            }
            // A path that begins with two slashes needs an empty authority in front, or it is one.
            Place::Unix(UnixSocket::Path(path)) => {
                let slashes = if path.starts_with(b"//") { "//" } else { "" };
                write!(out, "ws+unix:{slashes}{}:{target}", percent_encode(path, ENCODED))
            }
            Place::Unix(UnixSocket::Abstract(name)) => {
                write!(out, "ws+unix:@{}:{target}", percent_encode(name, ENCODED))
            }
        }
    }
}

impl fmt::Debug for WebSocketUri {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.to_string();
        // A question mark in front of the target is percent-encoded.
        match whole.split_once('?') {
            Some((before, _)) => write!(out, "{before}?.."),
            None => out.write_str(&whole),
        }
    }
}

/// A host as it stands in front of a port.
pub(crate) fn bracketed(host: &str) -> String {
    // A colon stands in IPv6 addresses and in no name.
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// A path and a query as they are sent: an empty path is a slash (RFC 9112 §3.2.1).
fn origin_form(target: &str) -> Result<Box<str>, UriError> {
    match target.as_bytes().first() {
        Some(b'/') => Ok(target.into()),
        Some(b'?') | None => Ok(format!("/{target}").into()),
        Some(_) => Err(UriError::TargetForm),
    }
}

/// RFC 3986 §5.2.4 for a path that begins with a slash: `.` is left out, `..` takes the segment
/// before it along, and either leaves the slash behind it where it is the last.
fn remove_dot_segments(path: &str) -> String {
    let mut kept = String::with_capacity(path.len());
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.truncate(kept.rfind('/').unwrap_or(0));
                }
                if is_last {
                    kept.push('/');
                }
            }
            segment => {
                kept.push('/');
                kept.push_str(segment);
            }
        }
    }
    kept
}

/// The schemes of WebSocket URIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain TCP, port 80 by default.
    Ws,
    /// TLS, port 443 by default.
    Wss,
}

impl Scheme {
    /// The port of a URI that names none (RFC 6455 §3).
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Ws => 80,
            Self::Wss => 443,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http::uri::Host;

    // RFC 6455 §3, §4.1
    #[test]
    fn uri_is_split_and_its_defaults_are_filled_in() {
        for (uri, scheme, host, port, target, host_field) in [
            ("ws://a", Scheme::Ws, "a", 80, "/", "a"),
            ("wss://a", Scheme::Wss, "a", 443, "/", "a"),
            ("WS://ExAmPle.com/Chat", Scheme::Ws, "example.com", 80, "/Chat", "example.com"),
            ("ws://a:80/", Scheme::Ws, "a", 80, "/", "a"),
            ("ws://a:443/", Scheme::Ws, "a", 443, "/", "a:443"),
            ("wss://a:443/", Scheme::Wss, "a", 443, "/", "a"),
            ("wss://a:80/", Scheme::Wss, "a", 80, "/", "a:80"),
            ("ws://a:/x", Scheme::Ws, "a", 80, "/x", "a"),
            ("ws://a?q=1/2", Scheme::Ws, "a", 80, "/?q=1/2", "a"),
            ("ws://a:1?q", Scheme::Ws, "a", 1, "/?q", "a:1"),
            ("ws://a/b%20c?d&e?f", Scheme::Ws, "a", 80, "/b%20c?d&e?f", "a"),
            ("ws://a/@:b", Scheme::Ws, "a", 80, "/@:b", "a"),
            ("ws://127.0.0.1:9001/", Scheme::Ws, "127.0.0.1", 9001, "/", "127.0.0.1:9001"),
            ("ws://[::1]", Scheme::Ws, "::1", 80, "/", "[::1]"),
            ("ws://[::1]:9001/x", Scheme::Ws, "::1", 9001, "/x", "[::1]:9001"),
            ("wss://[2001:DB8:0::1]/", Scheme::Wss, "2001:db8::1", 443, "/", "[2001:db8::1]"),
            ("ws://a:65535/", Scheme::Ws, "a", 65535, "/", "a:65535"),
        ] {
            let parsed = WebSocketUri::parse(uri).unwrap();
            assert_eq!(
                (parsed.scheme(), parsed.host(), parsed.port()),
                (scheme, host, port),
                "{uri}"
            );
            assert_eq!((parsed.target(), &*parsed.host_field()), (target, host_field), "{uri}");
        }
    }

    // RFC 6455 §3
    #[test]
    fn malformed_uri_is_refused_by_its_rule() {
        for (uri, error) in [
            ("", UriError::Scheme),
            ("a", UriError::Scheme),
            ("a:80", UriError::Scheme),
            ("ws:/a", UriError::Scheme),
            ("http://a/", UriError::Scheme),
            ("https://a/", UriError::Scheme),
            ("://a", UriError::Scheme),
            ("ws://", UriError::Host),
            ("ws:///path", UriError::Host),
            ("ws://:80/", UriError::Host),
            ("ws://a%2eb/", UriError::Host),
            ("ws://a\\b/", UriError::Host),
            ("ws://[::1/", UriError::Host),
            ("ws://[a]/", UriError::Host),
            ("ws://[fe80::1%25eth0]/", UriError::Host),
            ("ws://::1/", UriError::Host),
            ("ws://[::1]80/", UriError::Port),
            ("ws://a:b/", UriError::Port),
            ("ws://a:+80/", UriError::Port),
            ("ws://a:-1/", UriError::Port),
            ("ws://a:0/", UriError::Port),
            ("ws://a:65536/", UriError::Port),
            ("ws://a:80:80/", UriError::Port),
            ("ws://user@a/", UriError::UserInfo),
            ("ws://user:password@a/", UriError::UserInfo),
            ("ws://a/#b", UriError::Fragment),
            ("ws://a#", UriError::Fragment),
            ("ws://a/b c", UriError::Character),
            ("ws://a/\r\nX: y", UriError::Character),
            ("ws://a\n/", UriError::Character),
            ("ws://a/\0", UriError::Character),
            ("ws://a/\u{e4}", UriError::Character),
            ("ws://\u{e4}/", UriError::Character),
        ] {
            assert_eq!(WebSocketUri::parse(uri), Err(error), "{uri:?}");
        }
        let long = "a".repeat(256);
        assert_eq!(WebSocketUri::parse(&format!("ws://{long}/")), Err(UriError::Host));
        assert!(WebSocketUri::parse(&format!("ws://{}/", &long[1..])).is_ok());
    }

    fn joined(base: &str, location: &str) -> Result<String, UriError> {
        let base = WebSocketUri::parse(base).unwrap();
        base.join(location).map(|uri| uri.to_string())
    }

    /// RFC 3986 §5.2.4 to the letter: an input buffer, an output buffer, and its rules A to E.
    fn naive_remove_dot_segments(path: &str) -> String {
        let (mut input, mut output) = (path.to_owned(), String::new());
        while !input.is_empty() {
            if let Some(rest) = input.strip_prefix("../").or(input.strip_prefix("./")) {
                input = rest.to_owned();
            } else if let Some(rest) = input.strip_prefix("/./") {
                input = format!("/{rest}");
            } else if input == "/." {
                input = "/".to_owned();
            } else if input.starts_with("/../") || input == "/.." {
                input = format!("/{}", input.get(4..).unwrap_or_default());
                output = output.rsplit_once('/').map_or("", |(kept, _)| kept).to_owned();
            } else if input == "." || input == ".." {
                input.clear();
            } else {
                let end = input[1..].find('/').map_or(input.len(), |slash| slash + 1);
                output += &input[..end];
                input = input[end..].to_owned();
            }
        }
        output
    }

    /// RFC 3986 §5.2.2 and §5.3 to the letter, for a base with an authority, on texts alone.
    fn naive_join(base: &str, reference: &str) -> String {
        type Parts<'a> = (Option<&'a str>, Option<&'a str>, &'a str, Option<&'a str>);
        // The expression of appendix B, taken apart from behind.
        fn parts(text: &str) -> Parts<'_> {
            let text = text.split_once('#').map_or(text, |(text, _)| text);
            let (text, query) =
                text.split_once('?').map_or((text, None), |(text, query)| (text, Some(query)));
            let (scheme, text) = match text.split_once(':') {
                Some((scheme, rest)) if !scheme.contains('/') => (Some(scheme), rest),
                _ => (None, text),
            };
            match text.strip_prefix("//") {
                Some(rest) => {
                    let end = rest.find('/').unwrap_or(rest.len());
                    (scheme, Some(&rest[..end]), &rest[end..], query)
                }
                None => (scheme, None, text, query),
            }
        }
        let (base_scheme, base_authority, base_path, base_query) = parts(base);
        let (scheme, authority, path, query) = parts(reference);
        let merged = match base_path.rsplit_once('/') {
            Some((directory, _)) => format!("{directory}/{path}"),
            None => format!("/{path}"),
        };
        let (authority, path, query) = match (scheme.or(authority), path) {
            (Some(_), path) => (authority, naive_remove_dot_segments(path), query),
            (None, "") => (base_authority, base_path.to_owned(), query.or(base_query)),
            (None, path) if path.starts_with('/') => {
                (base_authority, naive_remove_dot_segments(path), query)
            }
            (None, _) => (base_authority, naive_remove_dot_segments(&merged), query),
        };
        let scheme = scheme.or(base_scheme).unwrap().replace("http", "ws");
        let slash = if path.is_empty() { "/" } else { "" };
        let query = query.map_or(String::new(), |query| format!("?{query}"));
        format!("{scheme}://{}{slash}{path}{query}", authority.unwrap())
    }

    // RFC 3986 §5.4.1, §5.4.2
    #[test]
    fn references_lead_where_the_examples_of_the_rfc_say() {
        for (reference, expected) in [
            ("http:g", Err(UriError::Host)), // strict parsers take it for a URI without authority
            ("g:h", Err(UriError::Scheme)),
            ("g", Ok("ws://a/b/c/g")),
            ("./g", Ok("ws://a/b/c/g")),
            ("g/", Ok("ws://a/b/c/g/")),
            ("/g", Ok("ws://a/g")),
            ("//g", Ok("ws://g/")),
            ("?y", Ok("ws://a/b/c/d;p?y")),
            ("g?y", Ok("ws://a/b/c/g?y")),
            ("#s", Ok("ws://a/b/c/d;p?q")),
            ("g#s", Ok("ws://a/b/c/g")),
            ("g?y#s", Ok("ws://a/b/c/g?y")),
            (";x", Ok("ws://a/b/c/;x")),
            ("g;x", Ok("ws://a/b/c/g;x")),
            ("g;x?y#s", Ok("ws://a/b/c/g;x?y")),
            ("", Ok("ws://a/b/c/d;p?q")),
            (".", Ok("ws://a/b/c/")),
            ("./", Ok("ws://a/b/c/")),
            ("..", Ok("ws://a/b/")),
            ("../", Ok("ws://a/b/")),
            ("../g", Ok("ws://a/b/g")),
            ("../..", Ok("ws://a/")),
            ("../../", Ok("ws://a/")),
            ("../../g", Ok("ws://a/g")),
            ("../../../g", Ok("ws://a/g")),
            ("../../../../g", Ok("ws://a/g")),
            ("/./g", Ok("ws://a/g")),
            ("/../g", Ok("ws://a/g")),
            ("g.", Ok("ws://a/b/c/g.")),
            (".g", Ok("ws://a/b/c/.g")),
            ("g..", Ok("ws://a/b/c/g..")),
            ("..g", Ok("ws://a/b/c/..g")),
            ("./../g", Ok("ws://a/b/g")),
            ("./g/.", Ok("ws://a/b/c/g/")),
            ("g/./h", Ok("ws://a/b/c/g/h")),
            ("g/../h", Ok("ws://a/b/c/h")),
            ("g;x=1/./y", Ok("ws://a/b/c/g;x=1/y")),
            ("g;x=1/../y", Ok("ws://a/b/c/y")),
            ("g?y/./x", Ok("ws://a/b/c/g?y/./x")),
            ("g?y/../x", Ok("ws://a/b/c/g?y/../x")),
            ("g#s/./x", Ok("ws://a/b/c/g")),
            ("g#s/../x", Ok("ws://a/b/c/g")),
        ] {
            let joined = joined("ws://a/b/c/d;p?q", reference);
            assert_eq!(joined.as_deref(), expected.as_ref().map(|uri| *uri), "{reference}");
        }
    }

    // RFC 9110 §10.2.2
    #[test]
    fn redirection_may_lead_elsewhere_but_to_no_other_socket() {
        const SOCKET: &str = "ws+unix:/run/x.sock:/a/b?c";
        for (base, location, expected) in [
            ("ws://a/b", "https://c:8443/d", Ok("wss://c:8443/d")),
            ("ws://a/b", "HTTP://C", Ok("ws://c/")),
            ("wss://a/b", "http://a/b", Ok("ws://a/b")),
            ("wss://a:1/b", "//c/./d/..?e", Ok("wss://c/?e")),
            ("wss://a:1/b", "//c:2", Ok("wss://c:2/")),
            ("wss://a:1/b?c", "WS://d/e", Ok("ws://d/e")),
            ("wss://[::1]:1/b", "/c", Ok("wss://[::1]:1/c")),
            ("ws://a?q", "b", Ok("ws://a/b")),
            ("ws://a/b", "c d", Err(UriError::Character)),
            (
                "ws://a/b",
                "/c
X: y",
                Err(UriError::Character),
            ),
            ("ws://a/b", "//user@c/", Err(UriError::UserInfo)),
            ("ws://a/b", "https://user:password@c/", Err(UriError::UserInfo)),
            ("ws://a/b", "https:///c", Err(UriError::Host)),
            ("ws://a/b", "https:/c", Err(UriError::Host)),
            ("ws://a/b", "//c:0/", Err(UriError::Port)),
            ("ws://a/b", "ftp://c/", Err(UriError::Scheme)),
            ("ws://a/b", "ws+unix:/run/y.sock:/", Err(UriError::Scheme)),
            (SOCKET, "ws+unix:/run/y.sock:/", Err(UriError::Scheme)),
            (SOCKET, "//d/e", Err(UriError::Host)),
            (SOCKET, "../d", Ok("ws+unix:/run/x.sock:/d")),
            (SOCKET, "?d", Ok("ws+unix:/run/x.sock:/a/b?d")),
            (SOCKET, "https://d/e", Ok("wss://d/e")),
        ] {
            let joined = joined(base, location);
            assert_eq!(joined.as_deref(), expected.as_ref().map(|uri| *uri), "{location}");
        }
    }

    #[test]
    fn unix_socket_is_named_in_front_of_the_target() {
        let path = |path: &str| UnixSocket::Path(path.as_bytes().into());
        let name = |name: &str| UnixSocket::Abstract(name.as_bytes().into());
        for (uri, socket, target, printed) in [
            ("ws+unix:/run/x.sock:/a?b:c", path("/run/x.sock"), "/a?b:c", None),
            ("ws+unix:/run/x.sock", path("/run/x.sock"), "/", Some("ws+unix:/run/x.sock:/")),
            ("ws+unix:/x:", path("/x"), "/", Some("ws+unix:/x:/")),
            ("ws+unix:/x:?a", path("/x"), "/?a", Some("ws+unix:/x:/?a")),
            ("ws+unix:/x?a:b", path("/x"), "/?a:b", Some("ws+unix:/x:/?a:b")),
            ("WS+Unix:///run/x:/a", path("/run/x"), "/a", Some("ws+unix:/run/x:/a")),
            ("ws+unix:////run/x:/a", path("//run/x"), "/a", None),
            ("ws+unix:x.sock:/", path("x.sock"), "/", None),
            ("ws+unix:../x.sock:/", path("../x.sock"), "/", None),
            ("ws+unix:/a%20b%3Ac%3F:/%20", path("/a b:c?"), "/%20", None),
            ("ws+unix:/%C3%A4:/", path("/\u{e4}"), "/", None),
            ("ws+unix:%40a:/", path("@a"), "/", None),
            ("ws+unix:@chat:/a", name("chat"), "/a", None),
            ("ws+unix:@%00a%3Ab:/a", name("\0a:b"), "/a", None),
        ] {
            let parsed = WebSocketUri::parse(uri).unwrap();
            assert_eq!((parsed.unix_socket(), parsed.target()), (Some(&socket), target), "{uri}");
            assert_eq!(parsed.to_string(), printed.unwrap_or(uri));
            assert_eq!((parsed.host(), &*parsed.host_field()), ("localhost", "localhost"));
            assert_eq!((parsed.scheme(), parsed.port()), (Scheme::Ws, 80));
        }
        for (uri, error) in [
            ("ws+unix:", UriError::Socket),
            ("ws+unix::/a", UriError::Socket),
            ("ws+unix:?a", UriError::Socket),
            ("ws+unix:@:/a", UriError::Socket),
            ("ws+unix:/a%00b:/", UriError::Socket),
            ("ws+unix:///x:a", UriError::TargetForm),
            ("ws+unix://x:/a", UriError::Host),
            ("ws+unix:/x:/a#b", UriError::Fragment),
            ("ws+unix:/x:/a b", UriError::Character),
            ("ws+unix:/x\r\n:/", UriError::Character),
            ("wss+unix:/x:/", UriError::Scheme),
            ("unix:/x:/", UriError::Scheme),
        ] {
            assert_eq!(WebSocketUri::parse(uri), Err(error), "{uri:?}");
        }
        assert_eq!(WebSocketUri::parse("ws://a/b").unwrap().unix_socket(), None);
    }

    proptest! {
        #[test]
        fn uri_made_of_its_parts_is_parsed_into_them(
            is_tls: bool,
            host in "[a-z0-9.-]{1,20}",
            port in 1..=u16::MAX,
            target in "/[a-z/?%]{0,20}",
        ) {
            let scheme = if is_tls { "wss" } else { "ws" };
            let uri = WebSocketUri::parse(&format!("{scheme}://{host}:{port}{target}")).unwrap();
            prop_assert_eq!((uri.host(), uri.port(), uri.target()), (&*host, port, &*target));
            prop_assert_eq!(WebSocketUri::parse(&uri.to_string()), Ok(uri.clone()));
            let field = uri.host_field();
            let authority = Authority::parse(&field).unwrap();
            prop_assert_eq!(authority.host, Host::Name(&host));
            prop_assert_eq!(authority.port.unwrap_or(uri.scheme().default_port()), port);
        }

        #[test]
        fn nothing_that_breaks_a_head_passes_through_a_uri(uri in "ws://[a-b\r\n \0\t:/?#@]{0,12}") {
            if let Ok(uri) = WebSocketUri::parse(&uri) {
                let head = format!("{}{}", uri.host_field(), uri.target());
                prop_assert!(head.bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }

        #[test]
        fn reference_leads_where_the_naive_algorithm_says(
            base in "/[a./]{0,8}(\\?[a./]{0,3})?",
            reference in "((https?:)?//[a-c]{1,3})?([a./]{0,12}|[a./]{0,4}[.]{1,2}/[a./]{0,6})(\\?[a./]{0,3})?(#[a:/?]{0,3})?",
        ) {
            let base = format!("wss://h:1{base}");
            // A host that takes in what was meant for a path may be malformed; everything else goes.
            match joined(&base, &reference) {
                Ok(uri) => prop_assert_eq!(uri, naive_join(&base, &reference)),
                Err(error) => {
                    let is_authority = reference.contains("//");
                    prop_assert!(error == UriError::Host && is_authority, "{} {}", error, reference);
                }
            }
        }

        #[test]
        fn printed_uri_is_parsed_into_the_same(
            path in prop::collection::vec(1..=u8::MAX, 1..12),
            name in prop::collection::vec(any::<u8>(), 1..12),
            target in "/[!-\"$-~]{0,12}",
        ) {
            let sockets = [UnixSocket::Path(path.into()), UnixSocket::Abstract(name.into())];
            for socket in sockets {
                let uri = WebSocketUri { place: Place::Unix(socket), target: target.clone().into() };
                prop_assert_eq!(WebSocketUri::parse(&uri.to_string()), Ok(uri));
            }
        }
    }
}
