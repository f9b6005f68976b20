//! How connections end: close_notify both ways, its absence, resets.

use std::time::Duration;

use corewire::{CloseCause, CloseCode};

use crate::sim_bed::{Bed, Heard, Occasion, echo};
use crate::sim_link::End;
use crate::sim_peer::{
    BINARY, Frame, TEXT, answers, close, message, plain_request, split_head, upgrade_request,
};
use crate::tls_peer::{TlsPeer, VERSIONS, parties, tls_echo};

/// An echo that closes when it is told to.
fn closing_echo(ctx: &mut corewire::Context<'_, ()>, occasion: Occasion<'_>) {
    match occasion {
        Occasion::Message(message) if message.payload() == b"close" => {
            ctx.close(CloseCode::NORMAL, "").unwrap();
        }
        other => echo(ctx, other),
    }
}

#[test]
fn close_notify_goes_out_behind_the_closing_handshake_whoever_began_it() {
    for version in VERSIONS {
        for peer_begins in [true, false] {
            let (tls, client) = parties(version);
            let mut bed = Bed::new(|settings| settings.tls = Some(tls), closing_echo);
            let mut peer = TlsPeer::open(&mut bed, &client);
            if !peer_begins {
                peer.say(&message(TEXT, b"close"));
                peer.turns(&mut bed, 2);
                assert_eq!(peer.take_frames()[0].close_code(), Some(1000));
            }
            peer.say(&close(1000));
            peer.turns(&mut bed, 2);
            assert_eq!(peer.take_frames().len(), usize::from(peer_begins));
            assert!(peer.is_ended && peer.failure.is_none());
            assert_eq!(peer.socket.end_seen(), End::Fin);
            assert!(bed.summary(bed.latest()).is_clean());
            peer.tls.send_close_notify();
            peer.push();
            peer.socket.fin();
            bed.turns(2);
            assert_eq!(peer.socket.end_seen(), End::Fin);
            assert_eq!(bed.reactor.counters().tls_truncations, 0);
            bed.assert_empty();
        }
    }
}

#[test]
fn close_and_close_notify_in_one_event_are_answered_by_both() {
    for version in VERSIONS {
        let (mut bed, client) = tls_echo(version);
        let mut peer = TlsPeer::open(&mut bed, &client);
        peer.say(&message(TEXT, b"last"));
        peer.say(&close(1000));
        peer.tls.send_close_notify();
        peer.push();
        peer.socket.fin();
        bed.turns(2);
        peer.pull();
        assert_eq!(peer.take_frames()[0], Frame::new(TEXT, b"last"));
        assert!(peer.is_ended);
        assert!(bed.summary(bed.latest()).is_clean());
        bed.assert_empty();
    }
}

#[test]
fn close_notify_goes_out_behind_refusals_and_answers_of_plain_http() {
    let last = b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_vec();
    let scripts = [
        (upgrade_request("/refuse", ""), 403),
        (plain_request("/none"), 426),
        (b"junk\r\n\r\n".to_vec(), 400),
        (last, 200),
    ];
    for version in VERSIONS {
        for (script, status) in &scripts {
            let (mut bed, client) = tls_echo(version);
            let mut peer = TlsPeer::connect(&bed, &client);
            peer.shake_hands(&mut bed);
            peer.say(script);
            peer.turns(&mut bed, 2);
            assert_eq!(answers(&peer.received)[0].0, *status);
            assert!(peer.is_ended, "{status}");
            assert_eq!(peer.socket.end_seen(), End::Fin);
            peer.socket.fin();
            bed.turns(2);
            bed.assert_empty();
        }
    }
}

#[test]
fn end_of_stream_without_close_notify_is_told_as_cut_off() {
    for version in VERSIONS {
        for torn in [true, false] {
            let (mut bed, client) = tls_echo(version);
            let mut peer = TlsPeer::open(&mut bed, &client);
            if torn {
                let records = peer.records_of(&message(TEXT, b"torn"));
                peer.socket.write_all(&records[..10]);
            }
            peer.socket.fin();
            bed.turns(2);
            let summary = bed.summary(bed.latest());
            let cause = CloseCause::Transport(std::io::ErrorKind::UnexpectedEof);
            assert_eq!((summary.cause, summary.code), (cause, CloseCode::ABNORMAL));
            let counters = bed.reactor.counters();
            assert_eq!((counters.tls_truncations, counters.tls_errors), (1, 0));
            // There is nothing to answer to somebody who was cut off.
            peer.pull();
            assert!(!peer.is_ended);
            bed.assert_empty();
        }
    }
}

#[test]
fn end_of_stream_inside_the_tls_handshake_is_no_truncation() {
    for version in VERSIONS {
        let (mut bed, client) = tls_echo(version);
        let mut peer = TlsPeer::connect(&bed, &client);
        peer.push();
        bed.turn();
        peer.socket.fin();
        bed.turns(2);
        assert_eq!(bed.reactor.counters().tls_truncations, 0);
        bed.assert_empty();
    }
}

#[test]
fn close_notify_without_a_close_is_the_end_of_the_stream_and_is_answered() {
    for version in VERSIONS {
        let (mut bed, client) = tls_echo(version);
        let mut peer = TlsPeer::open(&mut bed, &client);
        peer.tls.send_close_notify();
        peer.turns(&mut bed, 2);
        let summary = bed.summary(bed.latest());
        assert_eq!((summary.cause, summary.code), (CloseCause::EndOfStream, CloseCode::ABNORMAL));
        assert!(peer.is_ended, "the answer to a close_notify is one");
        assert_eq!(peer.socket.end_seen(), End::Fin);
        assert_eq!(bed.reactor.counters().tls_truncations, 0);
        peer.socket.fin();
        bed.turns(2);
        bed.assert_empty();
    }
}

