//! Clients on a loop, on the simulated network and by its clock: when they dial again, what becomes
//! of what they were given, and what the application hears of it.
#![cfg(feature = "net")]
#![allow(dead_code, missing_docs)]

#[path = "engine_client/crowd.rs"]
mod crowd;
#[path = "engine_client/names.rs"]
mod names;
#[path = "engine_client/offline.rs"]
mod offline;
#[path = "engine_client/orders.rs"]
mod orders;
#[path = "engine_client/panics.rs"]
mod panics;
#[path = "engine_client/pressure.rs"]
mod pressure;
#[path = "engine_client/reconnecting.rs"]
mod reconnecting;
#[path = "engine_client/redirects.rs"]
mod redirects;

#[path = "support/layer_bed.rs"]
mod layer_bed;
#[path = "support/made_up_memory.rs"]
mod made_up_memory;
#[path = "support/naive.rs"]
mod naive;
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
