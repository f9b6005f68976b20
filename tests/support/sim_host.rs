//! Hosts of the simulated network that the engine connects to, and the wires between two sockets of
//! the engine's own.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use corewire::{NetKey, PeerAddress, RemoteAddress};

use crate::sim_errno::{
    EADDRNOTAVAIL, EAGAIN, ECONNREFUSED, ECONNRESET, EHOSTUNREACH, EMFILE, ENETUNREACH, ENFILE,
    ENOBUFS, ENOENT, ENOMEM, ENOTCONN, ETIMEDOUT,
};
use crate::sim_link::{End, Link, Stage, WRITING};
use crate::sim_net::SimPeer;
use crate::sim_world::{Call, Socket, World};

/// What a host says to who connects to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The connection stands.
    Accept,
    /// It stands after that time.
    AcceptAfter(Duration),
    /// It stands, and is reset after that time.
    AcceptAndReset(Duration),
    /// It fails with this error number, which `finish_connect` tells. At a Unix socket `connect` does.
    Fail(i32),
    /// It fails so after that time.
    FailAfter(Duration, i32),
    /// `connect` itself fails.
    FailAtOnce(i32),
    /// Nothing, until the test has it answer: what was sent is lost.
    Silence,
}

/// A place that the engine has connected to, or that a test has given a manner.
pub struct Host {
    address: RemoteAddress,
    /// Whether a test's script listens there. The engine's own listeners do by themselves.
    is_scripted: bool,
    reply: Reply,
    next_replies: VecDeque<Reply>,
    tries: u64,
    /// All that were ever made.
    links: Vec<usize>,
    /// Those that the script has not taken yet.
    untaken: VecDeque<usize>,
}

/// The test's side of a host: what it answers, and the connections made to it.
///
/// Where the engine itself listens, the connections are the engine's and never
/// [taken](SimHost::next); what the host replies goes for them as well.
#[derive(Clone)]
pub struct SimHost {
    world: Rc<RefCell<World>>,
    index: usize,
}

impl SimHost {
    pub fn new(world: Rc<RefCell<World>>, address: &RemoteAddress) -> Self {
        let index = world.borrow_mut().host(address);
        world.borrow_mut().hosts[index].is_scripted = true;
        Self { world, index }
    }

    /// From now on it says so. At first it accepts.
    pub fn replies(&self, reply: Reply) {
        self.world.borrow_mut().hosts[self.index].reply = reply;
    }

    /// To the next who connect it says so, in order, before anything else.
    pub fn replies_next(&self, replies: &[Reply]) {
        self.world.borrow_mut().hosts[self.index].next_replies.extend(replies);
    }

    /// Answers who has waited longest; time begins to count now. `FailAtOnce` is too late here.
    pub fn answer(&self, reply: Reply) {
        let mut world = self.world.borrow_mut();
        let held = world.held(self.index).next().expect("somebody waits for an answer");
        world.set_answer(held, reply);
        world.answer_due();
    }

    /// Connections that wait for an answer.
    pub fn held(&self) -> usize {
        self.world.borrow().held(self.index).count()
    }

    /// How often the engine has tried to connect, whatever came of it.
    pub fn tries(&self) -> u64 {
        self.world.borrow().hosts[self.index].tries
    }

    /// The other end of the next connection made.
    pub fn next(&self) -> Option<SimPeer> {
        let link = self.world.borrow_mut().hosts[self.index].untaken.pop_front()?;
        Some(SimPeer::new(self.world.clone(), link))
    }

    /// Resets every connection made to it, at both ends where both are the engine's.
    pub fn reset_all(&self) {
        let mut world = self.world.borrow_mut();
        for link in world.hosts[self.index].links.clone() {
            if !matches!(world.links[link].stage, Stage::Connecting { .. }) {
                world.reset(link);
            }
        }
    }
}

impl World {
    fn host(&mut self, address: &RemoteAddress) -> usize {
        let known = self.hosts.iter().position(|host| host.address == *address);
        known.unwrap_or_else(|| {
            self.hosts.push(Host {
                address: address.clone(),
                is_scripted: false,
                reply: Reply::Accept,
                next_replies: VecDeque::new(),
                tries: 0,
                links: Vec::new(),
                untaken: VecDeque::new(),
            });
            self.hosts.len() - 1
        })
    }

