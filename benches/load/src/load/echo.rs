//! The closed loop: answers in, as many new messages out, one write for each batch.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corewire_load::machine;
use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::time::Timespec;
use rustls::ClientConfig;

use crate::Protocol;
use crate::answers::{Answers, Expected, Uniform};
use crate::compressed::{Compressed, Messages};
use crate::connect;
use crate::deflate::{Agreement, Compression};
use crate::frame::{self, DataOpcode};
use crate::stream::Stream;

/// What is sent, how often at once, and for how long.
pub struct Shape {
    /// What stands on top of TCP.
    pub protocol: Protocol,
    /// Connections at once.
    pub connections: usize,
    /// Messages under way on each connection; at least 1.
    pub in_flight: usize,
    /// Opcode of every message that is not compressed.
    pub opcode: DataOpcode,
    /// Payload of every message, before it is compressed.
    pub payload_bytes: usize,
    /// Whether all goes over TLS, and whom to trust there.
    pub tls: Option<Arc<ClientConfig>>,
    /// Whether messages are compressed, and how; over WebSocket only.
    pub compression: Option<Compression>,
    /// Time before counting begins.
    pub warm_up: Duration,
    /// Time that is counted.
    pub duration: Duration,
}

/// What was counted.
pub struct Outcome {
    messages: u64,
    elapsed: Duration,
    /// Nanoseconds of the server, when its process id was given.
    server_cpu: Option<u64>,
    /// Nanoseconds of this process.
    own_cpu: u64,
    /// Nanoseconds from the write that carried a message to the read that ended its answer.
    round_trips: Histogram<u64>,
    /// Of all frames that were answered, where they differ in length.
    answer_bytes: Option<u64>,
    compressed: Option<Sizes>,
}

/// What compression made of the messages.
struct Sizes {
    agreement: Agreement,
    payload_bytes: usize,
    /// Of a frame, on average over all messages.
    request_bytes: f64,
}

impl Sizes {
    fn fields(&self, messages: f64, elapsed: Duration) -> [(&'static str, f64); 5] {
        let tenths = |value: f64| (value * 10.0).round() / 10.0;
        let bytes_per_microsecond =
            messages * self.payload_bytes as f64 / (elapsed.as_secs_f64() * 1e6);
        [
            ("payload_bytes_per_message", self.payload_bytes as f64),
            ("payload_megabytes_per_second", tenths(bytes_per_microsecond)),
            ("request_bytes_per_message", tenths(self.request_bytes)),
            ("server_window_bits", f64::from(self.agreement.server_bits)),
            ("client_window_bits", f64::from(self.agreement.client_bits)),
        ]
    }
}

impl Outcome {
    /// Names and values, in the order to print them.
    pub fn fields(&self) -> Vec<(&'static str, f64)> {
        let messages = self.messages as f64;
        let tenths = |value: f64| (value * 10.0).round() / 10.0;
        let microseconds =
            |quantile| tenths(self.round_trips.value_at_quantile(quantile) as f64 / 1000.0);
        let mut fields = vec![
            ("messages", messages),
            ("messages_per_second", (messages / self.elapsed.as_secs_f64()).round()),
        ];
        if let Some(nanoseconds) = self.server_cpu {
            let share = nanoseconds as f64 / self.elapsed.as_nanos() as f64;
            fields.push(("server_cpu_ns_per_message", tenths(nanoseconds as f64 / messages)));
            fields.push(("server_cpu_percent", tenths(share * 100.0)));
        }
        fields.push(("own_cpu_ns_per_message", tenths(self.own_cpu as f64 / messages)));
        fields.push(("round_trip_p50_us", microseconds(0.5)));
        fields.push(("round_trip_p99_us", microseconds(0.99)));
        fields.push(("round_trip_p999_us", microseconds(0.999)));
        if let Some(bytes) = self.answer_bytes {
            fields.push(("answer_bytes_per_message", tenths(bytes as f64 / messages)));
        }
        fields
            .extend(self.compressed.iter().flat_map(|sizes| sizes.fields(messages, self.elapsed)));
        fields
    }
}

/// Every connection's messages, and what must come back.
struct Script<E> {
    /// Masked frames one behind the other, each with a payload and a masking key of its own: the
    /// same message again and again would teach the server's branch predictor its text.
    requests: Vec<u8>,
    /// Where each of them begins, and where the last one ends.
    starts: Vec<usize>,
    expected: E,
}

impl<E> Script<E> {
    fn new(requests: &[Vec<u8>], expected: E) -> Script<E> {
        let mut starts = vec![0];
        starts.extend(requests.iter().scan(0, |end, request| {
            *end += request.len();
            Some(*end)
        }));
        Script { requests: requests.concat(), starts, expected }
    }

    fn count(&self) -> usize {
        self.starts.len() - 1
    }

    /// Bytes of so many messages from one of them on, taken as a circle; at most all of them.
    fn bytes(&self, first: usize, messages: usize) -> usize {
        let end = first + messages;
        match end.checked_sub(self.count()) {
            None => self.starts[end] - self.starts[first],
            Some(rest) => self.requests.len() - self.starts[first] + self.starts[rest],
        }
    }

