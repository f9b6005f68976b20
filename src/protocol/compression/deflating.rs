//! Messages compressed as they are sent (RFC 7692 §7.2.1).

use std::mem;
use std::num::NonZeroU8;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::deflate::{DEFLATE_BITS_MIN, Deflater, Direction, History, Shape, WINDOW_BITS_MAX};
use crate::limits::{
    DEFLATED_BYTES_RETAINED, DEFLATER_WINDOW_BITS_MIN, DEFLATERS_RETAINED, LoopLimits,
};
use crate::protocol::message::{PreparedMessage, SendOutcome, encode_frame, whole_header};
use crate::protocol::pools::Contexts;
use crate::protocol::sender::Rare;
use crate::protocol::transmit::Transmit;
use crate::wire::{Header, Opcode};

/// How a sending half compresses: the bits of its window, and whether that outlives a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeflateKey(NonZeroU8);

const CONTEXT_TAKEOVER: u8 = 0x80;

impl DeflateKey {
    pub(super) fn new(ours: Direction) -> Self {
        let takeover = if ours.context_takeover { CONTEXT_TAKEOVER } else { 0 };
        Self(NonZeroU8::new(ours.window_bits | takeover).expect("no window has 0 bits"))
    }

    pub(in crate::protocol) fn window_bits(self) -> u8 {
        self.0.get() & !CONTEXT_TAKEOVER
    }

    pub(in crate::protocol) fn has_context_takeover(self) -> bool {
        self.0.get() & CONTEXT_TAKEOVER != 0
    }
}

/// The compressors of a loop.
#[derive(Debug)]
pub(in crate::protocol) struct DeflatePool {
    /// Those that no connection owns, of any shape.
    free: Vec<Deflater>,
    takeovers: usize,
    contexts: Contexts,
    /// Of all compressors and windows.
    used_bytes: usize,
    pinned_bytes_max: usize,
    /// Where messages are compressed to.
    output: Vec<u8>,
}

/// What a connection keeps so that a message may refer to those before it.
#[derive(Debug)]
pub(in crate::protocol) enum Takeover {
    /// A compressor with all that it remembers.
    Compressor(Deflater),
    /// What a compressor of the loop begins each message with.
    Window(History),
}

impl Takeover {
    /// Memory that it holds.
    pub(in crate::protocol) fn pinned_bytes(&self) -> usize {
        match self {
            Self::Compressor(deflater) => deflater.shape().pinned_bytes(),
            Self::Window(window) => window.bytes_max(),
        }
    }
}

impl DeflatePool {
    pub(in crate::protocol) fn new(limits: &LoopLimits) -> Self {
        Self {
            free: Vec::new(),
            takeovers: 0,
            contexts: Contexts::Given,
            used_bytes: 0,
            pinned_bytes_max: limits.deflate_bytes_max,
            output: Vec::new(),
        }
    }

    pub(in crate::protocol) fn pinned_bytes(&self) -> usize {
        self.used_bytes + self.output.capacity()
    }

    /// Windows and compressors that connections own.
    pub(in crate::protocol) fn takeovers(&self) -> usize {
        self.takeovers
    }

    /// Frees the compressors that are kept for the next message or connection.
    pub(in crate::protocol) fn shrink(&mut self) {
        for deflater in std::mem::take(&mut self.free) {
            self.used_bytes -= deflater.shape().pinned_bytes();
        }
        self.output = Vec::new();
    }

    /// Whether connections that own nothing yet may begin to.
    pub(in crate::protocol) fn set_contexts(&mut self, contexts: Contexts) {
        self.contexts = contexts;
    }

    /// The connection is over.
    pub(in crate::protocol) fn release(&mut self, takeover: Takeover) {
        self.takeovers -= 1;
        match takeover {
            Takeover::Compressor(deflater) => self.put_back(deflater),
            Takeover::Window(window) => self.used_bytes -= window.bytes_max(),
        }
    }

    /// What a connection needs for messages that refer to each other, `None` if there is no memory
    /// for it.
    fn take_over(&mut self, shape: Shape) -> Option<Takeover> {
        if self.contexts == Contexts::Refused {
            return None;
        }
        let takeover = if shape.window_bits < DEFLATER_WINDOW_BITS_MIN {
            let window = History::new(shape.window_bits);
            // All of it at once: a message that was compressed has to be remembered.
            self.reserve(window.bytes_max())?;
            Takeover::Window(window)
        } else {
            let mut deflater = self.take(shape)?;
            deflater.begin([&[]; 2]);
            Takeover::Compressor(deflater)
        };
        self.takeovers += 1;
        Some(takeover)
    }

    /// A compressor that has not begun, `None` if there is no memory for it.
    fn take(&mut self, shape: Shape) -> Option<Deflater> {
        if let Some(index) = self.free.iter().rposition(|free| free.shape() == shape) {
            return Some(self.free.swap_remove(index));
        }
        self.reserve(shape.pinned_bytes())?;
        Some(Deflater::new(shape))
    }

