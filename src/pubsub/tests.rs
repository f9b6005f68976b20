//! The table as a whole.

use proptest::prelude::*;

use crate::limits::TopicLimits;

use super::topics::TopicEvent;
use super::{
    NameError, SlowPolicy, SubscribeError, Subscribed, TopicChange, TopicId, TopicSettings, Topics,
};

#[path = "../../tests/support/topics_bed.rs"]
mod topics_bed;

use topics_bed::{Bed, Operation, matches};

fn operation() -> impl Strategy<Value = Operation> {
    (any::<u8>(), any::<u8>(), prop::collection::vec(any::<u8>(), 0..5))
}

proptest! {
    #[test]
    fn topics_equal_a_list_of_pairs(
        seed in any::<u64>(),
        operations in prop::collection::vec(operation(), 0..150),
    ) {
        let mut bed = Bed::new(seed);
        operations.iter().for_each(|operation| bed.apply(operation));
        bed.finish();
    }
}

fn topics() -> Topics {
    Topics::new(&TopicLimits::default(), 7)
}

fn new(outcome: Result<Subscribed, SubscribeError>) {
    assert_eq!(outcome, Ok(Subscribed::New));
}

/// Who gets a message to `name`, and by which pattern.
fn delivered(topics: &mut Topics, name: &str) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    topics.matching(name, |subscriber, id, _| found.push((subscriber, id))).unwrap();
    let name = |id: TopicId| topics.name(id).unwrap().to_owned();
    found.into_iter().map(|(subscriber, id)| (subscriber, name(id))).collect()
}

/// What MQTT 5.0 says of each pair in §4.7.1 and §4.7.2, and what follows from it.
const EXAMPLES: [(&str, &str, bool); 38] = [
    ("sport/tennis/player1/#", "sport/tennis/player1", true),
    ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
    ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
    ("sport/tennis/player1/#", "sport/tennis/player2", false),
    ("sport/tennis/player1/#", "sport/tennis/player12", false),
    ("sport/#", "sport", true),
    ("sport/#", "sports", false),
    ("#", "sport", true),
    ("#", "sport/tennis", true),
    ("#", "/", true),
    ("sport/tennis/+", "sport/tennis/player1", true),
    ("sport/tennis/+", "sport/tennis/player2", true),
    ("sport/tennis/+", "sport/tennis/player1/ranking", false),
    ("sport/tennis/+", "sport/tennis", false),
    ("sport/+", "sport", false),
    ("sport/+", "sport/", true),
    ("+", "sport", true),
    ("+", "sport/tennis", false),
    ("+/tennis/#", "sport/tennis", true),
    ("+/tennis/#", "sport/tennis/player1/ranking", true),
    ("+/tennis/#", "tennis", false),
    ("sport/+/player1", "sport/tennis/player1", true),
    ("sport/+/player1", "sport/player1", false),
    ("+/+", "/finance", true),
    ("/+", "/finance", true),
    ("+", "/finance", false),
    ("#", "$SYS", false),
    ("#", "$SYS/", false),
    ("+", "$SYS", false),
    ("+/monitor/Clients", "$SYS/monitor/Clients", false),
    ("$SYS/#", "$SYS", true),
    ("$SYS/#", "$SYS/monitor", true),
    ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
    ("a/+/#", "a/$b", true),
    ("Accounts", "ACCOUNTS", false),
    ("a//+", "a//b", true),
    ("a/+/b", "a//b", true),
    ("a/b/", "a/b", false),
];

// MQTT 5.0 §4.7
#[test]
fn filters_take_what_the_standard_says() {
    for (filter, name, is_match) in EXAMPLES {
        let mut topics = topics();
        new(topics.subscribe(3, filter));
        let expected: &[_] = if is_match { &[(3, filter.to_owned())] } else { &[] };
        assert_eq!(delivered(&mut topics, name), expected, "{filter} {name}");
        assert_eq!(matches(filter, name), is_match, "{filter} {name}");
    }
    // Beside all the others a filter takes the same.
    let mut topics = topics();
    for (number, (filter, ..)) in EXAMPLES.iter().enumerate() {
        new(topics.subscribe(number as u32, filter));
    }
    for (_, name, _) in EXAMPLES {
        let mut found: Vec<_> = delivered(&mut topics, name).into_iter().map(|it| it.0).collect();
        found.sort_unstable();
        let all = EXAMPLES.iter().enumerate();
        let expected = all.filter(|(_, (filter, ..))| matches(filter, name));
        assert!(found.into_iter().eq(expected.map(|(number, _)| number as u32)), "{name}");
    }
}

