//! A connection that is dialled, and what the server says to it.

use std::time::Duration;

use crate::client_bed::{Bed, Heard};

/// What a server begins with.
#[derive(Clone, Copy, Debug)]
pub enum Beginning {
    /// An answer that switches protocols, to which the input gives further fields and what follows.
    Switching,
    /// Nothing: the input is all.
    Nothing,
}

/// What the application hears when a server answers with `input` in pieces of so many bytes, and then
/// ends its stream: its callbacks, or why the connection has not opened.
///
/// # Panics
/// If the dial does not end exactly once, or leaves anything behind.
pub fn answer(beginning: Beginning, input: &[u8], piece_bytes: usize) -> String {
    let mut bed = Bed::new(|_| {});
    let (id, server, request) = bed.dial_and_ask();
    let mut said = match beginning {
        Beginning::Switching => request.switching(""),
        Beginning::Nothing => Vec::new(),
    };
    // In front of the empty line.
    said.truncate(said.len().saturating_sub(2));
    said.extend_from_slice(input);
    for piece in said.chunks(piece_bytes) {
        server.peer.write(piece);
        bed.turn();
    }
    server.peer.fin();
    bed.run_for(Duration::from_secs(120));
    bed.assert_empty();
    let mut heard = bed.heard(id);
    if let Some(Heard::Close(summary)) = heard.last_mut() {
        // More of a message may have come than the byte that is wrong.
        summary.incomplete_bytes = 0;
    }
    if heard.contains(&Heard::Open) {
        let ends = heard.iter().filter(|heard| matches!(heard, Heard::Close(_))).count();
        assert_eq!(ends, 1, "{heard:?}");
        assert!(bed.reactor.handler().failures.is_empty());
        format!("{heard:?}")
    } else {
        let failures = &bed.reactor.handler().failures;
        let [failure] = &failures[..] else { panic!("{failures:?}") };
        format!("{heard:?} {:?}", failure.error)
    }
}
