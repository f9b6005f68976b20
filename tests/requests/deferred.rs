//! Deferred requests and their decisions.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use corewire::{
    Accept, CloseCause, Command, Decision, Handle, PanicPolicy, PostError, Response, Verdict,
};

use crate::bed::{Bed, Heard, Kept, head, later, ok, settings, status};
use crate::sim_link::End;
use crate::sim_peer::{TEXT, answers, frames, message, plain_request, split_head, upgrade_request};

const LATER: &str = "/later";

fn opened(attachment: Option<&str>) -> Heard {
    Heard::Open(Some("kept".to_owned()), attachment.map(str::to_owned), None)
}

#[test]
fn decision_to_accept_opens_with_its_data_and_its_attachment() {
    let attached = || Decision::AcceptWith(Accept::new(), Box::new("anna".to_owned()));
    let odd = || Decision::AcceptWith(Accept::new(), Box::new(1.5));
    for (decision, attachment) in
        [(Decision::Accept(Accept::new()), None), (attached(), Some("anna")), (odd(), None)]
    {
        let mut bed = Bed::later();
        let peer = bed.ask(upgrade_request(LATER, ""));
        bed.run_for(Duration::from_secs(30));
        assert_eq!((peer.read_all(), bed.heard()), (Vec::new(), Vec::new()), "nothing yet");
        let ticket = bed.ticket();
        bed.decide(ticket, decision);
        assert_eq!(status(&peer), "101");
        assert_eq!(bed.heard(), [opened(attachment)]);
        peer.write_all(&message(TEXT, b"hello"));
        bed.turn();
        assert_eq!(peer.read_all(), b"\x81\x05hello");
        // The next one gets nothing of it.
        bed.ask(upgrade_request("/", ""));
        assert_eq!(bed.heard().last(), Some(&Heard::Open(None, None, None)));
        let counters = bed.reactor.counters();
        assert_eq!((counters.requests_deferred, counters.decisions_missed), (1, 0));
        assert_eq!((counters.http_requests, counters.handshakes_completed), (2, 2));
    }
}

#[test]
fn decision_to_accept_says_what_the_answer_says() {
    let mut bed = Bed::later();
    let peer = bed.ask(upgrade_request(LATER, "Sec-WebSocket-Protocol: a, b\r\n"));
    let accept = Accept::new().subprotocol("b").unwrap().header("X-Who", "anna").unwrap();
    let ticket = bed.ticket();
    bed.decide(ticket, Decision::Accept(accept));
    let head = head(&peer);
    assert!(head.contains("\r\nSec-WebSocket-Protocol: b\r\nX-Who: anna\r\n"), "{head}");
    // What the client did not offer is the application's error.
    let peer = bed.ask(upgrade_request(LATER, ""));
    let ticket = bed.ticket();
    bed.decide(ticket, Decision::Accept(Accept::new().subprotocol("b").unwrap()));
    assert_eq!(status(&peer), "500");
    assert_eq!(peer.end_seen(), End::Fin);
}

#[test]
fn decision_about_a_refused_upgrade_is_its_answer() {
    for decision in [Decision::Reject as fn(Response) -> Decision, Decision::Respond] {
        let mut bed = Bed::later();
        let mut bytes = upgrade_request(LATER, "");
        bytes.extend(plain_request("/behind"));
        let peer = bed.ask(bytes);
        let ticket = bed.ticket();
        let response = Response::new(401).unwrap().header("WWW-Authenticate", "Basic").unwrap();
        bed.decide(ticket, decision(response.body(b"who?".as_slice())));
        let bytes = peer.read_all();
        let (head, _) = split_head(&bytes).unwrap();
        assert!(head.contains("WWW-Authenticate: Basic\r\nConnection: close\r\n"), "{head}");
        assert_eq!(answers(&bytes), [(401, b"who?".to_vec())]);
        assert_eq!(peer.end_seen(), End::Fin);
        assert_eq!(bed.reactor.counters().handshakes_refused, 1);
        peer.fin();
        bed.turn();
        bed.assert_empty();
    }
}

