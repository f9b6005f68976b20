//! Handshakes of TLS: torn, resumed, late, many at once.

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring::Ticketer;
use rustls::{AlertDescription, ProtocolVersion};

use crate::sim_bed::{Bed, echo};
use crate::sim_link::End;
use crate::sim_peer::{Frame, TEXT, message, plain_request, upgrade_request};
use crate::tls_peer::{Identity, TlsPeer, VERSIONS, client_config, parties, tls_echo};
use crate::tls_records::provider;

#[test]
fn both_versions_agree_on_http_1_1_and_count() {
    for (version, expected) in
        VERSIONS.into_iter().zip([ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3])
    {
        let (mut bed, client) = tls_echo(version);
        let mut peer = TlsPeer::open(&mut bed, &client);
        assert_eq!(peer.tls.protocol_version(), Some(expected));
        assert_eq!(peer.tls.alpn_protocol(), Some(&b"http/1.1"[..]));
        peer.say(&message(TEXT, b"hello"));
        peer.turns(&mut bed, 1);
        assert_eq!(peer.take_frames(), [Frame::new(TEXT, b"hello")]);
        let counters = bed.reactor.counters();
        assert_eq!((counters.tls_handshakes, counters.tls_resumptions), (1, 0));
        assert_eq!(counters.handshakes_completed, 1);
        assert_eq!(bed.reactor.usage().tls_sessions, 1);
    }
}

#[test]
fn client_without_alpn_is_welcome() {
    for version in VERSIONS {
        let (mut bed, client) = tls_echo(version);
        let mut other = (*client).clone();
        other.alpn_protocols.clear();
        TlsPeer::open(&mut bed, &Arc::new(other));
    }
}

#[test]
fn hello_torn_at_any_byte_and_with_junk_records_of_a_byte_is_understood() {
    for version in VERSIONS {
        let hello_bytes = {
            let (bed, client) = tls_echo(version);
            TlsPeer::connect(&bed, &client).outgoing().len()
        };
        for at in 0..=hello_bytes {
            let (mut bed, client) = tls_echo(version);
            let mut peer = TlsPeer::connect(&bed, &client);
            let hello = peer.outgoing();
            peer.socket.write_all(&hello[..at.min(hello.len())]);
            bed.turn();
            peer.socket.write_all(&hello[at.min(hello.len())..]);
            peer.upgrade(&mut bed);
        }
    }
}

#[test]
fn hello_split_over_records_of_any_size_is_understood() {
    for version in VERSIONS {
        for fragment_bytes in [32, 33, 50, 100, 200] {
            let (mut bed, client) = tls_echo(version);
            let mut small = (*client).clone();
            small.max_fragment_size = Some(fragment_bytes);
            let mut peer = TlsPeer::open(&mut bed, &Arc::new(small));
            peer.say(&message(TEXT, &[b'x'; 5000]));
            peer.turns(&mut bed, 2);
            assert_eq!(peer.take_frames(), [Frame::new(TEXT, &[b'x'; 5000])]);
        }
    }
}

#[test]
fn hello_in_plain_records_of_one_byte_each_is_understood() {
    for version in VERSIONS {
        let (mut bed, client) = tls_echo(version);
        let mut peer = TlsPeer::connect(&bed, &client);
        let hello = peer.outgoing();
        for byte in &hello[5..] {
            peer.socket.write_all(&[22, 3, 1, 0, 1, *byte]);
        }
        peer.upgrade(&mut bed);
    }
}

#[test]
fn request_behind_the_last_handshake_record_is_answered_at_once() {
    for version in VERSIONS {
        let (mut bed, client) = tls_echo(version);
        let mut peer = TlsPeer::connect(&bed, &client);
        peer.say(&plain_request("/x"));
        peer.turns(&mut bed, 4);
        assert!(peer.received.starts_with(b"HTTP/1.1 200 "));
    }
}

#[test]
fn no_version_in_common_is_answered_by_an_alert() {
    let identity = Identity::new(&["example.com"]);
    let tls = corewire::Tls::builder()
        .certificate_pem(identity.chain.as_bytes(), identity.key.as_bytes())
        .tls13_only()
        .build()
        .unwrap();
    let client = Arc::new(client_config(&[&identity], VERSIONS[0]));
    let mut bed = Bed::new(|settings| settings.tls = Some(tls), echo);
    let mut peer = TlsPeer::connect(&bed, &client);
    peer.turns(&mut bed, 3);
    assert_eq!(peer.alert(), Some(AlertDescription::ProtocolVersion));
    assert_eq!(peer.socket.end_seen(), End::Fin);
    assert_eq!(bed.reactor.counters().tls_errors, 1);
    peer.socket.fin();
    bed.turns(2);
    bed.assert_empty();
}

