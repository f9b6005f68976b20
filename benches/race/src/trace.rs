//! System calls per message, counted by strace in runs of their own.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::process::{Guarded, SERVER_CORE, Server};

/// How long strace may take until it holds the server.
const ATTACH: Duration = Duration::from_secs(5);

/// Calls by name, and the messages that they were made for.
pub type Count = (BTreeMap<String, u64>, u64);

/// Why nothing can be counted here; `None` if strace is there.
pub fn obstacle() -> Option<String> {
    let version = Command::new("strace").arg("-V").stdout(Stdio::null()).status();
    version.err().map(|error| format!("strace cannot be run ({error}), so no calls are counted"))
}

/// Counts the calls of `server` while `load` runs, which returns its messages.
///
/// # Errors
/// strace does not attach or says nothing, and what `load` says.
pub fn count(
    server: &Server,
    output: &Path,
    load: impl FnOnce() -> io::Result<u64>,
) -> io::Result<Count> {
    let mut command = Command::new("strace");
    command.args(["-c", "-f", "-p", &server.id().to_string(), "-o"]).arg(output);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    // Beside the server: they take turns anyway, and the generator spins on its core.
    let mut strace = Guarded::start(&mut command, SERVER_CORE)?;
    let deadline = Instant::now() + ATTACH;
    while !is_traced(server.id())? {
        if Instant::now() > deadline {
            return Err(io::Error::other("strace does not attach"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let messages = load()?;
    // Upon SIGINT it lets go of the server and writes its table.
    strace.stop(Signal::INT);
    let calls = parse(&fs::read_to_string(output)?);
    if calls.is_empty() {
        return Err(io::Error::other("strace counted nothing"));
    }
    Ok((calls, messages))
}

/// Calls per message by name, from two runs that differ in length: what starting and connecting
/// took is in both and falls out. `None` if the longer has no more messages.
pub fn per_message(short: &Count, long: &Count) -> Option<BTreeMap<String, f64>> {
    let messages = long.1.checked_sub(short.1).filter(|messages| *messages > 0)? as f64;
    let of = |count: &Count, name: &String| count.0.get(name).copied().unwrap_or(0) as f64;
    let names = long.0.keys();
    Some(names.map(|name| (name.clone(), (of(long, name) - of(short, name)) / messages)).collect())
}

fn is_traced(pid: u32) -> io::Result<bool> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    Ok(tracer.is_some_and(|pid| pid.trim() != "0"))
}

/// Lines are share, seconds, time of a call, calls, errors if any, and the name.
fn parse(table: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (name, calls) = (*words.last()?, words.get(3)?.parse().ok()?);
        (name != "total").then(|| (name.to_owned(), calls))
    };
    table.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 78.14    0.100000           4     25000           sendto
 21.86    0.030000           1     25100       100 recvfrom
------ ----------- ----------- --------- --------- ----------------
100.00    0.130000           2     50100       100 total
";

    #[test]
    fn a_table_of_strace_is_read() {
        let calls = parse(TABLE);
        assert_eq!(calls.len(), 2);
        assert_eq!((calls["sendto"], calls["recvfrom"]), (25_000, 25_100));
        assert!(parse("strace: attach: Operation not permitted").is_empty());
    }

    #[test]
    fn what_both_runs_needed_to_start_falls_out() {
        let count = |send, accept, messages| {
            let calls = [("sendto".to_owned(), send), ("accept4".to_owned(), accept)];
            (BTreeMap::from(calls), messages)
        };
        let (short, long) = (count(150, 50, 100), count(1150, 50, 1100));
        let calls = per_message(&short, &long).expect("more messages");
        assert_eq!((calls["sendto"], calls["accept4"]), (1.0, 0.0));
        assert_eq!(per_message(&long, &short), None);
        assert_eq!(per_message(&short, &short), None);
    }
}
