//! Fairness: what a flood of tiny messages on one connection costs many quiet ones beside it.
//!
//! The quiet connections play ping-pong all the time, one after the other, calm and flooded by turns,
//! so that a machine that drifts drifts for both. While flooded it may have to wait until the server has given the
//! other connection the turn it is in, and one more: two budgets.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use corewire_load::machine;
use hdrhistogram::Histogram;
use socket2::SockRef;

use crate::Protocol;
use crate::answers::{Answers, Expected, Uniform};
use crate::connect;
use crate::frame::{self, DataOpcode};
use crate::stream::Stream;

/// What is sent, and for how long.
pub struct Shape {
    /// Connections beside the flood.
    pub quiet_connections: usize,
    /// Payload of every message of any connection.
    pub payload_bytes: usize,
    /// Messages that the server handles for one connection before it turns to the next.
    pub budget_messages: u32,
    /// Calm and flooded phases, one after the other.
    pub rounds: u32,
    /// Of one phase.
    pub duration: Duration,
}

/// What was measured, in nanoseconds.
pub struct Outcome {
    calm: Histogram<u64>,
    flooded: Histogram<u64>,
    flood_messages: u64,
    /// Of the server, while it was flooded.
    server_cpu: u64,
    flooded_elapsed: Duration,
    budget_messages: u32,
    quiet_connections: usize,
}

impl Outcome {
    /// Names and values, in the order to print them.
    pub fn fields(&self) -> Vec<(&'static str, f64)> {
        let microseconds = |nanoseconds: f64| (nanoseconds / 100.0).round() / 10.0;
        let at = |histogram: &Histogram<u64>, quantile| {
            microseconds(histogram.value_at_quantile(quantile) as f64)
        };
        let budget =
            self.server_cpu as f64 / self.flood_messages as f64 * f64::from(self.budget_messages);
        let bound = self.calm.value_at_quantile(0.99) as f64 + 2.0 * budget;
        let holds = (self.flooded.value_at_quantile(0.99) as f64) < bound;
        let share = self.server_cpu as f64 / self.flooded_elapsed.as_nanos() as f64;
        vec![
            ("quiet_connections", self.quiet_connections as f64),
            ("flood_messages", self.flood_messages as f64),
            ("server_cpu_percent", (share * 1000.0).round() / 10.0),
            ("calm_round_trips", self.calm.len() as f64),
            ("calm_p50_us", at(&self.calm, 0.5)),
            ("calm_p99_us", at(&self.calm, 0.99)),
            ("flooded_round_trips", self.flooded.len() as f64),
            ("flooded_p50_us", at(&self.flooded, 0.5)),
            ("flooded_p99_us", at(&self.flooded, 0.99)),
            ("budget_us", microseconds(budget)),
            ("bound_us", microseconds(bound)),
            ("bound_holds", f64::from(u8::from(holds))),
        ]
    }
}

/// One connection and the messages that it repeats.
struct Echo {
    stream: Stream,
    answers: Uniform,
    expected: Expected,
    /// Whole masked frames, sent as a circle.
    requests: Vec<u8>,
    request_bytes: usize,
    position: usize,
    unanswered: u64,
}

impl Echo {
    fn new(stream: Stream, payload_bytes: usize, messages: usize) -> Echo {
        let opcode = DataOpcode::Binary;
        let payload = opcode.payload(payload_bytes, 0);
        let requests: Vec<u8> =
            (0..messages).flat_map(|_| frame::masked_message(opcode, &payload)).collect();
        let header = frame::answer_header(opcode, payload.len());
        Echo {
            stream,
            answers: Uniform::new(),
            expected: Expected { header, first_payload: payload },
            request_bytes: requests.len() / messages,
            requests,
            position: 0,
            unanswered: 0,
        }
    }

