//! Compressors and decompressors of single messages (RFC 7692 §7.2), over `zlib-rs`.

use std::fmt;

use zlib_rs::{
    Deflate, DeflateConfig, DeflateFlush, Inflate, InflateFlush, Method, Status, Strategy,
};

use super::negotiate::{DEFLATE_BITS_MIN, WINDOW_BITS_MAX};

/// Inflates messages, one after the other and whosever they are.
///
/// [`Inflater::begin`], then [`Inflater::inflate`] with the payload in pieces, then
/// [`Inflater::finish`].
pub struct Inflater {
    zlib: Inflate,
    /// How many bytes of [`FLUSHED`] were fed behind the payload.
    flushed_at: usize,
    /// Why it went no further the last time. `FinalBlock` holds until something comes behind it.
    last: Stop,
}

/// What one call has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// Bytes written to the front of the output.
    pub produced: usize,
    /// Why it went no further.
    pub stop: Stop,
}

/// Why inflating went no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// All input is used and all that it means was written.
    InputUsed,
    /// The output is full; there may be more to write.
    OutputFull,
    /// A block that calls itself the last one has ended (BFINAL, RFC 7692 §7.2.3.4). Others may
    /// follow: [`Inflater::resume`] goes on, with the message so far as part of the history.
    FinalBlock,
}

/// A payload that is no deflate stream, or a truncated one, or refers to what was before the
/// window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorruptData {
    /// Bytes written to the front of the output before.
    pub produced: usize,
}

impl fmt::Display for CorruptData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a compressed message is corrupt")
    }
}

impl std::error::Error for CorruptData {}

impl Inflater {
    /// What it owns, roughly: zlib's window and tables.
    pub const PINNED_BYTES: usize = 48 * 1024;

    /// Allocates a decompressor, ready for a message that refers to nothing.
    pub fn new() -> Self {
        let zlib = Inflate::new(false, WINDOW_BITS_MAX);
        Self { zlib, flushed_at: 0, last: Stop::InputUsed }
    }

    /// Begins a message that may refer to `history`, the oldest piece first.
    pub fn begin(&mut self, history: [&[u8]; 3]) {
        self.last = Stop::InputUsed;
        self.resume(history);
    }

    /// Goes on behind a final block; what the message has given so far is part of `history`.
    pub fn resume(&mut self, history: [&[u8]; 3]) {
        self.zlib.reset(false);
        self.flushed_at = 0;
        for piece in history.into_iter().filter(|piece| !piece.is_empty()) {
            self.zlib.set_dictionary(piece).expect("a raw stream takes a dictionary at any time");
        }
    }

    /// Inflates a piece of the payload into `output`, which is not empty.
    ///
    /// # Errors
    /// The payload is corrupt.
    pub fn inflate(&mut self, input: &[u8], output: &mut [u8]) -> Result<Progress, CorruptData> {
        debug_assert!(!output.is_empty(), "without room nothing can be inflated");
        let (total_in, total_out) = (self.zlib.total_in(), self.zlib.total_out());
        let status = self.zlib.decompress(input, output, InflateFlush::SyncFlush);
        let consumed = (self.zlib.total_in() - total_in) as usize;
        let produced = (self.zlib.total_out() - total_out) as usize;
        let stop = match status {
            Ok(Status::StreamEnd) => Stop::FinalBlock,
            Ok(Status::Ok | Status::BufError) if produced == output.len() => Stop::OutputFull,
            Ok(Status::Ok | Status::BufError) => Stop::InputUsed,
            Err(_) => return Err(CorruptData { produced }),
        };
        if self.last != Stop::FinalBlock || consumed > 0 {
            self.last = stop;
        }
        Ok(Progress { consumed, produced, stop })
    }

