//! `corewire serve`: the echo server.

mod echo;
mod process;
mod torn;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use corewire::metrics::Counters;
use corewire::{
    Delivery, Heartbeat, LoopLimits, MioNet, Net, Origins, Server, ServerBuilder, ServerError,
};
use tracing::{Level, info, warn};

use crate::args::{Failure, ServeArgs};
use crate::units::display_bytes;
use echo::Echo;
use torn::Torn;

pub use process::raise_descriptor_limit;

/// Cuts every read to so many bytes at most: a switch for tests.
const TEST_READ_BYTES: &str = "COREWIRE_TEST_READ_BYTES";

/// Serves until a signal ends it.
pub fn run(args: &ServeArgs) -> Result<ExitCode, Failure> {
    crate::log::start(if args.quiet { Level::ERROR } else { args.log });
    if let Err(error) = process::raise_descriptor_limit() {
        warn!("the limit of open files stays as it is: {error}");
    }
    let builder = describe(args)?;
    let is_draining = Arc::new(AtomicBool::new(false));
    let signals = process::catch_signals()?;
    let server = match test_read_bytes()? {
        None => build(builder, &is_draining),
        Some(bytes_max) => {
            let torn =
                move |_: &LoopLimits| MioNet::new(bytes_max).map(|net| Torn::new(net, bytes_max));
            build(builder.network(torn), &is_draining)
        }
    }?;
    for address in server.local_addresses() {
        let host = reachable(*address);
        info!("listening on {address}: WebSocket at ws://{host}/, page at http://{host}/");
    }
    info!("threads: {}; largest message: {}", threads(args), display_bytes(args.max_message));
    process::shut_down_on(signals, server.handle(), is_draining, args.shutdown_timeout);
    let started = Instant::now();
    let counters = server.run().map_err(failure)?;
    summarise(&counters, started);
    Ok(ExitCode::SUCCESS)
}

fn build<N: Net + Send + 'static>(
    builder: ServerBuilder<N>,
    is_draining: &Arc<AtomicBool>,
) -> Result<Server, Failure> {
    let is_draining = is_draining.clone();
    builder.build(move |_| Echo::new(is_draining.clone())).map_err(failure)
}

/// The flags as the library's settings.
fn describe(args: &ServeArgs) -> Result<ServerBuilder, Failure> {
    let mut builder = Server::builder();
    for address in args.listen.iter().flat_map(|addresses| &addresses.0) {
        builder = builder.listen(*address);
    }
    if args.pin {
        let cores = process::cores()?;
        builder = builder.on_thread_start(move |shard| process::pin(&cores, shard));
    }
    let builder = builder
        .threads(threads(args))
        .backlog(args.backlog)
        .origins(origins(&args.origin)?)
        .handshake(|handshake| handshake.timeout = args.handshake_timeout)
        .limits(|limits| {
            limits.connections_max = args.max_connections;
            limits.connections_per_address_max = args.max_connections_per_address;
        })
        .socket(|socket| {
            socket.keepalive = args.keepalive;
            socket.receive_buffer_bytes = args.rcvbuf.map(|bytes| bytes as usize);
            socket.send_buffer_bytes = args.sndbuf.map(|bytes| bytes as usize);
        })
        .config(|config| {
            let limits = &mut config.limits;
            limits.message_bytes_max = args.max_message;
            limits.backpressure_bytes_max = args.max_backpressure as usize;
            // Reading has to pause before the bound is met, or an echo to a slow reader would fail
            // where it could wait.
            limits.high_water_bytes =
                limits.high_water_bytes.min(limits.backpressure_bytes_max / 4);
            limits.low_water_bytes = limits.low_water_bytes.min(limits.high_water_bytes / 4);
            config.close_timeout = args.close_timeout;
            config.compression = args.compression.clone();
            let (ping_every, dead_after) = (args.ping_every, args.dead_after);
            config.heartbeat = (!args.no_heartbeat).then_some(Heartbeat { ping_every, dead_after });
            if args.echo_streaming {
                config.delivery = Delivery::Streaming;
            }
        });
    Ok(builder)
}

fn threads(args: &ServeArgs) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    args.threads.map_or_else(cores, usize::from)
}

fn origins(wanted: &[String]) -> Result<Origins, Failure> {
    match wanted {
        [one] if one == "same" => Ok(Origins::SameOrigin),
        [one] if one == "any" => Ok(Origins::Any),
        urls => Origins::allow(urls.iter().map(String::as_str))
            .map_err(|error| Failure(format!("--origin takes same, any or URLs: {error}"))),
    }
}

fn test_read_bytes() -> Result<Option<usize>, Failure> {
    let Some(value) = std::env::var_os(TEST_READ_BYTES) else { return Ok(None) };
    let bytes = value.to_str().and_then(|text| text.parse().ok()).filter(|bytes| *bytes > 0);
    let complaint = || Failure(format!("{TEST_READ_BYTES} is a number of bytes"));
    bytes.map(Some).ok_or_else(complaint)
}

fn failure(error: ServerError) -> Failure {
    Failure(match error {
        ServerError::Listen { endpoint, error }
            if error.kind() == std::io::ErrorKind::AddrInUse =>
        {
            format!("{endpoint} is in use: end who listens there, or choose another --listen")
        }
        error => error.to_string(),
    })
}

/// An address that leads here from here: nobody can connect to 0.0.0.0.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => ([127, 0, 0, 1], v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
            (std::net::Ipv6Addr::LOCALHOST, v6.port()).into()
        }
        address => address,
    }
}

fn summarise(counters: &Counters, started: Instant) {
    info!(
        "ended after {:.1?}: {} connections, {} messages in ({}), {} out ({})",
        started.elapsed(),
        counters.handshakes_completed,
        counters.messages_received,
        display_bytes(counters.bytes_received),
        counters.messages_sent,
        display_bytes(counters.bytes_sent),
    );
    let mut troubles = Vec::new();
    for (count, what) in [
        (counters.handshakes_refused, "handshakes refused"),
        (counters.handshake_timeouts, "handshakes timed out"),
        (counters.protocol_errors, "protocol errors"),
        (counters.heartbeat_timeouts, "peers without a sign of life"),
        (counters.close_timeouts, "closing handshakes timed out"),
        (counters.sends_dropped, "messages dropped"),
        (counters.accept_pauses, "pauses of accepting"),
        (counters.pool_exhausted, "pools exhausted"),
    ] {
        if count > 0 {
            troubles.push(format!("{count} {what}"));
        }
    }
    if !troubles.is_empty() {
        info!("of note: {}", troubles.join(", "));
    }
}
