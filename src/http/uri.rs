//! The parts of URIs: request targets (RFC 9112 §3.2), authorities (RFC 3986 §3.2) and origins
//! (RFC 6454 §6).

use std::fmt;
use std::net::Ipv6Addr;

use super::scanner::is_target_byte;

/// Why a URI, target, authority or origin was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UriError {
    /// The scheme is none of `ws`, `wss` (RFC 6455 §3) and `ws+unix`; in a redirection it may be
    /// `http` or `https` instead, and is never `ws+unix`.
    Scheme,
    /// The host is absent, is not made of letters, digits, `-`, `.` and `_`, or is no IPv6 address
    /// in brackets. Internationalised names have to be given in their ASCII form.
    Host,
    /// The port is not a number from 1 to 65535.
    Port,
    /// There is a user name or a password (RFC 9110 §4.2.4 warns of them).
    UserInfo,
    /// There is a fragment (RFC 6455 §3 forbids it).
    Fragment,
    /// A byte is not visible ASCII: a space, a control character, or one that has to be
    /// percent-encoded.
    Character,
    /// A request target is neither in origin-form nor in absolute-form (RFC 9112 §3.2).
    TargetForm,
    /// The name of a Unix socket is absent, or it is a path with a NUL in it.
    Socket,
}

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "the scheme is not ws or wss",
            Self::Host => "the host is absent or malformed",
            Self::Port => "the port is not a number from 1 to 65535",
            Self::UserInfo => "there is a user name or a password",
            Self::Fragment => "there is a fragment",
            Self::Character => "a character is not visible ASCII",
            Self::TargetForm => "the target is not in origin-form or absolute-form",
            Self::Socket => "the name of the Unix socket is absent or has a NUL",
        })
    }
}

impl std::error::Error for UriError {}

/// The default port of a scheme that browsers send in `Origin`, or of a WebSocket scheme.
pub fn default_port(scheme: &str) -> Option<u16> {
    const PORTS: [(&str, u16); 4] = [("http", 80), ("https", 443), ("ws", 80), ("wss", 443)];
    PORTS.iter().find(|(name, _)| scheme.eq_ignore_ascii_case(name)).map(|&(_, port)| port)
}

/// A host as it stands in an authority.
#[derive(Clone, Copy, Debug)]
pub enum Host<'a> {
    /// A registered name or an IPv4 address, in the case it was sent.
    Name(&'a str),
    /// An IPv6 address, which may be written in many ways.
    Ipv6(Ipv6Addr),
}

impl Host<'_> {
    /// As it is resolved or parsed as an address: in lower case, without brackets.
    pub fn plain(&self) -> Box<str> {
        match self {
            Self::Name(name) => name.to_ascii_lowercase().into(),
            Self::Ipv6(address) => address.to_string().into(),
        }
    }
}

/// Names are equal without regard to case (RFC 3986 §3.2.2), IPv6 addresses by value.
impl PartialEq for Host<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Host::Name(name), Host::Name(other)) => name.eq_ignore_ascii_case(other),
            (Host::Ipv6(address), Host::Ipv6(other)) => address == other,
            (Host::Name(_), Host::Ipv6(_)) | (Host::Ipv6(_), Host::Name(_)) => false,
        }
    }
}

impl Eq for Host<'_> {}

/// A host and, if it was named, a port: the value of the Host field (RFC 9110 §7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// The host.
    pub host: Host<'a>,
    /// The port, if one was named.
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Parses `host`, `host:port`, `[ipv6]` or `[ipv6]:port`. An empty port counts as none
    /// (RFC 3986 §3.2.3).
    ///
    /// # Errors
    /// [`UriError::Host`] or [`UriError::Port`].
    pub fn parse(authority: &'a str) -> Result<Self, UriError> {
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']').ok_or(UriError::Host)?;
                (Host::Ipv6(address.parse().map_err(|_| UriError::Host)?), port)
            }
            None => {
                let colon = authority.find(':').unwrap_or(authority.len());
                let (name, port) = authority.split_at(colon);
                if !is_registered_name(name) {
                    return Err(UriError::Host);
                }
                (Host::Name(name), port)
            }
        };
        let port = match port.strip_prefix(':') {
            Some("") => None,
            Some(digits) => Some(parse_port(digits)?),
            None if port.is_empty() => None,
            None => return Err(UriError::Port),
        };
        Ok(Self { host, port })
    }
}

