//! corewire: an RFC 6455 WebSocket engine.
//!
//! It comes in two layers. [`Connection`] is the protocol without I/O: bytes and instants go in,
//! events, bytes and deadlines come out. With the feature `net`, [`Server`] and [`Reactor`] put a
//! single-threaded event loop over mio around it, one for each core, and call a [`Handler`].
//! With the feature `tls` it speaks `wss://`.
//!
//! The same loop calls servers. [`Client`] describes one; a [`ClientLayer`] around a [`ClientHandler`]
//! keeps connections to it, reconnects, keeps what is sent meanwhile, and lends connections out of
//! [`Pool`]s, beside a server or alone. Programs without a loop have [`Client`] and [`PoolHandle`], whose
//! calls block.
//!
//! # A server
#![cfg_attr(feature = "net", doc = "```no_run")]
#![cfg_attr(not(feature = "net"), doc = "```text")]
//! use corewire::{Context, Handler, Message, Server, ServerError};
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     type Data = ();
//!
//!     fn on_message(&mut self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
//!         let _ = ctx.send(message);
//!     }
//! }
//!
//! fn main() -> Result<(), ServerError> {
//!     Server::builder().listen(([127, 0, 0, 1], 9001)).build(|_shard| Echo)?.run()?;
//!     Ok(())
//! }
//! ```
//!
//! # A client
#![cfg_attr(feature = "net", doc = "```no_run")]
#![cfg_attr(not(feature = "net"), doc = "```text")]
//! use corewire::{
//!     Client, ClientHandler, ClientLayer, Clients, Context, Message, Undecodable,
//! };
//!
//! struct Follower;
//!
//! impl ClientHandler for Follower {
//!     type Data = ();
//!
//!     fn on_open(&mut self, ctx: &mut Context<'_, ()>, _: &mut Clients) {
//!         let _ = ctx.send_text("subscribe");
//!     }
//!
//!     fn on_message(
//!         &mut self,
//!         _: &mut Context<'_, ()>,
//!         _: &mut Clients,
//!         message: Message<'_>,
//!     ) -> Result<(), Undecodable> {
//!         println!("{message:?}");
//!         Ok(())
//!     }
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let mut layer = ClientLayer::new(Follower);
//!     layer.clients().add(Client::builder("ws://127.0.0.1:9001/feed").build()?);
//!     Ok(layer.reactor()?.run()?)
//! }
//! ```
//!
//! # The protocol alone
//! ```
//! use corewire::{Config, Connection, LoopLimits, Pools, Role};
//! use std::{io::IoSlice, time::Instant};
//!
//! let now = Instant::now();
//! let mut pools = Pools::new(&LoopLimits::default(), now, [0; 32]);
//! let mut connection = Connection::new(Config::new(Role::Server), now, &pools);
//! // A masked Ping without payload; the engine answers it.
//! let mut input = *b"\x89\x80\x37\xfa\x21\x3d";
//! let mut events = connection.handle_input(&mut input, now, &mut pools);
//! while let Some((_event, _transmit)) = events.next() {}
//! let mut slices = [IoSlice::new(&[]); 4];
//! assert_eq!(connection.poll_transmit(&pools, &mut slices), 1);
//! assert_eq!(*slices[0], *b"\x8a\x00");
//! ```
//! The opening handshake for this layer is in [`opening`].
//!
//! # Calling order
//! For each connection the loop calls [`Handler::on_request`], once it was accepted exactly one
//! [`Handler::on_open`], then messages, pings, pongs and drains, then exactly one
//! [`Handler::on_close`]. No callback is entered from inside another one or from inside a send. A
//! callback must not block: while it does, its whole loop stands. The order for the layer without
//! I/O stands at [`Connection`].
//!
//! # Ownership
//! Received payloads are lent for the callback, or until the next event; copy what must live
//! longer. Slices that are sent are the caller's again when the send returns; `Bytes` and
//! [`PreparedMessage`] may be queued by reference instead of being copied. One handler serves all
//! connections of its loop; what is kept for each is [`Handler::Data`]. A [`ConnectionId`] never
//! comes to mean another connection.
//!
//! # Back-pressure
//! Each send returns a [`SendOutcome`]: `Sent`, `Queued` behind what the kernel has refused, or
//! `Dropped` with the reason. Above [`ConnectionLimits::high_water_bytes`] the loop stops reading
//! from that peer; at the low-water mark it goes on, and [`Handler::on_drain`] tells that sending
//! may. At [`ConnectionLimits::backpressure_bytes_max`] messages are refused, and by
//! [`Config::on_overflow`] the connection fails or lives. Every other bound is in [`limits`].
//!
//! # Deployment
//! A [`Server`] has one loop for each core unless told otherwise, and they share nothing; other
//! threads talk to them through a [`ServerHandle`]. Each connection takes a descriptor. The
//! heartbeat pings every 30 s, below the 60 s after which common proxies drop a silent connection.
//! By default browsers may connect from pages of the same origin only; see [`Origins`].
//!
//! # Features
//! - `net`, on by default: the loop and the server, on 64-bit Unix. Without it the crate is the
//!   protocol alone, on any target.
//! - `deflate`: permessage-deflate (RFC 7692), see `Compression`. Off until a configuration says
//!   otherwise.
//! - `tls`: `wss://` by rustls, see `Tls` and `TlsClient`. A listener speaks it when it is given
//!   certificates, a client when its URL says so.
// Without the loop its names in the prose above lead nowhere.
#![cfg_attr(not(feature = "net"), allow(rustdoc::broken_intra_doc_links))]
#![deny(unsafe_code, unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]
#![deny(clippy::unwrap_used)]
// Without the loop nobody calls the seams that are made for it.
#![cfg_attr(not(feature = "net"), allow(dead_code, unused_imports))]

