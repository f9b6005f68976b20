//! One server, several loops, and those who talk to it from outside.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use corewire::{
    CloseCode, ConfigError, ConnectionId, Context, Handler, Heartbeat, Message, PanicPolicy,
    PostError, PreparedMessage, Server, ServerBuilder, ServerError, ShardIndex,
};

use crate::client::Client;
use crate::running::Running;

const DEADLINE: Duration = Duration::from_secs(5);

/// Echoes; tells who has opened; panics when asked to.
struct Talker {
    opened: Sender<ConnectionId>,
    /// A handler need not be `Send`.
    _not_send: Rc<Cell<u8>>,
}

impl Handler for Talker {
    type Data = ();

    fn on_open(&mut self, ctx: &mut Context<'_, ()>) {
        self.opened.send(ctx.id()).unwrap();
    }

    fn on_message(&mut self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
        assert_ne!(message, Message::Text("panic"), "as you wish");
        let _ = ctx.send(message);
    }
}

fn talker(opened: &Sender<ConnectionId>) -> impl Fn(ShardIndex) -> Talker + Send + Sync + use<> {
    let opened = opened.clone();
    move |_| Talker { opened: opened.clone(), _not_send: Rc::default() }
}

fn local() -> ServerBuilder {
    Server::builder().listen(([127, 0, 0, 1], 0))
}

/// Opens connections until each of two loops has some; who is whose.
fn open_on_both(
    address: SocketAddr,
    opened: &std::sync::mpsc::Receiver<ConnectionId>,
) -> Vec<(ConnectionId, Client)> {
    // The kernel spreads by a hash of the addresses: all on one side is a chance in 2^31.
    let open = |_| {
        let mut client = Client::dial(address);
        client.upgrade("/");
        (opened.recv().unwrap(), client)
    };
    (0..32).map(open).collect()
}

#[test]
fn all_loops_listen_on_the_same_port_before_they_run() {
    let (opened, _receiver) = channel();
    let server = local().listen(([127, 0, 0, 1], 0)).threads(2).build(talker(&opened)).unwrap();
    let [first, second] = server.local_addresses() else { panic!("two were asked for") };
    assert!(first != second && first.port() != 0 && second.port() != 0);
    Client::dial(*first);
    Client::dial(*second);
}

#[test]
fn handle_reaches_each_connection_on_its_loop_and_all_at_once() {
    let (sender, opened) = channel();
    let server = local().threads(2).build(talker(&sender)).unwrap();
    let (address, handle) = (server.local_addresses()[0], server.handle());
    let running = thread::spawn(move || server.run());
    let mut clients = open_on_both(address, &opened);
    let shards: BTreeSet<_> = clients.iter().map(|(id, _)| id.shard()).collect();
    assert_eq!(shards.len(), 2);
    for (id, client) in &mut clients {
        handle.send(*id, PreparedMessage::text(&id.to_string())).unwrap();
        assert_eq!(client.text(), id.to_string());
    }
    handle.broadcast(&PreparedMessage::text("to all")).unwrap();
    for (_, client) in &mut clients {
        assert_eq!(client.text(), "to all");
    }
    let (id, client) = &mut clients[0];
    handle.close(*id, CloseCode::POLICY_VIOLATION, "out").unwrap();
    assert_eq!(client.frame(), (8, [&1008u16.to_be_bytes()[..], b"out"].concat()));
    handle.shutdown(DEADLINE).unwrap();
    for (_, client) in &mut clients[1..] {
        assert_eq!(client.frame(), (8, 1001u16.to_be_bytes().to_vec()));
        client.send(8, &1001u16.to_be_bytes());
    }
    drop(clients);
    let counters = running.join().unwrap().unwrap();
    assert_eq!((counters.handshakes_completed, counters.closed), (32, 32));
    assert_eq!(counters.messages_sent, 64);
}

#[test]
fn handle_of_a_smaller_server_does_not_know_the_loop() {
    let (sender, opened) = channel();
    let server = local().threads(2).build(talker(&sender)).unwrap();
    let (address, handle) = (server.local_addresses()[0], server.handle());
    let running = thread::spawn(move || server.run());
    let clients = open_on_both(address, &opened);
    let (stranger, _) = clients.iter().find(|(id, _)| id.shard() == ShardIndex(1)).unwrap();
    let small = local().threads(1).build(talker(&sender)).unwrap().handle();
    let refused = small.send(*stranger, PreparedMessage::text("?"));
    assert!(matches!(refused, Err(PostError::WrongShard(_))), "{refused:?}");
    drop(clients);
    handle.shutdown(DEADLINE).unwrap();
    running.join().unwrap().unwrap();
}

#[test]
fn shutdown_before_the_run_ends_it_at_once() {
    let (sender, _opened) = channel();
    let server = local().threads(2).build(talker(&sender)).unwrap();
    server.handle().shutdown(DEADLINE).unwrap();
    let began = Instant::now();
    server.run().unwrap();
    assert!(began.elapsed() < DEADLINE);
}

#[test]
fn panic_of_a_handler_ends_the_whole_server_with_that_panic() {
    let (sender, opened) = channel();
    let server = local().threads(2).build(talker(&sender)).unwrap();
    let address = server.local_addresses()[0];
    let running = thread::spawn(move || server.run());
    let mut clients = open_on_both(address, &opened);
    let panicked = clients[0].0.shard();
    clients[0].1.say("panic");
    for (id, client) in &mut clients {
        if id.shard() != panicked {
            assert_eq!(client.frame(), (8, 1001u16.to_be_bytes().to_vec()));
        }
    }
    drop(clients);
    let payload = running.join().unwrap_err();
    let message = payload.downcast_ref::<String>().unwrap();
    assert!(message.contains("as you wish"), "{message}");
}

