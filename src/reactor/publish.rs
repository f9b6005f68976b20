//! Publishing: from a loop to its subscribers, and to those of the loops beside it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem;

use super::command::Handle;
use super::context::{Peer, SlotSink, Writer};
use super::event_loop::Loop;
use super::handler::Handler;
use super::net::Net;
use super::shared::Shared;
use super::siblings::{Siblings, TopicMessage};
use super::slot::Phase;
use super::turn::Reactor;
use crate::collections::Key;
use crate::limits::TopicLimits;
use crate::metrics::Counters;
use crate::protocol::{PreparedMessage, Publication, Receipt, Route, Sender, Transmit};
use crate::pubsub::{NameError, SubscribeError, Subscribed, TopicId, TopicSettings, Topics};

/// How many subscribers of a loop a message went to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// Those whose queues have taken it.
    pub taken: u32,
    /// Those that it was not sent to: they are too slow, parting, or being sent a message in parts.
    pub skipped: u32,
}

/// Messages of a topic that a subscriber does not get, because it is too slow, or was being sent
/// another one in parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dropped {
    /// Those that were not taken.
    pub skipped: u64,
    /// Those that had waited, and made room for newer ones.
    pub displaced: u64,
    /// Those that a newer one of their key has taken the place of.
    pub conflated: u64,
}

/// Why a message was not published.
#[derive(Debug)]
#[non_exhaustive]
pub enum PublishError {
    /// Messages cannot be published to this name.
    Name(NameError),
    /// Another loop of the server does not take what is published here: 65,536 messages or 64 MiB
    /// wait for it. Nobody was sent this message.
    Congested,
}

impl fmt::Display for PublishError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => error.fmt(out),
            Self::Congested => out.write_str("another loop does not take what is published"),
        }
    }
}

impl Error for PublishError {}

impl From<NameError> for PublishError {
    fn from(error: NameError) -> Self {
        Self::Name(error)
    }
}

/// What a loop keeps of topics.
#[derive(Debug)]
pub(super) struct Subjects {
    topics: Topics,
    /// Keys what conflates.
    seed: u64,
    /// What slow subscribers have lost and were not told of, by connection and topic.
    dropped: BTreeMap<(Key, TopicId), Dropped>,
    /// Who has begun to be slow in this turn.
    fallen_behind: Vec<Key>,
    siblings: Siblings,
    /// Something of this has changed in this turn.
    is_stirred: bool,
}

/// A message to be published.
#[derive(Clone, Copy, Debug)]
struct News<'a> {
    topic: &'a str,
    key: Option<u64>,
    message: &'a PreparedMessage,
    /// Who does not get it.
    except: Option<u32>,
}

impl Subjects {
    pub(super) fn new(limits: &TopicLimits, seed: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(seed);
        let seed = hasher.finish();
        Self {
            topics: Topics::new(limits, seed),
            seed,
            dropped: BTreeMap::new(),
            fallen_behind: Vec::new(),
            siblings: Siblings::default(),
            is_stirred: false,
        }
    }

    pub(super) fn pinned_bytes(&self) -> usize {
        self.topics.pinned_bytes() + self.siblings.waiting_bytes()
    }

    pub(super) fn subscriptions(&self) -> usize {
        self.topics.subscription_count()
    }

    /// A connection has ended.
    pub(super) fn leave(&mut self, index: u32) {
        if self.topics.count(index) > 0 {
            self.topics.unsubscribe_all(index);
            self.is_stirred = true;
        }
    }

    /// Whether the turn has something to do about topics: all that it costs a turn that has not.
    #[inline]
    pub(super) const fn is_stirred(&self) -> bool {
        self.is_stirred
    }

    /// Whether something is to be told.
    fn has_news(&self) -> bool {
        !self.dropped.is_empty() || self.topics.events() > 0
    }

    /// A connection is held up, and was not before.
    pub(super) fn note_held_up(&mut self, key: Key) {
        if self.is_stirred {
            self.fallen_behind.push(key);
        }
    }

    pub(super) fn handle_retry(&mut self) {
        self.siblings.handle_retry();
        self.is_stirred = true;
    }

    /// Messages that have not found room in the mailboxes of other loops, once for each.
    pub(super) fn waiting_messages(&self) -> usize {
        self.siblings.waiting_messages()
    }

    /// What a message conflates by: its topic, and the key that it was given.
    fn conflation_key(&self, news: &News<'_>) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.seed);
        hasher.write(news.topic.as_bytes());
        news.key.hash(&mut hasher);
        hasher.finish()
    }
}

