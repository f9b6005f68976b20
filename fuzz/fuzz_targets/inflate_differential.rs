//! Another implementation makes the same message of a payload, or refuses it too. Both go on behind
//! a final block, the message so far being history (RFC 7692 §7.2.3.4), and need nothing behind one
//! that ends the payload, nor anything for an empty message. What precedes a refusal may differ.
#![no_main]

use corewire::fuzzing::deflate::Inflater;
use libfuzzer_sys::fuzz_target;
use miniz_oxide::inflate::{TINFLStatus as Status, core::*};

fn ours<'r>(payload: &[u8], room: &'r mut [u8]) -> Option<&'r [u8]> {
    let (mut inflater, mut at, mut len) = (Inflater::new(), 0, 0);
    while at < payload.len() {
        inflater.resume([&room[..len], &[], &[]]);
        let progress = inflater.inflate(&payload[at..], &mut room[len..]).ok()?;
        (at, len) = (at + progress.consumed, len + progress.produced);
    }
    inflater.finish(&mut room[len..]).ok().map(|progress| &room[..len + progress.produced])
}

fn theirs<'r>(payload: &[u8], room: &'r mut [u8]) -> Option<&'r [u8]> {
    let stream = [payload, &[0, 0, 0xff, 0xff]].concat();
    let (mut inflater, mut at, mut len) = (DecompressorOxide::new(), 0, 0);
    while at < stream.len() && !payload.is_empty() {
        // 4: its window is the room. 128: it stops behind each block.
        let step = decompress(&mut inflater, &stream[at..], room, len, 4 + 128);
        (at, len) = (at + step.1, len + step.2);
        match step.0 {
            Status::Done if at == payload.len() => break,
            Status::Done => inflater.init(),
            Status::BlockBoundary => {}
            _ => return None,
        }
    }
    inflater.block_boundary_state().is_none_or(|state| state.num_bits == 0).then_some(&room[..len])
}

fuzz_target!(|payload: &[u8]| {
    let payload = payload.get(..1000).unwrap_or(payload); // At most 1032 times as long inflated.
    assert!(ours(payload, &mut vec![0; 1 << 20]) == theirs(payload, &mut vec![0; 1 << 20]));
});
