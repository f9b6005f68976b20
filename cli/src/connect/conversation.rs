//! One connection, standard input and Ctrl-C in one poll.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use corewire::{
    CloseCode, CloseSummary, Config, Connection, Event, Heartbeat, LoopLimits, NoSink, Pools, Role,
};
use rustix::event::{PollFd, PollFlags, Timespec};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::handshake::Shaken;
use super::lines::Lines;
use super::screen::Screen;
use crate::args::{ConnectArgs, Failure};

/// Unsent bytes above which no further line is read.
const QUEUE_BYTES_MAX: usize = 256 * 1024;

/// So much is read from the socket at once.
const READ_BYTES: usize = 64 * 1024;

/// A ping is unanswered for so many intervals before the server counts as dead.
const PINGS_LOST_MAX: u32 = 3;

/// A connection and who talks over it.
pub struct Conversation {
    stream: TcpStream,
    connection: Connection,
    pools: Pools,
    lines: Lines,
    interrupts: UnixStream,
    outgoing: Outgoing,
    /// Frames that came with the handshake's answer.
    behind: Vec<u8>,
    line_bytes_max: usize,
    unsendable_lines: u64,
    server_code: Option<CloseCode>,
}

/// How a conversation ended.
pub struct Outcome {
    pub summary: CloseSummary,
    /// What the server's Close said, if one came and had a code.
    pub server_code: Option<CloseCode>,
    /// Lines that could not become messages.
    pub unsendable_lines: u64,
}

/// What a line becomes.
#[derive(Clone, Copy)]
enum Outgoing {
    Text,
    Binary,
}

/// From here on Ctrl-C can be read as a byte; a second one ends the process.
pub fn catch_interrupts() -> Result<UnixStream, Failure> {
    let fail = |error: io::Error| Failure(format!("cannot catch signals: {error}"));
    let (reader, writer) = UnixStream::pair().map_err(fail)?;
    let is_second = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        let writer = writer.try_clone().map_err(fail)?;
        // In this order: the first signal arms what the second one meets.
        let ends = signal_hook::flag::register_conditional_shutdown(signal, 1, is_second.clone());
        let arms = ends.and_then(|_| signal_hook::flag::register(signal, is_second.clone()));
        arms.and_then(|_| signal_hook::low_level::pipe::register(signal, writer)).map_err(fail)?;
    }
    Ok(reader)
}

impl Conversation {
    pub fn new(
        args: &ConnectArgs,
        shaken: Shaken,
        interrupts: UnixStream,
    ) -> Result<Self, Failure> {
        let mut config = Config::new(Role::Client);
        config.limits.message_bytes_max = args.max_message;
        config.heartbeat = args.ping_every.map(|ping_every| {
            let dead_after = ping_every.saturating_mul(PINGS_LOST_MAX);
            Heartbeat { ping_every, dead_after }
        });
        let now = Instant::now();
        let pools = Pools::new(&LoopLimits::default(), now, crate::random()?);
        shaken
            .stream
            .set_nonblocking(true)
            .map_err(|error| Failure(format!("{}: {error}", args.destination.url)))?;
        Ok(Self {
            connection: Connection::new(config, now, &pools),
            stream: shaken.stream,
            pools,
            lines: Lines::new(),
            interrupts,
            outgoing: if args.binary { Outgoing::Binary } else { Outgoing::Text },
            behind: shaken.behind,
            line_bytes_max: usize::try_from(args.max_message).unwrap_or(usize::MAX),
            unsendable_lines: 0,
            server_code: None,
        })
    }

    /// Talks until the connection is closed.
    pub fn run(mut self, screen: &mut Screen) -> Result<Outcome, Failure> {
        let mut buffer = vec![0; READ_BYTES];
        let mut behind = std::mem::take(&mut self.behind);
        self.handle_input(&mut behind, screen);
        loop {
            self.send_lines(screen);
            screen.flush();
            if screen.is_gone() {
                self.close(CloseCode::NORMAL);
            }
            self.write();
            if self.connection.is_closed() {
                let summary = self.connection.finish(&mut self.pools);
                let Self { server_code, unsendable_lines, .. } = self;
                return Ok(Outcome { summary, server_code, unsendable_lines });
            }
            let ready = self.wait().map_err(|error| Failure(format!("poll: {error}")))?;
            if ready.interrupted {
                self.close(CloseCode::NORMAL);
            }
            if ready.lines {
                self.lines.read(io::stdin().as_fd());
            }
            if ready.stream {
                self.read(&mut buffer, screen);
            }
            let now = Instant::now();
            if self.connection.poll_timeout(&self.pools).is_some_and(|deadline| deadline <= now) {
                self.connection.handle_timeout(now, &mut self.pools);
            }
        }
    }

