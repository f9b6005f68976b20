//! Flow and fairness (rows T2, T3, T4, F10, F12, F13, H24).

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use corewire::{CloseCause, CloseCode, DropReason, Failure, Heartbeat, SendOutcome};

use crate::sim_bed::{Bed, Heard, Occasion, echo, read_frames};
use crate::sim_peer::{
    BINARY, CONTINUATION, Frame, PING, PONG, TEXT, answers, frames, masked, message, messages,
    plain_request,
};

const KIB: usize = 1024;

fn numbered(count: usize, bytes: usize) -> Vec<Vec<u8>> {
    let payload = |at: usize| format!("{at:0bytes$}").into_bytes();
    (0..count).map(payload).collect()
}

#[test]
fn t2_echo_to_a_peer_that_does_not_read_stops_reading_and_loses_nothing() {
    let mut bed = Bed::new(|settings| settings.receive_buffer_bytes = 16 * KIB, echo);
    let peer = bed.open();
    peer.set_buffers(4 << 20, 64 * KIB);
    let sent = numbered(2000, 1000);
    for payload in &sent {
        peer.write_all(&message(TEXT, payload));
    }
    bed.turns(100);
    let moved = peer.moved();
    let bound = 64 * KIB + 256 * KIB + 3 * 16 * KIB;
    assert!(moved.received_bytes < bound, "{moved:?}: we go on reading");
    assert!(moved.received_bytes > 256 * KIB, "{moved:?}: we stopped below the mark");
    assert_eq!(bed.reactor.counters().reads_paused, 1);
    let received = bed.heard(bed.latest()).len();
    bed.run_for(Duration::from_secs(20));
    assert_eq!(bed.heard(bed.latest()).len(), received, "nothing is handled meanwhile");
    let mut bytes = Vec::new();
    for _ in 0..200 {
        bytes.extend(peer.read_all());
        bed.turn();
    }
    let (frames, used) = frames(&bytes);
    assert_eq!(used, bytes.len());
    let echoed: Vec<_> = messages(&frames).into_iter().map(|(_, payload)| payload).collect();
    assert!(echoed == sent, "{} of {} came back", echoed.len(), sent.len());
    assert!(bed.reactor.counters().reads_paused < 20);
    peer.reset();
    bed.turn();
    bed.assert_empty();
}

#[test]
fn t2_reading_goes_on_below_the_low_water_mark_and_on_drain_is_told_once() {
    let mut bed = Bed::new(
        |_| {},
        |ctx, occasion| {
            if let Occasion::Message(_) = occasion {
                assert_eq!(ctx.send_binary(&vec![7; 400 * KIB]), SendOutcome::Sent);
            }
        },
    );
    let peer = bed.open();
    peer.set_buffers(4 << 20, 16 * KIB);
    peer.write_all(&message(TEXT, b"go"));
    bed.turns(3);
    peer.write_all(&message(PING, b"are you there?"));
    let drains = |bed: &Bed| {
        let heard = bed.heard(bed.latest());
        heard.iter().filter(|heard| **heard == Heard::Drain).count()
    };
    let pings = |bed: &Bed| bed.reactor.counters().pings_received;
    let total = 400 * KIB + 10;
    let mut read = 0;
    while total - read > 64 * KIB + 16 * KIB {
        assert_eq!((drains(&bed), pings(&bed)), (0, 0), "with {} left", total - read);
        read += peer.read_all().len();
        bed.turn();
    }
    bed.turn();
    assert_eq!((drains(&bed), pings(&bed)), (1, 1));
    let mut rest = Vec::new();
    for _ in 0..10 {
        rest.extend(peer.read_all());
        bed.turn();
    }
    assert!(rest.ends_with(b"are you there?"));
    assert!(drains(&bed) <= 2, "once at the mark, and perhaps when all is gone");
}

