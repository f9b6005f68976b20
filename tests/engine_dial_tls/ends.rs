//! How it ends, from either side, at any point.

use std::cell::Cell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use corewire::{CloseCause, CloseCode, CloseSummary, ConnectionId, DialError, DialPhase};
use rustls::{AlertDescription, ContentType, Error};

use crate::bed::{Server, bed, tls_error};
use crate::client_bed::{Bed, Heard};
use crate::naive::Frame;
use crate::sim_errno::EPIPE;
use crate::sim_link::End;
use crate::sim_world::Call;
use crate::tls_peer::VERSIONS;
use crate::tls_records::record;

#[test]
fn silence_and_dripping_end_with_the_phase() {
    let timeout = Duration::from_secs(4);
    for drips in [false, true] {
        let (mut bed, config) = bed(VERSIONS[0], |settings| settings.dial.timeouts.tls = timeout);
        let (id, mut server) = Server::dial(&mut bed, &config);
        bed.turn();
        server.tls.pull();
        let flight = server.tls.outgoing();
        for byte in flight.iter().take(80) {
            if drips && bed.reactor.usage().sockets > 0 {
                server.tls.socket.write_all(&[*byte]);
            }
            bed.run_for(Duration::from_millis(100));
        }
        let failure = bed.failure(id);
        assert!(matches!(failure.error, DialError::TimedOut(DialPhase::Tls)), "{failure:?}");
        let late = failure.at - timeout;
        assert!(late <= Duration::from_millis(2), "{failure:?}");
        bed.assert_empty();
    }
}

/// Takes a dial so far that `pieces` of the server's first flight have come.
fn amid(bed: &mut Bed, server: &mut Server, pieces: usize) {
    bed.turn();
    server.tls.pull();
    let flight = server.tls.outgoing();
    server.tls.socket.write_all(&flight[..flight.len() * pieces / 4]);
    bed.turn();
}

#[test]
fn end_of_the_stream_amid_the_handshake_is_told_as_its() {
    for version in VERSIONS {
        for pieces in 0..4 {
            for (end, expected) in
                [(End::Fin, ErrorKind::UnexpectedEof), (End::Reset, ErrorKind::ConnectionReset)]
            {
                let (mut bed, config) = bed(version, |_| {});
                let (id, mut server) = Server::dial(&mut bed, &config);
                amid(&mut bed, &mut server, pieces);
                match end {
                    End::Fin => server.tls.socket.fin(),
                    End::Reset | End::None => server.tls.socket.reset(),
                }
                bed.turns(2);
                let DialError::Io { phase, error } = &bed.failure(id).error else { panic!() };
                assert_eq!((*phase, error.kind()), (DialPhase::Tls, expected), "{pieces}");
                assert_eq!(bed.reactor.counters().tls_truncations, 0);
                bed.assert_empty();
            }
        }
    }
}

// An alert, fatal, in the clear: handshake_failure (RFC 8446 §6.2).
const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];

#[test]
fn alert_is_told_although_what_tls_has_to_say_finds_nobody() {
    for server_says_more in [false, true] {
        let (mut bed, config) = bed(VERSIONS[0], |_| {});
        let (id, mut server) = Server::dial(&mut bed, &config);
        let mut flight = Vec::new();
        if server_says_more {
            bed.turn();
            server.tls.pull();
            flight = server.tls.outgoing();
            // The alert comes by another read.
            bed.sim.shorten(Call::Receive, &[flight.len()]);
        }
        flight.extend(ALERT);
        server.tls.socket.write_all(&flight);
        bed.sim.fail(Call::Send, &[EPIPE]);
        bed.turns(3);
        let error = tls_error(&bed.failure(id).error);
        assert_eq!(*error, Error::AlertReceived(AlertDescription::HandshakeFailure));
        bed.assert_empty();
    }
}

#[test]
fn nobody_who_says_nothing_is_told_as_what_it_is() {
    let (mut bed, config) = bed(VERSIONS[0], |_| {});
    let (id, _server) = Server::dial(&mut bed, &config);
    bed.sim.fail(Call::Send, &[EPIPE]);
    bed.turns(3);
    let DialError::Io { phase, error } = &bed.failure(id).error else { panic!() };
    // By the read that follows the write.
    assert_eq!((*phase, error.kind()), (DialPhase::Tls, ErrorKind::ConnectionReset));
    bed.assert_empty();
}

#[test]
fn alert_behind_the_handshake_is_told_although_the_request_finds_nobody() {
    for version in VERSIONS {
        let (mut bed, config) = bed(version, |_| {});
        let (id, mut server) = Server::dial(&mut bed, &config);
        // The request is still on its way when the handshake is over.
        server.tls.socket.set_buffers(1 << 20, 1);
        while server.tls.tls.is_handshaking() {
            server.turns(&mut bed, 1);
        }
        server.tls.push();
        let alert = record(&mut server.tls, ContentType::Alert, &[2, 49]);
        server.tls.socket.write_all(&alert);
        server.tls.socket.reset();
        bed.turns(3);
        let error = tls_error(&bed.failure(id).error);
        assert_eq!(*error, Error::AlertReceived(AlertDescription::AccessDenied));
        bed.assert_empty();
    }
}