    fn is_frame_boundary(&self, position: usize) -> bool {
        self.starts.binary_search(&position).is_ok()
    }
}

/// Messages that are not compressed.
fn uniform(shape: &Shape) -> Script<Expected> {
    let variety = (VARIETY_BYTES / shape.payload_bytes.max(1)).clamp(1, VARIETY_MAX);
    let count = shape.in_flight.max(variety);
    let payload = |seed| shape.opcode.payload(shape.payload_bytes, seed as u64);
    let requests: Vec<Vec<u8>> =
        (0..count).map(|n| frame::masked_message(shape.opcode, &payload(n))).collect();
    let expected = Expected::echo(shape.protocol, shape.opcode, &payload(0), &requests[0]);
    Script::new(&requests, expected)
}

struct Connection<A> {
    stream: Stream,
    answers: A,
    /// Where in the script's requests, taken as a circle, the next byte to send stands.
    position: usize,
    /// The next message that will be due.
    next: usize,
    /// Bytes of messages that are due but not yet taken by the kernel.
    unsent: usize,
    /// When messages were handed over, and how many of each batch are still unanswered.
    batches: VecDeque<(Instant, usize)>,
    /// Pongs that wait for the end of a frame that is partly written.
    pongs: Vec<u8>,
}

impl<A: Answers> Connection<A> {
    fn send(
        &mut self,
        script: &Script<A::Expected>,
        messages: usize,
        now: Instant,
    ) -> io::Result<()> {
        self.batches.push_back((now, messages));
        self.unsent += script.bytes(self.next, messages);
        self.next = (self.next + messages) % script.count();
        self.flush(script)
    }

