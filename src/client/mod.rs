//! The client role: policies that a loop consults about the connections it dials.

mod backlog;
mod backoff;
mod balance;
mod batch;
mod blocking;
mod calling;
mod cause;
mod clients;
mod connector;
mod deadline;
mod dispatch;
mod drain;
pub(crate) mod envelope;
mod event;
mod handler;
pub(crate) mod json;
mod layer;
mod lease;
mod leased;
mod load;
mod names;
mod outage;
mod outlet;
mod pace;
mod pool;
mod pooling;
mod pools;
mod rate;
mod reconnect;
mod resolver;
mod retry_after;
mod roll;
mod settings;

pub use backoff::{Jitter, Reconnect};
pub use balance::{Balance, Ejection, EndpointId, EndpointState, EndpointStats, HealthCheck};
pub use batch::{Batch, BatchError, BatchForm, BatchSize, BatchStats};
pub use blocking::{
    Client, ClientEvent, ClientReceiver, ClientSender, CloseError, ConnectError, EndCause, Ended,
    FlushError, LeaseError, Messages, OwnedMessage, PoolEvent, PoolHandle, PooledClient, Queues,
    SendError, StartError,
};
pub use calling::{ClientStats, Submitted};
pub use clients::{ClientId, Clients, Owner};
pub use envelope::{Envelope, EnvelopeError, EnvelopeMember, EnvelopeMessages, PayloadError};
pub use handler::{ClientHandler, Undecodable};
pub use json::JsonError;
pub use layer::ClientLayer;
pub use lease::{Acquired, LeakReport, LeakVerdict, Lease, LeaseTicket};
pub use load::{LoadSettings, LoadSource, SystemLoad};
pub use outage::{Outage, OutagePolicy, Unsent, UnsentReason};
pub use outlet::FlowStats;
pub use pool::{
    Eviction, MemberState, Outcome, Pool, PoolBuilder, PoolConfigError, PoolError, PoolSettings,
    PoolStats, Sizing,
};
pub use pools::{EndpointError, PoolId};
pub use rate::{Rate, RatePolicy, RateStats};
pub use reconnect::{ClientChange, ClientState, StopReason};
pub use resolver::{DnsSettings, Resolver, SystemResolver};
pub use settings::{ClientBuilder, ClientError, ClientSettings};
