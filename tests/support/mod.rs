//! What the tests of the protocol core stand on: endpoints with a virtual clock, a naive codec to
//! judge them by, and a network that tears and delays.
#![allow(dead_code, reason = "each test binary takes what it needs")]

#[cfg(feature = "deflate")]
pub mod agreed;
#[cfg(feature = "deflate")]
pub mod deflated;
pub mod endpoint;
pub mod naive;
pub mod pair;

pub mod rng;
