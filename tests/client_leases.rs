//! Leases of threads leave nothing behind. Alone in its process, so that all that is allocated can be
//! counted.
#![cfg(all(feature = "net", target_os = "linux"))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use corewire::{
    Client, Context, Handler, MemberState, Message, Pool, PoolError, PoolHandle, Server,
};

/// Bytes that are allocated and not freed, by any thread.
static HELD_BYTES: AtomicIsize = AtomicIsize::new(0);

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; counting does not allocate.
#[expect(unsafe_code, reason = "a global allocator cannot be written without it")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD_BYTES.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD_BYTES.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Echo;

impl Handler for Echo {
    type Data = ();

    fn on_message(&mut self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
        assert!(ctx.send(message).is_taken());
    }
}

const LONG: Duration = Duration::from_secs(20);

/// Acquires and gives back, in every way, and has some wait in vain.
fn pairs(pool: &PoolHandle, count: u32) {
    for number in 0..count {
        let lease = match number % 4 {
            0 => pool.acquire(LONG),
            1 => pool.acquire_for(number % 40, LONG),
            2 => pool.try_acquire(),
            _ => pool.try_acquire_for(number % 40),
        };
        let lease = lease.unwrap();
        if number % 10 == 0 {
            lease.send(Message::Text("question")).unwrap();
            assert!(lease.recv_timeout(LONG).unwrap().is_some());
        }
        if number % 1000 == 0 {
            assert_eq!(pool.acquire(Duration::ZERO).unwrap_err(), PoolError::Exhausted);
        }
    }
}

/// What is held when nothing is under way.
fn held_bytes(pool: &PoolHandle) -> isize {
    // The answer to the second has the loop done with all that led to the first.
    let _ = [pool.stats(), pool.stats()];
    HELD_BYTES.load(Ordering::Relaxed)
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn ten_thousand_leases_of_threads_leave_nothing_behind() {
    let before = descriptors();
    let server = Server::builder().threads(1).listen(([127, 0, 0, 1], 0));
    let server = server.build(|_shard| Echo).unwrap();
    let (url, handle) = (format!("ws://{}/", server.local_addresses()[0]), server.handle());
    let serving = thread::spawn(move || server.run().unwrap());
    let to = Client::builder(&url).build().unwrap();
    let pool = Pool::builder().min(1).max(1).endpoint(to).start().unwrap();
    pairs(&pool, 1000);
    let warm = held_bytes(&pool);
    pairs(&pool, 10_000);
    let grown = held_bytes(&pool) - warm;
    assert!(grown.abs() < 4096, "{grown} bytes are left of 10,000 leases");
    let stats = pool.stats();
    assert_eq!((stats.acquired, stats.reused, stats.opened), (11_000, 10_999, 1));
    assert_eq!((stats.expired, stats.waiting, stats.leaks), (11, 0, 0));
    assert_eq!((stats.size(), stats.members_in(MemberState::Idle)), (1, 1));
    pool.shut_down(LONG).unwrap();
    drop(pool);
    handle.shutdown(Duration::from_secs(1)).unwrap();
    serving.join().unwrap();
    drop(handle);
    let until = Instant::now() + LONG;
    while descriptors() != before {
        assert!(Instant::now() < until, "{} descriptors, not {before}", descriptors());
        thread::sleep(Duration::from_millis(1));
    }
}
