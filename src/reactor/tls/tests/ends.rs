//! A connection in memory, and who sits at its ends.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read as _, Write as _};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use rustls::{ServerConfig, ServerConnection};

use crate::limits::LoopLimits;
use crate::reactor::Endpoint;
use crate::reactor::net::{
    Accepted, Buffer, ListenOptions, Listening, Net, NetKey, Readiness, Received, Wait, Wake,
};
use crate::reactor::tls::{Tls, TlsClient};
use crate::reactor::transport::{Reading, Transport};

/// One direction.
#[derive(Default)]
struct Stream {
    bytes: VecDeque<u8>,
    is_ended: bool,
    /// So many have been written in all.
    written_bytes: usize,
}

/// How much goes at once.
#[derive(Clone, Copy)]
pub struct Grain {
    /// So much waits at most between the ends.
    pub room_bytes: usize,
    pub read_bytes_max: usize,
}

pub const COARSE: Grain = Grain { room_bytes: usize::MAX, read_bytes_max: usize::MAX };

/// One end of a connection.
#[derive(Clone)]
pub struct Wire {
    incoming: Rc<RefCell<Stream>>,
    outgoing: Rc<RefCell<Stream>>,
    grain: Rc<RefCell<Grain>>,
    /// Writing fails.
    is_broken: Rc<RefCell<bool>>,
}

impl Wire {
    /// Both ends.
    pub fn pair(grain: Grain) -> [Self; 2] {
        let [a, b] = [(); 2].map(|()| Rc::new(RefCell::new(Stream::default())));
        let grain = Rc::new(RefCell::new(grain));
        let one = Self {
            incoming: a.clone(),
            outgoing: b.clone(),
            grain: grain.clone(),
            is_broken: Rc::default(),
        };
        let other = Self { incoming: b, outgoing: a, grain, is_broken: Rc::default() };
        [one, other]
    }

    pub fn set_grain(&self, grain: Grain) {
        *self.grain.borrow_mut() = grain;
    }

    pub fn set_broken(&self) {
        *self.is_broken.borrow_mut() = true;
    }

    /// Takes away what waits for this end.
    pub fn intercept(&self) -> Vec<u8> {
        self.incoming.borrow_mut().bytes.drain(..).collect()
    }

    /// Has these bytes come to this end.
    pub fn inject(&self, bytes: &[u8]) {
        self.incoming.borrow_mut().bytes.extend(bytes);
    }

    /// Nothing comes to this end any more.
    pub fn cut_off(&self) {
        self.incoming.borrow_mut().is_ended = true;
    }

    /// Bytes that this end has written.
    pub fn written_bytes(&self) -> usize {
        self.outgoing.borrow().written_bytes
    }

    fn moved_bytes(&self) -> usize {
        let waiting = self.incoming.borrow().bytes.len() + self.outgoing.borrow().bytes.len();
        let written = self.incoming.borrow().written_bytes + self.outgoing.borrow().written_bytes;
        2 * written - waiting
    }

