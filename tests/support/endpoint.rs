//! One `Connection` with pools and a clock of its own.

use std::io::IoSlice;
use std::time::{Duration, Instant};

use corewire::{
    CloseSummary, Config, Connection, Event, Failure, LoopLimits, NoSink, Opcode, Pools,
    PoolsInUse, Role, Transmit,
};

use super::naive::{self, Frame};

/// An event that outlives its payload's loan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Chunk { opcode: Opcode, payload: Vec<u8>, offset: u64, fin: bool },
    Ping(Vec<u8>),
    Pong(Vec<u8>, Option<Duration>),
    Close(Option<(u16, String)>),
    Failed(Failure),
}

impl Seen {
    pub fn of(event: &Event<'_>) -> Self {
        match *event {
            Event::Text(text) => Self::Text(text.to_owned()),
            Event::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Event::Chunk(chunk) => Self::Chunk {
                opcode: chunk.opcode,
                payload: chunk.payload.to_vec(),
                offset: chunk.offset,
                fin: chunk.fin,
            },
            Event::Ping(payload) => Self::Ping(payload.to_vec()),
            Event::Pong { payload, round_trip } => Self::Pong(payload.to_vec(), round_trip),
            Event::Close(frame) => {
                Self::Close(frame.map(|frame| (frame.code.as_u16(), frame.reason.to_owned())))
            }
            Event::Failed(failure) => Self::Failed(failure),
            ref other => panic!("an event that no test knows: {other:?}"),
        }
    }
}

/// A connection, its pools and its clock, which stands still until it is told to go on.
pub struct Endpoint {
    pub connection: Connection,
    pub pools: Pools,
    pub now: Instant,
    pub role: Role,
}

impl Endpoint {
    pub fn new(config: Config) -> Self {
        Self::with_pools(config, &LoopLimits::default(), 0)
    }

    pub fn with_pools(config: Config, limits: &LoopLimits, seed: u8) -> Self {
        Self::starting_at(Instant::now(), config, limits, seed)
    }

    pub fn starting_at(now: Instant, config: Config, limits: &LoopLimits, seed: u8) -> Self {
        let role = config.role;
        let pools = Pools::new(limits, now, [seed; 32]);
        Self { connection: Connection::new(config, now, &pools), pools, now, role }
    }

    pub fn server() -> Self {
        Self::new(Config::new(Role::Server))
    }

    pub fn client() -> Self {
        Self::new(Config::new(Role::Client))
    }

    /// The bytes of `frame` as the peer of this end sends it: masked if we are the server.
    pub fn wire(&self, frame: &Frame) -> Vec<u8> {
        match self.role {
            Role::Server if frame.key.is_none() => frame.clone().masked(KEY).encode(),
            Role::Server | Role::Client => frame.encode(),
        }
    }

    pub fn wires(&self, frames: &[Frame]) -> Vec<u8> {
        frames.iter().flat_map(|frame| self.wire(frame)).collect()
    }

    /// Hands in all of `bytes` at once.
    pub fn receive(&mut self, bytes: &[u8]) -> Vec<Seen> {
        self.receive_with(bytes, |_, _| {})
    }

    pub fn receive_frames(&mut self, frames: &[Frame]) -> Vec<Seen> {
        let wire = self.wires(frames);
        self.receive(&wire)
    }

    /// Hands in all of `bytes` at once and has `act` answer each event.
    pub fn receive_with(
        &mut self,
        bytes: &[u8],
        mut act: impl FnMut(&Event<'_>, &mut Transmit<'_>),
    ) -> Vec<Seen> {
        let mut input = bytes.to_vec();
        let mut seen = Vec::new();
        let mut events = self.connection.handle_input(&mut input, self.now, &mut self.pools);
        while let Some((event, mut transmit)) = events.next() {
            seen.push(Seen::of(&event));
            act(&event, &mut transmit);
        }
        seen
    }

    /// Does something outside of an event.
    pub fn act<R>(&mut self, act: impl FnOnce(&mut Transmit<'_>) -> R) -> R {
        act(&mut self.connection.transmit(self.now, &mut self.pools, &mut NoSink))
    }

    /// What waits to be written.
    pub fn unsent(&self) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 1024];
        let count = self.connection.poll_transmit(&self.pools, &mut slices);
        let bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
        if count < slices.len() {
            assert_eq!(bytes.len(), self.connection.queued_bytes(), "what is queued can be lent");
        }
        bytes
    }

    /// Writes `bytes` bytes at most: what the kernel takes of what it is offered.
    pub fn write(&mut self, bytes: usize) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 1024];
        let count = self.connection.poll_transmit(&self.pools, &mut slices);
        let mut taken = Vec::new();
        for slice in &slices[..count] {
            taken.extend(&slice[..slice.len().min(bytes - taken.len())]);
        }
        self.connection.handle_transmitted(taken.len(), self.now, &mut self.pools);
        taken
    }

    /// Writes everything.
    pub fn write_all(&mut self) -> Vec<u8> {
        let mut written = self.write(usize::MAX);
        while self.connection.queued_bytes() > 0 {
            written.extend(self.write(usize::MAX));
        }
        written
    }

    /// Writes everything and reads it as frames, which must be whole.
    pub fn write_frames(&mut self) -> Vec<Frame> {
        naive::parse_all(&self.write_all())
    }

    /// As [`Endpoint::write_frames`], without the keys of a client.
    pub fn write_bare_frames(&mut self) -> Vec<Frame> {
        let frames = self.write_frames().into_iter();
        frames.map(|frame| Frame { key: None, ..frame }).collect()
    }

    /// Lets time pass, without anyone noticing.
    pub fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// Lets time pass, then tells the connection.
    pub fn advance(&mut self, time: Duration) {
        self.pass(time);
        self.connection.handle_timeout(self.now, &mut self.pools);
    }

    /// How far away the next deadline is.
    pub fn due_in(&self) -> Option<Duration> {
        self.connection.poll_timeout(&self.pools).map(|due| due.saturating_duration_since(self.now))
    }

    /// Ends the connection; the pools must have everything back.
    pub fn finish(mut self) -> CloseSummary {
        let summary = self.connection.finish(&mut self.pools);
        assert_eq!(self.pools.in_use(), PoolsInUse::default(), "the pools have everything back");
        summary
    }
}

/// The masking key of frames for a server.
pub const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
