//! Connections that are lost and come back.

use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use corewire::{
    Client, ClientEvent, ClientSettings, ClientState, CloseCode, EndCause, FlushError, Jitter,
    Message, OutagePolicy, Reconnect, SendError, StopReason, UnsentReason,
};

use crate::naive_server::{Peer, listen};
use crate::own_server::OwnServer;

const LONG: Duration = Duration::from_secs(20);

fn impatient(reconnect: &mut Reconnect) {
    (reconnect.base, reconnect.cap) = (Duration::from_millis(20), Duration::from_millis(100));
    reconnect.jitter = Jitter::None;
}

fn settings(url: &str) -> ClientSettings {
    Client::builder(url).reconnect(impatient).build().unwrap()
}

/// Waits until the client stands so.
fn await_state(client: &Client, wanted: impl Fn(ClientState) -> bool) {
    let until = Instant::now() + LONG;
    while !wanted(client.state()) {
        assert!(Instant::now() < until, "it takes too long");
        thread::sleep(Duration::from_millis(1));
    }
}

fn is_offline(state: ClientState) -> bool {
    state != ClientState::Connected
}

#[test]
fn client_comes_back_to_a_server_that_was_restarted() {
    let server = OwnServer::start();
    let (url, address) = (server.url(), server.address);
    let (sender, receiver) = settings(&url).connect().unwrap().split();
    let (asked, answers) = mpsc::channel();
    let hearing = thread::spawn(move || {
        for message in &receiver {
            asked.send(message.as_text().unwrap().to_owned()).unwrap();
        }
    });
    sender.send(Message::Text("before")).unwrap();
    assert_eq!(answers.recv_timeout(LONG).unwrap(), "before");
    server.stop();
    while sender.state() == ClientState::Connected {
        thread::sleep(Duration::from_millis(1));
    }
    for number in 0..500 {
        sender.send(Message::Text(&number.to_string())).unwrap();
    }
    assert_eq!(sender.flush(Duration::from_millis(50)), Err(FlushError::TimedOut));
    let server = OwnServer::at(address);
    for number in 0..500 {
        assert_eq!(answers.recv_timeout(LONG).unwrap(), number.to_string());
    }
    sender.flush(LONG).unwrap();
    let stats = sender.stats();
    assert_eq!((stats.opened, stats.sent_late, stats.unsent), (2, 500, 0));
    sender.close(CloseCode::NORMAL, "").unwrap();
    hearing.join().unwrap();
    server.stop();
}

/// More than the queue for an outage takes, and more than one write: all of it waits, in order.
#[test]
fn what_is_sent_offline_comes_in_order_whichever_queue_it_waits_in() {
    let (listener, url) = listen();
    let address = listener.local_addr().unwrap();
    let serving = thread::spawn(move || drop((Peer::accept(&listener), listener)));
    let client = Client::builder(&url).reconnect(impatient);
    let client = client.outage(|it| it.messages_max = 300);
    let client = client.build().unwrap().connect().unwrap();
    serving.join().unwrap();
    await_state(&client, is_offline);
    for number in 0..900u32 {
        let payload = [&number.to_be_bytes()[..], &[0; 996]].concat();
        client.send_timeout(Message::Binary(&payload), LONG).unwrap();
    }
    let listener = TcpListener::bind(address).unwrap();
    let mut peer = Peer::accept(&listener);
    for number in 0..900u32 {
        assert_eq!(peer.frame().1[..4], number.to_be_bytes());
    }
    client.flush(LONG).unwrap();
}

// A megabyte that waits is four times what may be unsent at once, and the kernel takes all of it:
// nobody tells that there is room again.
#[test]
fn outage_of_a_megabyte_is_sent_without_another_word() {
    let (listener, url) = listen();
    let address = listener.local_addr().unwrap();
    let serving = thread::spawn(move || drop((Peer::accept(&listener), listener)));
    let client = settings(&url).connect().unwrap();
    serving.join().unwrap();
    await_state(&client, is_offline);
    for _ in 0..9 {
        client.send(Message::Binary(&[0; 100_000])).unwrap();
    }
    let listener = TcpListener::bind(address).unwrap();
    let mut peer = Peer::accept(&listener);
    (0..9).for_each(|_| assert_eq!(peer.frame().1.len(), 100_000));
}

