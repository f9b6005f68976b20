//! The table of topics against a list of pairs and a matcher written from MQTT 5.0 §4.7.
//!
//! Who includes this file has the table's types in scope.

use std::collections::VecDeque;

use super::{
    SlowPolicy, SubscribeError, Subscribed, TopicChange, TopicEvent, TopicId, TopicLimits,
    TopicSettings, Topics,
};

/// What is done, by whom, with the pattern of which levels; see [`Bed::apply`] and [`pattern`].
pub type Operation = (u8, u8, Vec<u8>);

/// A table and what it should be.
pub struct Bed {
    topics: Topics,
    limits: TopicLimits,
    /// In the order in which they were made.
    pairs: Vec<(u32, String)>,
    configured: Vec<(String, TopicSettings)>,
    events: VecDeque<TopicEvent>,
    /// Every id that was ever seen, and its pattern while that is there.
    ids: Vec<(TopicId, Option<String>)>,
}

impl Bed {
    pub fn new(seed: u64) -> Self {
        let mut limits = TopicLimits::default();
        (limits.topics_max, limits.subscriptions_max) = (8, 16);
        limits.subscriptions_per_connection_max = 6;
        (limits.name_bytes_max, limits.levels_max) = (8, 4);
        Self {
            topics: Topics::new(&limits, seed),
            limits,
            pairs: Vec::new(),
            configured: Vec::new(),
            events: VecDeque::new(),
            ids: Vec::new(),
        }
    }

    pub fn apply(&mut self, (what, subscriber, levels): &Operation) {
        let (subscriber, text) = (u32::from(subscriber % SUBSCRIBERS), pattern(levels));
        match what % 16 {
            0..6 => self.subscribe(subscriber, &text),
            6..8 => self.unsubscribe(subscriber, &text),
            8 => {
                self.topics.unsubscribe_all(subscriber);
                while let Some(at) = self.pairs.iter().rposition(|pair| pair.0 == subscriber) {
                    self.leave(at);
                }
            }
            9 => self.configure(&text, subscriber as usize),
            10 => {
                let at = self.configured.iter().position(|(there, _)| *there == text);
                at.map(|at| self.configured.remove(at));
                assert_eq!(self.topics.unconfigure(&text), at.is_some());
            }
            11 => self.check_events(),
            _ => self.publish(&text),
        }
        self.check();
    }

    /// Takes everything away; nothing may be left.
    pub fn finish(mut self) {
        for subscriber in 0..SUBSCRIBERS {
            self.apply(&(8, subscriber, Vec::new()));
        }
        while let Some((text, _)) = self.configured.pop() {
            assert!(self.topics.unconfigure(&text));
        }
        self.check_events();
        self.check();
        assert_eq!(self.topics.pinned_bytes(), 0);
    }

    fn subscribe(&mut self, subscriber: u32, text: &str) {
        let pair = (subscriber, text.to_owned());
        let own = self.pairs.iter().filter(|pair| pair.0 == subscriber).count();
        let is_new_topic = !self.is_there(text);
        let expected = if !is_filter(text, &self.limits) {
            None
        } else if self.pairs.contains(&pair) {
            Some(Ok(Subscribed::Already))
        } else if own == self.limits.subscriptions_per_connection_max as usize {
            Some(Err(SubscribeError::TooManyOfConnection))
        } else if self.pairs.len() == self.limits.subscriptions_max as usize {
            Some(Err(SubscribeError::TooManySubscriptions))
        } else if is_new_topic && self.topic_count() == self.limits.topics_max as usize {
            Some(Err(SubscribeError::TooManyTopics))
        } else {
            if self.pairs.iter().all(|pair| pair.1 != text) {
                self.expect(text, TopicChange::First);
            }
            self.pairs.push(pair);
            Some(Ok(Subscribed::New))
        };
        let outcome = self.topics.subscribe(subscriber, text);
        match expected {
            Some(expected) => assert_eq!(outcome, expected, "{text:?}"),
            None => assert!(matches!(outcome, Err(SubscribeError::Pattern(_))), "{text:?}"),
        }
    }

    fn unsubscribe(&mut self, subscriber: u32, text: &str) {
        let at = self.pairs.iter().position(|pair| pair.0 == subscriber && pair.1 == text);
        if let Some(at) = at {
            self.leave(at);
        }
        assert_eq!(self.topics.unsubscribe(subscriber, text), at.is_some());
    }

    fn leave(&mut self, at: usize) {
        let (_, text) = self.pairs.remove(at);
        if self.pairs.iter().all(|pair| pair.1 != text) {
            self.expect(&text, TopicChange::Last);
        }
    }

    fn configure(&mut self, text: &str, bytes: usize) {
        let settings = TopicSettings::new(bytes, SlowPolicy::DropOldest);
        let is_room = self.is_there(text) || self.topic_count() < self.limits.topics_max as usize;
        let outcome = self.topics.configure(text, settings);
        if !is_filter(text, &self.limits) {
            assert!(matches!(outcome, Err(SubscribeError::Pattern(_))));
        } else if is_room {
            self.configured.retain(|(there, _)| there != text);
            self.configured.push((text.to_owned(), settings));
            self.meet(outcome.unwrap(), text);
        } else {
            assert_eq!(outcome, Err(SubscribeError::TooManyTopics));
        }
    }

