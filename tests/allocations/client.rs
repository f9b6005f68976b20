//! What a client sends, by itself and in batches, to a server on the same loop.

use std::time::Duration;

use corewire::{
    Batch, Client, ClientHandler, ClientId, ClientLayer, Clients, Config, Context, ListenOptions,
    ListenerSettings, Loop, Message, MioNet, Reactor, ReactorConfig, Role, Submitted, Undecodable,
};

use crate::{ALLOCATIONS, counted};

/// Messages of a round. They are no whole batches, so some wait for their time.
const ROUND: usize = 130;

/// Sends a round when the one before has arrived.
struct Rounds {
    payload: Vec<u8>,
    client: Option<ClientId>,
    arrived: usize,
    rounds: u64,
}

impl Rounds {
    fn send(&self, at: &mut Loop<'_, ()>, clients: &mut Clients) {
        let client = self.client.expect("it was added");
        for _ in 0..ROUND {
            match clients.send(at, client, Message::Binary(&self.payload)) {
                Some(Submitted::Given(outcome)) => assert!(outcome.is_taken(), "{outcome:?}"),
                submitted => assert_eq!(submitted, Some(Submitted::Held)),
            }
        }
    }
}

impl ClientHandler for Rounds {
    type Data = ();

    fn on_open(&mut self, ctx: &mut Context<'_, ()>, clients: &mut Clients) {
        if clients.owner(ctx.id()).is_some() {
            self.send(ctx, clients);
        }
    }

    fn on_message(
        &mut self,
        ctx: &mut Context<'_, ()>,
        clients: &mut Clients,
        message: Message<'_>,
    ) -> Result<(), Undecodable> {
        assert_eq!(message.payload().len(), self.payload.len());
        self.arrived += 1;
        if self.arrived == ROUND {
            (self.arrived, self.rounds) = (0, self.rounds + 1);
            self.send(ctx, clients);
        }
        Ok(())
    }
}

fn allocations_of_rounds(payload_bytes: usize, batch: Option<Batch>) -> u64 {
    let (payload, client) = (vec![b'x'; payload_bytes], None);
    let layer = ClientLayer::new(Rounds { payload, client, arrived: 0, rounds: 0 });
    let net = MioNet::new(256 << 10).unwrap();
    let mut reactor = Reactor::new(net, layer, ReactorConfig::new([1; 32]));
    let settings = ListenerSettings::new(Config::new(Role::Server));
    let endpoint = reactor.listen(([127, 0, 0, 1], 0), &ListenOptions::default(), settings);
    let address = endpoint.unwrap().socket_addr().unwrap();
    let mut to = Client::builder(&format!("ws://{address}/"));
    if let Some(batch) = batch {
        to = to.batch(|it| *it = batch);
    }
    let client = reactor.handler().clients().add(to.build().unwrap());
    reactor.handler().handler().client = Some(client);
    let mut run_until = |rounds: u64| {
        while reactor.handler().handler().rounds < rounds {
            counted(|| reactor.turn(Some(Duration::from_millis(100)))).unwrap();
        }
    };
    run_until(40);
    ALLOCATIONS.set(0);
    run_until(80);
    ALLOCATIONS.get()
}

#[test]
fn what_a_client_sends_costs_no_allocation_in_batches_or_without() {
    let mut batch = Batch::default();
    batch.max_delay = Duration::from_millis(1);
    for payload_bytes in [0, 20, 1000, 20_000] {
        for batch in [None, Some(batch.clone())] {
            let allocations = allocations_of_rounds(payload_bytes, batch.clone());
            assert_eq!(allocations, 0, "{payload_bytes} bytes, {batch:?}");
        }
    }
}
