//! What the server does with requests and messages.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use corewire::{
    Accept, Arrival, Chunk, ClientAddress, CloseSummary, Context, Handler, Message, Opcode, Part,
    Request, Response, Verdict,
};
use tracing::debug;

use crate::settings::Listener;

/// Sends every message back; answers plain HTTP with the page.
pub struct Echo {
    /// Shared by all loops: whether the server is parting.
    is_draining: Arc<AtomicBool>,
    /// In the order in which they were added.
    listeners: Arc<[Arc<Listener>]>,
}

const PAGE: &str = include_str!("../page.html");
const PLAIN: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

impl Echo {
    pub fn new(is_draining: Arc<AtomicBool>, listeners: Arc<[Arc<Listener>]>) -> Self {
        Self { is_draining, listeners }
    }

    /// Whether the WebSocket is at this path, and with it the page.
    fn is_at(&self, arrival: &Arrival<'_>) -> bool {
        let mut routes = self.listeners[arrival.listener].routes.iter();
        routes.any(|(pattern, _)| Some(pattern) == arrival.route)
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

    fn respond(&self, request: &Request<'_>, arrival: &Arrival<'_>) -> Response {
        if !matches!(request.method(), "GET" | "HEAD") {
            return answer(405, PLAIN, "only GET and HEAD are answered here\n")
                .header("Allow", "GET, HEAD")
                .expect("a legal header");
        }
        match request.path() {
            "/healthz" if self.is_draining.load(Ordering::Relaxed) => {
                answer(503, PLAIN, "draining\n")
            }
            "/healthz" => answer(200, PLAIN, "ok\n"),
            _ if self.is_at(arrival) => page(),
            _ => answer(404, PLAIN, "there is nothing at this path\n"),
        }
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

fn answer(status: u16, content_type: &str, body: &'static str) -> Response {
    let response = Response::new(status).and_then(|it| it.header("Content-Type", content_type));
    response.expect("a legal status and header").body(body.as_bytes())
}

impl Handler for Echo {
    type Data = ();

    fn on_request(&mut self, request: &Request<'_>, arrival: &Arrival<'_>) -> Verdict<()> {
        // A query may hold a token, which stays out of logs.
        debug!("{} {} {}", self.caller(request, arrival), request.method(), request.path());
        match request.is_upgrade() {
            true if self.is_at(arrival) => Verdict::Accept { accept: Accept::new(), data: () },
            true => Verdict::Reject(answer(404, PLAIN, "there is no WebSocket at this path\n")),
            false => Verdict::Respond(self.respond(request, arrival)),
        }
    }

    fn on_open(&mut self, ctx: &mut Context<'_, ()>) {
        if let Some(peer) = ctx.here().address() {
            debug!("{peer} open as {}", ctx.id());
        }
    }

    fn on_message(&mut self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
        // What is dropped is counted, and a connection that must drop is closing already.
        let _ = ctx.send(message);
    }

    fn on_chunk(&mut self, ctx: &mut Context<'_, ()>, chunk: Chunk<'_>) {
        let part = match (chunk.offset, chunk.fin) {
            (0, true) => {
                let _ = match (chunk.opcode, std::str::from_utf8(chunk.payload)) {
                    (Opcode::Text, Ok(text)) => ctx.send_text(text),
                    _ => ctx.send_binary(chunk.payload),
                };
                return;
            }
            (0, false) => Part::First,
            (_, false) => Part::Middle,
            (_, true) => Part::Last,
        };
        let _ = ctx.here().send_part(chunk.opcode, chunk.payload, part);
    }

    fn on_close(&mut self, ctx: &mut Context<'_, ()>, summary: &CloseSummary) {
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
