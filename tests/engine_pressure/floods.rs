//! Floods that would take many times the budget, with seeded faults of the network.

use std::time::Duration;

use corewire::PressureLevel;

use crate::bed::{BUDGET_BYTES, KIB, MIB, bed_with, level};
use crate::rng::Rng;
use crate::sim_bed::{Bed, read_frames};
use crate::sim_net::SimPeer;
use crate::sim_peer::{BINARY, Frame, TEXT, message, upgrade_request};

/// What a turn may bring beyond the last look: one budget, and a message that is finished in it.
const TURN_BYTES: usize = 256 * KIB + 2 * MIB;

fn accounted(bed: &Bed) -> usize {
    bed.reactor.usage().pinned_bytes
}

/// So many peers, opened as far as they are let in; each begins a message and does not end it.
fn flood(bed: &mut Bed, random: &mut Rng, begun: &[u8], count: usize) -> Vec<SimPeer> {
    let peers: Vec<_> = (0..count).map(|_| bed.sim.connect(bed.address)).collect();
    for peer in &peers {
        peer.set_buffers(4 * MIB, MIB);
        let bytes = 64 * KIB + random.below(begun.len() - 64 * KIB);
        peer.write_all(&[&upgrade_request("/", ""), &begun[..bytes]].concat());
    }
    peers
}

fn speak(bed: &mut Bed, peers: &[SimPeer]) {
    for peer in peers {
        peer.write_all(&message(TEXT, b"still here"));
    }
    bed.turns(2);
    for peer in peers {
        assert_eq!(read_frames(peer), [Frame::new(TEXT, b"still here")]);
    }
}

#[test]
fn flood_is_held_within_the_budget_and_the_others_live_on() {
    let begun = message(BINARY, &vec![7; 2 * MIB]);
    for seed in 0..3 {
        let mut random = Rng::new(seed);
        let (mut bed, _) = bed_with(|_| {}, |settings| settings.config.heartbeat = None);
        let base = accounted(&bed);
        let good: Vec<_> = (0..20).map(|_| bed.open()).collect();
        let mut bad = Vec::new();
        for _ in 0..8 {
            bad.extend(flood(&mut bed, &mut random, &begun, 25));
            for _ in 0..30 {
                bed.turn();
                assert!(accounted(&bed) < BUDGET_BYTES + TURN_BYTES, "{}", accounted(&bed));
            }
            speak(&mut bed, &good);
            bed.run_for(Duration::from_millis(random.below(600) as u64));
            speak(&mut bed, &good);
        }
        assert!(level(&bed) >= PressureLevel::High, "seed {seed}");
        for peer in bad.drain(..) {
            peer.read_all();
            peer.reset();
        }
        for _ in 0..20 {
            bed.run_for(Duration::from_millis(500));
            speak(&mut bed, &good);
        }
        assert_eq!(level(&bed), PressureLevel::Normal, "seed {seed}");
        let usage = bed.reactor.usage();
        assert_eq!((usage.open, usage.blocks, usage.backlogs), (20, 0, 0), "seed {seed}");
        let kept = accounted(&bed) - base;
        assert!(kept < MIB, "{kept}");
        let (opened, told) = (bed.reactor.counters(), &bed.reactor.handler().pressure);
        assert!(told.windows(2).all(|two| two[0].to == two[1].from));
        assert!(opened.pressure_held > 0);
    }
}
