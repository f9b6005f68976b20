//! Who comes while a loop drains.

use corewire::Drain;

use crate::sim_bed::Bed;
use crate::sim_peer::{TEXT, frames};
use crate::sim_peer::{answers, close, message, plain_request, split_head, upgrade_request};
use crate::watch::{Manners, millis, polite, seconds, seeded, watch};

/// The answer to a request on a connection of its own: its status and `Retry-After`.
fn ask(bed: &mut Bed, request: &[u8]) -> (u16, Option<String>) {
    let peer = bed.sim.connect(bed.address);
    peer.write_all(request);
    bed.turns(3);
    let answer = peer.read_all();
    let (head, _) = split_head(&answer).expect("an answer");
    let retry = head.lines().find_map(|line| line.strip_prefix("Retry-After: "));
    (answers(&answer)[0].0, retry.map(str::to_owned))
}

fn drain() -> Drain {
    Drain { jitter: 0.0, retry_after: millis(6001), ..Drain::default() }
}

#[test]
fn readiness_turns_before_anybody_is_told_and_upgrades_get_503_with_retry_after() {
    let mut bed = seeded(1, |settings| settings.readiness = Some("/ready"));
    let peers = polite(&mut bed, 2);
    assert_eq!(ask(&mut bed, &plain_request("/ready")), (200, None));
    bed.reactor.handle().drain(&drain()).unwrap();
    bed.turn();
    let late = Some("7".to_owned());
    assert_eq!(ask(&mut bed, &plain_request("/ready")), (503, late.clone()));
    assert!(peers.iter().all(|(peer, _)| peer.read_all().is_empty()), "nobody was told yet");
    for _ in 0..3 {
        assert_eq!(ask(&mut bed, &upgrade_request("/", "")), (503, late.clone()));
        assert_eq!(ask(&mut bed, &plain_request("/other")), (200, None));
        assert_eq!(watch(&mut bed, &peers, millis(800)).len(), 0);
    }
    let counters = bed.reactor.counters();
    assert_eq!((counters.refused_draining, counters.refused_over_capacity), (3, 0));
    assert_eq!(watch(&mut bed, &peers, millis(5000)).len(), 1);
    assert_eq!(ask(&mut bed, &plain_request("/ready")), (503, late));
    // Once the last was told, nobody listens any more.
    assert_eq!(watch(&mut bed, &peers, millis(101)).len(), 1);
    assert!(bed.sim.connect_from(bed.address, ([1, 1, 1, 1], 1).into()).is_none());
    // Who was refused has not hung up.
    bed.run_for(seconds(2));
    assert!(bed.reactor.is_finished());
}

#[test]
fn readiness_is_503_while_the_loop_is_full() {
    let mut bed = seeded(1, |settings| {
        settings.readiness = Some("/ready");
        settings.reactor.limits.connections_max = 1;
    });
    assert_eq!(ask(&mut bed, &plain_request("/ready")), (200, None));
    let first = bed.open();
    assert_eq!(ask(&mut bed, &plain_request("/ready")), (503, Some("5".into())));
    first.reset();
    bed.turns(2);
    assert_eq!(ask(&mut bed, &plain_request("/ready")), (200, None));
}

#[test]
fn readiness_is_an_answer_to_get_and_head_alone_and_to_no_upgrade() {
    let mut bed = seeded(1, |settings| settings.readiness = Some("/ready"));
    let request = |method: &str| format!("{method} /ready HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut body = |method: &str| {
        let peer = bed.sim.connect(bed.address);
        peer.write_all(request(method).as_bytes());
        bed.turns(3);
        let answer = peer.read_all();
        let (head, body) = split_head(&answer).unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(!head.contains("Connection: close"), "another may follow: {head}");
        String::from_utf8(body.to_vec()).unwrap()
    };
    assert_eq!([body("GET"), body("HEAD")], ["ready\n", ""]);
    // The application's.
    assert_eq!(body("OPTIONS"), "answer to /ready");
    let peer = bed.sim.connect(bed.address);
    peer.write_all(&upgrade_request("/ready", ""));
    bed.turns(3);
    assert!(peer.read_all().starts_with(b"HTTP/1.1 101 "));
}

