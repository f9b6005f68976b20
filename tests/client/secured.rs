//! The same over TLS, where bytes wait in one place more.

use std::io::{self, Read};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use corewire::{
    Client, ClientBuilder, CloseCode, CloseError, Config, Context, FlushError, Handler, Message,
    SendError, Server, Tls, TlsClient,
};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::naive_server::{Peer, listen};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(100);

/// A certificate for `localhost`, and its key.
struct Identity(rcgen::CertifiedKey<rcgen::KeyPair>);

impl Identity {
    fn new() -> Self {
        Self(rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap())
    }

    /// A client with little room that trusts it.
    fn client(&self, port: u16) -> ClientBuilder {
        let trusted = [self.0.cert.der().clone()];
        let tls = TlsClient::builder().without_system_roots().ca_certificates(trusted);
        Client::builder(&format!("wss://localhost:{port}/"))
            .tls(tls.build().unwrap())
            .queues(|queues| {
                queues.outgoing_bytes_max = 64 << 10;
                queues.incoming_bytes_max = 64 << 10;
            })
            .sockets(|sockets| {
                sockets.send_buffer_bytes = Some(64 << 10);
                sockets.receive_buffer_bytes = Some(64 << 10);
            })
    }

    /// A naive server's end of the next connection.
    fn accept(&self, listener: &TcpListener) -> Peer<StreamOwned<ServerConnection, TcpStream>> {
        let key = self.0.signing_key.serialize_der().try_into().unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.0.cert.der().clone()], key)
            .unwrap();
        let session = ServerConnection::new(Arc::new(config)).unwrap();
        let mut peer = Peer(StreamOwned::new(session, Peer::accept_silently(listener).0));
        peer.upgrade();
        peer
    }
}

/// Sends until there is no more room; gives the number of messages of 1,000 bytes that were taken.
fn fill(client: &Client) -> u32 {
    let mut count = 0u32;
    loop {
        let payload = [&count.to_be_bytes()[..], &[0; 996]].concat();
        match client.send_timeout(Message::Binary(&payload), SHORT) {
            Ok(()) => count += 1,
            Err(SendError::Full) => return count,
            Err(error) => panic!("{error}"),
        }
        assert!(count < 20_000, "there is no end to it");
    }
}

#[test]
fn tls_server_that_does_not_read_blocks_who_sends_and_gets_everything_later() {
    let identity = Identity::new();
    let (listener, _) = listen();
    let port = listener.local_addr().unwrap().port();
    thread::scope(|scope| {
        let accepting = scope.spawn(|| identity.accept(&listener));
        let to = identity.client(port).config(|config| config.close_timeout = LONG);
        let client = to.connect().unwrap();
        let mut peer = accepting.join().unwrap();
        let count = fill(&client);
        assert_eq!(client.flush(SHORT), Err(FlushError::TimedOut));
        let reading = scope.spawn(move || {
            for number in 0..count + 1000 {
                assert_eq!(peer.frame().1[..4], number.to_be_bytes());
            }
            assert_eq!(peer.close_code(), 1000);
            peer.part(1000);
        });
        for number in count..count + 1000 {
            let payload = [&number.to_be_bytes()[..], &[0; 996]].concat();
            client.send(Message::Binary(&payload)).unwrap();
        }
        assert_eq!(client.flush(LONG), Ok(()));
        assert!(client.close(CloseCode::NORMAL, "").unwrap().is_clean());
        reading.join().unwrap();
    });
}

#[test]
fn tls_client_that_does_not_receive_holds_the_server_back_and_loses_nothing() {
    const COUNT: u32 = 10_000;
    let identity = Identity::new();
    let (listener, _) = listen();
    let port = listener.local_addr().unwrap().port();
    thread::scope(|scope| {
        let serving = scope.spawn(|| {
            let mut peer = identity.accept(&listener);
            let began = Instant::now();
            for number in 0..COUNT {
                peer.send(2, &[&number.to_be_bytes()[..], &[0; 996]].concat());
            }
            let took = began.elapsed();
            assert_eq!(peer.close_code(), 1000);
            peer.part(1000);
            took
        });
        let client = identity.client(port).connect().unwrap();
        thread::sleep(SHORT * 5);
        for number in 0..COUNT {
            let message = client.recv_timeout(LONG).unwrap().expect("it goes on");
            assert_eq!(message.payload()[..4], number.to_be_bytes());
        }
        assert!(client.close(CloseCode::NORMAL, "").unwrap().is_clean());
        assert!(serving.join().unwrap() > SHORT * 4, "it was held back");
    });
}

