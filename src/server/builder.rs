//! What a server is made with.

use std::io;
use std::sync::Arc;
use std::thread::available_parallelism;

use super::acceptor::{Acceptor, Spread};
use super::described::Described;
use super::error::ServerError;
use super::handle::ServerHandle;
use super::shards::{Acceptance, Server, Shard, ThreadHook};
use crate::handshake::Origins;
use crate::limits::{HandshakeLimits, LoopLimits};
use crate::protocol::Config;
use crate::reactor::{
    Board, Endpoint, Handler, ListenOptions, ListenerSettings, MioNet, Net, PanicPolicy,
    PressureSettings, Reactor, ReactorBuilder, ReactorConfig, Route, ShardIndex, SocketOptions,
    SystemMemory, Tls,
};
use crate::wire::Role;

/// Makes a [`Server`]. What is not set has its default; the defaults stand in
/// [`limits`](crate::limits) with their reasons.
///
/// ```
/// use corewire::{Handler, Message, Context, Server};
/// use std::time::Duration;
///
/// # struct Echo;
/// # impl Handler for Echo {
/// #     type Data = ();
/// #     fn on_message(&mut self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
/// #         let _ = ctx.send(message);
/// #     }
/// # }
/// let server = Server::builder()
///     .listen(([127, 0, 0, 1], 0))
///     .threads(2)
///     .config(|config| {
///         config.limits.message_bytes_max = 64 << 20;
///         config.close_timeout = Duration::from_secs(2);
///     })
///     .limits(|limits| limits.connections_per_address_max = Some(100))
///     .build(|_shard| Echo)?;
/// # Ok::<(), corewire::ServerError>(())
/// ```
#[must_use = "a builder does nothing until it is built"]
pub struct ServerBuilder<N = MioNet> {
    places: Vec<Place>,
    /// `None`: as many as there are cores.
    threads: Option<usize>,
    spread: Spread,
    config: Config,
    handshake: HandshakeLimits,
    origins: Origins,
    readiness: Option<Box<str>>,
    routes: Vec<(String, RouteChange)>,
    tls: Option<Tls>,
    listen: ListenOptions,
    limits: LoopLimits,
    panics: PanicPolicy,
    pressure: Pressure,
    on_thread_start: ThreadHook,
    network: NetworkFactory<N>,
}

/// What a route has other than its listener.
type RouteChange = Box<dyn Fn(&mut Route)>;

/// Where to listen, and what is different there.
struct Place {
    endpoint: Endpoint,
    change: Box<Change>,
}

type Change = dyn FnOnce(&mut ListenOptions, &mut ListenerSettings);

/// Loops that are ready, and what stands in front of them.
struct Bound<N> {
    loops: Vec<ReactorBuilder<N>>,
    /// As they really are.
    endpoints: Vec<Endpoint>,
    /// `None` if each loop accepts for itself.
    acceptor: Option<Acceptor<N>>,
}

type NetworkFactory<N> = Box<dyn Fn(&LoopLimits) -> io::Result<N>>;

/// Whether memory is looked at.
enum Pressure {
    /// By a server, and not by a loop inside somebody else's: who owns the process decides there.
    Usual,
    Never,
    By(Box<PressureSettings>),
}

/// So many shards a connection's name can tell apart.
const THREADS_MAX: usize = 1 << u8::BITS;

impl ServerBuilder {
    pub(super) fn new() -> Self {
        Self {
            places: Vec::new(),
            threads: None,
            spread: Spread::default(),
            config: Config::new(Role::Server),
            handshake: HandshakeLimits::default(),
            origins: Origins::default(),
            readiness: None,
            routes: Vec::new(),
            tls: None,
            listen: ListenOptions::default(),
            limits: LoopLimits::default(),
            panics: PanicPolicy::default(),
            pressure: Pressure::Usual,
            on_thread_start: Arc::new(|_| {}),
            network: Box::new(|limits| MioNet::new(limits.receive_buffer_bytes)),
        }
    }
}

impl<N: Net> ServerBuilder<N> {
    /// Listens at one more endpoint; with port 0 the system chooses one, the same for all threads.
    /// What holds there is what this builder says.
    pub fn listen(self, endpoint: impl Into<Endpoint>) -> Self {
        self.listen_with(endpoint, |_, _| {})
    }

