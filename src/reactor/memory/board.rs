//! What the loops of a process tell each other and other threads: once for each sample, never for a
//! message.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::limit::PressureSnapshot;
use crate::reactor::command::Handle;
use crate::reactor::id::ShardIndex;

/// A place for each loop of a server.
#[derive(Debug)]
pub struct Board(Box<[Cell]>);

#[derive(Debug, Default)]
struct Cell {
    accounted_bytes: AtomicU64,
    snapshot: Mutex<Option<PressureSnapshot>>,
}

impl Board {
    /// For so many loops, at least one.
    pub fn new(loops: usize) -> Self {
        Self((0..loops.max(1)).map(|_| Cell::default()).collect())
    }

    pub fn loops(&self) -> usize {
        self.0.len()
    }

    /// This loop holds so much; says how much all of them do.
    pub fn account(&self, shard: ShardIndex, bytes: u64) -> u64 {
        // Nothing else is told by these numbers, so their order with other writes is of no matter.
        self.cell(shard).accounted_bytes.store(bytes, Ordering::Relaxed);
        self.0.iter().map(|cell| cell.accounted_bytes.load(Ordering::Relaxed)).sum()
    }

    pub fn post(&self, shard: ShardIndex, snapshot: PressureSnapshot) {
        let mut place = self.cell(shard).snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        *place = Some(snapshot);
    }

    pub fn snapshot(&self, shard: ShardIndex) -> Option<PressureSnapshot> {
        *self.cell(shard).snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A loop that stands alone has the only place, whatever its number.
    fn cell(&self, shard: ShardIndex) -> &Cell {
        &self.0[usize::from(shard.0) % self.0.len()]
    }
}

impl Handle {
    /// The loop's latest look at memory; `None` before the first, and if it does not look.
    pub fn pressure(&self) -> Option<PressureSnapshot> {
        self.board.as_ref()?.snapshot(self.shard())
    }

    pub(in crate::reactor) fn with_board(mut self, board: Arc<Board>) -> Self {
        self.board = Some(board);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_loops_hold_is_the_sum_of_what_each_told_last() {
        let board = Board::new(2);
        assert_eq!(board.account(ShardIndex(0), 5), 5);
        assert_eq!(board.account(ShardIndex(1), 7), 12);
        assert_eq!(board.account(ShardIndex(0), 1), 8);
        assert_eq!(Board::new(0).account(ShardIndex(200), 3), 3);
    }
}
