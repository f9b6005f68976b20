//! The server role and the examples, on real sockets.
#![cfg(feature = "net")]

mod client;
mod examples;
mod shards;
