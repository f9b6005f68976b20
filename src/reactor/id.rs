//! The name of a connection.

use std::fmt;

use crate::collections::Key;

/// The name of a connection, for as long as the process lives: a stale one is a miss, never
/// another connection.
///
/// 64 bits: 8 of the loop it lives on, 24 of its place there, 32 of how often that place was used.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

/// Which of the loops that share nothing: 0 for a single one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardIndex(pub u8);

/// The most connections that one loop can name. The last place is kept for listeners, so that
/// both can be tokens of one poll.
pub const CONNECTIONS_MAX: u32 = (1 << INDEX_BITS) - 2;

const INDEX_BITS: u32 = 24;
const LISTENER_INDEX: u64 = (1 << INDEX_BITS) - 1;

impl ConnectionId {
    pub(super) fn new(shard: ShardIndex, key: Key) -> Self {
        debug_assert!(key.index < CONNECTIONS_MAX, "the table is bounded");
        let place = u64::from(shard.0) << INDEX_BITS | u64::from(key.index);
        Self(place << 32 | u64::from(key.generation))
    }

    pub(super) const fn key(self) -> Key {
        let index = (self.0 >> 32) as u32 & LISTENER_INDEX as u32;
        Key { index, generation: self.0 as u32 }
    }

    /// The loop that the connection lives on.
    pub const fn shard(self) -> ShardIndex {
        ShardIndex((self.0 >> (32 + INDEX_BITS)) as u8)
    }

    /// The name as a number, to be logged or kept outside.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Key { index, generation } = self.key();
        write!(out, "{}/{index}.{generation}", self.shard().0)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, out)
    }
}

/// What a token of a poll stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Connection(Key),
    Listener(usize),
}

impl Target {
    pub(super) fn token(self, shard: ShardIndex) -> u64 {
        match self {
            Self::Connection(key) => ConnectionId::new(shard, key).as_u64(),
            Self::Listener(index) => LISTENER_INDEX << 32 | index as u64,
        }
    }

    pub(super) const fn of_token(token: u64) -> Self {
        if (token >> 32) & LISTENER_INDEX == LISTENER_INDEX {
            Self::Listener(token as u32 as usize)
        } else {
            Self::Connection(ConnectionId(token).key())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_shard_index_and_generation_apart() {
        for shard in [0, 1, 255] {
            for index in [0, 1, CONNECTIONS_MAX - 1] {
                for generation in [0, 1, u32::MAX] {
                    let key = Key { index, generation };
                    let id = ConnectionId::new(ShardIndex(shard), key);
                    assert_eq!((id.shard(), id.key()), (ShardIndex(shard), key));
                    let target = Target::Connection(key);
                    assert_eq!(Target::of_token(target.token(ShardIndex(shard))), target);
                }
            }
        }
    }

    #[test]
    fn a_listener_is_never_taken_for_a_connection() {
        for index in [0, 1, 4095] {
            let target = Target::Listener(index);
            assert_eq!(Target::of_token(target.token(ShardIndex(0))), target);
        }
    }
}
