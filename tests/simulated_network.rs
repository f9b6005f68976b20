//! The simulated network itself, asked as a loop asks it: what the tests of connections stand on.
#![cfg(feature = "net")]
#![allow(dead_code, missing_docs)]

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
#[path = "support/sim_world.rs"]
mod sim_world;

#[path = "simulated_network/hosts.rs"]
mod hosts;
#[path = "simulated_network/loops.rs"]
mod loops;

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::time::Duration;

use corewire::{
    Accepted, Endpoint, ListenOptions, Net, NetKey, Readiness, RemoteAddress, SocketOptions, Wait,
};

use sim_net::SimNet;

/// Where no listener stands.
fn far() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 7], 80))
}

fn connect(net: &mut SimNet, to: impl Into<RemoteAddress>, token: u64) -> io::Result<NetKey> {
    net.connect(&to.into(), &SocketOptions::default(), token)
}

fn listen(net: &mut SimNet, at: impl Into<Endpoint>, backlog: u32) -> NetKey {
    let mut options = ListenOptions::default();
    options.backlog = backlog;
    net.listen(&at.into(), &options, 0).expect("nobody listens there").key
}

fn accept(net: &mut SimNet, listener: NetKey, token: u64) -> Accepted {
    net.accept(listener, token).expect("a connection waits")
}

/// What a poll tells that waits so long at most.
fn poll(net: &mut SimNet, at_most: Duration) -> Vec<Readiness> {
    let mut events = Vec::new();
    let wait = match at_most {
        Duration::ZERO => Wait::No,
        Duration::MAX => Wait::Forever,
        wait => Wait::Until(net.now() + wait),
    };
    net.poll(&mut events, wait).expect("polling never fails");
    events
}

fn errno(result: io::Result<impl Sized>) -> i32 {
    let error = result.err().expect("it fails");
    error.raw_os_error().expect("the network speaks in error numbers")
}

fn send(net: &mut SimNet, key: NetKey, bytes: &[u8]) -> io::Result<usize> {
    net.send(key, &[IoSlice::new(bytes)])
}

fn receive(net: &mut SimNet, key: NetKey) -> io::Result<Vec<u8>> {
    let mut received = net.receive(key, &mut [], usize::MAX)?;
    let bytes = received.surplus().to_vec();
    net.give_back(received.buffer);
    Ok(bytes)
}

const fn told(token: u64, what: [u8; 3]) -> Readiness {
    let [readable, writable, hung_up] = what;
    Readiness { token, readable: readable == 1, writable: writable == 1, hung_up: hung_up == 1 }
}

/// Output is possible.
const fn writable(token: u64) -> Readiness {
    told(token, [0, 1, 0])
}

/// It has failed.
const fn failed(token: u64) -> Readiness {
    told(token, [1, 1, 1])
}
