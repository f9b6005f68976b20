//! How leases and the pools of threads end.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use corewire::{
    Client, CloseCode, Eviction, LeakVerdict, LeaseError, Message, Outcome, Pool, PoolBuilder,
    PoolError, PoolEvent, PoolHandle,
};

use crate::naive_server::{Peer, listen};
use crate::own_server::OwnServer;

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(100);

fn pool_to(url: &str) -> PoolBuilder {
    Pool::builder().min(0).max(1).endpoint(Client::builder(url).build().unwrap())
}

fn await_waiting(pool: &PoolHandle, count: u32) {
    let until = Instant::now() + LONG;
    while pool.stats().waiting != count {
        assert!(Instant::now() < until, "it takes too long");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn server_that_says_goodbye_ends_the_lease_behind_what_has_come() {
    let server = OwnServer::start();
    let pool = pool_to(&server.url()).start().unwrap();
    let lease = pool.acquire(LONG).unwrap();
    lease.send(Message::Text("first")).unwrap();
    lease.send(Message::Text("bye 4001")).unwrap();
    let until = Instant::now() + LONG;
    while lease.end().is_none() {
        assert!(Instant::now() < until, "it ends");
        thread::yield_now();
    }
    assert_eq!(lease.recv().unwrap().as_text(), Some("first"));
    let Err(LeaseError::Closed(summary)) = lease.recv() else { panic!("it is over") };
    assert_eq!((summary.code.as_u16(), &*summary.reason), (4001, "as you like"));
    let error = lease.send(Message::Text("")).unwrap_err();
    assert!(error.is_over());
    assert_eq!(error.to_string(), "the leased connection was closed with 4001: as you like");
    assert!(matches!(lease.try_recv(), Err(LeaseError::Closed(_))));
    assert!(matches!(lease.release(Outcome::Good), Err(LeaseError::Closed(_))));
    // Another one takes its place.
    pool.acquire(LONG).unwrap().release(Outcome::Good).unwrap();
    server.stop();
}

#[test]
fn connection_that_breaks_off_wakes_who_receives_and_who_sends() {
    let (listener, url) = listen();
    let serving = thread::spawn(move || {
        let peer = Peer::accept(&listener);
        thread::sleep(SHORT);
        drop(peer);
    });
    let pool = pool_to(&url).start().unwrap();
    let lease = Arc::new(pool.acquire(LONG).unwrap());
    let sending = thread::spawn({
        let lease = lease.clone();
        move || loop {
            if let Err(error) = lease.send(Message::Binary(&[0; 10_000])) {
                return error;
            }
        }
    });
    let Err(LeaseError::Closed(summary)) = lease.recv() else { panic!("it is over") };
    assert_eq!(summary.code, CloseCode::ABNORMAL);
    assert!(matches!(sending.join().unwrap(), LeaseError::Closed(_)));
    assert!(matches!(lease.flush(LONG), Err(LeaseError::Closed(_))), "it is not certain");
    serving.join().unwrap();
}

#[test]
fn lease_of_a_thread_that_is_held_for_long_is_reported_then_revoked() {
    let server = OwnServer::start();
    let (tell, told) = mpsc::channel();
    let pool = pool_to(&server.url()).settings(|it| {
        (it.leak_after, it.revoke_after) = (SHORT, 3 * SHORT);
    });
    let pool = pool.build().unwrap().start_with(move |event| {
        if let PoolEvent::Leak(report) = event {
            tell.send(*report).unwrap();
        }
    });
    let pool = pool.unwrap();
    let (lease, line) = (pool.acquire(LONG).unwrap(), line!());
    let report = told.recv_timeout(LONG).unwrap();
    assert_eq!(report.verdict, LeakVerdict::Reported);
    assert_eq!((report.acquired_at.file(), report.acquired_at.line()), (file!(), line));
    lease.send(Message::Text("still mine")).unwrap();
    assert_eq!(lease.recv().unwrap().as_text(), Some("still mine"));
    assert!(matches!(lease.recv(), Err(LeaseError::Revoked)));
    assert_eq!(told.recv_timeout(LONG).unwrap().verdict, LeakVerdict::Revoked);
    for error in [lease.send(Message::Text("")), lease.flush(LONG)] {
        assert!(matches!(error, Err(LeaseError::Revoked)) || error.is_ok());
    }
    assert!(matches!(lease.send(Message::Text("")), Err(LeaseError::Revoked)));
    // Its place is free though it is not dropped.
    let next = pool.acquire(LONG).unwrap();
    assert!(matches!(lease.release(Outcome::Good), Err(LeaseError::Revoked)));
    next.send(Message::Text("mine")).unwrap();
    assert_eq!(next.recv().unwrap().as_text(), Some("mine"));
    let stats = pool.stats();
    assert_eq!((stats.leaks, stats.evicted(Eviction::Revoked)), (1, 1));
    server.stop();
}

#[test]
fn revoked_lease_that_is_full_gives_its_place_up() {
    let (listener, url) = listen();
    let serving = thread::spawn(move || {
        let mut peer = Peer::accept(&listener);
        (0..100).for_each(|_| peer.send(2, &[0; 1000]));
        assert_eq!(peer.close_code(), 1000);
        peer.part(1000);
        Peer::accept(&listener)
    });
    let to = Client::builder(&url).queues(|it| it.incoming_bytes_max = 10_000);
    let to = to.config(|it| it.close_timeout = LONG).build().unwrap();
    let pool = Pool::builder().min(0).max(1).endpoint(to).settings(|it| {
        (it.leak_after, it.revoke_after) = (SHORT, SHORT);
    });
    let pool = pool.start().unwrap();
    let lease = pool.acquire(LONG).unwrap();
    let _next = pool.acquire(LONG / 2).unwrap();
    assert!(lease.recv().is_ok(), "what had come is there");
    serving.join().unwrap();
}

#[test]
fn leases_outlive_the_handles_and_their_last_word_is_sent() {
    let (listener, url) = listen();
    let serving = thread::spawn(move || {
        let mut peer = Peer::accept(&listener);
        assert_eq!(peer.text(), "question");
        peer.send(1, b"answer");
        (0..500).for_each(|number| assert_eq!(peer.text(), number.to_string()));
        assert_eq!(peer.close_code(), 1001);
        peer.part(1001);
    });
    let pool = pool_to(&url).start().unwrap();
    let lease = pool.acquire(LONG).unwrap();
    drop(pool.clone());
    let began = Instant::now();
    drop(pool);
    assert!(began.elapsed() < LONG, "nobody waits for a lease that is out");
    lease.send(Message::Text("question")).unwrap();
    assert_eq!(lease.recv().unwrap().as_text(), Some("answer"));
    (0..500).for_each(|n: i32| lease.send(Message::Text(&n.to_string())).unwrap());
    drop(lease);
    serving.join().unwrap();
}

#[test]
fn drop_of_the_last_handle_says_goodbye_and_does_not_wait_for_an_answer() {
    let (listener, url) = listen();
    let serving = thread::spawn(move || {
        let mut peer = Peer::accept(&listener);
        assert_eq!(peer.text(), "a word");
        (peer.close_code(), peer)
    });
    let pool = pool_to(&url).start().unwrap();
    let lease = pool.acquire(LONG).unwrap();
    lease.send(Message::Text("a word")).unwrap();
    drop(lease);
    let began = Instant::now();
    drop(pool);
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!(serving.join().unwrap().0, 1001);
}

#[test]
fn pool_of_threads_that_is_shut_down_tells_who_waits_and_revokes_in_the_end() {
    let server = OwnServer::start();
    let pool = pool_to(&server.url()).start().unwrap();
    let lease = pool.acquire(LONG).unwrap();
    let waiting = thread::spawn({
        let pool = pool.clone();
        move || pool.acquire(LONG).unwrap_err()
    });
    await_waiting(&pool, 1);
    let closing = thread::spawn({
        let pool = pool.clone();
        let began = Instant::now();
        move || pool.shut_down(3 * SHORT).map(|()| began.elapsed())
    });
    assert_eq!(waiting.join().unwrap(), PoolError::ShutDown);
    assert_eq!(pool.try_acquire().unwrap_err(), PoolError::ShutDown);
    lease.send(Message::Text("still mine")).unwrap();
    assert_eq!(lease.recv().unwrap().as_text(), Some("still mine"));
    assert!(matches!(lease.recv(), Err(LeaseError::Revoked)));
    let took = closing.join().unwrap().unwrap();
    assert!((3 * SHORT..Duration::from_secs(5)).contains(&took), "{took:?}");
    assert_eq!(pool.acquire(LONG).unwrap_err(), PoolError::ShutDown);
    assert_eq!((pool.stats().acquired, pool.stats().expired), (1, 1));
    // Again, and with a lease that comes back too late.
    pool.shut_down(LONG).unwrap();
    assert!(lease.release(Outcome::Good).is_err());
    server.stop();
}

#[test]
fn shutting_down_waits_no_longer_than_for_the_last_lease() {
    let server = OwnServer::start();
    let pool = pool_to(&server.url()).start().unwrap();
    let lease = pool.acquire(LONG).unwrap();
    let holding = thread::spawn(move || {
        thread::sleep(2 * SHORT);
        lease.release(Outcome::Good)
    });
    let began = Instant::now();
    pool.shut_down(Duration::MAX).unwrap();
    assert!((SHORT..LONG / 2).contains(&began.elapsed()));
    holding.join().unwrap().unwrap();
    assert_eq!(pool.stats().evicted(Eviction::ShutDown), 1);
    server.stop();
}

#[test]
fn panic_on_the_pools_thread_wakes_everybody() {
    let (listener, url) = listen();
    let (go, gone) = mpsc::channel::<()>();
    let serving = thread::spawn(move || {
        let mut peer = Peer::accept(&listener);
        gone.recv().unwrap();
        peer.send(8, &1000u16.to_be_bytes());
        peer
    });
    let pool = pool_to(&url).max(2).build().unwrap();
    let pool = pool.start_with(|event| {
        assert!(!matches!(event, PoolEvent::Closed(_)), "a panic that is wanted");
    });
    let pool = pool.unwrap();
    let _lease = pool.acquire(LONG).unwrap();
    // Its dial is never answered.
    let waiting = thread::spawn({
        let pool = pool.clone();
        move || pool.acquire(LONG).unwrap_err()
    });
    await_waiting(&pool, 1);
    go.send(()).unwrap();
    assert_eq!(waiting.join().unwrap(), PoolError::LoopFailed);
    assert_eq!(pool.acquire(LONG).unwrap_err(), PoolError::LoopFailed);
    assert_eq!(pool.shut_down(LONG), Err(PoolError::LoopFailed));
    assert_eq!(pool.stats().acquired, 0);
    serving.join().unwrap();
}

#[test]
fn panic_on_the_pools_thread_ends_every_lease() {
    let server = OwnServer::start();
    let pool = pool_to(&server.url()).max(3).build().unwrap();
    let pool = pool.start_with(|event| {
        assert!(!matches!(event, PoolEvent::Closed(_)), "a panic that is wanted");
    });
    let pool = pool.unwrap();
    let [one, other, third] = [(); 3].map(|()| pool.acquire(LONG).unwrap());
    let receiving = thread::spawn(move || other.recv().unwrap_err());
    one.send(Message::Text("bye 1000")).unwrap();
    assert!(matches!(receiving.join().unwrap(), LeaseError::LoopFailed));
    assert!(matches!(one.recv(), Err(LeaseError::Closed(_))));
    // Each lease ends by itself, so that of another says nothing of this one.
    assert!(matches!(third.recv(), Err(LeaseError::LoopFailed)));
    assert!(matches!(third.send(Message::Text("")), Err(LeaseError::LoopFailed)));
    assert!(matches!(third.flush(LONG), Ok(())), "nothing was sent");
    drop((one, third));
    server.stop();
}
