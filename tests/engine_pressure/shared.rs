//! What many have queued: charged once, seen when it comes, and no reason to close them all.

use std::sync::Arc;

use bytes::Bytes;
use corewire::{PreparedMessage, PressureLevel, PressureReactions, SlowPolicy, TopicSettings};

use crate::bed::{KIB, MIB, bed_with, half, level, look, percent};
use crate::made_up_memory::Memory;
use crate::sim_bed::Bed;
use crate::sim_net::SimPeer;

/// A bed whose connections may have much queued.
fn roomy(reactions: PressureReactions) -> (Bed, Arc<Memory>) {
    bed_with(
        |pressure| pressure.reactions = reactions,
        |settings| {
            let limits = &mut settings.config.limits;
            limits.backpressure_bytes_max = 16 * MIB;
            settings.config.published = TopicSettings::new(16 * MIB, SlowPolicy::SkipNew);
        },
    )
}

/// Subscribers of one topic who take a hundred bytes.
fn stuck(bed: &mut Bed, count: usize) -> Vec<SimPeer> {
    (0..count)
        .map(|_| {
            bed.reactor.handler().on_next_open(|ctx| {
                assert!(ctx.here().subscribe("news").unwrap());
            });
            let peer = bed.open();
            peer.set_buffers(16 * MIB, 100);
            peer
        })
        .collect()
}

/// Publishes in one callback, without time passing.
fn publish(bed: &mut Bed, messages: usize, bytes: usize) {
    bed.reactor.handler().on_next_open(move |ctx| {
        for number in 0..messages {
            let message = PreparedMessage::binary(&vec![number as u8; bytes]);
            ctx.publish("news", &message).unwrap();
        }
    });
    let _publisher = bed.open();
}

#[test]
fn what_is_published_to_who_does_not_read_is_seen_before_the_time_for_a_look_has_come() {
    let (mut bed, _) = roomy(PressureReactions::none());
    let peers = stuck(&mut bed, 3);
    let before = bed.sim.elapsed();
    for _ in 0..9 {
        publish(&mut bed, 1, 1000 * KIB);
    }
    assert_eq!(bed.sim.elapsed(), before, "no time has passed");
    assert_eq!(level(&bed), PressureLevel::Critical);
    drop(peers);
}

#[test]
fn what_is_queued_by_reference_is_charged_once() {
    let (mut bed, _) = roomy(PressureReactions::none());
    let base = bed.reactor.usage().pinned_bytes;
    let shared = Bytes::from(vec![7; 1000 * KIB]);
    let peers: Vec<_> = (0..8)
        .map(|_| {
            let bytes = shared.clone();
            bed.reactor.handler().on_next_open(move |ctx| {
                assert!(ctx.here().send_bytes(bytes).is_taken());
            });
            let peer = bed.sim.connect(bed.address);
            peer.set_buffers(16 * MIB, 300);
            peer.write_all(&crate::sim_peer::upgrade_request("/", ""));
            bed.turns(3);
            peer
        })
        .collect();
    let held = bed.reactor.usage().pinned_bytes - base;
    assert!((900 * KIB..1200 * KIB).contains(&held), "{held}");
    drop(peers);
}

#[test]
fn those_who_share_a_message_are_each_charged_their_part_of_it() {
    let (mut bed, _) = roomy(PressureReactions::none());
    let peers = stuck(&mut bed, 50);
    let before = bed.reactor.charges().listeners[0].bytes;
    publish(&mut bed, 1, 1000 * KIB);
    let after = bed.reactor.charges().listeners[0];
    let grown = after.bytes - before;
    assert!((990 * KIB as u64..1100 * KIB as u64).contains(&grown), "{grown}");
    drop(peers);
}

#[test]
fn those_who_share_a_message_are_not_closed_for_the_whole_of_it() {
    let mut reactions = PressureReactions::none();
    reactions.close_connections = true;
    let (mut bed, memory) = roomy(reactions);
    let peers = stuck(&mut bed, 50);
    publish(&mut bed, 1, 2000 * KIB);
    let (_greedy, greedy) = half(&mut bed, 600 * KIB);
    // Half a MiB above what leaves the level.
    assert_eq!(look(&mut bed, &memory, percent(80)), PressureLevel::Critical);
    assert!(bed.closed(greedy).is_some(), "he alone holds so much");
    assert_eq!(bed.reactor.counters().pressure_closed_heavy, 1);
    drop(peers);
}
