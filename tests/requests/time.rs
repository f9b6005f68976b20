//! The deadline of a decision, and the deadlines that do not run meanwhile.

use std::time::Duration;

use corewire::limits::DEFERRAL_MAX;
use corewire::{Accept, Decision, Verdict};

use crate::bed::{Bed, head, ok, settings, status};
use crate::sim_link::End;
use crate::sim_peer::{answers, plain_request, split_head, upgrade_request};

const LATER: &str = "/later";

/// Defers `/later` for so long, and answers other paths with a large answer.
fn waiting(timeout: Duration) -> Bed {
    Bed::new(
        |_| {},
        vec![settings()],
        move |request, _| match request.path() {
            LATER => Verdict::Defer { timeout, data: None },
            _ => Verdict::Respond(ok(&"x".repeat(50_000))),
        },
    )
}

#[test]
fn request_that_nobody_decides_in_time_gets_503() {
    let head_request = b"HEAD /later HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
    for (request, has_body) in
        [(upgrade_request(LATER, ""), true), (plain_request(LATER), true), (head_request, false)]
    {
        let mut bed = waiting(Duration::from_secs(30));
        let peer = bed.ask([&*request, &*plain_request("/behind")].concat());
        bed.run_for(Duration::from_millis(29_999));
        assert_eq!((peer.read_all(), peer.end_seen()), (Vec::new(), End::None));
        bed.run_for(Duration::from_millis(1));
        let answer = peer.read_all();
        let (head, body) = split_head(&answer).unwrap();
        assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("Retry-After: 5\r\n"), "{head}");
        assert_eq!(
            body,
            if has_body { "the request was not decided in time\n" } else { "" }.as_bytes()
        );
        assert_eq!(peer.end_seen(), End::Fin);
        let counters = bed.reactor.counters();
        assert_eq!((counters.deferrals_timed_out, counters.handshake_timeouts), (1, 0));
        let ticket = bed.ticket();
        bed.decide(ticket, Decision::Respond(ok("late")));
        assert_eq!((bed.missed(), bed.asked().len()), (1, 1));
        peer.fin();
        bed.turn();
        bed.assert_empty();
    }
}

#[test]
fn request_deferred_for_no_time_at_all_gets_503_within_a_tick() {
    let mut bed = waiting(Duration::ZERO);
    // The wheel has stood still for a while.
    bed.sim.advance(Duration::from_secs(7));
    let peer = bed.ask(upgrade_request(LATER, ""));
    bed.run_for(Duration::from_millis(1));
    assert_eq!(status(&peer), "503");
    assert_eq!(bed.reactor.counters().deferrals_timed_out, 1);
}

#[test]
fn request_is_deferred_for_an_hour_at_most() {
    let mut bed = waiting(Duration::MAX);
    let peer = bed.ask(upgrade_request(LATER, ""));
    bed.run_for(DEFERRAL_MAX - Duration::from_millis(1));
    assert_eq!(peer.read_all(), b"");
    bed.run_for(Duration::from_millis(1));
    assert_eq!(status(&peer), "503");
}

#[test]
fn decision_that_has_come_counts_though_its_time_is_over_when_the_loop_wakes() {
    let mut bed = waiting(Duration::from_secs(30));
    let peer = bed.ask(upgrade_request(LATER, ""));
    let ticket = bed.ticket();
    bed.reactor.handle().decide(ticket, Decision::Accept(Accept::new())).unwrap();
    bed.sim.advance(Duration::from_secs(100));
    bed.turns(2);
    assert_eq!((status(&peer), bed.reactor.counters().deferrals_timed_out), ("101".to_owned(), 0));
}

#[test]
fn client_that_left_while_the_loop_stood_still_is_seen_before_its_time_is_over() {
    let mut bed = waiting(Duration::from_secs(30));
    let peer = bed.ask(upgrade_request(LATER, ""));
    bed.sim.advance(Duration::from_secs(100));
    peer.fin();
    bed.turns(2);
    assert_eq!((peer.read_all(), bed.reactor.counters().deferrals_timed_out), (Vec::new(), 0));
    bed.assert_empty();
}

#[test]
fn answer_in_front_of_a_request_that_nobody_decides_arrives_whole() {
    let mut bed = waiting(Duration::from_secs(2));
    let peer = bed.connect();
    peer.set_buffers(1 << 20, 10_000);
    peer.write_all(&[plain_request("/large"), plain_request(LATER)].concat());
    let mut bytes = Vec::new();
    for _ in 0..10 {
        bed.run_for(Duration::from_secs(1));
        bytes.extend(peer.read_all());
    }
    let statuses: Vec<_> =
        answers(&bytes).iter().map(|(status, body)| (*status, body.len())).collect();
    assert_eq!(statuses, [(200, 50_000), (503, 36)]);
}

#[test]
fn times_for_heads_and_for_the_next_request_begin_behind_the_decision() {
    let mut bed = waiting(Duration::from_secs(60));
    let peer = bed.ask(plain_request(LATER));
    bed.run_for(Duration::from_secs(59));
    let ticket = bed.ticket();
    bed.decide(ticket, Decision::Respond(ok("")));
    assert_eq!(status(&peer), "200");
    bed.run_for(Duration::from_millis(4_900));
    assert_eq!(peer.end_seen(), End::None);
    bed.run_for(Duration::from_millis(200));
    assert_eq!((head(&peer), peer.end_seen()), (String::new(), End::Fin));
}
