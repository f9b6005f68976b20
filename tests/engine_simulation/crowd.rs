//! The handler of the simulation, which does everything that a handler may do, and the ledger of
//! what it was told and of what it has sent.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use corewire::{
    Accept, Arrival, Chunk, CloseCode, CloseSummary, ConnectionId, Context, Handler, Message,
    Opcode, Part, PreparedMessage, Request, Response, SendOutcome, Ticket, Verdict,
};

use crate::sim_net::Sim;
use crate::sim_peer::{BINARY, TEXT};

/// A message: its opcode and payload.
pub type Whole = (u8, Vec<u8>);

/// What is known of one peer's connection.
#[derive(Default)]
pub struct Record {
    pub id: Option<ConnectionId>,
    /// What the peer has sent or will send, in order, and the handler has not been given.
    pub expected: VecDeque<Whole>,
    /// What a send has taken, in order.
    pub taken: Vec<Whole>,
    /// Parts taken of a message whose last part is not taken yet.
    parts: Option<Whole>,
    /// Pieces received of a message in streaming mode.
    pieces: Vec<u8>,
    pub opened: u32,
    pub closes: Vec<CloseSummary>,
    pub delivered: usize,
    /// Paths that the handler was asked about, in order.
    pub asked: Vec<String>,
}

/// Everything that the simulation judges by.
pub struct Ledger {
    pub records: Vec<Record>,
    /// What must never happen and did.
    pub violations: Vec<String>,
    /// What a queue may hold: the bound, one message, and control frames.
    pub queued_bytes_max: usize,
    pub paused: Vec<ConnectionId>,
    /// Of deferred requests that nobody has decided about.
    pub tickets: Vec<Ticket>,
    deferred: usize,
}

pub type SharedLedger = Rc<RefCell<Ledger>>;

/// Does what the first letter of a message says.
pub struct Crowd {
    ledger: SharedLedger,
    sim: Sim,
    is_inside: bool,
}

impl Ledger {
    pub fn new(peers: usize, queued_bytes_max: usize) -> SharedLedger {
        let records = (0..peers).map(|_| Record::default()).collect();
        let (violations, paused, tickets) = (Vec::new(), Vec::new(), Vec::new());
        let deferred = 0;
        let ledger = Self { records, violations, queued_bytes_max, paused, tickets, deferred };
        Rc::new(RefCell::new(ledger))
    }

    fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        // No panic: it would count as the handler's own and might be caught.
        if !holds {
            self.violations.push(what());
        }
    }
}

/// The peer's number is its port.
fn number(ctx: &mut Context<'_, ()>) -> usize {
    usize::from(
        ctx.here().address().and_then(|peer| peer.socket_addr()).map_or(0, |peer| peer.port()),
    )
}

fn number_of(ctx: &mut Context<'_, ()>, id: ConnectionId) -> Option<usize> {
    ctx.peer(id).address()?.socket_addr().map(|peer| usize::from(peer.port()))
}

impl Crowd {
    pub fn new(ledger: SharedLedger, sim: Sim) -> Self {
        Self { ledger, sim, is_inside: false }
    }

    /// Goes around every callback: none comes inside another, each to one that is open.
    fn enter(&mut self, ctx: &mut Context<'_, ()>) -> usize {
        self.sim.0.borrow_mut().progress += 1;
        let number = number(ctx);
        let id = ctx.id();
        let mut ledger = self.ledger.borrow_mut();
        let is_nested = self.is_inside;
        ledger.expect(!is_nested, || format!("{number}: a callback inside a callback"));
        let record = &ledger.records[number];
        let is_between = record.opened == 1 && record.closes.is_empty() && record.id == Some(id);
        ledger.expect(is_between, || format!("{number}: a callback not between open and close"));
        self.is_inside = true;
        number
    }

    fn leave(&mut self, ctx: &mut Context<'_, ()>) {
        self.is_inside = false;
        let queued = ctx.here().queued_bytes();
        let mut ledger = self.ledger.borrow_mut();
        let bound = ledger.queued_bytes_max;
        ledger.expect(queued <= bound, || format!("{queued} bytes queued, above {bound}"));
    }

    fn take(&mut self, number: usize, outcome: SendOutcome, message: Whole) {
        if outcome.is_taken() {
            self.ledger.borrow_mut().records[number].taken.push(message);
        }
    }

