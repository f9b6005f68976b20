//! The kernel of the simulated network: sockets, buffers and faults.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::time::{Duration, Instant};

use corewire::{Accepted, Endpoint, Listening, NetKey, PeerAddress, RemoteAddress};

use crate::sim_errno::{
    EAGAIN, ECONNABORTED, ECONNRESET, EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSPC, EPIPE, EPROTO,
    ETIMEDOUT,
};
use crate::sim_host::Host;
use crate::sim_link::{End, Link, READING, Stage, WRITING};
use crate::sim_poll::Sleeper;

/// A call of the network seam that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    Accept,
    /// The registration of an accepted socket.
    Register,
    Receive,
    Send,
    Connect,
    FinishConnect,
}

impl Call {
    pub const ALL: [Self; 6] = [
        Self::Accept,
        Self::Register,
        Self::Receive,
        Self::Send,
        Self::Connect,
        Self::FinishConnect,
    ];
}

/// How often faults strike, in so many of 1,000 calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub short_reads: u32,
    pub short_writes: u32,
    pub blocked_reads: u32,
    pub blocked_writes: u32,
    pub failed_reads: u32,
    pub failed_writes: u32,
    pub failed_accepts: u32,
    pub failed_registrations: u32,
    /// Calls of `connect` that fail.
    pub failed_connects: u32,
    /// Connections that turn out to have failed.
    pub failed_finishes: u32,
    /// Connections that hosts answer up to half a second later.
    pub slow_connects: u32,
    /// Connections that hosts never answer.
    pub lost_connects: u32,
    /// Polls that tell only some of what is ready.
    pub partial_polls: u32,
}

pub enum Socket {
    Link(usize),
    Listener(usize),
}

pub struct Listener {
    pub address: RemoteAddress,
    pub owner: usize,
    pub token: u64,
    pub waiting: VecDeque<usize>,
    pub backlog: usize,
    pub is_woken: bool,
    pub is_closed: bool,
}

/// Everything behind [`crate::sim_net::SimNet`].
pub struct World {
    pub base: Instant,
    pub elapsed: Duration,
    rng: u64,
    pub faults: Faults,
    pub orders: [VecDeque<i32>; Call::ALL.len()],
    pub shorts: [VecDeque<usize>; Call::ALL.len()],
    pub tries: [u64; Call::ALL.len()],
    pub hits: BTreeMap<(Call, i32), u64>,
    pub links: Vec<Link>,
    pub listeners: Vec<Listener>,
    pub hosts: Vec<Host>,
    /// The loops, one for each `SimNet`.
    pub sleepers: Vec<Sleeper>,
    /// By key: as with descriptors the lowest free one is used.
    sockets: Vec<Option<Socket>>,
    /// The most sockets of connections that there were at once.
    pub sockets_peak: usize,
    pub trace: u64,
    /// Kernel buffers of connections to come.
    pub to_engine_max: usize,
    pub to_peer_max: usize,
    /// What each poll costs, so that a busy loop grows older too.
    pub poll_cost: Duration,
    /// Raised by whoever sees something done: the calls above, and a handler's callbacks.
    pub progress: u64,
    pub progress_at_poll: u64,
    /// More polls in a row than this, with nothing told and nothing done, are spinning. Work that
    /// the loop has put off for one turn is not.
    pub idle_polls_max: u32,
    /// Polls in a row that told nothing, took no time and saw nothing done since the last.
    pub idle_polls: u32,
    /// Polls in a row that had to leave the time to another loop.
    pub held_up_polls: u32,
}

impl World {
    pub fn new(seed: u64) -> Self {
        Self {
            base: Instant::now(),
            elapsed: Duration::ZERO,
            rng: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            faults: Faults::default(),
            orders: Default::default(),
            shorts: Default::default(),
            tries: Default::default(),
            hits: BTreeMap::new(),
            links: Vec::new(),
            listeners: Vec::new(),
            hosts: Vec::new(),
            sleepers: Vec::new(),
            sockets: Vec::new(),
            sockets_peak: 0,
            trace: 0xCBF2_9CE4_8422_2325,
            to_engine_max: 4 << 20,
            to_peer_max: 4 << 20,
            poll_cost: Duration::ZERO,
            progress: 0,
            progress_at_poll: u64::MAX,
            idle_polls_max: 4,
            idle_polls: 0,
            held_up_polls: 0,
        }
    }

