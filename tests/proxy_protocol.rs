//! Headers of the PROXY protocol that the crate `ppp` writes, and damaged ones that it reads too.
//!
//! Where the two disagree on purpose:
//! - `ppp` reads a port of version 1 with a plus sign, and a space for the carriage return of the
//!   line's end.
//! - `ppp` refuses an UNKNOWN line whose rest is not UTF-8 or has more than five words, which the
//!   specification has ignored, and reads one with a line feed in its midst.
//! - `ppp` waits for more behind some lines of version 1 that are whole and wrong, so of lines it is
//!   asked only whether they are right.
//! - `ppp` reads headers about datagrams; these cannot stand in front of a stream.
//! - `ppp` looks at family and transport of LOCAL, which the specification has ignored, and wants
//!   addresses where the transport is unspecified.
//! - `ppp` leaves it to its caller to look at values and checksums, and has no limit.

use std::net::SocketAddr;

use corewire::limits::PROXY_HEADER_BYTES_MAX;
use corewire::opening::{Proxied, ProxyError, ProxyHeader};
use ppp::v2::{Addresses, Builder, Command, Protocol, Unix, Version};
use ppp::{HeaderResult, PartialResult, v1, v2};
use proptest::prelude::*;

fn inet(source: SocketAddr, destination: SocketAddr) -> Proxied<'static> {
    let canonical =
        |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    Proxied::Inet { source: canonical(source), destination: canonical(destination) }
}

fn socket_addresses() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    let v6 = prop_oneof![
        any::<[u8; 16]>().prop_map(Into::into),
        any::<std::net::Ipv4Addr>().prop_map(|address| address.to_ipv6_mapped()),
        // Many zeros have many ways to be written.
        proptest::array::uniform8(0..2u16).prop_map(Into::into),
    ];
    prop_oneof![
        any::<[([u8; 4], u16); 2]>().prop_map(|[a, b]| (a.into(), b.into())),
        (v6.clone(), any::<u16>(), v6, any::<u16>())
            .prop_map(|(a, a_port, b, b_port)| { ((a, a_port).into(), (b, b_port).into()) }),
    ]
}

type Values = Vec<(u8, Vec<u8>)>;

fn values() -> impl Strategy<Value = Values> {
    // 3 is the checksum, which ppp does not compute.
    let tlv_type = any::<u8>().prop_filter("no checksum", |tlv_type| *tlv_type != 3);
    prop::collection::vec((tlv_type, prop::collection::vec(any::<u8>(), 0..40)), 0..6)
}

fn binary(command: Command, addresses: Addresses, values: &Values) -> Vec<u8> {
    let builder = Builder::with_addresses(Version::Two | command, Protocol::Stream, addresses);
    let write = |builder: Builder, (tlv_type, value): &(u8, Vec<u8>)| {
        builder.write_tlv(*tlv_type, value).expect("it fits")
    };
    // Without a payload the builder writes no addresses before `build`.
    values.iter().fold(builder, write).build().expect("it fits")
}

/// What ppp makes of version 1, `None` where the two disagree on purpose.
fn second_opinion_on_line(input: &[u8]) -> Option<Option<Proxied<'static>>> {
    if input.starts_with(b"PROXY UNKNOWN ") {
        return None;
    }
    let Ok(header) = v1::Header::try_from(input) else { return Some(None) };
    if header.header.contains('+') || !header.header.ends_with("\r\n") {
        return None;
    }
    Some(Some(match header.addresses {
        v1::Addresses::Unknown => Proxied::Unknown,
        v1::Addresses::Tcp4(tcp) => inet(
            (tcp.source_address, tcp.source_port).into(),
            (tcp.destination_address, tcp.destination_port).into(),
        ),
        v1::Addresses::Tcp6(tcp) => inet(
            (tcp.source_address, tcp.source_port).into(),
            (tcp.destination_address, tcp.destination_port).into(),
        ),
    }))
}