    /// Inflates what is left when the last piece of the payload is used and all that it means was
    /// written. Done unless the output is full; then it is called again. What it has written is
    /// part of the message only if it ends without an error.
    ///
    /// A payload that ends right behind a final block is taken as it is, though the empty block
    /// that has to follow (RFC 7692 §7.2.3.4) is missing, and an empty payload for an empty message
    /// (§7.2.3.6 has one byte): some peers send these, and others take them.
    ///
    /// # Errors
    /// The payload is corrupt or truncated.
    pub fn finish(&mut self, output: &mut [u8]) -> Result<Progress, CorruptData> {
        if self.last == Stop::FinalBlock || self.zlib.total_in() == 0 {
            return Ok(Progress { consumed: 0, produced: 0, stop: Stop::FinalBlock });
        }
        debug_assert!(
            self.last != Stop::OutputFull || self.flushed_at > 0,
            "the payload itself has more to give"
        );
        // RFC 7692 §7.2.2: what the sender took away.
        let progress = self
            .inflate(&FLUSHED[self.flushed_at..], output)
            .map_err(|_| CorruptData { produced: 0 })?;
        self.flushed_at += progress.consumed;
        let is_whole = match progress.stop {
            Stop::FinalBlock => self.flushed_at == FLUSHED.len(),
            Stop::OutputFull => return Ok(Progress { consumed: 0, ..progress }),
            Stop::InputUsed => self.is_between_blocks(),
        };
        // What a truncated payload makes of those bytes is no part of its message.
        if is_whole {
            Ok(Progress { consumed: 0, stop: Stop::FinalBlock, ..progress })
        } else {
            Err(CorruptData { produced: 0 })
        }
    }

    /// Whether all blocks that began have ended. Nothing can be inflated afterwards.
    ///
    /// Zlib does not tell, so it is given the header of a block whose type is none (RFC 1951
    /// §3.2.3). Within a block, or a header, no end of it leaves these bits to be taken for such a
    /// type.
    fn is_between_blocks(&mut self) -> bool {
        let result = self.zlib.decompress(&[0b110], &mut [0], InflateFlush::SyncFlush);
        result.is_err() && self.zlib.error_message() == Some("invalid block type")
    }
}

impl Default for Inflater {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater")
            .field("total_out", &self.zlib.total_out())
            .finish_non_exhaustive()
    }
}

/// What a compressor is made with. Compressors of one shape do the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The logarithm of the window's size in bytes, 9 to 15: `zlib-rs` has none so small as 8.
    pub window_bits: u8,
    /// How hard it looks for repetitions, 1 to 9.
    pub level: u8,
    /// How much memory finds them, 1 to 9.
    pub mem_level: u8,
}

impl Shape {
    /// What a compressor owns, by the arithmetic of `zlib-rs`: the window twice and as much of
    /// chains, the heads of all chains, seven bytes for each symbol of a block, and its state.
    pub const fn pinned_bytes(self) -> usize {
        (4 << self.window_bits) + (128 << 10) + (7 << (self.mem_level + 6)) + (8 << 10)
    }
}

/// Compresses messages. Each may refer to those before it, back to the last [`Deflater::begin`].
pub struct Deflater {
    zlib: Deflate,
    shape: Shape,
}

impl Deflater {
    /// Allocates a compressor.
    ///
    /// # Panics
    /// If a part of `shape` is out of its range.
    pub fn new(shape: Shape) -> Self {
        let Shape { window_bits, level, mem_level } = shape;
        let bits = DEFLATE_BITS_MIN..=WINDOW_BITS_MAX;
        assert!(bits.contains(&window_bits), "{window_bits} window bits");
        assert!((1..=9).contains(&level), "level {level}");
        assert!((1..=9).contains(&mem_level), "memory level {mem_level}");
        let config = DeflateConfig {
            level: level.into(),
            method: Method::Deflated,
            window_bits: -i32::from(window_bits),
            mem_level: mem_level.into(),
            strategy: Strategy::Default,
        };
        Self { zlib: Deflate::new_with_config(config), shape }
    }

    /// What it was made with.
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// Forgets all messages but for what `history` holds of them, the older piece first.
    pub fn begin(&mut self, history: [&[u8]; 2]) {
        self.zlib.reset();
        for piece in history.into_iter().filter(|piece| !piece.is_empty()) {
            self.zlib
                .set_dictionary(piece)
                .expect("a raw stream takes a dictionary between blocks");
        }
    }

