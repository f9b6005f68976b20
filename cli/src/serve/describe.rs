//! The settings as the library's.

use std::sync::Arc;

use corewire::{
    Config, Delivery, Heartbeat, Lifetime, ListenOptions, ListenerSettings, MemorySource, Origins,
    Route, Server, ServerBuilder, SystemMemory, TrustedProxies,
};

use super::places::Place;
use super::process;
use super::topics;
use crate::args::Failure;
use crate::settings::{Listener, MemoryBudget, PLAIN_PATHS, RouteArgs, ServeArgs, Service};

/// A server that listens at `places`.
pub fn server(args: &ServeArgs, places: &[Place]) -> Result<ServerBuilder, Failure> {
    let builder = Server::builder().threads(threads(args)).spread(args.spread);
    let mut builder = memory(builder, args).limits(|limits| {
        limits.connections_max = args.max_connections;
        limits.connections_per_address_max = args.max_connections_per_address;
        topics::widen(limits);
        limits.topics.subscriptions_per_connection_max = args.max_subscriptions;
    });
    if args.pin {
        let cores = process::cores()?;
        builder = builder.on_thread_start(move |shard| process::pin(&cores, shard));
    }
    for Place { endpoint, listener } in places {
        let listener = Arc::clone(listener);
        builder = builder.listen_with(endpoint.clone(), move |options, settings| {
            describe_listener(&listener, options, settings);
        });
    }
    Ok(builder)
}

fn memory(builder: ServerBuilder, args: &ServeArgs) -> ServerBuilder {
    match args.memory_budget {
        Some(MemoryBudget::Off) => builder.no_pressure(),
        budget => builder.pressure(|pressure| {
            pressure.reactions = args.reactions();
            if let Some(MemoryBudget::Bytes(bytes)) = budget {
                pressure.budget_bytes = Some(bytes);
            }
        }),
    }
}

/// What the process may take, if anybody looks and knows.
pub fn budget_bytes(args: &ServeArgs) -> Option<u64> {
    match args.memory_budget {
        Some(MemoryBudget::Off) => None,
        Some(MemoryBudget::Bytes(bytes)) => Some(bytes),
        None => SystemMemory::new().budget_bytes(),
    }
}

pub fn threads(args: &ServeArgs) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    args.threads.map_or_else(cores, usize::from)
}

fn describe_listener(
    listener: &Listener,
    options: &mut ListenOptions,
    settings: &mut ListenerSettings,
) {
    let args = &listener.args;
    options.backlog = args.backlog;
    options.ip_stack = args.ip_stack;
    options.unix_mode = args.unix_mode.map(|mode| mode.0);
    options.sockets.keepalive = args.keepalive;
    options.sockets.receive_buffer_bytes = args.rcvbuf.map(|bytes| bytes as usize);
    options.sockets.send_buffer_bytes = args.sndbuf.map(|bytes| bytes as usize);
    settings.handshake.timeout = args.handshake_timeout;
    settings.tls = listener.tls.clone();
    let proxies = args.proxy_protocol.iter().flat_map(TrustedProxies::networks);
    settings.proxy_protocol = (!args.proxy_protocol.is_empty()).then(|| proxies.collect());
    for (pattern, place) in listener.routes.iter() {
        let mut route = Route::new(settings);
        route.origins = origins(&place.args.origin);
        describe_route(&place.args, route.config_mut());
        route.config_mut().published = args.published();
        if place.service != Service::Echo {
            route.config_mut().delivery = Delivery::Whole;
        }
        settings.routes.add(pattern, route).expect("the patterns stand in such a table already");
    }
    for pattern in PLAIN_PATHS {
        // There is room for them. What is taken leads to a WebSocket, and the handler is asked
        // about it all the same.
        let _ = settings.routes.add(pattern, Route::new(settings));
    }
}

/// What each WebSocket is held to.
fn describe_route(args: &RouteArgs, config: &mut Config) {
    let limits = &mut config.limits;
    limits.message_bytes_max = args.max_message;
    limits.backpressure_bytes_max = args.max_backpressure as usize;
    limits.high_water_bytes = args.high_water_bytes() as usize;
    limits.low_water_bytes = args.low_water_bytes() as usize;
    config.close_timeout = args.close_timeout;
    config.max_lifetime = args.max_lifetime.map(Lifetime::new);
    config.compression = args.compression();
    let heartbeat = args.ping_every.zip(args.dead_after);
    config.heartbeat =
        heartbeat.map(|(ping_every, dead_after)| Heartbeat { ping_every, dead_after });
    config.delivery = if args.echo_streaming { Delivery::Streaming } else { Delivery::Whole };
}

fn origins(wanted: &[String]) -> Origins {
    match wanted {
        [one] if one == "same" => Origins::SameOrigin,
        [one] if one == "any" => Origins::Any,
        urls => Origins::allow(urls.iter().map(String::as_str)).expect("each was read as one"),
    }
}
