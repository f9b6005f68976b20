//! A client's handshake: begun late, torn anywhere, spoilt anywhere, resumed, charged for.

use std::io::ErrorKind;
use std::sync::Arc;

use rustls::HandshakeKind;
use rustls::crypto::ring;

use super::certified::{Authority, ClientAuth, VERSIONS, parties, server_config};
use super::ends::{COARSE, End, Foreign, Grain, KEY, MAKERS, Ours, Wire, exchange};
use crate::limits::{LoopLimits, TLS_HANDSHAKE_BYTES, TLS_SESSION_BYTES};
use crate::reactor::net::NetKey;
use crate::reactor::tls::TlsVersion;
use crate::reactor::transport::{Flushed, Reading, Transport, Urgency};

#[test]
fn both_versions_agree_on_http_1_1_and_tell_what_the_server_has_shown() {
    for (version, told) in VERSIONS.into_iter().zip([TlsVersion::Tls12, TlsVersion::Tls13]) {
        let authority = Authority::new();
        let certified = authority.certify(&["example.com"]);
        let config = Arc::new(server_config(version, &certified, &ClientAuth::None));
        let tls = authority.client().build().unwrap();
        let [near, far] = Wire::pair(COARSE);
        let mut client = Ours::client(&tls, "example.com", near);
        assert!(client.transport.is_handshaking(KEY) && client.transport.is_secured(KEY));
        let mut server = Foreign::new(config, far);
        exchange(&mut client, &mut server);
        assert_eq!(server.tls.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(server.tls.server_name(), Some("example.com"));
        let facts = client.transport.tls_facts(KEY).unwrap();
        assert_eq!((facts.version, facts.peer_certificates), (told, &[certified.der][..]));
        let counters = client.transport.counters();
        assert_eq!((counters.tls_handshakes, counters.tls_resumptions), (1, 0));
        assert_eq!(client.transport.links(), 1);
    }
}

/// What a server answers to a hello.
fn flight(client: &mut Ours, server: &mut dyn End, near: &Wire) -> Vec<u8> {
    server.step();
    let flight = near.intercept();
    assert!(flight.len() > 500 && client.transport.is_handshaking(KEY));
    flight
}

#[test]
fn servers_flight_torn_at_any_byte_is_understood_and_one_cut_off_there_is_not() {
    for version in VERSIONS {
        let authority = Authority::new();
        let certified = authority.certify(&["example.com"]);
        let config = Arc::new(server_config(version, &certified, &ClientAuth::None));
        let mut flight_bytes = usize::MAX;
        for at in 0.. {
            if at > flight_bytes {
                break;
            }
            let endings: &[bool] = if at % 8 == 3 { &[false, true] } else { &[false] };
            for &is_cut_off in endings {
                // A fresh one has nothing to resume, so the flight is a whole one.
                let tls = authority.client().build().unwrap();
                let [near, far] = Wire::pair(COARSE);
                let mut client = Ours::client(&tls, "example.com", near.clone());
                let mut server = Foreign::new(config.clone(), far);
                let flight = flight(&mut client, &mut server, &near);
                let (head, rest) = flight.split_at(at.min(flight.len()));
                near.inject(head);
                client.step();
                if is_cut_off && client.transport.is_handshaking(KEY) {
                    near.cut_off();
                    client.step();
                    assert_eq!(client.error, Some(ErrorKind::UnexpectedEof), "{at}");
                    assert_eq!(client.failure(), None);
                    assert_eq!(client.transport.counters().tls_truncations, 0);
                } else {
                    near.inject(rest);
                    client.say(b"hello");
                    exchange(&mut client, &mut server);
                    assert_eq!((client.error, server.heard()), (None, &b"hello"[..]), "{at}");
                }
                flight_bytes = flight.len();
            }
        }
    }
}

#[test]
fn servers_flight_spoilt_at_any_byte_is_refused_or_waited_for_and_the_reason_is_told() {
    for version in VERSIONS {
        let authority = Authority::new();
        let certified = authority.certify(&["example.com"]);
        let config = Arc::new(server_config(version, &certified, &ClientAuth::None));
        // Nothing is resumed, so that each flight is a whole one.
        let mut refused = 0;
        let mut flight_bytes = usize::MAX;
        let mut at = 0;
        while at < flight_bytes {
            let tls = authority.client().build().unwrap();
            let [near, far] = Wire::pair(COARSE);
            let mut client = Ours::client(&tls, "example.com", near.clone());
            let mut server = Foreign::new(config.clone(), far);
            let mut flight = flight(&mut client, &mut server, &near);
            flight_bytes = flight.len();
            // Signatures are of one length or another.
            if let Some(byte) = flight.get_mut(at) {
                *byte ^= 1 << (at % 8);
            }
            near.inject(&flight);
            exchange(&mut client, &mut server);
            match client.error {
                Some(error) => {
                    assert_eq!(error, ErrorKind::InvalidData);
                    assert!(client.failure().is_some(), "{at}");
                    assert_eq!(client.transport.counters().tls_errors, 1);
                    refused += 1;
                }
                // A record was made longer, or the version in a header was, which nobody reads.
                None => assert!(client.failure().is_none()),
            }
            at += 3;
        }
        assert!(refused > flight_bytes / 3 * 9 / 10, "{refused} of {flight_bytes} bytes");
    }
}

#[test]
fn sessions_are_resumed_by_tickets_and_by_what_the_server_keeps() {
    for version in VERSIONS {
        for maker in MAKERS {
            for tickets in [true, false] {
                let authority = Authority::new();
                let certified = authority.certify(&["example.com"]);
                let mut config = server_config(version, &certified, &ClientAuth::None);
                if tickets {
                    config.ticketer = ring::Ticketer::new().unwrap();
                }
                let (config, tls) = (Arc::new(config), authority.client().build().unwrap());
                for round in 0..4 {
                    let [near, far] = Wire::pair(COARSE);
                    let mut client = Ours::client(&tls.clone(), "example.com", near);
                    let mut server = maker.server(&config, far);
                    server.say(b"tickets are read with it");
                    exchange(&mut client, &mut *server);
                    assert!(client.is_open());
                    let counters = client.transport.counters();
                    let resumed = u64::from(round > 0);
                    assert_eq!((counters.tls_handshakes, counters.tls_resumptions), (1, resumed));
                    let facts = client.transport.tls_facts(KEY).unwrap();
                    assert_eq!(facts.peer_certificates, std::slice::from_ref(&certified.der));
                }
            }
        }
    }
}

#[test]
fn another_name_is_another_server_and_resumes_nothing() {
    let authority = Authority::new();
    let certified = authority.certify(&["a.example", "b.example"]);
    let config = Arc::new(server_config(VERSIONS[1], &certified, &ClientAuth::None));
    let tls = authority.client().build().unwrap();
    for (name, kind) in [
        ("a.example", HandshakeKind::Full),
        ("b.example", HandshakeKind::Full),
        ("a.example", HandshakeKind::Resumed),
        ("b.example", HandshakeKind::Resumed),
    ] {
        let [near, far] = Wire::pair(COARSE);
        let mut client = Ours::client(&tls, name, near);
        let mut server = Foreign::new(config.clone(), far);
        exchange(&mut client, &mut server);
        assert_eq!(server.tls.handshake_kind(), Some(kind), "{name}");
    }
}

#[test]
fn hello_that_is_refused_waits_and_goes_on_when_there_is_room() {
    let (config, tls) = parties(VERSIONS[1]);
    let [near, far] = Wire::pair(Grain { room_bytes: 0, ..COARSE });
    let mut client = Ours::client(&tls, "example.com", near.clone());
    assert!(client.transport.has_pending(KEY));
    assert_eq!(client.transport.unsent_bytes(KEY), 0, "there is no payload in it");
    assert!(client.transport.pinned_bytes() > TLS_HANDSHAKE_BYTES, "what waits counts");
    assert_eq!(client.transport.flush(KEY).unwrap(), Flushed::Nothing);
    near.set_grain(Grain { room_bytes: 10, ..COARSE });
    assert_eq!(client.transport.flush(KEY).unwrap(), Flushed::Some);
    assert_eq!(near.written_bytes(), 10);
    near.set_grain(COARSE);
    assert_eq!(client.transport.flush(KEY).unwrap(), Flushed::Some);
    assert!(!client.transport.has_pending(KEY));
    assert_eq!(client.transport.pinned_bytes(), TLS_HANDSHAKE_BYTES);
    let mut server = Foreign::new(config, far);
    exchange(&mut client, &mut server);
    assert!(client.is_open());
}

#[test]
fn network_that_fails_under_the_hello_is_an_error_at_once() {
    let (_, tls) = parties(VERSIONS[1]);
    let [near, _far] = Wire::pair(COARSE);
    near.set_broken();
    let mut transport = Transport::new(near, &LoopLimits::default());
    transport.begin_turn();
    transport.secure_client(KEY, &tls, "example.com").unwrap();
    let error = transport.receive(KEY, &mut [], 1 << 16).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    transport.close(KEY);
    assert_eq!((transport.links(), transport.pinned_bytes()), (0, 0));
}

#[test]
fn hello_is_a_step_of_a_handshake_and_waits_for_a_turn_with_time_for_it() {
    let (config, tls) = parties(VERSIONS[1]);
    let limits = LoopLimits { tls_handshakes_per_turn: 1, ..LoopLimits::default() };
    let [near, far] = Wire::pair(COARSE);
    let mut client = Ours::over(near.clone(), &limits);
    client.transport.begin_turn();
    client.transport.secure_client(NetKey(0), &tls, "example.com").unwrap();
    let error = client.transport.receive(NetKey(0), &mut [], 1 << 16).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    far.intercept();
    let written_bytes = near.written_bytes();
    client.transport.secure_client(KEY, &tls, "example.com").unwrap();
    let later = client.transport.receive(KEY, &mut [], 1 << 16).unwrap();
    assert!(matches!(later, Reading::Later(Urgency::Fresh)));
    assert_eq!(near.written_bytes(), written_bytes);
    let begun = client.transport.receive(NetKey(0), &mut [], 1 << 16).unwrap();
    assert!(matches!(begun, Reading::Later(Urgency::Begun)));
    client.transport.begin_turn();
    let error = client.transport.receive(KEY, &mut [], 1 << 16).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "it was said, and is not answered yet");
    assert!(near.written_bytes() > written_bytes);
    exchange(&mut client, &mut Foreign::new(config, far));
    assert!(client.is_open());
}

