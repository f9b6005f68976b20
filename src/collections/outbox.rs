//! The unsent bytes of one connection, in order.
//!
//! ```text
//! Outbox { head, tail }          pool.segments (one slab for all connections of a loop)
//!    │        └────────────────────────────────┐
//!    └──► Ring: ▓▓▓▓▓▓▓░ ──► Shared: Bytes ──► Ring: ▓▓▓░░░░░ ──► ∅
//! ```
//!
//! Small frames are copied one behind the other into pooled rings; what the application gives as
//! [`Bytes`] is queued by reference. The handle that every connection carries is 12 bytes, and an
//! idle connection owns nothing but that.

use std::io::IoSlice;

use bytes::Bytes;

use super::PoolExhausted;
use super::cursor::Cursor;
use super::index::NONE;
use super::outbox_pool::{OutboxPool, Segment};
use super::segment::{Data, Recallable};

pub use super::segment::HEADER_BYTES_MAX;

/// A queue of bytes to be written, at most 4 GiB of them, whose memory lies in an [`OutboxPool`].
///
/// Every call takes the one pool that the outbox has used from the start; with another one the
/// content is arbitrary and calls may panic. [`Outbox::clear`] must be called before an outbox that
/// is not empty is dropped, or its segments stay taken as long as the pool lives.
#[derive(Debug)]
pub struct Outbox {
    /// Index of the first segment, or `NONE`.
    pub(super) head: u32,
    /// Index of the last segment, or `NONE`.
    pub(super) tail: u32,
    /// The sum of the segments' lengths; each of them is at least 1.
    pub(super) queued_bytes: u32,
}

impl Outbox {
    /// Makes an empty outbox, which owns no memory.
    pub const fn new() -> Self {
        Self { head: NONE, tail: NONE, queued_bytes: 0 }
    }

    /// How many bytes wait to be written.
    #[inline]
    pub fn queued_bytes(&self) -> u64 {
        self.queued_bytes.into()
    }

