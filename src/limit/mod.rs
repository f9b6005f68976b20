//! Limiting mechanisms without policy.