/// An origin as a browser sends it: a scheme, a host, perhaps a port, and nothing behind
/// (RFC 6454 §7).
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The scheme; any, not only those of the web.
    pub scheme: &'a str,
    /// Host and port.
    pub authority: Authority<'a>,
}

impl<'a> Origin<'a> {
    /// Parses `scheme://host[:port]`.
    ///
    /// # Errors
    /// See [`UriError`]. `null` has no scheme and is refused like everything else that has none.
    pub fn parse(origin: &'a str) -> Result<Self, UriError> {
        let (scheme, authority) = origin.split_once("://").ok_or(UriError::Scheme)?;
        if !is_scheme(scheme) {
            return Err(UriError::Scheme);
        }
        Ok(Self { scheme, authority: Authority::parse(authority)? })
    }

    /// Whether `authority` is this origin's host and port. A port that either leaves out is the
    /// default of this origin's scheme.
    pub fn is_at(&self, authority: &Authority<'_>) -> bool {
        let default = default_port(self.scheme);
        self.authority.host == authority.host
            && self.authority.port.or(default) == authority.port.or(default)
    }
}

/// Origins are the same if scheme, host and port are, a default port filled in (RFC 6454 §5).
impl PartialEq for Origin<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.scheme.eq_ignore_ascii_case(other.scheme) && self.is_at(&other.authority)
    }
}

impl Eq for Origin<'_> {}

/// A request target, split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestTarget<'a> {
    /// Of a target in absolute-form; it takes the Host field's place (RFC 9112 §3.2.2). The text
    /// that was sent.
    pub authority: Option<&'a str>,
    /// Begins with a slash; percent-encoded as it was sent.
    pub path: &'a str,
    /// What follows the question mark, if there is one.
    pub query: Option<&'a str>,
}

impl<'a> RequestTarget<'a> {
    /// Parses a target in origin-form (`/path?query`) or in absolute-form
    /// (`http://host/path?query`, RFC 9112 §3.2; any scheme).
    ///
    /// # Errors
    /// [`UriError::TargetForm`] for the other forms and for anything else; [`UriError::Fragment`]
    /// and [`UriError::Character`] for what may not be in a target. The authority is not looked at.
    pub fn parse(target: &'a str) -> Result<Self, UriError> {
        check_characters(target)?;
        let (authority, origin_form) = if target.starts_with('/') {
            (None, target)
        } else {
            let (scheme, rest) = target.split_once("://").ok_or(UriError::TargetForm)?;
            if !is_scheme(scheme) {
                return Err(UriError::TargetForm);
            }
            let (authority, origin_form) = split_authority(rest);
            (Some(authority), origin_form)
        };
        let (path, query) = match origin_form.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (origin_form, None),
        };
        // RFC 9112 §3.2.1: an empty path is sent as a slash; the absolute-form may leave it out.
        Ok(Self { authority, path: if path.is_empty() { "/" } else { path }, query })
    }
}

pub(super) fn check_characters(text: &str) -> Result<(), UriError> {
    match text.bytes().find(|&byte| byte == b'#' || !is_target_byte(byte)) {
        Some(b'#') => Err(UriError::Fragment),
        Some(_) => Err(UriError::Character),
        None => Ok(()),
    }
}

/// Splits what follows `://` where the authority ends (RFC 3986 §3.2).
pub(super) fn split_authority(rest: &str) -> (&str, &str) {
    rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()))
}

/// Splits a target in front of its question mark.
pub(super) fn split_query(target: &str) -> (&str, &str) {
    target.split_at(target.find('?').unwrap_or(target.len()))
}

