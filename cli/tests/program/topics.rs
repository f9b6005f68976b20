//! `serve --topics`: who publishes, who gets it, and what is wrong.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{BINARY, CLOSE, Client, Frame, TEXT, request};
use crate::process::{Server, serve};

const SILENCE: Duration = Duration::from_millis(100);

fn open(server: &Server, path: &str) -> Client {
    let mut client = Client::dial(server.port);
    let answer = client.upgrade(path, "");
    assert_eq!(answer.status, 101, "{path}: {answer:?}");
    client
}

fn text(client: &mut Client) -> String {
    let Frame { fin, opcode, payload } = client.frame();
    assert!(fin && opcode == TEXT, "{opcode}: {payload:?}");
    String::from_utf8(payload).unwrap()
}

fn told(client: &mut Client) -> Value {
    serde_json::from_str(&text(client)).unwrap()
}

fn ask(client: &mut Client, request: &Value) -> Value {
    client.send(TEXT, request.to_string().as_bytes());
    told(client)
}

/// A client of `/topics` that has subscribed.
fn speaker(server: &Server, topic: &str) -> Client {
    let mut client = open(server, "/topics");
    let answer = ask(&mut client, &json!({"type": "subscribe", "topic": topic, "id": topic}));
    assert_eq!(answer, json!({"type": "ack", "topic": topic, "id": topic}));
    client
}

#[test]
fn subscribers_on_all_threads_get_everything_once_and_in_order() {
    let mut server = serve(&["--topics", "--threads", "2", "--log", "debug"]);
    let mut subscribers: Vec<_> = (0..32).map(|_| open(&server, "/sub/news/today")).collect();
    let mut speakers: Vec<_> = (0..32).map(|_| speaker(&server, "news/today")).collect();
    // The kernel spreads by a hash of the addresses: all on one side is a chance in 2^63.
    for shard in ["open as 0/", "open as 1/"] {
        server.wait_for(shard);
    }
    let mut publishers = [open(&server, "/pub/news/today"), open(&server, "/pub/news/today")];
    for number in 0..200 {
        for (publisher, client) in publishers.iter_mut().enumerate() {
            client.send(TEXT, format!("{publisher} {number}").as_bytes());
        }
    }
    let expect = |next: &mut [u32; 2], line: &str| {
        let (publisher, number) = line.split_once(' ').unwrap();
        let next = &mut next[publisher.parse::<usize>().unwrap()];
        assert_eq!(number, next.to_string());
        *next += 1;
    };
    for client in &mut subscribers {
        let mut next = [0; 2];
        (0..400).for_each(|_| expect(&mut next, &text(client)));
    }
    for client in &mut speakers {
        let mut next = [0; 2];
        for _ in 0..400 {
            let message = told(client);
            assert_eq!(
                (&message["type"], &message["topic"]),
                (&json!("message"), &json!("news/today"))
            );
            expect(&mut next, message["data"].as_str().unwrap());
        }
    }
    assert!(publishers.iter_mut().all(|client| client.is_silent_for(SILENCE)));
    assert!(subscribers[0].is_silent_for(SILENCE) && speakers[0].is_silent_for(SILENCE));
}

#[test]
fn text_stays_text_and_binary_stays_binary() {
    let server = serve(&["--topics", "--echo-streaming"]);
    let (mut subscriber, mut speaker) = (open(&server, "/sub/a%2Fb"), speaker(&server, "a/b"));
    let mut publisher = open(&server, "/pub/a/b");
    for (opcode, payload, data) in [
        (TEXT, "é\"\n".as_bytes(), json!({"data": "é\"\n"})),
        (BINARY, &[0, 255][..], json!({"data": "AP8=", "encoding": "base64"})),
        (TEXT, b"", json!({"data": ""})),
        (BINARY, b"", json!({"data": "", "encoding": "base64"})),
    ] {
        let mut message = json!({"type": "message", "topic": "a/b"});
        message.as_object_mut().unwrap().extend(data.as_object().unwrap().clone());
        publisher.send(opcode, payload);
        assert_eq!(subscriber.frame(), Frame { fin: true, opcode, payload: payload.to_vec() });
        assert_eq!(told(&mut speaker), message);
        // The same said by a request comes as the same; its sender gets what it has subscribed to.
        let mut request = message.clone();
        request["type"] = json!("publish");
        assert_eq!(ask(&mut speaker, &request), message);
        assert_eq!(subscriber.frame(), Frame { fin: true, opcode, payload: payload.to_vec() });
    }
    open(&server, "/").echo(TEXT, b"as without");
}

