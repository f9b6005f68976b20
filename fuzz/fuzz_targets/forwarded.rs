//! Whatever a client sends, in front or in lines of its own, the proxy's word counts; and nothing
//! counts from who is no proxy. The first byte tells the field and where the proxy adds to it.
#![no_main]

use corewire::opening::{FieldStorage, parse_request};
use corewire::{ClientAddress, ForwardedField, Forwarding, TrustedProxies};
use libfuzzer_sys::fuzz_target;

type Found = (ClientAddress, Option<u16>);

/// The client of a request with these lines; `None` if it is no request.
fn client(forwarding: &Forwarding, peer: [u8; 4], lines: &[u8]) -> Option<Found> {
    let head = [b"GET / HTTP/1.1\r\n", lines, b"\r\n\r\n"].concat();
    let mut storage = FieldStorage::new();
    let request = parse_request(&head, &mut storage).ok()?;
    let client = forwarding.client(Some(peer.into()), request.fields);
    Some((client.address, client.port))
}

fuzz_target!(|input: &[u8]| {
    let Some((&selector, junk)) = input.split_first() else { return };
    let (field, name, added) = match selector & 1 {
        0 => (ForwardedField::Forwarded, "Forwarded: ", "for=\"203.0.113.7:80\""),
        _ => (ForwardedField::XForwardedFor, "X-Forwarded-For: ", "203.0.113.7:80"),
    };
    let forwarding = Forwarding::new(field, TrustedProxies::new(["10.0.0.0/8"]).unwrap());
    let new_line = format!("\r\n{name}");
    let junk = junk.split(|&byte| byte == b'\n').collect::<Vec<_>>().join(new_line.as_bytes());
    let junk = [name.as_bytes(), &junk].concat();
    let Some(found) = client(&forwarding, [192, 0, 2, 1], &junk) else { return };
    assert_eq!(found, (ClientAddress::Ip([192, 0, 2, 1].into()), None));
    client(&forwarding, [10, 0, 0, 1], &junk);
    let behind = if selector & 2 == 0 { ", " } else { &new_line };
    let added = [&junk, behind.as_bytes(), added.as_bytes()].concat();
    if let Some(found) = client(&forwarding, [10, 0, 0, 1], &added) {
        assert_eq!(found, (ClientAddress::Ip([203, 0, 113, 7].into()), Some(80)));
    }
});
