//! What the load generator and the raw echo server share: where they run and what a run cost.

pub mod machine;
