//! Whatever a server answers, a dial ends once, leaves nothing behind, and comes to the same however the
//! answer is torn. The first byte says how the server begins and the size of the pieces.
#![no_main]

use corewire_fuzz::dial::{Beginning, answer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [which, input @ ..] = input else { return };
    let beginning = if which & 1 == 0 { Beginning::Switching } else { Beginning::Nothing };
    let whole = answer(beginning, input, usize::MAX);
    assert_eq!(answer(beginning, input, usize::from(which >> 1).max(1)), whole);
});
