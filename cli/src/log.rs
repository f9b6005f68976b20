//! What the program says about itself, on standard error.

use std::io::{self, IsTerminal};

use tracing::Level;

/// Sends events of `level` and above to standard error, in colour if a person is there.
pub fn start(level: Level) {
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .init();
}
