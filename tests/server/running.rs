//! A server on threads of its own that tells its clients who they are.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{env, fs, process, thread};

use corewire::metrics::Counters;
use corewire::{
    Context, Endpoint, Handler, Message, Server, ServerBuilder, ServerError, ServerHandle,
};

/// Echoes; says at `who` the peer's IP or `unix`, and its listener, at `where` its loop.
pub struct Teller;

impl Handler for Teller {
    type Data = ();

    fn on_message(&mut self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
        let _ = match message {
            Message::Text("who") => {
                let peer = ctx.here().address().unwrap();
                let ip = peer.ip().map_or("unix".to_owned(), |ip| ip.to_string());
                let listener = ctx.here().listener().unwrap();
                ctx.send_text(&format!("{ip} at {listener}"))
            }
            Message::Text("where") => ctx.send_text(&ctx.id().shard().0.to_string()),
            message => ctx.send(message),
        };
    }
}

pub struct Running {
    pub endpoints: Vec<Endpoint>,
    pub handle: ServerHandle,
    pub thread: JoinHandle<Result<Counters, ServerError>>,
}

impl Running {
    pub fn start(builder: ServerBuilder) -> Self {
        let server = builder.build(|_shard| Teller).unwrap();
        let (endpoints, handle) = (server.local_endpoints().to_vec(), server.handle());
        Self { endpoints, handle, thread: thread::spawn(move || server.run()) }
    }

    /// Ends it, whoever is still connected.
    pub fn stop(self) -> Counters {
        self.handle.shutdown(Duration::from_millis(100)).unwrap();
        self.thread.join().unwrap().unwrap()
    }
}

/// Why a server cannot be built.
pub fn refusal(builder: ServerBuilder) -> std::io::Error {
    match builder.build(|_shard| Teller).err() {
        Some(ServerError::Listen { error, .. }) => error,
        other => panic!("{other:?}"),
    }
}

pub fn server() -> ServerBuilder {
    Server::builder().threads(1)
}

/// A directory that goes with all that is in it.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("corewire-{}-{number}", process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// What the system says about a descriptor that is no socket.
pub fn not_a_socket() -> std::io::ErrorKind {
    let number = if cfg!(target_os = "linux") { 88 } else { 38 };
    std::io::Error::from_raw_os_error(number).kind()
}

/// Whether there is a file, of whatever kind.
pub fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}