#[test]
fn close_on_a_tls_server_that_does_not_read_says_what_is_unsent_and_in_time() {
    let identity = Identity::new();
    let (listener, _) = listen();
    let port = listener.local_addr().unwrap().port();
    thread::scope(|scope| {
        let accepting = scope.spawn(|| identity.accept(&listener));
        let to = identity.client(port).config(|config| config.close_timeout = 2 * SHORT);
        let client = to.connect().unwrap();
        let mut peer = accepting.join().unwrap();
        let count = u64::from(fill(&client));
        let began = Instant::now();
        let error = client.close(CloseCode::NORMAL, "").unwrap_err();
        let took = began.elapsed();
        assert!((SHORT..Duration::from_secs(5)).contains(&took), "{took:?}");
        let CloseError::Unsent { messages, .. } = error else { panic!("{error}") };
        let mut arrived = 0;
        let mut buffer = vec![0; 64 << 10];
        let end = loop {
            match peer.0.read(&mut buffer) {
                Ok(0) => panic!("nobody has said goodbye"),
                Ok(bytes) => arrived += bytes as u64,
                Err(error) => break error.kind(),
            }
        };
        assert!(matches!(end, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset));
        // What stands in records that were begun counts as handed over.
        let missing = count - messages - arrived / 1008;
        assert!(missing <= 18, "{missing} of {count} are lost and not counted");
        assert!(messages > 30, "{messages} of {count}");
    });
}

/// Echoes, and tells what it has heard last.
struct Echo(mpsc::Sender<String>);

impl Handler for Echo {
    type Data = ();

    fn on_message(&mut self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
        if let Message::Text(text) = message {
            let _ = self.0.send(text.to_owned());
        }
        let _ = ctx.send(message);
    }
}

/// Compressed, where there is compression.
fn compressed(config: &mut Config) {
    #[cfg(feature = "deflate")]
    {
        let mode = corewire::CompressionMode::Dedicated { window_bits: 15, mem_level: 8 };
        config.compression = corewire::Compression::new(mode).unwrap();
    }
    config.close_timeout = LONG;
}

#[test]
fn batches_over_tls_are_flushed_and_not_lost_by_a_drop() {
    const COUNT: usize = 2000;
    let identity = Identity::new();
    let key = identity.0.signing_key.serialize_pem();
    let tls = Tls::builder().certificate_pem(identity.0.cert.pem(), key).build().unwrap();
    let (tell, told) = mpsc::channel();
    let server = Server::builder().threads(1).config(compressed).tls(tls);
    let server = server.listen(([127, 0, 0, 1], 0)).build(move |_| Echo(tell.clone())).unwrap();
    let (port, handle) = (server.local_addresses()[0].port(), server.handle());
    let serving = thread::spawn(move || server.run().unwrap());
    let to = identity.client(port).batch(|batch| batch.max_delay = LONG).config(compressed);
    let client = to.connect().unwrap();
    let text = |number: usize| format!("{number} ").repeat(1 + number % 100);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..COUNT {
                client.send(Message::Text(&text(number))).unwrap();
                if number % 777 == 0 {
                    assert_eq!(client.flush(LONG), Ok(()));
                }
            }
            assert_eq!(client.flush(LONG), Ok(()));
        });
        for number in 0..COUNT {
            let answer = client.recv_timeout(LONG).unwrap().expect("it was flushed");
            assert_eq!(answer.as_text(), Some(&*text(number)));
        }
    });
    assert_eq!(told.try_iter().count(), COUNT);
    client.send(Message::Text("last")).unwrap();
    assert!(told.recv_timeout(SHORT).is_err(), "it gathers");
    drop(client);
    assert_eq!(told.recv_timeout(LONG).as_deref(), Ok("last"));
    handle.shutdown(LONG).unwrap();
    serving.join().unwrap();
}
