//! A server and the threads of its loops.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::builder::ServerBuilder;
use super::error::ServerError;
use super::handle::ServerHandle;
use crate::metrics::Counters;
use crate::reactor::{Endpoint, ShardIndex};

/// A WebSocket server: one loop for each thread, nothing shared between them.
///
/// # Calling order
/// [`Server::builder`], then [`build`](ServerBuilder::build): from then on clients can connect.
/// [`Server::handle`] for those who will talk to it, then [`Server::run`], which returns after
/// [`ServerHandle::shutdown`].
///
/// ```no_run
/// use corewire::{Context, Handler, Message, Server, ServerError};
///
/// struct Echo;
///
/// impl Handler for Echo {
///     type Data = ();
///
///     fn on_message(&mut self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
///         let _ = ctx.send(message);
///     }
/// }
///
/// fn main() -> Result<(), ServerError> {
///     let server = Server::builder().listen(([127, 0, 0, 1], 9001)).build(|_shard| Echo)?;
///     println!("listening on {:?}", server.local_addresses());
///     server.run()?;
///     Ok(())
/// }
/// ```
pub struct Server {
    shards: Vec<Shard>,
    endpoints: Vec<Endpoint>,
    /// Of these, those of TCP.
    addresses: Vec<SocketAddr>,
    handle: ServerHandle,
    acceptor: Option<Acceptance>,
}

/// The thread that accepts for all loops, not yet begun.
pub(super) type Acceptance = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// One loop, not yet on its thread. What network and handler it has is its own affair.
pub(super) struct Shard {
    index: ShardIndex,
    run: Box<dyn FnOnce() -> io::Result<Counters> + Send>,
}

/// What runs on each thread before its loop.
pub(super) type ThreadHook = Arc<dyn Fn(ShardIndex) + Send + Sync>;

impl Shard {
    pub(super) fn new(
        index: ShardIndex,
        run: impl FnOnce() -> io::Result<Counters> + Send + 'static,
    ) -> Self {
        Self { index, run: Box::new(run) }
    }
}

impl Server {
    /// A server to be described.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::new()
    }

    pub(super) fn new(
        shards: Vec<Shard>,
        endpoints: Vec<Endpoint>,
        handle: ServerHandle,
        acceptor: Option<Acceptance>,
    ) -> Self {
        let addresses = endpoints.iter().filter_map(Endpoint::socket_addr).collect();
        Self { shards, endpoints, addresses, handle, acceptor }
    }

    /// Where the server listens, in the order the listeners were given, with their ports.
    pub fn local_endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Of these, the addresses of TCP.
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// A handle for other threads.
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }

    /// Runs the loops until they have shut down; returns what they counted, all together. The first
    /// runs on the calling thread, each of the others on a thread of its own: a server with one
    /// loop stays a program with one thread, for which the kernel has cheaper system calls.
    ///
    /// A loop that fails takes the others with it: they close their connections with 1001.
    ///
    /// # Errors
    /// [`ServerError::Thread`] or [`ServerError::Loop`].
    ///
    /// # Panics
    /// If a handler panicked, and [panics](ServerBuilder::panics) propagate, with its panic, after
    /// the other loops have shut down.
    pub fn run(self) -> Result<Counters, ServerError> {
        let Self { mut shards, handle, acceptor, .. } = self;
        let others = shards.split_off(1.min(shards.len()));
        let mut result = Ok(Counters::default());
        let mut threads = Vec::with_capacity(others.len());
        for Shard { index, run } in others {
            match spawn(format!("corewire-{}", index.0), &handle, run) {
                Ok(thread) => threads.push((index, thread)),
                Err(error) => {
                    result = Err(ServerError::Thread(error));
                    break;
                }
            }
        }
        let accepting = acceptor.map(|accept| spawn("corewire-accept".into(), &handle, accept));
        let mut ended = Vec::with_capacity(shards.len() + threads.len());
        for Shard { index, run } in shards {
            let guard = ShutDownOnDrop(Some(handle.clone()));
            let run = std::panic::AssertUnwindSafe(move || guard.unless_ok(run()));
            ended.push((index, std::panic::catch_unwind(run)));
        }
        ended.extend(threads.into_iter().map(|(index, thread)| (index, thread.join())));
        let mut panic = None;
        for (shard, outcome) in ended {
            match (outcome, &mut result) {
                (Ok(Ok(counters)), Ok(sum)) => sum.merge(&counters),
                (Ok(Err(error)), Ok(_)) => result = Err(ServerError::Loop { shard, error }),
                (Ok(_), Err(_)) => {}
                (Err(payload), _) => panic = panic.or(Some(payload)),
            }
        }
        // Loops may have been ended one by one, which it does not see while it waits.
        handle.stop_accepting();
        match accepting.map(|thread| thread.map(JoinHandle::join)) {
            None | Some(Ok(Ok(Ok(())))) => {}
            Some(Ok(Ok(Err(error)))) => result = result.and(Err(ServerError::Acceptor(error))),
            Some(Ok(Err(payload))) => panic = panic.or(Some(payload)),
            Some(Err(error)) => result = result.and(Err(ServerError::Thread(error))),
        }
        if let Some(payload) = panic {
            std::panic::resume_unwind(payload);
        }
        result.map(|mut sum| {
            sum.merge(&handle.acceptor_counters());
            sum
        })
    }
}

/// A thread that takes the whole server with it unless it ends well. So does one that cannot be
/// started: those that run already are told so, and the first loop ends before it begins.
fn spawn<T: Send + 'static>(
    name: String,
    handle: &ServerHandle,
    run: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<JoinHandle<io::Result<T>>> {
    let guard = ShutDownOnDrop(Some(handle.clone()));
    thread::Builder::new().name(name).spawn(move || guard.unless_ok(run()))
}

/// Shuts the whole server down unless told that all is well: a server with a loop less would
/// look healthy and be slow.
struct ShutDownOnDrop(Option<ServerHandle>);

impl ShutDownOnDrop {
    fn unless_ok<T, E>(mut self, result: Result<T, E>) -> Result<T, E> {
        if result.is_ok() {
            self.0 = None;
        }
        result
    }
}

impl Drop for ShutDownOnDrop {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.shutdown_anyway(FAILURE_DEADLINE);
        }
    }
}

/// How long the other loops may take to part when one has failed: as long as a closing handshake.
const FAILURE_DEADLINE: Duration = Duration::from_secs(5);