#[cfg(all(feature = "net", not(unix)))]
compile_error!(
    "the feature `net` needs a Unix: elsewhere use `default-features = false`, which is the \
     protocol without I/O"
);
#[cfg(all(feature = "net", not(target_pointer_width = "64")))]
compile_error!("the feature `net` needs a 64-bit target: a connection's name is a poll's token");

pub mod limits;
pub mod metrics;

mod collections;
#[cfg(feature = "deflate")]
mod deflate;
mod handshake;
mod http;
mod limit;
mod protocol;
mod pubsub;
mod wire;

#[cfg(feature = "net")]
mod client;
#[cfg(feature = "net")]
mod reactor;
#[cfg(feature = "net")]
mod server;

#[cfg(feature = "net")]
pub use client::{
    Acquired, Balance, Batch, BatchError, BatchForm, BatchSize, BatchStats, Client, ClientBuilder,
    ClientChange, ClientError, ClientEvent, ClientHandler, ClientId, ClientLayer, ClientReceiver,
    ClientSender, ClientSettings, ClientState, ClientStats, Clients, CloseError, ConnectError,
    DnsSettings, Ejection, EndCause, Ended, EndpointError, EndpointId, EndpointState,
    EndpointStats, Envelope, EnvelopeError, EnvelopeMember, EnvelopeMessages, Eviction, FlowStats,
    FlushError, HealthCheck, Jitter, JsonError, LeakReport, LeakVerdict, Lease, LeaseError,
    LeaseTicket, LoadSettings, LoadSource, MemberState, Messages, Outage, OutagePolicy, Outcome,
    OwnedMessage, Owner, PayloadError, Pool, PoolBuilder, PoolConfigError, PoolError, PoolEvent,
    PoolHandle, PoolId, PoolSettings, PoolStats, PooledClient, Queues, Rate, RatePolicy, RateStats,
    Reconnect, Resolver, SendError, Sizing, StartError, StopReason, Submitted, SystemLoad,
    SystemResolver, Undecodable, Unsent, UnsentReason,
};
#[cfg(feature = "deflate")]
pub use deflate::{Compression, CompressionMode, InvalidCompression};
pub use handshake::{
    Accept, AllowList, ClientAddress, ForwardedClient, ForwardedField, Forwarding, HandshakeError,
    InvalidHeader, InvalidNetwork, InvalidOrigin, InvalidProxy, Negotiated, Origins, Proxy,
    Request, Response, RouteError, Routes, TrustedNetwork, TrustedProxies, TunnelError,
};
pub use limit::{
    MemorySample, PressureChange, PressureLevel, PressureRecord, PressureSnapshot,
    PressureThresholds, Released,
};
pub use limits::{ConnectionLimits, HandshakeLimits, LoopLimits, TopicLimits};
pub use protocol::{
    BatchOutcome, Chunk, CloseCause, CloseSummary, Config, ConfigError, Connection, Delivery,
    DropReason, Event, Events, Failure, Heartbeat, Initiator, Lifetime, NoSink, OverflowPolicy,
    Part, Pools, PoolsInUse, PreparedMessage, Proof, SendOutcome, Sink, Transmit,
};
pub use pubsub::{NameError, SlowPolicy, SubscribeError, TopicChange, TopicSettings};
#[cfg(feature = "net")]
pub use reactor::{
    Accepted, Adoption, Arrival, Buffer, Charge, Charges, Command, ConnectionId, Context,
    CountersError, Decision, DialError, DialPhase, DialSettings, DialTimeouts, Drain, DrainReport,
    Dropped, Endpoint, Handle, Handler, InheritedSocket, IpStack, ListenOptions, ListenerSettings,
    Listening, Loop, MemorySource, Message, MioNet, Net, NetKey, PanicPolicy, Peer, PeerAddress,
    PostError, PressureReactions, PressureSettings, PublishError, Published, Reactor,
    ReactorBuilder, ReactorConfig, Readiness, Received, Refusal, RemoteAddress, Route, ShardIndex,
    SocketOptions, SystemMemory, Ticket, TimerId, TopicMessage, UnixEndpoint, Usage, Verdict, Wait,
    Wake,
};
#[cfg(feature = "tls")]
pub use reactor::{Tls, TlsBuilder, TlsClient, TlsClientBuilder, TlsError, TlsFacts, TlsVersion};
#[cfg(feature = "net")]
pub use server::{Server, ServerBuilder, ServerError, ServerHandle, Spread};
pub use wire::{CloseCode, CloseFrame, InvalidClose, Opcode, ProtocolError, Role};