    /// Compresses a message into the front of `output`, which grows as needed and keeps its size;
    /// returns how many bytes it has. An empty message is one byte (RFC 7692 §7.2.3.6).
    pub fn compress(&mut self, payload: &[u8], output: &mut Vec<u8>) -> usize {
        if payload.is_empty() {
            // Flushed twice in a row, zlib would write nothing the second time.
            output.resize(output.len().max(1), 0);
            output[0] = 0;
            return 1;
        }
        let (mut consumed, mut produced) = (0, 0);
        loop {
            // Room for what is usual, and at least for a flush in one piece.
            let room = (payload.len() - consumed) / 2 + ROOM_MIN;
            if output.len() - produced < ROOM_MIN {
                output.resize(produced + room, 0);
            }
            let (total_in, total_out) = (self.zlib.total_in(), self.zlib.total_out());
            let flush = DeflateFlush::SyncFlush;
            self.zlib
                .compress(&payload[consumed..], &mut output[produced..], flush)
                .expect("a compressor in order takes any input");
            consumed += (self.zlib.total_in() - total_in) as usize;
            produced += (self.zlib.total_out() - total_out) as usize;
            if consumed == payload.len() && produced < output.len() {
                break;
            }
        }
        debug_assert!(output[..produced].ends_with(&FLUSHED), "a flush ends on an empty block");
        produced - FLUSHED.len()
    }
}

impl fmt::Debug for Deflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deflater").field("shape", &self.shape).finish_non_exhaustive()
    }
}

/// The end of every flush, an empty block but for its header, which does not travel (RFC 7692
/// §7.2.1).
const FLUSHED: [u8; 4] = [0, 0, 0xff, 0xff];

