//! Topics and who is subscribed to them, for one loop; nothing here sends.
//!
//! ```text
//!   "a/b" ─► Topics ─► names ──────────► topic 7 ─► Membership: topic 7 ─► [3, 9, 4, …]
//!                └───► Filters: a/+, # ─► topic 2, topic 5 ─►       ⋮
//! ```
//!
//! A pattern is what one subscribes to: the exact name of a topic, or a filter with wildcards. Each
//! is interned as one topic of the table. Names and filters are MQTT's (MQTT 5.0 §4.7).

mod filters;
mod membership;
mod names;
mod settings;
mod topics;

#[cfg(test)]
mod tests;

pub use names::NameError;
pub use settings::{SlowPolicy, TopicSettings};
#[cfg(fuzzing)]
pub use topics::TopicEvent;
pub use topics::{SubscribeError, Subscribed, TopicChange, TopicId, Topics};
