//! Connections that others have accepted.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use corewire::{
    Accept, Adoption, Command, Decision, Endpoint, MioNet, PostError, PreparedMessage, Reactor,
    Response, ServerBuilder, ServerHandle, Verdict,
};

use crate::client::{Client, frame, request};
use crate::running::{Running, Teller, not_a_socket, server};

/// A loop that is turned by the test, with one listener that listens nowhere.
fn reactor(change: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Reactor<MioNet, Teller> {
    change(server().listen(Endpoint::Detached)).build_reactor(Teller).unwrap()
}

fn turns(reactor: &mut Reactor<MioNet, Teller>, count: usize) {
    (0..count).for_each(|_| reactor.turn(Some(Duration::ZERO)).unwrap());
}

/// Turns until the answers have so many bytes.
fn answers(
    reactor: &mut Reactor<MioNet, Teller>,
    client: &mut UnixStream,
    bytes: usize,
) -> Vec<u8> {
    client.set_nonblocking(true).unwrap();
    let mut answers = Vec::new();
    for _ in 0..100 {
        turns(reactor, 1);
        // What has not come yet may come with the next turn.
        let _ = client.read_to_end(&mut answers);
        if answers.len() >= bytes {
            break;
        }
    }
    answers
}

/// Whether the other end is closed.
fn is_closed(client: &mut UnixStream) -> bool {
    client.set_nonblocking(true).unwrap();
    matches!(client.read(&mut [0]), Ok(0))
}

#[test]
fn blocking_accept_loop_hands_its_connections_over() {
    let running = Running::start(
        server()
            .threads(2)
            .listen((Ipv4Addr::LOCALHOST, 0))
            .listen_with(Endpoint::Detached, |_, settings| {
                settings.config_mut().limits.message_bytes_max = 10
            }),
    );
    let own = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (address, handle) = (own.local_addr().unwrap(), running.handle.clone());
    let accepting = thread::spawn(move || {
        for stream in own.incoming().take(20) {
            handle.adopt(Adoption::new(stream.unwrap(), 1)).unwrap();
        }
    });
    let mut clients: Vec<_> = (0..20).map(|_| Client::dial(address)).collect();
    let mut on_loop = [0; 2];
    for client in &mut clients {
        client.upgrade("/");
        client.say("where");
        on_loop[client.text().parse::<usize>().unwrap()] += 1;
        client.say("who");
        assert_eq!(client.text(), "127.0.0.1 at 1");
        client.say("eleven bytes");
        let (opcode, payload) = client.frame();
        assert_eq!(
            (opcode, &payload[..2]),
            (8, &1009u16.to_be_bytes()[..]),
            "its listener's bound"
        );
    }
    accepting.join().unwrap();
    assert_eq!(on_loop, [10, 10], "each loop gets its share");
    let counters = running.stop();
    assert_eq!((counters.accepted, counters.adoptions_failed), (20, 0));
}

#[test]
fn bytes_read_ahead_are_handled_first_wherever_they_end() {
    let sent = [request("/", "").into_bytes(), frame(1, b"who"), frame(1, b"Hello")].concat();
    let echoed = b"\x81\x09unix at 0\x81\x05Hello";
    for cut in 0..=sent.len() {
        let mut reactor = reactor(|builder| builder);
        let (mut client, stream) = UnixStream::pair().unwrap();
        // Some of the rest waits in the socket already, some comes later.
        let (ahead, rest) = sent.split_at(cut);
        let (waiting, later) = rest.split_at(rest.len() / 2);
        client.write_all(waiting).unwrap();
        reactor.adopt(Adoption::new(stream, 0).with_bytes(ahead)).unwrap();
        turns(&mut reactor, 1);
        client.write_all(later).unwrap();
        let answers = answers(&mut reactor, &mut client, 129 + echoed.len());
        assert!(answers.starts_with(b"HTTP/1.1 101 "), "cut at {cut}");
        assert!(answers.ends_with(echoed), "cut at {cut}: {}", answers.escape_ascii());
        let usage = reactor.usage();
        assert_eq!((usage.open, usage.backlogs, usage.blocks), (1, 0, 0), "cut at {cut}");
    }
}

#[test]
fn malformed_bytes_read_ahead_are_refused_as_any() {
    let mut reactor = reactor(|builder| builder);
    let (mut client, stream) = UnixStream::pair().unwrap();
    reactor.adopt(Adoption::new(stream, 0).with_bytes(*b"\x16\x03\x01")).unwrap();
    let answer = answers(&mut reactor, &mut client, 1);
    assert!(answer.starts_with(b"HTTP/1.1 400 "), "{}", answer.escape_ascii());
}

#[test]
fn time_for_the_handshake_begins_with_the_adoption() {
    let mut reactor = reactor(|builder| {
        builder.handshake(|handshake| handshake.timeout = Duration::from_secs(2))
    });
    // Nobody turns an embedded loop that has nothing to do.
    thread::sleep(Duration::from_millis(2100));
    let (mut client, stream) = UnixStream::pair().unwrap();
    reactor.adopt(Adoption::new(stream, 0)).unwrap();
    turns(&mut reactor, 2);
    client.write_all(request("/", "").as_bytes()).unwrap();
    assert!(answers(&mut reactor, &mut client, 1).starts_with(b"HTTP/1.1 101 "));
    let (mut silent, stream) = UnixStream::pair().unwrap();
    reactor.adopt(Adoption::new(stream, 0)).unwrap();
    thread::sleep(Duration::from_millis(2100));
    assert!(answers(&mut reactor, &mut silent, 1).starts_with(b"HTTP/1.1 408 "));
}

/// Descriptors that are no connected stream, and what the system calls the trouble.
fn unfit() -> Vec<(OwnedFd, ErrorKind)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let datagrams = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    datagrams.connect(datagrams.local_addr().unwrap()).unwrap();
    vec![
        (listener.into(), ErrorKind::NotConnected),
        (datagrams.into(), ErrorKind::InvalidInput),
        (std::fs::File::open("/dev/null").unwrap().into(), not_a_socket()),
    ]
}

