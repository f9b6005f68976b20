//! What a client knows of its messages' delivery.
//!
//! TCP tells nobody what the peer has read; a pong does. Frames are handled in order, so the peer
//! that answers a ping has had everything in front of that ping:
//!
//! ```text
//!   m1  m2  ping A  m3  ping B  m4 │ m5
//!   └ confirmed ┘   └ unconfirmed ┘│ unsent     A's pong has come, B's has not
//! ```

use std::collections::VecDeque;

use super::sender::Sender;
use super::transmit::Transmit;
use crate::collections::OutboxPool;

/// How far the messages of a connection have come. Every message that a send has taken is in one
/// of the three counts, and in no other.
///
/// Only a client looks for proof: of a server [`Proof::unsent_messages`] alone is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Proof {
    /// Messages that the peer has received: they were queued in front of a ping that it has
    /// answered. 0 for a server.
    pub confirmed_messages: u64,
    /// Messages wholly handed to the kernel of which that is not proven. 0 for a server.
    pub unconfirmed_messages: u64,
    /// Messages not, or not wholly, handed to the kernel.
    pub unsent_messages: u64,
}

/// What a client keeps to prove delivery: how much it has sent, and the pings that will show how
/// much of it arrived.
#[derive(Debug, Default)]
pub(super) struct Proving {
    taken_messages: u64,
    confirmed_messages: u64,
    /// Those that are waited for, the oldest first; no two have the same payload.
    pings: VecDeque<ProvingPing>,
}

/// A ping of ours without its pong.
#[derive(Debug)]
struct ProvingPing {
    payload: Box<[u8]>,
    /// Messages taken before it: what its pong proves.
    messages_before: u64,
    /// Its last byte is so far back among those that are unsent; 0 once it was sent.
    behind: u32,
}

impl Proving {
    /// A message is the last thing in the outbox.
    #[inline]
    pub(super) const fn handle_message(&mut self) {
        self.taken_messages += 1;
    }

    /// A ping is the last thing in the outbox, `behind` bytes from its front.
    ///
    /// It proves nothing if its pong could be taken for another one: an empty pong may be
    /// unsolicited (RFC 6455 §5.5.3), and one of two pings alike may never be answered.
    fn handle_ping(&mut self, payload: &[u8], behind: u32) {
        if payload.is_empty() || self.pings.iter().any(|ping| *ping.payload == *payload) {
            return;
        }
        if self.pings.len() == PROVING_PINGS_MAX {
            // The oldest wait on for a peer that answers them one by one, the latest for one that
            // answers no other.
            self.pings.pop_back();
        }
        let messages_before = self.taken_messages;
        self.pings.push_back(ProvingPing { payload: payload.into(), messages_before, behind });
    }

    /// The first `bytes` unsent ones were handed to the kernel.
    pub(super) fn handle_transmitted(&mut self, bytes: u32) {
        for ping in &mut self.pings {
            ping.behind = ping.behind.saturating_sub(bytes);
        }
    }

    /// A pong came. One for a ping that has not left yet is a guess, and proves nothing.
    fn handle_pong(&mut self, payload: &[u8]) {
        let answered = |ping: &ProvingPing| ping.behind == 0 && *ping.payload == *payload;
        if let Some(index) = self.pings.iter().position(answered) {
            self.confirmed_messages = self.pings[index].messages_before;
            // A peer may leave out all but the latest: nobody waits for those before it.
            self.pings.drain(..=index);
        }
    }
}

impl Sender {
    /// How far the messages have come. Walks over the frames that are unsent.
    pub(crate) fn delivery(&self, pool: &OutboxPool) -> Proof {
        let unsent_messages = self.unsent_messages(pool);
        match self.rare.as_ref().and_then(|rare| rare.proving.as_deref()) {
            None => Proof { unsent_messages, ..Proof::default() },
            Some(&Proving { taken_messages, confirmed_messages, .. }) => Proof {
                confirmed_messages,
                // What is confirmed was sent, and what was sent was taken.
                unconfirmed_messages: taken_messages - confirmed_messages - unsent_messages,
                unsent_messages,
            },
        }
    }