#[test]
fn t2_what_was_read_before_reading_stopped_is_handled_without_another_event() {
    let mut bed = Bed::new(
        |settings| {
            settings.config.limits.high_water_bytes = 1000;
            settings.config.limits.low_water_bytes = 100;
        },
        echo,
    );
    let peer = bed.open();
    peer.set_buffers(1 << 20, 300);
    let sent = numbered(50, 200);
    peer.write_all(&sent.iter().flat_map(|payload| message(TEXT, payload)).collect::<Vec<_>>());
    bed.turn();
    assert_eq!(peer.moved().to_engine_bytes, 0, "all is read");
    assert_eq!(bed.reactor.usage().backlogs, 1, "and not all is handled");
    let mut bytes = Vec::new();
    for _ in 0..100 {
        bytes.extend(peer.read_all());
        bed.turn();
    }
    let echoed: Vec<_> =
        messages(&frames(&bytes).0).into_iter().map(|(_, payload)| payload).collect();
    assert_eq!(echoed, sent);
    assert_eq!(bed.reactor.usage().backlogs, 0);
}

#[test]
fn budget_that_a_backlog_spends_to_the_last_message_is_not_drawn_on_again() {
    for messages_max in [1, 3, 4, 6] {
        let change = |settings: &mut crate::sim_bed::Settings| {
            settings.reactor.limits.turn_messages_max = messages_max;
        };
        let mut bed = Bed::new(change, echo);
        let peer = bed.open();
        // What is read first is a multiple of the budget, and more comes while it waits.
        peer.write_all(&message(TEXT, b"a").repeat(12));
        bed.turn();
        peer.write_all(&message(TEXT, b"b").repeat(12));
        let mut per_turn = Vec::new();
        for _ in 0..30 {
            let before = bed.heard(bed.latest()).len();
            bed.turn();
            per_turn.push(bed.heard(bed.latest()).len() - before);
        }
        assert_eq!(per_turn.iter().sum::<usize>(), 24 - messages_max as usize);
        assert!(per_turn.iter().all(|count| *count <= messages_max as usize), "{per_turn:?}");
    }
}

#[test]
fn on_drain_is_not_told_while_the_kernel_takes_nothing() {
    let mut bed = Bed::new(
        |_| {},
        |ctx, occasion| {
            if let Occasion::Message(_) = occasion {
                assert!(ctx.send_binary(&[7; 2000]).is_taken());
            }
        },
    );
    let peer = bed.open();
    peer.set_buffers(4 << 20, 1000);
    let drains = |bed: &Bed| {
        let heard = bed.heard(bed.latest());
        heard.iter().filter(|heard| **heard == Heard::Drain).count()
    };
    for _ in 0..5 {
        peer.write_all(&message(TEXT, b"go"));
        bed.turns(2);
    }
    assert_eq!(drains(&bed), 0, "nothing has drained");
    for _ in 0..20 {
        peer.read_all();
        bed.turn();
    }
    assert_eq!(drains(&bed), 1, "all has drained");
}

#[test]
fn t2_full_queue_fails_the_connection_with_1013_and_an_exact_prefix_arrives() {
    // "s" makes a connection the slow one, and any other message is sent on to it.
    let slow = Rc::new(RefCell::new(None));
    let taken = Rc::new(RefCell::new(Vec::new()));
    let dropped = Rc::new(RefCell::new(Vec::new()));
    let (slow_id, taken_by, dropped_for) = (slow.clone(), taken.clone(), dropped.clone());
    let mut bed = Bed::new(
        |_| {},
        move |ctx, occasion| {
            let Occasion::Message(message) = occasion else { return };
            if message.payload() == b"s" {
                *slow_id.borrow_mut() = Some(ctx.id());
            } else if let Some(id) = *slow_id.borrow() {
                match ctx.peer(id).send_binary(message.payload()) {
                    SendOutcome::Dropped(reason) => dropped_for.borrow_mut().push(reason),
                    _ => taken_by.borrow_mut().push(message.payload().to_vec()),
                }
            }
        },
    );
    let reader = bed.open();
    reader.set_buffers(1 << 20, 50_000);
    reader.write_all(&message(TEXT, b"s"));
    let talker = bed.open();
    for payload in numbered(300, 10_000) {
        talker.write_all(&message(BINARY, &payload));
        bed.turn();
        let queued = bed.reactor.usage().pinned_bytes;
        assert!(queued < (1 << 20) + 512 * KIB, "{queued} bytes pinned");
    }
    let id = slow.borrow().unwrap();
    let failed_at = bed.sim.elapsed();
    assert_eq!(dropped.borrow()[0], DropReason::Backpressure);
    assert!(dropped.borrow()[1..].iter().all(|reason| *reason == DropReason::Closing));
    assert!(taken.borrow().len() * 10_000 < (1 << 20) + 50_000 + 20_000);
    bed.run_for(Duration::from_secs(10));
    let (entry, summary) = bed.closed(id).unwrap();
    assert_eq!(entry.at - failed_at, Duration::from_secs(5));
    assert_eq!(summary.cause, CloseCause::Failed(Failure::Backpressure));
    assert_eq!(summary.code, CloseCode::TRY_AGAIN_LATER);
    let bytes = reader.handed_over();
    let (_, rest) = crate::sim_peer::split_head(&bytes).unwrap();
    let arrived = messages(&frames(rest).0);
    let taken = taken.borrow();
    assert!(!arrived.is_empty());
    for ((_, payload), taken) in arrived.iter().zip(taken.iter()) {
        assert_eq!(payload, taken);
    }
    assert_eq!(arrived.len() as u64 + summary.unsent_messages, taken.len() as u64);
    assert_eq!(bed.reactor.usage().open, 1, "the talker is unharmed");
}

