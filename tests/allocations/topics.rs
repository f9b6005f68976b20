//! What a message costs that waits for ten thousand subscribers who read nothing: a reference each,
//! and one copy.

use std::any::Any;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corewire::{
    Accepted, Buffer, Config, Context, Endpoint, Handler, ListenOptions, ListenerSettings,
    Listening, Loop, Message, Net, NetKey, PreparedMessage, Reactor, ReactorConfig, Readiness,
    Received, Role, SlowPolicy, Wait, Wake,
};

use crate::{HELD_BYTES, counted};

const SUBSCRIBERS: usize = 10_000;

/// All who come subscribe; what it is told is published.
struct News;

impl Handler for News {
    type Data = ();

    fn on_open(&mut self, ctx: &mut Context<'_, ()>) {
        assert!(ctx.here().subscribe("news").expect("below every limit"));
    }

    fn on_message(&mut self, _: &mut Context<'_, ()>, _: Message<'_>) {}

    fn on_notice(&mut self, at: &mut Loop<'_, ()>, notice: Box<dyn Any + Send>) {
        let messages: Vec<PreparedMessage> = *notice.downcast().expect("messages");
        for message in &messages {
            let published = at.publish("news", message).expect("a good name");
            assert_eq!(published.taken as usize, SUBSCRIBERS);
        }
    }
}

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

/// Bytes that the loop holds after so many messages of `payload_bytes` were published in one turn,
/// and did not before.
fn held_by(reactor: &mut Reactor<Deaf, News>, messages: usize, payload_bytes: usize) -> usize {
    HELD_BYTES.set(0);
    counted(|| {
        let payload = vec![7; payload_bytes];
        let messages: Vec<PreparedMessage> =
            (0..messages).map(|_| PreparedMessage::binary(&payload)).collect();
        reactor.handle().notify(messages).expect("the mailbox has room");
        reactor.turn(Some(Duration::ZERO)).expect("polling never fails");
    });
    usize::try_from(HELD_BYTES.get()).unwrap_or(0)
}

/// A range of the shared bytes and what finds its neighbours, in a table that is mostly full.
const REFERENCE_BYTES_MAX: usize = 64;
/// Once for each loop: the log of a turn, and a list of those who are written to at its end.
const LOOP_BYTES_MAX: usize = (64 << 10) + SUBSCRIBERS * 16;

#[test]
fn a_message_that_waits_for_all_takes_a_reference_each_and_one_copy() {
    // Six times ten thousand references fill a table of 65,536.
    let (messages, payload_bytes) = (6, 1 << 10);
    // Of what may be taken back, an index knows where it waits.
    for (policy, index_bytes_max) in
        [(SlowPolicy::Close, 0), (SlowPolicy::SkipNew, 0), (SlowPolicy::DropOldest, 64)]
    {
        let mut reactor = stuck(policy, 0);
        let held: usize = (0..messages).map(|_| held_by(&mut reactor, 1, payload_bytes)).sum();
        let copies = messages * (payload_bytes + 256);
        let references = messages * SUBSCRIBERS * (REFERENCE_BYTES_MAX + index_bytes_max);
        println!("{policy:?}: {} bytes each", (held - copies) / (messages * SUBSCRIBERS));
        assert!(held <= references + copies + LOOP_BYTES_MAX, "{policy:?}: {held} bytes");
    }
}

#[test]
fn messages_of_one_turn_wait_as_one_reference() {
    let held = held_by(&mut stuck(SlowPolicy::SkipNew, 0), 60, 1 << 10);
    // The table has doubled at most once too often.
    assert!(held <= 2 * SUBSCRIBERS * REFERENCE_BYTES_MAX + LOOP_BYTES_MAX, "{held} bytes");
}

#[test]
fn of_a_conflated_message_one_waits_for_all() {
    let mut reactor = stuck(SlowPolicy::Conflate, 0);
    held_by(&mut reactor, 1, 1 << 10);
    held_by(&mut reactor, 1, 1 << 10);
    assert_eq!(held_by(&mut reactor, 1, 1 << 10), 0);
}
