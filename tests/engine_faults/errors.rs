//! Errors of the network's calls (rows T7, T8, T9, T12).

use std::time::Duration;

use corewire::{CloseCause, CloseCode};

use crate::sim_bed::{Bed, Heard, read_frames};
use crate::sim_errno::{
    EAGAIN, ECONNABORTED, ECONNRESET, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSPC, EPIPE,
    EPROTO, ETIMEDOUT,
};
use crate::sim_link::End;
use crate::sim_net::SimPeer;
use crate::sim_peer::{Frame, TEXT, message, messages, plain_request, upgrade_request};
use crate::sim_world::Call;

fn assert_echoes(bed: &mut Bed, peer: &SimPeer, text: &str) {
    peer.write_all(&message(TEXT, text.as_bytes()));
    bed.turn();
    assert_eq!(read_frames(peer), [Frame::new(TEXT, text.as_bytes())]);
}

#[test]
fn t7_short_calls_and_calls_that_would_block_are_invisible() {
    let mut bed = Bed::echo();
    bed.sim.0.borrow_mut().faults = crate::sim_world::Faults {
        short_reads: 400,
        short_writes: 400,
        blocked_reads: 300,
        blocked_writes: 300,
        partial_polls: 300,
        ..Default::default()
    };
    let peer = bed.sim.connect(bed.address);
    peer.write_all(&upgrade_request("/", ""));
    let sent: Vec<Vec<u8>> = (0..200_usize)
        .map(|at| (0..at * at % 3000).map(|byte| b'a' + (byte % 26) as u8).collect())
        .collect();
    for payload in &sent {
        peer.write_all(&message(TEXT, payload));
    }
    bed.run_for(Duration::from_secs(20));
    let answer = peer.read_all();
    let (_, rest) = crate::sim_peer::split_head(&answer).unwrap();
    let (frames, used) = crate::sim_peer::frames(rest);
    assert_eq!(used, rest.len());
    let echoed: Vec<Vec<u8>> = messages(&frames).into_iter().map(|(_, payload)| payload).collect();
    assert!(echoed == sent, "{} of {} came back", echoed.len(), sent.len());
}

#[test]
fn t7_interrupted_calls_are_tried_again_at_once() {
    const TIMES: usize = 5;
    let mut bed = Bed::echo();
    bed.sim.fail(Call::Accept, &[EINTR; TIMES]);
    let peer = bed.open();
    // Read into the receive buffer, read into its final place, and written.
    let texts = [vec![b'a'; 5], vec![b'b'; 300_000]];
    for text in &texts {
        let bytes = message(TEXT, text);
        let (begin, rest) = bytes.split_at(bytes.len() / 3);
        peer.write_all(begin);
        bed.sim.fail(Call::Receive, &[EINTR; TIMES]);
        bed.turn();
        peer.write_all(rest);
        bed.sim.fail(Call::Receive, &[EINTR; TIMES]);
        bed.sim.fail(Call::Send, &[EINTR; TIMES]);
        bed.turn();
        assert_eq!(read_frames(&peer), [Frame::new(TEXT, text)], "within the turn");
    }
    let hits = |call| bed.sim.hits(call, EINTR) as usize;
    assert_eq!(Call::ALL.map(hits), [TIMES, 0, 4 * TIMES, 2 * TIMES, 0, 0]);
    let counters = bed.reactor.counters();
    let errors = (counters.read_errors, counters.write_errors, counters.accept_pauses);
    assert_eq!(errors, (0, 0, 0));
}

#[test]
fn t7_interrupted_calls_in_the_handshake_are_tried_again_at_once() {
    for request in [upgrade_request("/", ""), plain_request("/x"), b"nonsense\r\n\r\n".to_vec()] {
        let mut bed = Bed::echo();
        let peer = bed.sim.connect(bed.address);
        bed.turn();
        peer.write_all(&request);
        bed.sim.fail(Call::Receive, &[EINTR; 5]);
        bed.sim.fail(Call::Send, &[EINTR; 5]);
        bed.turn();
        assert!(peer.read_all().starts_with(b"HTTP/1.1 "), "{}", request.escape_ascii());
        assert_eq!(bed.sim.hits(Call::Receive, EINTR) + bed.sim.hits(Call::Send, EINTR), 10);
        assert_eq!(bed.reactor.usage().sockets, 1);
    }
}

