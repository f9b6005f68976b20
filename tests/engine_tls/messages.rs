//! Payload both ways, however the stream is torn and whatever the kernel takes.

use corewire::SendOutcome;

use crate::sim_bed::{Bed, Heard, Occasion, echo};
use crate::sim_errno::EAGAIN;
use crate::sim_peer::{
    BINARY, Frame, TEXT, close, fragments, frames, message, messages, upgrade_request,
};
use crate::sim_world::{Call, Faults};
use crate::tls_peer::{TlsPeer, VERSIONS, parties, record_bounds, tls_echo};

fn payload(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8).collect()
}

#[test]
fn messages_of_all_sizes_are_echoed_whole_and_in_fragments() {
    for version in VERSIONS {
        let (mut bed, client) = tls_echo(version);
        let mut peer = TlsPeer::open(&mut bed, &client);
        for bytes in [0, 1, 125, 126, 16_383, 16_384, 16_385, 65_535, 65_536, 300_000, 1 << 20] {
            let payload = payload(bytes);
            for sent in [message(BINARY, &payload), fragments(BINARY, &payload, 10_000)] {
                peer.say(&sent);
                peer.turns(&mut bed, 8);
                let echoed = messages(&peer.take_frames());
                assert!(echoed == [(BINARY, payload.clone())], "{bytes}");
            }
        }
    }
}

#[test]
fn whole_conversation_goes_byte_by_byte() {
    for version in VERSIONS {
        let (mut bed, client) = tls_echo(version);
        let mut peer = TlsPeer::connect(&bed, &client);
        peer.say(&upgrade_request("/", ""));
        peer.say(&message(TEXT, b"one"));
        peer.say(&message(TEXT, &[b'x'; 300]));
        peer.say(&close(1000));
        let mut ended = false;
        for _ in 0..20 {
            if !peer.tls.is_handshaking() && !ended {
                peer.tls.send_close_notify();
                ended = true;
            }
            for byte in peer.outgoing() {
                peer.socket.write_all(&[byte]);
                bed.turn();
                peer.pull_at_most(1);
            }
            while peer.socket.moved().to_peer_bytes > 0 {
                peer.pull_at_most(1);
            }
        }
        let head_bytes = peer.received.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 4;
        peer.received.drain(..head_bytes);
        let frames = peer.take_frames();
        let expected = [
            Frame::new(TEXT, b"one"),
            Frame::new(TEXT, &[b'x'; 300]),
            Frame::new(8, &1000_u16.to_be_bytes()),
        ];
        assert_eq!(frames, expected);
        assert!(peer.is_ended);
        assert!(bed.summary(bed.latest()).is_clean());
    }
}

/// A peer that is open, and the records of three messages and a Close, one record each.
fn conversation(bed: &mut Bed, peer: &mut TlsPeer) -> Vec<u8> {
    peer.upgrade(bed);
    let mut records = peer.records_of(&message(TEXT, b"one"));
    records.extend(peer.records_of(&message(BINARY, &payload(200))));
    records.extend(peer.records_of(&message(9, b"ping")));
    records.extend(peer.records_of(&close(3001)));
    records
}

fn heard_of(bed: &Bed) -> Vec<Heard> {
    bed.heard(bed.latest())
}

#[test]
fn stream_torn_at_any_byte_is_heard_the_same() {
    for version in VERSIONS {
        let (mut bed, client) = tls_echo(version);
        let mut peer = TlsPeer::connect(&bed, &client);
        let records = conversation(&mut bed, &mut peer);
        assert_eq!(record_bounds(&records).len(), 5);
        peer.socket.write_all(&records);
        peer.turns(&mut bed, 2);
        let (expected, answer) = (heard_of(&bed), peer.take_frames());
        assert_eq!(expected.len(), 4, "two messages, a ping and the end");
        for at in 0..=records.len() {
            let (mut bed, client) = tls_echo(version);
            let mut peer = TlsPeer::connect(&bed, &client);
            let records = conversation(&mut bed, &mut peer);
            peer.socket.write_all(&records[..at]);
            bed.turn();
            peer.socket.write_all(&records[at..]);
            peer.turns(&mut bed, 2);
            assert_eq!(heard_of(&bed), expected, "torn at {at}");
            assert_eq!(peer.take_frames(), answer, "torn at {at}");
        }
    }
}