/// What ppp makes of version 2, `None` where the two disagree on purpose.
fn second_opinion_on_binary(input: &[u8]) -> Option<Option<Proxied<'_>>> {
    let is_local = input.get(12) == Some(&0x20);
    let header = match v2::Header::try_from(input) {
        Ok(header) => header,
        Err(v2::ParseError::InvalidAddresses(..)) if input[13] & 0xf == 0 => return None,
        Err(_) if is_local => return None,
        Err(_) => return Some(None),
    };
    let is_too_large = header.len() > PROXY_HEADER_BYTES_MAX;
    if header.protocol == Protocol::Datagram && !is_local || is_too_large {
        return Some(None);
    }
    let proxied = match header.addresses {
        _ if is_local => Proxied::Local,
        Addresses::Unspecified => Proxied::Unknown,
        _ if header.protocol == Protocol::Unspecified => Proxied::Unknown,
        // To compare what was cut off a name takes the names of the other test.
        Addresses::Unix(_) => return None,
        Addresses::IPv4(tcp) => inet(
            (tcp.source_address, tcp.source_port).into(),
            (tcp.destination_address, tcp.destination_port).into(),
        ),
        Addresses::IPv6(tcp) => inet(
            (tcp.source_address, tcp.source_port).into(),
            (tcp.destination_address, tcp.destination_port).into(),
        ),
    };
    let is_skipped = matches!(proxied, Proxied::Local | Proxied::Unknown);
    if !is_skipped && header.tlvs().any(|tlv| tlv.is_err()) {
        return Some(None);
    }
    // Checksums have known vectors; here they are wrong.
    if !is_skipped && header.tlvs().any(|tlv| tlv.is_ok_and(|tlv| tlv.kind == 3)) {
        return None;
    }
    Some(Some(proxied))
}

fn assert_same(input: &[u8]) -> Result<(), TestCaseError> {
    let ours = ProxyHeader::parse(input).ok().flatten().map(|header| header.proxied());
    let theirs = if input.starts_with(b"P") {
        second_opinion_on_line(input)
    } else {
        second_opinion_on_binary(input)
    };
    if let Some(theirs) = theirs {
        prop_assert_eq!(ours, theirs, "{}", input.escape_ascii());
    }
    // Whatever ppp holds for incomplete in version 2, we do, or refuse it already.
    if let HeaderResult::V2(theirs) = HeaderResult::parse(input)
        && theirs.is_incomplete()
    {
        prop_assert!(!matches!(ProxyHeader::parse(input), Ok(Some(_))));
    }
    Ok(())
}

/// However the input is cut, the front is not complete yet or as good as the whole.
fn assert_split_invariant(input: &[u8]) -> Result<(), TestCaseError> {
    let whole = ProxyHeader::parse(input);
    for cut in 0..input.len() {
        let front = ProxyHeader::parse(&input[..cut]);
        prop_assert!(front == Ok(None) || front == whole, "{} of {}", cut, input.escape_ascii());
    }
    Ok(())
}

fn damaged(mut header: Vec<u8>, damage: &[(prop::sample::Index, u8)]) -> Vec<u8> {
    for (at, byte) in damage {
        let at = at.index(header.len());
        header[at] = *byte;
    }
    header
}

fn damage() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    let byte = prop_oneof![
        any::<u8>(),
        prop::sample::select(&b" \r\n0129:.+afPTU\x20\x21\x11\x31\x00\x01\x0c"[..]),
    ];
    prop::collection::vec((any::<prop::sample::Index>(), byte), 0..4)
}

