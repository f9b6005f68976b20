//! What becomes of a topic's messages that a subscriber does not take.

/// How messages of one topic go to subscribers who take them more slowly than they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicSettings {
    /// Unsent bytes of a connection from which on [`TopicSettings::slow`] decides about further
    /// messages of this topic to it.
    pub backpressure_bytes_max: usize,
    /// What is done then.
    pub slow: SlowPolicy,
}

impl TopicSettings {
    /// Puts the two together.
    pub const fn new(backpressure_bytes_max: usize, slow: SlowPolicy) -> Self {
        Self { backpressure_bytes_max, slow }
    }
}

/// 1 MiB, as for all that is sent to a connection, and then a close: who has subscribed misses
/// nothing unknowingly.
impl Default for TopicSettings {
    fn default() -> Self {
        Self::new(BACKPRESSURE_BYTES_MAX, SlowPolicy::Close)
    }
}

const BACKPRESSURE_BYTES_MAX: usize = 1 << 20;

/// What is done about a message for a subscriber whose queue is full. A frame of which a byte was
/// written is never touched, whatever the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlowPolicy {
    /// The connection is closed with 1013 and a reason. For subscribers who must not miss a message
    /// and had better come again.
    Close,
    /// The new message is dropped for this subscriber. For what is late when it is old.
    SkipNew,
    /// The oldest messages of the queue that came by the same subscription are dropped, whole ones,
    /// until there is room. For streams whose latest part counts. Connections that were dialled skip
    /// the new one instead: their frames are masked for each alone.
    DropOldest,
    /// A new message takes the place in the queue of the one with the same topic and key, if that
    /// still waits: of each key the newest survives, and of those without one. A key for which there
    /// is no room closes the connection. For the state of things, as prices are. Connections that
    /// were dialled skip the new one instead.
    Conflate,
}
