//! A gateway: a server in front, a pool of connections to back ends behind it, all on one loop.
//!
//! ```console
//! $ cargo run --release &                       # a back end, on port 9001
//! $ cargo run --example gateway 127.0.0.1:9000 ws://127.0.0.1:9001/
//! ```
//! Each question of a visitor takes a connection of the pool for as long as its answer takes. A
//! visitor asks the next question when the answer has come; what comes before waits.

use std::collections::VecDeque;
use std::error::Error;
use std::time::Duration;

use corewire::{
    Acquired, Client, ClientHandler, ClientLayer, Clients, CloseCode, CloseSummary, ConnectionId,
    Context, LeakReport, Lease, LeaseTicket, Loop, Message, Outcome, Owner, Pool, PoolError,
    PoolId, Server, Undecodable,
};

/// How long a visitor waits for a connection of the pool.
const PATIENCE: Duration = Duration::from_secs(2);

struct Gateway {
    pool: PoolId,
}

/// What is kept for a connection, in front or behind.
#[derive(Default)]
struct Side {
    /// In front: questions that were not asked yet, the first of which may be under way.
    questions: VecDeque<String>,
    progress: Progress,
    /// Behind: whose question it answers.
    visitor: Option<ConnectionId>,
}

#[derive(Default)]
enum Progress {
    #[default]
    Idle,
    /// For a connection of the pool.
    Waiting(LeaseTicket),
    /// For the answer.
    Asked(Lease),
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
            ctx.data().questions.push_back(text.to_owned());
            let visitor = ctx.id();
            self.go_on(ctx, clients, visitor);
        } else if let Some(visitor) = ctx.data().visitor.take() {
            let _ = ctx.peer(visitor).send_text(text);
            self.finish(ctx, clients, visitor, Outcome::Good);
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
        // The loop has no list of who waits; a visitor knows its own ticket.
        let waits = |side: &Side| matches!(side.progress, Progress::Waiting(own) if own == ticket);
        let visitors: Vec<_> = at.connections().collect();
        let visitor =
            visitors.into_iter().find(|id| at.peer(*id).data().is_some_and(|side| waits(side)));
        match (visitor, lease) {
            (Some(visitor), Ok(lease)) => self.ask(at, clients, visitor, lease),
            (Some(visitor), Err(error)) => self.apologise(at, clients, visitor, error),
            (None, Ok(lease)) => {
                let _ = clients.release(at, lease, Outcome::Good);
            }
            (None, Err(_)) => {}
        }
    }

    fn on_leak(&mut self, _: &mut Loop<'_, Side>, _: &mut Clients, report: &LeakReport) {
        println!("a question waits for {:?}, asked at {}", report.held_for, report.acquired_at);
    }

    fn on_close(&mut self, ctx: &mut Context<'_, Side>, clients: &mut Clients, _: &CloseSummary) {
        if let Some(Owner::Pool(_)) = clients.owner(ctx.id()) {
            // Its lease has ended with it.
            if let Some(visitor) = ctx.data().visitor.take() {
                self.apologise(ctx, clients, visitor, PoolError::Revoked);
            }
            return;
        }
        match std::mem::take(&mut ctx.data().progress) {
            Progress::Idle => {}
            Progress::Waiting(ticket) => {
                clients.cancel(ctx, ticket);
            }
            // The answer is still to come, and is nobody else's.
            Progress::Asked(lease) => {
                let _ = clients.release(ctx, lease, Outcome::Broken);
            }
        }
    }
}

impl Gateway {
    /// Asks the next question of a visitor, if nothing of his is under way.
    fn go_on(&mut self, at: &mut Loop<'_, Side>, clients: &mut Clients, visitor: ConnectionId) {
        let mut peer = at.peer(visitor);
        let Some(side) = peer.data() else { return };
        if !matches!(side.progress, Progress::Idle) || side.questions.is_empty() {
            return;
        }
        match clients.acquire(at, self.pool, PATIENCE) {
            Ok(Acquired::Now(lease)) => self.ask(at, clients, visitor, lease),
            Ok(Acquired::Later(ticket)) => {
                if let Some(side) = at.peer(visitor).data() {
                    side.progress = Progress::Waiting(ticket);
                }
            }
            Err(error) => self.apologise(at, clients, visitor, error),
        }
    }

    fn ask(
        &mut self,
        at: &mut Loop<'_, Side>,
        clients: &mut Clients,
        visitor: ConnectionId,
        lease: Lease,
    ) {
        let question = at.peer(visitor).data().and_then(|side| {
            side.progress = Progress::Asked(lease);
            side.questions.pop_front()
        });
        let (Some(question), Ok(mut back_end)) = (question, clients.peer(at, lease)) else {
            return self.finish(at, clients, visitor, Outcome::Failed);
        };
        if let Some(side) = back_end.data() {
            side.visitor = Some(visitor);
        }
        let _ = back_end.send_text(&question);
    }

    /// The question that is under way is done with.
    fn finish(
        &mut self,
        at: &mut Loop<'_, Side>,
        clients: &mut Clients,
        visitor: ConnectionId,
        outcome: Outcome,
    ) {
        let progress = at.peer(visitor).data().map(|side| std::mem::take(&mut side.progress));
        if let Some(Progress::Asked(lease)) = progress {
            let _ = clients.release(at, lease, outcome);
        }
        self.go_on(at, clients, visitor);
    }

    fn apologise(
        &mut self,
        at: &mut Loop<'_, Side>,
        clients: &mut Clients,
        visitor: ConnectionId,
        error: PoolError,
    ) {
        let mut peer = at.peer(visitor);
        if let Some(side) = peer.data() {
            side.progress = Progress::Idle;
        }
        if error == PoolError::ShutDown {
            let _ = peer.close(CloseCode::TRY_AGAIN_LATER, "no back end");
            return;
        }
        let _ = peer.send_text(&format!("sorry: {error}"));
        self.go_on(at, clients, visitor);
    }
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
        ClientLayer::build(|clients| Gateway { pool: clients.add_pool(pool.clone()) })
    })?;
    println!("listening on {}", server.local_addresses()[0]);
    Ok(server.run().map(|_counters| ())?)
}