impl<D> Shared<D> {
    fn publish(&mut self, writer: &mut dyn Writer, news: News<'_>) -> Result<Published, NameError> {
        let key = self.subjects.conflation_key(&news);
        let mut publication = Publication::new(news.message, key);
        let mut published = Published::default();
        let Self { subjects, slots, pools, configs, counters, dirty, moment, .. } = self;
        let Subjects { topics, dropped, is_stirred, .. } = subjects;
        *is_stirred = true;
        let result = topics.matching(news.topic, |subscriber, topic, settings| {
            if news.except == Some(subscriber) {
                return;
            }
            let Some(key) = slots.key_at(subscriber) else { return };
            let Some(slot) = slots.get_mut(key) else { return };
            let Phase::Open { sender, .. } = &mut slot.phase else { return };
            let mut sink = SlotSink {
                writer: &mut *writer,
                socket: slot.socket,
                error: &mut slot.notes.write_error,
                bytes_sent: &mut counters.bytes_sent,
            };
            let config = configs.get(slot.config);
            let settings = settings.unwrap_or(config.published);
            let route = Route { owner: subscriber, topic: topic.to_u64(), settings };
            let mut transmit =
                Transmit { sender, pools: &mut *pools, config, now: *moment, sink: &mut sink };
            let receipt = transmit.publish(&mut publication, &route);
            if !slot.notes.dirty {
                slot.notes.dirty = true;
                dirty.push(key);
            }
            if !matches!(receipt, Receipt::Taken | Receipt::Parting) {
                note_dropped(dropped.entry((key, topic)).or_default(), receipt, counters);
            }
            match receipt {
                Receipt::Skipped | Receipt::Closed | Receipt::Parting => published.skipped += 1,
                _ => published.taken += 1,
            }
        });
        publication.finish(&mut self.pools);
        self.counters.messages_sent += u64::from(published.taken);
        result.map(|()| published)
    }
}

fn note_dropped(dropped: &mut Dropped, receipt: Receipt, counters: &mut Counters) {
    match receipt {
        Receipt::Taken | Receipt::Parting => {}
        Receipt::Conflated => {
            dropped.conflated += 1;
            counters.published_conflated += 1;
        }
        Receipt::Displaced { messages, .. } => {
            dropped.displaced += u64::from(messages);
            counters.published_displaced += u64::from(messages);
        }
        Receipt::Skipped | Receipt::Closed => {
            dropped.skipped += 1;
            counters.published_skipped += 1;
        }
    }
}

impl<D> Loop<'_, D> {
    /// Publishes a message to all subscribers of a topic, of this loop and of those beside it in
    /// their [`Server`](crate::Server). It is encoded once and leaves at the end of the turn, with
    /// whatever else the turn brings to the same subscriber. Says how many of this loop get it; that
    /// nobody has subscribed is no error.
    ///
    /// # Errors
    /// [`PublishError::Name`] if messages cannot be published to such a name;
    /// [`PublishError::Congested`].
    pub fn publish(
        &mut self,
        topic: &str,
        message: &PreparedMessage,
    ) -> Result<Published, PublishError> {
        self.publish_news(News { topic, key: None, message, except: None })
    }

    /// The same, with what [`SlowPolicy::Conflate`](crate::SlowPolicy) tells messages of one topic
    /// apart by.
    ///
    /// # Errors
    /// As [`Loop::publish`].
    pub fn publish_keyed(
        &mut self,
        topic: &str,
        key: u64,
        message: &PreparedMessage,
    ) -> Result<Published, PublishError> {
        self.publish_news(News { topic, key: Some(key), message, except: None })
    }

    fn publish_news(&mut self, news: News<'_>) -> Result<Published, PublishError> {
        if self.shared.subjects.siblings.is_congested() {
            return Err(PublishError::Congested);
        }
        let published = self.shared.publish(self.writer, news)?;
        self.shared.counters.published += 1;
        self.shared.subjects.siblings.note(news.topic, news.key, news.message);
        Ok(published)
    }

    /// How many connections of this loop have subscribed to exactly this.
    pub fn subscribers(&self, topic: &str) -> u32 {
        self.shared.subjects.topics.subscribers(topic)
    }

    /// Gives a topic settings of its own, instead of those that each connection has for topics in its
    /// [`Config`](crate::Config). They hold for subscriptions to exactly this, a filter or a name.
    ///
    /// # Errors
    /// As [`Peer::subscribe`].
    pub fn configure_topic(
        &mut self,
        topic: &str,
        settings: TopicSettings,
    ) -> Result<(), SubscribeError> {
        self.shared.subjects.topics.configure(topic, settings).map(|_| ())
    }

    /// Takes the settings of a topic away; says whether it had some.
    pub fn unconfigure_topic(&mut self, topic: &str) -> bool {
        self.shared.subjects.topics.unconfigure(topic)
    }
}

