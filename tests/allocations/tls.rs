//! What an echo over TLS allocates: rustls once for each record it opens and once for each it seals,
//! we nothing. Of a large message more records come than go, torn as the kernel hands them over.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use corewire::{
    Config, ListenOptions, ListenerSettings, MioNet, Reactor, ReactorConfig, Role, Tls, limits,
};
use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
    SupportedProtocolVersion,
};

use crate::{ALLOCATIONS, Answer, BINARY, Echo, HELD_BYTES, counted, echo_bytes, frame};

struct Bed {
    reactor: Reactor<MioNet, Echo>,
    socket: TcpStream,
    client: ClientConnection,
}

impl Bed {
    fn new(version: &'static SupportedProtocolVersion) -> Self {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (chain, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
        let mut settings = ListenerSettings::new(Config::new(Role::Server));
        settings.tls = Some(Tls::builder().certificate_pem(chain, key).build().unwrap());
        let mut roots = RootCertStore::empty();
        roots.add(certified.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "localhost".try_into().unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        client.set_buffer_limit(None);
        let net = MioNet::new(256 << 10).unwrap();
        let mut reactor = Reactor::new(net, Echo(Answer::Slice), ReactorConfig::new([1; 32]));
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let endpoint = reactor.listen(any, &ListenOptions::default(), settings).unwrap();
        let socket = TcpStream::connect(endpoint.socket_addr().unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut bed = Self { reactor, socket, client };
        let request = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        bed.exchange(request.as_bytes(), 129);
        bed
    }

    /// Sends, and reads so many bytes back.
    fn exchange(&mut self, sent: &[u8], answer_bytes: usize) {
        self.client.writer().write_all(sent).unwrap();
        let mut missing = answer_bytes;
        let mut sink = vec![0; 64 << 10];
        while missing > 0 {
            let is_blocked = |error: &std::io::Error| error.kind() == ErrorKind::WouldBlock;
            while self.client.wants_write() {
                match self.client.write_tls(&mut self.socket) {
                    Ok(_) => {}
                    Err(error) if is_blocked(&error) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            counted(|| self.reactor.turn(Some(Duration::ZERO))).unwrap();
            match self.client.read_tls(&mut self.socket) {
                Ok(bytes) => assert!(bytes > 0, "the server closed the connection"),
                Err(error) => assert!(is_blocked(&error), "{error}"),
            }
            self.client.process_new_packets().unwrap();
            while missing > 0 {
                match self.client.reader().read(&mut sink) {
                    Ok(bytes) => missing -= bytes,
                    Err(error) => {
                        assert!(is_blocked(&error), "{error}");
                        break;
                    }
                }
            }
        }
    }

    fn allocations_per_exchange(&mut self, payload_bytes: usize, rounds: u64) -> u64 {
        let frame = frame(BINARY, payload_bytes);
        ALLOCATIONS.set(0);
        for _ in 0..rounds {
            self.exchange(&frame, echo_bytes(payload_bytes));
        }
        ALLOCATIONS.get().div_ceil(rounds)
    }
}

#[test]
fn echo_over_tls_allocates_a_bounded_number_of_times_and_no_more_as_time_goes_on() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut bed = Bed::new(version);
        for (payload_bytes, bound) in [(20, 2), (1 << 10, 2), (64 << 10, 12)] {
            bed.allocations_per_exchange(payload_bytes, 50);
            for _ in 0..3 {
                let allocations = bed.allocations_per_exchange(payload_bytes, 200);
                assert!(allocations <= bound, "{payload_bytes} bytes: {allocations}");
            }
        }
    }
}

/// How many certificates either end has. A server asks for those of a client that has some.
#[derive(Clone, Copy, Debug)]
struct Chains {
    server: usize,
    client: usize,
}

/// A server and a client with chains of so many.
fn certified_parties(
    version: &'static SupportedProtocolVersion,
    chains: Chains,
) -> (ServerConfig, ClientConfig) {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = || PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let chain = |count| vec![own.cert.der().clone(); count];
    let mut roots = RootCertStore::empty();
    roots.add(own.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[version])
        .unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), provider.clone());
    let server = match chains.client {
        0 => server.with_no_client_auth(),
        _ => server.with_client_cert_verifier(verifier.build().unwrap()),
    };
    let mut server = server.with_single_cert(chain(chains.server), key()).unwrap();
    // Neither is the connection's own: what is kept for tickets.
    server.session_storage = Arc::new(NoServerSessionStorage {});
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let client = match chains.client {
        0 => client.with_no_client_auth(),
        count => client.with_client_auth_cert(chain(count), key()).unwrap(),
    };
    (server, client)
}

/// So many are measured together, so that what they share counts for little.
const CROWD: usize = 20;

/// What the connection itself takes before its first request.
const HTTP_BYTES: isize = 512;

/// A connection, step by step.
struct Steps {
    socket: TcpStream,
    client: ClientConnection,
}

impl Steps {
    fn new(address: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nonblocking(true).unwrap();
        let name = "localhost".try_into().unwrap();
        Self { socket, client: ClientConnection::new(config.clone(), name).unwrap() }
    }

