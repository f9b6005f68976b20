//! The smallest server: every message goes back.

use corewire::{
    Config, Context, Handler, ListenOptions, ListenerSettings, Message, MioNet, Reactor,
    ReactorConfig, Role,
};

struct Echo;

impl Handler for Echo {
    type Data = ();

    fn on_message(&mut self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
        let _ = ctx.send(message);
    }
}

fn main() -> std::io::Result<()> {
    let net = MioNet::new(256 * 1024)?;
    let mut reactor = Reactor::new(net, Echo, ReactorConfig::new([7; 32]));
    let mut config = Config::new(Role::Server);
    config.limits.message_bytes_max = 64 << 20;
    let settings = ListenerSettings::new(config);
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9001".into());
    reactor.listen(address.parse().unwrap(), &ListenOptions::default(), settings)?;
    reactor.run()
}
