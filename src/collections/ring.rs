//! A circular byte buffer of fixed size, and the pool that keeps such buffers for reuse.

use super::storage::{RingStorage, ring_storage};

/// A circular buffer of bytes whose capacity is a power of two.
///
/// The storage is initialised once, when the ring is made; reuse never clears it. Whenever the ring
/// runs empty it begins again at its first byte, so that a ring which is filled and then emptied
/// in turn stays contiguous.
#[derive(Debug)]
pub struct Ring {
    storage: RingStorage,
    /// Position of the first held byte; always below the capacity, and 0 when the ring is empty.
    start: u32,
    /// How many bytes are held; never more than the capacity.
    len: u32,
}

impl Ring {
    /// Makes an empty ring of `bytes`.
    ///
    /// # Panics
    /// If `bytes` is no power of two or above [`CAPACITY_BYTES_MAX`], or there is no memory for it.
    #[cfg(any(test, fuzzing))]
    pub fn with_capacity(bytes: usize) -> Self {
        Self::new(bytes).expect("there is memory for a ring")
    }

    /// The same, `None` where the system has no memory for it.
    fn new(bytes: usize) -> Option<Self> {
        assert!(bytes.is_power_of_two(), "a ring's capacity is a power of two");
        assert!(bytes <= CAPACITY_BYTES_MAX, "a ring's positions are 32-bit numbers");
        Some(Self { storage: ring_storage(bytes)?, start: 0, len: 0 })
    }

    /// How many bytes fit into the ring when it is empty.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.storage.len()
    }

    /// How many bytes the ring holds.
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// How many more bytes the ring takes.
    #[inline]
    pub fn free(&self) -> usize {
        self.capacity() - self.len()
    }

    /// Appends as many of `bytes` as fit and returns how many were taken.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        self.push_mapped(bytes, |_| {})
    }

    /// Appends as many of `bytes` as fit and returns how many were taken; `map` then sees the copy,
    /// in order, in one piece or two, none of them empty. This is how a client masks what it sends.
    #[inline]
    pub fn push_mapped(&mut self, bytes: &[u8], mut map: impl FnMut(&mut [u8])) -> usize {
        let taken = bytes.len().min(self.free());
        if taken == 0 {
            return 0;
        }
        let end = (self.start as usize + self.len()) & (self.capacity() - 1);
        let (first, wrapped) = bytes[..taken].split_at(taken.min(self.capacity() - end));
        let copy = &mut self.storage[end..end + first.len()];
        copy.copy_from_slice(first);
        map(copy);
        if !wrapped.is_empty() {
            let copy = &mut self.storage[..wrapped.len()];
            copy.copy_from_slice(wrapped);
            map(copy);
        }
        // `taken` is at most the capacity, which fits.
        self.len += taken as u32;
        taken
    }

    /// Appends both, if they lie in one piece behind what is held; says whether. `copy` is given
    /// the payload and its place, which are of one length. This is the path of nearly every small
    /// frame, so one bounds check serves for both.
    #[inline]
    pub fn push_contiguous<const N: usize>(
        &mut self,
        header: [u8; N],
        payload: &[u8],
        copy: impl FnOnce(&[u8], &mut [u8]),
    ) -> bool {
        let end = self.start as usize + self.len();
        let bytes = header.len() + payload.len();
        // Where the content wraps around, `end` lies behind the storage.
        let Some(target) = self.storage.get_mut(end..end + bytes) else { return false };
        // In front of the copy, so that nothing has to be kept over it.
        self.len += bytes as u32;
        if let Some((first, second)) = target.split_first_chunk_mut() {
            *first = header;
            copy(payload, second);
        }
        true
    }

    /// The held bytes, oldest first. The second piece is empty unless they wrap around.
    #[inline]
    pub fn as_slices(&self) -> (&[u8], &[u8]) {
        let start = self.start as usize;
        let edge = self.capacity().min(start + self.len());
        let wrapped = self.len() - (edge - start);
        (&self.storage[start..edge], &self.storage[..wrapped])
    }

    /// Gives up the `bytes` oldest bytes.
    ///
    /// # Panics
    /// If the ring holds fewer.
    #[inline]
    pub fn consume(&mut self, bytes: usize) {
        assert!(bytes <= self.len(), "only held bytes can be consumed");
        self.len -= bytes as u32;
        self.start = if self.len == 0 {
            0
        } else {
            (self.start + bytes as u32) & (self.capacity() as u32 - 1)
        };
    }

    /// Gives up every byte.
    #[inline]
    pub fn clear(&mut self) {
        self.start = 0;
        self.len = 0;
    }
}

