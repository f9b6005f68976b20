//! A network of one connection that never leaves memory: it takes everything and is never late.

use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corewire::{
    Accepted, Buffer, Config, Context, Endpoint, Handler, ListenOptions, ListenerSettings,
    Listening, Message, Net, NetKey, Reactor, ReactorConfig, Readiness, Received, Role,
    SendOutcome, Wait, Wake,
};

use crate::material::REQUEST;

/// The loop over a [`MemoryNet`], with an echo as its application.
pub struct EchoLoop {
    reactor: Reactor<MemoryNet, Echo>,
}

impl EchoLoop {
    /// A loop whose one connection has shaken hands.
    pub fn new() -> Self {
        let mut reactor = Reactor::new(MemoryNet::new(), Echo, ReactorConfig::new([7; 32]));
        let settings = ListenerSettings::new(Config::new(Role::Server));
        reactor
            .listen(ADDRESS, &ListenOptions::default(), settings)
            .expect("memory listens anywhere");
        let mut echo = Self { reactor };
        echo.turn(&[]);
        assert!(echo.turn(REQUEST) > 0, "the handshake is answered within a turn");
        assert!(echo.reactor.net().sent.starts_with(b"HTTP/1.1 101 "), "the upgrade is accepted");
        echo
    }

    /// One turn in which `read` arrives; returns how many bytes were written.
    pub fn turn(&mut self, read: &[u8]) -> usize {
        let net = self.reactor.net();
        net.sent.clear();
        net.arrived = read.into();
        self.handle()
    }

    /// One turn in which the same bytes arrive as in the turn before.
    pub fn turn_again(&mut self) -> usize {
        self.reactor.net().sent.clear();
        self.handle()
    }

    fn handle(&mut self) -> usize {
        self.reactor.net().has_arrived = true;
        self.reactor.turn(Some(Duration::ZERO)).expect("memory does not fail");
        self.reactor.net().sent.len()
    }
}

struct Echo;

impl Handler for Echo {
    type Data = ();

    fn on_message(&mut self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
        assert!(matches!(ctx.send(message), SendOutcome::Sent));
    }
}

/// The network: what has arrived, and what was sent since.
struct MemoryNet {
    now: Instant,
    /// Taken by the listener and by the connection, in this order.
    tokens: Vec<u64>,
    arrived: Box<[u8]>,
    has_arrived: bool,
    sent: Vec<u8>,
    /// `None` while it is handed out.
    buffer: Option<Buffer>,
}

impl MemoryNet {
    fn new() -> Self {
        Self {
            now: Instant::now(),
            tokens: Vec::new(),
            arrived: Box::default(),
            has_arrived: false,
            sent: Vec::with_capacity(BUFFER_BYTES),
            buffer: Some(Buffer::new(BUFFER_BYTES)),
        }
    }
}

impl Net for MemoryNet {
    fn listen(
        &mut self,
        endpoint: &Endpoint,
        _: &ListenOptions,
        token: u64,
    ) -> io::Result<Listening> {
        self.tokens.push(token);
        Ok(Listening { key: LISTENER, endpoint: endpoint.clone() })
    }

    fn accept(&mut self, _: NetKey, token: u64) -> io::Result<Accepted> {
        if self.tokens.len() > 1 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.tokens.push(token);
        Ok(Accepted { key: CONNECTION, peer: ADDRESS.into() })
    }

    fn receive(&mut self, _: NetKey, place: &mut [u8], _: usize) -> io::Result<Received> {
        assert!(place.is_empty(), "whole messages arrive here, so that none has a rest");
        if !std::mem::take(&mut self.has_arrived) || self.arrived.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut buffer = self.buffer.take().expect("the buffer was given back before this read");
        buffer.as_mut_slice()[..self.arrived.len()].copy_from_slice(&self.arrived);
        let surplus_bytes = self.arrived.len();
        Ok(Received { placed_bytes: 0, buffer, surplus_bytes, is_short: true })
    }

    fn give_back(&mut self, buffer: Buffer) {
        self.buffer = Some(buffer);
    }

    fn send(&mut self, _: NetKey, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let before = self.sent.len();
        for slice in slices {
            self.sent.extend_from_slice(slice);
        }
        Ok(self.sent.len() - before)
    }

    fn shutdown(&mut self, _: NetKey) {}

    fn close(&mut self, _: NetKey) {}

    fn poll(&mut self, events: &mut Vec<Readiness>, _: Wait) -> io::Result<()> {
        // The listener until it was asked, the connection from then on.
        if let Some(&token) = self.tokens.last() {
            events.push(Readiness { token, readable: true, writable: false, hung_up: false });
        }
        Ok(())
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::new(NobodyElse)
    }

    fn now(&self) -> Instant {
        self.now
    }
}

/// There is one thread, so no poll waits for another.
struct NobodyElse;

impl Wake for NobodyElse {
    fn wake(&self) {}
}

const LISTENER: NetKey = NetKey(0);
const CONNECTION: NetKey = NetKey(1);
const ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9001);

const BUFFER_BYTES: usize = 64 * 1024;
