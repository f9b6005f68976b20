//! Every peer is a right echo server, so that what the race compares is the same work.

mod support;

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use support::{Peer, Protocol, Server, Uninterrupted, listed, peers};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Message, WebSocket, client::client_with_config};

fn upgrade(server: &Server) -> WebSocket<Uninterrupted> {
    let limits = WebSocketConfig::default().max_frame_size(None).max_message_size(None);
    let url = format!("ws://{}/", server.address);
    let (socket, _response) =
        client_with_config(url, Uninterrupted(server.connect()), Some(limits))
            .expect("the peer upgrades");
    socket
}

/// Runs `check` against each peer of one protocol, all at once, and names those that fail.
fn each(protocol: Protocol, check: impl Fn(&mut Server) + Copy + Send + 'static) {
    let peers = peers().into_iter().filter(|peer| peer.protocol == protocol);
    let checks: Vec<_> = peers
        .map(|peer| {
            let name = peer.name.clone();
            (name, thread::spawn(move || check(&mut Server::start(&peer.bin, &[]))))
        })
        .collect();
    assert!(!checks.is_empty());
    let failed: Vec<String> = checks
        .into_iter()
        .filter_map(|(name, check)| check.join().is_err().then_some(name))
        .collect();
    assert!(failed.is_empty(), "wrong: {failed:?}");
}

/// Text with one character in eight outside ASCII, padded to its exact length.
fn text(payload_bytes: usize) -> Message {
    let mut text = "corewir\u{e9}".repeat(payload_bytes / 9);
    text.extend(std::iter::repeat_n('.', payload_bytes - text.len()));
    Message::text(text)
}

fn binary(payload_bytes: usize) -> Message {
    Message::binary((0..payload_bytes).map(|at| (at % 251) as u8).collect::<Vec<u8>>())
}

/// No `assert_eq`: nobody wants to read a mebibyte twice.
fn assert_echo(socket: &mut WebSocket<Uninterrupted>, sent: &Message) {
    let mut got = socket.read().expect("an answer");
    // On a busy machine a large message may take so long that the peer asks for a sign of life.
    while got.is_ping() {
        got = socket.read().expect("an answer");
    }
    assert!(got == *sent, "{} bytes came back for {}: not the same", got.len(), sent.len());
}

#[test]
fn messages_of_every_size_come_back_with_their_opcode() {
    each(Protocol::Websocket, |server| {
        let mut socket = upgrade(server);
        for payload_bytes in [0, 20, 125, 126, 64 << 10, 1 << 20] {
            for message in [binary(payload_bytes), text(payload_bytes)] {
                socket.send(message.clone()).expect("the peer reads");
                assert_echo(&mut socket, &message);
            }
        }
    });
}

#[test]
fn messages_behind_one_another_come_back_in_order() {
    each(Protocol::Websocket, |server| {
        let mut socket = upgrade(server);
        // Two, and then more than any batch, each time in one write.
        for count in [2, 100] {
            let messages: Vec<Message> = (0..count)
                .map(|at| if at % 2 == 0 { binary(20 + at) } else { text(30 + at) })
                .collect();
            for message in &messages {
                socket.write(message.clone()).expect("there is room");
            }
            socket.flush().expect("the peer reads");
            for message in &messages {
                assert_echo(&mut socket, message);
            }
        }
    });
}

#[test]
fn fragments_come_back_as_one_message() {
    use tungstenite::protocol::frame::Frame;
    use tungstenite::protocol::frame::coding::{Data, OpCode};
    each(Protocol::Websocket, |server| {
        let mut socket = upgrade(server);
        let first = Frame::message("core", OpCode::Data(Data::Text), false);
        let last = Frame::message("wire", OpCode::Data(Data::Continue), true);
        socket.write(Message::Frame(first)).expect("there is room");
        socket.send(Message::Frame(last)).expect("the peer reads");
        assert_echo(&mut socket, &Message::text("corewire"));
    });
}

#[test]
fn a_ping_is_answered() {
    each(Protocol::Websocket, |server| {
        let mut socket = upgrade(server);
        socket.send(Message::Ping("life".into())).expect("the peer reads");
        assert_echo(&mut socket, &Message::Pong("life".into()));
        socket.send(binary(20)).expect("the peer reads");
        assert_echo(&mut socket, &binary(20));
    });
}

