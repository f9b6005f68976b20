//! The receiver of the PROXY protocol, versions 1 and 2: what a proxy says in front of the stream
//! about the connection that it passes on. The sections cited are those of HAProxy's
//! `proxy-protocol.txt`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::limits::PROXY_HEADER_BYTES_MAX;

/// The header of the PROXY protocol, in front of everything else that arrives. Borrows the received
/// bytes.
///
/// Any peer can write one. Believe it only where the peer is one of
/// [`TrustedProxies`](super::TrustedProxies), and want it there always: §2 forbids to guess whether
/// there is one.
///
/// ```
/// use corewire::opening::{Proxied, ProxyHeader};
///
/// let received = b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\nGET / HTTP/1.1\r\n";
/// // It is asked again with more for as long as the header is not complete.
/// assert_eq!(ProxyHeader::parse(&received[..20]), Ok(None));
/// let header = ProxyHeader::parse(received)?.expect("it is complete");
/// let Proxied::Inet { source, .. } = header.proxied() else { panic!("this is TCP") };
/// assert_eq!(source.to_string(), "203.0.113.7:56324");
/// assert!(received[header.header_bytes()..].starts_with(b"GET "));
/// # Ok::<(), corewire::opening::ProxyError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader<'a> {
    header_bytes: usize,
    proxied: Proxied<'a>,
    /// They were walked once without an error.
    tlvs: &'a [u8],
}

/// Whose connection it is that the proxy passes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxied<'a> {
    /// A TCP connection. IPv4 addresses that came in IPv6's clothes are IPv4 here.
    Inet {
        /// The client.
        source: SocketAddr,
        /// What the client connected to.
        destination: SocketAddr,
    },
    /// A connection to a Unix socket of the proxy. Either is a path; a name in the abstract space,
    /// behind its NUL; or empty.
    Unix {
        /// The client.
        source: &'a [u8],
        /// What the client connected to.
        destination: &'a [u8],
    },
    /// A connection of a sort that the proxy has no words for. The addresses are the socket's own.
    Unknown,
    /// The proxy's own connection, a health check for one. The addresses are the socket's own.
    Local,
}

impl<'a> ProxyHeader<'a> {
    /// The type of the value with the application protocol that was negotiated by TLS (§2.2.1).
    pub const ALPN: u8 = 0x01;
    /// The type of the value with the host name that the client asked for, UTF-8 (§2.2.2).
    pub const AUTHORITY: u8 = 0x02;
    /// The type of the value by which the proxy names the connection (§2.2.5).
    pub const UNIQUE_ID: u8 = 0x05;
    /// The type of the value about the client's TLS, with further values in it (§2.2.6).
    pub const SSL: u8 = 0x20;

    /// Parses what has arrived so far; `None` if the header is not complete yet. More may stand
    /// behind it.
    ///
    /// What is complete or wrong stays so, whatever else arrives. A call for an incomplete header
    /// looks at no more than 107 bytes.
    ///
    /// # Errors
    /// See [`ProxyError`]; close the connection, without an answer. A first byte that begins
    /// neither version is one at once.
    pub fn parse(input: &'a [u8]) -> Result<Option<Self>, ProxyError> {
        if agrees(input, LINE_PREFIX) {
            parse_line(input)
        } else if agrees(input, SIGNATURE) {
            parse_binary(input)
        } else {
            Err(ProxyError::Signature)
        }
    }

    /// How many bytes the header takes; what follows belongs to the client.
    pub const fn header_bytes(&self) -> usize {
        self.header_bytes
    }

    /// Whose connection it is.
    pub const fn proxied(&self) -> Proxied<'a> {
        self.proxied
    }

    /// What else is told, in its order: the type of each value and the value. Only version 2 has
    /// these, and only together with addresses. A checksum among them was verified.
    pub fn tlvs(&self) -> impl Iterator<Item = (u8, &'a [u8])> {
        let mut rest = self.tlvs;
        std::iter::from_fn(move || take_tlv(&mut rest))
    }

    /// The first of [`tlvs`](Self::tlvs) with this type.
    pub fn tlv(&self, tlv_type: u8) -> Option<&'a [u8]> {
        self.tlvs().find(|(of, _)| *of == tlv_type).map(|(_, value)| value)
    }
}

