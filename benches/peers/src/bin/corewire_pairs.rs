//! corewire with several loops of one server, each behind an address of its own, so that a load
//! generator can be given a loop: see `benches/load/pairs.sh`.

use std::net::{SocketAddr, TcpListener};
use std::thread;

use clap::Parser;
use corewire::{Adoption, Context, Endpoint, Handler, Message, Server};

#[derive(Parser)]
struct Arguments {
    /// ADDRESS:PORT of a loop; there are as many loops as addresses.
    #[arg(long, required = true)]
    listen: Vec<SocketAddr>,
}

struct Echo;

impl Handler for Echo {
    type Data = ();

    fn on_message(&mut self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
        let _ = ctx.send(message);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let addresses = Arguments::parse().listen;
    let server = Server::builder()
        .listen(Endpoint::Detached)
        .threads(addresses.len())
        .build(|_shard| Echo)?;
    for (address, handle) in addresses.into_iter().zip(server.handle().loops()) {
        let (listener, handle) = (TcpListener::bind(address)?, handle.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A connection that its loop has no room for is closed, and the generator says so.
                let _ = handle.adopt(Adoption::new(stream, 0));
            }
        });
    }
    server.run()?;
    Ok(())
}
