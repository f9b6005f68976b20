//! Whoever is slow holds the other back, lease by lease, and what is not sent is told.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use corewire::{
    Client, ClientSettings, Eviction, LeaseError, Message, Outcome, Pool, PoolEvent, PooledClient,
    UnsentReason,
};

use crate::naive_server::{Peer, listen, numbered};
use crate::own_server::OwnServer;

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(100);

/// Connections with little room, so that what the kernel takes is the most of it.
fn narrow(url: &str, close_timeout: Duration) -> ClientSettings {
    let to = Client::builder(url).queues(|queues| {
        queues.outgoing_bytes_max = 64 << 10;
        queues.incoming_bytes_max = 64 << 10;
    });
    let to = to.config(|config| {
        config.limits.high_water_bytes = 32 << 10;
        config.limits.low_water_bytes = 16 << 10;
        config.close_timeout = close_timeout;
    });
    let to = to.sockets(|sockets| {
        sockets.send_buffer_bytes = Some(64 << 10);
        sockets.receive_buffer_bytes = Some(64 << 10);
    });
    to.build().unwrap()
}

/// Sends until there is no more room; gives the number of messages that were taken.
fn fill(lease: &PooledClient) -> u32 {
    for count in 0..20_000 {
        match lease.send_timeout(Message::Binary(&numbered(count)), SHORT) {
            Ok(()) => {}
            Err(LeaseError::Full) => return count,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("there is no end to it");
}

#[test]
fn lease_to_a_server_that_does_not_read_blocks_and_the_next_one_comes_behind() {
    let (listener, url) = listen();
    let (go, gone) = mpsc::channel::<u32>();
    let serving = thread::spawn(move || {
        let mut peer = Peer::accept(&listener);
        let count = gone.recv().unwrap();
        thread::sleep(SHORT);
        (0..count).for_each(|number| assert_eq!(peer.frame().1[..4], number.to_be_bytes()));
        assert_eq!(peer.text(), "the next");
        peer
    });
    let pool = Pool::builder().min(0).max(1).endpoint(narrow(&url, LONG)).start().unwrap();
    let lease = pool.acquire(LONG).unwrap();
    let count = fill(&lease);
    assert!(matches!(lease.try_send(Message::Text("")), Err(LeaseError::Full)));
    assert!(matches!(lease.flush(SHORT), Err(LeaseError::TimedOut)));
    go.send(count + 1).unwrap();
    lease.send(Message::Binary(&numbered(count))).unwrap();
    // It is given back with much unsent.
    drop(lease);
    let next = pool.acquire(LONG).unwrap();
    next.send(Message::Text("the next")).unwrap();
    next.flush(LONG).unwrap();
    serving.join().unwrap();
    assert_eq!((pool.stats().opened, pool.stats().reused), (1, 1));
}

#[test]
fn lease_that_does_not_receive_holds_the_server_back_and_loses_nothing() {
    const COUNT: u32 = 20_000;
    let (listener, url) = listen();
    let (tell, told) = mpsc::channel();
    let serving = thread::spawn(move || {
        let mut peer = Peer::accept(&listener);
        peer.flood(COUNT, &tell);
        peer
    });
    let pool = Pool::builder().min(0).max(1).endpoint(narrow(&url, LONG)).start().unwrap();
    let lease = pool.acquire(LONG).unwrap();
    let sent = told.recv_timeout(LONG).unwrap();
    assert!((64..10_000).contains(&sent), "{sent}");
    for number in 0..COUNT {
        let message = lease.recv_timeout(LONG).unwrap().expect("it goes on");
        assert_eq!(message.payload()[..4], number.to_be_bytes());
    }
    serving.join().unwrap();
}

#[test]
fn one_lease_that_is_full_does_not_hold_up_another() {
    let (listener, url) = listen();
    let serving = thread::spawn(move || {
        let stuck = Peer::accept(&listener);
        let mut peer = Peer::accept(&listener);
        for number in 0..1000 {
            assert_eq!(peer.text(), number.to_string());
            peer.send(1, b"yes");
        }
        (stuck, peer)
    });
    let pool = Pool::builder().min(0).max(2).endpoint(narrow(&url, SHORT)).start().unwrap();
    let stuck = pool.acquire(LONG).unwrap();
    fill(&stuck);
    let lease = pool.acquire(LONG).unwrap();
    for number in 0..1000 {
        lease.send(Message::Text(&number.to_string())).unwrap();
        assert_eq!(lease.recv_timeout(LONG).unwrap().unwrap().as_text(), Some("yes"));
    }
    serving.join().unwrap();
}

/// Gives a lease back that is full, in one of two ways, and accounts for every message.
fn account(give_back: fn(PooledClient), at_least: Duration) {
    let (listener, url) = listen();
    let serving = thread::spawn(move || (Peer::accept(&listener), listener));
    let (unsent, cut) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (tell, told) = mpsc::channel();
    let pool = Pool::builder().min(0).max(1).endpoint(narrow(&url, 2 * SHORT)).build().unwrap();
    let pool = pool.start_with({
        let (unsent, cut) = (unsent.clone(), cut.clone());
        move |event| match event {
            PoolEvent::Unsent { message, reason } => {
                assert_eq!((message.payload().len(), reason), (1000, UnsentReason::ConnectionLost));
                unsent.fetch_add(1, Ordering::SeqCst);
            }
            PoolEvent::Closed(summary) => {
                cut.fetch_add(summary.unsent_messages, Ordering::SeqCst);
                let _ = tell.send(());
            }
            _ => {}
        }
    });
    let pool = pool.unwrap();
    let lease = pool.acquire(LONG).unwrap();
    let (mut peer, _listener) = serving.join().unwrap();
    let count = fill(&lease);
    let began = Instant::now();
    give_back(lease);
    assert!(began.elapsed() < SHORT, "it does not block");
    told.recv_timeout(LONG).unwrap();
    let took = began.elapsed();
    assert!((at_least..LONG / 2).contains(&took), "{took:?}");
    let mut arrived = Vec::new();
    let _ = io::Read::read_to_end(&mut peer.0, &mut arrived);
    let (unsent, cut) = (unsent.load(Ordering::SeqCst), cut.load(Ordering::SeqCst));
    // Each frame has a head of eight bytes; of one that is torn the rest is unsent.
    assert_eq!(unsent + cut + arrived.len() as u64 / 1008, u64::from(count));
    assert!(unsent > 30, "{unsent} and {cut} of {count}");
    assert_eq!(pool.stats().evicted(Eviction::Broken), 1);
}

#[test]
fn lease_given_back_to_a_server_that_does_not_read_is_cut_off_and_accounted_for() {
    account(drop, 3 * SHORT);
}

#[test]
fn lease_given_back_as_broken_waits_for_nothing_and_is_accounted_for() {
    account(|lease| lease.release(Outcome::Broken).unwrap(), SHORT);
}

#[test]
fn lease_that_goes_while_it_is_full_of_answers_leaves_none_to_the_next() {
    let (listener, url) = listen();
    let serving = thread::spawn(move || {
        let mut peer = Peer::accept(&listener);
        let flooding = thread::spawn(move || while peer.try_send(2, &[0; 1000]).is_ok() {});
        let mut next = Peer::accept(&listener);
        assert_eq!(next.text(), "question");
        next.send(1, b"answer");
        flooding.join().unwrap();
        next
    });
    let pool = Pool::builder().min(0).max(2).endpoint(narrow(&url, SHORT)).start().unwrap();
    let lease = pool.acquire(LONG).unwrap();
    thread::sleep(SHORT);
    drop(lease);
    let next = pool.acquire(LONG).unwrap();
    next.send(Message::Text("question")).unwrap();
    assert_eq!(next.recv_timeout(LONG).unwrap().unwrap().as_text(), Some("answer"));
    assert_eq!(pool.stats().evicted(Eviction::Broken), 1);
    serving.join().unwrap();
}

#[test]
fn flush_waits_for_no_batch_but_for_the_rate() {
    let server = OwnServer::start();
    let to = Client::builder(&server.url()).batch(|batch| batch.max_delay = LONG);
    let pool = Pool::builder().min(0).max(1).endpoint(to.build().unwrap()).start().unwrap();
    let lease = pool.acquire(LONG).unwrap();
    let began = Instant::now();
    for round in 0..5 {
        lease.send(Message::Text(&round.to_string())).unwrap();
        lease.flush(LONG).unwrap();
        assert_eq!(lease.recv_timeout(LONG).unwrap().unwrap().as_text(), Some(&*round.to_string()));
    }
    assert!(began.elapsed() < LONG / 2);
    let to = Client::builder(&server.url()).rate(|rate| {
        (rate.messages_per_second, rate.messages_burst) = (Some(50), Some(1));
    });
    let pool = Pool::builder().min(0).max(1).endpoint(to.build().unwrap()).start().unwrap();
    let lease = pool.acquire(LONG).unwrap();
    let began = Instant::now();
    (0..11).for_each(|_| lease.send(Message::Text("slowly")).unwrap());
    lease.flush(LONG).unwrap();
    assert!((2 * SHORT..LONG / 2).contains(&began.elapsed()), "{:?}", began.elapsed());
    (0..11).for_each(|_| assert_eq!(lease.recv().unwrap().as_text(), Some("slowly")));
    server.stop();
}

#[test]
fn holder_who_is_faster_than_the_rate_blocks_and_loses_nothing() {
    let server = OwnServer::start();
    let to = Client::builder(&server.url())
        .rate(|rate| {
            rate.messages_per_second = Some(1000);
            rate.messages_burst = Some(1);
            rate.waiting_bytes_max = 1 << 10;
        })
        .queues(|queues| queues.outgoing_bytes_max = 1 << 10);
    let pool = Pool::builder().min(0).max(1).endpoint(to.build().unwrap()).start().unwrap();
    let lease = pool.acquire(LONG).unwrap();
    let began = Instant::now();
    (0..300).for_each(|_| lease.send(Message::Text("slowly")).unwrap());
    assert!(began.elapsed() > SHORT, "{:?}", began.elapsed());
    lease.flush(LONG).unwrap();
    (0..300).for_each(|_| assert_eq!(lease.recv().unwrap().as_text(), Some("slowly")));
    server.stop();
}

#[test]
fn message_that_cannot_be_sent_is_handed_back_and_flush_says_so() {
    let server = OwnServer::start();
    let to = Client::builder(&server.url());
    let to = to.batch(|batch| batch.form = corewire::BatchForm::Envelope).build().unwrap();
    let (tell, told) = mpsc::channel();
    let pool = Pool::builder().min(0).max(1).endpoint(to).build().unwrap();
    let pool = pool.start_with(move |event| {
        if let PoolEvent::Unsent { message, reason } = event {
            tell.send((message, reason)).unwrap();
        }
    });
    let pool = pool.unwrap();
    let lease = pool.acquire(LONG).unwrap();
    lease.send(Message::Text("1")).unwrap();
    lease.send(Message::Text("no JSON")).unwrap();
    assert!(matches!(lease.flush(LONG), Err(LeaseError::Unsent(1))));
    lease.flush(LONG).unwrap();
    let (message, reason) = told.recv_timeout(LONG).unwrap();
    assert_eq!((message.as_text(), reason), (Some("no JSON"), UnsentReason::NotJson));
    assert_eq!(lease.recv_timeout(LONG).unwrap().unwrap().as_text(), Some("1"));
    server.stop();
}
