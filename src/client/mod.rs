//! The client role: policies that a loop consults about the connections it dials.

mod backoff;
#[allow(dead_code, reason = "the driver uses it")]
mod balance;
mod blocking;
mod calling;
mod cause;
mod clients;
mod connector;
mod deadline;
mod event;
mod handler;
mod layer;
#[allow(dead_code, reason = "the driver uses it")]
mod load;
mod names;
mod outage;
mod reconnect;
mod resolver;
mod settings;

pub use backoff::{Jitter, Reconnect};
pub use blocking::{
    Client, ClientEvent, ClientReceiver, ClientSender, CloseError, ConnectError, EndCause, Ended,
    FlushError, Messages, OwnedMessage, Queues, SendError,
};
pub use calling::{ClientStats, Submitted};
pub use clients::{ClientId, Clients, Owner};
pub use handler::{ClientHandler, Undecodable};
pub use layer::ClientLayer;
pub use outage::{Outage, OutagePolicy, Unsent, UnsentReason};
pub use reconnect::{ClientChange, ClientState, StopReason};
pub use resolver::{DnsSettings, Resolver, SystemResolver};
pub use settings::{ClientBuilder, ClientError, ClientSettings};
