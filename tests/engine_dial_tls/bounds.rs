//! What dialling over TLS may take: of a turn, and of memory.

use corewire::DialError;
use corewire::limits::{TLS_HANDSHAKE_BYTES, TLS_SESSION_BYTES};

use crate::bed::{Server, bed};
use crate::client_bed::{Bed, Failure, Heard};
use crate::tls_peer::VERSIONS;

const STEPS: u32 = 8;

#[test]
fn three_hundred_dials_at_once_share_the_turns_and_all_open() {
    for version in VERSIONS {
        let (mut bed, config) = bed(version, |settings| {
            settings.reactor.limits.tls_handshakes_per_turn = STEPS;
        });
        for _ in 0..300 {
            bed.dial();
        }
        let mut servers: Vec<Server> = Vec::new();
        let mut turns = 0;
        while bed.reactor.usage().open < 300 {
            let handshakes = bed.reactor.counters().tls_handshakes;
            let mute = |servers: &[Server]| {
                let said = |server: &&Server| !server.tls.socket.handed_over().is_empty();
                servers.len() - servers.iter().filter(said).count()
            };
            let mute_before = mute(&servers);
            bed.turn();
            let began = mute_before - mute(&servers);
            let ended = bed.reactor.counters().tls_handshakes - handshakes;
            assert!(began + ended as usize <= STEPS as usize, "{began} {ended}");
            while let Some(socket) = bed.host.next() {
                servers.push(Server::new(socket, &config));
            }
            for server in &mut servers {
                server.tls.pull();
                if let Some(request) = server.request() {
                    server.tls.say(&request.switching(""));
                }
                server.tls.push();
            }
            turns += 1;
            assert!(turns < 1000, "it comes to an end");
        }
        assert_eq!(bed.reactor.counters().dials_failed, 0);
        servers.iter().for_each(|server| server.tls.socket.reset());
        bed.turns(4);
        bed.assert_empty();
    }
}

#[test]
fn handshake_that_has_begun_goes_on_however_many_are_dialled() {
    for version in VERSIONS {
        let (mut bed, config) = bed(version, |settings| {
            settings.reactor.limits.tls_handshakes_per_turn = 1;
        });
        let first = bed.dial();
        bed.turns(3);
        let mut server = Server::new(bed.host.next().unwrap(), &config);
        let crowd = |bed: &mut Bed| {
            for _ in 0..10 {
                bed.dial();
            }
        };
        (0..5).for_each(|_| {
            crowd(&mut bed);
            bed.turn();
        });
        for turn in 0.. {
            assert!(turn < 10, "it goes on");
            crowd(&mut bed);
            server.turns(&mut bed, 1);
            if let Some(request) = server.request() {
                server.tls.say(&request.switching(""));
            }
            if bed.heard(first).contains(&Heard::Open) {
                break;
            }
        }
    }
}

#[test]
fn connections_are_charged_and_give_it_back_and_one_too_many_is_told() {
    for version in VERSIONS {
        let (mut bed, config) = bed(version, |settings| {
            settings.reactor.limits.tls_bytes_max = 3 * TLS_HANDSHAKE_BYTES;
        });
        let (_, open) = Server::open(&mut bed, &config);
        let session_bytes = bed.reactor.usage().tls_bytes;
        assert!((TLS_SESSION_BYTES..2 * TLS_SESSION_BYTES).contains(&session_bytes));
        for _ in 0..3 {
            bed.dial();
        }
        bed.turns(4);
        let usage = bed.reactor.usage();
        assert_eq!(usage.tls_bytes, session_bytes + 2 * TLS_HANDSHAKE_BYTES);
        let failures = &bed.reactor.handler().failures;
        assert!(matches!(failures[..], [Failure { error: DialError::NoRoom, .. }]), "{failures:?}");
        assert_eq!(bed.reactor.counters().pool_exhausted, 1);
        open.tls.socket.reset();
        while let Some(socket) = bed.host.next() {
            socket.reset();
        }
        bed.turns(3);
        bed.assert_empty();
    }
}