// MQTT 5.0 §4.7.1, §4.7.3
#[test]
fn malformed_pattern_is_refused() {
    let long = "a".repeat(257);
    for (pattern, error) in [
        ("", NameError::Empty),
        (&*long, NameError::TooLong),
        ("1/2/3/4/5/6/7/8/9", NameError::TooManyLevels),
        ("1/2/3/4/5/6/7/8/#", NameError::TooManyLevels),
        ("a\0", NameError::Nul),
        ("sport+", NameError::PartOfLevel),
        ("sport/tennis#", NameError::PartOfLevel),
        ("a/++", NameError::PartOfLevel),
        ("a/+b/c", NameError::PartOfLevel),
        ("sport/tennis/#/ranking", NameError::BehindRest),
        ("#/", NameError::BehindRest),
    ] {
        let mut topics = topics();
        let error = SubscribeError::Pattern(error);
        assert_eq!(topics.subscribe(0, pattern), Err(error), "{pattern}");
        let settings = TopicSettings::new(0, SlowPolicy::Close);
        assert_eq!(topics.configure(pattern, settings), Err(error), "{pattern}");
        assert!(!topics.unsubscribe(0, pattern));
        assert_eq!((topics.topic_count(), topics.pinned_bytes()), (0, 0));
    }
    for pattern in ["/", "//", "a b", "1/2/3/4/5/6/7/8", "1/2/3/4/5/6/7/#", "+/+", "/#", &long[1..]]
    {
        new(topics().subscribe(0, pattern));
    }
}

// MQTT 5.0 §3.3.2.1
#[test]
fn names_with_wildcards_are_not_published_to() {
    let mut topics = topics();
    new(topics.subscribe(0, "a/+"));
    for (name, error) in [
        ("a/+", NameError::Wildcard),
        ("a/b+", NameError::Wildcard),
        ("#", NameError::Wildcard),
        ("", NameError::Empty),
        ("a/\0", NameError::Nul),
        ("1/2/3/4/5/6/7/8/9", NameError::TooManyLevels),
    ] {
        assert_eq!(topics.matching(name, |_, _, _| panic!("delivered")), Err(error), "{name}");
    }
}

#[test]
fn who_matches_several_times_gets_one_message() {
    let mut topics = topics();
    for pattern in ["a/+", "#", "a/#", "+/b", "+/+", "a/b"] {
        new(topics.subscribe(1, pattern));
        new(topics.subscribe(pattern.len() as u32 + 10, pattern));
    }
    let named = |number, pattern: &str| (number, pattern.to_owned());
    let expected = [
        named(1, "a/b"),
        named(13, "a/b"),
        named(11, "#"),
        // 13 has been met by the other patterns of three letters.
    ];
    assert_eq!(delivered(&mut topics, "a/b"), expected);
    assert!(topics.unsubscribe(1, "a/b"));
    assert!(topics.unsubscribe(1, "#"));
    let by = |found: Vec<(u32, String)>| found.into_iter().find(|it| it.0 == 1).unwrap().1;
    assert_eq!(by(delivered(&mut topics, "a/b")), "a/#");
    assert!(topics.unsubscribe(1, "a/#"));
    assert_eq!(by(delivered(&mut topics, "a/b")), "a/+");
    assert!(topics.unsubscribe(1, "a/+"));
    assert_eq!(by(delivered(&mut topics, "a/b")), "+/b");
}

#[test]
fn first_and_last_subscribers_are_told_in_order() {
    let mut topics = topics();
    new(topics.subscribe(1, "a"));
    new(topics.subscribe(2, "a"));
    assert_eq!(topics.subscribe(2, "a"), Ok(Subscribed::Already));
    assert!(topics.unsubscribe(1, "a"));
    assert!(!topics.unsubscribe(1, "a"));
    topics.unsubscribe_all(2);
    new(topics.subscribe(1, "a"));
    topics.configure("a", TopicSettings::new(1, SlowPolicy::Conflate)).unwrap();
    assert!(topics.unsubscribe(1, "a"));
    assert!(topics.unconfigure("a"));
    for _ in 0..2 {
        for change in [TopicChange::First, TopicChange::Last] {
            let expected = TopicEvent { pattern: "a".into(), change };
            assert_eq!(topics.poll_event(), Some(expected));
        }
    }
    assert_eq!(topics.poll_event(), None);
}

