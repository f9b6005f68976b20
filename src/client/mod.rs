//! The client role: policies that a loop consults about the connections it dials.

#[allow(dead_code, reason = "the driver uses it")]
mod backlog;
#[allow(dead_code, reason = "the driver uses it")]
mod drain;
#[allow(dead_code, reason = "the driver uses it")]
mod json;
#[allow(dead_code, reason = "the driver uses it")]
mod pace;
#[allow(dead_code, reason = "the driver uses it")]
mod rate;
