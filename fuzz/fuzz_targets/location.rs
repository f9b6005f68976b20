//! Wherever a Location leads, it can be written in a head, is printed as what it was parsed from, and
//! leads to itself; and to no Unix socket but the one that sent it. Two lines: a URI and a Location.
#![no_main]

use corewire::opening::{ClientRequest, WebSocketUri};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Some((base, location)) = text.split_once('\n') else { return };
    let Ok(base) = WebSocketUri::parse(base) else { return };
    assert_eq!(WebSocketUri::parse(&base.to_string()), Ok(base.clone()));
    let Ok(uri) = base.join(location) else { return };
    assert_eq!(WebSocketUri::parse(&uri.to_string()), Ok(uri.clone()));
    assert!(uri.target().starts_with('/'));
    let head = [uri.host_field().as_bytes(), uri.target().as_bytes()].concat();
    assert!(head.iter().all(u8::is_ascii_graphic));
    assert!(uri.unix_socket().is_none() || uri.unix_socket() == base.unix_socket());

    // Nothing and a fragment lead nowhere else, and a path that was joined has no dots left.
    assert_eq!(uri.join("#fragment"), Ok(uri.clone()));
    if location.starts_with(['/', '.']) {
        let (path, _) = uri.target().split_once('?').unwrap_or((uri.target(), ""));
        assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
    }
    let request = ClientRequest::new(base).redirected(location).expect("it leads somewhere");
    let mut written = Vec::new();
    request.write([0; 16], &mut written);
    assert!(written.starts_with(format!("GET {} HTTP/1.1\r\n", uri.target()).as_bytes()));
});
