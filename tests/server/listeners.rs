//! Several listeners with different settings, both versions of IP, and sockets made by others.

use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};

use corewire::{
    ConfigError, Endpoint, Heartbeat, IpStack, Origins, Role, ServerBuilder, ServerError,
};

use crate::client::{Client, request};
use crate::running::{Directory, Running, Teller, exists, not_a_socket, refusal, server};

const LOCAL: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// Where no other test listens, so that a port which was free a moment ago still is.
const QUIET: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 80);

fn address(running: &Running, listener: usize) -> SocketAddr {
    running.endpoints[listener].socket_addr().unwrap()
}

fn on_ipv6(stack: IpStack) -> ServerBuilder {
    let any = (Ipv6Addr::UNSPECIFIED, 0);
    server().listen_with(any, move |options, _| options.ip_stack = stack)
}

#[test]
fn listeners_differ_in_what_their_connections_are_held_to() {
    // What differs is said before what is general: the order does not matter.
    let builder = server()
        .listen_with(LOCAL, |_, settings| {
            settings.config_mut().limits.message_bytes_max = 10;
            settings.config_mut().role = Role::Client;
            settings.origins = Origins::Any;
            settings.handshake.target_bytes_max = 20;
        })
        .listen(LOCAL)
        .config(|config| config.limits.message_bytes_max = 100)
        .origins(Origins::allow(["https://example.com"]).unwrap());
    let running = Running::start(builder);
    let open = |listener| {
        let mut client = Client::dial(address(&running, listener));
        client.upgrade("/");
        client.say("who");
        assert_eq!(client.text(), format!("127.0.0.1 at {listener}"));
        client
    };
    let mut clients = [open(0), open(1)];
    for (client, bytes_max) in clients.iter_mut().zip([10, 100]) {
        let longest = "x".repeat(bytes_max);
        client.say(&longest);
        assert_eq!(client.text(), longest);
        client.say(&(longest + "x"));
        let (opcode, payload) = client.frame();
        assert_eq!((opcode, &payload[..2]), (8, &1009u16.to_be_bytes()[..]));
    }
    let status = |listener, path, fields| {
        let mut client = Client::dial(address(&running, listener));
        client.0.write_all(request(path, fields).as_bytes()).unwrap();
        client.head()[9..12].to_owned()
    };
    let elsewhere = "Origin: https://elsewhere.org\r\n";
    assert_eq!([0, 1].map(|listener| status(listener, "/", elsewhere)), ["101", "403"]);
    let long = "/with-a-target-of-over-20-bytes";
    assert_eq!([0, 1].map(|listener| status(listener, long, "")), ["414", "101"]);
    running.stop();
}

#[test]
fn each_listeners_heartbeat_is_looked_at() {
    let zero = Heartbeat { ping_every: std::time::Duration::ZERO, ..Heartbeat::default() };
    let built = server().listen(LOCAL).listen_with(LOCAL, move |_, settings| {
        settings.config_mut().heartbeat = Some(zero);
    });
    let error = built.build(|_shard| Teller).err();
    assert!(matches!(error, Some(ServerError::Config(ConfigError::ZeroHeartbeat))));
}

#[test]
fn low_water_mark_above_the_high_one_is_refused() {
    let with = |low_bytes| {
        server().listen(LOCAL).config(move |config| {
            config.limits.high_water_bytes = 1000;
            config.limits.low_water_bytes = low_bytes;
        })
    };
    with(1000).build(|_shard| Teller).unwrap();
    let error = with(1001).build(|_shard| Teller).err().unwrap();
    let expected = ConfigError::WaterMarks { low_bytes: 1001, high_bytes: 1000 };
    assert!(matches!(error, ServerError::Config(told) if told == expected), "{error}");
}

#[test]
fn dual_stack_takes_both_and_tells_ipv4_as_such() {
    for threads in [1, 2] {
        let running = Running::start(on_ipv6(IpStack::Dual).threads(threads));
        let port = address(&running, 0).port();
        for (ip, told) in [("127.0.0.1", "127.0.0.1 at 0"), ("::1", "::1 at 0")] {
            let mut client = Client::dial((ip.parse::<std::net::IpAddr>().unwrap(), port).into());
            client.upgrade("/");
            client.say("who");
            assert_eq!(client.text(), told);
        }
        running.stop();
    }
}

