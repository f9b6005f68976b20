//! Unix sockets: their files, their names, and who may be there already.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Barrier;
use std::thread;

use corewire::{Endpoint, UnixEndpoint};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::client::Client;
use crate::running::{Directory, Running, exists, refusal, server};

fn at(path: &Path) -> UnixEndpoint {
    UnixEndpoint::Path(path.into())
}

fn open(path: &Path) -> Client<UnixStream> {
    let mut client = Client::over(UnixStream::connect(path).unwrap());
    client.upgrade("/");
    client
}

#[test]
fn unix_socket_echoes_on_one_loop_and_on_several() {
    let directory = Directory::new();
    let path = directory.path("echo");
    for threads in [1, 3] {
        let running = Running::start(server().threads(threads).listen(at(&path)));
        assert!(matches!(&running.endpoints[..], [Endpoint::Unix(name)] if *name == at(&path)));
        let mut clients: Vec<_> = (0..20).map(|_| open(&path)).collect();
        for client in &mut clients {
            client.say("who");
            assert_eq!(client.text(), "unix at 0");
            client.say("Hello");
            assert_eq!(client.text(), "Hello");
            client.close();
        }
        let counters = running.stop();
        assert_eq!((counters.accepted, counters.accept_pauses), (20, 0));
        assert!(!exists(&path), "the file goes with the listener");
    }
}

#[test]
fn large_messages_pass_a_unix_socket_in_pieces() {
    let directory = Directory::new();
    let path = directory.path("large");
    let running = Running::start(server().listen(at(&path)).socket(|socket| {
        socket.receive_buffer_bytes = Some(8192);
        socket.send_buffer_bytes = Some(8192);
    }));
    let mut client = open(&path);
    let payload: Vec<u8> = (0..600_000u32).map(|at| at as u8).collect();
    let mut sender = client.0.try_clone().unwrap();
    let head = [&[0x82, 0xFF][..], &600_000u64.to_be_bytes(), &[0; 4]].concat();
    let sent = payload.clone();
    let sending = thread::spawn(move || {
        std::io::Write::write_all(&mut sender, &[head, sent].concat()).unwrap();
    });
    let mut echoed = vec![0; 10 + payload.len()];
    std::io::Read::read_exact(&mut client.0, &mut echoed).unwrap();
    sending.join().unwrap();
    assert!(echoed[10..] == payload);
    running.stop();
}

#[test]
#[cfg(target_os = "linux")]
fn abstract_name_echoes_and_leaves_no_file() {
    use std::os::linux::net::SocketAddrExt;

    let name = format!("corewire-test-{}", std::process::id()).into_bytes();
    for threads in [1, 2] {
        let endpoint = UnixEndpoint::Abstract(name.clone());
        let running = Running::start(server().threads(threads).listen(endpoint.clone()));
        assert!(matches!(&running.endpoints[..], [Endpoint::Unix(told)] if *told == endpoint));
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let mut client = Client::over(UnixStream::connect_addr(&address).unwrap());
        client.upgrade("/");
        client.say("who");
        assert_eq!(client.text(), "unix at 0");
        assert_eq!(refusal(server().listen(endpoint)).kind(), ErrorKind::AddrInUse);
        running.stop();
        assert!(UnixStream::connect_addr(&address).is_err(), "nobody holds it any more");
    }
}

