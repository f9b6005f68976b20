//! The command line.

use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use corewire::{Compression, CompressionMode};
use tracing::Level;

use crate::bench::BenchArgs;
use crate::units;

/// What stands in the way of doing what was asked: one line for a person.
#[derive(Debug)]
pub struct Failure(pub String);

#[derive(Debug, Parser)]
#[command(
    name = "corewire",
    version,
    about = "A WebSocket engine: one single-threaded event loop per core.",
    long_about = "A WebSocket engine: one single-threaded event loop per core.\n\n\
        Without a command it serves: every WebSocket message to ws://127.0.0.1:9001/ goes back, and \
        http://127.0.0.1:9001/ is a page to try it with.",
    after_help = EXAMPLES,
    max_term_width = 100,
    disable_help_subcommand = true,
)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve: every message goes back (the default)
    #[command(long_about = SERVE_ABOUT, after_help = SERVE_EXAMPLES)]
    Serve(Box<ServeArgs>),
    /// Connect to a server: lines go out as messages, messages are printed
    #[command(long_about = CONNECT_ABOUT, after_help = CONNECT_EXAMPLES)]
    Connect(Box<ConnectArgs>),
    /// Load an echo server and report rates and latencies
    #[command(long_about = crate::bench::ABOUT, after_help = crate::bench::EXAMPLES)]
    Bench(Box<BenchArgs>),
}

const EXAMPLES: &str = "\
Examples:
  corewire                                      serve on 127.0.0.1:9001, page included
  corewire serve --listen 0.0.0.0:80 --pin      serve the network, one pinned thread per core
  corewire connect ws://127.0.0.1:9001/         talk to a server, line by line
  echo hi | corewire connect ws://127.0.0.1:9001/
  corewire bench ws://127.0.0.1:9001/           load a server, report rates and latencies

`corewire serve --help`, `corewire connect --help` and `corewire bench --help` tell about all flags.";

const SERVE_ABOUT: &str = "Serve WebSockets: every message goes back

At / there is the WebSocket and, for a browser, a page to try it with. /healthz answers 200 while \
the server runs and 503 once it is parting. Everything else is 404.

SIGINT (Ctrl-C) or SIGTERM closes all connections with 1001, waits for them at most \
--shutdown-timeout and exits with 0. A second one ends at once.";

const SERVE_EXAMPLES: &str = "\
Sizes are bytes, or end in KiB, MiB or GiB; durations end in ms, s, m or h.

Examples:
  corewire serve --listen 127.0.0.1:9001 --listen '[::1]:9001' --threads 2
  corewire serve --max-message 1MiB --max-connections-per-address 100
  corewire serve --origin https://example.com --origin https://www.example.com
  corewire serve --ping-every 10s --dead-after 25s --log debug
  corewire serve --compression shared";

