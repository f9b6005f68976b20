//! The corewire program: a WebSocket echo server with a page to talk to it, a client, and a load
//! generator.
#![deny(clippy::unwrap_used)]

mod args;
mod bench;
mod conformance;
mod connect;
mod destination;
mod log;
mod serve;
mod settings;
mod units;

use std::process::ExitCode;

use args::{Command, Failure};

fn main() -> ExitCode {
    let command = match args::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(code) => return code,
    };
    let result = match command {
        Command::Serve(args) => serve::run(&args),
        Command::Connect(args) => connect::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::ConformanceClient => conformance::run(),
    };
    match result {
        Ok(code) => code,
        Err(Failure(message)) => {
            log::say(format_args!("corewire: {message}"));
            ExitCode::from(2)
        }
    }
}

/// Unpredictable bytes, for nonces and masking keys (RFC 6455 §10.3).
fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    match getrandom::fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) => Err(Failure(format!("cannot get random bytes: {error}"))),
    }
}
