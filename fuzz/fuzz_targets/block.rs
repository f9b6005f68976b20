//! A pool of blocks against vectors: the content survives, the bounds hold.
#![no_main]

use arbitrary::Arbitrary;
use corewire::fuzzing::collections::{Block, BlockPool, BlockPoolLimits};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Operation {
    Take { need: u16, declared: usize },
    Grow { need: u16, declared: usize },
    Fill(Vec<u8>),
    PutBack,
}

fuzz_target!(|operations: Vec<(u8, Operation)>| {
    let limits = BlockPoolLimits { pinned_bytes_max: 200_000, retained_bytes_max: 50_000 };
    let mut pool = BlockPool::new(limits);
    let mut blocks: Vec<(Block, Vec<u8>)> = Vec::new();
    for (which, operation) in operations {
        let which = usize::from(which).checked_rem(blocks.len()).unwrap_or(0);
        match (operation, blocks.get_mut(which)) {
            (Operation::Take { need, declared }, _) => {
                blocks.extend(pool.take(need.into(), declared).map(|block| (block, Vec::new())));
            }
            (Operation::Grow { need, declared }, Some((block, _))) => {
                let grown = pool.grow(block, need.into(), declared);
                assert_eq!(grown.is_ok(), block.capacity() >= need.into());
            }
            (Operation::Fill(bytes), Some((block, model))) => {
                model.extend_from_slice(&bytes[..block.extend_from_slice(&bytes)]);
            }
            (Operation::PutBack, Some(_)) => pool.put_back(blocks.swap_remove(which).0),
            (_, None) => {}
        }
        assert!(blocks.iter().all(|(block, model)| block.as_slice() == model));
        let out: usize = blocks.iter().map(|(block, _)| block.capacity()).sum();
        assert!(pool.pinned_bytes() == out + pool.retained_bytes() && out <= 200_000);
    }
});
