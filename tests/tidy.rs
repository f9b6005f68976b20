//! The house rules that a machine can check, read off the tree itself.
//!
//! Each rule is a function from files to complaints, with one test that holds the tree to it and one
//! that shows it a breach.

#[path = "tidy/source.rs"]
mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use source::{blank_literals_and_comments, functions, paths, test_module_line};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const FUZZ_TARGET_LINES_MAX: usize = 40;

/// Who stands where: a module may name those of lower floors only. See `docs/` for the reasons.
const FLOORS: [(&str, u8); 11] = [
    ("wire", 0),
    ("http", 0),
    ("collections", 0),
    ("limit", 0),
    ("handshake", 1),
    ("deflate", 1),
    ("pubsub", 1),
    ("protocol", 2),
    ("reactor", 3),
    ("server", 4),
    ("client", 4),
];
/// What every floor may name, and what names nothing itself.
const CELLAR: [&str; 2] = ["limits", "metrics"];
/// The highest floor without I/O, clocks, entropy, threads and locks.
const WATERLINE: u8 = 2;
/// Crates that do I/O.
const IO_CRATES: [&str; 4] = ["mio", "socket2", "rustix", "rustls"];
/// Names that have no business below the waterline, whatever path they come by. Maps are among
/// them because they seed themselves: two runs over the same bytes would differ.
const NOT_SANS_IO: [&str; 13] = [
    "getrandom",
    "SystemTime",
    "Mutex",
    "RwLock",
    "Condvar",
    "HashMap",
    "HashSet",
    "RandomState",
    "println!",
    "print!",
    "eprintln!",
    "tracing",
    "log",
];

/// The floors that no message passes through.
const OFF_THE_MESSAGE_PATH: [&str; 2] = ["server", "client"];
/// What threads share. A loop shares nothing with others on a message's way, so none of these stands
/// there; an `Arc` may, where it is only looked through, but it is not counted for a message.
const SHARED: [&str; 8] = [
    "Mutex",
    "RwLock",
    "Condvar",
    "OnceLock",
    "LazyLock",
    "RefCell",
    "thread_local!",
    "Arc::clone",
];
/// Where they stand nevertheless, and why that costs no message anything.
const SHARING: [(&str, &[&str], &str); 6] = [
    (
        "src/reactor/mailbox.rs",
        &["Mutex", "Condvar", "AtomicBool"],
        "what crosses: a turn reads the flag, and takes the lock if something waits",
    ),
    ("src/reactor/load.rs", &["AtomicU32"], "written when a connection comes or goes"),
    (
        "src/reactor/memory/board.rs",
        &["AtomicU64", "Mutex"],
        "written when memory is looked at, once in so many milliseconds",
    ),
    ("src/reactor/tls/certificates.rs", &["RwLock"], "read once in a TLS handshake"),
    ("src/reactor/tls/roots.rs", &["Mutex"], "the system's roots are read once"),
    (
        "src/protocol/compression/deflating.rs",
        &["OnceLock"],
        "a prepared message is compressed once for whoever sends it, of whichever loop",
    ),
];

/// One file, and for Rust also what is left of it without comments and literals.
struct File {
    path: String,
    text: String,
    code: String,
    /// Lines in front of the test module; 0 for a file that is all tests.
    own_lines: usize,
}

impl File {
    fn new(path: &str, text: &str) -> File {
        let is_rust = path.ends_with(".rs");
        let code = if is_rust { blank_literals_and_comments(text) } else { String::new() };
        let own_lines = if path.starts_with("src/") && path.ends_with("tests.rs") {
            0
        } else {
            test_module_line(&code).unwrap_or(text.lines().count())
        };
        File { path: path.to_owned(), text: text.to_owned(), code, own_lines }
    }

    /// `wire` for `src/wire/mask.rs`; `limits` for `src/limits.rs`; `None` outside the library.
    fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        inside.split(['/', '.']).next().filter(|name| *name != "lib")
    }

    fn floor(&self) -> Option<u8> {
        FLOORS.iter().find(|(name, _)| Some(*name) == self.module()).map(|(_, floor)| *floor)
    }

    fn complaint(&self, line: usize, what: &str) -> String {
        format!("{}:{}: {what}", self.path, line + 1)
    }
}

