//! A PROXY header means the same however it is cut, its values fill it, and whatever addresses are
//! read from it, ppp reads as well.
#![no_main]

use corewire::limits::PROXY_HEADER_BYTES_MAX;
use corewire::opening::{Proxied, ProxyHeader};
use corewire_fuzz::proxied_addresses;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let whole = ProxyHeader::parse(input);
    for cut in 0..input.len().min(256) {
        let front = ProxyHeader::parse(&input[..cut]);
        assert!(front == Ok(None) || front == whole);
    }
    let Ok(Some(header)) = whole else { return };
    let written = &input[..header.header_bytes()];
    assert!(written.len() <= PROXY_HEADER_BYTES_MAX);
    assert_eq!(ProxyHeader::parse(written), whole);
    let values: Vec<_> = header
        .tlvs()
        .flat_map(|(tlv_type, value)| {
            [&[tlv_type][..], &(value.len() as u16).to_be_bytes(), value].concat()
        })
        .collect();
    assert!(written.ends_with(&values));

    let Proxied::Inet { source, destination } = header.proxied() else { return };
    assert_eq!(proxied_addresses(written), Some([source, destination]));
});
