//! The table of topics.

use std::collections::VecDeque;
use std::fmt;

use crate::collections::hashing::Hashing;
use crate::collections::index::Index;
use crate::collections::{Key, Table};
use crate::limits::TopicLimits;

use super::filters::Filters;
use super::membership::Membership;
use super::names::{NameError, Pattern};
use super::settings::TopicSettings;

/// The topics of one loop and who is subscribed to them.
///
/// Subscribers are small numbers that the caller gives, dense and reused: the index of a
/// connection's slot. Before a number is used anew its subscriptions must have been taken away by
/// [`Topics::unsubscribe_all`]. A topic is there as long as somebody is subscribed to its pattern or
/// it has settings. After each change [`Topics::poll_event`] should be asked, or events pile up.
#[derive(Debug)]
pub struct Topics {
    limits: TopicLimits,
    hashing: Hashing,
    topics: Table<Topic>,
    /// Topics by their patterns.
    names: Index,
    filters: Filters,
    members: Membership,
    events: VecDeque<TopicEvent>,
    /// The memory of all patterns, of topics and in events.
    pattern_bytes: usize,
    /// The topics that the message goes to which is published just now.
    matched: Vec<u32>,
    /// How many times subscribers were sought for whom several patterns may match.
    rounds: u64,
    /// By subscriber: the round in which it was found last.
    found_in: Vec<u64>,
}

/// Names one topic, for ever: once it has gone, its id is a miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicId(Key);

impl TopicId {
    /// The same as a number.
    pub const fn to_u64(self) -> u64 {
        (self.0.generation as u64) << 32 | self.0.index as u64
    }
}

/// What a subscription has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Subscribed {
    /// The subscriber is subscribed from now on.
    New,
    /// It was subscribed to the same pattern already.
    Already,
}

/// A pattern got its first subscriber or lost its last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicEvent {
    /// As it was subscribed to.
    pub pattern: Box<str>,
    /// Which of the two.
    pub change: TopicChange,
}

/// How a pattern's subscribers have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicChange {
    /// There is one where there was none.
    First,
    /// There is none any more.
    Last,
}

/// Why a subscription was refused; nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The pattern breaks a rule.
    Pattern(NameError),
    /// The subscriber has [`TopicLimits::subscriptions_per_connection_max`] already.
    TooManyOfConnection,
    /// The loop has [`TopicLimits::subscriptions_max`] already.
    TooManySubscriptions,
    /// The pattern is new, and the loop has [`TopicLimits::topics_max`] already.
    TooManyTopics,
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern(error) => error.fmt(f),
            Self::TooManyOfConnection => f.write_str("the connection has too many subscriptions"),
            Self::TooManySubscriptions => f.write_str("there are too many subscriptions"),
            Self::TooManyTopics => f.write_str("there are too many topics"),
        }
    }
}

impl std::error::Error for SubscribeError {}

impl From<NameError> for SubscribeError {
    fn from(error: NameError) -> Self {
        Self::Pattern(error)
    }
}

#[derive(Debug)]
struct Topic {
    pattern: Box<str>,
    settings: Option<TopicSettings>,
}

impl Topics {
    /// Makes an empty table; `seed` keeps peers from foreseeing its hashes.
    pub fn new(limits: &TopicLimits, seed: u64) -> Self {
        let hashing = Hashing::new(seed);
        Self {
            topics: Table::new(limits.topics_max, 0),
            limits: limits.clone(),
            names: Index::default(),
            filters: Filters::new(hashing.clone()),
            members: Membership::new(hashing.clone()),
            hashing,
            events: VecDeque::new(),
            pattern_bytes: 0,
            matched: Vec::new(),
            rounds: 0,
            found_in: Vec::new(),
        }
    }

    /// Subscribes to a pattern: the name of a topic, or a filter.
    ///
    /// # Errors
    /// [`SubscribeError`] when the pattern breaks a rule or a bound is reached.
    pub fn subscribe(
        &mut self,
        subscriber: u32,
        pattern: &str,
    ) -> Result<Subscribed, SubscribeError> {
        self.limits.check_pattern(pattern)?;
        let found = self.find(pattern);
        if found.is_some_and(|topic| self.members.contains(topic, subscriber)) {
            return Ok(Subscribed::Already);
        }
        if self.count(subscriber) >= self.limits.subscriptions_per_connection_max {
            return Err(SubscribeError::TooManyOfConnection);
        }
        if self.members.len() >= self.limits.subscriptions_max as usize {
            return Err(SubscribeError::TooManySubscriptions);
        }
        let topic = match found {
            Some(topic) => topic,
            None => self.intern(pattern)?.index,
        };
        self.members.join(topic, subscriber);
        if self.members.of(topic).len() == 1 {
            self.push_event(pattern.into(), TopicChange::First);
        }
        Ok(Subscribed::New)
    }

