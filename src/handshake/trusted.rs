//! Which peers are proxies whose word counts.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// The proxies that are believed when they tell whom they speak for. Empty by default: nobody.
///
/// Whoever is in one of the networks can claim any address, so name the proxies and not the network
/// that clients share with them.
///
/// ```
/// use corewire::TrustedProxies;
///
/// let trusted = TrustedProxies::new(["10.0.0.0/8", "::1", "unix"])?;
/// assert!(trusted.trusts_ip([10, 1, 2, 3].into()));
/// assert!(!trusted.trusts_ip([192, 0, 2, 1].into()));
/// assert!(trusted.trusts_unix());
/// assert_eq!(trusted.to_string(), "10.0.0.0/8,::1,unix");
/// assert_eq!("10.0.0.0/8, ::1, unix".parse(), Ok(trusted));
/// # Ok::<(), corewire::InvalidNetwork>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<TrustedNetwork>);

/// One item of [`TrustedProxies`]. As text: a network as `10.0.0.0/8` or `2001:db8::/32`, one
/// address, or `unix` for all peers on Unix sockets.
///
/// IPv4 addresses in IPv6's clothes are IPv4: `::ffff:10.0.0.0/104` is `10.0.0.0/8`, and `::/0` has
/// none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustedNetwork(Network);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Network {
    Inet(IpNet),
    Unix,
}

impl TrustedProxies {
    /// Trusts these networks, each written as [`TrustedNetwork`] tells.
    ///
    /// # Errors
    /// One of them is malformed.
    pub fn new(
        networks: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self, InvalidNetwork> {
        networks.into_iter().map(|network| network.as_ref().parse()).collect()
    }

    /// Whether the peer with this address is trusted.
    pub fn trusts_ip(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| match network.0 {
            Network::Inet(network) => network.contains(&address),
            Network::Unix => false,
        })
    }

    /// Whether peers on Unix sockets are trusted.
    pub fn trusts_unix(&self) -> bool {
        self.0.iter().any(|network| network.0 == Network::Unix)
    }

    /// What is trusted, in the order it was given.
    pub fn networks(&self) -> impl Iterator<Item = TrustedNetwork> {
        self.0.iter().copied()
    }
}

impl FromIterator<TrustedNetwork> for TrustedProxies {
    fn from_iter<I: IntoIterator<Item = TrustedNetwork>>(networks: I) -> Self {
        Self(networks.into_iter().collect())
    }
}

/// Networks with commas between them, and perhaps spaces around those.
impl FromStr for TrustedProxies {
    type Err = InvalidNetwork;

    fn from_str(list: &str) -> Result<Self, InvalidNetwork> {
        Self::new(list.split(',').map(str::trim))
    }
}

impl fmt::Display for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, network) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{network}")?;
        }
        Ok(())
    }
}

impl FromStr for TrustedNetwork {
    type Err = InvalidNetwork;

    /// `ipnet` has a parser too, which takes `010.0.0.0/08`: some read that as octal.
    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        if text == "unix" {
            return Ok(Self(Network::Unix));
        }
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(parse_prefix(prefix)?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| InvalidNetwork::Address)?;
        let network = match prefix {
            Some(bits) => IpNet::new(address, bits).map_err(|_| InvalidNetwork::Prefix)?,
            None => address.into(),
        };
        // Somebody wrote more of the address than counts; what they meant is narrower.
        if network.trunc() != network {
            return Err(InvalidNetwork::HostBits);
        }
        Ok(Self(Network::Inet(canonical(network))))
    }
}

/// Writes single addresses without their prefix.
impl fmt::Display for TrustedNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Network::Inet(network) if network.prefix_len() == network.max_prefix_len() => {
                network.addr().fmt(f)
            }
            Network::Inet(network) => network.fmt(f),
            Network::Unix => f.write_str("unix"),
        }
    }
}

/// What is trusted is not a network, an address or `unix`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidNetwork {
    /// There is no IPv4 or IPv6 address.
    Address,
    /// The length of the prefix is not a number up to 32, or for IPv6 128.
    Prefix,
    /// The address has bits set behind the prefix, as in `10.0.0.1/8`.
    HostBits,
}

impl fmt::Display for InvalidNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "not an address, a network or unix",
            Self::Prefix => "the length of the network's prefix is not a number in range",
            Self::HostBits => "the network's address has bits set behind its prefix",
        })
    }
}

impl std::error::Error for InvalidNetwork {}

/// `u8::from_str` would take a plus sign and leading zeros.
fn parse_prefix(digits: &str) -> Result<u8, InvalidNetwork> {
    let is_plain = digits.bytes().all(|digit| digit.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|_| is_plain).ok_or(InvalidNetwork::Prefix)
}

