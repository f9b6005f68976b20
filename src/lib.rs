//! corewire: an RFC 6455 WebSocket engine.
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
mod handshake;
mod http;
mod protocol;
mod wire;

#[cfg(feature = "net")]
mod reactor;
#[cfg(feature = "net")]
mod server;

pub use handshake::{
    Accept, AllowList, HandshakeError, InvalidHeader, InvalidOrigin, Negotiated, Origins, Request,
    Response,
};
pub use limits::{ConnectionLimits, HandshakeLimits, LoopLimits};
pub use protocol::{
    Chunk, CloseCause, CloseSummary, Config, Connection, Delivery, DropReason, Event, Events,
    Failure, Heartbeat, Initiator, NoSink, OverflowPolicy, Part, Pools, PoolsInUse,
    PreparedMessage, SendOutcome, Sink, Transmit,
};
#[cfg(feature = "net")]
pub use reactor::{
    Accepted, Arrival, Buffer, Command, ConnectionId, Context, Handle, Handler, ListenOptions,
    ListenerSettings, Listening, Message, MioNet, Net, NetKey, PanicPolicy, Peer, PostError,
    Reactor, ReactorBuilder, ReactorConfig, Readiness, Received, ReceivedInto, ShardIndex,
    SocketOptions, Usage, Verdict, Wake,
};
#[cfg(feature = "net")]
pub use server::{Server, ServerBuilder, ServerError, ServerHandle};
pub use wire::{CloseCode, CloseFrame, InvalidClose, Opcode, ProtocolError, Role};

/// The opening handshake (RFC 6455 §4) in its parts, for those who bring their own I/O.
///
/// Both ends find the end of a head with a [`HeadScanner`](opening::HeadScanner) while it arrives.
/// A server then goes [`parse_request`](opening::parse_request),
/// [`inspect`](opening::inspect), [`write_accept`](opening::write_accept); a client writes a
/// [`ClientRequest`](opening::ClientRequest) and goes
/// [`parse_response`](opening::parse_response), [`verify`](opening::verify). Behind it a
/// [`Connection`] takes over.
pub mod opening {
    pub use crate::handshake::{
        BodyAllowed, ClientHandshakeError, ClientRequest, Expectation, Inspected,
        NegotiatedExtension, Persistence, SubprotocolNotOffered, Upgrade, inspect, verify,
        write_accept,
    };
    pub use crate::http::{
        FieldStorage, Fields, HeadError, HeadLimits, HeadScanner, Malformation, RequestHead,
        ResponseHead, Scheme, UriError, Version, WebSocketUri, parse_request, parse_response,
    };
}

/// The private floors, for the fuzz targets alone; not part of the API.
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
    /// Floor 2: one connection.
    pub mod protocol {
        pub use crate::protocol::*;
    }
}
