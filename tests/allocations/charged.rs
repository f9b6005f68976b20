//! What connections take in every phase of their lives, beside what a loop charges for it: an
//! allocator counts what a pool has not said.
//!
//! What is mapped the allocator does not see, so it may be charged more than was counted, never less.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use corewire::{
    Accept, Arrival, Config, Context, Handler, ListenOptions, ListenerSettings, Message, MioNet,
    Reactor, ReactorConfig, Request, Role, Verdict,
};

use crate::{BINARY, HELD_BYTES, counted, frame};

/// So many are measured together, so that what they share counts for little.
const CROWD: usize = 100;

/// Agrees on a subprotocol, subscribes to as many topics as it is told, and sends back what it is sent.
struct Busy {
    topics: usize,
}

impl Handler for Busy {
    type Data = ();

    fn on_request(&mut self, request: &Request<'_>, _: &Arrival<'_>) -> Verdict<()> {
        let accept = match request.subprotocols().next() {
            Some(offered) => Accept::new().subprotocol(offered).unwrap(),
            None => Accept::new(),
        };
        Verdict::Accept { accept, data: () }
    }

    fn on_open(&mut self, ctx: &mut Context<'_, ()>) {
        for topic in 0..self.topics {
            let name = format!("{}/{topic}", ctx.id().as_u64());
            assert!(ctx.here().subscribe(&name).unwrap());
        }
    }

    fn on_message(&mut self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
        assert!(ctx.send(message).is_taken());
    }
}

/// Of one connection.
#[derive(Debug)]
struct Weight {
    held_bytes: isize,
    charged_bytes: isize,
}

struct Crowd {
    reactor: Reactor<MioNet, Busy>,
    address: SocketAddr,
}

impl Crowd {
    fn new(topics: usize, change: impl FnOnce(&mut Config)) -> Self {
        let net = MioNet::new(256 << 10).unwrap();
        let mut reactor = Reactor::new(net, Busy { topics }, ReactorConfig::new([1; 32]));
        let mut config = Config::new(Role::Server);
        config.limits.message_bytes_max = 4 << 20;
        change(&mut config);
        let mut options = ListenOptions::default();
        options.sockets.send_buffer_bytes = Some(16 << 10);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let endpoint = reactor.listen(any, &options, ListenerSettings::new(config)).unwrap();
        Self { reactor, address: endpoint.socket_addr().unwrap() }
    }

    fn settle(&mut self) {
        for _ in 0..20 {
            counted(|| self.reactor.turn(Some(Duration::from_millis(2)))).unwrap();
        }
    }

    /// A connection that has said this.
    fn say(&mut self, bytes: &[u8]) -> TcpStream {
        let mut socket = TcpStream::connect(self.address).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut rest = bytes;
        while !rest.is_empty() {
            match socket.write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            counted(|| self.reactor.turn(Some(Duration::ZERO))).unwrap();
        }
        socket
    }

    /// What each of a crowd that has said this takes.
    fn weigh(&mut self, bytes: &[u8]) -> Weight {
        // The first ones grow what all share.
        let early: Vec<_> = (0..CROWD).map(|_| self.say(bytes)).collect();
        self.settle();
        drop(early);
        while self.reactor.usage().sockets > 0 {
            self.settle();
        }
        let (held, charged) = (HELD_BYTES.get(), self.reactor.usage().pinned_bytes as isize);
        let crowd: Vec<_> = (0..CROWD).map(|_| self.say(bytes)).collect();
        self.settle();
        assert_eq!(self.reactor.usage().sockets, CROWD);
        let held = (HELD_BYTES.get() - held) / CROWD as isize;
        let charged = (self.reactor.usage().pinned_bytes as isize - charged) / CROWD as isize;
        drop(crowd);
        Weight { held_bytes: held, charged_bytes: charged }
    }
}

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn opened(bytes: &[u8]) -> Vec<u8> {
    [REQUEST.as_bytes(), b"\r\n", bytes].concat()
}

/// Checks that no more is held than is charged, but for places that tables keep for others to come: a
/// topic's are doubled when they are full.
#[track_caller]
fn assert_charged(crowd: &mut Crowd, bytes: &[u8], spare_bytes: isize) {
    let Weight { held_bytes, charged_bytes } = crowd.weigh(bytes);
    let bound = charged_bytes + spare_bytes;
    assert!(held_bytes <= bound, "{held_bytes} held, {charged_bytes} charged");
}

#[test]
fn connections_take_no_more_than_is_charged_in_every_phase() {
    for bytes in [
        vec![],
        REQUEST.as_bytes().to_vec(),
        opened(b""),
        [REQUEST.as_bytes(), b"Sec-WebSocket-Protocol: chat\r\n\r\n"].concat(),
        opened(&frame(BINARY, 1000)[..600]),
        opened(&frame(BINARY, 100_000)[..60_000]),
        // More than its socket takes.
        opened(&frame(BINARY, 1 << 20)),
    ] {
        assert_charged(&mut Crowd::new(0, |_| {}), &bytes, 0);
    }
}

#[test]
fn subscriptions_take_no_more_than_is_charged() {
    for topics in [1, 10, 100] {
        assert_charged(
            &mut Crowd::new(topics, |_| {}),
            &opened(b""),
            topics as isize * TOPIC_BYTES,
        );
    }
}

/// A place in the table of topics.
const TOPIC_BYTES: isize = 48;

#[cfg(feature = "deflate")]
#[test]
fn contexts_of_compression_take_no_more_than_is_charged() {
    use corewire::{Compression, CompressionMode};

    use crate::deflated::{OFFER, compressed};
    use crate::frame_of;

    let text = "what is said again and again, ".repeat(40);
    let message = frame_of(0xC1, &compressed(text.as_bytes()));
    let said = [REQUEST.as_bytes(), OFFER.as_bytes(), b"\r\n", &message].concat();
    for (window_bits, mem_level) in [(15, 8), (12, 5), (9, 1)] {
        let mode = CompressionMode::Dedicated { window_bits, mem_level };
        let mut crowd =
            Crowd::new(0, |config| config.compression = Compression::new(mode).unwrap());
        let weight = crowd.weigh(&said);
        assert!(weight.held_bytes > 1 << window_bits, "{weight:?}: each has a compressor");
        assert!(weight.held_bytes <= weight.charged_bytes, "{weight:?}");
        assert!(weight.charged_bytes <= weight.held_bytes * 3 / 2, "{weight:?}");
    }
}