// RFC 9110 §9.3.2, RFC 9112 §9.3
#[test]
fn decision_about_a_plain_request_keeps_the_connection_where_http_allows_it() {
    let mut bed = Bed::later();
    let peer = bed.ask(plain_request(LATER));
    let ticket = bed.ticket();
    bed.decide(ticket, Decision::Respond(ok("decided")));
    assert_eq!(peer.read_all(), b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\ndecided");
    peer.write_all(b"HEAD /later HTTP/1.1\r\nHost: a\r\n\r\n");
    bed.turns(2);
    let ticket = bed.ticket();
    bed.decide(ticket, Decision::Respond(ok("decided")));
    assert_eq!(peer.read_all(), b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n");
    // From here on the time for the next request counts.
    bed.run_for(Duration::from_millis(4_990));
    assert_eq!(peer.end_seen(), End::None);
    peer.write_all(b"GET /later HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    bed.turns(2);
    let ticket = bed.ticket();
    bed.decide(ticket, Decision::Respond(ok("")));
    assert!(head(&peer).contains("Connection: close\r\n"));
    assert_eq!(peer.end_seen(), End::Fin);

    let peer = bed.ask(plain_request(LATER));
    let ticket = bed.ticket();
    bed.decide(ticket, Decision::Reject(ok("no more")));
    assert!(head(&peer).contains("Connection: close\r\n"));
    let peer = bed.ask(plain_request(LATER));
    let ticket = bed.ticket();
    bed.decide(ticket, Decision::Accept(Accept::new()));
    assert_eq!(status(&peer), "426");
    assert_eq!(bed.heard(), []);
}

#[test]
fn what_is_pipelined_behind_a_deferred_request_waits_in_order() {
    let mut script = plain_request("/a");
    for path in ["/later/1", "/b", "/later/2"] {
        script.extend(plain_request(path));
    }
    script.extend(upgrade_request("/later/3", ""));
    script.extend(message(TEXT, b"first"));
    for step in [1, 7, 100, usize::MAX] {
        let mut bed = Bed::later();
        let peer = bed.connect();
        let mut bytes = Vec::new();
        for piece in script.chunks(step) {
            peer.write_all(piece);
            bed.turn();
        }
        bed.turns(3);
        for number in 1..=3 {
            let path = format!("/later/{number}");
            assert_eq!(bed.asked().last().unwrap().path, path, "in pieces of {step}");
            bed.run_for(Duration::from_secs(20));
            bytes.extend(peer.read_all());
            assert_eq!(answers(&bytes).len(), [1, 3, 4][number - 1], "none before its turn");
            let ticket = bed.ticket();
            let decision = match number {
                3 => Decision::Accept(Accept::new()),
                _ => Decision::Respond(ok(&path)),
            };
            bed.decide(ticket, decision);
        }
        bytes.extend(peer.read_all());
        let answers = answers(&bytes);
        let bodies: Vec<_> =
            answers.iter().map(|(_, body)| str::from_utf8(body).unwrap()).collect();
        assert_eq!(bodies[..4], ["/a", "/later/1", "/b", "/later/2"]);
        assert!(bytes.ends_with(b"\x81\x05first"));
        assert_eq!(bed.reactor.counters().http_requests, 5);
        peer.reset();
        bed.turn();
        bed.assert_empty();
    }
}

#[test]
fn second_decision_is_a_miss_and_never_hits_a_later_request() {
    let mut bed = Bed::later();
    let peer = bed.ask(plain_request("/later/1"));
    let first = bed.ticket();
    let handle = bed.reactor.handle();
    // The second comes in the same batch as the first, the third when another request waits.
    handle.decide(first, Decision::Respond(ok("first"))).unwrap();
    handle.decide(first, Decision::Respond(ok("second"))).unwrap();
    bed.turns(2);
    assert_eq!(bed.missed(), 1);
    peer.write_all(&plain_request("/later/2"));
    bed.turns(2);
    assert_ne!(bed.ticket(), first);
    bed.decide(first, Decision::Respond(ok("third")));
    assert_eq!((bed.missed(), answers(&peer.read_all())), (2, vec![(200, b"first".to_vec())]));
    let second = bed.ticket();
    bed.decide(second, Decision::Respond(ok("fourth")));
    assert_eq!(answers(&peer.read_all()), [(200, b"fourth".to_vec())]);

    // Nor does one hit a request that was never deferred, nor an open WebSocket.
    peer.write_all(&plain_request("/now"));
    bed.turns(2);
    let third = bed.ticket();
    bed.decide(third, Decision::Respond(ok("fifth")));
    peer.write_all(&upgrade_request("/later/3", ""));
    bed.turns(2);
    let fourth = bed.ticket();
    bed.decide(fourth, Decision::Accept(Accept::new()));
    bed.decide(fourth, Decision::Reject(ok("sixth")));
    assert_eq!(bed.missed(), 4);
    let statuses: Vec<_> = answers(&peer.read_all()).iter().map(|(status, _)| *status).collect();
    assert_eq!((statuses, peer.end_seen()), (vec![200, 101], End::None));
}

#[test]
fn decision_about_a_connection_that_is_gone_is_a_miss_and_never_hits_another() {
    let mut bed = Bed::later();
    let peer = bed.ask(upgrade_request(LATER, ""));
    let stale = bed.ticket();
    peer.reset();
    bed.turn();
    // In the same place of the loop's table.
    let next = bed.ask(upgrade_request(LATER, ""));
    let ticket = bed.ticket();
    assert_ne!(ticket, stale);
    bed.decide(stale, Decision::Accept(Accept::new()));
    assert_eq!((bed.missed(), next.read_all(), bed.heard()), (1, Vec::new(), Vec::new()));
    bed.decide(ticket, Decision::Accept(Accept::new()));
    assert_eq!(status(&next), "101");
}

#[test]
fn decision_may_be_posted_before_the_request_is_deferred() {
    let handle: Rc<RefCell<Option<Handle>>> = Rc::default();
    let posting = handle.clone();
    let mut bed = Bed::new(
        |_| {},
        vec![settings()],
        move |request, arrival| {
            let handle = posting.borrow();
            let decision = Decision::Accept(Accept::new());
            handle.as_ref().unwrap().decide(arrival.ticket(), decision).unwrap();
            later(request, arrival)
        },
    );
    *handle.borrow_mut() = Some(bed.reactor.handle());
    let peer = bed.ask(upgrade_request(LATER, ""));
    bed.turn();
    assert_eq!((status(&peer), bed.missed()), ("101".to_owned(), 0));
}

#[test]
fn full_mailbox_and_wrong_loop_give_the_decision_back() {
    let mut bed =
        Bed::new(|config| config.limits.mailbox_commands_max = 1, vec![settings()], later);
    let peer = bed.ask(upgrade_request(LATER, ""));
    let (ticket, handle) = (bed.ticket(), bed.reactor.handle());
    handle.abort(ticket.id()).unwrap();
    match handle.decide(ticket, Decision::Reject(ok("later again"))) {
        Err(PostError::Full(Command::Decide(to, decision))) => {
            assert_eq!(to, ticket);
            assert!(
                matches!(*decision, Decision::Reject(response) if response == ok("later again"))
            );
        }
        other => panic!("{other:?}"),
    }
    let elsewhere = Bed::new(|config| config.shard = corewire::ShardIndex(1), vec![], later);
    match elsewhere.reactor.handle().decide(ticket, Decision::Accept(Accept::new())) {
        Err(PostError::WrongShard(Command::Decide(to, _))) => assert_eq!(to, ticket),
        other => panic!("{other:?}"),
    }
    // The abort was about a WebSocket that is not open yet.
    bed.turn();
    bed.decide(ticket, Decision::Accept(Accept::new()));
    assert_eq!(status(&peer), "101");
}

// RFC 6455 §10.2
#[test]
fn origin_and_capacity_are_looked_at_before_anybody_is_asked() {
    let mut bed = Bed::new(|config| config.limits.connections_max = 1, vec![settings()], later);
    let peer = bed.ask(upgrade_request(LATER, "Origin: http://elsewhere.example\r\n"));
    assert_eq!(status(&peer), "403");
    assert!(bed.asked().is_empty());
    let open = bed.ask(upgrade_request("/", ""));
    let peer = bed.ask(upgrade_request(LATER, ""));
    assert_eq!((status(&open), status(&peer)), ("101".to_owned(), "503".to_owned()));
    assert_eq!(bed.asked().len(), 1);
}

#[test]
fn capacity_is_looked_at_again_when_it_is_decided() {
    let mut bed = Bed::new(|config| config.limits.connections_max = 1, vec![settings()], later);
    let peers = [0; 3].map(|_| bed.ask(upgrade_request(LATER, "")));
    let tickets: Vec<_> = bed.asked().iter().map(|asked| asked.ticket).collect();
    let attached = || Decision::AcceptWith(Accept::new(), Box::new("anna".to_owned()));
    bed.decide(tickets[0], attached());
    // Who refuses is not asked for room.
    bed.decide(tickets[2], Decision::Reject(Response::new(401).unwrap()));
    bed.decide(tickets[1], attached());
    assert_eq!(peers.each_ref().map(status), ["101", "503", "401"]);
    assert_eq!(bed.heard(), [opened(Some("anna"))]);
    let counters = bed.reactor.counters();
    assert_eq!((counters.refused_over_capacity, counters.decisions_missed), (1, 0));
    peers[0].reset();
    bed.turns(2);
    let peer = bed.ask(upgrade_request("/", ""));
    assert_eq!(status(&peer), "101");
    // The attachment of whom there was no room for is nobody's.
    assert_eq!(bed.heard().last(), Some(&Heard::Open(None, None, None)));
}

#[test]
fn panic_in_a_callback_about_a_deferred_request_is_that_connections_alone() {
    let mut bed = Bed::new(
        |config| config.panics = PanicPolicy::CloseConnection,
        vec![settings()],
        |request, arrival| {
            assert!(request.path() != "/panic", "asked for");
            later(request, arrival)
        },
    );
    let neighbour = bed.ask(upgrade_request(LATER, ""));
    let neighbours = bed.ticket();
    // In `on_open`, behind its decision.
    bed.reactor.handler().on_open = Box::new(|_| panic!("asked for"));
    let peer = bed.ask(upgrade_request(LATER, ""));
    let ticket = bed.ticket();
    bed.decide(ticket, Decision::AcceptWith(Accept::new(), Box::new("anna".to_owned())));
    bed.reactor.handler().on_open = Box::new(|_| {});
    let bytes = peer.read_all();
    let (_, rest) = split_head(&bytes).unwrap();
    assert_eq!(frames(rest).0[0].close_code(), Some(1011));
    assert_eq!(bed.heard().last(), Some(&Heard::Close(CloseCause::HandlerPanicked)));
    // Over the request behind it.
    let peer = bed.ask([plain_request(LATER), plain_request("/panic")].concat());
    let ticket = bed.ticket();
    bed.decide(ticket, Decision::Respond(ok("")));
    let statuses: Vec<_> = answers(&peer.read_all()).iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [200, 500]);
    bed.decide(neighbours, Decision::Accept(Accept::new()));
    assert_eq!(status(&neighbour), "101");
}

#[test]
fn pausing_a_connection_that_is_not_open_does_not_hold_its_decision_up() {
    let mut bed = Bed::later();
    let peer = bed.ask([plain_request("/later/1"), upgrade_request("/later/2", "")].concat());
    let first = bed.ticket();
    bed.reactor.handler().on_open = Box::new(move |ctx| ctx.peer(first.id()).pause());
    bed.ask(upgrade_request("/", ""));
    bed.reactor.handler().on_open = Box::new(|_| {});
    bed.decide(first, Decision::Respond(ok("")));
    assert_eq!(status(&peer), "200");
    let second = bed.ticket();
    bed.decide(second, Decision::Accept(Accept::new()));
    assert_eq!(status(&peer), "101");
    peer.write_all(&message(TEXT, b"x"));
    bed.turn();
    assert_eq!(peer.read_all(), b"\x81\x01x");
}

#[test]
fn what_is_kept_for_a_request_is_dropped_unless_it_is_accepted() {
    let kept: std::rc::Rc<str> = "kept".into();
    let keeping = kept.clone();
    let mut bed = Bed::new(
        |_| {},
        vec![settings()],
        move |_, _| {
            let data: Kept = Some(keeping.clone());
            Verdict::Defer { timeout: Duration::from_secs(60), data }
        },
    );
    let alive = || Rc::strong_count(&kept) - 2;
    let _accepted = bed.ask(upgrade_request("/", ""));
    let ticket = bed.ticket();
    assert_eq!(alive(), 1);
    bed.decide(ticket, Decision::Accept(Accept::new()));
    assert_eq!(alive(), 1);
    let _refused = bed.ask(upgrade_request("/", ""));
    let ticket = bed.ticket();
    assert_eq!(alive(), 2);
    bed.decide(ticket, Decision::Reject(ok("")));
    assert_eq!(alive(), 1);
    let _late = bed.ask(upgrade_request("/", ""));
    assert_eq!(alive(), 2);
    bed.run_for(Duration::from_secs(61));
    assert_eq!(alive(), 1);
    let gone = bed.ask(upgrade_request("/", ""));
    assert_eq!(alive(), 2);
    gone.reset();
    bed.turn();
    assert_eq!(alive(), 1);
}