    /// Listens at one more endpoint, where something is different: `change` is called at the build,
    /// and is given what this builder then says.
    ///
    /// ```
    /// # use corewire::{Context, Handler, Message, ServerError};
    /// # struct Echo;
    /// # impl Handler for Echo {
    /// #     type Data = ();
    /// #     fn on_message(&mut self, _: &mut Context<'_, ()>, _: Message<'_>) {}
    /// # }
    /// use corewire::{Origins, Server};
    ///
    /// let server = Server::builder()
    ///     .listen(([127, 0, 0, 1], 0))
    ///     .listen_with(([127, 0, 0, 1], 0), |options, settings| {
    ///         options.backlog = 16;
    ///         settings.origins = Origins::Any;
    ///         settings.config_mut().limits.message_bytes_max = 1024;
    ///     })
    ///     .build(|_shard| Echo)?;
    /// assert_eq!(server.local_endpoints().len(), 2);
    /// # Ok::<(), ServerError>(())
    /// ```
    pub fn listen_with(
        mut self,
        endpoint: impl Into<Endpoint>,
        change: impl FnOnce(&mut ListenOptions, &mut ListenerSettings) + 'static,
    ) -> Self {
        self.places.push(Place { endpoint: endpoint.into(), change: Box::new(change) });
        self
    }

    /// How many threads there are, each with a loop of its own: 1 to 256. Default: one for each
    /// core that the process may use.
    ///
    /// With more than one the kernel spreads new connections of TCP over them (SO_REUSEPORT); a
    /// Unix or an inherited socket is shared by all, and whoever comes first takes a connection.
    /// [`ServerBuilder::spread`] has them spread by their loads.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// How new connections are spread over the loops. Default: the kernel does it. A server that is
    /// [turned by its owner](ServerBuilder::build_reactor) accepts for itself, whatever is said here.
    pub fn spread(mut self, spread: Spread) -> Self {
        self.spread = spread;
        self
    }

