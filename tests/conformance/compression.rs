//! RFC 7692: compressed messages, received and sent.
//!
//! What is received was compressed bit by bit or by another implementation, what is sent is inflated
//! by that; the parameters are agreed on by the real negotiation.

mod bounds;
mod corrupt;
mod owned;
mod pairs;
mod receiving;
mod sending;
mod text;

use corewire::{Compression, Config, Delivery, Opcode, ProtocolError, Role};

use super::support::agreed::{self, dedicated, shared};
use super::support::endpoint::{Endpoint, KEY, Seen};
use super::support::naive::{BINARY, CONTINUATION, Frame, TEXT};
use super::{assert_failed, assert_fails, failed};

/// RSV1 as a number of three bits (§6).
const RSV1: u8 = 0b100;

/// RFC 7692 §7.2.3.1
const HELLO: [u8; 7] = [0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00];
/// §7.2.3.2: a message that refers to that one.
const HELLO_AGAIN: [u8; 5] = [0xF2, 0x00, 0x11, 0x00, 0x00];

/// With and without context takeover.
fn both() -> [Compression; 2] {
    [shared(), dedicated(15)]
}

fn server(compression: Compression) -> Endpoint {
    agreed::endpoint(Role::Server, compression, |_| {})
}

fn client(compression: Compression) -> Endpoint {
    agreed::endpoint(Role::Client, compression, |_| {})
}

fn streaming(compression: Compression) -> Endpoint {
    agreed::endpoint(Role::Server, compression, |config| config.delivery = Delivery::Streaming)
}

/// Messages of at most so many bytes.
fn bounded(limit_bytes: u64) -> impl Fn(&mut Config) {
    move |config| config.limits.message_bytes_max = limit_bytes
}

/// A compressed text in one frame.
fn text(payload: impl AsRef<[u8]>) -> Frame {
    Frame::text(payload).rsv(RSV1)
}

/// A compressed binary message in one frame.
fn binary(payload: impl AsRef<[u8]>) -> Frame {
    Frame::binary(payload).rsv(RSV1)
}

/// A compressed binary message in fragments of so many bytes: RSV1 stands in the first (§6.1).
fn fragments(payload: &[u8], fragment_bytes: usize) -> Vec<Frame> {
    let count = payload.len().div_ceil(fragment_bytes);
    let frames = payload.chunks(fragment_bytes).enumerate().map(|(index, piece)| {
        let frame = if index == 0 { binary(piece) } else { Frame::new(CONTINUATION, piece) };
        if index + 1 == count { frame } else { frame.open() }
    });
    frames.collect()
}

/// Pieces joined to messages; what else was seen stays where it stood.
fn joined(seen: Vec<Seen>) -> Vec<Seen> {
    let mut all = Vec::<Seen>::new();
    for event in seen {
        match (all.last_mut(), event) {
            (
                Some(Seen::Chunk { payload, offset, fin, .. }),
                Seen::Chunk { payload: more, offset: at, fin: ends, .. },
            ) if !*fin => {
                assert_eq!(*offset + payload.len() as u64, at, "no gap between two pieces");
                assert!(ends || !more.is_empty(), "only an end may be empty");
                payload.extend(more);
                *fin = ends;
            }
            (_, event) => all.push(event),
        }
    }
    all
}

/// A message, or the beginning of one, as it is seen in pieces that were joined.
fn pieces(opcode: Opcode, payload: impl AsRef<[u8]>, fin: Fin) -> Seen {
    let payload = payload.as_ref().to_vec();
    Seen::Chunk { opcode, payload, offset: 0, fin: fin == Fin::Yes }
}

/// Whether a message has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fin {
    No,
    Yes,
}

/// A text of so many bytes that compresses as JSON does.
fn json(bytes: usize) -> String {
    let mut text = String::new();
    for index in 0.. {
        if text.len() >= bytes {
            break;
        }
        let hash = index * 2_654_435_761_u64 % 1_000_003;
        text += &format!("{{\"id\":{index},\"name\":\"user {hash}\",\"on\":true}},");
    }
    text.truncate(bytes);
    text
}

/// Bytes that do not compress.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    super::support::rng::Rng::new(seed).bytes(bytes)
}
