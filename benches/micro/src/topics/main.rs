//! What subscriptions take in memory: at most 40 bytes each, where 19,000 connections have 100
//! topics each, and how long it takes to make and to end them.
//!
//! `cargo bench --bench topics` measures so many, `cargo test` a tenth.

use std::alloc::{GlobalAlloc, Layout, System};
use std::env;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use corewire::TopicLimits;
use corewire::fuzzing::pubsub::{Subscribed, Topics};

struct Counting;

static HELD_BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD_BYTES.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD_BYTES.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`, which is the same.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        HELD_BYTES.fetch_add(bytes, Relaxed);
        HELD_BYTES.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `realloc`, which is the same.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    let arguments: Vec<String> = env::args().collect();
    if let [_, flag, subscribers, topics] = &arguments[..]
        && flag == ROW
    {
        let number = |text: &String| text.parse().expect("a number");
        return measure(number(subscribers), number(topics));
    }
    let is_bench = arguments.iter().any(|argument| argument == "--bench");
    let subscribers = if is_bench { 19_000 } else { 1_900 };
    println!("{}, flags `{}`", env!("MICRO_RUSTC"), env!("MICRO_RUSTFLAGS"));
    println!(
        "{subscribers} connections with {TOPICS_EACH} topics each; bytes for each subscription"
    );
    for topics in [TOPICS_EACH, subscribers] {
        // In a process of its own, so that its resident memory is its own.
        let mut row = Command::new(env::current_exe().expect("this program has a path"));
        row.args([ROW, &subscribers.to_string(), &topics.to_string()]);
        assert!(row.status().expect("it can be run once more").success());
    }
}

fn measure(subscribers: u32, topic_count: u32) {
    let names: Vec<_> = (0..topic_count).map(|number| format!("room/{number}")).collect();
    let (held_before, resident_before) = (HELD_BYTES.load(Relaxed), resident_bytes());
    let mut topics = Topics::new(&TopicLimits::default(), 7);
    let mut most = 0.0_f64;
    let began = processor_nanoseconds();
    for subscriber in 0..subscribers {
        for nth in 0..TOPICS_EACH {
            let topic = (subscriber + nth * (topic_count / TOPICS_EACH)) % topic_count;
            let subscribed = topics.subscribe(subscriber, &names[topic as usize]);
            assert_eq!(subscribed, Ok(Subscribed::New));
        }
        while topics.poll_event().is_some() {}
        // Where each topic has hardly anybody, there are few subscriptions to bear its cost.
        if subscriber >= subscribers / 2 {
            let held = HELD_BYTES.load(Relaxed) - held_before;
            most = most.max(held as f64 / topics.subscription_count() as f64);
        }
    }
    let count = topics.subscription_count();
    let nanoseconds = |began| (processor_nanoseconds() - began) as f64 / count as f64;
    let subscribe = nanoseconds(began);
    let each = |bytes: usize| bytes as f64 / count as f64;
    let held = each(HELD_BYTES.load(Relaxed) - held_before);
    let resident = each(resident_bytes().saturating_sub(resident_before));
    let pinned = each(topics.pinned_bytes());
    let began = processor_nanoseconds();
    for subscriber in 0..subscribers {
        topics.unsubscribe_all(subscriber);
        while topics.poll_event().is_some() {}
    }
    let unsubscribe = nanoseconds(began);
    assert_eq!((HELD_BYTES.load(Relaxed), topics.pinned_bytes()), (held_before, 0));
    println!(
        "{topic_count:>6} topics: allocated {held:.1}, at most {most:.1} from half of them on, \
         resident {resident:.1}, counted {pinned:.1}; {subscribe:.0} ns to subscribe, \
         {unsubscribe:.0} ns to end one of all"
    );
    assert!(most <= BYTES_MAX, "a subscription takes {most} bytes");
    // What the table of topics has only reserved is not counted.
    let uncounted = held - pinned;
    assert!((0.0..0.5).contains(&uncounted), "{pinned} bytes are counted, {held} are held");
}

/// How long this process has run, its one thread that is.
fn processor_nanoseconds() -> u64 {
    let times = std::fs::read_to_string("/proc/self/schedstat").expect("Linux tells it");
    let first = times.split(' ').next().expect("it begins with a number");
    first.parse().expect("it is a number")
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it is a line");
    let kibibytes: usize = line.trim().trim_end_matches(" kB").parse().expect("it is a number");
    kibibytes << 10
}

const ROW: &str = "--row";
const TOPICS_EACH: u32 = 100;
/// The bar.
const BYTES_MAX: f64 = 40.0;