/// The opening handshake (RFC 6455 §4) in its parts, for those who bring their own I/O.
///
/// Both ends find the end of a head with a [`HeadScanner`](opening::HeadScanner) while it arrives.
/// A server then goes [`parse_request`](opening::parse_request),
/// [`inspect`](opening::inspect), [`write_accept`](opening::write_accept); a client writes a
/// [`ClientRequest`](opening::ClientRequest) and goes
/// [`parse_response`](opening::parse_response), [`verify`](opening::verify). Behind it a
/// [`Connection`] takes over. A proxy may have put a [`ProxyHeader`](opening::ProxyHeader) in
/// front; a [`Tunnel`](opening::Tunnel) leads a client through one.
pub mod opening {
    #[cfg(feature = "deflate")]
    pub use crate::deflate::{Agreement, AnswerError, Direction, Offer};
    pub use crate::handshake::{
        AcceptKey, BodyAllowed, ClientHandshakeError, ClientRequest, Expectation, Inspected,
        NegotiatedExtension, Persistence, Proxied, ProxyError, ProxyHeader, SubprotocolNotOffered,
        Tunnel, TunnelProgress, Upgrade, inspect, verify, write_accept,
    };
    pub use crate::http::{
        Authority, Extension, FieldStorage, Fields, HeadError, HeadLimits, HeadScanner, Host,
        Malformation, NotSingle, Param, Params, RequestHead, ResponseHead, Scheme, UnixSocket,
        UriError, Version, WebSocketUri, parse_request, parse_response,
    };
}

/// The private floors, for the fuzz targets and the micro benches alone; not part of the API.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing {
    /// Floor 0: one frame.
    pub mod wire {
        pub use crate::wire::*;
    }
    /// Floor 0: the sliver of HTTP.
    pub mod http {
        pub use crate::http::*;
    }
    /// Floor 0: containers.
    pub mod collections {
        pub use crate::collections::*;
    }
    /// Floor 1: the opening handshake.
    pub mod handshake {
        pub use crate::handshake::*;
    }
    /// Floor 1: compression.
    #[cfg(feature = "deflate")]
    pub mod deflate {
        pub use crate::deflate::*;
    }
    /// Floor 1: topics and their subscribers.
    pub mod pubsub {
        pub use crate::pubsub::*;
    }
    /// Floor 2: one connection.
    pub mod protocol {
        pub use crate::protocol::*;
    }
    /// Floor 4: what clients read of others.
    #[cfg(feature = "net")]
    pub mod client {
        pub use crate::client::envelope::*;
        pub use crate::client::json::*;
    }
}

#[cfg(all(doctest, feature = "net"))]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(all(doctest, feature = "net", feature = "deflate"))]
#[doc = include_str!("../docs/guide.md")]
struct Guide;
