//! Where a client connects and what it asks for: `ws` URIs (RFC 6455 §3).

use super::uri::{Authority, Host, UriError, check_characters, split_authority};

/// A `ws` or `wss` URI, owned: where a client connects and what it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocketUri {
    scheme: Scheme,
    /// In lower case, an IPv6 address without its brackets.
    host: Box<str>,
    port: u16,
    /// Begins with a slash.
    target: Box<str>,
}

impl WebSocketUri {
    /// Parses `ws://host:port/path?query` (RFC 6455 §3). Scheme and host may be in any case; the
    /// port and the path may be left out.
    ///
    /// # Errors
    /// See [`UriError`]: what stands in the way is named.
    pub fn parse(uri: &str) -> Result<Self, UriError> {
        check_characters(uri)?;
        let (scheme, rest) = uri.split_once("://").ok_or(UriError::Scheme)?;
        let scheme = match &*scheme.to_ascii_lowercase() {
            "ws" => Scheme::Ws,
            "wss" => Scheme::Wss,
            _ => return Err(UriError::Scheme),
        };
        let (authority, target) = split_authority(rest);
        if authority.contains('@') {
            return Err(UriError::UserInfo);
        }
        let authority = Authority::parse(authority)?;
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Self {
            scheme,
            host: match authority.host {
                Host::Name(name) => name.to_ascii_lowercase().into(),
                Host::Ipv6(address) => address.to_string().into(),
            },
            port: authority.port.unwrap_or(scheme.default_port()),
            target: format!("{slash}{target}").into(),
        })
    }

    /// The scheme.
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host in lower case, to be resolved or, as it is, to be parsed as an address: IPv6
    /// addresses stand without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, the scheme's default filled in.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The request target: path and query, `/` if there is neither.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The value of the Host field: the default port is left out (RFC 6455 §4.1).
    pub fn host_field(&self) -> String {
        // A colon stands in IPv6 addresses and in no name.
        let is_ipv6 = self.host.contains(':');
        let host = if is_ipv6 { format!("[{}]", self.host) } else { self.host.to_string() };
        if self.port == self.scheme.default_port() { host } else { format!("{host}:{}", self.port) }
    }
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
    }
}
