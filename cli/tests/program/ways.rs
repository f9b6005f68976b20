//! The ways of `corewire connect` to a server: TLS, Unix sockets, proxies, redirections, and back
//! again.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::connect::{assert_ends, pipe, start, wait_for};
use crate::process::{Server, corewire, finish, run, serve, serve_as};
use crate::proxy;
use crate::tls::{Pair, pair, serve_pairs};

/// A socket that answers every request with this, and tells what it was asked.
fn answer(answer: impl Fn(&str) -> String + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let head = read_head(&mut stream);
            let _ = stream.write_all(answer(&head).as_bytes());
        }
    });
    url
}

fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn certificate_has_to_be_trusted_and_the_flags_that_help_are_named() {
    let (own, other) = (pair("127.0.0.1"), pair("127.0.0.1"));
    let server = serve_pairs(&[&own]);
    let url = server.secure_url();
    for stderr in ["--ca FILE", "--insecure"] {
        assert_ends(&pipe(&[&url], b""), 2, b"", stderr);
        assert_ends(&pipe(&[&url, "--ca", other.chain.name()], b""), 2, b"", stderr);
    }
    assert_ends(&pipe(&[&url, "--ca", own.chain.name()], b"hi\n"), 0, b"hi\n", "closed: 1000");
    assert_ends(&pipe(&[&url, "--insecure"], b"hi\n"), 0, b"hi\n", "closed: 1000");
}

#[test]
fn large_messages_come_back_through_tls() {
    let server = serve(&["--tls-self-signed"]);
    let long = "x".repeat(5_000_000) + "\n";
    let output = pipe(&[&server.secure_url(), "--insecure"], long.as_bytes());
    assert_ends(&output, 0, long.as_bytes(), "closed: 1000");
    let lines: String = (0..50_000).map(|n| format!("line {n}\n")).collect();
    let output = pipe(&[&server.secure_url(), "--insecure"], lines.as_bytes());
    assert_ends(&output, 0, lines.as_bytes(), "closed: 1000");
}

#[test]
fn what_does_not_speak_tls_is_told_as_such() {
    let server = serve(&[]);
    assert_ends(&pipe(&[&server.secure_url(), "--insecure"], b""), 2, b"", "only ws://");
    let nothing = run(&["connect", &server.secure_url(), "--ca", "/nowhere.pem"]);
    assert_ends(&nothing, 2, b"", "/nowhere.pem: No such file");
}

/// A server that talks to those alone who show this certificate.
fn serve_known(own: &Pair, known: &Pair) -> String {
    let mut roots = RootCertStore::empty();
    roots.add(known.der.clone().into()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let key = PrivateKeyDer::from_pem_file(&own.key.0).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![CertificateDer::from(own.der.clone())], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("wss://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(config.clone()).unwrap();
            let mut stream = StreamOwned::new(connection, stream.unwrap());
            let config = stream.conn.complete_io(&mut stream.sock);
            if config.is_ok() {
                read_head(&mut stream);
                let _ = stream.write_all(b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nbut known");
                let _ = stream.flush();
            }
        }
    });
    url
}

#[test]
fn certificate_of_our_own_is_shown_to_servers_that_ask() {
    let (server, client) = (pair("127.0.0.1"), pair("client.example"));
    let url = serve_known(&server, &client);
    let ca = ["--ca", server.chain.name()];
    let own = ["--cert", client.chain.name(), "--key", client.key.name()];
    let output = run(&[&["connect", &url][..], &ca, &own].concat());
    assert_ends(&output, 2, b"", "403 instead of 101 (but known)");
    assert_ends(&run(&[&["connect", &url][..], &ca].concat()), 2, b"", "TLS: ");
    assert_ends(&run(&[&["connect", &url][..], &own[..2]].concat()), 2, b"", "--key");
}

#[test]
fn flags_that_exclude_each_other_are_one_line() {
    for args in [["--ca=a", "--insecure"], ["--user=a:b", "--bearer=c"]] {
        assert_ends(&run(&[&["connect", "ws://a/"][..], &args].concat()), 2, b"", "cannot be used");
    }
    for (flag, words) in [
        ("--proxy=ftp://a:1", "http or socks5"),
        ("--proxy=http://a", "address"),
        ("--user=a", "USER:PASSWORD"),
        ("--bearer=a b", "token"),
        ("--compression=best", "shared"),
        ("--timeout=0s", "longer than zero"),
    ] {
        assert_ends(&run(&["connect", "ws://a/", flag]), 2, b"", words);
    }
}

#[test]
fn proxies_lead_to_ws_and_wss() {
    let (plain, secure) = (serve(&[]), serve(&["--tls-self-signed"]));
    let (connect, socks5) = (proxy::connect(), proxy::socks5());
    let ways = [
        (format!("http://user:secret@{}", connect.address), &connect),
        (format!("socks5://{}", socks5.address), &socks5),
    ];
    for (flag, proxy) in ways {
        for url in [plain.url(), secure.secure_url()] {
            let before = proxy.sent_bytes.load(Ordering::Relaxed);
            let output = pipe(&[&url, "--insecure", "--proxy", &flag], b"hi\n");
            assert_ends(&output, 0, b"hi\n", "closed: 1000");
            assert!(proxy.sent_bytes.load(Ordering::Relaxed) > before + 100);
        }
    }
    let flag = format!("http://user:wrong@{}", connect.address);
    assert_ends(&run(&["connect", &plain.url(), "--proxy", &flag]), 2, b"", "407");
}

