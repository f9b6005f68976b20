//! Blocking clients leave no thread behind. Alone in its process, so that they can be counted.
#![cfg(all(feature = "net", target_os = "linux"))]

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use corewire::{Client, ClientEvent, CloseCode, Context, Handler, Message, Reconnect, Server};

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

/// The threads of this process that are clients.
fn clients() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("comm")));
    // One that ends meanwhile has no name any more.
    names.filter(|name| name.as_ref().is_ok_and(|name| name == "corewire-client\n")).count()
}

fn await_clients(count: usize) {
    let until = Instant::now() + Duration::from_secs(20);
    while clients() != count {
        assert!(Instant::now() < until, "there are {} clients, not {count}", clients());
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
    assert_eq!(clients(), 8, "each has a thread");
    drop(living);
    await_clients(0);
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
    await_clients(0);
    let refused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for _ in 0..8 {
        assert!(Client::builder(&format!("ws://{refused}/")).connect().is_err());
        assert_eq!(clients(), 0, "there was none");
    }
    handle.shutdown(Duration::from_secs(1)).unwrap();
    serving.join().unwrap();
}
