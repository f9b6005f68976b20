//! The PROXY protocol in front of the opening handshake (rows P1 to P7). What a header may look like
//! is the parser's own affair; this is about what it does to a connection.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use corewire::TrustedProxies;

use crate::sim_bed::{Bed, Heard, Occasion, Settings, echo, read_frames};
use crate::sim_link::End;
use crate::sim_net::SimPeer;
use crate::sim_peer::{Frame, TEXT, answers, message, plain_request, split_head, upgrade_request};

/// The other end of each connection, as the application was told when it opened.
type Addresses = Rc<RefCell<Vec<Option<SocketAddr>>>>;

const PROXY: &str = "10.0.0.1:4000";
const CLIENT: &str = "203.0.113.7:56324";
const LINE: &[u8] = b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n";

/// The same in version 2, and with a value behind the addresses.
fn binary() -> Vec<u8> {
    let addresses = [203, 0, 113, 7, 192, 0, 2, 1, 0xDC, 0x04, 0x01, 0xBB];
    let unique_id = [5, 0, 3, b'a', b'b', b'c'];
    let length = [0, (addresses.len() + unique_id.len()) as u8];
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11", &length[..], &addresses, &unique_id].concat()
}

/// Trusts 10.0.0.1, from where the peers of a bed connect.
fn bed_with(change: impl FnOnce(&mut Settings)) -> (Bed, Addresses) {
    let addresses = Addresses::default();
    let seen = addresses.clone();
    let bed = Bed::new(
        |settings| {
            settings.proxies = Some(TrustedProxies::new(["10.0.0.1"]).unwrap());
            change(settings);
        },
        move |ctx, occasion| {
            if let Occasion::Open = occasion {
                let peer = ctx.here().address().unwrap();
                seen.borrow_mut().push(peer.socket_addr());
            }
            echo(ctx, occasion);
        },
    );
    (bed, addresses)
}

fn bed() -> (Bed, Addresses) {
    bed_with(|_| {})
}

fn address(text: &str) -> Option<SocketAddr> {
    Some(text.parse().unwrap())
}

/// The connection has opened, and has echoed one message.
fn assert_echoed(peer: &SimPeer) {
    let answer = peer.read_all();
    let (head, rest) = split_head(&answer).expect("an answer");
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(crate::sim_peer::frames(rest).0, [Frame::new(TEXT, b"hello")]);
}

#[test]
fn p1_who_a_trusted_proxy_names_is_the_peer() {
    for (header, named) in [
        (LINE.to_vec(), CLIENT),
        (binary(), CLIENT),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\n".to_vec(), "[2001:db8::7]:1"),
        (b"PROXY TCP6 ::ffff:1.2.3.4 ::1 1 2\r\n".to_vec(), "1.2.3.4:1"),
    ] {
        let (mut bed, addresses) = bed();
        let peer = bed.sim.connect(bed.address);
        let script = [header, upgrade_request("/", ""), message(TEXT, b"hello")].concat();
        peer.write_all(&script);
        bed.turns(2);
        assert_echoed(&peer);
        assert_eq!(*addresses.borrow(), [address(named)]);
    }
}

#[test]
fn p1_header_in_pieces_is_the_same() {
    for header in [LINE.to_vec(), binary()] {
        let script = [header.clone(), upgrade_request("/", ""), message(TEXT, b"hello")].concat();
        for cut in 1..=header.len() + 1 {
            let (mut bed, addresses) = bed();
            let peer = bed.sim.connect(bed.address);
            peer.write_all(&script[..cut]);
            bed.turns(3);
            peer.write_all(&script[cut..]);
            bed.turns(2);
            assert_echoed(&peer);
            assert_eq!(*addresses.borrow(), [address(CLIENT)], "cut at {cut}");
        }
        let (mut bed, addresses) = bed();
        let peer = bed.sim.connect(bed.address);
        for byte in script {
            peer.write_all(&[byte]);
            bed.turn();
        }
        bed.turn();
        assert_echoed(&peer);
        assert_eq!(*addresses.borrow(), [address(CLIENT)]);
    }
}

#[test]
fn p1_unfinished_header_does_not_keep_the_loop_awake() {
    let (mut bed, _) = bed();
    let peer = bed.sim.connect(bed.address);
    peer.write_all(&LINE[..20]);
    bed.turns(2);
    // The network of the tests fails where a loop polls without end and nothing to do.
    assert!(bed.reactor.next_deadline().unwrap() > bed.sim.0.borrow().now());
}