#[test]
fn half_closed_peer_still_gets_the_answer_to_its_request() {
    for version in VERSIONS {
        for with_fin in [true, false] {
            let (mut bed, client) = tls_echo(version);
            let mut peer = TlsPeer::connect(&bed, &client);
            peer.socket.set_buffers(1 << 20, 5000);
            peer.shake_hands(&mut bed);
            peer.say(&plain_request("/large"));
            peer.tls.send_close_notify();
            peer.push();
            if with_fin {
                peer.socket.fin();
            }
            for _ in 0..200 {
                bed.turn();
                peer.pull_at_most(2000);
            }
            let (head, body) = split_head(&peer.received).unwrap();
            assert!(head.starts_with("HTTP/1.1 200"));
            assert_eq!(body.len(), 100_000);
            assert!(peer.is_ended, "with FIN: {with_fin}");
            assert_eq!(peer.socket.end_seen(), End::Fin);
            peer.socket.fin();
            bed.run_for(Duration::from_secs(2));
            bed.assert_empty();
        }
    }
}

#[test]
fn half_closed_peer_still_gets_what_was_queued() {
    for version in VERSIONS {
        // Of many sizes, so that the kernel's buffer is full at every place of the last record.
        for to_peer_bytes in 900..960 {
            let (mut bed, client) = tls_echo(version);
            let mut peer = TlsPeer::open(&mut bed, &client);
            peer.socket.set_buffers(1 << 20, to_peer_bytes);
            peer.say(&message(BINARY, &[7; 20_000]));
            peer.tls.send_close_notify();
            peer.push();
            peer.socket.fin();
            for _ in 0..100 {
                bed.turn();
                peer.pull_at_most(1000);
            }
            assert_eq!(peer.take_frames(), [Frame::new(BINARY, &[7; 20_000])]);
            assert!(peer.is_ended, "{to_peer_bytes}");
            let summary = bed.summary(bed.latest());
            assert_eq!((summary.cause, summary.unsent_bytes), (CloseCause::EndOfStream, 0));
            bed.run_for(Duration::from_secs(2));
            bed.assert_empty();
        }
    }
}

#[test]
fn close_notify_that_the_kernel_refuses_arrives_later() {
    for version in VERSIONS {
        // The kernel takes the Close and so many bytes of the close_notify behind it.
        for taken_bytes in 0..31 {
            let (mut bed, client) = tls_echo(version);
            let mut peer = TlsPeer::open(&mut bed, &client);
            peer.say(&close(1000));
            peer.tls.send_close_notify();
            peer.push();
            peer.socket.fin();
            let close_record_bytes = if version == VERSIONS[0] { 4 + 29 } else { 4 + 22 };
            peer.socket.set_buffers(1 << 20, close_record_bytes + taken_bytes);
            bed.turns(2);
            peer.pull();
            bed.run_for(Duration::from_millis(100));
            peer.pull();
            assert!(peer.is_ended, "{taken_bytes}");
            assert_eq!(peer.socket.end_seen(), End::Fin);
            bed.run_for(Duration::from_secs(2));
            bed.assert_empty();
        }
    }
}

#[test]
fn bad_record_behind_our_goodbye_is_thrown_away() {
    for version in VERSIONS {
        let (mut bed, client) = tls_echo(version);
        let mut peer = TlsPeer::open(&mut bed, &client);
        peer.say(&close(1000));
        peer.turns(&mut bed, 2);
        assert!(peer.is_ended);
        let mut records = peer.records_of(&message(TEXT, b"bad"));
        records[12] ^= 1;
        peer.socket.write_all(&records);
        bed.turns(2);
        assert_eq!(peer.socket.end_seen(), End::Fin);
        assert_eq!(bed.reactor.counters().tls_errors, 0);
        bed.run_for(Duration::from_secs(2));
        bed.assert_empty();
    }
}

#[test]
fn reset_at_any_byte_ends_once_and_leaks_nothing() {
    for version in VERSIONS {
        let mut at = 0;
        loop {
            let (mut bed, client) = tls_echo(version);
            let mut peer = TlsPeer::connect(&bed, &client);
            let mut left = at;
            let mut is_whole = true;
            let mut said = 0;
            for _ in 0..8 {
                if !peer.tls.is_handshaking() && said < 3 {
                    said += 1;
                    match said {
                        1 => peer.say(&upgrade_request("/", "")),
                        2 => peer.say(&message(TEXT, b"whole")),
                        _ => peer.say(&close(1000)),
                    }
                }
                let records = peer.outgoing();
                let taken = records.len().min(left);
                peer.socket.write_all(&records[..taken]);
                left -= taken;
                bed.turn();
                peer.pull();
                if taken < records.len() {
                    is_whole = false;
                    break;
                }
            }
            peer.socket.reset();
            bed.turns(3);
            bed.assert_empty();
            let log = bed.log.borrow();
            let count =
                |heard: fn(&Heard) -> bool| log.iter().filter(|entry| heard(&entry.heard)).count();
            let opened = count(|heard| *heard == Heard::Open);
            assert_eq!(opened, count(|heard| matches!(heard, Heard::Close(_))), "{at}");
            if is_whole {
                break;
            }
            at += 1;
        }
        assert!(at > 400, "{at}");
    }
}
