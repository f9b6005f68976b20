//! One open connection: sends what is due, checks what comes back.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::sync::Arc;
use std::time::Instant;

use corewire::{CloseCode, Config, Connection, Event, LoopLimits, NoSink, Pools};
use corewire::{Failure, Opcode};
use mio::net::TcpStream;

use super::fleet::Clock;
use super::pace::{Ledger, Recorder, Unasked};
use super::plan::{Payload, Plan};

/// Why a run cannot go on.
#[derive(Debug)]
pub enum Trouble {
    /// The server cannot be reached.
    Unreachable { address: String, error: io::Error },
    /// There is no connection from this end: no port, no descriptor, no such address.
    Local(String),
    /// The opening handshake failed.
    Refused(String),
    /// What came back is no echo.
    WrongEcho(String),
    /// The server ended an open connection.
    Closed(String),
    /// Nothing came back for a long time.
    Stalled(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { address, error } => write!(out, "cannot reach {address}: {error}"),
            Self::Local(text)
            | Self::Refused(text)
            | Self::WrongEcho(text)
            | Self::Closed(text)
            | Self::Stalled(text) => out.write_str(text),
        }
    }
}

impl Trouble {
    pub fn unasked() -> Self {
        Self::WrongEcho("wrong echo: more messages came than were sent".into())
    }

    pub fn ended() -> Self {
        Self::Closed("the server ended the stream".into())
    }
}

/// What the connections of one worker share.
pub struct Kit {
    pub pools: Pools,
    pub recorder: Recorder,
    config: Arc<Config>,
    payload: Arc<Payload>,
    buffer: Vec<u8>,
    /// Its origin is also all that the engine hears of time: it keeps no deadline here.
    pub clock: Clock,
}

/// One read's worth: small messages come in whole batches.
const BUFFER_BYTES: usize = 256 * 1024;

/// Unsent bytes of a connection above which nothing is encoded for it yet. A message that is larger
/// is encoded whole.
pub const QUEUE_BYTES: usize = 128 * 1024;

/// Messages up to this size are taken whole, as they mostly lie in one read; larger ones in pieces,
/// so that nothing has to be put together only to be compared.
pub const WHOLE_BYTES_MAX: usize = 16 * 1024;

impl Kit {
    pub fn new(plan: &Plan, connections: usize, seed: [u8; 32], origin: Instant) -> Self {
        let payload = plan.payload.clone();
        let mut limits = LoopLimits::default();
        let queue_rings = (QUEUE_BYTES + payload.bytes.len()) / limits.ring_bytes + 2;
        limits.rings_max = limits.rings_max.max(connections.saturating_mul(queue_rings));
        Self {
            pools: Pools::new(&limits, origin, seed),
            recorder: Recorder::new(),
            config: plan.dial.config.clone(),
            payload,
            buffer: vec![0; BUFFER_BYTES],
            clock: Clock { origin },
        }
    }
}

/// A connection after its opening handshake.
pub struct Client {
    stream: TcpStream,
    connection: Connection,
    pub ledger: Ledger,
    /// Messages that are due and not encoded yet.
    owed: u64,
    /// Whether the kernel takes output, as far as is known.
    output: Output,
    /// Whether a payload was compared already.
    check: Check,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Output {
    Free,
    Refused,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Of the first message every byte is compared.
    First,
    Further,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// Our Close is on its way: whatever comes, the end is what counts.
    Parting,
}

/// How far to read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// A short read has emptied the socket; what comes later brings an event.
    ToAShortRead,
    /// Until the socket says that there is no more.
    ToTheEnd,
}

/// What a reading brought.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Received {
    pub answers: u64,
    /// When they were there, if there were any.
    pub at_ns: u64,
    pub stream: Stream,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Open,
    /// Over, after our own Close.
    Ended,
}

