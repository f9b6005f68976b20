//! Frames on their way into the outbox, or past it.

use std::io::IoSlice;

use bytes::Bytes;

use super::config::Config;
use super::event::Failure;
use super::pools::SendPools;
use super::sender::{Flow, Parts, Sender};
use super::transmit::{SLICES_MAX, Transmit};
use crate::collections::PoolExhausted;
use crate::limits::{COPY_BYTES_MAX, SHARE_BYTES_MIN};
use crate::wire::{HEADER_BYTES_MAX, Header, MaskingKey, Opcode, Role, mask};

impl Transmit<'_> {
    /// Queues a whole frame: a small one is copied behind what is corked.
    pub(super) fn push_prepared(&mut self, frame: Bytes) -> Result<(), PoolExhausted> {
        let Sender { outbox, flow, .. } = &mut *self.sender;
        if frame.len() < SHARE_BYTES_MIN && *flow == Flow::Free {
            outbox.push(&mut self.pools.outbox, &[], &frame)
        } else {
            outbox.push_shared(&mut self.pools.outbox, frame)
        }
    }

    /// Sends a frame as cheaply as its size allows.
    pub(super) fn offer_or_push(
        &mut self,
        header: &Header,
        payload: &[u8],
    ) -> Result<(), PoolExhausted> {
        let offer_at_once = payload.len() >= COPY_BYTES_MAX
            && self.config.role == Role::Server
            && self.sender.flow == Flow::Free;
        if offer_at_once {
            self.offer_frame(header, payload)
        } else {
            self.push_frame(header, payload)
        }
    }

    /// Queues a frame behind what is corked; a client's is masked in its place (RFC 6455 §5.3).
    #[inline]
    pub(super) fn push_frame(
        &mut self,
        header: &Header,
        payload: &[u8],
    ) -> Result<(), PoolExhausted> {
        let mut head = [0; HEADER_BYTES_MAX];
        let outbox = &mut self.sender.outbox;
        match self.config.role {
            Role::Server => {
                let head_bytes = header.encode(&mut head);
                outbox.push(&mut self.pools.outbox, &head[..head_bytes], payload)
            }
            Role::Client => {
                let mut key = self.pools.masking_keys.next_key();
                let header = Header { masking_key: Some(key), ..*header };
                let head_bytes = header.encode(&mut head);
                outbox.push_mapped(
                    &mut self.pools.outbox,
                    &head[..head_bytes],
                    payload,
                    |piece| {
                        mask_piece(piece, &mut key);
                    },
                )?;
                if header.fin && !header.opcode.is_control() {
                    self.sender.handle_message_queued();
                }
                Ok(())
            }
        }
    }

    /// Offers a large frame from the caller's memory, behind what is corked, in one write; what
    /// the kernel refuses is copied.
    pub(super) fn offer_frame(
        &mut self,
        header: &Header,
        payload: &[u8],
    ) -> Result<(), PoolExhausted> {
        let mut head = [0; HEADER_BYTES_MAX];
        let head_bytes = header.encode(&mut head);
        let head = &head[..head_bytes];
        let corked = self.sender.queued_bytes();
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = self.sender.outbox.lend(&self.pools.outbox, &mut slices[..SLICES_MAX - 2]);
        if slices[..count].iter().map(|slice| slice.len()).sum::<usize>() < corked {
            return self.push_frame(header, payload);
        }
        slices[count] = IoSlice::new(head);
        slices[count + 1] = IoSlice::new(payload);
        let Some(taken) = self.sink.offer(&slices[..count + 2]) else {
            return self.push_frame(header, payload);
        };
        self.sender.handle_transmitted(taken.min(corked), self.pools, self.now);
        let taken = taken.saturating_sub(corked);
        if taken == 0 {
            let pushed = self.push_frame(header, payload);
            self.sender.handle_refused();
            return pushed;
        }
        let left = head_bytes + payload.len() - taken;
        if left == 0 {
            return Ok(());
        }
        let head = &head[taken.min(head_bytes)..];
        let payload = &payload[taken.saturating_sub(head_bytes)..];
        let pushed = self.sender.outbox.push(&mut self.pools.outbox, head, payload);
        match pushed {
            Ok(()) => self.sender.handle_torn_message(left),
            Err(PoolExhausted) => self.sender.end_torn(Failure::PoolExhausted),
        }
        pushed
    }
}

impl Sender {
    /// Queues a message as nearly all are: short, on an open connection that takes output, behind
    /// what is corked already. Says whether it was one; if not, nothing has happened.
    #[inline]
    pub(crate) fn cork_short(
        &mut self,
        pools: &mut SendPools,
        config: &Config,
        opcode: Opcode,
        payload: &[u8],
    ) -> bool {
        match self.short_header(config, opcode, payload) {
            Some(header) => match config.role {
                Role::Server => self.outbox.push_short(&mut pools.outbox, header, payload),
                Role::Client => self.cork_masked(pools, header, payload),
            },
            None => false,
        }
    }

    /// The same for a client, whose payload is masked on its way into the ring (RFC 6455 §5.3).
    /// Called cold to be out of a server's way; a jump is all that it costs a client.
    #[cold]
    fn cork_masked(&mut self, pools: &mut SendPools, header: [u8; 2], payload: &[u8]) -> bool {
        let key = pools.masking_keys.next_key();
        let header = Header::mask_short(header, key);
        let copy = |from: &[u8], to: &mut [u8]| mask::copy(from, to, key);
        let pushed = self.outbox.push_short_mapped(&mut pools.outbox, header, payload, copy);
        if pushed {
            self.handle_message_queued();
        }
        pushed
    }

    /// The unmasked header of a message that can be queued without a look at anything else.
    #[inline(always)]
    fn short_header(&self, config: &Config, opcode: Opcode, payload: &[u8]) -> Option<[u8; 2]> {
        let is_plain = self.state.is_open()
            && self.flow == Flow::Free
            && self.in_parts == Parts::None
            && !self.compresses(config, payload.len());
        let queued_max = config.limits.backpressure_bytes_max.min(CORK_BYTES_MAX);
        let header = Header::encode_short(opcode, payload.len())?;
        (is_plain && self.queued_bytes() < queued_max).then_some(header)
    }
}

fn mask_piece(piece: &mut [u8], key: &mut MaskingKey) {
    mask::apply(piece, *key);
    *key = key.rotated(piece.len());
}

/// Above so much in the queue nothing is simple any more.
const CORK_BYTES_MAX: usize = 1 << 20;
