//! The timer wheel against a list: never early, at most a tick late.
#![no_main]

use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use corewire::fuzzing::collections::{TimerKey, Wheel};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Operation {
    Insert,
    Cancel,
    Rearm,
}

fuzz_target!(|operations: Vec<(u32, u64, u8, Operation)>| {
    let (mut now, tick) = (Instant::now(), Duration::from_millis(1));
    let (mut wheel, mut model) = (Wheel::new(now), Vec::<(Instant, TimerKey)>::new());
    for (micros, nanos, which, operation) in operations {
        let later = now + Duration::from_nanos(nanos >> 16);
        match (operation, model.get_mut(usize::from(which))) {
            (Operation::Insert, _) => model.push((later, wheel.insert(later, ()))),
            (Operation::Cancel, Some(_)) => wheel.cancel(model.swap_remove(which.into()).1),
            (Operation::Rearm, Some(entry)) => {
                entry.0 = later;
                wheel.rearm(entry.1, later);
            }
            (Operation::Cancel | Operation::Rearm, None) => {}
        }
        now += Duration::from_micros(micros.into());
        wheel.advance(now);
        while let Some((key, ())) = wheel.pop_due() {
            let fired = model.iter().position(|entry| entry.1 == key).unwrap();
            assert!(model.swap_remove(fired).0 <= now, "fired early");
        }
        assert!(model.iter().all(|entry| entry.0 + tick > now), "is late");
        assert!(wheel.next_deadline() <= model.iter().map(|entry| entry.0 + tick).min());
    }
});