    /// Changes what each WebSocket is held to: messages, queues, heartbeat, closing, delivery.
    pub fn config(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Changes what each opening handshake is held to.
    pub fn handshake(mut self, change: impl FnOnce(&mut HandshakeLimits)) -> Self {
        change(&mut self.handshake);
        self
    }

    /// Changes what each loop is held to: connections, budgets, memory.
    pub fn limits(mut self, change: impl FnOnce(&mut LoopLimits)) -> Self {
        change(&mut self.limits);
        self
    }

    /// Changes how accepted sockets are set up.
    pub fn socket(mut self, change: impl FnOnce(&mut SocketOptions)) -> Self {
        change(&mut self.listen.sockets);
        self
    }

    /// Which web pages may connect. Default: those of the same origin. Programs, which send no
    /// Origin, always may.
    pub fn origins(mut self, origins: Origins) -> Self {
        self.origins = origins;
        self
    }

    /// Serves the paths that match `pattern`, see [`Routes`](crate::Routes). `change` says what is
    /// different for them, on top of what is set for all in whatever order; it is called for each
    /// listener. Once there is a route, other paths are answered 404.
    pub fn route(
        mut self,
        pattern: impl Into<String>,
        change: impl Fn(&mut Route) + 'static,
    ) -> Self {
        self.routes.push((pattern.into(), Box::new(change)));
        self
    }

    /// The path at which a load balancer asks whether to send connections here: 200 while an
    /// upgrade would be taken, 503 with `Retry-After` once the loop that is asked
    /// [drains](ServerHandle::drain) or is full. Default: nowhere.
    ///
    /// ```
    /// # use corewire::{Context, Handler, Message, ServerError};
    /// # struct Echo;
    /// # impl Handler for Echo {
    /// #     type Data = ();
    /// #     fn on_message(&mut self, _: &mut Context<'_, ()>, _: Message<'_>) {}
    /// # }
    /// use corewire::{Lifetime, Server};
    /// use std::time::Duration;
    ///
    /// let server = Server::builder()
    ///     .listen(([127, 0, 0, 1], 0))
    ///     .readiness("/ready")
    ///     .config(|config| {
    ///         config.max_lifetime = Some(Lifetime::new(Duration::from_secs(3600)));
    ///     })
    ///     .build(|_shard| Echo)?;
    /// # Ok::<(), ServerError>(())
    /// ```
    pub fn readiness(mut self, path: impl Into<Box<str>>) -> Self {
        self.readiness = Some(path.into());
        self
    }

    /// Secures connections by TLS (`wss://`). Default: they are not.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Connections that may wait to be accepted. Default 4,096; the kernel has a bound of its own,
    /// on Linux `net.core.somaxconn`.
    pub fn backlog(mut self, connections: u32) -> Self {
        self.listen.backlog = connections;
        self
    }

    /// What a panic in a callback does. Default: it ends the loop, and the server with it.
    pub fn panics(mut self, policy: PanicPolicy) -> Self {
        self.panics = policy;
        self
    }

    /// Changes how memory pressure is seen, and what is done about it. Default: the budget is that of
    /// the process' cgroup or of the machine, and everything is done; but for
    /// [`build_reactor`](Self::build_reactor), whose loop does not look unless this is called.
    ///
    /// ```
    /// use corewire::Server;
    ///
    /// let builder = Server::builder().pressure(|pressure| {
    ///     pressure.budget_bytes = Some(512 << 20);
    ///     pressure.reactions.close_connections = false;
    /// });
    /// # let _ = builder;
    /// ```
    pub fn pressure(mut self, change: impl FnOnce(&mut PressureSettings)) -> Self {
        let mut settings = match self.pressure {
            Pressure::By(settings) => settings,
            Pressure::Usual | Pressure::Never => Box::default(),
        };
        change(&mut settings);
        self.pressure = Pressure::By(settings);
        self
    }

    /// Does not look at memory.
    pub fn no_pressure(mut self) -> Self {
        self.pressure = Pressure::Never;
        self
    }

    /// Runs on each loop's thread before anything else does, to pin it to a core or to name it. The
    /// first loop's thread is the one that calls [`Server::run`].
    pub fn on_thread_start(mut self, hook: impl Fn(ShardIndex) + Send + Sync + 'static) -> Self {
        self.on_thread_start = Arc::new(hook);
        self
    }

    /// Another network than [`MioNet`]: for tests, and for those who bring their own.
    pub fn network<M: Net>(
        self,
        make: impl Fn(&LoopLimits) -> io::Result<M> + 'static,
    ) -> ServerBuilder<M> {
        ServerBuilder {
            places: self.places,
            threads: self.threads,
            spread: self.spread,
            config: self.config,
            handshake: self.handshake,
            origins: self.origins,
            readiness: self.readiness,
            routes: self.routes,
            tls: self.tls,
            listen: self.listen,
            limits: self.limits,
            panics: self.panics,
            pressure: self.pressure,
            on_thread_start: self.on_thread_start,
            network: Box::new(make),
        }
    }

    /// Listens, and makes a server whose loops will have the handlers that `factory` makes. It is
    /// called on each loop's own thread, so a handler need not be `Send`.
    ///
    /// # Errors
    /// [`ServerError`]: settings that cannot be, an address that cannot be listened on, or what the
    /// system does not give.
    pub fn build<H, F>(self, factory: F) -> Result<Server, ServerError>
    where
        N: Send + 'static,
        H: Handler,
        F: Fn(ShardIndex) -> H + Send + Sync + 'static,
    {
        let threads =
            self.threads.unwrap_or_else(|| available_parallelism().map_or(1, usize::from));
        if !(1..=THREADS_MAX).contains(&threads) {
            return Err(ServerError::ThreadCount { threads });
        }
        let on_thread_start = self.on_thread_start.clone();
        let usual = Some(PressureSettings::default());
        let Bound { loops, endpoints, acceptor } = self.bind(threads, usual)?;
        let handles: Vec<_> = loops.iter().map(ReactorBuilder::handle).collect();
        let handle = ServerHandle::new(handles, acceptor.as_ref().map(Acceptor::switch));
        let factory = Arc::new(factory);
        let shards = loops.into_iter().map(|reactor| {
            let index = reactor.handle().shard();
            let (factory, on_thread_start) = (factory.clone(), on_thread_start.clone());
            let others = handle.loops().iter().filter(|it| it.shard() != index);
            let others: Vec<_> = others.cloned().collect();
            Shard::new(index, move || {
                on_thread_start(index);
                let mut reactor = reactor.build(factory(index));
                reactor.set_siblings(others);
                reactor.run().map(|()| reactor.counters())
            })
        });
        let acceptance = acceptor.map(|acceptor| -> Acceptance {
            let handle = handle.clone();
            Box::new(move || acceptor.run(&handle))
        });
        Ok(Server::new(shards.collect(), endpoints, handle, acceptance))
    }

    /// Listens, and makes one loop to be turned by the caller, perhaps inside a loop of its own.
    /// The number of threads means nothing here.
    ///
    /// # Errors
    /// As [`ServerBuilder::build`].
    pub fn build_reactor<H: Handler>(mut self, handler: H) -> Result<Reactor<N, H>, ServerError> {
        self.spread = Spread::ByKernel;
        let reactor = self.bind(1, None)?.loops.pop().expect("as many loops as were asked for");
        Ok(reactor.build(handler))
    }

    /// As many loops, each listening everywhere, or one acceptor that does so for all.
    fn bind(
        mut self,
        threads: usize,
        usual_pressure: Option<PressureSettings>,
    ) -> Result<Bound<N>, ServerError> {
        let mut places = self.describe()?;
        let (mut acceptor, mut endpoints) = (None, Vec::with_capacity(places.len()));
        if self.spread == Spread::LeastLoaded {
            let net = (self.network)(&self.limits).map_err(ServerError::Network)?;
            let one = acceptor.insert(Acceptor::new(net, &self.limits));
            for (index, place) in places.iter_mut().enumerate() {
                // What holds there the loops still have to know.
                let endpoint = std::mem::replace(&mut place.endpoint, Endpoint::Detached);
                let listened = one.listen(index, &endpoint, &place.options);
                endpoints.push(listened.map_err(|error| ServerError::Listen { endpoint, error })?);
            }
        }
        let mut loops = Vec::with_capacity(threads);
        let board = Arc::new(Board::new(threads));
        let mut pressure = match std::mem::replace(&mut self.pressure, Pressure::Never) {
            Pressure::Usual => usual_pressure,
            Pressure::Never => None,
            Pressure::By(settings) => Some(*settings),
        };
        if let Some(settings) = &mut pressure {
            // Its files are open once for all loops.
            settings.source.get_or_insert_with(|| Arc::new(SystemMemory::new()));
        }
        for index in 0..threads {
            let mut config = ReactorConfig::new(seed()?);
            config.shard = ShardIndex(index as u8);
            config.limits = self.limits.clone();
            config.panics = self.panics;
            config.pressure = pressure.clone();
            let net = (self.network)(&self.limits).map_err(ServerError::Network)?;
            let mut reactor = ReactorBuilder::new(net, config).with_board(board.clone());
            for place in &mut places {
                let endpoint = place.endpoint.clone();
                let listened = if index == 0 && threads > 1 {
                    place.listen_first(&mut reactor)
                } else {
                    place.listen(&mut reactor)
                };
                let listened = listened.map_err(|error| ServerError::Listen { endpoint, error })?;
                if index == 0 && acceptor.is_none() {
                    endpoints.push(listened);
                }
            }
            loops.push(reactor);
        }
        Ok(Bound { loops, endpoints, acceptor })
    }

    /// What holds at each place.
    fn describe(&mut self) -> Result<Vec<Described>, ServerError> {
        if self.places.is_empty() {
            return Err(ServerError::NoAddress);
        }
        let mut settings = ListenerSettings::new(self.config.clone());
        settings.handshake = self.handshake.clone();
        settings.origins = self.origins.clone();
        settings.readiness = self.readiness.clone();
        settings.tls = self.tls.clone();
        let describe = |Place { endpoint, change }| {
            let (mut options, mut settings) = (self.listen.clone(), settings.clone());
            change(&mut options, &mut settings);
            if settings.config.role != Role::Server {
                settings.config_mut().role = Role::Server;
            }
            add_routes(&mut settings, &self.routes)?;
            settings.check().map_err(ServerError::Config)?;
            Ok(Described { endpoint, options, settings })
        };
        std::mem::take(&mut self.places).into_iter().map(describe).collect()
    }
}

/// Adds routes to what a listener serves already.
fn add_routes(
    settings: &mut ListenerSettings,
    routes: &[(String, RouteChange)],
) -> Result<(), ServerError> {
    for (pattern, change) in routes {
        let mut route = Route::new(settings);
        change(&mut route);
        if route.config.role != Role::Server {
            route.config_mut().role = Role::Server;
        }
        settings
            .routes
            .add(pattern, route)
            .map_err(|error| ServerError::Route { pattern: pattern.clone(), error })?;
    }
    Ok(())
}

fn seed() -> Result<[u8; 32], ServerError> {
    let mut seed = [0; 32];
    match getrandom::fill(&mut seed) {
        Ok(()) => Ok(seed),
        Err(error) => Err(ServerError::Entropy(error.into())),
    }
}