impl Client {
    /// `behind` is what came behind the answer to the handshake.
    pub fn new(stream: TcpStream, kit: &mut Kit, behind: &mut [u8]) -> Result<Self, Trouble> {
        let connection = Connection::new(kit.config.clone(), kit.clock.origin, &kit.pools);
        let mut client = Self {
            stream,
            connection,
            ledger: Ledger::batches(),
            owed: 0,
            output: Output::Free,
            check: Check::First,
            stage: Stage::Open,
        };
        let answers =
            client.handle_input(behind, kit.clock.origin, &mut kit.pools, &kit.payload)?;
        client.settle(answers, kit)?;
        Ok(client)
    }

    /// So many more messages are due.
    pub fn owe(&mut self, count: u64, now_ns: u64) {
        self.owed += count;
        self.ledger.note_due(count, now_ns);
    }

    /// Reads what there is and checks it. The recorder gets the latencies.
    pub fn receive(&mut self, kit: &mut Kit, reading: Reading) -> Result<Received, Trouble> {
        let mut answers = 0;
        let mut buffer = std::mem::take(&mut kit.buffer);
        let stream = loop {
            let bytes = match self.stream.read(&mut buffer) {
                Ok(0) if self.stage == Stage::Parting => break Ok(Stream::Ended),
                Ok(0) => break Err(Trouble::ended()),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(Stream::Open),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) if self.stage == Stage::Parting => break Ok(Stream::Ended),
                Err(error) => break Err(Trouble::Closed(format!("a connection broke: {error}"))),
            };
            let input = &mut buffer[..bytes];
            match self.handle_input(input, kit.clock.origin, &mut kit.pools, &kit.payload) {
                Ok(count) => answers += count,
                Err(trouble) => break Err(trouble),
            }
            if reading == Reading::ToAShortRead && bytes < buffer.len() {
                break Ok(Stream::Open);
            }
        };
        kit.buffer = buffer;
        let stream = stream?;
        let at_ns = self.settle(answers, kit)?;
        Ok(Received { answers, at_ns, stream })
    }

    /// The messages of so many answers are answered; says when.
    fn settle(&mut self, answers: u64, kit: &mut Kit) -> Result<u64, Trouble> {
        if answers == 0 {
            return Ok(0);
        }
        let now_ns = kit.clock.now_ns();
        let settled = self.ledger.settle(answers, now_ns, &mut kit.recorder);
        settled.map(|()| now_ns).map_err(|Unasked| Trouble::unasked())
    }

    /// Checks what arrived; counts the messages that ended in it.
    fn handle_input(
        &mut self,
        input: &mut [u8],
        now: Instant,
        pools: &mut Pools,
        payload: &Payload,
    ) -> Result<u64, Trouble> {
        let Self { connection, check, stage, .. } = self;
        let mut answers = 0;
        let mut events = connection.handle_input(input, now, pools);
        while let Some((event, _)) = events.next() {
            let (opcode, offset, piece, fin) = match event {
                Event::Binary(piece) => (Opcode::Binary, 0, piece, true),
                Event::Text(piece) => (Opcode::Text, 0, piece.as_bytes(), true),
                Event::Chunk(chunk) => (chunk.opcode, chunk.offset, chunk.payload, chunk.fin),
                Event::Close(frame) if *stage == Stage::Open => {
                    let code = frame.map_or(CloseCode::NO_STATUS, |frame| frame.code);
                    let reason = frame.map_or("", |frame| frame.reason);
                    return Err(closed(code, reason));
                }
                Event::Failed(failure) if *stage == Stage::Open => return Err(broken(failure)),
                // A Pong is on its way already; what comes after our Close does not matter.
                _ => continue,
            };
            if *stage == Stage::Parting {
                continue;
            }
            check_piece(payload, *check, opcode, offset, piece, fin)?;
            if fin {
                *check = Check::Further;
                answers += 1;
            }
        }
        Ok(answers)
    }

    /// The socket takes output again.
    pub fn handle_writable(&mut self) {
        self.output = Output::Free;
    }

    /// Encodes what is due and writes it, as far as the socket takes it.
    pub fn pump(&mut self, kit: &mut Kit) -> Result<(), Trouble> {
        if self.output == Output::Refused {
            return Ok(());
        }
        loop {
            self.encode(kit)?;
            if self.connection.queued_bytes() == 0 {
                return Ok(());
            }
            let mut slices = [IoSlice::new(&[]); 16];
            let count = self.connection.poll_transmit(&kit.pools, &mut slices);
            match self.stream.write_vectored(&slices[..count]) {
                Ok(bytes) => {
                    let now = kit.clock.origin;
                    self.connection.handle_transmitted(bytes, now, &mut kit.pools);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.output = Output::Refused;
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // What the server said before it went can still be read, and says more.
                Err(_) if self.stage == Stage::Parting => return Ok(()),
                Err(error) => {
                    self.receive(kit, Reading::ToTheEnd)?;
                    return Err(Trouble::Closed(format!("a connection broke: {error}")));
                }
            }
        }
    }

    fn encode(&mut self, kit: &mut Kit) -> Result<(), Trouble> {
        if self.owed == 0 || self.connection.queued_bytes() >= QUEUE_BYTES {
            return Ok(());
        }
        let mut sink = NoSink;
        let mut transmit = self.connection.transmit(kit.clock.origin, &mut kit.pools, &mut sink);
        while self.owed > 0 && transmit.queued_bytes() < QUEUE_BYTES {
            let outcome = match &kit.payload.text {
                Some(text) => transmit.send_text(text),
                None => transmit.send_binary(&kit.payload.bytes),
            };
            if !outcome.is_taken() {
                return Err(Trouble::Closed(format!("a message was not taken: {outcome:?}")));
            }
            self.owed -= 1;
        }
        Ok(())
    }

    /// Begins the closing handshake with 1000.
    pub fn close(&mut self, kit: &mut Kit) {
        self.stage = Stage::Parting;
        let mut sink = NoSink;
        let mut transmit = self.connection.transmit(kit.clock.origin, &mut kit.pools, &mut sink);
        transmit.close(CloseCode::NORMAL, "").expect("a code that may be sent, and no reason");
        self.owed = 0;
        // A server that does not take the Close sees the end of the stream instead.
        let _ = self.pump(kit);
    }

    /// Gives back what it holds; the socket closes.
    pub fn finish(self, kit: &mut Kit) -> TcpStream {
        let _ = self.connection.finish(&mut kit.pools);
        self.stream
    }
}

