//! How long the engine and its parts take in memory, beside the competition's public functions.
//!
//! Each bench asserts its answer once before it is timed. `cargo bench` measures, `cargo test` runs
//! every bench once.

#[path = "../endpoint.rs"]
mod endpoint;
mod handshake;
mod header;
mod mask;
#[path = "../material.rs"]
mod material;
#[path = "../memory_net.rs"]
mod memory_net;
mod messages;
#[path = "../parts.rs"]
mod parts;
mod peers;
mod queues;
mod topics;
mod utf8;

use std::time::Duration;

fn main() {
    // What the figures belong to; the benches' names tell the sizes.
    println!("{}, flags `{}`", env!("MICRO_RUSTC"), env!("MICRO_RUSTFLAGS"));
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor.lines().find(|line| line.starts_with("model name"));
    println!("{}", model.unwrap_or("an unknown processor"));
    // Divan's hundred samples are over before the processor has learnt the branches.
    divan::Divan::default().min_time(TIME_MIN).config_with_args().main();
}

const TIME_MIN: Duration = Duration::from_millis(200);