/// Why a PROXY header was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyError {
    /// The stream begins with neither version's first bytes (§2.2).
    Signature,
    /// A carriage return or a line feed without the other (§2.1).
    LineEnd,
    /// The line of version 1 does not end within 107 bytes (§2.1).
    LineTooLong,
    /// The line of version 1 is about neither `TCP4` nor `TCP6` nor `UNKNOWN` (§2.1).
    LineProtocol,
    /// An address in the line is absent, malformed or of the other family (§2.1).
    LineAddress,
    /// A port in the line is absent or not a plain number up to 65535 (§2.1).
    LinePort,
    /// The line goes on behind its ports (§2.1).
    LineRest,
    /// The version is not 2 (§2.2).
    Version,
    /// The command is neither LOCAL nor PROXY (§2.2).
    Command,
    /// The address family is not one of §2.2.
    Family,
    /// The transport is not a stream's (§2.2).
    Transport,
    /// The header is longer than [`PROXY_HEADER_BYTES_MAX`].
    TooLarge {
        /// What it says of itself.
        header_bytes: u32,
    },
    /// The header is too short for the addresses of its family (§2.2).
    Addresses,
    /// A value is longer than what is left of the header (§2.2).
    Tlv,
    /// The checksum is wrong or not four bytes long (§2.2.3).
    Checksum,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signature => "the stream does not begin with a PROXY header",
            Self::LineEnd => "the PROXY line does not end in CR LF",
            Self::LineTooLong => "the PROXY line is longer than 107 bytes",
            Self::LineProtocol => "the PROXY line is not about TCP4, TCP6 or UNKNOWN",
            Self::LineAddress => "an address in the PROXY line is malformed",
            Self::LinePort => "a port in the PROXY line is malformed",
            Self::LineRest => "the PROXY line does not end behind its ports",
            Self::Version => "the PROXY header's version is not 2",
            Self::Command => "the PROXY header's command is not LOCAL or PROXY",
            Self::Family => "the PROXY header's address family is unknown",
            Self::Transport => "the PROXY header is not about a stream",
            Self::TooLarge { header_bytes } => {
                return write!(f, "the PROXY header is too long with {header_bytes} bytes");
            }
            Self::Addresses => "the PROXY header is too short for its addresses",
            Self::Tlv => "a value in the PROXY header is cut off",
            Self::Checksum => "the PROXY header's checksum is wrong",
        })
    }
}

impl std::error::Error for ProxyError {}

/// Version 1, §2.1.
fn parse_line(input: &[u8]) -> Result<Option<ProxyHeader<'_>>, ProxyError> {
    let line = &input[..input.len().min(LINE_BYTES_MAX)];
    let is_full = line.len() == LINE_BYTES_MAX;
    let end = line.iter().position(|byte| b"\r\n".contains(byte)).unwrap_or(line.len());
    match &line[end..] {
        [b'\r', b'\n', ..] => {}
        [] | [b'\r'] if is_full => return Err(ProxyError::LineTooLong),
        [] | [b'\r'] => return Ok(None),
        _ => return Err(ProxyError::LineEnd),
    }
    let mut words = line[LINE_PREFIX.len()..end].split(|&byte| byte == b' ');
    let proxied = match words.next() {
        Some(b"TCP4") => parse_words::<Ipv4Addr>(words)?,
        Some(b"TCP6") => parse_words::<Ipv6Addr>(words)?,
        // Whatever else the line says has to be ignored.
        Some(b"UNKNOWN") => Proxied::Unknown,
        _ => return Err(ProxyError::LineProtocol),
    };
    Ok(Some(ProxyHeader { header_bytes: end + 2, proxied, tlvs: b"" }))
}

