//! Whose TLS handshake goes on when there is time for it.

use std::collections::VecDeque;

use super::transport::Urgency;
use crate::collections::Key;

/// Connections whose handshakes wait, each at most once. A handshake that has begun goes on before
/// another begins: in a storm of clients those that can be served in time are served to the end,
/// instead of all of them half.
#[derive(Debug, Default)]
pub(super) struct HandshakeQueue {
    begun: VecDeque<Key>,
    fresh: VecDeque<Key>,
}

impl HandshakeQueue {
    pub(super) fn push(&mut self, key: Key, urgency: Urgency) {
        match urgency {
            Urgency::Begun => self.begun.push_back(key),
            Urgency::Fresh => self.fresh.push_back(key),
        }
    }

    pub(super) fn pop(&mut self) -> Option<Key> {
        self.begun.pop_front().or_else(|| self.fresh.pop_front())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.begun.is_empty() && self.fresh.is_empty()
    }
}
