//! The file of settings: what is refused and how it is told, what is in force, and who wins.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::process::Output;

use crate::client::{BINARY, Client, PING};
use crate::process::{corewire, run, serve_as};
use crate::scrap::Scrap;

/// What is said about a file, without its name: `3: max-message: it takes text, in quotes`.
#[track_caller]
fn refusals(text: &str) -> Vec<String> {
    let file = Scrap::new(text);
    let output = run(&["serve", "--config", file.name()]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}\n{stderr}");
    assert!(output.stdout.is_empty());
    let name = format!("{}:", file.name());
    let line = |line: &str| line.strip_prefix(&name).map(str::to_owned);
    stderr.lines().map(|it| line(it).unwrap_or_else(|| panic!("no {name} in {it}"))).collect()
}

/// What `--print-config` prints.
#[track_caller]
fn printed(args: &[&str]) -> String {
    let Output { status, stdout, stderr } = run(&[&["serve", "--print-config"], args].concat());
    assert!(status.success() && stderr.is_empty(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// The document without who set what.
fn values(document: &str) -> String {
    let value = |line: &str| match line.rsplit_once("  # ") {
        Some((value, _)) => value.to_owned(),
        None => line.to_owned(),
    };
    document.lines().map(value).collect::<Vec<_>>().join("\n")
}

/// Each text has one mistake, and this is how it is told, at least to begin with.
#[track_caller]
fn assert_refused<const N: usize>(cases: [(&str, &str); N]) {
    for (text, refusal) in cases {
        let told = refusals(text);
        let [one] = &told[..] else { panic!("{text}: {told:#?}") };
        assert!(one.starts_with(refusal), "{text}: {one}");
    }
}

#[test]
fn what_is_no_setting_is_refused_with_its_line_and_the_reason() {
    assert_refused([
        ("\n[time\n", "2: "),
        ("log = \"info\"\nlog = \"warn\"", "2: duplicate key"),
        ("max-mesage = 1", "1: max-mesage: there is no such setting; perhaps max-message"),
        ("[limits]\nmax-message = 1", "1: limits: there is no such table; there are listening"),
        ("[time]\nbacklog = 1", "2: backlog: it belongs in [listening]"),
        ("config = \"x\"", "1: config: there is no such setting"),
    ]);
}

#[test]
fn what_has_the_wrong_type_or_unit_is_refused_with_its_line_and_the_reason() {
    assert_refused([
        ("pin = 1", "1: pin: it is true or false"),
        ("max-message = true", "1: max-message: it takes text, in quotes"),
        ("ping-every = 30", "1: ping-every: a duration is a number and ms, s, m or h"),
        ("backlog = \"5\"", "1: backlog: it takes a number, without quotes"),
        ("backlog = 5.5", "1: backlog: it takes a number, without quotes"),
        ("backlog = [5]", "1: backlog: it takes one value, not a list"),
        ("origin = [1979-05-27]", "1: origin: it takes text, in quotes"),
        ("log.level = \"info\"", "1: log: it takes text, in quotes"),
        ("[messages]\n\nmax-message = \"1 parsec\"", "3: max-message: a size is a number"),
        ("dead-after = \"90\"", "1: dead-after: a duration is a number and ms, s, m or h"),
    ]);
}

#[test]
fn what_cannot_be_is_refused_with_its_line_and_the_reason() {
    assert_refused([
        ("ping-every = \"0s\"", "1: ping-every: it has to be longer than zero"),
        ("handshake-timeout = \"0s\"", "1: handshake-timeout: it has to be longer than zero"),
        ("threads = 0", "1: threads: 0 is not in 1..=256"),
        ("threads = 0x1_01", "1: threads: 257 is not in 1..=256"),
        ("max-connections = 0", "1: max-connections: 0 is not in 1..=4294967295"),
        ("backlog = -1", "1: backlog: -1 is not in 0..=4294967295"),
        ("compression-level = 10", "1: compression-level: 10 is not in 1..=9"),
        ("compression = \"dedicated:8:8\"", "1: compression: no window has 8 bits"),
        ("log = \"loud\"", "1: log: error parsing level"),
        ("listen = [\"[::1]:9001\", \"nowhere\"]", "1: listen: an address is HOST:PORT"),
        ("listen = []", "1: listen: there is nowhere to listen"),
        ("origin = \"example.com\"", "1: origin: it is same, any or a URL"),
        ("listen = \"unix:\"", "1: listen: a Unix socket is unix:PATH or unix:@NAME"),
        ("proxy-protocol = \"10.0.0.1/8\"", "1: proxy-protocol: 10.0.0.1/8: the network's address"),
        ("proxy-protocol = [\"unix\", \"x\"]", "1: proxy-protocol: x: not an address"),
        ("forwarded = \"via\"", "1: forwarded: it is x-forwarded-for or forwarded"),
        ("trusted-proxies = \"10.0.0.0/33\"", "1: trusted-proxies: 10.0.0.0/33: the length"),
        ("ip-stack = \"both\"", "1: ip-stack: it is system, dual or v6-only"),
        ("unix-mode = 0o660", "1: unix-mode: it takes text, in quotes"),
        ("unix-mode = 999", "1: unix-mode: permissions are three octal digits"),
        ("keepalive = \"0s\"", "1: keepalive: it is whole seconds, from 1s to 32767s"),
        ("keepalive = \"500ms\"", "1: keepalive: it is whole seconds, from 1s to 32767s"),
        ("rcvbuf = \"4GiB\"", "1: rcvbuf: a socket's buffer is smaller than 2GiB"),
        ("sndbuf = \"2GiB\"", "1: sndbuf: a socket's buffer is smaller than 2GiB"),
        (
            "listen = \"systemd\"\n[[listener]]\nlisten = [\"127.0.0.1:1\", \"systemd\"]",
            "3: listen: there is one set of systemd's sockets",
        ),
    ]);
}

#[test]
fn what_contradicts_something_else_is_refused_with_its_line_and_the_reason() {
    assert_refused([
        ("origin = [\"any\", \"same\"]", "1: origin: same and any stand alone"),
        ("log = \"info\"\nquiet = true", "2: quiet: it cannot stand beside log in line 1"),
        (
            "no-heartbeat = true\n[time]\ndead-after = \"1m\"",
            "3: dead-after: it cannot stand beside no-heartbeat in line 1",
        ),
        (
            "low-water = 5000\nhigh-water = 4000",
            "2: high-water: low-water is 5000 bytes, more than the 4000",
        ),
        ("\nhigh-water = \"2MiB\"", "2: high-water: reading would pause at 2097152"),
        ("high-water = 8\nmax-backpressure = 4", "2: max-backpressure: reading would pause at 8"),
        ("ping-every = \"2m\"", "1: ping-every: whoever is silent would be dropped after 90s"),
        ("dead-after = \"30s\"", "1: dead-after: whoever is silent would be dropped after 30s"),
        ("backlog = 1\n[listening]\nbacklog = 2", "3: backlog: it is set in line 1 too"),
        (
            "tls-cert = \"a.pem\"",
            "1: tls-cert: each certificate has a key: there are 1 of tls-cert",
        ),
        ("tls-key = \"a.pem\"", "1: tls-key: each certificate has a key: there are 0 of tls-cert"),
        (
            "[tls]\ntls-cert = [\"a\", \"b\"]\ntls-key = \"c\"",
            "3: tls-key: each certificate has a key: there are 2 of tls-cert and 1 of tls-key",
        ),
        (
            "tls-key = \"/nowhere/a\"\ntls-cert = \"/nowhere/a\"",
            "2: tls-cert: /nowhere/a: No such file",
        ),
        (
            "tls-self-signed = true\ntls-cert = \"a\"",
            "2: tls-cert: it cannot stand beside tls-self-signed in line 1",
        ),
        ("\ntls13-only = true", "2: tls13-only: there are no certificates"),
        (
            "tls-self-signed = true\ntls13-only = true\n\
             [[listener]]\nlisten = \"127.0.0.1:1\"\ntls-self-signed = false",
            "2: tls13-only: there are no certificates",
        ),
    ]);
}

#[test]
fn field_without_proxies_and_proxies_without_a_field_are_refused_with_their_lines() {
    let together = "forwarded and trusted-proxies go together";
    assert_refused([
        ("forwarded = \"forwarded\"", &format!("1: forwarded: {together}")),
        ("\ntrusted-proxies = \"unix\"", &format!("2: trusted-proxies: {together}")),
        (
            "forwarded = \"forwarded\"\ntrusted-proxies = []",
            &format!("2: trusted-proxies: {together}"),
        ),
        (
            "[[listener]]\nlisten = \"127.0.0.1:1\"\nforwarded = \"x-forwarded-for\"",
            &format!("3: forwarded: {together}"),
        ),
    ]);
}

#[test]
fn wrong_paths_are_refused_with_their_lines_and_the_reasons() {
    assert_refused([
        ("path = []", "1: path: there is no path to serve"),
        ("path = \"chat\"", "1: path: the pattern does not begin with a slash"),
        ("path = \"/{a}/{a}\"", "1: path: two parameters have the same name"),
        ("path = [\"/{a}\", \"/{b}\"]", "1: path: /{b}: there is a pattern that matches the same"),
        ("path = \"/a\"\n[[route]]\npath = \"/%61\"", "3: path: /%61: there is a pattern"),
        ("[route]\npath = \"/\"", "1: route: it is written as tables: [[route]]"),
        ("[[route]]\nmax-message = 5", "1: [[route]] has to say \"path\""),
        ("[[route]]\npath = \"/\"\nbacklog = 5", "3: backlog: it is the same for every route"),
        (
            "dead-after = \"5s\"\nping-every = \"1s\"\n[[route]]\npath = \"/\"\nping-every = \"6s\"",
            "5: ping-every: whoever is silent would be dropped after 5s",
        ),
    ]);
}

#[test]
fn wrong_listeners_are_refused_with_their_lines_and_the_reasons() {
    assert_refused([
        (
            "[listener]\nlisten = \"127.0.0.1:1\"",
            "1: listener: it is written as tables: [[listener]]",
        ),
        ("listener = []", "1: listener: it is written as tables: [[listener]]"),
        ("listener = [{ listen = \"127.0.0.1:1\" }, 2]", "1: listener: it is written as tables"),
        ("\n[[listener]]\nbacklog = 7", "2: [[listener]] has to say \"listen\""),
        ("[[listener]]\nlisten = []", "2: listen: there is nowhere to listen"),
        (
            "[[listener]]\nlisten = \"127.0.0.1:1\"\nthreads = 3",
            "3: threads: it is the same for every listener",
        ),
        (
            "ping-every = \"1m\"\n[[listener]]\nlisten = \"127.0.0.1:1\"\ndead-after = \"1s\"",
            "4: dead-after: whoever is silent would be dropped after 1s",
        ),
    ]);
}

#[test]
fn topics_that_cannot_be_served_as_they_are_wanted_are_refused() {
    assert_refused([
        (
            "topic-policy = \"drop\"",
            "1: topic-policy: it is close, skip-new, drop-oldest or conflate",
        ),
        (
            "topics = true\npath = [\"/topics\"]",
            "2: path: topics are at /topics: there is a pattern that matches the same paths",
        ),
        (
            "max-backpressure = \"1KiB\"\nhigh-water = 1\ntopic-backlog = \"1025\"\ntopics = true",
            "3: topic-backlog: a client would be too slow at 1025 unsent bytes, and it fails at 1024",
        ),
    ]);
    let server = Scrap::new("topics = true\ntopic-policy = \"conflate\"\nmax-subscriptions = 7");
    let document = printed(&["--config", server.name()]);
    for line in
        ["topics = true  # ", "topic-policy = \"conflate\"  # ", "max-subscriptions = 7  # "]
    {
        assert!(document.contains(line), "{line} is not in\n{document}");
    }
}

#[test]
fn what_is_said_of_topics_where_nobody_serves_any_is_refused() {
    let reason = "no listener with it serves topics";
    let serving = "\n[[listener]]\nlisten = \"127.0.0.1:1\"\ntopics = true";
    let other = "\n[[listener]]\nlisten = \"127.0.0.1:2\"";
    for (setting, default) in [
        ("topic-policy = \"conflate\"", Some("topic-policy = \"close\"")),
        ("topic-backlog = \"9KiB\"", None),
        ("max-subscriptions = 7", Some("max-subscriptions = 1024")),
    ] {
        let key = setting.split(' ').next().unwrap();
        assert_refused([(setting, &format!("1: {key}: {reason}"))]);
        assert_refused([(&format!("{setting}{other}"), &format!("1: {key}: {reason}"))]);
        // One of those that have it is enough.
        let file = Scrap::new(&format!("{setting}{other}{serving}"));
        printed(&["--config", file.name()]);
        // A flag says to listen elsewhere for once.
        printed(&["--config", file.name(), "--listen", "127.0.0.1:3"]);
        // What --print-config has written says nothing more than nothing.
        let file = Scrap::new(default.unwrap_or_default());
        printed(&["--config", file.name()]);
    }
    for flags in
        [["--topic-policy", "close"], ["--topic-backlog", "1"], ["--max-subscriptions", "1"]]
    {
        let output = run(&[&["serve"][..], &flags].concat());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr.starts_with(&format!("corewire: {}: {reason}", flags[0])), "{stderr}");
        printed(&[&flags[..], &["--topics"]].concat());
    }
}

#[test]
fn memory_is_watched_as_is_said_or_not_at_all() {
    assert_refused([
        ("memory-budget = \"0\"", "1: memory-budget: nobody can do with nothing"),
        ("memory-budget = \"80%\"", "1: memory-budget: a size is a number"),
        ("memory-reaction = \"panic\"", "1: memory-reaction: it is all, none, shrink, flush, hold"),
        ("memory-reaction = [\"none\", \"hold\"]", "1: memory-reaction: all and none stand alone"),
        ("memory-reaction = []", "1: memory-reaction: all and none stand alone"),
        (
            "memory-budget = \"off\"\n\nmemory-reaction = \"hold\"",
            "3: memory-reaction: nobody would see that memory is scarce",
        ),
        (
            "[[listener]]\nlisten = \"127.0.0.1:1\"\nmemory-budget = \"1GiB\"",
            "3: memory-budget: it is the same for every listener",
        ),
        ("spread = \"even\"", "1: spread: it is kernel or least-loaded"),
    ]);
    let document = printed(&["--memory-reaction", "shrink", "--memory-reaction", "hold"]);
    let line = "memory-reaction = [\"shrink\", \"hold\"]  # --memory-reaction";
    assert!(document.contains(line), "{document}");
}

#[test]
fn permissions_of_no_file_are_refused_with_their_lines() {
    let tcp = "[[listener]]\nlisten = \"127.0.0.1:1\"";
    let unix = "[[listener]]\nlisten = \"unix:/run/x.sock\"";
    let refusal = "unix-mode: no listener with it is a Unix socket";
    for (text, line) in [
        ("unix-mode = \"660\"".to_owned(), 1),
        (format!("unix-mode = \"660\"\n{tcp}"), 1),
        (format!("{unix}\n{tcp}\nunix-mode = \"660\""), 5),
        ("listen = \"unix:@name\"\nunix-mode = \"660\"".to_owned(), 2),
    ] {
        assert_refused([(&text, &format!("{line}: {refusal}"))]);
    }
    // One of those that have it is enough.
    let file = Scrap::new(&format!("unix-mode = \"660\"\n{tcp}\n{unix}"));
    printed(&["--config", file.name()]);
    // A flag says to listen elsewhere for once.
    printed(&["--config", file.name(), "--listen", "127.0.0.1:2"]);
    let output = run(&["serve", "--listen", "127.0.0.1:2", "--unix-mode", "660"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn paths_that_leave_no_room_for_the_pages_are_refused() {
    let paths = |count| {
        let paths: Vec<_> = (0..count).map(|number| format!("\"/{number}\"")).collect();
        format!("path = [{}]", paths.join(","))
    };
    let file = Scrap::new(&paths(1021));
    printed(&["--config", file.name()]);
    assert_refused([
        (&paths(1022), "1: path: there are more than 1021"),
        (&format!("{}\n[[route]]\npath = \"/more\"", paths(1021)), "3: path: there are more"),
    ]);
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_their_lines() {
    let text = "nonsense = 1\n[time]\nping-every = \"0s\"\n[messages]\nmax-message = \"x\"\n\
        [[listener]]\nlisten = \"127.0.0.1\"\n[[listener]]\nlisten = \"127.0.0.1:1\"\nbacklog = -1";
    let told = refusals(text);
    let lines: Vec<_> = told.iter().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(lines, ["1", "3", "5", "7", "10"], "{told:#?}");
}

#[test]
fn what_listeners_have_in_common_is_complained_about_once() {
    let told = refusals(
        "origin = [\"same\", \"any\"]\n[[listener]]\nlisten = \"127.0.0.1:1\"\n\
         [[listener]]\nlisten = \"127.0.0.1:2\"",
    );
    assert_eq!(told.len(), 1, "{told:#?}");
}

#[test]
fn wrong_file_opens_no_socket() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    let told = refusals(&format!("listen = \"{address}\"\nthreads = 0"));
    assert_eq!(told, ["2: threads: 0 is not in 1..=256"]);
}

#[test]
fn file_that_is_not_there_is_one_line_and_exit_2() {
    let output = run(&["serve", "--config", "/nowhere/corewire.toml"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stderr.lines().count(), 1);
    assert!(stderr.starts_with("/nowhere/corewire.toml: "), "{stderr}");
}

#[test]
fn flags_contradict_each_other_as_keys_do() {
    let output = run(&["serve", "--low-water", "2KiB", "--high-water", "1KiB"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stderr.lines().count(), 1);
    assert!(stderr.starts_with("corewire: --low-water: low-water is 2048 bytes"), "{stderr}");
}

/// The settings that `serve --help` tells of.
fn flags() -> BTreeSet<String> {
    let help = String::from_utf8(run(&["serve", "--help"]).stdout).unwrap();
    // Words stand further to the right, and may begin with a flag's name too.
    let own = help.lines().filter(|line| line.find('-').is_some_and(|at| at <= 6));
    let name = |line: &str| Some(line.split_once("--")?.1.split([' ', '[']).next()?.to_owned());
    let flags = own.filter(|line| line.starts_with("  ")).filter_map(name);
    flags.filter(|flag| !["config", "print-config", "help"].contains(&&**flag)).collect()
}

#[test]
fn every_flag_has_its_key_and_every_key_its_flag() {
    let document = printed(&[]);
    let key = |line: &str| {
        let (key, _) = line.trim_start_matches('#').split_once(" = ")?;
        (!key.contains(' ')).then(|| key.to_owned())
    };
    let keys: BTreeSet<String> = document.lines().filter_map(key).collect();
    assert_eq!(keys, flags());
    assert!(keys.len() > 20, "{keys:?}");
}

#[test]
fn what_is_printed_says_the_same_when_it_is_read_again() {
    let settings = Scrap::new(
        "log = \"debug\"\norigin = [\"https://a.example\", \"https://b.example:8443\"]\n\
         [messages]\nmax-message = 1_000\necho-streaming = true\n",
    );
    let first = printed(&[
        "--config",
        settings.name(),
        "--threads",
        "3",
        "--no-heartbeat",
        "--listen",
        "127.0.0.1:9009",
    ]);
    for line in [
        "listen = [\"127.0.0.1:9009\"]  # --listen",
        "origin = [\"https://a.example\", \"https://b.example:8443\"]  # ",
        "max-message = \"1000\"  # ",
        "threads = 3  # --threads",
        "no-heartbeat = true  # --no-heartbeat",
        "#ping-every = TIME",
        "backlog = 4096  # default",
    ] {
        assert!(first.contains(line), "{line} is not in\n{first}");
    }
    assert!(first.contains(&format!("log = \"debug\"  # {}:1\n", settings.name())), "{first}");
    let second_file = Scrap::new(&first);
    let second = printed(&["--config", second_file.name()]);
    assert_eq!(values(&first), values(&second));
    // Once all is in the file, who set what is the same too.
    fs::write(&second_file.0, &second).unwrap();
    assert_eq!(printed(&["--config", second_file.name()]), second);
}

#[test]
fn flags_win_over_the_file_and_put_out_what_cannot_stand_beside_them() {
    let file = Scrap::new(
        "ping-every = \"1s\"\nlog = \"debug\"\nlisten = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\n\
         max-message = \"5KiB\"\nmax-backpressure = \"5MiB\"\n\
         [[listener]]\nlisten = \"127.0.0.1:3\"",
    );
    let flags = ["--no-heartbeat", "--quiet", "--listen", "127.0.0.1:4", "--max-message", "6KiB"];
    let document = printed(&[&["--config", file.name()][..], &flags].concat());
    for line in [
        "no-heartbeat = true  # --no-heartbeat",
        "#ping-every = TIME",
        "#dead-after = TIME",
        "quiet = true  # --quiet",
        "#log = LEVEL",
        "listen = [\"127.0.0.1:4\"]  # --listen",
        "max-message = \"6KiB\"  # --max-message",
        "max-backpressure = \"5MiB\"  # ",
    ] {
        assert!(document.contains(line), "{line} is not in\n{document}");
    }
    assert!(!document.contains("\n[[listener]]"), "{document}");
}

#[test]
fn file_is_obeyed() {
    let file = Scrap::new(
        "listen = \"127.0.0.1:0\"\n[messages]\nmax-message = \"1KiB\"\n[time]\n\
         ping-every = \"50ms\"\n",
    );
    let server = serve_as(&mut corewire(&["serve", "--config", file.name()]));
    let mut client = Client::open(server.port);
    assert_eq!(client.frame().opcode, PING);
    client.send(BINARY, &[7; 1025]);
    loop {
        let frame = client.frame();
        if frame.opcode != PING {
            assert_eq!(frame.payload[..2], 1009_u16.to_be_bytes());
            break;
        }
    }
}

/// The manual of all settings is what the program prints, and examples behind it.
#[test]
fn example_file_is_what_is_printed_and_its_examples_are_good() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/corewire.toml");
    let text = fs::read_to_string(path).unwrap();
    let document = printed(&[]);
    let Some(examples) = text.strip_prefix(&document) else {
        panic!("{path} does not begin with what `corewire serve --print-config` prints");
    };
    assert_eq!(values(&printed(&["--config", path])), values(&document));
    // Behind `#` and a space stand words, behind `#` alone what may be switched on.
    let switched_on = |line: &str| match line.strip_prefix('#') {
        Some(setting) if !setting.starts_with(' ') => setting.to_owned(),
        _ => line.to_owned(),
    };
    let all_on: Vec<_> = examples.lines().map(switched_on).collect();
    let all_on = Scrap::new(&format!("{document}{}", all_on.join("\n")));
    let printed = printed(&["--config", all_on.name()]);
    for table in ["\n[[listener]]\n", "\n[[route]]\n"] {
        assert!(printed.matches(table).count() >= 2, "{printed}");
    }
}