    pub fn now(&self) -> Instant {
        self.base + self.elapsed
    }

    pub fn sockets(&self) -> usize {
        self.sockets.iter().filter(|socket| matches!(socket, Some(Socket::Link(_)))).count()
    }

    pub fn waiting(&self) -> usize {
        self.listeners.iter().map(|listener| listener.waiting.len()).sum()
    }

    /// A number below `bound`, the same for the same seed (xorshift64*).
    pub fn random(&mut self, bound: usize) -> usize {
        self.rng ^= self.rng >> 12;
        self.rng ^= self.rng << 25;
        self.rng ^= self.rng >> 27;
        ((self.rng.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize) % bound.max(1)
    }

    pub fn strikes(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.random(1000) < per_mille as usize
    }

    pub fn note(&mut self, what: u64, key: NetKey, result: u64) {
        for word in [what, u64::from(key.0), result, self.elapsed.as_nanos() as u64] {
            self.trace = (self.trace ^ word).wrapping_mul(0x100_0000_01B3).rotate_left(17);
        }
    }

    /// An error that was ordered for this call, or drawn.
    pub fn fault(&mut self, call: Call, per_mille: u32, drawn: &[i32]) -> Option<io::Error> {
        self.tries[call as usize] += 1;
        self.progress += 1;
        let errno = match self.orders[call as usize].pop_front() {
            Some(errno) => errno,
            None if self.strikes(per_mille) => drawn[self.random(drawn.len())],
            None => return None,
        };
        *self.hits.entry((call, errno)).or_default() += 1;
        Some(io::Error::from_raw_os_error(errno))
    }

    pub fn insert(&mut self, socket: Socket) -> NetKey {
        let free = self.sockets.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.sockets.push(None);
            self.sockets.len() - 1
        });
        self.sockets[index] = Some(socket);
        self.sockets_peak = self.sockets_peak.max(self.sockets());
        NetKey(index as u32)
    }

    pub fn link_of(&self, key: NetKey) -> usize {
        match self.sockets.get(key.0 as usize) {
            Some(Some(Socket::Link(link))) => *link,
            _ => panic!("the engine used socket {} after closing it", key.0),
        }
    }

    fn standing(&self, key: NetKey) -> usize {
        let link = self.link_of(key);
        let stage = self.links[link].stage;
        assert_eq!(stage, Stage::Standing, "the engine used socket {} before it stood", key.0);
        link
    }

    pub fn listen(
        &mut self,
        endpoint: &Endpoint,
        backlog: usize,
        owner: usize,
        token: u64,
    ) -> io::Result<Listening> {
        let index = self.listeners.len();
        let (address, endpoint) = match endpoint {
            Endpoint::Tcp(address) => {
                let mut address = *address;
                if address.port() == 0 {
                    address.set_port(9000 + index as u16);
                }
                (address.into(), address.into())
            }
            Endpoint::Unix(name) => (name.clone().into(), name.clone().into()),
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        let waiting = VecDeque::new();
        let (is_woken, is_closed) = (false, false);
        let listener = Listener { address, owner, token, waiting, backlog, is_woken, is_closed };
        self.listeners.push(listener);
        Ok(Listening { key: self.insert(Socket::Listener(index)), endpoint })
    }

    /// The listener at `to`, if one stands there.
    pub fn listener(&self, to: &RemoteAddress) -> Option<usize> {
        let is_meant = |listener: &Listener| !listener.is_closed && listener.address == *to;
        self.listeners.iter().position(is_meant)
    }

    /// A connection from `address` waits at a listener, unless there is none or its backlog is full.
    pub fn connect(&mut self, to: &RemoteAddress, address: PeerAddress) -> Option<usize> {
        let listener = self.listener(to)?;
        let listener = &mut self.listeners[listener];
        if listener.waiting.len() >= listener.backlog {
            return None;
        }
        let link = self.links.len();
        listener.waiting.push_back(link);
        listener.is_woken = true;
        let buffers = [self.to_engine_max, self.to_peer_max];
        self.links.push(Link::new(address, listener.owner, buffers));
        Some(link)
    }

    pub fn accept(&mut self, key: NetKey, token: u64) -> io::Result<Accepted> {
        const DRAWN: [i32; 6] = [EMFILE, ENFILE, ENOBUFS, ENOMEM, ECONNABORTED, EPROTO];
        let Some(Some(Socket::Listener(index))) = self.sockets.get(key.0 as usize) else {
            panic!("the engine accepted from listener {} after closing it", key.0);
        };
        let index = *index;
        let fault = self.fault(Call::Accept, self.faults.failed_accepts, &DRAWN);
        if let Some(error) = fault {
            let errno = error.raw_os_error().unwrap_or_default();
            self.note(1, key, errno as u64);
            if [ECONNABORTED, EPROTO].contains(&errno)
                && let Some(link) = self.listeners[index].waiting.pop_front()
            {
                self.links[link].end_by_engine(End::Reset);
            }
            return Err(error);
        }
        let Some(link) = self.listeners[index].waiting.pop_front() else {
            self.note(1, key, EAGAIN as u64);
            return Err(io::Error::from_raw_os_error(EAGAIN));
        };
        let fault = self.fault(Call::Register, self.faults.failed_registrations, &[ENOMEM, ENOSPC]);
        if let Some(error) = fault {
            self.links[link].end_by_engine(End::Reset);
            return Err(error);
        }
        let socket = self.insert(Socket::Link(link));
        self.links[link].token = Some(token);
        self.links[link].is_woken = true;
        self.note(2, socket, link as u64);
        Ok(Accepted { key: socket, peer: self.links[link].address })
    }

    pub fn read(&mut self, key: NetKey, room: usize) -> io::Result<Vec<u8>> {
        let index = self.standing(key);
        let result = self.try_read(index, room);
        let noted = match &result {
            Ok(bytes) => bytes.len() as u64,
            Err(error) => u64::MAX - error.raw_os_error().unwrap_or_default() as u64,
        };
        self.note(3, key, noted);
        result
    }

    fn try_read(&mut self, index: usize, room: usize) -> io::Result<Vec<u8>> {
        let per_mille = self.faults.failed_reads;
        if let Some(error) = self.fault(Call::Receive, per_mille, &[ECONNRESET, ETIMEDOUT, ENOBUFS])
        {
            self.break_link(index, &error, READING);
            return Err(error);
        }
        let is_blocked = self.links[index].blocked_until[READING].is_some();
        // What was told to be the end is there to the end.
        if !is_blocked && !self.links[index].end_told && self.strikes(self.faults.blocked_reads) {
            self.block(index, READING);
        }
        let shortened = self.shorts[Call::Receive as usize].pop_front();
        let drawn = self.strikes(self.faults.short_reads).then(|| 1 + self.random(room.min(64)));
        let short = shortened.or(drawn);
        let link = &mut self.links[index];
        if link.blocked_until[READING].is_some() {
            return Err(io::Error::from_raw_os_error(EAGAIN));
        }
        if link.to_engine.is_empty() {
            return match link.peer_end {
                End::None => Err(io::Error::from_raw_os_error(EAGAIN)),
                End::Fin => Ok(Vec::new()),
                End::Reset => Err(io::Error::from_raw_os_error(ECONNRESET)),
            };
        }
        let count = link.to_engine.len().min(room).min(short.unwrap_or(usize::MAX));
        let bytes: Vec<u8> = link.to_engine.drain(..count).collect();
        link.received_bytes += count;
        // A read that leaves something behind though it had room got all that had come by then: the
        // rest comes with an edge of its own.
        if count < room && !link.to_engine.is_empty() && !link.end_told {
            self.block(index, READING);
        }
        Ok(bytes)
    }

    pub fn send(&mut self, key: NetKey, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let index = self.standing(key);
        let result = self.try_send(index, slices);
        let noted = match &result {
            Ok(bytes) => *bytes as u64,
            Err(error) => u64::MAX - error.raw_os_error().unwrap_or_default() as u64,
        };
        self.note(4, key, noted);
        result
    }

    fn try_send(&mut self, index: usize, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        assert!(slices.iter().any(|slice| !slice.is_empty()), "a write has something to write");
        let per_mille = self.faults.failed_writes;
        if let Some(error) = self.fault(Call::Send, per_mille, &[EPIPE, ECONNRESET, ENOBUFS]) {
            self.break_link(index, &error, WRITING);
            return Err(error);
        }
        if self.strikes(self.faults.blocked_writes) {
            self.block(index, WRITING);
        }
        let shortened = self.shorts[Call::Send as usize].pop_front();
        let drawn = self.strikes(self.faults.short_writes).then(|| 1 + self.random(64));
        let link = &mut self.links[index];
        assert!(link.engine_end == End::None, "nothing is written behind a shutdown");
        if link.peer_end == End::Reset {
            return Err(io::Error::from_raw_os_error(EPIPE));
        }
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        let free = link.to_peer_max.saturating_sub(link.to_peer.len());
        if free == 0 || link.blocked_until[WRITING].is_some() {
            link.is_full = true;
            return Err(io::Error::from_raw_os_error(EAGAIN));
        }
        let count = total.min(free).min(shortened.or(drawn).unwrap_or(usize::MAX));
        let bytes = slices.iter().flat_map(|slice| slice.iter().copied()).take(count);
        let before = link.handed_over.len();
        link.handed_over.extend(bytes);
        link.to_peer.extend(&link.handed_over[before..]);
        if count < total {
            link.is_full = true;
            if count < free {
                self.block(index, WRITING);
            }
        }
        Ok(count)
    }

    /// An error of a call is the end of the connection, unless it says that there is nothing yet
    /// or that a signal came between.
    pub fn break_link(&mut self, index: usize, error: &io::Error, direction: usize) {
        match error.kind() {
            io::ErrorKind::WouldBlock => self.block(index, direction),
            io::ErrorKind::Interrupted => {}
            _ => {
                let link = &mut self.links[index];
                link.peer_end = End::Reset;
                link.end_by_engine(End::Reset);
                link.is_woken = true;
            }
        }
    }

    /// The direction stands still for up to 2 ms; then the socket is woken.
    pub fn block(&mut self, index: usize, direction: usize) {
        let pause = Duration::from_micros(1 + self.random(2000) as u64);
        self.links[index].blocked_until[direction] = Some(self.elapsed + pause);
    }

    pub fn shutdown(&mut self, key: NetKey) {
        let index = self.link_of(key);
        self.note(5, key, 0);
        if self.links[index].engine_end == End::None {
            self.links[index].engine_end = End::Fin;
        }
    }

    pub fn close(&mut self, key: NetKey) {
        let socket = self.sockets.get_mut(key.0 as usize).and_then(Option::take);
        self.note(6, key, 0);
        match socket.expect("the engine closes a socket once") {
            Socket::Listener(index) => {
                self.listeners[index].is_closed = true;
                for link in std::mem::take(&mut self.listeners[index].waiting) {
                    self.links[link].end_by_engine(End::Reset);
                }
            }
            Socket::Link(index) => {
                let link = &mut self.links[index];
                // As TCP does: closing with input unread resets.
                let is_unread = !link.to_engine.is_empty();
                link.end_by_engine(if is_unread { End::Reset } else { End::Fin });
            }
        }
    }

    /// Closes all that `owner` has, as the end of a process does.
    pub fn close_all(&mut self, owner: usize) {
        for index in 0..self.sockets.len() {
            let is_own = match self.sockets[index] {
                Some(Socket::Link(link)) => self.links[link].owner == owner,
                Some(Socket::Listener(listener)) => self.listeners[listener].owner == owner,
                None => false,
            };
            if is_own {
                self.close(NetKey(index as u32));
            }
        }
    }

    pub fn peer_write(&mut self, index: usize, bytes: &[u8]) -> usize {
        let link = &mut self.links[index];
        if link.is_closed && link.peer_end == End::None {
            // Nobody is there to take it: the answer is a reset.
            link.engine_end = End::Reset;
        }
        if link.is_closed || link.peer_end != End::None {
            return bytes.len();
        }
        let room = link.to_engine_max.saturating_sub(link.to_engine.len());
        let count = bytes.len().min(room);
        link.to_engine.extend(&bytes[..count]);
        link.is_woken |= count > 0;
        count
    }

    pub fn peer_read(&mut self, index: usize, bytes_max: usize) -> Vec<u8> {
        let link = &mut self.links[index];
        let count = link.to_peer.len().min(bytes_max);
        let bytes = link.to_peer.drain(..count).collect();
        if link.is_full && link.is_writable() {
            link.is_full = false;
            link.is_woken = true;
        }
        bytes
    }

    pub fn peer_end(&mut self, index: usize, end: End) {
        let link = &mut self.links[index];
        if link.peer_end != End::Reset {
            link.peer_end = end;
            link.is_woken = true;
        }
    }
}
