//! Hashes that peers cannot foresee.

use std::hash::{DefaultHasher, Hash, Hasher};

/// SipHash of whatever begins with the loop's seed: peers choose the names of topics, and what their
/// messages conflate by, but not which of them collide.
#[derive(Clone, Debug)]
pub struct Hashing {
    seeded: DefaultHasher,
}

impl Hashing {
    pub fn new(seed: u64) -> Self {
        let mut seeded = DefaultHasher::new();
        seeded.write_u64(seed);
        Self { seeded }
    }

    /// With the seed that a loop was given, whole.
    pub fn of_loop(seed: &[u8; 32]) -> Self {
        let mut seeded = DefaultHasher::new();
        seeded.write(seed);
        Self { seeded }
    }

    /// Of whatever can be hashed.
    pub fn of(&self, value: &impl Hash) -> u64 {
        let mut hasher = self.seeded.clone();
        value.hash(&mut hasher);
        hasher.finish()
    }

    /// Of a number and a text.
    pub fn text(&self, number: u32, text: &str) -> u64 {
        let mut hasher = self.seeded.clone();
        hasher.write_u32(number);
        hasher.write(text.as_bytes());
        hasher.finish()
    }

    /// Of two numbers.
    pub fn pair(&self, first: u32, second: u32) -> u64 {
        let mut hasher = self.seeded.clone();
        hasher.write_u64(u64::from(first) << 32 | u64::from(second));
        hasher.finish()
    }
}
