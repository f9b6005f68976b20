//! Connect, upgrade, close, and the same again: what a handshake costs the server.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use corewire_load::machine;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::time::Timespec;

use crate::Protocol;
use crate::connect::{self, HEAD_END};

/// How many at once, and for how long.
pub struct Shape {
    /// Raw servers get the same request and send it back.
    pub protocol: Protocol,
    /// Connections at once.
    pub at_once: usize,
    /// Time before counting begins.
    pub warm_up: Duration,
    /// Time that is counted.
    pub duration: Duration,
}

/// What was counted.
pub struct Outcome {
    handshakes: u64,
    elapsed: Duration,
    /// Nanoseconds of the server, when its process id was given.
    server_cpu: Option<u64>,
    /// Nanoseconds of this process.
    own_cpu: u64,
}

impl Outcome {
    /// Names and values, in the order to print them.
    pub fn fields(&self) -> Vec<(&'static str, f64)> {
        let handshakes = self.handshakes as f64;
        let tenths = |value: f64| (value * 10.0).round() / 10.0;
        let share =
            |nanoseconds: u64| tenths(nanoseconds as f64 / self.elapsed.as_nanos() as f64 * 100.0);
        let mut fields = vec![
            ("handshakes", handshakes),
            ("handshakes_per_second", (handshakes / self.elapsed.as_secs_f64()).round()),
        ];
        if let Some(nanoseconds) = self.server_cpu {
            let each = tenths(nanoseconds as f64 / handshakes);
            fields.push(("server_cpu_ns_per_handshake", each));
            fields.push(("server_cpu_percent", share(nanoseconds)));
        }
        fields.push(("own_cpu_ns_per_handshake", tenths(self.own_cpu as f64 / handshakes)));
        fields
    }
}

/// Without any handshake for so long, the run is given up.
const STALL: Duration = Duration::from_secs(10);

/// The longest head that a server may answer with.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Connects, upgrades, closes and counts.
///
/// # Errors
/// What the sockets say, a refused handshake, or ten seconds without any.
pub fn run(server: SocketAddr, shape: &Shape, pid: Option<u32>) -> io::Result<Outcome> {
    let mut crowd = Crowd {
        server,
        protocol: shape.protocol,
        request: connect::request(server, "/"),
        epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        events: Vec::with_capacity(1024),
        attempts: Vec::with_capacity(shape.at_once),
    };
    for index in 0..shape.at_once.max(1) {
        let attempt = crowd.begin(index)?;
        crowd.attempts.push(attempt);
    }
    crowd.run_for(shape.warm_up)?;
    let server_cpu = || pid.map(machine::cpu_nanoseconds).transpose();
    let own_cpu = || machine::cpu_nanoseconds(std::process::id());
    let (server_before, own_before, begin) = (server_cpu()?, own_cpu()?, Instant::now());
    let handshakes = crowd.run_for(shape.duration)?;
    let elapsed = begin.elapsed();
    if handshakes == 0 {
        return Err(io::Error::other("no handshake ended in the time that was counted"));
    }
    Ok(Outcome {
        handshakes,
        elapsed,
        server_cpu: server_cpu()?.zip(server_before).map(|(after, before)| after - before),
        own_cpu: own_cpu()? - own_before,
    })
}

/// One connection whose answer has not ended.
struct Attempt {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Attempt {
    /// Whether the whole head of the answer is there.
    fn receive(&mut self) -> io::Result<bool> {
        let mut piece = [0; 1024];
        loop {
            let received = match self.stream.read(&mut piece) {
                Ok(0) => return Err(io::Error::other("the server closed during a handshake")),
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            };
            self.answer.extend_from_slice(&piece[..received]);
            if self.answer.ends_with(HEAD_END) {
                return Ok(true);
            }
            if self.answer.len() > ANSWER_BYTES_MAX {
                return Err(io::Error::other("the server's answer has no end"));
            }
        }
    }
}

struct Crowd {
    server: SocketAddr,
    protocol: Protocol,
    request: String,
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    attempts: Vec<Attempt>,
}

impl Crowd {
    fn begin(&self, index: usize) -> io::Result<Attempt> {
        let mut stream = connect::open_to_be_reset(self.server)?;
        // A fresh connection takes so few bytes at once.
        stream.write_all(self.request.as_bytes())?;
        epoll::add(&self.epoll, &stream, EventData::new_u64(index as u64), EventFlags::IN)?;
        Ok(Attempt { stream, answer: Vec::with_capacity(512) })
    }

    /// Spins for `duration` and returns how many handshakes ended.
    fn run_for(&mut self, duration: Duration) -> io::Result<u64> {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut handshakes = 0;
        let mut now = Instant::now();
        let end = now + duration;
        let mut stalled_at = now + STALL;
        while now < end {
            if now > stalled_at {
                return Err(io::Error::other("the server stopped answering"));
            }
            match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&at_once)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            now = Instant::now();
            for at in 0..self.events.len() {
                let index = self.events[at].data.u64() as usize;
                if !self.attempts[index].receive()? {
                    continue;
                }
                let answer = &self.attempts[index].answer;
                connect::check_answer(self.protocol, &self.request, answer)?;
                self.attempts[index] = self.begin(index)?;
                handshakes += 1;
                stalled_at = now + STALL;
            }
            self.events.clear();
        }
        Ok(handshakes)
    }
}
