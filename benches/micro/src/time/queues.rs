//! The timer wheel and the send queue.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};

use crate::parts::{Cork, Timers};

#[divan::bench_group]
mod wheel {
    use super::*;

    #[divan::bench(args = TIMERS)]
    fn rearm(bencher: Bencher<'_, '_>, timers: usize) {
        let mut wheel = Timers::new(timers);
        bencher.counter(ItemsCount::new(timers)).bench_local(|| wheel.rearm_all());
    }

    #[divan::bench(args = TIMERS)]
    fn cancel_and_insert(bencher: Bencher<'_, '_>, timers: usize) {
        let mut wheel = Timers::new(timers);
        bencher.counter(ItemsCount::new(timers)).bench_local(|| wheel.replace_all());
    }

    /// Items are turns of a millisecond.
    #[divan::bench(args = TIMERS)]
    fn second_passes(bencher: Bencher<'_, '_>, timers: usize) {
        let mut wheel = Timers::new(timers);
        assert!((timers / 31..=timers / 29).contains(&wheel.pass_second()), "a thirtieth is due");
        bencher.counter(ItemsCount::new(1000_u32)).bench_local(|| wheel.pass_second());
    }

    const TIMERS: [usize; 2] = [1000, 100_000];
}

/// Append 16 frames, lend them, give them up.
#[divan::bench(args = [20, 125, 1024, 16 << 10])]
fn outbox(bencher: Bencher<'_, '_>, payload_bytes: usize) {
    let header = [0x82, 20];
    let payload = vec![0; payload_bytes];
    let bytes = 16 * (header.len() + payload_bytes);
    let mut cork = Cork::new();
    assert_eq!(cork.cycle(&header, &payload, 16), bytes);
    bencher
        .counter(ItemsCount::new(16_u32))
        .counter(BytesCount::new(bytes))
        .bench_local(|| cork.cycle(black_box(&header), black_box(&payload), 16));
}
