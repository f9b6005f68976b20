//! An echo of the engine's own, in another thread.

use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use corewire::{
    Accept, Arrival, CloseCode, Context, Handler, Message, Request, Server, ServerHandle, Verdict,
};

/// Echoes; `bye N` has it close with that code, `reset` end without a word, `who` name the
/// connection.
struct Echo;

impl Handler for Echo {
    type Data = ();

    fn on_request(&mut self, request: &Request<'_>, _: &Arrival<'_>) -> Verdict<()> {
        let mut accept = Accept::new();
        if request.subprotocols().any(|name| name == "v2") {
            accept = accept.subprotocol("v2").unwrap();
        }
        Verdict::Accept { accept, data: () }
    }

    fn on_message(&mut self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
        match message {
            Message::Text("reset") => ctx.here().abort(),
            Message::Text(text) if text.starts_with("bye ") => {
                let code = CloseCode::new(text[4..].parse().unwrap());
                ctx.close(code, "as you like").unwrap();
            }
            Message::Text("who") => {
                let name = format!("{:?}", ctx.id());
                let _ = ctx.send_text(&name);
            }
            message => {
                let _ = ctx.send(message);
            }
        }
    }
}

pub struct OwnServer {
    pub address: SocketAddr,
    handle: ServerHandle,
    thread: JoinHandle<()>,
}

impl OwnServer {
    pub fn start() -> OwnServer {
        OwnServer::at(([127, 0, 0, 1], 0).into())
    }

    pub fn at(address: SocketAddr) -> OwnServer {
        let server = Server::builder().threads(1).listen(address).build(|_shard| Echo).unwrap();
        let (address, handle) = (server.local_addresses()[0], server.handle());
        let thread = thread::spawn(move || {
            server.run().unwrap();
        });
        OwnServer { address, handle, thread }
    }

    pub fn url(&self) -> String {
        format!("ws://{}/", self.address)
    }

    /// Ends it, whoever is still connected.
    pub fn stop(self) {
        self.handle.shutdown(Duration::from_millis(100)).unwrap();
        self.thread.join().unwrap();
    }
}
