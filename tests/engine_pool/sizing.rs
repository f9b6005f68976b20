//! How the number of connections follows the load.

use corewire::{Eviction, PoolId};

use crate::bed::{Bed, S, Scripted, TICK};

/// A pool of 8 to 40 under a load that the test sets, without a window's memory.
fn pool(bed: &mut Bed, load: &Scripted) -> PoolId {
    let source = load.clone();
    let times = |load: &mut corewire::LoadSettings| load.window = S;
    bed.pool(move |pool| pool.min(8).max(40).load(times).load_source(move || source.clone()))
}

/// A score, by processor and memory alone.
fn set(load: &Scripted, score: f64) {
    *load.0.lock().unwrap() = (Some(score / 0.8), Some(score / 0.8));
}

fn desired(bed: &mut Bed, pool: PoolId) -> u32 {
    bed.stats(pool).desired
}

#[test]
fn load_above_the_bound_grows_the_pool_in_steps() {
    let (mut bed, load) = (Bed::new(1), Scripted::default());
    let times = |load: &mut corewire::LoadSettings| (load.window, load.requests_full) = (S, 1);
    let source = load.clone();
    let pool =
        bed.pool(move |pool| pool.min(8).max(40).load(times).load_source(move || source.clone()));
    assert_eq!(bed.sim.sockets(), 8);
    // Processor and memory alone end at 0.8; requests make the rest.
    *load.0.lock().unwrap() = (Some(1.0), Some(1.0));
    let mut sizes = Vec::new();
    for _ in 0..60 {
        let acquired = bed.act(move |at, clients| clients.try_acquire(at, pool));
        if let Ok(lease) = acquired {
            bed.release(lease, corewire::Outcome::Good).unwrap();
        }
        bed.run_for(S);
        let size = desired(&mut bed, pool);
        if sizes.last() != Some(&size) {
            sizes.push(size);
        }
    }
    assert!(sizes.starts_with(&[10, 12, 15, 18]), "a quarter more each time: {sizes:?}");
    assert_eq!(bed.sim.sockets() as u32, desired(&mut bed, pool), "dialled in the background");
}

#[test]
fn load_between_the_bounds_changes_nothing() {
    let (mut bed, load) = (Bed::new(1), Scripted::default());
    let pool = pool(&mut bed, &load);
    for score in [0.31, 0.5, 0.79, 0.31, 0.8] {
        set(&load, score);
        bed.run_for(120 * S);
        assert_eq!((desired(&mut bed, pool), bed.sim.sockets()), (8, 8), "at {score}");
    }
}

#[test]
fn load_below_the_bound_shrinks_the_pool_to_its_minimum_and_not_below() {
    let (mut bed, load) = (Bed::new(1), Scripted::default());
    let source = load.clone();
    let times = |load: &mut corewire::LoadSettings| load.window = S;
    let pool = bed.pool(move |pool| {
        let pool = pool.min(8).max(40).load(times).load_source(move || source.clone());
        pool.settings(|s| s.sizing.grow_above = 0.7)
    });
    set(&load, 0.75);
    bed.run_for(11 * S);
    assert_eq!((desired(&mut bed, pool), bed.sim.sockets()), (12, 12));
    set(&load, 0.1);
    // A step down comes no sooner than a minute after any other.
    bed.run_for(50 * S);
    assert_eq!(desired(&mut bed, pool), 12);
    bed.run_for(12 * S);
    assert_eq!((desired(&mut bed, pool), bed.sim.sockets()), (11, 11));
    assert_eq!(bed.stats(pool).evicted(Eviction::Shrunk), 1);
    bed.run_for(600 * S);
    assert_eq!((desired(&mut bed, pool), bed.sim.sockets()), (8, 8));
    bed.run_for(TICK);
}

#[test]
fn load_that_swings_across_both_bounds_never_shrinks_the_pool() {
    let (mut bed, load) = (Bed::new(1), Scripted::default());
    let source = load.clone();
    let times = |load: &mut corewire::LoadSettings| load.window = S;
    let pool = bed.pool(move |pool| {
        let pool = pool.min(8).max(40).load(times).load_source(move || source.clone());
        pool.settings(|s| s.sizing.grow_above = 0.7)
    });
    let mut before = 8;
    for swing in 0..60 {
        set(&load, if swing % 2 == 0 { 0.75 } else { 0.1 });
        bed.run_for(15 * S);
        let now = desired(&mut bed, pool);
        assert!(now >= before, "{now} after {before}");
        before = now;
    }
    assert_eq!(before, 40);
}