    fn send(&mut self, ctx: &mut Context<'_, ()>, id: ConnectionId, how: u8, message: &Whole) {
        let Some(number) = number_of(ctx, id) else { return };
        let (opcode, payload) = message;
        let binary = (BINARY, payload.clone());
        let mut to = ctx.peer(id);
        match how {
            b'b' => {
                let outcome = to.send_bytes(Bytes::from(payload.clone()));
                self.take(number, outcome, binary);
            }
            b'p' => {
                let outcome = to.send_prepared(&PreparedMessage::binary(payload));
                self.take(number, outcome, binary);
            }
            b'u' if *opcode == BINARY => {
                let outcome = to.send_uncompressed(Message::Binary(payload));
                self.take(number, outcome, binary);
            }
            _ if *opcode == TEXT => {
                let text = std::str::from_utf8(payload).expect("peers write ASCII");
                let outcome = to.send_text(text);
                self.take(number, outcome, message.clone());
            }
            _ => {
                let outcome = to.send_binary(payload);
                self.take(number, outcome, binary);
            }
        }
    }

    /// Sends in three parts; a last part that was refused is owed before anything else.
    fn send_parts(&mut self, ctx: &mut Context<'_, ()>, number: usize, message: &Whole) {
        let third = message.1.len().div_ceil(3).max(1);
        let pieces: Vec<&[u8]> = message.1.chunks(third).collect();
        let parts = [Part::First, Part::Middle, Part::Last];
        for (at, part) in parts.into_iter().enumerate() {
            let piece = pieces.get(at).copied().unwrap_or_default();
            self.send_part(ctx, number, piece, part);
        }
    }

    fn send_part(&mut self, ctx: &mut Context<'_, ()>, number: usize, piece: &[u8], part: Part) {
        let outcome = ctx.here().send_part(Opcode::Binary, piece, part);
        if !outcome.is_taken() {
            return;
        }
        let record = &mut self.ledger.borrow_mut().records[number];
        let parts = record.parts.get_or_insert((BINARY, Vec::new()));
        parts.1.extend(piece);
        if part == Part::Last {
            record.taken.extend(record.parts.take());
        }
    }

    fn finish_parts(&mut self, ctx: &mut Context<'_, ()>, number: usize) {
        let is_owed = self.ledger.borrow().records[number].parts.is_some();
        if is_owed {
            self.send_part(ctx, number, b"", Part::Last);
        }
    }

    /// A whole message has come: it is the next that the peer has sent. Does what it says.
    fn handle(&mut self, ctx: &mut Context<'_, ()>, number: usize, message: &Whole) {
        {
            let mut ledger = self.ledger.borrow_mut();
            let record = &mut ledger.records[number];
            record.delivered += 1;
            let next = record.expected.pop_front();
            let is_next = next.as_ref() == Some(message);
            ledger.expect(is_next, || format!("{number}: not the message that was sent"));
        }
        self.finish_parts(ctx, number);
        let id = ctx.id();
        let letter = message.1.first().copied().unwrap_or(b'e');
        match letter {
            b's' => {}
            b't' => self.send_parts(ctx, number, message),
            b'o' => {
                let others: Vec<_> = ctx.connections().collect();
                for other in others {
                    // Their parts come first, so what cannot be sent now is not taken.
                    self.send(ctx, other, b'p', message);
                }
            }
            b'c' => {
                self.send(ctx, id, b'e', message);
                ctx.close(CloseCode::NORMAL, "asked for").expect("1000 may stand on the wire");
            }
            b'a' => {
                self.send(ctx, id, b'e', message);
                ctx.here().abort();
            }
            b'k' => {
                let other = ctx.connections().find(|other| *other != id);
                if let Some(other) = other {
                    ctx.peer(other).close(CloseCode::GOING_AWAY, "").expect("1001 may, too");
                }
            }
            b'z' => {
                ctx.here().pause();
                self.ledger.borrow_mut().paused.push(id);
            }
            b'r' => self.resume_all(ctx),
            // Without the hook, which would print it.
            b'x' => std::panic::resume_unwind(Box::new("asked for")),
            b'g' => {
                let _ = ctx.here().send_ping(b"from the handler");
            }
            how => self.send(ctx, id, how, message),
        }
    }

    fn resume_all(&mut self, ctx: &mut Context<'_, ()>) {
        let paused = std::mem::take(&mut self.ledger.borrow_mut().paused);
        for id in paused {
            ctx.peer(id).resume();
        }
    }
}

