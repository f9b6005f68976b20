//! Where the server listens, and what is different there. Abstract names and systemd are Linux's.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::process::Signal;

use crate::client::{BINARY, Client, PING, TEXT, upgrade_head};
use crate::process::{Server, corewire, run, serve_as};
use crate::scrap::Scrap;

fn serve_file(text: &str) -> Server {
    let file = Scrap::new(text);
    serve_as(&mut corewire(&["serve", "--config", file.name()]))
}

fn assert_echo(stream: impl Into<OwnedFd>) {
    let mut client = Client::over(stream);
    assert_eq!(client.upgrade("/", "").status, 101);
    client.echo(TEXT, b"whatever the socket");
}

#[test]
fn each_listener_has_settings_of_its_own_and_the_general_ones_otherwise() {
    let mut server = serve_file(
        "max-message = \"2KiB\"\nno-heartbeat = true\n\
         [[listener]]\nlisten = \"127.0.0.1:0\"\norigin = \"any\"\n\
         [[listener]]\nlisten = \"127.0.0.1:0\"\nmax-message = \"1KiB\"\nping-every = \"50ms\"\n",
    );
    let (first, second) = (server.port, server.next_port());
    let status = |port| Client::dial(port).upgrade("/", "Origin: http://a.example\r\n").status;
    assert_eq!((status(first), status(second)), (101, 403));
    let mut client = Client::open(first);
    client.echo(BINARY, &[7; 2048]);
    assert!(client.is_silent_for(Duration::from_millis(200)));
    client.send(BINARY, &[7; 2049]);
    assert_eq!(client.close_code(), 1009);
    let mut client = Client::open(second);
    assert_eq!(client.frame().opcode, PING);
    client.send(BINARY, &[7; 1025]);
    assert_eq!(client.close_code(), 1009);
}

#[test]
fn unix_sockets_of_both_kinds_are_served_and_the_file_goes_with_the_server() {
    let path = Scrap::new("");
    fs::remove_file(&path.0).unwrap();
    let name = format!("corewire-program-{}", std::process::id());
    let endpoints = [format!("unix:{}", path.name()), format!("unix:@{name}")];
    let mut server = serve_as(&mut corewire(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--listen",
        &endpoints[0],
        "--listen",
        &endpoints[1],
        "--unix-mode",
        "600",
        "--threads",
        "2",
    ]));
    server.wait_for(&format!("unix:@{name}"));
    assert_eq!(fs::metadata(&path.0).unwrap().permissions().mode() & 0o777, 0o600);
    assert_echo(UnixStream::connect(&path.0).unwrap());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    assert_echo(UnixStream::connect_addr(&address).unwrap());
    server.signal(Signal::INT);
    let (status, log) = server.wait();
    assert!(status.success(), "{log}");
    assert!(!path.0.exists());
}

#[test]
fn trusted_proxies_tell_whose_connection_they_pass_on_and_nobody_else_may() {
    const HEADER: &[u8] = b"PROXY TCP4 192.0.2.7 127.0.0.1 5555 80\r\n";
    let file = Scrap::new(
        "log = \"debug\"\n[[listener]]\nlisten = \"127.0.0.1:0\"\n\
         proxy-protocol = [\"unix, 192.0.2.0/24\", \"127.0.0.1\"]\n\
         [[listener]]\nlisten = \"127.0.0.1:0\"\nproxy-protocol = \"127.0.0.2\"\n",
    );
    let mut server = serve_as(&mut corewire(&["serve", "--config", file.name()]));
    let (trusting, other) = (server.port, server.next_port());
    let mut client = Client::dial(trusting);
    client.write(HEADER);
    assert_eq!(client.upgrade("/", "").status, 101);
    client.echo(TEXT, b"by a proxy");
    server.wait_for("192.0.2.7:5555 GET /");
    let mut client = Client::dial(trusting);
    client.write(upgrade_head("/", "").as_bytes());
    assert!(client.read_to_end().is_empty(), "a header was due");
    let mut client = Client::dial(other);
    client.write(HEADER);
    assert_eq!(client.answer().status, 400);
}

#[test]
fn sockets_of_systemd_are_taken_over() {
    let path = Scrap::new("");
    fs::remove_file(&path.0).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    let unix = UnixListener::bind(&path.0).unwrap();
    // Descriptors that follow each other, which the child inherits. Other tests open some meanwhile.
    let pair = |first| {
        let sockets = [
            fcntl_dupfd_cloexec(&tcp, first).unwrap(),
            fcntl_dupfd_cloexec(&unix, first + 1).unwrap(),
        ];
        (sockets.each_ref().map(AsRawFd::as_raw_fd) == [first, first + 1]).then_some(sockets)
    };
    let inherited = (900..).step_by(2).find_map(pair).unwrap();
    let first = inherited[0].as_raw_fd();
    for socket in &inherited {
        fcntl_setfd(socket, FdFlags::empty()).unwrap();
    }
    let mut command = corewire(&["serve", "--listen", "127.0.0.1:0", "--listen", "systemd"]);
    command.env("LISTEN_FDS", "2").env("LISTEN_FDS_FIRST_FD", first.to_string());
    let mut server = serve_as(&mut command);
    drop(inherited);
    server.wait_for(&format!("listening on 127.0.0.1:{port}"));
    server.wait_for(path.name());
    assert_echo(TcpStream::connect(("127.0.0.1", port)).unwrap());
    assert_echo(UnixStream::connect(&path.0).unwrap());
    fs::remove_file(&path.0).unwrap();
}

#[test]
fn sockets_that_systemd_has_not_opened_are_missed() {
    let output = run(&["serve", "--listen", "systemd"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("systemd has opened no sockets"), "{stderr}");
}
