//! `corewire serve`: the server of echoes and topics.

mod app;
mod describe;
mod echo;
mod places;
mod process;
mod requests;
mod topics;
mod torn;

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use corewire::metrics::Counters;
use corewire::{LoopLimits, MioNet, Net, Server, ServerBuilder, ServerError};
use tracing::{Level, info, warn};

use crate::args::Failure;
use crate::settings::{self, ServeCommand, Settings};
use crate::units::display_bytes;
use app::App;
use topics::Keys;
use torn::Torn;

pub use process::raise_descriptor_limit;

/// Cuts every read to so many bytes at most: a switch for tests.
const TEST_READ_BYTES: &str = "COREWIRE_TEST_READ_BYTES";

/// Serves until a signal ends it.
pub fn run(command: &ServeCommand) -> Result<ExitCode, Failure> {
    let settings = match settings::load(command) {
        Ok(settings) => settings,
        Err(mistakes) => {
            mistakes.iter().for_each(crate::log::say);
            return Ok(ExitCode::from(2));
        }
    };
    if command.print_config {
        // A reader that has gone away does not want the rest.
        let _ = std::io::stdout().write_all(settings.document.as_bytes());
        return Ok(ExitCode::SUCCESS);
    }
    serve(&settings)
}

fn serve(settings: &Settings) -> Result<ExitCode, Failure> {
    let args = &settings.general;
    // With --quiet there is none.
    crate::log::start(args.log.unwrap_or(Level::ERROR));
    if let Err(error) = process::raise_descriptor_limit() {
        warn!("the limit of open files stays as it is: {error}");
    }
    let places = places::places(settings)?;
    let builder = describe::server(args, &places)?;
    let app = App {
        listeners: places.iter().map(|place| place.listener.clone()).collect(),
        keys: Keys::new(),
    };
    let signals = process::catch_signals(&settings.secured)?;
    let server = match test_read_bytes()? {
        None => build(builder, app),
        Some(bytes_max) => {
            let torn =
                move |_: &LoopLimits| MioNet::new(bytes_max).map(|net| Torn::new(net, bytes_max));
            build(builder.network(torn), app)
        }
    }?;
    for (place, endpoint) in places.iter().zip(server.local_endpoints()) {
        info!("{}", place.tell(endpoint));
    }
    let max_message = display_bytes(args.listener.route.max_message);
    let threads = describe::threads(args);
    match describe::budget_bytes(args).map(display_bytes) {
        Some(budget) => {
            info!("threads: {threads}; largest message: {max_message}; memory: at most {budget}");
        }
        None => info!("threads: {threads}; largest message: {max_message}; memory: not watched"),
    }
    for fingerprint in settings.secured.iter().filter_map(|it| it.fingerprint.as_ref()) {
        warn!("the certificate is our own, browsers will warn of it; SHA-256 {fingerprint}");
    }
    process::attend(signals, server.handle(), args.drain(), settings.secured.clone());
    let started = Instant::now();
    let counters = server.run().map_err(failure)?;
    summarise(&counters, started);
    Ok(ExitCode::SUCCESS)
}

fn build<N: Net + Send + 'static>(builder: ServerBuilder<N>, app: App) -> Result<Server, Failure> {
    builder.build(move |_| app.clone()).map_err(failure)
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
    info!(
        "of those at the end: {} have answered, {} left by themselves, {} failed, {} were cut off; \
         {} messages ({}) unsent",
        counters.drain_closed,
        counters.drain_left,
        counters.drain_failed,
        counters.drain_cut_off,
        counters.drain_unsent_messages,
        display_bytes(counters.drain_unsent_bytes),
    );
    let mut troubles = Vec::new();
    for (count, what) in [
        (counters.handshakes_refused, "handshakes refused"),
        (counters.handshake_timeouts, "handshakes timed out"),
        (counters.lifetimes_ended, "connections at the end of their lifetime"),
        (counters.protocol_errors, "protocol errors"),
        (counters.heartbeat_timeouts, "peers without a sign of life"),
        (counters.close_timeouts, "closing handshakes timed out"),
        (counters.sends_dropped, "messages dropped"),
        (counters.published_skipped, "messages of topics skipped for slow clients"),
        (counters.published_displaced, "messages of topics displaced by newer ones"),
        (counters.published_conflated, "messages of topics conflated"),
        (counters.pressure_changes, "changes of the memory pressure"),
        (counters.refused_under_pressure, "handshakes refused for want of memory"),
        (counters.pressure_held, "connections not read for a while for want of memory"),
        (counters.pressure_closed_idle, "idle connections closed for want of memory"),
        (counters.pressure_closed_heavy, "heavy connections closed for want of memory"),
        (counters.accept_pauses, "pauses of accepting"),
        (counters.pool_exhausted, "pools exhausted"),
    ] {
        if count > 0 {
            troubles.push(format!("{count} {what}"));
        }
    }
    if counters.pressure_released_bytes > 0 {
        let released = display_bytes(counters.pressure_released_bytes);
        troubles.push(format!("{released} given back for want of memory"));
    }
    if !troubles.is_empty() {
        info!("of note: {}", troubles.join(", "));
    }
}
