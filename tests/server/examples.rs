//! Each example is run, and does what it says.
//!
//! `cargo test` builds the examples before the tests; a single test target does not.

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;

use crate::client::Client;
use crate::running::Directory;

/// An example as a child process, killed at the end if it still runs.
struct Example {
    child: Child,
    output: BufReader<ChildStdout>,
    /// The line that says where it listens.
    line: String,
}

impl Example {
    fn start(name: &str, args: &[&str]) -> Example {
        let test = env::current_exe().unwrap();
        let path = test.ancestors().nth(2).unwrap().join("examples").join(name);
        let mut command = Command::new(&path);
        command.arg("127.0.0.1:0").args(args).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!("{}: {error}; build it with `cargo build --examples`", path.display())
        });
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        Example { child, output, line }
    }

    /// The address that follows `words`.
    fn address(&self, words: &str) -> SocketAddr {
        let (_, behind) = self.line.split_once(words).unwrap_or_else(|| panic!("{}", self.line));
        behind.split([',', '\n']).next().unwrap().trim().parse().unwrap()
    }

    fn open(&self, path: &str) -> Client {
        let mut client = Client::dial(self.address("listening on "));
        client.upgrade(path);
        client
    }

    /// Waits for the example's own end; gives what it still said.
    fn finish(mut self) -> String {
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success());
        rest
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn echo_sends_back() {
    let example = Example::start("echo", &[]);
    let mut client = example.open("/");
    client.say("Hello");
    assert_eq!(client.text(), "Hello");
    client.close();
}

#[test]
fn codec_only_sends_back_without_the_loop() {
    let example = Example::start("codec_only", &[]);
    let mut client = example.open("/");
    for n in 0..100 {
        client.say(&format!("message {n}"));
    }
    for n in 0..100 {
        assert_eq!(client.text(), format!("message {n}"));
    }
    client.close();
}

#[test]
fn chat_speaks_to_those_in_the_room_alone() {
    let example = Example::start("chat", &[]);
    let mut anna = example.open("/blue");
    assert_eq!(anna.text(), "1 in the room");
    let mut bert = example.open("/blue");
    assert_eq!([anna.text(), bert.text()], ["2 in the room", "2 in the room"]);
    let mut carl = example.open("/red");
    assert_eq!(carl.text(), "1 in the room");
    bert.say("hello");
    let line = anna.text();
    assert!(line.ends_with(": hello"), "{line}");
    assert_eq!(bert.text(), line);
    bert.close();
    assert!(anna.text().ends_with(" has left"));
    // Nothing of all this came to the other room.
    carl.say("alone");
    assert!(carl.text().ends_with(": alone"));
}

#[test]
fn chat_wants_a_room() {
    let example = Example::start("chat", &[]);
    let mut client = Client::dial(example.address("listening on "));
    assert!(client.ask("/", "").starts_with("HTTP/1.1 404 "));
}

#[test]
fn chat_names_its_visitors_and_has_a_page() {
    let example = Example::start("chat", &[]);
    // On both of its loops: all on one is a chance in 2^15.
    let mut visitors: Vec<_> = (1..=16).map(|_| example.open("/tea%20room?name=%41nna")).collect();
    for (place, visitor) in visitors.iter_mut().enumerate() {
        visitor.wait_for("Anna has joined, 16 in the room");
        if place == 0 {
            visitor.say("hello: all");
        }
    }
    visitors.iter_mut().for_each(|visitor| visitor.wait_for("Anna: hello: all"));
    // Names cannot pass for what somebody else has said.
    let mut other = example.open("/tea%20room?name=Anna%3A%20%0A");
    other.wait_for("Anna has joined, 17 in the room");
    for room in ["/+", "/%23", "/a%00", &format!("/{}", "x".repeat(251))] {
        let mut client = Client::dial(example.address("listening on "));
        assert!(client.ask(room, "").starts_with("HTTP/1.1 400 "), "{room}");
    }
    let mut browser = Client::dial(example.address("listening on "));
    browser.0.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let head = browser.head();
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("default-src 'none'"), "{head}");
}

#[test]
fn auth_lets_in_who_has_a_password_or_a_token() {
    let example = Example::start("auth", &[]);
    let ask = |credentials: &str| {
        let mut client = Client::dial(example.address("listening on "));
        let head = client.ask("/", &format!("Authorization: {credentials}\r\n"));
        (client, head)
    };
    for (credentials, name) in [
        // anna:open sesame, bert:shibboleth
        ("Basic YW5uYTpvcGVuIHNlc2FtZQ==", "anna"),
        ("basic YmVydDpzaGliYm9sZXRo", "bert"),
        ("Bearer t-4711", "carla"),
        ("BEARER t-0815", "dieter"),
    ] {
        let (mut client, head) = ask(credentials);
        assert!(head.starts_with("HTTP/1.1 101 "), "{credentials}: {head}");
        assert_eq!(client.text(), format!("welcome, {name}"));
        client.say("Hello");
        assert_eq!(client.text(), "Hello");
        client.close();
    }
    for credentials in [
        "",
        "Basic",
        "Basic ****",
        // anna:shibboleth
        "Basic YW5uYTpzaGliYm9sZXRo",
        "Bearer YW5uYTpvcGVuIHNlc2FtZQ==",
        "Bearer t-4712",
        "Bearer ",
        "Digest t-4711",
    ] {
        let (_, head) = ask(credentials);
        assert!(head.starts_with("HTTP/1.1 401 "), "{credentials}: {head}");
        assert_eq!(head.matches("\r\nWWW-Authenticate: B").count(), 2, "{head}");
    }
}