fn parse_words<'w, A: FromStr + Into<IpAddr>>(
    mut words: impl Iterator<Item = &'w [u8]>,
) -> Result<Proxied<'static>, ProxyError> {
    let mut word = || words.next().and_then(|word| str::from_utf8(word).ok());
    let mut address = || {
        let address = word().and_then(|word| word.parse::<A>().ok());
        address.map(Into::into).ok_or(ProxyError::LineAddress)
    };
    let (source, destination) = (address()?, address()?);
    let mut port = || word().and_then(parse_port).ok_or(ProxyError::LinePort);
    let (source_port, destination_port) = (port()?, port()?);
    if words.next().is_some() {
        return Err(ProxyError::LineRest);
    }
    Ok(inet((source, source_port), (destination, destination_port)))
}

/// `u16::from_str` would take a plus sign and leading zeros.
fn parse_port(digits: &str) -> Option<u16> {
    let is_plain = digits.bytes().all(|digit| digit.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|_| is_plain)
}

fn inet(source: (IpAddr, u16), destination: (IpAddr, u16)) -> Proxied<'static> {
    let endpoint = |(address, port): (IpAddr, u16)| SocketAddr::new(address.to_canonical(), port);
    Proxied::Inet { source: endpoint(source), destination: endpoint(destination) }
}

/// What stands behind the fixed part of version 2.
#[derive(Clone, Copy)]
enum Layout {
    /// Nothing that we may look into: it is skipped whole.
    Skipped(Proxied<'static>),
    Inet4,
    Inet6,
    Unix,
}

impl Layout {
    fn parse(version_command: u8, protocol: u8) -> Result<Self, ProxyError> {
        if version_command >> 4 != 2 {
            return Err(ProxyError::Version);
        }
        match version_command & 0xf {
            // Of LOCAL even the family is ignored.
            0 => return Ok(Self::Skipped(Proxied::Local)),
            1 => {}
            _ => return Err(ProxyError::Command),
        }
        match (protocol >> 4, protocol & 0xf) {
            // What is half unspecified we take for unspecified, as the section permits.
            (0, 0 | 1) | (1..=3, 0) => Ok(Self::Skipped(Proxied::Unknown)),
            (1, 1) => Ok(Self::Inet4),
            (2, 1) => Ok(Self::Inet6),
            (3, 1) => Ok(Self::Unix),
            (0..=3, _) => Err(ProxyError::Transport),
            _ => Err(ProxyError::Family),
        }
    }

    /// What a complete block says, and the values that follow the addresses.
    fn read(self, block: &[u8]) -> Option<(Proxied<'_>, &[u8])> {
        let mut rest = block;
        let proxied = match self {
            Self::Skipped(proxied) => return Some((proxied, b"")),
            Self::Inet4 => read_inet(&mut rest, |octets: [u8; 4]| octets.into())?,
            Self::Inet6 => read_inet(&mut rest, |octets: [u8; 16]| octets.into())?,
            Self::Unix => Proxied::Unix {
                source: unix_name(take::<UNIX_NAME_BYTES>(&mut rest)?),
                destination: unix_name(take::<UNIX_NAME_BYTES>(&mut rest)?),
            },
        };
        Some((proxied, rest))
    }
}

/// Version 2, §2.2.
fn parse_binary(input: &[u8]) -> Result<Option<ProxyHeader<'_>>, ProxyError> {
    let Some((fixed, behind)) = input.split_first_chunk::<FIXED_BYTES>() else { return Ok(None) };
    let [.., version_command, protocol, high, low] = *fixed;
    let layout = Layout::parse(version_command, protocol)?;
    let block_bytes = u16::from_be_bytes([high, low]);
    let header_bytes = FIXED_BYTES + usize::from(block_bytes);
    if header_bytes > PROXY_HEADER_BYTES_MAX {
        let header_bytes = FIXED_BYTES as u32 + u32::from(block_bytes);
        return Err(ProxyError::TooLarge { header_bytes });
    }
    let Some(block) = behind.get(..usize::from(block_bytes)) else { return Ok(None) };
    let (proxied, tlvs) = layout.read(block).ok_or(ProxyError::Addresses)?;
    check_tlvs(&input[..header_bytes], tlvs)?;
    Ok(Some(ProxyHeader { header_bytes, proxied, tlvs }))
}

