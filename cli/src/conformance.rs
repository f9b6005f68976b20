//! `corewire conformance-client`: what a test suite for clients talks to.

use std::process::ExitCode;
use std::time::Duration;

use corewire::{
    Client, ClientHandler, ClientId, ClientLayer, ClientSettings, Clients, Compression,
    CompressionMode, Context, DialError, Loop, Message, Owner, Reconnect, StopReason, Undecodable,
};

use crate::args::Failure;
use crate::log;

/// The largest message of the suite has 16 MiB.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Echoes one case after the other.
struct Conformance {
    url: String,
    /// What this client is called in the suite's reports.
    name: String,
    /// Cases in all, once the suite has said so.
    count: Option<u32>,
    /// The case under way; 0 while the suite is asked how many there are.
    case: u32,
    failures: u32,
}

/// Runs all cases of the suite that the environment names.
pub fn run() -> Result<ExitCode, Failure> {
    let url = variable("AUTOBAHN_URL")?;
    let name = variable("AUTOBAHN_AGENT")?;
    let conformance = Conformance { url, name, count: None, case: 0, failures: 0 };
    let first = conformance.settings("/getCaseCount")?;
    let mut layer = ClientLayer::new(conformance);
    layer.clients().add(first);
    let mut reactor = layer.reactor().map_err(|error| Failure(error.to_string()))?;
    reactor.run().map_err(|error| Failure(error.to_string()))?;
    let Conformance { count, failures, .. } = reactor.handler().handler();
    let Some(count) = count else {
        return Err(Failure("the suite did not say how many cases there are".into()));
    };
    log::say(format_args!("{count} cases, {failures} of them could not be connected"));
    Ok(if *failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn variable(name: &str) -> Result<String, Failure> {
    std::env::var(name).map_err(|_| Failure(format!("the environment has no {name}")))
}

impl Conformance {
    fn settings(&self, target: &str) -> Result<ClientSettings, Failure> {
        let mode = CompressionMode::Dedicated { window_bits: 15, mem_level: 8 };
        let compression = Compression::new(mode);
        let compression = compression.map_err(|error| Failure(error.to_string()))?;
        let built = Client::builder(&format!("{}{target}", self.url))
            .compression(compression)
            .config(|config| {
                config.limits.message_bytes_max = MESSAGE_BYTES_MAX as u64;
                config.limits.backpressure_bytes_max = MESSAGE_BYTES_MAX;
            })
            .reconnect(|it| *it = Reconnect::never())
            .build();
        built.map_err(|error| Failure(error.to_string()))
    }

    /// Goes on to the next case, or ends.
    fn go_on(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients) {
        let count = self.count.unwrap_or(0);
        self.case += 1;
        let target = format!("/runCase?case={}&agent={}", self.case, self.name);
        match self.settings(&target) {
            Ok(settings) if self.case <= count => {
                clients.add(settings);
            }
            _ => {
                // Nobody is left to be waited for.
                let _ = at.handle().shutdown(Duration::ZERO);
            }
        }
    }
}

impl ClientHandler for Conformance {
    type Data = ();

    fn on_message(
        &mut self,
        ctx: &mut Context<'_, ()>,
        _: &mut Clients,
        message: Message<'_>,
    ) -> Result<(), Undecodable> {
        match (self.count, message) {
            (None, Message::Text(text)) => self.count = Some(text.parse()?),
            _ => {
                let _ = ctx.send(message);
            }
        }
        Ok(())
    }

    fn on_dial_failed(
        &mut self,
        _: &mut Loop<'_, ()>,
        _: &mut Clients,
        _: Owner,
        error: DialError,
    ) {
        self.failures += 1;
        log::say(format_args!("case {}: {error}", self.case));
    }

    fn on_stop(
        &mut self,
        at: &mut Loop<'_, ()>,
        clients: &mut Clients,
        client: ClientId,
        _: StopReason,
    ) {
        clients.remove(client);
        self.go_on(at, clients);
    }
}
