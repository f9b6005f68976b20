//! Where the load generator runs and what a run cost, for whoever else measures a process.

pub mod machine;
