//! corewire itself.
//!
//! Form: the README of this tree, section Embedding.

use corewire::{Context, Handler, Message, Server};
use corewire_peers::{MESSAGE_BYTES_MAX, listen_address};

struct Echo;

impl Handler for Echo {
    type Data = ();

    fn on_message(&mut self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
        let _ = ctx.send(message);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::builder()
        .listen(listen_address()?)
        .threads(1)
        .config(|config| config.limits.message_bytes_max = MESSAGE_BYTES_MAX as u64)
        .build(|_shard| Echo)?;
    server.run()?;
    Ok(())
}