#[test]
fn sessions_are_resumed_by_tickets() {
    for version in VERSIONS {
        let (mut bed, client) = tls_echo(version);
        for round in 0..4 {
            let mut peer = TlsPeer::open(&mut bed, &client);
            let counters = bed.reactor.counters();
            assert_eq!((counters.tls_handshakes, counters.tls_resumptions), (round + 1, round));
            peer.say(&message(TEXT, b"again"));
            peer.turns(&mut bed, 2);
            assert_eq!(peer.take_frames(), [Frame::new(TEXT, b"again")]);
        }
    }
}

#[test]
fn another_provider_has_tickets_only_of_a_ticketer_that_was_named() {
    for version in VERSIONS {
        let identity = Identity::new(&["example.com"]);
        let named = corewire::Tls::builder()
            .certificate_pem(identity.chain.as_bytes(), identity.key.as_bytes())
            .provider(provider());
        let builders = [named.clone(), named.ticketer(Ticketer::new().unwrap())];
        for (builder, expected) in builders.into_iter().zip([0, 2]) {
            let tls = builder.build().unwrap();
            let mut bed = Bed::new(|settings| settings.tls = Some(tls), echo);
            let client = Arc::new(client_config(&[&identity], version));
            (0..3).for_each(|_| drop(TlsPeer::open(&mut bed, &client)));
            assert_eq!(bed.reactor.counters().tls_resumptions, expected);
        }
    }
}

#[test]
fn tickets_are_good_at_all_loops_that_share_the_settings() {
    for version in VERSIONS {
        let (tls, client) = parties(version);
        let other = tls.clone();
        let mut bed = Bed::new(|settings| settings.tls = Some(tls), echo);
        let mut other = Bed::new(|settings| settings.tls = Some(other), echo);
        TlsPeer::open(&mut bed, &client);
        TlsPeer::open(&mut other, &client);
        assert_eq!(other.reactor.counters().tls_resumptions, 1);
    }
}

