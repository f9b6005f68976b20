//! What TLS may take, what it gives back, and what it counts.

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use corewire::{
    Adoption, CloseCause, Config, Context, Endpoint, Failure, Handler, ListenOptions,
    ListenerSettings, Message, MioNet, Net, Reactor, ReactorConfig, Role, limits,
};
use rustls::SupportedProtocolVersion;

use crate::sim_bed::{Bed, echo};
use crate::sim_link::End;
use crate::sim_peer::{
    BINARY, Frame, TEXT, close, frames, message, plain_request, upgrade_request,
};
use crate::tls_peer::{TlsPeer, VERSIONS, parties, tls_echo};

/// An echo whose connections may hold so many bytes of TLS, all together.
fn narrow_echo(
    version: &'static SupportedProtocolVersion,
    bytes_max: usize,
) -> (Bed, std::sync::Arc<rustls::ClientConfig>) {
    let (tls, client) = parties(version);
    let change = |settings: &mut crate::sim_bed::Settings| {
        settings.tls = Some(tls);
        settings.reactor.limits.tls_bytes_max = bytes_max;
    };
    (Bed::new(change, echo), client)
}

#[test]
fn idle_connection_holds_its_session_and_no_buffers() {
    for version in VERSIONS {
        let (mut bed, client) = tls_echo(version);
        // The first grows what all share.
        let mut first = TlsPeer::open(&mut bed, &client);
        first.say(&message(BINARY, &[1; 1 << 20]));
        first.turns(&mut bed, 8);
        let before = bed.reactor.usage();
        let mut peer = TlsPeer::open(&mut bed, &client);
        let pinned = |bed: &Bed| bed.reactor.usage().pinned_bytes - before.pinned_bytes;
        let idle_bytes = pinned(&bed);
        assert!(idle_bytes >= limits::TLS_SESSION_BYTES);
        assert!(idle_bytes < limits::TLS_SESSION_BYTES + 300, "{idle_bytes}");
        // A torn record is held until its rest comes.
        let records = peer.records_of(&message(BINARY, &[7; 10_000]));
        peer.socket.write_all(&records[..9000]);
        bed.turn();
        assert!(pinned(&bed) >= idle_bytes + 9000, "{}", pinned(&bed));
        peer.socket.write_all(&records[9000..]);
        peer.turns(&mut bed, 2);
        assert_eq!(peer.take_frames(), [Frame::new(BINARY, &[7; 10_000])]);
        assert_eq!(pinned(&bed), idle_bytes);
        // Records that the kernel refuses are held until it takes them.
        peer.socket.set_buffers(1 << 20, 2000);
        peer.say(&message(BINARY, &[7; 10_000]));
        peer.push();
        bed.turn();
        assert!(pinned(&bed) >= idle_bytes + 8000, "{}", pinned(&bed));
        for _ in 0..20 {
            bed.turn();
            peer.pull();
        }
        assert_eq!(peer.take_frames().len(), 1);
        assert_eq!(pinned(&bed), idle_bytes);
        // As does a message that is much larger than any buffer of a connection.
        peer.socket.set_buffers(4 << 20, 4 << 20);
        peer.say(&message(BINARY, &[7; 1 << 20]));
        peer.turns(&mut bed, 8);
        assert_eq!(peer.take_frames().len(), 1);
        assert_eq!(pinned(&bed), idle_bytes);
    }
}

#[test]
fn connections_beyond_the_bound_are_closed_and_counted_and_the_others_live() {
    for version in VERSIONS {
        let (mut bed, client) = narrow_echo(version, 4 * limits::TLS_SESSION_BYTES + 20_000);
        let mut peers: Vec<_> = (0..4).map(|_| TlsPeer::open(&mut bed, &client)).collect();
        for _ in 0..10 {
            peers.push(TlsPeer::open(&mut bed, &client));
            if bed.reactor.usage().tls_sessions == 9 {
                break;
            }
        }
        assert_eq!(bed.reactor.usage().tls_sessions, 9);
        let refused = TlsPeer::connect(&bed, &client);
        bed.turns(2);
        assert_ne!(refused.socket.end_seen(), End::None);
        assert_eq!(bed.reactor.counters().pool_exhausted, 1);
        for peer in &mut peers {
            peer.say(&message(TEXT, b"alive"));
            peer.turns(&mut bed, 2);
            assert_eq!(peer.take_frames(), [Frame::new(TEXT, b"alive")]);
        }
        peers.pop().unwrap().socket.reset();
        bed.turns(2);
        TlsPeer::open(&mut bed, &client);
    }
}

