//! Peers as processes, for the tests to talk to.

#![allow(dead_code, reason = "each test uses what it needs")]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

/// A peer that takes longer than this for anything is wrong.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Deserialize)]
struct Race {
    peer: Vec<Peer>,
}

/// One `[[peer]]` of peers.toml.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    pub name: String,
    pub bin: String,
    pub features: Vec<String>,
    pub package: Option<String>,
    pub version: Option<String>,
    #[serde(default)]
    pub form: String,
    pub protocol: Protocol,
    #[serde(default)]
    pub compresses: bool,
    #[serde(default = "yes")]
    pub serves: bool,
    pub client: Option<Client>,
    pub fan_out: Option<FanOut>,
    flushes: Flushes,
}

/// A `[peer.client]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    pub bin: String,
    pub form: String,
    flushes: Flushes,
}

/// A `[peer.fan_out]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FanOut {
    pub bin: String,
    pub form: String,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Websocket,
    Raw,
}

#[derive(Deserialize)]
pub enum Flushes {
    #[serde(rename = "per message")]
    PerMessage,
    #[serde(rename = "per read")]
    PerRead,
}

/// All of them.
pub fn listed() -> Vec<Peer> {
    let race: Race = toml::from_str(include_str!("../../peers.toml")).expect("peers.toml is right");
    assert!(!race.peer.is_empty());
    race.peer
}

/// Those that serve.
pub fn peers() -> Vec<Peer> {
    listed().into_iter().filter(|peer| peer.serves).collect()
}

/// Where cargo has built it.
pub fn binary(bin: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_raw-epoll")).with_file_name(bin)
}

/// A free port on a loopback address of its own. On 127.0.0.1 a client's port or another peer could
/// be given the same number before the peer listens.
fn free_address() -> SocketAddr {
    static COUNT: AtomicU8 = AtomicU8::new(0);
    let [.., high, low] = std::process::id().to_be_bytes();
    let host = Ipv4Addr::new(127, COUNT.fetch_add(1, Ordering::Relaxed), high, low.max(1));
    let free = TcpListener::bind((host, 0)).and_then(|listener| listener.local_addr());
    free.expect("a free port")
}

/// A peer's process, which ends with the value.
pub struct Server {
    pub process: Child,
    pub address: SocketAddr,
}

impl Server {
    /// Starts it on an address of its own. Between finding a port and listening there somebody else
    /// may take it; the peer then ends, and another port is found.
    pub fn start(bin: &str, arguments: &[&str]) -> Self {
        (0..3)
            .find_map(|_| Self::start_at(bin, arguments, free_address()))
            .unwrap_or_else(|| panic!("{bin} does not listen"))
    }

    fn start_at(bin: &str, arguments: &[&str], address: SocketAddr) -> Option<Self> {
        let process = Command::new(binary(bin))
            .args(["--listen", &address.to_string()])
            .args(arguments)
            .stdout(Stdio::null())
            .spawn()
            .expect("the peer can be started");
        let mut server = Self { process, address };
        let deadline = Instant::now() + PATIENCE;
        let mut is_listening = false;
        while !is_listening {
            assert!(Instant::now() < deadline, "{bin} does not listen");
            thread::sleep(Duration::from_millis(5));
            is_listening = TcpStream::connect(address).is_ok();
            // Whoever listens there is not this peer if it has ended.
            if server.process.try_wait().expect("a child can be asked").is_some() {
                return None;
            }
        }
        Some(server)
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the peer accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is reaped.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A socket whose waits no signal cuts short: the kernel restarts no wait that has a timeout, and
/// `Read` and `Write` hand the interruption on.
pub struct Uninterrupted(pub TcpStream);

impl Read for Uninterrupted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        again_if_interrupted(|| self.0.read(buffer))
    }
}

impl Write for Uninterrupted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        again_if_interrupted(|| self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn again_if_interrupted(mut attempt: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match attempt() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}
