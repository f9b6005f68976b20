//! A proxy that leads to a server: which, by which protocol, and who asks.

use std::fmt;

use percent_encoding::percent_decode_str;

use super::credentials::basic;
use super::response::{Headers, InvalidHeader};
use crate::http::{Authority, UriError};

/// A proxy through which a client connects. It is reached by plain TCP, and asked to connect to the
/// server; what passes through it is encrypted where the server is asked for `wss`.
///
/// There is no TLS to the proxy itself, as `https` URLs of proxies ask for: who can read on the way
/// to it reads the credentials for it, and which server is asked for.
///
/// Names of servers are sent to the proxy, which resolves them.
///
/// Passwords and the values of headers are not printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    protocol: ProxyProtocol,
    /// In lower case, an IPv6 address without its brackets.
    host: Box<str>,
    port: u16,
}

/// How a proxy is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ProxyProtocol {
    /// By CONNECT (RFC 9110 §9.3.6), with these headers.
    Http { headers: Headers },
    /// By SOCKS 5 (RFC 1928).
    Socks5 { credentials: Option<SocksCredentials> },
}

/// What RFC 1929 §2 wants: either of 1 to 255 bytes.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct SocksCredentials {
    pub(super) user: Box<str>,
    pub(super) password: Box<str>,
}

impl Proxy {
    /// A proxy of HTTP, at a host and a port: `proxy.example:3128`, `[::1]:8080`.
    ///
    /// # Errors
    /// [`InvalidProxy::Address`] if it is none. The port has to be named: programs disagree about
    /// what it is by default.
    pub fn http(address: &str) -> Result<Self, InvalidProxy> {
        Self::new(ProxyProtocol::Http { headers: Headers::new() }, address)
    }

    /// A proxy of SOCKS 5, at a host and a port.
    ///
    /// # Errors
    /// As [`http`](Self::http).
    pub fn socks5(address: &str) -> Result<Self, InvalidProxy> {
        Self::new(ProxyProtocol::Socks5 { credentials: None }, address)
    }

    fn new(protocol: ProxyProtocol, address: &str) -> Result<Self, InvalidProxy> {
        let authority = Authority::parse(address).map_err(InvalidProxy::Address)?;
        let port = authority.port.ok_or(InvalidProxy::Address(UriError::Port))?;
        Ok(Self { protocol, host: authority.host.plain(), port })
    }

    /// Parses a proxy as environments name it: `http://user:password@host:port` or
    /// `socks5://host:port`; `socks5h` means the same. A slash may follow. The user name and the
    /// password are percent-encoded UTF-8.
    ///
    /// # Errors
    /// What stands in the way is named. `https` proxies are not spoken to.
    pub fn parse(url: &str) -> Result<Self, InvalidProxy> {
        let (scheme, rest) = url.split_once("://").ok_or(InvalidProxy::Scheme)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user_info, address) = match rest.split_once('@') {
            Some((user_info, address)) => (Some(user_info), address),
            None => (None, rest),
        };
        let proxy = match &*scheme.to_ascii_lowercase() {
            "http" => Self::http(address)?,
            "socks5" | "socks5h" => Self::socks5(address)?,
            _ => return Err(InvalidProxy::Scheme),
        };
        let Some(user_info) = user_info else { return Ok(proxy) };
        let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
        let decoded =
            |text| percent_decode_str(text).decode_utf8().map_err(|_| InvalidProxy::UserInfo);
        proxy.credentials(&decoded(user)?, &decoded(password)?)
    }

    /// Tells the proxy a user name and a password: by `Basic` (RFC 7617) in HTTP, where they take
    /// the place of an earlier Proxy-Authorization, by RFC 1929 in SOCKS. Whoever listens in front
    /// of the proxy can read them.
    ///
    /// # Errors
    /// HTTP has no way to say a colon in a user name, nor control characters; SOCKS takes 1 to 255
    /// bytes of either.
    pub fn credentials(mut self, user: &str, password: &str) -> Result<Self, InvalidProxy> {
        match &mut self.protocol {
            ProxyProtocol::Http { .. } => {
                let value = basic(user, password).map_err(InvalidProxy::Header)?;
                self.header("Proxy-Authorization", &value)
            }
            ProxyProtocol::Socks5 { credentials } => {
                let fits = |text: &str| u8::try_from(text.len()).is_ok_and(|bytes| bytes > 0);
                if !fits(user) || !fits(password) {
                    return Err(InvalidProxy::SocksCredentials);
                }
                let (user, password) = (user.into(), password.into());
                *credentials = Some(SocksCredentials { user, password });
                Ok(self)
            }
        }
    }

    /// Adds a header to what an HTTP proxy is asked. A Proxy-Authorization takes the place of an
    /// earlier one.
    ///
    /// # Errors
    /// The name or the value cannot stand in a head, or the engine writes this header itself: Host,
    /// and whatever would announce a body or an upgrade. SOCKS has no headers.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, InvalidProxy> {
        let ProxyProtocol::Http { headers } = &mut self.protocol else {
            return Err(InvalidProxy::SocksHeader);
        };
        headers.add_once(name, value, &["Proxy-Authorization"]).map_err(InvalidProxy::Header)?;
        Ok(self)
    }

    /// The proxy's host in lower case, to be resolved or, as it is, to be parsed as an address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The proxy's port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    pub(super) const fn protocol(&self) -> &ProxyProtocol {
        &self.protocol
    }
}

