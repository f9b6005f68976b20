//! Messages to and fro.

use std::thread;
use std::time::{Duration, Instant};

use corewire::{Client, ClientState, CloseCode, Message, OwnedMessage};

use crate::naive_server::{Peer, listen};
use crate::own_server::OwnServer;

const LONG: Duration = Duration::from_secs(20);

#[test]
fn question_is_answered_and_the_client_leaves() {
    let server = OwnServer::start();
    let client = Client::builder(&server.url()).subprotocol("v1").subprotocol("v2").connect();
    let client = client.unwrap();
    assert_eq!(client.state(), ClientState::Connected);
    assert_eq!(client.subprotocol().as_deref(), Some("v2"));
    client.send(Message::Text("Hellö")).unwrap();
    assert_eq!(client.recv().unwrap(), OwnedMessage::Text("Hellö".to_owned()));
    client.send(Message::Binary(&[0, 255])).unwrap();
    let answer = client.recv_timeout(LONG).unwrap().unwrap();
    assert_eq!(answer, OwnedMessage::Binary(vec![0, 255]));
    assert_eq!((answer.as_text(), answer.payload()), (None, &[0, 255][..]));
    assert!(client.try_recv().unwrap().is_none());
    let stats = client.stats();
    assert_eq!((stats.opened, stats.dials_failed), (1, 0));
    let summary = client.close(CloseCode::NORMAL, "done").unwrap();
    assert!(summary.is_clean());
    assert_eq!((summary.code, &*summary.reason), (CloseCode::NORMAL, "done"));
    server.stop();
}

#[test]
fn two_threads_send_and_receive_at_once() {
    const COUNT: u32 = 50_000;
    let server = OwnServer::start();
    let (sender, receiver) = Client::builder(&server.url()).connect().unwrap().split();
    let sending = thread::spawn(move || {
        for number in 0..COUNT {
            sender.send(Message::Binary(&number.to_be_bytes())).unwrap();
        }
        sender
    });
    for number in 0..COUNT {
        assert_eq!(receiver.recv().unwrap().payload(), number.to_be_bytes());
    }
    let sender = sending.join().unwrap();
    assert!(sender.close(CloseCode::NORMAL, "").unwrap().is_clean());
    assert!(receiver.recv().unwrap_err().is_clean());
    server.stop();
}

#[test]
fn clones_of_a_sender_each_keep_their_order() {
    const COUNT: u32 = 5000;
    let server = OwnServer::start();
    let (sender, receiver) = Client::builder(&server.url()).connect().unwrap().split();
    let threads: Vec<_> = (0..4u32)
        .map(|thread| {
            let sender = sender.clone();
            thread::spawn(move || {
                for number in 0..COUNT {
                    let payload = [thread.to_be_bytes(), number.to_be_bytes()].concat();
                    sender.send(Message::Binary(&payload)).unwrap();
                }
            })
        })
        .collect();
    let mut next = [0u32; 4];
    for _ in 0..4 * COUNT {
        let payload = receiver.recv().unwrap().into_payload();
        let [thread, number] =
            [0, 4].map(|at| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap()));
        assert_eq!(number, next[thread as usize]);
        next[thread as usize] += 1;
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    server.stop();
}

// If the client did not read while much is unsent, an echo that does not either would end this.
#[test]
fn large_messages_both_ways_do_not_have_the_ends_wait_for_each_other() {
    const COUNT: usize = 64;
    let server = OwnServer::start();
    let (sender, receiver) = Client::builder(&server.url()).connect().unwrap().split();
    let payload = vec![7; 1 << 20];
    let sending = thread::spawn(move || {
        for _ in 0..COUNT {
            sender.send(Message::Binary(&payload)).unwrap();
        }
        sender
    });
    for _ in 0..COUNT {
        let message = receiver.recv_timeout(LONG).unwrap().expect("it goes on");
        assert_eq!(message.payload().len(), 1 << 20);
    }
    drop(sending.join().unwrap());
    server.stop();
}

