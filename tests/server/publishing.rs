//! What is published on one loop, or by another thread, reaches the subscribers of all loops.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use corewire::{
    Context, Handler, LoopLimits, Message, NameError, PostError, PreparedMessage, ServerBuilder,
    ServerHandle, Spread,
};

use crate::client::Client;
use crate::running::server;

/// Everyone hears what anyone says.
struct Hall;

impl Handler for Hall {
    type Data = ();

    fn on_open(&mut self, ctx: &mut Context<'_, ()>) {
        assert!(ctx.here().subscribe("hall").unwrap());
    }

    fn on_message(&mut self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
        let Message::Text(text) = message else { return };
        ctx.publish("hall", &PreparedMessage::text(text)).unwrap();
    }
}

/// Three loops whose mailboxes are full at once.
fn narrow() -> ServerBuilder {
    let narrow = |limits: &mut LoopLimits| limits.mailbox_commands_max = 2;
    server().threads(3).spread(Spread::LeastLoaded).limits(narrow)
}

fn run(work: impl FnOnce(SocketAddr, &ServerHandle)) {
    let hall = narrow().listen((Ipv4Addr::LOCALHOST, 0)).build(|_shard| Hall).unwrap();
    let (address, handle) = (hall.local_addresses()[0], hall.handle());
    let running = thread::spawn(move || hall.run());
    work(address, &handle);
    handle.shutdown(Duration::ZERO).unwrap();
    running.join().unwrap().unwrap();
}

fn open(address: SocketAddr) -> Client {
    let mut client = Client::dial(address);
    client.upgrade("/");
    client
}

/// Reads so many messages; each speaker's come in order and without a gap.
fn hear(client: &mut Client, count: usize) {
    let mut next: HashMap<String, u32> = HashMap::new();
    for _ in 0..count {
        let text = client.text();
        let (speaker, number) = text.split_once(' ').unwrap();
        let expected = next.entry(speaker.to_owned()).or_default();
        assert_eq!(number.parse(), Ok(*expected), "of {speaker}");
        *expected += 1;
    }
}

#[test]
fn what_is_published_reaches_subscribers_of_all_loops_in_order() {
    const CLIENTS: usize = 9;
    const EACH: usize = 200;
    run(|address, _| {
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| open(address)).collect();
        for (speaker, client) in clients.iter_mut().enumerate() {
            (0..EACH).for_each(|number| client.say(&format!("{speaker} {number}")));
        }
        clients.iter_mut().for_each(|client| hear(client, CLIENTS * EACH));
    });
}

#[test]
fn other_threads_publish_to_all_loops_or_are_told_that_there_is_no_room() {
    const THREADS: usize = 4;
    const EACH: usize = 300;
    run(|address, handle| {
        let mut clients: Vec<_> = (0..6).map(|_| open(address)).collect();
        thread::scope(|scope| {
            for speaker in 0..THREADS {
                scope.spawn(move || {
                    for number in 0..EACH {
                        let message = PreparedMessage::text(&format!("{speaker} {number}"));
                        while let Err(error) = handle.publish("hall", &message) {
                            assert!(matches!(error, PostError::Full(_)), "{error}");
                            thread::yield_now();
                        }
                    }
                });
            }
            clients.iter_mut().for_each(|client| hear(client, THREADS * EACH));
        });
    });
}

#[test]
fn other_threads_are_told_of_names_that_are_none_and_what_they_publish_counts_once() {
    run(|address, handle| {
        let mut clients: Vec<_> = (0..3).map(|_| open(address)).collect();
        let message = PreparedMessage::text("hello 0");
        for (name, rule) in [
            ("", NameError::Empty),
            ("a/+", NameError::Wildcard),
            ("a\0", NameError::Nul),
            ("1/2/3/4/5/6/7/8/9", NameError::TooManyLevels),
        ] {
            for refused in [
                handle.publish(name, &message),
                handle.publish_keyed(name, 1, &message),
                handle.loops()[1].publish(name, &message),
            ] {
                let is_told = matches!(refused, Err(PostError::InvalidName(told)) if told == rule);
                assert!(is_told, "{name:?}: {refused:?}");
            }
        }
        handle.publish("hall", &message).unwrap();
        clients.iter_mut().for_each(|client| hear(client, 1));
        handle.loops()[2].publish("nobody", &message).unwrap();
        let counters = handle.counters(Duration::from_secs(10)).unwrap();
        assert_eq!((counters.published, counters.sends_dropped), (2, 0));
    });
}
