//! Who is subscribed to what, in numbers alone.

use crate::collections::growth;
use crate::collections::hashing::Hashing;
use crate::collections::index::{Index, NONE};

/// Pairs of a topic and a subscriber: both are numbers that the caller gives, dense and reused.
///
/// ```text
///   topics[7] ─► [ {subscriber 3, entry 0}, {subscriber 9, entry 4}, … ]   contiguous: publishing walks it
///                        ▲ position                │
///   entries[4] = { topic 7, position 1, next, previous } ◄┘
///                                         ▲ newest
///   subscribers[9] ───────────────────────┘           pairs: (topic, subscriber) ─► entry
/// ```
///
/// Joining and leaving take constant time. Entries stay dense: the last one moves into the place
/// of one that goes. A pair costs 32 bytes (8 + 16 + 8) and an eighth at most.
#[derive(Debug)]
pub struct Membership {
    hashing: Hashing,
    entries: Vec<Entry>,
    pairs: Index,
    topics: Vec<Vec<Member>>,
    subscribers: Vec<Subscriber>,
    /// The memory of what `topics` holds.
    member_bytes: usize,
}

/// One who is subscribed to a topic.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    pub subscriber: u32,
    entry: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    topic: u32,
    /// Where the subscriber stands among the topic's.
    position: u32,
    /// The subscriber's entry before this one was made, or `NONE`.
    next: u32,
    /// The one after it, or `NONE`.
    previous: u32,
}

#[derive(Clone, Copy, Debug)]
struct Subscriber {
    /// The entry made last, or `NONE`.
    newest: u32,
    count: u32,
}

impl Membership {
    pub fn new(hashing: Hashing) -> Self {
        Self {
            hashing,
            entries: Vec::new(),
            pairs: Index::default(),
            topics: Vec::new(),
            subscribers: Vec::new(),
            member_bytes: 0,
        }
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether the pair is there.
    pub fn contains(&self, topic: u32, subscriber: u32) -> bool {
        self.find(topic, subscriber).is_some()
    }

    /// The subscribers of a topic.
    #[inline]
    pub fn of(&self, topic: u32) -> &[Member] {
        self.topics.get(topic as usize).map_or(&[], Vec::as_slice)
    }

    /// To how many topics somebody is subscribed.
    pub fn count(&self, subscriber: u32) -> u32 {
        self.subscribers.get(subscriber as usize).map_or(0, |subscriber| subscriber.count)
    }

    /// A bound on the numbers of all subscribers.
    pub fn subscribers_end(&self) -> usize {
        self.subscribers.len()
    }

    /// To which topics somebody is subscribed, the latest first.
    pub fn topics_of(&self, subscriber: u32) -> impl Iterator<Item = u32> {
        let newest = self.subscribers.get(subscriber as usize).map_or(NONE, |it| it.newest);
        let entry = |at: u32| self.entries.get(at as usize);
        std::iter::successors(entry(newest), move |it| entry(it.next)).map(|entry| entry.topic)
    }

    /// Adds a pair that is not there.
    pub fn join(&mut self, topic: u32, subscriber: u32) {
        if topic as usize >= self.topics.len() {
            self.topics.resize_with(topic as usize + 1, Vec::new);
        }
        growth::extend_to(&mut self.subscribers, subscriber as usize + 1, Subscriber::NEW);
        let number = self.entries.len() as u32;
        let owner = &mut self.subscribers[subscriber as usize];
        let next = std::mem::replace(&mut owner.newest, number);
        owner.count += 1;
        if let Some(next) = self.entries.get_mut(next as usize) {
            next.previous = number;
        }
        let members = &mut self.topics[topic as usize];
        let position = members.len() as u32;
        self.member_bytes -= growth::bytes(members);
        growth::push(members, Member { subscriber, entry: number });
        self.member_bytes += growth::bytes(members);
        growth::push(&mut self.entries, Entry { topic, position, next, previous: NONE });
        let hash = self.hashing.pair(topic, subscriber);
        let Self { hashing, entries, topics, .. } = self;
        self.pairs.insert(number, hash, |number| hash_of(hashing, entries, topics, number));
    }

    /// Takes a pair away; says whether it was there.
    pub fn leave(&mut self, topic: u32, subscriber: u32) -> bool {
        let found = self.find(topic, subscriber);
        if let Some(number) = found {
            self.remove(number);
        }
        found.is_some()
    }

    /// Takes the latest pair of a subscriber away; its topic.
    pub fn leave_one(&mut self, subscriber: u32) -> Option<u32> {
        let number = self.subscribers.get(subscriber as usize)?.newest;
        let topic = self.entries.get(number as usize)?.topic;
        self.remove(number);
        Some(topic)
    }

    /// The memory that it holds.
    pub fn pinned_bytes(&self) -> usize {
        growth::bytes(&self.entries)
            + growth::bytes(&self.topics)
            + growth::bytes(&self.subscribers)
            + self.member_bytes
            + self.pairs.pinned_bytes()
    }

    fn find(&self, topic: u32, subscriber: u32) -> Option<u32> {
        let members = self.topics.get(topic as usize)?;
        self.pairs.find(self.hashing.pair(topic, subscriber), |number| {
            let entry = &self.entries[number as usize];
            entry.topic == topic && members[entry.position as usize].subscriber == subscriber
        })
    }

    fn remove(&mut self, number: u32) {
        self.pairs.remove(number, hash_of(&self.hashing, &self.entries, &self.topics, number));
        let Entry { topic, position, next, previous } = self.entries[number as usize];
        let members = &mut self.topics[topic as usize];
        let gone = members.swap_remove(position as usize);
        if let Some(moved) = members.get(position as usize) {
            self.entries[moved.entry as usize].position = position;
        }
        self.member_bytes -= growth::bytes(members);
        growth::shrink(members);
        self.member_bytes += growth::bytes(members);
        let owner = &mut self.subscribers[gone.subscriber as usize];
        owner.count -= 1;
        match self.entries.get_mut(previous as usize) {
            Some(previous) => previous.next = next,
            None => owner.newest = next,
        }
        if let Some(next) = self.entries.get_mut(next as usize) {
            next.previous = previous;
        }
        self.fill(number);
        if self.is_empty() {
            self.topics = Vec::new();
            self.subscribers = Vec::new();
        }
    }

    /// Moves the last entry into a place that nothing refers to any more.
    fn fill(&mut self, number: u32) {
        let last = self.entries.len() as u32 - 1;
        if number != last {
            let hash = hash_of(&self.hashing, &self.entries, &self.topics, last);
            self.pairs.rename(last, number, hash);
            let Entry { topic, position, next, previous } = self.entries[last as usize];
            let member = &mut self.topics[topic as usize][position as usize];
            member.entry = number;
            match self.entries.get_mut(previous as usize) {
                Some(previous) => previous.next = number,
                None => self.subscribers[member.subscriber as usize].newest = number,
            }
            if let Some(next) = self.entries.get_mut(next as usize) {
                next.previous = number;
            }
        }
        self.entries.swap_remove(number as usize);
        growth::shrink(&mut self.entries);
    }
}

impl Subscriber {
    const NEW: Self = Self { newest: NONE, count: 0 };
}

/// The hash of the pair that an entry stands for.
fn hash_of(hashing: &Hashing, entries: &[Entry], topics: &[Vec<Member>], number: u32) -> u64 {
    let Entry { topic, position, .. } = entries[number as usize];
    hashing.pair(topic, topics[topic as usize][position as usize].subscriber)
}
