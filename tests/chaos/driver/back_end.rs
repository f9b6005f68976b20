//! A back end by corewire. What it says, and what its log says, stands in back_end.py.

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::Ipv4Addr;

use corewire::{CloseCode, Context, Handler, Message, Server};

struct BackEnd {
    log: File,
}

impl Handler for BackEnd {
    /// The connection's name.
    type Data = String;

    fn on_message(&mut self, ctx: &mut Context<'_, String>, message: Message<'_>) {
        let Message::Text(text) = message else { return };
        let Some((number, payload)) = text.split_once(' ') else { return };
        if ctx.data().is_empty() {
            payload.clone_into(ctx.data());
        }
        let entry = format!("{} {number}", ctx.data());
        let line = format!("{entry:<31}\n");
        if self.log.write_all(line.as_bytes()).is_err() {
            let _ = ctx.close(CloseCode::INTERNAL_ERROR, "the log cannot be written");
            return;
        }
        let _ = ctx.send_text(text);
    }
}

/// Serves until the standard input ends.
pub fn serve(port: u16, path: &str) -> Result<(), Box<dyn Error>> {
    let log = OpenOptions::new().append(true).create(true).open(path)?;
    let server = Server::builder()
        .listen((Ipv4Addr::LOCALHOST, port))
        .threads(1)
        .build(move |_shard| BackEnd { log: log.try_clone().expect("a descriptor for the log") })?;
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    println!("listening");
    server.run()?;
    Ok(())
}
