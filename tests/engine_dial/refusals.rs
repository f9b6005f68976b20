//! Row C1: answers other than 101.

use std::time::Duration;

use corewire::limits::REFUSAL_BODY_BYTES_MAX;
use corewire::{DialError, Refusal};

use crate::client_bed::{Bed, Failure};
use crate::sim_link::End;

fn refusal(failure: &Failure) -> &Refusal {
    let DialError::Refused(refusal) = &failure.error else { panic!("{:?}", failure.error) };
    refusal
}

/// What a server's bytes come to that are no 101, in one piece or byte by byte.
fn refused(answer: &[u8], piece_bytes: usize) -> Refusal {
    let mut bed = Bed::new(|_| {});
    let (id, server, _) = bed.dial_and_ask();
    for piece in answer.chunks(piece_bytes) {
        server.peer.write_all(piece);
        bed.turn();
    }
    let refusal = refusal(bed.failure(id)).clone();
    assert_eq!(bed.failure(id).data, 1, "what was kept comes back");
    bed.turn();
    bed.assert_empty();
    assert_ne!(server.peer.end_seen(), End::None);
    assert_eq!(server.peer.read_all(), b"", "nothing is said to it");
    assert_eq!(bed.host.tries(), 1, "nothing is followed or tried again");
    let counters = bed.reactor.counters();
    assert_eq!((counters.dialled, counters.dials_failed), (1, 1));
    refusal
}

#[test]
fn c1_every_other_status_is_told_with_its_head_and_body() {
    for status in
        [200, 201, 300, 301, 302, 307, 308, 400, 401, 403, 404, 408, 426, 429, 500, 503, 599]
    {
        let answer = format!(
            "HTTP/1.1 {status} So be it\r\nLocation: ws://other/\r\nRetry-After: 7\r\n\
             x-Name:  value \r\nContent-Length: 4\r\n\r\nbody"
        );
        for piece_bytes in [1, 50, 1000] {
            let refusal = refused(answer.as_bytes(), piece_bytes);
            assert_eq!((refusal.status, &refusal.body[..]), (status, &b"body"[..]));
            let fields: Vec<(&str, &[u8])> =
                refusal.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
            let expected: [(&str, &[u8]); 4] = [
                ("Location", b"ws://other/"),
                ("Retry-After", b"7"),
                ("x-Name", b"value"),
                ("Content-Length", b"4"),
            ];
            assert_eq!(fields, expected);
            assert_eq!(refusal.header("X-NAME"), Some("value"));
        }
    }
}

#[test]
fn c1_answers_without_a_body_wait_for_none() {
    for head in [
        "204 None\r\n\r\n",
        "304 As before\r\nContent-Length: 9\r\n\r\n",
        "403 No\r\nContent-Length: 0\r\n\r\n",
    ] {
        let refusal = refused(format!("HTTP/1.1 {head}").as_bytes(), 1000);
        assert_eq!(refusal.body, b"");
    }
}

#[test]
fn c1_no_more_than_4_kib_of_the_body_are_kept() {
    assert_eq!(REFUSAL_BODY_BYTES_MAX, 4096);
    let body: Vec<u8> = (0..20_000_u32).map(|at| at as u8).collect();
    for framing in ["Content-Length: 20000\r\n", "X: to the end\r\n"] {
        let answer = [format!("HTTP/1.1 503 No\r\n{framing}\r\n").as_bytes(), &body].concat();
        for piece_bytes in [700, 100_000] {
            let mut bed = Bed::new(|_| {});
            let (id, server, _) = bed.dial_and_ask();
            for piece in answer.chunks(piece_bytes) {
                server.peer.write(piece);
                bed.turn();
            }
            assert!(refusal(bed.failure(id)).body == body[..4096], "the first 4 KiB");
            assert_eq!(bed.failure(id).at, Duration::ZERO, "it waits for no more");
            bed.turn();
            bed.assert_empty();
        }
    }
}

#[test]
fn c1_what_came_of_a_body_is_told_however_it_ends() {
    let ends: [fn(&crate::sim_net::SimPeer); 3] = [|peer| peer.fin(), |peer| peer.reset(), |_| {}];
    for (number, end) in ends.iter().enumerate() {
        let mut bed = Bed::new(|_| {});
        let (id, server, _) = bed.dial_and_ask();
        server.peer.write_all(b"HTTP/1.1 500 Oh\r\nContent-Length: 100\r\n\r\nhalf a bo");
        bed.turn();
        assert!(bed.reactor.handler().failures.is_empty(), "the rest may come");
        end(&server.peer);
        bed.run_for(Duration::from_secs(11));
        assert_eq!(refusal(bed.failure(id)).body, b"half a bo");
        // Who says nothing more is waited for as long as the phase lasts.
        let due = Duration::from_secs(if number == 2 { 10 } else { 0 });
        let at = bed.failure(id).at;
        assert!(at >= due && at <= due + Duration::from_millis(2), "{at:?}");
        bed.assert_empty();
    }
}
