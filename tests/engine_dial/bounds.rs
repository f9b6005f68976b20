//! Dials that meet a bound, an error number or a torn stream.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use corewire::opening::{ClientRequest, WebSocketUri};
use corewire::{
    Config, ConnectionId, DialError, DialPhase, DialSettings, ListenOptions, ListenerSettings,
    RemoteAddress, Role,
};

use crate::client_bed::{Bed, Heard, address};
use crate::naive::Frame;
use crate::sim_errno::{EAGAIN, ECONNRESET, EINTR, ENOBUFS, EPIPE, ETIMEDOUT};
use crate::sim_host::Reply;
use crate::sim_link::End;
use crate::sim_net::SimPeer;
use crate::sim_server::SimServer;
use crate::sim_world::Call;

/// The only failure of `id`.
fn failure(bed: &mut Bed, id: ConnectionId) -> &DialError {
    &bed.failure(id).error
}

#[test]
fn loop_takes_no_more_connections_than_it_may_have() {
    let mut bed = Bed::new(|settings| settings.reactor.limits.connections_max = 2);
    let (first, ..) = bed.open();
    let second = bed.dial();
    let remotes = || [RemoteAddress::from(address())];
    let dial = bed.dial.clone();
    assert!(matches!(bed.reactor.dial(remotes(), &dial, 0), Err(DialError::NoRoom)));
    bed.order(move |at| at.give_up(second));
    bed.turns(2);
    assert!(bed.reactor.dial(remotes(), &dial, 0).is_ok());
    assert!(bed.heard(first).contains(&Heard::Open));
    assert_eq!(bed.reactor.counters().dialled, 3);
}

