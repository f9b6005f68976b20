//! A proxy that passes TLS on, and says in front of it whose it is.

use std::cell::RefCell;
use std::rc::Rc;

use corewire::TrustedProxies;

use crate::sim_bed::{Bed, echo};
use crate::sim_link::End;
use crate::sim_peer::{Frame, TEXT, message, plain_request, upgrade_request};
use crate::tls_peer::{TlsPeer, VERSIONS, parties};

const LINE: &[u8] = b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n";

type Peers = Rc<RefCell<Vec<String>>>;

fn bed(version: &'static rustls::SupportedProtocolVersion) -> (Bed, TlsPeer, Peers) {
    let (tls, client) = parties(version);
    let peers = Peers::default();
    let seen = peers.clone();
    let bed = Bed::new(
        |settings| {
            settings.tls = Some(tls);
            settings.proxies = Some(TrustedProxies::new(["10.0.0.1"]).unwrap());
            settings.watch =
                Box::new(move |arrival| seen.borrow_mut().push(arrival.peer.to_string()));
        },
        echo,
    );
    let peer = TlsPeer::connect(&bed, &client);
    (bed, peer, peers)
}

/// Both handshakes and an echo, of which some may have gone over already.
fn assert_opens(bed: &mut Bed, peer: &mut TlsPeer, peers: &Peers) {
    peer.upgrade(bed);
    peer.say(&message(TEXT, b"hello"));
    peer.turns(bed, 2);
    assert_eq!(peer.take_frames(), [Frame::new(TEXT, b"hello")]);
    assert_eq!(*peers.borrow(), ["203.0.113.7:56324"]);
    assert_eq!(bed.reactor.counters().tls_handshakes, 1);
}

#[test]
fn header_in_front_of_tls_is_taken_wherever_the_reads_end() {
    for version in VERSIONS {
        let first = {
            let (_, mut peer, _) = bed(version);
            LINE.len() + peer.outgoing().len()
        };
        for cut in (1..LINE.len() + 8).chain([first - 1, first]) {
            let (mut bed, mut peer, peers) = bed(version);
            let stream = [LINE, &peer.outgoing()].concat();
            peer.socket.write_all(&stream[..cut]);
            bed.turns(2);
            peer.socket.write_all(&stream[cut..]);
            assert_opens(&mut bed, &mut peer, &peers);
        }
    }
}

#[test]
fn tls_in_front_of_the_header_is_cut_off() {
    for version in VERSIONS {
        let (mut bed, mut peer, _) = bed(version);
        peer.push();
        bed.turns(2);
        assert_eq!(peer.socket.read_all(), b"");
        assert_ne!(peer.socket.end_seen(), End::None);
        assert_eq!(bed.reactor.counters().proxy_headers_refused, 1);
        bed.assert_empty();
    }
}

#[test]
fn header_inside_tls_is_a_malformed_request() {
    for version in VERSIONS {
        let (mut bed, mut peer, peers) = bed(version);
        peer.socket.write_all(LINE);
        peer.shake_hands(&mut bed);
        peer.say(&[LINE, &upgrade_request("/", "")].concat());
        peer.turns(&mut bed, 3);
        assert!(peer.received.starts_with(b"HTTP/1.1 400 "));
        assert!(peers.borrow().is_empty());
    }
}

#[test]
fn plain_request_behind_the_header_is_told_that_this_is_tls() {
    let (mut bed, peer, peers) = bed(VERSIONS[1]);
    peer.socket.write_all(&[LINE, &plain_request("/")].concat());
    bed.turns(3);
    // A fatal alert (RFC 8446 §6): decode_error.
    assert_eq!(peer.socket.read_all()[..1], [21]);
    assert!(peers.borrow().is_empty());
    assert_eq!(bed.reactor.counters().tls_errors, 1);
}