impl fmt::Debug for SocksCredentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("SocksCredentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Why something is no proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidProxy {
    /// The scheme is none of `http`, `socks5` and `socks5h`.
    Scheme,
    /// Its address is not a host and a port.
    Address(UriError),
    /// The user name or the password in a URL is not percent-encoded UTF-8.
    UserInfo,
    /// A header, a user name or a password cannot be said in HTTP.
    Header(InvalidHeader),
    /// The user name or the password has not 1 to 255 bytes (RFC 1929 §2).
    SocksCredentials,
    /// A header was given for a proxy of SOCKS, which has none.
    SocksHeader,
}

impl fmt::Display for InvalidProxy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Scheme => "the scheme of the proxy is not http or socks5",
            Self::Address(error) => return write!(out, "the address of the proxy: {error}"),
            Self::UserInfo => "the user name or the password is not percent-encoded UTF-8",
            Self::Header(error) => return error.fmt(out),
            Self::SocksCredentials => "the user name or the password has not 1 to 255 bytes",
            Self::SocksHeader => "a proxy of SOCKS takes no headers",
        })
    }
}

impl std::error::Error for InvalidProxy {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxy_is_named_by_its_parts_or_by_a_url() {
        let http = |address| Proxy::http(address).unwrap();
        let socks5 = |address| Proxy::socks5(address).unwrap();
        let known = |proxy: Proxy, user, password| proxy.credentials(user, password).unwrap();
        for (url, proxy) in [
            ("http://Proxy.example:3128", http("proxy.example:3128")),
            ("HTTP://[0::1]:3128/", http("[::1]:3128")),
            ("socks5://10.0.0.1:1080", socks5("10.0.0.1:1080")),
            ("socks5h://[::1]:1080/", socks5("[::1]:1080")),
            ("http://user:pa:ss@a:1", known(http("a:1"), "user", "pa:ss")),
            ("http://user@a:1", known(http("a:1"), "user", "")),
            ("http://u%40b:%2F%25%C3%A4@a:1", known(http("a:1"), "u@b", "/%\u{e4}")),
            ("socks5://u%3a:p%0a@a:1", known(socks5("a:1"), "u:", "p\n")),
        ] {
            assert_eq!(Proxy::parse(url), Ok(proxy), "{url}");
        }
        let proxy = Proxy::parse("socks5://u:p@[2001:DB8::1]:65535").unwrap();
        assert_eq!((proxy.host(), proxy.port()), ("2001:db8::1", 65535));
    }

    #[test]
    fn what_is_no_proxy_is_refused_by_its_rule() {
        use InvalidProxy as E;
        for (url, error) in [
            ("", E::Scheme),
            ("a:1", E::Scheme),
            ("https://a:1", E::Scheme),
            ("socks4://a:1", E::Scheme),
            ("http://a", E::Address(UriError::Port)),
            ("http://a:", E::Address(UriError::Port)),
            ("http://a:0", E::Address(UriError::Port)),
            ("http://a:1/path", E::Address(UriError::Port)),
            ("http://:1", E::Address(UriError::Host)),
            ("http://::1:1", E::Address(UriError::Host)),
            ("http://a b:1", E::Address(UriError::Host)),
            ("http://a\r\n:1", E::Address(UriError::Host)),
            ("http://u:p@q@a:1", E::Address(UriError::Host)),
            ("http://u%ff:p@a:1", E::UserInfo),
            ("socks5://u:%ff@a:1", E::UserInfo),
            ("http://u%3Av:p@a:1", E::Header(InvalidHeader::UserName)),
            ("http://u:p%0D%0A@a:1", E::Header(InvalidHeader::Password)),
            ("socks5://u@a:1", E::SocksCredentials),
            ("socks5://:p@a:1", E::SocksCredentials),
        ] {
            assert_eq!(Proxy::parse(url), Err(error), "{url:?}");
        }
        let socks = || Proxy::socks5("a:1").unwrap();
        let long = "x".repeat(256);
        assert_eq!(socks().credentials(&long, "p"), Err(E::SocksCredentials));
        assert_eq!(socks().credentials("u", &long), Err(E::SocksCredentials));
        assert!(socks().credentials(&long[1..], &long[1..]).is_ok());
        assert_eq!(socks().header("A", "b"), Err(E::SocksHeader));
        let http = || Proxy::http("a:1").unwrap();
        for (name, value, error) in [
            ("Host", "b", InvalidHeader::Reserved),
            ("content-length", "1", InvalidHeader::Reserved),
            ("Transfer-Encoding", "chunked", InvalidHeader::Reserved),
            ("A", "b\r\nC: d", InvalidHeader::Value),
            ("A:", "b", InvalidHeader::Name),
        ] {
            assert_eq!(http().header(name, value), Err(E::Header(error)), "{name}");
        }
    }

    #[test]
    fn proxy_is_printed_without_what_is_secret() {
        for url in ["http://user:secret@a:1", "socks5://user:secret@a:1"] {
            let printed = format!("{:?}", Proxy::parse(url).unwrap());
            let encoded = "dXNlcjpzZWNyZXQ=";
            assert!(!printed.contains("secret") && !printed.contains(encoded), "{printed}");
        }
    }
}
