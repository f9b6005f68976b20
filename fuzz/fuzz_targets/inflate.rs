//! Any payload inflates to the same message or fails behind the same bytes, however it is torn and
//! whatever room there is. The first two bytes are the steps.
#![no_main]

use corewire::fuzzing::deflate::{CorruptData, Inflater, Progress, Stop};
use libfuzzer_sys::fuzz_target;

const MESSAGE_MAX: usize = 1 << 16;

fn inflate(payload: &[u8], step: usize, room: usize) -> Result<Vec<u8>, Vec<u8>> {
    let (mut inflater, mut output) = (Inflater::new(), vec![0; room]);
    let (mut message, mut rest, mut stop) = (Vec::new(), payload, Stop::InputUsed);
    while (!rest.is_empty() || stop == Stop::OutputFull) && message.len() < 2 * MESSAGE_MAX {
        let progress = inflater.inflate(&rest[..rest.len().min(step)], &mut output);
        let (Ok(Progress { produced, .. }) | Err(CorruptData { produced })) = progress;
        message.extend_from_slice(&output[..produced]);
        let Ok(progress) = progress else { return Err(message) };
        (rest, stop) = (&rest[progress.consumed..], progress.stop);
        if stop == Stop::FinalBlock {
            inflater.resume([&message, &[], &[]]);
        }
    }
    let (mut whole, mut stop) = (message.clone(), Stop::OutputFull);
    while stop == Stop::OutputFull && message.len() < MESSAGE_MAX {
        let Ok(progress) = inflater.finish(&mut output) else { return Err(message) };
        whole.extend_from_slice(&output[..progress.produced]);
        stop = progress.stop;
    }
    Ok(whole)
}

fuzz_target!(|input: &[u8]| {
    let [step, room, payload @ ..] = input else { return };
    let whole = inflate(payload, usize::MAX, 4096);
    let torn = inflate(payload, 1 + usize::from(*step), 1 + usize::from(*room));
    let (Ok(message) | Err(message)) = &whole;
    assert!(message.len() >= MESSAGE_MAX || torn == whole);
});