    /// Whether nothing waits to be written.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.queued_bytes == 0
    }

    /// Appends copies of `header` and `payload`, both or neither.
    ///
    /// # Errors
    /// [`PoolExhausted`] when the pool has too few rings or segments left, or 4 GiB are queued.
    #[inline]
    pub fn push(
        &mut self,
        pool: &mut OutboxPool,
        header: &[u8],
        payload: &[u8],
    ) -> Result<(), PoolExhausted> {
        self.push_mapped(pool, header, payload, |_| {})
    }

    /// Appends copies of both if the last ring has room for them in one piece, or nothing is queued
    /// yet; says whether.
    #[inline]
    pub fn push_short(&mut self, pool: &mut OutboxPool, header: [u8; 2], payload: &[u8]) -> bool {
        self.push_short_mapped(pool, header, payload, |from, to| to.copy_from_slice(from))
    }

    /// As [`Outbox::push_short`], with `copy` to bring the payload into its place. This is how a
    /// client masks short messages, on their way.
    #[inline]
    pub fn push_short_mapped<const N: usize>(
        &mut self,
        pool: &mut OutboxPool,
        header: [u8; N],
        payload: &[u8],
        copy: impl FnOnce(&[u8], &mut [u8]),
    ) -> bool {
        let Ok(grown) = self.grown(header.len() + payload.len()) else { return false };
        let pushed = match pool.ring_mut(self.tail) {
            Some(ring) => ring.push_contiguous(header, payload, copy),
            None => self.push_first(pool, header, payload, copy),
        };
        if pushed {
            self.queued_bytes = grown;
        }
        pushed
    }

    /// How many bytes are queued when so many more are.
    #[inline]
    pub(super) fn grown(&self, bytes: usize) -> Result<u32, PoolExhausted> {
        u32::try_from(self.queued_bytes as usize + bytes).map_err(|_| PoolExhausted)
    }

    /// Begins with a ring; says whether there is one, and room in it.
    #[inline(never)]
    fn push_first<const N: usize>(
        &mut self,
        pool: &mut OutboxPool,
        header: [u8; N],
        payload: &[u8],
        copy: impl FnOnce(&[u8], &mut [u8]),
    ) -> bool {
        if self.head != NONE || pool.reserve(1, 1).is_err() {
            return false;
        }
        let mut ring = pool.rings.take().expect("a ring was reserved");
        if !ring.push_contiguous(header, payload, copy) {
            pool.rings.put_back(ring);
            return false;
        }
        self.append(pool, Data::Ring(ring));
        true
    }

    /// Appends copies of `header` and `payload`, both or neither; `map` then sees the copy of the
    /// payload in order, in as many pieces as it lies in. This is how a client masks what it sends.
    ///
    /// # Errors
    /// [`PoolExhausted`] when the pool has too few rings or segments left; `map` was not called.
    #[inline]
    pub fn push_mapped(
        &mut self,
        pool: &mut OutboxPool,
        header: &[u8],
        payload: &[u8],
        map: impl FnMut(&mut [u8]),
    ) -> Result<(), PoolExhausted> {
        let bytes = header.len() + payload.len();
        let grown = self.grown(bytes)?;
        match pool.ring_mut(self.tail) {
            Some(ring) if ring.free() >= bytes => {
                ring.push(header);
                ring.push_mapped(payload, map);
                self.queued_bytes = grown;
                Ok(())
            }
            _ => self.push_over_rings(pool, header, payload, map),
        }
    }

    /// Appends `bytes` by reference. Nothing happens if they are empty.
    ///
    /// # Errors
    /// [`PoolExhausted`] when the pool has no segment left.
    pub fn push_shared(
        &mut self,
        pool: &mut OutboxPool,
        bytes: Bytes,
    ) -> Result<(), PoolExhausted> {
        self.push_shared_with_header(pool, &[], bytes)
    }

    /// Appends a copy of `header`, then `payload` by reference, both or neither.
    ///
    /// # Errors
    /// [`PoolExhausted`] when the pool has too few segments left.
    ///
    /// # Panics
    /// If the header is longer than [`HEADER_BYTES_MAX`].
    pub fn push_shared_with_header(
        &mut self,
        pool: &mut OutboxPool,
        header: &[u8],
        payload: Bytes,
    ) -> Result<(), PoolExhausted> {
        assert!(header.len() <= HEADER_BYTES_MAX, "a frame's header is at most 14 bytes");
        if payload.is_empty() {
            return self.push(pool, header, &[]);
        }
        self.grown(header.len() + payload.len())?;
        let fits_tail = pool.ring_mut(self.tail).is_some_and(|ring| ring.free() >= header.len());
        let separate = !header.is_empty() && !fits_tail;
        pool.reserve(0, 1 + usize::from(separate))?;
        if separate {
            self.append(pool, Data::header(header));
        } else if let Some(ring) = pool.ring_mut(self.tail) {
            ring.push(header);
        }
        self.queued_bytes += header.len() as u32;
        self.queued_bytes += payload.len() as u32;
        pool.shared_bytes += payload.len() as u64;
        self.append(pool, Data::Shared(payload));
        Ok(())
    }

    /// Fills `slices` with the queued bytes, the oldest first, as far as it reaches, and returns
    /// how many were filled. None of them is empty.
    #[inline]
    pub fn lend<'a>(&'a self, pool: &'a OutboxPool, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        let mut index = self.head;
        while let Some(segment) = pool.segments.get(index as usize) {
            let (first, second) = segment.data.as_slices(&pool.frames);
            for piece in [first, second] {
                if piece.is_empty() {
                    continue;
                }
                let Some(slice) = slices.get_mut(count) else { return count };
                *slice = IoSlice::new(piece);
                count += 1;
            }
            index = segment.next;
        }
        count
    }

    /// All queued bytes, if they lie in one piece, as those of nearly every batch do.
    #[inline]
    pub fn lend_whole<'a>(&self, pool: &'a OutboxPool) -> Option<&'a [u8]> {
        let segment = pool.segments.get(self.head as usize)?;
        match segment.data.as_slices(&pool.frames) {
            (whole, []) if segment.next == NONE => Some(whole),
            _ => None,
        }
    }

    /// Gives up the `bytes` oldest bytes, because they were written. A ring goes back to the pool
    /// as soon as it is empty, and a reference is dropped as soon as all of it was written.
    ///
    /// # Panics
    /// If fewer are queued.
    #[inline]
    pub fn consume(&mut self, pool: &mut OutboxPool, bytes: usize) {
        assert!(bytes <= self.queued_bytes as usize, "only queued bytes can be consumed");
        self.queued_bytes -= bytes as u32;
        let mut rest = bytes;
        while rest > 0 {
            let segment = &mut pool.segments[self.head as usize];
            let len = segment.data.len();
            if rest < len {
                segment.data.consume(rest);
                match &mut segment.data {
                    Data::Shared(_) => pool.shared_bytes -= rest as u64,
                    // What the kernel has begun cannot be taken back.
                    Data::Frames { recallable, .. } if *recallable != Recallable::Never => {
                        let recallable = std::mem::replace(recallable, Recallable::Never);
                        pool.recalls.remove(&mut pool.segments, recallable, self.head);
                    }
                    Data::Frames { .. } | Data::Ring(_) | Data::Header { .. } => {}
                }
                return;
            }
            rest -= len;
            self.pop_front(pool);
        }
    }

    /// Gives up every queued byte, and with it all memory.
    #[inline]
    pub fn clear(&mut self, pool: &mut OutboxPool) {
        while self.head != NONE {
            self.pop_front(pool);
        }
        self.queued_bytes = 0;
    }

    /// Memory that the queue holds: its rings and segments, and what is queued by reference; of frames
    /// that others have queued too, its part. It takes as long as there are segments.
    pub fn pinned_bytes(&self, pool: &OutboxPool) -> usize {
        let mut bytes = 0;
        let mut index = self.head;
        while let Some(segment) = pool.segments.get(index as usize) {
            bytes += size_of::<Segment>() + pool.share_bytes(&segment.data);
            index = segment.next;
        }
        bytes
    }

    /// A cursor at the oldest queued byte.
    pub fn cursor<'a>(&'a self, pool: &'a OutboxPool) -> Cursor<'a> {
        Cursor::new(pool, self.head)
    }

    /// The way of a push that does not fit into the last segment: the first of a batch, or one that
    /// goes on into another ring.
    #[inline(never)]
    fn push_over_rings(
        &mut self,
        pool: &mut OutboxPool,
        mut header: &[u8],
        mut payload: &[u8],
        mut map: impl FnMut(&mut [u8]),
    ) -> Result<(), PoolExhausted> {
        let bytes = header.len() + payload.len();
        let fits_tail = pool.ring_mut(self.tail).map_or(0, |ring| ring.free());
        let rings = pool.rings.count_for(bytes.saturating_sub(fits_tail));
        pool.reserve(rings, rings)?;
        self.queued_bytes = self.grown(bytes)?;
        loop {
            if let Some(ring) = pool.ring_mut(self.tail) {
                header = &header[ring.push(header)..];
                if header.is_empty() {
                    payload = &payload[ring.push_mapped(payload, &mut map)..];
                }
            }
            if header.is_empty() && payload.is_empty() {
                return Ok(());
            }
            let ring = pool.rings.take().expect("as many rings as are filled were reserved");
            self.append(pool, Data::Ring(ring));
        }
    }

    #[inline]
    pub(super) fn append(&mut self, pool: &mut OutboxPool, data: Data) {
        // `reserve` keeps the number of segments below `NONE`.
        let previous = self.tail;
        let index = pool.segments.insert(Segment { data, next: NONE, previous }) as u32;
        match pool.segments.get_mut(self.tail as usize) {
            Some(last) => last.next = index,
            None => self.head = index,
        }
        self.tail = index;
    }

    // What frees a mapped ring makes this too large to be inlined unasked, and each write comes here.
    #[inline(always)]
    fn pop_front(&mut self, pool: &mut OutboxPool) {
        let at = self.head;
        let segment = pool.segments.remove(at as usize);
        self.head = segment.next;
        if self.head == NONE {
            self.tail = NONE;
        } else if let Some(next) = pool.segments.get_mut(self.head as usize) {
            next.previous = NONE;
        }
        match segment.data {
            Data::Ring(ring) => pool.rings.put_back(ring),
            other => pool.release(other, at),
        }
    }
}

