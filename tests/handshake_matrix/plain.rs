//! Plain HTTP on the same port: pages, health checks, and what comes behind them.

use std::time::Duration;

use super::bed::*;

// RFC 9110 §7.8, §15.5.22
#[test]
fn request_without_the_token_websocket_is_plain_http() {
    let mut bed = Bed::new();
    for line in [
        "Upgrade",
        "Upgrade:",
        "Upgrade: h2c",
        "Upgrade: websocketx",
        "Upgrade: websocket/13",
        "Upgrade: web socket",
        "Upgrade: \"websocket\"",
    ] {
        let (_, answer) = bed.ask(upgrade_at("/page", &[line]));
        assert_eq!((&*answer.status_line, &*answer.body), (OK, "a page\n"), "{line}");
        let (_, answer) = bed.ask(upgrade_at("/nowhere", &[line]));
        assert_eq!(answer.status_line, NOT_FOUND, "{line}");
        assert_eq!(answer.body, "there is nothing here\n");
        let answer = bed.refuse(upgrade_at("/websocket", &[line]), UPGRADE_REQUIRED);
        assert_eq!(answer.field("Upgrade"), Some("websocket"), "{line}");
        assert_eq!(answer.field("Connection"), Some("close, upgrade"), "{line}");
        assert_eq!(answer.field("Sec-WebSocket-Accept"), None, "{line}");
    }
    // A WebSocket cannot be accepted that was not asked for.
    bed.refuse(plain("GET /accept", &[]), UPGRADE_REQUIRED);
    assert_eq!(bed.app().opened, 0);
    bed.expect_empty();
}

// §9.3
#[test]
fn plain_connection_is_kept_where_http_allows_it() {
    let mut bed = Bed::new();
    let mut client = bed.connect();
    for _ in 0..3 {
        bed.write(&mut client, plain("GET /page", &[]));
        let answer = bed.answer(&mut client);
        assert_eq!((&*answer.status_line, &*answer.body), (OK, "a page\n"));
        assert_eq!(answer.field("Connection"), None);
        bed.rest();
        assert!(!client.has_ended());
    }
    // One empty line between requests is skipped (§2.2).
    bed.write(&mut client, format!("\r\n{}", plain("GET /page", &["Connection: close"])));
    let answer = bed.answer(&mut client);
    assert_eq!((&*answer.status_line, answer.field("Connection")), (OK, Some("close")));
    bed.expect_end(&mut client);
    drop(client);
    bed.refuse(plain("GET /reject", &[]), NOT_FOUND);
    bed.expect_empty();
}

// RFC 9110 §9.3.2
#[test]
fn answer_to_head_has_a_length_and_no_body() {
    let mut bed = Bed::new();
    let mut client = bed.connect();
    bed.write(&mut client, plain("HEAD /page", &[]) + &plain("GET /health", &[]));
    const ANSWERS: &str = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n\
        HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";
    assert_eq!(bed.bytes(&mut client, ANSWERS.len()), ANSWERS.as_bytes());
    drop(client);
    bed.expect_empty();
}

// §9.3
#[test]
fn http_1_0_is_answered_and_closed() {
    let mut bed = Bed::new();
    for request in [
        "GET /page HTTP/1.0\r\n\r\n",
        "GET /page HTTP/1.0\r\nHost: a\r\n\r\n",
        "GET /page HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    ] {
        assert_eq!(bed.refuse(request, OK).body, "a page\n");
    }
    bed.expect_empty();
}

// §9.3.2
#[test]
fn pipelined_requests_are_answered_in_order_and_then_the_upgrade() {
    let mut bed = Bed::new();
    let requests = [
        plain("GET /page", &["Sec-WebSocket-Protocol: chat.v2"]),
        plain("GET /health", &["Origin: http://elsewhere.example"]),
        plain("GET /nowhere", &[]),
        upgrade(&["Sec-WebSocket-Protocol: chat.v1"]),
    ];
    let bytes = [requests.concat().as_bytes(), &masked(0x81, b"hello")].concat();
    // In one segment, and byte by byte.
    for piece_bytes in [bytes.len(), 1] {
        let mut client = bed.connect();
        bed.write_pieces(&mut client, bytes.chunks(piece_bytes));
        let mut statuses = Vec::new();
        for _ in 0..4 {
            let answer = bed.answer(&mut client);
            let subprotocol = answer.field("Sec-WebSocket-Protocol").map(str::to_owned);
            statuses.push((answer.status_line, subprotocol, answer.body));
        }
        let told = |status: &str, subprotocol: Option<&str>, body: &str| {
            (status.to_owned(), subprotocol.map(str::to_owned), body.to_owned())
        };
        let expected = [
            told(OK, None, "a page\n"),
            told(OK, None, "ok\n"),
            told(NOT_FOUND, None, "there is nothing here\n"),
            // What was asked for earlier on the connection is forgotten.
            told(SWITCHING, Some("chat.v1"), ""),
        ];
        assert_eq!(statuses, expected);
        assert_eq!(bed.bytes(&mut client, 7), b"\x81\x05hello");
    }
    let asked = ["GET /page", "GET /health", "GET /nowhere", "GET /"];
    assert_eq!(bed.app().requests, [asked, asked].concat());
    bed.expect_empty();

    // An upgrade without an offer agrees on nothing, whatever an earlier request has named.
    let mut client = bed.connect();
    bed.write(&mut client, format!("{}{}", requests[0], upgrade(&[])));
    bed.answer(&mut client);
    assert_eq!(bed.bytes(&mut client, ACCEPTED.len()), ACCEPTED.as_bytes());
}

