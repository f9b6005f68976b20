//! Who may come in: passwords (Basic, RFC 7617) are looked at at once, tokens (Bearer, RFC 6750) by
//! another thread, as if it had to ask a database, while the loop serves everybody else.
//!
//! Both travel in the clear: let TLS end in front of this, or in it.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use corewire::{
    Accept, Arrival, Context, Decision, Handler, Message, Request, Response, Server, ServerHandle,
    Ticket, Verdict,
};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// Each with what it proves to know. An application has salted hashes here.
const PASSWORDS: [(&str, &str); 2] = [("anna", "anna:open sesame"), ("bert", "bert:shibboleth")];
const TOKENS: [(&str, &str); 2] = [("carla", "t-4711"), ("dieter", "t-0815")];

/// Tokens that may wait to be looked at.
const QUESTIONS_MAX: usize = 1024;

struct Doorkeeper {
    questions: SyncSender<Question>,
}

struct Question {
    token: String,
    ticket: Ticket,
}

/// What is kept for each connection.
#[derive(Default)]
struct Guest {
    name: String,
}

impl Handler for Doorkeeper {
    type Data = Guest;

    fn on_request(&mut self, request: &Request<'_>, arrival: &Arrival<'_>) -> Verdict<Guest> {
        match credentials(request) {
            Some(("basic", encoded)) => {
                let password = BASE64_STANDARD.decode(encoded).unwrap_or_default();
                match find(&PASSWORDS, &password) {
                    Some(name) => {
                        Verdict::Accept { accept: Accept::new(), data: Guest { name: name.into() } }
                    }
                    None => Verdict::Reject(unauthorized()),
                }
            }
            Some(("bearer", token)) => {
                let question = Question { token: token.to_owned(), ticket: arrival.ticket() };
                match self.questions.try_send(question) {
                    Ok(()) => {
                        Verdict::Defer { timeout: Duration::from_secs(5), data: Guest::default() }
                    }
                    Err(_) => Verdict::Reject(answer(503, "too many are asking\n")),
                }
            }
            _ => Verdict::Reject(unauthorized()),
        }
    }

    fn on_open(&mut self, ctx: &mut Context<'_, Guest>) {
        // Whom the other thread has let in is known by its name.
        if let Some(name) = ctx.take_attachment::<String>() {
            ctx.data().name = name;
        }
        let welcome = format!("welcome, {}", ctx.data().name);
        let _ = ctx.send_text(&welcome);
    }

    fn on_message(&mut self, ctx: &mut Context<'_, Guest>, message: Message<'_>) {
        let _ = ctx.send(message);
    }
}

/// The scheme in lower case and what stands behind it (RFC 9110 §11.6.2).
fn credentials<'a>(request: &Request<'a>) -> Option<(&'static str, &'a str)> {
    let field = str::from_utf8(request.header("Authorization")?).ok()?;
    let (scheme, rest) = field.split_once(' ')?;
    let scheme = ["basic", "bearer"].into_iter().find(|name| scheme.eq_ignore_ascii_case(name))?;
    Some((scheme, rest.trim_start()))
}

/// Whose secret this is. It takes the same time whichever it is, and whether it is one at all; only
/// of its length the time may tell.
fn find(table: &[(&'static str, &str)], secret: &[u8]) -> Option<&'static str> {
    let mut found = table.len() as u64;
    for (at, (_, expected)) in table.iter().enumerate() {
        let is_this: Choice = expected.as_bytes().ct_eq(secret);
        found.conditional_assign(&(at as u64), is_this);
    }
    table.get(found as usize).map(|(name, _)| *name)
}

/// Runs on a thread of its own.
fn look_at_tokens(questions: &Receiver<Question>, server: &ServerHandle) {
    while let Ok(Question { token, ticket }) = questions.recv() {
        let decision = match find(&TOKENS, token.as_bytes()) {
            Some(name) => Decision::AcceptWith(Accept::new(), Box::new(name.to_owned())),
            None => Decision::Reject(unauthorized()),
        };
        // A client that has left meanwhile does not need the decision.
        if let Err(error) = server.decide(ticket, decision) {
            println!("no decision: {error}");
        }
    }
}

fn unauthorized() -> Response {
    answer(401, "say who you are\n")
        .header("WWW-Authenticate", "Basic realm=\"corewire\", charset=\"UTF-8\"")
        .and_then(|response| response.header("WWW-Authenticate", "Bearer realm=\"corewire\""))
        .expect("legal headers")
}

fn answer(status: u16, body: &'static str) -> Response {
    Response::new(status).expect("a legal status").body(body.as_bytes())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9001".into());
    let address: std::net::SocketAddr = address.parse()?;
    let (questions, answers) = sync_channel(QUESTIONS_MAX);
    let server = Server::builder()
        .listen(address)
        .build(move |_shard| Doorkeeper { questions: questions.clone() })?;
    let handle = server.handle();
    thread::spawn(move || look_at_tokens(&answers, &handle));
    println!("listening on {}", server.local_addresses()[0]);
    server.run()?;
    Ok(())
}