    /// Sends the lines that are there, as long as the server keeps up; behind the last one, Close.
    fn send_lines(&mut self, screen: &mut Screen) {
        while self.connection.is_open() && self.connection.queued_bytes() < QUEUE_BYTES_MAX {
            let Some(line) = self.lines.next() else {
                let is_too_long = self.lines.waiting_bytes() > self.line_bytes_max;
                if is_too_long {
                    self.unsendable_lines += 1;
                    screen.note("not sent: the line is longer than --max-message");
                }
                if is_too_long || self.lines.has_ended() {
                    self.close(CloseCode::NORMAL);
                }
                return;
            };
            let mut sink = NoSink;
            let mut transmit = self.connection.transmit(Instant::now(), &mut self.pools, &mut sink);
            let outcome = match (self.outgoing, std::str::from_utf8(line)) {
                (Outgoing::Binary, _) => transmit.send_binary(line),
                (Outgoing::Text, Ok(text)) => transmit.send_text(text),
                (Outgoing::Text, Err(_)) => {
                    self.unsendable_lines += 1;
                    screen.note("not sent: the line is not UTF-8; --binary sends any bytes");
                    continue;
                }
            };
            if !outcome.is_taken() {
                self.unsendable_lines += 1;
                screen.note(&format!("not sent: {outcome:?}"));
            }
        }
    }

    fn close(&mut self, code: CloseCode) {
        let mut sink = NoSink;
        let mut transmit = self.connection.transmit(Instant::now(), &mut self.pools, &mut sink);
        transmit.close(code, "").expect("a code that may be sent, and no reason");
    }

    /// Writes what is queued, as far as the socket takes it.
    fn write(&mut self) {
        while self.connection.queued_bytes() > 0 && !self.connection.is_closed() {
            let mut slices = [IoSlice::new(&[]); 16];
            let count = self.connection.poll_transmit(&self.pools, &mut slices);
            match self.stream.write_vectored(&slices[..count]) {
                Ok(bytes) => {
                    self.connection.handle_transmitted(bytes, Instant::now(), &mut self.pools);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.connection.handle_transport_error(error.kind()),
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8], screen: &mut Screen) {
        match self.stream.read(buffer) {
            Ok(0) => self.connection.handle_end_of_stream(Instant::now(), &self.pools),
            Ok(bytes) => self.handle_input(&mut buffer[..bytes], screen),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => self.connection.handle_transport_error(error.kind()),
        }
    }

    fn handle_input(&mut self, input: &mut [u8], screen: &mut Screen) {
        let mut events = self.connection.handle_input(input, Instant::now(), &mut self.pools);
        while let Some((event, _)) = events.next() {
            match event {
                Event::Text(text) => screen.text(text),
                Event::Binary(payload) => screen.binary(payload),
                Event::Ping(payload) => screen.ping(payload),
                Event::Pong { payload, round_trip } => screen.pong(payload, round_trip),
                Event::Close(close) => self.server_code = close.map(|close| close.code),
                // The summary at the end tells about the rest.
                _ => {}
            }
        }
    }

    /// Waits until something can be done.
    fn wait(&self) -> io::Result<Ready> {
        let deadline = self.connection.poll_timeout(&self.pools);
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // A poll counts whole milliseconds or less; rounding up never wakes too early.
        let timeout = left.map(|left| timespec(left + Duration::from_millis(1)));
        let queued_bytes = self.connection.queued_bytes();
        let stdin = io::stdin();
        let mut socket_events = PollFlags::IN;
        if queued_bytes > 0 {
            socket_events |= PollFlags::OUT;
        }
        let wants_lines =
            self.connection.is_open() && !self.lines.has_ended() && queued_bytes < QUEUE_BYTES_MAX;
        let mut polled = [
            PollFd::new(&self.stream, socket_events),
            PollFd::new(&self.interrupts, PollFlags::IN),
            PollFd::new(&stdin, PollFlags::IN),
        ];
        let count = if wants_lines { 3 } else { 2 };
        match rustix::event::poll(&mut polled[..count], timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let reading = PollFlags::IN | PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
        let is_ready = |at: usize| polled[at].revents().intersects(reading);
        Ok(Ready { stream: is_ready(0), interrupted: is_ready(1), lines: is_ready(2) })
    }
}

/// What a poll found.
struct Ready {
    stream: bool,
    interrupted: bool,
    lines: bool,
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: i64::from(duration.subsec_nanos()) }
}
