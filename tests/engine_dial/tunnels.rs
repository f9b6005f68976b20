//! The way through a proxy, on a connection.

use std::io::ErrorKind;

use corewire::{DialError, DialPhase, Proxy, TunnelError};

use crate::client_bed::{Bed, Heard};
use crate::naive::Frame;
use crate::sim_errno::EPIPE;
use crate::sim_link::End;
use crate::sim_server::SimServer;
use crate::sim_world::Call;

/// A dial by such a proxy, so far that the connection to it stands.
fn through(proxy: Proxy) -> (Bed, corewire::ConnectionId, SimServer) {
    let mut bed = Bed::new(|settings| settings.dial.proxy = Some(proxy));
    let id = bed.dial();
    bed.turns(2);
    let server = SimServer::new(bed.host.next().expect("the proxy is dialled"));
    (bed, id, server)
}

fn http() -> Proxy {
    Proxy::http("proxy.example:3128").unwrap()
}

fn socks5() -> Proxy {
    Proxy::socks5("proxy.example:1080").unwrap().credentials("user", "secret").unwrap()
}

const CONNECTED: &[u8] = b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n";

/// What each side of SOCKS 5 says, in turns: the client's method, credentials and destination.
const SAID: [&[u8]; 3] =
    [&[5, 2, 0, 2], b"\x01\x04user\x06secret", b"\x05\x01\x00\x03\x0bexample.com\x00\x50"];
const ANSWERED: [&[u8]; 3] = [&[5, 2], &[1, 0], &[5, 0, 0, 1, 10, 0, 0, 1, 0, 80]];

#[test]
fn http_proxy_is_asked_for_the_server_and_its_answer_may_be_torn_anywhere() {
    for piece_bytes in [1, 2, 7, 1000] {
        let (mut bed, id, mut server) = through(http());
        let (first, fields) = server.head().expect("CONNECT");
        assert_eq!(first, "CONNECT example.com:80 HTTP/1.1");
        assert!(fields.contains(&("Host".into(), "example.com:80".into())), "{fields:?}");
        for piece in CONNECTED.chunks(piece_bytes) {
            assert_eq!(server.pending(), b"", "nothing is said before the way is open");
            server.peer.write_all(piece);
            bed.turn();
        }
        server.upgrade();
        bed.turn();
        assert!(bed.heard(id).contains(&Heard::Open));
        server.send(&Frame::text("through"));
        bed.turn();
        assert!(bed.heard(id).contains(&Heard::Text("through".into())));
    }
}

#[test]
fn socks5_proxy_is_spoken_to_step_by_step_and_may_answer_torn_anywhere() {
    for piece_bytes in [1, 3, 1000] {
        let (mut bed, id, mut server) = through(socks5());
        for (said, answered) in SAID.iter().zip(ANSWERED) {
            assert_eq!(server.pending(), *said);
            server = SimServer::new(server.peer);
            for piece in answered.chunks(piece_bytes) {
                assert_eq!(server.pending(), b"");
                server.peer.write_all(piece);
                bed.turn();
            }
        }
        server.upgrade();
        bed.turn();
        assert!(bed.heard(id).contains(&Heard::Open));
    }
}

#[test]
fn proxy_that_refuses_is_told_as_what_it_said() {
    for status in [400, 401, 403, 407, 502, 503, 101, 301] {
        let (mut bed, id, server) = through(http());
        let answer = format!("HTTP/1.1 {status} No\r\nContent-Length: 3\r\n\r\nno!");
        server.peer.write_all(answer.as_bytes());
        bed.turns(2);
        match &bed.failure(id).error {
            DialError::Tunnel(TunnelError::Status { status: told }) => assert_eq!(*told, status),
            // It informs, and nothing follows.
            other => panic!("{status}: {other:?}"),
        }
        assert_ne!(server.peer.end_seen(), End::None);
        bed.assert_empty();
    }
    let replies: [(&[u8], TunnelError); 7] = [
        (&[4, 0], TunnelError::NotSocks5),
        (b"HTTP/1.1 400 Bad\r\n\r\n", TunnelError::NotSocks5),
        (&[5, 0xFF], TunnelError::NoAcceptableMethod),
        (&[5, 1], TunnelError::Malformed),
        (&[5, 0, 5, 5, 0, 1, 0, 0, 0, 0, 0, 0], TunnelError::Reply(5)),
        (&[5, 2, 1, 1], TunnelError::AuthenticationFailed),
        (&[5, 0, 5, 0, 0, 9], TunnelError::Malformed),
    ];
    for (bytes, expected) in replies {
        let (mut bed, id, server) = through(socks5());
        server.peer.write_all(bytes);
        bed.turns(2);
        let DialError::Tunnel(told) = &bed.failure(id).error else { panic!("{expected:?}") };
        assert_eq!(*told, expected);
        bed.assert_empty();
    }
}

#[test]
fn bytes_behind_the_proxys_answer_are_the_servers() {
    // A server that speaks before it is asked has not read the request: its answer cannot be right,
    // and is judged as the server's and not as the proxy's.
    let early = [CONNECTED, b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno"].concat();
    for split in 0..early.len() {
        let (mut bed, id, server) = through(http());
        let (front, rest) = early.split_at(split);
        server.peer.write_all(front);
        bed.turn();
        server.peer.write_all(rest);
        bed.turns(2);
        let DialError::Refused(refusal) = &bed.failure(id).error else { panic!("{split}") };
        assert_eq!((refusal.status, &refusal.body[..]), (403, &b"no"[..]), "{split}");
        bed.assert_empty();
    }
}

#[test]
fn end_in_the_tunnel_is_the_tunnels() {
    for (end, kind) in
        [(End::Fin, ErrorKind::UnexpectedEof), (End::Reset, ErrorKind::ConnectionReset)]
    {
        for bytes in [&b""[..], &CONNECTED[..20]] {
            let (mut bed, id, server) = through(http());
            server.peer.write_all(bytes);
            if end == End::Fin {
                server.peer.fin()
            } else {
                server.peer.reset()
            }
            bed.turns(2);
            let DialError::Io { phase, error } = &bed.failure(id).error else { panic!() };
            assert_eq!((*phase, error.kind()), (DialPhase::Tunnel, kind));
            bed.assert_empty();
        }
    }
    let mut bed = Bed::new(|settings| settings.dial.proxy = Some(http()));
    bed.sim.fail(Call::Send, &[EPIPE]);
    let id = bed.dial();
    bed.turns(2);
    let DialError::Io { phase, error } = &bed.failure(id).error else { panic!() };
    assert_eq!((*phase, error.kind()), (DialPhase::Tunnel, ErrorKind::ConnectionReset));
    bed.assert_empty();
}

#[test]
fn head_of_a_proxy_without_end_fails_at_once() {
    let (mut bed, id, server) = through(http());
    server.peer.write(&[b"HTTP/1.1 200 Yes\r\nX: ", &[b'x'; 64 << 10][..]].concat());
    bed.turns(3);
    let told = &bed.failure(id).error;
    assert!(matches!(told, DialError::Tunnel(TunnelError::Head(_))), "{told:?}");
    bed.assert_empty();
}