impl Default for Outbox {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::collections::{Recall, SegmentKey};

    const RING_BYTES: usize = 16;
    const RINGS_MAX: usize = 8;
    const SEGMENTS_MAX: usize = 20;
    /// For those in turn, and some that conflate.
    const KEYS: [Option<u64>; 4] = [None, Some(0), Some(1), Some(2)];

    #[derive(Clone, Debug)]
    enum Operation {
        Push { header: Vec<u8>, payload: Vec<u8> },
        PushMapped { header: Vec<u8>, payload: Vec<u8> },
        PushShort { header: [u8; 2], payload: Vec<u8> },
        PushShortMapped { header: [u8; 6], payload: Vec<u8> },
        PushShared { header: Vec<u8>, payload: Vec<u8> },
        PushReplaceable(Vec<u8>),
        Replace { which: Index, bytes: Vec<u8> },
        PushFrames { bytes: Vec<u8>, kind: FrameKind },
        ReplaceFrame { bytes: Vec<u8>, about: About },
        TakeBack(About),
        LeaveLog,
        EndTurn,
        Consume(Index),
        Clear,
    }

    /// How frames come into an outbox.
    #[derive(Clone, Copy, Debug)]
    enum FrameKind {
        Log,
        Own,
        Recallable(About),
    }

