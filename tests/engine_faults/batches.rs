//! Messages that leave together.

use std::rc::Rc;

use corewire::{DropReason, Message, SendOutcome};

use crate::sim_bed::{Bed, Occasion};
use crate::sim_peer::{TEXT, frames, message, messages};
use crate::sim_world::Call;

/// Were there a second write, it would take one byte, and the rest would wait.
#[test]
fn batch_leaves_in_one_write() {
    let payloads =
        Rc::new((0..100).map(|at| format!("{at:0600}").into_bytes()).collect::<Vec<_>>());
    let batch = payloads.clone();
    let mut bed = Bed::new(
        |_| {},
        move |ctx, occasion| match occasion {
            Occasion::Message(Message::Text("batch")) => {
                let sent = ctx.send_batch(batch.iter().map(|payload| Message::Binary(payload)));
                assert_eq!((sent.taken_messages, sent.outcome), (100, SendOutcome::Sent));
            }
            Occasion::Close(_) => {
                let sent = ctx.send_batch([Message::Text("a"), Message::Text("b")]);
                let outcome = SendOutcome::Dropped(DropReason::Gone);
                assert_eq!((sent.taken_messages, sent.outcome), (0, outcome));
            }
            _ => {}
        },
    );
    let peer = bed.open();
    bed.sim.shorten(Call::Send, &[usize::MAX, 1]);
    peer.write_all(&message(TEXT, b"batch"));
    bed.turn();
    let bytes = peer.read_all();
    assert_eq!(bytes.len(), 100 * 604);
    let received: Vec<_> =
        messages(&frames(&bytes).0).into_iter().map(|(_, payload)| payload).collect();
    assert!(received == *payloads);
    peer.reset();
    bed.turn();
    let counters = bed.reactor.counters();
    assert_eq!((counters.messages_sent, counters.sends_dropped), (100, 1));
}
