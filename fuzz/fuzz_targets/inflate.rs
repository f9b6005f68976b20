//! Any payload inflates to the same message or fails, however it is torn and whatever room there is;
//! what comes out, compressed again, inflates to itself. The first two bytes are the steps.
#![no_main]

use corewire::deflate::{CorruptData, Deflater, Direction, Inflater, Stop};
use libfuzzer_sys::fuzz_target;

const MESSAGE_MAX: usize = 1 << 16;

fn inflate(payload: &[u8], step: usize, room: usize, max: usize) -> Result<Vec<u8>, CorruptData> {
    let (mut inflater, mut output) = (Inflater::new(), vec![0; room]);
    let (mut message, mut rest) = (Vec::new(), payload);
    while message.len() < max {
        let piece = &rest[..rest.len().min(step)];
        let progress = match piece {
            [] => inflater.finish(&mut output)?,
            _ => inflater.inflate(piece, &mut output)?,
        };
        message.extend_from_slice(&output[..progress.produced]);
        rest = &rest[progress.consumed..];
        match progress.stop {
            Stop::FinalBlock if piece.is_empty() => break,
            Stop::FinalBlock => inflater.resume([&message, &[], &[]]),
            Stop::OutputFull | Stop::InputUsed => {}
        }
    }
    Ok(message)
}

fuzz_target!(|input: &[u8]| {
    let [step, room, payload @ ..] = input else { return };
    let whole = inflate(payload, usize::MAX, 4096, MESSAGE_MAX);
    let (step, room) = (1 + usize::from(*step), 1 + usize::from(*room));
    let torn = inflate(payload, step, room, 2 * MESSAGE_MAX);
    let Ok(message) = &whole else { return assert_eq!(torn, whole) };
    assert!(message.len() >= MESSAGE_MAX || torn == whole);
    let mut output = Vec::new();
    let bytes = Deflater::new(Direction::UNRESTRICTED, 1, 8).compress(message, &mut output);
    assert_eq!(inflate(&output[..bytes], usize::MAX, 4096, usize::MAX).as_ref(), Ok(message));
});
