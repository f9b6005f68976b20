//! Memory pressure: what a loop sees of it and does about it, exactly, on the simulated network.
#![cfg(feature = "net")]
#![allow(dead_code, missing_docs)]

#[path = "engine_pressure/bed.rs"]
mod bed;
#[path = "engine_pressure/charges.rs"]
mod charges;
#[path = "engine_pressure/closing.rs"]
mod closing;
#[cfg(feature = "deflate")]
#[path = "engine_pressure/contexts.rs"]
mod contexts;
#[path = "engine_pressure/floods.rs"]
mod floods;
#[path = "engine_pressure/holding.rs"]
mod holding;
#[path = "engine_pressure/looking.rs"]
mod looking;
#[path = "engine_pressure/shared.rs"]
mod shared;

#[cfg(feature = "deflate")]
#[path = "support/deflated.rs"]
mod deflated;
#[path = "support/made_up_memory.rs"]
mod made_up_memory;
#[path = "support/rng.rs"]
mod rng;
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