#[test]
fn clients_are_charged_like_servers_and_there_is_a_bound() {
    for version in VERSIONS {
        let authority = Authority::new();
        let certified = authority.certify(&["example.com"]);
        let config = Arc::new(server_config(version, &certified, &ClientAuth::None));
        let tls = authority.client().build().unwrap();
        let bytes_max = 2 * TLS_HANDSHAKE_BYTES - 1;
        let limits = LoopLimits { tls_bytes_max: bytes_max, ..LoopLimits::default() };
        let [near, far] = Wire::pair(COARSE);
        let mut client = Ours::over(near, &limits);
        client.transport.secure_client(KEY, &tls, "example.com").unwrap();
        let error = client.transport.secure_client(NetKey(4), &tls, "example.com").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        assert_eq!(client.transport.links(), 1);
        assert_eq!(client.transport.pinned_bytes(), TLS_HANDSHAKE_BYTES);
        let certificate_bytes = certified.der.len();
        let mut server = Foreign::new(config, far);
        client.step();
        server.step();
        client.step();
        if client.transport.is_handshaking(KEY) {
            // In TLS 1.2 the server has a last word, and its certificate is there already.
            let held_bytes = client.transport.pinned_bytes();
            assert!(held_bytes >= TLS_HANDSHAKE_BYTES + certificate_bytes, "{held_bytes}");
        }
        exchange(&mut client, &mut server);
        let idle_bytes = client.transport.pinned_bytes();
        assert!(idle_bytes >= TLS_SESSION_BYTES + certificate_bytes, "{idle_bytes}");
        assert!(idle_bytes <= TLS_SESSION_BYTES + certificate_bytes + 64, "{idle_bytes}");
        client.transport.close(KEY);
        assert_eq!((client.transport.links(), client.transport.pinned_bytes()), (0, 0));
    }
}
