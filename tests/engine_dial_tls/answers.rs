//! Answers that come over TLS and are no 101.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use corewire::{DialError, DialPhase, Refusal};

use crate::bed::{Server, bed, secure, server_config, trusting};
use crate::client_bed::{Bed, Failure};
use crate::tls_peer::{Identity, VERSIONS};

fn refusal(failure: &Failure) -> &Refusal {
    let DialError::Refused(refusal) = &failure.error else { panic!("{:?}", failure.error) };
    refusal
}

#[test]
fn refusal_is_told_with_its_body_and_the_server_hears_goodbye() {
    for version in VERSIONS {
        let (mut bed, config) = bed(version, |_| {});
        let (id, mut server, _) = Server::dial_and_ask(&mut bed, &config);
        server.tls.say(b"HTTP/1.1 403 No\r\nContent-Length: 7\r\n\r\nnot you");
        server.turns(&mut bed, 2);
        let refusal = refusal(bed.failure(id));
        assert_eq!((refusal.status, &refusal.body[..]), (403, &b"not you"[..]));
        assert!(server.tls.is_ended, "a close_notify");
        bed.assert_empty();
    }
}

#[test]
fn what_came_of_a_body_is_told_whether_it_ends_or_is_cut_off() {
    for version in VERSIONS {
        for is_cut_off in [false, true] {
            let (mut bed, config) = bed(version, |_| {});
            let (id, mut server, _) = Server::dial_and_ask(&mut bed, &config);
            server.tls.say(b"HTTP/1.1 503 Later\r\n\r\nto the end");
            server.turns(&mut bed, 1);
            assert!(bed.reactor.handler().failures.is_empty(), "the rest may come");
            if !is_cut_off {
                server.tls.tls.send_close_notify();
                server.tls.push();
            }
            server.tls.socket.fin();
            bed.turns(2);
            let refusal = refusal(bed.failure(id));
            assert_eq!((refusal.status, &refusal.body[..]), (503, &b"to the end"[..]));
            let truncations = u64::from(is_cut_off);
            assert_eq!(bed.reactor.counters().tls_truncations, truncations);
            bed.assert_empty();
        }
    }
}

// RFC 8446 §4.4.4: a server may send as soon as it has said its Finished.
#[test]
fn answer_in_front_of_the_request_counts_as_the_answer() {
    let identity = Identity::new(&["example.com"]);
    let mut config = server_config(VERSIONS[1], &identity);
    config.send_half_rtt_data = true;
    let config = Arc::new(config);
    let mut bed = Bed::new(|settings| secure(settings, trusting(&identity)));
    let (id, mut server) = Server::dial(&mut bed, &config);
    server.tls.say(b"HTTP/1.1 429 Slowly\r\nContent-Length: 0\r\n\r\n");
    server.turns(&mut bed, 2);
    assert_eq!(refusal(bed.failure(id)).status, 429);
    bed.assert_empty();
}

#[test]
fn end_in_the_answer_is_told_as_the_upgrades() {
    for version in VERSIONS {
        for head in [&b""[..], b"HTTP/1.1 101 Swi"] {
            let (mut bed, config) = bed(version, |_| {});
            let (id, mut server, _) = Server::dial_and_ask(&mut bed, &config);
            server.tls.say(head);
            server.tls.tls.send_close_notify();
            server.tls.push();
            bed.turns(2);
            let DialError::Io { phase, error } = &bed.failure(id).error else { panic!() };
            assert_eq!((*phase, error.kind()), (DialPhase::Upgrade, ErrorKind::UnexpectedEof));
            bed.assert_empty();
        }
    }
}

#[test]
fn records_without_payload_do_not_extend_its_deadline() {
    let timeout = Duration::from_secs(3);
    let (mut bed, config) = bed(VERSIONS[1], |settings| settings.dial.timeouts.upgrade = timeout);
    let (id, mut server, _) = Server::dial_and_ask(&mut bed, &config);
    let began = bed.sim.elapsed();
    while bed.reactor.usage().sockets > 0 {
        if let rustls::Connection::Server(tls) = &mut server.tls.tls {
            tls.refresh_traffic_keys().unwrap();
        }
        server.tls.push();
        bed.run_for(Duration::from_millis(100));
    }
    let failure = bed.failure(id);
    assert!(matches!(failure.error, DialError::TimedOut(DialPhase::Upgrade)), "{failure:?}");
    assert!(failure.at >= began + timeout - Duration::from_millis(2), "{failure:?}");
    assert!(failure.at <= began + timeout + Duration::from_millis(2), "{failure:?}");
}
