//! What the server does with requests and messages.

use std::net::SocketAddr;
use std::sync::Arc;

use corewire::{
    Accept, Arrival, Chunk, ClientAddress, CloseSummary, Context, Dropped, Handler, Loop, Message,
    PressureChange, PressureLevel, Request, Response, ShardIndex, TopicChange, Verdict,
};
use tracing::{debug, info, warn};

use super::echo;
use super::topics::{self, Keys, Role};
use crate::settings::{Listener, Service};
use crate::units::display_bytes;

/// Answers requests, and hands messages on to whom they are for.
#[derive(Clone)]
pub struct App {
    /// In the order in which they were added.
    pub listeners: Arc<[Arc<Listener>]>,
    /// The same on all loops.
    pub keys: Keys,
}

const PAGE: &str = include_str!("../page.html");
const PLAIN: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

impl App {
    /// What there is at this path, if it is a WebSocket.
    fn service(&self, arrival: &Arrival<'_>) -> Option<Service> {
        let mut routes = self.listeners[arrival.listener].routes.iter();
        let found = routes.find(|(pattern, _)| Some(*pattern) == arrival.route);
        found.map(|(_, place)| place.service)
    }

    /// Who asks, for the log: the peer, and in front of it the client that it is believed to speak
    /// for.
    fn caller(&self, request: &Request<'_>, arrival: &Arrival<'_>) -> String {
        let peer = arrival.peer;
        let Some(forwarding) = &self.listeners[arrival.listener].forwarding else {
            return peer.to_string();
        };
        let client = forwarding.client(peer.ip(), request.fields());
        match (client.address, client.port) {
            (ClientAddress::Undisclosed, _) => format!("unknown via {peer}"),
            (ClientAddress::Ip(ip), Some(port)) => {
                format!("{} via {peer}", SocketAddr::from((ip, port)))
            }
            (ClientAddress::Ip(ip), None) if peer.ip() != Some(ip) => format!("{ip} via {peer}"),
            _ => peer.to_string(),
        }
    }

    fn respond(&self, request: &Request<'_>, arrival: &Arrival<'_>) -> Verdict<Role> {
        if !matches!(request.method(), "GET" | "HEAD") {
            let answer = answer(405, PLAIN, "only GET and HEAD are answered here\n");
            return Verdict::Respond(answer.header("Allow", "GET, HEAD").expect("a legal header"));
        }
        Verdict::Respond(match (request.path(), self.service(arrival)) {
            ("/healthz", _) if arrival.is_draining => answer(503, PLAIN, "draining\n"),
            ("/healthz", _) => answer(200, PLAIN, "ok\n"),
            (_, Some(Service::Echo)) => page(),
            (_, Some(Service::Subscribe | Service::Publish | Service::Topics)) => {
                return Verdict::UpgradeRequired;
            }
            (_, None) => answer(404, PLAIN, "there is nothing at this path\n"),
        })
    }
}

/// The page. Kept apart from other origins it may read a clock of 5 µs; 100 µs, the usual, would
/// be more than a round trip on one machine takes.
fn page() -> Response {
    answer(200, HTML, PAGE)
        .header("Cross-Origin-Opener-Policy", "same-origin")
        .and_then(|page| page.header("Cross-Origin-Embedder-Policy", "require-corp"))
        .expect("legal headers")
}

/// What a thread has seen of the memory, in a line.
fn pressure(shard: ShardIndex, change: &PressureChange) -> String {
    let PressureChange { from, to, snapshot, .. } = change;
    let budget = display_bytes(snapshot.budget_bytes);
    let resident = display_bytes(snapshot.sample.rss_bytes);
    let held = display_bytes(snapshot.sample.accounted_bytes);
    format!(
        "thread {}: memory pressure {from:?} -> {to:?}: {} % of {budget}; {resident} resident, \
         {held} held by connections",
        shard.0, snapshot.percent
    )
}

fn answer(status: u16, content_type: &str, body: &'static str) -> Response {
    let response = Response::new(status).and_then(|it| it.header("Content-Type", content_type));
    response.expect("a legal status and header").body(body.as_bytes())
}

impl Handler for App {
    type Data = Role;

    fn on_request(&mut self, request: &Request<'_>, arrival: &Arrival<'_>) -> Verdict<Role> {
        // A query may hold a token, which stays out of logs.
        debug!("{} {} {}", self.caller(request, arrival), request.method(), request.path());
        if !request.is_upgrade() {
            return self.respond(request, arrival);
        }
        let role = match self.service(arrival) {
            Some(service) => Role::new(service, arrival.param("topic").as_deref()),
            None => Err(answer(404, PLAIN, "there is no WebSocket at this path\n")),
        };
        match role {
            Ok(data) => Verdict::Accept { accept: Accept::new(), data },
            Err(answer) => Verdict::Reject(answer),
        }
    }

    fn on_open(&mut self, ctx: &mut Context<'_, Role>) {
        if let Some(peer) = ctx.here().address() {
            debug!("{peer} open as {}", ctx.id());
        }
        topics::open(ctx);
    }

    fn on_message(&mut self, ctx: &mut Context<'_, Role>, message: Message<'_>) {
        if matches!(ctx.data(), Role::Echo) {
            // What is dropped is counted, and a connection that must drop is closing already.
            let _ = ctx.send(message);
        } else {
            topics::take(ctx, message, &self.keys);
        }
    }

    fn on_chunk(&mut self, ctx: &mut Context<'_, Role>, chunk: Chunk<'_>) {
        echo::send_chunk(ctx, &chunk);
    }

    fn on_dropped(&mut self, ctx: &mut Context<'_, Role>, topic: &str, dropped: &Dropped) {
        debug!("{} is too slow for {topic:?}: {dropped:?}", ctx.id());
        topics::note_dropped(ctx, dropped);
    }

    fn on_drain(&mut self, ctx: &mut Context<'_, Role>) {
        topics::tell_dropped(ctx);
    }

    fn on_topic(&mut self, _: &mut Loop<'_, Role>, topic: &str, change: TopicChange) {
        debug!("{topic:?}: {change:?} subscriber of a loop");
    }

    fn on_pressure(&mut self, at: &mut Loop<'_, Role>, change: &PressureChange) {
        let word = pressure(at.handle().shard(), change);
        match change.to {
            PressureLevel::Normal => info!("{word}"),
            _ => warn!("{word}"),
        }
    }

    fn on_close(&mut self, ctx: &mut Context<'_, Role>, summary: &CloseSummary) {
        debug!(
            "{} closed: {} {:?} ({:?} by {:?})",
            ctx.id(),
            summary.code,
            summary.reason,
            summary.cause,
            summary.initiator
        );
        if summary.unsent_bytes > 0 {
            debug!("{} never left: {} bytes", ctx.id(), summary.unsent_bytes);
        }
    }
}
