//! What the application is told of a connection's TLS.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use corewire::{Tls, TlsFacts, TlsVersion};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, version};

use crate::sim_bed::{Bed, echo};
use crate::sim_peer::{plain_request, upgrade_request};
use crate::tls_peer::{Identity, TlsPeer, VERSIONS, client_config, parties};
use crate::tls_records;

type Told = Rc<RefCell<Vec<Option<(TlsVersion, Vec<CertificateDer<'static>>)>>>>;

/// An echo, and what its application is told with each request.
fn bed_of(tls: Option<Tls>) -> (Bed, Told) {
    let told = Told::default();
    let seen = told.clone();
    let keep = |facts: TlsFacts<'_>| (facts.version, facts.peer_certificates.to_vec());
    let bed = Bed::new(
        |settings| {
            settings.tls = tls;
            settings.watch = Box::new(move |arrival| seen.borrow_mut().push(arrival.tls.map(keep)));
        },
        echo,
    );
    (bed, told)
}

/// A server that wants a certificate from clients, one of these.
fn asking_server(server: &Identity, client: &Identity) -> Tls {
    let provider = Arc::new(tls_records::provider());
    let mut roots = RootCertStore::empty();
    roots.add(client.der.clone()).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let key = PrivateKeyDer::from_pem_slice(server.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.unwrap())
        .with_single_cert(vec![server.der.clone()], key);
    Tls::from_config(Arc::new(config.unwrap())).unwrap()
}

/// A client that has a certificate of its own.
fn client_with(
    server: &Identity,
    own: &Identity,
    version: &'static rustls::SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(server.der.clone()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(tls_records::provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![own.der.clone()], key);
    Arc::new(config.unwrap())
}

fn name_of(version: &rustls::SupportedProtocolVersion) -> TlsVersion {
    if *version == version::TLS13 { TlsVersion::Tls13 } else { TlsVersion::Tls12 }
}

#[test]
fn application_is_told_the_version_and_without_tls_nothing() {
    for version in VERSIONS {
        let (tls, client) = parties(version);
        let (mut bed, told) = bed_of(Some(tls));
        TlsPeer::open(&mut bed, &client);
        assert_eq!(*told.borrow(), [Some((name_of(version), vec![]))]);
    }
    let (mut bed, told) = bed_of(None);
    bed.open();
    assert_eq!(*told.borrow(), [None]);
}

#[test]
fn application_is_shown_the_certificate_that_a_client_was_asked_for() {
    for version in VERSIONS {
        let (server, own) = (Identity::new(&["example.com"]), Identity::new(&["somebody"]));
        let (mut bed, told) = bed_of(Some(asking_server(&server, &own)));
        let mut peer = TlsPeer::connect(&bed, &client_with(&server, &own, version));
        peer.shake_hands(&mut bed);
        peer.say(&[plain_request("/a"), upgrade_request("/", "")].concat());
        peer.turns(&mut bed, 2);
        let facts = Some((name_of(version), vec![own.der.clone()]));
        assert_eq!(*told.borrow(), [facts.clone(), facts], "with each request");
    }
}

#[test]
fn client_without_the_certificate_it_is_asked_for_is_refused() {
    for version in VERSIONS {
        let (server, own) = (Identity::new(&["example.com"]), Identity::new(&["somebody"]));
        let (mut bed, told) = bed_of(Some(asking_server(&server, &own)));
        let mut peer = TlsPeer::connect(&bed, &Arc::new(client_config(&[&server], version)));
        peer.turns(&mut bed, 5);
        assert!(peer.failure.is_some(), "an alert tells it");
        assert!(told.borrow().is_empty());
        assert_eq!(bed.reactor.counters().tls_errors, 1);
    }
}
