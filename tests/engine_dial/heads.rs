//! Row C4: heads without end, slow ones, torn ones, and what is no head at all.

use std::io::ErrorKind;
use std::time::Duration;

use corewire::opening::{ClientHandshakeError, HeadError};
use corewire::{DialError, DialPhase};

use crate::client_bed::{Bed, Failure};
use crate::sim_link::End;

const TIMEOUT: Duration = Duration::from_secs(10);

fn is_at(failure: &Failure, due: Duration) -> bool {
    failure.at >= due && failure.at <= due + Duration::from_millis(2)
}

/// How a connection fails at once whose server says `bytes`.
fn head_error(bytes: &[u8]) -> HeadError {
    let mut bed = Bed::new(|_| {});
    let (id, server, _) = bed.dial_and_ask();
    server.peer.write_all(bytes);
    bed.turn();
    let error = match &bed.failure(id).error {
        DialError::Handshake(ClientHandshakeError::Head(error)) => *error,
        error => panic!("{error:?}"),
    };
    bed.turn();
    bed.assert_empty();
    error
}

#[test]
fn c4_head_over_a_limit_fails_at_once() {
    let endless = [&b"HTTP/1.1 101 Yes\r\nX: "[..], &[b'x'; 17 << 10]].concat();
    assert_eq!(head_error(&endless), HeadError::HeadTooLarge { limit_bytes: 16 << 10 });
    let many = format!("HTTP/1.1 101 Yes\r\n{}\r\n", "X: x\r\n".repeat(101));
    assert_eq!(head_error(many.as_bytes()), HeadError::TooManyFields { limit: 100 });
    // Those that only inform count as one with the answer.
    let informing = "HTTP/1.1 103 Wait\r\n\r\n".repeat(1000);
    assert!(matches!(head_error(informing.as_bytes()), HeadError::HeadTooLarge { .. }));
}

#[test]
fn c4_junk_fails_at_once() {
    for junk in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03 a TLS record\r\n\r\n"[..],
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 101\r\nUpgrade websocket\r\n\r\n",
        b"HTTP/1.1 99999 What\r\n\r\n",
        b"HTTP/1.1 101 Yes\r\nX: a\0b\r\n\r\n",
        b"\x81\x05hello\r\n\r\n",
    ] {
        let error = head_error(junk);
        assert!(matches!(error, HeadError::Malformed(_)), "{}: {error:?}", junk.escape_ascii());
    }
    assert_eq!(head_error(b"HTTP/2.0 101 Yes\r\n\r\n"), HeadError::UnsupportedVersion);
}

#[test]
fn c4_dripping_does_not_extend_the_deadline() {
    let mut bed = Bed::new(|_| {});
    let (id, server, request) = bed.dial_and_ask();
    let began = bed.sim.elapsed();
    for byte in request.switching("") {
        if bed.reactor.usage().sockets > 0 {
            server.peer.write_all(&[byte]);
        }
        bed.run_for(Duration::from_millis(100));
    }
    let failure = bed.failure(id);
    assert!(matches!(failure.error, DialError::TimedOut(DialPhase::Upgrade)), "{failure:?}");
    assert!(is_at(failure, began + TIMEOUT), "{failure:?}");
    bed.assert_empty();
}

#[test]
fn c4_silence_and_half_a_head_end_with_the_phase() {
    for bytes in [&b""[..], b"HTTP/1.1 101 Swi", b"HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\n"] {
        let mut bed = Bed::new(|settings| settings.dial.timeouts.upgrade = TIMEOUT / 4);
        let (id, server, _) = bed.dial_and_ask();
        server.peer.write_all(bytes);
        bed.run_for(TIMEOUT);
        let failure = bed.failure(id);
        assert!(matches!(failure.error, DialError::TimedOut(DialPhase::Upgrade)), "{failure:?}");
        assert!(is_at(failure, TIMEOUT / 4), "{failure:?}");
        bed.assert_empty();
    }
}

#[test]
fn c4_end_in_the_head_is_told_as_what_it_is() {
    for (end, expected) in
        [(End::Fin, ErrorKind::UnexpectedEof), (End::Reset, ErrorKind::ConnectionReset)]
    {
        for bytes in [&b""[..], b"HTTP/1.1 101 Swi", b"HTTP/1.1 103 Wait\r\n\r\n"] {
            let mut bed = Bed::new(|_| {});
            let (id, server, _) = bed.dial_and_ask();
            server.peer.write_all(bytes);
            if end == End::Fin {
                server.peer.fin()
            } else {
                server.peer.reset()
            }
            bed.turns(2);
            let DialError::Io { phase, error } = &bed.failure(id).error else { panic!() };
            assert_eq!((*phase, error.kind()), (DialPhase::Upgrade, expected));
            bed.assert_empty();
        }
    }
}
