//! A client of ours for other people's servers: it calls one and says what came of it.
//!
//! ```console
//! caller URL EXPECTED [--ca FILE] [--proxy URL] [--subprotocol NAME] [--compressed]
//! ```
//! EXPECTED is `echo` (everything that is said comes back, and the server answers the Close),
//! `told` (the server's messages are printed until it closes) or the beginning of the error that
//! dialling ends with. Exit status: 0 it was so; 1 it was not, and how it was is said.

use std::error::Error;
use std::time::Duration;

use corewire::opening::ResponseHead;
use corewire::{
    Client, ClientHandler, ClientId, ClientLayer, Clients, CloseCode, CloseSummary, Compression,
    CompressionMode, ConnectionId, Context, DialError, Loop, Message, Opcode, Owner, Part, Proxy,
    Reconnect, StopReason, TimerId, TlsClient, Undecodable,
};

/// What is to come of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Expected {
    Echo,
    Told,
    Error(String),
}

struct Caller {
    expected: Expected,
    subprotocol: Option<String>,
    extensions: String,
    /// What is still to come back, the next one at the end.
    owed: Vec<(Opcode, Vec<u8>)>,
    pongs: u32,
    outcome: Result<(), String>,
}

/// The most that this client waits for everything.
const PATIENCE: Duration = Duration::from_secs(20);

const SIZES: [usize; 10] = [0, 1, 125, 126, 65_535, 65_536, 65_537, 1 << 20, 4 << 20, 1];
/// Small ones that are sent at once.
const PIPELINED: usize = 1000;

impl Caller {
    fn say_everything(&mut self, ctx: &mut Context<'_, ()>) {
        let sizes = SIZES.into_iter().chain((0..PIPELINED).map(|size| size % 50));
        for size in sizes {
            let text: String = "corewire é漢😀 ".chars().cycle().take(size).collect();
            for (opcode, payload) in [(Opcode::Binary, vec![7; size]), (Opcode::Text, text.into())]
            {
                let sent = match std::str::from_utf8(&payload) {
                    Ok(text) if opcode == Opcode::Text => ctx.send_text(text),
                    _ => ctx.send_binary(&payload),
                };
                assert!(sent.is_taken(), "{sent:?}");
                self.owed.push((opcode, payload));
            }
        }
        let mut here = ctx.here();
        for (payload, part) in
            [("in ", Part::First), ("three ", Part::Middle), ("parts", Part::Last)]
        {
            let _ = here.send_part(Opcode::Text, payload.as_bytes(), part);
            let _ = here.send_ping(payload.as_bytes());
        }
        self.owed.push((Opcode::Text, b"in three parts".to_vec()));
        self.owed.reverse();
    }

    fn end(&mut self, at: &Loop<'_, ()>, outcome: Result<(), String>) {
        self.outcome = outcome;
        let _ = at.handle().shutdown(Duration::ZERO);
    }
}

impl ClientHandler for Caller {
    type Data = ();

    fn on_start(&mut self, at: &mut Loop<'_, ()>, _: &mut Clients) {
        at.set_timer(at.deadline(PATIENCE), 0);
    }

    fn on_timer(&mut self, at: &mut Loop<'_, ()>, _: &mut Clients, _: TimerId, _: u64) {
        let missing = format!("{} messages are missing after {PATIENCE:?}", self.owed.len());
        self.end(at, Err(missing));
    }

    fn on_answer(
        &mut self,
        _: &mut Loop<'_, ()>,
        _: &mut Clients,
        _: ConnectionId,
        head: &ResponseHead<'_>,
    ) {
        let extensions = head.fields.single("Sec-WebSocket-Extensions");
        self.extensions = extensions.ok().flatten().unwrap_or_default().to_owned();
    }

    fn on_open(&mut self, ctx: &mut Context<'_, ()>, _: &mut Clients) {
        let subprotocol = ctx.here().subprotocol().map(str::to_owned);
        if subprotocol != self.subprotocol {
            return self.end(ctx, Err(format!("the subprotocol is {subprotocol:?}")));
        }
        match &self.expected {
            Expected::Echo => self.say_everything(ctx),
            Expected::Told => {
                let _ = ctx.send_text("tell");
            }
            Expected::Error(_) => self.end(ctx, Err("the connection has opened".to_owned())),
        }
    }

