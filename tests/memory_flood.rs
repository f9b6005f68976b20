//! A server under a budget of memory, and clients that would take many times as much, on real sockets
//! and in processes apart: what is resident is the server's own.
#![cfg(all(feature = "net", target_os = "linux"))]
#![allow(dead_code, missing_docs)]

#[path = "memory_flood/bad.rs"]
mod bad;
#[path = "memory_flood/good.rs"]
mod good;
#[path = "memory_flood/server.rs"]
mod server;

#[path = "support/sim_peer.rs"]
mod sim_peer;

use std::thread;
use std::time::Duration;

use bad::Flood;
use good::Good;
use server::Served;

const MIB: u64 = 1 << 20;
const BUDGET: u64 = 256 * MIB;

/// 256 messages of 16 MiB of which half is sent, and 64 peers that want echoes and read none.
#[test]
fn flood_of_two_gibibytes_is_held_within_the_budget_and_the_others_live_on() {
    let served = Served::start(BUDGET, 1);
    let good = Good::start(served.address, 20);
    thread::sleep(Duration::from_secs(1));
    let before = served.rss_bytes();
    let flood = Flood::start(served.address, 256, 64);
    thread::sleep(Duration::from_secs(12));
    let (peak, report) = (served.peak_bytes(), flood.stop());
    let after_flood = served.rss_bytes();
    thread::sleep(Duration::from_secs(10));
    let after = served.rss_bytes();
    let slowest = good.stop();
    let levels = served.stop();
    println!(
        "{} MiB offered, {} MiB taken, {} closed, {} refused; resident: {} KiB before, {} KiB at \
         most, {} KiB when it ended, {} KiB ten seconds later; slowest echo {slowest:?}\n{levels}",
        report.offered_bytes / MIB,
        report.taken_bytes / MIB,
        report.closed,
        report.refused,
        before >> 10,
        peak >> 10,
        after_flood >> 10,
        after >> 10,
    );
    assert!(report.offered_bytes >= 2048 * MIB, "{report:?}");
    assert!(levels.contains("-> Critical") || levels.contains("-> High"), "{levels}");
    assert!(levels.trim_end().lines().last().unwrap().contains("-> Normal"), "{levels}");
    assert!(peak <= BUDGET + BUDGET / 10, "{} MiB", peak / MIB);
    assert!(after <= before + before / 5, "{before} before, {after} after");
}
