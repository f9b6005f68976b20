//! Who is told goodbye: a close_notify stands behind every end in order, and behind no other.

use std::time::Duration;

use corewire::Message;
use rustls::{AlertDescription, ContentType};

use crate::desk;
use crate::sim_bed::{Bed, Occasion, echo};
use crate::sim_link::End;
use crate::sim_peer::{BINARY, Frame, PING, TEXT, message, plain_request};
use crate::tls_peer::{TlsPeer, VERSIONS, parties, record_bounds, tls_echo};
use crate::tls_records::record;

/// A peer behind its request of plain HTTP, and one behind its opening handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Http,
    Open,
}

fn peer_at(stage: Stage, bed: &mut Bed, client: &std::sync::Arc<rustls::ClientConfig>) -> TlsPeer {
    let mut peer = TlsPeer::connect(bed, client);
    match stage {
        Stage::Open => peer.upgrade(bed),
        Stage::Http => {
            peer.shake_hands(bed);
            peer.say(&plain_request("/"));
            peer.turns(bed, 3);
            assert!(peer.received.starts_with(b"HTTP/1.1 200 "));
        }
    }
    peer
}

type MakeEnd = fn(&mut Bed);

/// What makes an end of a connection on which nothing waits.
const ENDS: [(Stage, MakeEnd); 6] = [
    // No further request comes.
    (Stage::Http, |bed| bed.run_for(Duration::from_secs(11))),
    (Stage::Http, |bed| bed.reactor.handle().shutdown(Duration::from_secs(9)).unwrap()),
    (Stage::Http, |bed| bed.reactor.handle().shutdown(Duration::from_millis(1)).unwrap()),
    // The Close is not answered before the deadline of the drain.
    (Stage::Open, |bed| bed.reactor.handle().shutdown(Duration::from_millis(1)).unwrap()),
    // No pong comes.
    (Stage::Open, |bed| bed.run_for(Duration::from_secs(200))),
    (Stage::Open, |bed| bed.reactor.handle().abort(bed.latest()).unwrap()),
];

#[test]
fn every_end_on_which_nothing_waits_is_told_by_a_close_notify() {
    for version in VERSIONS {
        for (index, (stage, end)) in ENDS.into_iter().enumerate() {
            let (mut bed, client) = tls_echo(version);
            let mut peer = peer_at(stage, &mut bed, &client);
            end(&mut bed);
            bed.run_for(Duration::from_secs(1));
            peer.pull();
            assert!(peer.is_ended, "end {index}");
            assert_eq!((peer.failure.take(), peer.socket.end_seen()), (None, End::Fin));
            peer.socket.fin();
            bed.run_for(Duration::from_secs(6));
            bed.assert_empty();
        }
    }
}

#[test]
fn end_in_front_of_which_something_never_left_has_no_close_notify() {
    for version in VERSIONS {
        for (index, (_, end)) in ENDS.into_iter().enumerate().skip(3) {
            let (mut bed, client) = tls_echo(version);
            let mut peer = peer_at(Stage::Open, &mut bed, &client);
            peer.socket.set_buffers(1 << 20, 1000);
            peer.say(&message(BINARY, &[1; 5000]));
            peer.push();
            bed.turns(2);
            end(&mut bed);
            bed.run_for(Duration::from_secs(1));
            peer.pull();
            bed.run_for(Duration::from_secs(1));
            peer.pull();
            assert!(!peer.is_ended, "end {index}");
            assert_ne!(peer.socket.end_seen(), End::None, "end {index}");
            bed.assert_empty();
        }
    }
}

#[test]
fn handshake_that_takes_too_long_ends_without_a_word() {
    for version in VERSIONS {
        let (mut bed, client) = tls_echo(version);
        let mut peer = TlsPeer::connect(&bed, &client);
        peer.turns(&mut bed, 2);
        let said = peer.socket.handed_over().len();
        assert!(said > 0, "the hello was answered");
        bed.run_for(Duration::from_secs(11));
        assert_eq!(peer.socket.handed_over().len(), said);
        assert_ne!(peer.socket.end_seen(), End::None);
        bed.assert_empty();
    }
}

#[test]
fn reset_behind_a_close_notify_ends_a_deferred_request_at_once() {
    for version in VERSIONS {
        for with_reset in [true, false] {
            let (tls, client) = parties(version);
            let mut settings = desk::settings();
            settings.tls = Some(tls);
            let mut bed = desk::Bed::new(|_| {}, vec![settings], desk::later);
            let mut peer = TlsPeer::over(bed.connect(), &client, "example.com");
            let turns = |bed: &mut desk::Bed, peer: &mut TlsPeer| {
                for _ in 0..4 {
                    peer.push();
                    bed.turn();
                    peer.pull();
                }
            };
            turns(&mut bed, &mut peer);
            peer.say(&plain_request("/later"));
            turns(&mut bed, &mut peer);
            peer.tls.send_close_notify();
            turns(&mut bed, &mut peer);
            assert_eq!(bed.reactor.usage().sockets, 1, "half-closed, it waits for its answer");
            if with_reset {
                peer.socket.reset();
                bed.turns(2);
                assert_eq!(bed.reactor.usage().sockets, 0);
            } else {
                peer.socket.fin();
            }
            let ticket = bed.ticket();
            bed.decide(ticket, corewire::Decision::Respond(desk::ok("late")));
            assert_eq!(bed.missed(), u64::from(with_reset));
            peer.pull();
            assert_eq!(peer.received.ends_with(b"late"), !with_reset);
            assert_eq!(peer.is_ended, !with_reset);
            bed.turns(2);
            bed.assert_empty();
        }
    }
}