    fn held(&self, host: usize) -> impl Iterator<Item = usize> {
        let links = self.hosts[host].links.iter().copied();
        links.filter(|link| {
            let link = &self.links[*link];
            matches!(link.stage, Stage::Connecting { answer_at: None, .. }) && !link.is_closed
        })
    }

    /// The engine connects.
    pub fn dial(&mut self, owner: usize, to: &RemoteAddress, token: u64) -> io::Result<NetKey> {
        const DRAWN: [i32; 7] =
            [EMFILE, ENFILE, ENOBUFS, ENOMEM, EADDRNOTAVAIL, ENETUNREACH, EHOSTUNREACH];
        let host = self.host(to);
        self.hosts[host].tries += 1;
        let error = self.fault(Call::Connect, self.faults.failed_connects, &DRAWN);
        let result = match error {
            Some(error) => Err(error),
            None => self.try_dial(owner, host, token),
        };
        match &result {
            Ok(key) => self.note(8, *key, host as u64),
            Err(error) => {
                self.note(8, NetKey(u32::MAX), error.raw_os_error().unwrap_or_default() as u64);
            }
        }
        result
    }

    fn try_dial(&mut self, owner: usize, host: usize, token: u64) -> io::Result<NetKey> {
        let mut reply = self.hosts[host].next_replies.pop_front().unwrap_or(self.hosts[host].reply);
        if self.strikes(self.faults.lost_connects) {
            reply = Reply::Silence;
        } else if reply == Reply::Accept && self.strikes(self.faults.slow_connects) {
            reply = Reply::AcceptAfter(Duration::from_micros(self.random(500_000) as u64));
        }
        if let Reply::FailAtOnce(errno) = reply {
            return Err(io::Error::from_raw_os_error(errno));
        }
        let address = match self.hosts[host].address {
            RemoteAddress::Tcp(address) => address.into(),
            _ => PeerAddress::Unix,
        };
        let link = self.links.len();
        self.links.push(Link::new(address, owner, [self.to_engine_max, self.to_peer_max]));
        self.links[link].host = Some(host);
        self.hosts[host].links.push(link);
        self.set_answer(link, reply);
        self.answer_due();
        // A Unix socket is there or not: its errors are told by the call.
        if let (PeerAddress::Unix, Stage::Answered(Err(errno))) = (address, self.links[link].stage)
        {
            self.links[link].end_by_engine(End::Fin);
            return Err(io::Error::from_raw_os_error(errno));
        }
        self.links[link].token = Some(token);
        Ok(self.insert(Socket::Link(link)))
    }

    fn set_answer(&mut self, link: usize, reply: Reply) {
        let delay = match reply {
            Reply::Accept | Reply::AcceptAndReset(_) | Reply::Fail(_) => Some(Duration::ZERO),
            Reply::AcceptAfter(delay) | Reply::FailAfter(delay, _) => Some(delay),
            Reply::Silence => None,
            Reply::FailAtOnce(_) => panic!("the call is over"),
        };
        let answer_at = delay.map(|delay| self.elapsed + delay);
        self.links[link].stage = Stage::Connecting { reply, answer_at };
    }

    /// Answers and resets that are due arrive.
    pub fn answer_due(&mut self) {
        for index in 0..self.links.len() {
            let link = &self.links[index];
            let is_due = |at: Option<Duration>| at.is_some_and(|at| at <= self.elapsed);
            let is_reset = is_due(link.reset_at);
            if let Stage::Connecting { reply, answer_at } = link.stage
                && is_due(answer_at)
                && !link.is_closed
            {
                self.arrive(index, reply);
            } else if is_reset {
                self.reset(index);
            }
        }
    }

