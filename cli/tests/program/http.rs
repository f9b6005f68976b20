//! Plain HTTP: the page, `/healthz`, and everything else.

use crate::client::{Client, TEXT, request, upgrade_head};
use crate::process::serve;

#[test]
fn page_is_html_with_everything_a_console_needs() {
    let server = serve(&[]);
    let page = request(server.port, "GET", "/");
    assert_eq!(page.status, 200);
    assert!(page.head.contains("\r\nContent-Type: text/html; charset=utf-8\r\n"), "{}", page.head);
    let html = String::from_utf8(page.body).unwrap();
    for id in ["url", "connect", "disconnect", "message", "send", "file", "log", "status", "plot"] {
        assert_eq!(html.matches(&format!("id=\"{id}\"")).count(), 1, "{id}");
    }
    assert!(!html.contains("src=") && !html.contains("@import"), "it needs something from outside");
}

#[test]
fn healthz_is_ok() {
    let server = serve(&[]);
    let answer = request(server.port, "GET", "/healthz");
    assert_eq!((answer.status, &answer.body[..]), (200, &b"ok\n"[..]));
}

#[test]
fn unknown_path_is_404_that_says_so_and_repeats_nothing() {
    let server = serve(&[]);
    let answer = request(server.port, "GET", "/secret");
    let body = String::from_utf8(answer.body).unwrap();
    assert_eq!(answer.status, 404);
    assert!(body.contains("nothing at this path") && !body.contains("secret"), "{body}");
}

#[test]
fn websocket_is_at_the_root_only() {
    let server = serve(&[]);
    let mut client = Client::dial(server.port);
    let answer = client.upgrade("/elsewhere", "");
    assert_eq!(answer.status, 404);
    assert!(String::from_utf8(answer.body).unwrap().contains("no WebSocket at this path"));
    assert!(client.is_ended());
    assert_eq!(Client::dial(server.port).upgrade("/?query", "").status, 101);
}

#[test]
fn head_is_answered_as_get_but_without_its_body() {
    let server = serve(&[]);
    for path in ["/", "/healthz", "/nowhere"] {
        let (get, head) = (request(server.port, "GET", path), request(server.port, "HEAD", path));
        assert_eq!(get.head, head.head);
        assert!(head.head.contains(&format!("Content-Length: {}\r\n", get.body.len())));
        assert!(head.body.is_empty() && !get.body.is_empty());
    }
}

#[test]
fn other_methods_are_not_allowed() {
    let server = serve(&[]);
    let answer = request(server.port, "DELETE", "/");
    assert_eq!(answer.status, 405);
    assert!(answer.head.contains("\r\nAllow: GET, HEAD\r\n"), "{}", answer.head);
}

#[test]
fn pipelined_requests_are_answered_in_order_and_an_upgrade_may_follow() {
    let server = serve(&[]);
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    let mut client = Client::dial(server.port);
    let requests = [get("/healthz"), get("/nowhere"), get("/"), upgrade_head("/", "")].concat();
    client.write(requests.as_bytes());
    let statuses = [(); 4].map(|()| client.answer().status);
    assert_eq!(statuses, [200, 404, 200, 101]);
    client.echo(TEXT, b"still here");
}

#[test]
fn connection_is_kept_between_requests() {
    let server = serve(&[]);
    let mut client = Client::dial(server.port);
    for _ in 0..3 {
        client.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.answer().body, b"ok\n");
    }
}

#[test]
fn h24_no_answer_repeats_anything_of_its_request() {
    const FIELDS: &str = "Host: 127.0.0.1\r\nX-mark3r: mark3r\r\nCookie: mark3r\r\n\
        Connection: close\r\n";
    let server = serve(&["--handshake-timeout", "1s"]);
    let long = "mark3r".repeat(4000);
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\n{FIELDS}\r\n");
    let upgrade =
        |path: &str, lines: &str| upgrade_head(path, &format!("mark3r: mark3r\r\n{lines}"));
    for (request, status) in [
        (get("/?mark3r"), 200),
        (get("/healthz?mark3r"), 200),
        (get("/mark3r/../<b>mark3r</b>?mark3r"), 404),
        (get("/mark3r").replacen("GET", "MARK3R", 1), 405),
        (get("mark3r"), 400),
        (get(&format!("/{long}")), 414),
        (upgrade("/mark3r", ""), 404),
        (upgrade("/", &format!("X: {long}\r\n")), 431),
        (upgrade("/?mark3r", "mark3r : x\r\n"), 400),
        (upgrade("/?mark3r", "Origin: http://mark3r\r\n"), 403),
        (upgrade("/?mark3r", "Expect: mark3r\r\n"), 417),
        (upgrade("/?mark3r", "Sec-WebSocket-Version: mark3r\r\n"), 426),
        (upgrade("/?mark3r", "").replacen("GET", "MARK3R", 1), 405),
        (upgrade("/?mark3r", "")[..60].to_owned(), 408),
    ] {
        let mut client = Client::dial(server.port);
        client.write(request.as_bytes());
        let answer = String::from_utf8(client.read_to_end()).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {answer}");
        assert!(!answer.to_ascii_lowercase().contains("mark3r"), "{answer}");
    }
}

#[test]
fn query_stays_out_of_the_log() {
    let mut server = serve(&["--log", "debug"]);
    request(server.port, "GET", "/healthz?token=geheim");
    let line = server.wait_for("GET /healthz");
    assert!(line.ends_with("GET /healthz"), "{line}");
}