#[test]
fn stream_in_reads_of_any_size_is_heard_the_same() {
    for version in VERSIONS {
        let mut expected = None;
        for read_bytes in [1, 2, 3, 4, 5, 6, 7, 21, 22, 23, 100, 1000, usize::MAX] {
            let (mut bed, client) = tls_echo(version);
            let mut peer = TlsPeer::connect(&bed, &client);
            let mut records = conversation(&mut bed, &mut peer);
            records.splice(0..0, peer.records_of(b""));
            bed.sim.shorten(Call::Receive, &vec![read_bytes; records.len().div_ceil(read_bytes)]);
            peer.socket.write_all(&records);
            bed.run_for(std::time::Duration::from_secs(4));
            peer.pull();
            let outcome = (heard_of(&bed), peer.take_frames());
            assert_eq!(outcome, *expected.get_or_insert(outcome.clone()), "{read_bytes}");
        }
    }
}

#[test]
fn receive_buffer_smaller_than_a_record_will_do() {
    for version in VERSIONS {
        for buffer_bytes in [16, 100, 5000, 16_384] {
            let (tls, client) = parties(version);
            let change = |settings: &mut crate::sim_bed::Settings| {
                settings.tls = Some(tls);
                settings.receive_buffer_bytes = buffer_bytes;
                settings.reactor.limits.receive_buffer_bytes = buffer_bytes;
            };
            let mut bed = Bed::new(change, echo);
            let mut peer = TlsPeer::open(&mut bed, &client);
            for bytes in [10, 20_000, 100_000] {
                peer.say(&message(BINARY, &payload(bytes)));
                peer.turns(&mut bed, 20);
                assert!(messages(&peer.take_frames()) == [(BINARY, payload(bytes))], "{bytes}");
            }
        }
    }
}

#[test]
fn kernel_that_takes_little_and_refuses_at_every_call_loses_and_doubles_nothing() {
    for version in VERSIONS {
        for refused_at in 0..24 {
            let (mut bed, client) = tls_echo(version);
            let mut peer = TlsPeer::open(&mut bed, &client);
            let sizes = [3, 40_000, 200, 70_000, 0, 5];
            let sent: Vec<u8> =
                sizes.iter().flat_map(|bytes| message(BINARY, &payload(*bytes))).collect();
            let mut shorts = vec![usize::MAX; refused_at];
            shorts.extend([1, 4, 5, 6, 16_383, 100, 1]);
            bed.sim.shorten(Call::Send, &shorts);
            if refused_at % 3 == 0 {
                bed.sim.fail(Call::Send, &[EAGAIN, EAGAIN]);
            }
            peer.say(&sent);
            peer.push();
            for _ in 0..40 {
                bed.run_for(std::time::Duration::from_millis(3));
                peer.pull_at_most(7000);
            }
            peer.pull();
            let echoed = messages(&peer.take_frames());
            let expected: Vec<_> = sizes.iter().map(|bytes| (BINARY, payload(*bytes))).collect();
            assert!(echoed == expected, "refused at {refused_at}");
        }
    }
}

#[test]
fn faults_of_many_seeds_lose_and_double_nothing() {
    for seed in 0..60 {
        let (mut bed, client) = tls_echo(VERSIONS[seed % 2]);
        let mut peer = TlsPeer::connect(&bed, &client);
        peer.socket.set_buffers(1 << 20, 3000 + 1000 * seed);
        {
            let mut world = bed.sim.0.borrow_mut();
            (0..seed).for_each(|_| _ = world.random(2));
            world.faults = Faults {
                short_reads: 300,
                short_writes: 300,
                blocked_reads: 200,
                blocked_writes: 200,
                partial_polls: 300,
                ..Faults::default()
            };
        }
        peer.say(&upgrade_request("/", ""));
        let sizes = [0, 10, 30_000, 126, 5, 100_000, 1];
        let mut said = false;
        let mut expected = Vec::new();
        for _ in 0..3000 {
            peer.push();
            bed.run_for(std::time::Duration::from_millis(1));
            let room = bed.sim.0.borrow_mut().random(4000);
            peer.pull_at_most(room);
            if !said && !peer.tls.is_handshaking() {
                for bytes in sizes {
                    expected.push((BINARY, payload(bytes)));
                    peer.say(&message(BINARY, &payload(bytes)));
                }
                peer.say(&close(1000));
                said = true;
            }
            if peer.is_ended {
                break;
            }
        }
        assert!(peer.is_ended, "seed {seed}: {:?}", peer.failure);
        let head_bytes = peer.received.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 4;
        peer.received.drain(..head_bytes);
        assert!(messages(&peer.take_frames()) == expected, "seed {seed}");
        assert!(bed.summary(bed.latest()).is_clean(), "seed {seed}");
        bed.sim.0.borrow_mut().faults = Faults::default();
        peer.socket.fin();
        bed.run_for(std::time::Duration::from_secs(3));
        bed.assert_empty();
    }
}

