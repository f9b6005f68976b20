//! corewire's client, on a loop.
//!
//! Form: `examples/reconnecting.rs` of this tree.

use std::error::Error;

use corewire::{
    Client, ClientHandler, ClientLayer, Clients, CloseSummary, Context, DialError, Loop, Message,
    Owner, Undecodable,
};
use corewire_peers::client::Load;

struct Echo {
    payload: Vec<u8>,
    in_flight: usize,
}

impl ClientHandler for Echo {
    type Data = ();

    fn on_open(&mut self, ctx: &mut Context<'_, ()>, _: &mut Clients) {
        for _ in 0..self.in_flight {
            let _ = ctx.send(Message::Binary(&self.payload));
        }
    }

    fn on_message(
        &mut self,
        ctx: &mut Context<'_, ()>,
        _: &mut Clients,
        message: Message<'_>,
    ) -> Result<(), Undecodable> {
        let _ = ctx.send(message);
        Ok(())
    }

    fn on_close(&mut self, _: &mut Context<'_, ()>, _: &mut Clients, summary: &CloseSummary) {
        eprintln!("{summary:?}");
        std::process::exit(1);
    }

    fn on_dial_failed(
        &mut self,
        _: &mut Loop<'_, ()>,
        _: &mut Clients,
        _: Owner,
        error: DialError,
    ) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let load = Load::read()?;
    let server = Client::builder(&load.url()).build()?;
    let mut layer = ClientLayer::new(Echo { payload: load.payload(), in_flight: load.in_flight });
    for _ in 0..load.connections {
        layer.clients().add(server.clone());
    }
    Ok(layer.reactor()?.run()?)
}
