//! Limiting mechanisms without policy.

pub mod token_bucket;

pub use token_bucket::TokenBucket;
