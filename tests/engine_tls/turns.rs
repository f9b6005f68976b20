//! What one connection may take of a turn, whatever its records hold.

use rustls::{ContentType, SupportedProtocolVersion};

use crate::sim_bed::{Bed, echo};
use crate::sim_peer::{BINARY, Frame, TEXT, message, messages};
use crate::tls_peer::{TlsPeer, VERSIONS, parties, tls_echo};
use crate::tls_records::record;

/// Records that are no payload, or hardly any, in a mixture that the library never finds too much.
fn overhead(peer: &mut TlsPeer, version: &SupportedProtocolVersion) -> Vec<u8> {
    let mut records = Vec::new();
    for _ in 0..16 {
        records.extend(record(peer, ContentType::ApplicationData, b""));
        if let rustls::Connection::Client(tls) = &mut peer.tls
            && version == VERSIONS[1]
        {
            tls.refresh_traffic_keys().unwrap();
            records.extend(peer.outgoing());
        }
    }
    records.extend(peer.records_of(&message(TEXT, b"")));
    records
}

#[test]
fn records_without_payload_take_no_more_of_a_turn_than_payload_does() {
    const TURN_BYTES: usize = 10_000;
    const READ_BYTES: usize = 4096;
    for version in VERSIONS {
        let (tls, client) = parties(version);
        let change = |settings: &mut crate::sim_bed::Settings| {
            settings.tls = Some(tls);
            settings.receive_buffer_bytes = READ_BYTES;
            settings.reactor.limits.receive_buffer_bytes = READ_BYTES;
            settings.reactor.limits.turn_bytes_max = TURN_BYTES;
        };
        let mut bed = Bed::new(change, echo);
        let mut neighbour = TlsPeer::open(&mut bed, &client);
        let mut flooding = TlsPeer::open(&mut bed, &client);
        let rounds = 300;
        for _ in 0..rounds {
            let records = overhead(&mut flooding, version);
            flooding.socket.write_all(&records);
        }
        let mut turns = 0;
        while flooding.socket.moved().to_engine_bytes > 0 {
            let before = flooding.socket.moved().received_bytes;
            neighbour.say(&message(TEXT, b"still served"));
            neighbour.turns(&mut bed, 1);
            assert_eq!(neighbour.take_frames(), [Frame::new(TEXT, b"still served")]);
            let read = flooding.socket.moved().received_bytes - before;
            assert!((1..=TURN_BYTES + READ_BYTES).contains(&read), "{read} in turn {turns}");
            turns += 1;
        }
        assert!(turns >= 10, "{turns}");
        flooding.turns(&mut bed, 1);
        assert_eq!(flooding.take_frames(), vec![Frame::new(TEXT, b""); rounds]);
        assert_eq!(bed.reactor.counters().tls_errors, 0);
    }
}

#[test]
fn busy_connection_takes_a_turns_budget_and_pins_one_read() {
    const RECORD_BYTES: usize = 16_384 + 29;
    for version in VERSIONS {
        let (mut bed, client) = tls_echo(version);
        let limits = corewire::LoopLimits::default();
        let mut peer = TlsPeer::open(&mut bed, &client);
        peer.socket.set_buffers(64 << 20, 64 << 20);
        let count = 600;
        for _ in 0..count {
            peer.say(&message(BINARY, &[1; 4000]));
        }
        peer.push();
        let pinned_bytes = bed.reactor.usage().pinned_bytes;
        while peer.socket.moved().to_engine_bytes > 0 {
            let before = bed.reactor.counters().bytes_received;
            bed.turn();
            let read = (bed.reactor.counters().bytes_received - before) as usize;
            assert!(read <= limits.turn_bytes_max + RECORD_BYTES, "{read}");
            let pinned = bed.reactor.usage().pinned_bytes - pinned_bytes;
            assert!(pinned <= limits.turn_bytes_max + RECORD_BYTES, "{pinned}");
        }
        peer.turns(&mut bed, 2);
        assert_eq!(messages(&peer.take_frames()).len(), count);
    }
}