fn imports_go_down(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files {
        let Some(module) = file.module() else { continue };
        let is_cellar = CELLAR.contains(&module);
        let own_floor = file.floor();
        if own_floor.is_none() && !is_cellar {
            complaints.push(file.complaint(0, "this module stands on no floor"));
        }
        for path in paths(&file.code) {
            let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
            let named = match segments[..] {
                ["crate", named, ..] => named,
                // Another floor is named from the root, so that this rule can see it.
                ["super", "super", ..] => "super::super",
                ["super", ..] if file.path.ends_with("/mod.rs") && path.line < file.own_lines => {
                    "super"
                }
                _ => continue,
            };
            let floor = FLOORS.iter().find(|(name, _)| *name == named).map(|(_, floor)| *floor);
            let is_allowed = named == module
                || (CELLAR.contains(&named) && !is_cellar)
                || floor.zip(own_floor).is_some_and(|(lower, own)| lower < own);
            if !is_allowed {
                let what = format!("`{module}` may not name `{named}`: {}", segments.join("::"));
                complaints.push(file.complaint(path.line, &what));
            }
        }
    }
    complaints
}

fn lower_floors_are_sans_io(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files {
        let is_cellar = file.module().is_some_and(|module| CELLAR.contains(&module));
        if !is_cellar && file.floor().is_none_or(|floor| floor > WATERLINE) {
            continue;
        }
        for path in paths(&file.code).iter().filter(|path| path.line < file.own_lines) {
            let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
            let is_io = match segments[..] {
                // An address is a value: only sockets do I/O.
                ["std", "net", named, ..] => {
                    !["Ip", "SocketAddr"].iter().any(|address| named.starts_with(address))
                }
                ["std", "net" | "thread" | "fs" | "process" | "env", ..] => true,
                [.., "Instant", "now"] => true,
                // A field or a variable may be called `log`, a crate is followed by more.
                ["log"] => false,
                _ => segments.iter().any(|name| NOT_SANS_IO.contains(name)),
            };
            if is_io {
                let what = format!("not below the waterline: {}", segments.join("::"));
                complaints.push(file.complaint(path.line, &what));
            }
        }
    }
    complaints
}

fn only_the_reactor_names_io_crates(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| file.module().is_some_and(|name| name != "reactor")) {
        for path in paths(&file.code) {
            if IO_CRATES.contains(&path.segments[0].as_str()) {
                let what = format!("only src/reactor names {}", path.segments[0]);
                complaints.push(file.complaint(path.line, &what));
            }
        }
    }
    complaints
}

fn the_message_path_shares_nothing(files: &[File]) -> Vec<String> {
    let is_on_it = |file: &&File| {
        file.module().is_some_and(|module| !OFF_THE_MESSAGE_PATH.contains(&module))
            && !file.path.contains("/tests")
    };
    let mut complaints = Vec::new();
    for file in files.iter().filter(is_on_it) {
        let exception = SHARING.iter().find(|(path, ..)| *path == file.path);
        let excused = exception.map_or(&[][..], |(_, words, _)| *words);
        let mut found = BTreeSet::new();
        for path in paths(&file.code).iter().filter(|path| path.line < file.own_lines) {
            let last = path.segments.last().expect("a path has a name");
            let name = match &path.segments[..] {
                [.., owner, last] if SHARED.contains(&&*format!("{owner}::{last}")) => {
                    format!("{owner}::{last}")
                }
                // The owner of a function, or the name itself.
                segments => {
                    let is_shared = |name: &&String| {
                        SHARED.contains(&name.as_str())
                            || (name.starts_with("Atomic") && name.len() > "Atomic".len())
                    };
                    segments.iter().rev().find(is_shared).unwrap_or(last).clone()
                }
            };
            let is_shared = SHARED.contains(&name.as_str()) || name.starts_with("Atomic");
            if is_shared && !excused.contains(&name.as_str()) {
                let what = format!("`{name}` on the message path");
                complaints.push(file.complaint(path.line, &what));
            }
            found.insert(name);
        }
        let idle = excused.iter().filter(|word| !found.contains(**word));
        complaints
            .extend(idle.map(|word| file.complaint(0, &format!("{word} is excused in vain"))));
    }
    complaints
}

