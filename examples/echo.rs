//! The smallest server: every message goes back.
use corewire::{Context, Handler, Message, Server};

struct Echo;

impl Handler for Echo {
    type Data = ();

    fn on_message(&mut self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
        let _ = ctx.send(message);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9001".into());
    let address: std::net::SocketAddr = address.parse()?;
    let server = Server::builder().listen(address).build(|_shard| Echo)?;
    println!("listening on {}", server.local_addresses()[0]);
    server.run()?;
    Ok(())
}
