//! Connections that the loop dials, on the simulated network: what every answer and silence of a
//! server must get, exactly.
#![cfg(feature = "net")]
#![allow(dead_code, missing_docs)]

#[path = "engine_dial/answers.rs"]
mod answers;
#[path = "engine_dial/bounds.rs"]
mod bounds;
#[path = "engine_dial/connecting.rs"]
mod connecting;
#[path = "engine_dial/heads.rs"]
mod heads;
#[path = "engine_dial/loops.rs"]
mod loops;
#[path = "engine_dial/outages.rs"]
mod outages;
#[path = "engine_dial/refusals.rs"]
mod refusals;
#[path = "engine_dial/stages.rs"]
mod stages;
#[path = "engine_dial/subscribing.rs"]
mod subscribing;
#[path = "engine_dial/tunnels.rs"]
mod tunnels;

#[path = "support/client_bed.rs"]
mod client_bed;
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
