//! What is sent by leased connections.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use corewire::{
    Acquired, Client, ClientBuilder, Clients, Lease, Loop, Message, Outcome, Pool, PoolError,
    Submitted,
};

use crate::bed::{Bed, arrivals, millis, number, numbered};
use crate::sim_server::SimServer;

/// A loop whose pool has lent its only connection.
fn leased(change: impl FnOnce(ClientBuilder) -> ClientBuilder) -> (Bed, SimServer, Lease) {
    let (mut bed, _client) = Bed::opened(|client| client);
    let to = change(Client::builder("ws://192.0.2.1/leased")).build().expect("good settings");
    let pool = Pool::builder().endpoint(to).min(1).max(1).build().expect("a pool");
    let pool = bed.act(move |_, clients| clients.add_pool(pool));
    let server = bed.accept();
    let acquired = bed.act(move |at, clients| clients.acquire(at, pool, millis(1)));
    let Ok(Acquired::Now(lease)) = acquired else { panic!("{acquired:?}") };
    (bed, server, lease)
}

/// One way to send.
#[derive(Clone, Copy)]
enum Way {
    Usual,
    Now,
    Offer,
}

fn send(bed: &mut Bed, lease: Lease, way: Way, text: String) -> Result<Submitted, PoolError> {
    bed.act(move |at, clients| {
        let message = Message::Text(&text);
        match way {
            Way::Usual => clients.send_leased(at, lease, message),
            Way::Now => clients.send_leased_now(at, lease, message),
            Way::Offer => clients.offer_leased(at, lease, message),
        }
    })
}

#[test]
fn critical_message_of_a_lease_takes_along_what_waits_in_front() {
    let (mut bed, mut server, lease) = leased(|to| to.batch(|batch| batch.max_delay = millis(50)));
    for at in 0..3 {
        assert_eq!(send(&mut bed, lease, Way::Usual, numbered(at, 20)), Ok(Submitted::Held));
    }
    assert_eq!(send(&mut bed, lease, Way::Offer, numbered(3, 20)), Ok(Submitted::Held));
    assert!(arrivals(&mut server).is_empty());
    let flow = move |bed: &mut Bed| bed.act(move |at, clients| clients.flow_leased(at, lease));
    let batch = flow(&mut bed).unwrap().batch.expect("it has batches");
    assert_eq!((batch.buffered, batch.batches), (4, 0));
    let now = bed.now();
    assert!(send(&mut bed, lease, Way::Now, numbered(4, 20)).is_ok());
    let come = arrivals(&mut server);
    assert!(come.iter().map(|text| number(text)).eq(0..5), "{come:?}");
    assert!(bed.now() - now < millis(10), "it did not wait");
    let batch = flow(&mut bed).unwrap().batch.expect("it has batches");
    assert_eq!((batch.buffered, batch.batches), (0, 1));
}

#[test]
fn flush_of_a_lease_hands_over_what_waits_for_its_batch_but_not_for_the_rate() {
    let flush = |bed: &mut Bed, lease| bed.act(move |at, clients| clients.flush_leased(at, lease));
    let (mut bed, mut server, lease) = leased(|to| to.batch(|batch| batch.max_delay = millis(50)));
    assert_eq!(send(&mut bed, lease, Way::Usual, numbered(0, 20)), Ok(Submitted::Held));
    assert_eq!(flush(&mut bed, lease), Ok(true));
    assert_eq!(arrivals(&mut server).len(), 1);
    let (mut bed, mut server, lease) = leased(|to| {
        to.rate(|rate| (rate.messages_per_second, rate.messages_burst) = (Some(10), Some(1)))
    });
    assert!(matches!(send(&mut bed, lease, Way::Usual, numbered(0, 20)), Ok(Submitted::Given(_))));
    assert_eq!(send(&mut bed, lease, Way::Usual, numbered(1, 20)), Ok(Submitted::Held));
    assert_eq!(flush(&mut bed, lease), Ok(false));
    bed.run_for(millis(110));
    assert_eq!(flush(&mut bed, lease), Ok(true));
    assert_eq!(arrivals(&mut server).len(), 2);
}

#[test]
fn lease_to_a_server_that_does_not_read_takes_what_it_has_room_for_and_says_when_more() {
    let (mut bed, mut server, lease) = leased(|to| {
        to.config(|config| {
            config.limits.high_water_bytes = 32 << 10;
            config.limits.low_water_bytes = 16 << 10;
        })
    });
    server.peer.set_buffers(1 << 20, 4096);
    let (mut given, mut drains) = (0, 0);
    while given < 400 {
        match send(&mut bed, lease, Way::Offer, numbered(given, 1000)).unwrap() {
            Submitted::Given(outcome) if outcome.is_taken() => given += 1,
            Submitted::NotYet => {
                let before = bed.journal().drains;
                let mut come = 0;
                while bed.journal().drains == before {
                    come += arrivals(&mut server).len();
                    bed.run_for(millis(1));
                    assert!(come < 400, "on_drain follows");
                }
                drains += 1;
            }
            submitted => panic!("{submitted:?}"),
        }
    }
    assert!(drains > 3, "{drains}");
    assert!(bed.journal().unsent.is_empty());
}

#[test]
fn lease_that_offers_more_than_the_rate_has_room_for_goes_on_in_time() {
    let (mut bed, mut server, lease) = leased(|to| {
        to.rate(|rate| {
            (rate.messages_per_second, rate.messages_burst) = (Some(100), Some(1));
            rate.waiting_bytes_max = 200;
        })
    });
    let next = Rc::new(Cell::new(0));
    let offer = move |at: &mut Loop<'_, ()>, clients: &mut Clients| {
        while next.get() < 50 {
            match clients.offer_leased(at, lease, Message::Text(&numbered(next.get(), 84))) {
                Ok(Submitted::NotYet) => return,
                Ok(Submitted::Given(_) | Submitted::Held) => next.set(next.get() + 1),
                submitted => panic!("{submitted:?}"),
            }
        }
    };
    let start = bed.now();
    bed.app().on_room = Some(Box::new(offer.clone()));
    bed.act(move |at, clients| offer(at, clients));
    let mut come = Vec::new();
    bed.run_until(start + Duration::from_secs(1), |at| {
        come.extend(arrivals(&mut server).into_iter().map(|text| (at, number(&text))));
    });
    assert!(come.iter().map(|(_, number)| *number).eq(0..50), "{come:?}");
    let last = come.last().unwrap().0 - start;
    assert!(last >= millis(490) && last <= millis(496), "{last:?}");
    assert!(bed.journal().rooms <= 50, "{}", bed.journal().rooms);
}

#[test]
fn lease_that_is_over_sends_nothing_in_any_way() {
    let (mut bed, mut server, lease) = leased(|to| to);
    bed.act(move |at, clients| clients.release(at, lease, Outcome::Good)).unwrap();
    for way in [Way::Usual, Way::Now, Way::Offer] {
        assert_eq!(send(&mut bed, lease, way, numbered(0, 20)), Err(PoolError::Revoked));
    }
    bed.act(move |at, clients| {
        assert_eq!(clients.flush_leased(at, lease), Err(PoolError::Revoked));
        assert_eq!(clients.flow_leased(at, lease), Err(PoolError::Revoked));
        assert_eq!(clients.endpoint_of(lease), Err(PoolError::Revoked));
    });
    assert!(arrivals(&mut server).is_empty());
}
