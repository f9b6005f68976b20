//! Validating UTF-8.

use corewire::fuzzing::wire::Utf8Validator;
use divan::counter::BytesCount;
use divan::{Bencher, black_box};

#[divan::bench_group]
mod ascii {
    super::benches!(super::ascii_text);
}

#[divan::bench_group]
mod mixed {
    super::benches!(crate::material::mixed_text);
}

/// The same benches over either kind of text.
macro_rules! benches {
    ($text:path) => {
        use divan::Bencher;

        #[divan::bench(args = super::BYTES)]
        fn corewire(bencher: Bencher<'_, '_>, bytes: usize) {
            super::run(bencher, $text(bytes), super::validate);
        }

        #[divan::bench(args = super::BYTES)]
        fn simdutf8(bencher: Bencher<'_, '_>, bytes: usize) {
            super::run(bencher, $text(bytes), |text| simdutf8::basic::from_utf8(text).is_ok());
        }

        #[divan::bench(args = super::BYTES)]
        fn std(bencher: Bencher<'_, '_>, bytes: usize) {
            super::run(bencher, $text(bytes), |text| str::from_utf8(text).is_ok());
        }

        #[divan::bench(args = super::BYTES)]
        fn sockudo_ws(bencher: Bencher<'_, '_>, bytes: usize) {
            super::run(bencher, $text(bytes), sockudo_ws::utf8::validate_utf8);
        }
    };
}
use benches;

/// As the engine does it with the pieces of a text; this one is a single piece.
fn validate(text: &[u8]) -> bool {
    let mut validator = Utf8Validator::default();
    validator.validate(text).is_ok() && validator.finish().is_ok()
}

fn run(bencher: Bencher<'_, '_>, text: String, validate: impl Fn(&[u8]) -> bool + Sync) {
    let text = text.into_bytes();
    assert!(validate(&text), "the text is valid");
    assert!(!validate(&[&text[..], b"\xFF"].concat()), "and would not be with this byte");
    bencher
        .counter(BytesCount::of_slice(&text))
        .bench_local(|| assert!(validate(black_box(&text))));
}

fn ascii_text(bytes: usize) -> String {
    "The quick brown fox jumps over the lazy dog. ".chars().cycle().take(bytes).collect()
}

const BYTES: [usize; 5] = [20, 125, 1024, 16 << 10, 64 << 10];