    /// A message of a client is the last thing in the outbox.
    #[inline]
    pub(super) fn handle_message_queued(&mut self) {
        if let Some(proving) = self.proving_mut() {
            proving.handle_message();
        }
    }

    /// A ping of a client is the last thing in the outbox.
    pub(super) fn prove_by_ping(&mut self, payload: &[u8]) {
        let behind = self.queued_bytes() as u32;
        if let Some(rare) = &mut self.rare
            && let Some(proving) = &mut rare.proving
        {
            // What stands in front of it must keep its length from now on.
            rare.waiting_pong = None;
            proving.handle_ping(payload, behind);
        }
    }

    /// A pong came, whosever ping it answers.
    pub(super) fn prove_by_pong(&mut self, payload: &[u8]) {
        if let Some(proving) = self.proving_mut() {
            proving.handle_pong(payload);
        }
    }

    /// What a client has and a server has not.
    #[inline]
    pub(super) fn proving_mut(&mut self) -> Option<&mut Proving> {
        self.rare.as_mut()?.proving.as_deref_mut()
    }
}

impl Transmit<'_> {
    /// How far the messages of this connection have come. It looks at every frame that is unsent,
    /// so ask now and then, and not for each message.
    ///
    /// A pong proves everything that was queued in front of its ping: of each heartbeat's, and of
    /// those that [`Transmit::send_ping`] sends if they can be told apart, which is if the payload
    /// is not empty and unlike that of every ping that is still waited for. A peer that answers
    /// late and out of order can mislead where a payload is used again, so give each ping its own,
    /// such as a number. Of many pings at once a few of the oldest and the latest are waited for.
    pub fn delivery(&self) -> Proof {
        self.sender.delivery(&self.pools.outbox)
    }
}

/// More pings than a heartbeat ever has under way; the bound is for those of the application.
const PROVING_PINGS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    /// So many messages in front of each numbered ping, all sent.
    fn proving(messages: u64, pings: u8) -> Proving {
        let mut proving = Proving::default();
        for number in 0..pings {
            for _ in 0..messages {
                proving.handle_message();
            }
            proving.handle_ping(&[number], 100);
        }
        proving.handle_transmitted(u32::MAX);
        proving
    }

    #[test]
    fn a_pong_proves_what_was_queued_in_front_of_its_ping() {
        let mut proving = proving(3, 4);
        proving.handle_message();
        for (pong, confirmed) in [(1, 6), (0, 6), (1, 6), (9, 6), (3, 12), (2, 12)] {
            proving.handle_pong(&[pong]);
            assert_eq!(proving.confirmed_messages, confirmed, "pong {pong}");
        }
    }

    #[test]
    fn a_pong_for_a_ping_that_has_not_left_is_a_guess() {
        let mut proving = Proving::default();
        proving.handle_message();
        proving.handle_ping(b"a", 20);
        for bytes in [0, 19] {
            proving.handle_transmitted(bytes);
            proving.handle_pong(b"a");
            assert_eq!(proving.confirmed_messages, 0, "{bytes}");
        }
        proving.handle_transmitted(1);
        proving.handle_pong(b"a");
        assert_eq!(proving.confirmed_messages, 1);
    }

    #[test]
    fn pings_that_cannot_be_told_apart_prove_nothing() {
        let mut proving = Proving::default();
        for payload in [b"".as_slice(), b"a", b"a"] {
            proving.handle_message();
            proving.handle_ping(payload, 0);
        }
        for (pong, confirmed) in [(b"".as_slice(), 0), (b"a", 2), (b"a", 2)] {
            proving.handle_pong(pong);
            assert_eq!(proving.confirmed_messages, confirmed, "{pong:?}");
        }
    }

    #[test]
    fn many_pings_are_proven_by_a_peer_that_answers_each_and_by_one_that_answers_the_latest() {
        let (mut latest, mut each) = (proving(1, 200), proving(1, 200));
        assert_eq!(latest.pings.len(), PROVING_PINGS_MAX);
        latest.handle_pong(&[199]);
        assert_eq!((latest.confirmed_messages, latest.pings.len()), (200, 0));
        for number in 0..7 {
            each.handle_pong(&[number]);
            assert_eq!(each.confirmed_messages, u64::from(number) + 1);
        }
    }
}
