//! What a window holds between two messages.

/// The last bytes that a peer's messages inflated to, at most as many as its window has.
///
/// With context takeover this is all that a connection owns between two messages (RFC 7692 §7.2.1):
/// the tables of a decompressor can be anybody's. It grows with what arrives, to the window's size
/// and no further.
#[derive(Debug)]
pub struct History {
    /// A ring once it is full; the oldest byte stands at `start`.
    bytes: Vec<u8>,
    start: usize,
    bytes_max: usize,
}

impl History {
    /// Remembers nothing yet, and at most `2^window_bits` bytes.
    pub const fn new(window_bits: u8) -> Self {
        Self { bytes: Vec::new(), start: 0, bytes_max: 1 << window_bits }
    }

    /// Remembers `bytes` as the latest.
    pub fn append(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(self.bytes_max)..];
        let (new, over) = bytes.split_at(bytes.len().min(self.bytes_max - self.bytes.len()));
        let growth = self.growth(new.len());
        if growth > 0 {
            self.bytes.reserve_exact(self.bytes.capacity() + growth - self.bytes.len());
        }
        self.bytes.extend_from_slice(new);
        let (first, wrapped) = over.split_at(over.len().min(self.bytes_max - self.start));
        self.bytes[self.start..self.start + first.len()].copy_from_slice(first);
        self.bytes[..wrapped.len()].copy_from_slice(wrapped);
        self.start = (self.start + over.len()) % self.bytes_max;
    }

    /// What is remembered, the oldest first.
    pub fn as_slices(&self) -> (&[u8], &[u8]) {
        let (newer, older) = self.bytes.split_at(self.start);
        (older, newer)
    }

    /// How much it remembers at most; it holds no more memory than that.
    pub const fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Remembers nothing any more; the memory stays.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.start = 0;
    }

    /// Memory that is held.
    pub fn pinned_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// How much more memory is held once `more` bytes are appended: room is made by doubling, but
    /// for no more than can ever be remembered.
    pub fn growth(&self, more: usize) -> usize {
        let need = (self.bytes.len() + more).min(self.bytes_max);
        if need <= self.bytes.capacity() {
            return 0;
        }
        need.next_power_of_two().min(self.bytes_max) - self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_latest_bytes_are_remembered(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..700), 0..12),
            window_bits in 8..=10u8,
        ) {
            let mut history = History::new(window_bits);
            let mut all = Vec::new();
            for piece in &pieces {
                let held = history.pinned_bytes() + history.growth(piece.len());
                history.append(piece);
                prop_assert_eq!(history.pinned_bytes(), held);
                all.extend_from_slice(piece);
                let expected = &all[all.len().saturating_sub(1 << window_bits)..];
                let (older, newer) = history.as_slices();
                prop_assert_eq!([older, newer].concat(), expected);
                prop_assert!(history.pinned_bytes() <= 1 << window_bits);
                prop_assert!(history.pinned_bytes() < 2 * expected.len().max(1));
            }
        }
    }
}
