//! `serve` with little memory, and what it says of it.

use rustix::process::Signal;

use crate::client::{Client, TEXT};
use crate::process::serve;

/// No program is as small.
const LITTLE: &str = "1MiB";

const CRITICAL: &str = "memory pressure Normal -> Critical";

#[test]
fn server_beyond_its_budget_says_so_and_lets_nobody_in() {
    let mut server = serve(&["--threads", "1", "--memory-budget", LITTLE]);
    server.wait_for("memory: at most 1.0 MiB");
    let line = server.wait_for(CRITICAL);
    assert!(line.contains("thread 0: ") && line.contains(" % of 1.0 MiB; "), "{line}");
    let answer = Client::dial(server.port).upgrade("/", "");
    assert_eq!(answer.status, 503);
    assert!(answer.head.contains("\r\nRetry-After: 5\r\n"), "{answer:?}");
    server.signal(Signal::TERM);
    let (status, log) = server.wait();
    assert!(status.success());
    assert!(log.contains("1 handshakes refused for want of memory"), "{log}");
    assert!(log.contains("1 changes of the memory pressure"), "{log}");
}

#[test]
fn only_what_is_wanted_is_done_about_scarce_memory() {
    for reactions in [&["none"][..], &["shrink", "flush", "hold", "plain", "close"]] {
        let reactions = reactions.iter().flat_map(|name| ["--memory-reaction", *name]);
        let args: Vec<_> = ["--memory-budget", LITTLE].into_iter().chain(reactions).collect();
        let mut server = serve(&args);
        server.wait_for(CRITICAL);
        Client::open(server.port).echo(TEXT, b"as ever");
    }
    let mut server = serve(&["--memory-budget", LITTLE, "--memory-reaction", "refuse"]);
    server.wait_for(CRITICAL);
    assert_eq!(Client::dial(server.port).upgrade("/", "").status, 503);
}

#[test]
fn who_wants_no_budget_has_none_and_who_says_nothing_that_of_the_system() {
    let mut server = serve(&["--memory-budget", "off"]);
    server.wait_for("memory: not watched");
    Client::open(server.port).echo(TEXT, b"as ever");
    let mut server = serve(&[]);
    let line = server.wait_for("memory: at most ");
    assert!(line.ends_with("iB"), "{line}");
}

#[test]
fn least_loaded_thread_has_the_next_connection_where_that_is_wanted() {
    let mut server = serve(&["--threads", "2", "--spread", "least-loaded", "--log", "debug"]);
    let mut clients = Vec::new();
    let mut counts = [0; 2];
    for _ in 0..8 {
        clients.push(Client::open(server.port));
        let line = server.wait_for(" open as ");
        counts[usize::from(line.contains(" open as 1/"))] += 1;
    }
    assert_eq!(counts, [4, 4]);
    for client in &mut clients {
        client.echo(TEXT, b"through the acceptor");
    }
}
