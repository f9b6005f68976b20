//! Who races: the list beside the servers, and the versions that their lock file pins.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Our own server.
pub const OWN: &str = "corewire";
/// The C++ server that everybody is measured against.
pub const UWEBSOCKETS: &str = "uwebsockets";
/// The epoll loop without a protocol.
pub const RAW: &str = "raw-epoll";

/// One engine: a server, which is a binary that takes `--listen ADDRESS` and echoes, and a client.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Peer {
    /// What the report calls it.
    pub name: String,
    /// Its server's binary, which also identifies it.
    pub bin: String,
    /// Whether there is that binary, or nothing but a client.
    #[serde(default = "yes")]
    pub serves: bool,
    /// What must be switched on to build it.
    #[serde(default)]
    pub features: Vec<String>,
    /// The package in the lock file whose version is its version.
    pub package: Option<String>,
    /// Its version, where no package has it.
    pub version: Option<String>,
    /// Where its author recommends the form in which it stands here.
    #[serde(default)]
    pub form: String,
    /// What it speaks on top of TCP.
    pub protocol: Protocol,
    /// When it writes.
    pub flushes: Flushes,
    /// Whether it takes `--compression`, and then compresses all messages as it says.
    #[serde(default)]
    pub compresses: bool,
    /// Its client.
    pub client: Option<Client>,
    /// Its server of topics.
    pub fan_out: Option<FanOut>,
}

/// A binary that takes `--listen ADDRESS` and sends each message that comes to `/pub` to all who are
/// connected to `/sub`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct FanOut {
    /// Its name.
    pub bin: String,
    /// As [`Peer::form`].
    #[serde(default)]
    pub form: String,
}

/// A binary that takes `--connect ADDRESS --connections COUNT --in-flight COUNT --bytes COUNT`: it
/// opens the former, sends the latter, and from then on sends back what comes.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Client {
    /// Its name.
    pub bin: String,
    /// As [`Peer::form`].
    #[serde(default)]
    pub form: String,
    /// As [`Peer::flushes`].
    pub flushes: Flushes,
}

/// Which end of an engine is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// What listens.
    Server,
    /// What connects.
    Client,
    /// What listens, and passes on to many.
    FanOut,
}

fn yes() -> bool {
    true
}

/// As the generator's `--protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// RFC 6455.
    Websocket,
    /// Nothing: bytes come back as they are.
    Raw,
}

impl Protocol {
    /// The generator's word.
    pub fn word(self) -> &'static str {
        match self {
            Protocol::Websocket => "websocket",
            Protocol::Raw => "raw",
        }
    }
}

/// When messages that go out because others came in are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Flushes {
    /// One write for each message.
    #[serde(rename = "per message")]
    PerMessage,
    /// One write for all messages of a read.
    #[serde(rename = "per read")]
    PerRead,
}

impl Flushes {
    /// As the list of peers says it.
    pub fn word(self) -> &'static str {
        match self {
            Flushes::PerMessage => "per message",
            Flushes::PerRead => "per read",
        }
    }
}

impl Peer {
    /// The binary of one end, if there is one.
    pub fn program(&self, end: End) -> Option<&str> {
        match end {
            End::Server => self.serves.then_some(&*self.bin),
            End::Client => self.client.as_ref().map(|client| &*client.bin),
            End::FanOut => self.fan_out.as_ref().map(|fan_out| &*fan_out.bin),
        }
    }

    /// When one end writes.
    pub fn flushes(&self, end: End) -> Flushes {
        match (end, &self.client) {
            (End::Client, Some(client)) => client.flushes,
            (End::Client, None) | (End::Server | End::FanOut, _) => self.flushes,
        }
    }

    /// A WebSocket engine in Rust that is not ours. All but uWebSockets are in Rust.
    pub fn is_rust_rival(&self) -> bool {
        self.protocol == Protocol::Websocket && self.bin != OWN && self.bin != UWEBSOCKETS
    }
}

#[derive(Deserialize)]
struct PeerList {
    peer: Vec<Peer>,
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
}

/// Reads `peers.toml` and `Cargo.lock` of the crate that holds the servers.
///
/// # Errors
/// A file that is missing or says something else, and a peer whose version nothing tells.
pub fn read(directory: &Path) -> io::Result<Vec<Peer>> {
    let file = |name: &str| {
        let path = directory.join(name);
        fs::read_to_string(&path)
            .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
    };
    parse(&file("peers.toml")?, &file("Cargo.lock")?)
}

fn parse(list: &str, lock: &str) -> io::Result<Vec<Peer>> {
    let PeerList { peer: mut peers } = toml::from_str(list).map_err(io::Error::other)?;
    let lock: Lock = toml::from_str(lock).map_err(io::Error::other)?;
    // Of two versions in the tree the newer is the one that a server itself asks for.
    let versions: BTreeMap<&str, &str> =
        lock.package.iter().map(|locked| (&*locked.name, &*locked.version)).collect();
    for peer in &mut peers {
        let Some(package) = &peer.package else { continue };
        let version = versions.get(&**package).ok_or_else(|| {
            io::Error::other(format!("{}: no package {package} is locked", peer.name))
        })?;
        peer.version = Some((*version).to_owned());
    }
    Ok(peers)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = "version = 4\n[[package]]\nname = \"yawc\"\nversion = \"0.5.1\"\n";

    fn list(line: &str) -> String {
        format!(
            "[[peer]]\nname = \"Yawc\"\nbin = \"yawc\"\nfeatures = [\"yawc\"]\n{line}\n\
             form = \"https://example.org\"\nprotocol = \"websocket\"\nflushes = \"per read\"\n"
        )
    }

    #[test]
    fn versions_come_from_the_lock_file_or_are_given() {
        let version = |line| parse(&list(line), LOCK).map(|peers| peers[0].version.clone());
        assert_eq!(version("package = \"yawc\"").expect("locked"), Some("0.5.1".to_owned()));
        assert_eq!(version("version = \"20.58.0\"").expect("given"), Some("20.58.0".to_owned()));
        assert!(version("package = \"other\"").is_err());
    }

    #[test]
    fn a_client_is_a_program_of_its_own() {
        let peer =
            |more: &str| parse(&format!("{}{more}", list("")), LOCK).expect("a list").remove(0);
        let alone = peer("");
        assert_eq!((alone.program(End::Server), alone.program(End::Client)), (Some("yawc"), None));
        let both = peer("[peer.client]\nbin = \"client-yawc\"\nflushes = \"per message\"\n");
        assert_eq!(both.program(End::Client), Some("client-yawc"));
        assert_eq!(both.flushes(End::Client), Flushes::PerMessage);
        assert_eq!(both.flushes(End::Server), Flushes::PerRead);
        assert_eq!(peer("serves = false\n").program(End::Server), None);
        let publisher = peer("[peer.fan_out]\nbin = \"fan-out-yawc\"\n");
        assert_eq!(publisher.program(End::FanOut), Some("fan-out-yawc"));
        assert_eq!((alone.program(End::FanOut), publisher.program(End::Client)), (None, None));
    }

    #[test]
    fn rust_rivals_speak_websocket_and_are_not_ours() {
        let peer = parse(&list(""), LOCK).expect("a list").remove(0);
        assert_eq!(peer.flushes, Flushes::PerRead);
        assert!(peer.is_rust_rival());
        for bin in [OWN, UWEBSOCKETS] {
            assert!(!Peer { bin: bin.to_owned(), ..peer.clone() }.is_rust_rival());
        }
        assert!(!Peer { protocol: Protocol::Raw, ..peer }.is_rust_rival());
    }
}
