//! A gateway: a server in front, a pool of connections to back ends behind it, all on one loop.
//!
//! ```console
//! $ cargo run --release &                       # a back end, on port 9001
//! $ cargo run --example gateway 127.0.0.1:9000 ws://127.0.0.1:9001/
//! ```
//! Each question of a visitor takes a connection of the pool for as long as its answer takes. What
//! the visitor says meanwhile is not read.

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use corewire::{
    Acquired, Client, ClientHandler, ClientLayer, Clients, CloseSummary, ConnectionId, Context,
    DialError, LeakReport, Lease, LeaseTicket, Loop, Message, Outcome, Owner, Pool, PoolError,
    PoolId, Server, Undecodable,
};

/// How long a question waits for a connection of the pool.
const PATIENCE: Duration = Duration::from_secs(2);

struct Gateway {
    pool: PoolId,
    /// Whose questions wait for a connection.
    waiting: HashMap<LeaseTicket, ConnectionId>,
}

/// What a connection is in the middle of.
#[derive(Default)]
enum Side {
    #[default]
    Nothing,
    /// A visitor's: his question waits for a connection of the pool.
    Waiting(LeaseTicket, String),
    /// A visitor's: his question is asked.
    Asked(Lease),
    /// The pool's: it is to answer this visitor.
    Answering(ConnectionId),
}

impl ClientHandler for Gateway {
    type Data = Side;

    fn on_message(
        &mut self,
        ctx: &mut Context<'_, Side>,
        clients: &mut Clients,
        message: Message<'_>,
    ) -> Result<(), Undecodable> {
        let Message::Text(text) = message else { return Err(Undecodable::new("not a text")) };
        if clients.owner(ctx.id()).is_none() {
            self.question(ctx, clients, text);
        } else if let Side::Answering(visitor) = std::mem::take(ctx.data()) {
            if let Some(lease) = clients.lease_of(ctx.id()) {
                let _ = clients.release(ctx, lease, Outcome::Good);
            }
            reply(ctx, visitor, text);
        }
        Ok(())
    }

    fn on_lease(
        &mut self,
        at: &mut Loop<'_, Side>,
        clients: &mut Clients,
        ticket: LeaseTicket,
        lease: Result<Lease, PoolError>,
    ) {
        let visitor = self.waiting.remove(&ticket);
        let side = visitor.and_then(|visitor| at.peer(visitor).data().map(std::mem::take));
        match (visitor, side, lease) {
            (Some(visitor), Some(Side::Waiting(_, question)), Ok(lease)) => {
                ask(at, clients, visitor, lease, &question);
            }
            (Some(visitor), _, Err(error)) => apologise(at, visitor, error),
            // He has left when it was on its way to him.
            (_, _, Ok(lease)) => {
                let _ = clients.release(at, lease, Outcome::Good);
            }
            (None, _, Err(_)) => {}
        }
    }

    fn on_dial_failed(
        &mut self,
        _: &mut Loop<'_, Side>,
        clients: &mut Clients,
        owner: Owner,
        error: DialError,
    ) {
        if let Owner::Pool(pool, endpoint) = owner {
            let url = clients.endpoint_url(pool, endpoint).unwrap_or("one that has left");
            println!("back end {url}: {error}");
        }
    }

    fn on_leak(&mut self, _: &mut Loop<'_, Side>, clients: &mut Clients, report: &LeakReport) {
        let url = clients.endpoint_url(report.lease.pool(), report.endpoint);
        let url = url.unwrap_or("one that has left");
        println!("back end {url} has had a question for {:?}", report.held_for);
    }

    fn on_close(&mut self, ctx: &mut Context<'_, Side>, clients: &mut Clients, _: &CloseSummary) {
        match std::mem::take(ctx.data()) {
            Side::Nothing => {}
            Side::Waiting(ticket, _) => {
                self.waiting.remove(&ticket);
                clients.cancel(ctx, ticket);
            }
            // The answer is still to come, and is nobody else's.
            Side::Asked(lease) => {
                let _ = clients.release(ctx, lease, Outcome::Broken);
            }
            // Its lease has ended with it.
            Side::Answering(visitor) => apologise(ctx, visitor, PoolError::Revoked),
        }
    }
}

impl Gateway {
    fn question(&mut self, ctx: &mut Context<'_, Side>, clients: &mut Clients, text: &str) {
        let visitor = ctx.id();
        // One question at a time; TCP holds the rest back.
        ctx.here().pause();
        match clients.acquire(ctx, self.pool, PATIENCE) {
            Ok(Acquired::Now(lease)) => ask(ctx, clients, visitor, lease, text),
            Ok(Acquired::Later(ticket)) => {
                self.waiting.insert(ticket, visitor);
                *ctx.data() = Side::Waiting(ticket, text.to_owned());
            }
            Err(error) => apologise(ctx, visitor, error),
        }
    }
}

fn ask(
    at: &mut Loop<'_, Side>,
    clients: &mut Clients,
    visitor: ConnectionId,
    lease: Lease,
    question: &str,
) {
    let sent = clients.peer(at, lease).is_ok_and(|mut back_end| {
        let is_taken = back_end.send_text(question).is_taken();
        if is_taken && let Some(side) = back_end.data() {
            *side = Side::Answering(visitor);
        }
        is_taken
    });
    if !sent {
        let _ = clients.release(at, lease, Outcome::Broken);
        return apologise(at, visitor, PoolError::Revoked);
    }
    if let Some(side) = at.peer(visitor).data() {
        *side = Side::Asked(lease);
    }
}

fn apologise(at: &mut Loop<'_, Side>, visitor: ConnectionId, error: PoolError) {
    reply(at, visitor, &format!("sorry: {error}"));
}

/// The visitor, if he is still there, may ask the next question.
fn reply(at: &mut Loop<'_, Side>, visitor: ConnectionId, text: &str) {
    let mut peer = at.peer(visitor);
    if let Some(side) = peer.data() {
        *side = Side::Nothing;
    }
    let _ = peer.send_text(text);
    peer.resume();
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let address: std::net::SocketAddr = args.next().unwrap_or("127.0.0.1:9000".into()).parse()?;
    let mut pool = Pool::builder().min(2).max(100);
    let urls: Vec<String> = args.collect();
    let default = ["ws://127.0.0.1:9001/".to_owned()];
    for url in if urls.is_empty() { &default[..] } else { &urls } {
        pool = pool.endpoint(Client::builder(url).build()?);
    }
    let pool = pool.build()?;
    let server = Server::builder().listen(address).threads(1).build(move |_shard| {
        ClientLayer::build(|clients| {
            let pool = clients.add_pool(pool.clone());
            Gateway { pool, waiting: HashMap::new() }
        })
    })?;
    println!("listening on {}", server.local_addresses()[0]);
    Ok(server.run().map(|_counters| ())?)
}