#[test]
fn request_at_the_limit_of_a_connection_is_the_last_one() {
    let mut bed = Bed::with(|setup| setup.settings.handshake.keep_alive_requests_max = 3);
    let page = plain("GET /page", &[]);
    let mut client = bed.connect();
    bed.write(&mut client, page.repeat(5));
    for last in [None, None, Some("close")] {
        let answer = bed.answer(&mut client);
        assert_eq!((&*answer.status_line, answer.field("Connection")), (OK, last));
    }
    bed.expect_end(&mut client);
    assert_eq!(bed.app().requests.len(), 3);
    drop(client);

    // An upgrade may be the last one.
    let mut client = bed.connect();
    bed.write(&mut client, page.repeat(2) + &upgrade(&[]));
    for _ in 0..2 {
        assert_eq!(bed.answer(&mut client).status_line, OK);
    }
    assert_eq!(bed.answer(&mut client).status_line, SWITCHING);
    bed.expect_echo(&mut client);
    drop(client);
    bed.expect_empty();
}

// §9.3: what is behind the head could be a body.
#[test]
fn declared_body_is_never_answered_as_a_request() {
    let mut bed = Bed::new();
    let smuggled = plain("GET /health", &["X: secret"]);
    let length = format!("Content-Length: {}", smuggled.len());
    let chunked = format!("{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len());
    let plain_bodies: &[(&[&str], &str)] = &[
        (&[&length], &smuggled),
        (&["Transfer-Encoding: chunked"], &chunked),
        (&["Transfer-Encoding: chunked"], &smuggled),
        (&["Content-Length: 0", &length], &smuggled),
        (&[&length, "Transfer-Encoding: identity"], &smuggled),
        (&["Content-Length: +5"], &smuggled),
        (&[&length, "Expect: 100-continue"], &smuggled),
    ];
    for (lines, body) in plain_bodies {
        for start in ["POST /page", "GET /page"] {
            assert_eq!(bed.refuse(plain(start, lines) + body, OK).body, "a page\n");
        }
        let torn = bed.ask_in_pieces(&[&plain("POST /page", lines), body]);
        assert_eq!(torn, [OK], "{lines:?}");
        bed.refuse_unasked(upgrade(lines) + body, BAD_REQUEST);
        bed.refuse(upgrade_at("/page", lines).replace("websocket", "h2c") + body, OK);
    }
    assert!(!bed.app().requests.iter().any(|request| request.ends_with("/health")));
    bed.expect_empty();
}

#[test]
fn nothing_behind_a_refused_upgrade_is_answered() {
    let mut bed = Bed::new();
    let behind = plain("GET /health", &[]) + &upgrade(&[]);
    bed.refuse(upgrade(&["Sec-WebSocket-Key: x"]) + &behind, BAD_REQUEST);
    bed.refuse(upgrade_at("/absent", &[]) + &behind, NOT_FOUND);
    bed.refuse(upgrade(&["Origin: http://elsewhere.example"]) + &behind, FORBIDDEN);
    bed.refuse(format!("GET / HTTP/9.9\r\n\r\n{behind}"), BAD_REQUEST);
    assert_eq!(bed.app().requests, ["GET /absent"]);
    bed.expect_empty();
}

/// The peer reads the answer and not a reset, although it goes on sending.
#[test]
fn refusal_reaches_a_peer_that_still_sends() {
    let mut bed = Bed::new();
    let body = [b'x'; 200 << 10];
    let request = upgrade(&["Content-Length: 204800"]);
    for pieces in [1, 16] {
        let mut client = bed.connect();
        bed.write(&mut client, &request);
        bed.write_pieces(&mut client, body.chunks(body.len() / pieces));
        assert_eq!(bed.answer(&mut client).status_line, BAD_REQUEST);
        bed.expect_end(&mut client);
    }
    assert!(bed.app().requests.is_empty());
    bed.expect_empty();
}

#[test]
fn health_check_is_answered_at_once_during_a_flood_of_bad_requests() {
    let mut bed = Bed::new();
    let mut health = bed.connect();
    bed.write(&mut health, plain("GET /health", &[]));
    bed.answer(&mut health);
    let mut flood: Vec<Client> = Vec::new();
    let long = format!("GET /{} HTTP/1.1\r\n", "t".repeat(9000));
    let bad = ["GET / HT", "\0", &upgrade(&["Host"]), &long, &upgrade(&[]), "POST / HTTP/1.1\r\n"];
    for round in 0..20 {
        for bytes in bad {
            let mut client = bed.connect();
            client.write_some(bytes.as_bytes());
            flood.push(client);
        }
        health.write_some(plain("GET /health", &["X: secret"]).as_bytes());
        // Time for the kernel to hand it over, and then one turn.
        std::thread::sleep(Duration::from_millis(2));
        bed.turn();
        assert!(!health.received().is_empty(), "round {round}");
        assert_eq!(bed.answer(&mut health).body, "ok\n");
    }
    drop((flood, health));
    bed.expect_empty();
}