    /// What a frame that can be taken back is about, and its key.
    type About = (u64, Option<u64>);

    fn operation() -> impl Strategy<Value = Operation> {
        let bytes = |count| prop::collection::vec(any::<u8>(), count);
        let frame = || (bytes(0..15), bytes(0..50));
        prop_oneof![
            1 => frame().prop_map(|(header, payload)| Operation::Push { header, payload }),
            1 => frame().prop_map(|(header, payload)| Operation::PushMapped { header, payload }),
            1 => (any::<[u8; 2]>(), bytes(0..12))
                .prop_map(|(header, payload)| Operation::PushShort { header, payload }),
            1 => (any::<[u8; 6]>(), bytes(0..8))
                .prop_map(|(header, payload)| Operation::PushShortMapped { header, payload }),
            1 => frame().prop_map(|(header, payload)| Operation::PushShared { header, payload }),
            1 => bytes(1..20).prop_map(Operation::PushReplaceable),
            1 => (any::<Index>(), bytes(1..20))
                .prop_map(|(which, bytes)| Operation::Replace { which, bytes }),
            6 => (bytes(1..20), frame_kind())
                .prop_map(|(bytes, kind)| Operation::PushFrames { bytes, kind }),
            1 => (bytes(1..20), about())
                .prop_map(|(bytes, about)| Operation::ReplaceFrame { bytes, about }),
            2 => about().prop_map(Operation::TakeBack),
            1 => Just(Operation::LeaveLog),
            1 => Just(Operation::EndTurn),
            3 => any::<Index>().prop_map(Operation::Consume),
            1 => Just(Operation::Clear),
        ]
    }

    fn frame_kind() -> impl Strategy<Value = FrameKind> {
        prop_oneof![
            1 => Just(FrameKind::Log),
            1 => Just(FrameKind::Own),
            4 => about().prop_map(FrameKind::Recallable),
        ]
    }

    fn about() -> impl Strategy<Value = About> {
        (0..2_u64, prop::sample::select(&KEYS[..]))
    }