#[test]
fn wildcards_go_for_both_forms_and_nobody_gets_a_message_twice() {
    let server = serve(&["--topics", "--threads", "2"]);
    let filters = ["+/b/c", "a/+/c", "a/#", "#", "a/b/c/#", "+/+/+"];
    let mut bare: Vec<_> =
        filters.map(|filter| open(&server, &format!("/sub/{}", filter.replace('#', "%23")))).into();
    let mut enveloped: Vec<_> = filters.map(|filter| speaker(&server, filter)).into();
    let mut all = speaker(&server, "a/b/c");
    for filter in filters {
        ask(&mut all, &json!({"type": "subscribe", "topic": filter, "id": 0}));
    }
    let mut others = [speaker(&server, "a/+"), speaker(&server, "b/#")];
    open(&server, "/pub/a/b/c").send(TEXT, b"hit");
    let message = json!({"type": "message", "topic": "a/b/c", "data": "hit"});
    assert!(bare.iter_mut().all(|client| text(client) == "hit"));
    assert!(enveloped.iter_mut().all(|client| told(client) == message));
    assert_eq!(told(&mut all), message);
    assert!(all.is_silent_for(SILENCE) && bare[3].is_silent_for(SILENCE));
    assert!(others.iter_mut().all(|client| client.is_silent_for(SILENCE)));
}

