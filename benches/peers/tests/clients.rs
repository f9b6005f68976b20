//! Every client does the same work: so many messages under way, each sent back as it came.

mod support;

use std::io::ErrorKind;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::{Peer, Uninterrupted, listed};
use tungstenite::{Error, Message, WebSocket, accept};

const PATIENCE: Duration = Duration::from_secs(20);
const CONNECTIONS: usize = 3;
const IN_FLIGHT: usize = 5;

struct Client {
    process: Child,
    sockets: Vec<WebSocket<Uninterrupted>>,
}

impl Client {
    fn start(bin: &str, bytes: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let [connections, in_flight, bytes] =
            [CONNECTIONS, IN_FLIGHT, bytes].map(|count| count.to_string());
        let process = Command::new(support::binary(bin))
            .args(["--connect", &address, "--connections", &connections])
            .args(["--in-flight", &in_flight, "--bytes", &bytes])
            .stderr(Stdio::null())
            .spawn()
            .expect("the client can be started");
        let mut client = Self { process, sockets: Vec::new() };
        // Some connect one after the other, some at once: all are shaken hands with as they come.
        for _ in 0..CONNECTIONS {
            let (stream, _) = listener.accept().expect("the client connects");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
            client.sockets.push(accept(Uninterrupted(stream)).expect("the client upgrades"));
        }
        client
    }

    fn ends_as_a_failure(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.process.try_wait().expect("a child can be asked") {
                return !status.success();
            }
            thread::sleep(Duration::from_millis(5));
        }
        false
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs `check` with each client, all at once, and names those that fail.
fn each(check: impl Fn(&str) + Copy + Send + 'static) {
    let clients = listed().into_iter().filter_map(|Peer { client, .. }| client);
    let checks: Vec<_> = clients
        .map(|client| (client.bin.clone(), thread::spawn(move || check(&client.bin))))
        .collect();
    assert!(checks.len() > 5);
    let failed: Vec<String> = checks
        .into_iter()
        .filter_map(|(name, check)| check.join().is_err().then_some(name))
        .collect();
    assert!(failed.is_empty(), "wrong: {failed:?}");
}

fn payload(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8).collect()
}

#[test]
fn so_many_messages_are_under_way_and_no_more() {
    each(|bin| {
        for bytes in [0, 20, 1 << 10, 70 << 10] {
            let mut client = Client::start(bin, bytes);
            for socket in &mut client.sockets {
                for _ in 0..IN_FLIGHT {
                    let message = socket.read().expect("a message");
                    assert!(message == Message::binary(payload(bytes)));
                }
            }
            let socket = &mut client.sockets[0];
            let pause = Some(Duration::from_millis(50));
            socket.get_ref().0.set_read_timeout(pause).expect("a timeout can be set");
            let Err(Error::Io(silence)) = socket.read() else { panic!("one message too many") };
            assert!(matches!(silence.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
        }
    });
}

#[test]
fn each_message_is_sent_back_on_its_connection() {
    each(|bin| {
        let mut client = Client::start(bin, 20);
        for round in 0..3 {
            for socket in &mut client.sockets {
                for _ in 0..IN_FLIGHT {
                    let message = socket.read().expect("a message");
                    assert!(message == Message::binary(payload(20)), "{round}");
                    // By turns a write for each, and one for all.
                    socket.write(message).expect("there is room");
                    if round % 2 == 0 {
                        socket.flush().expect("the client reads");
                    }
                }
                socket.flush().expect("the client reads");
            }
        }
    });
}

#[test]
fn a_connection_that_ends_is_the_end() {
    each(|bin| {
        let mut client = Client::start(bin, 20);
        drop(client.sockets.pop());
        assert!(client.ends_as_a_failure());
    });
}

#[test]
fn without_a_server_there_is_no_client() {
    each(|bin| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        drop(listener);
        let mut command = Command::new(support::binary(bin));
        let command = command.args(["--connect", &address]).stderr(Stdio::null());
        let process = command.spawn().expect("the client can be started");
        assert!(Client { process, sockets: Vec::new() }.ends_as_a_failure());
    });
}
