//! The handshake of TLS: whom it leads to, and how it fails.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use corewire::{DialError, TlsClient, TlsVersion};
use rustls::{AlertDescription, CertificateError, Connection, Error};

use crate::bed::{Server, bed, secure, server_config, server_config_asking, tls_error, trusting};
use crate::client_bed::{Bed, Heard, Settings};
use crate::naive::Frame;
use crate::sim_link::End;
use crate::tls_peer::{Identity, VERSIONS, record_bounds};

#[test]
fn wss_opens_in_both_versions_and_the_application_sees_the_certificate() {
    for (version, told) in VERSIONS.into_iter().zip([TlsVersion::Tls12, TlsVersion::Tls13]) {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let noted = seen.clone();
        let (mut bed, config) = bed(version, |settings| {
            settings.act = Box::new(move |ctx, heard| {
                let peer = ctx.here();
                let facts = peer.tls().expect("it speaks TLS");
                noted.borrow_mut().push((facts.version, facts.peer_certificates.to_vec()));
                if let Heard::Text(text) = heard {
                    let _ = ctx.send_text(text);
                }
            });
        });
        let (id, mut server, request) = Server::dial_and_ask(&mut bed, &config);
        assert_eq!((&*request.target, request.field("Host")), ("/feed", Some("example.com")));
        let Connection::Server(tls) = &server.tls.tls else { panic!() };
        assert_eq!(tls.server_name(), Some("example.com"));
        assert_eq!(tls.alpn_protocol(), Some(&b"http/1.1"[..]));
        server.tls.say(&request.switching(""));
        server.turns(&mut bed, 1);
        assert!(matches!(bed.heard(id)[..], [Heard::Answer(101, _), Heard::Open]));
        server.tls.say(&Frame::text("over TLS").encode());
        server.turns(&mut bed, 2);
        assert_eq!(server.frames(), [Frame::text("over TLS")]);
        assert_eq!(seen.borrow().len(), 2);
        for (version, certificates) in &*seen.borrow() {
            assert_eq!((*version, certificates.len()), (told, 1));
        }
        let counters = bed.reactor.counters();
        assert_eq!((counters.dialled, counters.dials_failed), (1, 0));
        assert_eq!((counters.tls_handshakes, counters.tls_errors), (1, 0));
        assert_eq!((counters.handshakes_completed, counters.http_requests), (1, 0));
    }
}

#[test]
fn connection_without_tls_has_no_facts_of_it() {
    let seen = Rc::new(RefCell::new(None));
    let noted = seen.clone();
    let mut bed = Bed::new(|settings| {
        settings.act =
            Box::new(move |ctx, _| *noted.borrow_mut() = Some(ctx.here().tls().is_none()));
    });
    let _ = bed.open();
    assert_eq!(*seen.borrow(), Some(true));
}

#[test]
fn records_torn_and_written_in_pieces_of_any_size_open_it_all_the_same() {
    for version in VERSIONS {
        for piece_bytes in [1, 7, 200] {
            let (mut bed, config) = bed(version, |_| {});
            let (id, mut server) = Server::dial(&mut bed, &config);
            // What the client says goes through an eye of a needle, too.
            server.tls.socket.set_buffers(1 << 20, piece_bytes);
            let mut turns = 0;
            while bed.heard(id).is_empty() {
                if let Some(request) = server.request() {
                    server.tls.say(&request.switching(""));
                }
                for piece in server.tls.outgoing().chunks(piece_bytes) {
                    server.tls.socket.write_all(piece);
                    bed.turn();
                }
                bed.turn();
                turns += 1;
                assert!(turns < 3000, "{piece_bytes}: {:?}", bed.reactor.handler().failures);
            }
            assert!(matches!(bed.heard(id)[..], [Heard::Answer(101, _), Heard::Open]));
        }
    }
}

/// How dialling ends that meets `server`, in the version, and what the server has made of it.
fn refusal(
    tls: TlsClient,
    config: rustls::ServerConfig,
    change: impl FnOnce(&mut Settings),
) -> (DialError, Option<AlertDescription>) {
    let mut bed = Bed::new(|settings| {
        secure(settings, tls);
        change(settings);
    });
    let (id, mut server) = Server::dial(&mut bed, &Arc::new(config));
    server.turns(&mut bed, 8);
    assert_eq!(bed.failure(id).data, 1, "what was kept comes back");
    bed.assert_empty();
    assert_ne!(server.tls.socket.end_seen(), End::None);
    let counters = bed.reactor.counters();
    assert_eq!((counters.dialled, counters.dials_failed, counters.tls_errors), (1, 1, 1));
    (bed.reactor.handler().failures.remove(0).error, server.tls.alert())
}

