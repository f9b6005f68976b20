//! The corewire program: a WebSocket echo server with a page to talk to it.

mod args;
mod log;
mod serve;
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
    };
    match result {
        Ok(code) => code,
        Err(Failure(message)) => {
            eprintln!("corewire: {message}");
            ExitCode::from(2)
        }
    }
}
