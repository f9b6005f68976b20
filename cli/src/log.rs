//! What the program says about itself, on standard error.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use tracing::Level;

/// Sends events of `level` and above to standard error, in colour if a person is there.
pub fn start(level: Level) {
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        // It would complain where it could not write, and panic.
        .log_internal_errors(false)
        .init();
}

/// Writes a line to standard error. `eprintln!` would panic if nobody is there to read it.
pub fn say(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
