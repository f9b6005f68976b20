//! Records that no honest client sends, and honest ones torn in unusual places.

use corewire::{CloseCause, CloseCode};
use rustls::{AlertDescription, ContentType};

use crate::sim_bed::{Bed, Heard};
use crate::sim_link::End;
use crate::sim_net::SimPeer;
use crate::sim_peer::{Frame, TEXT, message};
use crate::tls_peer::{TlsPeer, VERSIONS, record_bounds, tls_echo};
use crate::tls_records::record;

/// RFC 8446 §4.6.3: type 24, three bytes of length, and whether an update is asked for.
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 1];

const TLS12: usize = 0;
const TLS13: usize = 1;

fn broken() -> CloseCause {
    CloseCause::Transport(std::io::ErrorKind::InvalidData)
}

#[test]
fn keys_are_updated_by_the_peer_while_messages_go_on() {
    let (mut bed, client) = tls_echo(VERSIONS[TLS13]);
    let mut peer = TlsPeer::open(&mut bed, &client);
    for round in 0..100 {
        let rustls::Connection::Client(tls) = &mut peer.tls else { unreachable!() };
        tls.refresh_traffic_keys().unwrap();
        let payload = format!("round {round}");
        peer.say(&message(TEXT, payload.as_bytes()));
        peer.turns(&mut bed, 2);
        assert_eq!(peer.take_frames(), [Frame::new(TEXT, payload.as_bytes())]);
    }
}

#[test]
fn half_a_key_update_waits_while_messages_leave_and_counts_when_its_rest_comes() {
    let (mut bed, client) = tls_echo(VERSIONS[TLS13]);
    let mut peer = TlsPeer::open(&mut bed, &client);
    let half = record(&mut peer, ContentType::Handshake, &KEY_UPDATE[..3]);
    peer.socket.write_all(&half);
    bed.turn();
    let id = bed.latest();
    bed.reactor.handler().on_next_open(move |ctx| {
        assert!(ctx.peer(id).send_text("in between").is_taken());
    });
    let mut other = TlsPeer::open(&mut bed, &client);
    bed.turn();
    peer.pull();
    assert_eq!(peer.take_frames(), [Frame::new(TEXT, b"in between")]);
    // The keys of this end stay as they were: what the server makes of the rest is that it does not
    // understand the next record any more.
    let rest = record(&mut peer, ContentType::Handshake, &KEY_UPDATE[3..]);
    peer.socket.write_all(&rest);
    peer.turns(&mut bed, 1);
    peer.say(&message(TEXT, b"with old keys"));
    peer.turns(&mut bed, 2);
    assert_eq!(bed.summary(id).cause, broken());
    other.say(&message(TEXT, b"alive"));
    other.turns(&mut bed, 2);
    assert_eq!(other.take_frames(), [Frame::new(TEXT, b"alive")]);
}

#[test]
fn half_a_handshake_message_waits_while_the_server_closes() {
    for version in VERSIONS {
        let (mut bed, client) = tls_echo(version);
        let mut peer = TlsPeer::open(&mut bed, &client);
        let half = record(&mut peer, ContentType::Handshake, &[20, 0]);
        peer.socket.write_all(&half);
        bed.turn();
        bed.reactor.handle().shutdown(std::time::Duration::from_secs(1)).unwrap();
        bed.turns(2);
        peer.pull();
        assert_eq!(peer.take_frames()[0].close_code(), Some(1001));
        bed.run_for(std::time::Duration::from_secs(3));
        bed.assert_empty();
    }
}