#[test]
fn requests_without_an_id_are_answered_only_if_they_fail() {
    let server = serve(&["--topics"]);
    let mut client = open(&server, "/topics");
    client.send(TEXT, br#"{"type":"subscribe","topic":"a"}"#);
    client.send(TEXT, br#"{"type":"unsubscribe","topic":"b"}"#);
    let message = json!({"type": "message", "topic": "a", "data": "x"});
    assert_eq!(ask(&mut client, &json!({"type": "publish", "topic": "a", "data": "x"})), message);
    let refusal = ask(&mut client, &json!({"type": "publish", "topic": "+", "data": "x"}));
    assert_eq!((&refusal["code"], &refusal["id"]), (&json!("bad-topic"), &Value::Null));
    let answer = ask(&mut client, &json!({"type": "unsubscribe", "topic": "a", "id": [7]}));
    assert_eq!(answer, json!({"type": "ack", "topic": "a", "id": [7]}));
    client.send(TEXT, br#"{"type":"publish","topic":"a","data":"x"}"#);
    assert!(client.is_silent_for(SILENCE));
}

#[test]
fn wrong_requests_have_their_codes_and_the_connection_goes_on() {
    let server = serve(&["--topics", "--max-subscriptions", "2"]);
    let mut client = speaker(&server, "first");
    let long = "x".repeat(257);
    let deep = "a/".repeat(8);
    for (request, code) in [
        (json!({"type": "subscribe", "topic": ""}), "bad-topic"),
        (json!({"type": "subscribe", "topic": "a#"}), "bad-topic"),
        (json!({"type": "subscribe", "topic": "#/a"}), "bad-topic"),
        (json!({"type": "subscribe", "topic": "a\0"}), "bad-topic"),
        (json!({"type": "subscribe", "topic": "$json/first"}), "bad-topic"),
        (json!({"type": "unsubscribe", "topic": "$json/first"}), "bad-topic"),
        (json!({"type": "publish", "topic": "$json/first", "data": ""}), "bad-topic"),
        (json!({"type": "subscribe", "topic": long}), "bad-topic"),
        (json!({"type": "subscribe", "topic": deep}), "bad-topic"),
        (json!({"type": "publish", "topic": "a/+", "data": ""}), "bad-topic"),
        (json!({"type": "publish", "topic": "", "data": ""}), "bad-topic"),
        (json!({"type": "publish", "topic": "a", "data": "?", "encoding": "base64"}), "bad-data"),
        (json!({"type": "publish", "topic": "a", "data": 7}), "bad-request"),
        (json!({"type": "publish", "topic": "a"}), "bad-request"),
        (json!({"topic": "a"}), "bad-request"),
        (json!({"type": "ping"}), "unknown-type"),
        (json!({"type": "subscribe", "topic": long.repeat(10_000)}), "bad-topic"),
        (json!({"type": long.repeat(10_000)}), "unknown-type"),
        (json!({"type": "publish", "topic": [long.repeat(10_000)]}), "bad-request"),
    ] {
        let mut request = request;
        request["id"] = json!("i");
        let refusal = ask(&mut client, &request);
        assert_eq!((&refusal["type"], &refusal["id"]), (&json!("error"), &json!("i")), "{request}");
        assert_eq!(refusal["code"], code, "{request}");
        assert!(!refusal["reason"].as_str().unwrap().is_empty());
    }
    let unreadable = ["{", r#"{"type":"subscribe","topic":"\ud800"}"#, "{\"type\":1e999}", "\0"];
    for request in unreadable {
        client.send(TEXT, request.as_bytes());
        let refusal = told(&mut client);
        assert_eq!((&refusal["code"], refusal.get("id")), (&json!("bad-json"), None), "{request}");
    }
    let deep = format!("{{\"topic\":{}", "[".repeat(1 << 20));
    let array = r#"["subscribe",1,"a",null,null,null]"#;
    for request in [&deep, "7", "null", array, r#"{"type":"ping","type":"ping"}"#] {
        client.send(TEXT, request.as_bytes());
        let refusal = told(&mut client);
        assert_eq!((&refusal["code"], refusal.get("id")), (&json!("bad-request"), None));
    }
    client.send(BINARY, b"{}");
    assert_eq!(told(&mut client)["code"], "not-text");
    let subscribe = |client: &mut Client, topic| {
        ask(client, &json!({"type": "subscribe", "topic": topic, "id": 1}))
    };
    assert_eq!(subscribe(&mut client, "second")["type"], "ack");
    assert_eq!(subscribe(&mut client, "third")["code"], "too-many-subscriptions");
    assert_eq!(subscribe(&mut client, "second")["type"], "ack", "it has that one");
    ask(&mut client, &json!({"type": "unsubscribe", "topic": "first", "id": 1}));
    assert_eq!(subscribe(&mut client, "third")["type"], "ack");
}

#[test]
fn bad_topic_in_a_path_is_refused_with_the_handshake() {
    let server = serve(&["--topics"]);
    let status = |path: &str| Client::dial(server.port).upgrade(path, "").status;
    let long = "x".repeat(257);
    for path in [
        "/sub/a%23",
        "/sub/%23/a",
        "/sub/a+",
        "/sub/%00",
        "/sub/$json/a",
        "/sub/1/2/3/4/5/6/7/8/9",
        &format!("/sub/{long}"),
        "/pub/a/+",
        "/pub/%23",
        "/pub/$SYS",
    ] {
        assert_eq!(status(path), 400, "{path}");
    }
    for path in ["/sub", "/sub/", "/sub/%ff", "/pub/", "/pub/%ff", "/topics/", "/Topics"] {
        assert_eq!(status(path), 404, "{path}");
    }
    for path in ["/sub/a/", "/sub/%2F", "/sub/a//b", "/pub/%E2%82%AC", "/sub/1/2/3/4/5/6/7/8"] {
        assert_eq!(status(path), 101, "{path}");
    }
    for path in ["/sub/a", "/pub/a", "/topics"] {
        assert_eq!(request(server.port, "GET", path).status, 426, "{path}");
        assert_eq!(Client::dial(serve(&[]).port).upgrade(path, "").status, 404, "{path}");
    }
}

#[test]
fn subscriber_who_sends_is_told_where_to() {
    let server = serve(&["--topics"]);
    let mut client = open(&server, "/sub/a");
    client.send(TEXT, b"hello?");
    let Frame { opcode, payload, .. } = client.frame();
    assert_eq!((opcode, &payload[..2]), (CLOSE, &1003_u16.to_be_bytes()[..]));
    assert!(String::from_utf8_lossy(&payload[2..]).contains("/pub/TOPIC"));
}

/// How many messages are published to somebody who does not read, of 1,000 bytes each: more than
/// kernels keep.
const MESSAGES: usize = 2000;

/// A server where the first client does not read while all messages come; the second does.
fn overwhelm(policy: &str, path: &str) -> (Server, Client, Client) {
    let server = serve(&[
        "--topics",
        "--threads",
        "1",
        "--sndbuf",
        "16KiB",
        "--topic-policy",
        policy,
        "--topic-backlog",
        "64KiB",
    ]);
    let mut slow = open(&server, path);
    if path == "/topics" {
        ask(&mut slow, &json!({"type": "subscribe", "topic": "news", "id": 0}));
    }
    let (mut quick, mut publisher) = (open(&server, "/sub/news"), open(&server, "/pub/news"));
    for number in 0..MESSAGES {
        publisher.send(TEXT, numbered(number).as_bytes());
        assert_eq!(text(&mut quick), numbered(number), "a neighbour is not held up");
    }
    (server, slow, publisher)
}

fn numbered(number: usize) -> String {
    format!("{number:0>1000}")
}

/// The numbers of all messages up to `last`.
fn numbers_to(client: &mut Client, last: usize) -> Vec<usize> {
    let mut numbers = Vec::new();
    while numbers.last() != Some(&last) {
        numbers.push(text(client).parse().unwrap());
    }
    numbers
}

/// Checks that these are in order and not all: when the kernel takes some more, so does the server.
fn assert_gaps(numbers: &[usize]) {
    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    assert!((16..MESSAGES).contains(&numbers.len()), "{}", numbers.len());
}

#[test]
fn slow_subscriber_is_closed_where_the_policy_says_so() {
    let (_server, mut slow, _) = overwhelm("close", "/sub/news");
    for number in 0.. {
        let Frame { opcode, payload, .. } = slow.frame();
        if opcode == CLOSE {
            assert_eq!(payload[..2], 1013_u16.to_be_bytes());
            assert!((64..MESSAGES).contains(&number), "{number}");
            return;
        }
        assert_eq!(payload, numbered(number).as_bytes());
    }
}

#[test]
fn slow_subscriber_misses_the_newest_where_the_policy_says_so() {
    let (_server, mut slow, mut publisher) = overwhelm("skip-new", "/sub/news");
    let has_ended = AtomicBool::new(false);
    let got = std::thread::scope(|scope| {
        scope.spawn(|| {
            // Until there is room again.
            while !has_ended.load(Ordering::Relaxed) {
                publisher.send(TEXT, b"end");
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let mut got = Vec::new();
        while let Ok(number) = text(&mut slow).parse() {
            got.push(number);
        }
        has_ended.store(true, Ordering::Relaxed);
        got
    });
    assert_gaps(&got);
    // What waits in the server is not the newest.
    assert!(got.iter().rev().zip(1..=60).any(|(number, back)| number + back != MESSAGES));
}

#[test]
fn slow_subscriber_misses_the_oldest_where_the_policy_says_so() {
    let (_server, mut slow, _) = overwhelm("drop-oldest", "/sub/news");
    let got = numbers_to(&mut slow, MESSAGES - 1);
    assert_gaps(&got);
    // What waits in the server is the newest: 64 KiB without a gap.
    assert!(got.iter().rev().zip(1..=60).all(|(number, back)| number + back == MESSAGES));
}

#[test]
fn slow_client_of_requests_is_told_how_much_it_has_missed() {
    for policy in ["skip-new", "drop-oldest"] {
        let (_server, mut slow, _) = overwhelm(policy, "/topics");
        let (mut got, mut missed) = (0, 0);
        while got + missed < MESSAGES as u64 {
            let told = told(&mut slow);
            match told["type"].as_str() {
                Some("message") => got += 1,
                Some("dropped") => missed += told["messages"].as_u64().unwrap(),
                _ => panic!("{told}"),
            }
        }
        assert_eq!(got + missed, MESSAGES as u64, "{policy}");
        assert!(got >= 64 && missed > 0, "{policy}: {got} and {missed}");
        assert!(slow.is_silent_for(SILENCE), "{policy}");
    }
}

#[test]
fn slow_subscriber_gets_the_newest_of_each_key_where_the_policy_says_so() {
    let (server, mut slow, mut publisher) = overwhelm("conflate", "/sub/news");
    let got = numbers_to(&mut slow, MESSAGES - 1);
    assert_gaps(&got);
    // And with keys, which requests can give.
    let mut quick = open(&server, "/sub/news");
    let mut speaker = open(&server, "/topics");
    for number in 0..MESSAGES {
        let key = ["a", "b", "c"][number % 3];
        let data = numbered(number);
        let publish = json!({"type": "publish", "topic": "news", "data": data, "key": key});
        speaker.send(TEXT, publish.to_string().as_bytes());
        assert_eq!(text(&mut quick), data);
    }
    let mut newest = [0; 3];
    let mut count = 0;
    while newest.iter().any(|number| *number < MESSAGES - 3) {
        let number: usize = text(&mut slow).parse().unwrap();
        let known = &mut newest[number % 3];
        assert!(*known <= number, "{number} behind {known}");
        *known = number;
        count += 1;
    }
    assert!(count < MESSAGES);
    publisher.send(TEXT, b"behind all");
    assert_eq!(text(&mut slow), "behind all");
}