#[test]
fn ipv6_alone_leaves_the_port_to_ipv4() {
    for threads in [1, 2] {
        let running = Running::start(on_ipv6(IpStack::V6Only).threads(threads));
        let port = address(&running, 0).port();
        let refused = TcpStream::connect((QUIET, port));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        Client::dial((Ipv6Addr::LOCALHOST, port).into()).upgrade("/");
        let beside = Running::start(server().threads(threads).listen((QUIET, port)));
        Client::dial(address(&beside, 0)).upgrade("/");
        beside.stop();
        running.stop();
        // And the other way round: a port that IPv4 has is free for IPv6 alone.
        let beside = Running::start(server().threads(threads).listen((QUIET, 0)));
        let port = address(&beside, 0).port();
        let v6 = (Ipv6Addr::UNSPECIFIED, port);
        let alone = server().threads(threads);
        let running =
            Running::start(alone.listen_with(v6, |options, _| options.ip_stack = IpStack::V6Only));
        Client::dial((Ipv6Addr::LOCALHOST, port).into()).upgrade("/");
        running.stop();
        beside.stop();
    }
}

#[test]
fn address_given_twice_is_an_error_on_one_loop_and_on_several() {
    let free = TcpListener::bind((QUIET, 0)).unwrap().local_addr().unwrap();
    for threads in [1, 2] {
        let twice = server().threads(threads).listen(free).listen(free);
        assert_eq!(refusal(twice).kind(), ErrorKind::AddrInUse);
    }
}

#[test]
fn port_can_be_shared_with_another_server_that_shares_it() {
    let free = TcpListener::bind((QUIET, 0)).unwrap().local_addr().unwrap();
    let sharing = |threads| {
        server().threads(threads).listen_with(free, |options, _| options.reuse_port = true)
    };
    let running = [Running::start(sharing(1)), Running::start(sharing(2))];
    Client::dial(free).upgrade("/");
    for running in running {
        running.stop();
    }
}

#[test]
fn inherited_socket_is_shared_by_all_loops() {
    for threads in [1, 2] {
        let listener = TcpListener::bind((QUIET, 0)).unwrap();
        let expected = listener.local_addr().unwrap();
        let running = Running::start(server().threads(threads).listen(listener));
        assert_eq!(address(&running, 0), expected);
        let mut clients: Vec<_> = (0..50).map(|_| Client::dial(expected)).collect();
        for client in &mut clients {
            client.upgrade("/");
            client.say("who");
            assert_eq!(client.text(), "127.0.0.1 at 0");
        }
        let counters = running.stop();
        // Whoever was woken for nothing has neither failed nor rested.
        assert_eq!((counters.accepted, counters.accept_pauses), (50, 0));
        let error = TcpStream::connect(expected).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "no duplicate is left open");
    }
}

#[test]
fn inherited_unix_socket_keeps_its_file() {
    let directory = Directory::new();
    let path = directory.path("inherited");
    for threads in [1, 2] {
        let listener = UnixListener::bind(&path).unwrap();
        let running = Running::start(server().threads(threads).listen(listener));
        assert_eq!(running.endpoints[0].to_string(), format!("unix:{}", path.display()));
        let mut clients = [(); 10].map(|()| Client::over(UnixStream::connect(&path).unwrap()));
        for client in &mut clients {
            client.upgrade("/");
            client.say("who");
            assert_eq!(client.text(), "unix at 0");
        }
        running.stop();
        assert!(exists(&path), "who has made it removes it");
        let error = UnixStream::connect(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "no duplicate is left open");
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn what_does_not_listen_cannot_be_inherited() {
    let listener = TcpListener::bind((QUIET, 0)).unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let datagrams = UdpSocket::bind((QUIET, 0)).unwrap();
    for socket in [OwnedFd::from(stream), datagrams.into()] {
        let error = refusal(server().listen(socket));
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    let file = std::fs::File::open("/dev/null").unwrap();
    let error = refusal(server().listen(OwnedFd::from(file)));
    assert_eq!(error.kind(), not_a_socket(), "{error}");
}

#[test]
fn detached_listener_listens_nowhere() {
    for threads in [1, 2] {
        let running = Running::start(server().threads(threads).listen(Endpoint::Detached));
        assert!(matches!(running.endpoints[..], [Endpoint::Detached]));
        assert_eq!(running.stop().accepted, 0);
    }
}