fn read_inet<const N: usize>(
    block: &mut &[u8],
    address: impl Fn([u8; N]) -> IpAddr,
) -> Option<Proxied<'static>> {
    let (source, destination) = (address(*take(block)?), address(*take(block)?));
    let source_port = u16::from_be_bytes(*take(block)?);
    let destination_port = u16::from_be_bytes(*take(block)?);
    Some(inet((source, source_port), (destination, destination_port)))
}

fn take<'a, const N: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let taken;
    (taken, *bytes) = bytes.split_first_chunk()?;
    Some(taken)
}

/// A path ends at its first NUL, and what stands behind may be anything. A name in the abstract
/// space begins with NUL and may have others in it.
fn unix_name(name: &[u8; UNIX_NAME_BYTES]) -> &[u8] {
    let bytes = match name {
        [0, ..] => name.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1),
        _ => name.iter().position(|&byte| byte == 0).unwrap_or(name.len()),
    };
    &name[..bytes]
}

/// The last of `header` are `tlvs`, which have to fill it, with a checksum that is right.
fn check_tlvs(header: &[u8], tlvs: &[u8]) -> Result<(), ProxyError> {
    let mut rest = tlvs;
    while !rest.is_empty() {
        let (tlv_type, value) = take_tlv(&mut rest).ok_or(ProxyError::Tlv)?;
        if tlv_type != CHECKSUM {
            continue;
        }
        let checksum: [u8; 4] = value.try_into().map_err(|_| ProxyError::Checksum)?;
        // §2.2.3: computed as if the checksum itself were zeros.
        let (before, behind) = header.split_at(header.len() - rest.len());
        let before = &before[..before.len() - checksum.len()];
        let computed = crc32c(before.iter().chain(&[0; 4]).chain(behind).copied());
        if computed != u32::from_be_bytes(checksum) {
            return Err(ProxyError::Checksum);
        }
    }
    Ok(())
}

/// Takes a type and its value.
fn take_tlv<'a>(bytes: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let &[tlv_type, high, low] = take(bytes)?;
    let value;
    (value, *bytes) = bytes.split_at_checked(u16::from_be_bytes([high, low]).into())?;
    Some((tlv_type, value))
}

/// CRC-32C (RFC 9260 appendix A), bit by bit: once for a connection, over some hundred bytes.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    const REVERSED_POLYNOMIAL: u32 = 0x82f6_3b78;
    !bytes.fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            let carry = if crc & 1 == 1 { REVERSED_POLYNOMIAL } else { 0 };
            (crc >> 1) ^ carry
        })
    })
}

/// Whether `input` begins with `prefix`, as far as it goes.
fn agrees(input: &[u8], prefix: &[u8]) -> bool {
    input.iter().zip(prefix).all(|(byte, expected)| byte == expected)
}

