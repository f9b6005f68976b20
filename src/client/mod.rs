//! The client role: policies that a loop consults about the connections it dials.

#[allow(dead_code, reason = "the driver uses it")]
mod backlog;
#[allow(dead_code, reason = "the driver uses it")]
mod batch;
#[allow(dead_code, reason = "the driver uses it")]
mod drain;
#[allow(dead_code, reason = "the driver uses it")]
pub mod envelope;
#[allow(dead_code, reason = "the driver uses it")]
pub mod json;
#[allow(dead_code, reason = "the driver uses it")]
mod pace;
#[allow(dead_code, reason = "the driver uses it")]
mod rate;
