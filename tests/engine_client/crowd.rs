//! Many clients on one loop.

use std::time::Duration;

use corewire::{Client, ClientState};

use crate::layer_bed::{LayerBed, Told};
use crate::naive::Frame;
use crate::sim_server::SimServer;

const SEC: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
const COUNT: usize = 1000;

fn crowd() -> (LayerBed, Vec<SimServer>) {
    let mut bed = LayerBed::new(|_| {});
    let settings = Client::builder("ws://192.0.2.1/").build().unwrap();
    bed.ask(move |_, clients| {
        (0..COUNT).for_each(|_| {
            let _ = clients.add(settings.clone());
        })
    });
    let servers = accept_all(&mut bed);
    assert_eq!((servers.len(), bed.reactor.usage().open), (COUNT, COUNT));
    bed.told();
    (bed, servers)
}

fn accept_all(bed: &mut LayerBed) -> Vec<SimServer> {
    let mut servers = Vec::new();
    for _ in 0..COUNT.div_ceil(64) + 3 {
        bed.turn();
        while let Some(peer) = bed.host.next() {
            servers.push(SimServer::new(peer));
        }
    }
    bed.turn();
    servers.iter_mut().for_each(|server| drop(server.upgrade()));
    bed.turns(2);
    servers
}

#[test]
fn clients_that_lose_their_server_together_come_back_one_by_one() {
    let (mut bed, _servers) = crowd();
    bed.host.reset_all();
    bed.turns(3);
    let lost = bed.sim.elapsed();
    let told = bed.told();
    let closes = told.iter().filter(|(_, told)| matches!(told, Told::Close(..))).count();
    assert_eq!(closes, COUNT);
    assert!(told.iter().all(|(at, _)| *at <= lost), "all of it is told at once");
    // Nobody dials before the first 10 ms are over; then about as many in each part of the second.
    assert_eq!(bed.host.tries(), COUNT as u64);
    let mut before = bed.host.tries();
    let mut tenths = Vec::new();
    for _ in 0..10 {
        bed.run_for(SEC / 10);
        tenths.push(bed.host.tries() - before);
        before = bed.host.tries();
    }
    bed.run_for(2 * MS);
    assert_eq!(bed.host.tries(), 2 * COUNT as u64, "each has its second");
    assert!(tenths.iter().all(|count| (60..150).contains(count)), "{tenths:?}");
    accept_all(&mut bed);
    assert_eq!(bed.reactor.usage().open, COUNT);
}

#[test]
fn callbacks_that_are_due_together_do_not_keep_the_turn() {
    let (mut bed, servers) = crowd();
    bed.order(|_, clients| {
        let all: Vec<_> = clients.iter().collect();
        all.iter().for_each(|id| clients.stop(*id));
    });
    // Two callbacks each: the change and the stop.
    bed.turn();
    assert_eq!(bed.events().len(), 1024);
    bed.turn();
    assert_eq!(bed.events().len(), 0, "the others come first");
    bed.run_for(MS);
    assert_eq!(bed.events().len(), 2 * COUNT - 1024);
    for server in &servers {
        server.send(&Frame::close(1000, ""));
        server.peer.fin();
    }
    bed.run_for(SEC);
    assert_eq!(bed.reactor.usage().open, 0);
    let states = bed.ask(|_, clients| {
        let all: Vec<_> = clients.iter().collect();
        all.iter().all(|id| clients.state(*id) == Some(ClientState::Disconnected))
    });
    assert!(states);
    bed.assert_empty();
}
