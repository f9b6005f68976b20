//! The program as a child process.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Nothing here takes as long as this.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A server of the test's own, killed at the end if it still runs.
pub struct Server {
    child: Child,
    lines: Receiver<String>,
    log: String,
    pub port: u16,
}

/// The program with these arguments.
pub fn corewire(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corewire"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs to its end what is expected to end soon.
pub fn run(args: &[&str]) -> Output {
    finish(corewire(args).spawn().unwrap())
}

/// Waits for a child's end; kills it if that does not come.
pub fn finish(child: Child) -> Output {
    let pid = Pid::from_child(&child);
    let (done, is_done) = channel::<()>();
    let watchdog = thread::spawn(move || {
        if is_done.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            let _ = kill_process(pid, Signal::KILL);
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(done);
    watchdog.join().unwrap();
    output
}

/// Serves on a port of its own.
pub fn serve(args: &[&str]) -> Server {
    serve_as(corewire(&["serve", "--listen", "127.0.0.1:0"]).args(args))
}

/// Serves as the command says; waits until it says where.
pub fn serve_as(command: &mut Command) -> Server {
    let mut child = command.spawn().unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let (sender, lines) = channel();
    thread::spawn(move || {
        stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    let mut server = Server { child, lines, log: String::new(), port: 0 };
    server.port = server.next_port();
    server
}

impl Server {
    pub fn secure_url(&self) -> String {
        format!("wss://127.0.0.1:{}/", self.port)
    }

    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}/", self.port)
    }

    /// The port of the next address that the server tells of.
    pub fn next_port(&mut self) -> u16 {
        let line = self.wait_for(": WebSocket at ");
        let (address, _) = line.split_once(": WebSocket at ").unwrap();
        address.rsplit(':').next().unwrap().parse().unwrap()
    }

    /// Waits until the server says a line with `text`; gives that line.
    pub fn wait_for(&mut self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("no line with {text:?}:\n{}", self.log));
            self.log += &line;
            self.log += "\n";
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Closes the pipe that the server writes its log to.
    pub fn stop_reading(&mut self) {
        let (_, nothing) = channel();
        self.lines = nothing;
        // The reading thread ends with the next line, which a request makes for sure.
        crate::client::request(self.port, "GET", "/healthz");
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the server's end; gives all it said.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "the server does not end");
            thread::sleep(Duration::from_millis(5));
        };
        while let Ok(line) = self.lines.recv() {
            self.log += &line;
            self.log += "\n";
        }
        (status, std::mem::take(&mut self.log))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
