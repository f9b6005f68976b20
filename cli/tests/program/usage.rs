//! The command line: what is said to people who hold it wrong.

use std::net::TcpListener;
use std::process::Output;

use crate::process::{corewire, finish, run};

#[track_caller]
fn assert_one_line(output: &Output, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(output.stdout.is_empty());
    for word in words {
        assert!(stderr.contains(word), "{word:?} is not in {stderr}");
    }
}

#[test]
fn port_in_use_is_one_line_and_exit_2() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    for threads in ["1", "2"] {
        let output = run(&["serve", "--listen", &address, "--threads", threads]);
        assert_one_line(&output, &[&address, "in use"]);
    }
}

#[test]
fn port_of_another_corewire_with_many_threads_is_in_use_too() {
    let server = crate::process::serve(&["--threads", "2"]);
    let address = format!("127.0.0.1:{}", server.port);
    let output = run(&["serve", "--listen", &address, "--threads", "2"]);
    assert_one_line(&output, &[&address, "in use"]);
}

#[test]
fn bad_flag_is_one_line_and_exit_2() {
    assert_one_line(&run(&["serve", "--lisen", "x"]), &["--lisen", "--listen"]);
    assert_one_line(&run(&["serve", "--threads", "0"]), &["--threads"]);
    assert_one_line(&run(&["serve", "--max-message", "1 parsec"]), &["--max-message", "MiB"]);
    assert_one_line(&run(&["serve", "--ping-every", "10"]), &["--ping-every", "30s"]);
    assert_one_line(&run(&["serve", "--ping-every", "0s"]), &["--ping-every", "zero"]);
    assert_one_line(&run(&["serve", "--dead-after", "0ms"]), &["--dead-after", "zero"]);
    assert_one_line(&run(&["connect", "--ping-every", "0s", "ws://a/"]), &["--ping-every", "zero"]);
    assert_one_line(&run(&["serve", "--listen", "nonsense"]), &["--listen", "HOST:PORT"]);
    assert_one_line(&run(&["serve", "--origin", "any", "--origin", "same"]), &["--origin"]);
    assert_one_line(&run(&["serve", "--log", "loud"]), &["--log"]);
    assert_one_line(&run(&["fly"]), &["fly"]);
    assert_one_line(&run(&["connect"]), &["URL"]);
}

#[test]
fn bad_test_switch_is_an_error_too() {
    let mut command = corewire(&["serve", "--listen", "127.0.0.1:0"]);
    command.env("COREWIRE_TEST_READ_BYTES", "many");
    let output = finish(command.spawn().unwrap());
    assert_one_line(&output, &["COREWIRE_TEST_READ_BYTES"]);
}

/// Some of those that `serve` takes.
const SERVE_FLAGS: [&str; 31] = [
    "listen",
    "threads",
    "pin",
    "max-message",
    "max-backpressure",
    "max-connections",
    "max-connections-per-address",
    "spread",
    "memory-budget",
    "memory-reaction",
    "topics",
    "topic-policy",
    "topic-backlog",
    "max-subscriptions",
    "ping-every",
    "dead-after",
    "no-heartbeat",
    "handshake-timeout",
    "close-timeout",
    "origin",
    "backlog",
    "rcvbuf",
    "sndbuf",
    "keepalive",
    "drain-window",
    "drain-grace",
    "drain-code",
    "max-lifetime",
    "echo-streaming",
    "log",
    "quiet",
];

#[test]
fn help_names_every_command_and_flag_with_examples() {
    let help = |args: &[&str]| {
        let output = run(args);
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).unwrap()
    };
    let top = help(&["--help"]);
    for word in ["serve", "connect", "Examples:", "ws://127.0.0.1:9001/"] {
        assert!(top.contains(word), "{word}");
    }
    let serve = help(&["serve", "--help"]);
    for flag in SERVE_FLAGS {
        assert!(serve.contains(&format!("--{flag}")), "{flag}");
    }
    assert!(serve.contains("Examples:") && serve.contains("[default: 127.0.0.1:9001]"));
    let connect = help(&["connect", "--help"]);
    assert!(connect.contains("--subprotocol") && connect.contains("Exit status"));
    let bench = help(&["bench", "--help"]);
    for flag in [
        "connections",
        "bytes",
        "opcode",
        "in-flight",
        "rate",
        "connect-only",
        "duration",
        "warm-up",
        "threads",
        "at-once",
        "from",
        "pid",
        "json",
        "subprotocol",
        "header",
    ] {
        assert!(bench.contains(&format!("--{flag}")), "{flag}");
    }
    assert!(bench.contains("Examples:") && bench.contains("Exit status"));
}

#[test]
fn version_is_told() {
    let output = run(&["--version"]);
    assert_eq!(output.stdout, format!("corewire {}\n", env!("CARGO_PKG_VERSION")).as_bytes());
}
