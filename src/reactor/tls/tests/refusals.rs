//! Who is not trusted, who does not trust us, and what either is told.

use std::io::ErrorKind;
use std::sync::Arc;

use rustls::{AlertDescription, CertificateError, Error};

use super::certified::{Authority, Certified, ClientAuth, VERSIONS, server_config};
use super::ends::{COARSE, End, Foreign, KEY, MAKERS, Ours, Wire, exchange};
use crate::reactor::tls::{TlsClient, TlsClientBuilder};

/// What both ends make of a handshake.
struct Outcome {
    client: Option<Error>,
    server: Option<Error>,
    /// The name that was asked for.
    asked: Option<String>,
    is_open: bool,
}

fn meet(config: &Arc<rustls::ServerConfig>, tls: &TlsClient, host: &str) -> Outcome {
    let [near, far] = Wire::pair(COARSE);
    let mut client = Ours::client(tls, host, near);
    let mut server = Foreign::new(config.clone(), far);
    exchange(&mut client, &mut server);
    assert_eq!(client.error, client.failure().map(|_| ErrorKind::InvalidData));
    Outcome {
        client: client.failure().cloned(),
        server: server.failure().cloned(),
        asked: server.tls.server_name().map(str::to_owned),
        is_open: client.is_open() && server.is_open() && client.failure().is_none(),
    }
}

fn build(builder: TlsClientBuilder) -> TlsClient {
    builder.build().unwrap()
}

