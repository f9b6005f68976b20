//! The client role: policies that a loop consults about the connections it dials.

mod backoff;
#[allow(dead_code, reason = "the driver uses it")]
mod balance;
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
mod pool;
mod reconnect;
mod resolver;
mod retry_after;
mod settings;

pub use backoff::{Jitter, Reconnect};
pub use calling::{ClientStats, Submitted};
pub use clients::{ClientId, Clients, Owner};
pub use handler::{ClientHandler, Undecodable};
pub use layer::ClientLayer;
pub use outage::{Outage, OutagePolicy, Unsent, UnsentReason};
pub use reconnect::{ClientChange, ClientState, StopReason};
pub use resolver::{DnsSettings, Resolver, SystemResolver};
pub use settings::{ClientBuilder, ClientError, ClientSettings};

/// A client.
pub struct Client;

impl Client {
    /// Describes a server to be called: by `ws://`, `wss://`, or `ws+unix:` with the path of a
    /// socket.
    pub fn builder(url: &str) -> ClientBuilder {
        ClientBuilder::new(url)
    }
}
