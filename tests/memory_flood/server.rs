//! The example `budget` as a process of its own, and what the kernel says of it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::{env, fs, thread};

use crate::cgroup::Cgroup;

pub struct Served {
    child: Child,
    said: Arc<Mutex<String>>,
    pub address: SocketAddr,
}

impl Served {
    /// With a budget of nothing it finds out by itself.
    pub fn start(budget_bytes: u64, cgroup: Option<&Cgroup>) -> Self {
        let test = env::current_exe().unwrap();
        let path = test.ancestors().nth(2).unwrap().join("examples/budget");
        let mut command = match cgroup {
            None => Command::new(&path),
            Some(cgroup) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]);
                shell.arg(cgroup.entrance()).arg(&path);
                shell
            }
        };
        let mebibytes = (budget_bytes >> 20).to_string();
        command.args(["127.0.0.1:0", &mebibytes, "1"]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!("{}: {error}; build it with `cargo build --examples`", path.display())
        });
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().parse().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let heard = said.clone();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                *heard.lock().unwrap() += &(line + "\n");
            }
        });
        Self { child, said, address }
    }

    pub fn rss_bytes(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most that was ever resident.
    pub fn peak_bytes(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// Its lines so far, but for the first.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
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
