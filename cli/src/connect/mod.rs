//! `corewire connect`: a WebSocket client for people and pipes.
//!
//! ```text
//!   standard input ──► lines ──► conversation: a client on a loop ──► screen
//!   Ctrl-C ─────────────────────────▲
//! ```

mod conversation;
mod input;
mod lines;
mod screen;

use std::io;
use std::process::ExitCode;
use std::sync::mpsc::channel;

use corewire::ClientLayer;

use crate::args::{ConnectArgs, Failure};
use conversation::{Conversation, Notice};

/// Talks to a server until one side closes.
pub fn run(args: &ConnectArgs) -> Result<ExitCode, Failure> {
    let fail = |error: io::Error| Failure(format!("{}: {error}", args.destination.url));
    let interrupts = input::catch_interrupts()?;
    let settings = conversation::settings(args)?;
    let (sender, wanted) = channel();
    let layer =
        ClientLayer::build(|clients| Conversation::new(args, clients.add(settings), sender));
    let mut reactor = layer.reactor().map_err(fail)?;
    input::attend(interrupts, reactor.handle());
    input::read(wanted, reactor.handle());
    let mut has_reader = true;
    while !reactor.is_finished() {
        reactor.turn(None).map_err(fail)?;
        let screen = reactor.handler().handler().screen();
        screen.flush();
        if screen.is_gone() && has_reader {
            has_reader = false;
            let _ = reactor.handle().notify(Notice::Leave);
        }
    }
    reactor.handler().handler().outcome()
}