proptest! {
    #[test]
    fn line_that_ppp_writes_is_read(addresses in socket_addresses(), behind: Vec<u8>) {
        let line = v1::Addresses::from(addresses).to_string();
        let input = [line.as_bytes(), &behind].concat();
        let header = ProxyHeader::parse(&input).unwrap().expect("it is complete");
        prop_assert_eq!(header.proxied(), inet(addresses.0, addresses.1));
        prop_assert_eq!(header.header_bytes(), line.len());
        prop_assert_eq!(header.tlvs().count(), 0);
    }

    #[test]
    fn binary_header_that_ppp_writes_is_read(
        addresses in socket_addresses(), values in values(), behind: Vec<u8>,
    ) {
        let written = binary(Command::Proxy, addresses.into(), &values);
        let input = [&written[..], &behind].concat();
        let header = ProxyHeader::parse(&input).unwrap().expect("it is complete");
        prop_assert_eq!(header.proxied(), inet(addresses.0, addresses.1));
        prop_assert_eq!(header.header_bytes(), written.len());
        let read: Values = header.tlvs().map(|(of, value)| (of, value.to_vec())).collect();
        prop_assert_eq!(read, values);
        let local = binary(Command::Local, addresses.into(), &vec![]);
        let header = ProxyHeader::parse(&local).unwrap().expect("it is complete");
        prop_assert_eq!(header.proxied(), Proxied::Local);
    }

    #[test]
    fn unix_header_that_ppp_writes_is_read(source in "/[a-z/]{0,107}", destination in "[a-z]{0,108}") {
        let name = |name: &str| {
            let mut bytes = [0; 108];
            bytes[..name.len()].copy_from_slice(name.as_bytes());
            bytes
        };
        let unix = Unix::new(name(&source), name(&destination));
        let written = binary(Command::Proxy, unix.into(), &vec![(1, b"a".to_vec())]);
        let header = ProxyHeader::parse(&written).unwrap().expect("it is complete");
        let (source, destination) = (source.as_bytes(), destination.as_bytes());
        prop_assert_eq!(header.proxied(), Proxied::Unix { source, destination });
        prop_assert!(header.tlvs().eq([(1, &b"a"[..])]));
    }

    #[test]
    fn damaged_line_means_the_same_to_ppp(addresses in socket_addresses(), damage in damage()) {
        let line = v1::Addresses::from(addresses).to_string();
        let input = damaged(line.into_bytes(), &damage);
        assert_same(&input)?;
        assert_split_invariant(&input)?;
    }

    #[test]
    fn words_of_a_line_mean_the_same_to_ppp(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "PROXY", "TCP4", "TCP6", "UNKNOWN", "1.2.3.4", "::1", "::ffff:1.2.3.4", "0", "80",
                "65535", "65536", "080", "-1", "", "1.2.3", "1.2.3.04", "0::00001", "\r", "\n",
            ]),
            0..7,
        ),
        end in prop::sample::select(vec!["\r\n", "\r", "\n", "", "\r\nGET", "\r\r\n"]),
    ) {
        let input = format!("PROXY {}{end}", words.join(" ")).into_bytes();
        assert_same(&input)?;
        assert_split_invariant(&input)?;
    }

    #[test]
    fn damaged_binary_header_means_the_same_to_ppp(
        addresses in socket_addresses(), values in values(), damage in damage(), cut: prop::sample::Index,
    ) {
        let input = damaged(binary(Command::Proxy, addresses.into(), &values), &damage);
        assert_same(&input)?;
        assert_same(&input[..cut.index(input.len())])?;
        assert_split_invariant(&input)?;
    }

    #[test]
    fn fixed_part_means_the_same_to_ppp(
        version_command in prop_oneof![0x20..0x23u8, any::<u8>()],
        protocol: u8, length in 0..260u16,
    ) {
        let mut input = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        input.extend([version_command, protocol]);
        input.extend(length.to_be_bytes());
        input.resize(16 + usize::from(length), 0);
        assert_same(&input)?;
        assert_split_invariant(&input)?;
    }
}

/// The disagreements that the second opinions leave out, each shown to be one.
#[test]
fn where_ppp_is_of_another_mind() {
    let theirs = |input: &[u8]| {
        matches!(HeaderResult::parse(input), HeaderResult::V1(Ok(_)) | HeaderResult::V2(Ok(_)))
    };
    let ours = |input: &[u8]| match ProxyHeader::parse(input) {
        Ok(header) => Ok(header.is_some()),
        Err(error) => Err(error),
    };
    let binary = |version_command: u8, protocol: u8, block: &[u8]| {
        let fixed = [version_command, protocol, 0, block.len() as u8];
        [b"\r\n\r\n\0\r\nQUIT\n", &fixed[..], block].concat()
    };
    let plus = b"PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n";
    assert_eq!((theirs(plus), ours(plus)), (true, Err(ProxyError::LinePort)));
    let space = b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \n";
    assert_eq!((theirs(space), ours(space)), (true, Err(ProxyError::LineEnd)));
    for unknown in [&b"PROXY UNKNOWN \xff\r\n"[..], b"PROXY UNKNOWN a b c d e f\r\n"] {
        assert_eq!((theirs(unknown), ours(unknown)), (false, Ok(true)));
    }
    let line_feed = b"PROXY UNKNOWN \n\r\n";
    assert_eq!((theirs(line_feed), ours(line_feed)), (true, Err(ProxyError::LineEnd)));
    let datagram = binary(0x21, 0x12, &[0; 12]);
    assert_eq!((theirs(&datagram), ours(&datagram)), (true, Err(ProxyError::Transport)));
    for skipped in [binary(0x20, 0xff, b""), binary(0x20, 0x11, b""), binary(0x21, 0x10, b"")] {
        assert_eq!((theirs(&skipped), ours(&skipped)), (false, Ok(true)));
    }
    let cut_off = binary(0x21, 0x11, &[4; 13]);
    assert_eq!((theirs(&cut_off), ours(&cut_off)), (true, Err(ProxyError::Tlv)));
    let checksum = binary(0x21, 0x11, &[[0; 12].as_slice(), b"\x03\0\x04abcd"].concat());
    assert_eq!((theirs(&checksum), ours(&checksum)), (true, Err(ProxyError::Checksum)));
}