    /// By what a piece can be changed, until a byte of it is gone.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Handle {
        None,
        Key(SegmentKey),
        Recall(About),
    }

    /// What was pushed and not consumed.
    #[derive(Default)]
    struct Model {
        pieces: VecDeque<(Handle, Vec<u8>)>,
        keys: Vec<SegmentKey>,
        /// Which of several outboxes it is.
        owner: u32,
    }

    impl Model {
        fn content(&self) -> Vec<u8> {
            self.pieces.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect()
        }

        fn push(&mut self, handle: Handle, bytes: Vec<u8>) {
            if !bytes.is_empty() {
                self.pieces.push_back((handle, bytes));
            }
        }

        fn replace(&mut self, wanted: Handle, bytes: &[u8]) -> bool {
            let found = self.pieces.iter_mut().find(|(handle, _)| *handle == wanted);
            found.map(|(_, queued)| *queued = bytes.to_vec()).is_some()
        }

        /// Where the oldest piece about this is.
        fn first(&self, about: About) -> Option<usize> {
            self.pieces.iter().position(|(handle, _)| *handle == Handle::Recall(about))
        }

        fn recall(&self, (subject, key): About) -> Recall {
            match key {
                None => Recall::in_turn(self.owner, subject),
                Some(key) => Recall::by_key(self.owner, subject, key),
            }
        }

        fn consume(&mut self, mut count: usize) {
            while count > 0 {
                let (handle, bytes) = &mut self.pieces[0];
                let taken = count.min(bytes.len());
                *handle = Handle::None;
                bytes.drain(..taken);
                count -= taken;
                if bytes.is_empty() {
                    self.pieces.pop_front();
                }
            }
        }
    }

    fn content(outbox: &Outbox, pool: &OutboxPool) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 2 * SEGMENTS_MAX];
        let count = outbox.lend(pool, &mut slices);
        assert!(slices[..count].iter().all(|slice| !slice.is_empty()));
        slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect()
    }

    /// Does the operation to both and answers whether the outbox took it.
    fn apply(
        outbox: &mut Outbox,
        pool: &mut OutboxPool,
        model: &mut Model,
        operation: Operation,
    ) -> Result<(), PoolExhausted> {
        match operation {
            Operation::Push { header, payload } => {
                outbox.push(pool, &header, &payload)?;
                model.push(Handle::None, [header, payload].concat());
            }
            Operation::PushMapped { header, payload } => {
                outbox.push_mapped(pool, &header, &payload, |piece| {
                    piece.iter_mut().for_each(|byte| *byte = !*byte);
                })?;
                let mapped = payload.iter().map(|byte| !byte).collect();
                model.push(Handle::None, [header, mapped].concat());
            }
            Operation::PushShort { header, payload } => {
                if outbox.push_short(pool, header, &payload) {
                    model.push(Handle::None, [&header, &*payload].concat());
                }
            }
            Operation::PushShortMapped { header, payload } => {
                let invert = |byte: &u8| !byte;
                let copy = |from: &[u8], to: &mut [u8]| {
                    to.iter_mut().zip(from).for_each(|(to, from)| *to = invert(from));
                };
                if outbox.push_short_mapped(pool, header, &payload, copy) {
                    let mapped: Vec<u8> = payload.iter().map(invert).collect();
                    model.push(Handle::None, [&header, &*mapped].concat());
                }
            }
            Operation::PushShared { header, payload } => {
                let shared = Bytes::from(payload.clone());
                outbox.push_shared_with_header(pool, &header, shared)?;
                model.push(Handle::None, [header, payload].concat());
            }
            Operation::PushReplaceable(bytes) => {
                let key = outbox.push_replaceable(pool, Bytes::from(bytes.clone()))?;
                assert!(!model.keys.contains(&key));
                model.keys.push(key);
                model.push(Handle::Key(key), bytes);
            }
            Operation::Replace { which, bytes } if !model.keys.is_empty() => {
                let key = *which.get(&model.keys);
                let expected = model.replace(Handle::Key(key), &bytes);
                assert_eq!(outbox.replace(pool, key, Bytes::from(bytes)), expected);
            }
            Operation::Replace { .. } => {}
            Operation::Consume(index) => {
                let count = index.index(model.content().len() + 1);
                outbox.consume(pool, count);
                model.consume(count);
            }
            Operation::Clear => {
                outbox.clear(pool);
                model.pieces.clear();
            }
            operation => return apply_to_frames(outbox, pool, model, operation),
        }
        Ok(())
    }

    /// The part of [`apply`] that is about shared frames.
    fn apply_to_frames(
        outbox: &mut Outbox,
        pool: &mut OutboxPool,
        model: &mut Model,
        operation: Operation,
    ) -> Result<(), PoolExhausted> {
        match operation {
            Operation::PushFrames { bytes, kind } => push_frames(outbox, pool, model, bytes, kind)?,
            Operation::ReplaceFrame { bytes, about } => {
                let expected = model.replace(Handle::Recall(about), &bytes);
                let own = pool.frames.insert(Bytes::from(bytes));
                assert_eq!(outbox.replace_recallable(pool, own, model.recall(about)), expected);
                pool.frames.release(own);
            }
            Operation::TakeBack(about) => {
                let taken = model.first(about).and_then(|at| model.pieces.remove(at));
                let expected = taken.map(|(_, bytes)| bytes.len());
                assert_eq!(outbox.recall_oldest(pool, model.recall(about)), expected);
            }
            Operation::LeaveLog => outbox.leave_log(pool),
            Operation::EndTurn => pool.frames.end_turn(),
            other => unreachable!("{other:?} is about something else"),
        }
        Ok(())
    }

    fn push_frames(
        outbox: &mut Outbox,
        pool: &mut OutboxPool,
        model: &mut Model,
        bytes: Vec<u8>,
        kind: FrameKind,
    ) -> Result<(), PoolExhausted> {
        if let FrameKind::Log = kind {
            let range = pool.frames.append(&bytes);
            outbox.push_frames(pool, range)?;
            model.push(Handle::None, bytes);
            return Ok(());
        }
        let own = pool.frames.insert(Bytes::from(bytes.clone()));
        let (pushed, handle) = match kind {
            // Of one key, one waits.
            FrameKind::Recallable(about) if about.1.is_none() || model.first(about).is_none() => {
                let recall = model.recall(about);
                (outbox.push_recallable(pool, own, recall), Handle::Recall(about))
            }
            _ => (outbox.push_frames(pool, own), Handle::None),
        };
        pool.frames.release(own);
        if pushed.is_ok() {
            model.push(handle, bytes);
        }
        pushed
    }

    proptest! {
        #[test]
        fn outboxes_of_one_pool_equal_lists_of_pieces(
            operations in prop::collection::vec((0_usize..3, operation()), 0..100),
        ) {
            let mut pool = OutboxPool::new(RING_BYTES, RINGS_MAX, SEGMENTS_MAX);
            let mut outboxes = [Outbox::new(), Outbox::new(), Outbox::new()];
            let mut models = [0, 1, 2].map(|owner| Model { owner, ..Model::default() });
            for (which, operation) in operations {
                let before = (pool.rings_in_use(), pool.segments(), pool.shared_bytes());
                let (outbox, model) = (&mut outboxes[which], &mut models[which]);
                if apply(outbox, &mut pool, model, operation).is_err() {
                    let after = (pool.rings_in_use(), pool.segments(), pool.shared_bytes());
                    prop_assert_eq!(after, before);
                    // No push of this test asks for more than 5 rings or segments.
                    let (rings, segments, _) = before;
                    prop_assert!(rings + 5 > RINGS_MAX || segments + 5 > SEGMENTS_MAX);
                }
                prop_assert!(pool.rings_in_use() <= RINGS_MAX);
                prop_assert!(pool.segments() <= SEGMENTS_MAX);
                for (outbox, model) in outboxes.iter().zip(&models) {
                    let expected = model.content();
                    prop_assert_eq!(content(outbox, &pool), &expected[..]);
                    prop_assert_eq!(outbox.queued_bytes(), expected.len() as u64);
                    prop_assert_eq!(outbox.is_empty(), expected.is_empty());
                    for about in [0, 1].into_iter().flat_map(|it| KEYS.map(|key| (it, key))) {
                        let first = pool.recalls.first(&pool.segments, model.recall(about));
                        let found =
                            first.map(|at| pool.segments[at as usize].data.as_slices(&pool.frames));
                        let expected = model.first(about).map(|at| &*model.pieces[at].1);
                        prop_assert_eq!(found.map(|(bytes, _)| bytes), expected);
                    }
                }
            }
            for outbox in &mut outboxes {
                outbox.clear(&mut pool);
            }
            prop_assert_eq!((pool.rings_in_use(), pool.segments(), pool.shared_bytes()), (0, 0, 0));
            pool.frames.end_turn();
            prop_assert_eq!((pool.frames.blocks(), pool.recalls.pinned_bytes()), (0, 0));
        }

        #[test]
        fn cursor_equals_an_index_into_the_content(
            operations in prop::collection::vec(operation(), 0..30),
            steps in prop::collection::vec((0_u64..30, 0_usize..40), 0..20),
        ) {
            let mut pool = OutboxPool::new(RING_BYTES, RINGS_MAX, SEGMENTS_MAX);
            let mut outbox = Outbox::new();
            let mut model = Model::default();
            for operation in operations {
                let _ = apply(&mut outbox, &mut pool, &mut model, operation);
            }
            let content = model.content();
            let mut cursor = outbox.cursor(&pool);
            let mut position = 0;
            for (skip, peek) in steps {
                let skipped = (skip as usize).min(content.len() - position);
                prop_assert_eq!(cursor.skip(skip), skipped as u64);
                position += skipped;

                let mut target = vec![0; peek];
                let count = cursor.peek(&mut target);
                prop_assert_eq!(count, peek.min(content.len() - position));
                prop_assert_eq!(&target[..count], &content[position..position + count]);
            }
        }
    }

    #[test]
    fn the_handle_and_the_segments_are_small() {
        assert_eq!(size_of::<Outbox>(), 12);
        /// What the slab stores.
        #[expect(dead_code, reason = "only its size matters")]
        enum Entry {
            Vacant(usize),
            Occupied(Segment),
        }
        assert_eq!(size_of::<Entry>(), 48);
    }

    #[test]
    fn a_push_that_does_not_fit_leaves_nothing_behind() {
        let mut pool = OutboxPool::new(16, 2, 8);
        let mut outbox = Outbox::new();
        outbox.push(&mut pool, b"12", b"3456").unwrap();
        let untouched = |_: &mut [u8]| panic!("nothing was copied");
        assert_eq!(outbox.push_mapped(&mut pool, &[0; 2], &[0; 25], untouched), Err(PoolExhausted));
        assert_eq!((outbox.queued_bytes(), pool.rings_in_use()), (6, 1));
        outbox.push(&mut pool, &[7; 2], &[7; 24]).unwrap();
        assert_eq!((outbox.queued_bytes(), pool.rings_in_use()), (32, 2));
        assert_eq!(content(&outbox, &pool), [&b"123456"[..], &[7; 26]].concat());
        outbox.clear(&mut pool);
    }

    #[test]
    fn segments_are_bounded() {
        let mut pool = OutboxPool::new(16, 9, 2);
        let mut outbox = Outbox::new();
        let shared = Bytes::from_static(b"shared");
        outbox.push_shared(&mut pool, shared.clone()).unwrap();
        let refused = outbox.push_shared_with_header(&mut pool, b"h", shared.clone());
        assert_eq!(refused, Err(PoolExhausted));
        outbox.push_shared(&mut pool, shared.clone()).unwrap();
        assert_eq!(outbox.push(&mut pool, b"h", b""), Err(PoolExhausted));
        assert_eq!(outbox.push_replaceable(&mut pool, shared), Err(PoolExhausted));
        assert_eq!(outbox.queued_bytes(), 12);
        outbox.clear(&mut pool);
    }

    #[test]
    fn an_emptied_ring_goes_back_and_is_reused() {
        let mut pool = OutboxPool::new(16, 1, 8);
        let mut outbox = Outbox::new();
        for _ in 0..3 {
            outbox.push(&mut pool, b"0123456789", b"abcdef").unwrap();
            assert_eq!(pool.rings_in_use(), 1);
            outbox.consume(&mut pool, 16);
            assert_eq!((pool.rings_in_use(), pool.segments()), (0, 0));
        }
        assert!(pool.pinned_bytes() >= 16 && pool.pinned_bytes() < 16 + 8 * 48);
    }

    #[test]
    fn a_reference_is_dropped_when_all_of_it_was_written() {
        let mut pool = OutboxPool::new(16, 1, 8);
        let mut outbox = Outbox::new();
        let shared = Bytes::from(vec![1; 100]);
        outbox.push_shared(&mut pool, shared.clone()).unwrap();
        outbox.consume(&mut pool, 99);
        assert_eq!((pool.shared_bytes(), shared.is_unique()), (1, false));
        outbox.consume(&mut pool, 1);
        assert_eq!((pool.shared_bytes(), shared.is_unique()), (0, true));
    }

    #[test]
    fn a_header_before_a_shared_payload_takes_no_ring() {
        let mut pool = OutboxPool::new(16, 0, 8);
        let mut outbox = Outbox::new();
        outbox.push_shared_with_header(&mut pool, &[9; 14], Bytes::from_static(b"x")).unwrap();
        outbox.consume(&mut pool, 13);
        assert_eq!(content(&outbox, &pool), b"\x09x");
        outbox.clear(&mut pool);
    }

    #[test]
    fn a_header_goes_into_the_last_ring_if_that_has_room() {
        let mut pool = OutboxPool::new(16, 1, 2);
        let mut outbox = Outbox::new();
        outbox.push(&mut pool, b"ab", b"cd").unwrap();
        outbox.push_shared_with_header(&mut pool, b"ef", Bytes::from_static(b"gh")).unwrap();
        assert_eq!(content(&outbox, &pool), b"abcdefgh");
        outbox.clear(&mut pool);
    }

    #[test]
    fn a_cursor_stands_behind_the_edge_of_a_wrapped_ring() {
        let mut pool = OutboxPool::new(16, 1, 8);
        let mut outbox = Outbox::new();
        outbox.push(&mut pool, b"", &[0; 15]).unwrap();
        outbox.consume(&mut pool, 12);
        outbox.push(&mut pool, b"", b"abcdef").unwrap();
        let mut cursor = outbox.cursor(&pool);
        assert_eq!(cursor.skip(7), 7);
        let mut target = [0; 4];
        assert_eq!(cursor.peek(&mut target), 2);
        assert_eq!(&target[..2], b"ef");
        outbox.clear(&mut pool);
    }

    #[test]
    fn lending_stops_where_the_slices_end() {
        let mut pool = OutboxPool::new(16, 4, 8);
        let mut outbox = Outbox::new();
        outbox.push(&mut pool, b"", &[3; 40]).unwrap();
        let mut slices = [IoSlice::new(&[]); 2];
        assert_eq!(outbox.lend(&pool, &mut slices), 2);
        assert_eq!(slices.map(|slice| slice.len()), [16, 16]);
        assert_eq!(outbox.lend(&pool, &mut []), 0);
        outbox.clear(&mut pool);
    }

    #[test]
    fn the_mapped_pieces_joined_are_the_payload() {
        let mut pool = OutboxPool::new(16, 4, 8);
        let mut outbox = Outbox::new();
        let payload: Vec<u8> = (0..50).collect();
        let mut seen = Vec::new();
        let map = |piece: &mut [u8]| seen.extend_from_slice(piece);
        outbox.push_mapped(&mut pool, b"header", &payload, map).unwrap();
        assert_eq!(seen, payload);
        outbox.clear(&mut pool);
    }

    #[test]
    fn a_key_is_stale_once_its_slot_holds_another_segment() {
        let mut pool = OutboxPool::new(16, 4, 8);
        let mut outbox = Outbox::new();
        let first = outbox.push_replaceable(&mut pool, Bytes::from_static(b"one")).unwrap();
        outbox.clear(&mut pool);
        let second = outbox.push_replaceable(&mut pool, Bytes::from_static(b"two")).unwrap();
        assert_eq!(first.index, second.index);
        assert!(!outbox.replace(&mut pool, first, Bytes::from_static(b"three")));
        assert!(outbox.replace(&mut pool, second, Bytes::from_static(b"three")));
        assert_eq!(content(&outbox, &pool), b"three");
        outbox.clear(&mut pool);
    }

    #[test]
    #[should_panic(expected = "only queued bytes")]
    fn consuming_more_than_is_queued_panics() {
        let mut pool = OutboxPool::new(16, 4, 8);
        let mut outbox = Outbox::new();
        outbox.push(&mut pool, b"ab", b"").unwrap();
        outbox.consume(&mut pool, 3);
    }
}
