//! Pools on the loop, on the simulated network: what is handed out, checked, revoked, grown and
//! given up, to the exact time, and that nothing is lost whatever happens.
#![cfg(feature = "net")]
#![allow(dead_code, missing_docs)]

#[path = "engine_pool/back_end.rs"]
mod back_end;
#[path = "engine_pool/bed.rs"]
mod bed;
#[path = "engine_pool/callbacks.rs"]
mod callbacks;
#[path = "engine_pool/endings.rs"]
mod endings;
#[path = "engine_pool/endpoints.rs"]
mod endpoints;
#[path = "engine_pool/leaks.rs"]
mod leaks;
#[path = "engine_pool/leasing.rs"]
mod leasing;
#[path = "engine_pool/lives.rs"]
mod lives;
#[path = "engine_pool/loops.rs"]
mod loops;
#[path = "engine_pool/model.rs"]
mod model;
#[path = "engine_pool/pressure.rs"]
mod pressure;
#[path = "engine_pool/sending.rs"]
mod sending;
#[path = "engine_pool/simulation.rs"]
mod simulation;
#[path = "engine_pool/sizing.rs"]
mod sizing;
#[path = "engine_pool/steady.rs"]
mod steady;

#[path = "support/made_up_memory.rs"]
mod made_up_memory;
#[path = "support/naive.rs"]
mod naive;
#[path = "support/rng.rs"]
mod rng;
#[path = "support/sim_errno.rs"]
mod sim_errno;
#[path = "support/sim_host.rs"]
mod sim_host;
#[path = "support/sim_link.rs"]
mod sim_link;
#[path = "support/sim_net.rs"]
mod sim_net;
#[path = "support/sim_poll.rs"]
mod sim_poll;
#[path = "support/sim_server.rs"]
mod sim_server;
#[path = "support/sim_world.rs"]
mod sim_world;
