//! Which connection a user had.

use std::collections::HashMap;

use super::chain::{Chain, Linked, Links};
use crate::collections::{Key, Table};

/// The connections that users come back to.
///
/// A user keeps the connection that he was given first for as long as it lives. The number of users
/// is bounded; beyond it, the one who was not seen for longest is forgotten.
#[derive(Debug)]
pub(super) struct Homes {
    by_user: HashMap<u64, Key>,
    homes: Table<Home>,
    /// The one who was seen last in front.
    recent: Chain,
}

#[derive(Debug)]
struct Home {
    user: u64,
    /// Of the pool's members.
    member: Key,
    links: Links,
}

impl Homes {
    pub(super) fn new(users_max: u32) -> Self {
        let homes = Table::new(users_max, 0);
        Self { by_user: HashMap::new(), homes, recent: Chain::default() }
    }

    /// The connection that this user had, which may have ended.
    pub(super) fn find(&mut self, user: u64) -> Option<Key> {
        let key = *self.by_user.get(&user)?;
        self.recent.unlink(&mut self.homes, key);
        self.recent.push_front(&mut self.homes, key);
        self.homes.get(key).map(|home| home.member)
    }

    /// The user comes back to this connection from now on.
    pub(super) fn set(&mut self, user: u64, member: Key) {
        if self.find(user).is_some() {
            let home = self.recent.first().and_then(|key| self.homes.get_mut(key));
            home.into_iter().for_each(|home| home.member = member);
            return;
        }
        if self.homes.vacant_key().is_none()
            && let Some(oldest) = self.recent.last()
        {
            self.recent.unlink(&mut self.homes, oldest);
            if let Some(forgotten) = self.homes.remove(oldest) {
                self.by_user.remove(&forgotten.user);
            }
        }
        if let Ok(key) = self.homes.insert(Home { user, member, links: Links::default() }) {
            self.recent.push_front(&mut self.homes, key);
            self.by_user.insert(user, key);
        }
    }
}

impl Linked for Home {
    fn links_mut(&mut self) -> &mut Links {
        &mut self.links
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn homes_equal_a_list_of_the_users_seen_last(
            users_max in 0_u32..5,
            operations in prop::collection::vec((any::<bool>(), 0_u64..8, 0_u32..9), 0..80),
        ) {
            let mut homes = Homes::new(users_max);
            let mut model: Vec<(u64, Key)> = Vec::new();
            for (is_set, user, index) in operations {
                let member = Key { index, generation: 1 };
                let known = model.iter().position(|(known, _)| *known == user);
                let before = known.map(|at| model.remove(at));
                if is_set {
                    homes.set(user, member);
                    model.insert(0, (user, member));
                    model.truncate(users_max as usize);
                } else {
                    prop_assert_eq!(homes.find(user), before.map(|(_, member)| member));
                    before.into_iter().for_each(|seen| model.insert(0, seen));
                }
                prop_assert_eq!(homes.by_user.len(), model.len());
                prop_assert_eq!(homes.homes.len(), model.len());
            }
        }
    }
}
