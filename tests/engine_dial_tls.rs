//! Connections that the loop dials over TLS, to a server of rustls on the simulated network.
#![cfg(feature = "tls")]
#![allow(dead_code, missing_docs)]

#[path = "engine_dial_tls/answers.rs"]
mod answers;
#[path = "engine_dial_tls/bed.rs"]
mod bed;
#[path = "engine_dial_tls/bounds.rs"]
mod bounds;
#[path = "engine_dial_tls/ends.rs"]
mod ends;
#[path = "engine_dial_tls/handshake.rs"]
mod handshake;
#[path = "engine_dial_tls/ways.rs"]
mod ways;

#[path = "support/client_bed.rs"]
mod client_bed;
#[path = "support/naive.rs"]
mod naive;
#[path = "support/sim_bed.rs"]
mod sim_bed;
#[path = "support/sim_errno.rs"]
mod sim_errno;
#[path = "support/sim_host.rs"]
mod sim_host;
#[path = "support/sim_link.rs"]
mod sim_link;
#[path = "support/sim_net.rs"]
mod sim_net;
#[path = "support/sim_peer.rs"]
mod sim_peer;
#[path = "support/sim_poll.rs"]
mod sim_poll;
#[path = "support/sim_server.rs"]
mod sim_server;
#[path = "support/sim_world.rs"]
mod sim_world;
#[path = "support/tls_peer.rs"]
mod tls_peer;
#[path = "support/tls_records.rs"]
mod tls_records;
