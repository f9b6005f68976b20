//! The table of topics against a list of pairs, one operation a line: what, by whom, and the levels
//! of a pattern, a character each.
#![no_main]

use corewire_fuzz::topics_bed::Bed;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut bed = Bed::new(input.len() as u64);
    for line in input.split(|byte| *byte == b'\n') {
        if let [what, subscriber, levels @ ..] = line {
            bed.apply(&(*what, *subscriber, levels.to_vec()));
        }
    }
    bed.finish();
});
