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
