//! Who is behind the proxies: `Forwarded` (RFC 7239) and `X-Forwarded-For`, as far as they were
//! written by somebody who is trusted.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::trusted::TrustedProxies;
use crate::http::{Authority, Fields, Scheme, is_token};

/// The field by which the proxies tell whom they speak for. One of the two: a proxy adds to the one
/// that it knows and passes on the other as the client sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForwardedField {
    /// `Forwarded` (RFC 7239), with scheme and host in it.
    Forwarded,
    /// `X-Forwarded-For`; scheme and host are taken from `X-Forwarded-Proto` and
    /// `X-Forwarded-Host`. These have no place for each proxy: the proxy that faces the clients has
    /// to set them, whatever it was sent, and those behind it to leave them. One that is repeated
    /// or a list is not believed.
    XForwardedFor,
}

impl ForwardedField {
    const fn name(self) -> &'static str {
        match self {
            Self::Forwarded => "Forwarded",
            Self::XForwardedFor => "X-Forwarded-For",
        }
    }

    /// What an element says; `None` if it is malformed.
    fn parse(self, element: &[u8]) -> Option<ForwardedClient<'_>> {
        match self {
            Self::Forwarded => parse_element(element),
            Self::XForwardedFor => parse_address(element),
        }
    }
}

/// Finds the client behind trusted proxies.
///
/// Each proxy adds at the end of the field whose request it passes on, so the list is read from its
/// end for as long as what wrote an element is trusted, beginning with the peer. What stands in
/// front of that may be the client's invention and counts for nothing, well-formed or not.
///
/// The peer is who has sent the request as far as the loop knows, `Arrival::peer`. Where a proxy
/// speaks the PROXY protocol that is whom its header names, and of him it is asked whether he is
/// trusted: a further proxy may be, and then his fields count; a client is not, and then they do
/// not, whatever the proxy behind him has added to them.
///
/// ```
/// use corewire::opening::{FieldStorage, parse_request};
/// use corewire::{ClientAddress, ForwardedField, Forwarding, TrustedProxies};
///
/// let trusted = TrustedProxies::new(["10.0.0.0/8"])?;
/// let forwarding = Forwarding::new(ForwardedField::XForwardedFor, trusted);
/// let head = b"GET / HTTP/1.1\r\nX-Forwarded-For: 6.6.6.6, 203.0.113.7, 10.0.0.2\r\n\r\n";
/// let mut storage = FieldStorage::new();
/// let request = parse_request(head, &mut storage).unwrap();
///
/// let client = forwarding.client(Some([10, 0, 0, 1].into()), request.fields);
/// assert_eq!(client.address, ClientAddress::Ip([203, 0, 113, 7].into()));
/// // Who is no proxy speaks for nobody.
/// let client = forwarding.client(Some([192, 0, 2, 1].into()), request.fields);
/// assert_eq!(client.address, ClientAddress::Ip([192, 0, 2, 1].into()));
/// # Ok::<(), corewire::InvalidNetwork>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarding {
    field: ForwardedField,
    trusted: TrustedProxies,
}

/// A client, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForwardedClient<'a> {
    /// Its address: that of the peer if nobody who is trusted tells another.
    pub address: ClientAddress,
    /// Its port, if a proxy told it. The peer's own is not repeated here.
    pub port: Option<u16>,
    /// Whether it came by TLS, if a proxy told it: `https` counts as `wss` and `http` as `ws`.
    pub scheme: Option<Scheme>,
    /// The host and perhaps port that it asked for, if a proxy told it; well-formed.
    pub host: Option<Cow<'a, str>>,
}

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientAddress {
    /// At this address; IPv4 in IPv6's clothes is IPv4 here.
    Ip(IpAddr),
    /// At the other end of a Unix socket.
    Unix,
    /// Behind a proxy that does not tell: `unknown` or an obfuscated identifier (RFC 7239 §6.2,
    /// §6.3), or no `for` at all.
    Undisclosed,
}

impl ClientAddress {
    /// The address, if there is one.
    pub const fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(address),
            Self::Unix | Self::Undisclosed => None,
        }
    }
}

impl Forwarding {
    /// Believes `field` of the proxies that are `trusted`.
    pub const fn new(field: ForwardedField, trusted: TrustedProxies) -> Self {
        Self { field, trusted }
    }

