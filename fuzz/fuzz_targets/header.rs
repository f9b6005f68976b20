//! A header means the same however it is torn, and what parses encodes to the same bytes.
#![no_main]

use corewire::fuzzing::wire::{HEADER_BYTES_MAX, Header, HeaderRules, Role, Rsv1};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    for role in [Role::Server, Role::Client] {
        for rsv1 in [Rsv1::Forbidden, Rsv1::Negotiated] {
            let rules = HeaderRules { role, rsv1 };
            let whole = Header::parse(input, rules);
            for len in 0..input.len().min(HEADER_BYTES_MAX) {
                match Header::parse(&input[..len], rules) {
                    Ok(None) => {}
                    early => assert_eq!(early, whole, "the first {len} bytes"),
                }
            }
            if let Ok(Some(parsed)) = whole {
                let mut out = [0; HEADER_BYTES_MAX];
                let header_bytes = parsed.header.encode(&mut out);
                assert_eq!(out[..header_bytes], input[..parsed.header_bytes]);
            }
        }
    }
});
