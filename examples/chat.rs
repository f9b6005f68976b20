//! Chat rooms: the path names the room, and what one says all in the room hear.
//!
//! Each room is a topic, so that visitors need not be on the same loop. At `/` there is a page to
//! chat with: run it and open <http://127.0.0.1:9001/>, several times. Without the page any client
//! of WebSockets will do, at `/ROOM?name=NAME`; a line is a message.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use corewire::{
    Accept, Arrival, CloseSummary, Context, Handler, Message, PreparedMessage, Request, Response,
    Server, TopicLimits, Verdict,
};

const PAGE: &str = include_str!("chat.html");

/// The page has all that it needs in itself, and may ask nobody but us.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
    img-src data:; connect-src 'self'";

struct Chat {
    /// How many are in each room, on all loops. Touched when somebody comes or goes, not for what
    /// is said.
    counts: Arc<Mutex<HashMap<Box<str>, usize>>>,
}

/// What is kept for each connection.
#[derive(Default)]
struct Member {
    topic: Box<str>,
    /// Empty for guests, who are called by the names of their connections.
    name: String,
}

impl Chat {
    /// Counts one who comes or goes; gives how many are there then.
    fn count(&self, topic: &str, change: fn(usize) -> usize) -> usize {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = change(counts.get(topic).copied().unwrap_or_default());
        match count {
            0 => counts.remove(topic),
            _ => counts.insert(topic.into(), count),
        };
        count
    }
}

/// Says something to all in the current connection's room. It is encoded once, whoever hears it.
fn say(ctx: &mut Context<'_, Member>, text: &str) {
    let topic = ctx.data().topic.clone();
    // The name of the room was checked with the request. That loops are congested can pass: then
    // nobody hears it, who spoke included.
    let _ = ctx.publish(&topic, &PreparedMessage::text(text));
}

fn name(ctx: &mut Context<'_, Member>) -> String {
    match &*ctx.data().name {
        "" => ctx.id().to_string(),
        name => name.to_owned(),
    }
}

impl Handler for Chat {
    type Data = Member;

    fn on_request(&mut self, request: &Request<'_>, arrival: &Arrival<'_>) -> Verdict<Member> {
        let Some(room) = arrival.param("room") else {
            return match request.is_upgrade() {
                true => Verdict::Reject(status(404)),
                false => Verdict::Respond(page()),
            };
        };
        let topic = format!("rooms/{room}");
        // A room named `+` would be all rooms.
        if TopicLimits::default().check_name(&topic).is_err() {
            return Verdict::Reject(status(400));
        }
        let name = tidy(&request.query_param("name").unwrap_or_default());
        let data = Member { topic: topic.into(), name };
        match request.is_upgrade() {
            true => Verdict::Accept { accept: Accept::new(), data },
            false => Verdict::UpgradeRequired,
        }
    }

    fn on_open(&mut self, ctx: &mut Context<'_, Member>) {
        let topic = ctx.data().topic.clone();
        let count = self.count(&topic, |count| count + 1);
        if let Err(error) = ctx.here().subscribe(&topic) {
            // There are more rooms than a loop may have.
            let _ = ctx.close(corewire::CloseCode::TRY_AGAIN_LATER, &error.to_string());
            return;
        }
        let text = match &*ctx.data().name {
            "" => format!("{count} in the room"),
            name => format!("{name} has joined, {count} in the room"),
        };
        say(ctx, &text);
    }

    fn on_message(&mut self, ctx: &mut Context<'_, Member>, message: Message<'_>) {
        if let Message::Text(text) = message {
            let line = format!("{}: {text}", name(ctx));
            say(ctx, &line);
        }
    }

    fn on_close(&mut self, ctx: &mut Context<'_, Member>, _: &CloseSummary) {
        let topic = ctx.data().topic.clone();
        self.count(&topic, |count| count - 1);
        let line = format!("{} has left", name(ctx));
        say(ctx, &line);
    }
}

/// A name of at most 24 characters, without those that set apart who speaks from what is said.
fn tidy(name: &str) -> String {
    let kept = name.chars().filter(|one| *one != ':' && !one.is_control());
    kept.take(24).collect::<String>().trim().to_owned()
}

fn page() -> Response {
    status(200)
        .header("Content-Type", "text/html; charset=utf-8")
        .and_then(|page| page.header("Content-Security-Policy", POLICY))
        .expect("legal headers")
        .body(PAGE.as_bytes())
}

fn status(status: u16) -> Response {
    Response::new(status).expect("a legal status")
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9001".into());
    let address: SocketAddr = address.parse()?;
    let counts = Arc::default();
    let server = Server::builder()
        .listen(address)
        .config(|config| config.limits.message_bytes_max = 4096)
        .route("/", |_| {})
        .route("/{room}", |_| {})
        .threads(2)
        .build(move |_shard| Chat { counts: Arc::clone(&counts) })?;
    println!("listening on {}", server.local_addresses()[0]);
    server.run()?;
    Ok(())
}