/// Rings of one size, kept for reuse.
///
/// A ring is made when it is first needed and stays resident when it comes back, up to
/// [`RingPool::with_retained_max`]. The ring that came back last is handed out first: it is the one
/// still in the processor's cache.
#[derive(Debug)]
pub struct RingPool {
    free: Vec<Ring>,
    ring_bytes: usize,
    count_max: usize,
    retained_max: usize,
    in_use: usize,
}

impl RingPool {
    /// Makes a pool of at most `count_max` rings of `ring_bytes` each. None is allocated yet, and
    /// each that comes back is retained.
    ///
    /// # Panics
    /// If `ring_bytes` is no power of two or above [`CAPACITY_BYTES_MAX`].
    pub fn new(ring_bytes: usize, count_max: usize) -> Self {
        assert!(ring_bytes.is_power_of_two(), "a ring's capacity is a power of two");
        assert!(ring_bytes <= CAPACITY_BYTES_MAX, "a ring's positions are 32-bit numbers");
        Self { free: Vec::new(), ring_bytes, count_max, retained_max: count_max, in_use: 0 }
    }

    /// Retains at most `count` unused rings; a ring that comes back beyond them is freed.
    #[must_use]
    pub fn with_retained_max(mut self, count: usize) -> Self {
        self.retained_max = count;
        self.free.truncate(count);
        self
    }

    /// Hands out an empty ring, or `None` when `count_max` rings are out already, or the system has no
    /// memory for another.
    #[inline]
    pub fn take(&mut self) -> Option<Ring> {
        if self.in_use == self.count_max {
            return None;
        }
        let ring = match self.free.pop() {
            Some(ring) => ring,
            None => Ring::new(self.ring_bytes)?,
        };
        self.in_use += 1;
        Some(ring)
    }

    /// Has so many rings ready, so that [`RingPool::take`] hands out as many; says whether there are.
    #[inline]
    pub fn prepare(&mut self, count: usize) -> bool {
        count <= self.available() && (count <= self.free.len() || self.make(count))
    }

    #[cold]
    fn make(&mut self, count: usize) -> bool {
        while self.free.len() < count {
            let Some(ring) = Ring::new(self.ring_bytes) else { return false };
            self.free.push(ring);
        }
        true
    }

    /// Takes a ring of this pool back; what it held is forgotten.
    ///
    /// # Panics
    /// If no ring is out, or if this one has another size.
    #[inline(always)] // For the outbox, whose written segments end here.
    pub fn put_back(&mut self, mut ring: Ring) {
        assert!(self.in_use > 0, "a ring comes back to the pool it was taken from");
        assert!(ring.capacity() == self.ring_bytes, "a pool's rings have one size");
        self.in_use -= 1;
        if self.free.len() < self.retained_max {
            ring.clear();
            self.free.push(ring);
        } else {
            free(ring);
        }
    }

    /// Frees the rings that are kept for reuse.
    pub fn shrink(&mut self) {
        self.free = Vec::new();
    }

    /// How many rings are handed out.
    #[inline]
    pub fn in_use(&self) -> usize {
        self.in_use
    }

    /// How many more rings [`RingPool::take`] can hand out.
    #[inline]
    pub fn available(&self) -> usize {
        self.count_max - self.in_use
    }

    /// How many empty rings hold `bytes`.
    #[inline]
    pub fn count_for(&self, bytes: usize) -> usize {
        // A ring's size is a power of two, and this stands in the way of every batch: no division.
        let shift = self.ring_bytes.trailing_zeros();
        (bytes >> shift) + usize::from(bytes & (self.ring_bytes - 1) != 0)
    }

    /// Memory held by all rings, handed out and retained.
    pub fn pinned_bytes(&self) -> usize {
        (self.in_use + self.free.len()) * self.ring_bytes
    }
}

/// Gives its memory back to the system: out of the way of those that are kept.
#[cold]
fn free(ring: Ring) {
    drop(ring);
}