#[test]
fn t2_slow_peer_that_wakes_up_in_time_sees_1013() {
    let mut bed = Bed::new(
        |_| {},
        |ctx, occasion| {
            if let Occasion::Message(_) = occasion {
                while ctx.send_binary(&[7; 10_000]).is_taken() {}
            }
        },
    );
    let peer = bed.open();
    peer.set_buffers(1 << 20, 64 * KIB);
    peer.write_all(&message(TEXT, b"go"));
    bed.turn();
    bed.run_for(Duration::from_secs(4));
    let mut bytes = Vec::new();
    for _ in 0..100 {
        bytes.extend(peer.read_all());
        bed.turn();
    }
    let (frames, used) = frames(&bytes);
    assert_eq!(used, bytes.len());
    assert_eq!(frames.last().and_then(Frame::close_code), Some(1013));
    assert_eq!(bed.summary(bed.latest()).unsent_bytes, 0);
    assert_eq!(peer.end_seen(), crate::sim_link::End::Fin);
}

#[test]
fn t3_peer_that_reads_one_byte_at_a_time_gets_everything_in_order() {
    let mut bed = Bed::echo();
    let peer = bed.open();
    peer.set_buffers(1 << 20, 3);
    let sent = numbered(50, 60);
    for payload in &sent {
        peer.write_all(&message(TEXT, payload));
    }
    let mut bytes = Vec::new();
    for _ in 0..8000 {
        bytes.extend(peer.read(1));
        bed.turn();
    }
    let echoed: Vec<_> =
        messages(&frames(&bytes).0).into_iter().map(|(_, payload)| payload).collect();
    assert_eq!(echoed, sent);
}

/// The most that `flooder` got between two messages of `neighbour`.
fn most_between(
    bed: &Bed,
    flooder: corewire::ConnectionId,
    neighbour: corewire::ConnectionId,
) -> usize {
    let (mut most, mut count, mut services) = (0, 0, 0);
    for entry in bed.log.borrow().iter() {
        let is_message = matches!(entry.heard, Heard::Text(_) | Heard::Binary(_));
        if entry.id == neighbour && is_message {
            (most, count, services) = (most.max(count), 0, services + 1);
        } else if entry.id == flooder && is_message {
            count += 1;
        }
    }
    assert!(services > 15, "the neighbour was served {services} times");
    most
}

#[test]
fn t4_between_two_services_of_a_ready_neighbour_a_flooder_gets_one_budget() {
    // Its heartbeat is due all the time, which is no reason for a second service.
    let heartbeat = Heartbeat { ping_every: Duration::from_millis(2), ..Heartbeat::default() };
    let mut bed = Bed::new(|settings| settings.config.heartbeat = Some(heartbeat), echo);
    bed.sim.0.borrow_mut().poll_cost = Duration::from_millis(1);
    let flooder = bed.open();
    let flooder_id = bed.latest();
    let neighbour = bed.open();
    let neighbour_id = bed.latest();
    let flood = message(TEXT, b"").repeat(20_000);
    for _ in 0..20 {
        flooder.write(&flood);
        neighbour.write_all(&message(TEXT, b"n"));
        bed.turn();
        flooder.read_all();
        let echoed = messages(&read_frames(&neighbour));
        assert_eq!(echoed.len(), 1, "answered in the turn of its arrival");
    }
    assert_eq!(most_between(&bed, flooder_id, neighbour_id), 1024);
}

