//! Numbers that are found by a hash of what they stand for.

use super::growth;

/// A table of hash chains that grows and shrinks by one chain at a time (linear hashing: Litwin,
/// "Linear Hashing: A New Tool for File and Table Addressing", 1980).
///
/// It never stands still to hash everything anew, and costs eight bytes and an eighth for each
/// number. What a number stands for is the caller's, who hashes it and compares it. A number is in
/// the table once at most. Memory goes by the largest number: they should be dense.
#[derive(Debug, Default)]
pub struct Index {
    /// The first number of each chain, or `NONE`.
    heads: Vec<u32>,
    /// By number: the next one in its chain, or `NONE`.
    links: Vec<u32>,
    /// How many numbers there are; at most `heads.len()`.
    count: usize,
}

impl Index {
    /// The number with this hash that `is` confirms.
    pub fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        if self.heads.is_empty() {
            return None;
        }
        let mut at = self.heads[self.chain(hash)];
        while at != NONE && !is(at) {
            at = self.links[at as usize];
        }
        (at != NONE).then_some(at)
    }

    /// Puts a number in that is not in; `hash_of` gives the hash of any other one.
    pub fn insert(&mut self, number: u32, hash: u64, hash_of: impl Fn(u32) -> u64) {
        growth::extend_to(&mut self.links, number as usize + 1, NONE);
        self.count += 1;
        if self.count > self.heads.len() {
            self.split(hash_of);
        }
        self.link(number, hash);
    }

    /// Takes a number out that is in.
    pub fn remove(&mut self, number: u32, hash: u64) {
        let next = self.links[number as usize];
        *self.place(number, hash) = next;
        self.count -= 1;
        self.forget(number);
        // An eighth more than needed, so that one that comes and goes does not split and merge.
        while self.heads.len() > self.count + self.count / 8 {
            self.merge();
        }
        growth::shrink(&mut self.heads);
    }

    /// Calls `from`, which is in and has this hash, `to` from now on, which is not in.
    pub fn rename(&mut self, from: u32, to: u32, hash: u64) {
        growth::extend_to(&mut self.links, to as usize + 1, NONE);
        self.links[to as usize] = self.links[from as usize];
        *self.place(from, hash) = to;
        self.forget(from);
    }

    /// The memory that it holds.
    pub fn pinned_bytes(&self) -> usize {
        growth::bytes(&self.heads) + growth::bytes(&self.links)
    }

    /// In which chain a hash belongs. Chains up to the next power of two may be missing: what
    /// belongs there is still in the one that they will be split from.
    fn chain(&self, hash: u64) -> usize {
        let count = self.heads.len();
        let whole = count.next_power_of_two();
        let chain = hash as usize & (whole - 1);
        if chain < count { chain } else { chain - whole / 2 }
    }

    fn link(&mut self, number: u32, hash: u64) {
        let chain = self.chain(hash);
        self.links[number as usize] = std::mem::replace(&mut self.heads[chain], number);
    }

    /// What leads to this number.
    fn place(&mut self, number: u32, hash: u64) -> &mut u32 {
        let chain = self.chain(hash);
        if self.heads[chain] == number {
            return &mut self.heads[chain];
        }
        let mut at = self.heads[chain];
        while self.links[at as usize] != number {
            at = self.links[at as usize];
        }
        &mut self.links[at as usize]
    }

    fn forget(&mut self, number: u32) {
        if number as usize + 1 == self.links.len() {
            self.links.pop();
            growth::shrink(&mut self.links);
        }
        if self.count == 0 {
            self.links = Vec::new();
        }
    }

    /// Adds a chain, and moves there what belongs there.
    fn split(&mut self, hash_of: impl Fn(u32) -> u64) {
        let split = sibling(self.heads.len());
        growth::push(&mut self.heads, NONE);
        let mut at = std::mem::replace(&mut self.heads[split], NONE);
        while at != NONE {
            let next = self.links[at as usize];
            self.link(at, hash_of(at));
            at = next;
        }
    }

    /// Takes the last chain away, and moves what is there to where it came from.
    fn merge(&mut self) {
        let Some(chain) = self.heads.pop() else { return };
        let mut at = chain;
        while at != NONE {
            let into = sibling(self.heads.len());
            let next = self.links[at as usize];
            self.links[at as usize] = std::mem::replace(&mut self.heads[into], at);
            at = next;
        }
    }
}

/// The chain that this one is split from; itself for the first.
const fn sibling(chain: usize) -> usize {
    chain - (chain + 1).next_power_of_two() / 2
}

/// No number.
pub const NONE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The hash of a number: few chains, or one alone.
    fn hash(number: u32, spread: u64) -> u64 {
        u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 & spread
    }

    proptest! {
        #[test]
        fn index_equals_a_set_of_numbers(
            spread in prop_oneof![Just(0), Just(3), Just(u64::MAX)],
            operations in prop::collection::vec((0_u8..5, 0_u32..40, 0_u32..40), 0..300),
        ) {
            let mut index = Index::default();
            let mut model = std::collections::BTreeSet::new();
            for (what, number, other) in operations {
                match (what, model.contains(&number), model.contains(&other)) {
                    (0..3, false, _) => {
                        let hash_of = |number| {
                            assert!(model.contains(&number), "only who is in is hashed");
                            hash(number, spread)
                        };
                        index.insert(number, hash(number, spread), hash_of);
                        model.insert(number);
                    }
                    (3, true, _) => {
                        index.remove(number, hash(number, spread));
                        model.remove(&number);
                    }
                    // Who has another name must have the same hash.
                    (4, true, false) if hash(number, spread) == hash(other, spread) => {
                        index.rename(number, other, hash(number, spread));
                        model.remove(&number);
                        model.insert(other);
                    }
                    _ => {}
                }
                for number in 0..40 {
                    let found = index.find(hash(number, spread), |it| it == number);
                    prop_assert_eq!(found.is_some(), model.contains(&number));
                }
                let chains = index.heads.len();
                prop_assert!(model.len() <= chains && chains <= model.len() + model.len() / 8);
                prop_assert!(!model.is_empty() || index.pinned_bytes() == 0);
            }
        }
    }

    #[test]
    fn chains_stay_short_while_the_table_grows_and_shrinks() {
        let mut index = Index::default();
        let spread = |number| hash(number, u64::MAX);
        let longest = |index: &Index| {
            let length = |head: &u32| {
                std::iter::successors(Some(*head), |at| index.links.get(*at as usize).copied())
                    .take_while(|at| *at != NONE)
                    .count()
            };
            index.heads.iter().map(length).max().unwrap_or(0)
        };
        for number in 0..10_000 {
            index.insert(number, spread(number), spread);
        }
        assert!(longest(&index) <= 10, "{}", longest(&index));
        for number in (100..10_000).rev() {
            index.remove(number, spread(number));
        }
        assert!(longest(&index) <= 6, "{}", longest(&index));
        assert!(index.pinned_bytes() <= 100 * 16, "{}", index.pinned_bytes());
    }
}
