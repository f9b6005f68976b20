//! A tunnel means the same however what the proxy says is torn, takes no byte of the server's, and
//! sends nothing else for it. The first two bytes are the proxy and the size of the pieces.
#![no_main]

use corewire::opening::{Tunnel, TunnelProgress};
use corewire::{Proxy, TunnelError};
use libfuzzer_sys::fuzz_target;

type Passed = (Result<Option<usize>, TunnelError>, Vec<u8>);

/// Where the tunnel ends, if it does, and what was sent by then.
fn pass(proxy: &Proxy, input: &[u8], piece_bytes: usize) -> Passed {
    let mut out = Vec::new();
    let mut tunnel = Tunnel::new(proxy, "a.example", 443, &mut out).expect("it has a name");
    let mut given = 0;
    for piece in input.chunks(piece_bytes) {
        match tunnel.handle_input(piece, &mut out) {
            Ok(TunnelProgress::NeedMore) => given += piece.len(),
            Ok(TunnelProgress::Open { consumed_bytes: last }) => {
                return (Ok(Some(given + last)), out);
            }
            Err(error) => return (Err(error), out),
        }
    }
    (Ok(None), out)
}

fuzz_target!(|input: &[u8]| {
    let [which, piece_bytes, input @ ..] = input else { return };
    let urls = ["http://u:p@a:1", "socks5://a:1", "socks5://u:p@a:1"];
    let proxy = Proxy::parse(urls[usize::from(*which) % 3]).expect("it is well-formed");
    let whole = pass(&proxy, input, usize::MAX);
    assert_eq!(pass(&proxy, input, usize::from(*piece_bytes).max(1)), whole);
    if let (Ok(Some(end)), _) = whole {
        assert_eq!(pass(&proxy, &input[..end], usize::MAX), whole);
        assert_eq!(pass(&proxy, &input[..end - 1], usize::MAX).0, Ok(None));
    }
});