#[test]
fn t4_who_is_told_of_now_comes_before_a_flooder_that_wants_more() {
    let mut bed = Bed::echo();
    let flooder = bed.open();
    let neighbour = bed.open();
    let neighbour_id = bed.latest();
    flooder.write(&message(TEXT, b"").repeat(20_000));
    bed.turn();
    for _ in 0..5 {
        neighbour.write_all(&message(TEXT, b"n"));
        flooder.read_all();
        let heard = bed.log.borrow().len();
        bed.turn();
        assert_eq!(bed.log.borrow()[heard].id, neighbour_id, "the first of its turn");
    }
}

#[test]
fn t4_flooder_of_tiny_messages_is_read_as_fast_as_it_is_handled() {
    let mut bed = Bed::new(|_| {}, |_, _| {});
    let flooder = bed.open();
    flooder.set_buffers(4 << 20, 4 << 20);
    let frame = message(TEXT, &[b'x'; 20]);
    let flood = frame.repeat(40_000);
    let budget_bytes = 1024 * frame.len();
    let (mut written, mut bytes, mut turns) = (0, 0, 0);
    for turn in 0..60 {
        written += flooder.write(&flood[written % frame.len()..]);
        let before = flooder.moved().received_bytes;
        bed.turn();
        let read = flooder.moved().received_bytes - before;
        // The first read knows nothing yet, and is worked off for ten turns.
        if turn > 10 {
            assert!(read <= 2 * budget_bytes, "{read} bytes in one turn");
            (bytes, turns) = (bytes + read, turns + 1);
        }
    }
    assert!(bytes / turns > budget_bytes * 9 / 10, "hardly a budget was left unused");
}

#[test]
fn t4_flooder_of_large_messages_gets_a_bounded_read_in_a_turn() {
    let mut bed =
        Bed::new(|settings| settings.config.limits.message_bytes_max = 8 << 20, |_, _| {});
    let flooder = bed.open();
    let flood = message(BINARY, &vec![1; 8 << 20]);
    flooder.set_buffers(4 << 20, 4 << 20);
    let mut most = 0;
    for _ in 0..5 {
        let mut bytes = flood.as_slice();
        while !bytes.is_empty() {
            bytes = &bytes[flooder.write(bytes)..];
            let before = flooder.moved().received_bytes;
            bed.turn();
            most = most.max(flooder.moved().received_bytes - before);
        }
    }
    assert!(most >= 1024 * KIB, "a read into its place may be as long as the constant says");
    // Short of spending the budget, and then one such read.
    assert!(most < 256 * KIB + 1024 * KIB + 256 * KIB, "{most} bytes in one turn");
}

#[test]
fn t4_message_begun_is_finished_before_others_begin_if_it_has_arrived() {
    let mut bed = Bed::new(|_| {}, |_, _| {});
    let peers = [bed.open(), bed.open()];
    for peer in &peers {
        peer.set_buffers(4 << 20, 4 << 20);
        peer.write_all(&message(BINARY, &vec![1; 1024 * KIB]));
    }
    bed.turn();
    let heard =
        bed.log.borrow().iter().filter(|entry| matches!(entry.heard, Heard::Binary(_))).count();
    assert_eq!(heard, 2, "both in one turn, though each is four budgets long");
    let retained = bed.reactor.usage().retained_bytes;
    assert!(retained < 2048 * KIB, "{retained} bytes: one block served both");
}

