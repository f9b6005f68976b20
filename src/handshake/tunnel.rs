//! The way through a proxy to a server.

use std::fmt;

use super::http_connect::HttpConnect;
use super::proxy::{Proxy, ProxyProtocol};
use super::socks5::Socks5;
use crate::http::{Authority, HeadError, bracketed};

/// The way through a proxy to a server, as bytes that come and go: [`new`](Self::new) writes what is
/// sent first, each [`handle_input`](Self::handle_input) what has to be sent next.
///
/// Once it is open, or has failed, it is over and is given nothing more.
pub struct Tunnel(Protocol);

enum Protocol {
    Http(HttpConnect),
    Socks5(Socks5),
}

/// How far the way leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum TunnelProgress {
    /// All bytes were the proxy's, and more have to come.
    NeedMore,
    /// The proxy has connected to the server.
    Open {
        /// So many of the bytes that were given last were the proxy's; the server's stand behind
        /// them.
        consumed_bytes: usize,
    },
}

impl Tunnel {
    /// Begins to ask `proxy` for a way to `host`, a name or an address without brackets, and `port`.
    /// Appends what is to be sent first to `out`.
    ///
    /// # Errors
    /// [`TunnelError::Destination`]: nothing is sent.
    pub fn new(
        proxy: &Proxy,
        host: &str,
        port: u16,
        out: &mut Vec<u8>,
    ) -> Result<Self, TunnelError> {
        let authority = format!("{}:{port}", bracketed(host));
        Authority::parse(&authority).map_err(|_| TunnelError::Destination)?;
        Ok(Self(match proxy.protocol() {
            ProxyProtocol::Http { headers } => {
                Protocol::Http(HttpConnect::new(&authority, headers, out))
            }
            ProxyProtocol::Socks5 { credentials } => {
                Protocol::Socks5(Socks5::new(credentials.as_ref(), host, port, out))
            }
        }))
    }

    /// Takes what the proxy has sent, each byte once, and appends to `out` what is to be sent then.
    ///
    /// # Errors
    /// See [`TunnelError`]: the connection has to be closed. It does not matter how the bytes were
    /// torn.
    pub fn handle_input(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<TunnelProgress, TunnelError> {
        match &mut self.0 {
            Protocol::Http(http) => http.handle_input(bytes),
            Protocol::Socks5(socks5) => socks5.handle_input(bytes, out),
        }
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What it is still to send may be a password.
        out.debug_struct("Tunnel").finish_non_exhaustive()
    }
}

/// Why a proxy has not led to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TunnelError {
    /// The server's host is no name and no address, or its port is 0.
    Destination,
    /// The head of its answer could not be read.
    Head(HeadError),
    /// An HTTP proxy answered CONNECT with a status outside 200 to 299 (RFC 9110 §9.3.6).
    Status {
        /// What it answered.
        status: u16,
    },
    /// It does not speak version 5 of SOCKS.
    NotSocks5,
    /// It takes none of the ways to authenticate that were offered (RFC 1928 §3).
    NoAcceptableMethod,
    /// It refused the user name and password (RFC 1929 §2).
    AuthenticationFailed,
    /// It refused the connection, and says why by this number (RFC 1928 §6).
    Reply(u8),
    /// What it said breaks the rules of SOCKS 5.
    Malformed,
}

impl TunnelError {
    /// Whether another attempt can succeed where this one failed.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Status { status } => matches!(status, 408 | 429 | 500..=599),
            // General failure, network or host unreachable, connection refused, time to live.
            Self::Reply(reply) => matches!(reply, 1 | 3..=6),
            Self::Destination
            | Self::Head(_)
            | Self::NotSocks5
            | Self::NoAcceptableMethod
            | Self::AuthenticationFailed
            | Self::Malformed => false,
        }
    }
}

impl fmt::Display for TunnelError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Destination => "the server has no name that a proxy could be told",
            Self::Head(error) => return error.fmt(out),
            Self::Status { status } => {
                return write!(out, "the proxy answered CONNECT with status {status}");
            }
            Self::NotSocks5 => "the proxy does not speak SOCKS 5",
            Self::NoAcceptableMethod => "the proxy takes no way to authenticate that we have",
            Self::AuthenticationFailed => "the proxy refused the user name and password",
            Self::Reply(reply) => return write!(out, "the proxy refused with reply {reply}"),
            Self::Malformed => "the proxy breaks the rules of SOCKS 5",
        })
    }
}