#[test]
fn file_of_a_dead_listener_is_replaced() {
    let directory = Directory::new();
    let path = directory.path("stale");
    for threads in [1, 2] {
        drop(UnixListener::bind(&path).unwrap());
        assert!(exists(&path), "std leaves it behind");
        let running = Running::start(server().threads(threads).listen(at(&path)));
        open(&path).close();
        running.stop();
        assert!(!exists(&path));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn of_many_that_start_at_once_one_gets_the_file() {
    let directory = Directory::new();
    for round in 0..50 {
        let path = directory.path(&format!("contested-{round}"));
        drop(UnixListener::bind(&path).unwrap());
        let gate = Barrier::new(8);
        let started: Vec<_> = thread::scope(|scope| {
            let start = || {
                gate.wait();
                Endpoint::from(at(&path)).bind(&Default::default())
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let (winners, losers): (Vec<_>, Vec<_>) = started.into_iter().partition(Result::is_ok);
        assert_eq!(winners.len(), 1, "round {round}");
        for loser in losers {
            assert_eq!(loser.unwrap_err().kind(), ErrorKind::AddrInUse);
        }
        let winner = winners.into_iter().next().unwrap().unwrap();
        let running = Running::start(server().listen(winner));
        open(&path).close();
        running.stop();
        assert!(!exists(&path));
    }
}

#[test]
fn living_listener_keeps_its_file() {
    let directory = Directory::new();
    let path = directory.path("alive");
    let living = UnixListener::bind(&path).unwrap();
    for threads in [1, 2] {
        let error = refusal(server().threads(threads).listen(at(&path)));
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        // The question whether it lives was a connection.
        living.accept().unwrap();
    }
    UnixStream::connect(&path).unwrap();
}

#[test]
fn listener_that_does_not_keep_up_is_alive() {
    let directory = Directory::new();
    let path = directory.path("busy");
    let busy = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let address = SockAddr::unix(&path).unwrap();
    busy.bind(&address).unwrap();
    busy.listen(0).unwrap();
    let mut waiting = Vec::new();
    loop {
        let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        client.set_nonblocking(true).unwrap();
        match client.connect(&address) {
            Ok(()) => waiting.push(client),
            Err(error) => break assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
    assert_eq!(refusal(server().listen(at(&path))).kind(), ErrorKind::AddrInUse);
    assert!(exists(&path));
}

#[test]
fn socket_of_datagrams_is_nobodys_stale_file() {
    let directory = Directory::new();
    let path = directory.path("datagrams");
    let _living = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    assert_eq!(refusal(server().listen(at(&path))).kind(), ErrorKind::AddrInUse);
    assert!(exists(&path));
}

#[test]
fn file_that_is_no_socket_is_left_alone() {
    let directory = Directory::new();
    let (file, dir) = (directory.path("file"), directory.path("dir"));
    let (link, dangling) = (directory.path("link"), directory.path("dangling"));
    File::create(&file).unwrap();
    fs::create_dir(&dir).unwrap();
    symlink(&file, &link).unwrap();
    symlink(directory.path("nowhere"), &dangling).unwrap();
    for path in [file, dir, link, dangling] {
        let error = refusal(server().listen(at(&path)));
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
        assert!(exists(&path));
    }
}

#[test]
fn link_to_a_dead_listeners_file_is_left_alone() {
    let directory = Directory::new();
    let (path, link) = (directory.path("stale"), directory.path("link"));
    drop(UnixListener::bind(&path).unwrap());
    symlink(&path, &link).unwrap();
    assert_eq!(refusal(server().listen(at(&link))).kind(), ErrorKind::AlreadyExists);
    assert!(exists(&path) && exists(&link));
}

#[test]
fn file_has_the_permissions_asked_for() {
    let directory = Directory::new();
    let path = directory.path("mode");
    for mode in [0o600, 0o666, 0o660] {
        let running = Running::start(server().listen_with(at(&path), move |options, _| {
            options.unix_mode = Some(mode);
        }));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        running.stop();
    }
}

#[test]
fn file_that_is_another_listeners_now_is_not_removed() {
    let directory = Directory::new();
    let path = directory.path("taken-over");
    let running = Running::start(server().listen(at(&path)));
    fs::remove_file(&path).unwrap();
    let _successor = UnixListener::bind(&path).unwrap();
    running.stop();
    UnixStream::connect(&path).unwrap();
}

#[test]
fn file_goes_also_if_the_server_never_ran() {
    let directory = Directory::new();
    let path = directory.path("unused");
    for threads in [1, 2] {
        let built = server().threads(threads).listen(at(&path)).build(|_| crate::running::Teller);
        assert!(exists(&path));
        drop(built.unwrap());
        assert!(!exists(&path));
        // Whoever comes after it in the list cannot be had.
        let missing = at(Path::new("/nowhere/at/all"));
        let error = refusal(server().threads(threads).listen(at(&path)).listen(missing));
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(!exists(&path));
    }
}

#[test]
fn name_that_no_socket_can_have_is_refused() {
    let long = "x".repeat(108);
    let names: [&[u8]; 4] = [b"", b"\0abstract", b"in\0side", long.as_bytes()];
    for name in names {
        let path = Path::new(std::str::from_utf8(name).unwrap());
        let error = refusal(server().listen(at(path)));
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        let bound =
            if name.len() > 100 { "has at most 107 bytes" } else { "not empty and has no NUL" };
        assert!(error.to_string().contains(bound), "{error}");
    }
    for name in [Vec::new(), long.into_bytes()] {
        let error = refusal(server().listen(UnixEndpoint::Abstract(name)));
        let expected = [ErrorKind::Unsupported, ErrorKind::InvalidInput];
        assert_eq!(error.kind(), expected[usize::from(cfg!(target_os = "linux"))], "{error}");
    }
}

#[test]
fn endpoint_bound_ahead_is_shared_and_its_file_goes_with_the_last() {
    let directory = Directory::new();
    let path = directory.path("ahead");
    let bound = Endpoint::from(at(&path)).bind(&Default::default()).unwrap();
    let first = Running::start(server().listen(bound.clone()));
    let second = Running::start(server().listen(bound));
    open(&path).close();
    first.stop();
    assert!(exists(&path));
    open(&path).close();
    second.stop();
    assert!(!exists(&path));
}

#[test]
fn unix_peers_count_in_all_but_under_no_address() {
    let directory = Directory::new();
    let path = directory.path("counted");
    let limited = server().listen(at(&path)).limits(|limits| {
        limits.connections_per_address_max = Some(1);
        limits.connections_max = 2;
    });
    let running = Running::start(limited);
    let clients = [open(&path), open(&path)];
    let mut third = Client::over(UnixStream::connect(&path).unwrap());
    std::io::Write::write_all(&mut third.0, crate::client::request("/", "").as_bytes()).unwrap();
    assert!(third.head().starts_with("HTTP/1.1 503 "));
    for mut client in clients {
        client.close();
    }
    assert_eq!(running.stop().refused_over_capacity, 1);
}