#[test]
fn t8_failed_read_or_write_ends_that_connection_only() {
    for (call, errno) in [
        (Call::Receive, ECONNRESET),
        (Call::Receive, ETIMEDOUT),
        (Call::Receive, ENOBUFS),
        (Call::Receive, ENOMEM),
        (Call::Receive, EPIPE),
        (Call::Send, ECONNRESET),
        (Call::Send, EPIPE),
        (Call::Send, ENOBUFS),
        (Call::Send, ENOMEM),
        (Call::Send, ETIMEDOUT),
    ] {
        let mut bed = Bed::echo();
        let neighbour = bed.open();
        let peer = bed.open();
        let id = bed.latest();
        peer.write_all(&message(TEXT, b"hello"));
        bed.sim.fail(call, &[errno]);
        bed.turn();
        assert_eq!(bed.sim.hits(call, errno), 1, "{call:?} {errno}");
        let summary = bed.summary(id);
        assert_eq!(summary.code, CloseCode::ABNORMAL, "{call:?} {errno}");
        let kind = std::io::Error::from_raw_os_error(errno).kind();
        assert_eq!(summary.cause, CloseCause::Transport(kind), "{call:?} {errno}");
        let unsent = u64::from(call == Call::Send);
        assert_eq!(summary.unsent_messages, unsent, "{call:?} {errno}");
        let counters = bed.reactor.counters();
        assert_eq!((counters.read_errors, counters.write_errors), (1 - unsent, unsent));
        assert_echoes(&mut bed, &neighbour, "unharmed");
        neighbour.reset();
        bed.turns(2);
        bed.assert_empty();
    }
}

#[test]
fn t8_failed_call_in_the_handshake_ends_that_connection_only() {
    for (call, errno) in [(Call::Receive, ECONNRESET), (Call::Send, EPIPE), (Call::Send, ENOBUFS)] {
        for path in ["/", "/plain", "/refuse"] {
            let mut bed = Bed::echo();
            let neighbour = bed.open();
            let peer = bed.sim.connect(bed.address);
            bed.turn();
            peer.write_all(&upgrade_request(path, ""));
            bed.sim.fail(call, &[errno]);
            bed.turns(3);
            assert_eq!(bed.sim.hits(call, errno), 1, "{call:?} {errno}");
            assert_echoes(&mut bed, &neighbour, "unharmed");
            neighbour.reset();
            bed.turns(2);
            bed.assert_empty();
        }
    }
}

#[test]
fn t9_accepting_is_tried_once_per_pause_while_descriptors_are_out() {
    let mut bed = Bed::echo();
    let neighbour = bed.open();
    let start = bed.sim.elapsed();
    let before = bed.sim.tries(Call::Accept);
    bed.sim.fail(Call::Accept, &[EMFILE; 6]);
    let late = bed.sim.connect(bed.address);
    late.write_all(&upgrade_request("/", ""));
    // Tries at 0, 100, 300, 700, 1,500, 2,500 and, with success, 3,500 ms.
    let mut tried_at = Vec::new();
    let mut seen = before;
    while tried_at.len() < 7 {
        let tries = bed.sim.tries(Call::Accept);
        bed.run_for(Duration::from_millis(1));
        if bed.sim.tries(Call::Accept) > tries {
            tried_at.push((bed.sim.elapsed() - start).as_millis().saturating_sub(1));
            seen = bed.sim.tries(Call::Accept);
        }
        if tried_at.len() == 3 {
            assert_echoes(&mut bed, &neighbour, "unharmed");
        }
        assert!(bed.sim.elapsed() < start + Duration::from_secs(10), "{tried_at:?}");
    }
    // The last look finds the one who waited, and then nobody.
    assert_eq!(seen - before, 8);
    for (tried, expected) in tried_at.iter().zip([0, 100, 300, 700, 1500, 2500, 3500]) {
        assert!(tried.abs_diff(expected) <= 8, "{tried_at:?}");
    }
    assert_eq!(bed.reactor.counters().accept_pauses, 6);
    bed.turns(3);
    assert_eq!(bed.reactor.usage().open, 2);
    // The next shortage begins with a short rest again.
    bed.sim.fail(Call::Accept, &[ENFILE]);
    let last = bed.sim.connect(bed.address);
    bed.run_for(Duration::from_millis(102));
    last.write_all(&upgrade_request("/", ""));
    bed.turns(2);
    assert_eq!(bed.reactor.usage().open, 3);
}