const LINE_PREFIX: &[u8] = b"PROXY ";
/// The longest line of version 1 (§2.1), with its end.
const LINE_BYTES_MAX: usize = 107;
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, version and command, family and transport, and the length of the rest.
const FIXED_BYTES: usize = 16;
const UNIX_NAME_BYTES: usize = 108;
const CHECKSUM: u8 = 0x03;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(input: &[u8]) -> Result<Option<ProxyHeader<'_>>, ProxyError> {
        let whole = ProxyHeader::parse(input);
        // However the input is cut, the front is not complete yet or as good as the whole.
        for cut in 0..input.len() {
            let front = ProxyHeader::parse(&input[..cut]);
            assert!(front == Ok(None) || front == whole, "{}", input[..cut].escape_ascii());
        }
        whole
    }

    fn complete(input: &[u8]) -> ProxyHeader<'_> {
        parse(input).unwrap().expect("the header is complete")
    }

    fn refusal(input: impl AsRef<[u8]>) -> Option<ProxyError> {
        parse(input.as_ref()).err()
    }

    fn binary(version_command: u8, protocol: u8, block: &[u8]) -> Vec<u8> {
        let length = (block.len() as u16).to_be_bytes();
        [SIGNATURE, &[version_command, protocol], &length, block].concat()
    }

    fn tcp(source: &str, destination: &str) -> Proxied<'static> {
        Proxied::Inet { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    fn tlv(tlv_type: u8, value: &[u8]) -> Vec<u8> {
        [&[tlv_type][..], &(value.len() as u16).to_be_bytes(), value].concat()
    }

    const INET4: [u8; 12] = [203, 0, 113, 7, 192, 0, 2, 1, 0xdc, 0x04, 0x01, 0xbb];

    // §2.1
    #[test]
    fn line_tells_source_and_destination() {
        for (text, source, destination) in [
            ("TCP4 203.0.113.7 192.0.2.1 56324 443", "203.0.113.7:56324", "192.0.2.1:443"),
            ("TCP4 0.0.0.0 255.255.255.255 0 65535", "0.0.0.0:0", "255.255.255.255:65535"),
            ("TCP6 2001:db8::1 ::1 1 2", "[2001:db8::1]:1", "[::1]:2"),
            ("TCP6 2001:0DB8:0:0:0:0:0:1 :: 1 2", "[2001:db8::1]:1", "[::]:2"),
            ("TCP6 ::ffff:10.0.0.1 ::ffff:a00:2 1 2", "10.0.0.1:1", "10.0.0.2:2"),
        ] {
            let line = format!("PROXY {text}\r\n");
            assert_eq!(complete(line.as_bytes()).proxied(), tcp(source, destination), "{text}");
        }
    }

    // §2.1
    #[test]
    fn malformed_line_is_refused_by_its_rule() {
        use ProxyError::{LineAddress, LinePort, LineProtocol, LineRest, Signature};
        for (text, error) in [
            ("proxy TCP4 1.1.1.1 2.2.2.2 1 2", Signature),
            ("PROXY", Signature),
            ("PROXY\tTCP4 1.1.1.1 2.2.2.2 1 2", Signature),
            (" PROXY TCP4 1.1.1.1 2.2.2.2 1 2", Signature),
            ("GET / HTTP/1.1", Signature),
            ("PROXY ", LineProtocol),
            ("PROXY  TCP4 1.1.1.1 2.2.2.2 1 2", LineProtocol),
            ("PROXY tcp4 1.1.1.1 2.2.2.2 1 2", LineProtocol),
            ("PROXY UDP4 1.1.1.1 2.2.2.2 1 2", LineProtocol),
            ("PROXY UNKNOWN2", LineProtocol),
            ("PROXY TCP4", LineAddress),
            ("PROXY TCP4 ", LineAddress),
            ("PROXY TCP4 1.1.1.1", LineAddress),
            ("PROXY TCP4  1.1.1.1 2.2.2.2 1 2", LineAddress),
            ("PROXY TCP4 1.1.1.1  2.2.2.2 1 2", LineAddress),
            ("PROXY TCP4 1.1.1 2.2.2.2 1 2", LineAddress),
            ("PROXY TCP4 01.1.1.1 2.2.2.2 1 2", LineAddress),
            ("PROXY TCP4 1.1.1.256 2.2.2.2 1 2", LineAddress),
            ("PROXY TCP4 1.1.1.1 ::1 1 2", LineAddress),
            ("PROXY TCP4 ::1 ::1 1 2", LineAddress),
            ("PROXY TCP6 1.1.1.1 2.2.2.2 1 2", LineAddress),
            ("PROXY TCP6 [::1] ::1 1 2", LineAddress),
            ("PROXY TCP6 fe80::1%1 ::1 1 2", LineAddress),
            ("PROXY TCP6 ::1::1 ::1 1 2", LineAddress),
            ("PROXY TCP6 00001::1 ::1 1 2", LineAddress),
            ("PROXY TCP4 1.1.1.1 2.2.2.2", LinePort),
            ("PROXY TCP4 1.1.1.1 2.2.2.2 1", LinePort),
            ("PROXY TCP4 1.1.1.1 2.2.2.2 1 ", LinePort),
            ("PROXY TCP4 1.1.1.1 2.2.2.2 01 2", LinePort),
            ("PROXY TCP4 1.1.1.1 2.2.2.2 1 00", LinePort),
            ("PROXY TCP4 1.1.1.1 2.2.2.2 +1 2", LinePort),
            ("PROXY TCP4 1.1.1.1 2.2.2.2 -1 2", LinePort),
            ("PROXY TCP4 1.1.1.1 2.2.2.2 1 65536", LinePort),
            ("PROXY TCP4 1.1.1.1 2.2.2.2 1 0x2", LinePort),
            ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\0", LinePort),
            ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2 ", LineRest),
            ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3", LineRest),
        ] {
            assert_eq!(refusal(format!("{text}\r\n")), Some(error), "{text:?}");
        }
    }

    // §2.1
    #[test]
    fn line_ends_in_cr_lf_and_in_nothing_else() {
        let header = complete(b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n\r\n");
        assert_eq!(header.header_bytes(), 32);
        for end in ["\n", "\r\r\n", "\r ", "\n\r", "\rx\r\n"] {
            let line = format!("PROXY TCP4 1.1.1.1 2.2.2.2 1 2{end}");
            assert_eq!(refusal(&line), Some(ProxyError::LineEnd), "{line:?}");
            let line = format!("PROXY UNKNOWN{end}");
            assert_eq!(refusal(&line), Some(ProxyError::LineEnd), "{line:?}");
        }
        assert_eq!(parse(b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r"), Ok(None));
    }

    // §2.1
    #[test]
    fn line_is_107_bytes_long_at_most() {
        let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(91));
        assert_eq!(longest.len(), LINE_BYTES_MAX);
        assert_eq!(complete(longest.as_bytes()).header_bytes(), LINE_BYTES_MAX);
        let longer = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
        assert_eq!(refusal(&longer), Some(ProxyError::LineTooLong));
        // It is known with the last byte that could have been its end.
        assert_eq!(parse(&longer.as_bytes()[..LINE_BYTES_MAX - 1]), Ok(None));
        let known = Some(ProxyError::LineTooLong);
        assert_eq!(refusal(&longer.as_bytes()[..LINE_BYTES_MAX]), known);
        assert_eq!(refusal([b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat()), known);
    }

    // §2.1
    #[test]
    fn unknown_ignores_the_rest_of_its_line() {
        for rest in ["", " ", " ::1 ::1 1 2", " a b c d e f g h", " \u{e4}\0"] {
            let line = format!("PROXY UNKNOWN{rest}\r\n");
            assert_eq!(complete(line.as_bytes()).proxied(), Proxied::Unknown, "{rest:?}");
        }
        let with_junk = b"PROXY UNKNOWN \xff\xfe\r\nGET";
        assert_eq!(complete(with_junk).header_bytes(), 18);
    }

    // §2.2
    #[test]
    fn first_byte_that_begins_neither_version_is_refused_at_once() {
        assert_eq!(parse(b""), Ok(None));
        for byte in 0..=u8::MAX {
            let begins = byte == b'P' || byte == b'\r';
            assert_eq!(refusal([byte]), (!begins).then_some(ProxyError::Signature), "{byte}");
        }
        for input in [&b"POST / HTTP/1.1\r\n"[..], b"\r\nGET", b"PR\r\n", b"\r\n\r\n\0\r\nQUIT\r"] {
            assert_eq!(refusal(input), Some(ProxyError::Signature));
        }
    }

    // §2.2
    #[test]
    fn binary_header_tells_source_and_destination() {
        let header = [&binary(0x21, 0x11, &INET4)[..], b"GET"].concat();
        let header = complete(&header);
        assert_eq!(header.header_bytes(), 28);
        assert_eq!(header.proxied(), tcp("203.0.113.7:56324", "192.0.2.1:443"));
        assert_eq!(header.tlvs().count(), 0);

        let inet6 = |source: &str, destination: &str| {
            let octets = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
            [&octets(source)[..], &octets(destination), &[0, 1, 0, 2]].concat()
        };
        let header = binary(0x21, 0x21, &inet6("2001:db8::1", "::1"));
        assert_eq!(complete(&header).proxied(), tcp("[2001:db8::1]:1", "[::1]:2"));
        let header = binary(0x21, 0x21, &inet6("::ffff:10.0.0.1", "::ffff:10.0.0.2"));
        assert_eq!(complete(&header).proxied(), tcp("10.0.0.1:1", "10.0.0.2:2"));
    }

    // §2.2
    #[test]
    fn binary_header_of_a_unix_socket_tells_paths_and_names() {
        let unix = |source: &[u8], destination: &[u8]| {
            let name = |name: &[u8]| [name, &vec![0; UNIX_NAME_BYTES - name.len()]].concat();
            binary(0x21, 0x31, &[name(source), name(destination)].concat())
        };
        for (source, destination, expected_source, expected_destination) in [
            (&b"/run/a"[..], &b"/run/b"[..], &b"/run/a"[..], &b"/run/b"[..]),
            (b"", b"\0name", b"", b"\0name"),
            (b"/a\0junk", b"\0a\0b", b"/a", b"\0a\0b"),
            (&[b'a'; 108], &[0; 108], &[b'a'; 108], b""),
        ] {
            let expected =
                Proxied::Unix { source: expected_source, destination: expected_destination };
            assert_eq!(complete(&unix(source, destination)).proxied(), expected);
        }
    }

    // §2.2
    #[test]
    fn block_of_local_and_unspecified_connections_is_skipped() {
        for block in [&b""[..], &INET4, b"\x03\0"] {
            for protocol in [0x00, 0x11, 0x12, 0x31, 0xff] {
                let header = binary(0x20, protocol, block);
                let header = complete(&header);
                assert_eq!(header.proxied(), Proxied::Local);
                assert_eq!((header.header_bytes(), header.tlvs().count()), (16 + block.len(), 0));
            }
            for protocol in [0x00, 0x01, 0x10, 0x20, 0x30] {
                let header = binary(0x21, protocol, block);
                let header = complete(&header);
                assert_eq!(header.proxied(), Proxied::Unknown);
                assert_eq!((header.header_bytes(), header.tlvs().count()), (16 + block.len(), 0));
            }
        }
    }

    // §2.2
    #[test]
    fn malformed_binary_header_is_refused_by_its_rule() {
        use ProxyError::{Addresses, Command, Family, Tlv, Transport, Version};
        let long = vec![0; 215];
        for (version_command, protocol, block, error) in [
            (0x11, 0x11, &INET4[..], Version),
            (0x31, 0x11, &INET4, Version),
            (0x22, 0x11, &INET4, Command),
            (0x2f, 0x11, &INET4, Command),
            (0x21, 0x41, &INET4, Family),
            (0x21, 0xf1, &INET4, Family),
            (0x21, 0x12, &INET4, Transport),
            (0x21, 0x22, &long, Transport),
            (0x21, 0x32, &long, Transport),
            (0x21, 0x02, &INET4, Transport),
            (0x21, 0x13, &INET4, Transport),
            (0x21, 0x11, b"", Addresses),
            (0x21, 0x11, &INET4[..11], Addresses),
            (0x21, 0x21, &long[..35], Addresses),
            (0x21, 0x31, &long, Addresses),
            (0x21, 0x11, &[&INET4[..], &[4]].concat(), Tlv),
            (0x21, 0x11, &[&INET4[..], &[4, 0]].concat(), Tlv),
            (0x21, 0x11, &[&INET4[..], &[4, 0, 1]].concat(), Tlv),
            (0x21, 0x11, &[&INET4[..], &[4, 0xff, 0xff, 0]].concat(), Tlv),
        ] {
            let header = binary(version_command, protocol, block);
            assert_eq!(refusal(&header), Some(error), "{version_command:x} {protocol:x}");
        }
    }

    #[test]
    fn binary_header_has_a_limit_and_is_refused_by_what_it_declares() {
        let padding = PROXY_HEADER_BYTES_MAX - FIXED_BYTES - INET4.len() - 3;
        let fitting = binary(0x21, 0x11, &[&INET4[..], &tlv(4, &vec![0; padding])].concat());
        assert_eq!(fitting.len(), PROXY_HEADER_BYTES_MAX);
        let header = ProxyHeader::parse(&fitting).unwrap().unwrap();
        assert_eq!(header.header_bytes(), PROXY_HEADER_BYTES_MAX);
        let larger = binary(0x21, 0x11, &[&INET4[..], &tlv(4, &vec![0; padding + 1])].concat());
        let error = ProxyError::TooLarge { header_bytes: 4097 };
        assert_eq!(refusal(&larger[..FIXED_BYTES]), Some(error));
        let error = ProxyError::TooLarge { header_bytes: 16 + 65535 };
        assert_eq!(refusal(binary(0x20, 0, &vec![0; 65535])), Some(error));
    }

    // §2.2.1 to §2.2.6
    #[test]
    fn values_are_lent_in_their_order() {
        let values = [
            tlv(ProxyHeader::ALPN, b"http/1.1"),
            tlv(ProxyHeader::AUTHORITY, b"example.com"),
            tlv(0x04, b""),
            tlv(ProxyHeader::UNIQUE_ID, b"a"),
            tlv(ProxyHeader::UNIQUE_ID, b"b"),
        ];
        let header = binary(0x21, 0x11, &[&INET4[..], &values.concat()].concat());
        let header = complete(&header);
        let expected: [(u8, &[u8]); 5] =
            [(1, b"http/1.1"), (2, b"example.com"), (4, b""), (5, b"a"), (5, b"b")];
        assert!(header.tlvs().eq(expected));
        assert_eq!(header.tlv(ProxyHeader::UNIQUE_ID), Some(&b"a"[..]));
        assert_eq!(header.tlv(ProxyHeader::SSL), None);
    }

    // RFC 3720 §B.4, and the check value that catalogues give.
    #[test]
    fn checksum_agrees_with_published_vectors() {
        let ascending = std::array::from_fn::<u8, 32, _>(|index| index as u8);
        for (bytes, expected) in [
            (&[0; 32][..], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
            (b"123456789", 0xe306_9283),
            (b"", 0),
        ] {
            assert_eq!(crc32c(bytes.iter().copied()), expected);
        }
    }

    // §2.2.3
    #[test]
    fn checksum_is_verified_where_there_is_one() {
        let block = [&INET4[..], &tlv(CHECKSUM, &[0; 4]), &tlv(4, b"behind")].concat();
        let mut header = binary(0x21, 0x11, &block);
        let checksum = crc32c(header.iter().copied()).to_be_bytes();
        header[31..35].copy_from_slice(&checksum);
        assert_eq!(complete(&header).tlvs().count(), 2);
        for at in FIXED_BYTES..header.len() {
            // Where it says that this is a checksum, and where values end, is another matter.
            if [28, 29, 30, 36, 37].contains(&at) {
                continue;
            }
            let mut damaged = header.clone();
            damaged[at] ^= 1;
            assert_eq!(refusal(&damaged), Some(ProxyError::Checksum), "{at}");
        }
        for value in [&b""[..], b"123", b"12345"] {
            let header = binary(0x21, 0x11, &[&INET4[..], &tlv(CHECKSUM, value)].concat());
            assert_eq!(refusal(&header), Some(ProxyError::Checksum));
        }
    }
}
