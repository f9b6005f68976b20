//! The event loop: the only module that names mio and socket2.
//!
//! One [`Reactor`] per core: it accepts, shakes hands, reads, dispatches, writes and keeps time.
//!
//! ```text
//! turn:  poll ─► note readiness ─► commands ─► accept ─► serve ─► deadlines ─► flush ─► reap
//!                (output goes on)                         │ read, handle, call back, flush
//! ```

mod adopt;
mod alarm;
mod builder;
mod command;
mod context;
mod endpoint;
mod flush;
mod handler;
mod id;
mod listener;
mod mio_net;
mod net;
mod read;
mod shared;
mod slot;
mod socket;
mod turn;
mod upgrade;

pub use adopt::Adoption;
pub use builder::ReactorBuilder;
pub use command::{Command, Handle, PostError};
pub use context::{Context, Peer};
pub use endpoint::{Endpoint, InheritedSocket, PeerAddress, UnixEndpoint};
pub use handler::{Arrival, Handler, Message, Verdict};
pub use id::{ConnectionId, ShardIndex};
pub use listener::ListenerSettings;
pub use mio_net::MioNet;
pub use net::{
    Accepted, Buffer, IpStack, ListenOptions, Listening, Net, NetKey, Readiness, Received,
    SocketOptions, Wait, Wake,
};
pub use turn::{PanicPolicy, Reactor, ReactorConfig, Usage};