/// More than a flush needs, so that none is torn in two.
const ROOM_MIN: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn deflater(window_bits: u8, level: u8, mem_level: u8) -> Deflater {
        Deflater::new(Shape { window_bits, level, mem_level })
    }

    /// RFC 7692 §7.2.3.1
    const HELLO: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];

    /// Inflates one whole message, fed in pieces of `step` bytes into rooms of `room` bytes; with
    /// `earlier` as the history. The error is what came before the corrupt part.
    fn inflate(
        inflater: &mut Inflater,
        earlier: &[u8],
        payload: &[u8],
        step: usize,
        room: usize,
    ) -> Result<Vec<u8>, Vec<u8>> {
        let mut message = Vec::new();
        let mut output = vec![0; room];
        inflater.begin([earlier, &[], &[]]);
        let mut rest = payload;
        let mut stop = Stop::InputUsed;
        while !rest.is_empty() || stop == Stop::OutputFull {
            let progress = inflater.inflate(&rest[..rest.len().min(step)], &mut output);
            let produced = match progress {
                Ok(Progress { produced, .. }) | Err(CorruptData { produced }) => produced,
            };
            message.extend_from_slice(&output[..produced]);
            let Ok(progress) = progress else { return Err(message) };
            rest = &rest[progress.consumed..];
            stop = progress.stop;
            if stop == Stop::FinalBlock {
                inflater.resume([earlier, &message, &[]]);
            }
        }
        let before_ending = message.len();
        loop {
            match inflater.finish(&mut output) {
                Ok(Progress { produced, stop, .. }) => {
                    message.extend_from_slice(&output[..produced]);
                    match stop {
                        Stop::FinalBlock => return Ok(message),
                        Stop::OutputFull => {}
                        Stop::InputUsed => panic!("neither whole nor corrupt"),
                    }
                }
                Err(CorruptData { .. }) => {
                    message.truncate(before_ending);
                    return Err(message);
                }
            }
        }
    }

    fn inflated(payload: &[u8]) -> Result<Vec<u8>, Vec<u8>> {
        let result = inflate(&mut Inflater::new(), b"", payload, payload.len().max(1), 4096);
        for (step, room) in [(1, 1), (3, 2), (1, 4096)] {
            let torn = inflate(&mut Inflater::new(), b"", payload, step, room);
            assert_eq!(torn, result, "in steps of {step} with room for {room}");
        }
        result
    }

    /// What another implementation makes of a payload and its tail.
    fn inflated_by_miniz(payload: &[u8]) -> Vec<u8> {
        // An empty final block ends the stream, which that function asks for.
        let stream = [payload, &FLUSHED, &[3, 0]].concat();
        miniz_oxide::inflate::decompress_to_vec(&stream).unwrap()
    }

    // RFC 7692 §7.2.3.1, §7.2.3.3 to §7.2.3.6
    #[test]
    fn examples_of_the_rfc_inflate() {
        let hello: [&[u8]; 4] = [
            &HELLO,
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
        ];
        for payload in hello {
            assert_eq!(inflated(payload), Ok(b"Hello".to_vec()), "{payload:02x?}");
        }
        assert_eq!(inflated(&[0x00]), Ok(Vec::new()));
        // A final block may be the empty one, of which four bytes do not travel; and that one may
        // be forgotten behind another.
        assert_eq!(inflated(&[0x01]), Ok(Vec::new()));
        assert_eq!(inflated(&[0x03, 0x00]), Ok(Vec::new()));
        // So some peers send an empty message.
        assert_eq!(inflated(&[]), Ok(Vec::new()));
        // What the sender took away may be content too.
        let content = [0x00, 0x00, 0xff, 0xff];
        for header in [[0x00, 0x04, 0x00, 0xfb, 0xff], [0x01, 0x04, 0x00, 0xfb, 0xff]] {
            assert_eq!(inflated(&header), Ok(content.to_vec()));
        }
    }

    // RFC 7692 §7.2.3.2
    #[test]
    fn second_example_refers_to_the_first() {
        let payload = [0xf2, 0x00, 0x11, 0x00, 0x00];
        let mut inflater = Inflater::new();
        assert_eq!(inflate(&mut inflater, b"Hello", &payload, 2, 3), Ok(b"Hello".to_vec()));
        assert_eq!(inflate(&mut inflater, b"", &payload, 2, 3), Err(b"H".to_vec()));
        let mut deflater = deflater(15, 6, 8);
        let mut output = Vec::new();
        let first = deflater.compress(b"Hello", &mut output);
        assert_eq!(output[..first], HELLO);
        let second = deflater.compress(b"Hello", &mut output);
        assert_eq!(output[..second], payload);
    }

    // RFC 7692 §7.2.3.4: the window outlives a final block, within a message and between two.
    #[test]
    fn blocks_behind_a_final_one_refer_to_what_was_before_it() {
        let final_hello = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        // An H and a match at distance 5, as in §7.2.3.2.
        let again = [0xf2, 0x00, 0x11, 0x00, 0x00];
        let payload = [&final_hello[..], &again].concat();
        assert_eq!(inflated(&payload), Ok(b"HelloHello".to_vec()));
        let payload = [&final_hello[..], &final_hello, &again].concat();
        assert_eq!(inflated(&payload), Ok(b"HelloHelloHello".to_vec()));
    }

    // RFC 1951 §3.2.3
    #[test]
    fn corrupt_payloads_are_refused_and_the_inflater_goes_on() {
        let corrupt: [&[u8]; 12] = [
            // The reserved block type.
            &[0x06],
            // Stored lengths that do not complement each other.
            &[0x00, 0x05, 0x00, 0xfa, 0x00, 0x48],
            // A match in front of the first byte.
            &[0xf2, 0x00, 0x11, 0x00, 0x00],
            // Cut within a block.
            &[0xf2, 0x48, 0xcd],
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65],
            &[0x00, 0x20, 0x00, 0xdf, 0xff, 0x48],
            &[0x03],
            // Cut within a final block that takes what is fed behind it, and more, for its content.
            &[0x01, 0x05, 0x00, 0xfa, 0xff],
            &[0x01, 0x09, 0x00, 0xf6, 0xff],
            // Junk behind the empty block.
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x99],
            // Another cut block behind a final one, and junk.
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00, 0x05],
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0xff],
        ];
        let mut inflater = Inflater::new();
        for payload in corrupt {
            assert!(inflated(payload).is_err(), "{payload:02x?}");
            assert!(inflate(&mut inflater, b"", payload, 1, 7).is_err());
            assert_eq!(inflate(&mut inflater, b"", &HELLO, 2, 2), Ok(b"Hello".to_vec()));
        }
    }

    #[test]
    fn a_bomb_stops_wherever_the_room_ends() {
        let mut output = Vec::new();
        let bytes = deflater(15, 9, 9).compress(&vec![0; 1 << 20], &mut output);
        assert!(bytes < 2000, "{bytes} bytes");
        let mut inflater = Inflater::new();
        inflater.begin([&[]; 3]);
        let mut room = [1; 1000];
        let progress = inflater.inflate(&output[..bytes], &mut room).unwrap();
        assert_eq!((progress.produced, progress.stop), (1000, Stop::OutputFull));
        assert!(progress.consumed < bytes);
        assert_eq!(room, [0; 1000]);
    }

    #[test]
    fn messages_of_every_small_size_fill_every_small_output() {
        // A flush that ends exactly where the output does is followed by another empty block.
        let noise: Vec<u8> = (0..300u32).map(|i| ((i * i * 7919) >> 5) as u8).collect();
        let mut deflater = deflater(9, 6, 1);
        for len in 0..noise.len() {
            for size in 0..8 {
                let mut output = vec![0; len + size];
                deflater.begin([&[]; 2]);
                let bytes = deflater.compress(&noise[..len], &mut output);
                assert_eq!(inflated_by_miniz(&output[..bytes]), &noise[..len]);
            }
        }
    }

    #[test]
    fn another_implementation_inflates_what_every_setting_makes() {
        let words = b"the quick brown fox jumps over the lazy dog ".repeat(2000);
        for window_bits in 9..=15 {
            for mem_level in 1..=9 {
                for level in [1, 6, 9] {
                    let mut deflater = deflater(window_bits, level, mem_level);
                    let mut output = Vec::new();
                    let bytes = deflater.compress(&words, &mut output);
                    assert_eq!(inflated_by_miniz(&output[..bytes]), words);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_compressed_inflates_again_with_the_window_that_was_agreed_on(
            messages in prop::collection::vec(
                (any::<u64>(), 0..3000usize, 1..200u8), 1..8),
            window_bits in 9..=15u8,
            mem_level in 1..=9u8,
            level in 1..=9u8,
            context_takeover: bool,
            step in 1..400usize,
            room in 1..400usize,
        ) {
            let mut deflater = deflater(window_bits, level, mem_level);
            let mut inflater = Inflater::new();
            let mut history = crate::deflate::History::new(window_bits);
            let mut output = Vec::new();
            for (seed, len, variety) in messages {
                let mut state = seed | 1;
                let message: Vec<u8> = (0..len).map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    ((state >> 33) % u64::from(variety)) as u8
                }).collect();
                let earlier = match context_takeover {
                    true => { let (a, b) = history.as_slices(); [a, b].concat() }
                    false => { deflater.begin([&[]; 2]); Vec::new() }
                };
                let bytes = deflater.compress(&message, &mut output);
                let again = inflate(&mut inflater, &earlier, &output[..bytes], step, room);
                prop_assert_eq!(again.as_deref(), Ok(&message[..]));
                history.append(&message);
            }
        }

        #[test]
        fn compressor_that_begins_with_the_history_refers_to_no_more_than_that(
            messages in prop::collection::vec(prop::collection::vec(0..6u8, 0..900), 1..8),
            window_bits in 9..=15u8,
            level in 1..=9u8,
        ) {
            let (mut deflater, mut inflater) = (deflater(window_bits, level, 5), Inflater::new());
            let (mut history, mut output) = (crate::deflate::History::new(window_bits), Vec::new());
            for message in messages {
                let (older, newer) = history.as_slices();
                deflater.begin([older, newer]);
                let bytes = deflater.compress(&message, &mut output);
                let earlier = [older, newer].concat();
                let again = inflate(&mut inflater, &earlier, &output[..bytes], 5000, 5000);
                prop_assert_eq!(again.as_deref(), Ok(&message[..]));
                history.append(&message);
            }
        }

        #[test]
        fn what_another_implementation_compresses_inflates(
            message in prop::collection::vec(0..40u8, 0..5000),
            level in 0..=10u8,
        ) {
            // Its streams end with a final block; the byte behind it is the empty one's.
            let mut payload = miniz_oxide::deflate::compress_to_vec(&message, level);
            payload.push(0);
            prop_assert_eq!(inflated(&payload), Ok(message));
        }

        #[test]
        fn no_payload_panics_or_passes_its_room(
            payload in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = inflated(&payload);
        }
    }
}
