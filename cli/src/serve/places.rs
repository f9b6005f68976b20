//! Where the server listens: names become addresses, and what systemd has opened is taken over.

use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use corewire::Endpoint;
use listenfd::ListenFd;

use crate::args::Failure;
use crate::settings::{Listen, Listener, Service, Settings};

/// An endpoint and the settings that hold there.
pub struct Place {
    pub endpoint: Endpoint,
    pub listener: Arc<Listener>,
}

/// All places, in the order of the settings.
pub fn places(settings: &Settings) -> Result<Vec<Place>, Failure> {
    let mut places = Vec::new();
    for listener in &settings.listeners {
        for listen in &listener.args.listen {
            let endpoints = match listen {
                Listen::Host(name) => addresses(name)?,
                Listen::Unix(name) => vec![name.clone().into()],
                Listen::Systemd => inherited()?,
            };
            let place = |endpoint| Place { endpoint, listener: Arc::clone(listener) };
            places.extend(endpoints.into_iter().map(place));
        }
    }
    Ok(places)
}

fn addresses(name: &str) -> Result<Vec<Endpoint>, Failure> {
    let failure = |error| Failure(format!("cannot look up {name}: {error}"));
    let addresses = name.to_socket_addrs().map_err(failure)?;
    Ok(addresses.map(Endpoint::from).collect())
}

/// The sockets that were handed over, whatever their kind.
fn inherited() -> Result<Vec<Endpoint>, Failure> {
    let mut sockets = ListenFd::from_env();
    let count = sockets.len();
    let take = |index| {
        let tcp = sockets.take_tcp_listener(index).map(|it| it.map(Endpoint::from));
        let taken = tcp.or_else(|_| Ok(sockets.take_unix_listener(index)?.map(Endpoint::from)));
        taken.map_err(|error: std::io::Error| Failure(format!("a socket of systemd: {error}")))
    };
    let endpoints: Vec<_> = (0..count).map(take).collect::<Result<_, _>>()?;
    match endpoints.into_iter().flatten().collect::<Vec<_>>() {
        none if none.is_empty() => Err(Failure(
            "systemd has opened no sockets: LISTEN_FDS and LISTEN_PID say whether it has".into(),
        )),
        endpoints => Ok(endpoints),
    }
}

impl Place {
    /// One line about where clients find the server; `endpoint` is the place as it really is.
    pub fn tell(&self, endpoint: &Endpoint) -> String {
        let (ws, http) = match self.listener.tls {
            Some(_) => ("wss", "https"),
            None => ("ws", "http"),
        };
        let mut routes = self.listener.routes.iter();
        let echo = routes.find(|(_, place)| place.service == Service::Echo);
        let path = echo.map_or("/", |(pattern, _)| pattern);
        match endpoint.socket_addr().map(reachable) {
            Some(host) => format!(
                "listening on {endpoint}: WebSocket at {ws}://{host}{path}, page at \
                 {http}://{host}{path}"
            ),
            None => format!("listening on {endpoint}: {ws}"),
        }
    }
}

/// An address that leads here from here: nobody can connect to 0.0.0.0.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => ([127, 0, 0, 1], v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (Ipv6Addr::LOCALHOST, v6.port()).into(),
        address => address,
    }
}