    fn step(&mut self, reactor: &mut Reactor<MioNet, Echo>) {
        while self.client.wants_write() {
            self.client.write_tls(&mut self.socket).unwrap();
        }
        for _ in 0..2 {
            counted(|| reactor.turn(Some(Duration::from_millis(1)))).unwrap();
        }
        let _ = self.client.read_tls(&mut self.socket);
        self.client.process_new_packets().unwrap();
    }
}

#[test]
fn connections_are_charged_for_no_less_than_their_tls_takes_at_every_step() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for certificates in [0, 1, 4, 100] {
            let chains = Chains { server: 1, client: certificates };
            let (server, client) = certified_parties(version, chains);
            let (tls, config) = (Tls::from_config(Arc::new(server)).unwrap(), Arc::new(client));
            let mut settings = ListenerSettings::new(Config::new(Role::Server));
            settings.tls = Some(tls);
            let net = MioNet::new(256 << 10).unwrap();
            let mut reactor = Reactor::new(net, Echo(Answer::Slice), ReactorConfig::new([1; 32]));
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let endpoint = reactor.listen(any, &ListenOptions::default(), settings).unwrap();
            let address = endpoint.socket_addr().unwrap();
            let crowd = || (0..CROWD).map(|_| Steps::new(address, &config)).collect::<Vec<_>>();
            // The first ones grow what all share.
            let mut early = crowd();
            for _ in 0..4 {
                early.iter_mut().for_each(|steps| steps.step(&mut reactor));
            }
            drop(early);
            while reactor.usage().sockets > 0 {
                reactor.turn(Some(Duration::from_millis(5))).unwrap();
            }
            HELD_BYTES.set(0);
            let mut crowd = crowd();
            for step in 0..5 {
                let held = HELD_BYTES.get() / CROWD as isize;
                let charged = reactor.usage().tls_bytes as isize / CROWD as isize;
                assert!(held <= charged + HTTP_BYTES, "{held} of {charged} at step {step}");
                assert!(step < 4 || charged < held + held / 4, "{held} of {charged} in the end");
                crowd.iter_mut().for_each(|steps| steps.step(&mut reactor));
            }
            assert!(!crowd.iter().any(|steps| steps.client.is_handshaking()));
        }
    }
}

/// A client's session as the loop has it, and what has come for it.
struct Dialled {
    client: Box<UnbufferedClientConnection>,
    records: Vec<u8>,
    server: ServerConnection,
}

impl Dialled {
    fn new(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Self {
        let (client, name) = (client.clone(), "localhost".try_into().unwrap());
        let client = counted(|| UnbufferedClientConnection::new(client, name).map(Box::new));
        let server = ServerConnection::new(server.clone()).unwrap();
        Self { client: client.unwrap(), records: Vec::new(), server }
    }

    /// The client reads and speaks, the server answers.
    fn step(&mut self) {
        let mut output = Vec::new();
        loop {
            let UnbufferedStatus { discard, state, .. } =
                counted(|| self.client.process_tls_records(&mut self.records));
            let is_done = match state.unwrap() {
                ConnectionState::EncodeTlsData(mut data) => {
                    let begin = output.len();
                    output.resize(begin + (20 << 10), 0);
                    let bytes = counted(|| data.encode(&mut output[begin..]).unwrap());
                    output.truncate(begin + bytes);
                    false
                }
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    false
                }
                ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) => true,
                state => panic!("{state:?}"),
            };
            self.records.drain(..discard);
            if is_done {
                break;
            }
        }
        let mut output = &output[..];
        while !output.is_empty() {
            self.server.read_tls(&mut output).unwrap();
            self.server.process_new_packets().unwrap();
        }
        while self.server.wants_write() {
            self.server.write_tls(&mut self.records).unwrap();
        }
    }

    /// What a loop charges for it.
    fn charged_bytes(&self) -> usize {
        let session_bytes = if self.client.is_handshaking() {
            limits::TLS_HANDSHAKE_BYTES
        } else {
            limits::TLS_SESSION_BYTES
        };
        let shown = self.client.peer_certificates().unwrap_or_default().iter();
        session_bytes + shown.map(|certificate| 64 + certificate.len()).sum::<usize>()
    }
}

#[test]
fn client_sessions_take_no_more_than_they_are_charged_for_at_every_step() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for (server, client) in [(1, 0), (1, 1), (1, 100), (4, 0), (100, 4)] {
            let chains = Chains { server, client };
            let (server, mut client) = certified_parties(version, chains);
            // What is kept to be resumed is not the connection's own.
            client.resumption = Resumption::disabled();
            let (server, client) = (Arc::new(server), Arc::new(client));
            let crowd = || (0..CROWD).map(|_| Dialled::new(&client, &server)).collect::<Vec<_>>();
            // The first ones grow what all share.
            let mut early = crowd();
            (0..4).for_each(|_| early.iter_mut().for_each(Dialled::step));
            drop(early);
            HELD_BYTES.set(0);
            let mut crowd = crowd();
            for step in 0..5 {
                let held = HELD_BYTES.get() / CROWD as isize;
                let charged = crowd[0].charged_bytes() as isize;
                assert!(held <= charged, "{held} of {charged} at step {step}, {chains:?}");
                assert!(step < 4 || charged < held + held / 4, "{held} of {charged} in the end");
                crowd.iter_mut().for_each(Dialled::step);
            }
            assert!(!crowd.iter().any(|it| it.client.is_handshaking()));
        }
    }
}
