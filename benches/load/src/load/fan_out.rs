//! Fan-out: what one publisher sends must reach all subscribers, and what a copy of it costs the
//! server.
//!
//! Subscribers call `/sub`, the publisher calls `/pub`. So many messages leave in one write; once each
//! subscriber has each of them, as many follow.

use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use corewire_load::machine;
use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::time::Timespec;

use crate::Protocol;
use crate::answers::{Answers, Expected, Uniform};
use crate::connect;
use crate::frame::{self, DataOpcode};
use crate::stream::Stream;

/// What is published, to how many, and for how long.
pub struct Shape {
    /// What stands on top of TCP. A raw server passes on what the publisher sends, as it comes.
    pub protocol: Protocol,
    /// What is called behind `/sub` and `/pub`, with its slash; perhaps nothing.
    pub topic: String,
    /// Connections that everything must reach.
    pub subscribers: usize,
    /// Messages that leave in one write; at least 1.
    pub at_once: usize,
    /// Payload of every message.
    pub payload_bytes: usize,
    /// Time before counting begins.
    pub warm_up: Duration,
    /// Time that is counted.
    pub duration: Duration,
}

/// What was counted.
pub struct Outcome {
    /// Messages times subscribers.
    deliveries: u64,
    elapsed: Duration,
    /// Nanoseconds of the server, when its process id was given.
    server_cpu: Option<u64>,
    /// Nanoseconds of this process.
    own_cpu: u64,
    /// Nanoseconds from the write that carried messages to the read that brought the last copy.
    round_trips: Histogram<u64>,
}

impl Outcome {
    /// Names and values, in the order to print them.
    pub fn fields(&self) -> Vec<(&'static str, f64)> {
        let deliveries = self.deliveries as f64;
        let tenths = |value: f64| (value * 10.0).round() / 10.0;
        let microseconds =
            |quantile| tenths(self.round_trips.value_at_quantile(quantile) as f64 / 1000.0);
        let mut fields = vec![
            ("deliveries", deliveries),
            ("deliveries_per_second", (deliveries / self.elapsed.as_secs_f64()).round()),
        ];
        if let Some(nanoseconds) = self.server_cpu {
            let share = nanoseconds as f64 / self.elapsed.as_nanos() as f64;
            fields.push(("server_cpu_ns_per_delivery", tenths(nanoseconds as f64 / deliveries)));
            fields.push(("server_cpu_percent", tenths(share * 100.0)));
        }
        fields.push(("own_cpu_ns_per_delivery", tenths(self.own_cpu as f64 / deliveries)));
        fields.push(("round_trip_p50_us", microseconds(0.5)));
        fields.push(("round_trip_p99_us", microseconds(0.99)));
        fields.push(("round_trip_p999_us", microseconds(0.999)));
        fields
    }
}

/// One subscriber, or the publisher.
struct Connection {
    stream: Stream,
    answers: Uniform,
    /// Copies that it still has to get of what was published; the publisher gets none.
    owed: usize,
}

impl Connection {
    /// Reads until the socket is drained, and tells how many copies that brought.
    fn receive(&mut self, expected: &Expected, buffer: &mut [u8]) -> io::Result<usize> {
        let mut copies = 0;
        loop {
            let received = match self.stream.read(buffer) {
                Ok(0) => return Err(io::Error::other("the server closed a connection")),
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(copies),
                Err(error) => return Err(error),
            };
            let arrived = self
                .answers
                .handle_input(expected, &buffer[..received])
                .map_err(|mismatch| io::Error::other(mismatch.to_string()))?;
            for ping in &arrived.pings {
                self.stream.write_all_spinning(&frame::masked_pong(ping))?;
            }
            let owed = self.owed.checked_sub(arrived.answers);
            self.owed = owed.ok_or_else(|| io::Error::other("more copies than messages"))?;
            copies += arrived.answers;
            if received < buffer.len() {
                return Ok(copies);
            }
        }
    }
}

/// Where subscribers and the publisher knock.
pub const SUBSCRIBERS: &str = "/sub";
const PUBLISHER: &str = "/pub";

/// Without any copy for so long, the run is given up.
const STALL: Duration = Duration::from_secs(10);

/// Different messages that are published by turns.
const VARIETY: usize = 64;

const BUFFER_BYTES: usize = 256 * 1024;

/// What leaves in one write.
struct Lot {
    /// Masked frames in one piece.
    frames: Vec<u8>,
    messages: usize,
}

/// Everybody who is connected, and what is said.
pub struct Crowd {
    epoll: rustix::fd::OwnedFd,
    events: Vec<epoll::Event>,
    buffer: Vec<u8>,
    /// The publisher is the last.
    connections: Vec<Connection>,
    /// As many messages as leave at once.
    lots: Rc<[Lot]>,
    expected: Expected,
    round_trips: Histogram<u64>,
}

