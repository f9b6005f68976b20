//! Every server of topics brings what is published to all who listen, so that what the race compares
//! is the same work.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use support::{Protocol, Server, Uninterrupted, listed};
use tungstenite::client::client_with_config;
use tungstenite::{Message, WebSocket};

const SUBSCRIBERS: usize = 5;

fn upgrade(server: &Server, path: &str) -> WebSocket<Uninterrupted> {
    let url = format!("ws://{}{path}", server.address);
    client_with_config(url, Uninterrupted(server.connect()), None).expect("the peer upgrades").0
}

/// Runs `check` against each of one protocol, all at once, and names those that fail.
fn each(protocol: Protocol, check: impl Fn(&Server) + Copy + Send + 'static) {
    let checks: Vec<_> = listed()
        .into_iter()
        .filter(|peer| peer.protocol == protocol)
        .filter_map(|peer| Some(peer.fan_out?.bin))
        .map(|bin| (bin.clone(), thread::spawn(move || check(&Server::start(&bin, &[])))))
        .collect();
    assert!(!checks.is_empty());
    let failed: Vec<String> = checks
        .into_iter()
        .filter_map(|(bin, check)| check.join().is_err().then_some(bin))
        .collect();
    assert!(failed.is_empty(), "wrong: {failed:?}");
}

fn binary(payload_bytes: usize) -> Message {
    Message::binary((0..payload_bytes).map(|at| (at % 251) as u8).collect::<Vec<u8>>())
}

fn assert_all_have(subscribers: &mut [WebSocket<Uninterrupted>], sent: &Message) {
    for subscriber in subscribers {
        let got = subscriber.read().expect("a copy");
        assert!(got == *sent, "{} bytes came for {}: not the same", got.len(), sent.len());
    }
}

#[test]
fn messages_reach_all_subscribers_with_their_opcode() {
    each(Protocol::Websocket, |server| {
        let mut subscribers: Vec<_> = (0..SUBSCRIBERS).map(|_| upgrade(server, "/sub")).collect();
        let mut publisher = upgrade(server, "/pub");
        for payload_bytes in [0, 64, 125, 126, 1 << 10, 64 << 10, 1 << 20] {
            let text = Message::text("corewir\u{e9} ".repeat(payload_bytes / 10));
            for message in [binary(payload_bytes), text] {
                publisher.send(message.clone()).expect("the peer reads");
                assert_all_have(&mut subscribers, &message);
            }
        }
    });
}

#[test]
fn messages_behind_one_another_reach_all_in_order() {
    each(Protocol::Websocket, |server| {
        let mut subscribers: Vec<_> = (0..SUBSCRIBERS).map(|_| upgrade(server, "/sub")).collect();
        let mut publisher = upgrade(server, "/pub");
        // As many as the race has at once, and more than any batch, each time in one write.
        for count in [16, 100] {
            let messages: Vec<Message> = (0..count).map(|at| binary(20 + at)).collect();
            for message in &messages {
                publisher.write(message.clone()).expect("there is room");
            }
            publisher.flush().expect("the peer reads");
            for message in &messages {
                assert_all_have(&mut subscribers, message);
            }
        }
    });
}

#[test]
fn the_publisher_and_who_has_left_get_nothing() {
    each(Protocol::Websocket, |server| {
        let mut subscribers: Vec<_> = (0..SUBSCRIBERS).map(|_| upgrade(server, "/sub")).collect();
        let mut publisher = upgrade(server, "/pub");
        let mut leaving = subscribers.swap_remove(1);
        leaving.close(None).expect("the peer reads");
        while leaving.read().is_ok() {}
        // What a subscriber says is nobody's business.
        subscribers[0].send(binary(7)).expect("the peer reads");
        publisher.send(binary(64)).expect("the peer reads");
        assert_all_have(&mut subscribers, &binary(64));
        publisher.send(Message::Ping("all".into())).expect("the peer reads");
        assert_eq!(publisher.read().expect("an answer"), Message::Pong("all".into()));
    });
}

#[test]
fn raw_bytes_reach_all_subscribers_as_they_are() {
    each(Protocol::Raw, |server| {
        let knock = |path: &str| {
            let mut stream = server.connect();
            let request = format!("GET {path} HTTP/1.1\r\n\r\n");
            stream.write_all(request.as_bytes()).expect("the peer reads");
            let mut answer = vec![0; request.len()];
            stream.read_exact(&mut answer).expect("an answer");
            assert_eq!(answer, request.as_bytes());
            stream
        };
        let mut subscribers: Vec<TcpStream> = (0..SUBSCRIBERS).map(|_| knock("/sub")).collect();
        let mut publisher = knock("/pub");
        drop(subscribers.swap_remove(1));
        // The last is more than a socket takes at once, so that all have a rest to wait for.
        for bytes in [1, 70, 1 << 10, 8 << 20] {
            let sent = binary(bytes).into_data();
            thread::scope(|scope| {
                scope.spawn(|| publisher.write_all(&sent).expect("the peer reads"));
                for subscriber in &mut subscribers {
                    let mut got = vec![0; bytes];
                    subscriber.read_exact(&mut got).expect("a copy");
                    assert!(got == sent, "{bytes} bytes came changed");
                }
            });
        }
    });
}
