//! Messages that wait to be sent, one behind the other in one buffer.

use crate::limits::WAITING_MESSAGE_BYTES;
use crate::wire::Opcode;

/// A queue of messages, first in, first out. It allocates while it grows to what its user lets wait
/// at most, and not for each message.
#[derive(Debug)]
pub struct Backlog {
    /// Payloads, without gaps. In front those that were taken, until they are as much as the rest.
    bytes: Vec<u8>,
    places: Vec<Place>,
    /// The first place that is not taken.
    first: usize,
    /// Where its payload begins.
    start: usize,
    /// The most that the buffers keep when everything was taken.
    retained_bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    opcode: Opcode,
    len: usize,
}

const _: () = assert!(size_of::<Place>() <= WAITING_MESSAGE_BYTES);

impl Backlog {
    /// An empty queue, which owns nothing yet.
    pub const fn new(retained_bytes: usize) -> Self {
        Self { bytes: Vec::new(), places: Vec::new(), first: 0, start: 0, retained_bytes }
    }

    /// How many messages wait.
    pub const fn len(&self) -> usize {
        self.places.len() - self.first
    }

    /// Whether nothing waits.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The payloads of all that wait.
    pub const fn payload_bytes(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// What counts against a bound: the payloads, and a place for each.
    pub const fn bytes(&self) -> usize {
        self.payload_bytes() + self.len() * WAITING_MESSAGE_BYTES
    }

    /// Puts a message behind the others.
    pub fn push(&mut self, opcode: Opcode, payload: &[u8]) {
        self.tidy();
        self.places.push(Place { opcode, len: payload.len() });
        self.bytes.extend_from_slice(payload);
    }

    /// The messages that wait, the first in front.
    pub fn iter(&self) -> Messages<'_> {
        Messages { places: &self.places[self.first..], bytes: &self.bytes[self.start..] }
    }

    /// Takes the first `count` messages, or all. What they lie in is used again with the next push.
    pub fn take(&mut self, count: usize) -> Messages<'_> {
        let (first, start) = (self.first, self.start);
        self.first += count.min(self.len());
        let places = &self.places[first..self.first];
        self.start += places.iter().map(|place| place.len).sum::<usize>();
        Messages { places, bytes: &self.bytes[start..self.start] }
    }

    /// Takes the last `count` messages back that were taken since the last push; says how many bytes
    /// they have.
    pub fn untake(&mut self, count: usize) -> usize {
        let places = &self.places[self.first - count..self.first];
        let bytes = places.iter().map(|place| place.len).sum();
        (self.first, self.start) = (self.first - count, self.start - bytes);
        bytes
    }

    /// Has one message wait instead of all others, which `write` writes into an empty buffer.
    pub fn replace(&mut self, opcode: Opcode, write: impl FnOnce(&mut Vec<u8>)) {
        self.take(usize::MAX);
        self.tidy();
        write(&mut self.bytes);
        self.places.push(Place { opcode, len: self.bytes.len() });
    }

    /// Where the buffers lie and how large they are.
    #[cfg(test)]
    pub fn place(&self) -> [usize; 4] {
        let (bytes, places) = (&self.bytes, &self.places);
        [bytes.as_ptr().addr(), bytes.capacity(), places.as_ptr().addr(), places.capacity()]
    }

    /// Makes room where messages were taken. Each is moved once at most for every one in front of
    /// it.
    fn tidy(&mut self) {
        if self.is_empty() {
            self.bytes.clear();
            self.places.clear();
            self.bytes.shrink_to(self.retained_bytes);
            self.places.shrink_to(self.retained_bytes / WAITING_MESSAGE_BYTES);
            (self.first, self.start) = (0, 0);
        }
        if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        if self.first > self.places.len() / 2 {
            self.places.drain(..self.first);
            self.first = 0;
        }
    }
}

/// Messages in the order in which they were given, lent until the next call.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    places: &'a [Place],
    /// The payloads of just these.
    bytes: &'a [u8],
}

#[cfg(test)]
impl Messages<'_> {
    /// The bytes of the payloads that are left.
    pub const fn payload_bytes(&self) -> usize {
        self.bytes.len()
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = (Opcode, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (place, places) = self.places.split_first()?;
        let (payload, bytes) = self.bytes.split_at(place.len);
        (self.places, self.bytes) = (places, bytes);
        Some((place.opcode, payload))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.places.len(), Some(self.places.len()))
    }
}

impl ExactSizeIterator for Messages<'_> {}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn operation() -> impl Strategy<Value = (usize, Vec<u8>)> {
        let payload = prop_oneof![
            4 => prop::collection::vec(any::<u8>(), 0..20),
            1 => prop::collection::vec(any::<u8>(), 0..500),
        ];
        (prop_oneof![3 => Just(0), 1 => 1..20_usize], payload)
    }

    proptest! {
        #[test]
        fn backlog_gives_back_what_it_was_given_in_order(
            operations in prop::collection::vec(operation(), 1..60), retained in 0..2000_usize,
        ) {
            let mut backlog = Backlog::new(retained);
            let mut model: VecDeque<(Opcode, Vec<u8>)> = VecDeque::new();
            for (count, payload) in operations {
                if count == 0 {
                    backlog.push(Opcode::Text, &payload);
                    model.push_back((Opcode::Text, payload));
                    backlog.push(Opcode::Binary, &[]);
                    model.push_back((Opcode::Binary, Vec::new()));
                } else {
                    let count_taken = count.min(model.len());
                    let expected: Vec<_> = model.drain(..count_taken).collect();
                    let taken = backlog.take(count);
                    prop_assert_eq!(taken.len(), expected.len());
                    let bytes: usize = expected.iter().map(|(_, payload)| payload.len()).sum();
                    prop_assert_eq!(taken.payload_bytes(), bytes);
                    let taken: Vec<_> = taken.map(|(opcode, p)| (opcode, p.to_vec())).collect();
                    prop_assert_eq!(taken, expected);
                }
                let bytes: usize = model.iter().map(|(_, payload)| payload.len()).sum();
                prop_assert_eq!(backlog.payload_bytes(), bytes);
                prop_assert_eq!(backlog.bytes(), bytes + model.len() * WAITING_MESSAGE_BYTES);
                prop_assert!(backlog.iter().eq(model.iter().map(|(o, p)| (*o, &p[..]))));
            }
        }
    }

    #[test]
    fn message_that_replaces_all_others_is_alone() {
        let mut backlog = Backlog::new(1000);
        backlog.push(Opcode::Binary, b"one");
        for text in ["hello", "you"] {
            backlog.replace(Opcode::Text, |bytes| bytes.extend_from_slice(text.as_bytes()));
            assert!(backlog.iter().eq([(Opcode::Text, text.as_bytes())]));
            assert_eq!(backlog.payload_bytes(), text.len());
        }
    }

    #[test]
    fn buffers_do_not_grow_with_what_has_passed_and_shrink_when_empty() {
        let mut backlog = Backlog::new(1000);
        for _ in 0..10 {
            backlog.push(Opcode::Text, &[0; 100]);
        }
        for _ in 0..10_000 {
            backlog.take(1);
            backlog.push(Opcode::Text, &[0; 100]);
        }
        assert_eq!(backlog.len(), 10);
        assert!(backlog.bytes.capacity() <= 4000 && backlog.places.capacity() <= 40);
        backlog.push(Opcode::Text, &[0; 100_000]);
        backlog.take(usize::MAX);
        backlog.push(Opcode::Text, b"x");
        assert!(backlog.bytes.capacity() <= 1000);
    }
}