/// Connects, publishes, counts.
///
/// # Errors
/// What the sockets say, a copy that is not what was published, or ten seconds without any.
pub fn run(server: SocketAddr, shape: &Shape, pid: Option<u32>) -> io::Result<Outcome> {
    let mut crowd = Crowd::open(server, shape)?;
    crowd.run_for(shape.warm_up)?;
    crowd.round_trips.reset();
    let server_cpu = || pid.map(machine::cpu_nanoseconds).transpose();
    let own_cpu = || machine::cpu_nanoseconds(std::process::id());
    let (server_before, own_before, begin) = (server_cpu()?, own_cpu()?, Instant::now());
    let deliveries = crowd.run_for(shape.duration)?;
    let elapsed = begin.elapsed();
    Ok(Outcome {
        deliveries,
        elapsed,
        server_cpu: server_cpu()?.zip(server_before).map(|(after, before)| after - before),
        own_cpu: own_cpu()? - own_before,
        round_trips: crowd.round_trips,
    })
}

impl Lot {
    fn new(messages: &[Vec<u8>]) -> Lot {
        Lot { frames: messages.concat(), messages: messages.len() }
    }
}

/// Connections that call one of both.
///
/// # Errors
/// What the sockets say.
pub fn open(server: SocketAddr, who: &str, shape: &Shape, count: usize) -> io::Result<Vec<Stream>> {
    connect::open_at(server, &format!("{who}{}", shape.topic), shape.protocol, count)
}

impl Crowd {
    /// Connects everybody.
    ///
    /// # Errors
    /// What the sockets say.
    pub fn open(server: SocketAddr, shape: &Shape) -> io::Result<Crowd> {
        let at_once = shape.at_once.max(1);
        let payload = |seed| DataOpcode::Binary.payload(shape.payload_bytes, seed as u64);
        let messages: Vec<Vec<u8>> = (0..VARIETY.next_multiple_of(at_once))
            .map(|seed| frame::masked_message(DataOpcode::Binary, &payload(seed)))
            .collect();
        let expected =
            Expected::echo(shape.protocol, DataOpcode::Binary, &payload(0), &messages[0]);
        let mut streams = open(server, SUBSCRIBERS, shape, shape.subscribers.max(1))?;
        streams.extend(open(server, PUBLISHER, shape, 1)?);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut connections = Vec::with_capacity(streams.len());
        for stream in streams {
            let interest = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
            epoll::add(&epoll, &stream, EventData::new_u64(connections.len() as u64), interest)?;
            connections.push(Connection { stream, answers: Uniform::new(), owed: 0 });
        }
        Ok(Crowd {
            epoll,
            events: Vec::with_capacity(1024),
            buffer: vec![0; BUFFER_BYTES],
            connections,
            lots: messages.chunks(at_once).map(Lot::new).collect(),
            expected,
            round_trips: Histogram::new_with_max(STALL.as_nanos() as u64, 3)
                .map_err(|error| io::Error::other(error.to_string()))?,
        })
    }

    /// Publishes for `duration`, at least once, and returns how many copies have arrived.
    ///
    /// # Errors
    /// As [`run`].
    pub fn run_for(&mut self, duration: Duration) -> io::Result<u64> {
        let mut deliveries = 0;
        let end = Instant::now() + duration;
        for lot in self.lots.clone().iter().cycle() {
            deliveries += self.publish(lot)?;
            if Instant::now() >= end {
                break;
            }
        }
        Ok(deliveries)
    }

    /// Publishes so many bytes of messages, a lot of 64 at a time.
    ///
    /// # Errors
    /// As [`run`].
    pub fn pour(&mut self, bytes: usize) -> io::Result<()> {
        let lots = &self.lots[..VARIETY.min(self.lots.len())];
        let frames: Vec<Vec<u8>> = lots.iter().map(|lot| lot.frames.clone()).collect();
        let messages = lots.iter().map(|lot| lot.messages).sum();
        let all = Lot { frames: frames.concat(), messages };
        for _ in 0..bytes.div_ceil(all.frames.len()) {
            self.publish(&all)?;
        }
        Ok(())
    }

    /// Publishes one lot and spins until all have all of it.
    fn publish(&mut self, lot: &Lot) -> io::Result<u64> {
        let (publisher, subscribers) =
            self.connections.split_last_mut().expect("the publisher is always there");
        let copies = subscribers.len() * lot.messages;
        for subscriber in subscribers {
            subscriber.owed = lot.messages;
        }
        let sent_at = Instant::now();
        publisher.stream.write_all_spinning(&lot.frames)?;
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut missing = copies;
        while missing > 0 {
            match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&at_once)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in self.events.drain(..) {
                let connection = &mut self.connections[event.data.u64() as usize];
                missing -= connection.receive(&self.expected, &mut self.buffer)?;
            }
            if sent_at.elapsed() > STALL {
                let text = format!("of {copies} copies {missing} did not come");
                return Err(io::Error::other(text));
            }
        }
        self.round_trips.saturating_record(sent_at.elapsed().as_nanos() as u64);
        Ok(copies as u64)
    }
}
