//! A load generator for echo servers: WebSocket, or plain TCP for the floor below it; and a server for
//! clients that load it.
//!
//! The closed loop keeps a fixed number of messages in flight on each connection and never sleeps,
//! so that the server is the bottleneck and its CPU time per message means something. It checks
//! what comes back: every header and length, and the whole payload of each connection's first
//! message; of compressed ones the first answer to each message.

mod answers;
mod clients;
mod compressed;
mod connect;
mod deflate;
mod echo;
mod fair;
mod fan_out;
mod frame;
mod handshakes;
mod idle;
mod json;
mod stream;
mod stuck;

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use corewire_load::machine;

use crate::deflate::Compression;
use crate::frame::DataOpcode;

/// Loads an echo server over WebSocket or plain TCP and prints what a message cost.
#[derive(Parser)]
struct Arguments {
    /// Server, as ADDRESS:PORT; a leading ws:// is allowed.
    #[arg(long, value_parser = parse_address, default_value = "127.0.0.1:9001")]
    url: SocketAddr,
    #[arg(long, value_enum, default_value_t = Protocol::Websocket)]
    protocol: Protocol,
    /// Over TLS to a server of localhost, trusting the certificates in this PEM file.
    #[arg(long, value_name = "CHAIN", conflicts_with_all = ["compression", "fairness", "handshakes"])]
    tls: Option<PathBuf>,
    /// Connections at once.
    #[arg(long, default_value_t = 50)]
    connections: usize,
    /// Messages under way on each connection.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    in_flight: u32,
    /// Payload of a message, before it is compressed.
    #[arg(long, default_value_t = 20)]
    bytes: usize,
    /// Text is mixed: 12 characters in 100 are not ASCII.
    #[arg(long, value_enum, default_value_t = DataOpcode::Binary)]
    opcode: DataOpcode,
    /// Compressed text, JSON of --bytes: with permessage-deflate, without or with context takeover.
    #[arg(long, value_enum, conflicts_with_all = ["fairness", "handshakes", "opcode", "one_message"])]
    compression: Option<Compression>,
    /// Seconds to run before counting.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Seconds to count.
    #[arg(long, default_value_t = 5.0)]
    duration: f64,
    /// Process id of the server, for its CPU time and memory.
    #[arg(long)]
    pid: Option<u32>,
    /// Core to run on.
    #[arg(long)]
    pin: Option<usize>,
    /// Instead of loading: open this many connections and hold them, to see what one of them takes;
    /// with --compression once more when each has echoed 64 messages or more.
    #[arg(long, value_name = "CONNECTIONS", requires = "pid")]
    idle: Option<usize>,
    /// While idle: let each connection echo one message of this size, then look again.
    #[arg(long, value_name = "BYTES", requires = "idle")]
    one_message: Option<usize>,
    /// Instead of loading: so many rounds of ping-pong on quiet connections, calm and beside a flood
    /// by turns, each for --duration seconds.
    #[arg(long, value_name = "ROUNDS", requires = "pid", conflicts_with = "idle")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    fairness: Option<u32>,
    /// While fair: the quiet connections, which play one after the other.
    #[arg(long, value_name = "CONNECTIONS", default_value_t = 1, requires = "fairness")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    quiet: u32,
    /// While fair: messages that the server handles for one connection in one turn.
    #[arg(long, value_name = "MESSAGES", default_value_t = 1024, requires = "fairness")]
    budget: u32,
    /// Instead of loading: so many connections at once connect, upgrade and close, over and over.
    #[arg(long, value_name = "CONNECTIONS", conflicts_with_all = ["idle", "fairness"])]
    handshakes: Option<usize>,
    /// Instead of loading: so many subscribers call /sub, and what one publisher sends to /pub must
    /// reach all of them, --in-flight messages at once.
    #[arg(long, value_name = "SUBSCRIBERS")]
    #[arg(conflicts_with_all = ["idle", "fairness", "handshakes", "tls", "compression"])]
    fan_out: Option<usize>,
    /// While fanning out: call /sub/TOPIC and /pub/TOPIC.
    #[arg(long, requires = "fan_out")]
    topic: Option<String>,
    /// While fanning out: so many others subscribe and never read, --rounds times, and go again.
    #[arg(long, value_name = "SUBSCRIBERS", requires_all = ["fan_out", "pid"])]
    stuck: Option<usize>,
    /// How often those who are stuck come and go.
    #[arg(long, default_value_t = 5, requires = "stuck")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Instead of loading: start this client and answer it, as `PROGRAM --connect ADDRESS --connections
    /// COUNT --in-flight COUNT --bytes COUNT`.
    #[arg(long, value_name = "PROGRAM")]
    #[arg(conflicts_with_all = ["idle", "fairness", "handshakes", "fan_out", "tls", "compression", "pid"])]
    client: Option<PathBuf>,
    /// Core for the client to run on.
    #[arg(long, value_name = "CORE", requires = "client")]
    client_pin: Option<usize>,
    /// Print one JSON object on one line.
    #[arg(long)]
    json: bool,
}

/// What stands on top of TCP.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Protocol {
    /// RFC 6455, as a client.
    Websocket,
    /// Nothing: the same masked frames are sent, and come back as they are.
    Raw,
}

