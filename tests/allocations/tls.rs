//! What an echo over TLS allocates: rustls once for each record it opens and once for each it seals,
//! we nothing. Of a large message more records come than go, torn as the kernel hands them over.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use corewire::{
    Config, ListenOptions, ListenerSettings, MioNet, Reactor, ReactorConfig, Role, Tls,
};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

use crate::{ALLOCATIONS, Answer, BINARY, Echo, counted, echo_bytes, frame};

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
            counted(|| self.reactor.turn(Some(std::time::Duration::ZERO))).unwrap();
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
