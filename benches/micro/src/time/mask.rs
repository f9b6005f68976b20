//! Masking in place, behind a header as in a read.

use corewire::fuzzing::wire::{MaskingKey, mask};
use divan::counter::BytesCount;
use divan::{Bencher, black_box};

#[divan::bench(args = BYTES)]
fn corewire(bencher: Bencher<'_, '_>, bytes: usize) {
    run(bencher, bytes, |payload| mask::apply(payload, MaskingKey::from_bytes(black_box(KEY))));
}

#[divan::bench(args = BYTES)]
fn fastwebsockets(bencher: Bencher<'_, '_>, bytes: usize) {
    run(bencher, bytes, |payload| fastwebsockets::unmask(payload, black_box(KEY)));
}

#[divan::bench(args = BYTES)]
fn sockudo_ws(bencher: Bencher<'_, '_>, bytes: usize) {
    run(bencher, bytes, |payload| sockudo_ws::simd::apply_mask(payload, black_box(KEY)));
}

fn run(bencher: Bencher<'_, '_>, bytes: usize, apply: impl Fn(&mut [u8]) + Sync) {
    let mut frame = vec![0; BEHIND_HEADER + bytes];
    let payload = &mut frame[BEHIND_HEADER..];
    apply(payload);
    assert!(payload.iter().zip(KEY.iter().cycle()).all(|(byte, key)| byte == key));
    bencher.counter(BytesCount::new(bytes)).bench_local(|| apply(black_box(&mut *payload)));
}

const BYTES: [usize; 7] = [8, 20, 125, 1024, 16 << 10, 64 << 10, 1 << 20];
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const BEHIND_HEADER: usize = 6;
