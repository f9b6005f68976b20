//! Every MUST of RFC 6455 §5–§7 that concerns frames, obeyed and broken.
//!
//! Each test names its section. What is allowed and what is not stand side by side, and the peer's
//! frames come from a naive codec that shares nothing with the engine.

#[path = "../support/mod.rs"]
mod support;

mod closing;
#[cfg(feature = "deflate")]
mod compression;
mod control;
mod delivery;
mod fragmentation;
mod framing;
mod messages;
mod pongs;
mod sending;
mod streaming;
mod summary;
mod time;

use corewire::{CloseCause, Config, Failure, Initiator, ProtocolError, Role};
use support::endpoint::{Endpoint, Seen};
use support::naive::{CLOSE, Frame};

fn server_with(change: impl FnOnce(&mut Config)) -> Endpoint {
    let mut config = Config::new(Role::Server);
    change(&mut config);
    Endpoint::new(config)
}

fn failed(error: ProtocolError) -> Seen {
    Seen::Failed(Failure::Protocol(error))
}

/// `wire` must make a server fail the connection for `error` with `code` (§7.1.7), handed in at once
/// and byte by byte, and nothing before or after the failure may be heard.
fn assert_server_fails(wire: &[u8], error: ProtocolError, code: u16) {
    assert_fails(Endpoint::server, wire, error, code);
}

fn assert_fails(endpoint: impl Fn() -> Endpoint, wire: &[u8], error: ProtocolError, code: u16) {
    for piece_bytes in [wire.len(), 1] {
        let mut endpoint = endpoint();
        let mut seen = Vec::new();
        for piece in wire.chunks(piece_bytes) {
            seen.extend(endpoint.receive(piece));
        }
        assert_eq!(seen, [failed(error)], "in pieces of {piece_bytes}");
        assert_failed(endpoint, error, code);
    }
}

/// The connection has failed for `error`: it ignores what follows, sends exactly one Close with
/// `code`, and is over when that is written.
fn assert_failed(mut endpoint: Endpoint, error: ProtocolError, code: u16) {
    assert!(!endpoint.connection.is_open());
    assert!(!endpoint.connection.is_closed(), "the Close is written first");
    assert_eq!(endpoint.receive_frames(&[Frame::text("late"), Frame::ping("late")]), []);
    let frames = endpoint.write_bare_frames();
    let close = frames.last().expect("a Close was sent");
    assert_eq!((close.opcode, &close.payload[..2]), (CLOSE, code.to_be_bytes().as_slice()));
    assert_eq!(frames.iter().filter(|frame| frame.opcode == CLOSE).count(), 1);
    assert!(endpoint.connection.is_closed());
    let summary = endpoint.finish();
    assert_eq!(summary.code.as_u16(), code);
    assert_eq!(summary.initiator, Initiator::Local);
    assert_eq!(summary.cause, CloseCause::Failed(Failure::Protocol(error)));
    assert_eq!((summary.unsent_messages, summary.unsent_bytes), (0, 0));
}
