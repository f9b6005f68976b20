//! A deterministic network for the reactor: a virtual clock, pipes with bounded kernel buffers, the
//! readiness of an edge-triggered epoll, and faults that are drawn from a seed or ordered one by one.
//!
//! ```text
//!   Reactor ── SimNet: Net ──┐                    ┌── Sim (clock, faults, counts, connect)
//!                            ├─ Rc<RefCell<World>>┼── SimPeer (write, read, FIN, RST) per link
//!   Reactor ── SimNet beside ┘   links: pipes     └── SimHost (what who connects to it is told)
//! ```
//!
//! The engine is connected to by peers and connects to hosts, which a test scripts; where the engine
//! listens itself, both ends are its own. Several loops can share one network, and its clock goes no
//! further than the first of them that has something to do.
//!
//! As with epoll, whatever wakes a socket puts it on a list once, and what is told is the socket's
//! state at the time of the poll: data that came, room that came back, the end of the stream.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corewire::{
    Accepted, Buffer, Endpoint, ListenOptions, Listening, Net, NetKey, Readiness, Received,
    RemoteAddress, SocketOptions, Wait, Wake,
};

use crate::sim_host::SimHost;
use crate::sim_link::{End, Moved};
use crate::sim_poll::Sleeper;
use crate::sim_world::{Call, World};

/// The reactor's side of the simulated network.
pub struct SimNet {
    world: Rc<RefCell<World>>,
    /// Which of the loops on it.
    owner: usize,
    /// `None` while it is handed out.
    buffer: Option<Buffer>,
}

/// The test's side: clock, faults, counts, and the way to connect.
#[derive(Clone)]
pub struct Sim(pub Rc<RefCell<World>>);

impl SimNet {
    /// A network whose faults and order come from `seed`, and the handle for the test.
    pub fn new(seed: u64, receive_buffer_bytes: usize) -> (Self, Sim) {
        let sim = Sim(Rc::new(RefCell::new(World::new(seed))));
        (Self::beside(&sim, receive_buffer_bytes), sim)
    }

    /// For another loop on the same network. Time passes while all of them wait, so each is to be
    /// turned as often as the others and without haste: `turn(None)`, or until a common deadline.
    pub fn beside(sim: &Sim, receive_buffer_bytes: usize) -> Self {
        let world = sim.0.clone();
        let owner = world.borrow().sleepers.len();
        world.borrow_mut().sleepers.push(Sleeper::default());
        Self { world, owner, buffer: Some(Buffer::new(receive_buffer_bytes)) }
    }
}

/// As the end of a process, it closes what is left.
impl Drop for SimNet {
    fn drop(&mut self) {
        // A test that has failed in the middle of a call wants its own panic seen.
        if let Ok(mut world) = self.world.try_borrow_mut() {
            world.leave(self.owner);
        }
    }
}

impl Net for SimNet {
    fn listen(
        &mut self,
        endpoint: &Endpoint,
        options: &ListenOptions,
        token: u64,
    ) -> io::Result<Listening> {
        self.world.borrow_mut().listen(endpoint, options.backlog as usize, self.owner, token)
    }

    fn accept(&mut self, listener: NetKey, token: u64) -> io::Result<Accepted> {
        self.world.borrow_mut().accept(listener, token)
    }

    fn connect(
        &mut self,
        remote: &RemoteAddress,
        _options: &SocketOptions,
        token: u64,
    ) -> io::Result<NetKey> {
        self.world.borrow_mut().dial(self.owner, remote, token)
    }

    fn finish_connect(&mut self, key: NetKey) -> io::Result<()> {
        self.world.borrow_mut().finish_connect(key)
    }

    fn receive(
        &mut self,
        key: NetKey,
        place: &mut [u8],
        surplus_bytes_max: usize,
    ) -> io::Result<Received> {
        let mut buffer = self.buffer.take().expect("the buffer was given back before this read");
        let room = place.len() + surplus_bytes_max.min(buffer.len());
        assert!(room > 0, "a read without room would look like the end of the stream");
        match self.world.borrow_mut().read(key, room) {
            Ok(bytes) => {
                let placed_bytes = bytes.len().min(place.len());
                let (placed, surplus) = bytes.split_at(placed_bytes);
                place[..placed_bytes].copy_from_slice(placed);
                buffer.as_mut_slice()[..surplus.len()].copy_from_slice(surplus);
                let (surplus_bytes, is_short) = (surplus.len(), bytes.len() < room);
                Ok(Received { placed_bytes, buffer, surplus_bytes, is_short })
            }
            // Nothing of the buffer is kept on an error.
            Err(error) => {
                self.buffer = Some(buffer);
                Err(error)
            }
        }
    }

    fn give_back(&mut self, mut buffer: Buffer) {
        assert!(self.buffer.is_none(), "a buffer is given back once");
        // Whoever still reads it now reads garbage.
        let spoilt = buffer.len().min(256);
        buffer.as_mut_slice()[..spoilt].fill(0xEE);
        self.buffer = Some(buffer);
    }

    fn send(&mut self, key: NetKey, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.world.borrow_mut().send(key, slices)
    }

    fn shutdown(&mut self, key: NetKey) {
        self.world.borrow_mut().shutdown(key);
    }

    fn close(&mut self, key: NetKey) {
        self.world.borrow_mut().close(key);
    }

