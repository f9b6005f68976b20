//! Topics on the simulated network: who gets what, in how many writes, and what becomes of those who
//! do not keep up.
#![cfg(feature = "net")]
#![allow(dead_code, missing_docs)]

#[path = "engine_topics/bed.rs"]
mod bed;
#[path = "engine_topics/callbacks.rs"]
mod callbacks;
#[cfg(feature = "deflate")]
#[path = "engine_topics/compressed.rs"]
mod compressed;
#[path = "engine_topics/loops.rs"]
mod loops;
#[path = "engine_topics/publishing.rs"]
mod publishing;
#[path = "engine_topics/slow.rs"]
mod slow;

#[cfg(feature = "deflate")]
#[path = "support/deflated.rs"]
mod deflated;
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
