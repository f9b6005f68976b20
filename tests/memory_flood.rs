//! A server under a budget of memory, and clients that would take many times as much, on real sockets
//! and in processes apart: what is resident is the server's own.
#![cfg(all(feature = "net", target_os = "linux"))]
#![allow(dead_code, missing_docs)]

#[path = "memory_flood/bad.rs"]
mod bad;
#[path = "memory_flood/cgroup.rs"]
mod cgroup;
#[path = "memory_flood/good.rs"]
mod good;
#[path = "memory_flood/server.rs"]
mod server;

#[path = "support/sim_peer.rs"]
mod sim_peer;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use bad::Flood;
use cgroup::Cgroup;
use good::Good;
use server::Served;

const MIB: u64 = 1 << 20;
const BUDGET: u64 = 256 * MIB;

/// One flood at a time: two would have half the machine each.
static ALONE: Mutex<()> = Mutex::new(());

/// 256 messages of 16 MiB of which half is sent, and 64 peers that want echoes and read none.
fn flood(served: Served) {
    let good = Good::start(served.address, 20);
    thread::sleep(Duration::from_secs(1));
    let before = served.rss_bytes();
    let flood = Flood::start(served.address, 256, 64);
    thread::sleep(Duration::from_secs(8));
    let (peak, report) = (served.peak_bytes(), flood.stop());
    let after_flood = served.rss_bytes();
    let ended = Instant::now();
    let patience = Duration::from_secs(if is_machine_busy() { 40 } else { 10 });
    while served.rss_bytes() > before + before / 5 && ended.elapsed() < patience {
        thread::sleep(Duration::from_millis(100));
    }
    let (after, time) = (served.rss_bytes(), ended.elapsed());
    let is_normal = |levels: &str| levels.lines().last().is_some_and(|it| it.contains("-> Normal"));
    for _ in 0..100 {
        if is_normal(&served.said()) {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    let slowest = good.stop();
    let levels = served.said();
    drop(served);
    println!(
        "{} MiB offered, {} MiB taken, {} closed, {} refused; resident: {} KiB before, {} KiB at \
         most, {} KiB when it ended, {} KiB after {time:?}; slowest echo {slowest:?}\n{levels}",
        report.offered_bytes / MIB,
        report.taken_bytes / MIB,
        report.closed,
        report.refused,
        before >> 10,
        peak >> 10,
        after_flood >> 10,
        after >> 10,
    );
    assert!(report.offered_bytes >= 2048 * MIB && report.taken_bytes > BUDGET, "{report:?}");
    // Where looks are late it may be past High when it is seen.
    let is_seen = levels.contains("-> High at ") || levels.contains("-> Critical at ");
    assert!(is_seen && levels.contains("of 256 MiB"), "{levels}");
    assert!(is_normal(&levels), "{levels}");
    assert!(peak <= BUDGET + BUDGET / 10, "{} MiB", peak / MIB);
    assert!(after <= before + before / 5, "{before} before, {after} after");
}

/// Whether others want so much of it that a server gets a part of a core.
fn is_machine_busy() -> bool {
    let text = fs::read_to_string("/proc/loadavg").unwrap();
    let load: f64 = text.split(' ').next().unwrap().parse().unwrap();
    load > 2.0 * thread::available_parallelism().unwrap().get() as f64
}

#[test]
fn flood_of_two_gibibytes_is_held_within_the_budget_and_the_others_live_on() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    flood(Served::start(BUDGET, None));
}

/// The server is told nothing: the kernel would kill it at the limit.
#[test]
fn flood_of_two_gibibytes_is_held_within_the_limit_of_a_cgroup() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    match Cgroup::new(BUDGET) {
        Ok(cgroup) => flood(Served::start(0, Some(&cgroup))),
        // Whoever runs the tests at home may not be allowed to.
        Err(error) if env::var_os("CI").is_none() => {
            println!("not tested, there is no cgroup to be had: {error}");
        }
        Err(error) => panic!("there is no cgroup to be had: {error}"),
    }
}