    fn on_message(
        &mut self,
        ctx: &mut Context<'_, ()>,
        _: &mut Clients,
        message: Message<'_>,
    ) -> Result<(), Undecodable> {
        if self.expected == Expected::Told {
            let bytes = message.payload();
            println!(
                "{:?} {} {}",
                message.opcode(),
                bytes.len(),
                bytes[..bytes.len().min(40)].escape_ascii()
            );
            return Ok(());
        }
        let owed = self.owed.pop();
        if owed != Some((message.opcode(), message.payload().to_vec())) {
            let got = (message.opcode(), message.payload().len());
            self.end(ctx, Err(format!("{got:?} has come, {} were to follow", self.owed.len())));
        } else if self.owed.is_empty() {
            ctx.close(CloseCode::NORMAL, "that was all")?;
        }
        Ok(())
    }

    fn on_pong(&mut self, _: &mut Context<'_, ()>, _: &mut Clients, _: &[u8], _: Option<Duration>) {
        self.pongs += 1;
    }

    fn on_close(&mut self, ctx: &mut Context<'_, ()>, _: &mut Clients, summary: &CloseSummary) {
        let is_whole = self.owed.is_empty() && summary.is_clean();
        if self.expected == Expected::Echo && (!is_whole || self.pongs < 1) {
            let owed = self.owed.len();
            return self.end(ctx, Err(format!("{summary:?}, {owed} owed, {} pongs", self.pongs)));
        }
        println!(
            "closed {} {} {} {}",
            summary.code.as_u16(),
            if summary.is_clean() { "clean" } else { "unclean" },
            if self.extensions.is_empty() { "plain" } else { &self.extensions },
            summary.reason,
        );
        self.end(ctx, Ok(()));
    }

    fn on_dial_failed(
        &mut self,
        at: &mut Loop<'_, ()>,
        _: &mut Clients,
        _: Owner,
        error: DialError,
    ) {
        println!("{error}");
        if let DialError::Refused(refusal) = &error {
            println!("{}", String::from_utf8_lossy(&refusal.body));
        }
        let is_expected = matches!(&self.expected, Expected::Error(begin) if error.to_string().starts_with(begin));
        self.end(at, if is_expected { Ok(()) } else { Err("it was not to fail so".to_owned()) });
    }

    fn on_stop(&mut self, _: &mut Loop<'_, ()>, _: &mut Clients, _: ClientId, _: StopReason) {}
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("no URL")?;
    let expected = match arguments.next().ok_or("nothing is expected")?.as_str() {
        "echo" => Expected::Echo,
        "told" => Expected::Told,
        error => Expected::Error(error.to_owned()),
    };
    let mut subprotocol = None;
    let mut builder =
        Client::builder(&url).reconnect(|it| *it = Reconnect::never()).config(|config| {
            config.limits.message_bytes_max = 64 << 20;
            config.limits.backpressure_bytes_max = 64 << 20;
        });
    while let Some(option) = arguments.next() {
        let mut value = || arguments.next().ok_or("an option without its value");
        builder = match option.as_str() {
            "--ca" => {
                let tls = TlsClient::builder().without_system_roots().ca_file(value()?);
                builder.tls(tls.build()?)
            }
            "--proxy" => builder.proxy(Proxy::parse(&value()?)?),
            "--subprotocol" => {
                let name = value()?;
                subprotocol = Some(name.clone());
                builder.subprotocol("other").subprotocol(&name)
            }
            "--compressed" => {
                let mode = CompressionMode::Dedicated { window_bits: 15, mem_level: 8 };
                builder.compression(Compression::new(mode)?)
            }
            other => return Err(format!("no such option: {other}").into()),
        };
    }
    let outcome = Err("nothing has come of it".to_owned());
    let mut layer = ClientLayer::new(Caller {
        expected,
        subprotocol,
        extensions: String::new(),
        owed: Vec::new(),
        pongs: 0,
        outcome,
    });
    layer.clients().add(builder.build()?);
    let mut reactor = layer.reactor()?;
    reactor.run()?;
    Ok(reactor.handler().handler().outcome.clone()?)
}
