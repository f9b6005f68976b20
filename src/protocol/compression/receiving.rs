//! The receiving half on its way through a compressed frame.

use crate::protocol::assembler::{AssemblyKey, ReceivePools};
use crate::protocol::config::{Config, Delivery};
use crate::protocol::event::Failure;
use crate::protocol::input::Input;
use crate::protocol::ready::{Ready, Source, Step};
use crate::protocol::receiver::Receiver;
use crate::protocol::stage::{Fault, Stage};
use crate::wire::Opcode;

/// So much of a frame is unmasked and inflated at a time. Guess: what a budget cuts off is masked
/// again, so it should not be much.
const COMPRESSED_BYTES_MAX: usize = 4096;

impl Receiver {
    /// Inflates what there is of a compressed frame's payload, as far as the turn's budget goes.
    #[inline(never)]
    pub(in crate::protocol) fn continue_compressed(
        &mut self,
        ready: &mut Ready,
        input: &mut Input<'_>,
        pools: &mut ReceivePools,
        config: &Config,
    ) -> Result<Step, Failure> {
        let (Stage::Compressed { left, masking_key, fin }, Some(key), Some(peer)) =
            (&mut self.stage, self.message, &mut self.inflate)
        else {
            unreachable!("a compressed frame belongs to a message, and was agreed on")
        };
        let bytes = usize::try_from(*left).unwrap_or(usize::MAX);
        let bytes = bytes.min(input.remaining()).min(COMPRESSED_BYTES_MAX);
        if *left > 0 && (bytes == 0 || input.budget_bytes() == 0) {
            return Ok(Step::Starved);
        }
        let assembly = pools.get(key);
        (ready.opcode, ready.offset) = (assembly.opcode, assembly.received_bytes);
        let piece = input.at..input.at + bytes;
        input.unmask(&piece, *masking_key);
        let budget_bytes = input.budget_bytes();
        let inflated = pools.inflate(key, peer, &input.bytes[piece.clone()], config, budget_bytes);
        // What the budget was too small for waits as it came.
        *masking_key = masking_key.rotated(inflated.consumed);
        input.take(inflated.consumed);
        input.unmask(&(input.at..piece.end), *masking_key);
        input.charge(inflated.cost);
        *left -= inflated.consumed as u64;
        let (frame_ends, fin) = (*left == 0, *fin);
        ready.fin = frame_ends && fin;
        let end = match inflated.end {
            Ok(()) if ready.fin => pools.finish_inflating(key, peer, config),
            end => end,
        };
        if frame_ends {
            self.stage = Stage::BETWEEN_FRAMES;
        }
        self.end_inflated(key, end, ready, pools, config)
    }