#[test]
fn caught_panic_closes_that_connection_alone() {
    let (sender, _opened) = channel();
    let policy = PanicPolicy::CloseConnection;
    let server = local().threads(1).panics(policy).build(talker(&sender)).unwrap();
    let (address, handle) = (server.local_addresses()[0], server.handle());
    let running = thread::spawn(move || server.run());
    let mut clients = [(); 2].map(|()| Client::dial(address));
    clients.iter_mut().for_each(|client| client.upgrade("/"));
    clients[0].say("panic");
    assert_eq!(clients[0].frame(), (8, 1011u16.to_be_bytes().to_vec()));
    clients[1].say("unharmed");
    assert_eq!(clients[1].text(), "unharmed");
    drop(clients);
    handle.shutdown(DEADLINE).unwrap();
    running.join().unwrap().unwrap();
}

#[test]
fn hook_runs_once_on_each_thread_before_its_handler_is_made() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (hooked, made) = (seen.clone(), seen.clone());
    let (sender, _opened) = channel();
    let make = talker(&sender);
    let server = local()
        .threads(2)
        .on_thread_start(move |shard| {
            hooked.lock().unwrap().push((shard, "hook", thread::current().id()));
        })
        .build(move |shard| {
            made.lock().unwrap().push((shard, "handler", thread::current().id()));
            make(shard)
        })
        .unwrap();
    assert!(seen.lock().unwrap().is_empty(), "nothing runs before `run`");
    server.handle().shutdown(DEADLINE).unwrap();
    server.run().unwrap();
    let seen = seen.lock().unwrap();
    for (shard, is_here) in [(ShardIndex(0), true), (ShardIndex(1), false)] {
        let of_shard: Vec<_> = seen.iter().filter(|(index, ..)| *index == shard).collect();
        assert!(matches!(of_shard[..], [(_, "hook", a), (_, "handler", b)] if a == b));
        assert_eq!(of_shard[0].2 == thread::current().id(), is_here);
    }
}

#[test]
fn address_in_use_is_an_error_with_that_address() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap();
    let (sender, _opened) = channel();
    for threads in [1, 2] {
        let error = local().listen(taken).threads(threads).build(talker(&sender)).err().unwrap();
        assert!(
            matches!(&error, ServerError::Listen { endpoint, error }
                if endpoint.socket_addr() == Some(taken) && error.kind() == ErrorKind::AddrInUse),
            "{error}"
        );
    }
}

#[test]
fn server_without_address_or_with_too_many_threads_is_refused() {
    let (sender, _opened) = channel();
    let error = Server::builder().build(talker(&sender)).err().unwrap();
    assert!(matches!(error, ServerError::NoAddress));
    for threads in [0, 257] {
        let error = local().threads(threads).build(talker(&sender)).err().unwrap();
        assert!(matches!(error, ServerError::ThreadCount { threads: asked } if asked == threads));
    }
}

#[test]
fn server_with_a_heartbeat_of_zero_is_refused() {
    let (sender, _opened) = channel();
    let usual = Heartbeat::default();
    for heartbeat in [
        Heartbeat { ping_every: Duration::ZERO, ..usual },
        Heartbeat { dead_after: Duration::ZERO, ..usual },
    ] {
        let with_it = || local().config(|config| config.heartbeat = Some(heartbeat));
        let error = with_it().build(talker(&sender)).err().unwrap();
        assert!(matches!(error, ServerError::Config(ConfigError::ZeroHeartbeat)), "{error}");
        let make = talker(&sender);
        let error = with_it().build_reactor(make(ShardIndex(0))).err().unwrap();
        assert!(matches!(error, ServerError::Config(ConfigError::ZeroHeartbeat)), "{error}");
    }
}

#[test]
fn reactor_for_embedding_is_turned_by_its_owner() {
    let (sender, opened) = channel();
    let make = talker(&sender);
    let mut reactor = local().build_reactor(make(ShardIndex(0))).unwrap();
    let address = reactor.local_addresses().next().unwrap();
    let client = thread::spawn(move || {
        let mut client = Client::dial(address);
        client.upgrade("/");
        client.say("Hello");
        client.text()
    });
    while !client.is_finished() {
        reactor.turn(Some(Duration::from_millis(10))).unwrap();
    }
    assert_eq!(client.join().unwrap(), "Hello");
    assert_eq!(opened.recv().unwrap().shard(), ShardIndex(0));
}

/// Each loop looks in its first turn; what all of them hold is told by each.
#[test]
fn server_sees_its_budget_and_every_loop_tells_it() {
    let builder = Server::builder().listen(([127, 0, 0, 1], 0)).threads(2);
    let running = Running::start(builder.pressure(|it| it.budget_bytes = Some(1 << 40)));
    let told = |handle: &corewire::Handle| handle.pressure().is_some();
    while !running.handle.loops().iter().all(told) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let snapshot = running.handle.pressure().unwrap();
    assert_eq!((snapshot.budget_bytes, snapshot.percent), (1 << 40, 0));
    assert!(snapshot.sample.rss_bytes > 1 << 20, "{snapshot:?}");
    running.stop();
    let running = Running::start(Server::builder().listen(([127, 0, 0, 1], 0)).no_pressure());
    std::thread::sleep(Duration::from_millis(50));
    assert!(running.handle.pressure().is_none());
    running.stop();
}
