//! Another thread talks to all connections through a handle, and ends the server after a while.
//!
//!     cargo run --example ticker [ADDRESS] [TICKS]

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use corewire::{Context, Handler, Message, PreparedMessage, Server};

/// Clients have nothing to say here.
struct Deaf;

impl Handler for Deaf {
    type Data = ();

    fn on_message(&mut self, _: &mut Context<'_, ()>, _: Message<'_>) {}
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let address: SocketAddr = args.next().unwrap_or("127.0.0.1:9001".into()).parse()?;
    let ticks: u32 = args.next().unwrap_or("100".into()).parse()?;
    let server = Server::builder().listen(address).build(|_shard| Deaf)?;
    println!("listening on {}", server.local_addresses()[0]);

    let handle = server.handle();
    let ticker = thread::spawn(move || {
        for tick in 0..ticks {
            thread::sleep(Duration::from_millis(100));
            let _ = handle.broadcast(&PreparedMessage::text(&format!("tick {tick}")));
        }
        // Everyone gets 1001 and a second to answer it; then `run` returns.
        handle.shutdown(Duration::from_secs(1))
    });
    let counters = server.run()?;
    ticker.join().expect("the ticker does not panic")?;
    println!("{} ticks were sent to {} clients", counters.messages_sent, counters.closed);
    Ok(())
}
