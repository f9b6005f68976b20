//! Random numbers that a seed repeats.

/// SplitMix64 (Steele, Lea, Flood 2014): one word of state, good enough to find bugs.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    /// A number below `bound`, which is not 0. The bias is of no concern to tests.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next_u64() % bound as u64) as usize
    }

    /// Whether an event happens that does once in `count` times.
    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    /// A length: mostly small, at times around the borders of the format, at times large.
    pub fn length(&mut self) -> usize {
        match self.below(16) {
            0 => 0,
            1 => 124 + self.below(5),
            2 => 65_534 + self.below(4),
            3 => 16_380 + self.below(8),
            4..=6 => self.below(3000),
            _ => self.below(64),
        }
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let words = std::iter::repeat_with(|| self.next_u64().to_le_bytes());
        words.flatten().take(count).collect()
    }

    /// A text of `bytes` bytes with characters of every length.
    pub fn text(&mut self, bytes: usize) -> String {
        let mut text = String::with_capacity(bytes);
        while text.len() < bytes {
            let candidate = ['a', 'é', '€', '𝄞'][self.below(4)];
            let fits = text.len() + candidate.len_utf8() <= bytes;
            text.push(if fits { candidate } else { 'z' });
        }
        text
    }
}
