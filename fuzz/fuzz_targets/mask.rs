//! Masking in two pieces, at any alignment, equals the loop of RFC 6455 §5.3.
#![no_main]

use corewire::fuzzing::wire::{MaskingKey, mask};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, u16, [u8; 4], &[u8], u8)| {
    let (start, cut, key, payload, copies) = input;
    // Repeated, so that short inputs reach the code for long payloads too.
    let mut buffer = payload.repeat(usize::from(copies) + 1);
    let start = usize::from(start).min(buffer.len());
    let payload = &mut buffer[start..];
    let expected: Vec<u8> =
        payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();

    let key = MaskingKey::from_bytes(key);
    let cut = usize::from(cut).min(payload.len());
    let (first, second) = payload.split_at_mut(cut);
    mask::apply(first, key);
    mask::apply(second, key.rotated(cut));
    assert!(payload == expected, "start {start} cut {cut} of {}", expected.len());
});
