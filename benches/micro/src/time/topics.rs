//! The table of topics: who gets a message, and coming and going.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};

use corewire::TopicLimits;
use corewire::fuzzing::pubsub::{Subscribed, Topics};

/// All subscribers of one name; items are subscribers.
#[divan::bench(args = SUBSCRIBERS)]
fn matching_a_name(bencher: Bencher<'_, '_>, subscribers: u32) {
    let mut topics = subscribed(subscribers, |_| "room/1".to_owned());
    bench_matching(bencher, &mut topics, subscribers);
}

/// The same with a filter on the other half of them, so that each is looked up.
#[divan::bench(args = SUBSCRIBERS)]
fn matching_a_name_and_a_filter(bencher: Bencher<'_, '_>, subscribers: u32) {
    let pattern = |number| if number % 2 == 0 { "room/1" } else { "room/+" };
    let mut topics = subscribed(subscribers, |number| pattern(number).to_owned());
    bench_matching(bencher, &mut topics, subscribers);
}

/// A message to one subscriber of a name beside as many filters, to the same name each time or to
/// one that was not met lately.
#[divan::bench(args = [1, 1024])]
fn matching_one_of_many(bencher: Bencher<'_, '_>, names: u32) {
    let mut topics = subscribed(10_000, |number| match number {
        0..5_000 => format!("room/{number}"),
        _ => format!("room/{number}/+"),
    });
    let names: Vec<_> = (0..names).map(|number| format!("room/{number}")).collect();
    let mut at = 0;
    bencher.bench_local(|| {
        at = (at + 1) % names.len();
        assert_eq!(count(&mut topics, &names[at]), 1);
    });
}

/// The most that filters can make a new name of eight levels cost: they have `+` in all combinations
/// and differ from it in the last level alone.
#[divan::bench]
fn matching_none_of_all_combinations(bencher: Bencher<'_, '_>) {
    let mut topics = subscribed(256, |bits| {
        let levels = (0..8).map(|at| if bits >> at & 1 == 1 { "+" } else { "a" });
        let levels: Vec<_> = levels.take(7).chain([if bits < 128 { "b" } else { "c" }]).collect();
        levels.join("/")
    });
    let names: Vec<_> = (0..1024).map(|number| format!("a/a/a/a/a/a/a/{number}")).collect();
    let mut at = 0;
    bencher.bench_local(|| {
        at = (at + 1) % names.len();
        assert_eq!(count(&mut topics, &names[at]), 0);
    });
}

/// One of so many comes and goes.
#[divan::bench(args = SUBSCRIBERS)]
fn subscribe_and_unsubscribe(bencher: Bencher<'_, '_>, subscribers: u32) {
    let mut topics = subscribed(subscribers, |_| "room/1".to_owned());
    bencher.bench_local(|| {
        assert_eq!(topics.subscribe(black_box(subscribers), "room/1"), Ok(Subscribed::New));
        assert!(topics.unsubscribe(black_box(subscribers), "room/1"));
    });
}

fn bench_matching(bencher: Bencher<'_, '_>, topics: &mut Topics, subscribers: u32) {
    assert_eq!(count(topics, "room/1"), subscribers);
    bencher.counter(ItemsCount::new(subscribers)).bench_local(|| count(topics, "room/1"));
}

fn count(topics: &mut Topics, name: &str) -> u32 {
    let mut count = 0;
    let matching = topics.matching(black_box(name), |subscriber, id, _| {
        black_box((subscriber, id));
        count += 1;
    });
    assert_eq!(matching, Ok(()));
    count
}

fn subscribed(count: u32, pattern: impl Fn(u32) -> String) -> Topics {
    let mut topics = Topics::new(&TopicLimits::default(), 7);
    for subscriber in 0..count {
        assert!(topics.subscribe(subscriber, &pattern(subscriber)).is_ok());
        while topics.poll_event().is_some() {}
    }
    topics
}

const SUBSCRIBERS: [u32; 2] = [1_000, 10_000];
