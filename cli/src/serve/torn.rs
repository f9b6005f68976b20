//! A network that tears what arrives into tiny pieces: a switch for tests.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use corewire::{
    Accepted, Buffer, Endpoint, ListenOptions, Listening, MioNet, Net, NetKey, Readiness, Received,
    SocketOptions, Wait, Wake,
};

/// Every read brings 1 to `bytes_max` bytes and says that more may wait.
pub struct Torn {
    net: MioNet,
    bytes_max: usize,
    reads: usize,
}

impl Torn {
    pub fn new(net: MioNet, bytes_max: usize) -> Self {
        Self { net, bytes_max, reads: 0 }
    }
}

impl Net for Torn {
    fn listen(
        &mut self,
        endpoint: &Endpoint,
        options: &ListenOptions,
        token: u64,
    ) -> io::Result<Listening> {
        self.net.listen(endpoint, options, token)
    }

    fn probe(&mut self, address: SocketAddr, options: &ListenOptions) -> io::Result<()> {
        self.net.probe(address, options)
    }

    fn accept(&mut self, listener: NetKey, token: u64) -> io::Result<Accepted> {
        self.net.accept(listener, token)
    }

    fn adopt(
        &mut self,
        stream: OwnedFd,
        options: &SocketOptions,
        token: u64,
    ) -> io::Result<Accepted> {
        self.net.adopt(stream, options, token)
    }

    fn receive(
        &mut self,
        key: NetKey,
        place: &mut [u8],
        surplus_bytes_max: usize,
    ) -> io::Result<Received> {
        self.reads += 1;
        let bytes_max = 1 + self.reads % self.bytes_max;
        let placed_bytes_max = place.len().min(bytes_max);
        let surplus_bytes_max = surplus_bytes_max.min(bytes_max - placed_bytes_max);
        let received = self.net.receive(key, &mut place[..placed_bytes_max], surplus_bytes_max)?;
        Ok(Received { is_short: false, ..received })
    }

    fn give_back(&mut self, buffer: Buffer) {
        self.net.give_back(buffer);
    }

    fn send(&mut self, key: NetKey, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.net.send(key, slices)
    }

    fn shutdown(&mut self, key: NetKey) {
        self.net.shutdown(key);
    }

    fn close(&mut self, key: NetKey) {
        self.net.close(key);
    }

    fn poll(&mut self, events: &mut Vec<Readiness>, wait: Wait) -> io::Result<()> {
        self.net.poll(events, wait)
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.net.waker()
    }

    fn now(&self) -> Instant {
        self.net.now()
    }
}
