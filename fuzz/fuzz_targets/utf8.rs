//! A text in pieces fails exactly where std says, however it is cut.
#![no_main]

use corewire::fuzzing::wire::{Utf8Validator, validate_whole};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<u8>, &[u8])| {
    let (piece_lens, text) = input;
    let whole = std::str::from_utf8(text);
    assert_eq!(validate_whole(text).ok(), whole.ok());
    // std names the start and, if it is wrong rather than cut short, the length of the sequence
    // that cannot be right even with other bytes behind it: the byte after it is the first bad
    // one, unless the sequence is a single bad byte itself.
    let first_bad = whole.err().and_then(|error| {
        let start = error.valid_up_to();
        let len = error.error_len()?;
        let is_beginning = std::str::from_utf8(&text[start..start + len])
            .is_err_and(|error| error.error_len().is_none());
        Some(if is_beginning { start + len } else { start })
    });

    let mut validator = Utf8Validator::default();
    let mut end = 0;
    for len in piece_lens.into_iter().map(usize::from).chain([text.len()]) {
        let start = end;
        end = text.len().min(start + len);
        let result = validator.validate(&text[start..end]);
        assert_eq!(result.is_err(), first_bad.is_some_and(|index| index < end), "{start}..{end}");
        if result.is_err() {
            return;
        }
    }
    assert_eq!(validator.finish().is_ok(), whole.is_ok());
});
