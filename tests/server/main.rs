//! The server role and the examples, on real sockets.
#![cfg(feature = "net")]

#[cfg(test)]
mod adoption;
#[cfg(test)]
mod client;
#[cfg(test)]
mod dialling;
#[cfg(test)]
mod draining;
mod examples;
#[cfg(test)]
mod listeners;
#[cfg(test)]
mod publishing;
#[cfg(test)]
mod running;
#[cfg(test)]
mod shards;
#[cfg(test)]
mod spreading;
#[cfg(test)]
mod unix;
