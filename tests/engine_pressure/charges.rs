//! Every byte is charged to somebody.

use corewire::{Config, ListenOptions, ListenerSettings, Role};

use crate::bed::{BUDGET_BYTES, KIB, bed, half, look, percent};
use crate::sim_bed::Bed;

/// What the connections hold together, and what the pools do: free blocks, and tables.
fn sum(bed: &Bed) -> u64 {
    let charges = bed.reactor.charges();
    charges.listeners.iter().chain([&charges.dialled]).map(|charge| charge.bytes).sum()
}

#[test]
fn message_under_way_is_charged_to_its_connection_and_its_listener() {
    let (mut bed, _) = bed(|_| {});
    let quiet = bed.open();
    let quiet_id = bed.latest();
    let (half, id) = half(&mut bed, 1000 * KIB);
    let charges = bed.reactor.charges();
    assert_eq!((charges.listeners.len(), charges.listeners[0].connections), (1, 2));
    let [quiet_bytes, half_bytes] =
        [quiet_id, id].map(|id| bed.reactor.pinned_bytes(id).unwrap() as u64);
    assert_eq!(charges.listeners[0].bytes, quiet_bytes + half_bytes);
    let message_bytes = half_bytes - quiet_bytes;
    assert!((1 << 20..(1 << 20) + 256).contains(&message_bytes), "{message_bytes}");
    half.reset();
    quiet.reset();
    bed.turns(3);
    assert_eq!((sum(&bed), bed.reactor.pinned_bytes(id)), (0, None));
}

#[test]
fn connections_and_pools_together_are_all_that_is_pinned() {
    let (mut bed, _) = bed(|_| {});
    let base = bed.reactor.usage().pinned_bytes as u64;
    let peers: Vec<_> = (1..40).map(|n| half(&mut bed, n * 3 * KIB).0).collect();
    let usage = bed.reactor.usage();
    let unassigned = usage.pinned_bytes as u64 - sum(&bed) - usage.retained_bytes as u64;
    // The wheel's slots, the ring of the last answer, and room in tables that nobody has taken.
    assert!(unassigned < base + 24 * KIB as u64, "{unassigned} beside {base}");
    drop(peers);
}

#[test]
fn listeners_are_charged_apart() {
    let (mut bed, memory) = bed(|_| {});
    let any = std::net::SocketAddr::from(([10, 0, 0, 9], 0));
    let settings = ListenerSettings::new(Config::new(Role::Server));
    let second = bed.reactor.listen(any, &ListenOptions::default(), settings).unwrap();
    let (_first, _) = half(&mut bed, 1000 * KIB);
    bed.address = second.socket_addr().unwrap();
    let (_second, second_id) = half(&mut bed, 100 * KIB);
    let charges = bed.reactor.charges();
    let connections: Vec<_> = charges.listeners.iter().map(|charge| charge.connections).collect();
    assert_eq!(connections, [1, 1]);
    assert!(charges.listeners[0].bytes > 1 << 20);
    let own = bed.reactor.pinned_bytes(second_id).unwrap() as u64;
    assert!(own > 128 << 10 && charges.listeners[1].bytes == own, "{charges:?}");
    // Callbacks have what was weighed last.
    look(&mut bed, &memory, percent(75));
    bed.reactor.handler().on_next_open(move |ctx| {
        assert_eq!(ctx.pressure_charges().unwrap().listeners[0].bytes, charges.listeners[0].bytes);
        assert_eq!(ctx.pressure().unwrap().budget_bytes, BUDGET_BYTES as u64);
        let queue_bytes = ctx.here().queue_pinned_bytes();
        assert!((16 * KIB..17 * KIB).contains(&queue_bytes), "the answer, in a ring");
    });
    let _third = bed.open();
}