#[test]
fn handshake_message_in_records_of_a_byte_each_is_put_together() {
    let (mut bed, client) = tls_echo(VERSIONS[TLS13]);
    let mut peer = TlsPeer::open(&mut bed, &client);
    let mut records = Vec::new();
    for byte in [24, 0, 0, 1, 0] {
        records.extend(record(&mut peer, ContentType::Handshake, &[byte]));
    }
    for at in 0..records.len() {
        let (mut bed, client) = tls_echo(VERSIONS[TLS13]);
        let mut peer = TlsPeer::open(&mut bed, &client);
        let mut records = Vec::new();
        for byte in [24, 0, 0, 1, 1] {
            records.extend(record(&mut peer, ContentType::Handshake, &[byte]));
        }
        peer.socket.write_all(&records[..at]);
        bed.turn();
        peer.socket.write_all(&records[at..]);
        bed.turn();
        // Only an update that was understood is answered by one.
        let id = bed.latest();
        assert_eq!(bed.closed(id), None, "torn at {at}");
        assert_eq!(bed.reactor.counters().tls_errors, 0);
        bed.reactor.handle().shutdown(std::time::Duration::from_secs(1)).unwrap();
        bed.turns(2);
        let handed_over = peer.socket.read_all();
        assert!(record_bounds(&handed_over).len() >= 3, "an update and a Close");
    }
}

#[test]
fn message_between_the_halves_of_a_handshake_message_breaks_the_rules() {
    let (mut bed, client) = tls_echo(VERSIONS[TLS13]);
    let mut peer = TlsPeer::open(&mut bed, &client);
    let half = record(&mut peer, ContentType::Handshake, &KEY_UPDATE[..3]);
    peer.socket.write_all(&half);
    peer.say(&message(TEXT, b"in between"));
    peer.turns(&mut bed, 2);
    assert_eq!(bed.summary(bed.latest()).cause, broken());
    assert_eq!(bed.reactor.counters().tls_errors, 1);
}

#[test]
fn flood_of_empty_records_is_refused() {
    for version in VERSIONS {
        let (mut bed, client) = tls_echo(version);
        let mut peer = TlsPeer::open(&mut bed, &client);
        let mut records = Vec::new();
        for _ in 0..16 {
            records.extend(record(&mut peer, ContentType::ApplicationData, b""));
        }
        peer.socket.write_all(&records);
        peer.say(&message(TEXT, b"a few do no harm"));
        peer.turns(&mut bed, 2);
        assert_eq!(peer.take_frames(), [Frame::new(TEXT, b"a few do no harm")]);
        for _ in 0..1000 {
            records = record(&mut peer, ContentType::ApplicationData, b"");
            peer.socket.write_all(&records);
        }
        bed.turns(2);
        assert_eq!(bed.summary(bed.latest()).cause, broken());
    }
}

#[test]
fn flood_of_key_updates_is_refused_and_not_answered_one_by_one() {
    let (mut bed, client) = tls_echo(VERSIONS[TLS13]);
    let mut peer = TlsPeer::open(&mut bed, &client);
    let already = peer.socket.handed_over().len();
    for _ in 0..1000 {
        let rustls::Connection::Client(tls) = &mut peer.tls else { unreachable!() };
        tls.refresh_traffic_keys().unwrap();
        peer.push();
    }
    bed.turns(2);
    assert_eq!(bed.summary(bed.latest()).cause, broken());
    assert!(peer.socket.handed_over().len() - already < 2000);
}

#[test]
fn renegotiation_is_refused() {
    let (mut bed, client) = tls_echo(VERSIONS[TLS12]);
    let mut peer = TlsPeer::open(&mut bed, &client);
    let mut hello = TlsPeer::connect(&bed, &client).outgoing();
    hello.drain(..5);
    let again = record(&mut peer, ContentType::Handshake, &hello);
    peer.socket.write_all(&again);
    peer.say(&message(TEXT, b"still here"));
    peer.turns(&mut bed, 2);
    // A warning is the answer, and one attempt is forgiven (RFC 5246 §7.2.2).
    assert_eq!(peer.take_frames(), [Frame::new(TEXT, b"still here")]);
    for _ in 0..4 {
        let again = record(&mut peer, ContentType::Handshake, &hello);
        peer.socket.write_all(&again);
    }
    peer.turns(&mut bed, 2);
    assert_eq!(bed.summary(bed.latest()).cause, broken());
}