#[test]
fn what_is_no_connected_stream_cannot_be_adopted() {
    let mut reactor = reactor(|builder| builder);
    for (descriptor, kind) in unfit() {
        let error = reactor.adopt(Adoption::new(descriptor, 0)).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
    assert_eq!((reactor.usage().sockets, reactor.usage().timers), (0, 0));
}

#[test]
fn stream_that_cannot_be_adopted_is_closed() {
    let mut reactor = reactor(|builder| builder.handshake(|it| it.head_bytes_max = 100));
    let refused = |adopt: &mut dyn FnMut(UnixStream) -> ErrorKind| {
        let (mut client, stream) = UnixStream::pair().unwrap();
        let kind = adopt(stream);
        assert!(is_closed(&mut client));
        kind
    };
    let mut adopt = |adoption| reactor.adopt(adoption).map_err(|error| error.kind()).unwrap_err();
    let unknown = refused(&mut |stream| adopt(Adoption::new(stream, 1)));
    assert_eq!(unknown, ErrorKind::InvalidInput);
    let too_much = refused(&mut |stream| adopt(Adoption::new(stream, 0).with_bytes([b'x'; 101])));
    assert_eq!(too_much, ErrorKind::InvalidInput);
    reactor.handle().shutdown(Duration::from_secs(5)).unwrap();
    turns(&mut reactor, 1);
    let mut adopt = |adoption| reactor.adopt(adoption).map_err(|error| error.kind()).unwrap_err();
    let too_late = refused(&mut |stream| adopt(Adoption::new(stream, 0)));
    assert_eq!(too_late, ErrorKind::ConnectionRefused);
    assert!(reactor.is_finished());
}

#[test]
fn loop_without_a_place_or_memory_adopts_nobody() {
    let mut full = reactor(|builder| builder.limits(|limits| limits.connections_max = 0));
    let pair = || UnixStream::pair().unwrap().0;
    let refusal = (0..1000).find_map(|_| full.adopt(Adoption::new(pair(), 0)).err());
    assert_eq!(refusal.unwrap().kind(), ErrorKind::QuotaExceeded);
    // Who still gets a place is told why it cannot stay.
    assert_eq!(full.usage().sockets, 256);
    let mut poor = reactor(|builder| builder.limits(|limits| limits.block_bytes_max = 0));
    let (mut client, stream) = UnixStream::pair().unwrap();
    let error = poor.adopt(Adoption::new(stream, 0).with_bytes(*b"GET")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    turns(&mut poor, 1);
    assert!(is_closed(&mut client));
    assert_eq!((poor.usage().sockets, poor.usage().timers), (0, 0));
}

#[test]
fn adoption_that_fails_behind_a_handle_is_closed_and_counted() {
    let running = Running::start(server().listen(Endpoint::Detached));
    for (descriptor, _) in unfit() {
        running.handle.adopt(Adoption::new(descriptor, 0)).unwrap();
    }
    let (mut client, stream) = UnixStream::pair().unwrap();
    running.handle.post(Command::Adopt(Adoption::new(stream, 7))).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    let counters = running.stop();
    assert_eq!((counters.accepted, counters.adoptions_failed), (0, 4));
}

#[test]
fn full_mailbox_gives_the_connection_back() {
    let small = server()
        .listen(Endpoint::Detached)
        .limits(|limits| limits.mailbox_commands_max = 1)
        .build(|_shard| Teller)
        .unwrap();
    let handle: ServerHandle = small.handle();
    let (client, stream) = UnixStream::pair().unwrap();
    let mut client = Client::over(client);
    handle.adopt(Adoption::new(UnixStream::pair().unwrap().0, 0)).unwrap();
    let refused = handle.adopt(Adoption::new(stream, 0));
    let Err(PostError::Full(mut command)) = refused else { panic!("{refused:?}") };
    let running = thread::spawn(move || small.run());
    // The first is taken soon; until then the other comes back each time.
    while let Err(PostError::Full(back)) = handle.post(command) {
        command = back;
        thread::yield_now();
    }
    client.upgrade("/");
    client.say("who");
    assert_eq!(client.text(), "unix at 0");
    client.close();
    while handle.shutdown(Duration::from_secs(5)).is_err() {
        thread::yield_now();
    }
    assert_eq!(running.join().unwrap().unwrap().accepted, 2);
}

#[test]
fn connection_that_is_handed_over_to_a_loop_that_is_gone_is_closed() {
    let built = server().listen(Endpoint::Detached).build(|_shard| Teller).unwrap();
    let handle = built.handle();
    let mut pairs = [(); 2].map(|()| UnixStream::pair().unwrap()).into_iter();
    let (mut first, stream) = pairs.next().unwrap();
    handle.adopt(Adoption::new(stream, 0)).unwrap();
    assert!(!is_closed(&mut first), "it waits for the loop to run");
    drop(built);
    assert!(is_closed(&mut first));
    let (mut second, stream) = pairs.next().unwrap();
    handle.adopt(Adoption::new(stream, 0)).unwrap();
    assert!(is_closed(&mut second));
}

#[test]
fn adopted_connection_closes_its_socket_when_it_ends() {
    let mut reactor = reactor(|builder| builder);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    reactor.adopt(Adoption::new(listener.accept().unwrap().0, 0)).unwrap();
    client.write_all(&[request("/", "").into_bytes(), frame(8, &[])].concat()).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    while reactor.usage().sockets > 0 {
        reactor.turn(Some(Duration::from_secs(5))).unwrap();
    }
    let mut answers = Vec::new();
    client.read_to_end(&mut answers).unwrap();
    assert!(answers.ends_with(b"\x88\x00"), "{}", answers.escape_ascii());
}

#[cfg(feature = "tls")]
pub mod tls {
    use std::sync::Arc;

    use corewire::Tls;
    use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};

    use super::*;

    /// A connection over `socket` whose server is told to be `localhost`, and that server's TLS.
    pub fn parties() -> (ClientConnection, Tls) {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = certified.signing_key.serialize_pem();
        let tls = Tls::builder().certificate_pem(certified.cert.pem(), key).build().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certified.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "localhost".try_into().unwrap();
        (ClientConnection::new(Arc::new(config), name).unwrap(), tls)
    }

    #[test]
    fn bytes_read_ahead_belong_to_tls() {
        for ahead in [0, 1, 5, 100, usize::MAX] {
            let (mut client, tls) = parties();
            let mut reactor = reactor(|builder| builder.tls(tls));
            let (mut socket, stream) = UnixStream::pair().unwrap();
            socket.set_nonblocking(true).unwrap();
            let mut hello = Vec::new();
            client.write_tls(&mut hello).unwrap();
            let (early, late) = hello.split_at(ahead.min(hello.len()));
            reactor.adopt(Adoption::new(stream, 0).with_bytes(early)).unwrap();
            turns(&mut reactor, 2);
            socket.write_all(late).unwrap();
            let mut answer = Vec::new();
            for turn in 0..100 {
                turns(&mut reactor, 1);
                let mut stream = Stream::new(&mut client, &mut socket);
                if turn == 0 {
                    // It waits for the end of the handshake.
                    let _ = stream.write_all(request("/", "").as_bytes());
                }
                let mut bytes = [0; 1024];
                match stream.read(&mut bytes) {
                    Ok(count) => answer.extend_from_slice(&bytes[..count]),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{ahead}"),
                }
                if answer.ends_with(b"\r\n\r\n") {
                    break;
                }
            }
            assert!(answer.starts_with(b"HTTP/1.1 101 "), "{ahead}");
            assert_eq!(reactor.counters().tls_handshakes, 1);
        }
    }
}

#[test]
fn what_is_posted_and_answered_is_printed_without_what_it_says() {
    let mut reactor = reactor(|builder| builder.limits(|limits| limits.mailbox_commands_max = 0));
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let adopted = reactor.adopt(Adoption::new(ours, 0)).unwrap();
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let refused = || Response::new(401).unwrap().header("Set-Cookie", "geheim").unwrap();
    let accept = || Accept::new().header("Set-Cookie", "geheim").unwrap();
    let adoption = Adoption::new(ours, 0).with_bytes("GET / HTTP/1.1\r\nCookie: geheim\r\n");
    let message = PreparedMessage::text("geheim");
    let full = reactor.handle().adopt(adoption).unwrap_err();
    assert!(matches!(full, PostError::Full(_)));
    for printed in [
        format!("{full:?}"),
        format!("{:?}", Command::Send(adopted, message.clone())),
        format!("{:?}", Command::Broadcast(message)),
        format!("{:?}", Decision::Accept(accept())),
        format!("{:?}", Decision::AcceptWith(accept(), Box::new("geheim"))),
        format!("{:?}", Decision::Reject(refused().body(b"geheim".to_vec()))),
        format!("{:?}", Verdict::Accept { accept: accept(), data: () }),
        format!("{:?}", Verdict::<()>::Respond(refused().body(b"geheim".to_vec()))),
    ] {
        // As text or as a list of bytes.
        assert!(!printed.contains("geheim") && !printed.contains("103, 101, 104"), "{printed}");
    }
}

/// Hands a connection over at a moment of the drain.
struct Late {
    at_end: bool,
    stream: Option<UnixStream>,
}

impl Late {
    fn post(&mut self, handle: &corewire::Handle) {
        handle.adopt(Adoption::new(self.stream.take().unwrap(), 0)).unwrap();
    }
}

impl corewire::Handler for Late {
    type Data = ();

    fn on_message(&mut self, _: &mut corewire::Context<'_, ()>, _: corewire::Message<'_>) {}

    fn on_draining(&mut self, at: &mut corewire::Loop<'_, ()>, _: &corewire::Drain) {
        if !self.at_end {
            self.post(&at.handle());
        }
    }

    fn on_shutdown(&mut self, at: &mut corewire::Loop<'_, ()>) {
        if self.at_end {
            self.post(&at.handle());
        }
    }
}

#[test]
fn connection_on_its_way_to_a_loop_that_ends_its_drain_is_told_503() {
    for at_end in [false, true] {
        let (mut client, stream) = UnixStream::pair().unwrap();
        client.write_all(request("/", "").as_bytes()).unwrap();
        let late = Late { at_end, stream: Some(stream) };
        let builder = server().listen(Endpoint::Detached);
        let mut reactor = builder.build_reactor(late).unwrap();
        // Nobody is there to be told, so the drain is over as soon as it begins.
        reactor.handle().drain(&corewire::Drain::default()).unwrap();
        client.set_nonblocking(true).unwrap();
        let mut answer = Vec::new();
        for _ in 0..10 {
            reactor.turn(Some(Duration::ZERO)).unwrap();
            let _ = client.read_to_end(&mut answer);
        }
        let told = answer.escape_ascii().to_string();
        assert!(answer.starts_with(b"HTTP/1.1 503 "), "{at_end}: {told}");
        drop(client);
        while !reactor.is_finished() {
            reactor.turn(None).unwrap();
        }
        let counters = reactor.counters();
        assert_eq!((counters.refused_draining, counters.adoptions_failed), (1, 0));
    }
}
