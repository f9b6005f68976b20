//! TLS between the loop and the network, against a client of rustls on the simulated network.
#![cfg(feature = "tls")]
#![allow(dead_code, missing_docs)]

#[path = "engine_tls/bounds.rs"]
mod bounds;
#[path = "engine_tls/certificates.rs"]
mod certificates;
#[path = "engine_tls/ends.rs"]
mod ends;
#[path = "engine_tls/facts.rs"]
mod facts;
#[path = "engine_tls/goodbyes.rs"]
mod goodbyes;
#[path = "engine_tls/handshake.rs"]
mod handshake;
#[path = "engine_tls/hostile.rs"]
mod hostile;
#[path = "engine_tls/messages.rs"]
mod messages;
#[path = "engine_tls/proxied.rs"]
mod proxied;
#[path = "engine_tls/simulation.rs"]
mod simulation;
#[path = "engine_tls/slow_readers.rs"]
mod slow_readers;
#[path = "engine_tls/subscribing.rs"]
mod subscribing;
#[path = "engine_tls/turns.rs"]
mod turns;

#[path = "requests/bed.rs"]
mod desk;
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
#[path = "support/sim_world.rs"]
mod sim_world;
#[path = "support/tls_peer.rs"]
mod tls_peer;
#[path = "support/tls_records.rs"]
mod tls_records;