    /// Ends a subscription to exactly this pattern; says whether there was one.
    pub fn unsubscribe(&mut self, subscriber: u32, pattern: &str) -> bool {
        let Some(topic) = self.find(pattern) else { return false };
        let was_subscribed = self.members.leave(topic, subscriber);
        if was_subscribed {
            self.have_left(topic);
        }
        was_subscribed
    }

    /// Ends all subscriptions of a connection, in time that goes by how many it has.
    pub fn unsubscribe_all(&mut self, subscriber: u32) {
        while let Some(topic) = self.members.leave_one(subscriber) {
            self.have_left(topic);
        }
    }

    /// The patterns that a connection is subscribed to, the latest first.
    pub fn subscriptions(&self, subscriber: u32) -> impl Iterator<Item = &str> {
        let topics = self.members.topics_of(subscriber);
        topics.filter_map(|topic| self.topic(topic)).map(|topic| &*topic.pattern)
    }

    /// How many patterns a connection is subscribed to.
    pub fn count(&self, subscriber: u32) -> u32 {
        self.members.count(subscriber)
    }

    /// How many subscribers exactly this pattern has.
    pub fn subscribers(&self, pattern: &str) -> u32 {
        self.find(pattern).map_or(0, |topic| self.members.of(topic).len() as u32)
    }

    /// How many topics there are.
    #[cfg(any(test, fuzzing))]
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// How many subscriptions there are.
    pub fn subscription_count(&self) -> usize {
        self.members.len()
    }

    /// Calls `deliver` once for each subscriber that a message to `name` goes to, however many of
    /// its patterns match, with the pattern by which it was found first and its settings: the exact name comes
    /// before filters, and these have an order that only their coming and going changes. Of the
    /// subscribers of one pattern, too.
    ///
    /// # Errors
    /// [`NameError`] when nothing can be published to such a name; nothing was delivered.
    pub fn matching(
        &mut self,
        name: &str,
        mut deliver: impl FnMut(u32, TopicId, Option<TopicSettings>),
    ) -> Result<(), NameError> {
        self.limits.check_name(name)?;
        let hash = self.hashing.text(0, name);
        let exact = self.find_hashed(name, hash);
        let Self { topics, filters, members, matched, rounds, found_in, .. } = self;
        matched.clear();
        let all = exact.into_iter().chain(filters.matching(name, hash).iter().copied());
        matched.extend(all.filter(|topic| !members.of(*topic).is_empty()));
        let about = |topic: u32| {
            let key = topics.key_at(topic)?;
            Some((TopicId(key), topics.get(key)?.settings))
        };
        if let [only] = matched[..] {
            let Some((id, settings)) = about(only) else { return Ok(()) };
            members.of(only).iter().for_each(|member| deliver(member.subscriber, id, settings));
            return Ok(());
        }
        *rounds += 1;
        found_in.resize(members.subscribers_end(), 0);
        for topic in matched {
            let Some((id, settings)) = about(*topic) else { continue };
            for member in members.of(*topic) {
                let found_in = &mut found_in[member.subscriber as usize];
                if *found_in != *rounds {
                    *found_in = *rounds;
                    deliver(member.subscriber, id, settings);
                }
            }
        }
        Ok(())
    }

    /// Gives a pattern settings, which it keeps though nobody is subscribed.
    ///
    /// # Errors
    /// [`SubscribeError`] when the pattern breaks a rule or there are too many topics.
    pub fn configure(
        &mut self,
        pattern: &str,
        settings: TopicSettings,
    ) -> Result<TopicId, SubscribeError> {
        self.limits.check_pattern(pattern)?;
        let found = self.find(pattern).and_then(|topic| self.topics.key_at(topic));
        let key = match found {
            Some(key) => key,
            None => self.intern(pattern)?,
        };
        if let Some(topic) = self.topics.get_mut(key) {
            topic.settings = Some(settings);
        }
        Ok(TopicId(key))
    }