    /// Who sent the request with these fields, which came from `peer`; `None` is a peer on a Unix
    /// socket.
    ///
    /// The first element from the end that was not written by a proxy of ours is never looked at.
    /// One that is malformed ends the search as well, and the client is whom the elements behind it
    /// lead to. Each byte of the fields is looked at a few times at most.
    pub fn client<'a>(&self, peer: Option<IpAddr>, fields: Fields<'a>) -> ForwardedClient<'a> {
        let address = peer.map_or(ClientAddress::Unix, |ip| ClientAddress::Ip(ip.to_canonical()));
        let mut client = ForwardedClient { address, port: None, scheme: None, host: None };
        let lines = fields.all(self.field.name()).rev();
        let elements = lines.flat_map(elements_from_the_end);
        let mut hops = elements.map_while(|element| self.field.parse(element));
        while self.trusts(client.address)
            && let Some(hop) = hops.next()
        {
            client = hop;
        }
        if self.field == ForwardedField::XForwardedFor && self.trusts(address) {
            let single = |name| fields.single(name).ok().flatten();
            client.scheme = single("X-Forwarded-Proto").and_then(parse_scheme);
            client.host = single("X-Forwarded-Host").map(Cow::Borrowed).and_then(parse_host);
        }
        client
    }

    fn trusts(&self, address: ClientAddress) -> bool {
        match address {
            ClientAddress::Ip(address) => self.trusted.trusts_ip(address),
            ClientAddress::Unix => self.trusted.trusts_unix(),
            ClientAddress::Undisclosed => false,
        }
    }
}

/// The elements of one line, the last one first; empty ones are skipped (RFC 9110 §5.6.1).
///
/// A quote that the client has opened and not closed would swallow, read from the front, the
/// elements that proxies have added. Read from the end, it cannot reach them.
fn elements_from_the_end(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let comma = last_unquoted(line, b',');
        rest = comma.map(|comma| &line[..comma]);
        Some(line[comma.map_or(0, |comma| comma + 1)..].trim_ascii())
    })
    .filter(|element| !element.is_empty())
}

/// Where the last `delimiter` stands that is in no quoted string; of a quoted string that has no
/// beginning, everything in front is part.
fn last_unquoted(text: &[u8], delimiter: u8) -> Option<usize> {
    let mut end = text.len();
    while let Some((&byte, front)) = text[..end].split_last() {
        if byte == delimiter {
            return Some(front.len());
        }
        end = if byte == b'"' { opening_quote(front)? } else { front.len() };
    }
    None
}

/// The opening quote of the string that `front` ends in: the last quote without a backslash.
fn opening_quote(front: &[u8]) -> Option<usize> {
    let is_opening = |at: &usize| {
        // Runs of backslashes stand in front of one quote each, so none is counted twice.
        let escapes = || front[..*at].iter().rev().take_while(|&&byte| byte == b'\\').count();
        front[*at] == b'"' && escapes().is_multiple_of(2)
    };
    (0..front.len()).rev().find(is_opening)
}

/// Parses an element of `X-Forwarded-For`: an address as in RFC 7239 §6, an IPv6 address without
/// brackets, which is the usual form here, or `unknown`.
fn parse_address(element: &[u8]) -> Option<ForwardedClient<'_>> {
    let text = str::from_utf8(element).ok()?;
    match text.parse::<Ipv6Addr>() {
        Ok(address) => Some(client_at(ClientAddress::Ip(IpAddr::V6(address).to_canonical()), None)),
        Err(_) if text.starts_with('_') => None,
        Err(_) => parse_node(text),
    }
}

