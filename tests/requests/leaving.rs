//! Deferred requests whose client leaves or floods, and loops that end meanwhile.

use std::time::Duration;

use corewire::{Accept, CloseCause, Decision};

use crate::bed::{Bed, Heard, later, ok, settings, status};
use crate::sim_link::End;
use crate::sim_peer::{TEXT, answers, message, plain_request, split_head, upgrade_request};

const LATER: &str = "/later";

#[test]
fn deferred_upgrade_whose_client_is_gone_ends_at_once() {
    for has_answer_before in [false, true] {
        let mut bed = Bed::later();
        let before = if has_answer_before { plain_request("/before") } else { Vec::new() };
        let peer = bed.ask([before, upgrade_request(LATER, "")].concat());
        let ticket = bed.ticket();
        peer.fin();
        bed.turn();
        bed.assert_empty();
        assert_eq!(answers(&peer.read_all()).len(), usize::from(has_answer_before));
        bed.decide(ticket, Decision::Accept(Accept::new()));
        assert_eq!((bed.missed(), bed.heard()), (1, Vec::new()));
    }
}

// RFC 9112 §9.6
#[test]
fn deferred_plain_request_whose_client_has_shut_its_side_is_still_answered() {
    let mut bed = Bed::later();
    let requests = ["/later/1", "/b", "/later/2", "/c"].map(plain_request);
    let peer = bed.ask(requests.concat());
    peer.fin();
    for number in 1..=2 {
        bed.run_for(Duration::from_secs(50));
        assert_eq!(peer.end_seen(), End::None);
        let ticket = bed.ticket();
        bed.decide(ticket, Decision::Respond(ok(&format!("decision {number}"))));
    }
    let answers = answers(&peer.read_all());
    let bodies: Vec<_> = answers.iter().map(|(_, body)| str::from_utf8(body).unwrap()).collect();
    assert_eq!(bodies, ["decision 1", "/b", "decision 2", "/c"]);
    assert_eq!(peer.end_seen(), End::Fin);
    bed.assert_empty();
}

#[test]
fn upgrade_deferred_behind_a_plain_request_ends_with_its_client_too() {
    let mut bed = Bed::later();
    let peer = bed.ask([plain_request("/later/1"), upgrade_request("/later/2", "")].concat());
    peer.fin();
    bed.turn();
    let first = bed.ticket();
    bed.decide(first, Decision::Respond(ok("first")));
    assert_eq!(answers(&peer.read_all()), [(200, b"first".to_vec())]);
    assert_eq!(bed.asked().len(), 2);
    bed.assert_empty();
    // One that is accepted at once is told of the end as any other.
    let peer = bed.ask([plain_request("/later/1"), upgrade_request("/", "")].concat());
    peer.fin();
    bed.turn();
    let ticket = bed.ticket();
    bed.decide(ticket, Decision::Respond(ok("first")));
    assert_eq!(bed.heard(), [Heard::Open(None, None, None), Heard::Close(CloseCause::EndOfStream)]);
    bed.assert_empty();
}

#[test]
fn reset_ends_a_deferred_request_of_either_kind() {
    for request in [upgrade_request(LATER, ""), plain_request(LATER)] {
        for is_shut in [false, true] {
            let mut bed = Bed::later();
            let peer = bed.ask(&request);
            let ticket = bed.ticket();
            if is_shut {
                peer.fin();
                bed.turn();
            }
            peer.reset();
            bed.turn();
            bed.assert_empty();
            bed.decide(ticket, Decision::Respond(ok("")));
            assert_eq!(bed.missed(), 1);
        }
    }
}

#[test]
fn reading_behind_a_deferred_request_goes_on_within_a_bound() {
    let mut settings = settings();
    settings.handshake.head_bytes_max = 1000;
    let mut bed = Bed::new(|_| {}, vec![settings.clone()], later);
    let frame = message(TEXT, &[b'x'; 100]);
    let peer = bed.ask(upgrade_request(LATER, ""));
    let mut said = 0;
    for _ in 0..40 {
        said += usize::from(peer.write(&frame) == frame.len());
        bed.turn();
    }
    assert_eq!(said, 40);
    let waiting = 40 * frame.len() - (1000 / frame.len() + 1) * frame.len();
    assert_eq!(peer.moved().to_engine_bytes, waiting, "the bound and one read are taken");
    // Neither is the loop kept busy by it.
    let turns = bed.reactor.counters().turns;
    bed.run_for(Duration::from_secs(20));
    assert!(bed.reactor.counters().turns - turns < 10);
    let ticket = bed.ticket();
    bed.decide(ticket, Decision::Accept(Accept::new()));
    bed.turns(2);
    let bytes = peer.read_all();
    let (_, echoed) = split_head(&bytes).unwrap();
    assert_eq!(echoed.len(), 40 * 102, "all of it is echoed");
    // The read that brings the request may bring too much already.
    let mut bed = Bed::new(|_| {}, vec![settings], later);
    let peer = bed.ask([upgrade_request(LATER, ""), frame.repeat(10)].concat());
    peer.write_all(&frame);
    bed.turn();
    assert_eq!(peer.moved().to_engine_bytes, frame.len());
}

#[test]
fn deferred_request_that_cannot_be_kept_is_dropped() {
    let mut bed = Bed::new(|config| config.limits.block_bytes_max = 10, vec![settings()], later);
    let peer = bed.ask(upgrade_request(LATER, ""));
    bed.assert_empty();
    assert_eq!((peer.read_all(), bed.reactor.counters().pool_exhausted), (Vec::new(), 1));
    let ticket = bed.ticket();
    bed.decide(ticket, Decision::Accept(Accept::new()));
    assert_eq!(bed.missed(), 1);
}

#[test]
fn decision_while_the_server_is_draining_accepts_nobody_and_keeps_nobody() {
    let mut bed = Bed::later();
    let upgrade = bed.ask(upgrade_request(LATER, ""));
    let plain = bed.ask(plain_request(LATER));
    let refused = bed.ask(upgrade_request(LATER, ""));
    let tickets: Vec<_> = bed.asked().iter().map(|asked| asked.ticket).collect();
    bed.reactor.handle().shutdown(Duration::from_secs(10)).unwrap();
    bed.run_for(Duration::from_secs(5));
    assert_eq!(bed.reactor.usage().sockets, 3, "they are waited for");
    bed.decide(tickets[0], Decision::Accept(Accept::new()));
    let answer = upgrade.read_all();
    let (head, _) = split_head(&answer).unwrap();
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("Retry-After: "), "{head}");
    bed.decide(tickets[1], Decision::Respond(ok("still")));
    let answer = plain.read_all();
    assert!(split_head(&answer).unwrap().0.contains("Connection: close"));
    assert_eq!(answers(&answer), [(200, b"still".to_vec())]);
    bed.decide(tickets[2], Decision::Reject(ok("no")));
    assert_eq!(status(&refused), "200");
    for peer in [upgrade, plain, refused] {
        peer.fin();
    }
    bed.turns(2);
    assert!(bed.reactor.is_finished());
    bed.assert_empty();
}

#[test]
fn deferred_request_is_cut_off_with_everything_else() {
    let mut bed = Bed::later();
    let peer = bed.ask(upgrade_request(LATER, ""));
    let ticket = bed.ticket();
    bed.reactor.handle().shutdown(Duration::from_secs(10)).unwrap();
    bed.run_for(Duration::from_secs(10));
    assert!(bed.reactor.is_finished());
    assert_eq!(peer.read_all(), b"");
    bed.decide(ticket, Decision::Accept(Accept::new()));
    assert_eq!(bed.missed(), 1);
    bed.assert_empty();
}