    /// Takes the settings of a pattern away; says whether it had some.
    pub fn unconfigure(&mut self, pattern: &str) -> bool {
        let Some(key) = self.find(pattern).and_then(|topic| self.topics.key_at(topic)) else {
            return false;
        };
        let settings = self.topics.get_mut(key).and_then(|topic| topic.settings.take());
        if self.members.of(key.index).is_empty() {
            self.remove(key);
        }
        settings.is_some()
    }

    /// The settings of a topic, if it is there and has some.
    #[cfg(any(test, fuzzing))]
    pub fn settings(&self, topic: TopicId) -> Option<TopicSettings> {
        self.topics.get(topic.0)?.settings
    }

    /// The pattern of a topic, if it is there.
    pub fn name(&self, topic: TopicId) -> Option<&str> {
        self.topics.get(topic.0).map(|topic| &*topic.pattern)
    }

    /// How many changes [`Topics::poll_event`] has to tell.
    pub fn events(&self) -> usize {
        self.events.len()
    }

    /// The oldest change between no subscriber and one that was not told yet. One that was taken
    /// back at once is told all the same, both ways.
    pub fn poll_event(&mut self) -> Option<TopicEvent> {
        let event = self.events.pop_front()?;
        self.pattern_bytes -= event.pattern.len();
        if self.events.is_empty() {
            self.events = VecDeque::new();
        }
        Some(event)
    }

    /// The memory that the table holds.
    pub fn pinned_bytes(&self) -> usize {
        self.topics.pinned_bytes()
            + self.names.pinned_bytes()
            + self.filters.pinned_bytes()
            + self.members.pinned_bytes()
            + self.events.capacity() * size_of::<TopicEvent>()
            + self.pattern_bytes
            + self.matched.capacity() * size_of::<u32>()
            + self.found_in.capacity() * size_of::<u64>()
    }

    fn topic(&self, index: u32) -> Option<&Topic> {
        self.topics.get(self.topics.key_at(index)?)
    }

    fn find(&self, pattern: &str) -> Option<u32> {
        self.find_hashed(pattern, self.hashing.text(0, pattern))
    }

    fn find_hashed(&self, pattern: &str, hash: u64) -> Option<u32> {
        let is = |topic| self.topic(topic).is_some_and(|topic| *topic.pattern == *pattern);
        self.names.find(hash, is)
    }

    /// Makes the topic of a pattern that has none.
    fn intern(&mut self, pattern: &str) -> Result<Key, SubscribeError> {
        let topic = Topic { pattern: pattern.into(), settings: None };
        let key = self.topics.insert(topic).map_err(|_| SubscribeError::TooManyTopics)?;
        self.pattern_bytes += pattern.len();
        let Self { hashing, topics, .. } = self;
        self.names.insert(key.index, hashing.text(0, pattern), |index| {
            let topic = topics.key_at(index).and_then(|key| topics.get(key));
            hashing.text(0, &topic.expect("a topic that has a name is there").pattern)
        });
        if Pattern::of(pattern) == Pattern::Filter {
            self.filters.insert(pattern, key.index);
        }
        Ok(key)
    }

    /// A topic has a subscriber less.
    fn have_left(&mut self, topic: u32) {
        let Some(key) = self.topics.key_at(topic) else { return };
        if !self.members.of(topic).is_empty() {
            return;
        }
        let kept = self.topics.get(key).filter(|topic| topic.settings.is_some());
        let kept = kept.map(|topic| topic.pattern.clone());
        if let Some(pattern) = kept.or_else(|| self.remove(key)) {
            self.push_event(pattern, TopicChange::Last);
        }
        if self.members.is_empty() {
            self.matched = Vec::new();
            self.found_in = Vec::new();
        }
    }

    fn remove(&mut self, key: Key) -> Option<Box<str>> {
        let Topic { pattern, .. } = self.topics.remove(key)?;
        self.topics.free_if_empty();
        self.pattern_bytes -= pattern.len();
        self.names.remove(key.index, self.hashing.text(0, &pattern));
        if Pattern::of(&pattern) == Pattern::Filter {
            self.filters.remove(&pattern);
        }
        Some(pattern)
    }

    fn push_event(&mut self, pattern: Box<str>, change: TopicChange) {
        self.pattern_bytes += pattern.len();
        self.events.push_back(TopicEvent { pattern, change });
    }
}
