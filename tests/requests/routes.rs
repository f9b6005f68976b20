//! Routes: who is asked about which path, and what holds for each.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Duration;

use corewire::{
    Config, ConfigError, Delivery, Heartbeat, ListenOptions, ListenerSettings, Origins, Role,
    Route, RouteError, Server, ServerBuilder, ServerError,
};

use crate::bed::{Bed, Desk, Heard, desk, later, settings, status};
use crate::sim_link::End;
use crate::sim_net::{SimNet, SimPeer};
use crate::sim_peer::{PING, TEXT, answers, frames, message, plain_request, upgrade_request};

/// A pattern, and what is different there.
type Served = (&'static str, fn(&mut Route));

/// A listener's settings with routes, changed one by one.
fn routed(routes: &[Served]) -> ListenerSettings {
    let mut settings = settings();
    for (pattern, change) in routes {
        let mut route = Route::new(&settings);
        change(&mut route);
        settings.routes.add(pattern, route).unwrap();
    }
    settings
}

fn bed(routes: &[Served]) -> Bed {
    Bed::new(|_| {}, vec![routed(routes)], later)
}

/// What a WebSocket at this path gets for what it says.
fn told(bed: &mut Bed, path: &str, bytes: &[u8]) -> Vec<crate::sim_peer::Frame> {
    let peer = bed.ask(upgrade_request(path, ""));
    assert_eq!(status(&peer), "101", "{path}");
    peer.write_all(bytes);
    bed.turns(2);
    frames(&peer.read_all()).0
}

#[test]
fn h19_path_without_a_route_gets_404_and_nobody_is_asked() {
    let mut bed = bed(&[("/chat/{a}", |_| {}), ("/", |_| {})]);
    for path in ["/chat", "/chat/", "/chat/a/b", "/chat/%ff", "//", "/x?/chat/a", "/chat%2Fa"] {
        for request in [upgrade_request(path, ""), plain_request(path)] {
            let peer = bed.ask(request);
            let answer = answers(&peer.read_all());
            assert_eq!(answer, [(404, b"nothing is served under this path\n".to_vec())], "{path}");
            assert_eq!(peer.end_seen(), End::Fin);
        }
        let peer = bed.ask(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(peer.read_all().ends_with(b"\r\n\r\n"), "no body in answer to HEAD");
    }
    assert_eq!((bed.asked().len(), bed.reactor.counters().handshakes_refused), (0, 21));
}

#[test]
fn handler_is_told_the_route_and_its_parameters() {
    let mut bed = bed(&[("/chat/{a}", |_| {}), ("/files/{a}/{*rest}", |_| {}), ("/", |_| {})]);
    for (path, route, params) in [
        ("/chat/b%20c?a=d", "/chat/{a}", [Some("b c"), None]),
        ("/files/%C3%BC/x%2Fy/", "/files/{a}/{*rest}", [Some("ü"), Some("x/y/")]),
        ("/?a", "/", [None, None]),
    ] {
        for request in [upgrade_request(path, ""), plain_request(path)] {
            bed.ask(request);
            let asked = bed.asked().pop().unwrap();
            assert_eq!(asked.route.as_deref(), Some(route));
            assert_eq!(asked.params.each_ref().map(Option::as_deref), params);
        }
        assert_eq!(bed.heard().pop(), Some(Heard::Open(None, None, Some(route.to_owned()))));
    }
}

#[test]
fn without_routes_every_path_is_the_applications_affair() {
    let mut bed = bed(&[]);
    bed.ask(upgrade_request("/chat/b", ""));
    let asked = bed.asked().pop().unwrap();
    assert_eq!((asked.path.as_str(), asked.route), ("/chat/b", None));
    assert_eq!(asked.params, [None, None]);
    assert_eq!(bed.heard(), [Heard::Open(None, None, None)]);
}

#[test]
fn messages_are_held_to_the_limit_of_their_route() {
    let mut bed = bed(&[
        ("/small", |route| route.config_mut().limits.message_bytes_max = 10),
        ("/large", |_| {}),
    ]);
    let bytes = message(TEXT, &[b'x'; 11]);
    assert_eq!(told(&mut bed, "/small", &bytes)[0].close_code(), Some(1009));
    assert_eq!(told(&mut bed, "/large", &bytes)[0].payload, [b'x'; 11]);
    let bytes = message(TEXT, &[b'x'; 10]);
    assert_eq!(told(&mut bed, "/small", &bytes)[0].payload, [b'x'; 10]);
}

#[test]
fn messages_are_delivered_as_their_route_says() {
    let mut bed = bed(&[
        ("/pieces", |route| route.config_mut().delivery = Delivery::Streaming),
        ("/whole", |_| {}),
    ]);
    for (path, expected) in [
        ("/pieces", Heard::Chunk(b"hello".to_vec())),
        ("/whole", Heard::Message(b"hello".to_vec())),
    ] {
        told(&mut bed, path, &message(TEXT, b"hello"));
        assert_eq!(bed.heard().pop(), Some(expected), "{path}");
    }
}

#[test]
fn heartbeat_is_that_of_the_route() {
    let mut bed = bed(&[
        ("/often", |route| {
            let ping_every = Duration::from_secs(1);
            let dead_after = Duration::from_secs(3);
            route.config_mut().heartbeat = Some(Heartbeat { ping_every, dead_after });
        }),
        ("/never", |route| route.config_mut().heartbeat = None),
        ("/default", |_| {}),
    ]);
    let peers = ["/often", "/never", "/default"].map(|path| bed.ask(upgrade_request(path, "")));
    let pings = |peer: &SimPeer| {
        let bytes = peer.read_all();
        let (_, bytes) = crate::sim_peer::split_head(&bytes).unwrap();
        frames(bytes).0.iter().filter(|frame| frame.opcode == PING).count()
    };
    bed.run_for(Duration::from_millis(2_500));
    assert_eq!(peers.each_ref().map(pings), [2, 0, 0]);
    bed.run_for(Duration::from_secs(600));
    assert_ne!(peers[0].end_seen(), End::None);
    assert_eq!((peers[1].end_seen(), peers[1].read_all()), (End::None, Vec::new()));
    assert_ne!(peers[2].end_seen(), End::None);
}

// RFC 6455 §10.2
#[test]
fn origins_are_those_of_the_route() {
    let mut bed = bed(&[
        ("/any", |route| route.origins = Origins::Any),
        ("/one", |route| route.origins = Origins::allow(["https://one.example"]).unwrap()),
        ("/same", |_| {}),
    ]);
    for (path, origin, expected) in [
        ("/any", "https://one.example", "101"),
        ("/one", "https://one.example", "101"),
        ("/same", "https://one.example", "403"),
        ("/one", "https://two.example", "403"),
        ("/one", "https://example.com", "403"),
        ("/same", "https://example.com", "101"),
    ] {
        let peer = bed.ask(upgrade_request(path, &format!("Origin: {origin}\r\n")));
        assert_eq!(status(&peer), expected, "{origin} at {path}");
    }
}

#[cfg(feature = "deflate")]
#[test]
fn compression_is_agreed_on_as_the_route_says() {
    use corewire::{Compression, CompressionMode};

    let mut bed = bed(&[
        ("/shared", |route| {
            route.config_mut().compression = Compression::new(CompressionMode::Shared).unwrap();
        }),
        ("/off", |_| {}),
    ]);
    for (path, is_agreed) in [("/shared", true), ("/off", false)] {
        let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
        let peer = bed.ask(upgrade_request(path, offer));
        let head = crate::bed::head(&peer);
        assert_eq!(head.contains("permessage-deflate"), is_agreed, "{head}");
        peer.write_all(&message(TEXT, &[b'x'; 1000]));
        bed.turn();
        assert_eq!(peer.read_all().len() < 100, is_agreed);
    }
}

#[test]
fn each_listener_has_its_own_routes() {
    let small: fn(&mut Route) = |route| route.config_mut().limits.message_bytes_max = 3;
    let mut first = routed(&[("/a", small), ("/b", |_| {})]);
    first.handshake.keep_alive_requests_max = 1;
    let mut bed = Bed::new(
        |_| {},
        vec![first, settings(), routed(&[("/{a}/{*rest}", |_| {}), ("/b", small)])],
        later,
    );
    let mut ask = |listener: usize, path: &str| {
        let peer = bed.sim.connect(bed.addresses[listener]);
        peer.write_all(&upgrade_request(path, ""));
        peer.write_all(&message(TEXT, b"four"));
        bed.turns(3);
        let bytes = peer.read_all();
        let asked = bed.asked().pop().map(|asked| (asked.listener, asked.route));
        let (head, rest) = crate::sim_peer::split_head(&bytes).unwrap();
        let code = frames(rest).0.first().and_then(|frame| frame.close_code());
        (head[9..12].to_owned(), code, asked)
    };
    let expected = |status: &str, code, listener, route: Option<&str>| {
        (status.to_owned(), code, Some((listener, route.map(str::to_owned))))
    };
    assert_eq!(ask(0, "/a"), expected("101", Some(1009), 0, Some("/a")));
    assert_eq!(ask(0, "/b"), expected("101", None, 0, Some("/b")));
    assert_eq!(ask(1, "/a"), expected("101", None, 1, None));
    assert_eq!(ask(2, "/b"), expected("101", Some(1009), 2, Some("/b")));
    assert_eq!(ask(2, "/a/b"), expected("101", None, 2, Some("/{a}/{*rest}")));
    // Not asked: what is noted is the last one before.
    let peer = bed.sim.connect(bed.addresses[2]);
    peer.write_all(&upgrade_request("/a", ""));
    bed.turns(3);
    assert_eq!(status(&peer), "404");
}

#[test]
fn more_routes_than_connections_can_name_are_refused() {
    let mut bed = Bed::new(|_| {}, vec![], later);
    let mut many = settings();
    for number in 0..1023 {
        let route = Route::new(&many);
        many.routes.add(&format!("/{number}"), route).unwrap();
    }
    let any = SocketAddr::from(([10, 0, 0, 9], 0));
    let options = ListenOptions::default();
    for _ in 0..64 {
        bed.reactor.listen(any, &options, many.clone()).unwrap();
    }
    let error = bed.reactor.listen(any, &options, settings()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    // Those that are there work.
    let last = bed.reactor.local_addresses().last().unwrap();
    bed.addresses.push(last);
    assert_eq!(told(&mut bed, "/1022", &message(TEXT, b"x"))[0].payload, b"x");
    assert_eq!(bed.asked()[0].listener, 63);
}

/// A server's loop on the simulated network.
fn served(builder: ServerBuilder) -> Result<Bed, ServerError> {
    let (net, sim) = SimNet::new(1, 64 << 10);
    let net = RefCell::new(Some(net));
    let builder = builder.listen(([10, 0, 0, 9], 0));
    let builder = builder.network(move |_| Ok(net.borrow_mut().take().expect("one loop")));
    let reactor = builder.build_reactor::<Desk>(desk(later))?;
    let addresses = reactor.local_addresses().collect();
    Ok(Bed { reactor, sim, addresses })
}

#[test]
fn routes_of_a_server_change_what_is_set_for_all_in_whatever_order() {
    let builder = Server::builder()
        .route("/small", |route| route.config_mut().limits.message_bytes_max = 3)
        .route("/client", |route| route.config = Config::new(Role::Client).into())
        .config(|config| config.limits.message_bytes_max = 4)
        .route("/usual", |_| {})
        .origins(Origins::Any);
    let mut bed = served(builder).unwrap();
    for (path, bytes, code) in [
        ("/small", &b"four"[..], Some(1009)),
        ("/usual", b"four", None),
        ("/usual", b"fiver", Some(1009)),
        // Whatever the application says, it is the server's end.
        ("/client", b"fiver", None),
    ] {
        let frames = told(&mut bed, path, &message(TEXT, bytes));
        assert_eq!(frames[0].close_code(), code, "{path}");
    }
    let peer = bed.ask(upgrade_request("/usual", "Origin: https://elsewhere.example\r\n"));
    assert_eq!(status(&peer), "101");
    assert_eq!(status(&bed.ask(upgrade_request("/", ""))), "404");
}

#[test]
fn server_with_a_route_that_cannot_be_is_not_built() {
    let builder = || Server::builder().route("/a/{b}", |_| {});
    match served(builder().route("/a/{c}", |_| {})).err() {
        Some(ServerError::Route { pattern, error: RouteError::Repeated }) => {
            assert_eq!(pattern, "/a/{c}");
        }
        other => panic!("{other:?}"),
    }
    let error = served(builder().route("a", |_| {})).err().unwrap();
    assert_eq!(error.to_string(), "cannot serve a: the pattern does not begin with a slash");
    let zero = |route: &mut Route| {
        let ping_every = Duration::ZERO;
        route.config_mut().heartbeat = Some(Heartbeat { ping_every, ..Heartbeat::default() });
    };
    assert!(matches!(
        served(builder().route("/b", zero)).err(),
        Some(ServerError::Config(ConfigError::ZeroHeartbeat))
    ));
}