#[test]
fn peer_that_does_not_read_is_held_back_and_loses_nothing() {
    for version in VERSIONS {
        let (mut bed, client) = tls_echo(version);
        let mut peer = TlsPeer::open(&mut bed, &client);
        peer.socket.set_buffers(1 << 20, 20_000);
        let idle = bed.reactor.usage().pinned_bytes;
        let one = message(BINARY, &payload(10_000));
        let mut waiting = Vec::new();
        let mut count = 0;
        // Until the engine stops reading and its kernel buffer is full.
        for _ in 0..1000 {
            if waiting.is_empty() {
                waiting = peer.records_of(&one);
                count += 1;
            }
            let written = peer.socket.write(&waiting);
            waiting.drain(..written);
            bed.turn();
        }
        assert!(!waiting.is_empty(), "it is held back");
        assert!(count < 300, "{count}");
        let held = bed.reactor.usage().pinned_bytes - idle;
        assert!(held < 1 << 20, "{held}");
        assert_eq!(bed.reactor.counters().reads_paused, 1);
        for _ in 0..4000 {
            let written = peer.socket.write(&waiting);
            waiting.drain(..written);
            peer.pull_at_most(5000);
            bed.turn();
        }
        peer.pull();
        let echoed = messages(&peer.take_frames());
        assert_eq!(echoed.len(), count);
        assert!(echoed.iter().all(|echo| *echo == (BINARY, payload(10_000))));
        assert!(bed.heard(bed.latest()).contains(&Heard::Drain));
    }
}

#[test]
fn small_messages_of_a_turn_share_one_record() {
    let (mut bed, client) = tls_echo(VERSIONS[1]);
    let mut peer = TlsPeer::open(&mut bed, &client);
    let already = peer.socket.handed_over().len();
    let sent: Vec<u8> = (0..100).flat_map(|_| message(TEXT, b"small")).collect();
    peer.say(&sent);
    peer.turns(&mut bed, 1);
    assert_eq!(record_bounds(&peer.socket.handed_over()[already..]).len(), 2);
    assert_eq!(frames(&peer.received).0.len(), 100);
}

#[test]
fn records_that_never_left_are_told_as_unsent() {
    let outcome = std::rc::Rc::new(std::cell::Cell::new(None));
    let seen = outcome.clone();
    let (tls, client) = parties(VERSIONS[1]);
    let act = move |ctx: &mut corewire::Context<'_, ()>, occasion: Occasion<'_>| {
        if let Occasion::Message(_) = occasion {
            seen.set(Some(ctx.send_binary(&payload(30_000))));
        }
    };
    let mut bed = Bed::new(|settings| settings.tls = Some(tls), act);
    let mut peer = TlsPeer::open(&mut bed, &client);
    peer.socket.set_buffers(1 << 20, 1000);
    peer.say(&message(TEXT, b"go"));
    peer.push();
    bed.turns(2);
    assert!(outcome.get().is_some_and(SendOutcome::is_taken));
    peer.socket.reset();
    bed.turns(2);
    let summary = bed.summary(bed.latest());
    // What was encrypted together counts until all of it has left.
    assert_eq!(summary.unsent_bytes, 30_004);
    bed.assert_empty();
}

#[test]
fn end_of_a_message_is_not_read_in_pieces_of_its_record() {
    for version in VERSIONS {
        for first_bytes in (280_000..310_000).step_by(1777) {
            let (mut bed, client) = tls_echo(version);
            let mut peer = TlsPeer::open(&mut bed, &client);
            peer.say(&message(BINARY, &payload(first_bytes)));
            peer.say(&message(BINARY, &payload(60_000)));
            peer.push();
            let before = bed.sim.tries(Call::Receive);
            bed.turns(6);
            let reads = bed.sim.tries(Call::Receive) - before;
            assert!(reads < 16, "{reads} reads for {first_bytes} bytes");
            peer.pull();
            assert_eq!(messages(&peer.take_frames()).len(), 2);
        }
    }
}