/// Parses an element of `Forwarded` (RFC 7239 §4): pairs with semicolons between them, none that we
/// know twice. Spaces around the semicolons are against the grammar and usual.
fn parse_element(element: &[u8]) -> Option<ForwardedClient<'_>> {
    let mut seen: [Option<Cow<'_, str>>; 3] = [None, None, None];
    let mut rest = Some(str::from_utf8(element).ok()?);
    while let Some(pairs) = rest {
        let semicolon = last_unquoted(pairs.as_bytes(), b';');
        rest = semicolon.map(|semicolon| &pairs[..semicolon]);
        let pair = pairs[semicolon.map_or(0, |semicolon| semicolon + 1)..].trim_ascii();
        if pair.is_empty() {
            continue;
        }
        let (name, value) = pair.split_once('=')?;
        let value = parse_value(value)?;
        if !is_token(name) {
            return None;
        }
        let Some(index) = PARAMETERS.iter().position(|known| name.eq_ignore_ascii_case(known))
        else {
            continue;
        };
        if seen[index].replace(value).is_some() {
            return None;
        }
    }
    let [node, scheme, host] = seen;
    let client = match node {
        Some(node) => parse_node(&node)?,
        None => client_at(ClientAddress::Undisclosed, None),
    };
    // The client chooses what stands in these. Were the whole element refused for them, it could
    // pass for the proxy.
    Some(ForwardedClient {
        scheme: scheme.and_then(|scheme| parse_scheme(&scheme)),
        host: host.and_then(parse_host),
        ..client
    })
}

/// A token, or a quoted string (RFC 9110 §5.6.4) without its quotes and backslashes.
fn parse_value(text: &str) -> Option<Cow<'_, str>> {
    let Some(quoted) = text.strip_prefix('"') else {
        return is_token(text).then_some(Cow::Borrowed(text));
    };
    let quoted = quoted.strip_suffix('"')?;
    if !quoted.contains(['"', '\\']) {
        return Some(Cow::Borrowed(quoted));
    }
    let mut unquoted = String::with_capacity(quoted.len());
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        unquoted.push(match character {
            '\\' => characters.next()?,
            '"' => return None,
            character => character,
        });
    }
    Some(Cow::Owned(unquoted))
}

/// A node of RFC 7239 §6: an IPv4 address, an IPv6 address in brackets, `unknown` or an obfuscated
/// identifier, and perhaps a port.
fn parse_node(node: &str) -> Option<ForwardedClient<'static>> {
    let (name, port) = match node.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => node.split_at(node.find(':').unwrap_or(node.len())),
    };
    let address = match name {
        name if node.starts_with('[') => {
            ClientAddress::Ip(IpAddr::V6(name.parse().ok()?).to_canonical())
        }
        name if name.eq_ignore_ascii_case("unknown") || is_obfuscated(name) => {
            ClientAddress::Undisclosed
        }
        name => ClientAddress::Ip(name.parse::<Ipv4Addr>().ok()?.into()),
    };
    match port.strip_prefix(':') {
        None if port.is_empty() => Some(client_at(address, None)),
        None => None,
        Some(port) if is_obfuscated(port) => Some(client_at(address, None)),
        // `u16::from_str` would take a plus sign.
        Some(port) if port.len() <= 5 && port.bytes().all(|digit| digit.is_ascii_digit()) => {
            Some(client_at(address, Some(port.parse().ok()?)))
        }
        Some(_) => None,
    }
}

/// RFC 7239 §6.3.
fn is_obfuscated(text: &str) -> bool {
    text.strip_prefix('_').is_some_and(|rest| {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        !rest.is_empty() && rest.bytes().all(is_allowed)
    })
}

fn parse_scheme(text: &str) -> Option<Scheme> {
    match &*text.to_ascii_lowercase() {
        "ws" | "http" => Some(Scheme::Ws),
        "wss" | "https" => Some(Scheme::Wss),
        _ => None,
    }
}

fn client_at(address: ClientAddress, port: Option<u16>) -> ForwardedClient<'static> {
    ForwardedClient { address, port, scheme: None, host: None }
}

