//! Counters of one loop: plain cells, read as a snapshot and merged by the reader; and histograms,
//! which are no larger.

mod counters;
mod histogram;

pub use counters::Counters;
pub use histogram::Histogram;
