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
        self.make_room(self.config.limits.backpressure_bytes_max);
        let Self { sender, pools, config, now, .. } = self;
        Transmit { sender, pools, config, now: *now, sink: &mut NoSink }.send_slice(opcode, payload)
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::time::Instant;

    use super::*;
    use crate::collections::Outbox;
    use crate::limits::LoopLimits;
    use crate::protocol::{
        CloseCause, Config, Failure, Initiator, Moment, OverflowPolicy, Pools, Sender, Sink,
    };
    use crate::wire::Role;

    /// A kernel that takes all of it, and counts the writes.
    #[derive(Default)]
    struct Kernel {
        writes: usize,
        taken_bytes: usize,
    }

    impl Sink for Kernel {
        fn offer(&mut self, slices: &[IoSlice<'_>]) -> Option<usize> {
            let bytes = slices.iter().map(|slice| slice.len()).sum();
            self.writes += 1;
            self.taken_bytes += bytes;
            Some(bytes)
        }
    }

    /// What came of something done with a connection, and how it was written.
    struct Done<R> {
        result: R,
        kernel: Kernel,
        is_open: bool,
    }

    fn done<R>(config: &Config, act: impl FnOnce(&mut Transmit<'_>) -> R) -> Done<R> {
        let mut pools = Pools::new(&LoopLimits::default(), Instant::now(), [0; 32]);
        let mut sender = Sender::new(Outbox::new(), config, Moment::ORIGIN);
        let mut kernel = Kernel::default();
        let mut transmit = Transmit {
            sender: &mut sender,
            pools: &mut pools.send,
            config,
            now: Moment::ORIGIN,
            sink: &mut kernel,
        };
        let result = act(&mut transmit);
        let is_open = sender.is_open();
        sender.end(Initiator::Local, CloseCause::Aborted);
        sender.finish(0, &mut pools.send);
        Done { result, kernel, is_open }
    }

    fn binary(payload: &[u8]) -> (Opcode, &[u8]) {
        (Opcode::Binary, payload)
    }

    #[test]
    fn a_hundred_messages_of_600_bytes_are_one_write() {
        for (role, header_bytes) in [(Role::Server, 4), (Role::Client, 8)] {
            let Done { result, kernel, .. } = done(&Config::new(role), |transmit| {
                let batch = transmit.send_batch([binary(&[7; 600]); 100]);
                transmit.flush();
                batch
            });
            assert_eq!(result, BatchOutcome { taken_messages: 100, outcome: SendOutcome::Sent });
            assert_eq!(kernel.taken_bytes, 100 * (header_bytes + 600));
            assert_eq!(kernel.writes, 1, "{role:?}");
        }
    }

    #[test]
    fn a_large_message_in_a_batch_waits_for_the_others() {
        let messages = [&[1; 10][..], &[2; 20_000], &[3; 30_000], &[4; 10]].map(binary);
        for role in [Role::Server, Role::Client] {
            let config = Config::new(role);
            let held = done(&config, |transmit| {
                let batch = transmit.send_batch(messages);
                assert_eq!(batch.taken_messages, 4);
                assert!(transmit.queued_bytes() > 50_020, "nothing has left yet");
                transmit.flush();
            });
            assert_eq!(held.kernel.writes, 1, "{role:?}");
        }
    }

    #[test]
    fn an_empty_batch_is_taken() {
        let none: [(Opcode, &[u8]); 0] = [];
        let Done { result, kernel, .. } =
            done(&Config::new(Role::Server), |transmit| transmit.send_batch(none));
        assert_eq!(result, BatchOutcome { taken_messages: 0, outcome: SendOutcome::Sent });
        assert_eq!(kernel.writes, 0);
    }

    #[test]
    fn a_batch_ends_at_the_first_message_that_is_dropped() {
        let asked_for = std::cell::Cell::new(0);
        let messages = [Opcode::Text, Opcode::Binary, Opcode::Ping, Opcode::Text];
        let messages = messages.into_iter().map(|opcode| {
            asked_for.set(asked_for.get() + 1);
            (opcode, b"x".as_slice())
        });
        let Done { result, .. } =
            done(&Config::new(Role::Client), |transmit| transmit.send_batch(messages));
        let outcome = SendOutcome::Dropped(DropReason::NotAMessage);
        assert_eq!(result, BatchOutcome { taken_messages: 2, outcome });
        assert_eq!(asked_for.get(), 3);
    }

    #[test]
    fn a_full_queue_is_offered_in_mid_batch_as_it_is_before_a_single_message() {
        let mut config = Config::new(Role::Client);
        config.limits.backpressure_bytes_max = 1000;
        let batch = done(&config, |transmit| transmit.send_batch([binary(&[0; 300]); 9]));
        let single = done(&config, |transmit| {
            for _ in 0..9 {
                assert!(transmit.send_binary(&[0; 300]).is_taken());
            }
        });
        assert_eq!(batch.result.taken_messages, 9);
        assert_eq!((batch.kernel.writes, single.kernel.writes), (2, 2));
    }

    #[test]
    fn back_pressure_takes_a_prefix() {
        for on_overflow in [OverflowPolicy::Refuse, OverflowPolicy::Fail] {
            let mut config = Config::new(Role::Client);
            config.limits.backpressure_bytes_max = 1000;
            config.on_overflow = on_overflow;
            let Done { result, is_open, .. } = done(&config, |transmit| {
                assert!(transmit.send_text("held up").is_taken());
                transmit.sender.handle_refused();
                let first = transmit.send_batch([binary(&[0; 92]); 5]);
                assert_eq!(first.taken_messages, 5);
                assert_eq!(first.outcome, SendOutcome::Queued { bytes: 13 });
                transmit.send_batch([binary(&[0; 92]); 50])
            });
            // 13 bytes and ten messages of 98 are below the mark, an eleventh is the overshoot.
            let outcome = SendOutcome::Dropped(DropReason::Backpressure);
            assert_eq!(result, BatchOutcome { taken_messages: 6, outcome });
            assert_eq!(is_open, on_overflow == OverflowPolicy::Refuse);
        }
    }

    #[test]
    fn a_batch_without_room_in_the_pool_fails_the_connection_behind_its_prefix() {
        let limits = LoopLimits { ring_bytes: 1024, rings_max: 2, ..LoopLimits::default() };
        let config = Config::new(Role::Client);
        let mut pools = Pools::new(&limits, Instant::now(), [0; 32]);
        let mut sender = Sender::new(Outbox::new(), &config, Moment::ORIGIN);
        let mut transmit = Transmit {
            sender: &mut sender,
            pools: &mut pools.send,
            config: &config,
            now: Moment::ORIGIN,
            sink: &mut NoSink,
        };
        let batch = transmit.send_batch([binary(&[0; 600]); 9]);
        let outcome = SendOutcome::Dropped(DropReason::PoolExhausted);
        assert_eq!(batch, BatchOutcome { taken_messages: 3, outcome });
        let proof = transmit.delivery();
        assert_eq!((proof.unsent_messages, proof.unconfirmed_messages), (3, 0));
        sender.end(Initiator::Local, CloseCause::Aborted);
        let summary = sender.finish(0, &mut pools.send);
        assert_eq!(summary.cause, CloseCause::Failed(Failure::PoolExhausted));
    }
}
