//! `corewire connect`: a WebSocket client for people and pipes.

mod conversation;
mod handshake;
mod lines;
mod screen;

use std::process::ExitCode;

use corewire::CloseCode;

use crate::args::{ConnectArgs, Failure};
use conversation::{Conversation, Outcome};
use screen::Screen;

/// Talks to a server until one side closes.
pub fn run(args: &ConnectArgs) -> Result<ExitCode, Failure> {
    let interrupts = conversation::catch_interrupts()?;
    let shaken = handshake::shake_hands(args)?;
    let mut screen = Screen::new();
    screen.connected(&args.destination.url, shaken.negotiated.subprotocol.as_deref());
    let conversation = Conversation::new(args, shaken, interrupts)?;
    let Outcome { summary, server_code, unsendable_lines } = conversation.run(&mut screen)?;
    screen.closed(&summary, server_code);
    let is_good = |code: &CloseCode| {
        matches!(*code, CloseCode::NORMAL | CloseCode::GOING_AWAY | CloseCode::NO_STATUS)
    };
    let is_clean = summary.is_clean()
        && [summary.code].iter().chain(&server_code).all(is_good)
        && summary.unsent_bytes == 0
        && unsendable_lines == 0;
    Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
