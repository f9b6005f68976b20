//! What waits for its batch or its turn: flushing and closing know of it.

use std::time::{Duration, Instant};

use corewire::{Client, CloseCode, CloseError, Message};

use crate::own_server::OwnServer;

const LONG: Duration = Duration::from_secs(20);
/// Longer than a test may take.
const NEVER: Duration = Duration::from_secs(3600);

/// All that the client has sent comes back.
fn receive(client: &Client, count: usize) {
    for number in 0..count {
        let answer = client.recv_timeout(LONG).unwrap().unwrap();
        assert_eq!(answer.as_text(), Some(&*number.to_string()));
    }
}

fn send(client: &Client, count: usize) {
    for number in 0..count {
        client.send(Message::Text(&number.to_string())).unwrap();
    }
}

#[test]
fn flush_hurries_a_batch_that_gathers() {
    let server = OwnServer::start();
    for delay in [Duration::from_millis(50), NEVER] {
        let client = Client::builder(&server.url()).batch(|batch| batch.max_delay = delay);
        let client = client.connect().unwrap();
        send(&client, 10);
        let start = Instant::now();
        assert_eq!(client.flush(Duration::from_secs(5)), Ok(()), "{delay:?}");
        assert!(start.elapsed() < Duration::from_secs(1));
        receive(&client, 10);
        client.close(CloseCode::NORMAL, "").unwrap();
    }
    server.stop();
}

#[test]
fn close_sends_a_batch_that_gathers() {
    let server = OwnServer::start();
    let client = Client::builder(&server.url()).batch(|batch| batch.max_delay = NEVER);
    let client = client.connect().unwrap();
    send(&client, 10);
    let start = Instant::now();
    let summary = client.close(CloseCode::NORMAL, "").unwrap();
    assert!(summary.is_clean(), "{summary:?}");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    server.stop();
}

#[test]
fn flush_waits_for_the_rate_and_for_no_batch_behind_it() {
    let server = OwnServer::start();
    let at_a_rate = Client::builder(&server.url()).rate(|rate| {
        rate.messages_per_second = Some(100);
        rate.messages_burst = Some(1);
    });
    let in_batches = at_a_rate.clone().batch(|batch| batch.max_delay = NEVER);
    for to in [at_a_rate, in_batches] {
        let client = to.connect().unwrap();
        send(&client, 20);
        let start = Instant::now();
        assert_eq!(client.flush(Duration::from_secs(5)), Ok(()));
        assert!(start.elapsed() > Duration::from_millis(150));
        assert!(start.elapsed() < Duration::from_secs(2));
        receive(&client, 20);
        client.close(CloseCode::NORMAL, "").unwrap();
    }
    server.stop();
}

#[test]
fn sender_who_is_faster_than_the_rate_blocks_and_loses_nothing() {
    let server = OwnServer::start();
    let client = Client::builder(&server.url())
        .rate(|rate| {
            rate.messages_per_second = Some(1000);
            rate.messages_burst = Some(1);
            rate.waiting_bytes_max = 1 << 10;
        })
        .queues(|queues| queues.outgoing_bytes_max = 1 << 10);
    let client = client.connect().unwrap();
    let start = Instant::now();
    send(&client, 300);
    assert!(start.elapsed() > Duration::from_millis(150), "{:?}", start.elapsed());
    assert_eq!(client.flush(LONG), Ok(()));
    receive(&client, 300);
    client.close(CloseCode::NORMAL, "").unwrap();
    server.stop();
}

#[test]
fn close_that_the_rate_holds_up_is_a_close_in_time() {
    let server = OwnServer::start();
    let client = Client::builder(&server.url())
        .rate(|rate| (rate.messages_per_second, rate.messages_burst) = (Some(10), Some(1)))
        .config(|config| config.close_timeout = Duration::from_millis(450));
    let client = client.connect().unwrap();
    send(&client, 100);
    let start = Instant::now();
    let error = client.close(CloseCode::new(4000), "enough").unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let CloseError::Unsent { messages, ended } = error else { panic!("{error}") };
    assert!((90..=97).contains(&messages), "{messages}");
    let summary = ended.last_close().unwrap();
    assert!(summary.is_clean(), "{summary:?}");
    assert_eq!((summary.code, &*summary.reason), (CloseCode::new(4000), "enough"));
    server.stop();
}
