//! wss://: certificates of files and of our own, and reading them again.

use std::fs;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustix::process::Signal;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ALL_VERSIONS, AlertDescription, ClientConfig, ClientConnection, DigitallySignedStruct, Error,
    SignatureScheme, StreamOwned, SupportedProtocolVersion,
};

use crate::client::{Client, TEXT};
use crate::process::{Server, corewire, serve, serve_as};
use crate::scrap::Scrap;

type Secured = StreamOwned<ClientConnection, TcpStream>;

/// Takes every certificate whose key signs, and keeps it.
#[derive(Debug)]
struct Keeper {
    provider: CryptoProvider,
    shown: Mutex<Vec<u8>>,
}

impl ServerCertVerifier for Keeper {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.shown.lock().unwrap() = end_entity.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The certificate that this name is shown.
fn shown(port: u16, name: &str) -> Vec<u8> {
    open(port, name).1
}

/// A WebSocket over TLS to this name, and the certificate that was shown.
fn open(port: u16, name: &str) -> (Client<Secured>, Vec<u8>) {
    let (stream, keeper) = dial(port, name, ALL_VERSIONS);
    let mut client = Client::through(stream);
    assert_eq!(client.upgrade("/", "").status, 101);
    client.echo(TEXT, b"unheard");
    let shown = keeper.shown.lock().unwrap().clone();
    (client, shown)
}

/// TLS to this name that is still to begin.
fn dial(
    port: u16,
    name: &str,
    versions: &[&'static SupportedProtocolVersion],
) -> (Secured, Arc<Keeper>) {
    let provider = ring::default_provider();
    let keeper = Arc::new(Keeper { provider: provider.clone(), shown: Mutex::default() });
    let config = ClientConfig::builder_with_provider(provider.into())
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(keeper.clone())
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connection = ClientConnection::new(config.into(), name).unwrap();
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(crate::process::PATIENCE)).unwrap();
    (StreamOwned::new(connection, stream), keeper)
}

/// A certificate in files.
pub struct Pair {
    pub chain: Scrap,
    pub key: Scrap,
    pub der: Vec<u8>,
}

pub fn pair(name: &str) -> Pair {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed([name.to_owned()]).unwrap();
    let (chain, key) = (Scrap::new(&cert.pem()), Scrap::new(&signing_key.serialize_pem()));
    Pair { chain, key, der: cert.der().to_vec() }
}

pub fn serve_pairs(pairs: &[&Pair]) -> Server {
    let flags = |pair: &&Pair| {
        let (chain, key) = (pair.chain.name().to_owned(), pair.key.name().to_owned());
        ["--tls-cert".to_owned(), chain, "--tls-key".to_owned(), key]
    };
    let flags: Vec<String> = pairs.iter().flat_map(flags).collect();
    serve(&flags.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn each_name_is_shown_its_certificate_and_others_the_first() {
    let (one, other) = (pair("one.example"), pair("other.example"));
    let server = serve_pairs(&[&one, &other]);
    assert!(shown(server.port, "one.example") == one.der);
    assert!(shown(server.port, "other.example") == other.der);
    assert!(shown(server.port, "third.example") == one.der);
}

#[test]
fn hang_up_reads_certificates_again_and_bad_ones_change_nothing() {
    let (old, new) = (pair("a.example"), pair("a.example"));
    let mut server = serve_pairs(&[&old]);
    let (mut standing, first) = open(server.port, "a.example");
    assert!(first == old.der);
    fs::copy(&new.chain.0, &old.chain.0).unwrap();
    // The key of before does not fit.
    server.signal(Signal::HUP);
    server.wait_for("certificates stay as they were: ");
    assert!(shown(server.port, "a.example") == old.der);
    fs::copy(&new.key.0, &old.key.0).unwrap();
    server.signal(Signal::HUP);
    server.wait_for("certificates are read again: ");
    assert!(shown(server.port, "a.example") == new.der);
    standing.echo(TEXT, b"untouched");
}

#[test]
fn certificate_of_our_own_is_announced_with_its_fingerprint() {
    let mut server = serve(&["--tls-self-signed", "--threads", "2"]);
    let line = server.wait_for("browsers will warn");
    let (_, fingerprint) = line.split_once("SHA-256 ").unwrap();
    let shown = shown(server.port, "localhost");
    let digest = ::ring::digest::digest(&::ring::digest::SHA256, &shown);
    let digest: Vec<_> = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    assert_eq!(fingerprint, digest.join(":"));
}

#[test]
fn older_clients_are_refused_where_only_tls_1_3_is_spoken() {
    let file = Scrap::new(
        "tls-self-signed = true\n[[listener]]\nlisten = \"127.0.0.1:0\"\n\
         [[listener]]\nlisten = \"127.0.0.1:0\"\ntls13-only = true\n",
    );
    let mut server = serve_as(&mut corewire(&["serve", "--config", file.name()]));
    let (any, only_new) = (server.port, server.next_port());
    let refused = Error::AlertReceived(AlertDescription::ProtocolVersion);
    for (port, version, outcome) in [
        (any, &TLS12, Ok(())),
        (any, &TLS13, Ok(())),
        (only_new, &TLS12, Err(refused)),
        (only_new, &TLS13, Ok(())),
    ] {
        let (mut stream, _) = dial(port, "localhost", &[version]);
        let done = stream.conn.complete_io(&mut stream.sock).map(|_| ());
        let done = done.map_err(|error| error.downcast::<Error>().unwrap());
        assert_eq!(done, outcome, "{version:?}");
    }
}

#[test]
fn hang_up_ends_a_server_that_has_nothing_to_read_again() {
    let server = serve(&["--tls-self-signed"]);
    server.signal(Signal::HUP);
    assert_eq!(server.wait().0.code(), None);
}

#[test]
fn listeners_with_and_without_tls_stand_side_by_side_and_share_their_certificate() {
    let file = Scrap::new(
        "[[listener]]\nlisten = \"127.0.0.1:0\"\n\
         [[listener]]\nlisten = \"127.0.0.1:0\"\ntls-self-signed = true\n\
         [[listener]]\nlisten = \"127.0.0.1:0\"\ntls-self-signed = true\nmax-message = 7",
    );
    let mut server = serve_as(&mut corewire(&["serve", "--config", file.name()]));
    let ports = [server.next_port(), server.next_port()];
    Client::open(server.port).echo(TEXT, b"heard");
    let shown = ports.map(|port| shown(port, "localhost"));
    assert!(!shown[0].is_empty() && shown[0] == shown[1]);
    server.signal(Signal::INT);
    let (_, log) = server.wait();
    assert_eq!(log.matches("browsers will warn").count(), 1, "{log}");
}
