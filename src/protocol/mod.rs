//! One RFC 6455 connection after the handshake, without I/O.
//!
//! ```text
//!   bytes in ──► Receiver ──► Event ──┐ lent to the application together with
//!                  │ Ping, Close      ▼
//!                  └──────────► Transmit ──► Sender ──► Outbox ──► bytes out
//! ```
//!
//! The [`Receiver`] parses, assembles and lends; the [`Sender`] queues frames. They share nothing,
//! so a payload can be sent while it is held. [`Connection`] is both halves in one value for those
//! who bring their own I/O; the reactor keeps them in two tables.

mod assembler;
mod batch;
#[cfg(feature = "deflate")]
mod compression;
#[cfg(not(feature = "deflate"))]
#[path = "no_compression.rs"]
mod compression;
mod config;
mod connection;
mod event;
mod input;
mod masking_keys;
mod message;
mod pools;
mod proof;
mod publication;
mod queueing;
mod ready;
mod receiver;
mod sender;
mod stage;
mod state;
mod timer;
mod transmit;

pub use assembler::ReceivePools;
pub use batch::BatchOutcome;
#[cfg(feature = "net")]
pub(crate) use compression::{
    Agreement, AnswerError as CompressionError, keys as compression_keys,
};
pub use config::{Config, ConfigError, Delivery, Heartbeat, Lifetime, OverflowPolicy};
pub use connection::{Connection, Events};
pub use event::{Chunk, Event, Failure};
pub use input::Input;
pub use message::{DropReason, Part, PreparedMessage, SendOutcome};
#[cfg(feature = "net")]
pub(crate) use pools::Contexts;
pub use pools::{Pools, PoolsInUse, SendPools};
pub use proof::Proof;
#[cfg(feature = "net")]
pub(crate) use publication::{Publication, Receipt, Route};
pub use receiver::Receiver;
pub use sender::Sender;
pub use state::{CloseCause, CloseSummary, Initiator};
pub use timer::Moment;
pub use transmit::{NoSink, Sink, Transmit};
