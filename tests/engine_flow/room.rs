//! Who asks whether there is room is told when there is.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use corewire::{ClientBuilder, ClientId, Clients, Loop, Message, Submitted};

use crate::bed::{Bed, arrivals, millis, number, numbered};

/// One message each 10 ms, and few wait.
fn slow(client: ClientBuilder) -> ClientBuilder {
    client.rate(|rate| {
        (rate.messages_per_second, rate.messages_burst) = (Some(100), Some(1));
        rate.waiting_bytes_max = 200;
    })
}

/// Offers one message after the other, until it is told to stop or `count` were taken.
fn offering(client: ClientId, count: usize) -> impl FnMut(&mut Loop<'_, ()>, &mut Clients) + Clone {
    let next = Rc::new(RefCell::new(0));
    move |at, clients| {
        let mut next = next.borrow_mut();
        while *next < count {
            match clients.offer(at, client, Message::Text(&numbered(*next, 84))) {
                Some(Submitted::NotYet) => return,
                Some(Submitted::Given(_) | Submitted::Held) => *next += 1,
                submitted => panic!("{submitted:?}"),
            }
        }
    }
}

#[test]
fn who_offers_more_than_the_rate_has_room_for_goes_on_in_time() {
    for in_batches in [false, true] {
        let (mut bed, mut server) = Bed::opened(|client| match in_batches {
            true => slow(client).batch(|batch| batch.max_delay = millis(3)),
            false => slow(client),
        });
        let mut offer = offering(bed.client, 50);
        bed.app().on_room = Some(Box::new(offer.clone()));
        let start = bed.now();
        bed.act(move |at, clients| offer(at, clients));
        let mut come = Vec::new();
        bed.run_until(start + Duration::from_secs(1), |at| {
            come.extend(arrivals(&mut server).into_iter().map(|text| (at, number(&text))));
        });
        assert!(come.iter().map(|(_, number)| *number).eq(0..50), "{come:?}");
        let last = come.last().unwrap().0 - start;
        assert!(last >= millis(490) && last <= millis(496), "{last:?}");
        // Each is told of at most once for every time that comes.
        assert!(bed.journal().rooms <= 100, "{}", bed.journal().rooms);
    }
}

#[test]
fn nobody_is_told_of_room_who_has_not_asked_for_it() {
    let (mut bed, mut server) = Bed::opened(slow);
    bed.send_all((0..3).map(|number| numbered(number, 20)).collect());
    bed.run_for(millis(100));
    assert_eq!((arrivals(&mut server).len(), bed.journal().rooms), (3, 0));
}

#[test]
fn flush_has_a_batch_leave_that_gathers() {
    let (mut bed, mut server) = Bed::opened(|client| client.batch(|_| {}));
    bed.send_all((0..3).map(|number| numbered(number, 20)).collect());
    assert!(arrivals(&mut server).is_empty());
    let client = bed.client;
    assert!(bed.act(move |at, clients| clients.flush(at, client)));
    assert_eq!(arrivals(&mut server).len(), 3);
}

#[test]
fn flush_of_what_waits_for_its_turn_is_told_when_to_ask_again() {
    let (mut bed, mut server) =
        Bed::opened(|client| slow(client).batch(|batch| batch.max_delay = Duration::MAX));
    let client = bed.client;
    let is_done = Rc::new(RefCell::new(None));
    bed.app().on_room = Some(Box::new({
        let is_done = is_done.clone();
        move |at, clients| {
            if clients.flush(at, client) {
                let now = at.now();
                is_done.borrow_mut().get_or_insert(now);
            }
        }
    }));
    bed.send_all((0..3).map(|number| numbered(number, 20)).collect());
    let start = bed.act(move |at, clients| {
        assert!(!clients.flush(at, client));
        at.now()
    });
    bed.run_for(millis(100));
    assert_eq!(arrivals(&mut server).len(), 3);
    let after = is_done.borrow().expect("it was told") - start;
    assert!(after >= millis(19) && after <= millis(22), "{after:?}");
}

#[test]
fn what_waits_behind_a_large_message_lets_the_loop_rest() {
    let mut bed = Bed::new(1, |client| {
        client.rate(|rate| (rate.bytes_per_second, rate.bytes_burst) = (Some(1000), Some(1000)))
    });
    let client = bed.client;
    bed.app().on_open = Some(Box::new(move |at, clients| {
        for number in 0..2 {
            let _ = clients.send(at, client, Message::Text(&numbered(number, 1000)));
        }
    }));
    // It waits for the connection, and then for the second message, which waits for a second.
    assert_eq!(bed.send(numbered(2, 10)), Submitted::Waiting { id: 0 });
    let mut server = bed.accept();
    let (mut turns, mut come) = (0, Vec::new());
    bed.run_until(bed.now() + Duration::from_secs(2), |_| {
        turns += 1;
        come.extend(arrivals(&mut server).iter().map(|text| number(text)));
    });
    assert_eq!(come, [0, 1, 2]);
    assert!(turns < 20, "{turns}");
}
