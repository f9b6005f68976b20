//! A client that comes back: it follows a ticker, and says where it stands.
//!
//! ```console
//! $ cargo run --example ticker        # in another terminal
//! $ cargo run --example reconnecting
//! ```
//! Stop the ticker and start it again: the client notices, waits a little longer each time, and is
//! there as soon as the ticker is.

use std::error::Error;

use corewire::{
    Client, ClientChange, ClientHandler, ClientId, ClientLayer, Clients, Context, Loop, Message,
    StopReason, Undecodable,
};

/// Counts the ticks that it hears.
#[derive(Default)]
struct Follower {
    ticks: u64,
}

impl ClientHandler for Follower {
    type Data = ();

    fn on_message(
        &mut self,
        _: &mut Context<'_, ()>,
        _: &mut Clients,
        message: Message<'_>,
    ) -> Result<(), Undecodable> {
        let Message::Text(text) = message else { return Err(Undecodable::new("not a text")) };
        self.ticks += 1;
        println!("tick {}: {text}", self.ticks);
        Ok(())
    }

    fn on_change(
        &mut self,
        at: &mut Loop<'_, ()>,
        _: &mut Clients,
        _: ClientId,
        change: &ClientChange,
    ) {
        match change.retry_at {
            Some(due) => println!("lost; again in {:.1?}", due - at.now()),
            None => println!("{:?}", change.state),
        }
    }

    fn on_stop(&mut self, at: &mut Loop<'_, ()>, _: &mut Clients, _: ClientId, why: StopReason) {
        println!("the end: {why:?}");
        let _ = at.handle().shutdown(std::time::Duration::from_secs(1));
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "ws://127.0.0.1:9001/".to_owned());
    let mut layer = ClientLayer::new(Follower::default());
    layer.clients().add(Client::builder(&url).build()?);
    Ok(layer.reactor()?.run()?)
}