/// The largest ring: its positions are 32-bit numbers, and their sum must not overflow.
pub const CAPACITY_BYTES_MAX: usize = 1 << 30;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Operation {
        Push(Vec<u8>),
        PushMapped(Vec<u8>),
        Consume(prop::sample::Index),
        Clear,
    }

    fn operation() -> impl Strategy<Value = Operation> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..40);
        prop_oneof![
            4 => bytes().prop_map(Operation::Push),
            4 => bytes().prop_map(Operation::PushMapped),
            8 => any::<prop::sample::Index>().prop_map(Operation::Consume),
            1 => Just(Operation::Clear),
        ]
    }

    fn content(ring: &Ring) -> Vec<u8> {
        let (first, second) = ring.as_slices();
        [first, second].concat()
    }

    proptest! {
        #[test]
        fn ring_equals_a_bounded_deque(
            capacity_bits in 0_u32..6,
            operations in prop::collection::vec(operation(), 0..100),
        ) {
            let capacity = 1_usize << capacity_bits;
            let mut ring = Ring::with_capacity(capacity);
            let mut model = VecDeque::new();
            for operation in operations {
                match operation {
                    Operation::Push(bytes) => {
                        let taken = bytes.len().min(capacity - model.len());
                        model.extend(&bytes[..taken]);
                        prop_assert_eq!(ring.push(&bytes), taken);
                    }
                    Operation::PushMapped(bytes) => {
                        let taken = bytes.len().min(capacity - model.len());
                        model.extend(bytes[..taken].iter().map(|byte| !byte));
                        let mut seen = Vec::new();
                        let count = ring.push_mapped(&bytes, |piece| {
                            assert!(!piece.is_empty());
                            seen.extend_from_slice(piece);
                            piece.iter_mut().for_each(|byte| *byte = !*byte);
                        });
                        prop_assert_eq!(count, taken);
                        prop_assert_eq!(&seen, &bytes[..taken]);
                    }
                    Operation::Consume(index) => {
                        let count = index.index(model.len() + 1);
                        model.drain(..count);
                        ring.consume(count);
                    }
                    Operation::Clear => {
                        model.clear();
                        ring.clear();
                    }
                }
                prop_assert_eq!(content(&ring), Vec::from(model.clone()));
                prop_assert_eq!(ring.len(), model.len());
                prop_assert_eq!(ring.free(), capacity - model.len());
            }
        }
    }

    #[test]
    fn an_emptied_ring_begins_at_its_first_byte_again() {
        let mut ring = Ring::with_capacity(8);
        assert_eq!(ring.push(b"abcdef"), 6);
        ring.consume(6);
        assert_eq!(ring.push(b"ghijkl"), 6);
        assert_eq!(ring.as_slices(), (&b"ghijkl"[..], &b""[..]));
    }

    #[test]
    #[should_panic(expected = "only held bytes")]
    fn consuming_more_than_is_held_panics() {
        let mut ring = Ring::with_capacity(8);
        ring.push(b"abc");
        ring.consume(4);
    }

    #[test]
    #[should_panic(expected = "power of two")]
    fn a_capacity_that_is_no_power_of_two_panics() {
        let _ = Ring::with_capacity(12);
    }

    #[test]
    fn the_pool_is_bounded_and_keeps_what_comes_back() {
        let mut pool = RingPool::new(16, 2);
        assert_eq!((pool.pinned_bytes(), pool.available()), (0, 2));
        let mut first = pool.take().unwrap();
        let second = pool.take().unwrap();
        assert!(pool.take().is_none());
        first.push(b"left behind");
        pool.put_back(second);
        pool.put_back(first);
        assert_eq!((pool.in_use(), pool.pinned_bytes()), (0, 32));
        assert_eq!(pool.take().unwrap().len(), 0);
        assert_eq!((pool.in_use(), pool.pinned_bytes()), (1, 32));
    }

    #[test]
    fn the_ring_that_came_back_last_is_taken_first() {
        let mut pool = RingPool::new(16, 2);
        let (first, second) = (pool.take().unwrap(), pool.take().unwrap());
        let address = first.storage.as_ptr();
        pool.put_back(second);
        pool.put_back(first);
        assert_eq!(pool.take().unwrap().storage.as_ptr(), address);
    }

    #[test]
    fn rings_beyond_the_retained_ones_are_freed() {
        let mut pool = RingPool::new(16, 3).with_retained_max(1);
        let rings: Vec<_> = (0..3).map(|_| pool.take().unwrap()).collect();
        assert_eq!(pool.pinned_bytes(), 48);
        rings.into_iter().for_each(|ring| pool.put_back(ring));
        assert_eq!(pool.pinned_bytes(), 16);
    }

    #[test]
    fn the_count_of_rings_is_rounded_up() {
        let pool = RingPool::new(16, 1);
        for bytes in 0..100 {
            assert_eq!(pool.count_for(bytes), bytes.div_ceil(16));
        }
    }

    #[test]
    fn a_ring_is_three_words() {
        assert_eq!(size_of::<Ring>(), 24);
    }
}
