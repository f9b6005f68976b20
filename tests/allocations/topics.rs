//! What a message costs that waits for ten thousand subscribers who read nothing: a reference each,
//! and one copy.

use std::any::Any;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corewire::{
    Accepted, Buffer, Config, Context, Endpoint, Handler, ListenOptions, ListenerSettings,
    Listening, Loop, Message, Net, NetKey, PreparedMessage, Reactor, ReactorConfig, Readiness,
    Received, Role, SlowPolicy, TopicSettings, Wait, Wake,
};

use crate::{HELD_BYTES, counted};

const SUBSCRIBERS: usize = 10_000;

/// All who come subscribe to news and to silence; what it is told is published.
struct News;

impl Handler for News {
    type Data = ();

    fn on_open(&mut self, ctx: &mut Context<'_, ()>) {
        assert!(ctx.here().subscribe(NEWS).expect("below every limit"));
        assert!(ctx.here().subscribe(SILENCE).expect("below every limit"));
    }

    fn on_message(&mut self, _: &mut Context<'_, ()>, _: Message<'_>) {}

    fn on_notice(&mut self, at: &mut Loop<'_, ()>, notice: Box<dyn Any + Send>) {
        at.configure_topic(SILENCE, TopicSettings::new(0, SlowPolicy::SkipNew))
            .expect("few topics");
        let messages: Vec<Told> = *notice.downcast().expect("messages");
        for Told { topic, key, message } in &messages {
            let published = at.publish_keyed(topic, *key, message).expect("a good name");
            assert_eq!(published.taken as usize, if *topic == NEWS { SUBSCRIBERS } else { 0 });
        }
    }
}

/// What is published by a key.
struct Told {
    topic: &'static str,
    key: u64,
    message: PreparedMessage,
}

const NEWS: &str = "news";
/// A topic whose messages all subscribers skip.
const SILENCE: &str = "silence";

/// A network of connections that say their request and then read nothing. It allocates nothing once
/// they are there, so that all that is counted is the loop's.
struct Deaf {
    now: Instant,
    listener: u64,
    connections: Vec<Stuck>,
    buffer: Option<Buffer>,
}

struct Stuck {
    token: u64,
    has_asked: bool,
    /// What its socket still takes.
    room_bytes: usize,
}

impl Net for Deaf {
    fn listen(
        &mut self,
        endpoint: &Endpoint,
        _: &ListenOptions,
        token: u64,
    ) -> io::Result<Listening> {
        self.listener = token;
        Ok(Listening { key: LISTENER, endpoint: endpoint.clone() })
    }

    fn accept(&mut self, _: NetKey, token: u64) -> io::Result<Accepted> {
        if self.connections.len() == SUBSCRIBERS {
            return Err(ErrorKind::WouldBlock.into());
        }
        let key = NetKey(self.connections.len() as u32);
        self.connections.push(Stuck { token, has_asked: false, room_bytes: 1 << 10 });
        Ok(Accepted { key, peer: ADDRESS.into() })
    }

    fn receive(&mut self, key: NetKey, _: &mut [u8], _: usize) -> io::Result<Received> {
        if std::mem::replace(&mut self.connections[key.0 as usize].has_asked, true) {
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut buffer = self.buffer.take().expect("the buffer was given back before this read");
        buffer.as_mut_slice()[..REQUEST.len()].copy_from_slice(REQUEST);
        Ok(Received { placed_bytes: 0, buffer, surplus_bytes: REQUEST.len(), is_short: true })
    }

    fn give_back(&mut self, buffer: Buffer) {
        self.buffer = Some(buffer);
    }

    fn send(&mut self, key: NetKey, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let room_bytes = &mut self.connections[key.0 as usize].room_bytes;
        let bytes = slices.iter().map(|slice| slice.len()).sum::<usize>().min(*room_bytes);
        *room_bytes -= bytes;
        if bytes == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(bytes) }
    }

    fn shutdown(&mut self, _: NetKey) {}

    fn close(&mut self, _: NetKey) {}

    fn poll(&mut self, events: &mut Vec<Readiness>, _: Wait) -> io::Result<()> {
        let readable = |token| Readiness { token, readable: true, writable: false, hung_up: false };
        if self.connections.len() < SUBSCRIBERS {
            events.push(readable(self.listener));
        }
        let silent = self.connections.iter().filter(|connection| !connection.has_asked);
        events.extend(silent.map(|connection| readable(connection.token)));
        Ok(())
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::new(NobodyElse)
    }

    fn now(&self) -> Instant {
        self.now
    }
}

