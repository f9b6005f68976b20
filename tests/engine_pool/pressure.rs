//! What pools give back when memory is scarce.

use std::sync::Arc;

use corewire::{Client, Eviction, Message, Outcome, PressureSettings, Submitted};

use crate::bed::{Bed, MS, S};
use crate::made_up_memory::Memory;

const BUDGET_BYTES: usize = 100 << 20;

fn bed(change: impl FnOnce(&mut PressureSettings)) -> (Bed, Arc<Memory>) {
    let memory = Arc::new(Memory::new(BUDGET_BYTES as u64));
    let mut pressure = PressureSettings::default();
    pressure.source = Some(memory.clone());
    pressure.idle_interval = pressure.sample_interval;
    change(&mut pressure);
    (Bed::watching(pressure, 1), memory)
}

#[test]
fn free_connections_are_closed_down_to_the_minimum_and_used_ones_stay() {
    for (shrinks, left) in [(true, 3), (false, 6)] {
        let (mut bed, memory) = bed(|it| it.reactions.shrink_clients = shrinks);
        let pool = bed.pool(|pool| pool.min(1).max(6));
        let mut leases: Vec<_> = (0..6)
            .map(|_| match bed.acquire(pool).unwrap() {
                corewire::Acquired::Now(lease) => lease,
                corewire::Acquired::Later(ticket) => {
                    bed.settle();
                    let (_, lease) =
                        bed.leases().into_iter().find(|(it, _)| *it == ticket).unwrap();
                    lease.unwrap()
                }
            })
            .collect();
        assert_eq!(bed.sim.sockets(), 6);
        for lease in leases.drain(3..) {
            bed.release(lease, Outcome::Good).unwrap();
        }
        memory.set(BUDGET_BYTES / 100 * 60);
        bed.run_for(300 * MS);
        assert_eq!(bed.sim.sockets(), left);
        assert_eq!(bed.stats(pool).evicted(Eviction::Shrunk), 6 - left as u64);
        // Those that are used are good still.
        for lease in leases {
            assert!(bed.leased(lease).is_ok());
            bed.release(lease, Outcome::Good).unwrap();
        }
        bed.run_for(S);
        assert_eq!(bed.sim.sockets(), left, "the level has not risen again");
        memory.set(BUDGET_BYTES / 100 * 72);
        bed.run_for(300 * MS);
        assert_eq!(bed.sim.sockets(), if shrinks { 1 } else { 6 });
    }
}

#[test]
fn what_a_lease_has_in_its_batch_leaves_when_memory_becomes_scarce() {
    let (mut bed, memory) = bed(|_| {});
    let to = Client::builder(&bed.back_ends[0].settings.uri().to_string());
    bed.back_ends[0].settings = to.batch(|it| it.max_delay = 1000 * S).build().unwrap();
    let pool = bed.pool(|pool| pool.min(1).max(1));
    let lease = bed.lease(pool);
    let sent =
        bed.act(move |at, clients| clients.send_leased(at, lease, Message::Text("1")).unwrap());
    assert_eq!(sent, Submitted::Held);
    bed.run_for(300 * MS);
    assert!(bed.back_ends[0].said.is_empty());
    memory.set(BUDGET_BYTES / 100 * 60);
    bed.run_for(300 * MS);
    let said: Vec<_> = bed.back_ends[0].said.iter().map(|(_, text)| &**text).collect();
    assert_eq!(said, ["1"]);
}
