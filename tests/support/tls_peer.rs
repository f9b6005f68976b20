//! A scripted peer that speaks TLS: a client or server of rustls in memory between the test and a
//! [`SimPeer`], and certificates for both ends.

use std::io::{Read, Write};
use std::sync::Arc;

use corewire::Tls;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection,
    SupportedProtocolVersion,
};

use crate::sim_bed::Bed;
use crate::sim_net::SimPeer;
use crate::sim_peer::{Frame, frames, split_head, upgrade_request};
use crate::tls_records;

pub const VERSIONS: [&SupportedProtocolVersion; 2] =
    [&rustls::version::TLS12, &rustls::version::TLS13];

/// A certificate that vouches for itself, and its key, both as PEM.
pub struct Identity {
    pub chain: String,
    pub key: String,
    pub der: CertificateDer<'static>,
}

impl Identity {
    /// With a new ECDSA key.
    pub fn new(names: &[&str]) -> Self {
        Self::with_key(names, &KeyPair::generate().expect("there is entropy"))
    }

    /// With a new Ed25519 key, whose signatures are of one size.
    pub fn ed25519(names: &[&str]) -> Self {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519);
        Self::with_key(names, &key.expect("there is entropy"))
    }

    /// With the RSA key of the tests, which take the time to make one.
    pub fn rsa(names: &[&str]) -> Self {
        let key = KeyPair::from_pem(include_str!("../certificates/rsa-key.pem"));
        Self::with_key(names, &key.expect("a key of 2,048 bits"))
    }

    /// That has expired.
    pub fn expired(names: &[&str]) -> Self {
        let key = KeyPair::generate().expect("there is entropy");
        Self::changed(names, &key, |params| {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        })
    }

    fn with_key(names: &[&str], key: &KeyPair) -> Self {
        Self::changed(names, key, |_| {})
    }

    fn changed(names: &[&str], key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names).expect("names of hosts");
        change(&mut params);
        // By itself it would be random, and of one size or another.
        params.serial_number = Some(1.into());
        let certificate = params.self_signed(key).expect("the key signs");
        let (chain, der) = (certificate.pem(), certificate.der().clone());
        Self { chain, key: key.serialize_pem(), der }
    }
}

/// What a server with these certificates speaks.
pub fn server_tls(identities: &[&Identity]) -> Tls {
    let builder = identities.iter().fold(Tls::builder(), |builder, identity| {
        builder.certificate_pem(identity.chain.as_bytes(), identity.key.as_bytes())
    });
    builder.build().expect("the certificates are good")
}

/// A client that trusts these, speaks one version, and keeps sessions to resume them.
pub fn client_config(
    trusted: &[&Identity],
    version: &'static SupportedProtocolVersion,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for identity in trusted {
        roots.add(identity.der.clone()).expect("a certificate");
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(tls_records::provider()))
        .with_protocol_versions(&[version])
        .expect("the provider has suites for it")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// A certificate, a server's TLS with it, and a client of one version that trusts it.
pub fn parties(version: &'static SupportedProtocolVersion) -> (Tls, Arc<ClientConfig>) {
    let identity = Identity::new(&["example.com"]);
    (server_tls(&[&identity]), Arc::new(client_config(&[&identity], version)))
}

/// An echo that speaks TLS, and who may connect to it.
pub fn tls_echo(version: &'static SupportedProtocolVersion) -> (Bed, Arc<ClientConfig>) {
    let (tls, client) = parties(version);
    (Bed::new(|settings| settings.tls = Some(tls), crate::sim_bed::echo), client)
}

/// The other end of one connection, with its TLS.
pub struct TlsPeer {
    pub socket: SimPeer,
    pub tls: Connection,
    /// Payload that came and was not taken yet.
    pub received: Vec<u8>,
    /// The server's close_notify was read.
    pub is_ended: bool,
    /// What the server's records made of this end.
    pub failure: Option<rustls::Error>,
}

impl TlsPeer {
    /// Connects; nothing is sent yet.
    pub fn connect(bed: &Bed, config: &Arc<ClientConfig>) -> Self {
        Self::connect_as(bed, config, "example.com")
    }

    /// Asks for the server `name`.
    pub fn connect_as(bed: &Bed, config: &Arc<ClientConfig>, name: &str) -> Self {
        Self::over(bed.sim.connect(bed.address), config, name)
    }

