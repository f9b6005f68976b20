//! The links of a loop, and what they share: buffers, time for handshakes, counts.

use std::io::{self, IoSlice};

use super::client::TlsClient;
use super::link::Link;
use super::session::{RECORD_PAYLOAD_BYTES_MAX, TlsFacts};
use super::settings::Tls;
use crate::limits::{LoopLimits, TLS_HANDSHAKE_BYTES, TLS_INCOMING_BYTES_MAX};
use crate::metrics::Counters;
use crate::reactor::net::{Buffer, NetKey};

/// The connections of a loop that speak TLS. A loop without any owns nothing here.
pub struct Links {
    /// By the number of their key. Boxed: most loops have few or none.
    links: Vec<Option<Box<Link>>>,
    count: usize,
    pub workshop: Workshop,
}

/// What the links of a loop share, since only one of them works at a time.
pub struct Workshop {
    /// What sessions have to say, before the kernel takes it.
    pub output: Vec<u8>,
    pub counters: Counters,
    /// Small slices, put together to one record.
    gathered: Vec<u8>,
    /// Where payload is put; made for the first link.
    buffer: Loan,
    read_bytes_max: usize,
    steps_per_turn: u32,
    steps_left: u32,
    /// Of all links: sessions and buffers.
    held_bytes: usize,
    /// The bound of these.
    bytes_max: usize,
}

enum Loan {
    Unmade,
    In(Buffer),
    /// A link fills it.
    Out,
    /// The loop has it, and gives it back.
    Lent,
}

/// What is encrypted and written in one go.
pub struct Batch<'a> {
    pub payload: &'a [u8],
    pub output: &'a mut Vec<u8>,
}

/// What is still to be encrypted of what was offered.
pub struct Gathering<'a> {
    slices: &'a [IoSlice<'a>],
    index: usize,
    at: usize,
}

/// The most payload that is encrypted before the kernel is asked to take it: what it refuses of so
/// much has to be kept. Guess: four full records make one system call worth while.
pub const BATCH_BYTES_MAX: usize = 4 * RECORD_PAYLOAD_BYTES_MAX;

/// The same while there is no memory left to keep what is refused: it comes on top of the bound.
const SCANT_BATCH_BYTES_MAX: usize = 1 << 10;

impl Links {
    pub fn new(limits: &LoopLimits) -> Self {
        Self {
            links: Vec::new(),
            count: 0,
            workshop: Workshop {
                output: Vec::new(),
                counters: Counters::default(),
                gathered: Vec::new(),
                buffer: Loan::Unmade,
                read_bytes_max: limits.receive_buffer_bytes,
                steps_per_turn: limits.tls_handshakes_per_turn,
                steps_left: limits.tls_handshakes_per_turn,
                held_bytes: 0,
                bytes_max: limits.tls_bytes_max,
            },
        }
    }

    /// The link of `key` and the workshop, if `key` speaks TLS.
    #[inline]
    pub fn get(&mut self, key: NetKey) -> Option<(&mut Link, &mut Workshop)> {
        let link = self.links.get_mut(key.0 as usize)?.as_deref_mut()?;
        Some((link, &mut self.workshop))
    }

    /// What the handshake of `key` has brought to light.
    pub fn facts(&self, key: NetKey) -> Option<TlsFacts<'_>> {
        self.links.get(key.0 as usize)?.as_ref()?.facts()
    }

    /// Has `key` speak TLS from here on, as the server.
    ///
    /// # Errors
    /// `OutOfMemory` at the bound; `InvalidInput` if the configuration cannot be.
    pub fn insert(&mut self, key: NetKey, tls: &Tls, early: &[u8]) -> io::Result<()> {
        self.admit(key, || Ok(Link::server(tls.session()?, early)))
    }

    /// Has `key` speak TLS from here on, as a client of `host`.
    ///
    /// # Errors
    /// As [`insert`](Self::insert); `InvalidInput` also for a host that no certificate can name.
    pub fn insert_client(&mut self, key: NetKey, tls: &TlsClient, host: &str) -> io::Result<()> {
        self.admit(key, || Ok(Link::client(tls.session(host)?)))
    }

    fn admit(&mut self, key: NetKey, link: impl FnOnce() -> io::Result<Link>) -> io::Result<()> {
        if self.workshop.held_bytes + TLS_HANDSHAKE_BYTES > self.workshop.bytes_max {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let link = link()?;
        let index = key.0 as usize;
        if index >= self.links.len() {
            self.links.resize_with(index + 1, || None);
        }
        self.workshop.held_bytes += link.held_bytes();
        self.links[index] = Some(Box::new(link));
        self.count += 1;
        Ok(())
    }

    pub fn remove(&mut self, key: NetKey) -> Option<Box<Link>> {
        let link = self.links.get_mut(key.0 as usize)?.take()?;
        self.workshop.held_bytes -= link.held_bytes();
        self.count -= 1;
        Some(link)
    }

    /// Whether the links hold more than they may and `key` is among those who hold torn records.
    pub fn is_too_much(&mut self, key: NetKey) -> bool {
        self.workshop.held_bytes > self.workshop.bytes_max
            && self.get(key).is_some_and(|(link, _)| link.holds_records())
    }

    /// What the session of `key` and its buffers take.
    pub fn bytes_of(&self, key: NetKey) -> usize {
        let link = self.links.get(key.0 as usize).and_then(Option::as_ref);
        link.map_or(0, |link| link.held_bytes())
    }

    /// Frees what is kept for the next record.
    pub fn shrink(&mut self) {
        self.workshop.output = Vec::new();
        self.workshop.gathered = Vec::new();
    }

    /// What sessions and their buffers take, all together.
    pub fn pinned_bytes(&self) -> usize {
        self.workshop.held_bytes
    }

    pub fn count(&self) -> usize {
        self.count
    }
}

