//! Servers that read slowly, or not at all.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use corewire::{
    Batch, BatchSize, ClientBuilder, Clients, DropReason, Loop, Message, Outage, OverflowPolicy,
    SendOutcome, Submitted, UnsentReason,
};

use crate::bed::{Bed, arrivals, millis, number, numbered};
use crate::rng::Rng;
use crate::sim_server::SimServer;

/// Reads everything, as long as something comes.
fn read_on(bed: &mut Bed, server: &mut SimServer) -> Vec<String> {
    let (mut come, mut silent) = (Vec::new(), 0);
    while silent < 100 {
        let texts = arrivals(server);
        silent = if texts.is_empty() { silent + 1 } else { 0 };
        come.extend(texts);
        bed.run_for(millis(1));
    }
    come
}

/// A client that is told when a queue is full, and lives.
fn with(batch: Option<Batch>, client: ClientBuilder) -> ClientBuilder {
    let client = client.config(|config| config.on_overflow = OverflowPolicy::Refuse);
    match batch {
        Some(batch) => client.batch(|it| *it = batch),
        None => client,
    }
}

const fn is_taken(submitted: Submitted) -> bool {
    match submitted {
        Submitted::Given(outcome) => outcome.is_taken(),
        Submitted::Held | Submitted::Waiting { .. } => true,
        _ => false,
    }
}

#[test]
fn nothing_overtakes_and_nothing_is_lost_behind_a_server_that_does_not_read() {
    for seed in 0..12 {
        let mut rng = Rng::new(seed);
        let mut batch = Batch::default();
        if rng.one_in(2) {
            batch.size = BatchSize::Adaptive;
        }
        batch.max_buffered_bytes = 1 << (12 + rng.below(8));
        batch.max_messages = 1 + rng.below(200);
        // The batch alone may be more than the connection takes.
        let backpressure_bytes_max = 1 << (12 + rng.below(9));
        let (mut bed, mut server) = Bed::opened(|client| {
            client.batch(|it| *it = batch.clone()).config(|config| {
                config.limits.backpressure_bytes_max = backpressure_bytes_max;
                config.limits.high_water_bytes = 1 << (12 + rng.below(7));
                config.limits.low_water_bytes = 4096;
                config.on_overflow = OverflowPolicy::Refuse;
            })
        });
        server.peer.set_buffers(1 << 20, 4096);
        let (mut taken, mut come) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let mut refused = 0;
            for _ in 0..2000 {
                if refused > 20 {
                    break;
                }
                let bytes = if rng.one_in(10) { rng.below(40 << 10) } else { rng.below(3000) };
                let text = numbered(taken.len(), bytes);
                let bytes = text.len();
                let submitted = if rng.one_in(5) { bed.send_now(text) } else { bed.send(text) };
                match submitted {
                    submitted if is_taken(submitted) => taken.push(bytes),
                    Submitted::Refused(UnsentReason::QueueFull)
                    | Submitted::Given(SendOutcome::Dropped(DropReason::Backpressure)) => {
                        refused += 1;
                    }
                    other => panic!("seed {seed}: {other:?}"),
                }
                if rng.one_in(20) {
                    let gap = Duration::from_micros(rng.below(60_000) as u64);
                    bed.run_for(gap);
                }
                if rng.one_in(50) {
                    come.extend(arrivals(&mut server));
                }
            }
            assert!(refused > 0, "seed {seed}: what is kept has a bound");
            let kept = bed.flow().batch.expect("it has batches");
            assert!(kept.buffered_bytes < batch.max_buffered_bytes + (40 << 10), "seed {seed}");
            come.extend(read_on(&mut bed, &mut server));
            let kept = bed.flow().batch.expect("it has batches");
            assert_eq!((kept.buffered, come.len()), (0, taken.len()), "seed {seed}");
        }
        let come: Vec<_> = come.iter().map(|text| (number(text), text.len())).collect();
        assert!(come.into_iter().eq(taken.into_iter().enumerate()), "seed {seed}");
    }
}

#[test]
fn a_large_message_waits_behind_what_cannot_leave() {
    let (mut bed, mut server) = Bed::opened(|client| client.batch(|_| {}));
    server.peer.set_buffers(1 << 20, 4096);
    let mut sent = 0;
    // Up to the high-water mark, and ten more batches.
    while bed.flow().batch.expect("it has batches").buffered < 1000 {
        assert!(is_taken(bed.send(numbered(sent, 200))));
        sent += 1;
    }
    assert_eq!(bed.send(numbered(sent, 100 << 10)), Submitted::Held);
    assert_eq!(bed.send_now(numbered(sent + 1, 20)), Submitted::Held);
    let come = read_on(&mut bed, &mut server);
    assert!(come.iter().map(|text| number(text)).eq(0..sent + 2), "{} came", come.len());
}

