//! How clients end.

use std::thread;
use std::time::{Duration, Instant};

use corewire::{
    Client, ClientEvent, CloseCause, CloseCode, CloseError, EndCause, FlushError, Message,
    Reconnect, SendError, StopReason,
};

use crate::naive_server::{Peer, listen};
use crate::own_server::OwnServer;

const LONG: Duration = Duration::from_secs(20);

#[test]
fn close_leaves_behind_all_that_was_sent() {
    let (listener, url) = listen();
    let serving = thread::spawn(move || {
        let mut peer = Peer::accept(&listener);
        (0..3000).for_each(|number| assert_eq!(peer.text(), number.to_string()));
        let (opcode, payload) = peer.frame();
        assert_eq!((opcode, &payload[..]), (8, &b"\x0f\xa0enough"[..]));
        peer.part(4000);
    });
    let client = Client::builder(&url).connect().unwrap();
    for number in 0..3000 {
        client.send(Message::Text(&number.to_string())).unwrap();
    }
    let summary = client.close(CloseCode::new(4000), "enough").unwrap();
    assert_eq!((summary.code.as_u16(), summary.unsent_messages), (4000, 0));
    serving.join().unwrap();
}

#[test]
fn dropping_both_ends_sends_what_was_taken_and_says_goodbye() {
    let (listener, url) = listen();
    let serving = thread::spawn(move || {
        let mut peer = Peer::accept(&listener);
        (0..3000).for_each(|number| assert_eq!(peer.text(), number.to_string()));
        assert_eq!(peer.close_code(), 1000);
        peer.part(1000);
    });
    let (sender, receiver) = Client::builder(&url).connect().unwrap().split();
    for number in 0..3000 {
        sender.send(Message::Text(&number.to_string())).unwrap();
    }
    drop(receiver);
    let other = sender.clone();
    drop(sender);
    drop(other);
    serving.join().unwrap();
}

#[test]
fn one_end_outlives_the_other() {
    let (listener, url) = listen();
    let serving = thread::spawn(move || {
        let mut peer = Peer::accept(&listener);
        assert_eq!(peer.text(), "the last");
        thread::sleep(Duration::from_millis(50));
        peer.send(1, b"an answer");
        assert_eq!(peer.close_code(), 1000);
        peer.part(1000);
    });
    let (sender, receiver) = Client::builder(&url).connect().unwrap().split();
    sender.send(Message::Text("the last")).unwrap();
    drop(sender);
    assert_eq!(receiver.recv().unwrap().as_text(), Some("an answer"));
    drop(receiver);
    serving.join().unwrap();
}

#[test]
fn drop_does_not_wait_for_a_server_that_does_not_answer() {
    let (listener, url) = listen();
    let serving = thread::spawn(move || Peer::accept(&listener));
    let client = Client::builder(&url).connect().unwrap();
    let _peer = serving.join().unwrap();
    let began = Instant::now();
    drop(client);
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[test]
fn closing_handshake_without_an_answer_is_bounded() {
    let (listener, url) = listen();
    let serving = thread::spawn(move || Peer::accept(&listener));
    let soon = |config: &mut corewire::Config| config.close_timeout = Duration::from_millis(200);
    let client = Client::builder(&url).config(soon).connect().unwrap();
    let _peer = serving.join().unwrap();
    let began = Instant::now();
    let summary = client.close(CloseCode::NORMAL, "").unwrap();
    assert_eq!(summary.cause, CloseCause::CloseTimeout);
    assert!(began.elapsed() >= Duration::from_millis(150), "{:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn receiver_gets_what_comes_until_the_closing_handshake_is_over() {
    let (listener, url) = listen();
    let serving = thread::spawn(move || {
        let mut peer = Peer::accept(&listener);
        assert_eq!(peer.close_code(), 1000);
        peer.send(1, b"one more");
        peer.part(1000);
    });
    let (sender, receiver) = Client::builder(&url).connect().unwrap().split();
    let closing = thread::spawn(move || sender.close(CloseCode::NORMAL, "").unwrap());
    assert_eq!(receiver.recv().unwrap().as_text(), Some("one more"));
    let ended = receiver.recv().unwrap_err();
    assert_eq!(ended.cause(), EndCause::Stopped(StopReason::Stopped));
    assert!(ended.is_clean() && closing.join().unwrap().is_clean());
    serving.join().unwrap();
}

#[test]
fn server_that_says_goodbye_ends_the_client() {
    let server = OwnServer::start();
    let (sender, receiver) = Client::builder(&server.url()).connect().unwrap().split();
    sender.send(Message::Text("bye 4001")).unwrap();
    let ended = receiver.recv_timeout(LONG).unwrap_err();
    assert_eq!(ended.cause(), EndCause::Stopped(StopReason::Final));
    assert_eq!(ended.last_close().unwrap().code.as_u16(), 4001);
    let Err(SendError::Ended(same)) = sender.send(Message::Text("")) else { panic!("it is over") };
    assert_eq!(same.to_string(), "the connection was closed with 4001: as you like");
    // As often as it is asked.
    for _ in 0..2 {
        assert_eq!(sender.close(CloseCode::NORMAL, "").unwrap().code.as_u16(), 4001);
        assert!(receiver.try_recv().is_err());
    }
    server.stop();
}

#[test]
fn lost_connection_ends_a_client_that_does_not_come_back() {
    let server = OwnServer::start();
    let client =
        Client::builder(&server.url()).reconnect(|it| *it = Reconnect::never()).connect().unwrap();
    client.send(Message::Text("reset")).unwrap();
    let ended = client.recv_timeout(LONG).unwrap_err();
    assert!(!ended.is_clean());
    assert_eq!(ended.last_close().unwrap().code, CloseCode::ABNORMAL);
    server.stop();
}

#[test]
fn panic_on_the_loops_thread_is_an_error_at_both_ends() {
    let (listener, url) = listen();
    let serving = thread::spawn(move || {
        let peer = Peer::accept(&listener);
        thread::sleep(Duration::from_millis(100));
        drop(peer);
    });
    let settings = Client::builder(&url).build().unwrap();
    let client = settings.connect_with(|event| {
        assert!(!matches!(event, ClientEvent::Closed(_)), "a panic that is wanted");
    });
    let (sender, receiver) = client.unwrap().split();
    sender.send(Message::Text("perhaps")).unwrap();
    let hearing = thread::spawn(move || receiver.recv().unwrap_err());
    serving.join().unwrap();
    assert_eq!(hearing.join().unwrap().cause(), EndCause::Panicked);
    let Err(SendError::Ended(ended)) = sender.send(Message::Text("")) else { panic!("it is over") };
    assert_eq!(ended.to_string(), "the client's loop panicked");
    assert_eq!(sender.flush(LONG), Err(FlushError::Unsent(1)));
    let closed = sender.close(CloseCode::NORMAL, "");
    assert!(matches!(closed, Err(CloseError::Failed(_))));
    assert_eq!(sender.stats().opened, 0);
}

#[test]
fn wrong_close_code_changes_nothing() {
    let server = OwnServer::start();
    let (sender, receiver) = Client::builder(&server.url()).connect().unwrap().split();
    let refused = sender.close(CloseCode::ABNORMAL, "");
    assert!(matches!(refused, Err(CloseError::InvalidClose(_))));
    let refused = sender.close(CloseCode::NORMAL, &"x".repeat(124));
    assert!(matches!(refused, Err(CloseError::InvalidClose(_))));
    sender.send(Message::Text("still here")).unwrap();
    assert_eq!(receiver.recv().unwrap().as_text(), Some("still here"));
    server.stop();
}
