//! The flags of `bench`, and what they amount to.

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use corewire::opening::{Scheme, UnixSocket, WebSocketUri};
use corewire::{
    CompressionMode, Delivery, DialSettings, Message, Opcode, OverflowPolicy, RemoteAddress,
    UnixEndpoint,
};
use rustix::process::{Resource, getrlimit};

use super::client::{QUEUE_BYTES, WHOLE_BYTES_MAX};
use super::sources::{Range, Sources};
use crate::args::Failure;
use crate::destination::{Destination, PATIENCE};
use crate::units;

pub const ABOUT: &str = "Load an echo server: how many messages a second, and how long each takes

Each connection keeps --in-flight messages under way and sends the next when one comes back: that \
shows the highest rate. With --rate messages are sent at even intervals instead, whatever the \
server does, and latency counts from the instant at which each was due: that shows how long people \
wait at this rate. --connect-only measures opening handshakes.

Everything that comes back is checked: opcode and length of each message, every byte of the first \
on each connection. The report is printed on standard output, progress goes to the terminal. Ctrl-C \
ends the run early and still prints the report.

Exit status: 0 measured, 1 the server refused, closed or echoed something else, 2 wrong flags or \
the server cannot be reached.";

pub const EXAMPLES: &str = "\
Sizes are bytes, or end in KiB, MiB or GiB; durations end in ms, s, m or h.

Examples:
  corewire bench ws://127.0.0.1:9001/
  corewire bench ws://127.0.0.1:9001/ --connections 200 --in-flight 16 --pid $(pgrep -x server)
  corewire bench ws://127.0.0.1:9001/ --rate 20000 --bytes 1KiB --opcode text
  corewire bench wss://127.0.0.1:9001/ --insecure --compression shared --bytes 1KiB
  corewire bench ws://127.0.0.1:9001/ --connect-only --connections 15000 --pid 4711
  corewire bench ws://127.0.0.1:9001/ --connect-only=repeat --duration 5s --json
  corewire bench ws://127.0.0.1:9001/ --connections 100000 --from 127.0.0.0/24 --threads 2";

/// The flags of `bench`.
#[derive(Args, Debug)]
pub struct BenchArgs {
    #[command(flatten)]
    pub destination: Destination,

    /// Connections to open, and to keep open
    #[arg(long, value_name = "N", default_value_t = 50, help_heading = "Load")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub connections: u32,
    /// The payload of each message
    #[arg(long, value_name = "SIZE", default_value = "20", value_parser = units::bytes)]
    #[arg(help_heading = "Load")]
    pub bytes: u64,
    /// What each message is; one character in eight of a text is not ASCII
    #[arg(long, default_value = "binary", help_heading = "Load")]
    pub opcode: DataOpcode,
    /// Messages under way on each connection
    #[arg(long, value_name = "K", default_value_t = 1, conflicts_with = "rate")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = "Load")]
    pub in_flight: u32,
    /// Messages a second over all connections, sent on time whatever comes back; keeps a core awake
    #[arg(long, value_name = "PER_SECOND", help_heading = "Load")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub rate: Option<u64>,
    /// Measure opening handshakes: open all connections and `hold` them, or open each, close it and
    /// `repeat` that for --duration
    #[arg(long, value_name = "hold|repeat", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "hold", help_heading = "Load")]
    #[arg(conflicts_with_all = ["rate", "in_flight", "bytes", "opcode", "warm_up"])]
    pub connect_only: Option<ConnectOnly>,

    /// How long to measure
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::duration)]
    #[arg(help_heading = "Time")]
    pub duration: Duration,
    /// How long to load the server before that
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = units::duration)]
    #[arg(help_heading = "Time")]
    pub warm_up: Duration,

    /// Threads of the generator, each with a loop and a part of the connections of its own
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Generator")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: u16,
    /// Handshakes under way at once while connecting
    #[arg(long, value_name = "N", default_value_t = 100, help_heading = "Generator")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub at_once: u32,
    /// Where to connect from: an address, a range (A-B) or a network (A/24), taken in turn
    /// (repeatable), to ws:// without compression. One address has about 28,000 ports to one server
    #[arg(long, value_name = "ADDRESSES", help_heading = "Generator")]
    pub from: Vec<Range>,

    /// The server's process id: its CPU time and memory go into the report (Linux)
    #[arg(long, value_name = "PID", help_heading = "Report")]
    pub pid: Option<u32>,
    /// Print one JSON object instead of the report
    #[arg(long, help_heading = "Report")]
    pub json: bool,
}