#[test]
fn a_stale_id_is_a_miss() {
    let mut topics = topics();
    let settings = TopicSettings::new(5, SlowPolicy::SkipNew);
    let first = topics.configure("a", settings).unwrap();
    assert_eq!((topics.name(first), topics.settings(first)), (Some("a"), Some(settings)));
    assert_eq!(topics.configure("a", settings), Ok(first));
    new(topics.subscribe(1, "a"));
    assert!(topics.unconfigure("a"));
    assert!(!topics.unconfigure("a"));
    assert_eq!((topics.name(first), topics.settings(first)), (Some("a"), None));
    topics.unsubscribe_all(1);
    let second = topics.configure("a", settings).unwrap();
    assert_ne!(first, second);
    assert_eq!((topics.name(first), topics.settings(first)), (None, None));
    assert_eq!(topics.name(second), Some("a"));
}

#[test]
fn bounds_are_kept() {
    let mut limits = TopicLimits::default();
    (limits.topics_max, limits.subscriptions_max) = (3, 4);
    limits.subscriptions_per_connection_max = 2;
    let mut topics = Topics::new(&limits, 0);
    new(topics.subscribe(0, "a"));
    new(topics.subscribe(0, "b"));
    assert_eq!(topics.subscribe(0, "b"), Ok(Subscribed::Already));
    assert_eq!(topics.subscribe(0, "c"), Err(SubscribeError::TooManyOfConnection));
    new(topics.subscribe(1, "c"));
    assert_eq!(topics.subscribe(1, "d"), Err(SubscribeError::TooManyTopics));
    let settings = TopicSettings::new(0, SlowPolicy::Close);
    assert_eq!(topics.configure("d", settings), Err(SubscribeError::TooManyTopics));
    new(topics.subscribe(1, "a"));
    assert_eq!(topics.subscribe(2, "a"), Err(SubscribeError::TooManySubscriptions));
    assert!(topics.subscriptions(0).eq(["b", "a"]));
}

/// Peers choose the filters: of a name with eight levels all 2⁸ that replace levels by `+`, and all
/// that end in `#`, of which each takes it, and as many that differ in their last level.
#[test]
fn all_filters_of_a_name_are_found_at_once() {
    let mut topics = topics();
    let mut count = 0;
    for bits in 0..1 << 8 {
        let levels: Vec<_> = (0..8).map(|at| if bits >> at & 1 == 1 { "+" } else { "a" }).collect();
        new(topics.subscribe(count, &levels.join("/")));
        count += 1;
        let miss = [&levels[..7], &["b"]].concat().join("/");
        let _ = topics.subscribe(1_000, &miss).unwrap();
        for behind in 0..8 {
            if bits >> behind == 0 {
                let filter = [&levels[..behind], &["#"]].concat().join("/");
                new(topics.subscribe(count, &filter));
                count += 1;
            }
        }
    }
    assert_eq!(count, 256 + 255);
    for _ in 0..2 {
        let found = delivered(&mut topics, "a/a/a/a/a/a/a/a");
        assert_eq!(found.len(), count as usize);
        assert_eq!(found[0], (0, "a/a/a/a/a/a/a/a".to_owned()));
        assert_eq!(delivered(&mut topics, "a/a/a/a/a/a/a").len(), 127 + 128);
    }
    (0..=1_000).for_each(|subscriber| topics.unsubscribe_all(subscriber));
    while topics.poll_event().is_some() {}
    assert_eq!(topics.pinned_bytes(), 0);
}

#[test]
fn what_comes_and_goes_leaves_nothing_behind() {
    fn come_and_go(topics: &mut Topics, number: u32) -> usize {
        let patterns = ["b", "+", "#", "+/c", "c/#"].map(|end| format!("room {number:03}/{end}"));
        patterns.iter().for_each(|pattern| new(topics.subscribe(1, pattern)));
        patterns.iter().for_each(|pattern| assert!(topics.unsubscribe(1, pattern)));
        while topics.poll_event().is_some() {}
        topics.pinned_bytes()
    }
    let mut topics = topics();
    assert_eq!(come_and_go(&mut topics, 0), 0);
    new(topics.subscribe(2, "stays/+"));
    come_and_go(&mut topics, 1);
    let bytes = come_and_go(&mut topics, 2);
    // Which numbers are free, and so what little is spare, goes by the order of what went.
    assert!((3..300).all(|number| come_and_go(&mut topics, number) < bytes + 64));
}

#[test]
fn a_subscription_takes_at_most_forty_bytes() {
    for topic_count in [100, 1_900] {
        let mut topics = topics();
        for subscriber in 0..1_900 {
            for nth in 0..100 {
                let topic = (subscriber + nth * 19) % topic_count;
                new(topics.subscribe(subscriber, &format!("room/{topic}")));
            }
            while topics.poll_event().is_some() {}
        }
        let bytes = topics.pinned_bytes() as f64 / topics.subscription_count() as f64;
        assert!(bytes <= 40.0, "{topic_count} topics: {bytes} bytes");
    }
}
