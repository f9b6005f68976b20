//! A corewire loop inside a tokio runtime, on its thread, beside other tasks.
//!
//!     cargo run --example under_tokio [ADDRESS]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use corewire::{Context, Handler, Message, PreparedMessage, Server};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

struct Echo;

impl Handler for Echo {
    type Data = ();

    fn on_message(&mut self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
        let _ = ctx.send(message);
    }
}

/// Without a deadline of its own the loop is turned so often.
const IDLE: Duration = Duration::from_secs(3600);

async fn serve(address: SocketAddr) -> Result<(), Box<dyn std::error::Error>> {
    let reactor = Server::builder().listen(address).build_reactor(Echo)?;
    println!("listening on {}", reactor.local_addresses().next().expect("it listens on one"));

    // Any other task: it talks to the loop through a handle, as another thread would.
    let handle = reactor.handle();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let _ = handle.broadcast(PreparedMessage::text("from a task"));
        }
    });

    // Its successor is an unsafe function. What that asks for is so here: the descriptor is the
    // reactor's own, stays the same, and stays open for as long as the reactor lives.
    #[allow(deprecated)]
    let mut reactor = AsyncFd::with_interest(reactor, Interest::READABLE)?;
    while !reactor.get_ref().is_finished() {
        let deadline = reactor.get_ref().next_deadline().unwrap_or_else(|| Instant::now() + IDLE);
        // Readiness is cleared before the turn, so that none which comes meanwhile is lost.
        if let Ok(ready) = tokio::time::timeout_at(deadline.into(), reactor.readable()).await {
            ready?.clear_ready();
        }
        reactor.get_mut().turn(Some(Duration::ZERO))?;
        tokio::task::yield_now().await;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9001".into()).parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(address))
}