impl Workshop {
    pub fn begin_turn(&mut self) {
        self.steps_left = self.steps_per_turn;
    }

    /// Lets `link` work and keeps count of what it holds.
    pub fn watch<T>(&mut self, link: &mut Link, work: impl FnOnce(&mut Link, &mut Self) -> T) -> T {
        let held_bytes = link.held_bytes();
        let result = work(link, self);
        self.held_bytes = self.held_bytes - held_bytes + link.held_bytes();
        result
    }

    /// Whether this turn has time for another step of a handshake.
    pub fn may_shake_hands(&self) -> bool {
        self.steps_left > 0
    }

    pub fn count_step(&mut self) {
        self.steps_left = self.steps_left.saturating_sub(1);
    }

    pub fn read_bytes_max(&self) -> usize {
        self.read_bytes_max
    }

    /// The buffer that payload is put into, which has room for all that one read may bring.
    pub fn take_buffer(&mut self) -> Buffer {
        match std::mem::replace(&mut self.buffer, Loan::Out) {
            Loan::In(buffer) => buffer,
            Loan::Unmade | Loan::Out | Loan::Lent => {
                Buffer::new(self.read_bytes_max + TLS_INCOMING_BYTES_MAX)
            }
        }
    }

    pub fn put_back(&mut self, buffer: Buffer) {
        self.buffer = Loan::In(buffer);
    }

    /// The buffer goes on to the loop.
    pub fn lend(&mut self) {
        self.buffer = Loan::Lent;
    }

    /// Takes back what the loop gives, if it was lent here.
    ///
    /// # Errors
    /// The buffer is somebody else's.
    pub fn give_back(&mut self, buffer: Buffer) -> Result<(), Buffer> {
        match self.buffer {
            Loan::Lent => {
                self.put_back(buffer);
                Ok(())
            }
            Loan::Unmade | Loan::In(_) | Loan::Out => Err(buffer),
        }
    }

    /// The next part of what is offered: of a large slice as it lies there, of small ones a full
    /// record or all of them. `None` at the end.
    pub fn gather<'a, 's: 'a>(&'a mut self, offered: &mut Gathering<'s>) -> Option<Batch<'a>> {
        // What the kernel refuses of it has to be kept.
        let free_bytes = self.bytes_max.saturating_sub(self.held_bytes);
        let batch_bytes_max = free_bytes.clamp(SCANT_BATCH_BYTES_MAX, BATCH_BYTES_MAX);
        let Self { gathered, output, .. } = self;
        let record_bytes_max = batch_bytes_max.min(RECORD_PAYLOAD_BYTES_MAX);
        gathered.clear();
        while let Some(slice) = offered.slices.get(offered.index) {
            let rest = &slice[offered.at..];
            let is_last = offered.index + 1 == offered.slices.len();
            let is_large = rest.len() >= record_bytes_max || is_last;
            if gathered.is_empty() && is_large && !rest.is_empty() {
                let payload = &rest[..rest.len().min(batch_bytes_max)];
                offered.at += payload.len();
                return Some(Batch { payload, output });
            }
            let taken = rest.len().min(record_bytes_max - gathered.len());
            gathered.extend_from_slice(&rest[..taken]);
            offered.at += taken;
            if taken < rest.len() {
                break;
            }
            offered.index += 1;
            offered.at = 0;
        }
        (!gathered.is_empty()).then_some(Batch { payload: gathered, output })
    }
}

impl<'a> Gathering<'a> {
    /// All of `slices` but so many bytes in front.
    pub fn skipping(slices: &'a [IoSlice<'a>], mut skipped_bytes: usize) -> Self {
        let mut index = 0;
        while let Some(slice) = slices.get(index)
            && slice.len() <= skipped_bytes
        {
            skipped_bytes -= slice.len();
            index += 1;
        }
        Self { slices, index, at: skipped_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_of_any_size_are_encrypted_whole_and_in_order() {
        let sizes = [
            &[][..],
            &[0, 0],
            &[1],
            &[2, 5, 3],
            &[10, 100_000],
            &[100_000, 10, 20_000, 0, 7],
            &[16_384, 16_384, 1],
            &[16_383, 2, 16_384, 0],
        ];
        for sizes in sizes {
            let bytes: Vec<u8> = (0..sizes.iter().sum()).map(|at: usize| at as u8).collect();
            let mut rest = &bytes[..];
            let slices: Vec<_> = sizes
                .iter()
                .map(|size| {
                    let (slice, behind) = rest.split_at(*size);
                    rest = behind;
                    IoSlice::new(slice)
                })
                .collect();
            for (bytes_max, batch_bytes_max) in
                [(usize::MAX, BATCH_BYTES_MAX), (20_000, 20_000), (0, SCANT_BATCH_BYTES_MAX)]
            {
                let limits = LoopLimits { tls_bytes_max: bytes_max, ..LoopLimits::default() };
                let mut workshop = Links::new(&limits).workshop;
                for skipped in [0, 1, 2, 10].map(|skipped: usize| skipped.min(bytes.len())) {
                    let mut offered = Gathering::skipping(&slices, skipped);
                    let mut seen = Vec::new();
                    while let Some(batch) = workshop.gather(&mut offered) {
                        assert!((1..=batch_bytes_max).contains(&batch.payload.len()));
                        seen.extend_from_slice(batch.payload);
                    }
                    assert_eq!(seen, bytes[skipped..], "{sizes:?} from {skipped} on");
                }
            }
        }
    }
}