#[test]
fn text_that_is_not_utf_8_is_not_echoed() {
    use tungstenite::protocol::frame::Frame;
    use tungstenite::protocol::frame::coding::{Data, OpCode};
    each(Protocol::Websocket, |server| {
        let mut socket = upgrade(server);
        let broken = Frame::message(&b"\xff"[..], OpCode::Data(Data::Text), true);
        socket.send(Message::Frame(broken)).expect("the peer reads");
        // It may part with or without a Close.
        assert!(!matches!(socket.read(), Ok(Message::Text(_) | Message::Binary(_))));
    });
}

#[test]
fn the_largest_message_comes_back() {
    each(Protocol::Websocket, |server| {
        let mut socket = upgrade(server);
        let largest = binary(corewire_peers::MESSAGE_BYTES_MAX);
        socket.send(largest.clone()).expect("the peer reads");
        assert_echo(&mut socket, &largest);
    });
}

#[test]
fn raw_bytes_come_back_as_they_are() {
    each(Protocol::Raw, |server| {
        let mut stream = server.connect();
        for bytes in [1, 20, 64 << 10, 1 << 20] {
            let sent = binary(bytes).into_data();
            let mut got = vec![0; bytes];
            let mut writer = stream.try_clone().expect("a descriptor");
            thread::scope(|scope| {
                scope.spawn(|| writer.write_all(&sent).expect("the peer reads"));
                stream.read_exact(&mut got).expect("an answer");
            });
            assert!(got == sent, "{bytes} bytes came back changed");
        }
        stream.shutdown(std::net::Shutdown::Write).expect("an open socket");
        assert_eq!(Uninterrupted(stream).read(&mut [0]).expect("an end"), 0);
    });
}

fn ends_on_sigterm(server: &mut Server) {
    let idle = server.connect();
    let id = i32::try_from(server.process.id()).ok().and_then(Pid::from_raw);
    kill_process(id.expect("a process id"), Signal::TERM).expect("it runs");
    let status = server.process.wait().expect("a child");
    assert!(status.success() || status.signal() == Some(15), "{status}");
    drop(idle);
    let refused = TcpStream::connect(server.address).map_err(|error| error.kind());
    assert_eq!(refused.map(drop), Err(ErrorKind::ConnectionRefused));
}

#[test]
fn every_peer_ends_on_sigterm() {
    each(Protocol::Websocket, ends_on_sigterm);
    each(Protocol::Raw, ends_on_sigterm);
}

#[test]
fn a_taken_port_is_an_error() -> io::Result<()> {
    for peer in peers() {
        let taken = TcpListener::bind("127.0.0.1:0")?;
        let mut process = Command::new(support::binary(&peer.bin))
            .args(["--listen", &taken.local_addr()?.to_string()])
            .stderr(Stdio::null())
            .spawn()?;
        assert!(!process.wait()?.success(), "{}", peer.name);
    }
    Ok(())
}

#[derive(Deserialize)]
struct Manifest {
    bin: Vec<Bin>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Bin {
    name: String,
    required_features: Vec<String>,
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
}

#[test]
fn the_list_names_every_binary_and_how_to_build_it() {
    let manifest: Manifest = toml::from_str(include_str!("../Cargo.toml")).expect("a manifest");
    // benches/load/pairs.sh races two loops of it against one of them: nobody else has to.
    let peers = manifest.bin.into_iter().filter(|bin| bin.name != "corewire-pairs");
    let built: BTreeSet<_> = peers.map(|bin| (bin.name, bin.required_features)).collect();
    let programs = |peer: Peer| {
        let server = peer.serves.then_some(peer.bin);
        let client = peer.client.map(|client| client.bin);
        let fan_out = peer.fan_out.map(|fan_out| fan_out.bin);
        server.into_iter().chain(client).chain(fan_out).map(move |bin| (bin, peer.features.clone()))
    };
    let listed: BTreeSet<_> = listed().into_iter().flat_map(programs).collect();
    assert_eq!(built, listed);
}

#[test]
fn the_list_says_every_version() {
    let lock: Lock = toml::from_str(include_str!("../Cargo.lock")).expect("a lock file");
    for peer in listed() {
        let is_locked = |name: &String| lock.package.iter().any(|package| package.name == *name);
        assert_ne!(peer.package.is_some(), peer.version.is_some(), "{}", peer.name);
        assert!(peer.package.as_ref().is_none_or(is_locked), "{}", peer.name);
        assert_eq!(peer.serves, !peer.form.is_empty(), "{}", peer.name);
        assert!(peer.client.is_none_or(|client| !client.form.is_empty()), "{}", peer.name);
        assert!(peer.fan_out.is_none_or(|fan_out| !fan_out.form.is_empty()), "{}", peer.name);
    }
}