#[test]
fn request_that_finds_nobody_is_told_in_the_same_turn() {
    let (mut bed, config) = bed(VERSIONS[0], |_| {});
    let (id, mut server) = Server::dial(&mut bed, &config);
    while server.tls.tls.is_handshaking() {
        server.turns(&mut bed, 1);
    }
    // Its last word leads to the request.
    server.tls.push();
    bed.sim.fail(Call::Send, &[EPIPE]);
    bed.turn();
    let DialError::Io { phase, .. } = &bed.failure(id).error else { panic!() };
    assert_eq!(*phase, DialPhase::Upgrade);
    bed.assert_empty();
}

#[test]
fn giving_up_amid_the_handshake_is_told_and_leaves_nothing() {
    for version in VERSIONS {
        for pieces in 0..4 {
            let victim = Rc::new(Cell::new(None::<ConnectionId>));
            let given = victim.clone();
            let (mut bed, config) = bed(version, |settings| {
                settings.act = Box::new(move |ctx, heard| {
                    if let (Heard::Text(_), Some(id)) = (heard, given.get()) {
                        ctx.give_up(id);
                    }
                });
            });
            let (_, mut other) = Server::open(&mut bed, &config);
            let tls_bytes = bed.reactor.usage().tls_bytes;
            let (id, mut server) = Server::dial(&mut bed, &config);
            amid(&mut bed, &mut server, pieces);
            victim.set(Some(id));
            other.tls.say(&Frame::text("enough").encode());
            other.turns(&mut bed, 2);
            assert!(matches!(bed.failure(id).error, DialError::Aborted));
            assert_ne!(server.tls.socket.end_seen(), End::None);
            let usage = bed.reactor.usage();
            assert_eq!((usage.sockets, usage.tls_bytes), (1, tls_bytes));
        }
    }
}

#[test]
fn shutdown_amid_the_handshake_ends_it() {
    for pieces in 0..4 {
        let (mut bed, config) = bed(VERSIONS[1], |_| {});
        let (id, mut server) = Server::dial(&mut bed, &config);
        amid(&mut bed, &mut server, pieces);
        bed.reactor.handle().shutdown(Duration::from_secs(5)).unwrap();
        bed.turns(2);
        assert!(matches!(bed.failure(id).error, DialError::NoRoom));
        assert!(bed.reactor.is_finished());
        bed.assert_empty();
    }
}

fn summary(bed: &mut Bed, id: ConnectionId) -> CloseSummary {
    match bed.heard(id).pop() {
        Some(Heard::Close(summary)) => summary,
        other => panic!("{other:?}"),
    }
}

#[test]
fn goodbye_without_a_close_is_the_end_of_the_stream_and_its_absence_a_cut() {
    for version in VERSIONS {
        for (says_goodbye, cause) in [
            (true, CloseCause::EndOfStream),
            (false, CloseCause::Transport(ErrorKind::UnexpectedEof)),
        ] {
            let (mut bed, config) = bed(version, |_| {});
            let (id, mut server) = Server::open(&mut bed, &config);
            if says_goodbye {
                server.tls.tls.send_close_notify();
                server.tls.push();
            }
            server.tls.socket.fin();
            bed.turns(2);
            let summary = summary(&mut bed, id);
            assert_eq!((summary.cause, summary.code), (cause, CloseCode::ABNORMAL));
            let truncations = u64::from(!says_goodbye);
            assert_eq!(bed.reactor.counters().tls_truncations, truncations);
            server.tls.pull();
            assert_eq!(server.tls.is_ended, says_goodbye);
            bed.assert_empty();
        }
    }
}

#[test]
fn closing_handshake_of_either_side_is_followed_by_goodbyes() {
    for version in VERSIONS {
        for we_begin in [false, true] {
            let (mut bed, config) = bed(version, |settings| {
                settings.act = Box::new(move |ctx, heard| {
                    if we_begin && *heard == Heard::Open {
                        ctx.close(CloseCode::NORMAL, "").unwrap();
                    }
                });
            });
            let (id, mut server) = Server::open(&mut bed, &config);
            server.tls.say(&Frame::close(1000, "").encode());
            server.turns(&mut bed, 2);
            assert_eq!(server.frames(), [Frame::close(1000, "")]);
            assert!(summary(&mut bed, id).is_clean());
            // RFC 6455 §7.1.1: it is for the server to close first.
            server.tls.tls.send_close_notify();
            server.tls.push();
            server.tls.socket.fin();
            bed.turns(2);
            server.tls.pull();
            assert!(server.tls.is_ended && server.tls.failure.is_none());
            assert_eq!(bed.reactor.counters().tls_truncations, 0);
            bed.assert_empty();
        }
    }
}
