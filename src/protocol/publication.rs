//! One message for many subscribers of a loop.

use bytes::Bytes;

use super::compression::DeflateKey;
use super::event::Failure;
use super::message::PreparedMessage;
use super::pools::SendPools;
use super::sender::{Flow, Parts};
use super::transmit::Transmit;
use crate::collections::frames::LOG_FRAME_BYTES_MAX;
use crate::collections::{FrameRange, PoolExhausted, Recall};
use crate::pubsub::{SlowPolicy, TopicSettings};
use crate::wire::Role;

/// A message on its way to subscribers: encoded once for each form in which they get it, and shared
/// by reference. [`Publication::finish`] ends it.
#[derive(Debug)]
pub(crate) struct Publication<'m> {
    message: &'m PreparedMessage,
    /// Which of those about one topic conflate.
    key: u64,
    plain: Form,
    /// For those without context takeover, by the bits of their window.
    compressed: Vec<(u8, Bytes, Form)>,
}

/// One encoding of it.
#[derive(Clone, Copy, Debug, Default)]
struct Form {
    /// In the log of this turn, for those who take output.
    corked: Option<FrameRange>,
    /// In a block of its own, for those who do not, and for large ones.
    own: Option<FrameRange>,
}

/// The subscription that a message goes by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    /// Whose outbox it is.
    pub(crate) owner: u32,
    pub(crate) topic: u64,
    pub(crate) settings: TopicSettings,
}

/// What became of a message for one subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receipt {
    Taken,
    /// Taken, in the place of an older one with its key.
    Conflated,
    /// Taken; older ones had to go for it.
    Displaced {
        messages: u32,
        bytes: usize,
    },
    /// Not taken: the reader is too slow, or a message in parts is under way.
    Skipped,
    /// Not taken: the connection fails for it.
    Closed,
    /// Not taken: the connection parts.
    Parting,
}

impl Form {
    fn corked(&mut self, frame: &Bytes, pools: &mut SendPools) -> FrameRange {
        if let Some(range) = self.corked {
            return range;
        }
        let range = match frame.len() {
            ..=LOG_FRAME_BYTES_MAX => pools.outbox.frames.append(frame),
            _ => self.own(frame, pools),
        };
        // Another form may be what ends the log, before a subscriber has taken this one.
        pools.outbox.frames.retain(range);
        self.corked = Some(range);
        range
    }

    fn own(&mut self, frame: &Bytes, pools: &mut SendPools) -> FrameRange {
        *self.own.get_or_insert_with(|| pools.outbox.frames.insert(frame.clone()))
    }
}

impl<'m> Publication<'m> {
    pub(crate) fn new(message: &'m PreparedMessage, key: u64) -> Self {
        Self { message, key, plain: Form::default(), compressed: Vec::new() }
    }

    /// Nobody else gets it.
    pub(crate) fn finish(self, pools: &mut SendPools) {
        let forms = self.compressed.into_iter().map(|(_, _, form)| form).chain([self.plain]);
        for range in forms.flat_map(|form| [form.corked, form.own]).flatten() {
            pools.outbox.frames.release(range);
        }
    }

    fn range(&mut self, form: Encoding, flow: Flow, pools: &mut SendPools) -> FrameRange {
        let (frame, form) = match form {
            Encoding::Plain => (self.message.frame(), &mut self.plain),
            Encoding::Compressed(at) => {
                let (_, frame, form) = &mut self.compressed[at];
                (&*frame, form)
            }
        };
        match flow {
            Flow::Free => form.corked(frame, pools),
            Flow::Refused => form.own(frame, pools),
        }
    }
}

/// Which of the forms.
#[derive(Clone, Copy, Debug)]
enum Encoding {
    Plain,
    Compressed(usize),
}

/// How one subscriber gets it.
#[derive(Clone, Copy, Debug)]
enum Way {
    Shared(Encoding),
    /// Encoded for it alone: masked, or compressed with its context.
    Alone,
}