    fn arrive(&mut self, index: usize, reply: Reply) {
        let stands = match reply {
            Reply::Fail(errno) | Reply::FailAfter(_, errno) | Reply::FailAtOnce(errno) => {
                Err(errno)
            }
            Reply::Accept | Reply::AcceptAfter(_) | Reply::AcceptAndReset(_) => Ok(()),
            Reply::Silence => return,
        };
        let stands = stands.and_then(|()| self.meet(index));
        if stands == Err(EAGAIN) {
            // As Linux does it where a backlog is full: nothing is said, and a second later the
            // other end tries once more (RFC 6298 §2.1).
            let answer_at = Some(self.elapsed + Duration::from_secs(1));
            self.links[index].stage = Stage::Connecting { reply, answer_at };
            return;
        }
        let link = &mut self.links[index];
        link.stage = Stage::Answered(stands);
        link.is_woken = true;
        if let (Reply::AcceptAndReset(delay), Ok(())) = (reply, stands) {
            link.reset_at = Some(self.elapsed + delay);
        }
    }

    /// Brings a connection to who listens there: the engine, or a script.
    fn meet(&mut self, index: usize) -> Result<(), i32> {
        let host = self.links[index].host.expect("it was dialled");
        let address = self.hosts[host].address.clone();
        let is_unix = self.links[index].address == PeerAddress::Unix;
        if self.listener(&address).is_some() {
            let port = 32_768 + (index % 28_232) as u16;
            let from = SocketAddr::from(([10, 0, 0, 2], port)).into();
            let from = if is_unix { PeerAddress::Unix } else { from };
            let other = self.connect(&address, from).ok_or(EAGAIN)?;
            self.links[other].wire = Some(index);
            self.links[index].wire = Some(other);
        } else if self.hosts[host].is_scripted {
            self.hosts[host].untaken.push_back(index);
        } else {
            return Err(if is_unix { ENOENT } else { ECONNREFUSED });
        }
        Ok(())
    }

    pub fn finish_connect(&mut self, key: NetKey) -> io::Result<()> {
        const DRAWN: [i32; 5] = [ECONNREFUSED, ECONNRESET, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH];
        let index = self.link_of(key);
        let per_mille = self.faults.failed_finishes;
        let result = match self.fault(Call::FinishConnect, per_mille, &DRAWN) {
            Some(error) => {
                self.break_link(index, &error, WRITING);
                if self.links[index].is_closed {
                    self.links[index].stage = Stage::Failed;
                }
                Err(error)
            }
            None => self.try_finish(index).map_err(io::Error::from_raw_os_error),
        };
        let errno = result.as_ref().err().and_then(io::Error::raw_os_error).unwrap_or_default();
        self.note(9, key, errno as u64);
        result
    }

    fn try_finish(&mut self, index: usize) -> Result<(), i32> {
        let link = &mut self.links[index];
        let (stage, result) = match link.stage {
            Stage::Connecting { .. } => return Err(EAGAIN),
            // The reset is the socket's error now (SO_ERROR).
            Stage::Answered(Ok(())) if link.peer_end == End::Reset => {
                (Stage::Failed, Err(ECONNRESET))
            }
            Stage::Answered(Ok(())) | Stage::Standing => (Stage::Standing, Ok(())),
            Stage::Answered(Err(errno)) => (Stage::Failed, Err(errno)),
            Stage::Failed => (Stage::Failed, Err(ENOTCONN)),
        };
        link.stage = stage;
        result
    }

    /// A reset arrives at both ends.
    fn reset(&mut self, index: usize) {
        self.links[index].reset_at = None;
        for end in [Some(index), self.links[index].wire].into_iter().flatten() {
            self.peer_end(end, End::Reset);
        }
    }

    /// What was sent into a wire comes out at its other end, so far as there is room.
    pub fn ferry(&mut self) {
        let wires = self.links.iter().enumerate().filter_map(|(from, link)| {
            let to = link.wire?;
            let is_over = link.is_closed && self.links[to].is_closed;
            (!is_over).then_some((from, to))
        });
        let wires: Vec<_> = wires.collect();
        for &(from, to) in &wires {
            let target = &self.links[to];
            let free = target.to_engine_max.saturating_sub(target.to_engine.len());
            // Who is gone takes everything, and answers with a reset.
            let bytes = self.peer_read(from, if target.is_closed { usize::MAX } else { free });
            if !bytes.is_empty() {
                self.peer_write(to, &bytes);
            }
        }
        for (from, to) in wires {
            let link = &self.links[from];
            let end = link.engine_end;
            let is_sent = link.to_peer.is_empty() || end == End::Reset;
            if end != End::None && is_sent && self.links[to].peer_end != end {
                self.peer_end(to, end);
            }
        }
    }
}