#[test]
fn f10_flood_of_empty_fragments_fails_with_1008_and_the_neighbour_is_served_each_turn() {
    let mut bed = Bed::echo();
    let neighbour = bed.open();
    let peer = bed.open();
    let id = bed.latest();
    let mut bytes = masked(BINARY, b"");
    bytes.extend(masked(CONTINUATION, b"").repeat(200_000));
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        rest = &rest[peer.write(&rest[..rest.len().min(300_000)])..];
        neighbour.write_all(&message(TEXT, b"n"));
        bed.turn();
        assert_eq!(read_frames(&neighbour), [Frame::new(TEXT, b"n")]);
    }
    assert_eq!(read_frames(&peer)[0].close_code(), Some(1008));
    assert_eq!(bed.summary(id).code, CloseCode::POLICY_VIOLATION);
    assert_eq!(bed.reactor.usage().assemblies, 0);
}

#[test]
fn f12_ping_is_answered_between_fragments_and_while_a_large_message_leaves() {
    let mut bed = Bed::echo();
    let peer = bed.open();
    peer.set_buffers(4 << 20, 1000);
    let large = vec![b'x'; 100_000];
    peer.write_all(&message(TEXT, &large));
    bed.turn();
    peer.write_all(&masked(TEXT, b"one "));
    peer.write_all(&message(PING, b"between"));
    peer.write_all(&masked(0x80 | CONTINUATION, b"message"));
    let mut bytes = Vec::new();
    for _ in 0..400 {
        bed.turn();
        bytes.extend(peer.read_all());
    }
    let expected =
        [Frame::new(TEXT, &large), Frame::new(PONG, b"between"), Frame::new(TEXT, b"one message")];
    assert!(frames(&bytes).0 == expected);
}

#[test]
fn f12_ten_pings_in_one_read_get_ten_pongs_in_order() {
    let mut bed = Bed::echo();
    let peer = bed.open();
    let payloads = numbered(10, 3);
    let pings: Vec<u8> = payloads.iter().flat_map(|payload| message(PING, payload)).collect();
    peer.write_all(&pings);
    bed.turn();
    let pongs: Vec<Frame> = payloads.iter().map(|payload| Frame::new(PONG, payload)).collect();
    assert_eq!(read_frames(&peer), pongs);
}

#[test]
fn f13_400_000_pings_of_a_peer_that_does_not_read_cost_bounded_memory() {
    let mut bed = Bed::echo();
    let peer = bed.open();
    peer.set_buffers(1 << 20, 64 * KIB);
    let mut most = 0;
    let payloads = numbered(400_000, 6);
    for batch in payloads.chunks(10_000) {
        let pings: Vec<u8> = batch.iter().flat_map(|payload| message(PING, payload)).collect();
        let mut rest = pings.as_slice();
        while !rest.is_empty() {
            rest = &rest[peer.write(rest)..];
            bed.turn();
            most = most.max(bed.reactor.usage().pinned_bytes);
        }
    }
    bed.turns(200);
    assert!(most < 2 << 20, "{most} bytes pinned");
    assert_eq!(bed.reactor.counters().pings_received, 400_000);
    let mut bytes = Vec::new();
    for _ in 0..20 {
        bytes.extend(peer.read_all());
        bed.turn();
    }
    let (pongs, used) = frames(&bytes);
    assert_eq!(used, bytes.len(), "nothing is torn");
    assert!(pongs.iter().all(|pong| pong.opcode == PONG));
    assert!(pongs.windows(2).all(|pair| pair[0].payload < pair[1].payload), "in order");
    assert_eq!(pongs.last().map(|pong| &pong.payload), payloads.last(), "the latest is answered");
}

#[test]
fn h24_health_check_is_answered_in_the_turn_of_its_arrival_during_a_flood() {
    let mut bed = Bed::echo();
    let flooders: Vec<_> = (0..20).map(|_| bed.open()).collect();
    let check = bed.sim.connect(bed.address);
    let flood = message(TEXT, b"x").repeat(20_000);
    for _ in 0..10 {
        for flooder in &flooders {
            flooder.write(&flood);
            flooder.read_all();
        }
        check.write_all(&plain_request("/healthz"));
        bed.turn();
        if bed.turn_count() > 41 {
            assert_eq!(answers(&check.read_all()), [(200, b"answer to /healthz".to_vec())]);
        } else {
            // Its first turn is the one in which it is accepted.
            bed.turn();
            assert_eq!(answers(&check.read_all()).len(), 1);
        }
    }
}