#[test]
fn p2_proxy_that_speaks_for_itself_keeps_its_address() {
    let local = [&b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0"[..], b""].concat();
    for header in [b"PROXY UNKNOWN\r\n".to_vec(), local] {
        let (mut bed, addresses) = bed();
        let peer = bed.sim.connect(bed.address);
        peer.write_all(&[header, upgrade_request("/", ""), message(TEXT, b"hello")].concat());
        bed.turns(2);
        assert_echoed(&peer);
        assert_eq!(*addresses.borrow(), [address(PROXY)]);
    }
}

#[test]
fn p3_nobody_else_can_claim_an_address() {
    for header in [LINE.to_vec(), binary()] {
        let (mut bed, addresses) = bed();
        let stranger = address("10.0.0.2:5000").unwrap();
        let peer = bed.sim.connect_from(bed.address, stranger).unwrap();
        peer.write_all(&[header, upgrade_request("/", "")].concat());
        bed.turns(2);
        assert_eq!(answers(&peer.read_all())[0].0, 400);
        assert!(addresses.borrow().is_empty());
    }
}

#[test]
fn p3_who_is_not_trusted_needs_no_header() {
    let (mut bed, addresses) = bed();
    let stranger = address("10.0.0.2:5000").unwrap();
    let peer = bed.sim.connect_from(bed.address, stranger).unwrap();
    peer.write_all(&[upgrade_request("/", ""), message(TEXT, b"hello")].concat());
    bed.turns(2);
    assert_echoed(&peer);
    assert_eq!(*addresses.borrow(), [Some(stranger)]);
}

#[test]
fn p4_trusted_proxy_without_a_valid_header_is_cut_off_without_a_word() {
    let twice = [LINE, LINE].concat();
    for script in [
        &upgrade_request("/", "")[..],
        b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\n",
        b"PROXY TCP4 203.0.113.007 192.0.2.1 56324 443\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c",
        &[b'P'; 200],
    ] {
        let (mut bed, addresses) = bed();
        let peer = bed.sim.connect(bed.address);
        peer.write_all(script);
        bed.turns(2);
        assert_eq!(peer.read_all(), b"");
        assert_ne!(peer.end_seen(), End::None);
        assert_eq!(bed.reactor.counters().proxy_headers_refused, 1, "{}", script.escape_ascii());
        assert!(addresses.borrow().is_empty());
        bed.assert_empty();
    }
    // The second header is the client's, who is no proxy.
    let (mut bed, _) = bed();
    let peer = bed.sim.connect(bed.address);
    peer.write_all(&twice);
    bed.turns(2);
    assert_eq!(answers(&peer.read_all())[0].0, 400);
    assert_eq!(bed.reactor.counters().proxy_headers_refused, 0);
}

#[test]
fn p5_header_that_does_not_come_ends_the_connection_at_the_deadline() {
    for (begun, drips) in [(0, false), (20, false), (0, true)] {
        let (mut bed, _) = bed();
        let peer = bed.sim.connect(bed.address);
        peer.write_all(&LINE[..begun]);
        bed.turn();
        for second in 0..9 {
            if drips {
                peer.write_all(&LINE[second..=second]);
            }
            bed.run_for(Duration::from_secs(1));
            assert_eq!(peer.end_seen(), End::None);
        }
        bed.run_for(Duration::from_millis(1001));
        assert_eq!(peer.read_all(), b"", "there is nobody to be told");
        assert_ne!(peer.end_seen(), End::None);
        assert_eq!(bed.reactor.counters().handshake_timeouts, 1);
        bed.assert_empty();
    }
}

#[test]
fn p5_header_and_request_share_one_deadline() {
    let (mut bed, _) = bed();
    let peer = bed.sim.connect(bed.address);
    bed.run_for(Duration::from_secs(8));
    peer.write_all(LINE);
    bed.run_for(Duration::from_millis(2001));
    assert_eq!(answers(&peer.read_all())[0].0, 408);
}

#[test]
fn p6_bounds_by_address_are_about_clients_and_not_about_their_proxy() {
    let (mut bed, addresses) =
        bed_with(|settings| settings.reactor.limits.connections_per_address_max = Some(1));
    let statuses = [1, 2, 1].map(|client| {
        let peer = bed.sim.connect(bed.address);
        let header = format!("PROXY TCP4 203.0.113.{client} 192.0.2.1 1000 443\r\n");
        peer.write_all(&[header.into_bytes(), upgrade_request("/", "")].concat());
        bed.turns(2);
        let answer = peer.read_all();
        (answers(&answer)[0].0, peer)
    });
    assert_eq!([statuses[0].0, statuses[1].0, statuses[2].0], [101, 101, 503]);
    assert_eq!(addresses.borrow().len(), 2);
    // When the first of them leaves, its address has room again.
    statuses[0].1.reset();
    bed.turns(2);
    let peer = bed.sim.connect(bed.address);
    peer.write_all(b"PROXY TCP4 203.0.113.1 192.0.2.1 1000 443\r\n");
    bed.upgrade(&peer);
}

#[test]
fn p7_end_of_a_proxys_stream_leaves_nothing_behind() {
    for begun in [0, 1, 20, LINE.len()] {
        for is_reset in [false, true] {
            let (mut bed, _) = bed();
            let peer = bed.sim.connect(bed.address);
            peer.write_all(&LINE[..begun]);
            bed.turn();
            if is_reset {
                peer.reset()
            } else {
                peer.fin()
            }
            bed.turns(3);
            bed.assert_empty();
        }
    }
}

#[test]
fn p1_a_proxy_that_keeps_connections_open_speaks_once() {
    let (mut bed, _) = bed();
    let peer = bed.sim.connect(bed.address);
    peer.write_all(&[LINE, &plain_request("/a"), &plain_request("/b")].concat());
    bed.turns(2);
    peer.write_all(&upgrade_request("/", ""));
    bed.turns(2);
    let answers = answers(&peer.read_all());
    assert_eq!(answers.iter().map(|(status, _)| *status).collect::<Vec<_>>(), [200, 200, 101]);
    peer.write_all(&message(TEXT, b"x"));
    bed.turns(2);
    assert_eq!(read_frames(&peer), [Frame::new(TEXT, b"x")]);
    assert_eq!(bed.heard(bed.latest()), [Heard::Text("x".into())]);
}
