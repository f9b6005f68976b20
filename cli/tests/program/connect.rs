//! `corewire connect`, mostly through pipes.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Child, Output, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use crate::process::{corewire, finish, run, serve};

/// Starts a client whose standard input stays open.
pub fn start(args: &[&str]) -> Child {
    corewire(&[&["connect"], args].concat()).stdin(Stdio::piped()).spawn().unwrap()
}

/// Runs a client on this input, to its end.
pub fn pipe(args: &[&str], input: &[u8]) -> Output {
    let mut child = start(args);
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // The output must be read meanwhile, or both would wait.
    let writer = thread::spawn(move || stdin.write_all(&input));
    let output = finish(child);
    writer.join().unwrap().unwrap();
    output
}

pub fn wait_for(child: &mut Child, text: &str) {
    let stderr = child.stderr.as_mut().unwrap();
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains(text) {
        let mut byte = [0];
        assert_eq!(stderr.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&said));
        said.push(byte[0]);
    }
}

#[track_caller]
pub fn assert_ends(output: &Output, code: i32, stdout: &[u8], stderr: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(output.stdout == stdout, "{:?}", String::from_utf8_lossy(&output.stdout));
    assert!(said.contains(stderr), "{said}");
}

#[test]
fn piped_line_comes_back_and_the_connection_is_closed() {
    let server = serve(&[]);
    assert_ends(&pipe(&[&server.url()], b"hi\n"), 0, b"hi\n", "closed: 1000");
    assert_ends(&pipe(&[&server.url()], "grüße".as_bytes()), 0, "grüße\n".as_bytes(), "1000");
    assert_ends(&pipe(&[&server.url()], b""), 0, b"", "closed: 1000");
}

#[test]
fn everything_sent_before_the_close_is_printed() {
    let server = serve(&[]);
    let lines: String = (0..50_000).map(|n| format!("line {n}\n")).collect();
    assert_ends(&pipe(&[&server.url()], lines.as_bytes()), 0, lines.as_bytes(), "closed: 1000");
    let long = "x".repeat(5_000_000) + "\n";
    assert_ends(&pipe(&[&server.url()], long.as_bytes()), 0, long.as_bytes(), "closed: 1000");
}

#[test]
fn binary_messages_are_shown_as_size_and_hex() {
    let server = serve(&[]);
    let output = pipe(&["--binary", &server.url()], b"a\xffb\n");
    assert_ends(&output, 0, b"binary, 3 B: 61 ff 62\n", "1000");
    let output = pipe(&["--binary", &server.url()], &[b'A'; 2048]);
    assert_ends(&output, 0, format!("binary, 2.0 KiB:{} ...\n", " 41".repeat(32)).as_bytes(), "");
}

#[test]
fn line_that_is_not_utf8_is_not_sent_and_not_forgotten() {
    let server = serve(&[]);
    assert_ends(&pipe(&[&server.url()], b"\xff\nfine\n"), 1, b"fine\n", "--binary");
}

#[test]
fn refusal_says_why_and_exits_with_2() {
    let server = serve(&[]);
    let elsewhere = server.url() + "elsewhere";
    assert_ends(&pipe(&[&elsewhere], b""), 2, b"", "404");
    assert_ends(&pipe(&["--origin", "http://evil.example", &server.url()], b""), 2, b"", "403");
    assert_ends(&run(&["connect", "ws://127.0.0.1:1/"]), 2, b"", "refused");
    assert_ends(&run(&["connect", "http://127.0.0.1/"]), 2, b"", "not ws or wss");
    assert_ends(&run(&["connect", "ws+unix:/nowhere.sock:/"]), 2, b"", "No such file");
    assert_ends(&run(&["connect", "ws://a/", "--header", "x"]), 2, b"", "NAME: VALUE");
    assert_ends(&run(&["connect", "ws://a/", "--subprotocol", "a b"]), 2, b"", "token");
}

#[test]
fn request_has_what_the_flags_say() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/path?q", listener.local_addr().unwrap());
    let flags = ["--subprotocol", "one", "--subprotocol", "two", "--header", "X-Token: a: b"];
    let child = start(&[&flags[..], &["--origin", "http://here", &url]].concat());
    let (mut stream, _) = listener.accept().unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    stream.write_all(b"HTTP/1.1 429 Too Many Requests\r\n\r\nslow down\x1b[2J").unwrap();
    drop(stream);
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("GET /path?q HTTP/1.1\r\n"), "{head}");
    for line in ["Sec-WebSocket-Protocol: one, two", "X-Token: a: b", "Origin: http://here"] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line} is not in {head}");
    }
    let output = finish(child);
    assert_ends(&output, 2, b"", "429");
    assert!(!output.stderr.contains(&0x1b), "a refusal must not reach the terminal raw");
}

#[test]
fn pings_are_answered_and_their_time_is_shown() {
    let server = serve(&[]);
    let mut child = start(&["--ping-every", "20ms", &server.url()]);
    wait_for(&mut child, "pong after");
    drop(child.stdin.take());
    assert_ends(&finish(child), 0, b"", "closed: 1000");
}

#[test]
fn close_of_the_server_is_shown() {
    let server = serve(&["--max-message", "10"]);
    let output = pipe(&[&server.url()], b"12345678901\n");
    // Our own Close may leave before the server's is read; what it says is shown in any case.
    assert_ends(&output, 1, b"", "1009 message too big");
    let mut child = start(&[&server.url()]);
    let _stdin = child.stdin.take();
    wait_for(&mut child, "connected");
    server.signal(Signal::INT);
    assert_ends(&finish(child), 0, b"", "closed by the server: 1001");
}

#[test]
fn end_without_a_close_is_abnormal() {
    let server = serve(&[]);
    let mut child = start(&[&server.url()]);
    let _stdin = child.stdin.take();
    wait_for(&mut child, "connected");
    server.signal(Signal::KILL);
    assert_ends(&finish(child), 1, b"", "1006");
}

#[test]
fn interrupt_closes_properly() {
    let mut server = serve(&["--log", "debug"]);
    let mut child = start(&[&server.url()]);
    let _stdin = child.stdin.take();
    wait_for(&mut child, "connected");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    server.wait_for("closed: 1000");
    assert_ends(&finish(child), 0, b"", "closed: 1000");
}