#[test]
fn silent_dripping_and_half_done_handshakes_are_given_ten_seconds() {
    for version in VERSIONS {
        let (mut bed, client) = tls_echo(version);
        let silent = TlsPeer::connect(&bed, &client);
        let mut dripping = TlsPeer::connect(&bed, &client);
        let mut half_done = TlsPeer::connect(&bed, &client);
        let mut shaken = TlsPeer::connect(&bed, &client);
        half_done.turns(&mut bed, 1);
        half_done.push();
        shaken.shake_hands(&mut bed);
        let hello = dripping.outgoing();
        let mut drip = hello.iter();
        for _ in 0..19 {
            dripping.socket.write_all(&[*drip.next().unwrap()]);
            bed.run_for(Duration::from_millis(500));
        }
        assert_eq!(bed.reactor.usage().sockets, 4, "{:?}", bed.sim.elapsed());
        bed.run_for(Duration::from_millis(600));
        shaken.pull();
        let answer = String::from_utf8(shaken.received.clone()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(shaken.is_ended);
        for peer in [&silent.socket, &dripping.socket] {
            assert_eq!(peer.end_seen(), End::Fin);
            assert!(peer.read_all().is_empty(), "nothing can be said yet");
        }
        let counters = bed.reactor.counters();
        assert_eq!((counters.handshake_timeouts, counters.handshakes_refused), (4, 1));
        bed.run_for(Duration::from_secs(2));
        bed.assert_empty();
    }
}

/// Clients whose hellos wait for one turn.
fn crowd(bed: &Bed, client: &Arc<rustls::ClientConfig>, count: usize) -> Vec<TlsPeer> {
    let mut one = (**client).clone();
    one.resumption = rustls::client::Resumption::disabled();
    let one = Arc::new(one);
    let mut peers: Vec<_> = (0..count).map(|_| TlsPeer::connect(bed, &one)).collect();
    peers.iter_mut().for_each(TlsPeer::push);
    peers
}

#[test]
fn each_turn_has_time_for_so_many_handshakes_and_serves_them_in_the_order_they_came() {
    let (tls, client) = parties(VERSIONS[1]);
    let change = |settings: &mut crate::sim_bed::Settings| {
        settings.tls = Some(tls);
        settings.reactor.limits.accepts_per_turn = 2000;
    };
    let mut bed = Bed::new(change, echo);
    let mut neighbour = TlsPeer::open(&mut bed, &client);
    let peers = crowd(&bed, &client, 1000);
    bed.turn();
    let answered =
        |peers: &[TlsPeer]| peers.iter().filter(|it| it.socket.moved().to_peer_bytes > 0).count();
    assert_eq!(answered(&peers), 0, "accepted in this turn, told of in the next");
    let mut order = Vec::new();
    let mut total = 0;
    let mut turns = 0;
    while total < peers.len() {
        neighbour.say(&message(TEXT, b"still served"));
        neighbour.turns(&mut bed, 1);
        assert_eq!(neighbour.take_frames(), [Frame::new(TEXT, b"still served")]);
        let now = answered(&peers);
        assert!(now - total <= 16, "{now} after {total}");
        turns += 1;
        total = now;
        for (index, peer) in peers.iter().enumerate() {
            if peer.socket.moved().to_peer_bytes > 0 && !order.contains(&index) {
                order.push(index);
            }
        }
    }
    assert_eq!(turns, 1000_usize.div_ceil(16), "no turn is wasted");
    assert_eq!(order.len(), 1000);
    drop(peers);
}

#[test]
fn all_handshakes_of_a_crowd_come_to_their_end() {
    for version in VERSIONS {
        let (mut bed, client) = tls_echo(version);
        let mut peers = crowd(&bed, &client, 200);
        for peer in &mut peers {
            peer.say(&upgrade_request("/", ""));
        }
        for _ in 0..80 {
            bed.turn();
            for peer in &mut peers {
                peer.pull();
                peer.push();
            }
        }
        assert_eq!(bed.reactor.counters().tls_handshakes, 200);
        assert_eq!(bed.reactor.usage().open, 200);
        peers.iter().for_each(|peer| peer.socket.reset());
        bed.turns(3);
        bed.assert_empty();
    }
}

#[test]
fn in_a_storm_as_many_as_there_is_time_for_are_served_to_the_end_the_first_first() {
    for version in VERSIONS {
        // A handshake is two steps, and there is time for 400 of them before the deadline.
        for count in [300, 600, 1000] {
            let (tls, client) = parties(version);
            let change = |settings: &mut crate::sim_bed::Settings| {
                settings.tls = Some(tls);
                settings.reactor.limits.tls_handshakes_per_turn = 1;
                settings.reactor.limits.accepts_per_turn = 2000;
            };
            let mut bed = Bed::new(change, echo);
            let mut peers = crowd(&bed, &client, count / 2);
            bed.turns(3);
            peers.extend(crowd(&bed, &client, count / 2));
            for _ in 0..420 {
                bed.turn();
                for peer in &mut peers {
                    peer.pull();
                    if !peer.tls.is_handshaking() && peer.received.is_empty() {
                        peer.say(&plain_request("/"));
                    }
                    peer.push();
                }
                bed.sim.advance(Duration::from_millis(25));
            }
            let served = |peers: &[TlsPeer]| {
                peers.iter().filter(|peer| peer.received.starts_with(b"HTTP/1.1 200 ")).count()
            };
            let (early, late) = peers.split_at(count / 2);
            let (early, late) = (served(early), served(late));
            assert!((180..=203).contains(&(early + late)), "{early} and {late} of {count}");
            assert!(late == 0 || early == count / 2, "{early} and {late} of {count}");
            let counters = bed.reactor.counters();
            assert!(counters.tls_handshakes <= (early + late + 1) as u64, "none for nothing");
        }
    }
}

#[test]
fn those_who_wait_for_their_handshake_may_go_at_any_time() {
    let (mut bed, client) = tls_echo(VERSIONS[1]);
    let peers = crowd(&bed, &client, 100);
    bed.turns(3);
    for (index, peer) in peers.iter().enumerate() {
        match index % 3 {
            0 => peer.socket.reset(),
            1 => peer.socket.fin(),
            _ => {}
        }
    }
    bed.turns(20);
    bed.run_for(Duration::from_secs(11));
    bed.assert_empty();
}