fn canonical(network: IpNet) -> IpNet {
    // The 96 bits that make an IPv6 address a mapped one.
    const MAPPED_PREFIX_BITS: u8 = 96;
    let address = network.addr().to_canonical();
    let bits = network.prefix_len().checked_sub(MAPPED_PREFIX_BITS);
    match (network, address, bits) {
        (IpNet::V6(_), IpAddr::V4(_), Some(bits)) => IpNet::new(address, bits).unwrap_or(network),
        _ => network,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn network_is_parsed_and_written_again() {
        for (text, written) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("127.0.0.1", "127.0.0.1"),
            ("127.0.0.1/32", "127.0.0.1"),
            ("::/0", "::/0"),
            ("::1", "::1"),
            ("2001:DB8:0::/32", "2001:db8::/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::ffff:7f00:1", "127.0.0.1"),
            ("unix", "unix"),
        ] {
            assert_eq!(text.parse::<TrustedNetwork>().unwrap().to_string(), written, "{text}");
            assert_eq!(text.parse::<TrustedNetwork>(), written.parse(), "{text}");
        }
    }

    #[test]
    fn malformed_network_is_refused_by_its_rule() {
        use InvalidNetwork::{Address, HostBits, Prefix};
        for (text, error) in [
            ("", Address),
            (" ", Address),
            ("Unix", Address),
            ("localhost", Address),
            ("/8", Address),
            ("10/8", Address),
            ("10.0.0.0.0/8", Address),
            ("010.0.0.0/8", Address),
            ("[::1]", Address),
            ("10.0.0.1:80", Address),
            ("fe80::1%eth0", Address),
            ("10.0.0.0/", Prefix),
            ("10.0.0.0/33", Prefix),
            ("10.0.0.0/08", Prefix),
            ("10.0.0.0/+8", Prefix),
            ("10.0.0.0/-8", Prefix),
            ("10.0.0.0/8/8", Prefix),
            ("10.0.0.0/256", Prefix),
            ("10.0.0.0/255.0.0.0", Prefix),
            ("::/129", Prefix),
            ("10.0.0.1/8", HostBits),
            ("::1/0", HostBits),
            ("::ffff:0:0/95", HostBits),
        ] {
            assert_eq!(text.parse::<TrustedNetwork>(), Err(error), "{text:?}");
            assert_eq!(TrustedProxies::new(["::1", text]), Err(error), "{text:?}");
        }
    }

    #[test]
    fn list_is_written_with_commas_and_an_empty_one_trusts_nobody() {
        let trusted: TrustedProxies = " 10.0.0.0/8 ,unix, ::1".parse().unwrap();
        assert_eq!(trusted.to_string(), "10.0.0.0/8,unix,::1");
        assert_eq!(trusted.networks().collect::<TrustedProxies>(), trusted);
        assert_eq!("".parse::<TrustedProxies>(), Err(InvalidNetwork::Address));
        assert_eq!("::1,".parse::<TrustedProxies>(), Err(InvalidNetwork::Address));
        let nobody = TrustedProxies::default();
        assert_eq!(TrustedProxies::new([""; 0]), Ok(nobody.clone()));
        assert!(!nobody.trusts_ip([127, 0, 0, 1].into()) && !nobody.trusts_unix());
    }

    #[test]
    fn peers_on_unix_sockets_are_trusted_by_name_only() {
        assert!(TrustedProxies::new(["::1", "unix"]).unwrap().trusts_unix());
        assert!(!TrustedProxies::new(["0.0.0.0/0", "::/0"]).unwrap().trusts_unix());
        assert!(!TrustedProxies::new(["unix"]).unwrap().trusts_ip([127, 0, 0, 1].into()));
    }

    #[test]
    fn mapped_address_is_compared_as_ipv4() {
        let mapped = "::ffff:10.1.2.3".parse().unwrap();
        assert!(TrustedProxies::new(["10.0.0.0/8"]).unwrap().trusts_ip(mapped));
        assert!(TrustedProxies::new(["::ffff:10.0.0.0/104"]).unwrap().trusts_ip([10; 4].into()));
        assert!(!TrustedProxies::new(["::/0"]).unwrap().trusts_ip(mapped));
        // Compatible is not mapped.
        assert!(
            !TrustedProxies::new(["10.0.0.0/8"]).unwrap().trusts_ip("::a01:203".parse().unwrap())
        );
    }

    fn bits(address: IpAddr) -> Vec<u8> {
        let octets = match address.to_canonical() {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        octets.iter().flat_map(|octet| (0..8).rev().map(move |bit| octet >> bit & 1)).collect()
    }

    fn address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<[u8; 4]>().prop_map(IpAddr::from),
            any::<[u8; 16]>().prop_map(IpAddr::from),
            any::<std::net::Ipv4Addr>().prop_map(|address| address.to_ipv6_mapped().into()),
        ]
    }

    proptest! {
        #[test]
        fn network_contains_what_shares_its_first_bits(
            network in address(), other in address(), prefix in 0..=128u8, flipped in 0..128u32,
        ) {
            let prefix = prefix.min(bits(network).len() as u8);
            let text = IpNet::new(network.to_canonical(), prefix).unwrap().trunc().to_string();
            let trusted: TrustedProxies = text.parse().unwrap();
            let near = match network.to_canonical() {
                IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() ^ 1 << (flipped % 32)).into()),
                IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() ^ 1 << flipped).into()),
            };
            for peer in [network, other, near] {
                let (of, with) = (bits(network), bits(peer));
                let naive = of.len() == with.len()
                    && of[..usize::from(prefix)] == with[..usize::from(prefix)];
                prop_assert_eq!(trusted.trusts_ip(peer), naive, "{} in {}", peer, text);
            }
        }

        #[test]
        fn text_is_refused_or_written_the_same_again(text in "[0-9a-f.:/]{0,20}|[0-9]{1,3}[.0-9]{6}/[0-9]{1,3}") {
            if let Ok(network) = text.parse::<TrustedNetwork>() {
                prop_assert_eq!(network.to_string().parse(), Ok(network));
            }
        }
    }
}