#[test]
fn what_is_sent_on_opening_comes_before_what_waits() {
    let (listener, url) = listen();
    let (tell, events) = mpsc::channel();
    let connecting = thread::spawn(move || {
        let on_event = move |event: ClientEvent<'_>| match event {
            ClientEvent::Opened(mut peer) => {
                assert!(peer.send_text("subscribe").is_taken());
                tell.send("opened".to_owned()).unwrap();
            }
            ClientEvent::Closed(summary) => {
                tell.send(format!("closed {}", summary.code.as_u16())).unwrap();
            }
            ClientEvent::Changed(change) => tell.send(format!("{:?}", change.state)).unwrap(),
            _ => panic!("nothing else happens"),
        };
        (settings(&url).connect_with(on_event).unwrap(), events)
    });
    let mut peer = Peer::accept(&listener);
    assert_eq!(peer.text(), "subscribe");
    let (client, events) = connecting.join().unwrap();
    drop(peer);
    await_state(&client, is_offline);
    client.send(Message::Text("1")).unwrap();
    client.send(Message::Text("2")).unwrap();
    let mut peer = Peer::accept(&listener);
    assert_eq!([peer.text(), peer.text(), peer.text()], ["subscribe", "1", "2"]);
    let begun: Vec<_> = events.try_iter().collect();
    let wanted = ["Connecting", "opened", "Connected", "closed 1006", "RetryPending"];
    assert_eq!(begun[..5], wanted);
}

#[test]
fn what_waits_too_long_is_handed_back_and_flush_says_so() {
    let (listener, url) = listen();
    let serving = thread::spawn(move || drop((Peer::accept(&listener), listener)));
    let (tell, unsent) = mpsc::channel();
    let client = Client::builder(&url).reconnect(impatient).outage(|it| {
        (it.age_max, it.policy) = (Duration::from_millis(50), OutagePolicy::DropOldest);
    });
    let client = client.build().unwrap();
    let client = client
        .connect_with(move |event| {
            if let ClientEvent::Unsent { message, reason } = event {
                tell.send((message, reason)).unwrap();
            }
        })
        .unwrap();
    serving.join().unwrap();
    await_state(&client, is_offline);
    client.send(Message::Text("old")).unwrap();
    client.send(Message::Binary(b"as old")).unwrap();
    let told = [unsent.recv_timeout(LONG).unwrap(), unsent.recv_timeout(LONG).unwrap()];
    assert_eq!(told.each_ref().map(|(_, reason)| *reason), [UnsentReason::TooOld; 2]);
    assert_eq!(told[0].0.as_text(), Some("old"));
    assert_eq!(told[1].0.as_message(), Message::Binary(b"as old"));
    assert_eq!(client.flush(LONG), Err(FlushError::Unsent(2)));
    // Once told is enough.
    assert_eq!(client.flush(LONG), Ok(()));
}

#[test]
fn client_that_gives_up_ends_with_its_reason_and_hands_back_what_waits() {
    let (listener, url) = listen();
    let serving = thread::spawn(move || drop((Peer::accept(&listener), listener)));
    let (tell, unsent) = mpsc::channel();
    let client = Client::builder(&url).reconnect(|it| {
        impatient(it);
        it.tries_max = Some(2);
        (it.base, it.cap) = (Duration::from_millis(100), Duration::from_millis(100));
    });
    let client = client.build().unwrap();
    let client = client
        .connect_with(move |event| {
            if let ClientEvent::Unsent { message, reason } = event {
                tell.send((message.into_payload(), reason)).unwrap();
            }
        })
        .unwrap();
    serving.join().unwrap();
    await_state(&client, is_offline);
    client.send(Message::Text("never")).unwrap();
    let ended = client.recv().unwrap_err();
    assert_eq!(ended.cause(), EndCause::Stopped(StopReason::TriesExhausted));
    assert!(!ended.is_clean());
    assert!(ended.last_failure().is_some() && ended.last_close().is_some());
    assert_eq!(unsent.recv_timeout(LONG).unwrap(), (b"never".to_vec(), UnsentReason::Stopped));
    assert!(matches!(client.send(Message::Text("")), Err(SendError::Ended(_))));
    assert_eq!(client.flush(LONG), Err(FlushError::Unsent(1)));
    let stats = client.stats();
    assert_eq!((stats.opened, stats.dials_failed), (1, 2));
    // It is told that it was not clean, and no more than once what is unsent.
    assert!(!client.close(CloseCode::NORMAL, "").unwrap().is_clean());
}

#[test]
fn closing_without_a_connection_waits_for_nothing() {
    let (listener, url) = listen();
    let serving = thread::spawn(move || drop((Peer::accept(&listener), listener)));
    let client = settings(&url).connect().unwrap();
    serving.join().unwrap();
    await_state(&client, is_offline);
    client.send(Message::Text("never")).unwrap();
    let began = Instant::now();
    let error = client.close(CloseCode::NORMAL, "").unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(3));
    let corewire::CloseError::Unsent { messages: 1, ended } = error else { panic!("{error}") };
    assert_eq!(ended.cause(), EndCause::Stopped(StopReason::Stopped));
}