fn files_and_functions_are_short(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| !file.code.is_empty()) {
        if file.own_lines > FILE_LINES_MAX {
            let what = format!("{} lines before the tests", file.own_lines);
            complaints.push(file.complaint(0, &what));
        }
        for function in functions(&file.code) {
            let lines = function.last_line - function.first_line + 1;
            if lines > FUNCTION_LINES_MAX {
                let what = format!("a function of {lines} lines");
                complaints.push(file.complaint(function.first_line, &what));
            }
        }
    }
    complaints
}

fn unsafe_stands_where_it_may(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files {
        let allowed = match file.path.as_str() {
            "src/wire/mask.rs" => usize::MAX,
            "src/wire/utf8.rs" => 1,
            path if ["src/", "cli/", "examples/"].iter().any(|root| path.starts_with(root)) => 0,
            // Allocators that count and peers in C stand outside what is shipped.
            _ => continue,
        };
        let found: Vec<usize> = paths(&file.code)
            .iter()
            .filter(|path| path.segments.iter().any(|name| name == "unsafe"))
            .map(|path| path.line)
            .collect();
        let excess = found.iter().skip(allowed);
        complaints.extend(excess.map(|line| file.complaint(*line, "no unsafe here")));
    }
    complaints
}

fn no_parameter_is_a_bool(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| file.path.starts_with("src/")) {
        let own = functions(&file.code).into_iter().filter(|f| f.first_line < file.own_lines);
        for function in own {
            let is_bool = |parameter: &str| {
                parameter.split_once(':').is_some_and(|(_, kind)| kind.trim() == "bool")
            };
            // A comma inside a type cuts it into pieces of which none reads `name: bool`.
            if function.parameters.split(',').any(is_bool) {
                complaints.push(file.complaint(function.first_line, "a bool parameter"));
            }
        }
    }
    complaints
}

/// The words are put together here, so that this file may hold them.
fn banned_words() -> [String; 8] {
    let word = |first: &str, second: &str| format!("{first}{second}");
    [
        word("TO", "DO"),
        word("FIX", "ME"),
        word("to", "do!("),
        word("unimpl", "emented!("),
        word("#[ign", "ore"),
        word("/wo", "rk/"),
        word("/tm", "p/"),
        word("ag", "ent"),
    ]
}

fn nothing_is_left_undone_or_misplaced(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    let words = banned_words();
    let other = &words[7];
    // The HTTP header, and the name that Autobahn gives a peer.
    let fine = ["user-", "user_", "autobahn_", "&"].map(|before| format!("{before}{other}"));
    for file in files {
        for (line, text) in file.text.lines().enumerate() {
            for word in words[..7].iter().filter(|word| text.contains(*word)) {
                complaints.push(file.complaint(line, &format!("`{word}` may not stand here")));
            }
            let lower = fine.iter().fold(text.to_lowercase(), |line, fine| line.replace(fine, ""));
            if lower.contains(other) && !file.path.starts_with("tests/autobahn/") {
                complaints.push(file.complaint(line, &format!("`{other}` may not stand here")));
            }
        }
    }
    complaints
}

/// The last cell of each row of each table names tests in backticks; a path before a name is fine.
fn every_row_of_behaviour_names_a_test(files: &[File]) -> Vec<String> {
    let Some(table) = files.iter().find(|file| file.path == "docs/behaviour.md") else {
        let is_due = files.iter().any(|file| file.path == "src/server/builder.rs");
        return is_due.then(|| "docs/behaviour.md is missing".to_owned()).into_iter().collect();
    };
    let tests: BTreeSet<&str> = files
        .iter()
        .flat_map(|file| {
            let scenarios = file.path.ends_with(".py").then_some(file.text.as_str());
            let scenarios = scenarios.unwrap_or_default().split("@scenario\ndef ").skip(1);
            file.code.split("fn ").skip(1).chain(scenarios)
        })
        .filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next())
        .collect();
    let lines: Vec<&str> = table.text.lines().map(str::trim).collect();
    let is_rule = |line: &str| line.starts_with('|') && !line.contains(|c| !"|-: ".contains(c));
    let mut complaints = Vec::new();
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.starts_with('|')) {
        let is_heading = lines.get(at + 1).is_some_and(|next| is_rule(next));
        if is_rule(line) || is_heading {
            continue;
        }
        let cell = line.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        let names: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            complaints.push(table.complaint(at, "this row names no test"));
        }
        for name in names {
            let function = name.rsplit("::").next().unwrap_or(name);
            if !tests.contains(function) {
                complaints.push(table.complaint(at, &format!("there is no test `{name}`")));
            }
        }
    }
    complaints
}