    fn read(&self, bytes_max: usize) -> io::Result<Vec<u8>> {
        let mut incoming = self.incoming.borrow_mut();
        let bytes = bytes_max.min(self.grain.borrow().read_bytes_max).min(incoming.bytes.len());
        if bytes == 0 && !incoming.is_ended {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(incoming.bytes.drain(..bytes).collect())
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        if *self.is_broken.borrow() {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let mut outgoing = self.outgoing.borrow_mut();
        let room = self.grain.borrow().room_bytes.saturating_sub(outgoing.bytes.len());
        let written = bytes.len().min(room);
        if written == 0 && !bytes.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        outgoing.bytes.extend(&bytes[..written]);
        outgoing.written_bytes += written;
        Ok(written)
    }
}

impl Net for Wire {
    fn listen(&mut self, _: &Endpoint, _: &ListenOptions, _: u64) -> io::Result<Listening> {
        Err(ErrorKind::Unsupported.into())
    }

    fn accept(&mut self, _: NetKey, _: u64) -> io::Result<Accepted> {
        Err(ErrorKind::Unsupported.into())
    }

    fn receive(
        &mut self,
        _: NetKey,
        place: &mut [u8],
        surplus_bytes_max: usize,
    ) -> io::Result<Received> {
        assert!(place.is_empty(), "records go into a buffer");
        let bytes = self.read(surplus_bytes_max)?;
        let mut buffer = Buffer::new(bytes.len());
        buffer.as_mut_slice()[..bytes.len()].copy_from_slice(&bytes);
        let is_short = bytes.len() < surplus_bytes_max;
        Ok(Received { placed_bytes: 0, buffer, surplus_bytes: bytes.len(), is_short })
    }

    fn give_back(&mut self, _: Buffer) {}

    fn send(&mut self, _: NetKey, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write(&slices.iter().map(|slice| &**slice).collect::<Vec<_>>().concat())
    }

    fn shutdown(&mut self, _: NetKey) {
        self.outgoing.borrow_mut().is_ended = true;
    }

    fn close(&mut self, _: NetKey) {
        self.outgoing.borrow_mut().is_ended = true;
    }

    fn poll(&mut self, _: &mut Vec<Readiness>, _: Wait) -> io::Result<()> {
        Ok(())
    }

    fn waker(&self) -> Arc<dyn Wake> {
        unreachable!("nobody waits")
    }

    fn now(&self) -> Instant {
        Instant::now()
    }
}

/// Who sits at an end of a wire.
pub trait End {
    /// Reads what has come and writes what waits.
    fn step(&mut self);
    fn say(&mut self, payload: &[u8]);
    /// Says goodbye behind it.
    fn close(&mut self);
    fn is_open(&self) -> bool;
    fn heard(&self) -> &[u8];
    /// Whether the other end has said goodbye.
    fn is_ended(&self) -> bool;
    fn failure(&self) -> Option<&rustls::Error>;
}

pub const KEY: NetKey = NetKey(3);

/// An end of ours.
pub struct Ours {
    pub transport: Transport<Wire>,
    unsent: Vec<u8>,
    heard: Vec<u8>,
    is_closing: bool,
    is_ended: bool,
    /// What a read or a write has said at last.
    pub error: Option<ErrorKind>,
    failure: Option<rustls::Error>,
}

impl Ours {
    pub fn over(wire: Wire, limits: &LoopLimits) -> Self {
        Self {
            transport: Transport::new(wire, limits),
            unsent: Vec::new(),
            heard: Vec::new(),
            is_closing: false,
            is_ended: false,
            error: None,
            failure: None,
        }
    }

    /// A client that has spoken first.
    pub fn client(tls: &TlsClient, host: &str, wire: Wire) -> Self {
        let mut end = Self::over(wire, &LoopLimits::default());
        end.transport.begin_turn();
        end.transport.secure_client(KEY, tls, host).unwrap();
        let heard = end.transport.receive(KEY, &mut [], 1 << 16).err().unwrap();
        assert_eq!(heard.kind(), ErrorKind::WouldBlock);
        end
    }

    pub fn server(config: Arc<ServerConfig>, wire: Wire) -> Self {
        let mut end = Self::over(wire, &LoopLimits::default());
        let tls = Tls::from_config(config).unwrap();
        end.transport.secure(KEY, &tls, &[]).unwrap();
        end
    }

    fn note(&mut self, error: &io::Error) {
        if error.kind() != ErrorKind::WouldBlock {
            self.error = Some(error.kind());
            if let Some(failure) = self.transport.tls_failure(KEY) {
                assert_eq!(error.kind(), ErrorKind::InvalidData);
                self.failure = Some(*failure.downcast().expect("it is rustls that has failed"));
            }
        }
    }

    fn read(&mut self) -> io::Result<()> {
        loop {
            match self.transport.receive(KEY, &mut [], 1 << 16)? {
                Reading::Some { mut received, .. } => {
                    self.heard.extend_from_slice(received.surplus());
                    self.transport.give_back(received.buffer);
                }
                Reading::Nothing { .. } => {}
                Reading::End => {
                    self.is_ended = true;
                    return Ok(());
                }
                Reading::Later(_) => return Ok(()),
            }
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let _ = self.transport.flush(KEY)?;
        while !self.unsent.is_empty() && !self.transport.is_handshaking(KEY) {
            let sent_bytes = self.transport.send(KEY, &[IoSlice::new(&self.unsent)])?;
            self.unsent.drain(..sent_bytes);
        }
        Ok(())
    }
}

impl End for Ours {
    fn step(&mut self) {
        self.transport.begin_turn();
        if self.error.is_none() && !self.is_ended {
            let read = self.read();
            read.unwrap_or_else(|error| self.note(&error));
        }
        if self.error.is_none() {
            let written = self.write();
            written.unwrap_or_else(|error| self.note(&error));
        }
        if self.is_closing && self.unsent.is_empty() && !self.transport.has_pending(KEY) {
            self.transport.shutdown(KEY);
        }
    }

    fn say(&mut self, payload: &[u8]) {
        self.unsent.extend_from_slice(payload);
    }

    fn close(&mut self) {
        self.is_closing = true;
    }

    fn is_open(&self) -> bool {
        self.transport.tls_facts(KEY).is_some()
    }

    fn heard(&self) -> &[u8] {
        &self.heard
    }

    fn is_ended(&self) -> bool {
        self.is_ended
    }

    fn failure(&self) -> Option<&rustls::Error> {
        self.failure.as_ref()
    }
}

/// A server that nobody here has written.
pub struct Foreign {
    pub tls: ServerConnection,
    wire: Wire,
    heard: Vec<u8>,
    is_ended: bool,
    failure: Option<rustls::Error>,
}

impl Foreign {
    pub fn new(config: Arc<ServerConfig>, wire: Wire) -> Self {
        let mut tls = ServerConnection::new(config).unwrap();
        tls.set_buffer_limit(None);
        Self { tls, wire, heard: Vec::new(), is_ended: false, failure: None }
    }
}

impl End for Foreign {
    fn step(&mut self) {
        while self.failure.is_none()
            && let Ok(bytes) = self.wire.read(usize::MAX)
            && !bytes.is_empty()
        {
            let mut rest = &bytes[..];
            while !rest.is_empty() && self.failure.is_none() && !self.is_ended {
                self.tls.read_tls(&mut rest).unwrap();
                match self.tls.process_new_packets() {
                    Err(error) => self.failure = Some(error),
                    Ok(state) => {
                        let begin = self.heard.len();
                        self.heard.resize(begin + state.plaintext_bytes_to_read(), 0);
                        self.tls.reader().read_exact(&mut self.heard[begin..]).unwrap();
                        self.is_ended = state.peer_has_closed();
                    }
                }
            }
        }
        let mut wire = Writing(&self.wire);
        while self.tls.wants_write() && self.tls.write_tls(&mut wire).is_ok() {}
    }

    fn say(&mut self, payload: &[u8]) {
        self.tls.writer().write_all(payload).unwrap();
    }

    fn close(&mut self) {
        self.tls.send_close_notify();
    }

    fn is_open(&self) -> bool {
        !self.tls.is_handshaking()
    }

    fn heard(&self) -> &[u8] {
        &self.heard
    }

    fn is_ended(&self) -> bool {
        self.is_ended
    }

    fn failure(&self) -> Option<&rustls::Error> {
        self.failure.as_ref()
    }
}

struct Writing<'a>(&'a Wire);

impl io::Write for Writing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Who the server is.
#[derive(Clone, Copy, Debug)]
pub enum Maker {
    Ours,
    Foreign,
}

pub const MAKERS: [Maker; 2] = [Maker::Ours, Maker::Foreign];

impl Maker {
    pub fn server(self, config: &Arc<ServerConfig>, wire: Wire) -> Box<dyn End> {
        match self {
            Self::Ours => Box::new(Ours::server(config.clone(), wire)),
            Self::Foreign => Box::new(Foreign::new(config.clone(), wire)),
        }
    }
}

/// Steps of both ends, until nothing moves any more.
pub fn exchange(client: &mut Ours, server: &mut dyn End) {
    let mut still = 0;
    for _ in 0..1_000_000 {
        let before = client.transport.net_ref().moved_bytes();
        client.step();
        server.step();
        still = if client.transport.net_ref().moved_bytes() == before { still + 1 } else { 0 };
        if still == 3 {
            return;
        }
    }
    panic!("it never ends");
}
