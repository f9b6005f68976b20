//! Whoever is slow holds the other back, and nothing is lost.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use corewire::{Client, ClientBuilder, CloseCode, FlushError, Message, SendError};

use crate::naive_server::{Peer, listen};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(100);

/// A client with little room, so that what the kernel takes is the most of it.
fn narrow(url: &str) -> ClientBuilder {
    Client::builder(url)
        .queues(|queues| {
            queues.outgoing_bytes_max = 64 << 10;
            queues.incoming_bytes_max = 64 << 10;
        })
        .config(|config| {
            config.limits.high_water_bytes = 32 << 10;
            config.limits.low_water_bytes = 16 << 10;
            config.close_timeout = Duration::from_millis(200);
        })
        .sockets(|sockets| {
            sockets.send_buffer_bytes = Some(64 << 10);
            sockets.receive_buffer_bytes = Some(64 << 10);
        })
}

/// Sends until there is no more room; gives the number of messages of 1,000 bytes that were taken.
fn fill(client: &Client) -> u32 {
    let mut count = 0u32;
    loop {
        let mut payload = [0; 1000];
        payload[..4].copy_from_slice(&count.to_be_bytes());
        match client.send_timeout(Message::Binary(&payload), SHORT) {
            Ok(()) => count += 1,
            Err(SendError::Full) => return count,
            Err(error) => panic!("{error}"),
        }
        assert!(count < 20_000, "there is no end to it");
    }
}