/// Whether a piece of a message is one of the echo.
#[inline]
pub fn check_piece(
    payload: &Payload,
    check: Check,
    opcode: Opcode,
    offset: u64,
    piece: &[u8],
    fin: bool,
) -> Result<(), Trouble> {
    let expected = payload.bytes.len() as u64;
    let end = offset + piece.len() as u64;
    if opcode == payload.opcode() && (end == expected || (end < expected && !fin)) {
        if check == Check::Further || payload.bytes[offset as usize..end as usize] == *piece {
            return Ok(());
        }
        let is_other = |at: &usize| payload.bytes[offset as usize + at] != piece[*at];
        let at = offset + (0..piece.len()).find(is_other).unwrap_or_default() as u64;
        return Err(Trouble::WrongEcho(format!("wrong echo: byte {at} came back changed")));
    }
    Err(Trouble::WrongEcho(if opcode == payload.opcode() {
        let more = if fin { "" } else { " or more" };
        format!("wrong echo: {end}{more} bytes came back for {expected}")
    } else {
        format!("wrong echo: {opcode:?} came back for {:?}", payload.opcode())
    }))
}

pub fn closed(code: CloseCode, reason: &str) -> Trouble {
    let reason = crate::destination::printable(reason);
    let quoted = if reason.is_empty() { String::new() } else { format!(", {reason:?}") };
    Trouble::Closed(format!("the server closed a connection: {code}{quoted}"))
}

pub fn broken(failure: Failure) -> Trouble {
    Trouble::WrongEcho(format!("the server broke the protocol: {failure}"))
}
