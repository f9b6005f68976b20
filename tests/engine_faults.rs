//! What every fault of time and resources must get, exactly, on the simulated network.
#![cfg(feature = "net")]
#![allow(dead_code, missing_docs)]

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

use sim_bed::{Bed, read_frames};
use sim_peer::{Frame, TEXT, message};

#[test]
fn an_echo_comes_back() {
    let mut bed = Bed::echo();
    let peer = bed.open();
    peer.write_all(&message(TEXT, b"hello"));
    bed.turn();
    assert_eq!(read_frames(&peer), [Frame::new(TEXT, b"hello")]);
}
