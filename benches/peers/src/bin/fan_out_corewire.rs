//! corewire with its topics.
//!
//! Form: the documentation of `Loop::publish` and `Peer::subscribe`.

use corewire::{Context, Handler, Message, PreparedMessage, Server};
use corewire_peers::{MESSAGE_BYTES_MAX, listen_address};

const SUBSCRIBERS: &str = "/sub";
const TOPIC: &str = "news";

struct News;

impl Handler for News {
    type Data = ();

    fn on_open(&mut self, ctx: &mut Context<'_, ()>) {
        if ctx.here().route() == Some(SUBSCRIBERS) {
            ctx.here().subscribe(TOPIC).expect("one topic is below every limit");
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
        let _ = ctx.publish(TOPIC, &message);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::builder()
        .listen(listen_address()?)
        .route(SUBSCRIBERS, |_| {})
        .route("/pub", |_| {})
        .threads(1)
        .config(|config| config.limits.message_bytes_max = MESSAGE_BYTES_MAX as u64)
        .build(|_shard| News)?;
    server.run()?;
    Ok(())
}