    fn flush(&mut self, script: &Script<A::Expected>) -> io::Result<()> {
        self.stream.flush()?;
        loop {
            if !self.pongs.is_empty() && script.is_frame_boundary(self.position) {
                // Rare and tiny: worth no queue of its own.
                self.stream.write_all_spinning(&self.pongs)?;
                self.pongs.clear();
            }
            if self.unsent == 0 {
                return Ok(());
            }
            let end = script.requests.len().min(self.position + self.unsent);
            match self.stream.write(&script.requests[self.position..end]) {
                Ok(sent) => {
                    self.position = (self.position + sent) % script.requests.len();
                    self.unsent -= sent;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads until the socket is drained, answers each batch, and returns the answers counted.
    fn receive(
        &mut self,
        script: &Script<A::Expected>,
        buffer: &mut [u8],
        round_trips: &mut Histogram<u64>,
    ) -> io::Result<usize> {
        let mut answers = 0;
        loop {
            let received = match self.stream.read(buffer) {
                Ok(0) => return Err(io::Error::other("the server closed a connection")),
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(answers),
                Err(error) => return Err(error),
            };
            let arrived = self
                .answers
                .handle_input(&script.expected, &buffer[..received])
                .map_err(|mismatch| io::Error::other(mismatch.to_string()))?;
            for ping in &arrived.pings {
                self.pongs.extend(frame::masked_pong(ping));
            }
            if arrived.answers > 0 {
                let now = Instant::now();
                self.settle(arrived.answers, now, round_trips)?;
                answers += arrived.answers;
                self.send(script, arrived.answers, now)?;
            } else if !self.pongs.is_empty() {
                self.flush(script)?;
            }
            if received < buffer.len() {
                return Ok(answers);
            }
        }
    }

    /// Answers come in order, so the oldest batch is settled first.
    fn settle(
        &mut self,
        mut answers: usize,
        now: Instant,
        round_trips: &mut Histogram<u64>,
    ) -> io::Result<()> {
        while answers > 0 {
            let Some((sent_at, unanswered)) = self.batches.front_mut() else {
                return Err(io::Error::other("more answers than messages"));
            };
            let settled = answers.min(*unanswered);
            let nanoseconds = now.duration_since(*sent_at).as_nanos() as u64;
            round_trips.saturating_record_n(nanoseconds, settled as u64);
            answers -= settled;
            *unanswered -= settled;
            if *unanswered == 0 {
                self.batches.pop_front();
            }
        }
        Ok(())
    }
}

/// Without any answer for so long, the run is given up.
const STALL: Duration = Duration::from_secs(10);

/// How much longer a warm-up becomes at once, until all is checked that must be.
const CHECK: Duration = Duration::from_millis(10);

/// Different messages that are sent by turns, fewer if they are large: together they stay in the
/// cache of the generator's core.
const VARIETY_MAX: usize = 64;
const VARIETY_BYTES: usize = 512 * 1024;

/// One read's worth. Large messages come in pieces of this size, small ones in whole batches.
const BUFFER_BYTES: usize = 256 * 1024;

/// Connects, loads, counts.
///
/// # Errors
/// What the sockets say, an answer that is no echo, or ten seconds without any answer.
pub fn run(server: SocketAddr, shape: &Shape, pid: Option<u32>) -> io::Result<Outcome> {
    let Some(compression) = shape.compression else {
        let streams = connect::open(server, shape.protocol, shape.tls.as_ref(), shape.connections)?;
        return load(streams, Uniform::new, &uniform(shape), shape, pid);
    };
    let (streams, agreement) = connect::open_compressed(server, compression, shape.connections)?;
    let messages = Messages::new(agreement, shape.payload_bytes, shape.in_flight)?;
    let requests = messages.requests.clone();
    let script = Script::new(&requests, messages);
    let outcome = load(streams, || Compressed::new(agreement), &script, shape, pid)?;
    let request_bytes = script.requests.len() as f64 / script.count() as f64;
    let sizes = Sizes { agreement, payload_bytes: shape.payload_bytes, request_bytes };
    Ok(Outcome { compressed: Some(sizes), ..outcome })
}

fn load<A: Answers>(
    streams: Vec<Stream>,
    answers: impl Fn() -> A,
    script: &Script<A::Expected>,
    shape: &Shape,
    pid: Option<u32>,
) -> io::Result<Outcome> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
    let mut connections = Vec::with_capacity(streams.len());
    for stream in streams {
        epoll::add(&epoll, &stream, EventData::new_u64(connections.len() as u64), interest)?;
        connections.push(Connection {
            stream,
            answers: answers(),
            position: 0,
            next: 0,
            unsent: 0,
            batches: VecDeque::with_capacity(shape.in_flight),
            pongs: Vec::new(),
        });
    }
    for connection in &mut connections {
        connection.send(script, shape.in_flight, Instant::now())?;
    }

    let mut turn = Turn {
        epoll,
        events: Vec::with_capacity(1024),
        buffer: vec![0; BUFFER_BYTES],
        round_trips: Histogram::new_with_max(STALL.as_nanos() as u64, 3)
            .map_err(|error| io::Error::other(error.to_string()))?,
    };
    turn.run_for(shape.warm_up, script, &mut connections)?;
    while !connections.iter().all(|connection| connection.answers.is_checked()) {
        turn.run_for(CHECK, script, &mut connections)?;
    }
    turn.round_trips.reset();
    let server_cpu = || pid.map(machine::cpu_nanoseconds).transpose();
    let own_cpu = || machine::cpu_nanoseconds(std::process::id());
    let answer_bytes = |connections: &[Connection<A>]| {
        connections.iter().map(|connection| connection.answers.frame_bytes()).sum::<Option<u64>>()
    };
    let bytes_before = answer_bytes(&connections);
    let (server_before, own_before, begin) = (server_cpu()?, own_cpu()?, Instant::now());
    let messages = turn.run_for(shape.duration, script, &mut connections)?;
    let elapsed = begin.elapsed();
    if messages == 0 {
        return Err(io::Error::other("no message was answered in the time that was counted"));
    }
    Ok(Outcome {
        messages,
        elapsed,
        server_cpu: server_cpu()?.zip(server_before).map(|(after, before)| after - before),
        own_cpu: own_cpu()? - own_before,
        round_trips: turn.round_trips,
        answer_bytes: answer_bytes(&connections)
            .zip(bytes_before)
            .map(|(after, before)| after - before),
        compressed: None,
    })
}

struct Turn {
    epoll: rustix::fd::OwnedFd,
    events: Vec<epoll::Event>,
    buffer: Vec<u8>,
    round_trips: Histogram<u64>,
}

impl Turn {
    /// Spins for `duration` and returns how many messages were answered.
    fn run_for<A: Answers>(
        &mut self,
        duration: Duration,
        script: &Script<A::Expected>,
        connections: &mut [Connection<A>],
    ) -> io::Result<u64> {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut messages = 0;
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
            for event in self.events.drain(..) {
                let flags = event.flags;
                let connection = &mut connections[event.data.u64() as usize];
                if flags.contains(EventFlags::OUT) {
                    connection.flush(script)?;
                }
                if flags.contains(EventFlags::IN) {
                    let answers =
                        connection.receive(script, &mut self.buffer, &mut self.round_trips)?;
                    messages += answers as u64;
                    stalled_at = now + STALL;
                }
            }
        }
        Ok(messages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_a_circle_of_any_lengths() {
        let requests = [vec![0; 3], vec![0; 5], vec![0; 2]];
        let script = Script::new(&requests, ());
        assert_eq!((script.count(), script.requests.len()), (3, 10));
        assert_eq!(script.bytes(0, 3), 10);
        assert_eq!(script.bytes(1, 1), 5);
        assert_eq!(script.bytes(2, 1), 2);
        assert_eq!(script.bytes(2, 2), 5);
        assert_eq!(script.bytes(1, 3), 10);
        let boundaries: Vec<usize> = (0..10).filter(|at| script.is_frame_boundary(*at)).collect();
        assert_eq!(boundaries, [0, 3, 8]);
    }
}
