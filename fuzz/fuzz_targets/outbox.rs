//! Two outboxes of one pool against flat vectors.
#![no_main]

use arbitrary::Arbitrary;
use corewire::fuzzing::collections::{Outbox, OutboxPool};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Operation {
    Push([u8; 2], Vec<u8>),
    PushShared([u8; 4], Vec<u8>),
    Consume(u16),
}

fuzz_target!(|operations: Vec<(bool, Operation)>| {
    let mut pool = OutboxPool::new(32, 16, 24);
    let mut pairs = [(); 2].map(|()| (Outbox::new(), Vec::new()));
    for (which, operation) in operations {
        let (outbox, model) = &mut pairs[usize::from(which)];
        match operation {
            Operation::Push(header, payload) => {
                let pushed = outbox.push(&mut pool, &header, &payload);
                model.extend(pushed.iter().flat_map(|()| header.iter().chain(&payload)));
            }
            Operation::PushShared(header, payload) => {
                let shared = payload.clone().into();
                let pushed = outbox.push_shared_with_header(&mut pool, &header, shared);
                model.extend(pushed.iter().flat_map(|()| header.iter().chain(&payload)));
            }
            Operation::Consume(count) => {
                let count = model.len().min(count.into());
                outbox.consume(&mut pool, count);
                model.drain(..count);
            }
        }
        let mut content = vec![0; outbox.queued_bytes() as usize];
        outbox.cursor(&pool).peek(&mut content);
        assert_eq!(&content, model);
    }
});