/// The flags of `serve`.
#[derive(Args, Debug)]
pub struct ServeArgs {
    /// Where to listen; may be given several times. With port 0 the system chooses one
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:9001",
        value_parser = addresses,
        help_heading = "Listening"
    )]
    pub listen: Vec<Addresses>,
    /// Threads, each with an event loop of its own [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    #[arg(help_heading = "Listening")]
    pub threads: Option<u16>,
    /// Pin each thread to a core of its own (Linux)
    #[arg(long, help_heading = "Listening")]
    pub pin: bool,
    /// Who may connect from a web page: `same` origin, `any`, or the URL of an origin (repeatable)
    #[arg(long, value_name = "same|any|URL", default_value = "same", help_heading = "Listening")]
    pub origin: Vec<String>,
    /// Connections that may wait to be accepted; the kernel has a bound of its own
    #[arg(long, value_name = "N", default_value_t = 4096, help_heading = "Listening")]
    pub backlog: u32,
    /// Echo a message piece by piece as it arrives, instead of whole
    #[arg(long, help_heading = "Listening")]
    pub echo_streaming: bool,
    /// Compress messages for clients that can: not at all; with one compressor per thread; or with
    /// one per connection, of a window of 2^BITS bytes (9 to 15) and memory level MEM (1 to 9)
    #[arg(long, value_name = "disabled|shared|dedicated[:BITS:MEM]", default_value = "disabled")]
    #[arg(value_parser = compression, hide_possible_values = true, help_heading = "Listening")]
    pub compression: Compression,

    /// The largest message; a larger one fails the connection with 1009
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = units::bytes)]
    #[arg(help_heading = "Limits")]
    pub max_message: u64,
    /// Unsent bytes of a connection at which it fails with 1013
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = units::bytes)]
    #[arg(help_heading = "Limits")]
    pub max_backpressure: u64,
    /// Connections of each thread; more are answered 503
    #[arg(long, value_name = "N", default_value_t = 1_000_000, help_heading = "Limits")]
    pub max_connections: u32,
    /// Connections of each thread from one address; more are answered 503 [default: no limit]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub max_connections_per_address: Option<u32>,

    /// How often each connection is sent a ping
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = units::period)]
    #[arg(help_heading = "Time")]
    pub ping_every: Duration,
    /// After how long without a sign of life a connection is dropped
    #[arg(long, value_name = "TIME", default_value = "90s", value_parser = units::period)]
    #[arg(help_heading = "Time")]
    pub dead_after: Duration,
    /// Send no pings and drop no silent connection
    #[arg(long, conflicts_with_all = ["ping_every", "dead_after"], help_heading = "Time")]
    pub no_heartbeat: bool,
    /// How long a client may take for its request
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::duration)]
    #[arg(help_heading = "Time")]
    pub handshake_timeout: Duration,
    /// How long a closing handshake may take
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = units::duration)]
    #[arg(help_heading = "Time")]
    pub close_timeout: Duration,
    /// How long the server waits for its connections when it is told to end
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::duration)]
    #[arg(help_heading = "Time")]
    pub shutdown_timeout: Duration,

    /// SO_RCVBUF of each connection [default: the kernel tunes it]
    #[arg(long, value_name = "SIZE", value_parser = units::bytes, help_heading = "Sockets")]
    pub rcvbuf: Option<u64>,
    /// SO_SNDBUF of each connection [default: the kernel tunes it]
    #[arg(long, value_name = "SIZE", value_parser = units::bytes, help_heading = "Sockets")]
    pub sndbuf: Option<u64>,
    /// TCP keep-alive probes after so long a silence [default: none, the heartbeat sees more]
    #[arg(long, value_name = "TIME", value_parser = units::duration, help_heading = "Sockets")]
    pub keepalive: Option<Duration>,

    /// error, warn, info, debug or trace: how much is said on standard error
    #[arg(long, value_name = "LEVEL", default_value = "info", help_heading = "Logging")]
    pub log: Level,
    /// Say nothing but errors
    #[arg(long, short, conflicts_with = "log", help_heading = "Logging")]
    pub quiet: bool,
}

const CONNECT_ABOUT: &str = "Connect to a server: lines go out as messages, messages are printed

Each line of standard input is a text message. What comes back is printed on standard output, a \
binary message as its size and first bytes; pings, pongs and close codes go to standard error. At \
the end of the input, or at Ctrl-C, the connection is closed with 1000, and everything that the \
server sends before its own Close is still printed.

Exit status: 0 closed cleanly, 1 not, 2 never connected.";

const CONNECT_EXAMPLES: &str = "\
Examples:
  corewire connect ws://127.0.0.1:9001/
  echo hi | corewire connect ws://127.0.0.1:9001/
  corewire connect ws://[::1]:9001/chat --subprotocol chat --header 'Authorization: Bearer x'";

/// The flags of `connect`.
#[derive(Args, Debug)]
pub struct ConnectArgs {
    #[command(flatten)]
    pub destination: Destination,
    /// Send lines as binary messages, whatever bytes they have
    #[arg(long)]
    pub binary: bool,
    /// Send a ping so often, show the round-trip time, give up after three without any answer
    #[arg(long, value_name = "TIME", value_parser = units::period)]
    pub ping_every: Option<Duration>,
    /// The largest message to accept; a larger one fails the connection with 1009
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = units::bytes)]
    pub max_message: u64,
}

