//! Connections that a pool lends to threads.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use corewire::{
    Client, CloseCode, EndpointError, EndpointState, Eviction, MemberState, Message, Outcome,
    OwnedMessage, Pool, PoolBuilder, PoolConfigError, PoolError, PoolEvent, PoolHandle,
    PooledClient, StartError,
};

use crate::naive_server::{Peer, listen};
use crate::own_server::OwnServer;

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(100);

fn pool_of(server: &OwnServer, connections: u32) -> PoolBuilder {
    let to = Client::builder(&server.url()).build().unwrap();
    Pool::builder().min(0).max(connections).endpoint(to)
}

fn ask(lease: &PooledClient, question: &str) -> String {
    lease.send(Message::Text(question)).unwrap();
    lease.recv_timeout(LONG).unwrap().unwrap().as_text().unwrap().to_owned()
}

/// Waits until so many wait.
fn await_waiting(pool: &PoolHandle, count: u32) {
    let until = Instant::now() + LONG;
    while pool.stats().waiting != count {
        assert!(Instant::now() < until, "it takes too long");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn lease_goes_back_when_it_is_dropped_and_its_connection_is_lent_again() {
    let server = OwnServer::start();
    let to = Client::builder(&server.url()).subprotocol("v2").build().unwrap();
    let pool = Pool::builder().min(1).max(5).endpoint(to).start().unwrap();
    let mut names = Vec::new();
    for _ in 0..10 {
        let lease = pool.acquire(LONG).unwrap();
        assert_eq!(lease.subprotocol(), Some("v2"));
        assert_eq!(lease.uri().to_string(), server.url());
        assert_eq!(lease.endpoint(), pool.endpoints()[0].0);
        assert!(lease.try_recv().unwrap().is_none());
        names.push(ask(&lease, "who"));
        lease.send(Message::Binary(&[0, 255])).unwrap();
        assert_eq!(lease.recv().unwrap(), OwnedMessage::Binary(vec![0, 255]));
        lease.flush(LONG).unwrap();
        assert!(lease.end().is_none());
    }
    assert!(names.iter().all(|name| *name == names[0]), "{names:?}");
    let stats = pool.stats();
    assert_eq!((stats.acquired, stats.reused, stats.opened), (10, 9, 1));
    assert_eq!((stats.members_in(MemberState::Active), stats.undecodable), (0, 0));
    pool.shut_down(LONG).unwrap();
    server.stop();
}

#[test]
fn threads_are_served_in_their_order() {
    const COUNT: u32 = 20;
    let server = OwnServer::start();
    let pool = pool_of(&server, 1).start().unwrap();
    let lease = pool.acquire(LONG).unwrap();
    let (tell, told) = mpsc::channel();
    let threads: Vec<_> = (0..COUNT)
        .map(|number| {
            let (pool, tell) = (pool.clone(), tell.clone());
            await_waiting(&pool, number);
            thread::spawn(move || {
                let lease = pool.acquire(LONG).unwrap();
                tell.send(number).unwrap();
                assert_eq!(ask(&lease, "mine"), "mine");
            })
        })
        .collect();
    await_waiting(&pool, COUNT);
    drop(lease);
    assert!(told.iter().take(COUNT as usize).eq(0..COUNT));
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let stats = pool.stats();
    // The first one waited for the dial.
    assert_eq!((stats.opened, stats.acquired), (1, u64::from(COUNT) + 1));
    assert_eq!(stats.wait_time.count(), u64::from(COUNT) + 1);
    server.stop();
}

#[test]
fn waiting_ends_in_time_and_trying_does_not_wait() {
    let server = OwnServer::start();
    let pool = pool_of(&server, 1).settings(|it| it.waiters_max = 1).start().unwrap();
    assert_eq!(pool.try_acquire().unwrap_err(), PoolError::Exhausted);
    let lease = pool.acquire(LONG).unwrap();
    let began = Instant::now();
    assert_eq!(pool.acquire(SHORT).unwrap_err(), PoolError::Exhausted);
    let took = began.elapsed();
    assert!((SHORT..SHORT * 20).contains(&took), "{took:?}");
    assert_eq!(pool.acquire(Duration::ZERO).unwrap_err(), PoolError::Exhausted);
    let waiting = thread::spawn({
        let pool = pool.clone();
        move || pool.acquire(Duration::MAX).map(|lease| ask(&lease, "at last"))
    });
    await_waiting(&pool, 1);
    assert_eq!(pool.acquire(LONG).unwrap_err(), PoolError::TooManyWaiting);
    drop(lease);
    assert_eq!(waiting.join().unwrap().unwrap(), "at last");
    drop(pool.try_acquire().unwrap());
    assert_eq!(pool.stats().expired, 2);
    server.stop();
}

#[test]
fn user_of_threads_comes_back_to_his_connection() {
    let server = OwnServer::start();
    let pool = pool_of(&server, 4).start().unwrap();
    let all: Vec<_> = (0..4).map(|user| pool.acquire_for(user, LONG).unwrap()).collect();
    let names: Vec<_> = all.iter().map(|lease| ask(lease, "who")).collect();
    drop(all);
    for _ in 0..3 {
        for user in [2usize, 0, 3, 1] {
            let lease = pool.try_acquire_for(user as i32).unwrap();
            assert_eq!(ask(&lease, "who"), names[user]);
            lease.release(Outcome::Good).unwrap();
            let lease = pool.acquire_for(user as i32, LONG).unwrap();
            assert_eq!(ask(&lease, "who"), names[user]);
        }
    }
    server.stop();
}

#[test]
fn two_threads_use_one_lease() {
    const COUNT: u32 = 20_000;
    let server = OwnServer::start();
    let pool = pool_of(&server, 1).start().unwrap();
    let lease = Arc::new(pool.acquire(LONG).unwrap());
    let sending = thread::spawn({
        let lease = lease.clone();
        move || {
            (0..COUNT).for_each(|n| lease.send(Message::Binary(&n.to_be_bytes())).unwrap());
        }
    });
    for number in 0..COUNT {
        assert_eq!(lease.recv().unwrap().payload(), number.to_be_bytes());
    }
    sending.join().unwrap();
    server.stop();
}

#[test]
fn outcome_decides_what_becomes_of_the_connection() {
    let server = OwnServer::start();
    let pool = pool_of(&server, 1).start().unwrap();
    let name = ask(&pool.acquire(LONG).unwrap(), "who");
    for outcome in [Outcome::Failed, Outcome::Failed, Outcome::Good] {
        let lease = pool.acquire(LONG).unwrap();
        assert_eq!(ask(&lease, "who"), name);
        lease.release(outcome).unwrap();
    }
    pool.acquire(LONG).unwrap().release(Outcome::Failed).unwrap();
    let lease = pool.acquire(LONG).unwrap();
    let next = ask(&lease, "who");
    assert_ne!(next, name);
    lease.release(Outcome::Broken).unwrap();
    assert_ne!(ask(&pool.acquire(LONG).unwrap(), "who"), next);
    let stats = pool.stats();
    assert_eq!((stats.evicted(Eviction::Errors), stats.evicted(Eviction::Broken)), (1, 1));
    server.stop();
}

#[test]
fn thread_that_panics_gives_its_connection_back_as_broken() {
    let server = OwnServer::start();
    let pool = pool_of(&server, 1).start().unwrap();
    let panicking = thread::spawn({
        let pool = pool.clone();
        move || {
            let lease = pool.acquire(LONG).unwrap();
            lease.send(Message::Text("half a question")).unwrap();
            panic!("a panic that is wanted");
        }
    });
    assert!(panicking.join().is_err());
    assert_eq!(ask(&pool.acquire(LONG).unwrap(), "whole"), "whole");
    let stats = pool.stats();
    assert_eq!((stats.evicted(Eviction::Broken), stats.opened), (1, 2));
    server.stop();
}

#[test]
fn message_that_comes_to_nobody_is_dropped_and_counted() {
    let (listener, url) = listen();
    let (go, gone) = mpsc::channel();
    let serving = thread::spawn(move || {
        let mut peer = Peer::accept(&listener);
        assert_eq!(peer.text(), "question");
        gone.recv().unwrap();
        peer.send(1, b"late");
        assert_eq!(peer.text(), "another");
        peer.send(1, b"in time");
        peer
    });
    let to = Client::builder(&url).build().unwrap();
    let pool = Pool::builder().min(0).max(1).endpoint(to).start().unwrap();
    let lease = pool.acquire(LONG).unwrap();
    lease.send(Message::Text("question")).unwrap();
    assert!(lease.recv_timeout(Duration::from_millis(20)).unwrap().is_none());
    drop(lease);
    go.send(()).unwrap();
    let until = Instant::now() + LONG;
    while pool.stats().undecodable == 0 {
        assert!(Instant::now() < until, "it is counted");
    }
    assert_eq!(ask(&pool.acquire(LONG).unwrap(), "another"), "in time");
    serving.join().unwrap();
}

#[test]
fn endpoints_come_and_go_while_the_pool_runs() {
    let servers = [OwnServer::start(), OwnServer::start()];
    let pool = pool_of(&servers[0], 2).start().unwrap();
    let lease = pool.acquire(LONG).unwrap();
    let first = lease.endpoint();
    let to = Client::builder(&servers[1].url()).build().unwrap();
    let second = pool.add_endpoint(&to, 1).unwrap();
    assert_eq!(pool.endpoints().len(), 2);
    pool.drain_endpoint(first);
    assert_eq!(pool.endpoints()[0].1.state, EndpointState::Draining);
    let other = pool.acquire(LONG).unwrap();
    assert_eq!((other.endpoint(), ask(&other, "there")), (second, "there".to_owned()));
    assert_eq!(ask(&lease, "still here"), "still here");
    drop(lease);
    pool.remove_endpoint(second);
    let end = other.recv().unwrap_err();
    assert!(matches!(end, corewire::LeaseError::Revoked), "{end}");
    pool.shut_down(LONG).unwrap();
    assert!(pool.endpoints().is_empty());
    assert_eq!(pool.add_endpoint(&to, 1), Err(EndpointError::NoPool));
    servers.into_iter().for_each(OwnServer::stop);
}

#[test]
fn events_are_told_on_the_loops_thread() {
    let server = OwnServer::start();
    let (listener, dead) = listen();
    drop(listener);
    let (tell, told) = mpsc::channel();
    let dead = Client::builder(&dead).build().unwrap();
    let pool = pool_of(&server, 2).endpoint(dead).build().unwrap();
    let pool = pool.start_with(move |event| {
        let _ = tell.send(match event {
            PoolEvent::Opened(mut peer) => {
                assert!(peer.send_text("hello").is_taken());
                "opened".to_owned()
            }
            PoolEvent::DialFailed(error) => {
                assert!(matches!(error, corewire::DialError::Io { .. }));
                "failed".to_owned()
            }
            PoolEvent::Closed(summary) => format!("closed {}", summary.code.as_u16()),
            _ => "more".to_owned(),
        });
    });
    let pool = pool.unwrap();
    let leases = [(); 2].map(|()| pool.acquire(LONG).unwrap());
    let hello = leases[0].recv_timeout(LONG).unwrap().unwrap();
    assert_eq!(hello.as_text(), Some("hello"));
    let [lease, other] = leases;
    lease.send(Message::Text("bye 4002")).unwrap();
    assert!(lease.recv().is_err());
    drop((lease, other));
    pool.shut_down(LONG).unwrap();
    drop(pool);
    let mut told: Vec<String> = told.iter().collect();
    told.sort();
    told.dedup();
    let code = CloseCode::GOING_AWAY.as_u16();
    assert_eq!(
        told,
        [format!("closed {code}"), "closed 4002".into(), "failed".into(), "opened".into()]
    );
    server.stop();
}

#[test]
fn pool_that_cannot_be_is_told() {
    let error = Pool::builder().start().unwrap_err();
    assert!(matches!(error, StartError::Pool(PoolConfigError::NoEndpoint)), "{error}");
}

#[test]
fn eight_threads_exchange_thousands_of_messages_on_few_connections() {
    const EACH: u32 = 3000;
    let server = OwnServer::start();
    let pool = pool_of(&server, 4).min(4).start().unwrap();
    let threads: Vec<_> = (0..8u32)
        .map(|thread| {
            let pool = pool.clone();
            thread::spawn(move || {
                for number in 0..EACH {
                    let lease = match number % 3 {
                        0 => pool.acquire_for(thread, LONG).unwrap(),
                        _ => pool.acquire(LONG).unwrap(),
                    };
                    let question = format!("{thread} {number}");
                    assert_eq!(ask(&lease, &question), question);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let stats = pool.stats();
    assert_eq!((stats.acquired, stats.opened, stats.size()), (u64::from(8 * EACH), 4, 4));
    assert_eq!((stats.leaks, stats.undecodable, stats.waiting), (0, 0, 0));
    assert_eq!(stats.members_in(MemberState::Active), 0);
    assert!(stats.reuse_rate() >= 0.99, "{}", stats.reuse_rate());
    pool.shut_down(LONG).unwrap();
    assert_eq!(pool.stats().acquired, stats.acquired);
    server.stop();
}