#[test]
fn flipped_bit_is_answered_by_an_alert_and_not_by_a_reset() {
    for version in VERSIONS {
        let payload = message(TEXT, b"twenty bytes of text");
        for bit in (0..8 * 40).step_by(7) {
            let (mut bed, client) = tls_echo(version);
            let mut peer = TlsPeer::open(&mut bed, &client);
            let mut records = peer.records_of(&payload);
            // The length is another matter: with it the record ends elsewhere.
            let at = bit / 8;
            if at == 3 || at == 4 {
                continue;
            }
            records[at] ^= 1 << (bit % 8);
            peer.socket.write_all(&records);
            // So much that one read does not take it.
            peer.socket.write_all(&vec![0; 300_000]);
            bed.turn();
            peer.pull();
            assert_eq!(bed.summary(bed.latest()).cause, broken(), "bit {bit}");
            assert_eq!(bed.summary(bed.latest()).code, CloseCode::ABNORMAL);
            assert!(peer.alert().is_some(), "bit {bit}: {:?}", peer.failure);
            assert_eq!(bed.reactor.counters().tls_errors, 1);
            bed.turns(3);
            assert_eq!(peer.socket.end_seen(), End::Fin, "bit {bit}");
            peer.socket.fin();
            bed.turns(2);
            bed.assert_empty();
        }
    }
}

#[test]
fn message_in_front_of_a_bad_record_is_heard_wherever_the_stream_is_torn() {
    for version in VERSIONS {
        let script = |peer: &mut TlsPeer| {
            let mut records = peer.records_of(&message(TEXT, b"good"));
            let good_bytes = records.len();
            records.extend(peer.records_of(&message(TEXT, b"bad")));
            records[good_bytes + 10] ^= 1;
            records
        };
        let record_bytes = {
            let (mut bed, client) = tls_echo(version);
            script(&mut TlsPeer::open(&mut bed, &client)).len()
        };
        for at in 0..=record_bytes {
            let (mut bed, client) = tls_echo(version);
            let mut peer = TlsPeer::open(&mut bed, &client);
            let records = script(&mut peer);
            peer.socket.write_all(&records[..at]);
            bed.turn();
            peer.socket.write_all(&records[at..]);
            bed.turn();
            let heard = bed.heard(bed.latest());
            assert_eq!(heard[0], Heard::Text("good".into()), "torn at {at}");
            assert_eq!(heard.len(), 2);
            assert_eq!(bed.summary(bed.latest()).cause, broken());
        }
    }
}

/// What the server says to bytes that are no ClientHello.
fn answer_to(bytes: &[u8]) -> (Bed, SimPeer) {
    let (mut bed, _) = tls_echo(VERSIONS[TLS13]);
    let peer = bed.sim.connect(bed.address);
    peer.write_all(bytes);
    bed.turns(2);
    (bed, peer)
}

#[test]
fn junk_and_plain_http_are_answered_by_an_alert_and_not_by_a_reset() {
    let long = vec![b'x'; 300_000];
    let scripts: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
        b"\x16\x03\x01\xFF\xFF",
        b"\x80\x2E\x01\x03\x01",
        &long,
        b"\x17\x03\x03\x00\x05hello",
    ];
    for script in scripts {
        let (mut bed, peer) = answer_to(script);
        let answer = peer.read_all();
        // An alert record of two bytes, fatal (RFC 8446 §6).
        assert_eq!((answer[0], &answer[3..6]), (21, &[0, 2, 2][..]), "{script:?}: {answer:?}");
        bed.turns(3);
        assert_eq!(peer.end_seen(), End::Fin, "{script:?}");
        assert_eq!(bed.reactor.counters().tls_errors, 1);
        peer.fin();
        bed.turns(2);
        bed.assert_empty();
    }
}

#[test]
fn no_protocol_in_common_is_answered_by_an_alert() {
    for version in VERSIONS {
        let (mut bed, client) = tls_echo(version);
        let mut other = (*client).clone();
        other.alpn_protocols = vec![b"h2".to_vec()];
        let mut peer = TlsPeer::connect(&bed, &std::sync::Arc::new(other));
        peer.turns(&mut bed, 3);
        assert_eq!(peer.alert(), Some(AlertDescription::NoApplicationProtocol));
        assert_eq!(peer.socket.end_seen(), End::Fin);
        assert_eq!(bed.reactor.counters().tls_errors, 1);
        peer.socket.fin();
        bed.turns(2);
        bed.assert_empty();
    }
}
