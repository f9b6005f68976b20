//! Counters of one loop: plain cells, read as a snapshot and merged by the reader.

mod counters;

pub use counters::Counters;
