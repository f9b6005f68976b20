//! What every fault of time, network and handler must get, exactly, on the simulated network.
#![cfg(feature = "net")]
#![allow(dead_code, missing_docs)]

#[path = "engine_faults/batches.rs"]
mod batches;
#[path = "engine_faults/capacity.rs"]
mod capacity;
#[cfg(feature = "deflate")]
#[path = "engine_faults/compression.rs"]
mod compression;
#[path = "engine_faults/ends.rs"]
mod ends;
#[path = "engine_faults/errors.rs"]
mod errors;
#[path = "engine_faults/flow.rs"]
mod flow;
#[path = "engine_faults/handler.rs"]
mod handler;
#[path = "engine_faults/handshake.rs"]
mod handshake;
#[path = "engine_faults/leaks.rs"]
mod leaks;
#[path = "engine_faults/proxied.rs"]
mod proxied;
#[path = "engine_faults/settings.rs"]
mod settings;
#[path = "engine_faults/time.rs"]
mod time;

#[cfg(feature = "deflate")]
#[path = "support/deflated.rs"]
mod deflated;
#[path = "support/sim_bed.rs"]
mod sim_bed;
#[path = "support/sim_errno.rs"]
mod sim_errno;
#[path = "support/sim_link.rs"]
mod sim_link;
#[path = "support/sim_net.rs"]
mod sim_net;
#[path = "support/sim_peer.rs"]
mod sim_peer;
#[path = "support/sim_world.rs"]
mod sim_world;