#[test]
fn t12_every_error_of_accept_costs_a_pause_or_that_one_connection() {
    for errno in [EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSPC, ECONNABORTED, EPROTO, EAGAIN] {
        let mut bed = Bed::echo();
        let neighbour = bed.open();
        bed.sim.fail(Call::Accept, &[errno]);
        let first = bed.sim.connect(bed.address);
        let second = bed.sim.connect(bed.address);
        bed.turn();
        assert_eq!(bed.sim.hits(Call::Accept, errno), 1);
        assert_echoes(&mut bed, &neighbour, "unharmed");
        if errno == EAGAIN {
            // A kernel that says so tells again when somebody waits.
            bed.sim.connect(bed.address);
        }
        bed.run_for(Duration::from_millis(200));
        let is_lost = [ECONNABORTED, EPROTO].contains(&errno);
        assert_eq!(first.end_seen() == End::Reset, is_lost, "{errno}");
        bed.upgrade(&second);
        assert_echoes(&mut bed, &second, "accepted");
    }
}

#[test]
fn t12_socket_that_cannot_be_registered_is_closed_and_harms_nobody() {
    for errno in [ENOMEM, ENOSPC, EPROTO] {
        let mut bed = Bed::echo();
        let neighbour = bed.open();
        bed.sim.fail(Call::Register, &[errno]);
        let first = bed.sim.connect(bed.address);
        let second = bed.sim.connect(bed.address);
        bed.run_for(Duration::from_millis(200));
        assert_eq!(bed.sim.hits(Call::Register, errno), 1);
        assert_eq!(first.end_seen(), End::Reset);
        bed.upgrade(&second);
        assert_echoes(&mut bed, &second, "accepted");
        assert_echoes(&mut bed, &neighbour, "unharmed");
        assert_eq!(bed.reactor.usage().sockets, 2);
    }
}

#[test]
fn t12_listener_that_only_fails_does_not_spin() {
    let mut bed =
        Bed::new(|settings| settings.reactor.limits.accepts_per_turn = 8, crate::sim_bed::echo);
    bed.sim.0.borrow_mut().faults.failed_accepts = 1000;
    for _ in 0..64 {
        bed.sim.connect(bed.address);
    }
    bed.run_for(Duration::from_secs(10));
    assert!(bed.sim.tries(Call::Accept) < 200, "{}", bed.sim.tries(Call::Accept));
}

#[test]
fn error_of_a_write_inside_a_callback_is_acted_on_after_it() {
    let mut bed = Bed::new(
        |_| {},
        |ctx, occasion| {
            if let crate::sim_bed::Occasion::Message(_) = occasion {
                // Large payloads are written at once; the error comes here.
                let _ = ctx.send_binary(&vec![1; 100_000]);
                assert!(ctx.here().is_open(), "the callback goes on undisturbed");
            }
        },
    );
    let peer = bed.open();
    bed.sim.fail(Call::Send, &[EPIPE]);
    peer.write_all(&message(TEXT, b"a"));
    peer.write_all(&message(TEXT, b"b"));
    bed.turn();
    let heard = bed.heard(bed.latest());
    assert_eq!(heard[..2], [Heard::Text("a".into()), Heard::Text("b".into())]);
    let summary = bed.summary(bed.latest());
    assert_eq!(summary.cause, CloseCause::Transport(std::io::ErrorKind::BrokenPipe));
    assert_eq!(summary.unsent_messages, 2);
    bed.turn();
    bed.assert_empty();
}

#[test]
fn socket_closed_in_the_same_turn_is_not_read_again_under_its_reused_key() {
    let mut bed = Bed::echo();
    let victim = bed.open();
    victim.set_buffers(4 << 20, 1000);
    victim.write_all(&message(TEXT, &[b'x'; 3000]));
    bed.turn();
    // In one poll: room for output, whose write fails; input; and a new connection, which gets the
    // key of the closed socket.
    victim.write_all(&message(TEXT, b"more"));
    victim.read_all();
    let next = bed.sim.connect(bed.address);
    next.write_all(&upgrade_request("/", ""));
    bed.sim.fail(Call::Send, &[EPIPE]);
    bed.turns(3);
    let answer = next.read_all();
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{:?}", String::from_utf8_lossy(&answer));
}
