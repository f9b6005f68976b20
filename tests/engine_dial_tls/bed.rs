//! A reactor that dials a server that speaks TLS, and that server.

use std::sync::Arc;

use corewire::opening::{ClientRequest, WebSocketUri};
use corewire::{ConnectionId, DialError, TlsClient};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::client_bed::{Bed, Settings};
use crate::naive::Frame;
use crate::sim_net::SimPeer;
use crate::sim_server::{Request, SimServer};
use crate::tls_peer::{Identity, TlsPeer};
use crate::tls_records;

pub type Version = &'static SupportedProtocolVersion;

/// A bed whose client trusts a certificate of example.com, and the server that shows it.
pub fn bed(version: Version, change: impl FnOnce(&mut Settings)) -> (Bed, Arc<ServerConfig>) {
    let identity = Identity::new(&["example.com"]);
    let bed = Bed::new(|settings| {
        secure(settings, trusting(&identity));
        change(settings);
    });
    (bed, Arc::new(server_config(version, &identity)))
}

/// Dials `wss`.
pub fn secure(settings: &mut Settings, tls: TlsClient) {
    let uri = WebSocketUri::parse("wss://example.com/feed").unwrap();
    settings.dial.request = ClientRequest::new(uri);
    settings.dial.tls = Some(tls);
}

/// A client that trusts nobody else.
pub fn trusting(identity: &Identity) -> TlsClient {
    let builder = TlsClient::builder().without_system_roots();
    builder.ca_certificates([identity.der.clone()]).build().unwrap()
}

/// A server of one version that asks for no certificate.
pub fn server_config(version: Version, identity: &Identity) -> ServerConfig {
    server_config_asking(version, identity, None)
}

/// The same; it wants to see this certificate, if there is one.
pub fn server_config_asking(
    version: Version,
    identity: &Identity,
    asked: Option<&Identity>,
) -> ServerConfig {
    let provider = Arc::new(tls_records::provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[version])
        .unwrap();
    let builder = match asked {
        None => builder.with_no_client_auth(),
        Some(asked) => {
            let mut roots = RootCertStore::empty();
            roots.add(asked.der.clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let mut config = builder.with_single_cert(vec![identity.der.clone()], key).unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// The server's end of one connection.
pub struct Server {
    pub tls: TlsPeer,
    plain: SimServer,
}

impl Server {
    pub fn new(socket: SimPeer, config: &Arc<ServerConfig>) -> Self {
        Self { tls: TlsPeer::serving(socket.clone(), config), plain: SimServer::new(socket) }
    }

    /// Dials, and takes it so far that the server has the connection.
    pub fn dial(bed: &mut Bed, config: &Arc<ServerConfig>) -> (ConnectionId, Self) {
        let id = bed.dial();
        bed.turns(2);
        (id, Self::new(bed.host.next().expect("the connection stands"), config))
    }

    /// So far that it has the request.
    pub fn dial_and_ask(
        bed: &mut Bed,
        config: &Arc<ServerConfig>,
    ) -> (ConnectionId, Self, Request) {
        let (id, mut server) = Self::dial(bed, config);
        server.turns(bed, 6);
        let request = server.request().expect("the request is there");
        (id, server, request)
    }

    /// Dials and opens.
    pub fn open(bed: &mut Bed, config: &Arc<ServerConfig>) -> (ConnectionId, Self) {
        let (id, mut server, request) = Self::dial_and_ask(bed, config);
        server.tls.say(&request.switching(""));
        server.turns(bed, 2);
        assert_eq!(bed.heard(id).len(), 2, "{:?}", bed.reactor.handler().failures);
        (id, server)
    }

    /// Turns of the loop, with what each side has to say to the other.
    pub fn turns(&mut self, bed: &mut Bed, count: usize) {
        for _ in 0..count {
            self.tls.pull();
            self.tls.push();
            bed.turn();
        }
        self.tls.pull();
    }

    fn listen(&mut self) {
        self.tls.pull();
        self.plain.hear(&std::mem::take(&mut self.tls.received));
    }

    pub fn request(&mut self) -> Option<Request> {
        self.listen();
        self.plain.request()
    }

    pub fn frames(&mut self) -> Vec<Frame> {
        self.listen();
        self.plain.plain_frames()
    }
}

/// What TLS has told of a failure.
pub fn tls_error(error: &DialError) -> &rustls::Error {
    match error {
        DialError::Tls(error) => error.downcast_ref().expect("it is rustls that has failed"),
        error => panic!("{error:?}"),
    }
}
