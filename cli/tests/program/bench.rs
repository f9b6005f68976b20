//! `corewire bench`, against the server and against fakes.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::process::Output;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::fake;
use crate::process::{Server, corewire, finish, run, serve, serve_as};
use crate::scrap::Scrap;

/// A run that takes no longer than it has to.
const SHORT: [&str; 4] = ["--duration", "300ms", "--warm-up", "50ms"];

fn bench(url: &str, args: &[&str]) -> Output {
    run(&[&["bench", url], args].concat())
}

/// What a successful run with --json says.
#[track_caller]
fn json(url: &str, args: &[&str]) -> Value {
    let output = bench(url, &[args, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A run that fails with one line.
#[track_caller]
fn assert_fails(output: &Output, code: i32, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(output.stdout.is_empty());
    for word in words {
        assert!(stderr.contains(word), "{word:?} is not in {stderr}");
    }
}

#[test]
fn closed_loop_reports_rates_latencies_and_a_plot() {
    let server = serve(&[]);
    let output = bench(&server.url(), &[&SHORT[..], &["--in-flight", "4"]].concat());
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stdout}");
    for word in ["50 connections, 4 in flight, 20 B binary", "messages", "/s", "p99.9", "generator"]
    {
        assert!(stdout.contains(word), "{word:?} is not in {stdout}");
    }
    assert!(stdout.contains('█') && !stdout.contains('\u{1b}'), "{stdout}");
    assert!(stdout.lines().skip(1).all(|line| line.chars().count() <= 80), "{stdout}");
    server.signal(Signal::INT);
    let (_, log) = server.wait();
    assert!(log.contains(": 50 connections") && !log.contains("of note"), "{log}");
}

#[test]
fn json_is_one_object_with_every_field() {
    let server = serve(&["--threads", "1"]);
    let pid = server.pid().to_string();
    let report = json(&server.url(), &[&SHORT[..], &["--threads", "2", "--pid", &pid]].concat());
    for field in ["url", "connections", "threads", "in_flight", "payload_bytes", "opcode"] {
        assert!(!report[field].is_null(), "{field}: {report}");
    }
    assert_eq!(report["is_interrupted"], false);
    assert_eq!(report["handshakes"]["count"], 50);
    let messages = &report["messages"];
    for field in
        ["count", "seconds", "per_second", "server_cpu_ns_each", "server_busiest_thread_share"]
    {
        assert!(messages[field].as_f64().unwrap() > 0.0, "{field}: {report}");
    }
    for field in ["generator_busy_share", "generator_cpu_share", "generator_empty_polls_share"] {
        assert!(messages[field].is_f64(), "{field}: {report}");
    }
    assert_eq!(messages["count"], messages["measured_latencies"]);
    let latency = |name: &str| messages["latency_ns"][name].as_u64().unwrap();
    let latencies = ["p50", "p90", "p99", "p99_9", "max"].map(latency);
    assert!(latencies.is_sorted() && latencies[0] > 0, "{report}");
}

#[test]
fn open_loop_sends_what_was_asked_for_to_the_message() {
    let server = serve(&[]);
    for threads in ["1", "3"] {
        let args =
            ["--rate", "2000", "--duration", "400ms", "--warm-up", "100ms", "--threads", threads];
        let report = json(&server.url(), &[&args[..], &["--connections", "7"]].concat());
        let messages = &report["messages"];
        let count = messages["measured_latencies"].as_u64().unwrap();
        // At each end of the time a message of each thread may fall to either side.
        assert!((794..=806).contains(&count), "{report}");
        assert_eq!(messages["unanswered"], 0);
        assert_eq!(report["rate_per_second"], 2000);
    }
}

#[test]
fn large_texts_come_back_whole() {
    let server = serve(&[]);
    // Unoptimised, a text takes long to be checked.
    let args = ["--bytes", "150KiB", "--opcode", "text", "--connections", "1", "--in-flight", "2"];
    let report =
        json(&server.url(), &[&args[..], &["--duration", "2s", "--warm-up", "0s"]].concat());
    assert!(report["messages"]["count"].as_u64().unwrap() > 0, "{report}");
}

/// A server that can be had over TLS, over a Unix socket and compressed; and how.
fn serve_every_way() -> (Server, Scrap, Vec<Vec<String>>) {
    let socket = Scrap::new("");
    fs::remove_file(&socket.0).unwrap();
    let file = Scrap::new(&format!(
        "compression = \"shared\"\n\
         [[listener]]\nlisten = \"127.0.0.1:0\"\n\
         [[listener]]\nlisten = \"127.0.0.1:0\"\ntls-self-signed = true\n\
         [[listener]]\nlisten = \"unix:{}\"\n",
        socket.name()
    ));
    let mut server = serve_as(&mut corewire(&["serve", "--config", file.name()]));
    let secure = format!("wss://127.0.0.1:{}/", server.next_port());
    server.wait_for(socket.name());
    let unix = format!("ws+unix:{}:/", socket.name());
    let ways = [
        vec![server.url(), "--compression=shared".into()],
        vec![secure.clone(), "--insecure".into()],
        vec![unix],
        vec![secure, "--insecure".into(), "--compression=dedicated".into()],
    ];
    (server, socket, ways.to_vec())
}

#[test]
fn every_way_to_a_server_is_measured() {
    let (_server, _socket, ways) = serve_every_way();
    for way in ways {
        let flags: Vec<&str> = way[1..].iter().map(String::as_str).collect();
        let run = |args: &[&str]| json(&way[0], &[args, &flags[..]].concat());
        let many = ["--connections", "70", "--in-flight", "30", "--threads", "2"];
        let report = run(&[&SHORT[..], &many].concat());
        assert!(report["messages"]["count"].as_u64().unwrap() > 70 * 30, "{report}");
        assert_eq!(report["handshakes"]["count"], 70);
        let report = run(&[&SHORT[..], &["--rate", "2000", "--connections", "10"]].concat());
        let count = report["messages"]["count"].as_u64().unwrap();
        assert!((400..=800).contains(&count), "{report}");
        assert_eq!(report["messages"]["unanswered"], 0);
        let large = ["--bytes", "300KiB", "--in-flight", "2", "--connections", "1"];
        let report = run(&[&large[..], &["--duration", "1500ms", "--warm-up", "0s"]].concat());
        assert!(report["messages"]["count"].as_u64().unwrap() > 0, "{report}");
    }
}

#[test]
fn handshakes_of_every_way_are_measured() {
    let (server, _socket, ways) = serve_every_way();
    for way in &ways {
        let flags: Vec<&str> = way[1..].iter().map(String::as_str).collect();
        let run = |args: &[&str]| json(&way[0], &[args, &flags[..]].concat());
        let held = run(&["--connect-only", "--connections", "150", "--at-once", "30"]);
        assert_eq!(held["handshakes"]["count"], 150);
        let repeat = ["--connect-only=repeat", "--connections", "5", "--duration", "300ms"];
        let report = run(&repeat);
        assert!(report["handshakes"]["count"].as_u64().unwrap() > 5, "{report}");
    }
    server.signal(Signal::INT);
    let (_, log) = server.wait();
    assert!(!log.contains("of note"), "{log}");
}

#[test]
fn connections_are_held_and_weighed() {
    let server = serve(&["--threads", "1"]);
    let pid = server.pid().to_string();
    let args = ["--connect-only", "--connections", "700", "--at-once", "30", "--pid", &pid];
    let report = json(&server.url(), &args);
    let handshakes = &report["handshakes"];
    assert_eq!(handshakes["count"], 700);
    assert!(report["messages"].is_null() && report["in_flight"].is_null());
    for field in ["per_second", "server_cpu_ns_each", "server_rss_bytes_each"] {
        assert!(handshakes[field].as_f64().unwrap() > 0.0, "{field}: {report}");
    }
    server.signal(Signal::INT);
    assert!(server.wait().1.contains(": 700 connections, 0 messages in"));
}

#[test]
fn handshakes_are_repeated_and_each_connection_is_closed_properly() {
    let server = serve(&["--log", "debug"]);
    let args = ["--connect-only=repeat", "--connections", "5", "--duration", "300ms"];
    let report = json(&server.url(), &args);
    let count = report["handshakes"]["count"].as_u64().unwrap();
    assert!(count > 5, "{report}");
    server.signal(Signal::INT);
    let (_, log) = server.wait();
    let closed = log.lines().filter(|line| line.contains("closed: 1000")).count() as u64;
    assert!(closed + 5 >= count, "{count} handshakes, {closed} closed");
}

#[test]
fn source_addresses_are_used_in_turn() {
    let server = serve(&["--log", "debug"]);
    let from = ["--from", "127.0.0.2-127.0.0.3", "--from", "127.0.1.0/30"];
    let args = ["--connect-only", "--connections", "8", "--threads", "2"];
    json(&server.url(), &[&from[..], &args].concat());
    server.signal(Signal::INT);
    let (_, log) = server.wait();
    for address in ["127.0.0.2", "127.0.0.3", "127.0.1.1", "127.0.1.2"] {
        let opened = |line: &&str| line.contains(&format!("{address}:")) && line.contains(" GET /");
        assert_eq!(log.lines().filter(opened).count(), 2, "{address}: {log}");
    }
    // Nobody may connect from an address that is not this machine's.
    let output = bench(&server_url_of_nobody(), &["--from", "192.0.2.1"]);
    assert_fails(&output, 2, &["192.0.2.1"]);
}

fn server_url_of_nobody() -> String {
    "ws://127.0.0.1:1/".into()
}

#[test]
fn server_that_cannot_be_reached_is_exit_2() {
    assert_fails(&bench(&server_url_of_nobody(), &[]), 2, &["127.0.0.1:1", "refused"]);
    assert_fails(&bench(&server_url_of_nobody(), &LOOPED), 2, &["127.0.0.1:1", "refused"]);
    assert_fails(&bench("ws+unix:/nowhere.sock:/", &[]), 2, &["/nowhere.sock", "No such file"]);
    assert_fails(&bench("http://127.0.0.1/", &[]), 2, &["not ws or wss"]);
}

#[test]
fn refused_handshake_is_one_line_and_exit_1() {
    let server = serve(&[]);
    let url = fake::serve(drop);
    for args in [&[][..], &LOOPED] {
        assert_fails(&bench(&(server.url() + "elsewhere"), args), 1, &["404", "no WebSocket"]);
        let output = bench(&url, &[&["--connections", "1"], args].concat());
        assert_fails(&output, 1, &["a handshake failed"]);
    }
    let server = serve(&["--tls-self-signed"]);
    assert_fails(&bench(&server.secure_url(), &[]), 1, &["a handshake failed", "--insecure"]);
}

/// What is carried by the library's loop, whether a server agrees to it or not.
const LOOPED: [&str; 2] = ["--compression", "shared"];

/// What only trouble ends.
const ENDLESS: [&str; 4] = ["--connections", "2", "--duration", "1h"];

/// What a run against a fake server ends with, whatever carries its connections.
#[track_caller]
fn assert_trouble(script: fn(TcpStream), words: &[&str]) {
    let url = fake::serve(script);
    assert_fails(&bench(&url, &ENDLESS), 1, words);
    assert_fails(&bench(&url, &[&ENDLESS[..], &LOOPED].concat()), 1, words);
}

/// Opens a WebSocket, reads a message and answers with this.
fn answer(mut stream: TcpStream, answer: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    let accept = fake::accept(&mut stream);
    stream.write_all(&accept).unwrap();
    let payload = fake::payload(&mut stream);
    stream.write_all(&answer(payload)).unwrap();
    // The other end is the first to go.
    let _ = std::io::copy(&mut stream, &mut std::io::sink());
}

#[test]
fn wrong_echo_is_one_line_and_exit_1() {
    let changed = |stream| {
        answer(stream, |mut payload| {
            payload[7] ^= 1;
            [vec![0x82, 20], payload].concat()
        });
    };
    assert_trouble(changed, &["wrong echo", "byte 7"]);
    let short = |stream| answer(stream, |payload| [&[0x82, 19], &payload[..19]].concat());
    assert_trouble(short, &["wrong echo", "19 bytes", "20"]);
    let text = |stream| answer(stream, |_| [&[0x81, 20][..], &[b'a'; 20]].concat());
    assert_trouble(text, &["wrong echo", "Text", "Binary"]);
    let twice = |stream| {
        answer(stream, |payload| [vec![0x82, 20], payload].concat().repeat(2));
    };
    // On the loop the next message is due before the second answer is seen, which then counts for it.
    assert_fails(&bench(&fake::serve(twice), &ENDLESS), 1, &["wrong echo", "more messages"]);
    let masked = |stream| answer(stream, |_| vec![0x82, 0x80, 1, 2, 3, 4]);
    assert_trouble(masked, &["broke the protocol"]);
}

#[test]
fn message_behind_the_handshake_is_none_that_was_asked_for() {
    let greeting = |mut stream: TcpStream| {
        let accept = fake::accept(&mut stream);
        let message = [&[0x82, 20][..], &std::array::from_fn::<u8, 20, _>(|at| at as u8)].concat();
        stream.write_all(&[accept, message].concat()).unwrap();
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    };
    assert_trouble(greeting, &["more messages came than were sent"]);
}

#[test]
fn server_that_closes_is_one_line_and_exit_1() {
    let close = |stream| answer(stream, |_| b"\x88\x07\x03\xf3bored".to_vec());
    assert_trouble(close, &["1011", "bored"]);
    let end = |mut stream: TcpStream| {
        let accept = fake::accept(&mut stream);
        stream.write_all(&accept).unwrap();
        fake::payload(&mut stream);
    };
    assert_trouble(end, &["the server ended the stream"]);
}

#[test]
fn interrupted_run_still_reports() {
    let mut server = serve(&["--log", "debug"]);
    let url = server.url();
    let child = corewire(&["bench", &url, "--duration", "1h", "--warm-up", "0s"]).spawn().unwrap();
    server.wait_for("open as");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = finish(child);
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stdout}");
    assert!(stdout.contains("interrupted") && stdout.contains("handshakes"), "{stdout}");
}

#[test]
fn more_connections_than_descriptors_are_told_what_is_possible() {
    let output = bench("ws://127.0.0.1:1/", &["--connections", "10000000"]);
    assert_fails(&output, 2, &["--connections", "possible", "ulimit"]);
}

#[test]
fn flags_that_make_no_sense_are_one_line_and_exit_2() {
    let url = "ws://127.0.0.1:1/";
    for (args, word) in [
        (&["--connections", "0"][..], "--connections"),
        (&["--rate", "5", "--in-flight", "2"], "--in-flight"),
        (&["--connect-only", "--rate", "5"], "--rate"),
        (&["--connect-only=often"], "hold"),
        (&["--from", "here"], "127.0.0.0/24"),
        (&["--from", "::1"], "--from"),
        (&["--from", "127.0.0.1", "--compression", "shared"], "--from"),
        (&["--user", "a"], "USER:PASSWORD"),
        (&["--bytes", "2GiB"], "--bytes"),
        (&["--opcode", "ping"], "binary"),
        (&["--pid", "4294967295"], "--pid"),
    ] {
        assert_fails(&bench(url, args), 2, &[word]);
    }
}