fn parse_host(host: Cow<'_, str>) -> Option<Cow<'_, str>> {
    Authority::parse(&host).is_ok().then_some(host)
}

const PARAMETERS: [&str; 3] = ["for", "proto", "host"];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::handshake::testing::plain;

    const PROXY: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)));

    fn forwarding(field: ForwardedField) -> Forwarding {
        let networks = ["10.0.0.0/8", "2001:db8::/32", "unix"];
        Forwarding::new(field, TrustedProxies::new(networks).unwrap())
    }

    fn head(lines: &[impl AsRef<str>]) -> String {
        let lines: String = lines.iter().map(|line| format!("{}\r\n", line.as_ref())).collect();
        format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
    }

    fn client(
        field: ForwardedField,
        peer: Option<IpAddr>,
        lines: &[impl AsRef<str>],
    ) -> ForwardedClient<'static> {
        plain(head(lines), |request| {
            let client = forwarding(field).client(peer, request.fields());
            let host = client.host.map(|host| Cow::Owned(host.into_owned()));
            ForwardedClient { host, ..client }
        })
    }

    /// The client's address, `unix` or `undisclosed`, and its port if there is one.
    fn told(client: &ForwardedClient<'_>) -> String {
        let address = match client.address {
            ClientAddress::Ip(address) => address.to_string(),
            ClientAddress::Unix => "unix".to_owned(),
            ClientAddress::Undisclosed => "undisclosed".to_owned(),
        };
        client.port.map_or(address.clone(), |port| format!("{address} {port}"))
    }

    fn forwarded(value: &str) -> String {
        told(&client(ForwardedField::Forwarded, PROXY, &[format!("Forwarded: {value}")]))
    }

    fn x_forwarded(value: &str) -> String {
        told(&client(ForwardedField::XForwardedFor, PROXY, &[format!("X-Forwarded-For: {value}")]))
    }

    #[test]
    fn untrusted_peer_is_believed_nothing() {
        let lines = [
            "Forwarded: for=203.0.113.7;proto=https;host=a",
            "X-Forwarded-For: 203.0.113.7",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: a",
        ];
        let nobody = Forwarding::new(ForwardedField::Forwarded, TrustedProxies::default());
        for peer in ["192.0.2.1", "2001:db9::1", "11.0.0.1"] {
            let peer: IpAddr = peer.parse().unwrap();
            let expected = ForwardedClient {
                address: ClientAddress::Ip(peer),
                port: None,
                scheme: None,
                host: None,
            };
            for field in [ForwardedField::Forwarded, ForwardedField::XForwardedFor] {
                assert_eq!(client(field, Some(peer), &lines), expected);
            }
        }
        plain(head(&lines), |request| {
            assert_eq!(told(&nobody.client(None, request.fields())), "unix");
            assert_eq!(told(&nobody.client(PROXY, request.fields())), "10.0.0.1");
        });
    }

    #[test]
    fn trusted_peer_is_told_by_its_own_address_in_any_clothes() {
        let lines = ["Forwarded: for=203.0.113.7"];
        for peer in [Some("10.0.0.1"), Some("::ffff:10.0.0.1"), Some("2001:db8::1"), None] {
            let peer = peer.map(|peer| peer.parse().unwrap());
            assert_eq!(told(&client(ForwardedField::Forwarded, peer, &lines)), "203.0.113.7");
        }
        let peer = Some("::ffff:192.0.2.1".parse().unwrap());
        assert_eq!(told(&client(ForwardedField::Forwarded, peer, &lines)), "192.0.2.1");
    }

    #[test]
    fn list_is_walked_from_its_end_while_hops_are_trusted() {
        for (list, expected) in [
            ("", "10.0.0.1"),
            ("203.0.113.7", "203.0.113.7"),
            ("6.6.6.6, 203.0.113.7", "203.0.113.7"),
            ("6.6.6.6, 203.0.113.7, 10.0.0.3,10.0.0.2", "203.0.113.7"),
            ("10.0.0.9, 203.0.113.7, 10.0.0.2", "203.0.113.7"),
            // Clients may be in the networks of the proxies.
            ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
            (",203.0.113.7 ,, 10.0.0.2,\t,", "203.0.113.7"),
            ("203.0.113.7, x, 10.0.0.2", "10.0.0.2"),
            ("203.0.113.7, x", "10.0.0.1"),
            ("x, 203.0.113.7", "203.0.113.7"),
            ("203.0.113.7, unknown, 10.0.0.2", "undisclosed"),
        ] {
            assert_eq!(x_forwarded(list), expected, "{list}");
            let pairs: Vec<_> = list
                .split(',')
                .map(str::trim)
                .map(|node| if node.is_empty() { String::new() } else { format!("for={node}") })
                .collect();
            assert_eq!(forwarded(&pairs.join(",")), expected, "{list}");
        }
    }

    // RFC 9110 §5.3
    #[test]
    fn several_lines_are_one_list() {
        let lines = ["x-forwarded-for: 6.6.6.6, 203.0.113.7", "A: b", "X-FORWARDED-FOR: 10.0.0.2"];
        assert_eq!(told(&client(ForwardedField::XForwardedFor, PROXY, &lines)), "203.0.113.7");
        let lines = ["Forwarded: for=203.0.113.7", "Forwarded: ", "forwarded: for=10.0.0.2"];
        assert_eq!(told(&client(ForwardedField::Forwarded, PROXY, &lines)), "203.0.113.7");
    }

    #[test]
    fn other_field_is_never_looked_at() {
        let lines = ["X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https", "X-Forwarded-Host: b"];
        let expected = client(ForwardedField::Forwarded, PROXY, &[""; 0]);
        assert_eq!(client(ForwardedField::Forwarded, PROXY, &lines), expected);
        let lines = ["Forwarded: for=6.6.6.6;proto=https;host=b"];
        assert_eq!(client(ForwardedField::XForwardedFor, PROXY, &lines), expected);
    }

    // RFC 7239 §6
    #[test]
    fn node_is_an_address_or_withheld_and_perhaps_a_port() {
        for (node, expected) in [
            ("203.0.113.7", "203.0.113.7"),
            ("203.0.113.7:0", "203.0.113.7 0"),
            ("203.0.113.7:65535", "203.0.113.7 65535"),
            ("203.0.113.7:00080", "203.0.113.7 80"),
            ("203.0.113.7:_port", "203.0.113.7"),
            ("[2001:db9::1]", "2001:db9::1"),
            ("[2001:DB9::1]:80", "2001:db9::1 80"),
            ("[::ffff:203.0.113.7]:80", "203.0.113.7 80"),
            ("unknown", "undisclosed"),
            ("Unknown:80", "undisclosed 80"),
            ("_hidden", "undisclosed"),
            ("_a.B-9_:_x", "undisclosed"),
        ] {
            assert_eq!(forwarded(&format!("for=\"{node}\"")), expected, "{node}");
        }
        for node in [
            "",
            " ",
            "x",
            "203.0.113",
            "203.0.113.7 ",
            "203.0.113.07",
            "203.0.113.256",
            "203.0.113.7:",
            "203.0.113.7:+1",
            "203.0.113.7:65536",
            "203.0.113.7:000080",
            "203.0.113.7:1:2",
            "203.0.113.7:_",
            "203.0.113.7:x",
            "2001:db9::1",
            "[2001:db9::1",
            "2001:db9::1]",
            "[2001:db9::1]80",
            "[2001:db9::1%1]",
            "[203.0.113.7]",
            "[]",
            "[unknown]",
            "_",
            "_a b",
            "_\u{e4}",
            "unknown2",
            "203.0.113.7,203.0.113.8",
            ":80",
        ] {
            assert_eq!(forwarded(&format!("for=\"{node}\"")), "10.0.0.1", "{node}");
        }
    }

    #[test]
    fn address_in_x_forwarded_for_needs_no_brackets() {
        for (element, expected) in [
            ("203.0.113.7", "203.0.113.7"),
            ("203.0.113.7:80", "203.0.113.7 80"),
            ("2001:db9::1", "2001:db9::1"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("[2001:db9::1]", "2001:db9::1"),
            ("[2001:db9::1]:80", "2001:db9::1 80"),
            ("unknown", "undisclosed"),
            ("_hidden", "10.0.0.1"),
            ("\"203.0.113.7\"", "10.0.0.1"),
            ("for=203.0.113.7", "10.0.0.1"),
            ("203.0.113.7;203.0.113.8", "10.0.0.1"),
            ("203.0.113.7 203.0.113.8", "10.0.0.1"),
            ("unix:", "10.0.0.1"),
            ("example.com", "10.0.0.1"),
            ("\u{e4}", "10.0.0.1"),
        ] {
            assert_eq!(x_forwarded(element), expected, "{element}");
        }
    }

    // RFC 7239 §4
    #[test]
    fn element_is_pairs_of_tokens_and_values() {
        for (element, expected) in [
            ("for=203.0.113.7", "203.0.113.7"),
            ("FOR=203.0.113.7", "203.0.113.7"),
            ("by=10.0.0.1;for=203.0.113.7;x=\"\"", "203.0.113.7"),
            (";for=203.0.113.7;;by=_a; ", "203.0.113.7"),
            ("proto=http ; for=203.0.113.7", "203.0.113.7"),
            ("for=\"203.0.113.7\"", "203.0.113.7"),
            ("for=\"2\\03.0.113.\\7\"", "203.0.113.7"),
            ("by=\"a,b;c=\\\",for=6.6.6.6\";for=203.0.113.7", "203.0.113.7"),
            ("for=203.0.113.7;by=\"\\\\\"", "203.0.113.7"),
            ("proto=https", "undisclosed"),
            (";", "undisclosed"),
            // Malformed.
            ("for", "10.0.0.1"),
            ("for=", "10.0.0.1"),
            ("=203.0.113.7", "10.0.0.1"),
            ("203.0.113.7", "10.0.0.1"),
            ("for =203.0.113.7", "10.0.0.1"),
            ("for= 203.0.113.7", "10.0.0.1"),
            ("for=203.0.113.7:80", "10.0.0.1"),
            ("for=[2001:db9::1]", "10.0.0.1"),
            ("for='203.0.113.7'", "10.0.0.1"),
            ("for=\"203.0.113.7", "10.0.0.1"),
            ("for=203.0.113.7\"", "10.0.0.1"),
            ("for=\"203.0.113.7\"x", "10.0.0.1"),
            ("for=\"203.0.113.7\\\"", "10.0.0.1"),
            ("for=\"203.0.113.7\"\"\"", "10.0.0.1"),
            ("by=\"a\"b\";for=203.0.113.7", "10.0.0.1"),
            ("for=203.0.113.7;for=203.0.113.7", "10.0.0.1"),
            ("for=203.0.113.7;For=6.6.6.6", "10.0.0.1"),
            ("for=203.0.113.7;host=a;host=a", "10.0.0.1"),
            ("for=203.0.113.7;by", "10.0.0.1"),
            ("for=203.0.113.7;by=a b", "10.0.0.1"),
            ("for=203.0.113.7 by=a", "10.0.0.1"),
        ] {
            assert_eq!(forwarded(element), expected, "{element}");
        }
    }

    // RFC 7239 §5.3, §5.4
    #[test]
    fn scheme_and_host_are_those_of_the_element_that_names_the_client() {
        let told = |value: &str| {
            let line = format!("Forwarded: {value}");
            let client = client(ForwardedField::Forwarded, PROXY, &[line]);
            (told(&client), client.scheme, client.host)
        };
        let address = "203.0.113.7".to_owned();
        let host = |host: &'static str| Some(Cow::Borrowed(host));
        for (value, scheme, expected_host) in [
            ("for=203.0.113.7;proto=https;host=a", Some(Scheme::Wss), host("a")),
            ("for=203.0.113.7;proto=WSS;host=\"a:8443\"", Some(Scheme::Wss), host("a:8443")),
            ("for=203.0.113.7;proto=http", Some(Scheme::Ws), None),
            ("for=203.0.113.7;proto=ws;host=\"[::1]\"", Some(Scheme::Ws), host("[::1]")),
            ("for=203.0.113.7;proto=https, for=10.0.0.2;proto=http", Some(Scheme::Wss), None),
            ("for=203.0.113.7, for=10.0.0.2;proto=https;host=a", None, None),
            ("for=6.6.6.6;proto=https;host=a, for=203.0.113.7", None, None),
            // What the client may have chosen does not hide it.
            ("for=203.0.113.7;proto=gopher;host=\"a b\"", None, None),
            ("for=203.0.113.7;host=\"\"", None, None),
        ] {
            assert_eq!(told(value), (address.clone(), scheme, expected_host), "{value}");
        }
        // Whoever is behind it did not come by TLS for all that is known.
        let malformed = told("for=x;proto=https, for=10.0.0.2;host=b");
        assert_eq!(malformed, ("10.0.0.2".to_owned(), None, host("b")));
    }

    #[test]
    fn x_forwarded_scheme_and_host_are_believed_if_they_stand_alone() {
        let told = |lines: &[&str]| {
            let client = client(ForwardedField::XForwardedFor, PROXY, lines);
            (client.scheme, client.host)
        };
        let host = |host: &'static str| Some(Cow::Borrowed(host));
        let both = ["X-Forwarded-Proto: https", "x-forwarded-host: a:80"];
        assert_eq!(told(&both), (Some(Scheme::Wss), host("a:80")));
        let lines = ["X-Forwarded-For: x", both[0], both[1]];
        assert_eq!(told(&lines), (Some(Scheme::Wss), host("a:80")));
        for lines in [
            ["X-Forwarded-Proto: https, https", "X-Forwarded-Host: a, b"],
            ["X-Forwarded-Proto: ftp", "X-Forwarded-Host: a b"],
            ["X-Forwarded-Proto: \u{e4}", "X-Forwarded-Host: \u{e4}"],
            ["X-Forwarded-Proto:", "X-Forwarded-Host:"],
        ] {
            assert_eq!(told(&lines), (None, None), "{lines:?}");
        }
        assert_eq!(told(&[both[0], both[0], both[1], both[1]]), (None, None));
    }

    #[test]
    fn quote_that_a_client_opens_cannot_swallow_what_a_proxy_adds() {
        for junk in ["for=\"", "for=\"x", "\"", "\\", "for=\"\\", "x=\"a\\\\", "for=\"6.6.6.6\\\""]
        {
            let added = format!("{junk}, for=\"203.0.113.7:80\"");
            assert_eq!(forwarded(&added), "203.0.113.7 80", "{added}");
            let added = format!("{junk}, for=203.0.113.7:80");
            assert_eq!(forwarded(&added), "10.0.0.1", "{added}");
            assert_eq!(x_forwarded(&format!("{junk}, 203.0.113.7")), "203.0.113.7");
        }
    }

    /// One element as it was meant, and as text.
    #[derive(Clone, Debug)]
    struct Hop {
        /// `None` is a malformed element.
        meant: Option<ForwardedClient<'static>>,
        forwarded: String,
        /// `None` where `X-Forwarded-For` has no words for it.
        x_forwarded: Option<String>,
    }

    fn quoted(text: &str, escapes: &[u8]) -> String {
        let escape = |(index, character): (usize, char)| {
            let is_escaped = escapes.get(index).is_some_and(|byte| byte % 4 == 0);
            if is_escaped { format!("\\{character}") } else { character.to_string() }
        };
        format!("\"{}\"", text.chars().enumerate().map(escape).collect::<String>())
    }

    fn address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<[u8; 3]>().prop_map(|[a, b, c]| IpAddr::from([10, a, b, c])),
            any::<u8>().prop_map(|last| IpAddr::from([203, 0, 113, last])),
            any::<u16>().prop_map(|last| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last])),
            any::<u16>().prop_map(|last| IpAddr::from([0x2001, 0xdb9, 0, 0, 0, 0, 0, last])),
        ]
    }

    fn honest_hop() -> impl Strategy<Value = Hop> {
        let scheme = prop::sample::select(vec![
            None,
            Some((Scheme::Ws, "http")),
            Some((Scheme::Wss, "https")),
            Some((Scheme::Wss, "wss")),
        ]);
        let host = prop::option::of("[a-z]{1,5}(:[1-9][0-9]{0,3})?");
        let parts = (address(), prop::option::of(any::<u16>()), scheme, host);
        (parts, any::<[u8; 40]>()).prop_map(|((address, port, scheme, host), style)| {
            let colon_port = port.map_or(String::new(), |port| format!(":{port}"));
            let node = match address {
                IpAddr::V4(address) => format!("{address}{colon_port}"),
                IpAddr::V6(address) => format!("[{address}]{colon_port}"),
            };
            let is_token = is_token(&node) && style[0].is_multiple_of(2);
            let node_value = if is_token { node.clone() } else { quoted(&node, &style) };
            let mut pairs = vec![format!("for={node_value}")];
            pairs.extend(scheme.map(|(_, text)| format!("proto={text}")));
            pairs.extend(host.as_ref().map(|host| format!("Host={}", quoted(host, &style[9..]))));
            pairs.push("by=\"a,b;\\\"c\"".to_owned());
            let turned = usize::from(style[1]) % pairs.len();
            pairs.rotate_left(turned);
            let meant = ForwardedClient {
                address: ClientAddress::Ip(address),
                port,
                scheme: scheme.map(|(scheme, _)| scheme),
                host: host.map(Cow::Owned),
            };
            let separator = if style[2].is_multiple_of(2) { ";" } else { " ; " };
            let forwarded = pairs.join(separator);
            Hop { meant: Some(meant), forwarded, x_forwarded: Some(node) }
        })
    }

    fn hop() -> impl Strategy<Value = Hop> {
        let undisclosed = prop::sample::select(vec!["unknown", "_a", "\"_b:_c\""]);
        let malformed = prop::sample::select(vec![
            "x",
            "for=",
            "for=\"",
            "for=\"10.0.0.9",
            "for=10.0.0.9;for=10.0.0.9",
            "\"",
            "for=\\",
        ]);
        prop_oneof![
            8 => honest_hop(),
            1 => undisclosed.prop_map(|node| Hop {
                meant: Some(client_at(ClientAddress::Undisclosed, None)),
                forwarded: format!("for={node}"),
                x_forwarded: (node == "unknown").then(|| node.to_owned()),
            }),
            1 => malformed.prop_map(|text| Hop {
                meant: None,
                forwarded: text.to_owned(),
                x_forwarded: Some(text.to_owned()),
            }),
        ]
    }

    /// Who the client is by the rule, told without any parsing.
    fn model<'h>(
        peer: IpAddr,
        hops: impl DoubleEndedIterator<Item = &'h Hop>,
    ) -> ForwardedClient<'static> {
        let is_trusted = |client: &ForwardedClient<'_>| match client.address {
            ClientAddress::Ip(IpAddr::V4(address)) => address.octets()[0] == 10,
            ClientAddress::Ip(IpAddr::V6(address)) => address.segments()[1] == 0xdb8,
            ClientAddress::Unix | ClientAddress::Undisclosed => false,
        };
        let mut client = client_at(ClientAddress::Ip(peer), None);
        for hop in hops.rev() {
            match &hop.meant {
                Some(meant) if is_trusted(&client) => client = meant.clone(),
                _ => break,
            }
        }
        client
    }

    /// Puts elements into lines: each byte tells what stands behind an element.
    fn lines(name: &str, elements: impl Iterator<Item = String>, style: &[u8]) -> Vec<String> {
        let mut lines = vec![format!("{name}: ")];
        for (element, style) in elements.zip(style) {
            let line = lines.last_mut().expect("there is a line");
            *line += &element;
            match style % 5 {
                0 => *line += ",",
                1 => *line += " , ",
                2 => *line += ",\t,",
                3 => lines.push(format!("{name}: ")),
                _ => *line += ", ",
            }
        }
        lines
    }

    proptest! {
        #[test]
        fn client_is_whom_the_model_finds(
            peer in address(), hops in prop::collection::vec(hop(), 0..6), style: [u8; 6],
        ) {
            let text = hops.iter().map(|hop| hop.forwarded.clone());
            let lines_of_forwarded = lines("Forwarded", text, &style);
            let found = client(ForwardedField::Forwarded, Some(peer), &lines_of_forwarded);
            prop_assert_eq!(found, model(peer, hops.iter()), "{:?}", lines_of_forwarded);

            let hops: Vec<_> = hops.into_iter().filter(|hop| hop.x_forwarded.is_some()).collect();
            let text = hops.iter().filter_map(|hop| hop.x_forwarded.clone());
            let lines = lines("X-Forwarded-For", text, &style);
            let found = client(ForwardedField::XForwardedFor, Some(peer), &lines);
            let expected = model(peer, hops.iter());
            let expected = ForwardedClient { scheme: None, host: None, ..expected };
            prop_assert_eq!(found, expected, "{:?}", lines);
        }

        #[test]
        fn what_a_proxy_adds_counts_whatever_the_client_sends(
            junk in "[ -~\t]{0,40}|[\"\\\\,;=a ]{0,12}", others: bool,
        ) {
            let name = if others { "X-Forwarded-For" } else { "Forwarded" };
            let field =
                if others { ForwardedField::XForwardedFor } else { ForwardedField::Forwarded };
            let added = if others { "203.0.113.7:80" } else { "for=\"203.0.113.7:80\"" };
            let one = vec![format!("{name}: {junk}, {added}")];
            let two = vec![format!("{name}: {junk}"), format!("{name}: {added}")];
            for lines in [one, two] {
                prop_assert_eq!(told(&client(field, PROXY, &lines)), "203.0.113.7 80");
            }
        }
    }
}