impl Handler for Crowd {
    type Data = ();

    fn on_request(&mut self, request: &Request<'_>, arrival: &Arrival<'_>) -> Verdict<()> {
        self.sim.0.borrow_mut().progress += 1;
        let mut ledger = self.ledger.borrow_mut();
        let number = usize::from(arrival.peer.socket_addr().expect("it has connected").port());
        ledger.records[number].asked.push(request.path().to_owned());
        let answer =
            |status, body: &'static [u8]| Response::new(status).expect("a final status").body(body);
        match request.path() {
            "/refuse" => Verdict::Reject(answer(403, b"no")),
            "/plain" => Verdict::Respond(answer(200, b"plain")),
            "/large" => Verdict::Respond(answer(200, &[b'x'; 10_000])),
            "/later" => {
                ledger.tickets.push(arrival.ticket());
                ledger.deferred += 1;
                let millis = [20, 10_000, 300, 0][ledger.deferred % 4];
                Verdict::Defer { timeout: Duration::from_millis(millis), data: () }
            }
            "/" if request.is_upgrade() => Verdict::Accept { accept: Accept::new(), data: () },
            _ => Verdict::UpgradeRequired,
        }
    }

    fn on_open(&mut self, ctx: &mut Context<'_, ()>) {
        let (number, id) = (number(ctx), ctx.id());
        {
            let mut ledger = self.ledger.borrow_mut();
            let is_first = ledger.records[number].opened == 0;
            ledger.expect(is_first, || format!("{number}: opened twice"));
            ledger.records[number].opened += 1;
            ledger.records[number].id = Some(id);
        }
        self.enter(ctx);
        if number.is_multiple_of(3) {
            self.send(ctx, id, b'e', &(TEXT, b"welcome".to_vec()));
        }
        self.leave(ctx);
    }

    fn on_message(&mut self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
        let number = self.enter(ctx);
        let opcode = if matches!(message, Message::Text(_)) { TEXT } else { BINARY };
        let message = (opcode, message.payload().to_vec());
        if message.1.first() == Some(&b'x') {
            self.is_inside = false;
        }
        self.handle(ctx, number, &message);
        self.leave(ctx);
    }

    fn on_chunk(&mut self, ctx: &mut Context<'_, ()>, chunk: Chunk<'_>) {
        let number = self.enter(ctx);
        let whole = {
            let mut ledger = self.ledger.borrow_mut();
            let before = ledger.records[number].pieces.len() as u64;
            ledger.expect(chunk.offset == before, || format!("{number}: a gap in the pieces"));
            let pieces = &mut ledger.records[number].pieces;
            pieces.extend(chunk.payload);
            chunk.fin.then(|| std::mem::take(pieces))
        };
        if let Some(payload) = whole {
            let opcode = if chunk.opcode == Opcode::Text { TEXT } else { BINARY };
            if payload.first() == Some(&b'x') {
                self.is_inside = false;
            }
            self.handle(ctx, number, &(opcode, payload));
        }
        self.leave(ctx);
    }

    fn on_ping(&mut self, ctx: &mut Context<'_, ()>, _: &[u8]) {
        self.enter(ctx);
        self.leave(ctx);
    }

    fn on_pong(&mut self, ctx: &mut Context<'_, ()>, _: &[u8], _: Option<Duration>) {
        self.enter(ctx);
        self.leave(ctx);
    }

    fn on_drain(&mut self, ctx: &mut Context<'_, ()>) {
        let number = self.enter(ctx);
        self.finish_parts(ctx, number);
        let id = ctx.id();
        self.send(ctx, id, b'e', &(TEXT, b"drained".to_vec()));
        self.leave(ctx);
    }

    fn on_close(&mut self, ctx: &mut Context<'_, ()>, summary: &CloseSummary) {
        let number = self.enter(ctx);
        let outcome = ctx.send_text("too late");
        {
            let mut ledger = self.ledger.borrow_mut();
            ledger.expect(!outcome.is_taken(), || format!("{number}: taken after the end"));
            ledger.records[number].closes.push(summary.clone());
        }
        let other = ctx.connections().next();
        if let Some(other) = other.filter(|_| number.is_multiple_of(2)) {
            self.send(ctx, other, b'e', &(TEXT, b"farewell".to_vec()));
        }
        self.leave(ctx);
    }
}
