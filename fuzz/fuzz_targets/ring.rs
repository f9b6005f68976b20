//! A ring against a bounded deque.
#![no_main]

use std::collections::VecDeque;

use arbitrary::Arbitrary;
use corewire::fuzzing::collections::ring::Ring;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Operation {
    Push(Vec<u8>),
    PushMapped(Vec<u8>, u8),
    Consume(u8),
    Clear,
}

fuzz_target!(|input: (u8, Vec<Operation>)| {
    let (capacity_bits, operations) = input;
    let mut ring = Ring::with_capacity(1 << (capacity_bits % 8));
    let mut model: VecDeque<u8> = VecDeque::new();
    for operation in operations {
        match operation {
            Operation::Push(bytes) => model.extend(&bytes[..ring.push(&bytes)]),
            Operation::PushMapped(bytes, key) => {
                let taken = ring.push_mapped(&bytes, |p| p.iter_mut().for_each(|b| *b ^= key));
                model.extend(bytes[..taken].iter().map(|byte| byte ^ key));
            }
            Operation::Consume(count) => {
                let count = ring.len().min(count.into());
                ring.consume(count);
                model.drain(..count);
            }
            Operation::Clear => (ring.clear(), model.clear()).1,
        }
        let (first, second) = ring.as_slices();
        assert!(first.iter().chain(second).eq(&model));
        assert_eq!(ring.len() + ring.free(), ring.capacity());
    }
});
