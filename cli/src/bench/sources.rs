//! Addresses to connect from: each has ephemeral ports of its own.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// Addresses next to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    first: IpAddr,
    /// At least 1; one with more than can be counted ends there.
    count: u64,
}

impl FromStr for Range {
    type Err = String;

    /// Reads `127.0.0.2`, `127.0.0.2-127.0.0.9` or `127.0.0.0/24`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || {
            "an address, a range or a network, such as 127.0.0.2, 127.0.0.2-127.0.0.9 or \
             127.0.0.0/24"
                .to_owned()
        };
        let address = |text: &str| text.trim().parse::<IpAddr>().map_err(|_| wanted());
        if text.contains('/') {
            let network: IpNet = text.parse().map_err(|_| wanted())?;
            // Neither the network's own address nor its broadcast address can be connected from.
            let mut hosts = network.hosts();
            let first = hosts.next().ok_or_else(wanted)?;
            return Self::between(first, hosts.next_back().unwrap_or(first)).ok_or_else(wanted);
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Self::between(address(first)?, address(last)?).ok_or_else(wanted)
    }
}

impl Range {
    fn between(first: IpAddr, last: IpAddr) -> Option<Self> {
        let span = match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                u128::from(last.to_bits().checked_sub(first.to_bits())?)
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => last.to_bits().checked_sub(first.to_bits())?,
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
        };
        Some(Self { first, count: u64::try_from(span).unwrap_or(u64::MAX).saturating_add(1) })
    }

    fn nth(&self, n: u64) -> IpAddr {
        match self.first {
            IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits() + n as u32).into(),
            IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits() + u128::from(n)).into(),
        }
    }

    pub const fn is_ipv4(&self) -> bool {
        self.first.is_ipv4()
    }
}

impl fmt::Display for Range {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            1 => self.first.fmt(out),
            count => write!(out, "{}-{}", self.first, self.nth(count - 1)),
        }
    }
}

/// Several ranges, taken round-robin.
#[derive(Clone, Debug, Default)]
pub struct Sources(pub Vec<Range>);

impl Sources {
    /// How many addresses there are.
    pub fn count(&self) -> u64 {
        self.0.iter().fold(0, |count, range| count.saturating_add(range.count))
    }

    /// The address for the `n`-th connection; `None` leaves the choice to the system.
    pub fn nth(&self, n: u64) -> Option<IpAddr> {
        let mut left = n.checked_rem(self.count())?;
        for range in &self.0 {
            if left < range.count {
                return Some(range.nth(left));
            }
            left -= range.count;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(texts: &[&str]) -> Sources {
        Sources(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn addresses_go_round() {
        let sources = sources(&["127.0.0.2", "127.0.0.8-127.0.0.9", "127.1.0.0/30", "::1"]);
        let taken: Vec<String> = (0..8).map(|n| sources.nth(n).unwrap().to_string()).collect();
        let wanted =
            ["127.0.0.2", "127.0.0.8", "127.0.0.9", "127.1.0.1", "127.1.0.2", "::1", "127.0.0.2"];
        assert_eq!((&taken[..7], &taken[7][..]), (&wanted.map(String::from)[..], "127.0.0.8"));
        assert_eq!(Sources::default().nth(3), None);
    }

    #[test]
    fn networks_lose_their_two_ends() {
        assert_eq!(sources(&["127.0.0.0/8"]).count(), (1 << 24) - 2);
        assert_eq!(sources(&["127.0.0.7/32"]).nth(5), Some([127, 0, 0, 7].into()));
        assert_eq!(sources(&["::/0"]).count(), u64::MAX);
        assert_eq!("127.0.0.4/30".parse::<Range>().unwrap().to_string(), "127.0.0.5-127.0.0.6");
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["", "localhost", "127.0.0.9-127.0.0.2", "127.0.0.1-::1", "10.0.0.0/33", "1-2"]
        {
            assert!(text.parse::<Range>().is_err(), "{text}");
        }
    }
}
