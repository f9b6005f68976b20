//! The example `budget` as a process of its own, and what the kernel says of it.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::{env, fs};

pub struct Served {
    child: Child,
    output: BufReader<ChildStdout>,
    pub address: SocketAddr,
}

impl Served {
    pub fn start(budget_bytes: u64, threads: usize) -> Self {
        let test = env::current_exe().unwrap();
        let path = test.ancestors().nth(2).unwrap().join("examples/budget");
        let mut command = Command::new(&path);
        let mebibytes = (budget_bytes >> 20).to_string();
        command.args(["127.0.0.1:0", &mebibytes, &threads.to_string()]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!("{}: {error}; build it with `cargo build --examples`", path.display())
        });
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().parse().unwrap();
        Self { child, output, address }
    }

    pub fn rss_bytes(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most that was ever resident.
    pub fn peak_bytes(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// Kills it; gives what it has said.
    pub fn stop(mut self) -> String {
        self.child.kill().unwrap();
        let mut text = String::new();
        self.output.read_to_string(&mut text).unwrap();
        text
    }

    fn status(&self, name: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