#[test]
fn waiting_for_a_message_ends_in_time() {
    let server = OwnServer::start();
    let client = Client::builder(&server.url()).connect().unwrap();
    let began = Instant::now();
    assert_eq!(client.recv_timeout(Duration::from_millis(50)).unwrap(), None);
    assert!(began.elapsed() >= Duration::from_millis(50));
    assert_eq!(client.recv_timeout(Duration::ZERO).unwrap(), None);
    client.send(Message::Text("now")).unwrap();
    // A time that no clock can tell.
    let answer = client.recv_timeout(Duration::MAX).unwrap().unwrap();
    assert_eq!(answer.as_text(), Some("now"));
    server.stop();
}

#[test]
fn iterator_gives_what_comes_until_the_end() {
    let server = OwnServer::start();
    let client = Client::builder(&server.url()).connect().unwrap();
    for text in ["one", "two", "bye 1000"] {
        client.send(Message::Text(text)).unwrap();
    }
    let texts: Vec<_> = (&client).into_iter().map(OwnedMessage::into_payload).collect();
    assert_eq!(texts, [b"one", b"two"]);
    let ended = client.recv().unwrap_err();
    assert!(ended.is_clean());
    assert_eq!(ended.to_string(), "the connection was closed with 1000: as you like");
    server.stop();
}

#[test]
fn flushed_messages_have_left_the_process() {
    let (listener, url) = listen();
    let serving = thread::spawn(move || {
        let mut peer = Peer::accept(&listener);
        (0..1000).for_each(|number| assert_eq!(peer.text(), number.to_string()));
        peer
    });
    let client = Client::builder(&url).connect().unwrap();
    client.flush(Duration::ZERO).unwrap();
    for number in 0..1000 {
        client.send(Message::Text(&number.to_string())).unwrap();
    }
    client.flush(LONG).unwrap();
    serving.join().unwrap();
}

#[test]
fn fragments_come_as_one_message_however_they_are_to_be_delivered() {
    let (listener, url) = listen();
    let serving = thread::spawn(move || {
        let mut peer = Peer::accept(&listener);
        for (head, text) in [(0x01, "one "), (0x00, "and "), (0x80, "one")] {
            let frame = [&[head, text.len() as u8], text.as_bytes()].concat();
            std::io::Write::write_all(&mut peer.0, &frame).unwrap();
        }
        assert_eq!(peer.close_code(), 1000);
        peer.part(1000);
    });
    let streaming = |config: &mut corewire::Config| config.delivery = corewire::Delivery::Streaming;
    let client = Client::builder(&url).config(streaming).connect().unwrap();
    assert_eq!(client.recv().unwrap().as_text(), Some("one and one"));
    client.close(CloseCode::NORMAL, "").unwrap();
    serving.join().unwrap();
}

#[test]
fn flush_and_close_wait_for_no_batch_but_for_the_rate() {
    let server = OwnServer::start();
    let to = Client::builder(&server.url()).batch(|batch| batch.max_delay = LONG);
    let client = to.connect().unwrap();
    let began = Instant::now();
    client.send(Message::Text("now")).unwrap();
    client.flush(LONG).unwrap();
    assert_eq!(client.recv_timeout(LONG).unwrap().unwrap().as_text(), Some("now"));
    client.send(Message::Text("in front of the Close")).unwrap();
    assert!(client.close(CloseCode::NORMAL, "").unwrap().is_clean());
    assert!(began.elapsed() < LONG / 2);
    let slowly = Client::builder(&server.url())
        .rate(|rate| (rate.messages_per_second, rate.messages_burst) = (Some(50), Some(1)));
    let client = slowly.connect().unwrap();
    let began = Instant::now();
    (0..6).for_each(|_| client.send(Message::Text("slowly")).unwrap());
    client.flush(LONG).unwrap();
    let took = began.elapsed();
    assert!((Duration::from_millis(99)..LONG / 2).contains(&took), "{took:?}");
    (0..6).for_each(|_| client.send(Message::Text("slowly")).unwrap());
    assert!(client.close(CloseCode::NORMAL, "").unwrap().is_clean());
    let took = began.elapsed();
    assert!((Duration::from_millis(219)..LONG / 2).contains(&took), "{took:?}");
    server.stop();
}
