//! Browsers come to a port, programs on this machine to a Unix socket where more is allowed.
use std::path::PathBuf;

use corewire::{Context, Endpoint, Handler, Message, Origins, Server, UnixEndpoint};

struct Echo;

impl Handler for Echo {
    type Data = ();

    fn on_open(&mut self, ctx: &mut Context<'_, ()>) {
        let door = ctx.here().listener().map_or("none", |index| ["public", "inside"][index]);
        let _ = ctx.send_text(door);
    }

    fn on_message(&mut self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
        let _ = ctx.send(message);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let address: std::net::SocketAddr = args.next().unwrap_or("127.0.0.1:9001".into()).parse()?;
    let path =
        args.next().map_or_else(|| std::env::temp_dir().join("corewire.sock"), PathBuf::from);
    let server = Server::builder()
        .config(|config| config.limits.message_bytes_max = 100)
        .listen(address)
        .listen_with(UnixEndpoint::Path(path), |options, settings| {
            options.unix_mode = Some(0o600);
            settings.origins = Origins::Any;
            settings.config_mut().limits.message_bytes_max = 64 << 20;
        })
        .build(|_shard| Echo)?;
    let endpoints: Vec<_> = server.local_endpoints().iter().map(Endpoint::to_string).collect();
    println!("listening on {}", endpoints.join(", "));
    server.run()?;
    Ok(())
}