impl Transmit<'_> {
    /// Sends a message of a topic; a reader that is too slow gets what the topic's settings say.
    pub(crate) fn publish(&mut self, publication: &mut Publication<'_>, route: &Route) -> Receipt {
        if !self.sender.is_open() {
            return Receipt::Parting;
        }
        if self.sender.in_parts == Parts::Begun {
            return Receipt::Skipped;
        }
        let bytes_max = self.bytes_max(route);
        self.make_room(bytes_max);
        if self.sender.flow == Flow::Refused
            && self.config.role == Role::Server
            && let SlowPolicy::DropOldest | SlowPolicy::Conflate = route.settings.slow
        {
            return self.publish_recallable(publication, route, bytes_max);
        }
        if self.sender.queued_bytes() >= bytes_max {
            return match route.settings.slow {
                SlowPolicy::Close => self.give_up(Failure::Backpressure),
                _ => Receipt::Skipped,
            };
        }
        let pushed = match self.way(publication) {
            Way::Alone => {
                let outcome = self.send_prepared(publication.message);
                return if outcome.is_taken() { Receipt::Taken } else { Receipt::Closed };
            }
            Way::Shared(encoding) => {
                let range = publication.range(encoding, self.sender.flow, self.pools);
                self.sender.outbox.push_frames(&mut self.pools.outbox, range)
            }
        };
        match pushed {
            Ok(()) => Receipt::Taken,
            Err(PoolExhausted) => self.give_up(Failure::PoolExhausted),
        }
    }

    /// What waits and is a small part of what many wait for gets memory of its own.
    pub(crate) fn leave_log(&mut self) {
        self.sender.outbox.leave_log(&mut self.pools.outbox);
    }

    /// The same behind what the kernel has refused, so that the message can be taken back as long as
    /// nothing of it is written. What a window of context takeover has seen cannot, so that one is
    /// not used.
    fn publish_recallable(
        &mut self,
        publication: &mut Publication<'_>,
        route: &Route,
        bytes_max: usize,
    ) -> Receipt {
        let encoding = match self.way(publication) {
            Way::Shared(encoding) => encoding,
            Way::Alone => Encoding::Plain,
        };
        let range = publication.range(encoding, Flow::Refused, self.pools);
        let pool = &mut self.pools.outbox;
        let outbox = &mut self.sender.outbox;
        let mut delivery = Receipt::Taken;
        let order = match route.settings.slow {
            SlowPolicy::Conflate => {
                let recall = Recall::new(route.owner, route.topic, publication.key);
                if outbox.replace_recallable(pool, range, recall) {
                    return Receipt::Conflated;
                }
                if outbox.queued_bytes() as usize >= bytes_max {
                    // The newest of each key is owed, and there is no room for one more key.
                    return self.give_up(Failure::Backpressure);
                }
                publication.key
            }
            _ => {
                let (mut messages, mut bytes) = (0, 0);
                while outbox.queued_bytes() as usize >= bytes_max {
                    let Some(recalled) = outbox.recall_oldest(pool, route.owner, route.topic)
                    else {
                        break;
                    };
                    messages += 1;
                    bytes += recalled;
                }
                if messages > 0 {
                    delivery = Receipt::Displaced { messages, bytes };
                } else if outbox.queued_bytes() as usize >= bytes_max {
                    return Receipt::Skipped;
                }
                pool.next_order()
            }
        };
        let recall = Recall::new(route.owner, route.topic, order);
        match outbox.push_recallable(pool, range, recall) {
            Ok(()) => delivery,
            Err(PoolExhausted) => self.give_up(Failure::PoolExhausted),
        }
    }

    /// The stricter one of the topic's bound and the connection's.
    fn bytes_max(&self, route: &Route) -> usize {
        self.config.limits.backpressure_bytes_max.min(route.settings.backpressure_bytes_max)
    }

    fn give_up(&mut self, failure: Failure) -> Receipt {
        self.fail(failure);
        Receipt::Closed
    }

    fn way(&mut self, publication: &mut Publication<'_>) -> Way {
        let message = publication.message;
        if let Some(key) = self.sender.deflate
            && message.variants().is_some()
            && self.config.compresses(message.payload().len())
        {
            return match key.has_context_takeover() || self.config.role == Role::Client {
                true => Way::Alone,
                false => Way::Shared(self.compressed(publication, key)),
            };
        }
        match self.config.role {
            Role::Server => Way::Shared(Encoding::Plain),
            Role::Client => Way::Alone,
        }
    }

    fn compressed(&mut self, publication: &mut Publication<'_>, key: DeflateKey) -> Encoding {
        let bits = key.window_bits();
        let known = publication.compressed.iter().position(|(known, ..)| *known == bits);
        let at = known.unwrap_or_else(|| {
            let message = publication.message;
            let variants = message.variants().expect("it is to be compressed");
            let frame = self.prepared_frame(key, message, variants);
            publication.compressed.push((bits, frame, Form::default()));
            publication.compressed.len() - 1
        });
        Encoding::Compressed(at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::limits::LoopLimits;
    use crate::protocol::Pools;

    #[test]
    fn a_form_that_nobody_has_taken_yet_outlives_the_log() {
        let mut pools = Pools::new(&LoopLimits::default(), Instant::now(), [0; 32]).send;
        let message = PreparedMessage::text("hello");
        let mut publication = Publication::new(&message, 0);
        publication.range(Encoding::Plain, Flow::Free, &mut pools);
        for _ in 0..5 {
            pools.outbox.frames.append(&[0; LOG_FRAME_BYTES_MAX]);
        }
        let range = publication.range(Encoding::Plain, Flow::Free, &mut pools);
        assert_eq!(pools.outbox.frames.get(range), message.frame());
        publication.finish(&mut pools);
        pools.outbox.frames.end_turn();
        assert_eq!(pools.outbox.frames.blocks(), 0);
    }
}