#[test]
fn application_sees_that_the_loop_drains_when_it_is_asked() {
    let seen = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let noted = seen.clone();
    let mut bed = seeded(1, |settings| {
        settings.watch = Box::new(move |arrival| noted.borrow_mut().push(arrival.is_draining));
    });
    let _peers = polite(&mut bed, 1);
    ask(&mut bed, &plain_request("/a"));
    bed.reactor.handle().drain(&drain()).unwrap();
    bed.turn();
    ask(&mut bed, &plain_request("/b"));
    assert_eq!(*seen.borrow(), [false, false, true]);
}

#[test]
fn who_is_not_told_yet_is_served_as_ever() {
    let mut bed = seeded(1, |_| {});
    let peers: Vec<_> = (0..2).map(|_| (bed.open(), Manners::IsSilent)).collect();
    bed.reactor.handle().drain(&drain()).unwrap();
    // The second is told at 7.5 s.
    let first = watch(&mut bed, &peers, seconds(7));
    let [told] = first[..] else { panic!("{first:?}") };
    let (peer, _) = &peers[1 - told.peer];
    peer.write_all(&message(TEXT, b"still here"));
    bed.turns(2);
    let bytes = peer.read_all();
    let (echoes, _) = frames(&bytes);
    assert_eq!(echoes[0].payload, b"still here");
    peer.write_all(&close(1000));
    bed.turns(2);
    let (echoes, _) = frames(&peer.read_all());
    assert_eq!(echoes[0].close_code(), Some(1000));
}

#[test]
fn who_has_come_within_the_window_is_answered_behind_its_end_too() {
    let mut bed = seeded(1, |_| {});
    let peers = polite(&mut bed, 1);
    let idle = bed.sim.connect(bed.address);
    idle.write_all(&plain_request("/before"));
    bed.turns(3);
    assert_eq!(answers(&idle.read_all())[0].0, 200);
    bed.reactor.handle().drain(&drain()).unwrap();
    // The only one is told at 5 s.
    assert_eq!(watch(&mut bed, &peers, millis(4999)).len(), 0);
    let [silent, prompt, mute] = [(); 3].map(|()| bed.sim.connect(bed.address));
    prompt.write_all(&upgrade_request("/", ""));
    assert_eq!(watch(&mut bed, &peers, millis(2)).len(), 1);
    assert!(bed.sim.connect_from(bed.address, ([1, 1, 1, 1], 1).into()).is_none());
    assert!(idle.is_at_end(), "it has its answer, and waits for nothing");
    bed.run_for(seconds(2));
    silent.write_all(&upgrade_request("/", ""));
    bed.turns(3);
    for peer in [&silent, &prompt] {
        let answer = peer.read_all();
        assert!(answer.starts_with(b"HTTP/1.1 503 "), "{}", answer.escape_ascii());
        peer.fin();
    }
    bed.turns(2);
    assert!(!bed.reactor.is_finished() && !mute.is_at_end());
    bed.run_for(seconds(3));
    assert!(bed.reactor.is_finished(), "who says nothing is not waited for beyond the grace");
    assert_eq!(bed.reactor.counters().refused_draining, 2);
    bed.assert_empty();
}

#[test]
fn who_waits_at_a_listener_that_closes_is_taken_and_answered() {
    let mut bed = seeded(1, |settings| settings.reactor.limits.accepts_per_turn = 1);
    let peers = polite(&mut bed, 1);
    bed.reactor.handle().drain(&drain()).unwrap();
    assert_eq!(watch(&mut bed, &peers, millis(4999)).len(), 0);
    let late = [(); 6].map(|()| bed.sim.connect(bed.address));
    late.iter().for_each(|peer| peer.write_all(&upgrade_request("/", "")));
    assert_eq!(watch(&mut bed, &peers, millis(2)).len(), 1);
    bed.turns(3);
    for peer in late {
        let answer = peer.read_all();
        assert!(answer.starts_with(b"HTTP/1.1 503 "), "{}", answer.escape_ascii());
    }
    assert_eq!(bed.reactor.counters().refused_draining, 6);
}
