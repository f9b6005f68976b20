//! The client role: policies that a loop consults about the connections it dials.

#[allow(dead_code, reason = "the driver uses it")]
mod backoff;
#[allow(dead_code, reason = "the driver uses it")]
mod cause;
#[allow(dead_code, reason = "the driver uses it")]
mod outage;
#[allow(dead_code, reason = "the driver uses it")]
mod reconnect;
