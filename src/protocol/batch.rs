//! Many messages that leave together.

use super::message::{DropReason, SendOutcome};
use super::transmit::{NoSink, Transmit};
use crate::wire::Opcode;

/// What became of a batch: its first `taken_messages` were taken, and no other.
#[must_use = "what was not taken is lost: say so to whom it concerns, or keep it for later"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchOutcome {
    /// How many messages were taken.
    pub taken_messages: usize,
    /// What the first message was told if all were taken, and `Sent` if there was none; otherwise
    /// why the next one was dropped.
    pub outcome: SendOutcome,
}

impl BatchOutcome {
    /// Of no message.
    pub(crate) const EMPTY: Self = Self { taken_messages: 0, outcome: SendOutcome::Sent };

    /// What became of one more message.
    fn add(&mut self, outcome: SendOutcome) {
        if self.taken_messages == 0 || !outcome.is_taken() {
            self.outcome = outcome;
        }
        self.taken_messages += usize::from(outcome.is_taken());
    }
}

impl Transmit<'_> {
    /// Sends messages, each as an unfragmented frame of its own, so that they leave together: in
    /// one write with what is corked already, up to the 272 KiB that its slices hold. A large one
    /// is copied behind the others, where [`Transmit::send_binary`] would write at once.
    ///
    /// Each is treated as if it were sent alone: masked, compressed, and refused at
    /// `backpressure_bytes_max`, before which what is queued is offered to the kernel. At the first
    /// that is dropped the batch ends; those behind it are not asked for.
    ///
    /// The opcodes are `Text` or `Binary`; another one is [`DropReason::NotAMessage`]. The payload
    /// of a text must be valid UTF-8; that is the caller's to see to.
    ///
    /// ```
    /// use corewire::{Config, Connection, LoopLimits, NoSink, Opcode, Pools, Role};
    /// use std::time::Instant;
    ///
    /// let now = Instant::now();
    /// let mut pools = Pools::new(&LoopLimits::default(), now, [7; 32]);
    /// let mut server = Connection::new(Config::new(Role::Server), now, &pools);
    /// let prices = ["1.25", "1.26"].map(|price| (Opcode::Text, price.as_bytes()));
    /// let batch = server.transmit(now, &mut pools, &mut NoSink).send_batch(prices);
    /// assert_eq!((batch.taken_messages, server.queued_bytes()), (2, 12));
    /// ```
    pub fn send_batch<'m>(
        &mut self,
        messages: impl IntoIterator<Item = (Opcode, &'m [u8])>,
    ) -> BatchOutcome {
        let mut batch = BatchOutcome::EMPTY;
        for (opcode, payload) in messages {
            batch.add(self.send_held(opcode, payload));
            if !batch.outcome.is_taken() {
                break;
            }
        }
        batch
    }

    /// Sends a message that nothing but a full queue has offered to the kernel.
    fn send_held(&mut self, opcode: Opcode, payload: &[u8]) -> SendOutcome {
        if !matches!(opcode, Opcode::Text | Opcode::Binary) {
            return SendOutcome::Dropped(DropReason::NotAMessage);
        }
        self.make_room();
        let Self { sender, pools, config, now, .. } = self;
        Transmit { sender, pools, config, now: *now, sink: &mut NoSink }.send_slice(opcode, payload)
    }
}