#[test]
fn those_who_hold_records_at_the_bound_are_closed_and_the_others_live() {
    for version in VERSIONS {
        let (mut bed, client) = narrow_echo(version, 20 * limits::TLS_SESSION_BYTES + 10_000);
        let mut quiet = TlsPeer::open(&mut bed, &client);
        let mut holding: Vec<_> = (0..19).map(|_| TlsPeer::open(&mut bed, &client)).collect();
        for peer in &mut holding {
            let records = peer.records_of(&message(BINARY, &[7; 16_000]));
            peer.socket.write_all(&records[..8000]);
        }
        bed.turns(2);
        // Whoever sends on while there is too much.
        for peer in &holding {
            peer.socket.write(&[0]);
        }
        bed.turns(3);
        let usage = bed.reactor.usage();
        assert!((1..20).contains(&usage.open), "{usage:?}");
        for peer in &mut holding {
            peer.pull();
        }
        let told = holding.iter().filter(|peer| !peer.received.is_empty());
        let codes: Vec<_> = told.map(|peer| frames(&peer.received).0[0].close_code()).collect();
        assert_eq!(codes, vec![Some(1013); 20 - usage.open]);
        bed.run_for(Duration::from_secs(2));
        assert!(bed.reactor.usage().tls_sessions < 20);
        let log = bed.log.borrow();
        let causes = log.iter().filter_map(|entry| match &entry.heard {
            crate::sim_bed::Heard::Close(summary) => Some(summary.cause),
            _ => None,
        });
        let exhausted = CloseCause::Failed(Failure::PoolExhausted);
        assert!(causes.clone().count() > 0);
        assert!(causes.into_iter().all(|cause| cause == exhausted));
        drop(log);
        quiet.say(&message(TEXT, b"alive"));
        quiet.turns(&mut bed, 2);
        assert_eq!(quiet.take_frames(), [Frame::new(TEXT, b"alive")]);
    }
}

#[test]
fn slow_readers_hold_no_more_than_the_bound_and_a_small_record_each() {
    const COUNT: usize = 40;
    // A record of 1 KiB, and what TLS adds to it.
    const SCANT_BYTES: usize = 1100;
    for version in VERSIONS {
        // A session takes more before its handshake is over.
        let least = limits::TLS_HANDSHAKE_BYTES - limits::TLS_SESSION_BYTES;
        for free_bytes in [least, 10_000, 100_000, 500_000] {
            let bound = COUNT * limits::TLS_SESSION_BYTES + free_bytes;
            let (mut bed, client) = narrow_echo(version, bound);
            let mut peers: Vec<_> = (0..COUNT).map(|_| TlsPeer::open(&mut bed, &client)).collect();
            for peer in &mut peers {
                peer.socket.set_buffers(1 << 20, 1000);
                peer.say(&message(BINARY, &[1; 60_000]));
                peer.push();
                bed.turn();
                assert!(bed.reactor.usage().tls_bytes <= bound + COUNT * SCANT_BYTES);
            }
            let held = bed.reactor.usage().tls_bytes;
            assert!(held + SCANT_BYTES >= bound, "{held} of {bound}");
            for _ in 0..150 {
                for peer in &mut peers {
                    peer.pull();
                }
                bed.turn();
                assert!(bed.reactor.usage().tls_bytes <= bound + COUNT * SCANT_BYTES);
            }
            for peer in &mut peers {
                assert_eq!(peer.take_frames(), [Frame::new(BINARY, &[1; 60_000])]);
            }
            assert_eq!(bed.reactor.usage().tls_bytes, COUNT * limits::TLS_SESSION_BYTES);
        }
    }
}

