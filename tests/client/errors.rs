//! Clients that there are not.

use std::error::Error;
use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use corewire::{Client, ConnectError, DialError, DialPhase, StopReason};

use crate::naive_server::{Peer, listen};

#[test]
fn port_that_nobody_listens_on_is_told() {
    let (listener, url) = listen();
    drop(listener);
    let error = Client::builder(&url).connect().err().unwrap();
    let ConnectError::Dial(DialError::Io { phase: DialPhase::Connect, error: cause }) = &error
    else {
        panic!("{error}")
    };
    assert_eq!(cause.kind(), io::ErrorKind::ConnectionRefused);
    assert!(error.source().is_some());
}

#[test]
fn name_that_does_not_resolve_is_told() {
    let client = Client::builder("ws://does-not-exist.invalid/");
    let error = client.timeouts(|times| times.resolve = Duration::from_secs(20)).connect().err();
    let error = error.unwrap();
    let ConnectError::Dial(DialError::Io { phase, .. }) = error else { panic!("{error}") };
    assert_eq!(phase, DialPhase::Resolve);
}

#[test]
fn answer_other_than_101_is_told_whether_or_not_another_dial_made_sense() {
    for status in [401, 503] {
        let (listener, url) = listen();
        let serving = thread::spawn(move || {
            let mut peer = Peer::accept_silently(&listener);
            peer.head();
            let answer = format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n");
            peer.0.write_all(answer.as_bytes()).unwrap();
        });
        let error = Client::builder(&url).connect().err().unwrap();
        let ConnectError::Dial(DialError::Refused(refusal)) = error else { panic!("{error}") };
        assert_eq!(refusal.status, status);
        serving.join().unwrap();
    }
}

#[test]
fn server_that_says_nothing_is_waited_for_no_longer_than_wanted() {
    let (listener, url) = listen();
    let client = Client::builder(&url);
    let began = Instant::now();
    let error = client.timeouts(|times| times.upgrade = Duration::from_millis(100)).connect();
    let error = error.err().unwrap();
    let ConnectError::Dial(DialError::TimedOut(DialPhase::Upgrade)) = error else {
        panic!("{error}")
    };
    assert!(began.elapsed() < Duration::from_secs(5));
    drop(listener);
}

#[test]
fn url_that_cannot_be_is_told() {
    let error = Client::builder("http://127.0.0.1/").connect().err().unwrap();
    assert!(matches!(error, ConnectError::Client(_)));
    assert!(error.source().is_some());
}

#[test]
fn panic_before_the_first_connection_is_told() {
    let (listener, url) = listen();
    let settings = Client::builder(&url).build().unwrap();
    let error = settings.connect_with(|_| panic!("a panic that is wanted")).err().unwrap();
    assert!(matches!(error, ConnectError::Panicked));
    drop(listener);
}

#[test]
fn connection_that_ends_at_once_was_one() {
    let (listener, url) = listen();
    let serving = thread::spawn(move || Peer::accept(&listener).send(8, &1000u16.to_be_bytes()));
    let client = Client::builder(&url).connect().unwrap();
    let ended = client.recv().unwrap_err();
    assert_eq!(ended.cause(), corewire::EndCause::Stopped(StopReason::Final));
    serving.join().unwrap();
}