fn fuzz_targets_are_short(files: &[File]) -> Vec<String> {
    let is_target = |file: &&File| file.path.starts_with("fuzz/fuzz_targets/");
    let lines = |file: &File| file.text.lines().count();
    let long = files.iter().filter(is_target).filter(|f| lines(f) > FUZZ_TARGET_LINES_MAX);
    long.map(|file| file.complaint(0, &format!("a fuzz target of {} lines", lines(file)))).collect()
}

/// Every text file of the repository, in no particular order.
fn tree() -> Vec<File> {
    const TEXT: [&str; 9] = ["rs", "md", "toml", "sh", "py", "mjs", "html", "css", "js"];
    const NOT_OURS: [&str; 5] = ["target", "node_modules", "corpus", "artifacts", "coverage"];
    fn walk(root: &Path, directory: &Path, files: &mut Vec<File>) {
        for entry in fs::read_dir(directory).expect("the tree can be read") {
            let path = entry.expect("the tree can be read").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("names are UTF-8");
            let is_hidden = name.starts_with('.') && name != ".ci";
            if path.is_dir() && !is_hidden && !NOT_OURS.contains(&name) {
                walk(root, &path, files);
            }
            let extension = path.extension().and_then(|extension| extension.to_str());
            let is_text = extension.is_some_and(|extension| TEXT.contains(&extension));
            if path.is_file() && (is_text || path.ends_with(".ci/run")) {
                let text = fs::read_to_string(&path).expect("a text file is UTF-8");
                let inside = path.strip_prefix(root).expect("walk goes down");
                files.push(File::new(inside.to_str().expect("names are UTF-8"), &text));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    walk(root, root, &mut files);
    assert!(files.iter().any(|file| file.path == "src/lib.rs"), "this is not the tree");
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    type Rule = fn(&[File]) -> Vec<String>;

    fn hold_the_tree_to(rule: Rule) {
        let complaints = rule(&tree());
        assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
    }

    #[track_caller]
    fn assert_complaints(rule: Rule, path: &str, text: &str, count: usize) {
        let complaints = rule(&[File::new(path, text)]);
        assert_eq!(complaints.len(), count, "{path}: {text}\n{}", complaints.join("\n"));
    }

    #[test]
    fn the_tree_imports_downwards() {
        hold_the_tree_to(imports_go_down);
    }

    #[test]
    fn an_import_sideways_or_upwards_is_found() {
        let judge = |path, text, count| assert_complaints(imports_go_down, path, text, count);
        judge("src/protocol/sender.rs", "use crate::wire::Header; use crate::limits;", 0);
        judge("src/wire/mask.rs", "use crate::wire::Header; // crate::http", 0);
        judge("src/wire/mask.rs", "use crate::http::Head;", 1);
        judge("src/wire/mask.rs", "fn f() { crate::protocol::f() }", 1);
        judge("src/protocol/state.rs", "use crate::{wire::{Header, mask}, reactor};", 1);
        judge("src/server/builder.rs", "use crate::client::Pool;", 1);
        judge("src/wire/mask.rs", "use super::super::http::Head;", 1);
        judge("src/wire/mod.rs", "use super::limits;", 1);
        judge("src/wire/mod.rs", "#[cfg(test)]\nmod tests {\n use super::*;\n}", 0);
        judge("src/limits.rs", "use crate::metrics::Counters;", 1);
        judge("src/reactor/mod.rs", "use crate::Connection;", 1);
        judge("src/utils/mod.rs", "", 1);
        judge("src/lib.rs", "pub use crate::wire::Header;", 0);
    }

    #[test]
    fn the_lower_floors_of_the_tree_are_sans_io() {
        hold_the_tree_to(lower_floors_are_sans_io);
    }

    #[test]
    fn io_below_the_waterline_is_found() {
        let judge = |text, count| {
            assert_complaints(lower_floors_are_sans_io, "src/protocol/timer.rs", text, count);
        };
        judge("use std::io::IoSlice; use std::time::Instant; fn f(now: Instant) {}", 0);
        judge("use std::net::{IpAddr, Ipv4Addr, SocketAddr};", 0);
        judge("use std::net::{IpAddr, TcpStream};", 1);
        judge("use std::{fs, thread, net};", 3);
        judge("fn f() { let now = std::time::Instant::now(); }", 1);
        judge("fn f() { println!(); log::warn!(); }", 2);
        judge("static A: std::sync::Mutex<u8>; type B = HashMap<u8, u8>;", 2);
        judge("#[cfg(test)]\nmod tests {\n    use std::collections::HashMap;\n}", 0);
        let reactor = "fn f() { Instant::now(); }";
        assert_complaints(lower_floors_are_sans_io, "src/reactor/clock.rs", reactor, 0);
        assert_complaints(lower_floors_are_sans_io, "src/metrics/mod.rs", reactor, 1);
    }

    #[test]
    fn only_the_reactor_of_the_tree_names_io_crates() {
        hold_the_tree_to(only_the_reactor_names_io_crates);
    }

    #[test]
    fn an_io_crate_outside_the_reactor_is_found() {
        let judge = |path, count| {
            let text = "use mio::Token; use socket2::{Socket, Domain};";
            assert_complaints(only_the_reactor_names_io_crates, path, text, count);
        };
        judge("src/server/builder.rs", 3);
        judge("src/reactor/net.rs", 0);
        judge("benches/peers/src/bin/raw_mio.rs", 0);
    }

    #[test]
    fn the_message_path_of_the_tree_shares_nothing() {
        hold_the_tree_to(the_message_path_shares_nothing);
        let tree = tree();
        for (path, _, reason) in SHARING {
            assert!(tree.iter().any(|file| file.path == path) && !reason.is_empty(), "{path}");
        }
    }

    #[test]
    fn what_threads_share_is_found_on_the_message_path() {
        let judge = |path, text, count| {
            assert_complaints(the_message_path_shares_nothing, path, text, count);
        };
        let read = "src/reactor/read.rs";
        judge(read, "use std::sync::Arc; fn f(a: &Arc<u8>, run: impl FnOnce()) {} // Mutex", 0);
        judge(read, "use std::sync::{Mutex, RwLock}; struct A(std::sync::Condvar);", 3);
        judge(read, "static A: AtomicU64 = AtomicU64::new(0);", 2);
        judge(read, "use std::sync::atomic::{AtomicBool, Ordering};", 1);
        judge(read, "fn f(a: &Arc<u8>) { drop(Arc::clone(a)); std::sync::Arc::clone(a); }", 2);
        judge(read, "struct A(OnceLock<u8>, LazyLock<u8>, RefCell<u8>); thread_local! {}", 4);
        judge(read, "#[cfg(test)]\nmod tests {\n use std::sync::Mutex;\n}", 0);
        judge("src/pubsub/topics.rs", "use std::cell::RefCell;", 1);
        judge("src/reactor/tls/tests/ends.rs", "use std::cell::RefCell;", 0);
        judge("src/client/pool.rs", "use std::sync::Mutex;", 0);
        judge("src/reactor/load.rs", "use std::sync::atomic::AtomicU32;", 0);
        judge("src/reactor/load.rs", "use std::sync::{Mutex, atomic::AtomicU32};", 1);
        judge("src/reactor/load.rs", "", 1);
    }

    #[test]
    fn the_files_and_functions_of_the_tree_are_short() {
        hold_the_tree_to(files_and_functions_are_short);
    }

    #[test]
    fn a_long_file_or_function_is_found() {
        let judge = |text: &str, count| {
            assert_complaints(files_and_functions_are_short, "src/wire/mask.rs", text, count);
        };
        let tests = "#[cfg(test)]\nmod tests {\n}\n";
        judge(&format!("{}{tests}", "//\n".repeat(FILE_LINES_MAX)), 0);
        judge(&format!("{}{tests}", "//\n".repeat(FILE_LINES_MAX + 1)), 1);
        let body = |lines: usize| format!("{{\n{}}}\n", "    if x { y([0; 4]); }\n".repeat(lines));
        let head = "impl A {\n pub fn f<F: Fn(u8) -> u8>(a: [u8; 4], f: F) -> B<u8> ";
        judge(&format!("{head}{}}}", body(FUNCTION_LINES_MAX - 2)), 0);
        judge(&format!("{head}{}}}", body(FUNCTION_LINES_MAX - 1)), 1);
        judge(&format!("fn f() {}", body(FUNCTION_LINES_MAX).replace(" x ", " x < y ")), 1);
        let bodiless =
            format!("trait A {{ fn f(&self) -> [u8; 4]; }} static B: C = D {}", body(99));
        judge(&bodiless, 0);
    }

    #[test]
    fn unsafe_stands_where_it_may_in_the_tree() {
        hold_the_tree_to(unsafe_stands_where_it_may);
    }

    #[test]
    fn unsafe_elsewhere_is_found() {
        let judge =
            |path, text, count| assert_complaints(unsafe_stands_where_it_may, path, text, count);
        judge("src/wire/mask.rs", "fn f() { unsafe { g() } } unsafe fn g() {}", 0);
        judge("src/wire/utf8.rs", "fn f() { unsafe { g() } unsafe { g() } }", 1);
        judge("src/wire/close.rs", "#![deny(unsafe_code)] // unsafe\nunsafe fn g() {}", 1);
        judge("cli/src/main.rs", "fn f() { unsafe { g() } }", 1);
        judge("src/wire/close.rs", "const A: &str = \"unsafe\";", 0);
    }

    #[test]
    fn no_parameter_of_the_tree_is_a_bool() {
        hold_the_tree_to(no_parameter_is_a_bool);
    }

    #[test]
    fn a_bool_parameter_is_found() {
        let judge = |text, count| {
            assert_complaints(no_parameter_is_a_bool, "src/wire/header.rs", text, count);
        };
        judge("pub fn f(fin: bool) {}", 1);
        judge("pub fn f<F: Fn(bool) -> u8>(\n    a: u8,\n    fin: bool,\n) -> bool { a }", 1);
        judge("trait A { fn f(&self, fin: bool); }", 1);
        judge("struct A { fin: bool } fn f(a: A) -> bool { let b: bool = a.fin; b }", 0);
    }

    #[test]
    fn nothing_is_left_undone_or_misplaced_in_the_tree() {
        hold_the_tree_to(nothing_is_left_undone_or_misplaced);
    }

    #[test]
    fn each_banned_word_is_found() {
        let rule = nothing_is_left_undone_or_misplaced;
        for word in banned_words() {
            assert_complaints(rule, "README.md", &format!("see {word} here"), 1);
        }
        let name = &banned_words()[7];
        assert_complaints(rule, "src/http/head.rs", &format!("// the User-{name} header"), 0);
        assert_complaints(rule, "tests/autobahn/run.sh", &format!("?{name}=corewire"), 0);
    }

    #[test]
    fn every_row_of_the_trees_behaviour_names_a_test() {
        hold_the_tree_to(every_row_of_behaviour_names_a_test);
    }

    #[test]
    fn a_row_without_a_living_test_is_found() {
        let judge = |rows: &str, count| {
            let table = format!("# Behaviour\n| id | input | test |\n|---|:-:|---|\n{rows}\n");
            let files = [
                File::new("docs/behaviour.md", &table),
                File::new("tests/frames.rs", "#[test]\nfn f1_is_refused() {}"),
                File::new("tests/proxies/frames.py", "@scenario\ndef f3_passes(out):\ndef f4():"),
            ];
            let complaints = every_row_of_behaviour_names_a_test(&files);
            assert_eq!(complaints.len(), count, "{rows}: {complaints:?}");
        };
        judge("| F1 | `RSV1` | `f1_is_refused`, `frames::f1_is_refused` |", 0);
        judge("| F1 | `RSV1` | `f1_is_refused`, `f2_is_refused` |", 1);
        judge("| F3 | `RSV1` | `f3_passes` |", 0);
        judge("| F4 | `RSV1` | `f4` |", 1);
        judge("| F1 | `f1_is_refused` | by hand |", 1);
        assert_complaints(every_row_of_behaviour_names_a_test, "src/lib.rs", "", 0);
        assert_complaints(every_row_of_behaviour_names_a_test, "src/server/builder.rs", "", 1);
    }

    #[test]
    fn the_fuzz_targets_of_the_tree_are_short() {
        hold_the_tree_to(fuzz_targets_are_short);
    }

    #[test]
    fn a_long_fuzz_target_is_found() {
        let judge = |lines: usize, count| {
            let text = "//\n".repeat(lines);
            assert_complaints(fuzz_targets_are_short, "fuzz/fuzz_targets/wire.rs", &text, count);
        };
        judge(FUZZ_TARGET_LINES_MAX, 0);
        judge(FUZZ_TARGET_LINES_MAX + 1, 1);
    }
}