#[test]
fn messages_of_a_turn_that_are_merely_corked_hold_no_batch_up() {
    let (mut bed, mut server) = Bed::opened(|client| client.batch(|_| {}));
    let client = bed.client;
    // The application writes to the connection itself, more than the high-water mark.
    bed.act(move |at, clients| {
        let connection = clients.connection(client).expect("it is connected");
        for number in 0..300 {
            let sent = at.peer(connection).send_text(&numbered(number, 1000));
            assert!(sent.is_taken());
        }
        for number in 300..400 {
            let text = numbered(number, 20);
            assert_eq!(clients.send(at, client, Message::Text(&text)), Some(Submitted::Held));
        }
    });
    let come = read_on(&mut bed, &mut server);
    assert!(come.iter().map(|text| number(text)).eq(0..400), "{} came", come.len());
}

#[test]
fn an_application_goes_on_when_there_is_room() {
    for batch in [None, Some(Batch::default())] {
        let (mut bed, mut server) = Bed::opened(|client| with(batch.clone(), client));
        server.peer.set_buffers(1 << 20, 16 << 10);
        let (client, next) = (bed.client, Rc::new(RefCell::new(0)));
        let sent = next.clone();
        let fill = move |at: &mut Loop<'_, ()>, clients: &mut Clients| {
            let mut next = next.borrow_mut();
            while *next < 20_000 {
                let text = numbered(*next, 200);
                match clients.send(at, client, Message::Text(&text)) {
                    Some(submitted) if is_taken(submitted) => *next += 1,
                    _ => return,
                }
            }
        };
        let first = fill.clone();
        bed.app().on_drain = Some(Box::new(move |at, clients| fill(at, clients)));
        bed.act(move |at, clients| first(at, clients));
        assert!((1000..20_000).contains(&*sent.borrow()), "{}", sent.borrow());
        let come = read_on(&mut bed, &mut server);
        assert!(come.iter().map(|text| number(text)).eq(0..20_000), "{} came", come.len());
        assert!(bed.journal().drains > 2);
    }
}

#[test]
fn the_time_to_drain_is_that_of_the_servers_reading() {
    for batch in [None, Some(Batch::default())] {
        let (mut bed, server) = Bed::opened(|client| with(batch.clone(), client));
        server.peer.set_buffers(1 << 20, 8192);
        assert_eq!(bed.flow().estimated_drain.unwrap_or_default(), Duration::ZERO);
        let texts = (0..600).map(|number| numbered(number, 1000)).collect();
        assert!(bed.send_all(texts).into_iter().all(is_taken));
        // 100 kB a second.
        let read = |bed: &mut Bed| {
            bed.run_for(millis(10));
            server.peer.read(1000).len()
        };
        let mut estimates = Vec::new();
        for round in 0..500 {
            assert_eq!(read(&mut bed), 1000);
            // Within two seconds the estimate has forgotten how it began.
            if round > 200 {
                let estimate = bed.flow().estimated_drain.expect("some has left");
                estimates.push((bed.now(), estimate));
            }
        }
        // When nothing is queued any more, the kernel's 8 KiB are.
        let client = bed.client;
        let queued = |bed: &mut Bed| {
            bed.act(move |at, clients| {
                let connection = clients.connection(client).expect("it is connected");
                at.peer(connection).queued_bytes()
            })
        };
        while queued(&mut bed) > 0 {
            read(&mut bed);
        }
        let drained_at = bed.now();
        for (at, estimate) in estimates {
            let left = drained_at - at;
            let error = estimate.abs_diff(left);
            assert!(error < left / 10, "at {at:?} {left:?} were left and {estimate:?} told");
        }
        assert_eq!(bed.flow().estimated_drain, Some(Duration::ZERO));
    }
}

#[test]
fn all_that_has_waited_for_a_connection_is_sent_however_much_it_is() {
    for batch in [None, Some(Batch::default())] {
        let mut bed = Bed::new(1, |client| {
            let mut outage = Outage::default();
            (outage.messages_max, outage.bytes_max) = (10_000, 8 << 20);
            with(batch.clone(), client.outage(|it| *it = outage))
        });
        bed.sim.0.borrow_mut().to_peer_max = 64 << 20;
        // Twenty times the high-water mark, and the kernel takes all of it.
        let submitted = bed.send_all((0..500).map(|number| numbered(number, 10_000)).collect());
        assert!(submitted.iter().all(|given| matches!(given, Submitted::Waiting { .. })));
        let mut server = bed.accept();
        bed.run_for(millis(60));
        let come = arrivals(&mut server);
        assert!(come.iter().map(|text| number(text)).eq(0..500), "{} came", come.len());
    }
}
