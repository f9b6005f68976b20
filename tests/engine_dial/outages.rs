//! What becomes of the messages that a client is given while it has no connection.

use std::time::Duration;

use corewire::{
    Client, ClientHandler, ClientId, ClientLayer, Clients, Context, Loop, Message, OutagePolicy,
    Owner, Reactor, ReactorConfig, Submitted, Undecodable, Unsent, UnsentReason,
};

use crate::sim_net::SimNet;

/// Says three things in one callback, and remembers what was not sent.
struct Talker {
    client: ClientId,
    submitted: Vec<Submitted>,
    unsent: Vec<(Vec<u8>, UnsentReason)>,
}

impl ClientHandler for Talker {
    type Data = ();

    fn on_start(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients) {
        let said = ["one", "two", "three"].map(Message::Text);
        self.submitted.extend(said.map(|text| clients.send(at, self.client, text).unwrap()));
        assert_eq!(self.unsent, [], "nothing is called back from inside");
    }

    fn on_message(
        &mut self,
        _: &mut Context<'_, ()>,
        _: &mut Clients,
        _: Message<'_>,
    ) -> Result<(), Undecodable> {
        Ok(())
    }

    fn on_unsent(&mut self, _: &mut Loop<'_, ()>, _: &mut Clients, _: Owner, unsent: Unsent) {
        self.unsent.push((unsent.payload.to_vec(), unsent.reason));
    }
}

#[test]
fn every_message_of_a_callback_may_push_others_out_of_the_queue() {
    let settings = Client::builder("ws://192.0.2.1/")
        .outage(|outage| (outage.messages_max, outage.policy) = (1, OutagePolicy::DropOldest))
        .build()
        .unwrap();
    let layer = ClientLayer::build(|clients| Talker {
        client: clients.add(settings),
        submitted: Vec::new(),
        unsent: Vec::new(),
    });
    let (net, _sim) = SimNet::new(1, 256 << 10);
    let mut reactor = Reactor::new(net, layer, ReactorConfig::new([1; 32]));
    reactor.turn(Some(Duration::ZERO)).unwrap();
    let talker = reactor.handler().handler();
    assert_eq!(talker.submitted, [0, 1, 2].map(|id| Submitted::Waiting { id }));
    let dropped = |text: &str| (text.as_bytes().to_vec(), UnsentReason::QueueFull);
    assert_eq!(talker.unsent, [dropped("one"), dropped("two")]);
}