/// There is one thread, so no poll waits for another.
struct NobodyElse;

impl Wake for NobodyElse {
    fn wake(&self) {}
}

const LISTENER: NetKey = NetKey(u32::MAX);
const ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9001);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// The loop of subscribers whose sockets take `room_bytes` more.
fn stuck(policy: SlowPolicy, room_bytes: usize) -> Reactor<Deaf, News> {
    let net = Deaf {
        now: Instant::now(),
        listener: 0,
        connections: Vec::with_capacity(SUBSCRIBERS),
        buffer: Some(Buffer::new(4 << 10)),
    };
    let mut reactor = Reactor::new(net, News, ReactorConfig::new([1; 32]));
    let mut config = Config::new(Role::Server);
    config.heartbeat = None;
    config.published.slow = policy;
    reactor
        .listen(ADDRESS, &ListenOptions::default(), ListenerSettings::new(config))
        .expect("nothing else listens");
    let mut turns = 0;
    while reactor.net().connections.iter().filter(|one| one.has_asked).count() < SUBSCRIBERS {
        reactor.turn(Some(Duration::ZERO)).expect("polling never fails");
        turns += 1;
        assert!(turns < SUBSCRIBERS, "all are accepted");
    }
    for connection in &mut reactor.net().connections {
        assert!(connection.room_bytes < 1 << 10, "its request was answered");
        connection.room_bytes = room_bytes;
    }
    reactor
}

/// Bytes that the loop holds after messages of `payload_bytes` with these keys were published in one
/// turn, and did not before.
fn held_by(reactor: &mut Reactor<Deaf, News>, keys: Range<u64>, payload_bytes: usize) -> usize {
    HELD_BYTES.set(0);
    counted(|| {
        let payload = vec![7; payload_bytes];
        let told = |key| Told { topic: NEWS, key, message: PreparedMessage::binary(&payload) };
        tell(reactor, keys.map(told).collect());
    });
    usize::try_from(HELD_BYTES.get()).unwrap_or(0)
}

fn tell(reactor: &mut Reactor<Deaf, News>, messages: Vec<Told>) {
    reactor.handle().notify(messages).expect("the mailbox has room");
    reactor.turn(Some(Duration::ZERO)).expect("polling never fails");
}

/// A range of the shared bytes, what finds its neighbours, and what finds it where it can be taken
/// back; in tables that are mostly full.
const REFERENCE_BYTES_MAX: usize = 64;
/// Once for each loop: the log of a turn.
const LOG_BYTES: usize = 64 << 10;
/// Once for each loop: the log, and a list of those who are written to at a turn's end.
const LOOP_BYTES_MAX: usize = LOG_BYTES + SUBSCRIBERS * 16;

#[test]
fn a_message_that_waits_for_all_takes_a_reference_each_and_one_copy() {
    let payload_bytes = 1 << 10;
    for policy in
        [SlowPolicy::Close, SlowPolicy::SkipNew, SlowPolicy::DropOldest, SlowPolicy::Conflate]
    {
        let mut reactor = stuck(policy, 0);
        // What all skip shows the loop how many it may have to write to.
        // The loop keeps a list of those who are to be written to, which is not the message's.
        let message = PreparedMessage::binary(b"");
        tell(&mut reactor, vec![Told { topic: SILENCE, key: 0, message }]);
        let mut held = 0;
        for key in 0..6 {
            held += held_by(&mut reactor, key..key + 1, payload_bytes);
            let messages = key as usize + 1;
            let copies = messages * (payload_bytes + 256) + LOG_BYTES;
            let references = messages * SUBSCRIBERS;
            let each = held.saturating_sub(copies) as f64 / references as f64;
            println!("{policy:?}, {messages} messages: {each:.1} bytes each");
            assert!(held <= references * REFERENCE_BYTES_MAX + copies, "{policy:?}: {held} bytes");
        }
    }
}

#[test]
fn messages_of_one_turn_wait_as_one_reference() {
    let held = held_by(&mut stuck(SlowPolicy::SkipNew, 0), 0..60, 1 << 10);
    // The table has doubled at most once too often.
    assert!(held <= 2 * SUBSCRIBERS * REFERENCE_BYTES_MAX + LOOP_BYTES_MAX, "{held} bytes");
}

#[test]
fn of_a_conflated_message_one_waits_for_all() {
    let mut reactor = stuck(SlowPolicy::Conflate, 0);
    held_by(&mut reactor, 0..1, 1 << 10);
    held_by(&mut reactor, 0..1, 1 << 10);
    assert_eq!(held_by(&mut reactor, 0..1, 1 << 10), 0);
}
