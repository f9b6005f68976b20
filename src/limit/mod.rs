//! Mechanisms that hold a sender back. What is held back, and what becomes of it, others decide.

mod pressure;
mod token_bucket;

pub use pressure::{
    MemorySample, PressureChange, PressureGauge, PressureLevel, PressureRecord, PressureSnapshot,
    PressureThresholds, Released,
};
pub use token_bucket::{Allowance, TokenBucket};
