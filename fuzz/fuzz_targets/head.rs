//! A head means the same however it is torn, no byte is looked at twice, and whatever the scanner
//! lets through is split and inspected without a panic. The first byte is the size of the pieces.
#![no_main]

use corewire::fuzzing::handshake::{BodyAllowed, HandshakeError, Inspected, Origins, inspect};
use corewire::fuzzing::http::*;
use libfuzzer_sys::fuzz_target;

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 512, fields_max: 8, target_bytes_max: 64 };

fuzz_target!(|input: &[u8]| {
    let Some((&piece_bytes, head)) = input.split_first() else { return };
    for mut scanner in [HeadScanner::request(), HeadScanner::response()] {
        let whole = scanner.clone().scan(head, &LIMITS);
        let mut torn = Ok(None);
        let mut arrived = Vec::new();
        for piece in head.chunks(usize::from(piece_bytes).max(1)) {
            arrived.fill(0);
            arrived.extend_from_slice(piece);
            torn = scanner.scan(&arrived, &LIMITS);
            if torn != Ok(None) {
                break;
            }
        }
        assert_eq!(torn, whole);
    }
    let mut storage = FieldStorage::new();
    if let Ok(Some(len)) = HeadScanner::request().scan(head, &LIMITS) {
        let request = parse_request(&head[..len], &mut storage).expect("it was scanned");
        match inspect(&request) {
            Ok(Inspected::Upgrade(upgrade)) => _ = Origins::SameOrigin.permits(upgrade.request()),
            Ok(Inspected::Plain(_)) => {}
            Err(HandshakeError::Head(_)) => unreachable!("it was scanned"),
            Err(error) => error.write_response(&mut Vec::new(), BodyAllowed::Yes),
        }
    } else if let Ok(Some(len)) = HeadScanner::response().scan(head, &LIMITS) {
        assert!(parse_response(&head[..len], &mut storage).is_ok());
    }
});
