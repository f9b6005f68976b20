//! Masking keys that a peer cannot predict (RFC 6455 §5.3, §10.3).

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::wire::MaskingKey;

/// An endless supply of masking keys: ChaCha12 over a seed that the caller drew.
#[derive(Debug)]
pub struct MaskingKeys {
    generator: ChaCha12Rng,
}

impl MaskingKeys {
    /// Keys from `seed`. In production the seed comes from the operating system; a test gives its
    /// own and gets the same keys again.
    pub fn new(seed: [u8; 32]) -> Self {
        Self { generator: ChaCha12Rng::from_seed(seed) }
    }

    /// The next key: fresh for each frame (RFC 6455 §5.3).
    pub fn next_key(&mut self) -> MaskingKey {
        MaskingKey::from_bytes(self.generator.next_u32().to_ne_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_keys_and_another_seed_others() {
        let keys = |seed| {
            let mut keys = MaskingKeys::new([seed; 32]);
            std::array::from_fn::<_, 8, _>(|_| keys.next_key())
        };
        assert!(keys(1) == keys(1));
        assert!(keys(1) != keys(2));
    }

    #[test]
    fn keys_do_not_repeat_soon() {
        let mut keys = MaskingKeys::new([7; 32]);
        let mut seen: Vec<_> = (0..4096).map(|_| keys.next_key().to_bytes()).collect();
        seen.sort_unstable();
        seen.dedup();
        // The birthday bound makes two equal keys among 4,096 a matter of 1 in 500; this seed has
        // none.
        assert_eq!(seen.len(), 4096);
    }
}
