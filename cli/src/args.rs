//! The command line.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use corewire::Proxy;

use crate::bench::BenchArgs;
use crate::destination::Destination;
use crate::settings::ServeCommand;
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
    Serve(Box<ServeCommand>),
    /// Connect to a server: lines go out as messages, messages are printed
    #[command(long_about = CONNECT_ABOUT, after_help = CONNECT_EXAMPLES)]
    Connect(Box<ConnectArgs>),
    /// Load an echo server and report rates and latencies
    #[command(long_about = crate::bench::ABOUT, after_help = crate::bench::EXAMPLES)]
    Bench(Box<BenchArgs>),
    /// Echo the cases of a conformance suite for clients
    #[command(long_about = CONFORMANCE_ABOUT)]
    ConformanceClient,
}

const EXAMPLES: &str = "\
Examples:
  corewire                                      serve on 127.0.0.1:9001, page included
  corewire serve --listen 0.0.0.0:80 --pin      serve the network, one pinned thread per core
  corewire connect ws://127.0.0.1:9001/         talk to a server, line by line
  echo hi | corewire connect ws://127.0.0.1:9001/
  corewire bench ws://127.0.0.1:9001/           load a server, report rates and latencies

`corewire serve --help`, `corewire connect --help` and `corewire bench --help` tell about all flags.";

const CONFORMANCE_ABOUT: &str = "Echo the cases of a conformance suite for clients

\
    AUTOBAHN_URL names the fuzzingserver of the Autobahn|Testsuite, AUTOBAHN_AGENT what this client is \
    called in its reports. The suite is asked how many cases it has (/getCaseCount), and each is echoed \
    (/runCase), compressed where the suite agrees.

\
    Exit status: 0 every case was connected, 1 one was not, 2 the suite did not answer.";

const SERVE_ABOUT: &str = "Serve WebSockets: every message goes back

At / (or --path) there is the WebSocket and, for a browser, a page to try it with. /healthz answers \
200 while the server runs and 503 once it is parting. Everything else is 404.

With --topics, /sub/TOPIC gets what is published to a topic (a/+/c and a/%23 match several), \
/pub/TOPIC publishes each message it sends, and /topics takes requests in JSON, each a text message: \
{\"type\":\"subscribe\",\"topic\":\"a/#\",\"id\":1}, unsubscribe likewise, and \
{\"type\":\"publish\",\"topic\":\"a/b\",\"data\":\"text\"}, with \"encoding\":\"base64\" for binary data. Answered are \
{\"type\":\"ack\",\"id\":1,\"topic\":\"a/#\"} to requests with an id, {\"type\":\"error\",\"id\":1,\"code\":..., \
\"reason\":...}, {\"type\":\"message\",\"topic\":\"a/b\",\"data\":\"text\"}, and {\"type\":\"dropped\",\"messages\":7} to \
who was too slow. The codes are not-text, bad-json, bad-request, unknown-type, bad-topic, bad-data, \
too-many-subscriptions, full and congested; docs/topics.md tells all of it.

SIGTERM closes all connections in the course of --drain-window, gives each --drain-grace to answer, \
and exits with 0; meanwhile upgrades are answered 503. SIGINT (Ctrl-C) closes all at once with 1001. A \
second one of either cuts off who is left. SIGHUP has the files of certificates read again.

Each flag is also a key of a file (--config): with a table [[listener]] or [[route]] settings may \
differ from place to place. --print-config prints such a file.";

const SERVE_EXAMPLES: &str = "\
Sizes are bytes, or end in KiB, MiB or GiB; durations end in ms, s, m or h.

Examples:
  corewire serve --listen 127.0.0.1:9001 --listen '[::1]:9001' --threads 2
  corewire serve --max-message 1MiB --max-connections-per-address 100
  corewire serve --origin https://example.com --origin https://www.example.com
  corewire serve --ping-every 10s --dead-after 25s --log debug
  corewire serve --compression shared --path '/rooms/{room}'
  corewire serve --listen unix:/run/corewire.sock --unix-mode 660
  corewire serve --listen 0.0.0.0:443 --tls-cert chain.pem --tls-key key.pem
  corewire serve --topics --topic-policy drop-oldest --topic-backlog 64KiB
  corewire serve --config corewire.toml --print-config";

const CONNECT_ABOUT: &str = "Connect to a server: lines go out as messages, messages are printed

Each line of standard input is a text message. What comes back is printed on standard output, a \
binary message as its size and first bytes; pings, pongs and close codes go to standard error. At \
the end of the input, or at Ctrl-C, the connection is closed with 1000, and everything that the \
server sends before its own Close is still printed.

With --reconnect a connection that is lost is made again, and what is typed waits for it; what was \
under way is lost. A close that the server means (1000, 1008) and an answer such as 401 end it as \
without.

Exit status: 0 closed cleanly, 1 not, 2 never connected.";

const CONNECT_EXAMPLES: &str = "\
Examples:
  corewire connect ws://127.0.0.1:9001/
  echo hi | corewire connect ws://127.0.0.1:9001/
  corewire connect ws://[::1]:9001/chat --subprotocol chat --header 'X-Room: 5'
  corewire connect wss://example.com/feed --bearer TOKEN --compression shared --reconnect
  corewire connect wss://localhost:9001/ --ca ca.pem --proxy socks5://127.0.0.1:1080
  corewire connect ws+unix:/run/corewire.sock:/";

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
    /// Through this proxy: http://host:port or socks5://host:port, with user:password@ if it asks
    #[arg(long, value_name = "URL", value_parser = proxy, help_heading = "Connecting")]
    pub proxy: Option<Proxy>,
    /// Follow so many redirections in a row, none from wss to ws
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Connecting")]
    pub redirects: u8,
    /// How long each step may take: the name, the connection, the proxy, TLS, the answer
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::period)]
    #[arg(help_heading = "Connecting")]
    pub timeout: Duration,
    /// Connect again when the connection is lost or cannot be made, later and later up to a minute,
    /// unless the server does not want that; lines wait meanwhile
    #[arg(long, help_heading = "Connecting")]
    pub reconnect: bool,
}

fn proxy(url: &str) -> Result<Proxy, String> {
    Proxy::parse(url).map_err(|error| error.to_string())
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
