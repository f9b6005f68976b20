//! Mechanisms that hold a sender back. What is held back, and what becomes of it, others decide.

mod token_bucket;

pub use token_bucket::{Allowance, TokenBucket};