#[test]
fn gateway_asks_the_back_end_that_lives() {
    let back_ends = [Example::start("echo", &[]), Example::start("echo", &[])];
    let urls = back_ends.each_ref().map(|one| format!("ws://{}/", one.address("listening on ")));
    let gateway = Example::start("gateway", &urls.each_ref().map(String::as_str));
    let mut visitors: Vec<_> = (0..8).map(|_| gateway.open("/")).collect();
    // Questions of one visitor that come together are answered one after another.
    visitors[0].say("first");
    visitors[0].say("second");
    assert_eq!([visitors[0].text(), visitors[0].text()], ["first", "second"]);
    let mut round = |number: u32| -> usize {
        let question = |visitor: usize| format!("question {number} of {visitor}");
        for (place, visitor) in visitors.iter_mut().enumerate() {
            visitor.say(&question(place));
        }
        let mut sorry = 0;
        for (place, visitor) in visitors.iter_mut().enumerate() {
            let answer = visitor.text();
            sorry += usize::from(answer.starts_with("sorry: "));
            assert!(answer.starts_with("sorry: ") || answer == question(place), "{answer}");
        }
        sorry
    };
    assert_eq!((0..20).map(&mut round).sum::<usize>(), 0);
    let [dead, _living] = back_ends;
    drop(dead);
    // What was under way there, and what was sent before its end was seen, is apologised for.
    let sorry: usize = (20..120).map(&mut round).sum();
    assert!(sorry <= 8, "{sorry} times");
    assert_eq!((120..220).map(&mut round).sum::<usize>(), 0);
}

#[test]
fn ticker_ticks_and_shuts_down() {
    let example = Example::start("ticker", &["5"]);
    let mut client = example.open("/");
    client.wait_for("tick 4");
    let (opcode, payload) = client.frame();
    assert_eq!((opcode, &payload[..]), (8, &1001u16.to_be_bytes()[..]));
    client.send(8, &payload);
    assert!(example.finish().contains("to 1 clients"));
}

#[test]
#[cfg(target_os = "linux")]
fn own_loop_echoes_and_passes_datagrams_on() {
    let example = Example::start("own_loop", &["127.0.0.1:0"]);
    let mut clients = [example.open("/"), example.open("/")];
    for client in &mut clients {
        client.say("Hello");
        assert_eq!(client.text(), "Hello");
    }
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.send_to(b"news", example.address("datagrams to ")).unwrap();
    for client in &mut clients {
        assert_eq!(client.frame(), (2, b"news".to_vec()));
    }
}

#[test]
fn two_listeners_tell_their_doors_apart() {
    let directory = Directory::new();
    let path = directory.path("inside");
    let example = Example::start("two_listeners", &[path.to_str().unwrap()]);
    assert!(example.line.ends_with(&format!(", unix:{}\n", path.display())), "{}", example.line);
    let mut browser = example.open("/");
    let mut program = Client::over(UnixStream::connect(&path).unwrap());
    program.upgrade("/");
    assert_eq!([browser.text(), program.text()], ["public", "inside"]);
    let long = "x".repeat(101);
    program.say(&long);
    assert_eq!(program.text(), long);
    browser.say(&long);
    assert_eq!(browser.frame().1[..2], 1009u16.to_be_bytes());
}

#[test]
fn script_asks_prints_the_answers_and_leaves() {
    let echo = Example::start("echo", &[]);
    let url = format!("ws://{}/", echo.address("listening on "));
    let script = |questions: &[&str], input: &str| {
        let path = env::current_exe().unwrap();
        let path = path.ancestors().nth(2).unwrap().join("examples/script");
        let mut command = Command::new(path);
        command.arg(&url).args(questions).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
        let feeding = thread::spawn(move || stdin.write_all(input.as_bytes()).unwrap());
        let output = child.wait_with_output().unwrap();
        feeding.join().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(script(&["Hello", "Ä"], ""), "Hello\nÄ\nclosed with 1000\n");
    let lines: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
    assert_eq!(script(&[], &lines), lines + "closed with 1000\n");
}

#[test]
fn under_tokio_echoes_beside_other_tasks() {
    let example = Example::start("under_tokio", &[]);
    let mut client = example.open("/");
    client.wait_for("from a task");
    client.say("Hello");
    client.wait_for("Hello");
    client.wait_for("from a task");
    client.close();
}
