//! How a loop parts from its connections, to the millisecond, on the simulated network: drains
//! spread over a window, rebalancing, lifetimes.
#![cfg(feature = "net")]
#![allow(dead_code, missing_docs)]

#[path = "engine_drain/dialled.rs"]
mod dialled;
#[path = "engine_drain/lifetimes.rs"]
mod lifetimes;
#[path = "engine_drain/newcomers.rs"]
mod newcomers;
#[path = "engine_drain/rebalancing.rs"]
mod rebalancing;
#[path = "engine_drain/reports.rs"]
mod reports;
#[path = "engine_drain/watch.rs"]
mod watch;
#[path = "engine_drain/window.rs"]
mod window;

#[path = "support/layer_bed.rs"]
mod layer_bed;
#[path = "support/naive.rs"]
mod naive;
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
#[path = "support/sim_server.rs"]
mod sim_server;
#[path = "support/sim_world.rs"]
mod sim_world;
