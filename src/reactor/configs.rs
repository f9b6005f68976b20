//! The configurations that the connections of a loop are held to: each slot names its own by two
//! bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::protocol::Config;

/// The configurations of a loop. Those of a listener stay as long as the loop, those of dialled
/// connections as long as there is one.
#[derive(Debug, Default)]
pub(super) struct Configs {
    entries: Vec<Entry>,
    /// Entries that nobody uses.
    free: Vec<u16>,
    /// Where those of dialled connections stand, by their addresses: what is the same for many is
    /// kept once.
    dialled: BTreeMap<usize, u16>,
}

#[derive(Debug)]
struct Entry {
    config: Arc<Config>,
    owner: Owner,
}

/// Whose configuration it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Listener(u16),
    /// Of so many connections that were dialled; of none if it is free.
    Dialled(u32),
}

/// Listeners, their routes and the kinds of dialled connections: the place of a configuration has
/// two bytes in each slot.
pub(super) const CONFIGS_MAX: usize = 1 << u16::BITS;

impl Configs {
    #[inline(always)]
    pub(super) fn get(&self, index: u16) -> &Arc<Config> {
        &self.entries[usize::from(index)].config
    }

    /// How many places are taken, or free for dialled connections.
    pub(super) fn count(&self) -> usize {
        self.entries.len()
    }

    /// Adds those of a listener, which stand behind each other.
    pub(super) fn add<'a>(
        &mut self,
        listener: usize,
        configs: impl Iterator<Item = &'a Arc<Config>>,
    ) {
        // There are no more listeners than configurations.
        let owner = Owner::Listener(listener as u16);
        self.entries.extend(configs.map(|config| Entry { config: config.clone(), owner }));
    }

    /// Which listener a configuration belongs to; `None` for one of dialled connections.
    pub(super) fn listener(&self, index: u16) -> Option<usize> {
        match self.entries[usize::from(index)].owner {
            Owner::Listener(listener) => Some(usize::from(listener)),
            Owner::Dialled(_) => None,
        }
    }

    /// The place of `config` for one more dialled connection; `None` if there is none left.
    pub(super) fn begin(&mut self, config: &Arc<Config>) -> Option<u16> {
        let address = Arc::as_ptr(config) as usize;
        if let Some(index) = self.dialled.get(&address) {
            if let Owner::Dialled(count) = &mut self.entries[usize::from(*index)].owner {
                *count += 1;
            }
            return Some(*index);
        }
        let entry = Entry { config: config.clone(), owner: Owner::Dialled(1) };
        let index = match self.free.pop() {
            Some(index) => {
                self.entries[usize::from(index)] = entry;
                index
            }
            None if self.entries.len() < CONFIGS_MAX => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u16
            }
            None => return None,
        };
        self.dialled.insert(address, index);
        Some(index)
    }

    /// A connection is gone.
    pub(super) fn end(&mut self, index: u16) {
        let entry = &mut self.entries[usize::from(index)];
        if let Owner::Dialled(count) = &mut entry.owner {
            *count -= 1;
            if *count == 0 {
                // The place keeps the last one alive until another takes it: its address is not
                // somebody else's meanwhile.
                self.dialled.remove(&(Arc::as_ptr(&entry.config) as usize));
                self.free.push(index);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Role;

    fn config(role: Role) -> Arc<Config> {
        Arc::new(Config::new(role))
    }

    #[test]
    fn connections_of_one_kind_share_a_place_until_the_last_is_gone() {
        let mut configs = Configs::default();
        configs.add(0, [config(Role::Server), config(Role::Server)].iter());
        let (one, other) = (config(Role::Client), config(Role::Client));
        assert_eq!([&one, &other, &one].map(|it| configs.begin(it)), [Some(2), Some(3), Some(2)]);
        assert_eq!([0, 1, 2, 3].map(|it| configs.listener(it)), [Some(0), Some(0), None, None]);
        configs.end(2);
        assert_eq!(configs.begin(&one), Some(2));
        configs.end(2);
        configs.end(2);
        configs.end(0);
        let third = config(Role::Client);
        assert_eq!(configs.begin(&third), Some(2));
        assert!(Arc::ptr_eq(configs.get(2), &third) && Arc::ptr_eq(configs.get(3), &other));
        configs.add(1, [config(Role::Server)].iter());
        assert_eq!((configs.listener(4), configs.begin(&one)), (Some(1), Some(5)));
    }

    #[test]
    fn there_are_as_many_places_as_two_bytes_can_name() {
        let mut configs = Configs::default();
        let kinds: Vec<_> = (0..=CONFIGS_MAX).map(|_| config(Role::Client)).collect();
        let places: Vec<_> = kinds.iter().map(|kind| configs.begin(kind)).collect();
        assert_eq!(places[CONFIGS_MAX - 1], Some(u16::MAX));
        assert_eq!(places[CONFIGS_MAX], None);
    }
}
