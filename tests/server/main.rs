//! The server role and the examples, on real sockets.
#![cfg(feature = "net")]

#[cfg(test)]
mod client;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod shards;
