//! Every message goes back, over TLS: `wss ADDRESS CHAIN.pem KEY.pem`. Each line of standard input
//! has the files read again, as a renewal would; connections that stand are not touched.
use corewire::{Context, Handler, Message, Server, Tls};

struct Echo;

impl Handler for Echo {
    type Data = ();

    fn on_message(&mut self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
        let _ = ctx.send(message);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(address), Some(chain), Some(key)) = (args.next(), args.next(), args.next()) else {
        return Err("wss ADDRESS CHAIN.pem KEY.pem".into());
    };
    let address: std::net::SocketAddr = address.parse()?;
    let tls = Tls::builder().certificate_files(chain, key).build()?;
    let server = Server::builder().listen(address).tls(tls.clone()).build(|_shard| Echo)?;
    println!("listening on {}", server.local_addresses()[0]);
    std::thread::spawn(move || {
        for _ in std::io::stdin().lines() {
            match tls.reload() {
                Ok(()) => println!("certificates read"),
                Err(error) => println!("certificates kept: {error}"),
            }
        }
    });
    server.run()?;
    Ok(())
}