    /// On a connection of any bed.
    pub fn over(socket: SimPeer, config: &Arc<ClientConfig>, name: &str) -> Self {
        let name = ServerName::try_from(name.to_owned()).expect("a name or an address");
        let tls = ClientConnection::new(config.clone(), name).expect("a good configuration");
        Self::speaking(socket, tls.into())
    }

    /// The server's end of a connection that the engine has dialled.
    pub fn serving(socket: SimPeer, config: &Arc<ServerConfig>) -> Self {
        let tls = ServerConnection::new(config.clone()).expect("a good configuration");
        Self::speaking(socket, tls.into())
    }

    fn speaking(socket: SimPeer, mut tls: Connection) -> Self {
        tls.set_buffer_limit(None);
        let (received, is_ended, failure) = (Vec::new(), false, None);
        Self { socket, tls, received, is_ended, failure }
    }

    /// A peer whose opening handshake is over.
    pub fn open(bed: &mut Bed, config: &Arc<ClientConfig>) -> Self {
        let mut peer = Self::connect(bed, config);
        peer.upgrade(bed);
        peer
    }

    /// Takes the peer through both handshakes.
    pub fn upgrade(&mut self, bed: &mut Bed) {
        self.shake_hands(bed);
        self.say(&upgrade_request("/", ""));
        self.turns(bed, 2);
        let received = std::mem::take(&mut self.received);
        let (head, rest) = split_head(&received).expect("the handshake was answered");
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(rest.is_empty(), "nothing follows the answer unasked");
    }

    /// Takes the peer through the handshake of TLS.
    pub fn shake_hands(&mut self, bed: &mut Bed) {
        self.turns(bed, 4);
        assert!(!self.tls.is_handshaking(), "{:?}", self.failure);
    }

    /// What this end has to send, in records.
    pub fn outgoing(&mut self) -> Vec<u8> {
        let mut records = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut records).expect("memory takes all");
        }
        records
    }

    /// Puts payload into records that wait to be sent.
    pub fn say(&mut self, payload: &[u8]) {
        self.tls.writer().write_all(payload).expect("there is no bound");
    }

    /// The records of `payload`, and of all that waited.
    pub fn records_of(&mut self, payload: &[u8]) -> Vec<u8> {
        self.say(payload);
        self.outgoing()
    }

    /// Sends what there is to send.
    pub fn push(&mut self) {
        let records = self.outgoing();
        if !records.is_empty() {
            self.socket.write_all(&records);
        }
    }

    /// Reads what has come.
    pub fn pull(&mut self) {
        self.pull_at_most(usize::MAX);
    }

    pub fn pull_at_most(&mut self, bytes_max: usize) {
        let bytes = self.socket.read(bytes_max);
        let mut rest = &bytes[..];
        while !rest.is_empty() && self.failure.is_none() && !self.is_ended {
            self.tls.read_tls(&mut rest).expect("memory never fails");
            match self.tls.process_new_packets() {
                Err(error) => self.failure = Some(error),
                Ok(state) => {
                    let begin = self.received.len();
                    self.received.resize(begin + state.plaintext_bytes_to_read(), 0);
                    let place = &mut self.received[begin..];
                    self.tls.reader().read_exact(place).expect("so much was told");
                    self.is_ended = state.peer_has_closed();
                }
            }
        }
        assert!(rest.is_empty() || self.failure.is_some(), "records behind the close_notify");
    }

    /// Turns of the loop, with what each side has to say to the other.
    pub fn turns(&mut self, bed: &mut Bed, count: usize) {
        for _ in 0..count {
            self.push();
            bed.turn();
            self.pull();
        }
    }

    /// The whole frames that came; nothing torn behind them.
    pub fn take_frames(&mut self) -> Vec<Frame> {
        let (frames, used) = frames(&self.received);
        assert_eq!(used, self.received.len(), "a torn frame at the end");
        self.received.clear();
        frames
    }

    /// The alert that the server has sent, if it has.
    pub fn alert(&self) -> Option<rustls::AlertDescription> {
        match self.failure {
            Some(rustls::Error::AlertReceived(alert)) => Some(alert),
            _ => None,
        }
    }
}

/// Where each record begins, and the end of the last.
pub fn record_bounds(records: &[u8]) -> Vec<usize> {
    let mut bounds = vec![0];
    let mut at = 0;
    while let Some(header) = records.get(at..at + 5) {
        at += 5 + usize::from(u16::from_be_bytes([header[3], header[4]]));
        bounds.push(at);
    }
    assert_eq!(at, records.len(), "whole records");
    bounds
}
