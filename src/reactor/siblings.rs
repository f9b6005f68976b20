//! The loops beside this one, which get what is published here, and what other threads publish.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::command::{Command, Handle, PostError};
use super::id::ShardIndex;
use super::turn::Timer;
use crate::collections::Wheel;
use crate::protocol::PreparedMessage;

/// A message of a topic, on its way to a loop. It is made by those who publish.
#[derive(Clone, Debug)]
pub struct TopicMessage {
    pub(super) topic: Box<str>,
    pub(super) key: Option<u64>,
    pub(super) message: PreparedMessage,
    /// The loop that counts it; `None` if that was done where it comes from.
    pub(super) counted_by: Option<ShardIndex>,
}

impl TopicMessage {
    /// The memory of several.
    fn bytes(messages: &[Self]) -> usize {
        let bytes = messages.iter().map(|it| it.topic.len() + it.message.frame().len());
        size_of_val(messages) + bytes.sum::<usize>()
    }
}

/// The loops beside one, and what is on its way to them.
#[derive(Debug, Default)]
pub(super) struct Siblings {
    siblings: Vec<Sibling>,
    /// What was published in this turn.
    batch: Vec<TopicMessage>,
    retry: Retry,
}

/// Another loop of the server.
#[derive(Debug)]
struct Sibling {
    handle: Handle,
    /// What its mailbox has had no room for.
    waiting: VecDeque<Arc<[TopicMessage]>>,
    waiting_messages: usize,
    waiting_bytes: usize,
}

/// Whether mailboxes that were full are tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Retry {
    #[default]
    None,
    Armed,
    Due,
}

impl Siblings {
    pub(super) fn new(handles: impl IntoIterator<Item = Handle>) -> Self {
        let sibling = |handle| Sibling {
            handle,
            waiting: VecDeque::new(),
            waiting_messages: 0,
            waiting_bytes: 0,
        };
        Self { siblings: handles.into_iter().map(sibling).collect(), ..Self::default() }
    }

    /// Whether one of them has fallen too far behind.
    pub(super) fn is_congested(&self) -> bool {
        self.siblings.iter().any(|sibling| {
            sibling.waiting_messages >= WAITING_MAX || sibling.waiting_bytes >= WAITING_BYTES_MAX
        })
    }

    /// Messages that have found no room in mailboxes, once for each.
    pub(super) fn waiting_messages(&self) -> usize {
        self.siblings.iter().map(|sibling| sibling.waiting_messages).sum()
    }

    /// The memory of what waits. For several loops it is the same.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.siblings.iter().map(|sibling| sibling.waiting_bytes).max().unwrap_or(0)
    }

    /// A message was published: it leaves at the end of the turn.
    pub(super) fn note(&mut self, topic: &str, key: Option<u64>, message: &PreparedMessage) {
        if !self.siblings.is_empty() {
            let (topic, message) = (topic.into(), message.clone());
            self.batch.push(TopicMessage { topic, key, message, counted_by: None });
        }
    }

    pub(super) fn handle_retry(&mut self) {
        self.retry = Retry::Due;
    }

    /// Posts what this turn has published, behind what waits; where there is no room it is tried
    /// again later.
    pub(super) fn post(&mut self, wheel: &mut Wheel<Timer>, now: Instant) {
        let batch = mem::take(&mut self.batch);
        let batch: Option<Arc<[TopicMessage]>> = (!batch.is_empty()).then(|| batch.into());
        let mut is_waiting = false;
        for sibling in &mut self.siblings {
            if let Some(batch) = &batch {
                sibling.waiting_messages += batch.len();
                sibling.waiting_bytes += TopicMessage::bytes(batch);
                sibling.waiting.push_back(batch.clone());
            }
            sibling.post();
            is_waiting |= !sibling.waiting.is_empty();
        }
        self.retry = match (is_waiting, self.retry) {
            (false, Retry::None | Retry::Due) => Retry::None,
            (_, Retry::Armed) => Retry::Armed,
            (true, Retry::None | Retry::Due) => {
                wheel.insert(now + RETRY_AFTER, Timer::Published);
                Retry::Armed
            }
        };
    }
}

impl Sibling {
    fn post(&mut self) {
        while let Some(batch) = self.waiting.pop_front() {
            let (messages, bytes) = (batch.len(), TopicMessage::bytes(&batch));
            match self.handle.post(Command::Publish(batch)) {
                Err(PostError::Full(Command::Publish(batch))) => {
                    self.waiting.push_front(batch);
                    return;
                }
                Ok(()) | Err(_) => {
                    self.waiting_messages -= messages;
                    self.waiting_bytes -= bytes;
                }
            }
        }
    }
}

impl Handle {
    /// Publishes a message to the subscribers of this loop alone. See
    /// [`ServerHandle::publish`](crate::ServerHandle::publish).
    ///
    /// # Errors
    /// [`PostError::InvalidName`] if messages cannot be published to such a name, else as
    /// [`Handle::post`].
    pub fn publish(&self, topic: &str, message: &PreparedMessage) -> Result<(), PostError> {
        self.post(Command::Publish(self.topic_message(topic, None, message)?))
    }

    /// The same, with what [`SlowPolicy::Conflate`](crate::SlowPolicy) tells messages of one topic
    /// apart by.
    ///
    /// # Errors
    /// As [`Handle::publish`].
    pub fn publish_keyed(
        &self,
        topic: &str,
        key: u64,
        message: &PreparedMessage,
    ) -> Result<(), PostError> {
        self.post(Command::Publish(self.topic_message(topic, Some(key), message)?))
    }

    /// One for this loop, and perhaps for others, which do not count it.
    pub(crate) fn topic_message(
        &self,
        topic: &str,
        key: Option<u64>,
        message: &PreparedMessage,
    ) -> Result<Arc<[TopicMessage]>, PostError> {
        self.topics.check_name(topic).map_err(PostError::InvalidName)?;
        let (topic, message, counted_by) = (topic.into(), message.clone(), Some(self.shard()));
        Ok(Arc::from([TopicMessage { topic, key, message, counted_by }]))
    }
}

/// When a mailbox that was full is tried again: a tick of the wheel.
const RETRY_AFTER: Duration = Duration::from_millis(1);

/// Messages that wait for the mailbox of another loop; beyond it publishing is refused.
const WAITING_MAX: usize = 1 << 16;

/// The same in bytes. Guess: half a second of a gigabit network, for which a loop stands still.
const WAITING_BYTES_MAX: usize = 64 << 20;