#[test]
fn connections_dropped_at_every_stage_in_every_way_leave_nothing() {
    let (tls, client) = parties(VERSIONS[1]);
    let mut bed = Bed::new(|settings| settings.tls = Some(tls), echo);
    let mut pinned_bytes = Vec::new();
    for batch in 0..12 {
        let mut peers = Vec::new();
        for stage in 0..50 {
            let mut peer = TlsPeer::connect(&bed, &client);
            peer.socket.set_buffers(1 << 20, 3000);
            let hello = peer.outgoing();
            match stage % 10 {
                0 => {}
                1 => peer.socket.write_all(&hello[..4]),
                2 => peer.socket.write_all(&hello[..100]),
                3 => peer.socket.write_all(&hello),
                4 => peer.socket.write_all(b"GET / HTTP/1.1\r\n\r\n"),
                stage => {
                    peer.socket.write_all(&hello);
                    match stage {
                        5 => {}
                        6 => peer.say(&plain_request("/large")),
                        7 => peer.say(&upgrade_request("/", "")),
                        8 => {
                            peer.say(&upgrade_request("/", ""));
                            peer.say(&message(BINARY, &[1; 50_000]));
                        }
                        _ => {
                            peer.say(&upgrade_request("/", ""));
                            peer.say(&message(BINARY, &[1; 50_000])[..30_000]);
                        }
                    }
                }
            }
            peers.push((stage % 10, peer));
        }
        for _ in 0..8 {
            bed.turn();
            for (stage, peer) in &mut peers {
                if *stage >= 5 {
                    peer.pull_at_most(3000);
                    peer.push();
                }
            }
        }
        assert_eq!(bed.reactor.usage().tls_sessions, 50);
        for (stage, mut peer) in peers {
            match batch % 4 {
                0 => peer.socket.fin(),
                1 => peer.socket.reset(),
                2 if stage >= 5 => {
                    peer.say(&close(1000));
                    peer.tls.send_close_notify();
                    peer.push();
                }
                // And silence.
                _ => {}
            }
        }
        bed.run_for(Duration::from_secs(200));
        bed.assert_empty();
        pinned_bytes.push(bed.reactor.usage().pinned_bytes);
        bed.log.borrow_mut().clear();
    }
    assert!(pinned_bytes[4..].iter().all(|bytes| *bytes <= pinned_bytes[3]), "{pinned_bytes:?}");
}

struct Deaf;

impl Handler for Deaf {
    type Data = ();

    fn on_message(&mut self, _: &mut Context<'_, ()>, _: Message<'_>) {}
}

#[test]
fn connection_adopted_at_the_bound_is_an_error_and_leaves_nothing() {
    let (tls, _) = parties(VERSIONS[1]);
    let mut config = ReactorConfig::new([1; 32]);
    config.limits.tls_bytes_max = limits::TLS_HANDSHAKE_BYTES + 1000;
    let mut reactor = Reactor::new(MioNet::new(1 << 16).unwrap(), Deaf, config);
    let mut settings = ListenerSettings::new(Config::new(Role::Server));
    settings.tls = Some(tls);
    reactor.listen(Endpoint::Detached, &ListenOptions::default(), settings).unwrap();
    let pair = || UnixStream::pair().unwrap();
    let (ours, theirs) = pair();
    reactor.adopt(Adoption::new(ours, 0)).unwrap();
    let sockets = |reactor: &mut Reactor<MioNet, Deaf>| {
        // It waits if nothing is left to be done, and then the slot would stay.
        reactor.turn(Some(Duration::ZERO)).unwrap();
        reactor.usage().sockets
    };
    assert_eq!(sockets(&mut reactor), 1);
    let is_closed = |mut stream: &UnixStream| matches!(stream.read(&mut [0]), Ok(0));
    for bytes in ["", "\x16\x03"] {
        let (ours, beyond) = pair();
        let error = reactor.adopt(Adoption::new(ours, 0).with_bytes(bytes)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        assert!(is_closed(&beyond));
        let began = Instant::now();
        reactor.turn(Some(Duration::from_secs(5))).unwrap();
        assert!(began.elapsed() < Duration::from_secs(4), "it does not wait for another event");
        assert_eq!(reactor.usage().sockets, 1);
    }
    let (ours, beyond) = pair();
    reactor.handle().adopt(Adoption::new(ours, 0)).unwrap();
    assert_eq!(sockets(&mut reactor), 1);
    assert!(is_closed(&beyond));
    let counters = reactor.counters();
    assert_eq!((counters.adoptions_failed, counters.pool_exhausted), (1, 3));
    drop(theirs);
    assert_eq!(sockets(&mut reactor), 0);
    let (ours, _theirs) = pair();
    reactor.adopt(Adoption::new(ours, 0)).unwrap();
}

#[test]
fn budget_of_no_handshakes_counts_as_one() {
    for version in VERSIONS {
        let (tls, client) = parties(version);
        let change = |settings: &mut crate::sim_bed::Settings| {
            settings.tls = Some(tls);
            settings.reactor.limits.tls_handshakes_per_turn = 0;
        };
        let mut bed = Bed::new(change, echo);
        let mut peer = TlsPeer::open(&mut bed, &client);
        peer.say(&message(TEXT, b"Hello"));
        peer.turns(&mut bed, 4);
        assert_eq!(peer.take_frames(), [Frame::new(TEXT, b"Hello")]);
        let now = bed.reactor.net().now();
        assert!(bed.reactor.next_deadline().is_some_and(|deadline| deadline > now), "it rests");
    }
}
