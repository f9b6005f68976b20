//! corewire: an RFC 6455 WebSocket engine.
#![deny(unsafe_code, unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

pub mod limits;
pub mod metrics;

mod collections;
mod handshake;
mod http;
mod limit;
mod protocol;
mod wire;

#[cfg(feature = "net")]
mod reactor;
#[cfg(feature = "net")]
mod server;