/// The opcode of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DataOpcode {
    Text,
    Binary,
}

/// What to do with connections that carry no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ConnectOnly {
    /// Open them all, then look at them.
    Hold,
    /// Close each once it is open, and open the next.
    Repeat,
}

/// What is to be done.
#[derive(Debug)]
pub struct Plan {
    pub url: String,
    pub dial: Arc<DialSettings>,
    pub way: Way,
    pub sources: Sources,
    pub connections: usize,
    pub threads: usize,
    /// Handshakes at once, of each thread.
    pub at_once: usize,
    pub work: Work,
    pub payload: Arc<Payload>,
    pub warm_up: Duration,
    pub duration: Duration,
}

/// What carries the connections.
#[derive(Debug)]
pub enum Way {
    /// Sockets of our own.
    Sockets(SocketAddr),
    /// The library's loop.
    Loop(RemoteAddress),
}

/// What the connections are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Closed loop.
    InFlight(u32),
    /// Open loop: messages a second over all connections.
    Rate(u64),
    /// Nothing but the handshake.
    ConnectOnly(ConnectOnly),
}

/// What every message carries.
#[derive(Debug)]
pub struct Payload {
    pub bytes: Vec<u8>,
    /// The same, for a text.
    pub text: Option<String>,
}

/// The largest payload: the queue of a connection counts to 4 GiB.
const PAYLOAD_BYTES_MAX: u64 = 1 << 30;

/// Descriptors for everything that is no connection: standard streams, polls, files of /proc.
const OTHER_DESCRIPTORS: u64 = 32;

impl Plan {
    pub fn new(args: &BenchArgs) -> Result<Self, Failure> {
        if args.bytes > PAYLOAD_BYTES_MAX {
            return Err(Failure("--bytes: a message has at most 1GiB".into()));
        }
        let payload = Arc::new(Payload::new(args.opcode, args.bytes as usize));
        let dial = dial(&args.destination, &payload)?;
        let connections = args.connections as usize;
        check_descriptors(u64::from(args.connections))?;
        let threads = usize::from(args.threads).min(connections);
        let way = Way::new(&dial, &args.from)?;
        let work = match (args.connect_only, args.rate) {
            (Some(connect_only), _) => Work::ConnectOnly(connect_only),
            (None, Some(rate)) => Work::Rate(rate),
            (None, None) => Work::InFlight(args.in_flight),
        };
        let at_once = match work {
            Work::ConnectOnly(ConnectOnly::Repeat) => connections,
            Work::ConnectOnly(ConnectOnly::Hold) | Work::InFlight(_) | Work::Rate(_) => {
                args.at_once as usize
            }
        };
        Ok(Self {
            url: args.destination.url.clone(),
            dial,
            way,
            sources: Sources(args.from.clone()),
            connections,
            threads,
            at_once: at_once.div_ceil(threads),
            work,
            payload,
            warm_up: args.warm_up,
            duration: args.duration,
        })
    }

    /// How many connections fall to one of the threads.
    pub fn share(&self, thread: usize) -> usize {
        self.connections / self.threads + usize::from(thread < self.connections % self.threads)
    }
}

/// How connections are dialled, and what they are held to.
fn dial(destination: &Destination, payload: &Payload) -> Result<Arc<DialSettings>, Failure> {
    let built = destination
        .builder(0)?
        .config(|config| {
            config.heartbeat = None;
            // What comes back is checked here; the engine's limits would only say less about it.
            config.limits.message_bytes_max = u64::MAX / 2;
            config.limits.backpressure_bytes_max = QUEUE_BYTES;
            config.on_overflow = OverflowPolicy::Refuse;
            // Both ends would wait for each other if a server that echoes did the same.
            config.limits.high_water_bytes = usize::MAX;
            if payload.bytes.len() > WHOLE_BYTES_MAX {
                config.delivery = Delivery::Streaming;
            }
        })
        .build();
    let settings = built.map_err(|error| destination.refuse(&error))?;
    Ok(settings.dial().clone())
}

