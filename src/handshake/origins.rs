//! Which web pages may connect (RFC 6455 §10.2): browsers send cookies along whoever asks, so the
//! server has to look at who asks.

use std::fmt;

use super::request::Request;
use crate::http::Origin;

/// Which origins are welcome. Requests without an Origin field come from no browser and are always
/// permitted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    /// The origin's host and port are those of the Host field. A port that is left out is the
    /// default of the origin's scheme; the scheme itself is not compared, since TLS may have ended
    /// before us. `null` is refused.
    #[default]
    SameOrigin,
    /// The origin's scheme, host and port are listed; made by [`allow`](Self::allow). `null` is
    /// refused.
    Allow(AllowList),
    /// Every origin, `null` and malformed ones included.
    Any,
}

/// The origins of [`Origins::Allow`], each of them well-formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowList(Vec<Box<str>>);

impl Origins {
    /// Permits these origins, each written as browsers send it: `https://example.com`, with a port
    /// if it is not the scheme's default one. An empty list refuses every browser.
    ///
    /// # Errors
    /// One of them is not `scheme://host[:port]`.
    pub fn allow<'a>(origins: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidOrigin> {
        let check = |origin: &str| match Origin::parse(origin) {
            Ok(_) => Ok(Box::from(origin)),
            Err(_) => Err(InvalidOrigin),
        };
        Ok(Self::Allow(AllowList(origins.into_iter().map(check).collect::<Result<_, _>>()?)))
    }

    /// Whether the request's origin is welcome.
    pub fn permits(&self, request: &Request<'_>) -> bool {
        let origin = match request.fields().single("Origin") {
            Ok(None) => return true,
            Ok(Some(text)) => Origin::parse(text).ok(),
            Err(_) => None,
        };
        match self {
            Self::Any => true,
            Self::SameOrigin => {
                let host = request.authority();
                origin.zip(host).is_some_and(|(origin, host)| origin.is_at(&host))
            }
            Self::Allow(list) => origin.is_some_and(|origin| {
                list.0.iter().any(|allowed| Origin::parse(allowed) == Ok(origin))
            }),
        }
    }
}

/// An origin for [`Origins::allow`] is not `scheme://host[:port]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidOrigin;

impl fmt::Display for InvalidOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the origin is not a scheme, a host and perhaps a port")
    }
}

impl std::error::Error for InvalidOrigin {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::testing::{upgrade, upgrade_head};

    fn permits(origins: &Origins, host: &str, origin: &str) -> bool {
        let lines = [format!("Host: {host}"), format!("Origin: {origin}")];
        upgrade(upgrade_head(&lines.each_ref().map(|line| &**line)), |upgrade| {
            origins.permits(upgrade.request())
        })
    }

    // RFC 6455 §10.2
    #[test]
    fn request_without_origin_comes_from_no_browser_and_is_permitted() {
        for origins in [Origins::SameOrigin, Origins::allow([]).unwrap(), Origins::Any] {
            assert!(upgrade(upgrade_head(&[]), |upgrade| origins.permits(upgrade.request())));
        }
    }

    // RFC 6455 §10.2
    #[test]
    fn same_origin_is_the_default_and_compares_host_and_port() {
        let origins = Origins::default();
        for (host, origin) in [
            ("example.com", "https://example.com"),
            ("example.com", "http://example.com"),
            ("EXAMPLE.com:443", "https://example.com"),
            ("127.0.0.1:9001", "http://127.0.0.1:9001"),
            ("[::1]:9001", "http://[::1]:9001"),
        ] {
            assert!(permits(&origins, host, origin), "{origin} at {host}");
        }
        for (host, origin) in [
            ("example.com", "https://evil.com"),
            ("example.com", "https://example.com.evil.com"),
            ("example.com", "https://example.com:8443"),
            ("example.com:9001", "http://example.com"),
            ("example.com", "null"),
            ("example.com", ""),
            ("example.com", "example.com"),
            ("example.com", "https://example.com/"),
            ("example.com", "https://example.com, https://evil.com"),
            ("127.0.0.1:9001", "http://localhost:9001"),
        ] {
            assert!(!permits(&origins, host, origin), "{origin} at {host}");
        }
    }

    // RFC 6454 §5
    #[test]
    fn allow_list_compares_scheme_host_and_port() {
        let origins = Origins::allow(["https://a.com", "http://b.com:8080", "app://c"]).unwrap();
        for origin in ["https://a.com", "HTTPS://A.com:443", "http://b.com:8080", "app://c"] {
            assert!(permits(&origins, "x", origin), "{origin}");
        }
        for origin in ["http://a.com", "https://b.com:8080", "http://b.com", "null", "https://x"] {
            assert!(!permits(&origins, "x", origin), "{origin}");
        }
        for origin in ["null", "*", "a.com", "https://a.com/", ""] {
            assert_eq!(Origins::allow(["https://a.com", origin]), Err(InvalidOrigin), "{origin}");
        }
    }

    // RFC 6455 §10.2
    #[test]
    fn any_permits_null_and_malformed_origins() {
        for origin in ["null", "", "garbage", "https://evil.com"] {
            assert!(permits(&Origins::Any, "a", origin), "{origin}");
        }
    }
}
