//! What goes to and fro once the handshake is over, and how it ends.

use std::io::ErrorKind;

use rustls::AlertDescription;

use super::certified::{VERSIONS, parties};
use super::ends::{COARSE, End, Foreign, Grain, KEY, MAKERS, Ours, Wire, exchange};

fn bytes(count: usize, seed: usize) -> Vec<u8> {
    (0..count).map(|at| (at * 7 + at / 251 + seed) as u8).collect()
}

#[test]
fn what_is_said_is_heard_in_pieces_of_any_size_and_both_goodbyes_too() {
    let grains = [
        (1, 1, 2000),
        (5, 3, 5000),
        (100, usize::MAX, 20_000),
        (1000, 7, 20_000),
        (16_500, 16_400, 70_000),
        (usize::MAX, usize::MAX, 70_000),
    ];
    for version in VERSIONS {
        for maker in MAKERS {
            for (room_bytes, read_bytes_max, count) in grains {
                let (config, tls) = parties(version);
                let [near, far] = Wire::pair(Grain { room_bytes, read_bytes_max });
                let mut client = Ours::client(&tls, "example.com", near);
                let mut server = maker.server(&config, far);
                // Said before the handshake is over, heard behind it.
                client.say(&bytes(count, 1));
                server.say(&bytes(count, 2));
                exchange(&mut client, &mut *server);
                assert!(client.is_open() && server.is_open(), "{maker:?} {room_bytes}");
                client.say(b"and");
                exchange(&mut client, &mut *server);
                server.say(b"back");
                exchange(&mut client, &mut *server);
                assert!(server.heard() == [&bytes(count, 1)[..], b"and"].concat(), "{maker:?}");
                assert!(client.heard() == [&bytes(count, 2)[..], b"back"].concat(), "{maker:?}");
                assert_eq!((client.error, server.failure()), (None, None));
                assert!(!client.is_ended() && !server.is_ended());
                client.close();
                exchange(&mut client, &mut *server);
                assert!(server.is_ended() && server.failure().is_none());
            }
        }
    }
}

#[test]
fn servers_goodbye_ends_the_stream_and_a_stream_without_it_was_cut_off() {
    for version in VERSIONS {
        for maker in MAKERS {
            let (config, tls) = parties(version);
            let [near, far] = Wire::pair(COARSE);
            let mut client = Ours::client(&tls, "example.com", near);
            let mut server = maker.server(&config, far);
            exchange(&mut client, &mut *server);
            server.say(b"last");
            server.close();
            exchange(&mut client, &mut *server);
            assert!(client.is_ended());
            assert_eq!((client.heard(), client.error), (&b"last"[..], None));

            let [near, far] = Wire::pair(COARSE);
            let mut client = Ours::client(&tls, "example.com", near.clone());
            let mut server = maker.server(&config, far);
            exchange(&mut client, &mut *server);
            near.cut_off();
            exchange(&mut client, &mut *server);
            assert_eq!((client.is_ended(), client.error), (false, Some(ErrorKind::UnexpectedEof)));
            assert_eq!(client.transport.counters().tls_truncations, 1);
        }
    }
}

#[test]
fn new_keys_of_a_server_are_taken_and_answered() {
    let (config, tls) = parties(VERSIONS[1]);
    for grain in [COARSE, Grain { room_bytes: 10, read_bytes_max: 3 }] {
        let [near, far] = Wire::pair(grain);
        let mut client = Ours::client(&tls, "example.com", near);
        let mut server = Foreign::new(config.clone(), far);
        exchange(&mut client, &mut server);
        for round in 1..=20 {
            server.tls.refresh_traffic_keys().unwrap();
            server.say(b"new");
            client.say(b"old or new");
            exchange(&mut client, &mut server);
            assert_eq!(client.heard().len(), 3 * round);
            assert_eq!(server.heard().len(), 10 * round);
        }
        assert_eq!((client.error, server.failure()), (None, None));
    }
}

#[test]
fn record_that_was_changed_on_its_way_ends_the_connection_with_an_alert() {
    for version in VERSIONS {
        let (config, tls) = parties(version);
        let [near, far] = Wire::pair(COARSE);
        let mut client = Ours::client(&tls, "example.com", near.clone());
        let mut server = Foreign::new(config, far);
        exchange(&mut client, &mut server);
        server.say(b"hello");
        server.step();
        let mut record = near.intercept();
        *record.last_mut().unwrap() ^= 1;
        near.inject(&record);
        exchange(&mut client, &mut server);
        assert_eq!(client.error, Some(ErrorKind::InvalidData));
        assert_eq!(client.failure(), Some(&rustls::Error::DecryptError));
        let alert = rustls::Error::AlertReceived(AlertDescription::BadRecordMac);
        assert_eq!(server.failure(), Some(&alert));
        assert!(client.transport.tls_failure(KEY).is_none(), "it is told once");
        assert!(client.heard().is_empty());
    }
}