#[test]
fn alert_comes_behind_all_that_waits_in_front_of_it() {
    for version in VERSIONS {
        for is_slow in [true, false] {
            let (mut bed, client) = tls_echo(version);
            let mut peer = TlsPeer::open(&mut bed, &client);
            if is_slow {
                peer.socket.set_buffers(1 << 20, 1000);
            }
            peer.say(&message(BINARY, &[1; 10_000]));
            peer.push();
            bed.turn();
            if !is_slow {
                peer.pull();
                assert_eq!(peer.take_frames(), [Frame::new(BINARY, &[1; 10_000])]);
            }
            let mut bad = peer.records_of(&message(TEXT, b"bad"));
            bad[12] ^= 1;
            peer.socket.write_all(&bad);
            for _ in 0..30 {
                bed.run_for(Duration::from_millis(100));
                peer.pull_at_most(1000);
            }
            peer.pull();
            assert_eq!(peer.alert(), Some(AlertDescription::BadRecordMac), "{is_slow}");
            assert!(!peer.is_ended, "an alert is the last word");
            assert_eq!(peer.socket.end_seen(), End::Fin);
            peer.socket.fin();
            bed.run_for(Duration::from_secs(2));
            bed.assert_empty();
        }
    }
}

#[test]
fn alert_comes_behind_what_the_same_read_has_asked_for() {
    // A ClientHello and junk: the whole flight is to be sent, and then the alert.
    for version in VERSIONS {
        let (mut bed, client) = tls_echo(version);
        let mut peer = TlsPeer::connect(&bed, &client);
        let mut records = peer.outgoing();
        records.extend([23, 3, 3, 0, 5, 1, 2, 3, 4, 5]);
        peer.socket.write_all(&records);
        bed.turns(3);
        let handed_over = peer.socket.handed_over();
        let bounds = record_bounds(&handed_over);
        assert!(bounds.len() >= 3, "{bounds:?}");
        assert_eq!(handed_over[0], 22, "the answer to the hello");
        let last = &handed_over[bounds[bounds.len() - 2]..];
        // In TLS 1.3 the keys are there, so it is encrypted: two bytes, their type and a tag.
        let expected = if version == VERSIONS[0] { (21, 7) } else { (23, 5 + 2 + 1 + 16) };
        assert_eq!((last[0], last.len()), expected);
        assert_eq!(peer.socket.end_seen(), End::Fin);
        assert_eq!(bed.reactor.counters().tls_errors, 1);
    }
    // A renegotiation, which is answered by a warning, and a record that is not authentic.
    let (mut bed, client) = tls_echo(VERSIONS[0]);
    let mut peer = TlsPeer::open(&mut bed, &client);
    let already = peer.socket.handed_over().len();
    let hello = TlsPeer::connect(&bed, &client).outgoing();
    let mut records = record(&mut peer, ContentType::Handshake, &hello[5..]);
    let bad_at = records.len() + 12;
    records.extend(peer.records_of(&message(TEXT, b"bad")));
    records[bad_at] ^= 1;
    peer.socket.write_all(&records);
    bed.turns(3);
    assert_eq!(record_bounds(&peer.socket.handed_over()[already..]).len(), 3, "two alerts");
    peer.pull();
    assert_eq!(peer.alert(), Some(AlertDescription::BadRecordMac));
}

#[test]
fn refused_pong_has_no_goodbye_behind_it() {
    for version in VERSIONS {
        let (mut bed, client) = tls_echo(version);
        let mut peer = TlsPeer::open(&mut bed, &client);
        peer.socket.set_buffers(1 << 20, 10);
        peer.say(&message(PING, b"a ping that is answered"));
        peer.push();
        bed.turns(2);
        bed.reactor.handle().abort(bed.latest()).unwrap();
        bed.turns(2);
        peer.pull();
        assert!(!peer.is_ended);
        bed.assert_empty();
    }
}

/// An echo that aborts when it is told to.
fn aborting(ctx: &mut corewire::Context<'_, ()>, occasion: Occasion<'_>) {
    match occasion {
        Occasion::Message(Message::Text(_)) => ctx.here().abort(),
        other => echo(ctx, other),
    }
}

#[test]
fn application_that_aborts_says_goodbye_to_whom_it_owes_nothing() {
    for version in VERSIONS {
        let (tls, client) = parties(version);
        let mut bed = Bed::new(|settings| settings.tls = Some(tls), aborting);
        let mut peer = TlsPeer::open(&mut bed, &client);
        peer.say(&message(TEXT, b"go"));
        peer.turns(&mut bed, 2);
        assert!(peer.is_ended);
        assert_eq!(peer.socket.end_seen(), End::Fin);
        bed.assert_empty();
    }
}

#[test]
fn abort_in_front_of_what_is_queued_has_no_goodbye_wherever_the_kernel_stands() {
    for version in VERSIONS {
        let mut arrived = 0;
        for bytes in (950..1150).step_by(10) {
            let (tls, client) = parties(version);
            let mut bed = Bed::new(|settings| settings.tls = Some(tls), aborting);
            let mut peer = TlsPeer::open(&mut bed, &client);
            peer.socket.set_buffers(1 << 20, 1000);
            for message in [message(BINARY, &vec![1; bytes]), message(BINARY, b"behind it")] {
                peer.say(&message);
                peer.push();
                bed.turn();
            }
            // So little room that nobody is told of it; the next read has the rest of the record
            // leave all the same.
            peer.pull_at_most(200);
            peer.say(&message(TEXT, b"abort"));
            peer.push();
            bed.turns(2);
            peer.pull();
            assert!(!peer.is_ended || peer.take_frames().len() == 2, "{bytes}");
            arrived += usize::from(!peer.is_ended && !peer.received.is_empty());
            bed.assert_empty();
        }
        assert!(arrived > 5, "a first message whose record had to wait: {arrived}");
    }
}
