//! A network that anybody can be connected to: it accepts every upgrade, and swallows what follows.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Instant;

use corewire::opening::{
    FieldStorage, HeadLimits, HeadScanner, Inspected, inspect, parse_request, write_accept,
};
use corewire::{
    Accept, Accepted, Buffer, Endpoint, ListenOptions, Listening, Net, NetKey, Readiness, Received,
    RemoteAddress, SocketOptions, Wait, Wake,
};

/// Belongs to the thread that made it.
pub struct BackEnds {
    connections: Vec<BackEnd>,
    ready: VecDeque<Readiness>,
    /// `None` while it is handed out.
    buffer: Option<Buffer>,
    waker: Arc<Unpark>,
}

struct BackEnd {
    token: u64,
    /// What has come of the request; `None` once it was answered.
    request: Option<Vec<u8>>,
    /// What the loop has not read.
    answer: Vec<u8>,
}

struct Unpark {
    thread: Thread,
    was_asked: AtomicBool,
}

impl BackEnds {
    /// Nobody is connected.
    pub fn new() -> Self {
        let waker = Unpark { thread: thread::current(), was_asked: AtomicBool::new(false) };
        Self {
            connections: Vec::new(),
            ready: VecDeque::new(),
            buffer: Some(Buffer::new(BUFFER_BYTES)),
            waker: Arc::new(waker),
        }
    }
}

impl Net for BackEnds {
    fn listen(&mut self, _: &Endpoint, _: &ListenOptions, _: u64) -> io::Result<Listening> {
        Err(ErrorKind::Unsupported.into())
    }

    fn accept(&mut self, _: NetKey, _: u64) -> io::Result<Accepted> {
        Err(ErrorKind::Unsupported.into())
    }

    fn connect(&mut self, _: &RemoteAddress, _: &SocketOptions, token: u64) -> io::Result<NetKey> {
        let key = NetKey(self.connections.len() as u32);
        let (request, answer) = (Some(Vec::new()), Vec::new());
        self.connections.push(BackEnd { token, request, answer });
        self.ready.push_back(Readiness { token, readable: false, writable: true, hung_up: false });
        Ok(key)
    }

    fn finish_connect(&mut self, _: NetKey) -> io::Result<()> {
        Ok(())
    }

    fn receive(&mut self, key: NetKey, place: &mut [u8], _: usize) -> io::Result<Received> {
        assert!(place.is_empty(), "nothing but an answer to a request comes");
        let answer = std::mem::take(&mut self.connections[key.0 as usize].answer);
        if answer.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut buffer = self.buffer.take().expect("the buffer was given back before this read");
        buffer.as_mut_slice()[..answer.len()].copy_from_slice(&answer);
        Ok(Received { placed_bytes: 0, buffer, surplus_bytes: answer.len(), is_short: true })
    }

    fn give_back(&mut self, buffer: Buffer) {
        self.buffer = Some(buffer);
    }

    fn send(&mut self, key: NetKey, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let connection = &mut self.connections[key.0 as usize];
        if let Some(request) = &mut connection.request {
            slices.iter().for_each(|slice| request.extend_from_slice(slice));
            if HeadScanner::request().scan(request, &LIMITS) == Ok(Some(request.len())) {
                connection.answer = answer(request);
                connection.request = None;
                let token = connection.token;
                let (readable, writable, hung_up) = (true, true, false);
                self.ready.push_back(Readiness { token, readable, writable, hung_up });
            }
        }
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }

    fn shutdown(&mut self, _: NetKey) {}

    fn close(&mut self, _: NetKey) {}

    fn poll(&mut self, events: &mut Vec<Readiness>, wait: Wait) -> io::Result<()> {
        if self.ready.is_empty() && !self.waker.was_asked.swap(false, Ordering::Acquire) {
            match wait {
                Wait::No => {}
                Wait::Until(deadline) => thread::park_timeout(deadline - Instant::now()),
                Wait::Forever => thread::park(),
            }
        }
        events.extend(self.ready.drain(..));
        Ok(())
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.waker.clone()
    }

    fn now(&self) -> Instant {
        Instant::now()
    }
}

impl Wake for Unpark {
    fn wake(&self) {
        self.was_asked.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

fn answer(request: &[u8]) -> Vec<u8> {
    let mut storage = FieldStorage::new();
    let request = parse_request(request, &mut storage).expect("the head keeps the grammar");
    let Ok(Inspected::Upgrade(upgrade)) = inspect(&request) else {
        panic!("the head asks for an upgrade");
    };
    let mut answer = Vec::new();
    write_accept(&upgrade, &Accept::new(), &mut answer).expect("no subprotocol is selected");
    answer
}

const LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 16 * 1024, fields_max: 100, target_bytes_max: 8 * 1024 };

const BUFFER_BYTES: usize = 64 * 1024;