    /// A step of inflating has led to what stands behind the first `ready.offset` bytes of the
    /// message, and to `end`.
    fn end_inflated(
        &mut self,
        key: AssemblyKey,
        mut end: Result<(), Fault>,
        ready: &mut Ready,
        pools: &mut ReceivePools,
        config: &Config,
    ) -> Result<Step, Failure> {
        let assembly = pools.get_mut(key);
        let produced = (assembly.received_bytes - ready.offset) as usize;
        let start = assembly.payload().len() - produced;
        if ready.opcode == Opcode::Text {
            let before = assembly.utf8;
            let mut utf8 = before;
            if utf8.validate(&assembly.payload()[start..]).is_err() {
                end = Err(Fault::Text);
                let valid_bytes = before.valid_bytes(&assembly.payload()[start..]);
                assembly.truncate(start + valid_bytes);
            } else if ready.fin && end.is_ok() {
                end = utf8.finish().map_err(|_| Fault::Text);
            }
            assembly.utf8 = utf8;
        }
        let piece_bytes = assembly.payload().len() - start;
        // Where nothing is lent, `ready` is for the frame behind this one.
        let is_ready = config.delivery == Delivery::Streaming && (piece_bytes > 0 || ready.fin);
        if is_ready {
            (ready.source, ready.assembly) = (Source::Piece, Some(key));
        }
        if let Err(fault) = end {
            return self.refuse(fault, piece_bytes, ready, config);
        }
        if ready.fin {
            return self.end_message(key, ready, pools, config);
        }
        Ok(if is_ready { Step::Ready } else { Step::Continue })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use crate::deflate::{Compression, CompressionMode};
    use crate::http::Extensions;
    use crate::limits::LoopLimits;
    use crate::protocol::config::{Config, Delivery};
    use crate::protocol::{Connection, Event, Pools};
    use crate::wire::Role;

    /// What a streaming server whose messages have at most `message_bytes_max` is told of `frames`,
    /// each a first byte and a payload, and how: in one piece and byte by byte.
    fn events(
        mode: CompressionMode,
        message_bytes_max: u64,
        frames: &[(u8, &[u8])],
    ) -> [Vec<String>; 2] {
        let mut config = Config::new(Role::Server);
        config.delivery = Delivery::Streaming;
        config.limits.message_bytes_max = message_bytes_max;
        config.compression = Compression::new(mode).unwrap().peer_window_bits(8).unwrap();
        let offer = b"permessage-deflate; client_max_window_bits".as_slice();
        let offers = Extensions::new([offer].into_iter()).map(Result::unwrap);
        let agreement = config.compression.answer(offers).unwrap();
        let mut input = Vec::new();
        for (first, payload) in frames {
            // Masked with zeros.
            input.extend([*first, 0x80 | u8::try_from(payload.len()).unwrap(), 0, 0, 0, 0]);
            input.extend_from_slice(payload);
        }
        [usize::MAX, 1].map(|piece_bytes| {
            let now = Instant::now();
            let mut pools = Pools::new(&LoopLimits::default(), now, [0; 32]);
            let connection = Connection::new(config.clone(), now, &pools);
            let mut connection = connection.with_compression(&agreement);
            let mut seen = Vec::new();
            for piece in input.clone().chunks_mut(piece_bytes) {
                let mut events = connection.handle_input(piece, now, &mut pools);
                while let Some((event, _)) = events.next() {
                    seen.extend(match event {
                        Event::Chunk(chunk) => {
                            chunk.payload.iter().map(|byte| byte.to_string()).collect()
                        }
                        other => vec![format!("{other:?}")],
                    });
                }
            }
            connection.finish(&mut pools);
            seen
        })
    }

    // RFC 6455 §5.4, §5.5.3
    #[test]
    fn a_ping_behind_a_fragment_that_gives_nothing_keeps_its_payload() {
        let frames: [(u8, &[u8]); 2] = [(0x42, &[0, 0, 0, 0xff, 0xff]), (0x89, b"p")];
        let [whole, torn] = events(CompressionMode::Shared, 100, &frames);
        assert_eq!(whole, ["Ping([112])"]);
        assert_eq!(torn, whole);
    }

    #[test]
    fn a_message_that_is_corrupt_behind_its_limit_is_too_long_in_any_pieces() {
        // "ab" and a code that means nothing (RFC 1951 §3.2.6), in one block.
        let payload = [0x4a, 0x4c, 0x1a, 0x03];
        let [whole, torn] = events(CompressionMode::Shared, 1, &[(0xc2, &payload)]);
        assert_eq!(whole, ["97", "Failed(Protocol(MessageTooLarge { limit_bytes: 1 }))"]);
        assert_eq!(torn, whole);
        let [whole, torn] = events(CompressionMode::Shared, 2, &[(0xc2, &payload)]);
        assert_eq!(whole, ["97", "98", "Failed(Protocol(CorruptCompression))"]);
        assert_eq!(torn, whole);
    }

    // RFC 7692 §7.2.3.4
    #[test]
    fn a_final_block_ends_where_messages_may_have_no_bytes() {
        let [whole, torn] = events(CompressionMode::Shared, 0, &[(0xc2, &[0x03, 0, 0])]);
        assert_eq!((whole, torn), (vec![], vec![]));
    }

    // RFC 7692 §7.1.2.2, §7.2.3.4
    #[test]
    fn behind_a_final_block_the_window_is_what_was_agreed_on_in_any_pieces() {
        let mode = CompressionMode::Dedicated { window_bits: 15, mem_level: 8 };
        // 300 bytes in a final block, then a match at a distance of as many and an empty block.
        let stored = [&[1, 44, 1, !44, !1][..], &[7; 300], &[0x02, 0x86, 0x15, 0]].concat();
        let frames: Vec<_> = stored.chunks(104).map(|piece| (0, piece)).collect();
        let frames = [&[(0x42, frames[0].1)], &frames[1..], &[(0x80, &[][..])]].concat();
        let [whole, torn] = events(mode, 1000, &frames);
        assert_eq!((whole.len(), whole.last()), (301, torn.last()));
        assert_eq!(torn, whole);
    }
}
