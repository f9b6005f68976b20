//! Where requests lead and who decides about them: routes, what holds for each of them, and
//! requests that are decided later. On the simulated network.
#![cfg(feature = "net")]
#![allow(dead_code, missing_docs)]

#[path = "requests/bed.rs"]
mod bed;
#[path = "requests/deferred.rs"]
mod deferred;
#[path = "requests/leaving.rs"]
mod leaving;
#[path = "requests/routes.rs"]
mod routes;
#[path = "requests/time.rs"]
mod time;

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
