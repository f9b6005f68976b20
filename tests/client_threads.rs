//! Blocking clients and pools of threads leave no thread behind. Alone in its process, so that they can be counted.
#![cfg(all(feature = "net", target_os = "linux"))]

use std::any::Any;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use corewire::{
    Client, ClientEvent, CloseCode, Context, Handler, Message, Pool, PoolEvent, Reconnect, Server,
};

struct Echo;

impl Handler for Echo {
    type Data = ();

    fn on_message(&mut self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
        match message {
            Message::Text("go") => ctx.close(CloseCode::NORMAL, "").unwrap(),
            message => assert!(ctx.send(message).is_taken()),
        }
    }
}

/// The threads of this process that have this name.
fn threads(wanted: &str) -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("comm")));
    // One that ends meanwhile has no name any more.
    names.filter(|name| name.as_ref().is_ok_and(|name| name.trim_end() == wanted)).count()
}

fn await_threads(wanted: &str, count: usize) {
    let until = Instant::now() + Duration::from_secs(20);
    while threads(wanted) != count {
        assert!(Instant::now() < until, "there are {} of {wanted}", threads(wanted));
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn no_thread_outlives_its_client_for_long() {
    let server = Server::builder().threads(1).listen(([127, 0, 0, 1], 0));
    let server = server.build(|_shard| Echo).unwrap();
    let (url, handle) = (format!("ws://{}/", server.local_addresses()[0]), server.handle());
    let serving = thread::spawn(move || server.run().unwrap());
    let settings = Client::builder(&url).reconnect(|it| *it = Reconnect::never()).build().unwrap();

    let living: Vec<_> = (0..8).map(|_| settings.connect().unwrap()).collect();
    assert_eq!(threads("corewire-client"), 8, "each has a thread");
    drop(living);
    await_threads("corewire-client", 0);
    for _ in 0..8 {
        settings.connect().unwrap().close(CloseCode::NORMAL, "").unwrap();
        let (sender, receiver) = settings.connect().unwrap().split();
        sender.send(Message::Text("go")).unwrap();
        assert!(receiver.recv().is_err());
        let panics = settings.connect_with(|event| {
            assert!(!matches!(event, ClientEvent::Closed(_)), "a panic that is wanted");
        });
        let client = panics.unwrap();
        client.send(Message::Text("go")).unwrap();
        assert!(client.recv().is_err());
    }
    await_threads("corewire-client", 0);
    let refused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for _ in 0..8 {
        assert!(Client::builder(&format!("ws://{refused}/")).connect().is_err());
        assert_eq!(threads("corewire-client"), 0, "there was none");
    }
    handle.shutdown(Duration::from_secs(1)).unwrap();
    serving.join().unwrap();
}

#[test]
fn no_thread_outlives_its_pool_and_its_leases_for_long() {
    const POOL: &str = "corewire-pool";
    let server = Server::builder().threads(1).listen(([127, 0, 0, 1], 0));
    let server = server.build(|_shard| Echo).unwrap();
    let (url, handle) = (format!("ws://{}/", server.local_addresses()[0]), server.handle());
    let serving = thread::spawn(move || server.run().unwrap());
    let to = Client::builder(&url).build().unwrap();
    let pool = Pool::builder().min(2).max(4).endpoint(to).build().unwrap();
    let long = Duration::from_secs(20);

    // Nobody has used it, or only a clone.
    drop(pool.start().unwrap());
    let handle_of = pool.start().unwrap();
    drop((handle_of.clone().acquire(long).unwrap(), handle_of));
    await_threads(POOL, 0);
    // In any order.
    for order in [[0, 1, 2], [1, 0, 2], [1, 2, 0]] {
        let handle = pool.start().unwrap();
        let [first, second] = [(); 2].map(|()| handle.acquire(long).unwrap());
        let mut parts: [Option<Box<dyn Any>>; 3] =
            [Some(Box::new(handle)), Some(Box::new(first)), Some(Box::new(second))];
        for place in order {
            assert_eq!(threads(POOL), 1, "{order:?}");
            parts[place] = None;
        }
        await_threads(POOL, 0);
    }
    // A lease whose connection has ended, and a loop that has failed.
    let panics = pool.start_with(|event| {
        assert!(!matches!(event, PoolEvent::Closed(_)), "a panic that is wanted");
    });
    for handle in [pool.start().unwrap(), panics.unwrap()] {
        let lease = handle.acquire(long).unwrap();
        lease.send(Message::Text("go")).unwrap();
        assert!(lease.recv().is_err());
        drop(handle);
    }
    // A lease that is forgotten ends with its connection.
    let forgetful = pool.start().unwrap();
    let lease = forgetful.acquire(long).unwrap();
    lease.send(Message::Text("go")).unwrap();
    std::mem::forget(lease);
    drop(forgetful);
    await_threads(POOL, 0);
    for _ in 0..4 {
        let handle = pool.start().unwrap();
        let _lease = handle.acquire(long).unwrap();
        handle.shut_down(Duration::ZERO).unwrap();
    }
    await_threads(POOL, 0);
    handle.shutdown(Duration::from_secs(1)).unwrap();
    serving.join().unwrap();
}
