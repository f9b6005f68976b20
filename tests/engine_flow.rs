//! Batches, rates and what waits for a connection, on a loop over the simulated network: what leaves
//! in which write and when, exactly, and that no message is lost, doubled or overtaken.
#![cfg(feature = "net")]
#![allow(dead_code, missing_docs)]

#[path = "engine_flow/accounts.rs"]
mod accounts;
#[path = "engine_flow/batches.rs"]
mod batches;
#[path = "engine_flow/bed.rs"]
mod bed;
#[path = "engine_flow/envelopes.rs"]
mod envelopes;
#[path = "engine_flow/leases.rs"]
mod leases;
#[path = "engine_flow/losses.rs"]
mod losses;
#[path = "engine_flow/pressure.rs"]
mod pressure;
#[path = "engine_flow/rates.rs"]
mod rates;
#[path = "engine_flow/room.rs"]
mod room;

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