fn parse_address(text: &str) -> Result<SocketAddr, std::net::AddrParseError> {
    text.strip_prefix("ws://").unwrap_or(text).trim_end_matches('/').parse()
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(report) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<String> {
    if let Some(core) = arguments.pin {
        machine::pin_to_core(core)?;
    }
    if arguments.compression.is_some() && arguments.protocol == Protocol::Raw {
        return Err(io::Error::other("only WebSocket has a compression"));
    }
    let descriptors = machine::raise_descriptor_limit()?;
    let fair = arguments.fairness.map(|_| arguments.quiet as usize + 1);
    let instead = arguments.idle.or(arguments.handshakes).or(arguments.fan_out).or(fair);
    let connections = instead.unwrap_or(arguments.connections) + arguments.stuck.unwrap_or(0);
    // Standard streams, epoll and a file of /proc come on top.
    if connections as u64 + 16 > descriptors {
        let text = format!("{connections} connections need more than {descriptors} descriptors");
        return Err(io::Error::other(text));
    }
    let fields = match &arguments.client {
        Some(program) => client_fields(arguments, program)?,
        None => server_fields(arguments)?,
    };
    Ok(if arguments.json { render_json(&fields) } else { render_text(&fields) })
}

fn server_fields(arguments: &Arguments) -> io::Result<Vec<(&'static str, f64)>> {
    Ok(match (arguments.idle, arguments.fairness, arguments.handshakes, arguments.pid) {
        (Some(connections), _, _, Some(pid)) => {
            let activity = match (arguments.compression, arguments.one_message) {
                (Some(compression), _) => {
                    idle::Activity::Compressed { compression, payload_bytes: arguments.bytes }
                }
                (None, Some(payload_bytes)) => idle::Activity::Message { payload_bytes },
                (None, None) => idle::Activity::None,
            };
            let tls = arguments.tls.as_deref().map(stream::trusting).transpose()?;
            idle::run(arguments.url, arguments.protocol, tls.as_ref(), connections, &activity, pid)?
                .fields()
        }
        (None, Some(rounds), _, Some(pid)) => {
            let shape = fair::Shape {
                quiet_connections: arguments.quiet as usize,
                payload_bytes: arguments.bytes,
                budget_messages: arguments.budget,
                rounds,
                duration: seconds(arguments.duration)?,
            };
            fair::run(arguments.url, &shape, pid)?.fields()
        }
        (None, None, Some(at_once), _) => handshake_fields(arguments, at_once)?,
        _ => match arguments.fan_out {
            Some(subscribers) => fan_out_fields(arguments, subscribers)?,
            None => echo_fields(arguments)?,
        },
    })
}

fn client_fields(arguments: &Arguments, program: &Path) -> io::Result<Vec<(&'static str, f64)>> {
    let shape = clients::Shape {
        connections: arguments.connections,
        in_flight: arguments.in_flight as usize,
        payload_bytes: arguments.bytes,
        warm_up: seconds(arguments.warm_up)?,
        duration: seconds(arguments.duration)?,
    };
    Ok(clients::run(program, arguments.client_pin, &shape)?.fields())
}

fn echo_fields(arguments: &Arguments) -> io::Result<Vec<(&'static str, f64)>> {
    let shape = echo::Shape {
        protocol: arguments.protocol,
        connections: arguments.connections,
        in_flight: arguments.in_flight as usize,
        opcode: arguments.opcode,
        payload_bytes: arguments.bytes,
        compression: arguments.compression,
        tls: arguments.tls.as_deref().map(stream::trusting).transpose()?,
        warm_up: seconds(arguments.warm_up)?,
        duration: seconds(arguments.duration)?,
    };
    Ok(echo::run(arguments.url, &shape, arguments.pid)?.fields())
}

fn fan_out_fields(
    arguments: &Arguments,
    subscribers: usize,
) -> io::Result<Vec<(&'static str, f64)>> {
    let shape = fan_out::Shape {
        protocol: arguments.protocol,
        topic: arguments.topic.as_ref().map_or(String::new(), |topic| format!("/{topic}")),
        subscribers,
        at_once: arguments.in_flight as usize,
        payload_bytes: arguments.bytes,
        warm_up: seconds(arguments.warm_up)?,
        duration: seconds(arguments.duration)?,
    };
    if let (Some(connections), Some(pid)) = (arguments.stuck, arguments.pid) {
        let stuck = stuck::Stuck { connections, rounds: arguments.rounds };
        return Ok(stuck::run(arguments.url, &shape, &stuck, pid)?.fields());
    }
    Ok(fan_out::run(arguments.url, &shape, arguments.pid)?.fields())
}

fn handshake_fields(arguments: &Arguments, at_once: usize) -> io::Result<Vec<(&'static str, f64)>> {
    let shape = handshakes::Shape {
        protocol: arguments.protocol,
        at_once,
        warm_up: seconds(arguments.warm_up)?,
        duration: seconds(arguments.duration)?,
    };
    Ok(handshakes::run(arguments.url, &shape, arguments.pid)?.fields())
}

fn seconds(seconds: f64) -> io::Result<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(io::Error::other)
}

fn render_text(fields: &[(&'static str, f64)]) -> String {
    fields.iter().fold(String::new(), |mut text, (name, value)| {
        writeln!(text, "{:<34}{value:>16}", name.replace('_', " ")).expect("a String takes all");
        text
    })
}

fn render_json(fields: &[(&'static str, f64)]) -> String {
    let pairs: Vec<String> =
        fields.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
    format!("{{{}}}\n", pairs.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_an_address_with_or_without_its_scheme() {
        for text in ["127.0.0.1:9001", "ws://127.0.0.1:9001", "ws://127.0.0.1:9001/"] {
            assert_eq!(parse_address(text).expect(text).port(), 9001);
        }
        assert!(parse_address("http://127.0.0.1:9001").is_err());
    }

    #[test]
    fn both_renderings_name_every_field() {
        let fields = [("messages_per_second", 2_000_000.0), ("server_cpu_ns_per_message", 331.5)];
        assert_eq!(
            render_json(&fields),
            "{\"messages_per_second\": 2000000, \"server_cpu_ns_per_message\": 331.5}\n"
        );
        assert!(render_text(&fields).contains("messages per second"));
    }
}
