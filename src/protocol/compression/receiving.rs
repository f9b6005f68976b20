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