    fn publish(&mut self, name: &str) {
        let mut delivered = Vec::new();
        let outcome =
            self.topics.matching(name, |subscriber, id, _| delivered.push((subscriber, id)));
        let is_name = is_filter(name, &self.limits) && !name.contains(['+', '#']);
        assert_eq!(outcome.is_ok(), is_name, "{name:?}");
        let mut again = Vec::new();
        let _ = self.topics.matching(name, |subscriber, id, _| again.push((subscriber, id)));
        assert_eq!(delivered, again, "the order is fixed between changes");
        let mut found = Vec::new();
        for (subscriber, id) in delivered {
            let text = self.topics.name(id).unwrap().to_owned();
            self.meet(id, &text);
            found.push((rank(&text), subscriber, text));
        }
        assert!(found.is_sorted_by_key(|(rank, ..)| rank), "{found:?}");
        found.sort_by_key(|(_, subscriber, _)| *subscriber);
        let expected = (0..u32::from(SUBSCRIBERS)).filter_map(|subscriber| {
            let own = self.pairs.iter().filter(|pair| is_name && pair.0 == subscriber);
            let matching = own.filter(|(_, text)| matches(text, name));
            let best = matching.min_by_key(|(_, text)| rank(text))?;
            Some((rank(&best.1), subscriber, best.1.clone()))
        });
        assert_eq!(found, expected.collect::<Vec<_>>(), "{name:?}");
    }

    fn meet(&mut self, id: TopicId, text: &str) {
        let known = self.ids.iter().find(|(known, _)| *known == id);
        match known {
            Some((_, there)) => assert_eq!(there.as_deref(), Some(text), "an id names one topic"),
            None => self.ids.push((id, Some(text.to_owned()))),
        }
    }

    fn check_events(&mut self) {
        while let Some(expected) = self.events.pop_front() {
            assert_eq!(self.topics.poll_event(), Some(expected));
        }
        assert_eq!(self.topics.poll_event(), None);
    }

    fn check(&mut self) {
        let Self { topics, pairs, configured, ids, .. } = self;
        for (id, text) in ids {
            let is_there = |text: &mut String| {
                pairs.iter().any(|pair| pair.1 == *text)
                    || configured.iter().any(|(there, _)| there == text)
            };
            if !text.as_mut().is_some_and(is_there) {
                *text = None;
            }
            assert_eq!(topics.name(*id), text.as_deref());
            let settings = configured.iter().find(|(there, _)| Some(there) == text.as_ref());
            assert_eq!(topics.settings(*id), settings.map(|(_, settings)| *settings));
        }
        for subscriber in 0..u32::from(SUBSCRIBERS) {
            let own = pairs.iter().rev().filter(|pair| pair.0 == subscriber);
            let own: Vec<_> = own.map(|pair| pair.1.as_str()).collect();
            assert_eq!(topics.subscriptions(subscriber).collect::<Vec<_>>(), own);
            assert_eq!(topics.count(subscriber) as usize, own.len());
        }
        for (_, text) in pairs.iter() {
            let count = pairs.iter().filter(|pair| pair.1 == *text).count();
            assert_eq!(topics.subscribers(text) as usize, count);
        }
        assert_eq!(topics.subscription_count(), pairs.len());
        assert_eq!(topics.topic_count(), self.topic_count());
    }

    fn expect(&mut self, text: &str, change: TopicChange) {
        self.events.push_back(TopicEvent { pattern: text.into(), change });
    }

    fn is_there(&self, text: &str) -> bool {
        self.texts().contains(&text)
    }

    fn topic_count(&self) -> usize {
        let mut texts = self.texts();
        texts.sort_unstable();
        texts.dedup();
        texts.len()
    }

    fn texts(&self) -> Vec<&str> {
        let subscribed = self.pairs.iter().map(|pair| pair.1.as_str());
        subscribed.chain(self.configured.iter().map(|(text, _)| text.as_str())).collect()
    }
}

/// A pattern of these levels, good or bad.
pub fn pattern(levels: &[u8]) -> String {
    const LEVELS: [&str; 16] =
        ["a", "b", "+", "#", "", "$", "a", "b", "+", "a", "b", "a+", "#b", "\0", "a", "+"];
    let levels: Vec<_> = levels.iter().map(|level| LEVELS[usize::from(level % 16)]).collect();
    levels.join("/")
}

/// MQTT 5.0 §4.7: whether a filter takes a name.
pub fn matches(filter: &str, name: &str) -> bool {
    fn levels_match(filter: &[&str], name: &[&str]) -> bool {
        match (filter, name) {
            (["#"], _) | ([], []) => true,
            (["+", filter @ ..], [_, name @ ..]) => levels_match(filter, name),
            ([wanted, filter @ ..], [level, name @ ..]) => {
                wanted == level && levels_match(filter, name)
            }
            _ => false,
        }
    }
    let levels = |text| str::split(text, '/').collect::<Vec<_>>();
    let is_hidden = name.starts_with('$') && filter.starts_with(['+', '#']);
    !is_hidden && levels_match(&levels(filter), &levels(name))
}

/// MQTT 5.0 §4.7.1, §4.7.3: whether this may be subscribed to, within the limits.
fn is_filter(text: &str, limits: &TopicLimits) -> bool {
    let levels: Vec<_> = text.split('/').collect();
    let are_levels = levels.iter().enumerate().all(|(at, level)| match *level {
        "#" => at + 1 == levels.len(),
        "+" => true,
        other => !other.contains(['+', '#', '\0']),
    });
    let is_short = text.len() <= limits.name_bytes_max.into();
    !text.is_empty() && is_short && levels.len() <= limits.levels_max.into() && are_levels
}

/// The order of patterns: the exact name, then at each level `#`, literals, `+`.
fn rank(text: &str) -> Vec<u8> {
    if !text.contains(['+', '#']) {
        return Vec::new();
    }
    let ranks = text.split('/').map(|level| match level {
        "#" => 0,
        "+" => 2,
        _ => 1,
    });
    ranks.chain([3]).collect()
}

const SUBSCRIBERS: u8 = 5;