/// The certificate's fault, if that is what a handshake has failed for.
fn fault(outcome: &Outcome) -> &CertificateError {
    match &outcome.client {
        Some(Error::InvalidCertificate(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn wrong_name_unknown_authority_and_expired_certificate_are_refused_and_told_to_both() {
    let alert = |outcome: &Outcome| match outcome.server {
        Some(Error::AlertReceived(alert)) => alert,
        ref other => panic!("{other:?}"),
    };
    for version in VERSIONS {
        let authority = Authority::new();
        let expired = authority.certify_with(&["example.com"], |params| {
            params.not_before = rcgen::date_time_ymd(2000, 1, 1);
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        });
        let future = authority.certify_with(&["example.com"], |params| {
            params.not_before = rcgen::date_time_ymd(3000, 1, 1);
            params.not_after = rcgen::date_time_ymd(3001, 1, 1);
        });
        let good = authority.certify(&["example.com"]);
        let [good, expired, future] = [good, expired, future]
            .map(|it| Arc::new(server_config(version, &it, &ClientAuth::None)));
        let tls = build(authority.client());
        let stranger = build(Authority::new().client());
        assert!(meet(&good, &tls, "example.com").is_open);

        let outcome = meet(&good, &tls, "example.org");
        assert!(matches!(fault(&outcome), CertificateError::NotValidForNameContext { .. }));
        assert_eq!(alert(&outcome), AlertDescription::BadCertificate);
        assert!(outcome.client.unwrap().to_string().contains("example.org"), "it says which");

        let outcome = meet(&good, &stranger, "example.com");
        assert_eq!(*fault(&outcome), CertificateError::UnknownIssuer);
        assert_eq!(alert(&outcome), AlertDescription::UnknownCA);

        let outcome = meet(&expired, &tls, "example.com");
        assert!(matches!(fault(&outcome), CertificateError::ExpiredContext { .. }));
        assert_eq!(alert(&outcome), AlertDescription::CertificateExpired);

        let outcome = meet(&future, &tls, "example.com");
        assert!(matches!(fault(&outcome), CertificateError::NotValidYetContext { .. }));

        let careless = build(authority.client().dangerously_accept_any_certificate());
        let alone = TlsClient::builder().without_system_roots();
        let alone = build(alone.dangerously_accept_any_certificate());
        for tls in [careless, alone] {
            assert!(meet(&good, &tls, "example.org").is_open);
            assert!(meet(&expired, &tls, "example.com").is_open);
        }
    }
}

#[test]
fn any_certificate_is_taken_only_from_who_has_its_key() {
    for version in VERSIONS {
        let authority = Authority::new();
        let (shown, other) = (authority.certify(&["example.com"]), authority.certify(&["thief"]));
        let mut config = server_config(version, &other, &ClientAuth::None);
        let key = rustls::crypto::ring::sign::any_ecdsa_type(
            &rustls::pki_types::pem::PemObject::from_pem_slice(other.key_pem.as_bytes()).unwrap(),
        );
        let stolen = rustls::sign::CertifiedKey::new(vec![shown.der], key.unwrap());
        config.cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(stolen));
        let tls = build(TlsClient::builder().dangerously_accept_any_certificate());
        let outcome = meet(&Arc::new(config), &tls, "example.com");
        assert_eq!(*fault(&outcome), CertificateError::BadSignature);
    }
}

#[test]
fn named_certificate_is_taken_though_it_calls_itself_an_authority_and_no_other() {
    for version in VERSIONS {
        let own = Certified::self_signed(&["example.com"], |_| {});
        let twin = Certified::self_signed(&["example.com"], |_| {});
        let expired = Certified::self_signed(&["example.com"], |params| {
            params.not_before = rcgen::date_time_ymd(2000, 1, 1);
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        });
        let server = |it: &Certified| Arc::new(server_config(version, it, &ClientAuth::None));
        let naming = |it: &Certified| {
            let others = [Authority::new().der(), it.der.clone()];
            build(TlsClient::builder().without_system_roots().ca_certificates(others))
        };
        assert!(meet(&server(&own), &naming(&own), "example.com").is_open);
        let outcome = meet(&server(&own), &naming(&own), "example.org");
        assert!(matches!(fault(&outcome), CertificateError::NotValidForNameContext { .. }));
        let outcome = meet(&server(&expired), &naming(&expired), "example.com");
        assert!(matches!(fault(&outcome), CertificateError::ExpiredContext { .. }));
        // Of the same name by the same authority, but not the one.
        assert!(!meet(&server(&twin), &naming(&own), "example.com").is_open);
        // Who shows it has to have its key.
        let mut config = server_config(version, &twin, &ClientAuth::None);
        let key = rustls::crypto::ring::sign::any_ecdsa_type(
            &rustls::pki_types::pem::PemObject::from_pem_slice(twin.key_pem.as_bytes()).unwrap(),
        );
        let stolen = rustls::sign::CertifiedKey::new(vec![own.der.clone()], key.unwrap());
        config.cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(stolen));
        let outcome = meet(&Arc::new(config), &naming(&own), "example.com");
        assert_eq!(*fault(&outcome), CertificateError::BadSignature);
    }
}

#[test]
fn name_that_was_set_is_asked_for_and_checked_instead_of_the_host() {
    for version in VERSIONS {
        let authority = Authority::new();
        let certified = authority.certify(&["example.com"]);
        let config = Arc::new(server_config(version, &certified, &ClientAuth::None));
        let tls = build(authority.client().server_name("example.com"));
        for host in ["10.1.2.3", "other.example", "not a name at all"] {
            let outcome = meet(&config, &tls, host);
            assert!(outcome.is_open);
            assert_eq!(outcome.asked.as_deref(), Some("example.com"));
        }
        let tls = build(authority.client().server_name("other.example"));
        let outcome = meet(&config, &tls, "example.com");
        assert!(matches!(fault(&outcome), CertificateError::NotValidForNameContext { .. }));
    }
}

#[test]
fn address_is_looked_for_among_addresses_and_not_asked_for() {
    for version in VERSIONS {
        let authority = Authority::new();
        let certified = authority.certify(&["example.com", "10.1.2.3", "2001:db8::1"]);
        let config = Arc::new(server_config(version, &certified, &ClientAuth::None));
        let tls = build(authority.client());
        for (host, asked) in [
            ("example.com", Some("example.com")),
            ("EXAMPLE.com", Some("example.com")),
            ("example.com.", Some("example.com")),
            ("10.1.2.3", None),
            ("2001:db8::1", None),
            ("2001:db8:0::0:1", None),
        ] {
            let outcome = meet(&config, &tls, host);
            assert!(outcome.is_open, "{host}: {:?}", outcome.client);
            assert_eq!(outcome.asked.as_deref(), asked, "{host}");
        }
        for host in ["10.1.2.4", "2001:db8::2"] {
            let outcome = meet(&config, &tls, host);
            assert!(matches!(fault(&outcome), CertificateError::NotValidForNameContext { .. }));
        }
    }
}

#[test]
fn certificate_is_shown_to_a_server_that_asks_for_one() {
    for version in VERSIONS {
        for maker in MAKERS {
            let (authority, own) = (Authority::new(), Authority::new());
            let certified = authority.certify(&["example.com"]);
            let config = server_config(version, &certified, &ClientAuth::Of(&own));
            let config = Arc::new(config);
            let shown = own.certify(&["somebody"]);
            let tls = authority.client().client_certificate_pem(&*shown.chain_pem, &*shown.key_pem);
            let [near, far] = Wire::pair(COARSE);
            let mut client = Ours::client(&build(tls), "example.com", near);
            let mut server = maker.server(&config, far.clone());
            client.say(b"hello");
            exchange(&mut client, &mut *server);
            assert_eq!(server.heard(), b"hello", "{:?}", server.failure());
        }
        let (authority, own) = (Authority::new(), Authority::new());
        let certified = authority.certify(&["example.com"]);
        let config = Arc::new(server_config(version, &certified, &ClientAuth::Of(&own)));
        let shown = own.certify(&["somebody"]);
        let tls = authority.client().client_certificate_pem(&*shown.chain_pem, &*shown.key_pem);
        let [near, far] = Wire::pair(COARSE);
        let mut client = Ours::client(&build(tls), "example.com", near);
        let mut server = Ours::server(config, far);
        exchange(&mut client, &mut server);
        // Each end is told of the other's.
        let facts = |end: &Ours| end.transport.tls_facts(KEY).unwrap().peer_certificates.to_vec();
        assert_eq!((facts(&server), facts(&client)), (vec![shown.der], vec![certified.der]));
    }
}

#[test]
fn client_without_the_certificate_it_is_asked_for_hears_why() {
    for version in VERSIONS {
        let (authority, own) = (Authority::new(), Authority::new());
        let certified = authority.certify(&["example.com"]);
        let config = Arc::new(server_config(version, &certified, &ClientAuth::Of(&own)));
        let outcome = meet(&config, &build(authority.client()), "example.com");
        // In TLS 1.3 the client's handshake is over by then.
        let alert = Error::AlertReceived(AlertDescription::CertificateRequired);
        assert_eq!(outcome.client, Some(alert));
        // One of nobody whom the server knows.
        let stranger = Authority::new().certify(&["stranger"]);
        let tls =
            authority.client().client_certificate_pem(&*stranger.chain_pem, &*stranger.key_pem);
        let outcome = meet(&config, &build(tls), "example.com");
        let alert = Error::AlertReceived(AlertDescription::UnknownCA);
        assert_eq!(outcome.client, Some(alert));
    }
}

#[test]
fn no_version_and_no_protocol_in_common_is_told() {
    let authority = Authority::new();
    let certified = authority.certify(&["example.com"]);
    let old = server_config(VERSIONS[0], &certified, &ClientAuth::None);
    let outcome = meet(&Arc::new(old), &build(authority.client().tls13_only()), "example.com");
    assert_eq!(outcome.client, Some(Error::AlertReceived(AlertDescription::ProtocolVersion)));
    for version in VERSIONS {
        let mut config = server_config(version, &certified, &ClientAuth::None);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let config = Arc::new(config);
        let outcome = meet(&config, &build(authority.client()), "example.com");
        let alert = Error::AlertReceived(AlertDescription::NoApplicationProtocol);
        assert_eq!(outcome.client, Some(alert));
        // Who names none is not asked.
        let silent = authority.client().alpn::<Vec<u8>>([]);
        assert!(meet(&config, &build(silent), "example.com").is_open);
        let both = authority.client().alpn(["http/1.1", "h2"]);
        assert!(meet(&config, &build(both), "example.com").is_open);
    }
}

#[test]
fn server_that_speaks_no_tls_is_refused_at_its_first_bytes() {
    for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"SSH-2.0-x\r\n", &[0; 20]] {
        let (_, tls) = super::certified::parties(VERSIONS[1]);
        let [near, _far] = Wire::pair(COARSE);
        let mut client = Ours::client(&tls, "example.com", near.clone());
        near.inject(answer);
        client.step();
        assert_eq!(client.error, Some(ErrorKind::InvalidData));
        assert!(matches!(client.failure(), Some(Error::InvalidMessage(_))), "{answer:?}");
    }
}