    /// Writes once, up to `end` of the circle.
    fn write(&mut self, end: usize) -> io::Result<()> {
        match self.stream.write(&self.requests[self.position..end]) {
            Ok(sent) => {
                let whole = |position| (position / self.request_bytes) as u64;
                self.unanswered += whole(self.position + sent) - whole(self.position);
                self.position = (self.position + sent) % self.requests.len();
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Reads once; tells how many answers that brought.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<u64> {
        let received = match self.stream.read(buffer) {
            Ok(0) => return Err(io::Error::other("the server closed a connection")),
            Ok(received) => received,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error),
        };
        let arrived = self.answers.handle_input(&self.expected, &buffer[..received]);
        // Whatever is sent is a sign of life: pings need no answer of their own.
        let answers = arrived.map_err(|mismatch| io::Error::other(mismatch.to_string()))?.answers;
        let left = self.unanswered.checked_sub(answers as u64);
        self.unanswered = left.ok_or_else(|| io::Error::other("more answers than messages"))?;
        Ok(answers as u64)
    }

    /// Sends the rest of the message under way, then reads all answers.
    fn finish(&mut self, buffer: &mut [u8], until: Instant) -> io::Result<()> {
        loop {
            let torn_bytes = self.position % self.request_bytes;
            if torn_bytes > 0 {
                self.write(self.position + self.request_bytes - torn_bytes)?;
            } else if self.unanswered == 0 {
                return Ok(());
            }
            self.read(buffer)?;
            if Instant::now() > until {
                return Err(io::Error::other("the server stopped answering"));
            }
        }
    }
}

/// The quiet connections, and whose turn it is.
struct Quiet {
    echoes: Vec<Echo>,
    next: usize,
}

impl Quiet {
    fn next(&mut self) -> &mut Echo {
        let at = self.next;
        self.next = (at + 1) % self.echoes.len();
        &mut self.echoes[at]
    }
}

/// Read or written of the flood between two looks at the quiet connection.
const FLOOD_BYTES: usize = 8 * 1024;

/// SO_SNDBUF of the flood. What waits in a sender's buffer when the receiver makes room is moved
/// by the kernel inside the receiver's `read`, on loopback: with megabytes of it that took longer
/// than a budget of messages. A remote sender's kernel does that elsewhere.
const FLOOD_SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Without the answer that is waited for, the run is given up.
const STALL: Duration = Duration::from_secs(10);

/// Connects, plays, counts.
///
/// # Errors
/// What the sockets say, an answer that is no echo, or ten seconds without any answer.
pub fn run(server: SocketAddr, shape: &Shape, pid: u32) -> io::Result<Outcome> {
    let connections = shape.quiet_connections + 1;
    let mut streams = connect::open(server, Protocol::Websocket, None, connections)?.into_iter();
    let flood = streams.next().ok_or_else(|| io::Error::other("a connection is missing"))?;
    let mut flood = Echo::new(flood, shape.payload_bytes, 4096);
    let echoes = streams.map(|stream| Echo::new(stream, shape.payload_bytes, 1));
    let mut quiet = Quiet { echoes: echoes.collect(), next: 0 };
    SockRef::from(flood.stream.socket()).set_send_buffer_size(FLOOD_SEND_BUFFER_BYTES)?;
    let histogram = || {
        Histogram::new_with_max(STALL.as_nanos() as u64, 3)
            .map_err(|error| io::Error::other(error.to_string()))
    };
    let mut outcome = Outcome {
        calm: histogram()?,
        flooded: histogram()?,
        flood_messages: 0,
        server_cpu: 0,
        flooded_elapsed: Duration::ZERO,
        budget_messages: shape.budget_messages,
        quiet_connections: shape.quiet_connections,
    };
    let mut buffer = vec![0; FLOOD_BYTES];
    // One round to warm up.
    for round in 0..=shape.rounds {
        play(&mut quiet, None, shape.duration, &mut outcome.calm)?;
        let (cpu, began) = (machine::cpu_nanoseconds(pid)?, Instant::now());
        outcome.flood_messages +=
            play(&mut quiet, Some(&mut flood), shape.duration, &mut outcome.flooded)?;
        outcome.server_cpu += machine::cpu_nanoseconds(pid)? - cpu;
        outcome.flooded_elapsed += began.elapsed();
        flood.finish(&mut buffer, Instant::now() + STALL)?;
        if round == 0 {
            outcome.calm.reset();
            outcome.flooded.reset();
            outcome.flood_messages = 0;
            outcome.server_cpu = 0;
            outcome.flooded_elapsed = Duration::ZERO;
        }
    }
    if outcome.flood_messages == 0 || outcome.flooded.is_empty() || outcome.calm.is_empty() {
        return Err(io::Error::other("no message was answered in the time that was counted"));
    }
    Ok(outcome)
}

/// One phase of ping-pong, beside `flood` if there is one; tells how much of that was answered.
fn play(
    quiets: &mut Quiet,
    mut flood: Option<&mut Echo>,
    duration: Duration,
    round_trips: &mut Histogram<u64>,
) -> io::Result<u64> {
    let mut buffer = vec![0; FLOOD_BYTES];
    let mut flood_answers = 0;
    let end = Instant::now() + duration;
    loop {
        let sent_at = Instant::now();
        if sent_at >= end {
            return Ok(flood_answers);
        }
        let quiet = quiets.next();
        quiet.write(quiet.requests.len())?;
        while quiet.unanswered > 0 || quiet.position > 0 {
            if let Some(flood) = &mut flood {
                let ahead = flood.requests.len().min(flood.position + FLOOD_BYTES);
                flood.write(ahead)?;
                flood_answers += flood.read(&mut buffer)?;
            }
            quiet.read(&mut buffer)?;
            if sent_at.elapsed() > STALL {
                return Err(io::Error::other("the server stopped answering"));
            }
        }
        round_trips.saturating_record(sent_at.elapsed().as_nanos() as u64);
    }
}