#[test]
fn certificate_that_is_not_to_be_trusted_ends_it_and_both_hear_why() {
    for version in VERSIONS {
        let identity = Identity::new(&["example.com"]);
        let other = Identity::new(&["example.org"]);
        let expired = Identity::expired(&["example.com"]);
        let meet = |trusted: &Identity, shown: &Identity| {
            let (error, alert) = refusal(trusting(trusted), server_config(version, shown), |_| {});
            // It will be renewed; all else is to be changed by somebody.
            assert_eq!(error.is_retryable(), std::ptr::eq(shown, &expired), "{error:?}");
            let Error::InvalidCertificate(error) = tls_error(&error).clone() else { panic!() };
            (error, alert.expect("it is told"))
        };
        let (error, alert) = meet(&other, &other);
        assert!(matches!(error, CertificateError::NotValidForNameContext { .. }), "{error:?}");
        assert_eq!(alert, AlertDescription::BadCertificate);
        let (error, alert) = meet(&identity, &Identity::new(&["example.com"]));
        // Both call themselves the same, so the wrong key is tried.
        let stranger = [CertificateError::UnknownIssuer, CertificateError::BadSignature];
        assert!(stranger.contains(&error), "{error:?}");
        assert!(
            matches!(alert, AlertDescription::UnknownCA | AlertDescription::DecryptError),
            "{alert:?}"
        );
        let (error, alert) = meet(&expired, &expired);
        assert!(matches!(error, CertificateError::ExpiredContext { .. }), "{error:?}");
        assert_eq!(alert, AlertDescription::CertificateExpired);
    }
}

#[test]
fn certificate_is_shown_to_who_asks_and_without_it_his_alert_is_told() {
    for version in VERSIONS {
        let (identity, own) = (Identity::new(&["example.com"]), Identity::new(&["client"]));
        let asking = || server_config_asking(version, &identity, Some(&own));
        let builder = TlsClient::builder()
            .without_system_roots()
            .ca_certificates([identity.der.clone()])
            .client_certificate_pem(own.chain.clone(), own.key.clone());
        let mut bed = Bed::new(|settings| secure(settings, builder.build().unwrap()));
        let (_, server) = Server::open(&mut bed, &Arc::new(asking()));
        assert_eq!(server.tls.tls.peer_certificates().unwrap(), std::slice::from_ref(&own.der));

        // In TLS 1.3 it is told when the client's handshake is over, behind its request.
        let (error, _) = refusal(trusting(&identity), asking(), |_| {});
        assert!(matches!(tls_error(&error), Error::AlertReceived(_)), "{error:?}");
    }
}

#[test]
fn server_that_speaks_no_tls_is_refused_at_its_first_bytes() {
    let (mut bed, _) = bed(VERSIONS[1], |_| {});
    let (id, server, _) = bed_plain(&mut bed);
    server.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    bed.turns(2);
    let error = &bed.failure(id).error;
    assert!(matches!(tls_error(error), Error::InvalidMessage(_)), "{error:?}");
    bed.assert_empty();
}

/// Dials, and gives what the client has said.
fn bed_plain(bed: &mut Bed) -> (corewire::ConnectionId, crate::sim_net::SimPeer, Vec<u8>) {
    let id = bed.dial();
    bed.turns(3);
    let socket = bed.host.next().expect("the connection stands");
    let hello = socket.read_all();
    (id, socket, hello)
}

#[test]
fn first_record_is_a_client_hello_alone() {
    let (mut bed, _) = bed(VERSIONS[1], |_| {});
    let (_, _, hello) = bed_plain(&mut bed);
    assert_eq!(hello[0], 22, "a handshake");
    assert_eq!(record_bounds(&hello).len(), 2);
}

#[test]
fn without_settings_for_tls_nothing_is_said_at_all() {
    let (mut bed, _) = bed(VERSIONS[1], |settings| settings.dial.tls = None);
    let (id, socket, said) = bed_plain(&mut bed);
    assert!(matches!(bed.failure(id).error, DialError::Tls(_)));
    assert_eq!((said.len(), socket.end_seen() == End::None), (0, false));
    bed.assert_empty();
}
