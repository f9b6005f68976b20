//! An order among the values of a table, kept by links inside them.

use crate::collections::{Key, Table};

/// The neighbours of a value in the one chain that it is in.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Links {
    previous: Option<Key>,
    next: Option<Key>,
}

/// A value that can be in a chain.
pub(super) trait Linked {
    fn links_mut(&mut self) -> &mut Links;
}

/// A list that runs through values of a [`Table`]: whatever is done takes the same short time
/// however long it is, and nothing allocates.
///
/// A value is in one chain at most, and leaves it before it leaves its table.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chain {
    first: Option<Key>,
    last: Option<Key>,
    len: u32,
}

impl Chain {
    pub(super) const fn first(&self) -> Option<Key> {
        self.first
    }

    pub(super) const fn last(&self) -> Option<Key> {
        self.last
    }

    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn push_front<T: Linked>(&mut self, table: &mut Table<T>, key: Key) {
        let Some(value) = table.get_mut(key) else { return };
        *value.links_mut() = Links { previous: None, next: self.first };
        match self.first.and_then(|first| table.get_mut(first)) {
            Some(first) => first.links_mut().previous = Some(key),
            None => self.last = Some(key),
        }
        self.first = Some(key);
        self.len += 1;
    }

    pub(super) fn push_back<T: Linked>(&mut self, table: &mut Table<T>, key: Key) {
        let Some(value) = table.get_mut(key) else { return };
        *value.links_mut() = Links { previous: self.last, next: None };
        match self.last.and_then(|last| table.get_mut(last)) {
            Some(last) => last.links_mut().next = Some(key),
            None => self.first = Some(key),
        }
        self.last = Some(key);
        self.len += 1;
    }

    /// Takes a value out that is in this chain.
    pub(super) fn unlink<T: Linked>(&mut self, table: &mut Table<T>, key: Key) {
        let Some(value) = table.get_mut(key) else { return };
        let Links { previous, next } = std::mem::take(value.links_mut());
        match previous.and_then(|previous| table.get_mut(previous)) {
            Some(value) => value.links_mut().next = next,
            None => self.first = next,
        }
        match next.and_then(|next| table.get_mut(next)) {
            Some(value) => value.links_mut().previous = previous,
            None => self.last = previous,
        }
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    struct Node(Links);

    impl Linked for Node {
        fn links_mut(&mut self) -> &mut Links {
            &mut self.0
        }
    }

    fn walk(chain: &Chain, table: &Table<Node>) -> Vec<Key> {
        let next = |key: &Key| table.get(*key).and_then(|node| node.0.next);
        std::iter::successors(chain.first(), next).collect()
    }

    proptest! {
        #[test]
        fn a_chain_equals_a_deque(operations in prop::collection::vec((0_u8..3, any::<u16>()), 0..60)) {
            let mut table = Table::new(100, 0);
            let mut chain = Chain::default();
            let mut model = VecDeque::new();
            for (operation, at) in operations {
                match operation {
                    0 => {
                        let key = table.insert(Node(Links::default())).ok().unwrap();
                        chain.push_front(&mut table, key);
                        model.push_front(key);
                    }
                    1 => {
                        let key = table.insert(Node(Links::default())).ok().unwrap();
                        chain.push_back(&mut table, key);
                        model.push_back(key);
                    }
                    _ if model.is_empty() => {}
                    _ => {
                        let key = model.remove(usize::from(at) % model.len()).unwrap();
                        chain.unlink(&mut table, key);
                        table.remove(key);
                    }
                }
                prop_assert_eq!(walk(&chain, &table), Vec::from(model.clone()));
                prop_assert_eq!(chain.first(), model.front().copied());
                prop_assert_eq!(chain.last(), model.back().copied());
                prop_assert_eq!(chain.len() as usize, model.len());
                prop_assert_eq!(chain.is_empty(), model.is_empty());
            }
        }
    }
}
