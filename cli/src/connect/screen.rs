//! What people and pipes are shown: messages on standard output, everything else on standard error.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::time::Duration;

use corewire::{CloseCause, CloseCode, CloseSummary, Initiator};

use crate::destination::printable;
use crate::log::say;
use crate::units::display_bytes;

/// So many bytes of a binary message are shown.
const PREVIEW_BYTES: usize = 32;

/// Where things are shown.
pub struct Screen {
    output: BufWriter<StdoutLock<'static>>,
    reader: Reader,
    /// The reader of the output has gone away.
    is_gone: bool,
}

/// Who reads the output.
#[derive(Clone, Copy)]
enum Reader {
    /// Sees who said what, and is spared what would upset a terminal.
    Person,
    /// Gets what was said and nothing else.
    Program,
}

impl Screen {
    pub fn new() -> Self {
        let stdout = io::stdout();
        let reader = if stdout.is_terminal() { Reader::Person } else { Reader::Program };
        Self { output: BufWriter::new(stdout.lock()), reader, is_gone: false }
    }

    pub fn connected(&self, url: &str, subprotocol: Option<&str>) {
        let subprotocol = subprotocol.map(|name| format!(", subprotocol {name}"));
        say(format_args!("connected to {url}{}", subprotocol.unwrap_or_default()));
        if io::stdin().is_terminal() {
            say("a line is a message; Ctrl-D or Ctrl-C closes");
        }
    }

    pub fn text(&mut self, text: &str) {
        match self.reader {
            Reader::Person => {
                let text = printable(text);
                self.print(|output| writeln!(output, "< {text}"));
            }
            Reader::Program => self.print(|output| writeln!(output, "{text}")),
        }
    }

    pub fn binary(&mut self, payload: &[u8]) {
        let prefix = match self.reader {
            Reader::Person => "< ",
            Reader::Program => "",
        };
        let size = display_bytes(payload.len() as u64);
        let shown = &payload[..payload.len().min(PREVIEW_BYTES)];
        let hex: String = shown.iter().map(|byte| format!(" {byte:02x}")).collect();
        let more = if shown.len() < payload.len() { " ..." } else { "" };
        self.print(|output| writeln!(output, "{prefix}binary, {size}:{hex}{more}"));
    }

    pub fn ping(&mut self, payload: &[u8]) {
        self.note(&format!("ping {}", quoted(payload)));
    }

    /// The pong's payload is our heartbeat's own business if it answers one.
    pub fn pong(&mut self, payload: &[u8], round_trip: Option<Duration>) {
        self.note(&match round_trip {
            Some(time) => format!("pong after {:.2} ms", time.as_secs_f64() * 1e3),
            None => format!("pong {}", quoted(payload)),
        });
    }

    pub fn closed(&mut self, summary: &CloseSummary) {
        let who = match summary.initiator {
            Initiator::Local => "closed",
            Initiator::Peer => "closed by the server",
        };
        let reason = match &*summary.reason {
            "" => String::new(),
            reason => format!(", {:?}", printable(reason)),
        };
        let cause = match summary.cause {
            CloseCause::ClosingHandshake => String::new(),
            CloseCause::Failed(failure) => format!(": {failure}"),
            CloseCause::EndOfStream => ": the stream ended without a Close".into(),
            CloseCause::Transport(error) => format!(": {error}"),
            CloseCause::HeartbeatTimeout => ": no sign of life".into(),
            CloseCause::CloseTimeout => ": the server did not answer our Close in time".into(),
            other => format!(": {other:?}"),
        };
        self.note(&format!("{who}: {}{reason}{cause}", summary.code));
        let own_codes = [summary.code, CloseCode::NO_STATUS];
        if let Some(code) = summary.peer_code.filter(|code| !own_codes.contains(code)) {
            self.note(&format!("the server had closed already: {code}"));
        }
        if summary.unsent_bytes > 0 {
            let unsent = display_bytes(summary.unsent_bytes);
            self.note(&format!("{unsent} in {} messages were not sent", summary.unsent_messages));
        }
    }

    /// A line about something that is no message.
    pub fn note(&mut self, line: &str) {
        // What was said before comes first, where both go to one place.
        self.flush();
        say(line);
    }

    pub fn flush(&mut self) {
        self.print(Write::flush);
    }

    /// Whether nobody reads the output any more.
    pub fn is_gone(&self) -> bool {
        self.is_gone
    }

    fn print(&mut self, print: impl FnOnce(&mut BufWriter<StdoutLock<'static>>) -> io::Result<()>) {
        if !self.is_gone && print(&mut self.output).is_err() {
            self.is_gone = true;
        }
    }
}

fn quoted(payload: &[u8]) -> String {
    format!("{:?}", printable(&String::from_utf8_lossy(payload)))
}