#[test]
fn server_that_does_not_read_blocks_who_sends_and_gets_everything_later() {
    let (listener, url) = listen();
    let (go, gone) = mpsc::channel::<u32>();
    let serving = thread::spawn(move || {
        let mut peer = Peer::accept(&listener);
        let count = gone.recv().unwrap();
        for number in 0..count {
            assert_eq!(peer.frame().1[..4], number.to_be_bytes());
        }
        assert_eq!(peer.close_code(), 1000);
        peer.part(1000);
    });
    let client = narrow(&url).config(|config| config.close_timeout = LONG).connect().unwrap();
    let count = fill(&client);
    assert!(matches!(client.try_send(Message::Text("")), Err(SendError::Full)));
    assert_eq!(client.flush(SHORT), Err(FlushError::TimedOut));
    let taken = Arc::new(AtomicU32::new(0));
    let (sender, receiver) = client.split();
    let sending = thread::spawn({
        let (sender, taken) = (sender.clone(), taken.clone());
        move || {
            for number in count..count + 2000 {
                let payload = [&number.to_be_bytes()[..], &[0; 996]].concat();
                sender.send(Message::Binary(&payload)).unwrap();
                taken.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    thread::sleep(SHORT);
    // The kernel may have found a little room.
    assert!(taken.load(Ordering::SeqCst) < 200, "sending blocks");
    go.send(count + 2000).unwrap();
    sending.join().unwrap();
    assert!(sender.close(CloseCode::NORMAL, "").unwrap().is_clean());
    drop(receiver);
    serving.join().unwrap();
}

#[test]
fn client_that_does_not_receive_holds_the_server_back_and_loses_nothing() {
    let (listener, url) = listen();
    let (tell, told) = mpsc::channel();
    let serving = thread::spawn(move || {
        let mut peer = Peer::accept(&listener);
        peer.flood(20_000, &tell);
        peer
    });
    let client = narrow(&url).connect().unwrap();
    let sent = told.recv_timeout(LONG).unwrap();
    // What the kernel holds at both ends, and the client at most: far from 20 MB.
    assert!((64..10_000).contains(&sent), "{sent}");
    for number in 0..20_000u32 {
        let message = client.recv_timeout(LONG).unwrap().expect("it goes on");
        assert_eq!(message.payload()[..4], number.to_be_bytes());
    }
    serving.join().unwrap();
}

#[test]
fn who_is_not_received_from_does_not_keep_the_client_from_leaving() {
    let (listener, url) = listen();
    let serving = thread::spawn(move || {
        let mut peer = Peer::accept(&listener);
        for _ in 0..1000 {
            peer.send(2, &[0; 1000]);
        }
        assert_eq!(peer.close_code(), 1000);
        peer.part(1000);
    });
    let client = narrow(&url).config(|config| config.close_timeout = LONG).connect().unwrap();
    thread::sleep(SHORT);
    assert!(client.close(CloseCode::NORMAL, "").unwrap().is_clean());
    serving.join().unwrap();
}

#[test]
fn dropped_receiver_does_not_hold_the_server_back() {
    let (listener, url) = listen();
    let serving = thread::spawn(move || {
        let mut peer = Peer::accept(&listener);
        for _ in 0..20_000 {
            peer.send(2, &[0; 1000]);
        }
        assert_eq!(peer.text(), "still here");
    });
    let (sender, receiver) = narrow(&url).connect().unwrap().split();
    thread::sleep(SHORT);
    drop(receiver);
    sender.send(Message::Text("still here")).unwrap();
    serving.join().unwrap();
}

#[test]
fn flush_does_not_wait_for_what_others_send_behind_it() {
    let (listener, url) = listen();
    let serving = thread::spawn(move || {
        let mut peer = Peer::accept(&listener);
        // So slowly that there is always something in front.
        while peer.frame().0 != 8 {
            thread::sleep(Duration::from_millis(1));
        }
        peer.part(1000);
    });
    let patient = |config: &mut corewire::Config| config.close_timeout = LONG;
    let (sender, receiver) = narrow(&url).config(patient).connect().unwrap().split();
    let stop = Arc::new(AtomicU32::new(0));
    let flood = thread::spawn({
        let (sender, stop) = (sender.clone(), stop.clone());
        move || {
            while stop.load(Ordering::SeqCst) == 0 {
                sender.send(Message::Binary(&[0; 5000])).unwrap();
            }
        }
    });
    for _ in 0..5 {
        sender.send(Message::Text("mine")).unwrap();
        sender.flush(LONG).unwrap();
    }
    stop.store(1, Ordering::SeqCst);
    flood.join().unwrap();
    drop(receiver);
    sender.close(CloseCode::NORMAL, "").unwrap();
    serving.join().unwrap();
}

#[test]
fn close_waits_behind_all_that_was_taken() {
    let (listener, url) = listen();
    let (go, gone) = mpsc::channel::<u32>();
    let serving = thread::spawn(move || {
        let mut peer = Peer::accept(&listener);
        let count = gone.recv().unwrap();
        thread::sleep(SHORT);
        (0..count).for_each(|number| assert_eq!(peer.frame().1[..4], number.to_be_bytes()));
        assert_eq!(peer.close_code(), 1000);
        peer.part(1000);
    });
    let client = narrow(&url).config(|config| config.close_timeout = LONG).connect().unwrap();
    go.send(fill(&client)).unwrap();
    assert!(client.close(CloseCode::NORMAL, "").unwrap().is_clean());
    serving.join().unwrap();
}

// If the client did not read while much is unsent, both would wait for the other to read.
#[test]
fn client_reads_while_the_server_does_not() {
    const COUNT: usize = 20_000;
    let (listener, url) = listen();
    let serving = thread::spawn(move || {
        let mut peer = Peer::accept(&listener);
        peer.0.set_write_timeout(Some(LONG)).unwrap();
        (0..COUNT).for_each(|_| peer.send(2, &[0; 1000]));
        assert_eq!(peer.frame().1.len(), 10 << 20);
        peer
    });
    let client = narrow(&url).connect().unwrap();
    // More than all buffers between the two take.
    client.send(Message::Binary(&vec![0; 10 << 20])).unwrap();
    thread::sleep(SHORT);
    for _ in 0..COUNT {
        assert!(client.recv_timeout(LONG).unwrap().is_some(), "it goes on");
    }
    client.flush(LONG).unwrap();
    serving.join().unwrap();
}

#[test]
fn close_on_a_server_that_does_not_read_says_what_is_unsent_and_in_time() {
    let (listener, url) = listen();
    let serving = thread::spawn(move || Peer::accept(&listener));
    let client = narrow(&url).connect().unwrap();
    let mut peer = serving.join().unwrap();
    let count = fill(&client);
    let began = Instant::now();
    let error = client.close(CloseCode::NORMAL, "").unwrap_err();
    let took = began.elapsed();
    assert!((Duration::from_millis(150)..Duration::from_secs(5)).contains(&took), "{took:?}");
    let corewire::CloseError::Unsent { messages, .. } = error else { panic!("{error}") };
    let mut arrived = Vec::new();
    io::Read::read_to_end(&mut peer.0, &mut arrived).unwrap();
    // Each frame has a head of eight bytes; of one that is torn the rest is unsent.
    assert_eq!(messages + arrived.len() as u64 / 1008, u64::from(count));
    assert!(messages > 60, "{messages} of {count}");
}