/// Somebody asks the loop for a WebSocket; the status of its answer.
fn visit(bed: &mut Bed, listener: SocketAddr) -> (SimPeer, String) {
    let visitor = bed.sim.connect(listener);
    visitor.write_all(
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    bed.turns(3);
    let answer = String::from_utf8(visitor.read_all()).unwrap();
    let status = answer.split(' ').nth(1).expect("a status").to_owned();
    (visitor, status)
}

#[test]
fn accepted_connections_and_dialled_ones_have_one_bound() {
    let mut bed = Bed::new(|settings| settings.reactor.limits.connections_max = 3);
    let listener = SocketAddr::from(([192, 0, 2, 99], 80));
    let settings = ListenerSettings::new(Config::new(Role::Server));
    bed.reactor.listen(listener, &ListenOptions::default(), settings).unwrap();
    let (visitor, status) = visit(&mut bed, listener);
    assert_eq!(status, "101");
    // Who has not asked yet takes no place.
    let _silent: Vec<_> = (0..5).map(|_| bed.sim.connect(listener)).collect();
    bed.turns(2);
    let (_, server) = bed.open();
    let on_its_way = bed.dial();
    assert_eq!((bed.reactor.usage().open, bed.reactor.usage().dialling), (2, 1));
    let dial = bed.dial.clone();
    let remotes = || [RemoteAddress::from(address())];
    assert!(matches!(bed.reactor.dial(remotes(), &dial, 0), Err(DialError::NoRoom)));
    assert_eq!(visit(&mut bed, listener).1, "503");
    // A place that becomes free goes to whoever comes first.
    visitor.reset();
    bed.turns(2);
    let (_visitor, status) = visit(&mut bed, listener);
    assert_eq!(status, "101");
    assert!(matches!(bed.reactor.dial(remotes(), &dial, 0), Err(DialError::NoRoom)));
    bed.order(move |at| at.give_up(on_its_way));
    bed.turns(2);
    let next = bed.reactor.dial(remotes(), &dial, 0).unwrap();
    assert_eq!(visit(&mut bed, listener).1, "503");
    server.peer.reset();
    bed.turns(2);
    assert_eq!(visit(&mut bed, listener).1, "101");
    bed.order(move |at| at.give_up(next));
    bed.turns(2);
    assert_eq!(bed.reactor.usage().dialling, 0);
}

#[test]
fn dial_that_finds_no_memory_for_its_request_is_told_so() {
    let mut bed = Bed::new(|settings| settings.reactor.limits.rings_max = 0);
    let id = bed.dial();
    bed.turns(2);
    assert!(matches!(failure(&mut bed, id), DialError::NoRoom));
    assert_eq!(bed.reactor.counters().pool_exhausted, 1);
    bed.assert_empty();
}

#[test]
fn dial_that_finds_no_memory_for_its_answer_is_told_so() {
    let mut bed = Bed::new(|settings| settings.reactor.limits.block_bytes_max = 0);
    let (id, server, _) = bed.dial_and_ask();
    server.peer.write_all(b"HTTP/1.1 101 Swi");
    bed.turns(2);
    assert!(matches!(failure(&mut bed, id), DialError::NoRoom));
    bed.assert_empty();
}

#[test]
fn settings_that_cannot_be_and_no_address_are_the_callers_errors() {
    let mut bed = Bed::new(|_| {});
    let uri = WebSocketUri::parse("ws://example.com/").unwrap();
    let wrong = Arc::new(DialSettings::new(ClientRequest::new(uri), Config::new(Role::Server)));
    let remote = RemoteAddress::from(address());
    let right = bed.dial.clone();
    for (remotes, settings, kind) in [
        (vec![remote], &wrong, ErrorKind::InvalidInput),
        (vec![], &right, ErrorKind::AddrNotAvailable),
    ] {
        let told = bed.reactor.dial(remotes, settings, 0);
        let Err(DialError::Io { phase: DialPhase::Connect, error }) = told else { panic!() };
        assert_eq!(error.kind(), kind);
    }
    bed.turns(2);
    assert!(bed.reactor.handler().failures.is_empty(), "nothing is told twice");
    assert_eq!(bed.reactor.counters().dialled, 0);
    bed.assert_empty();
}

#[test]
fn thousand_dials_at_once_are_begun_turn_by_turn() {
    let mut bed = Bed::new(|_| {});
    let ids: Vec<_> = (0..1000).map(|_| bed.dial()).collect();
    for turn in 1..=16 {
        bed.turn();
        assert_eq!(bed.host.tries(), (64 * turn).min(1000));
    }
    bed.turn();
    for _ in 0..1000 {
        SimServer::new(bed.host.next().unwrap()).upgrade();
    }
    bed.turns(2);
    assert_eq!(bed.reactor.usage().open, 1000);
    for (at, id) in ids.iter().enumerate() {
        assert_eq!(bed.heard(*id).len(), 2, "{at}");
    }
    // All are lost at once, too.
    bed.host.reset_all();
    bed.turns(2);
    assert_eq!(bed.reactor.counters().closed, 1000);
    bed.assert_empty();
}

#[test]
fn every_errno_of_a_call_is_told_with_its_phase() {
    for (call, errno, told) in [
        // After a write that failed the answer is looked for: a read says how the connection is.
        (Call::Send, EPIPE, ECONNRESET),
        (Call::Send, ECONNRESET, ECONNRESET),
        (Call::Send, ENOBUFS, ECONNRESET),
        (Call::Receive, ECONNRESET, ECONNRESET),
        (Call::Receive, ETIMEDOUT, ETIMEDOUT),
        (Call::Receive, ENOBUFS, ENOBUFS),
    ] {
        let mut bed = Bed::new(|_| {});
        let id = bed.dial();
        bed.sim.fail(call, &[errno]);
        bed.turns(2);
        if call == Call::Receive {
            bed.host.next().unwrap().write_all(b"HTTP/1.1 1");
        }
        bed.turns(2);
        let expected = std::io::Error::from_raw_os_error(told).kind();
        let DialError::Io { phase, error } = failure(&mut bed, id) else { panic!() };
        assert_eq!((*phase, error.kind()), (DialPhase::Upgrade, expected), "{call:?}");
        assert_eq!(bed.sim.hits(call, errno), 1);
        bed.assert_empty();
    }
}

#[test]
fn calls_that_would_block_or_are_interrupted_are_made_again() {
    let mut bed = Bed::new(|_| {});
    bed.sim.fail(Call::FinishConnect, &[EAGAIN, EAGAIN]);
    bed.sim.fail(Call::Send, &[EINTR, EAGAIN]);
    bed.sim.shorten(Call::Send, &[1, 2, 3]);
    let id = bed.dial();
    bed.host.replies(Reply::Accept);
    bed.run_for(Duration::from_millis(300));
    let mut server = SimServer::new(bed.host.next().unwrap());
    bed.sim.fail(Call::Receive, &[EINTR, EAGAIN]);
    bed.sim.shorten(Call::Receive, &[1, 1, 7]);
    server.upgrade();
    bed.run_for(Duration::from_millis(300));
    assert!(bed.heard(id).contains(&Heard::Open));
}

#[test]
fn answer_in_front_of_a_reset_is_told_though_the_request_was_not_all_written() {
    for answer in [&b""[..], b"HTTP/1.1 431 Long\r\nContent-Length: 2\r\n\r\nno"] {
        let mut bed = Bed::new(|_| {});
        bed.sim.0.borrow_mut().to_peer_max = 40;
        let id = bed.dial();
        bed.turns(2);
        let peer = bed.host.next().unwrap();
        assert_eq!(peer.moved().to_peer_bytes, 40, "the rest waits");
        peer.write_all(answer);
        peer.reset();
        bed.turns(2);
        match (answer.is_empty(), failure(&mut bed, id)) {
            (true, DialError::Io { phase: DialPhase::Upgrade, .. }) => {}
            (false, DialError::Refused(refusal)) => {
                assert_eq!((refusal.status, &refusal.body[..]), (431, &b"no"[..]));
            }
            told => panic!("{told:?}"),
        }
        bed.assert_empty();
    }
}

#[test]
fn request_that_the_kernel_takes_byte_by_byte_arrives() {
    let mut bed = Bed::new(|_| {});
    bed.sim.0.borrow_mut().to_peer_max = 3;
    let id = bed.dial();
    bed.turns(2);
    let mut server = SimServer::new(bed.host.next().unwrap());
    let request = loop {
        if let Some(request) = server.request() {
            break request;
        }
        bed.turn();
    };
    server.peer.write_all(&request.switching(""));
    bed.turn();
    assert!(bed.heard(id).contains(&Heard::Open));
}

#[test]
fn end_of_the_stream_right_behind_the_answer_ends_what_has_opened() {
    for (end, bytes) in [
        (End::Fin, vec![]),
        (End::Reset, vec![]),
        (End::Fin, Frame::text("last").encode()),
        (End::Reset, Frame::text("last").encode()),
    ] {
        let mut bed = Bed::new(|_| {});
        let (id, server, request) = bed.dial_and_ask();
        server.peer.write_all(&[request.switching(""), bytes.clone()].concat());
        if end == End::Fin {
            server.peer.fin()
        } else {
            server.peer.reset()
        }
        bed.turns(3);
        let mut heard = bed.heard(id).into_iter();
        assert!(matches!(heard.next(), Some(Heard::Answer(101, _))));
        assert_eq!(heard.next(), Some(Heard::Open));
        if !bytes.is_empty() {
            assert_eq!(heard.next(), Some(Heard::Text("last".into())));
        }
        let Some(Heard::Close(summary)) = heard.next() else { panic!("{end:?}") };
        assert_eq!(summary.code.as_u16(), 1006);
        assert_eq!(heard.next(), None);
        bed.assert_empty();
    }
}
