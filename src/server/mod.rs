//! The server role: what to listen on, one loop for each core, how to part.
//!
//! ```text
//!   Server::builder() ── build ──► Server ── run ──► one thread per shard, each with a loop
//!                      listens already │                       ▲ of its own; they share nothing
//!                                      └─ handle ─► ServerHandle ┘ send, broadcast, close, shutdown
//! ```

mod acceptor;
mod builder;
mod described;
mod error;
mod handle;
mod shards;

pub use acceptor::Spread;
pub use builder::ServerBuilder;
pub use error::ServerError;
pub use handle::ServerHandle;
pub use shards::Server;
