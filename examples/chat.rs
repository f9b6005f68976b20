//! Chat rooms: the path names the room, and what one says all in the room hear.
//!
//! The rooms are plain state of the handler. One thread, so that everyone is on the same loop.

use std::collections::{HashMap, HashSet};

use corewire::{
    Accept, Arrival, CloseSummary, ConnectionId, Context, Handler, Message, PreparedMessage,
    Request, Server, Verdict,
};

#[derive(Default)]
struct Chat {
    rooms: HashMap<String, HashSet<ConnectionId>>,
}

/// What is kept for each connection.
#[derive(Default)]
struct Member {
    room: String,
}

impl Chat {
    /// Says something to all in the current connection's room. The message is encoded once.
    fn say(&mut self, ctx: &mut Context<'_, Member>, text: &str) {
        let message = PreparedMessage::text(text);
        for id in self.rooms.get(&ctx.data().room).into_iter().flatten() {
            // Who does not keep up is closed by the engine, and leaves in `on_close`.
            let _ = ctx.peer(*id).send_prepared(&message);
        }
    }
}

impl Handler for Chat {
    type Data = Member;

    fn on_request(&mut self, _: &Request<'_>, arrival: &Arrival<'_>) -> Verdict<Member> {
        let room = arrival.param("room").expect("there is no other route").into_owned();
        Verdict::Accept { accept: Accept::new(), data: Member { room } }
    }

    fn on_open(&mut self, ctx: &mut Context<'_, Member>) {
        let (id, room) = (ctx.id(), ctx.data().room.clone());
        let members = self.rooms.entry(room).or_default();
        members.insert(id);
        let greeting = format!("{} in the room", members.len());
        self.say(ctx, &greeting);
    }

    fn on_message(&mut self, ctx: &mut Context<'_, Member>, message: Message<'_>) {
        if let Message::Text(text) = message {
            let line = format!("{}: {text}", ctx.id());
            self.say(ctx, &line);
        }
    }

    fn on_close(&mut self, ctx: &mut Context<'_, Member>, _: &CloseSummary) {
        let id = ctx.id();
        if let Some(members) = self.rooms.get_mut(&ctx.data().room) {
            members.remove(&id);
            if members.is_empty() {
                self.rooms.remove(&ctx.data().room);
            }
        }
        self.say(ctx, &format!("{id} has left"));
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9001".into());
    let address: std::net::SocketAddr = address.parse()?;
    let server = Server::builder()
        .listen(address)
        .route("/{room}", |_| {})
        .threads(1)
        .build(|_shard| Chat::default())?;
    println!("listening on {}", server.local_addresses()[0]);
    server.run()?;
    Ok(())
}