#[test]
fn redirections_are_followed_when_that_is_wanted() {
    let server = serve(&[]);
    let to = server.url();
    let url = answer(move |_| {
        format!("HTTP/1.1 307 There\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
    });
    assert_ends(&run(&["connect", &url]), 2, b"", "307");
    assert_ends(&pipe(&[&url, "--redirects", "1"], b"hi\n"), 0, b"hi\n", "closed: 1000");
}

#[test]
fn who_asks_is_said_and_a_401_is_shown_with_its_first_line() {
    let url = answer(|head| {
        let who = match head {
            // Base64 of `me:a:b`.
            _ if head.contains("\r\nAuthorization: Basic bWU6YTpi\r\n") => "a user",
            _ if head.contains("\r\nAuthorization: Bearer abc\r\n") => "a token",
            _ => "nobody",
        };
        let body = format!("you are {who}\nand more");
        format!("HTTP/1.1 401 Who\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    });
    for (args, who) in
        [(&[][..], "nobody"), (&["--user", "me:a:b"], "a user"), (&["--bearer", "abc"], "a token")]
    {
        let output = run(&[&["connect", &url], args].concat());
        assert_ends(&output, 2, b"", &format!("401 instead of 101 (you are {who})\n"));
    }
}

#[test]
fn step_that_takes_too_long_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let began = Instant::now();
    let output = run(&["connect", &format!("ws://{address}/"), "--timeout", "100ms"]);
    assert_ends(&output, 2, b"", "the opening handshake took too long");
    assert!(began.elapsed() >= Duration::from_millis(100));
}

#[test]
fn large_messages_are_compressed() {
    let server = serve(&["--compression", "shared"]);
    let long = "to and fro ".repeat(500_000) + "\n";
    for mode in ["shared", "dedicated", "dedicated:9:1", "off"] {
        let proxy = proxy::socks5();
        let way = format!("socks5://{}", proxy.address);
        let args = [&server.url(), "--proxy", &way, "--compression", mode];
        assert_ends(&pipe(&args, long.as_bytes()), 0, long.as_bytes(), "closed: 1000");
        let is_compressed = proxy.sent_bytes.load(Ordering::Relaxed) < 1_000_000;
        assert_eq!(is_compressed, mode != "off");
    }
}

/// A client of this server that comes back.
fn start_returning(server: &Server) -> Child {
    let mut child = start(&["--reconnect", &server.url()]);
    wait_for(&mut child, "connected");
    child
}

#[test]
fn lost_connection_comes_back_and_lines_wait_for_it() {
    let server = serve(&[]);
    let port = server.port.to_string();
    let mut child = start_returning(&server);
    server.signal(Signal::KILL);
    drop(server);
    wait_for(&mut child, "1006");
    wait_for(&mut child, "connecting again in ");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"typed meanwhile\n").unwrap();
    wait_for(&mut child, "refused");
    stdin.write_all(b"the last").unwrap();
    drop(stdin);
    let address = format!("127.0.0.1:{port}");
    let _server = serve_as(&mut corewire(&["serve", "--listen", &address]));
    let output = finish(child);
    assert_ends(&output, 0, b"typed meanwhile\nthe last\n", "connected to ");
}

#[test]
fn what_the_server_means_ends_a_client_that_would_come_back() {
    let url = answer(|_| "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n".into());
    let output = run(&["connect", "--reconnect", &url]);
    assert_ends(&output, 2, b"", "403");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("again"));
    // Its own Close is meant, too.
    let server = serve(&[]);
    assert_ends(&pipe(&["--reconnect", &server.url()], b"hi\n"), 0, b"hi\n", "closed: 1000");
}

#[test]
fn client_that_waits_to_come_back_can_be_ended() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut child = start(&["--reconnect", &format!("ws://{nobody}/")]);
    wait_for(&mut child, "refused");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_ends(&finish(child), 2, b"", "");
    let server = serve(&[]);
    let mut child = start_returning(&server);
    server.signal(Signal::KILL);
    wait_for(&mut child, "connecting again in ");
    // With the end of the input there is nothing left to come back for.
    drop(server);
    drop(child.stdin.take());
    assert_ends(&finish(child), 1, b"", "");
}

#[test]
fn unix_sockets_are_reached_by_their_path() {
    let path = format!("{}/ways-{}.sock", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    let endpoint = format!("unix:{path}");
    let mut server =
        serve_as(&mut corewire(&["serve", "--listen", "127.0.0.1:0", "--listen", &endpoint]));
    server.wait_for(&path);
    let url = format!("ws+unix:{path}:/");
    assert_ends(&pipe(&[&url], b"hi\n"), 0, b"hi\n", "connected to ws+unix:");
    // There is no way through a proxy.
    assert_ends(&pipe(&[&url, "--proxy", "http://127.0.0.1:1"], b"hi\n"), 0, b"hi\n", "1000");
    assert_ends(&pipe(&[&format!("ws+unix:{path}:/x")], b""), 2, b"", "404");
}
