//! corewire, with a list of those who listen.
//!
//! Form: `examples/chat.rs` of this tree.

use corewire::{CloseSummary, ConnectionId, Context, Handler, Message, PreparedMessage, Server};
use corewire_peers::{MESSAGE_BYTES_MAX, listen_address};

const SUBSCRIBERS: &str = "/sub";

#[derive(Default)]
struct News {
    subscribers: Vec<ConnectionId>,
}

impl Handler for News {
    type Data = ();

    fn on_open(&mut self, ctx: &mut Context<'_, ()>) {
        if ctx.here().route() == Some(SUBSCRIBERS) {
            self.subscribers.push(ctx.id());
        }
    }

    fn on_message(&mut self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
        if ctx.here().route() == Some(SUBSCRIBERS) {
            return;
        }
        let message = match message {
            Message::Text(text) => PreparedMessage::text(text),
            Message::Binary(bytes) => PreparedMessage::binary(bytes),
        };
        for id in &self.subscribers {
            let _ = ctx.peer(*id).send_prepared(&message);
        }
    }

    fn on_close(&mut self, ctx: &mut Context<'_, ()>, _: &CloseSummary) {
        let own = ctx.id();
        self.subscribers.retain(|id| *id != own);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::builder()
        .listen(listen_address()?)
        .route(SUBSCRIBERS, |_| {})
        .route("/pub", |_| {})
        .threads(1)
        .config(|config| config.limits.message_bytes_max = MESSAGE_BYTES_MAX as u64)
        .build(|_shard| News::default())?;
    server.run()?;
    Ok(())
}
