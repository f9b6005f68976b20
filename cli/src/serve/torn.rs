//! A network that tears what arrives into tiny pieces: a switch for tests.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corewire::{
    Accepted, Buffer, ListenOptions, Listening, MioNet, Net, NetKey, Readiness, Received,
    ReceivedInto, Surplus, Wake,
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
        address: SocketAddr,
        options: &ListenOptions,
        token: u64,
    ) -> io::Result<Listening> {
        self.net.listen(address, options, token)
    }

    fn accept(&mut self, listener: NetKey, token: u64) -> io::Result<Accepted> {
        self.net.accept(listener, token)
    }

    fn receive(&mut self, key: NetKey) -> io::Result<Received> {
        // The buffer given back last is the one that is read into next.
        self.reads += 1;
        self.net.give_back(Buffer::new(1 + self.reads % self.bytes_max));
        self.net.receive(key)
    }

    fn receive_into(
        &mut self,
        key: NetKey,
        rest: &mut [u8],
        _: Surplus,
    ) -> io::Result<ReceivedInto> {
        self.reads += 1;
        self.net.give_back(Buffer::new(1));
        let bytes_max = rest.len().min(1 + self.reads % self.bytes_max);
        let received = self.net.receive_into(key, &mut rest[..bytes_max], Surplus::Leave)?;
        Ok(ReceivedInto { is_short: false, ..received })
    }

    fn give_back(&mut self, _: Buffer) {}

    fn send(&mut self, key: NetKey, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.net.send(key, slices)
    }

    fn shutdown(&mut self, key: NetKey) {
        self.net.shutdown(key);
    }

    fn close(&mut self, key: NetKey) {
        self.net.close(key);
    }

    fn poll(&mut self, events: &mut Vec<Readiness>, timeout: Option<Duration>) -> io::Result<()> {
        self.net.poll(events, timeout)
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.net.waker()
    }

    fn now(&self) -> Instant {
        self.net.now()
    }
}
