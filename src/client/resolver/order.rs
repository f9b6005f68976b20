//! In which order the addresses of a name are tried.

use std::net::SocketAddr;

use crate::limits::ADDRESSES_MAX;

/// Addresses in the order in which to try them, RFC 8305 §4: the families in turn, so that one that
/// leads nowhere costs one attempt and not all of its own. Within a family the order stays.
///
/// IPv6 begins, with one address (the First Address Family Count of 1 that §4 recommends). The RFC
/// has the family begin that the list begins with, which after the sorting of RFC 6724 is IPv6
/// wherever there is a way; we choose IPv6 whatever the resolver has done. Addresses that occur twice
/// are tried once, and no more than [`ADDRESSES_MAX`] are tried.
pub fn happy_eyeballs_order(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut six = addresses.iter().filter(|address| address.is_ipv6());
    let mut four = addresses.iter().filter(|address| address.is_ipv4());
    let mut ordered: Vec<SocketAddr> = Vec::new();
    loop {
        let round = [six.next(), four.next()];
        if round == [None, None] {
            return ordered;
        }
        for address in round.into_iter().flatten() {
            if ordered.len() == ADDRESSES_MAX {
                return ordered;
            }
            if !ordered.contains(address) {
                ordered.push(*address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn addresses(names: &str) -> Vec<SocketAddr> {
        names
            .split_whitespace()
            .map(|name| {
                let number = &name[1..];
                let host = match &name[..1] {
                    "6" => format!("[2001:db8::{number}]"),
                    _ => format!("192.0.2.{number}"),
                };
                format!("{host}:443").parse().unwrap()
            })
            .collect()
    }

    #[track_caller]
    fn assert_order(given: &str, expected: &str) {
        assert_eq!(happy_eyeballs_order(&addresses(given)), addresses(expected), "{given}");
    }

    #[test]
    fn families_take_turns_and_ipv6_begins() {
        assert_order("", "");
        assert_order("61 62 63 41 42", "61 41 62 42 63");
        assert_order("41 42 61", "61 41 42");
        assert_order("41 61 42 62 43", "61 41 62 42 43");
        assert_order("43 41 42", "43 41 42");
        assert_order("62 61", "62 61");
    }

    proptest! {
        #[test]
        fn every_address_comes_once_and_families_keep_their_order(
            given in prop::collection::vec((any::<bool>(), 1..200_u8), 0..100),
        ) {
            let name = |(is_six, number): &(bool, u8)| {
                format!("{}{number} ", if *is_six { 6 } else { 4 })
            };
            let given = addresses(&given.iter().map(name).collect::<String>());
            let ordered = happy_eyeballs_order(&given);
            let mut distinct: Vec<SocketAddr> = Vec::new();
            for address in &given {
                if !distinct.contains(address) {
                    distinct.push(*address);
                }
            }
            prop_assert_eq!(ordered.len(), distinct.len().min(ADDRESSES_MAX));
            for is_six in [true, false] {
                let of = |list: &[SocketAddr]| -> Vec<SocketAddr> {
                    list.iter().copied().filter(|address| address.is_ipv6() == is_six).collect()
                };
                let (ordered, distinct) = (of(&ordered), of(&distinct));
                prop_assert_eq!(&distinct[..ordered.len()], &ordered[..]);
            }
        }
    }
}