impl std::error::Error for TunnelError {}

impl From<HeadError> for TunnelError {
    fn from(error: HeadError) -> Self {
        Self::Head(error)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http::Malformation;
    use crate::limits::HandshakeLimits;

    /// What came of a tunnel: an end or none, how many bytes were the proxy's, and what was sent.
    type Passed = (Result<Option<usize>, TunnelError>, Vec<u8>);

    /// Asks `proxy` for `host` and gives its answer in pieces that end at `cuts`.
    fn pass(proxy: &Proxy, host: &str, answer: &[u8], cuts: &[usize]) -> Passed {
        let mut out = Vec::new();
        let mut tunnel = Tunnel::new(proxy, host, 443, &mut out).unwrap();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (answer.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.push(answer.len());
        let mut given = 0;
        for cut in cuts {
            match tunnel.handle_input(&answer[given..cut], &mut out) {
                Ok(TunnelProgress::NeedMore) => given = cut,
                Ok(TunnelProgress::Open { consumed_bytes }) => {
                    return (Ok(Some(given + consumed_bytes)), out);
                }
                Err(error) => return (Err(error), out),
            }
        }
        (Ok(None), out)
    }

    fn http() -> Proxy {
        Proxy::http("proxy.example:3128").unwrap()
    }

    fn socks5() -> Proxy {
        Proxy::socks5("proxy.example:1080").unwrap()
    }

    fn known(proxy: Proxy) -> Proxy {
        proxy.credentials("user", "pass").unwrap()
    }

    /// How `answer` ends, whichever way it is torn; with none that is missing, and with the server's
    /// bytes behind it.
    fn end(proxy: &Proxy, answer: impl AsRef<[u8]>) -> Result<Option<usize>, TunnelError> {
        let answer = answer.as_ref();
        let (whole, _) = pass(proxy, "a", answer, &[]);
        for cut in 0..answer.len().min(300) {
            assert_eq!(pass(proxy, "a", answer, &[cut]).0, whole, "{cut}");
        }
        if let Ok(Some(end)) = whole {
            assert_eq!(pass(proxy, "a", &answer[..end - 1], &[]).0, Ok(None));
            let behind = [answer, b"HTTP/1.1 101 \x05\xff\0"].concat();
            assert_eq!(pass(proxy, "a", &behind, &[]).0, whole);
        }
        whole
    }

    /// A proxy as somebody would write it who reads the head line by line: where it is asked to
    /// connect to, and its other lines.
    fn naive_http_proxy(received: &[u8]) -> (String, Vec<String>) {
        let text = String::from_utf8(received.to_vec()).unwrap();
        let head = text.strip_suffix("\r\n\r\n").unwrap();
        let mut lines = head.split("\r\n").map(str::to_owned);
        let line = lines.next().unwrap();
        let target = line.strip_prefix("CONNECT ").and_then(|rest| rest.strip_suffix(" HTTP/1.1"));
        (target.unwrap().to_owned(), lines.collect())
    }

    /// A proxy of SOCKS 5 that looks at all it has received each time: what it has said by then, and
    /// where it has connected to.
    fn naive_socks5_proxy(received: &[u8], wants: Option<(&str, &str)>) -> (Vec<u8>, String) {
        let mut rest = received.to_vec();
        let mut said = Vec::new();
        let mut take = |count: usize| {
            let is_there = rest.len() >= count;
            is_there.then(|| rest.drain(..count).collect::<Vec<u8>>())
        };
        let mut read = || {
            let greeting = take(2)?;
            assert_eq!(greeting[0], 5);
            let method = if wants.is_some() { 2 } else { 0 };
            if !take(greeting[1].into())?.contains(&method) {
                said.extend([5, 255]);
                return None;
            }
            said.extend([5, method]);
            if let Some((user, password)) = wants {
                assert_eq!(take(1)?, [1]);
                let mut text =
                    || String::from_utf8(take(1).and_then(|len| take(len[0].into()))?).ok();
                let is_right = text()? == user && text()? == password;
                said.extend([1, u8::from(!is_right)]);
                if !is_right {
                    return None;
                }
            }
            let request = take(4)?;
            assert_eq!(request[..3], [5, 1, 0]);
            let host = match request[3] {
                1 => take(4)?.iter().map(u8::to_string).collect::<Vec<_>>().join("."),
                4 => {
                    take(16)?.chunks(2).map(|two| format!("{:02x}{:02x}", two[0], two[1])).collect()
                }
                3 => String::from_utf8(take(1).and_then(|len| take(len[0].into()))?).unwrap(),
                other => panic!("address type {other}"),
            };
            let port = take(2)?;
            said.extend([5, 0, 0, 3, 2, b'o', b'k', 0, 80]);
            Some(format!("{host}:{}", u16::from(port[0]) * 256 + u16::from(port[1])))
        };
        let connected = read().unwrap_or_default();
        (said, connected)
    }

    /// Leads a tunnel through the naive proxy of SOCKS 5.
    fn converse(
        proxy: &Proxy,
        host: &str,
        wants: Option<(&str, &str)>,
    ) -> Result<String, TunnelError> {
        let mut sent = Vec::new();
        let mut tunnel = Tunnel::new(proxy, host, 8080, &mut sent)?;
        let mut heard = 0;
        loop {
            let (said, connected) = naive_socks5_proxy(&sent, wants);
            assert!(said.len() > heard, "both wait");
            let progress = tunnel.handle_input(&said[heard..], &mut sent)?;
            heard = said.len();
            if let TunnelProgress::Open { .. } = progress {
                return Ok(connected);
            }
        }
    }

    // RFC 9110 §9.3.6, RFC 9112 §3.2.3
    #[test]
    fn http_proxy_is_asked_to_connect() {
        let asked = |proxy: &Proxy, host| naive_http_proxy(&pass(proxy, host, b"", &[]).1);
        for (host, target) in
            [("a.example", "a.example:443"), ("10.0.0.1", "10.0.0.1:443"), ("::1", "[::1]:443")]
        {
            assert_eq!(asked(&http(), host), (target.into(), vec![format!("Host: {target}")]));
        }
        let proxy = known(http()).header("User-Agent", "x").unwrap();
        let lines = ["Host: a:443", "Proxy-Authorization: Basic dXNlcjpwYXNz", "User-Agent: x"];
        assert_eq!(asked(&proxy, "a").1, lines);
        let proxy = proxy.header("proxy-authorization", "Bearer y").unwrap();
        let lines = ["Host: a:443", "User-Agent: x", "proxy-authorization: Bearer y"];
        assert_eq!(asked(&proxy, "a").1, lines);
    }

    // RFC 9110 §9.3.6, §15.2
    #[test]
    fn http_proxy_opens_the_way_by_any_status_of_success() {
        for answer in [
            "HTTP/1.1 200 Connection established\r\n\r\n",
            "HTTP/1.0 200\r\n\r\n",
            "HTTP/1.1 204 \r\nVia: x\r\n\r\n",
            "HTTP/1.1 299 x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 199 x\r\nA: b\r\n\r\nHTTP/1.1 200 x\r\n\r\n",
        ] {
            assert_eq!(end(&http(), answer), Ok(Some(answer.len())), "{answer}");
        }
    }

    // RFC 9110 §9.3.6
    #[test]
    fn http_proxy_that_does_not_open_the_way_is_an_error() {
        for (status, is_retryable) in [
            (101, false),
            (300, false),
            (400, false),
            (403, false),
            (404, false),
            (407, false),
            (408, true),
            (429, true),
            (502, true),
            (503, true),
            (600, false),
            (0, false),
            (99, false),
        ] {
            let error = end(&http(), format!("HTTP/1.1 {status:03} x\r\n\r\n")).unwrap_err();
            assert_eq!(error, TunnelError::Status { status });
            assert_eq!(error.is_retryable(), is_retryable, "{status}");
        }
        let malformed = |malformation| Err(TunnelError::Head(HeadError::Malformed(malformation)));
        assert_eq!(end(&http(), "\x05\x00"), malformed(Malformation::Version));
        assert_eq!(end(&http(), "HTTP/1.1 200 x\n\n"), malformed(Malformation::StatusLine));
        assert_eq!(end(&http(), "HTTP/1.1 200 x\r\nA\r\n"), malformed(Malformation::MissingColon));
        let version = Err(TunnelError::Head(HeadError::UnsupportedVersion));
        assert_eq!(end(&http(), "HTTP/2 200\r\n\r\n"), version);
    }

    #[test]
    fn http_proxy_has_one_heads_bytes_for_all_it_says() {
        let limit_bytes = HandshakeLimits::default().head_bytes_max;
        let too_large = Err(TunnelError::Head(HeadError::HeadTooLarge { limit_bytes }));
        const INTERIM: &str = "HTTP/1.1 102 \r\n\r\n";
        const FINAL: &str = "HTTP/1.1 200 \r\n\r\n";
        let many = |bytes: usize| {
            let interim = INTERIM.repeat(bytes / INTERIM.len() - 2);
            let padding = "x".repeat(bytes - interim.len() - INTERIM.len() - FINAL.len());
            format!("{interim}HTTP/1.1 102 {padding}\r\n\r\n{FINAL}")
        };
        let limit = limit_bytes as usize;
        for cuts in [&[][..], &[1000, limit - 1], &[limit]] {
            let end = |answer: &str| pass(&http(), "a", answer.as_bytes(), cuts).0;
            assert_eq!(end(&many(limit)), Ok(Some(limit)));
            assert_eq!(end(&many(limit + 1)), too_large);
            // Interim answers that fill the whole, and not a byte is left for the last.
            assert_eq!(end(&many(limit + FINAL.len())), too_large);
            assert_eq!(end(&many(limit + FINAL.len())[..limit]), too_large);
            assert_eq!(end(&many(limit + FINAL.len())[..limit - 1]), Ok(None));
            let padding = "x".repeat(limit);
            assert_eq!(end(&format!("HTTP/1.1 200 {padding}")), too_large);
        }
    }

    // RFC 1928 §3, §4, RFC 1929 §2
    #[test]
    fn socks_proxy_connects_to_what_it_was_asked_for() {
        for (host, expected) in [
            ("a.example", "a.example:8080"),
            ("10.1.2.3", "10.1.2.3:8080"),
            ("10.1.2", "10.1.2:8080"),
            ("2001:db8::1", "20010db8000000000000000000000001:8080"),
            (&"x".repeat(255), &format!("{}:8080", "x".repeat(255))),
        ] {
            assert_eq!(converse(&socks5(), host, None).as_deref(), Ok(expected));
            assert_eq!(converse(&known(socks5()), host, None).as_deref(), Ok(expected));
            let wants = Some(("user", "pass"));
            assert_eq!(converse(&known(socks5()), host, wants).as_deref(), Ok(expected));
        }
        let wants = |proxy: Proxy, user, password| converse(&proxy, "a", Some((user, password)));
        assert_eq!(wants(socks5(), "user", "pass"), Err(TunnelError::NoAcceptableMethod));
        let failed = Err(TunnelError::AuthenticationFailed);
        assert_eq!(wants(known(socks5()), "user", "other"), failed);
        let long = socks5().credentials(&"u".repeat(255), &"\u{e4}\0".repeat(85)).unwrap();
        assert!(wants(long, &"u".repeat(255), &"\u{e4}\0".repeat(85)).is_ok());
    }

    // RFC 1928 §3, §6, RFC 1929 §2
    #[test]
    fn each_answer_of_a_socks_proxy_has_its_end() {
        use TunnelError as E;
        let none = |answer: &[u8]| end(&socks5(), answer);
        let user = |answer: &[u8]| end(&known(socks5()), answer);
        for (address, bytes) in [
            (&[1, 0, 0, 0, 0, 0, 0][..], 12),
            (&[4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 80], 24),
            (&[3, 0, 0, 80], 9),
            (&[3, 3, 5, 5, 5, 0, 80], 12),
            (&[&[3, 255][..], &[b'x'; 255], &[0, 80]].concat(), 264),
        ] {
            assert_eq!(none(&[&[5, 0, 5, 0, 0], address].concat()), Ok(Some(bytes)));
            assert_eq!(user(&[&[5, 0, 5, 0, 0], address].concat()), Ok(Some(bytes)));
            assert_eq!(user(&[&[5, 2, 1, 0, 5, 0, 0], address].concat()), Ok(Some(bytes + 2)));
        }
        for (answer, expected) in [
            (&b"\x04"[..], E::NotSocks5),
            (b"HTTP/1.1 400 ", E::NotSocks5),
            (b"\x00\x5a", E::NotSocks5),
            (b"\x05\xff", E::NoAcceptableMethod),
            (b"\x05\x01", E::Malformed),
            (b"\x05\x02", E::Malformed),
            (b"\x05\x80", E::Malformed),
            (b"\x05\x00\x04", E::NotSocks5),
            (b"\x05\x00\x05\x00\x01", E::Malformed),
            (b"\x05\x00\x05\x00\x00\x00", E::Malformed),
            (b"\x05\x00\x05\x00\x00\x02", E::Malformed),
            (b"\x05\x00\x05\x00\x00\x05", E::Malformed),
        ] {
            assert_eq!(none(answer), Err(expected), "{}", answer.escape_ascii());
        }
        for (answer, expected) in [
            (&b"\x05\x02\x05"[..], E::Malformed),
            (b"\x05\x02\x01\x01", E::AuthenticationFailed),
            (b"\x05\x02\x01\xff", E::AuthenticationFailed),
            (b"\x05\x02\x01\x00\x01", E::NotSocks5),
        ] {
            assert_eq!(user(answer), Err(expected), "{}", answer.escape_ascii());
        }
        for reply in 1..=u8::MAX {
            assert_eq!(none(&[5, 0, 5, reply]), Err(E::Reply(reply)));
            let is_retryable = [1, 3, 4, 5, 6].contains(&reply);
            assert_eq!(E::Reply(reply).is_retryable(), is_retryable, "{reply}");
        }
    }

    #[test]
    fn nothing_is_sent_about_a_server_that_has_no_name() {
        let long = "x".repeat(256);
        for host in
            ["", "a b", "a\r\nX: y", "a\0", "\u{e4}", "a:1", "[::1]", "::1]:1", "a@b", &long]
        {
            for proxy in [http(), socks5()] {
                let mut out = Vec::new();
                let refused = Tunnel::new(&proxy, host, 80, &mut out).unwrap_err();
                assert_eq!((refused, out.len()), (TunnelError::Destination, 0), "{host:?}");
            }
        }
        assert!(Tunnel::new(&http(), "a", 0, &mut Vec::new()).is_err());
        let tunnel = Tunnel::new(&known(socks5()), "a", 80, &mut Vec::new()).unwrap();
        assert_eq!(format!("{tunnel:?}"), "Tunnel { .. }");
    }

    /// What proxies say, nearly: proper answers of which a few bytes are changed, added or taken out.
    fn nearly_proper() -> impl Strategy<Value = Vec<u8>> {
        let proper = prop_oneof![
            "(HTTP/1\\.1 10[0-3] [a-z]{0,3}\r\n\r\n){0,3}HTTP/1\\.[01] [2-5]0[0-9] x\r\n(A: b\r\n)?\r\n"
                .prop_map(String::into_bytes),
            Just(b"\x05\0\x05\0\0\x01\x7f\0\0\x01\0\x50".to_vec()),
            Just(b"\x05\x02\x01\0\x05\0\0\x03\x02ok\0\x50".to_vec()),
            Just(b"\x05\x02\x01\0\x05\x05\0\x01\0\0\0\0\0\0".to_vec()),
        ];
        let byte = prop_oneof![0..6u8, any::<u8>()];
        let edits = prop::collection::vec((any::<prop::sample::Index>(), 0..3u8, byte), 0..3);
        (proper, edits, prop::collection::vec(any::<u8>(), 0..4)).prop_map(
            |(mut answer, edits, behind)| {
                for (index, edit, byte) in edits {
                    let at = index.index(answer.len());
                    match edit {
                        0 => answer[at] = byte,
                        1 => answer.insert(at, byte),
                        _ => drop(answer.remove(at)),
                    }
                }
                [answer, behind].concat()
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn torn_answer_gives_the_same_tunnel(
            answer in nearly_proper(),
            cuts in prop::collection::vec(any::<usize>(), 0..8),
        ) {
            for proxy in [http(), socks5(), known(socks5())] {
                let torn = pass(&proxy, "a.example", &answer, &cuts);
                prop_assert_eq!(torn, pass(&proxy, "a.example", &answer, &[]));
            }
        }
    }
}
