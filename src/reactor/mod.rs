//! The event loop: the only module that names mio, socket2 and rustls.
//!
//! One [`Reactor`] per core: it accepts, shakes hands, reads, dispatches, writes and keeps time.
//!
//! ```text
//! turn:  poll ─► note readiness ─► commands ─► accept ─► serve ─► deadlines ─► flush ─► reap
//!                (output goes on)                         │ read, handle, call back, flush
//! ```

mod admission;
mod adopt;
mod alarm;
mod builder;
mod command;
mod configs;
mod context;
mod counting;
mod deferral;
mod dial;
mod drain;
mod endpoint;
mod event_loop;
mod flush;
mod handler;
mod handshake_queue;
mod id;
mod lifetime;
mod listener;
mod load;
mod mailbox;
mod memory;
mod mio_net;
mod net;
mod pace;
mod proxied;
mod publish;
mod read;
mod remote;
mod settings;
mod shared;
mod siblings;
mod slot;
mod socket;
mod subprotocols;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
mod tls;
mod transport;
mod turn;
mod upgrade;
mod usage;

pub use adopt::Adoption;
pub use builder::ReactorBuilder;
pub use command::{Command, Handle, PostError};
pub use context::{Context, Peer};
pub use counting::CountersError;
pub(crate) use counting::counters_of;
pub use deferral::{Decision, Ticket};
pub use dial::{DialError, DialPhase, DialSettings, DialTimeouts, Refusal};
pub use drain::{Drain, DrainReport};
pub use endpoint::{Endpoint, InheritedSocket, PeerAddress, UnixEndpoint};
pub use event_loop::{Loop, TimerId};
pub use handler::{Arrival, Handler, Message, Verdict};
pub use id::{ConnectionId, ShardIndex};
pub(crate) use listener::AcceptError;
pub use listener::{ListenerSettings, Route};
pub(crate) use load::Room;
pub(crate) use memory::Board;
pub use memory::{
    Charge, Charges, MemorySource, PressureReactions, PressureSettings, SystemMemory,
};
pub use mio_net::MioNet;
pub use net::{
    Accepted, Buffer, IpStack, ListenOptions, Listening, Net, NetKey, Readiness, Received,
    SocketOptions, Wait, Wake,
};
pub use publish::{Dropped, PublishError, Published};
pub use remote::RemoteAddress;
pub use settings::{PanicPolicy, ReactorConfig};
pub use siblings::TopicMessage;
pub use tls::Tls;
#[cfg(feature = "tls")]
pub use tls::{TlsBuilder, TlsClient, TlsClientBuilder, TlsError, TlsFacts, TlsVersion};
pub use turn::Reactor;
pub use usage::Usage;