/// Where a client connects, and what it asks for there.
#[derive(Args, Debug)]
pub struct Destination {
    /// Where to: ws://host:port/path
    #[arg(value_name = "URL")]
    pub url: String,
    /// A subprotocol to offer, the preferred one first (repeatable)
    #[arg(long, value_name = "NAME")]
    pub subprotocol: Vec<String>,
    /// A header to add to the request (repeatable)
    #[arg(long, value_name = "NAME: VALUE", value_parser = header)]
    pub header: Vec<(String, String)>,
    /// The Origin to claim, as a browser would
    #[arg(long, value_name = "URL")]
    pub origin: Option<String>,
}

fn compression(text: &str) -> Result<Compression, String> {
    let numbers = |text: &str| {
        let (bits, mem) = text.split_once(':')?;
        Some((bits.parse().ok()?, mem.parse().ok()?))
    };
    let mode = match text.split_once(':') {
        None if text == "disabled" => CompressionMode::Disabled,
        None if text == "shared" => CompressionMode::Shared,
        None if text == "dedicated" => CompressionMode::Dedicated { window_bits: 15, mem_level: 8 },
        Some(("dedicated", text)) => {
            let (window_bits, mem_level) =
                numbers(text).ok_or("dedicated takes two numbers, as in dedicated:12:5")?;
            CompressionMode::Dedicated { window_bits, mem_level }
        }
        _ => return Err("it is disabled, shared or dedicated".into()),
    };
    Compression::new(mode).map_err(|error| error.to_string())
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("a header is NAME: VALUE")?;
    Ok((name.to_owned(), value.trim().to_owned()))
}

/// What `HOST:PORT` leads to: `localhost` may be one address or two.
#[derive(Clone, Debug)]
pub struct Addresses(pub Vec<SocketAddr>);

fn addresses(text: &str) -> Result<Addresses, String> {
    match text.to_socket_addrs().map(Iterator::collect::<Vec<_>>) {
        Ok(addresses) if !addresses.is_empty() => Ok(Addresses(addresses)),
        Ok(_) => Err("the name has no address".into()),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
            Err("an address is HOST:PORT, such as 127.0.0.1:9001 or [::1]:9001".into())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// What was asked for. Help and version are printed here, and so is what is wrong, on one line:
/// then there is only an exit code left.
pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Command, ExitCode> {
    let args: Vec<_> = args.collect();
    let error = match CommandLine::try_parse_from(&args) {
        Ok(CommandLine { command: Some(command) }) => return Ok(command),
        Ok(CommandLine { command: None }) => {
            let serve = CommandLine::try_parse_from(["corewire", "serve"]).map(|line| line.command);
            return Ok(serve.ok().flatten().expect("`serve` needs no flags"));
        }
        Err(error) => error,
    };
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A reader that has gone away does not want the rest.
        let _ = error.print();
        return Err(ExitCode::SUCCESS);
    }
    crate::log::say(format_args!("corewire: {}", one_line(&error.to_string())));
    Err(ExitCode::from(2))
}

/// The complaint without the usage behind it, and the hints in parentheses.
fn one_line(error: &str) -> String {
    let end =
        error.find("\n\nUsage:").or_else(|| error.find("\n\nFor more")).unwrap_or(error.len());
    let text = error[..end].trim_start_matches("error: ").replace("\n\n  tip: ", "; ");
    text.split_whitespace().collect::<Vec<_>>().join(" ") + " (see corewire --help)"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compression_is_a_mode_with_its_numbers() {
        let mode = |text: &str| compression(text).map(|compression| compression.mode());
        let dedicated =
            |window_bits, mem_level| CompressionMode::Dedicated { window_bits, mem_level };
        assert_eq!(mode("disabled"), Ok(CompressionMode::Disabled));
        assert_eq!(mode("shared"), Ok(CompressionMode::Shared));
        assert_eq!(mode("dedicated"), Ok(dedicated(15, 8)));
        assert_eq!(mode("dedicated:9:1"), Ok(dedicated(9, 1)));
        for wrong in [
            "",
            "Shared",
            "shared:15:8",
            "dedicated:",
            "dedicated:12",
            "dedicated:8:8",
            "dedicated:16:8",
            "dedicated:12:0",
            "dedicated:12:10",
            "dedicated:12:5:1",
            "dedicated:-1:5",
        ] {
            assert!(compression(wrong).is_err(), "{wrong:?}");
        }
    }
}