    /// Counts `bytes` in, at the expense of what is free if need be.
    fn reserve(&mut self, bytes: usize) -> Option<()> {
        let used_bytes_max = self.pinned_bytes_max.checked_sub(bytes)?;
        while self.used_bytes > used_bytes_max {
            self.used_bytes -= self.free.pop()?.shape().pinned_bytes();
        }
        self.used_bytes += bytes;
        Some(())
    }

    fn put_back(&mut self, deflater: Deflater) {
        if self.free.len() < DEFLATERS_RETAINED {
            self.free.push(deflater);
        } else {
            self.used_bytes -= deflater.shape().pinned_bytes();
        }
    }

    /// Compresses a message that may refer to `history`, by a compressor of the loop; how many
    /// bytes of `output` it has.
    fn compress(
        &mut self,
        shape: Shape,
        history: [&[u8]; 2],
        payload: &[u8],
        output: &mut Vec<u8>,
    ) -> Option<usize> {
        let mut deflater = self.take(shape)?;
        deflater.begin(history);
        let bytes = deflater.compress(payload, output);
        self.put_back(deflater);
        Some(bytes)
    }

    fn keep_output(&mut self, mut output: Vec<u8>) {
        if output.capacity() > DEFLATED_BYTES_RETAINED {
            output = Vec::new();
        }
        self.output = output;
    }
}

impl Transmit<'_> {
    /// Sends a message that is worth compressing.
    #[inline(never)]
    pub(in crate::protocol) fn send_compressed(
        &mut self,
        key: DeflateKey,
        opcode: Opcode,
        payload: &[u8],
    ) -> SendOutcome {
        // What does not get shorter gets longer: by an eighth in fixed codes.
        let frame_bytes_max = payload.len() + payload.len() / 8 + 1024;
        self.send_with(frame_bytes_max, |transmit| {
            let mut output = mem::take(&mut transmit.pools.deflate.output);
            let pushed = match transmit.compress(key, payload, &mut output) {
                Some(bytes) => {
                    let header = Header { rsv1: true, ..whole_header(opcode, bytes) };
                    transmit.offer_or_push(&header, &output[..bytes])
                }
                None => transmit.offer_or_push(&whole_header(opcode, payload.len()), payload),
            };
            transmit.pools.deflate.keep_output(output);
            pushed
        })
    }

    /// Compresses a message that is taken; how many bytes of `output` it has. `None` if it goes as
    /// it is: without memory for a compressor, or where that is shorter and no compressor has it in
    /// its window already.
    fn compress(&mut self, key: DeflateKey, payload: &[u8], output: &mut Vec<u8>) -> Option<usize> {
        let shape = self.config.compression.shape(key.window_bits());
        let pool = &mut self.pools.deflate;
        if !key.has_context_takeover() {
            let bytes = pool.compress(shape, [&[]; 2], payload, output)?;
            return (bytes < payload.len()).then_some(bytes);
        }
        let Rare { takeover, .. } = &mut **self.sender.rare.get_or_insert_default();
        if takeover.is_none() {
            *takeover = pool.take_over(shape);
        }
        match takeover.as_mut()? {
            Takeover::Compressor(deflater) => Some(deflater.compress(payload, output)),
            Takeover::Window(window) => {
                let (older, newer) = window.as_slices();
                let bytes = pool.compress(shape, [older, newer], payload, output)?;
                let is_shorter = bytes < payload.len();
                is_shorter.then(|| {
                    window.append(payload);
                    bytes
                })
            }
        }
    }

    /// The frame of a prepared message for a connection without context takeover.
    pub(in crate::protocol) fn prepared_frame(
        &mut self,
        key: DeflateKey,
        message: &PreparedMessage,
        variants: &Variants,
    ) -> Bytes {
        let shape = self.config.compression.shape(key.window_bits());
        let variant = &variants.0[usize::from(shape.window_bits - DEFLATE_BITS_MIN)];
        if let Some(frame) = variant.get() {
            return frame.clone();
        }
        let pool = &mut self.pools.deflate;
        let mut output = mem::take(&mut pool.output);
        let compressed = pool.compress(shape, [&[]; 2], message.payload(), &mut output);
        let frame = match compressed {
            Some(bytes) if bytes < message.payload().len() => {
                let header = Header { rsv1: true, ..whole_header(message.opcode(), bytes) };
                encode_frame(&header, &output[..bytes])
            }
            _ => message.frame().clone(),
        };
        pool.keep_output(output);
        if compressed.is_some() {
            // Two loops may make it at once: neither waits, and the first one's stays.
            let _ = variant.set(frame.clone());
        }
        frame
    }
}

/// The compressed frames of a prepared message, by the bits of the window. Each is made by the loop
/// that first needs it.
#[derive(Debug, Default)]
pub(in crate::protocol) struct Variants([OnceLock<Bytes>; WINDOWS]);

/// How many windows there are.
const WINDOWS: usize = (WINDOW_BITS_MAX - DEFLATE_BITS_MIN + 1) as usize;

impl Variants {
    /// None yet, for a message and all that are cloned from it.
    pub(in crate::protocol) fn shared() -> Option<Arc<Self>> {
        Some(Arc::default())
    }
}
