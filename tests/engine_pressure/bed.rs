//! A loop that looks at a memory which the test has made up.

use std::sync::Arc;
use std::time::Duration;

use corewire::{ConnectionId, PressureLevel, PressureSettings};

use crate::made_up_memory::Memory;
use crate::sim_bed::{Bed, Settings, echo};
use crate::sim_net::SimPeer;
use crate::sim_peer::{BINARY, message};

pub const KIB: usize = 1024;
pub const MIB: usize = 1024 * KIB;

/// A hundred times a number of kibibytes, so that percents are exact.
pub const BUDGET_BYTES: usize = 10_000 * KIB;

/// Percent of the budget, in bytes.
pub const fn percent(percent: usize) -> usize {
    BUDGET_BYTES * percent / 100
}

/// An echo that looks at the memory that comes with it.
pub fn bed(change: impl FnOnce(&mut PressureSettings)) -> (Bed, Arc<Memory>) {
    bed_with(change, |_| {})
}

pub fn bed_with(
    change: impl FnOnce(&mut PressureSettings),
    settings: impl FnOnce(&mut Settings),
) -> (Bed, Arc<Memory>) {
    let memory = Arc::new(Memory::new(BUDGET_BYTES as u64));
    let mut pressure = PressureSettings::default();
    pressure.source = Some(memory.clone());
    change(&mut pressure);
    let mut bed = Bed::new(
        |own| {
            own.reactor.pressure = Some(pressure);
            own.config.limits.message_bytes_max = 4 * MIB as u64;
            settings(own);
        },
        echo,
    );
    bed.turn();
    (bed, memory)
}

/// Has the loop look now, at so much.
pub fn look(bed: &mut Bed, memory: &Memory, rss_bytes: usize) -> PressureLevel {
    memory.set(rss_bytes);
    let samples = bed.reactor.counters().memory_samples;
    while bed.reactor.counters().memory_samples == samples {
        bed.run_for(Duration::from_millis(250));
    }
    level(bed)
}

pub fn level(bed: &Bed) -> PressureLevel {
    bed.reactor.pressure().expect("it has looked").level
}

/// A peer that has sent all of a message but its last byte.
pub fn half(bed: &mut Bed, payload_bytes: usize) -> (SimPeer, ConnectionId) {
    let peer = bed.open();
    peer.set_buffers(8 * MIB, MIB);
    let bytes = message(BINARY, &vec![7; payload_bytes]);
    peer.write_all(&bytes[..bytes.len() - 1]);
    let id = bed.latest();
    // A turn takes what its budget of bytes allows.
    bed.turns(2 + payload_bytes / (256 * KIB));
    (peer, id)
}

/// The last byte of that message, which its masking key has changed.
pub fn last_byte(payload_bytes: usize) -> Vec<u8> {
    let bytes = message(BINARY, &vec![7; payload_bytes]);
    bytes[bytes.len() - 1..].to_vec()
}
