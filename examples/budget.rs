//! An echo that stays within a budget of memory, whatever its clients do.
//!
//!     cargo run --example budget [ADDRESS] [MEBIBYTES] [THREADS]
//!
//! With 0 MEBIBYTES the budget is that of the process' cgroup, or of the machine.

use std::net::SocketAddr;

use corewire::{Context, Handler, Loop, Message, PressureChange, Server};

/// Sends everything back, and prints each change of the level.
struct Echo;

impl Handler for Echo {
    type Data = ();

    fn on_message(&mut self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
        let _ = ctx.send(message);
    }

    fn on_pressure(&mut self, _: &mut Loop<'_, ()>, change: &PressureChange) {
        // The place to give back what the application keeps for later.
        let PressureChange { from, to, snapshot, .. } = change;
        let [used, budget] = [snapshot.sample.used_bytes(), snapshot.budget_bytes].map(|n| n >> 20);
        println!("{from:?} -> {to:?} at {} %, {used} of {budget} MiB", snapshot.percent);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let address: SocketAddr = args.next().unwrap_or("127.0.0.1:9001".into()).parse()?;
    let budget_mib: u64 = args.next().unwrap_or("256".into()).parse()?;
    let threads: usize = args.next().unwrap_or("1".into()).parse()?;
    let server = Server::builder()
        .listen(address)
        .threads(threads)
        .pressure(|pressure| {
            pressure.budget_bytes = (budget_mib > 0).then_some(budget_mib << 20);
        })
        .config(|config| config.limits.message_bytes_max = 16 << 20)
        .build(|_shard| Echo)?;
    println!("listening on {}", server.local_addresses()[0]);
    server.run()?;
    Ok(())
}