    fn poll(&mut self, events: &mut Vec<Readiness>, wait: Wait) -> io::Result<()> {
        assert!(self.buffer.is_some(), "the buffer is home between two turns");
        self.world.borrow_mut().poll(self.owner, events, wait);
        Ok(())
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.world.borrow().sleepers[self.owner].waker.clone()
    }

    fn now(&self) -> Instant {
        self.world.borrow().now()
    }
}

impl Sim {
    /// A peer connects from `address`; `None` if the listener is gone or its backlog full.
    pub fn connect_from(&self, listener: SocketAddr, address: SocketAddr) -> Option<SimPeer> {
        let link = self.0.borrow_mut().connect(&listener.into(), address.into())?;
        Some(SimPeer::new(self.0.clone(), link))
    }

    /// A peer connects from 10.0.0.1.
    pub fn connect(&self, listener: SocketAddr) -> SimPeer {
        let address = SocketAddr::from(([10, 0, 0, 1], 4000));
        self.connect_from(listener, address).expect("the listener takes connections")
    }

    /// The host at `address`, on which a test's script listens from now on.
    pub fn host(&self, address: impl Into<RemoteAddress>) -> SimHost {
        SimHost::new(self.0.clone(), &address.into())
    }

    /// Virtual time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.0.borrow().elapsed
    }

    /// Time passes while the engine stands still.
    pub fn advance(&self, by: Duration) {
        self.0.borrow_mut().elapsed += by;
    }

    /// How often a call was tried.
    pub fn tries(&self, call: Call) -> u64 {
        self.0.borrow().tries[call as usize]
    }

    /// How often a call answered with this error number because a fault said so.
    pub fn hits(&self, call: Call, errno: i32) -> u64 {
        self.0.borrow().hits.get(&(call, errno)).copied().unwrap_or(0)
    }

    /// The next calls of this kind fail with these errors, in order.
    pub fn fail(&self, call: Call, errors: &[i32]) {
        self.0.borrow_mut().orders[call as usize].extend(errors);
    }

    /// The next reads or writes move at most so many bytes, in order.
    pub fn shorten(&self, call: Call, bytes: &[usize]) {
        self.0.borrow_mut().shorts[call as usize].extend(bytes);
    }

    /// Sockets of connections that the engine holds.
    pub fn sockets(&self) -> usize {
        self.0.borrow().sockets()
    }

    /// Connections that wait to be accepted.
    pub fn waiting(&self) -> usize {
        self.0.borrow().waiting()
    }

    /// A digest of everything that the engine asked of the network and was told.
    pub fn trace(&self) -> u64 {
        self.0.borrow().trace
    }
}

/// The other end of one connection.
#[derive(Clone)]
pub struct SimPeer {
    world: Rc<RefCell<World>>,
    link: usize,
}

impl SimPeer {
    pub fn new(world: Rc<RefCell<World>>, link: usize) -> Self {
        Self { world, link }
    }

    /// Writes as much as the engine's kernel buffer takes; says how much.
    pub fn write(&self, bytes: &[u8]) -> usize {
        self.world.borrow_mut().peer_write(self.link, bytes)
    }

    /// Writes everything.
    pub fn write_all(&self, bytes: &[u8]) {
        let written = self.write(bytes);
        assert_eq!(written, bytes.len(), "the engine's kernel buffer has room");
    }

    /// Reads at most so many bytes of what the engine has sent.
    pub fn read(&self, bytes_max: usize) -> Vec<u8> {
        self.world.borrow_mut().peer_read(self.link, bytes_max)
    }

    /// Reads everything that is there.
    pub fn read_all(&self) -> Vec<u8> {
        self.read(usize::MAX)
    }

    /// Shuts the write side: the engine reads the end of the stream behind what was written.
    pub fn fin(&self) {
        self.world.borrow_mut().peer_end(self.link, End::Fin);
    }

    /// Resets the connection. What the engine has not read yet stays readable in front of the error.
    pub fn reset(&self) {
        self.world.borrow_mut().peer_end(self.link, End::Reset);
    }

    /// Where it is, which is no Unix socket.
    pub fn address(&self) -> SocketAddr {
        let address = self.world.borrow().links[self.link].address;
        address.socket_addr().expect("a peer of TCP")
    }

    /// What the engine did to its end, as far as this end can see it.
    pub fn end_seen(&self) -> End {
        self.world.borrow().links[self.link].engine_end
    }

    /// Whether everything is read and the engine's end of the stream is behind it.
    pub fn is_at_end(&self) -> bool {
        let world = self.world.borrow();
        let link = &world.links[self.link];
        link.to_peer.is_empty() && link.engine_end != End::None
    }

    /// Sizes of the kernel's buffers for this connection: what the engine can be sent, what it can
    /// send.
    pub fn set_buffers(&self, to_engine_bytes: usize, to_peer_bytes: usize) {
        let mut world = self.world.borrow_mut();
        world.links[self.link].to_engine_max = to_engine_bytes;
        world.links[self.link].to_peer_max = to_peer_bytes;
    }

    /// The bytes moved so far, and those the kernel still holds.
    pub fn moved(&self) -> Moved {
        self.world.borrow().links[self.link].moved()
    }

    /// Everything that the engine has handed to the kernel for this peer, read or not.
    pub fn handed_over(&self) -> Vec<u8> {
        self.world.borrow().links[self.link].handed_over.clone()
    }
}