impl Way {
    fn new(dial: &DialSettings, from: &[Range]) -> Result<Self, Failure> {
        let uri = dial.request.uri();
        let is_compressed = dial.config.compression.mode() != CompressionMode::Disabled;
        let is_plain = uri.scheme() == Scheme::Ws && uri.unix_socket().is_none() && !is_compressed;
        if !is_plain && !from.is_empty() {
            return Err(Failure("--from: only to ws:// without compression".into()));
        }
        if let Some(socket) = uri.unix_socket() {
            return Ok(Self::Loop(RemoteAddress::Unix(match socket {
                UnixSocket::Path(path) => {
                    UnixEndpoint::Path(PathBuf::from(OsStr::from_bytes(path)))
                }
                UnixSocket::Abstract(name) => UnixEndpoint::Abstract(name.clone().into()),
            })));
        }
        let address = resolve(uri, from)?;
        if from.iter().any(|range| range.is_ipv4() != address.is_ipv4()) {
            let text = format!("--from: {address} can only be reached from addresses of its kind");
            return Err(Failure(text));
        }
        Ok(if is_plain { Self::Sockets(address) } else { Self::Loop(address.into()) })
    }
}

impl Payload {
    fn new(opcode: DataOpcode, bytes: usize) -> Self {
        match opcode {
            // No two bytes near each other are alike, so that a mix-up shows.
            DataOpcode::Binary => {
                let bytes = (0..bytes).map(|at| (at + at / 256) as u8).collect();
                Self { bytes, text: None }
            }
            DataOpcode::Text => {
                let text = mixed_text(bytes);
                Self { bytes: text.clone().into(), text: Some(text) }
            }
        }
    }

    /// What is sent of it.
    pub fn message(&self) -> Message<'_> {
        match &self.text {
            Some(text) => Message::Text(text),
            None => Message::Binary(&self.bytes),
        }
    }

    pub const fn opcode(&self) -> Opcode {
        match self.text {
            Some(_) => Opcode::Text,
            None => Opcode::Binary,
        }
    }
}

/// Text of exactly so many bytes, as chat in most languages is: not only ASCII.
fn mixed_text(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes);
    for letter in "corewir\u{e9}".chars().cycle() {
        if text.len() + letter.len_utf8() > bytes {
            break;
        }
        text.push(letter);
    }
    text.extend(std::iter::repeat_n('.', bytes - text.len()));
    text
}

/// Each connection is a descriptor.
fn check_descriptors(connections: u64) -> Result<(), Failure> {
    // Where it cannot be raised it stays as it is, and is what counts.
    let _ = crate::serve::raise_descriptor_limit();
    let Some(limit) = getrlimit(Resource::Nofile).current else { return Ok(()) };
    let possible = limit.saturating_sub(OTHER_DESCRIPTORS);
    if connections <= possible {
        return Ok(());
    }
    Err(Failure(format!(
        "--connections: {possible} are possible here, as the limit of open files is {limit} (see \
         ulimit -Hn)"
    )))
}

/// The address to connect to. Of several the first that answers is taken: `localhost` may be two,
/// of which a server has one.
fn resolve(uri: &WebSocketUri, from: &[Range]) -> Result<SocketAddr, Failure> {
    let host = format!("{}:{}", uri.host(), uri.port());
    let fail = |error: std::io::Error| Failure(format!("cannot reach {host}: {error}"));
    let addresses = (uri.host(), uri.port()).to_socket_addrs().map_err(fail)?;
    let fits = |address: &SocketAddr| {
        from.first().is_none_or(|range| range.is_ipv4() == address.is_ipv4())
    };
    let (mut fitting, others): (Vec<_>, Vec<_>) = addresses.partition(fits);
    fitting.extend(others);
    if let [address] = fitting[..] {
        return Ok(address);
    }
    let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the host has no address");
    for address in fitting {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(_) => return Ok(address),
            Err(error) => last = error,
        }
    }
    Err(fail(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_has_its_length_and_a_text_is_not_only_ascii() {
        for bytes in 0..40 {
            let text = Payload::new(DataOpcode::Text, bytes);
            assert_eq!((text.bytes.len(), text.opcode()), (bytes, Opcode::Text));
            assert_eq!(text.bytes.is_ascii(), bytes < 9);
            let binary = Payload::new(DataOpcode::Binary, bytes);
            assert_eq!((binary.bytes.len(), binary.opcode()), (bytes, Opcode::Binary));
        }
    }

    #[test]
    fn more_connections_than_descriptors_are_refused_with_what_is_possible() {
        let Failure(text) = check_descriptors(u64::from(u32::MAX)).unwrap_err();
        assert!(text.contains("are possible here"), "{text}");
        assert!(check_descriptors(1).is_ok());
    }
}
