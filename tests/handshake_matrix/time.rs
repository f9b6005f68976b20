//! Requests that take too long. A deadline is never early; how late it may be is a matter of how
//! busy the machine is.

use std::time::{Duration, Instant};

use super::bed::*;

const TIMEOUT_OF_HEAD: Duration = Duration::from_millis(150);

fn bed() -> Bed {
    Bed::with(|setup| {
        setup.settings.handshake.timeout = TIMEOUT_OF_HEAD;
        setup.settings.handshake.keep_alive_timeout = TIMEOUT_OF_HEAD;
    })
}

/// The time from `began` was up when the connection ended, and not much more than up.
#[track_caller]
fn assert_in_time(began: Instant) {
    let elapsed = began.elapsed();
    assert!(elapsed >= TIMEOUT_OF_HEAD, "{elapsed:?} is early");
    assert!(elapsed < TIMEOUT_OF_HEAD * 10, "{elapsed:?} is late");
}

#[test]
fn silence_gets_408_at_the_deadline() {
    let mut bed = bed();
    let began = Instant::now();
    let mut client = bed.connect();
    let answer = bed.answer(&mut client);
    assert_in_time(began);
    assert_eq!((&*answer.status_line, answer.field("Connection")), (TIMEOUT, Some("close")));
    bed.expect_end(&mut client);
    assert_eq!(bed.reactor.counters().handshake_timeouts, 1);
    drop(client);
    bed.expect_empty();
}

#[test]
fn unfinished_head_gets_408_at_the_deadline() {
    for begun in ["G", "\r\n", "GET / HTTP/1.1\r\nX: y\r\n", &upgrade(&[])[..150]] {
        let mut bed = bed();
        let began = Instant::now();
        let (mut client, answer) = bed.ask(begun);
        assert_in_time(began);
        assert_eq!(answer.status_line, TIMEOUT);
        bed.expect_end(&mut client);
        assert!(bed.app().requests.is_empty());
        drop(client);
        bed.expect_empty();
    }
}

#[test]
fn dripping_does_not_put_the_deadline_off() {
    let mut bed = bed();
    let began = Instant::now();
    let mut client = bed.connect();
    let request = upgrade(&["X: a value that makes the request longer than the drips go on"]);
    let mut drips = request.bytes();
    bed.until("an answer", |_| {
        if !client.received().is_empty() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
        client.write_some(&[drips.next().unwrap()]);
        false
    });
    assert_in_time(began);
    assert_eq!(bed.answer(&mut client).status_line, TIMEOUT);
    bed.expect_end(&mut client);
    drop(client);
    bed.expect_empty();
}

#[test]
fn deadline_of_the_head_does_not_outlive_the_head() {
    let mut bed = bed();
    let (mut client, _) = bed.accept(upgrade(&[]));
    let until = Instant::now() + TIMEOUT_OF_HEAD * 2;
    while Instant::now() < until {
        bed.rest();
    }
    bed.expect_echo(&mut client);
    assert_eq!(bed.reactor.counters().handshake_timeouts, 0);
    drop(client);
    bed.expect_empty();
}

#[test]
fn kept_connection_that_stays_silent_is_closed_without_a_word() {
    let mut bed = bed();
    let mut client = bed.connect();
    for _ in 0..3 {
        // Each answer begins the time anew.
        std::thread::sleep(TIMEOUT_OF_HEAD / 2);
        bed.write(&mut client, plain("GET /page", &[]));
        assert_eq!(bed.answer(&mut client).status_line, OK);
    }
    let began = Instant::now();
    bed.until("the end", |_| client.has_ended());
    // The answer came a moment before the clock was read here.
    assert!(began.elapsed() >= TIMEOUT_OF_HEAD * 9 / 10);
    bed.expect_end(&mut client);
    drop(client);
    bed.expect_empty();
}

#[test]
fn further_request_that_is_not_finished_gets_408() {
    let mut bed = bed();
    let mut client = bed.connect();
    bed.write(&mut client, plain("GET /page", &[]) + "GET /pa");
    assert_eq!(bed.answer(&mut client).status_line, OK);
    assert_eq!(bed.answer(&mut client).status_line, TIMEOUT);
    bed.expect_end(&mut client);
    assert_eq!(bed.app().requests, ["GET /page"]);
    drop(client);
    bed.expect_empty();
}

/// A refused peer that neither reads on nor goes is not waited for.
#[test]
fn refused_peer_that_does_not_go_is_let_go() {
    let parting = Duration::from_millis(100);
    let mut bed = Bed::with(|setup| setup.reactor.limits.parting_timeout = parting);
    let mut client = bed.connect();
    bed.write(&mut client, upgrade(&["Host"]));
    assert_eq!(bed.answer(&mut client).status_line, BAD_REQUEST);
    let began = Instant::now();
    assert_eq!(bed.reactor.usage().sockets, 1);
    bed.expect_empty();
    assert!(began.elapsed() < parting * 10);
}