pub(super) fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// RFC 3986 §3.2.2 permits more in a name. We choose what stands in deployed host names: nothing
/// that a second parser could take for a delimiter.
fn is_registered_name(text: &str) -> bool {
    const NAME_BYTES_MAX: usize = 255; // RFC 1035 §2.3.4
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

fn parse_port(digits: &str) -> Result<u16, UriError> {
    // `u16::from_str` would take a plus sign.
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(UriError::Port);
    }
    digits.parse().ok().filter(|&port| port != 0).ok_or(UriError::Port)
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 9110 §7.2
    #[test]
    fn authority_is_a_host_and_perhaps_a_port() {
        let parse = |text| Authority::parse(text).map(|authority| (authority.host, authority.port));
        assert_eq!(parse("A.b"), Ok((Host::Name("a.B"), None)));
        assert_eq!(parse("a:8080"), Ok((Host::Name("a"), Some(8080))));
        assert_eq!(parse("[::1]"), Ok((Host::Ipv6(Ipv6Addr::LOCALHOST), None)));
        assert_eq!(parse("[0:0::1]:1"), Ok((Host::Ipv6(Ipv6Addr::LOCALHOST), Some(1))));
        assert_ne!(Host::Name("a"), Host::Name("b"));
        for text in ["", " ", ":80", "a b", "a,b", "a/", "u@a", "a:", "[::1]:"] {
            let is_empty_port = text.len() > 1 && text.ends_with(':');
            assert_eq!(parse(text).is_ok(), is_empty_port, "{text:?}");
        }
    }

    // RFC 6454 §5
    #[test]
    fn origin_is_compared_with_its_schemes_default_port() {
        let is_at =
            |origin, host| Origin::parse(origin).unwrap().is_at(&Authority::parse(host).unwrap());
        for (origin, host, expected) in [
            ("https://example.com", "example.com", true),
            ("https://Example.com", "eXample.com:443", true),
            ("https://example.com:443", "example.com", true),
            ("http://example.com", "example.com:80", true),
            ("http://example.com:8080", "example.com:8080", true),
            ("http://[::1]:8080", "[0::1]:8080", true),
            ("app://example.com", "example.com", true),
            ("https://example.com", "example.com:80", false),
            ("https://example.com:8443", "example.com", false),
            ("https://example.com", "example.org", false),
            ("https://example.com.evil.org", "example.com", false),
            ("https://evilexample.com", "example.com", false),
            ("app://example.com", "example.com:80", false),
        ] {
            assert_eq!(is_at(origin, host), expected, "{origin} at {host}");
        }
        assert_eq!(Origin::parse("HTTPS://a"), Origin::parse("https://A:443"));
        assert_ne!(Origin::parse("http://a"), Origin::parse("https://a"));
    }

    // RFC 6454 §7
    #[test]
    fn origin_is_a_scheme_and_an_authority_and_nothing_else() {
        for origin in [
            "null",
            "",
            "a",
            "://a",
            "1a://b",
            "https://",
            "file://",
            "https://a/",
            "https://a/b",
            "https://a b",
            "https://u@a",
            "https://a https://b",
            "https://a,b",
        ] {
            assert!(Origin::parse(origin).is_err(), "{origin:?}");
        }
    }

    // RFC 9112 §3.2
    #[test]
    fn target_is_split_in_origin_form_and_in_absolute_form() {
        let target = |authority, path, query| Ok(RequestTarget { authority, path, query });
        for (text, expected) in [
            ("/", target(None, "/", None)),
            ("/a/b?c=d?e", target(None, "/a/b", Some("c=d?e"))),
            ("/?", target(None, "/", Some(""))),
            ("//a/b", target(None, "//a/b", None)),
            ("/a://b", target(None, "/a://b", None)),
            ("http://a:1/b?c", target(Some("a:1"), "/b", Some("c"))),
            ("ws://a", target(Some("a"), "/", None)),
            ("wss://a?b", target(Some("a"), "/", Some("b"))),
            ("*", Err(UriError::TargetForm)),
            ("a:80", Err(UriError::TargetForm)),
            ("a/b", Err(UriError::TargetForm)),
            ("?a=://", Err(UriError::TargetForm)),
            ("/a#b", Err(UriError::Fragment)),
            ("/a b", Err(UriError::Character)),
            ("/a\r\n", Err(UriError::Character)),
        ] {
            assert_eq!(RequestTarget::parse(text), expected, "{text:?}");
        }
    }
}
