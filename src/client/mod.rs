//! The client role: policies that a loop consults about the connections it dials.

#[allow(dead_code, unused_imports, reason = "the driver uses it")]
pub mod balance;
#[allow(dead_code, reason = "the driver uses it")]
pub mod load;
#[allow(dead_code, unused_imports, reason = "the driver uses it")]
pub mod resolver;