impl<D> Peer<'_, D> {
    /// Subscribes the connection to a topic or a filter of topics; says whether it had not before.
    /// It ends with the connection. Nothing happens to one that is not open: before `on_open`, and
    /// once a Close was sent or has come.
    ///
    /// # Errors
    /// What is wrong with the name, or which bound of [`TopicLimits`](crate::TopicLimits) is reached.
    pub fn subscribe(&mut self, topic: &str) -> Result<bool, SubscribeError> {
        if !self.is_open() {
            return Ok(false);
        }
        let subscribed = self.shared.subjects.topics.subscribe(self.key.index, topic)?;
        self.shared.subjects.is_stirred = true;
        Ok(subscribed == Subscribed::New)
    }

    /// Takes a subscription back; says whether there was one.
    pub fn unsubscribe(&mut self, topic: &str) -> bool {
        self.shared.subjects.is_stirred = true;
        self.is_there() && self.shared.subjects.topics.unsubscribe(self.key.index, topic)
    }

    /// What the connection has subscribed to.
    pub fn subscriptions(&self) -> impl Iterator<Item = &str> {
        let index = if self.is_there() { self.key.index } else { u32::MAX };
        self.shared.subjects.topics.subscriptions(index)
    }

    /// As [`Loop::publish`], to all but this connection.
    ///
    /// # Errors
    /// As [`Loop::publish`].
    pub fn publish(
        &mut self,
        topic: &str,
        message: &PreparedMessage,
    ) -> Result<Published, PublishError> {
        self.publish_to_others(topic, None, message)
    }

    /// The same, with what [`SlowPolicy::Conflate`](crate::SlowPolicy) tells messages of one topic
    /// apart by.
    ///
    /// # Errors
    /// As [`Peer::publish`].
    pub fn publish_keyed(
        &mut self,
        topic: &str,
        key: u64,
        message: &PreparedMessage,
    ) -> Result<Published, PublishError> {
        self.publish_to_others(topic, Some(key), message)
    }

    fn publish_to_others(
        &mut self,
        topic: &str,
        key: Option<u64>,
        message: &PreparedMessage,
    ) -> Result<Published, PublishError> {
        let except = self.is_there().then_some(self.key.index);
        let mut at = Loop { shared: &mut *self.shared, writer: &mut *self.writer };
        at.publish_news(News { topic, key, message, except })
    }

    fn is_there(&self) -> bool {
        self.shared.slots.get(self.key).is_some()
    }
}

impl<N: Net, H: Handler> Reactor<N, H> {
    /// The loops beside this one, which get what is published here.
    pub fn set_siblings(&mut self, siblings: impl IntoIterator<Item = Handle>) {
        self.shared.subjects.siblings = Siblings::new(siblings);
    }

    pub(super) fn handle_published(&mut self, messages: &[TopicMessage]) {
        for TopicMessage { topic, key, message, counted_by } in messages {
            let news = News { topic, key: *key, message, except: None };
            match self.shared.publish(&mut self.net, news) {
                Ok(_) if *counted_by == Some(self.shared.shard) => {
                    self.shared.counters.published += 1;
                }
                Ok(_) => {}
                // It was checked by a loop with other limits.
                Err(_) => self.shared.counters.sends_dropped += 1,
            }
        }
    }

    /// What was published in this turn has left: it is handed to the other loops.
    #[cold]
    pub(super) fn end_publishing(&mut self) {
        // All have been written to: who still refers to what this turn has published is slow.
        for key in mem::take(&mut self.shared.subjects.fallen_behind) {
            self.shared.with_transmit(key, &mut self.net, |transmit| transmit.leave_log());
        }
        self.shared.pools.outbox.frames.end_turn();
        self.shared.subjects.is_stirred = self.shared.subjects.has_news();
        let Shared { subjects, wheel, now, .. } = &mut self.shared;
        subjects.siblings.post(wheel, *now);
        self.note_published_growth();
    }

    /// Tells who lost what, and which topics have their first subscriber or none any more.
    #[cold]
    pub(super) fn tell_news(&mut self) {
        for ((key, topic), dropped) in mem::take(&mut self.shared.subjects.dropped) {
            let name: Option<Box<str>> = self.shared.subjects.topics.name(topic).map(Into::into);
            let is_open = self.shared.sender(key).is_some_and(Sender::is_open);
            if let Some(name) = name
                && is_open
            {
                self.call(key, |handler, ctx| handler.on_dropped(ctx, &name, &dropped));
            }
        }
        for _ in 0..self.shared.subjects.topics.events() {
            let Some(event) = self.shared.subjects.topics.poll_event() else { return };
            self.call_loop(|handler, at| handler.on_topic(at, &event.pattern, event.change));
        }
    }
}
